package headers_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
)

// parse reads a packet that has no problem.
func parse(t *testing.T, b []byte) *wire.Packet {
	t.Helper()
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(b, &p))
	return &p
}

func TestWhatAPlainSegmentSaysIsWhatSegmentSays(t *testing.T) {
	for flags, plain := range map[string]bool{"A": true, "PA": true, "S": false, "SA": false, "FA": false, "R": false} {
		fields := []pkttest.Field{pkttest.TCPFlags(flags), pkttest.Seq(1001), pkttest.Ack(5001), pkttest.Window(77), pkttest.Payload("data")}
		p := parse(t, pkttest.TCP("10.0.0.4:5000", "203.0.113.9:443", fields...))
		h := p.TCPHeader()
		require.Equal(t, plain, headers.Plain(p, h), flags)
		var seg flow.Segment
		headers.Segment(p, &seg)
		assert.Equal(t, []any{seg.Seq, seg.Ack, seg.Window}, []any{headers.SeqOf(h), headers.AckOf(h), headers.WindowOf(h)})
		if plain {
			assert.Equal(t, seg.Len, headers.DataLen(p, h))
		}
	}
}

func TestASessionIsAppliedBothWays(t *testing.T) {
	for _, a := range []struct{ inside, outside, remote string }{
		{"10.0.0.4", "192.0.2.1", "203.0.113.9"}, {"[fd00::4]", "[2001:db8::1]", "[2001:db8:9::9]"},
	} {
		table, err := flow.NewTable(flow.Config{Shards: 1})
		require.NoError(t, err)
		out := parse(t, pkttest.UDP(a.inside+":5000", a.remote+":53", "query"))
		back := parse(t, pkttest.UDP(a.remote+":53", a.outside+":1024", "answer"))
		tuple := headers.Addresses(out, flow.Inside)
		outside := headers.Addresses(back, flow.Outside).Inside
		assert.Equal(t, tuple.Remote, headers.Addresses(back, flow.Outside).Remote)
		assert.Equal(t, []uint16{53, 53}, []uint16{headers.RemotePort(out, flow.Inside), headers.RemotePort(back, flow.Outside)})

		is6 := tuple.Family == 1
		sh := table.Shard(0)
		require.True(t, sh.Ready(is6))
		id, s := sh.New(is6)
		s.Key = flow.Key{SrcPort: 5000, DstPort: 53, VNIProto: uint32(wire.ProtoUDP)}
		s.OutsidePort = 1024
		if is6 {
			*s.Addrs6() = flow.Addrs6{Inside: tuple.Inside, Remote: tuple.Remote, Outside: outside}
		} else {
			s.Key.Src, s.Key.Dst, s.Outside = uint32(tuple.Inside[0]), uint32(tuple.Remote[0]), uint32(outside[0])
		}
		headers.Decide(id, s)
		if is6 {
			headers.Outbound6(out, s)
			headers.Inbound6(back, s)
		} else {
			headers.Outbound4(out, s)
			headers.Inbound4(back, s)
		}
		pkttest.Check(t, out.B, pkttest.Src(a.outside+":1024"), pkttest.Dst(a.remote+":53"), pkttest.ChecksumsOK())
		pkttest.Check(t, back.B, pkttest.Src(a.remote+":53"), pkttest.Dst(a.inside+":5000"), pkttest.ChecksumsOK())
	}
}
