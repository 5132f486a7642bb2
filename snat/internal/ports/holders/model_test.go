package holders

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// twin counts in maps.
type twin struct {
	limit   int
	flows   map[Flow]*Held // of each pair
	created map[Name]uint64
}

func newTable(limit int) (*Table, *slab.Memory) {
	t, mem, h := new(Table), new(slab.Memory), flow.NewHasher(7)
	t.Init(&h, mem, Rules{Window: time.Minute, Limit: limit})
	return t, mem
}

// check compares a table with its twin.
func (m *twin) check(t testing.TB, table *Table) {
	uncounted := 0
	insides, towards := map[Name]Held{}, map[Name]Held{}
	add := func(to map[Name]Held, n Name, h *Held) {
		sum := to[n]
		for u, k := range h {
			sum[u] += k
		}
		to[n] = sum
	}
	pairs := map[Flow]Held{}
	for f, h := range table.Pairs() {
		pairs[f] = h
	}
	for f, h := range m.flows {
		if *h == (Held{}) {
			require.NotContains(t, pairs, f)
			continue
		}
		add(insides, f.InsideName(), h)
		if got, counted := pairs[f]; counted {
			require.Equal(t, *h, got)
			add(towards, f.DestinationName(), h)
			delete(pairs, f)
		} else {
			uncounted += int(h.Total())
			require.LessOrEqual(t, h.Total(), table.MostSpilled())
		}
	}
	require.Empty(t, pairs)
	require.Equal(t, uncounted, table.Spilled())
	known := [kinds]int{}
	for p := range table.Parties() {
		known[p.kind()]++
		want := insides
		if p.IsDestination() {
			want = towards
		} else {
			require.LessOrEqual(t, p.Created, m.created[p.Name])
		}
		require.Equal(t, want[p.Name], p.Held, "%+v", p.Name)
		delete(want, p.Name)
	}
	require.Empty(t, insides)
	require.Empty(t, towards)
	require.Equal(t, table.known, known)
	require.LessOrEqual(t, known[destinations], m.limit)
	for kind := range kinds {
		idle := 0
		for id := table.idle[kind].first; id != 0; id = table.parties.At(id).idle.next {
			require.Equal(t, Held{}, table.parties.At(id).Held)
			idle++
		}
		require.LessOrEqual(t, idle, m.limit)
	}
}

// play lets a table and its twin do the same: next draws from 0 to n-1.
func play(t testing.TB, ops, limit int, next func(n int) int) (uncounted int) {
	table, mem := newTable(limit)
	m := &twin{limit: limit, flows: map[Flow]*Held{}, created: map[Name]uint64{}}
	for op := range ops {
		f := Flow{
			Instance: uint32(next(3)), Inside: [2]uint64{uint64(next(5)), 0}, Remote: [2]uint64{uint64(next(6)), 0},
			Port: uint16(next(2)), Proto: [...]uint8{6, 17, 1}[next(3)], Family: uint8(next(2)),
		}
		f.Space = f.Instance
		held := m.flows[f]
		if held == nil {
			held = new(Held)
			m.flows[f] = held
		}
		use := Use(next(int(NumUses)))
		switch next(8) {
		case 0, 1:
			table.Begin(flow.At(time.Duration(op)*time.Second), &f)
			m.created[f.InsideName()]++
			held[Active]++
		case 2:
			table.Enter(&f, use)
			held[use]++
		case 3, 4, 5:
			if held[use] > 0 {
				table.Leave(&f, use)
				held[use]--
			}
		case 6:
			if is := Use(next(int(NumUses))); held[use] > 0 {
				table.Shift(&f, use, is)
				held[use]--
				held[is]++
			}
		case 7:
			table.Refuse(&f, Cause(next(3)))
			if next(8) == 0 {
				to := new(Table)
				require.True(t, table.ForkTo(to, new(slab.Memory)))
				m.check(t, table)
				table = to
			}
		}
		if op%40 == 0 {
			m.check(t, table)
		}
		uncounted = max(uncounted, table.Spilled())
	}
	m.check(t, table)
	mem.Release()
	return uncounted
}

// A table counts as maps do, however few records it may have.
func TestTableAgainstTwin(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, limit := range []int{4, 16, 1 << 10} {
		t.Run(fmt.Sprint("limit=", limit), func(t *testing.T) {
			for seed := range uint64(3) {
				rng := rand.New(rand.NewPCG(seed, uint64(limit)))
				uncounted := play(t, 1200, limit, rng.IntN)
				require.Equal(t, limit < 1000, uncounted > 0, "seed %d: %d uncounted", seed, uncounted)
			}
		})
	}
}

