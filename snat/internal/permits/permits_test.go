package permits

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// A table is what a map of all flows would be that forgets nothing.
func TestTableAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		table, model, now := new(Table), map[Flow]flow.Time{}, flow.Time(0)
		for range 5000 {
			f := Flow{
				Inside: [2]uint64{r.Uint64N(3), r.Uint64N(2)}, Remote: [2]uint64{r.Uint64N(40), r.Uint64N(2)},
				InsidePort: uint16(r.IntN(3)), RemotePort: uint16(r.IntN(3)), Instance: uint32(r.IntN(2)), Proto: uint8(r.IntN(2)), V6: r.IntN(2) == 0,
			}
			last, ok := model[f]
			known := ok && now < last.Add(Lifetime)
			switch r.IntN(8) {
			case 0, 1, 2:
				table.Grant(now, f, flow.Inside)
				model[f] = now
			case 3, 4:
				require.Equal(t, known, table.Passes(now, f), "seed %d", seed)
				if known {
					model[f] = now
				}
			case 5:
				require.Equal(t, known, table.Knows(now, f), "seed %d", seed)
			case 6:
				now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
			default:
				if r.IntN(50) == 0 {
					gone := func(f *Flow) bool { return f.Instance == 1 }
					table.Revoke(gone)
					for f := range model {
						if gone(&f) {
							delete(model, f)
						}
					}
				}
			}
		}
		live := 0
		for f, last := range model {
			if now < last.Add(Lifetime) {
				live++
				require.True(t, table.Knows(now, f))
			}
		}
		require.LessOrEqual(t, live, table.Len())
	}
}

// Permits that are over go, and there is an end of those that are not.
func TestTableIsBounded(t *testing.T) {
	table, now := new(Table), flow.Time(0)
	for range 20 {
		for i := range uint64(20_000) {
			table.Grant(now, Flow{Remote: [2]uint64{uint64(now) + i}}, flow.Inside)
		}
		now = now.Add(Lifetime)
	}
	assert.Less(t, table.Len(), 3*20_000)
	one := table.all()[0].part(0)
	table.Revoke(func(*Flow) bool { return true })
	for i := uint64(0); one.n < maxPerPart; i++ {
		if f := (Flow{Remote: [2]uint64{i}}); f.hash(0)>>54 == 0 {
			table.Grant(now, f, flow.Inside)
			require.True(t, table.Knows(now, f))
			require.LessOrEqual(t, 2*one.n, len(*one.slots.Load()))
		}
	}
	for i := uint64(1 << 40); ; i++ {
		if f := (Flow{Remote: [2]uint64{i}}); f.hash(0)>>54 == 0 {
			table.Grant(now, f, flow.Inside)
			assert.False(t, table.Knows(now, f), "there is no room")
			break
		}
	}
	assert.Equal(t, maxPerPart, one.n)
}

func TestAPermitIsACacheLine(t *testing.T) {
	assert.LessOrEqual(t, reflect.TypeFor[permit]().Size(), uintptr(64))
}

func TestPassingDoesNotAllocate(t *testing.T) {
	table, f := new(Table), Flow{Remote: [2]uint64{7}}
	table.Grant(0, f, flow.Inside)
	now := flow.Time(0)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		now++
		table.Passes(now, f)
	}))
}

// carry lets a packet through.
func carry(table *Table, from flow.Side, p *wire.Packet, inside [2]uint64) {
	f, how := table.Meet(0, from, p, 3, inside)
	table.Carry(0, from, p, &f, how)
}

// What has come in is answered, in both families and all protocols, and nothing else is.
func TestAnswers(t *testing.T) {
	const own, remote, own6, remote6 = "10.0.0.4", "198.51.100.9", "fd00::4", "2001:db8:ffff::9"
	read := func(b []byte) (p wire.Packet) {
		require.Equal(t, wire.OK, wire.Parse(b, &p))
		return p
	}
	for _, x := range []struct{ in, out, other []byte }{
		{pkttest.TCP(remote+":5000", own+":22", pkttest.SYN), pkttest.TCP(own+":22", remote+":5000", pkttest.TCPFlags("SA")), pkttest.TCP(own+":22", remote+":5001", pkttest.TCPFlags("SA"))},
		{pkttest.UDP(remote+":5000", own+":53", "q"), pkttest.UDP(own+":53", remote+":5000", "a"), pkttest.UDP(own+":54", remote+":5000", "a")},
		{pkttest.ICMPEcho(remote, own, 7, 1), pkttest.ICMPEchoReply(own, remote, 7, 1), pkttest.ICMPEcho(own, remote, 7, 1)},
		{pkttest.TCP("["+remote6+"]:5000", "["+own6+"]:22", pkttest.SYN), pkttest.TCP("["+own6+"]:22", "["+remote6+"]:5000", pkttest.TCPFlags("SA")), pkttest.TCP("["+own6+"]:22", "["+remote6+"]:5000", pkttest.SYN)},
		{pkttest.ICMPEcho(remote6, own6, 7, 1), pkttest.ICMPEchoReply(own6, remote6, 7, 1), pkttest.ICMPEchoReply(own6, remote6, 8, 1)},
	} {
		table := new(Table)
		in, out, other := read(x.in), read(x.out), read(x.other)
		inside, _ := out.Addrs()
		require.False(t, table.Answers(0, &out, 3, inside), "nothing has come")
		carry(table, flow.Inside, &out, inside)
		if out.Proto != wire.ProtoTCP {
			require.False(t, table.Answers(0, &out, 3, inside), "the inside has begun")
			table = new(Table)
		}
		carry(table, flow.Outside, &in, inside)
		require.True(t, table.Answers(flow.At(Lifetime)-1, &out, 3, inside))
		require.False(t, table.Answers(flow.At(Lifetime)-1, &out, 4, inside), "another instance")
		assert.Zero(t, testing.AllocsPerRun(100, func() { table.Answers(flow.At(Lifetime), &out, 3, inside) }))
		assert.False(t, table.Answers(flow.At(Lifetime), &other, 3, inside))
	}
}

