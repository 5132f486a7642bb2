package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/stretchr/testify/require"
)

const (
	src4, dst4 = "10.0.0.4:40000", "198.51.100.7:443"
	src6, dst6 = "[fd00::4]:40000", "[2001:db8:5::7]:443"
)

// parse demands that Parse finds the problem want in b, that the fast path and
// the complete parser agree, and that nothing past the slice is read.
func parse(t testing.TB, want Problem, b []byte) Packet {
	t.Helper()
	b = slices.Clip(slices.Clone(b))
	var p, q Packet
	got := Parse(b, &p)
	require.Equal(t, want, got, "%s", pkttest.String(b))
	require.Equal(t, want, parseAny(b, &q))
	require.Equal(t, q, p)
	return p
}

// families runs one case per IP version: build gets a pair of endpoints.
func families(t *testing.T, want Problem, build func(src, dst string) []byte) {
	t.Helper()
	t.Run("v4", func(t *testing.T) { parse(t, want, build(src4, dst4)) })
	t.Run("v6", func(t *testing.T) { parse(t, want, build(src6, dst6)) })
}

// each runs fn for each value as a subtest named after it.
func each[T any](t *testing.T, values []T, fn func(t *testing.T, v T)) {
	t.Helper()
	for _, v := range values {
		t.Run(fmt.Sprint(v), func(t *testing.T) { fn(t, v) })
	}
}

// put stores bytes at an offset of an IPv4 header and makes its checksum true.
func put(b []byte, at int, v ...byte) []byte {
	copy(b[at:at+len(v)], v)
	IPv4(b).ComputeChecksum()
	return b
}

// l4 overwrites bytes from an offset of the upper layer of a packet that has
// neither options nor extension headers.
func l4(b []byte, at int, v ...byte) []byte {
	if b[0]>>4 == 6 {
		at += 40
	} else {
		at += 20
	}
	copy(b[at:at+len(v)], v)
	return b
}

// fragment builds a fragment of upper-layer protocol proto with payload at offset.
func fragment(src, dst string, proto uint8, offset int, more bool, payload []byte) []byte {
	word := uint16(offset)
	if src == src6 {
		if more {
			word |= 1
		}
		return pkttest.IP(src, dst, proto, payload, pkttest.Extension(44, byte(word>>8), byte(word), 0, 0, 0, 9))
	}
	word /= 8
	if more {
		word |= 1 << 13
	}
	return put(pkttest.IP(src, dst, proto, payload), 6, byte(word>>8), byte(word))
}

// segment returns the upper layer of a TCP packet with the fields and 12 bytes of payload.
func segment(fields ...pkttest.Field) []byte {
	return pkttest.TCP(src4, dst4, append(fields, pkttest.ACK, pkttest.Payload("twelve bytes"))...)[20:]
}

func TestParseFillsPacket(t *testing.T) {
	for name, tc := range map[string]struct {
		b     []byte
		l4    uint16
		proto uint8
		flags Flags
	}{
		"v4 TCP":            {pkttest.TCP(src4, dst4, pkttest.SYN), 20, ProtoTCP, 0},
		"v4 UDP":            {pkttest.UDP(src4, dst4, ""), 20, ProtoUDP, 0},
		"v4 ICMP":           {pkttest.ICMPEcho("10.0.0.4", "10.0.0.5", 1, 1), 20, ProtoICMP, 0},
		"v4 options":        {pkttest.UDP(src4, dst4, "", pkttest.IPOptions(148, 4, 0, 0)), 24, ProtoUDP, 0},
		"v4 first fragment": {fragment(src4, dst4, 6, 0, true, segment()), 20, ProtoTCP, Fragmented},
		"v4 last fragment":  {fragment(src4, dst4, 6, 32, false, []byte{1}), 20, ProtoTCP, Fragmented | NonFirst},
		"v6 TCP":            {pkttest.TCP(src6, dst6, pkttest.SYN), 40, ProtoTCP, V6},
		"v6 UDP":            {pkttest.UDP(src6, dst6, ""), 40, ProtoUDP, V6},
		"v6 ICMPv6":         {pkttest.ICMPEcho("fd00::4", "fd00::5", 1, 1), 40, ProtoICMPv6, V6},
		"v6 chain":          {pkttest.UDP(src6, dst6, "", pkttest.Extension(60, 1, 12), pkttest.Extension(0, 1, 4)), 56, ProtoUDP, V6},
		"v6 first fragment": {fragment(src6, dst6, 6, 0, true, segment()), 48, ProtoTCP, V6 | Fragmented},
		"v6 last fragment":  {fragment(src6, dst6, 6, 32, false, []byte{1}), 48, ProtoTCP, V6 | Fragmented | NonFirst},
		"v6 atomic":         {fragment(src6, dst6, 6, 0, false, segment()), 48, ProtoTCP, V6},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, Packet{B: tc.b, L4: tc.l4, Proto: tc.proto, Flags: tc.flags}, parse(t, OK, tc.b))
		})
	}
}

