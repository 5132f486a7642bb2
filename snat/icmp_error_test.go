package snat_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// errors are the translated types and codes of a family, with a second word.
func (r realm) errors() [][3]uint32 {
	if r.name == "v4" {
		return [][3]uint32{{3, 0, 0}, {3, 1, 0}, {3, 2, 0}, {3, 3, 0}, {3, 4, 1400}, {3, 4, 0}, {3, 13, 0}, {11, 0, 0}, {11, 1, 0}, {12, 0, 9 << 24}}
	}
	return [][3]uint32{{1, 0, 0}, {1, 1, 0}, {1, 4, 0}, {2, 0, 1280}, {2, 0, 0}, {3, 0, 0}, {3, 1, 0}, {4, 0, 40}, {4, 1, 6}, {4, 2, 40}}
}

// eachConversation opens a conversation of A to S by TCP, by UDP and by a query,
// and passes what A sent, what left, what came and what was delivered.
func eachConversation(t *testing.T, f func(t *testing.T, r realm, b *bed, sent, left, came, delivered []byte)) {
	eachRealm(t, func(t *testing.T, r realm) {
		for proto, packet := range r.conversations() {
			t.Run(proto, func(t *testing.T) {
				b := newBed(t, carrying())
				sent := packet(r.a, 40000, r.s)
				left := clone(sent)
				require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
				came := r.answer(proto, r.s, r.f, firstPort)
				delivered := clone(came)
				require.Equal(t, flow.Forward, b.Inbound(0, delivered).Action)
				f(t, r, b, sent, left, came, delivered)
			})
		}
	})
}

// halfChecksum reports whether a quote ends within the checksum of TCP, which can
// then not be kept true and stays.
func halfChecksum(r realm, pkt []byte, n int) bool {
	return (pkt[6] == protoTCP || pkt[9] == protoTCP) && n == r.header+17
}

// report is an ICMP error that quotes the first n bytes of a packet.
func report(e [3]uint32, src, dst string, quote []byte, n int) []byte {
	return pkttest.ICMP(src, dst, uint8(e[0]), uint8(e[1]), e[2], quote[:n])
}

// An error from the outside reaches the host as if there were no translator, by
// whatever router it is sent and however much it quotes; so does one from the
// inside. What the one direction does to a quote the other undoes.
func TestNAT_I4_ErrorsFromOutside(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, sent, left, _, _ []byte) {
		for _, e := range r.errors() {
			for n := r.header + 8; n <= len(sent); n++ {
				if halfChecksum(r, sent, n) {
					continue
				}
				for _, from := range []string{r.rx, r.s, r.q} { // U12a
					b.forwards(flow.Outside, report(e, from, r.f, left, n), report(e, from, r.a, sent, n))
				}
			}
		}
	})
}

func TestNAT_I5_ErrorsFromInside(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, _, came, delivered []byte) {
		for _, e := range r.errors() {
			for n := r.header + 8; n <= len(came); n++ {
				if halfChecksum(r, came, n) {
					continue
				}
				b.forwards(flow.Inside, report(e, r.a, r.s, delivered, n), report(e, r.f, r.s, came, n))
			}
		}
	})
}

func TestNAT_I5c_ErrorsOfInsideRouters(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, _, came, delivered []byte) {
		e := [3]uint32{uint32(r.exceeded)}
		for _, from := range []string{r.ry, r.b} {
			b.forwards(flow.Inside, report(e, from, r.s, delivered, len(came)), report(e, r.f, r.s, came, len(came)))
		}
		// It tells nobody but the sender of what it quotes.
		b.drops(flow.Inside, report(e, r.a, r.q, delivered, len(came)), flow.ReasonICMPNoFlow)
	})
}

func TestNAT_T9_DestinationUnreachableForTCP(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.TCP(socket(r.a, 40000), socket(r.s, 443), pkttest.SYN)
		left := clone(sent)
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		e := [3]uint32{uint32(r.tooBig), uint32(r.tooBigCode), 1400}
		b.forwards(flow.Outside, report(e, r.rx, r.f, left, r.header+8), report(e, r.rx, r.a, sent, r.header+8))
	})
}

