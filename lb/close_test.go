package lb

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// What is closed drops packets, can be closed again, and takes no changes.
func TestClosed(t *testing.T) {
	pkt := func() []byte { return pkttest.UDP("10.224.0.4:1000", "203.0.113.53:53", "query") }
	c := publicPool(2, 1, 0)
	l, err := New(c)
	require.NoError(t, err)
	l.Outbound(0, pkt())
	l.Close()
	l.Close()
	assert.Equal(t, flow.ReasonClosed, l.Outbound(1, pkt()).Reason)
	assert.Equal(t, flow.ReasonClosed, l.Inbound(1, pkt()).Reason)
	l.Advance(flow.At(time.Hour), nil)
	l.Metrics()
	_, err = l.Reconfigure(flow.At(time.Hour), c)
	assert.ErrorIs(t, err, flow.ErrClosed)

	e, err := NewEgress(basicCluster(2, "A"))
	require.NoError(t, err)
	e.Outbound(0, pkt())
	e.Close()
	e.Close()
	assert.Equal(t, flow.ReasonClosed, e.Outbound(1, pkt()).Reason)
	e.Advance(flow.At(time.Hour), nil)
	e.Metrics()
	_, err = e.Reconfigure(flow.At(time.Hour), basicCluster(2))
	assert.ErrorIs(t, err, flow.ErrClosed)
}
