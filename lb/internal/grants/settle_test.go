package grants

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
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

// portions promises blocks to each of the backends, by so many demands, unless there are too few.
func (w *world) portions(rng *rand.Rand, backends []int, demands int) []Portion {
	inventories, spread := w.inventories(), rng.IntN(2) == 0
	var all []Portion
	for range demands {
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

// deals deals ports out to backends that come and go, by at most so many demands, while frontends come and
// blocks are lost. settle settles each deal, and returns what every backend has then.
func deals(seed uint64, demands int, settle func(step int, w *world, portions []Portion, former Former) [][]snat.PortRange) {
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
	for i, g := range Fresh(w.portions(rng, backends, 1+rng.IntN(demands)), n, w.inventories()) {
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
		portions := w.portions(rng, backends, 1+rng.IntN(demands))
		had = settle(step, w, portions, Former{Had: had, Protocol: snat.TCP, Grace: rng.IntN(2) == 0})
	}
}

// checks checks that everybody got what was promised, no block twice and none that is lost.
func (w *world) checks(t *testing.T, portions []Portion, has [][]snat.PortRange) {
	want, got := make([]int, len(has)), make([]int, len(has))
	for _, q := range portions {
		want[q.Backend] += q.Blocks
	}
	inventories := w.inventories()
	for b, ranges := range has {
		for _, r := range ranges {
			v := inventories[r.Frontend]
			for block := first(&r); block < end(&r); block++ {
				require.True(t, v.Has(block) && !v.isGone(block), "block %d twice, or lost", block)
				v.withhold(block)
				got[b]++
			}
		}
	}
	require.Equal(t, want, got)
}

// after returns what backends have when they have got something, and how many kept what they had.
func after(had [][]snat.PortRange, granted []Granted) (has [][]snat.PortRange, kept int) {
	for b, g := range granted {
		if g.Kept {
			kept++
			g.Ranges = had[b]
		}
		has = append(has, g.Ranges)
	}
	return has, kept
}

// Who keeps exactly what it had, by one portion, would have got that if every block had been looked at.
func TestWhoKeepsAllIsAsIfEveryBlockWereLookedAt(t *testing.T) {
	pkttest.OneGoroutine(t)
	all := 0
	for seed := range uint64(400) {
		deals(seed, 1, func(step int, w *world, portions []Portion, former Former) [][]snat.PortRange {
			has, kept := after(former.Had, Settle(portions, former, w.inventories))
			all += kept
			looked := former
			looked.Had = nil
			for _, ranges := range former.Had {
				if len(ranges) > 0 { // in two pieces, of which one is empty, it is no whole that could be kept
					r := ranges[0]
					r.First, r.Count = uint16(end(&r)*snat.BlockSize), 0
					ranges = slices.Insert(slices.Clone(ranges), 1, r)
				}
				looked.Had = append(looked.Had, ranges)
			}
			granted := Settle(portions, looked, w.inventories)
			for b, g := range granted {
				require.False(t, g.Kept && len(former.Had[b]) > 0)
				require.Equal(t, len(g.Ranges), len(has[b]), "seed %d, step %d, backend %d", seed, step, b)
				for i, r := range g.Ranges {
					require.Equal(t, r, has[b][i], "seed %d, step %d, backend %d", seed, step, b)
				}
			}
			w.checks(t, portions, has)
			return has
		})
	}
	assert.Greater(t, all, 1000)
}

// Settling a deal again moves nothing, however many portions a backend has on the same frontends.
func TestSettlingAgainMovesNothing(t *testing.T) {
	pkttest.OneGoroutine(t)
	several := 0
	for seed := range uint64(400) {
		deals(seed, 3, func(step int, w *world, portions []Portion, former Former) [][]snat.PortRange {
			has, _ := after(former.Had, Settle(portions, former, w.inventories))
			w.checks(t, portions, has)
			again, kept := after(has, Settle(portions, Former{Had: has, Protocol: snat.TCP, Grace: former.Grace}, w.inventories))
			require.Equal(t, has, again, "seed %d, step %d", seed, step)
			require.Equal(t, len(has), kept, "seed %d, step %d", seed, step)
			of := make([]int, len(has))
			for _, q := range portions {
				if of[q.Backend]++; of[q.Backend] == 2 {
					several++
				}
			}
			return has
		})
	}
	assert.Greater(t, several, 1000)
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
