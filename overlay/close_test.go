package overlay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// A closed cluster drops packets and can be closed again.
func TestClosed(t *testing.T) {
	c, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}})
	require.NoError(t, err)
	pkt := func() []byte { return pkttest.UDP("10.244.0.9:1000", "203.0.113.53:53", "query") }
	require.Equal(t, flow.Forward, c.Outbound(0, pkt()).Action)
	c.Close()
	c.Close()
	assert.Equal(t, flow.ReasonClosed, c.Outbound(1, pkt()).Reason)
	assert.Equal(t, flow.ReasonClosed, c.Inbound(1, pkt()).Reason)
	c.Advance(flow.At(time.Hour), nil)
	_, pending := c.NextDeadline()
	assert.False(t, pending)
}
