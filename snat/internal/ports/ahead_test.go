package ports

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// newState returns the only shard of a space of so many instances with ports of TCP, of
// which each flow has a port of its own.
func newState(t *testing.T, instances, granted int) *State {
	table, err := flow.NewTable(flow.Config{Shards: 1, HashKey: 1})
	require.NoError(t, err)
	t.Cleanup(table.Close)
	sp := NewSpace(1, table.Hasher(), 1, new(flow.Notice))
	sh := new(State)
	sh.Init(sp, 0, table.Shard(0), nil, new(slab.Memory))
	l := sp.Lay(instances)
	for i := range instances {
		inst := &Instance{Index: uint32(i)}
		l.Add(inst)
		l.Grant(inst, netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 32)}), TCPIndex, uint16(1024+i%32*1024), granted)
	}
	b := Behavior{Mapping: PerConnection, Sharing: PerDestination, PerFlow: true, Claim: PerDestination}
	r := Rules{Behaviors: [NumPools]Behavior{b, b, b}}
	l.Settle(&r, new(Exclusions))
	sp.Install(0, l, r, nil)
	return sh
}

// open gives a flow a port and a session, and returns the ordinal.
func (sh *State) open(t *testing.T, index uint32, tuple *Tuple) int {
	inst := sh.space.instances[index]
	outside, port, reason := sh.Take(0, inst, tuple)
	require.Equal(t, flow.ReasonNone, reason)
	id, s := sh.New(false)
	s.Key = flow.Key{
		Src: uint32(tuple.Inside[0]), Dst: uint32(tuple.Remote[0]), SrcPort: tuple.InsidePort, DstPort: tuple.DestPort,
		VNIProto: index<<8 | wire.ProtoTCP,
	}
	s.Outside, s.OutsidePort = uint32(outside[0]), port
	require.True(t, sh.Insert(id, s, 0))
	return inst.pools[0][TCPIndex].ordinal(outside, port)
}

// What is fetched ahead is what flows get, also where several of an instance come
// together; and nothing is where it would not be worth it.
func TestAheadForeseesPorts(t *testing.T) {
	const instances, granted = aheadInstances, 512
	sh := newState(t, instances, granted)
	next := uint16(0)
	flowOf := func(index, dest int) Tuple {
		next++
		return Tuple{
			Proto: wire.ProtoTCP, Inside: [2]uint64{10<<24 + uint64(index)}, Remote: [2]uint64{198<<24 + uint64(dest)},
			InsidePort: next, DestPort: 443,
		}
	}
	var a Ahead
	for round := range 20 { // destinations that nobody has been at
		a.Reset()
		var tuples [flow.MaxGuesses]Tuple
		for i := range tuples {
			tuples[i] = flowOf(i, 1000*round+i)
			a.Add(sh, uint32(i), &tuples[i])
		}
		require.Equal(t, len(tuples), a.n)
		a.Fetch()
		for i := range tuples {
			a.Next()
			assert.Equal(t, sh.open(t, uint32(i), &tuples[i]), a.flows[i].lowest)
		}
	}
	for range 20 { // one destination that has a record: each guess is right
		a.Reset()
		var tuples [flow.MaxGuesses]Tuple
		for i := range 8 {
			tuples[i] = flowOf(3, 0)
			a.Add(sh, 3, &tuples[i])
		}
		a.Fetch()
		for i := range 8 {
			a.Next()
			got := sh.open(t, 3, &tuples[i])
			if a.flows[i].words != nil {
				assert.Equal(t, got, a.flows[i].lowest)
			}
		}
	}
	assert.NotNil(t, a.flows[0].words)

	few := newState(t, 8, granted)
	a.Reset()
	tuple := flowOf(1, 0)
	a.Add(few, 1, &tuple)
	a.Add(sh, instances+7, &tuple) // an instance that is not there
	assert.Zero(t, a.n)
	a.Fetch()
}

// Looking ahead copes with pools that have nothing, or have broken.
func TestAheadOfNothing(t *testing.T) {
	sh := newState(t, aheadInstances, 16)
	var a Ahead
	for i, proto := range []uint8{wire.ProtoUDP, wire.ProtoTCP, wire.ProtoTCP} {
		tuple := Tuple{Family: uint8(i % 2), Proto: proto, Remote: [2]uint64{1}, DestPort: 53}
		a.Add(sh, uint32(i), &tuple)
	}
	sh.space.instances[2].Break(0, TCPIndex)
	require.Equal(t, 3, a.n)
	a.Fetch()
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		a.Fetch()
		for range a.n + 1 {
			a.Next()
		}
	}))
}