func TestNAT_M1_EmptyOrOneByte(t *testing.T) {
	for _, b := range [][]byte{nil, {}, {0x45}, {0x60}, {0}} {
		parse(t, Short, b)
	}
}

func TestNAT_M2_Version(t *testing.T) {
	each(t, []byte{0, 1, 2, 3, 5, 7, 8, 15}, func(t *testing.T, version byte) {
		families(t, BadVersion, func(src, dst string) []byte {
			b := pkttest.TCP(src, dst, pkttest.SYN)
			b[0] = version<<4 | b[0]&15
			return b
		})
	})
	t.Run("v4 as v6", func(t *testing.T) { // the checksum field is now address, the ID the length
		parse(t, BadLength, pkttest.TCP(src4, dst4, pkttest.SYN, pkttest.ID(21), pkttest.Patch(0, 0x65)))
	})
}

func TestNAT_M3_HeaderCut(t *testing.T) {
	b4, b6 := pkttest.UDP(src4, dst4, "x"), pkttest.UDP(src6, dst6, "x")
	for n := 2; n < 20; n++ {
		parse(t, Short, b4[:n])
	}
	for n := 2; n < 40; n++ {
		parse(t, Short, b6[:n])
	}
}

func TestNAT_M4_HeaderLengthTooSmall(t *testing.T) {
	each(t, []byte{0, 1, 2, 3, 4}, func(t *testing.T, ihl byte) {
		parse(t, BadIHL, pkttest.TCP(src4, dst4, pkttest.SYN, pkttest.Patch(0, 0x40|ihl)))
	})
}

func TestNAT_M5_HeaderPastBuffer(t *testing.T) {
	parse(t, BadIHL, pkttest.UDP(src4, dst4, "", pkttest.Patch(0, 0x48)))
}

func TestNAT_M6_TotalLengthPastBuffer(t *testing.T) {
	b := pkttest.UDP(src4, dst4, "hello")
	for n := 20; n < len(b); n++ {
		parse(t, BadLength, b[:n])
	}
}

func TestNAT_M7_TotalLengthUnderHeader(t *testing.T) {
	each(t, []byte{0, 1, 19}, func(t *testing.T, n byte) {
		parse(t, BadLength, put(pkttest.UDP(src4, dst4, ""), 2, 0, n))
	})
	parse(t, BadLength, put(pkttest.UDP(src4, dst4, "", pkttest.IPOptions(1)), 2, 0, 23))
}

func TestNAT_M8_Trailer(t *testing.T) {
	families(t, OK, func(src, dst string) []byte {
		b := pkttest.TCP(src, dst, pkttest.ACK, pkttest.Payload("x"))
		p := parse(t, OK, append(slices.Clone(b), "padding"...))
		require.Equal(t, b, p.B)
		require.True(t, VerifyL4(&p), "the trailer is not summed")
		return b
	})
}

func TestNAT_M9_HeaderChecksum(t *testing.T) {
	good := pkttest.TCP(src4, dst4, pkttest.SYN, pkttest.TTL(9))
	for bit := 8 * 8; bit < 8*20; bit++ { // TTL, protocol, checksum, addresses
		b := slices.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		parse(t, IPChecksum, b)
	}
	parse(t, IPChecksum, pkttest.UDP(src4, dst4, "", pkttest.IPOptions(1, 1, 1, 1), pkttest.Patch(20, 0)))
}

