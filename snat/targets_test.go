package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
)

// A grace that has ended has ended before the states of targets change: what it cuts does
// not reach its idle timeout, and nobody is sent a RST.
func TestGraceEndsBeforeTargetsChange(t *testing.T) {
	c := backends(1)
	c.ReclaimGrace, c.Policy.EnableTCPReset = 30*time.Second, true
	b := newBed(t, c)
	b.at(0)
	b.dials(socket(backend(0, false), 4000), socket(serverA, 443))
	less := backends(1)
	less.ReclaimGrace, less.Policy = c.ReclaimGrace, c.Policy
	for i := range less.Instances[0].Ports {
		less.Instances[0].Ports[i].First += 8
		less.Instances[0].Ports[i].Count -= 8
	}
	b.lazily(3 * time.Minute)
	_, err := b.Reconfigure(b.now, less)
	require.NoError(t, err)
	b.lazily(time.Hour)
	require.NoError(t, b.SetTargets(b.now, snat.TargetChange{State: snat.TargetGone}))
	b.at(2 * time.Hour)
	assert.Empty(t, b.sent())
	assert.Equal(t, uint64(1), b.Stats().Cut[snat.CutReclaimed])
}
