package snat_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// telling is carrying, with errors made for problems and protocols.
func telling(change ...func(*snat.Config)) snat.Config {
	return carrying(append([]func(*snat.Config){func(c *snat.Config) {
		c.ICMP.Problems, c.ICMP.ProtocolUnreachable, c.ICMP.ErrorBurst = true, true, 1000
	}}, change...)...)
}

// problems are malformed IPv6 packets, made for two addresses, with the reason for
// which they are dropped and the code and pointer that the sender is told.
var problems = map[string]struct {
	make    func(src, dst string) []byte
	reason  flow.Reason
	code    uint8
	pointer uint32
}{
	"M14 first fragment, length not of 8": {func(src, dst string) []byte {
		return piece6(src, dst, 17, 0, true, 33)
	}, flow.ReasonFragLength, 0, 4},
	"M14 other fragment, length not of 8": {func(src, dst string) []byte {
		return piece6(src, dst, 17, 64, true, 33)
	}, flow.ReasonFragLength, 0, 4},
	"M15 beyond 65,535": {func(src, dst string) []byte {
		return piece6(src, dst, 17, 65528, false, 64)
	}, flow.ReasonFragOverflow, 0, 42},
	"M17 headers missing": {func(src, dst string) []byte {
		return piece6(src, dst, 6, 0, true, 16)
	}, flow.ReasonFragTiny, 3, 0},
	"M17 extension header cut": {func(src, dst string) []byte {
		pkt := piece6(src, dst, 60, 0, true, 16)
		pkt[48], pkt[49] = 17, 9
		return pkt
	}, flow.ReasonFragTiny, 3, 0},
	"M68 routing header": {func(src, dst string) []byte {
		return pkttest.UDP(socket(src, 9), socket(dst, 9), "x", pkttest.Extension(43, 0, 1, 0, 0, 0, 0))
	}, flow.ReasonRoutingHeader, 0, 42},
	"M68 behind another": {func(src, dst string) []byte {
		return pkttest.UDP(socket(src, 9), socket(dst, 9), "x", pkttest.Extension(43, 4, 2, 0, 0, 0, 0), pkttest.Extension(60, 1, 4, 0, 0, 0, 0))
	}, flow.ReasonRoutingHeader, 0, 50},
	"E6 option 10": {func(src, dst string) []byte {
		return pkttest.UDP(socket(src, 9), socket(dst, 9), "x", pkttest.Extension(0, 0, 1, 0, 0x9e, 1, 0))
	}, flow.ReasonHopOption, 2, 45},
	"E6 option 11": {func(src, dst string) []byte {
		return pkttest.UDP(socket(src, 9), socket(dst, 9), "x", pkttest.Extension(0, 5, 2, 0, 0, 0xde, 0))
	}, flow.ReasonHopOption, 2, 46},
}

// piece6 is an IPv6 fragment with size bytes of payload.
func piece6(src, dst string, proto uint8, offset int, more bool, size int) []byte {
	word := uint16(offset)
	if more {
		word |= 1
	}
	header := append([]byte{proto, 0}, binary.BigEndian.AppendUint16(nil, word)...)
	return pkttest.IP(src, dst, 44, append(header, append([]byte{0, 0, 0, 7}, strings.Repeat("p", size)...)...))
}

// The sender of a malformed IPv6 packet is told what is wrong with it, on either
// side, with or without fragments, and nobody who may not be answered.
func TestNAT_G6_ProblemsTold(t *testing.T) {
	for name, p := range problems {
		t.Run(name, func(t *testing.T) {
			r := realms[1]
			for _, mode := range []snat.FragmentMode{snat.FragmentsDropped, snat.FragmentsVirtual} {
				b := newBed(t, telling(func(c *snat.Config) { c.Fragments.Mode = mode }))
				sent, came := p.make(r.a, r.s), p.make(r.s, r.f)
				b.drops(flow.Inside, clone(sent), p.reason)
				b.made(flow.Inside, pkttest.ICMP(r.f, r.a, 4, p.code, p.pointer, sent))
				b.drops(flow.Outside, clone(came), p.reason)
				b.made(flow.Outside, pkttest.ICMP(r.f, r.s, 4, p.code, p.pointer, came))
				verdicts := make([]flow.Verdict, 2)
				b.OutboundBatch(0, [][]byte{clone(sent), clone(sent)}, verdicts)
				b.at(0)
				require.Len(t, b.emitted, 2)
				b.emitted = nil
				for _, pkt := range [][]byte{
					p.make("fd99::1", r.s), // whoever that is
					p.make(r.a, "ff02::5"), // to many hosts
					p.make("::1", r.s),     // from nobody
					p.make(r.f, r.s),       // it says that it is us
					p.make(r.a, r.a),       // to itself
				} {
					b.drops(flow.Inside, pkt, p.reason)
				}
				b.drops(flow.Outside, p.make(r.s, "2001:db8:f::99"), p.reason) // not ours
				b.drops(flow.Outside, p.make("ff02::5", r.f), p.reason)
				b.drops(flow.Outside, p.make("fd00::9", r.f), p.reason)
				b.made(flow.Inside)
			}
			b := newBed(t, telling(func(c *snat.Config) { c.ICMP.Problems = false }))
			b.drops(flow.Inside, p.make(r.a, r.s), p.reason)
			b.made(flow.Inside)
			assert.Zero(t, b.Stats().ICMPErrors)
		})
	}
}