// No error creates, refreshes or ends a session.
func TestNAT_I6_ErrorsDoNotRefresh(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, sent, left, _, delivered []byte) {
		expire := func(errors bool) (last time.Duration) {
			b := newBed(t, carrying())
			require.Equal(t, flow.Forward, b.Outbound(0, clone(sent)).Action)
			for s := time.Duration(0); b.Stats().SessionsActive > 0; s += time.Second {
				if b.at(s); errors {
					for _, e := range r.errors() {
						b.in(report(e, r.rx, r.f, left, len(left)))
						b.out(report(e, r.a, r.s, delivered, len(delivered)))
					}
				}
				last = s
			}
			return last
		}
		assert.Equal(t, expire(false), expire(true))
		e := [3]uint32{uint32(r.unreachable)}
		b.lazily(time.Hour) // over, though nothing has ended it
		b.drops(flow.Outside, report(e, r.rx, r.f, left, len(left)), flow.ReasonICMPNoFlow)
		b.drops(flow.Inside, report(e, r.a, r.s, delivered, len(delivered)), flow.ReasonICMPNoFlow)
		assert.Equal(t, 1, b.Stats().SessionsActive)
	})
}

func TestNAT_U12_NoErrorRemovesMapping(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")
		left := clone(sent)
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		for typ := range 256 {
			for code := range 16 {
				b.Inbound(0, report([3]uint32{uint32(typ), uint32(code)}, r.rx, r.f, left, len(left)))
			}
		}
		require.Equal(t, socket(r.f, firstPort), b.opens("udp", socket(r.a, 1000), socket(r.s, 53)))
		require.Equal(t, 1, b.Stats().SessionsActive)
		b.at(4*time.Minute - flow.Tick)
		require.Equal(t, 1, b.Stats().SessionsActive)
		b.at(4 * time.Minute)
		require.Zero(t, b.Stats().SessionsActive)
	})
}

func TestNAT_U12a_AnyOuterSource(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")
		left := clone(sent)
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		e := [3]uint32{uint32(r.exceeded)}
		for _, from := range []string{r.s, r.rx, r.q} {
			b.forwards(flow.Outside, report(e, from, r.f, left, len(left)), report(e, from, r.a, sent, len(left)))
		}
		b.drops(flow.Outside, report(e, r.b, r.f, left, len(left)), flow.ReasonMartianSource)
	})
}

// An error changes no state of a connection, in whatever state it is.
func TestNAT_T10_ErrorsNeverEndConnections(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		in, out := socket(r.a, 40000), socket(r.s, 443)
		left := pkttest.TCP(in, out, pkttest.SYN, pkttest.Seq(1000))
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		state := func() (s string) {
			for i := range b.Sessions() {
				s += fmt.Sprint(i)
			}
			return s
		}
		storm := func() {
			before := state()
			for _, e := range r.errors() {
				require.Equal(t, flow.Forward, b.Inbound(0, report(e, r.rx, r.f, left, len(left))).Action)
			}
			require.Equal(t, before, state())
		}
		outside := socket(r.f, firstPort)
		storm()
		require.NotContains(t, b.remotely(out, outside, "SA", 5000, 1001), "drop")
		storm()
		require.NotContains(t, b.locally(in, out, "A", 1001, 5001), "drop")
		storm()
		require.NotContains(t, b.locally(in, out, "FA", 1001, 5001), "drop")
		storm()
	})
}

func TestNAT_M56_BadICMPChecksum(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, left, _, delivered []byte) {
		e := [3]uint32{uint32(r.unreachable)}
		pkt := report(e, r.rx, r.f, left, len(left))
		pkt[len(pkt)-1] ^= 1
		b.drops(flow.Outside, pkt, flow.ReasonICMPChecksum)
		pkt = report(e, r.a, r.s, delivered, len(delivered))
		pkt[len(pkt)-1] ^= 1
		b.drops(flow.Inside, pkt, flow.ReasonICMPChecksum)
	})
}

