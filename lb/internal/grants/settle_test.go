package grants

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
)

// world is frontends with what they have lost.
type world struct {
	frontends []netip.Addr
	lost      map[netip.Addr][]int
}

func (w *world) inventories() map[netip.Addr]*Inventory {
	all := map[netip.Addr]*Inventory{}
	for _, f := range w.frontends {
		all[f] = NewInventory(w.lost[f])
	}
	return all
}

// portions promises blocks to each of the backends, by one or two demands, unless there are too few.
func (w *world) portions(rng *rand.Rand, backends []int) []Portion {
	inventories, spread := w.inventories(), rng.IntN(2) == 0
	var all []Portion
	for range 1 + rng.IntN(2) {
		d := &Demand{Frontends: w.frontends[rng.IntN(len(w.frontends)):]}
		dealer, blocks := Dealer{Spread: spread}, 1+rng.IntN(40)
		left := 0
		for _, f := range d.Frontends {
			dealer.From = append(dealer.From, inventories[f])
			left += inventories[f].Promise
		}
		for _, b := range backends {
			if left -= blocks; left < 0 {
				break
			}
			all = append(all, Portion{Demand: d, Backend: b, Blocks: blocks, Shares: dealer.Promise(blocks)})
		}
	}
	return all
}

// Who keeps exactly what it had would have got that if every block had been looked at. Everybody gets what
// is promised, no block twice and none that is lost.
func TestWhoKeepsAllIsAsIfEveryBlockWereLookedAt(t *testing.T) {
	kept := 0
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w := &world{lost: map[netip.Addr][]int{}}
		for i := range 1 + rng.IntN(4) {
			f := netip.AddrFrom4([4]byte{20, 50, 1, byte(i)})
			w.frontends = append(w.frontends, f)
			for b := FirstBlock; b < FirstBlock+NumBlocks; b++ { // else there would be room for too many
				if b > FirstBlock+rng.IntN(400) {
					w.lost[f] = append(w.lost[f], b)
				}
			}
		}
		n := 2 + rng.IntN(6)
		backends := rng.Perm(n)[:1+rng.IntN(n)]
		had := make([][]snat.PortRange, n)
		for i, g := range Fresh(w.portions(rng, backends), n, w.inventories()) {
			had[i] = g.Ranges
		}
		for step := range 6 {
			switch rng.IntN(4) {
			case 0: // another frontend
				w.frontends = append(w.frontends, netip.AddrFrom4([4]byte{20, 50, 2, byte(step)}))
			case 1: // a rule
				f := w.frontends[rng.IntN(len(w.frontends))]
				w.lost[f] = NewInventory(w.lost[f]).losing(FirstBlock + rng.IntN(100))
			default:
				backends = rng.Perm(n)[:1+rng.IntN(n)]
			}
			portions := w.portions(rng, backends)
			former := Former{Had: had, Protocol: snat.TCP, Grace: rng.IntN(2) == 0}
			is := Settle(portions, former, w.inventories)
			looked := portions
			for b := range n {
				looked = append(looked, Portion{Demand: &Demand{}, Backend: b}, Portion{Demand: &Demand{}, Backend: b})
			}
			want, got := make([]int, n), make([]int, n)
			for _, q := range portions {
				want[q.Backend] += q.Blocks
			}
			inventories := w.inventories()
			next := make([][]snat.PortRange, n)
			for b, g := range Settle(looked, former, w.inventories) {
				require.False(t, g.Kept)
				if next[b] = is[b].Ranges; is[b].Kept {
					kept++
					next[b] = had[b]
				}
				require.Equal(t, len(g.Ranges), len(next[b]), "seed %d, step %d, backend %d", seed, step, b)
				for i, r := range g.Ranges {
					require.Equal(t, r, next[b][i], "seed %d, step %d, backend %d", seed, step, b)
					v := inventories[r.Frontend]
					for block := first(&r); block < end(&r); block++ {
						require.True(t, v.Has(block) && !v.isGone(block), "seed %d: block %d twice, or lost", seed, block)
						v.withhold(block)
						got[b]++
					}
				}
			}
			require.Equal(t, want, got)
			had = next
		}
	}
	assert.Greater(t, kept, 1000)
}

// losing returns what the frontend has lost when a block is lost, too.
func (v *Inventory) losing(block int) (lost []int) {
	for b := FirstBlock; b < FirstBlock+NumBlocks; b++ {
		if b == block || !v.Has(b) {
			lost = append(lost, b)
		}
	}
	return lost
}

func (v *Inventory) isGone(block int) bool {
	block -= FirstBlock
	return v.gone[block/64]>>(block%64)&1 != 0
}

// Portions that are alike share their shares, and a dealer that runs out goes on elsewhere.
func TestPortionsAlikeShareMemory(t *testing.T) {
	w := &world{frontends: []netip.Addr{netip.MustParseAddr("20.50.1.1"), netip.MustParseAddr("20.50.1.2")}}
	inventories := w.inventories()
	d := Dealer{From: []*Inventory{inventories[w.frontends[0]], inventories[w.frontends[1]]}}
	a, b := d.Promise(3000), d.Promise(3000)
	assert.Same(t, &a[0], &b[0])
	assert.Equal(t, []Share{{0, 2000}, {1, 1000}}, d.Promise(3000))
	assert.Equal(t, []Share{{0, 3000}}, a, "what was promised before stays")
}

// What no backend had, or keeps, costs no memory for each range of it.
func TestKeepingAllocatesNothingPerRange(t *testing.T) {
	w := &world{}
	for i := range 50 {
		w.frontends = append(w.frontends, netip.AddrFrom4([4]byte{20, 50, 1, byte(i)}))
	}
	const n = 400
	d, inventories := &Demand{Frontends: w.frontends}, w.inventories()
	dealer := Dealer{Spread: true}
	for _, f := range w.frontends {
		dealer.From = append(dealer.From, inventories[f])
	}
	var portions []Portion
	for b := range n {
		portions = append(portions, Portion{Demand: d, Backend: b, Blocks: 128, Shares: dealer.Promise(128)})
	}
	had := make([][]snat.PortRange, n)
	for i, g := range Fresh(portions, n, w.inventories()) {
		had[i] = g.Ranges
	}
	inventories = w.inventories()
	allocs := testing.AllocsPerRun(3, func() {
		for _, g := range Settle(portions, Former{Had: had, Protocol: snat.TCP}, func() map[netip.Addr]*Inventory { return inventories }) {
			if !g.Kept {
				t.Fatal("not kept")
			}
		}
	})
	assert.Less(t, allocs, 20.0)
}