// What is known of an instance goes where it is now, from the one that has been idle longest to the latest, and
// that of one that is gone is forgotten; nothing is lost.
func TestFollow(t *testing.T) {
	const gone, moved = 1, 2
	table, _ := newTable(16)
	other, _ := newTable(16)
	rng := rand.New(rand.NewPCG(1, 0))
	flows := []Flow{}
	for op := range 400 {
		f := Flow{Instance: uint32(rng.IntN(3)), Inside: [2]uint64{uint64(rng.IntN(9))}, Remote: [2]uint64{uint64(rng.IntN(5))}, Port: 443, Proto: 6}
		f.Space = f.Instance
		table.Begin(flow.At(time.Duration(op)*time.Second), &f)
		table.Refuse(&f, Taken)
		flows = append(flows, f)
	}
	for _, f := range flows {
		if f.Instance != 0 {
			table.Leave(&f, Active)
		}
	}
	sum := func(tables ...*Table) (c Counts) {
		for _, t := range tables {
			for p := range t.Parties() {
				c.Add(&p.Counts)
			}
			for _, forgotten := range t.Forgotten() {
				c.Add(&forgotten)
			}
			c.Add(&t.forgotten)
		}
		return c
	}
	want, all := map[Name]Counts{}, sum(table)
	for p := range table.Parties() {
		if p.Of == moved {
			want[p.Name] = p.Counts
		}
	}
	require.NotEmpty(t, want)
	latest := table.parties.At(table.idle[insides].first).Name
	for id := table.idle[insides].first; latest.Of != moved; id = table.parties.At(id).idle.next {
		latest = table.parties.At(id).Name
	}
	table.Follow(func(instance uint32) *Table { return []*Table{table, nil, other}[instance] })
	for p := range table.Parties() {
		require.Zero(t, p.Of, "neither moved nor gone is %+v", p.Name)
	}
	for p := range other.Parties() {
		require.Equal(t, want[p.Name], p.Counts, "%+v", p.Name)
		delete(want, p.Name)
	}
	require.Empty(t, want)
	require.Equal(t, latest, other.parties.At(other.idle[insides].first).Name)
	require.Equal(t, all, sum(table, other))
	for instance := range table.Forgotten() {
		require.NotEqual(t, gone, int(instance))
	}
	before := sum(table)
	table.Follow(func(uint32) *Table { return table })
	require.Equal(t, before, sum(table))
}

// FuzzTable looks for a script on which a table and its twin disagree.
func FuzzTable(f *testing.F) {
	f.Add([]byte{3}, uint8(4))
	f.Fuzz(func(t *testing.T, script []byte, limit uint8) {
		at := 0
		play(t, len(script)/8, 1+int(limit), func(n int) int {
			if at++; at > len(script) {
				return 0
			}
			return int(script[at-1]) % n
		})
	})
}

// Whoever holds most is blamed: of equals the lowest address, after whatever order.
func TestLeader(t *testing.T) {
	table, mem := newTable(100)
	defer mem.Release()
	at := func(inside int) *Flow {
		return &Flow{Inside: [2]uint64{uint64(inside)}, Remote: [2]uint64{99}, Port: 443, Proto: 6}
	}
	blamed := func(inside int) (n uint64) {
		for p := range table.Parties() {
			if p.Name == at(inside).InsideName() {
				n = p.Blamed
			}
		}
		return n
	}
	table.Refuse(at(9), Taken)
	for inside, ports := range map[int]int{1: 2, 2: 5, 3: 5} {
		for range ports {
			table.Begin(0, at(inside))
		}
	}
	table.Refuse(at(9), Taken)
	require.Equal(t, uint64(1), blamed(2))
	table.Leave(at(2), Active)
	table.Refuse(at(9), Taken)
	require.Equal(t, uint64(1), blamed(3))
	table.Refuse(at(9), Limited)
	require.Equal(t, uint64(1), blamed(9))
	table.Refuse(at(9), Unrelated)
	other := *at(9)
	other.Port = 80 // towards which nobody holds a port
	table.Refuse(&other, Taken)
	require.Equal(t, uint64(2), blamed(3))
}

// Steady state allocates nothing.
func TestNoAllocs(t *testing.T) {
	table, mem := newTable(1000)
	defer mem.Release()
	f := &Flow{Inside: [2]uint64{1}, Remote: [2]uint64{99}, Port: 443, Proto: 6}
	now := flow.Time(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		table.Begin(now, f)
		table.Shift(f, Active, HeldFIN)
		table.Refuse(f, Taken)
		table.Leave(f, HeldFIN)
		now = now.Add(time.Second)
	}))
}
