//go:build !natplane_invariants && !race

package fragments

import (
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// A fragment allocates nothing once the table has its memory.
func TestNoAllocations(t *testing.T) {
	inBothFamilies(t, some(), func(t *testing.T, b *bed) {
		pkts := [][]byte{b.piece(0, 1), b.piece(0, 0), b.piece(0, 2)}
		scratch := make([]byte, 2048)
		b.Table.carried = func(flow.Side, bool, *[2]uint64, uint8, int) {}
		leave := func(Departure) {}
		id := uint32(0)
		var v flow.Verdict
		translate := func() { v = flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: good} }
		round := func() {
			id++
			for _, pkt := range pkts {
				own := scratch[:copy(scratch, pkt)]
				var p wire.Packet
				if own[0]>>4 == 6 {
					wire.Fragment(own[40:]).SetID(id)
				} else {
					wire.IPv4(own).RewriteID(uint16(id))
				}
				if problem := wire.Parse(own, &p); problem != wire.OK {
					t.Fatal(problem)
				}
				if b.Decide(b.now, flow.Inside, good, &p, &v, translate); v.Action == flow.Drop {
					t.Fatal(v.Reason)
				}
			}
			for !b.Advance(b.now, 64, leave) {
			}
		}
		for range 100 {
			round()
		}
		if n := testing.AllocsPerRun(200, round); n != 0 {
			t.Errorf("%v allocations for a datagram, want 0", n)
		}
	})
}