func TestNAT_M10_HeaderChecksumNegativeZero(t *testing.T) {
	b := unhex("4500001c079340003f1100000a000004c6336407") // V3: canonical 0000
	b = append(b, pkttest.UDP("10.0.0.4:7", "198.51.100.7:7", "")[20:]...)
	parse(t, OK, b)
	b[10], b[11] = 0xff, 0xff
	p := parse(t, OK, b)
	p.IPv4().RewriteSrc(p.IPv4().Src() + 1)
	want := slices.Clone(b)
	want[15]++
	IPv4(want).ComputeChecksum()
	require.Equal(t, want, p.B, "canonical after a rewrite")
}

func TestNAT_M11_NoHops(t *testing.T) {
	for _, ends := range [][2]string{{src4, dst4}, {src6, dst6}} {
		src, dst := ends[0], ends[1]
		for hops := range 256 {
			want := OK
			if hops == 0 {
				want = NoHops
			}
			for _, b := range [][]byte{
				pkttest.UDP(src, dst, "x", pkttest.TTL(uint8(hops))), pkttest.TCP(src, dst, pkttest.SYN, pkttest.TTL(uint8(hops))),
				pkttest.ICMPEcho(src, dst, 1, 2, pkttest.TTL(uint8(hops))),
				pkttest.Fragments(pkttest.UDP(src, dst, strings.Repeat("x", 64), pkttest.TTL(uint8(hops))), 24, 7)[1],
			} {
				p := parse(t, want, b)
				require.Equal(t, b, p.B, "all is filled in")
			}
		}
		b := pkttest.IP(src, dst, 47, make([]byte, 8), pkttest.TTL(0))
		parse(t, NoHops, b)
		require.Equal(t, UnsupportedProto, ParseHopless(b, new(Packet)), "without looking at it")
		parse(t, PortZero, l4(pkttest.UDP(src, dst, "x", pkttest.TTL(0)), 0, 0, 0)) // it is the last check
	}
}

func TestNAT_M12_ReservedFlag(t *testing.T) {
	parse(t, OK, put(pkttest.TCP(src4, dst4, pkttest.SYN), 6, 0x80))
}

func TestNAT_M13_DFAndMF(t *testing.T) {
	p := parse(t, OK, put(pkttest.IP(src4, dst4, 6, segment()), 6, 0x60))
	require.Equal(t, uint8(IPv4DF|IPv4MF), p.IPv4().Flags())
	require.Equal(t, Fragmented, p.Flags)
}

func TestNAT_M14_FragmentNotMultipleOf8(t *testing.T) {
	for n := 25; n < 32; n++ {
		families(t, FragLength, func(src, dst string) []byte {
			return fragment(src, dst, ProtoTCP, 0, true, segment()[:n])
		})
		families(t, FragLength, func(src, dst string) []byte {
			return fragment(src, dst, ProtoTCP, 64, true, segment()[:n])
		})
	}
	families(t, OK, func(src, dst string) []byte { return fragment(src, dst, ProtoTCP, 64, false, segment()[:25]) })
}

func TestNAT_M15_FragmentOverflow(t *testing.T) {
	at := func(offset, n int) func(src, dst string) []byte {
		return func(src, dst string) []byte {
			return fragment(src, dst, ProtoUDP, offset, false, make([]byte, n))
		}
	}
	families(t, FragOverflow, at(65528, 8))
	families(t, OK, at(65504, 11)) // 20 + 65504 + 11 = 65535
	t.Run("v4 total length", func(t *testing.T) { parse(t, FragOverflow, at(65504, 12)(src4, dst4)) })
	t.Run("v6 payload length", func(t *testing.T) {
		parse(t, OK, at(65504, 31)(src6, dst6))
		parse(t, FragOverflow, at(65504, 32)(src6, dst6))
	})
}

