// Package tallies counts the packets that end their way at Services, which no translator counts, or
// counts as something else.
//
// It refuses to know packets, and why they end there. Any number of goroutines may count at once.
package tallies

import (
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Counts are those of both sides that packets come from.
type Counts [2]Count

// Count is that of one side.
type Count struct {
	Forwarded atomic.Uint64
	Drops     [flow.NumReasons]atomic.Uint64

	// What a translator has counted before the proxy of a node took it.
	WasForwarded, WasBypassed atomic.Uint64
}

// Tally is what a Count is to get of the packets of one call.
type Tally struct{ Forwarded, WasForwarded, WasBypassed uint64 }

// Add adds a tally.
func (n *Count) Add(t *Tally) {
	if *t != (Tally{}) {
		n.Forwarded.Add(t.Forwarded)
		n.WasForwarded.Add(t.WasForwarded)
		n.WasBypassed.Add(t.WasBypassed)
	}
}

// AddTo adds the counts to those of a translator.
func (n *Counts) AddTo(s *snat.Stats) {
	for side, to := range []*snat.PacketStats{&s.Outbound, &s.Inbound} {
		to.Forwarded += n[side].Forwarded.Load()
		to.Forwarded -= min(to.Forwarded, n[side].WasForwarded.Load())
		to.Bypassed -= min(to.Bypassed, n[side].WasBypassed.Load())
		for r := range n[side].Drops {
			k := n[side].Drops[r].Load()
			to.Drops[r] += k
			to.Dropped += k
		}
	}
}

// ForkTo makes to, which is zero, a copy. Others may count meanwhile.
func (n *Counts) ForkTo(to *Counts) {
	for side := range n {
		is := &to[side]
		is.Forwarded.Store(n[side].Forwarded.Load())
		is.WasForwarded.Store(n[side].WasForwarded.Load())
		is.WasBypassed.Store(n[side].WasBypassed.Load())
		for r := range n[side].Drops {
			is.Drops[r].Store(n[side].Drops[r].Load())
		}
	}
}
