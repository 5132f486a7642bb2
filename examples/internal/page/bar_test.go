package page

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestBarIsDrawnOnceInAWhileAndCleared(t *testing.T) {
	var terminal bytes.Buffer
	b := &Bar{w: &terminal, begin: time.Now().Add(-10 * time.Second), next: time.Now().Add(time.Hour)}
	b.Show(0.1)
	b.Clear()
	assert.Empty(t, terminal.String(), "a quick run shows nothing")

	b.next = time.Time{}
	b.Show(0.5)
	b.Show(0.6)
	assert.Contains(t, terminal.String(), "█░")
	assert.Contains(t, terminal.String(), " 50 %, 10s left")
	assert.NotContains(t, terminal.String(), " 60 %", "not yet")
	b.Clear()
	assert.Regexp(t, `\r\x1b\[K$`, terminal.String())
}

func TestBarNeedsATerminal(t *testing.T) {
	var log bytes.Buffer
	b := NewBar(&log)
	b.next = time.Time{}
	b.Show(0.5)
	b.Clear()
	assert.Empty(t, log.String())
}