func TestNAT_M16_FragmentEmpty(t *testing.T) {
	for _, offset := range []int{0, 8, 64} {
		families(t, FragEmpty, func(src, dst string) []byte { return fragment(src, dst, ProtoUDP, offset, true, nil) })
	}
	families(t, FragEmpty, func(src, dst string) []byte { return fragment(src, dst, ProtoUDP, 64, false, nil) })
}

func TestNAT_M17_FragmentTiny(t *testing.T) {
	tiny := func(proto uint8, payload []byte) {
		t.Helper()
		families(t, FragTiny, func(src, dst string) []byte { return fragment(src, dst, proto, 0, true, payload) })
	}
	tiny(ProtoTCP, segment()[:8])
	tiny(ProtoTCP, segment()[:16])
	tiny(ProtoTCP, segment(pkttest.MSS(1460))[:16])
	tiny(ProtoTCP, segment(pkttest.MSS(1460), pkttest.WScale(7))[:24]) // options cut
	for _, f := range []struct {
		proto    uint8
		src, dst string
	}{{ProtoICMP, src4, dst4}, {ProtoICMPv6, src6, dst6}} {
		parse(t, OK, fragment(f.src, f.dst, f.proto, 0, true, make([]byte, 8)))
	}
	t.Run("v6 extension cut", func(t *testing.T) { // RFC 7112
		chain := append([]byte{ProtoUDP, 1, 1, 12}, make([]byte, 12)...)
		parse(t, FragTiny, fragment(src6, dst6, 60, 0, true, chain[:8]))
		parse(t, FragTiny, fragment(src6, dst6, 60, 0, true, chain))
		for _, proto := range []byte{ProtoTCP, ProtoUDP, ProtoICMPv6} { // all of the chain, nothing behind it
			parse(t, FragTiny, fragment(src6, dst6, 60, 0, true, []byte{proto, 0, 1, 4, 0, 0, 0, 0}))
		}
	})
}

func TestNAT_M18_TCPFragmentAtOffset1(t *testing.T) {
	families(t, FragOffset1, func(src, dst string) []byte { return fragment(src, dst, ProtoTCP, 8, false, []byte("x")) })
	families(t, OK, func(src, dst string) []byte { return fragment(src, dst, ProtoTCP, 16, false, []byte("x")) })
	families(t, OK, func(src, dst string) []byte { return fragment(src, dst, ProtoUDP, 8, false, []byte("x")) })
}

func TestNAT_M21_SourceRoute(t *testing.T) {
	for _, kind := range []byte{131, 137} {
		route := []byte{kind, 7, 4, 192, 0, 2, 1}
		parse(t, SourceRoute, pkttest.UDP(src4, dst4, "", pkttest.IPOptions(route...)))
		parse(t, SourceRoute, pkttest.UDP(src4, dst4, "", pkttest.IPOptions(append([]byte{1, 148, 4, 0, 0}, route...)...)))
		parse(t, OK, pkttest.UDP(src4, dst4, "", pkttest.IPOptions(append([]byte{0}, route...)...))) // padding
	}
}

func TestNAT_M22_OptionLength(t *testing.T) {
	for _, opts := range [][]byte{{7, 0}, {7, 1}, {7, 5, 4, 0}, {1, 1, 1, 7}, {131, 1}, {131, 9, 4, 0}, {7, 255}} {
		parse(t, BadOption, pkttest.UDP(src4, dst4, "", pkttest.IPOptions(opts...)))
	}
}

func TestNAT_M23_HarmlessOptions(t *testing.T) {
	for _, opts := range [][]byte{
		{7, 7, 4, 0, 0, 0, 0, 0},  // Record Route
		{68, 8, 5, 0, 0, 0, 0, 0}, // Timestamp
		{148, 4, 0, 0},            // Router Alert
		{1, 1, 1, 1}, {1, 1, 1, 0}, {0, 0, 0, 0},
		slices.Repeat([]byte{1}, 40),
	} {
		p := parse(t, OK, pkttest.UDP(src4, dst4, "x", pkttest.IPOptions(opts...)))
		require.Equal(t, 20+len(opts), int(p.L4))
		require.True(t, VerifyL4(&p))
	}
}

