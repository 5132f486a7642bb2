package subscribers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

func newTable(t *testing.T) *Table {
	hasher, mem, table := flow.NewHasher(1), new(slab.Memory), new(Table)
	table.Init(&hasher, mem)
	t.Cleanup(mem.Release)
	return table
}

// A record is there as long as something is counted in it, and then for its rate.
func TestRecordsStayForTheirRate(t *testing.T) {
	table, limits := newTable(t), Limits{SessionRate: 1}
	name := Name{Addr: [2]uint64{1}, Instance: 2}
	require.Zero(t, table.Find(&name))
	id := table.Obtain(0, &name)
	require.NotZero(t, id)
	require.Equal(t, id, table.Find(&name))
	require.Equal(t, name, table.At(id).Name())
	s := table.At(id)
	require.Equal(t, flow.ReasonNone, limits.Admit(0, 0, s))
	s.Sessions++
	limits.Spend(0, s)
	require.Equal(t, flow.ReasonRate, limits.Admit(flow.At(time.Second-1), 1, s))
	s.Sessions--
	table.Leave(id, 0)
	assert.True(t, s.IsIdle())
	require.Equal(t, id, table.Find(&name), "for its rate")
	other := Name{Addr: [2]uint64{3}, Instance: 2}
	require.NotZero(t, table.Obtain(flow.At(time.Second), &other), "which sweeps")
	require.Zero(t, table.Find(&name))
	table.Drop(table.Find(&other))
	require.Zero(t, table.Len())
}

// The idle records of an instance that is configured anew are forgotten.
func TestForget(t *testing.T) {
	table, limits := newTable(t), Limits{SessionRate: 1}
	for i := range uint64(10) {
		id := table.Obtain(0, &Name{Addr: [2]uint64{i}, Instance: uint32(i % 2)})
		limits.Spend(0, table.At(id))
		table.Leave(id, 0)
	}
	require.Equal(t, 10, table.Len())
	table.Forget(func(instance uint32) bool { return instance == 1 })
	assert.Equal(t, 5, table.Len())
	for s := range table.All() {
		if s.IsIdle() {
			assert.Zero(t, s.Name().Instance)
		}
	}
}

// The half-open sessions of a subscriber are in the order in which they began, whichever
// of them is over, and the oldest gives way.
func TestTheOldestGivesWay(t *testing.T) {
	table := newTable(t)
	id := table.Obtain(0, &Name{Instance: 1})
	for session := range flow.ID(5) {
		require.Zero(t, table.Oldest(id, 5))
		table.Begin(id, session+1)
	}
	require.Equal(t, []flow.ID{1, 2, 3, 4, 5}, table.HalfOpen(table.At(id)))
	table.Complete(id, 3)
	table.Complete(id, 9) // not noted
	require.Equal(t, []flow.ID{1, 2, 4, 5}, table.HalfOpen(table.At(id)))
	require.Equal(t, flow.ID(1), table.Oldest(id, 3))
	table.Complete(id, 1)
	require.Zero(t, table.Oldest(id, 3))
	require.Equal(t, flow.ID(2), table.Oldest(id, 2))
	for _, session := range []flow.ID{5, 2, 4} {
		table.Complete(id, session)
	}
	require.Empty(t, table.HalfOpen(table.At(id)))
	require.Zero(t, table.NumHalfOpen())
}

// A limit of one kind of ports comes before that of all kinds.
func TestQuota(t *testing.T) {
	s := &Record{Ports: [Kinds]uint32{3, 2, 1}}
	for _, c := range []struct {
		limits Limits
		kind   int
		want   int
	}{
		{Limits{}, 0, 0},
		{Limits{TCPPorts: 4}, 0, 0},
		{Limits{TCPPorts: 3}, 0, 3},
		{Limits{TCPPorts: 3}, 1, 0},
		{Limits{QueryIDs: 1, Ports: 6}, 2, 1},
		{Limits{Ports: 6}, 1, 6},
		{Limits{Ports: 7}, 1, 0},
	} {
		assert.Equal(t, c.want, c.limits.Quota(s, c.kind), "%+v", c)
	}
}