// Later fragments go where the first of their datagram has gone, also when a number comes again.
func TestFragmentsAnswerAsTheirFirst(t *testing.T) {
	table := new(Table)
	var in wire.Packet
	require.Equal(t, wire.OK, wire.Parse(pkttest.UDP("198.51.100.9:5000", "10.0.0.4:53", "q"), &in))
	_, inside := in.Addrs()
	carry(table, flow.Outside, &in, inside)
	for i, want := range []bool{true, false, true} {
		remote := "198.51.100.9:5000"
		if !want {
			remote = "198.51.100.9:5001"
		}
		for _, b := range pkttest.Fragments(pkttest.UDP("10.0.0.4:53", remote, string(make([]byte, 100))), 48, 1) {
			var p wire.Packet
			wire.Parse(b, &p)
			assert.Equal(t, want, table.Answers(0, &p, 3, inside), i)
		}
	}
}

// A datagram of a flow that is passed on is a stray if it comes from outside: it is asked about each time, and
// prolongs nothing, so that the flow is the outside's once the inside has been silent for long enough.
func TestStrays(t *testing.T) {
	var in, out wire.Packet
	require.Equal(t, wire.OK, wire.Parse(pkttest.UDP("198.51.100.9:5000", "10.0.0.4:53", "q"), &in))
	require.Equal(t, wire.OK, wire.Parse(pkttest.UDP("10.0.0.4:53", "198.51.100.9:5000", "a"), &out))
	inside, _ := out.Addrs()
	comes := func(table *Table, now flow.Time) How {
		f, how := table.Meet(now, flow.Outside, &in, 3, inside)
		table.Carry(now, flow.Outside, &in, &f, how)
		return how
	}
	table, now := new(Table), flow.Time(0)
	for range 2 {
		require.False(t, table.Answers(now, &out, 3, inside))
		now = now.Add(Lifetime - 1)
		require.Equal(t, Single, comes(table, now))
	}
	f := flowOf(flow.Outside, &in, 3, inside)
	assert.False(t, table.Knows(now, f) || table.Entered(now, f) || table.Passes(now, f))
	assert.Equal(t, Asked, comes(table, now+1), "it is over")
	assert.True(t, table.Answers(now+1, &out, 3, inside))
	assert.Equal(t, Passes, comes(table, now+1))

	table = new(Table) // what has had a permit keeps it
	carry(table, flow.Inside, &out, inside)
	require.False(t, table.Answers(0, &out, 3, inside))
	assert.Equal(t, Passes, comes(table, 0))
	require.False(t, table.Answers(flow.At(Lifetime), &out, 3, inside))
	assert.Equal(t, Single, comes(table, flow.At(Lifetime)), "but for as long as it lasts")
	f, how := table.Meet(flow.At(Lifetime), flow.Inside, &out, 3, inside)
	table.Carry(flow.At(Lifetime), flow.Inside, &out, &f, how)
	assert.Equal(t, Asked, how, "nobody passes it on any more")
	assert.Equal(t, Passes, comes(table, flow.At(Lifetime)))
}

// The last SYN says who has begun a connection.
func TestWhoBeginsAConnection(t *testing.T) {
	var in, out wire.Packet
	require.Equal(t, wire.OK, wire.Parse(pkttest.TCP("198.51.100.9:5000", "10.0.0.4:22", pkttest.SYN), &in))
	require.Equal(t, wire.OK, wire.Parse(pkttest.TCP("10.0.0.4:22", "198.51.100.9:5000", pkttest.SYN), &out))
	inside, _ := out.Addrs()
	table, f := new(Table), flowOf(flow.Inside, &out, 3, inside)
	carry(table, flow.Inside, &out, inside)
	assert.False(t, table.Knows(0, f), "a connection that the inside begins needs none")
	carry(table, flow.Outside, &in, inside)
	assert.True(t, table.Entered(0, f))
	carry(table, flow.Inside, &out, inside)
	assert.True(t, table.Knows(0, f) && !table.Entered(0, f))
}