func TestNAT_M33_UnsupportedProtocol(t *testing.T) {
	each(t, []uint8{2, 47, 50, 51, 59, 132, 136, 253, 255}, func(t *testing.T, proto uint8) {
		families(t, UnsupportedProto, func(src, dst string) []byte {
			b := pkttest.IP(src, dst, proto, make([]byte, 16))
			p := parse(t, UnsupportedProto, b)
			require.Equal(t, b, p.B, "all is filled in")
			require.Equal(t, proto, p.Proto)
			require.Len(t, p.B[p.L4:], 16)
			return b
		})
		families(t, UnsupportedProto, func(src, dst string) []byte { return fragment(src, dst, proto, 8, false, []byte("x")) })
	})
}

func TestNAT_M34_Encapsulated(t *testing.T) {
	for _, proto := range []uint8{4, 41} {
		families(t, UnsupportedProto, func(src, dst string) []byte {
			return pkttest.IP(src, dst, proto, pkttest.UDP(src4, dst4, "x"))
		})
	}
}

func TestNAT_M35_ProtocolOfOtherFamily(t *testing.T) {
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	parse(t, ProtoFamily, pkttest.IP(src4, dst4, ProtoICMPv6, echo))
	parse(t, ProtoFamily, pkttest.IP(src6, dst6, ProtoICMP, echo))
	parse(t, ProtoFamily, fragment(src4, dst4, ProtoICMPv6, 0, true, echo))
	parse(t, ProtoFamily, fragment(src6, dst6, ProtoICMP, 8, false, echo))
	parse(t, ProtoFamily, pkttest.IP(src4, dst4, ProtoICMPv6, echo[:4]))
}

func TestNAT_M36_TCPShort(t *testing.T) {
	for _, n := range []int{1, 4, 19} {
		families(t, TCPShort, func(src, dst string) []byte { return pkttest.IP(src, dst, ProtoTCP, segment()[:n]) })
	}
	t.Run("v4 no segment", func(t *testing.T) { parse(t, TCPShort, pkttest.IP(src4, dst4, ProtoTCP, nil)) })
}

func TestNAT_M37_TCPOffsetTooSmall(t *testing.T) {
	each(t, []byte{0, 1, 2, 3, 4}, func(t *testing.T, offset byte) {
		families(t, TCPOffset, func(src, dst string) []byte {
			return l4(pkttest.TCP(src, dst, pkttest.SYN), 12, offset<<4)
		})
		families(t, TCPOffset, func(src, dst string) []byte {
			return fragment(src, dst, ProtoTCP, 0, true, slices.Concat(segment()[:12], []byte{offset << 4}, segment()[13:]))
		})
	})
}

func TestNAT_M38_TCPOffsetPastSegment(t *testing.T) {
	families(t, TCPOffset, func(src, dst string) []byte { return l4(pkttest.TCP(src, dst, pkttest.SYN), 12, 6<<4) })
	families(t, TCPOffset, func(src, dst string) []byte {
		return append(l4(pkttest.TCP(src, dst, pkttest.SYN), 12, 15<<4), make([]byte, 64)...) // a trailer does not count
	})
}

func TestNAT_M39_TCPChecksumWrong(t *testing.T) {
	families(t, OK, func(src, dst string) []byte {
		b := pkttest.TCP(src, dst, pkttest.RST, pkttest.BadChecksum())
		p := parse(t, OK, b)
		require.False(t, VerifyL4(&p))
		return b
	})
}

func TestNAT_M40_TCPFlags(t *testing.T) {
	legal := map[uint8]bool{}
	for _, f := range []uint8{SYN, RST, ACK, SYN | ACK, FIN | ACK, RST | ACK, RST | FIN | ACK} {
		legal[f] = true
		if f&ACK != 0 {
			legal[f|PSH], legal[f|URG], legal[f|PSH|URG] = true, true, true
		}
	}
	for f := range 256 {
		want := TCPFlags
		if legal[uint8(f)&^(ECE|CWR)] {
			want = OK
		}
		for _, ends := range [][2]string{{src4, dst4}, {src6, dst6}} {
			parse(t, want, l4(pkttest.TCP(ends[0], ends[1]), 13, byte(f)))
		}
		p := segment()
		p[13] = byte(f)
		parse(t, want, fragment(src4, dst4, ProtoTCP, 0, true, p))
	}
	for _, bad := range []string{"", "SF", "SR", "F", "P", "U", "FPU", "SFRPAU", "SFRPAUEC", "EC"} {
		families(t, TCPFlags, func(src, dst string) []byte { return pkttest.TCP(src, dst, pkttest.TCPFlags(bad)) })
	}
}