func TestNAT_M57_ShortQuotes(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, left, _, delivered []byte) {
		e := [3]uint32{uint32(r.unreachable)}
		need := r.header + 8
		if r.name == "v6" && left[6] == protoTCP {
			need = r.header + 4 // Q6: the ports will do
		}
		for n := range need {
			b.drops(flow.Outside, report(e, r.rx, r.f, left, n), flow.ReasonICMPInnerShort)
			b.drops(flow.Inside, report(e, r.a, r.s, delivered, n), flow.ReasonICMPInnerShort)
		}
		require.Equal(t, flow.Forward, b.Inbound(0, report(e, r.rx, r.f, left, need)).Action)
		require.Equal(t, flow.Forward, b.Outbound(0, report(e, r.a, r.s, delivered, need)).Action)
		// The length of RFC 4884 says that there is an extension where the ports are.
		pkt := report(e, r.rx, r.f, left, len(left))
		if r.name == "v4" {
			pkt[r.header+5] = 6
		} else {
			pkt[r.header+4] = 5
		}
		pkttest.FixChecksums(pkt)
		b.drops(flow.Outside, pkt, flow.ReasonICMPInnerShort)
	})
}

func TestNAT_M58_BadInnerHeaders(t *testing.T) {
	r := realms[0]
	b := newBed(t, carrying())
	left := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")
	require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
	for _, c := range []struct {
		what   string
		change func(quote []byte)
		reason flow.Reason
	}{
		{"checksum", func(q []byte) { q[10] ^= 1 }, flow.ReasonICMPInnerChecksum},
		{"header length", func(q []byte) { q[0] = 0x44 }, flow.ReasonICMPInnerBad},
		{"header beyond the quote", func(q []byte) { q[0] = 0x4f }, flow.ReasonICMPInnerShort},
		{"version", func(q []byte) { q[0] = 0x65 }, flow.ReasonICMPInnerBad},
	} {
		q := clone(left)
		c.change(q)
		b.drops(flow.Outside, report([3]uint32{3, 3}, r.rx, r.f, q, len(q)), c.reason)
	}
	six := realms[1]
	q := pkttest.UDP(socket(six.a, 1000), socket(six.s, 53), "hello")
	q[0] = 0x45
	b.drops(flow.Outside, report([3]uint32{1, 4}, six.rx, six.f, q, len(q)), flow.ReasonICMPInnerBad)
	// ICMP of the other family.
	b.drops(flow.Outside, report([3]uint32{1, 4}, six.rx, six.f, pkttest.IP(six.f, six.s, 1, make([]byte, 8)), 48), flow.ReasonICMPInnerBad)
	b.drops(flow.Outside, report([3]uint32{3, 3}, r.rx, r.f, pkttest.IP(r.f, r.s, 58, make([]byte, 8)), 28), flow.ReasonICMPInnerBad)
}

func TestNAT_M59_QuotesOfNoFlow(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, sent, left, came, delivered []byte) {
		e := [3]uint32{uint32(r.unreachable)}
		for _, q := range [][]byte{
			sent, // not what left
			came, // not what F sent
			pkttest.UDP(socket(r.f, firstPort+1), socket(r.s, 53), "x"),
			pkttest.UDP(socket(r.f, firstPort), socket(r.q, 53), "x"),
			pkttest.UDP(socket(r.f, 60000), socket(r.s, 53), "x"),
			pkttest.IP(r.f, r.s, 47, make([]byte, 20)),
			pkttest.IP(r.f, r.s, r.icmpProto, []byte{r.reply, 0, 0, 0, 4, 0, 0, 1}),
		} {
			b.drops(flow.Outside, report(e, r.rx, r.f, q, len(q)), flow.ReasonICMPNoFlow)
		}
		for _, q := range [][]byte{sent, left, came, pkttest.UDP(socket(r.s, 53), socket(r.b, 40000), "x")} {
			b.drops(flow.Inside, report(e, r.a, r.s, q, len(q)), flow.ReasonICMPNoFlow)
		}
		_ = delivered
	})
}

func TestNAT_M60_NestedErrors(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, left, _, delivered []byte) {
		e := [3]uint32{uint32(r.unreachable)}
		nested := report(e, r.f, r.s, left, len(left))
		b.drops(flow.Outside, report(e, r.rx, r.f, nested, len(nested)), flow.ReasonICMPNested)
		nested = report(e, r.s, r.a, delivered, len(delivered))
		b.drops(flow.Inside, report(e, r.a, r.s, nested, len(nested)), flow.ReasonICMPNested)
	})
}

func TestNAT_M61_QuotesOfFragments(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		big := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), string(make([]byte, 64)))
		require.Equal(t, flow.Forward, b.Outbound(0, clone(big)).Action)
		sent := pkttest.Fragments(big, 32, 9)
		left := pkttest.Fragments(pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), string(make([]byte, 64))), 32, 9)
		e := [3]uint32{uint32(r.exceeded), 1}
		b.forwards(flow.Outside, report(e, r.rx, r.f, left[0], len(left[0])), report(e, r.rx, r.a, sent[0], len(left[0])))
		b.drops(flow.Outside, report(e, r.rx, r.f, left[1], len(left[1])), flow.ReasonICMPInnerFragment)
	})
}

