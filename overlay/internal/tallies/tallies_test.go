package tallies

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What a translator has counted before is taken from its counts, and a copy has all counts.
func TestCounts(t *testing.T) {
	var n, copied Counts
	n[flow.Inside].Add(&Tally{})
	n[flow.Inside].Add(&Tally{Forwarded: 5, WasForwarded: 2, WasBypassed: 1})
	n[flow.Outside].Drops[flow.ReasonNotOurs].Add(3)
	s := snat.Stats{Outbound: snat.PacketStats{Forwarded: 4, Bypassed: 1}}
	n.AddTo(&s)
	require.EqualValues(t, 7, s.Outbound.Forwarded)
	require.Zero(t, s.Outbound.Bypassed)
	require.EqualValues(t, 3, s.Inbound.Dropped)
	require.EqualValues(t, 3, s.Inbound.Drops[flow.ReasonNotOurs])
	n.ForkTo(&copied)
	require.Empty(t, likeness.Compare(&n, &copied, nil))
}