// An error about a malformed error is never made, nor one about what sees to it
// itself or is nobody's fault.
func TestNAT_Q13_NoProblemTold(t *testing.T) {
	r := realms[1]
	b := newBed(t, telling())
	about := pkttest.UDP(socket(r.s, 9), socket(r.a, 9), "x")
	routing := pkttest.Extension(43, 0, 1, 0, 0, 0, 0)
	b.drops(flow.Inside, pkttest.ICMP(r.a, r.s, r.unreachable, 0, 0, about, routing), flow.ReasonRoutingHeader)
	b.drops(flow.Inside, pkttest.ICMP(r.a, r.s, 137, 0, 0, about, routing), flow.ReasonRoutingHeader)
	b.drops(flow.Inside, piece6(r.a, r.s, 58, 0, true, 0), flow.ReasonFragEmpty)
	tiny := pkttest.IP(r.a, r.s, 44, []byte{60, 0, 0, 1, 0, 0, 0, 7, 58, 0, 0, 0, 0, 0, 0, 0})
	b.drops(flow.Inside, tiny, flow.ReasonFragTiny) // of what type is it?
	b.drops(flow.Inside, pkttest.UDP(socket(r.a, 9), socket(r.s, 9), "x", pkttest.Extension(0, 0x5e, 4, 0, 0, 0, 0)), flow.ReasonHopOption)
	b.made(flow.Inside)
	query := pkttest.ICMP(r.a, r.s, r.echo, 0, 1, nil, routing)
	b.drops(flow.Inside, clone(query), flow.ReasonRoutingHeader)
	b.made(flow.Inside, pkttest.ICMP(r.f, r.a, 4, 0, 42, query))
}

// M67 is not answered: RFC 8504 leaves limits to whoever has them.
func TestNAT_M67_ExtensionHeadersNotTold(t *testing.T) {
	r := realms[1]
	b := newBed(t, telling(func(c *snat.Config) { c.Fragments.Mode = snat.FragmentsVirtual }))
	dest := pkttest.Extension(60, 1, 4, 0, 0, 0, 0)
	late := pkttest.UDP(socket(r.a, 9), socket(r.s, 9), "x", pkttest.Extension(0, 1, 4, 0, 0, 0, 0), dest)
	b.drops(flow.Inside, late, flow.ReasonExtOrder)
	var many []pkttest.Field
	for range 9 {
		many = append(many, dest)
	}
	b.drops(flow.Inside, pkttest.UDP(socket(r.a, 9), socket(r.s, 9), "x", many...), flow.ReasonExtLimit)
	over := pkttest.UDP(socket(r.a, 9), socket(r.s, 9), "x", dest)
	over[41] = 200
	b.drops(flow.Inside, over, flow.ReasonExtLength)
	nested := pkttest.IP(r.a, r.s, 44, append([]byte{44, 0, 0, 1, 0, 0, 0, 7, 17, 0, 0, 1, 0, 0, 0, 8}, make([]byte, 16)...))
	b.drops(flow.Inside, nested, flow.ReasonExtOrder)
	b.made(flow.Inside)
}

// M27: a link-local address does not cross, and over IPv6 its sender is told so.
func TestNAT_M27_BeyondScope(t *testing.T) {
	r := realms[1]
	b := newBed(t, telling())
	sent, came := pkttest.UDP(socket(r.a, 9), "[fe80::1]:9", "x"), pkttest.UDP("[fe80::1]:9", socket(r.f, firstPort), "x")
	b.drops(flow.Inside, clone(sent), flow.ReasonLinkLocal)
	b.made(flow.Inside, pkttest.ICMP(r.f, r.a, 1, 2, 0, sent))
	b.drops(flow.Outside, clone(came), flow.ReasonLinkLocal)
	b.made(flow.Outside, pkttest.ICMP(r.f, "fe80::1", 1, 2, 0, came))
	b.drops(flow.Inside, pkttest.UDP(socket(vmA, 9), "169.254.1.1:9", "x"), flow.ReasonLinkLocal)
	b.drops(flow.Outside, pkttest.UDP("169.254.1.1:9", socket(frontend, firstPort), "x"), flow.ReasonLinkLocal)
	b.made(flow.Inside)
}