// Inner options and extension headers are stepped over and stay.
func TestNAT_I3b_InnerOptions(t *testing.T) {
	for _, c := range []struct {
		r     realm
		field pkttest.Field
	}{
		{realms[0], pkttest.IPOptions(7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)},
		{realms[1], pkttest.Extension(60, 1, 4, 0, 0, 0, 0)},
		{realms[1], pkttest.Extension(0, 5, 2, 0, 0, 1, 0)},
		{realms[1], pkttest.Extension(44, 0, 0, 0, 0, 0, 9)}, // an atomic fragment
	} {
		b, r := newBed(t, carrying()), c.r
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello", c.field)
		left := clone(sent)
		v := b.Outbound(0, left)
		require.Equal(t, flow.Forward, v.Action, v.Reason)
		e := [3]uint32{uint32(r.unreachable)}
		b.forwards(flow.Outside, report(e, r.rx, r.f, left, len(left)), report(e, r.rx, r.a, sent, len(left)))
		for n := range len(left) - 5 {
			b.drops(flow.Outside, report(e, r.rx, r.f, left, n), flow.ReasonICMPInnerShort)
		}
	}
}

// I10b: an error that shows a source route does not leave.
func TestNAT_I10b_SourceRoutes(t *testing.T) {
	r, b := realms[0], newBed(t, carrying())
	require.Equal(t, flow.Forward, b.Outbound(0, pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")).Action)
	routed := pkttest.UDP(socket(r.s, 53), socket(r.a, 1000), "hello", pkttest.IPOptions(131, 7, 4, 10, 0, 0, 1, 0))
	b.drops(flow.Inside, report([3]uint32{3, 3}, r.a, r.s, routed, len(routed)), flow.ReasonSourceRoute)
	broken := pkttest.UDP(socket(r.s, 53), socket(r.a, 1000), "hello", pkttest.IPOptions(7, 0, 0, 0))
	b.drops(flow.Inside, report([3]uint32{3, 3}, r.a, r.s, broken, len(broken)), flow.ReasonSourceRoute)
}

// A wrong inner transport checksum passes, as wrong as it was; a UDP zero stays.
func TestNAT_I3c_InnerTransportChecksum(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, sent, left, _, _ []byte) {
		e := [3]uint32{uint32(r.unreachable)}
		n := len(left)
		left, sent = clone(left), clone(sent)
		left[n-1] ^= 0x40
		sent[n-1] ^= 0x40
		b.forwards(flow.Outside, report(e, r.rx, r.f, left, n), report(e, r.rx, r.a, sent, n))
	})
	r, b := realms[0], newBed(t, carrying())
	sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello", pkttest.NoChecksum())
	left := clone(sent)
	require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
	b.forwards(flow.Outside, report([3]uint32{3, 3}, r.rx, r.f, left, len(left)), report([3]uint32{3, 3}, r.rx, r.a, sent, len(left)))
}

// Padding and extensions of RFC 4884 are copied as they are.
func TestNAT_I3d_Extensions(t *testing.T) {
	extension := unhex("2000000000080101000c8101") // with an MPLS label stack; its checksum is its own
	eachConversation(t, func(t *testing.T, r realm, b *bed, sent, left, _, _ []byte) {
		padded := func(quote []byte) []byte {
			return append(append(clone(quote), make([]byte, 128-len(quote))...), extension...)
		}
		words := uint32(128/4) << 16
		if r.name == "v6" {
			words = 128 / 8 << 24
		}
		e := [3]uint32{uint32(r.exceeded), 0, words}
		b.forwards(flow.Outside, report(e, r.rx, r.f, padded(left), 128+12), report(e, r.rx, r.a, padded(sent), 128+12))
		// A packet that ends before its transport checksum would be there.
		if n := r.header + 8; r.name == "v4" {
			cut := func(q []byte) []byte {
				q = append(clone(q[:n]), bytes.Repeat([]byte{0xee}, 120)...)
				binary.BigEndian.PutUint16(q[2:], uint16(n))
				fixHeader(q)
				return q
			}
			b.forwards(flow.Outside, report(e, r.rx, r.f, cut(left), n+120), report(e, r.rx, r.a, cut(sent), n+120))
		}
	})
}

