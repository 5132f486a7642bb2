package ports

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// newSharing returns the only shard of a space whose instances share so many ports of two frontends.
func newSharing(t *testing.T, ports, perDestination int) *State {
	table, err := flow.NewTable(flow.Config{Shards: 1, HashKey: 1})
	require.NoError(t, err)
	t.Cleanup(table.Close)
	sp := NewSpace(1, table.Hasher(), 1, new(flow.Notice))
	sh := new(State)
	sh.Init(sp, 0, table.Shard(0), nil, new(slab.Memory))
	sp.Share(Shared{
		Frontends: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")},
		FirstPort: 1024, LastPort: uint16(1023 + ports), Choice: Random, FlowsPerDestination: perDestination, MaxFlows: 4 * ports,
	})
	l := sp.Lay(1)
	inst := &Instance{}
	l.Add(inst)
	r := Rules{}
	l.Settle(&r, new(Exclusions))
	sp.Install(0, l, r, nil)
	return sh
}

// Whoever looks ahead, at whatever time and for however many flows, flows get the ports that they would
// get otherwise, until none is left without a flow and beyond; and what is foreseen comes true where
// nothing comes in between.
func TestForesight(t *testing.T) {
	const ports = 300
	for _, limit := range []int{2 * ports, 10} {
		plain, seer := newSharing(t, ports, limit), newSharing(t, ports, limit)
		rng := rand.New(rand.NewPCG(1, uint64(limit)))
		var taken []Tuple
		var sockets [][2]uint64
		right, given := 0, 0
		for turn := range 6000 {
			b := seer.space.shared
			st := &b.stocks[0][TCPIndex+rng.IntN(2)]
			if rng.IntN(4) == 0 {
				b.foresee(st, rng.IntN(flow.MaxGuesses+1))
			}
			if n := len(taken); n > 0 && rng.IntN(1000) > 700-turn%2000*2/5 {
				k := rng.IntN(n)
				for _, sh := range []*State{plain, seer} {
					b := sh.space.shared
					st := &b.stocks[0][PoolIndex(taken[k].Proto)]
					ordinal := st.ordinal([2]uint64{sockets[k][0]}, uint16(sockets[k][1]))
					shelf, offset := st.shelves.Split(ordinal)
					dest := destinationOf(&taken[k])
					sh.destinations.Drop(dest.On(shelf), ports, offset)
					b.unclaim(sh, st, ordinal, flow.ClassTCPOpening)
				}
				taken[k], sockets[k] = taken[n-1], sockets[n-1]
				taken, sockets = taken[:n-1], sockets[:n-1]
				continue
			}
			tuple := Tuple{Proto: wire.ProtoTCP, Remote: [2]uint64{uint64(rng.IntN(7))}, InsidePort: uint16(turn), DestPort: 443}
			if rng.IntN(2) == 0 {
				tuple.Proto = wire.ProtoUDP
			}
			foreseen, of := b.next.at(0), b.next.of
			outside, port, reason := seer.Take(0, seer.space.instances[0], &tuple)
			outside1, port1, reason1 := plain.Take(0, plain.space.instances[0], &tuple)
			require.Equal(t, []any{outside1, port1, reason1}, []any{outside, port, reason}, "turn %d", turn)
			if reason != flow.ReasonNone {
				require.NotEqual(t, 2*ports, limit)
				continue
			}
			taken, sockets = append(taken, tuple), append(sockets, [2]uint64{outside[0], uint64(port)})
			if st := &b.stocks[0][PoolIndex(tuple.Proto)]; foreseen >= 0 && of == st.kind() {
				given++
				if st.ordinal(outside, port) == foreseen {
					right++
				}
			}
		}
		assert.Greater(t, given, 300)
		if limit == 2*ports {
			assert.Equal(t, given, right)
		} else {
			assert.Less(t, right, given, "a limit is reached where nobody foresees it")
		}
		for p := range NumProtocols {
			st := &seer.space.shared.stocks[0][p]
			st.shelves.Check(st.used)
		}
	}
}

// Looking ahead finds out the ports that flows of a stock get, in their order and for a few at once.
func TestAheadForeseesSharedPorts(t *testing.T) {
	const ports = 20
	sh := newSharing(t, ports, 2*ports)
	var a Ahead
	tuple := Tuple{Proto: wire.ProtoTCP, Remote: [2]uint64{1}, DestPort: 443}
	assert.False(t, a.Add(sh, 0, &tuple), "nobody looks ahead for few")
	sh.space.instances = append(sh.space.instances, make([]*Instance, aheadInstances)...)
	for i := range flow.MaxGuesses {
		tuple.Remote[0] = uint64(i % 5)
		require.True(t, a.Add(sh, 0, &tuple))
	}
	a.Fetch()
	for i := range flow.MaxGuesses {
		a.Next()
		tuple.Remote[0] = uint64(i % 5)
		outside, port, reason := sh.Take(0, sh.space.instances[0], &tuple)
		require.Equal(t, flow.ReasonNone, reason)
		if i < 2*ports { // then all have a flow
			assert.Equal(t, a.flows[i].lowest, sh.space.shared.stocks[0][TCPIndex].ordinal(outside, port))
		}
	}
	assert.Equal(t, -1, a.flows[flow.MaxGuesses-1].lowest)
}
