package fragments

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// ends are addresses of a test in one family: of the inside, of what it appears as,
// and of a remote. host is completed by a number.
type ends struct{ host, frontend, remote string }

var byFamily = map[string]ends{
	"IPv4": {"10.0.0.%d", "192.0.2.1", "203.0.113.9"},
	"IPv6": {"fd00::%d", "2001:db8::1", "2001:db8:9::9"},
}

// bed is a table and the dullest of translators: each sender is one host, which
// appears as the frontend; what comes to the frontend is for the host that its
// destination port names.
type bed struct {
	*Table
	t       testing.TB
	ends    ends
	now     flow.Time
	refuse  flow.Reason // of the first fragments that come, if any
	dropped [2]map[flow.Reason]int
	first   [2]uint64 // first fragments forwarded
	carried [2]uint64
	left    [][]byte // by Advance
}

func newBed(t testing.TB, e ends, limits Limits) *bed {
	hasher := flow.NewHasher(7)
	b := &bed{t: t, ends: e, dropped: [2]map[flow.Reason]int{{}, {}}}
	b.Table = New(Config{
		Limits: limits, Hasher: &hasher, IDs: NewIDs(1), Recall: true,
		Dropped: func(from flow.Side, reason flow.Reason, count int) { b.dropped[from][reason] += count },
		Carried: func(from flow.Side, v6 bool, outside *[2]uint64, proto uint8, size int) {
			require.Equal(t, b.ends.frontend, netAddr(v6, *outside).String())
			require.Equal(t, uint8(wire.ProtoUDP), proto)
			b.carried[from]++
		},
	})
	return b
}

// some are limits that a test seldom reaches.
func some() Limits {
	return Limits{Lifetime: flow.At(5 * time.Second), MaxDatagrams: 40, MaxPerSource: 30, MaxPerDatagram: 128, MaxQueuedBytes: 4 << 20}
}

func netAddr(v6 bool, a [2]uint64) netip.Addr {
	if v6 {
		return flow.NetAddr6(a)
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(a[0]))))
}

// words is the opposite of netAddr.
func words(s string) [2]uint64 {
	if a := netip.MustParseAddr(s); a.Is6() {
		b := a.As16()
		return [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
	} else {
		b := a.As4()
		return [2]uint64{uint64(binary.BigEndian.Uint32(b[:]))}
	}
}

// host is the address of a number's host.
func (b *bed) host(n uint32) string { return fmt.Sprintf(b.ends.host, n) }

// cut returns the part of a UDP datagram of 1,024 bytes from start to end, as a fragment.
func (b *bed) cut(src, dst string, sport, dport uint16, id uint32, start, end int, more bool) []byte {
	data := make([]byte, 1024)
	for i := range data {
		data[i] = uint8(i)
	}
	binary.BigEndian.PutUint16(data, sport)
	binary.BigEndian.PutUint16(data[2:], dport)
	binary.BigEndian.PutUint16(data[4:], 1024)
	return pkttest.Fragment(pkttest.IP(src, dst, wire.ProtoUDP, data[start:end]), start, more, id)
}

// send shows the table a fragment from an instance's host, or for the host that the
// destination port names.
func (b *bed) send(from flow.Side, instance uint32, pkt []byte) flow.Verdict {
	var p wire.Packet
	require.Equal(b.t, wire.OK, wire.Parse(pkt, &p))
	var v flow.Verdict
	b.Decide(b.now, from, instance, &p, &v, func() {
		if b.refuse != flow.ReasonNone {
			v = flow.Verdict{Action: flow.Drop, Reason: b.refuse}
			return
		}
		b.first[from]++
		v = flow.Verdict{Action: flow.Forward, To: flow.Outside - from, Instance: instance}
		at, addr := 0, b.ends.frontend
		if from == flow.Outside {
			v.Instance = uint32(binary.BigEndian.Uint16(p.B[p.L4+2:]))
			at, addr = 1, b.host(v.Instance)
		}
		a := words(addr)
		switch {
		case p.Flags&wire.V6 == 0 && at == 0:
			p.IPv4().RewriteSrc(uint32(a[0]))
		case p.Flags&wire.V6 == 0:
			p.IPv4().RewriteDst(uint32(a[0]))
		case at == 0:
			p.IPv6().SetSrc(flow.NetAddr6(a).As16())
		default:
			p.IPv6().SetDst(flow.NetAddr6(a).As16())
		}
	})
	return v
}

// advance advances the table to a time and keeps what leaves.
func (b *bed) advance(now flow.Time) {
	b.now = now
	for !b.Advance(now, 64, func(d Departure) {
		require.NotEqual(b.t, flow.Drop, d.Verdict.Action)
		b.left = append(b.left, slices.Clone(d.Packet))
	}) {
	}
}

// drops is how many fragments the table says it has dropped.
func (b *bed) drops() (n int) {
	for _, side := range b.dropped {
		for _, k := range side {
			n += k
		}
	}
	return n
}

func idOf(b []byte) uint32 {
	if b[0]>>4 == 6 {
		return wire.Fragment(b[40:]).ID()
	}
	return uint32(wire.IPv4(b).ID())
}

func offsetOf(b []byte) int {
	if b[0]>>4 == 6 {
		return wire.Fragment(b[40:]).Offset()
	}
	return wire.IPv4(b).FragmentOffset()
}