// fixHeader makes an IPv4 header checksum true.
func fixHeader(h []byte) {
	h[10], h[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
}

// PMTU values pass unchanged, those that cannot be are counted.
func TestNAT_Q11_PathMTU(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")
		left := clone(sent)
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		for _, mtu := range []uint32{0, 67, 1500} {
			e := [3]uint32{uint32(r.tooBig), uint32(r.tooBigCode), mtu}
			b.forwards(flow.Outside, report(e, r.rx, r.f, left, len(left)), report(e, r.rx, r.a, sent, len(left)))
		}
		assert.Equal(t, uint64(2), b.Stats().OddMTU)
	})
}

// The packets of the worked examples, byte for byte.
func TestNAT_V15_TruncatedTCPQuote(t *testing.T) {
	r, b := realms[0], newBed(t, carrying())
	b.opens("tcp", socket(r.a, 39999), socket(r.s, 443)) // has 1024
	require.Equal(t, socket(r.f, 1025), b.opens("tcp", socket(r.a, 40000), socket(r.s, 443)))
	b.forwards(flow.Outside,
		unhex("45000038000100003c0180b8c0000201cb00710a0304ad6100000578450005dc222240003906b3b4cb00710ac6336407040101bb11223344"),
		unhex("45000038000100003c01b2bfc00002010a0000040304152200000578450005dc222240003906e5bb0a000004c63364079c4001bb11223344"))
}

func TestNAT_V16_FullUDPQuote(t *testing.T) {
	r, b := realms[0], newBed(t, carrying())
	require.Equal(t, socket(r.f, 1024), b.opens("udp", socket(r.a, 4242), socket(r.s, 53)))
	b.forwards(flow.Outside,
		pkttest.IP(r.rx, r.f, 1, unhex("030363610000000045000021333300003911e853cb00710ac633640704000035000d518768656c6c6f")),
		pkttest.IP(r.rx, r.a, 1, unhex("0303315a00000000450000213333000039111a5b0a000004c633640710920035000d76fc68656c6c6f")))
}

func TestNAT_V17_PacketTooBigV6(t *testing.T) {
	r, b := realms[1], newBed(t, carrying())
	require.Equal(t, socket(r.f, 1024), b.opens("udp", socket(r.a, 4242), socket(r.s, 53)))
	b.forwards(flow.Outside,
		pkttest.IP(r.rx, r.f, 58, unhex("02002bc50000050060000000000d113920010db8000f0000000000000000001020010db800050000000000000000000704000035000d5c3068656c6c6f")),
		pkttest.IP(r.rx, r.a, 58, unhex("02005c980000050060000000000d1139fd00000000000000000000000000000420010db800050000000000000000000710920035000d807168656c6c6f")))
}

// What a batch makes of ICMP is what single packets become.
func TestICMPInBatches(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, _ *bed, sent, left, came, delivered []byte) {
		e := [3]uint32{uint32(r.exceeded)}
		out := [][]byte{sent, report(e, r.a, r.s, delivered, len(delivered)), r.ping(r.b, r.s, 0, 1), sent}
		in := [][]byte{came, report(e, r.rx, r.f, left, len(left)), r.pong(r.s, r.f, firstPort, 1), report(e, r.rx, r.f, sent, len(sent))}
		for _, ttl := range []snat.TTLMode{snat.TTLTransparent, snat.TTLRouter} {
			c := carrying(func(c *snat.Config) { c.ICMP.TTL = ttl })
			one, all := newBed(t, c), newBed(t, c)
			for from, pkts := range [][][]byte{out, in} {
				batch, verdicts := [][]byte{}, make([]flow.Verdict, len(pkts))
				for _, p := range pkts {
					batch = append(batch, clone(p))
				}
				if from == int(flow.Inside) {
					all.OutboundBatch(0, batch, verdicts)
				} else {
					all.InboundBatch(0, batch, verdicts)
				}
				for i, p := range pkts {
					p = clone(p)
					require.Equal(t, one.send(flow.Side(from), p), verdicts[i], "%d of side %d", i, from)
					if verdicts[i].Action != flow.Drop {
						require.Equal(t, p, batch[i])
					}
				}
			}
			require.Equal(t, one.Stats(), all.Stats())
		}
	})
}

