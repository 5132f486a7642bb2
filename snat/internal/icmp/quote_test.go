package icmp_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// Other addresses, as [wire.Packet.Addrs] returns them.
var others = [2][2]uint64{{0xcb007109}, {0x20010db800990000, 7}}

// about is an error from a remote router about a packet, of which it quotes n bytes.
func about(family int, pkt []byte, n int) []byte {
	to := hosts[family]
	return pkttest.ICMP(remotes[family], to, [2]uint8{11, 3}[family], 0, 0, pkt[:n])
}

// sent are packets of a host that can be quoted, by family.
func sent(family int) map[string][]byte {
	src, dst := sockets[family], peers[family]
	return map[string][]byte{
		"TCP":         pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(7)),
		"UDP":         pkttest.UDP(src, dst, "hello"),
		"bad UDP":     pkttest.UDP(src, dst, "hello", pkttest.BadChecksum()),
		"query":       pkttest.ICMPEcho(hosts[family], remotes[family], 40000, 1),
		"zero query":  pkttest.ICMPEcho(hosts[family], remotes[family], 0, 0),
		"empty UDP":   pkttest.UDP(src, dst, ""),
		"TCP options": pkttest.TCP(src, dst, pkttest.SYN, pkttest.MSS(1460), pkttest.WScale(7)),
	}
}

// What a quote says is what the packet says, however much is there; after translation
// it says what it is to say, the error is right, and nothing else has changed. The way
// back gives the same bytes.
func TestTranslate(t *testing.T) {
	var rules icmp.Rules
	for family := range 2 {
		for name, pkt := range sent(family) {
			t.Run(name, func(t *testing.T) {
				p := parse(t, pkt)
				src, dst := p.Addrs()
				header := int(p.L4)
				for n := header + 8; n <= len(pkt); n++ {
					if n == header+17 && p.Proto == wire.ProtoTCP {
						continue // half a checksum, which stays
					}
					was := about(family, pkt, n)
					b := slices.Clone(was)
					m := parse(t, b)
					q, reason := rules.Receive(m, flow.Outside)
					require.Equal(t, flow.ReasonNone, reason)
					require.Equal(t, [2][2]uint64{src, dst}, [2][2]uint64{q.Src, q.Dst})
					require.Equal(t, p.Proto, q.Proto)
					port := q.SrcPort
					q.Translate(m, flow.Outside, others[family], 77)
					after := parse(t, b)
					require.True(t, wire.VerifyL4(after))
					_, to := after.Addrs()
					require.Equal(t, others[family], to)
					again, reason := rules.Receive(after, flow.Outside)
					require.Equal(t, flow.ReasonNone, reason)
					require.Equal(t, others[family], again.Src)
					require.Equal(t, uint16(77), again.SrcPort)
					require.Equal(t, [2]any{q.Dst, q.DstPort}, [2]any{again.Dst, again.DstPort})
					again.Translate(after, flow.Outside, src, port)
					require.Empty(t, pkttest.Diff(was, b), "%s of %d bytes", name, n)
				}
			})
		}
	}
}

// A fragment with an offset is named by its identification.
func TestTranslateFragment(t *testing.T) {
	var rules icmp.Rules
	four := pkttest.IP(hosts[0], remotes[0], wire.ProtoUDP, make([]byte, 16), pkttest.ID(0xbeef), pkttest.DF(false))
	wire.IPv4(four).SetFragment(0, 1480)
	wire.IPv4(four).ComputeChecksum()
	six := pkttest.IP(hosts[1], remotes[1], 44, append([]byte{wire.ProtoUDP, 0, 0x05, 0xc8, 0, 0, 0xbe, 0xef}, make([]byte, 8)...))
	for family, pkt := range [2][]byte{four, six} {
		was := about(family, pkt, len(pkt))
		b := slices.Clone(was)
		p := parse(t, b)
		q, reason := rules.Receive(p, flow.Outside)
		require.Equal(t, flow.ReasonICMPInnerFragment, reason)
		assert.Equal(t, uint32(0xbeef), q.FragmentID())
		src := q.Src
		q.TranslateFragment(p, flow.Outside, others[family], 0x1234)
		after := parse(t, b)
		assert.True(t, wire.VerifyL4(after))
		q, reason = rules.Receive(after, flow.Outside)
		require.Equal(t, flow.ReasonICMPInnerFragment, reason, "so the quoted header is right")
		assert.Equal(t, uint32(0x1234), q.FragmentID())
		assert.Equal(t, others[family], q.Src)
		q.TranslateFragment(after, flow.Outside, src, 0xbeef)
		assert.Empty(t, pkttest.Diff(was, b))
	}
}

