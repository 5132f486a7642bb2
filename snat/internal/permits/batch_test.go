package permits

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// A batch leaves what its packets leave one by one, whatever is mixed in that cannot be put off.
func TestBatchAgainstOneByOne(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 2))
		alone, together, now := new(Table), new(Table), flow.Time(0)
		var b Batch
		flows, put := map[Flow]bool{}, 0
		for range 150 {
			from := flow.Side(r.IntN(2))
			for range 1 + r.IntN(90) {
				p, inside := randomPacket(t, r, from)
				f, how := alone.Meet(now, from, &p, 3, inside)
				alone.Carry(now, from, &p, &f, how)
				flows[f] = true
				if b.Add(together, from, &p, 3, &inside, false) {
					put++
				} else {
					require.Equal(t, flow.ReasonNone, together.Admit(now, from, &p, 3, inside, true, nil))
				}
			}
			b.Settle(together, now)
			if r.IntN(2) == 0 {
				now = now.Add(time.Duration(r.Int64N(int64(Lifetime))))
			}
			for f := range flows {
				by, ok := alone.look(now, &f, false)
				gotBy, gotOK := together.look(now, &f, false)
				if ok != gotOK || ok && by != gotBy {
					t.Fatalf("seed %d: %+v: %v %v, one by one %v %v", seed, f, gotBy, gotOK, by, ok)
				}
			}
		}
		assert.Greater(t, put, 1000)
	}
}

// randomPacket returns a packet from a side and the inside address: TCP or UDP of either family, some
// with SYN, a query, or a fragment.
func randomPacket(t *testing.T, r *rand.Rand, from flow.Side) (p wire.Packet, inside [2]uint64) {
	in, out := fmt.Sprintf("10.0.0.%d", 1+r.IntN(2)), fmt.Sprintf("198.51.100.%d", 1+r.IntN(3))
	six := r.IntN(3) == 0
	if six {
		in, out = fmt.Sprintf("fd00::%d", 1+r.IntN(2)), fmt.Sprintf("2001:db8::%d", 1+r.IntN(3))
	}
	src, dst := in, out
	if from == flow.Outside {
		src, dst = out, in
	}
	socket := func(host string) string {
		if six {
			host = "[" + host + "]"
		}
		return fmt.Sprintf("%s:%d", host, 1000+r.IntN(2))
	}
	var bytes []byte
	switch k := r.IntN(10); {
	case k < 4:
		bytes = pkttest.UDP(socket(src), socket(dst), "q")
	case k < 8:
		bytes = pkttest.TCP(socket(src), socket(dst), pkttest.TCPFlags([]string{"A", "SA", "S", "R"}[r.IntN(4)]))
	case k < 9 && !six:
		bytes = pkttest.Fragments(pkttest.UDP(socket(src), socket(dst), string(make([]byte, 100))), 48, 1)[r.IntN(2)]
	default:
		bytes = pkttest.ICMPEcho(src, dst, 7, 1)
	}
	problem := wire.Parse(bytes, &p)
	require.Contains(t, []wire.Problem{wire.OK, wire.UnsupportedProto}, problem)
	from4, to := p.Addrs()
	if from == flow.Outside {
		return p, to
	}
	return p, from4
}

// Who looks while others come and go loses nothing: a flow whose packets keep coming keeps its permit,
// and the latest of them counts.
func TestPermitsUnderTraffic(t *testing.T) {
	table, f := new(Table), Flow{Remote: [2]uint64{1 << 40}}
	table.Grant(0, f, flow.Outside)
	var at atomic.Int64 // the latest packet of f
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() { // flows of the same part come, and are over
		for i := uint64(0); !stop.Load(); i++ {
			other := Flow{Remote: [2]uint64{i}}
			if other.hash(0)>>54 == f.hash(0)>>54 {
				table.Grant(flow.Time(at.Load()), other, flow.Inside)
			}
		}
	})
	for range 400 {
		now := flow.Time(at.Load()).Add(Lifetime - 1)
		require.True(t, table.Passes(now, f))
		at.Store(int64(now))
		require.True(t, table.Entered(now.Add(Lifetime-1), f), "the packet has been lost")
	}
	stop.Store(true)
	all.Wait()
}

func TestBatchDoesNotAllocate(t *testing.T) {
	table, b, now := new(Table), new(Batch), flow.Time(0)
	p, inside := wire.Packet{}, [2]uint64{}
	require.Equal(t, wire.OK, wire.Parse(pkttest.UDP("198.51.100.9:5000", "10.0.0.4:53", "q"), &p))
	_, inside = p.Addrs()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		now++
		for b.Add(table, flow.Outside, &p, 3, &inside, false) {
		}
		b.Settle(table, now)
	}))
}

func TestAdmitDoesNotAllocate(t *testing.T) {
	table, now := new(Table), flow.Time(0)
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(pkttest.UDP("10.0.0.4:53", "198.51.100.9:5000", "q"), &p))
	inside, _ := p.Addrs()
	asked := 0
	ask := func(f Flow) flow.Reason { asked++; return flow.ReasonNone }
	table.Admit(now, flow.Inside, &p, 3, inside, true, ask)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		now++
		table.Admit(now, flow.Inside, &p, 3, inside, true, ask)
	}))
	assert.Equal(t, 1, asked)
}
