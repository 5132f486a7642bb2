package entered

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

func table(pairs ...string) *Table {
	t := new(Table)
	var all []Pair
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, Pair{netip.MustParseAddr(pairs[i]), netip.MustParseAddr(pairs[i+1])})
	}
	t.SetAddrs(all)
	return t
}

var toInside = flow.Verdict{Action: flow.Forward, To: flow.Inside}

// leave is Leave, with its verdict checked.
func leave(tab *Table, now flow.Time, pkt []byte) bool {
	v := flow.Verdict{Action: flow.Bypass}
	left := tab.Leave(now, pkt, &v)
	return left && v.Action == flow.Forward && v.To == flow.Outside
}

// answers is Answers for a packet.
func answers(tab *Table, now flow.Time, pkt []byte) bool {
	var p wire.Packet
	k, _ := read(pkt, &p, flow.Inside)
	addr := func(w [2]uint64) netip.Addr {
		if !k.is6 {
			return flow.NetAddr4(uint32(w[0]))
		}
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], w[0])
		binary.BigEndian.PutUint64(b[8:], w[1])
		return netip.AddrFrom16(b)
	}
	return tab.Answers(now, k.proto, netip.AddrPortFrom(addr(k.own), k.ownPort), netip.AddrPortFrom(addr(k.remote), k.remotePort))
}

// What came in is answered by the public address, in both families and all protocols, with right
// checksums; nothing else is.
func TestAnswersLeaveByTheAddress(t *testing.T) {
	tab := table("10.0.0.4", "20.60.0.1", "fd00::4", "2001:db8:60::1")
	for _, x := range []struct {
		in, out []byte
		as      string
	}{
		{pkttest.TCP("198.51.100.9:5000", "10.0.0.4:22", pkttest.SYN), pkttest.TCP("10.0.0.4:22", "198.51.100.9:5000", pkttest.TCPFlags("SA"), pkttest.Ack(1)), "20.60.0.1:22"},
		{pkttest.UDP("198.51.100.9:5000", "10.0.0.4:53", "q"), pkttest.UDP("10.0.0.4:53", "198.51.100.9:5000", "a"), "20.60.0.1:53"},
		{pkttest.ICMPEcho("198.51.100.9", "10.0.0.4", 7, 1), pkttest.ICMPEchoReply("10.0.0.4", "198.51.100.9", 7, 1), "20.60.0.1"},
		{pkttest.TCP("[2001:db8:ffff::9]:5000", "[fd00::4]:22", pkttest.SYN), pkttest.TCP("[fd00::4]:22", "[2001:db8:ffff::9]:5000", pkttest.TCPFlags("SA"), pkttest.Ack(1)), "[2001:db8:60::1]:22"},
		{pkttest.ICMPEcho("2001:db8:ffff::9", "fd00::4", 7, 1), pkttest.ICMPEchoReply("fd00::4", "2001:db8:ffff::9", 7, 1), "2001:db8:60::1"},
	} {
		before := append([]byte(nil), x.out...)
		require.False(t, leave(tab, 0, x.out), "nothing has come")
		tab.Enter(0, x.in, toInside)
		require.True(t, answers(tab, 0, before))
		require.True(t, leave(tab, 0, x.out))
		pkttest.Check(t, x.out, pkttest.Src(x.as), pkttest.ChecksumsOK())
	}
	assert.EqualValues(t, 5, tab.Left())
	tab.Enter(0, pkttest.TCP("198.51.100.9:5000", "10.0.0.5:22", pkttest.SYN), toInside)
	for _, other := range [][]byte{
		pkttest.TCP("10.0.0.4:22", "198.51.100.9:5001", pkttest.TCPFlags("SA")), // another client
		pkttest.UDP("10.0.0.4:22", "198.51.100.9:5000", "a"),                    // another protocol
		pkttest.TCP("10.0.0.5:22", "198.51.100.9:5000", pkttest.TCPFlags("SA")), // a machine without public address
		{0x45},
	} {
		assert.False(t, leave(tab, 0, other))
	}
	pieces := pkttest.Fragments(pkttest.UDP("10.0.0.4:53", "198.51.100.9:5000", string(make([]byte, 100))), 48, 1)
	assert.True(t, leave(tab, 0, pieces[0]))
	assert.False(t, leave(tab, 0, pieces[1]), "it has no ports")
}

// A flow is remembered for four minutes after its last packet of either direction, and what
// is over makes room.
func TestForgets(t *testing.T) {
	tab := table("10.0.0.4", "20.60.0.1")
	in := func(port int) []byte { return pkttest.UDP(fmt.Sprintf("198.51.100.9:%d", port), "10.0.0.4:53", "q") }
	out := func(port int) []byte { return pkttest.UDP("10.0.0.4:53", fmt.Sprintf("198.51.100.9:%d", port), "a") }
	tab.Enter(0, in(1), toInside)
	at := flow.At(Lifetime)
	assert.True(t, leave(tab, at-1, out(1)))
	assert.True(t, answers(tab, at+at-2, out(1)), "the answer has prolonged it")
	assert.False(t, answers(tab, at+at-1, out(1)))
	for port := 1; port <= 20_000; port++ {
		tab.Enter(at*flow.Time(port), in(port), toInside)
	}
	n := 0
	for i := range tab.stripes {
		n += len(tab.stripes[i].last)
	}
	assert.LessOrEqual(t, n, stripes*(sweepFrom+1))
	tab.SetAddrs(nil)
	assert.False(t, answers(tab, at*20_000, out(20_000)))
}

func TestNoAllocations(t *testing.T) {
	tab := table("10.0.0.4", "20.60.0.1")
	in, out := pkttest.UDP("198.51.100.9:5000", "10.0.0.4:53", "q"), pkttest.UDP("10.0.0.4:53", "198.51.100.9:5000", "a")
	tab.Enter(0, in, toInside)
	buf := append([]byte(nil), out...)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		copy(buf, out)
		tab.Enter(0, in, toInside)
		if !leave(tab, 0, buf) {
			t.Fatal("forgotten")
		}
	}))
}