// A query and its answer get another address and identifier, and stay right.
func TestRewriteQuery(t *testing.T) {
	for family := range 2 {
		for side, p := range map[flow.Side]*wire.Packet{
			flow.Inside:  parse(t, pkttest.ICMPEcho(hosts[family], remotes[family], 7, 1)),
			flow.Outside: parse(t, pkttest.ICMPEchoReply(remotes[family], hosts[family], 7, 1)),
		} {
			icmp.RewriteQuery(p, side, others[family], 99)
			src, dst := p.Addrs()
			if side == flow.Inside {
				assert.Equal(t, others[family], src)
			} else {
				assert.Equal(t, others[family], dst)
			}
			assert.Equal(t, uint16(99), p.ICMPv4().ID())
			assert.True(t, wire.VerifyL4(parse(t, p.B)))
		}
	}
}

// Whatever an error quotes, nothing panics; what is translated is right and says what it
// is to say; an exchange of addresses either does all or nothing.
func FuzzReceive(f *testing.F) {
	for family := range 2 {
		for _, pkt := range sent(family) {
			f.Add(about(family, pkt, len(pkt)), false)
			f.Add(about(family, pkt, min(len(pkt), 50)), true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		from := flow.Outside
		if inside {
			from = flow.Inside
		}
		var p wire.Packet
		if wire.Parse(b, &p) != wire.OK || p.Flags&wire.Fragmented != 0 || !wire.IsICMP(p.Proto) {
			return
		}
		pkttest.FixChecksums(p.B)
		rules := icmp.Rules{Errors: true, SourceQuench: true, LenientQuotes: len(b)%2 == 0}
		family := int(p.Family())
		if icmp.Quotes(&p) {
			exchange(t, &p, from, others[family])
		}
		if !rules.IsError(&p) {
			return
		}
		q, reason := rules.Receive(&p, from)
		switch reason {
		case flow.ReasonICMPInnerFragment:
			q.FragmentID()
			q.TranslateFragment(&p, from, others[family], 77)
		case flow.ReasonNone:
			q.Translate(&p, from, others[family], 77)
			again, reason := rules.Read(&p, from)
			addr, port := again.Src, again.SrcPort
			if from == flow.Inside {
				addr, port = again.Dst, again.DstPort
			}
			if reason != flow.ReasonNone || addr != others[family] || port != 77 {
				t.Fatalf("%v: %x %d", reason, addr, port)
			}
		default:
			return
		}
		if !wire.VerifyL4(&p) {
			t.Fatalf("wrong after translation: %x", p.B)
		}
	})
}

// exchange exchanges the address that an error from a side has in a copy of p.
func exchange(t *testing.T, p *wire.Packet, from flow.Side, addr [2]uint64) {
	var c wire.Packet
	wire.Parse(slices.Clone(p.B), &c)
	old, dst := c.Addrs()
	if from == flow.Outside {
		old = dst
	}
	if icmp.Exchange(&c, from, old, addr) != flow.ReasonNone {
		if diff := pkttest.Diff(p.B, c.B); diff != nil {
			t.Fatalf("refused, and changed at %v", diff)
		}
		return
	}
	if !wire.VerifyL4(&c) {
		t.Fatalf("wrong after an exchange: %x", c.B)
	}
}