// FuzzICMP sends errors with quotes of any shape. Nothing panics; of an error that
// is forwarded, only addresses, the port and checksums have changed, its own
// checksum is true, and what lies behind it is as it was.
func FuzzICMP(f *testing.F) {
	seeds := func(r realm) (quotes [][]byte) {
		for proto := range r.conversations() {
			quotes = append(quotes, r.conversations()[proto](r.f, firstPort, r.s), r.answer(proto, r.s, r.a, 40000))
		}
		return quotes
	}
	for i, r := range realms {
		for _, q := range seeds(r) {
			f.Add(i == 1, true, uint8(r.unreachable), uint8(3), uint32(0), q)
			f.Add(i == 1, true, uint8(r.unreachable), uint8(3), uint32(1<<31), r.conversations()["udp"](realms[i].public, 40000, r.s))
			f.Add(i == 1, false, uint8(r.exceeded), uint8(0), uint32(0x00200000), append(q, make([]byte, 90)...))
			f.Add(i == 1, true, uint8(r.echo), uint8(0), uint32(1), q)
			f.Add(i == 1, false, uint8(r.unreachable), uint8(3), uint32(1<<31), q)
		}
	}
	f.Fuzz(func(t *testing.T, v6, outside bool, typ, code uint8, word uint32, quote []byte) {
		if len(quote) > 1400 {
			t.Skip("no error with so long a quote fits the MTU")
		}
		r, f, from := realms[0], realms[0], flow.Inside
		if v6 {
			r, f = realms[1], realms[1]
		}
		c, public := carrying(), word>>31 == 1 // translated 1:1, where no session says what may pass
		if public {
			c, r.f = publicVM(8), f.public
		}
		src, dst := r.a, r.s
		if outside {
			from, src, dst = flow.Outside, r.rx, r.f
		}
		c.Shards = 1
		b := newBed(t, c)
		for _, packet := range r.conversations() {
			require.Equal(t, flow.Forward, b.Outbound(0, packet(r.a, 40000, r.s)).Action)
		}
		if r.name == "v4" && len(quote) >= 20 && quote[0]>>4 == 4 && code&0x80 == 0 {
			quote = clone(quote)
			if quote[0] == 0x45 {
				fixHeader(quote) // else hardly any would pass
			}
		}
		before := pkttest.ICMP(src, dst, typ, code&0x7f, word, quote)
		const guard = 0xa5
		buf := append(clone(before), bytes.Repeat([]byte{guard}, 64)...)
		sessions := b.Stats().SessionsActive
		verdict := b.send(from, buf)
		require.Equal(t, bytes.Repeat([]byte{guard}, 64), buf[len(before):])
		if typ != r.echo && !(typ == 13 && !v6) {
			require.Equal(t, sessions, b.Stats().SessionsActive)
		}
		b.Check()
		after := buf[:len(before)]
		if verdict.Action != flow.Forward {
			require.NotEqual(t, flow.ReasonNone, verdict.Reason)
			return
		}
		pkttest.Check(t, after, pkttest.ChecksumsOK())
		allowed := map[int]bool{r.header + 2: true, r.header + 3: true} // ICMP checksum
		span := func(at, n int) {
			for i := range n {
				allowed[at+i] = true
			}
		}
		size := 4
		if v6 {
			size = 16
		}
		outerSrc, q := r.header-2*size, r.header+8
		span(outerSrc, 2*size)
		if !v6 {
			span(10, 2)
			span(q+10, 2)
		}
		span(r.header+4, 2) // a query's identifier
		span(q+outerSrc, 2*size)
		if public && (typ == r.unreachable || typ == r.exceeded || typ == r.parameter || typ == r.tooBig) {
			at, want := q+outerSrc, r.a
			if !outside {
				at, want = at+size, r.f
			}
			quoted, _ := netip.AddrFromSlice(after[at : at+size])
			require.Equal(t, want, quoted.String(), "the quote has the other address too")
		}
		changed := 0
		for _, i := range pkttest.Diff(before, after) {
			if !allowed[i] {
				require.GreaterOrEqual(t, i, q+r.header)
				changed++
			}
		}
		require.LessOrEqual(t, changed, 4, "a port and a checksum")
	})
}