func TestNAT_M41_UnusualButLegalSYN(t *testing.T) {
	for _, fields := range [][]pkttest.Field{
		{pkttest.SYN, pkttest.Payload("fast open")},
		{pkttest.TCPFlags("SEC")},
	} {
		families(t, OK, func(src, dst string) []byte { return pkttest.TCP(src, dst, fields...) })
	}
	families(t, OK, func(src, dst string) []byte { // AE and reserved bits
		return l4(pkttest.TCP(src, dst, pkttest.SYN), 12, 5<<4|0xf)
	})
}

// withOptions returns a SYN with raw TCP options, whole words.
func withOptions(src, dst string, opts ...byte) []byte {
	b := pkttest.TCP(src, dst, pkttest.SYN, pkttest.Payload(string(opts)))
	return l4(b, 12, byte(5+len(opts)/4)<<4)
}

func TestNAT_M42_TCPOptionsMalformed(t *testing.T) {
	for _, opts := range [][]byte{
		{3, 0, 7, 0}, {3, 1, 7, 0}, {1, 1, 1, 3}, {1, 1, 3, 3}, {2, 9, 5, 180}, {2, 0, 3, 3, 7, 1, 1, 1}, {0, 3, 3, 7}, {3, 4, 7, 7},
	} {
		families(t, OK, func(src, dst string) []byte {
			b := withOptions(src, dst, opts...)
			p := parse(t, OK, b)
			_, ok := p.TCP().WindowScale()
			require.False(t, ok, "% x", opts)
			return b
		})
	}
}

func TestNAT_M43_WindowScale(t *testing.T) {
	for _, tc := range []struct {
		opts []byte
		want uint8
	}{
		{[]byte{3, 3, 0, 0}, 0}, {[]byte{3, 3, 7, 1}, 7}, {[]byte{3, 3, 14, 0}, 14},
		{[]byte{3, 3, 15, 0}, 14}, {[]byte{3, 3, 255, 0}, 14},
		{[]byte{2, 4, 5, 180, 1, 3, 3, 8}, 8},
		{[]byte{3, 3, 9, 2, 0, 0, 0, 0}, 9}, // malformed only behind it
	} {
		p := parse(t, OK, withOptions(src4, dst4, tc.opts...))
		got, ok := p.TCP().WindowScale()
		require.True(t, ok)
		require.Equal(t, tc.want, got, "% x", tc.opts)
	}
	p := parse(t, OK, pkttest.TCP(src4, dst4, pkttest.SYN))
	_, ok := p.TCP().WindowScale()
	require.False(t, ok)
}

func TestNAT_M44_PortZero(t *testing.T) {
	for _, at := range []int{0, 2} {
		families(t, PortZero, func(src, dst string) []byte { return l4(pkttest.TCP(src, dst, pkttest.SYN), at, 0, 0) })
		families(t, PortZero, func(src, dst string) []byte { return l4(pkttest.UDP(src, dst, "x"), at, 0, 0) })
		families(t, PortZero, func(src, dst string) []byte {
			return fragment(src, dst, ProtoUDP, 0, true, slices.Replace(pkttest.UDP(src4, dst4, "8 bytes.")[20:], at, at+2, 0, 0))
		})
	}
}

func TestNAT_M48_UDPShort(t *testing.T) {
	for n := 1; n < 8; n++ {
		families(t, UDPShort, func(src, dst string) []byte { return pkttest.IP(src, dst, ProtoUDP, make([]byte, n)) })
	}
	t.Run("v4 no datagram", func(t *testing.T) { parse(t, UDPShort, pkttest.IP(src4, dst4, ProtoUDP, nil)) })
}