// M33: other protocols, where it is asked for.
func TestNAT_M33_ProtocolUnreachable(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		code := uint8(2)
		if r.name == "v6" {
			code = 4
		}
		b := newBed(t, telling())
		for _, proto := range []uint8{4, 41, 47, 50, 51, 132, 136, 253, 255} {
			sent := pkttest.IP(r.a, r.s, proto, []byte("payload of it"))
			came := pkttest.IP(r.s, r.f, proto, []byte("payload of it"))
			b.drops(flow.Inside, clone(sent), flow.ReasonUnsupportedProto)
			b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.unreachable, code, 0, sent))
			b.drops(flow.Outside, clone(came), flow.ReasonUnsupportedProto)
			b.made(flow.Outside, pkttest.ICMP(r.f, r.s, r.unreachable, code, 0, came))
		}
		for i, f := range pkttest.Fragments(pkttest.IP(r.a, r.s, 47, make([]byte, 64)), 32, 9) {
			if i > 0 {
				b.drops(flow.Inside, f, flow.ReasonUnsupportedProto)
			}
		}
		b.made(flow.Inside)
		b = newBed(t, telling(func(c *snat.Config) { c.ICMP.ProtocolUnreachable = false }))
		b.drops(flow.Inside, pkttest.IP(r.a, r.s, 47, []byte("payload of it")), flow.ReasonUnsupportedProto)
		b.made(flow.Inside)
	})
}

// I9: a side may be told nothing; the other is told as before.
func TestNAT_I9_SilentSides(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for side := range 4 {
			inside, outside := side&1 != 0, side&2 != 0
			b := newBed(t, telling(func(c *snat.Config) {
				c.ICMP.TTL, c.ICMP.MTU, c.ICMP.Refusals = snat.TTLRouter, 1400, snat.RefuseProhibited
				c.ICMP.SilentInside, c.ICMP.SilentOutside = inside, outside
			}))
			require.Equal(t, flow.Forward, b.Outbound(0, pkttest.UDP(socket(r.a, 9), socket(r.s, 9), "x")).Action)
			long := strings.Repeat("x", 1400)
			b.drops(flow.Inside, pkttest.UDP(socket(r.a, 9), socket(r.s, 9), "x", pkttest.TTL(1)), flow.ReasonTTL)
			b.drops(flow.Inside, pkttest.UDP(socket(r.a, 9), socket(r.s, 9), long), flow.ReasonTooBig)
			b.drops(flow.Inside, pkttest.IP(r.a, r.s, 47, []byte("payload of it")), flow.ReasonUnsupportedProto)
			b.drops(flow.Outside, pkttest.UDP(socket(r.s, 9), socket(r.f, firstPort), "x", pkttest.TTL(1)), flow.ReasonTTL)
			b.drops(flow.Outside, pkttest.UDP(socket(r.s, 9), socket(r.f, firstPort), long), flow.ReasonTooBig)
			b.drops(flow.Outside, pkttest.IP(r.s, r.f, 47, []byte("payload of it")), flow.ReasonUnsupportedProto)
			b.at(0)
			made := [2]int{}
			for _, e := range b.emitted {
				made[e.To]++
			}
			want := [2]int{3, 3}
			if inside {
				want[flow.Inside] = 0
			}
			if outside {
				want[flow.Outside] = 0
			}
			assert.Equal(t, want, made)
			assert.Equal(t, uint64(made[0]+made[1]), b.Stats().ICMPErrors)
			assert.Zero(t, b.Stats().ICMPErrorsSuppressed)
		}
	})
}

// The rate holds for all kinds of errors together.
func TestNAT_I10f_ProblemsAreLimited(t *testing.T) {
	r := realms[1]
	b := newBed(t, telling(func(c *snat.Config) { c.ICMP.ErrorBurst = 5 }))
	for _, p := range problems {
		b.drops(flow.Inside, p.make(r.a, r.s), p.reason)
	}
	b.at(0)
	assert.Len(t, b.emitted, 5)
	assert.Equal(t, uint64(len(problems)-5), b.Stats().ICMPErrorsSuppressed)
}
