package rendezvous

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// twin is the dull table: the pairs of a member and a slot, by rank and then by name,
// are joined as long as both are free.
func twin(names []uint64, eligible []bool) []int {
	members := candidates(names, eligible)
	slotOf, quota := make([][Slots]int, len(members)), make([]int32, len(members))
	for i, m := range members {
		quota[i] = Slots
		for slot := range Slots {
			slotOf[i][m.rank(uint32(slot))] = slot
		}
	}
	if len(members) > maxDirect {
		quota = quotas(members)
	}
	at := slices.Repeat([]int{-1}, Slots)
	for rank := range Slots {
		for i, m := range members {
			if slot := slotOf[i][rank]; at[slot] < 0 && quota[i] > 0 {
				at[slot] = int(m.index)
				quota[i]--
			}
		}
	}
	return at
}

func checkTwin(t *testing.T, names []uint64, eligible []bool) {
	t.Helper()
	table := New(names, eligible)
	for slot, want := range twin(names, eligible) {
		if got := table.At(inSlot(slot)); got != want {
			t.Fatalf("slot %d of %v: member %d, want %d", slot, eligible, got, want)
		}
	}
}

func TestTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 2, 7, 9, 10, 14} {
		checkTwin(t, randomNames(r, n), except(n, n/2))
	}
	same := slices.Repeat([]uint64{7}, 10)
	checkTwin(t, same, except(10, -1))
	checkTwin(t, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, except(10, -1))
}

func FuzzTable(f *testing.F) {
	f.Add(uint64(1), uint16(0xfff))
	f.Add(uint64(0), uint16(1))
	f.Add(uint64(7), uint16(0))
	f.Fuzz(func(t *testing.T, seed uint64, mask uint16) {
		names, eligible := make([]uint64, 12), make([]bool, 12)
		for i := range names {
			names[i], eligible[i] = seed*uint64(i*i), mask>>i&1 != 0 // some equal
		}
		checkTwin(t, names, eligible)
	})
}

// Ranks are permutations, and slots the inverse ones.
func TestRanks(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		m := newMember(r.Uint64(), 3)
		c := claimant{m.start, inverse(m.first), inverse(m.second), 0, 3}
		for slot := range uint32(Slots) {
			if rank := m.rank(slot); rank >= Slots || c.slot(rank) != slot {
				t.Fatalf("slot %d has rank %d, which has slot %d", slot, rank, c.slot(rank))
			}
		}
	}
}

// Positions do not count.
func TestOrderDoesNotCount(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, n := range []int{5, 50} {
		names := randomNames(r, n)
		table := New(names, except(n, -1))
		turned := slices.Clone(names)
		slices.Reverse(turned)
		other := New(turned, except(n, -1))
		for slot := range Slots {
			if a, b := names[table.At(inSlot(slot))], turned[other.At(inSlot(slot))]; a != b {
				t.Fatalf("slot %d: %x, turned %x", slot, a, b)
			}
		}
	}
}

func TestFewMembers(t *testing.T) {
	none := New([]uint64{1, 2}, []bool{false, false})
	assert.Equal(t, -1, none.At(0))
	assert.Zero(t, none.Eligible())
	one := New([]uint64{1, 2}, []bool{false, true})
	for slot := range Slots {
		if one.At(inSlot(slot)) != 1 {
			t.Fatalf("slot %d: member %d", slot, one.At(inSlot(slot)))
		}
	}
	assert.Nil(t, one.slots)
}

// Every member takes part, as many as there may be.
func TestMostMembers(t *testing.T) {
	names := randomNames(rand.New(rand.NewPCG(11, 12)), MaxMembers)
	table := New(names, except(MaxMembers, 0))
	most := 0
	has := make([]int, MaxMembers)
	for slot := range Slots {
		i := table.At(inSlot(slot))
		has[i]++
		most = max(most, has[i])
	}
	assert.Zero(t, has[0])
	assert.LessOrEqual(t, most, 3)
	assert.Panics(t, func() { New(make([]uint64, MaxMembers+1), make([]bool, MaxMembers+1)) })
}

// Quotas suffice even if all of them are rounded down.
func TestQuotas(t *testing.T) {
	for _, n := range []int{9, 5000, 40_000, MaxMembers} {
		sum := int64(0)
		for _, q := range quotas(make([]member, n)) {
			sum += int64(q)
		}
		assert.GreaterOrEqual(t, sum, int64(Slots), "%d members", n)
	}
}

func TestCache(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	names := randomNames(r, 20)
	var c Cache
	a := c.New(names, except(20, -1))
	assert.Same(t, a, c.New(names, except(20, -1)))
	b := c.New(names, except(20, 3))
	assert.NotSame(t, a, b)
	assert.Equal(t, New(names, except(20, 3)), b)
	turned := slices.Clone(names)
	slices.Reverse(turned)
	assert.NotSame(t, a, c.New(turned, except(20, -1)), "other indices")
	assert.Equal(t, 3, c.New(names[:3], except(3, -1)).Eligible())
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}

// What nobody has any more is forgotten.
func TestCacheForgets(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	var c Cache
	for range 40 {
		c.New(randomNames(r, 9), except(9, -1))
		runtime.GC()
	}
	assert.LessOrEqual(t, len(c.tables), 17)
}

func TestAtDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for _, n := range []int{8, 100} {
		table := New(randomNames(r, n), except(n, -1))
		assert.Zero(t, testing.AllocsPerRun(100, func() { table.At(r.Uint64()) }))
	}
}

func BenchmarkTable(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name    string
		members int
	}{{"members=2", 2}, {"members=8", 8}, {"members=100", 100}, {"members=1000", 1000}, {"members=5000", 5000}} {
		names, eligible := randomNames(r, tt.members), except(tt.members, -1)
		b.Run("New/"+tt.name, func(b *testing.B) {
			for b.Loop() {
				New(names, eligible)
			}
		})
		table, hash := New(names, eligible), uint64(1)
		b.Run("At/"+tt.name, func(b *testing.B) {
			for b.Loop() {
				hash = hash*0x9e3779b97f4a7c15 + uint64(table.At(hash))
			}
		})
	}
}
