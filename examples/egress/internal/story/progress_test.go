package story

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestProgressIsDrawnOnceInAWhileAndCleared(t *testing.T) {
	var terminal bytes.Buffer
	p := &progress{w: &terminal, next: time.Now().Add(time.Hour)}
	p.show(0.1)
	p.clear()
	assert.Empty(t, terminal.String(), "a quick run shows nothing")

	p.next = time.Time{}
	p.show(0.5)
	p.show(0.6)
	assert.Contains(t, terminal.String(), "█░")
	assert.Contains(t, terminal.String(), " 50 %")
	assert.NotContains(t, terminal.String(), " 60 %", "not yet")
	p.clear()
	assert.Regexp(t, `\r\x1b\[K$`, terminal.String())
}

func TestProgressNeedsATerminal(t *testing.T) {
	var log bytes.Buffer
	p := newProgress(&log)
	p.next = time.Time{}
	p.show(0.5)
	p.clear()
	assert.Empty(t, log.String())
}
