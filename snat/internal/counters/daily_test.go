package counters

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
)

// What is told daily begins with the first look, and then comes a day after it was told.
func TestDaily(t *testing.T) {
	const day = flow.Time(24 * time.Hour)
	var d Daily
	is := func(now, at flow.Time, due bool, next flow.Time, known bool) {
		t.Helper()
		got, ok := d.Due(now)
		assert.Equal(t, due, ok)
		assert.Equal(t, at, got)
		got, ok = d.Next()
		assert.Equal(t, known, ok)
		if known {
			assert.Equal(t, next, got)
		}
	}
	d.Stop()
	assert.True(t, d.Stopped())
	is(5*day, 0, false, 0, false)
	d.Begin()
	assert.False(t, d.Stopped())
	is(7, 7, true, 0, false)
	d.Told(7)
	is(7, 0, false, 7+day, true)
	is(7+3*day, 7+day, true, 7+day, true)
}