func TestNAT_M49_UDPLengthTooSmall(t *testing.T) {
	for n := byte(0); n < 8; n++ {
		families(t, UDPLength, func(src, dst string) []byte { return l4(pkttest.UDP(src, dst, "x"), 4, 0, n) })
	}
}

func TestNAT_M50_UDPLengthPastPayload(t *testing.T) {
	families(t, UDPLength, func(src, dst string) []byte { return l4(pkttest.UDP(src, dst, "x"), 4, 0, 10) })
	families(t, UDPLength, func(src, dst string) []byte {
		return append(l4(pkttest.UDP(src, dst, "x"), 4, 0, 10), 0) // a trailer does not count
	})
	families(t, OK, func(src, dst string) []byte { // the rest is in later fragments
		return fragment(src, dst, ProtoUDP, 0, true, l4(pkttest.UDP(src4, dst4, "8 bytes."), 4, 9, 9)[20:])
	})
}

func TestNAT_M51_UDPSurplus(t *testing.T) {
	b := surplus(pkttest.UDP(src4, dst4, "x"), 3)
	p := parse(t, OK, b)
	require.Equal(t, b, p.B, "the surplus is kept")
	require.True(t, VerifyL4(&p), "but not summed")
	b = append(pkttest.UDP(src6, dst6, "x"), 1, 2, 3)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	p = parse(t, OK, b)
	require.Equal(t, b, p.B)
	require.True(t, VerifyL4(&p))
}

func TestNAT_M52_UDPv4ChecksumZero(t *testing.T) {
	p := parse(t, OK, pkttest.UDP(src4, dst4, "x", pkttest.NoChecksum()))
	require.True(t, VerifyL4(&p))
	p.UDP().Adjust(p.IPv4().RewriteSrc(f4))
	require.Equal(t, uint16(0), p.UDP().Checksum())
}

func TestNAT_M53_UDPv6ChecksumZero(t *testing.T) {
	b := pkttest.UDP(src6, dst6, "x", pkttest.NoChecksum())
	p := parse(t, UDP6Zero, b)
	require.Equal(t, Packet{B: b, L4: 40, Proto: ProtoUDP, Flags: V6}, p, "all is filled in")
	parse(t, PortZero, l4(b, 0, 0, 0)) // it is the last check
}

func TestNAT_M54_UDPChecksumWrong(t *testing.T) {
	families(t, OK, func(src, dst string) []byte {
		b := pkttest.UDP(src, dst, "x", pkttest.BadChecksum())
		p := parse(t, OK, b)
		require.False(t, VerifyL4(&p))
		return b
	})
}

func TestNAT_M55_ICMPShort(t *testing.T) {
	for n := 1; n < 8; n++ {
		parse(t, ICMPShort, pkttest.IP(src4, dst4, ProtoICMP, make([]byte, n)))
		parse(t, ICMPShort, pkttest.IP(src6, dst6, ProtoICMPv6, make([]byte, n)))
	}
}

func TestNAT_M65_PayloadLengthPastBuffer(t *testing.T) {
	b := pkttest.UDP(src6, dst6, "hello")
	for n := 40; n < len(b); n++ {
		parse(t, BadLength, b[:n])
	}
}

func TestNAT_M66_PayloadLengthZero(t *testing.T) {
	jumbo := []byte{0xc2, 4, 0, 1, 0, 0}
	zero := pkttest.Patch(4, 0, 0)
	parse(t, BadLength, pkttest.UDP(src6, dst6, "x", zero))
	parse(t, BadLength, pkttest.UDP(src6, dst6, "x", pkttest.Extension(0, 5, 2, 0, 0, 1, 0), zero))
	parse(t, Jumbo, pkttest.UDP(src6, dst6, "x", pkttest.Extension(0, jumbo...), zero))
	parse(t, Jumbo, pkttest.UDP(src6, dst6, "x", pkttest.Extension(0, jumbo...)))
	parse(t, BadLength, pkttest.UDP(src6, dst6, "x", pkttest.Extension(0, jumbo...), zero)[:44])
}
