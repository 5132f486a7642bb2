package rendezvous

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

func randomNames(r *rand.Rand, n int) []uint64 {
	names := make([]uint64, n)
	for i := range names {
		names[i] = r.Uint64()
	}
	return names
}

// except returns n members of which all but one are eligible, or all if out is none.
func except(n, out int) []bool {
	eligible := make([]bool, n)
	for i := range eligible {
		eligible[i] = i != out
	}
	return eligible
}

// inSlot returns a hash that belongs to a slot.
func inSlot(slot int) uint64 { return uint64(slot) << (64 - slotBits) }

// The bounds that the package comment gives: what a member gets, and what of others moves. A table follows from its members alone, so who leaves moves
// exactly what moves when it comes back.
func TestBounds(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, tt := range []struct {
		members, sets int
		share         float64
	}{{2, 20, 1.01}, {3, 20, 1.01}, {10, 20, 1.02}, {100, 20, 1.032}, {1000, 20, 1.06}, {5000, 5, 1.12}} {
		if testing.Short() {
			tt.sets = min(tt.sets, 3)
		}
		r := rand.New(rand.NewPCG(1, uint64(tt.members)))
		n := float64(tt.members)
		var share, sum, worst float64
		for range tt.sets {
			names, out := randomNames(r, tt.members), r.IntN(tt.members)
			whole, less := New(names, except(tt.members, -1)), New(names, except(tt.members, out))
			has, moved, own := make([]int, tt.members), 0, 0
			for slot := range Slots {
				a, b := whole.At(inSlot(slot)), less.At(inSlot(slot))
				has[a]++
				switch {
				case b == out:
					t.Fatalf("slot %d stays with who has left", slot)
				case a == out:
					own++
				case a != b:
					moved++
				}
			}
			for _, slots := range has {
				share = max(share, float64(slots)/(Slots/n))
			}
			of := float64(moved) / float64(Slots-own)
			sum, worst = sum+of/float64(tt.sets), max(worst, of)
		}
		t.Logf("%5d members: largest share %.4f of the mean; of others moved on average %.3f/n, at most %.3f/n", tt.members, share, sum*n, worst*n)
		assert.LessOrEqual(t, share, tt.share, "%d members", tt.members)
		assert.LessOrEqual(t, worst, 1.1/n, "%d members", tt.members)
		if tt.members <= 10 {
			assert.Zero(t, worst, "%d members", tt.members)
		}
	}
}

// A hundred backends and a million flows, as clients make them: the largest share is
// within 3 percent of the mean and 3 standard deviations of a fair draw.
func TestMillionFlows(t *testing.T) {
	const members, flows = 100, 1_000_000
	names := make([]uint64, members)
	for i := range names {
		names[i] = Name(fmt.Sprintf("node-%d", i))
	}
	table := New(names, except(members, -1))
	var has [members]int
	k := flow.Key{Dst: 0x14320101, DstPort: 443, VNIProto: 6}
	for i := range uint32(flows) {
		k.Src, k.SrcPort = 0xcb007100+i/5000, uint16(32768+i%5000) // consecutive ports of 200 clients
		has[table.At(Hash4(1, FiveTuple, &k))]++
	}
	mean := float64(flows) / members
	least, most := math.Inf(1), 0.0
	for _, n := range has {
		least, most = min(least, float64(n)), max(most, float64(n))
	}
	t.Logf("%g..%g flows, mean %g", least, most, mean)
	assert.LessOrEqual(t, most, mean*1.03+3*math.Sqrt(mean*(1-1./members)))
}

// Each member that leaves, one after the other, and comes back.
func TestMembersOneByOne(t *testing.T) {
	const n = 24
	r := rand.New(rand.NewPCG(3, 4))
	names, eligible := randomNames(r, n), except(n, -1)
	for _, out := range r.Perm(n)[1:] {
		before := New(names, eligible)
		eligible[out] = false
		after := New(names, eligible)
		moved := 0
		for slot := range Slots {
			if a, b := before.At(inSlot(slot)), after.At(inSlot(slot)); a != out && a != b {
				moved++
			}
		}
		left := float64(before.Eligible())
		assert.LessOrEqual(t, float64(moved), 0.05*Slots/left, "%v members", left)
	}
}
