package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// The addresses and ports of the vectors: inside A, outside F, server S.
const (
	a4, f4, s4   = 0x0a000004, 0xcb00710a, 0xc6336407
	aUDP, fUDP   = 4242, 1024
	aTCP, fTCP   = 40000, 1025
	a4Str, s4Str = "10.0.0.4", "198.51.100.7"
)

var (
	a6 = netip.MustParseAddr("fd00::4").As16()
	f6 = netip.MustParseAddr("2001:db8:f::10").As16()
)

// The equations of RFC 1624 as the RFC writes them, on 32-bit sums.
func fold32(s uint32) uint16 {
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}
func eqn2(hc, m, n uint16) uint16 { return fold32(uint32(hc) + uint32(m) + uint32(^n)) }
func eqn3(hc, m, n uint16) uint16 { return ^fold32(uint32(^hc) + uint32(^m) + uint32(n)) }
func eqn4(hc, m, n uint16) uint16 {
	s := int32(hc) - int32(^m) - int32(n)
	for s < 0 {
		s += 0xffff
	}
	return uint16(s)
}

func TestNAT_V1_RFC1624Example(t *testing.T) {
	require.Equal(t, uint16(0xdd2f), ^fold32(0xcd7a+0x5555))
	require.Equal(t, uint16(0x0000), Delta16(0x5555, 0x3285).Apply(0xdd2f))
	require.Equal(t, uint16(0x0000), eqn4(0xdd2f, 0x5555, 0x3285))
	require.Equal(t, uint16(0xffff), eqn2(0xdd2f, 0x5555, 0x3285), "why RFC 1141 is not used")
}

func TestNAT_V2_TTL(t *testing.T) {
	h := IPv4(unhex("4500001c1c4640004011ea4c0a000004c6336407"))
	h.RewriteTTL(63)
	require.Equal(t, unhex("4500001c1c4640003f11eb4c0a000004c6336407"), []byte(h))
}

func TestNAT_V3_TTLWhereRFC1141Fails(t *testing.T) {
	h := IPv4(unhex("4500001c079340004011feff0a000004c6336407"))
	h.RewriteTTL(63)
	require.Equal(t, unhex("4500001c079340003f1100000a000004c6336407"), []byte(h))
	require.Equal(t, uint16(0xffff), Fold(Sum(h, 0)))
	require.Equal(t, uint16(0xffff), eqn2(0xfeff, 0x4011, 0x3f11))
}

func TestNAT_V4_IPv4Source(t *testing.T) {
	h := IPv4(unhex("450000281c4640004006ea4b0a000004c6336407"))
	h.RewriteSrc(f4)
	require.Equal(t, uint16(0xb844), h.Checksum())
	h.RewriteTTL(63)
	require.Equal(t, uint16(0xb944), h.Checksum())
	require.Equal(t, uint16(0xffff), Fold(Sum(h, 0)))
}

func TestNAT_V5_UDPOddPayload(t *testing.T) {
	u := UDP(unhex("10920035000d76fc68656c6c6f"))
	u.Adjust(Delta32(a4, f4))
	u.RewriteSrcPort(fUDP)
	require.Equal(t, unhex("04000035000d518768656c6c6f"), []byte(u))
}

func TestNAT_V6_UDPResultZero(t *testing.T) {
	d := Delta32(a4, f4).Add(Delta16(aUDP, fUDP))
	require.Equal(t, uint16(0), d.Apply(0x2575))
	u := UDP(unhex("10920035000a2575955f"))
	u.Adjust(d)
	require.Equal(t, uint16(0xffff), u.Checksum())
}

func TestNAT_V7_UDPBackFromFFFF(t *testing.T) {
	d := Delta32(a4, f4).Add(Delta16(aUDP, fUDP))
	require.Equal(t, uint16(0x2575), d.Reverse().ApplyUDP(0xffff))
	require.Equal(t, uint16(0x2575), Delta32(f4, a4).Add(Delta16(fUDP, aUDP)).ApplyUDP(0xffff))
}

func TestNAT_V8_UDPZeroStays(t *testing.T) {
	u := UDP(unhex("10920035000d000068656c6c6f"))
	u.Adjust(Delta32(a4, f4))
	u.RewriteSrcPort(fUDP)
	u.RewriteDstPort(54)
	require.Equal(t, unhex("04000036000d000068656c6c6f"), []byte(u))
}

func TestNAT_V9_TCPOptions(t *testing.T) {
	s := TCP(unhex("9c4001bb1122334400000000a002faf0366e0000020405b40402080a000000010000000001030307"))
	s.Adjust(Delta32(a4, f4))
	s.RewriteSrcPort(fTCP)
	require.Equal(t, uint16(0x9ca6), s.Checksum())
	require.Equal(t, uint16(0x9ce2), Delta16(1460, 1400).Apply(s.Checksum()))
	shift, ok := s.WindowScale()
	require.True(t, ok)
	require.Equal(t, uint8(7), shift)
}

func TestNAT_V10_TCPZeroStaysZero(t *testing.T) {
	s := TCP(unhex("9c4001bb000048f0000000005002faf099c70000"))
	s.Adjust(Delta32(a4, f4).Add(Delta16(aTCP, fTCP)))
	require.Equal(t, uint16(0), s.Checksum())
	require.Equal(t, uint16(0xffff), eqn2(eqn2(eqn2(0x99c7, 0x0a00, 0xcb00), 0x0004, 0x710a), aTCP, fTCP))
}

func TestNAT_V11_UDPv6(t *testing.T) {
	u := UDP(unhex("10920035000d807168656c6c6f"))
	u.Adjust(DeltaAddr6(&a6, &f6))
	u.RewriteSrcPort(fUDP)
	require.Equal(t, uint16(0x5c30), u.Checksum())
}

func TestNAT_V11b_UDPv6ResultZero(t *testing.T) {
	d := DeltaAddr6(&a6, &f6).Add(Delta16(aUDP, fUDP))
	require.Equal(t, uint16(0), d.Apply(0x2441))
	require.Equal(t, uint16(0xffff), d.ApplyUDP(0x2441))
}

func TestNAT_V12_TCPv6(t *testing.T) {
	s := TCP(unhex("9c4001bb00000001000000005002faf0ec2b0000"))
	s.Adjust(DeltaAddr6(&a6, &f6))
	s.RewriteSrcPort(fTCP)
	require.Equal(t, uint16(0x5398), s.Checksum())
}

func TestNAT_V13_ICMPEcho(t *testing.T) {
	m := ICMPv4(unhex("080021041234000161626364"))
	m.RewriteID(0x0400)
	require.Equal(t, uint16(0x2f38), m.Checksum())
}

func TestNAT_V14_ICMPv6Echo(t *testing.T) {
	m := ICMPv6(unhex("80007df31234000161626364"))
	m.RewriteID(0x0400)
	m.Adjust(DeltaAddr6(&a6, &f6))
	require.Equal(t, uint16(0x5b54), m.Checksum())
}

// The next three rows are about ICMP quotes, which another package rewrites; here
// is the arithmetic they state.
func TestNAT_V15_TruncatedTCPQuote(t *testing.T) {
	in := unhex("45000038000100003c0180b8c0000201cb00710a0304ad6100000578450005dc222240003906b3b4cb00710ac6336407040101bb11223344")
	out := unhex("45000038000100003c01b2bfc00002010a0000040304152200000578450005dc222240003906e5bb0a000004c63364079c4001bb11223344")
	for _, b := range [][]byte{in, out} {
		p := parse(t, OK, b)
		require.True(t, VerifyL4(&p))
	}
	require.Equal(t, IPv4(out).Checksum(), Delta32(f4, a4).Apply(IPv4(in).Checksum()))
	require.Equal(t, uint16(0xe5bb), Delta32(f4, a4).Apply(0xb3b4), "inner header")
	require.Equal(t, uint16(0x1522), Delta16(fTCP, aTCP).Apply(0xad61), "ICMP: the inner header's changes cancel")
}

func TestNAT_V16_FullUDPQuote(t *testing.T) {
	in := unhex("030363610000000045000021333300003911e853cb00710ac633640704000035000d518768656c6c6f")
	out := unhex("0303315a00000000450000213333000039111a5b0a000004c633640710920035000d76fc68656c6c6f")
	require.Equal(t, uint16(0xffff), Fold(Sum(in, 0)))
	require.Equal(t, uint16(0xffff), Fold(Sum(out, 0)))
	require.Equal(t, uint16(0x315a), Delta32(a4, f4).Apply(0x6361), "as if F replaced A")
}

func TestNAT_V17_FullUDPv6Quote(t *testing.T) {
	in := unhex("02002bc50000050060000000000d113920010db8000f0000000000000000001020010db800050000000000000000000704000035000d5c3068656c6c6f")
	out := unhex("02005c980000050060000000000d1139fd00000000000000000000000000000420010db800050000000000000000000710920035000d807168656c6c6f")
	router := netip.MustParseAddr("2001:db8:9::1").As16()
	require.Equal(t, uint16(0xffff), Fold(Sum(in, PseudoHeader6(router, f6, ProtoICMPv6, uint32(len(in))))))
	require.Equal(t, uint16(0xffff), Fold(Sum(out, PseudoHeader6(router, a6, ProtoICMPv6, uint32(len(out))))))
	require.Equal(t, uint16(0x5c98), DeltaAddr6(&f6, &a6).Apply(0x2bc5), "one substitution in total")
}

func TestNAT_V19_PrefixTranslation(t *testing.T) {
	inside, outside := Checksum(unhex("fd0102030405"), 0), Checksum(unhex("20010db80001"), 0)
	require.Equal(t, []uint16{0xfcf5, 0xd245}, []uint16{inside, outside})
	adjustment := Delta16(^outside, ^inside)
	require.Equal(t, Delta(0xd54f), adjustment)
	require.Equal(t, Delta(0xd550), adjustment.Add(0x0001))
	require.Equal(t, Delta(0x0001), adjustment.Reverse().Add(0xd550))
	require.Equal(t, Delta(0xffff), adjustment.Add(0x2ab0))
}

func TestNAT_V20_NegativeZeroCorner(t *testing.T) {
	require.Equal(t, uint16(0xffff), Delta16(0xffff, 0x0000).Apply(0xffff))
	d := Delta16(0xffff, 0x0000)
	require.Equal(t, uint16(0x0000), d.ApplyIPv4(0xffff))
	require.Equal(t, uint16(0xffff), d.ApplyUDP(0xffff))
	require.Equal(t, uint16(0x0000), Delta16(7, 7).Apply(0xffff), "an unchanged word turns FFFF to 0000")
}

func TestNAT_V21_FirstFragment(t *testing.T) {
	payload := make([]byte, 1536)
	for i := range payload {
		payload[i] = byte(i)
	}
	b := pkttest.UDP(a4Str+":4242", s4Str+":53", string(payload))
	require.Equal(t, uint16(0x2d5a), UDP(b[20:]).Checksum())
	first := pkttest.Fragments(b, 512, 7)[0]
	p := parse(t, OK, first)
	p.UDP().Adjust(p.IPv4().RewriteSrc(f4))
	p.UDP().RewriteSrcPort(fUDP)
	require.Equal(t, uint16(0x07e5), p.UDP().Checksum())
	whole := pkttest.UDP("203.0.113.10:1024", s4Str+":53", string(payload))
	require.Equal(t, uint16(0x07e5), UDP(whole[20:]).Checksum(), "full recomputation over all fragments")
}

// corners are the words at which carries and the two zeros meet, and some others.
var corners = [...]uint16{0, 1, 2, 0x00ff, 0x0100, 0x1234, 0x4011, 0x7fff, 0x8000, 0x8001, 0xab54, 0xcb00, 0xff00, 0xfffd, 0xfffe, 0xffff}

// Every sum of other words, every pair of corner words: the update is the full
// recomputation. Every checksum, also ones no sender computes: it is equation 3.
func TestUpdateIsEquation3(t *testing.T) {
	for _, m := range corners {
		for _, n := range corners {
			d := Delta16(m, n)
			for x := range uint32(0x10000) {
				if got, want := d.Apply(uint16(x)), eqn3(uint16(x), m, n); got != want {
					t.Fatalf("hc %04x, %04x to %04x: %04x, want %04x", x, m, n, got, want)
				}
				if x == 0 {
					continue // all other words zero: no header is that
				}
				before, after := ^fold32(x+uint32(m)), ^fold32(x+uint32(n))
				if got := Delta16(m, n).Apply(before); got != after {
					t.Fatalf("rest %04x, %04x to %04x: %04x, want %04x", x, m, n, got, after)
				}
				if got := eqn4(before, m, n); got != after {
					t.Fatalf("equation 4 disagrees: rest %04x, %04x to %04x: %04x, want %04x", x, m, n, got, after)
				}
			}
		}
	}
}

// A delta of many words is equation 3 over all of them, however it is put
// together, and its reverse is the delta of the opposite change.
func TestDeltaOfManyWords(t *testing.T) {
	r := newRand(t)
	word := func() uint16 {
		if r.IntN(2) == 0 {
			return corners[r.IntN(len(corners))]
		}
		return uint16(r.Uint32())
	}
	for range pkttest.Operations(20_000, 200_000, 2_000_000) {
		var old, new [16]byte
		switch r.IntN(4) {
		case 0: // all FFFF to all 0000, the only change whose delta is 0000
			for i := range old {
				old[i] = 0xff
			}
		default:
			for i := 0; i < 16; i += 2 {
				binary.BigEndian.PutUint16(old[i:], word())
				binary.BigEndian.PutUint16(new[i:], word())
			}
		}
		delta := func(old, new []byte) Delta { // ~m + m' over all words
			s := uint32(0)
			for i := 0; i < len(old); i += 2 {
				s += uint32(^binary.BigEndian.Uint16(old[i:])) + uint32(binary.BigEndian.Uint16(new[i:]))
			}
			return Delta(fold32(s))
		}
		d := DeltaAddr6(&old, &new)
		require.Equal(t, delta(old[:], new[:]), d)
		sum := Delta(0)
		for i := 0; i < 16; i += 4 {
			part := Delta32(binary.BigEndian.Uint32(old[i:]), binary.BigEndian.Uint32(new[i:]))
			require.Equal(t, delta(old[i:i+4], new[i:i+4]), part)
			sum = sum.Add(part)
		}
		require.Equal(t, d, sum)
		if new != [16]byte(slices.Repeat([]byte{0xff}, 16)) || old != [16]byte{} {
			require.Equal(t, DeltaAddr6(&new, &old), d.Reverse())
		}
		hc := word()
		u32 := binary.BigEndian.Uint32
		require.Equal(t, eqn3(eqn3(hc, binary.BigEndian.Uint16(old[:]), binary.BigEndian.Uint16(new[:])),
			binary.BigEndian.Uint16(old[2:]), binary.BigEndian.Uint16(new[2:])), Delta32(u32(old[:]), u32(new[:])).Apply(hc))
	}
}

// There and back gives the first checksum, FFFF in TCP and zero in UDP aside.
func TestDeltaThereAndBack(t *testing.T) {
	for _, m := range corners {
		for _, n := range corners {
			d := Delta16(m, n)
			for hc := range uint16(0xffff) {
				if got := d.Reverse().Apply(d.Apply(hc)); got != hc {
					t.Fatalf("%04x to %04x: %04x comes back as %04x", m, n, hc, got)
				}
				if got := d.Reverse().ApplyUDP(d.ApplyUDP(hc)); got != hc {
					t.Fatalf("UDP %04x to %04x: %04x comes back as %04x", m, n, hc, got)
				}
			}
			if got := d.Reverse().ApplyUDP(d.ApplyUDP(0xffff)); got != 0xffff {
				t.Fatalf("UDP %04x to %04x: ffff comes back as %04x", m, n, got)
			}
		}
	}
}

// translate rewrites the source address and port, or identifier, of p.
func translate(p *Packet, addr4 uint32, addr6 [16]byte, port uint16) {
	var d Delta
	if p.Flags&V6 != 0 {
		d = p.IPv6().RewriteSrc(addr6)
	} else {
		d = p.IPv4().RewriteSrc(addr4)
	}
	switch p.Proto {
	case ProtoTCP:
		p.TCP().Adjust(d)
		p.TCP().RewriteSrcPort(port)
	case ProtoUDP:
		p.UDP().Adjust(d)
		p.UDP().RewriteSrcPort(port)
	case ProtoICMP:
		p.ICMPv4().RewriteID(port)
	case ProtoICMPv6:
		p.ICMPv6().Adjust(d)
		p.ICMPv6().RewriteID(port)
	}
}

// port returns what translate rewrites.
func port(p *Packet) uint16 {
	switch p.Proto {
	case ProtoTCP:
		return p.TCP().SrcPort()
	case ProtoUDP:
		return p.UDP().SrcPort()
	case ProtoICMP:
		return p.ICMPv4().ID()
	}
	return p.ICMPv6().ID()
}

// residue returns what the receiver of p computes over the upper layer: FFFF if
// its checksum is right.
func residue(p *Packet) uint16 {
	n, initial := len(p.B)-int(p.L4), uint64(0)
	switch {
	case p.Proto == ProtoICMP:
	case p.Flags&V6 == 0:
		initial = PseudoHeader4(p.IPv4().Src(), p.IPv4().Dst(), p.Proto, uint16(n))
	default:
		initial = PseudoHeader6(p.IPv6().Src(), p.IPv6().Dst(), p.Proto, uint32(n))
	}
	return Fold(Sum(p.B[p.L4:], initial))
}

func TestReverseIPv4(t *testing.T) {
	for hc := range 1 << 16 {
		for _, d := range []Delta{0, 1, 0x7fff, 0xfffe, 0xffff} {
			require.Equal(t, d.Reverse().ApplyIPv4(uint16(hc)), d.ReverseIPv4().ApplyIPv4(uint16(hc)), "%x %x", d, hc)
		}
	}
}

// VerifyL4 sums in another byte order than everything else.
func TestVerifyL4OfRandomPackets(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	right := 0
	for range 20_000 {
		var p Packet
		require.Equal(t, OK, Parse(randomPacket(r), &p))
		if r.IntN(2) == 0 { // somewhere behind the ports
			p.B[int(p.L4)+4+r.IntN(len(p.B)-int(p.L4)-4)] ^= uint8(1 + r.IntN(255))
		}
		if p.Proto == ProtoUDP && (p.UDP().Checksum() == 0 || int(p.UDP().Length()) != len(p.UDP())) {
			continue // another rule
		}
		want := residue(&p) == 0xffff
		require.Equal(t, want, VerifyL4(&p), "%x", p.B)
		if want {
			right++
		}
	}
	require.InDelta(t, 10_000, right, 1000)
}

func randomPacket(r *rand.Rand) []byte {
	data := string(randomBytes(r, 1+r.IntN(120)))
	src, dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte(randomBytes(r, 4))), uint16(1+r.IntN(65535))).String(), dst4
	if r.IntN(2) == 0 {
		src, dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(append([]byte{0x20}, randomBytes(r, 15)...))), uint16(1+r.IntN(65535))).String(), dst6
	}
	switch r.IntN(3) {
	case 0:
		return pkttest.TCP(src, dst, pkttest.ACK, pkttest.Seq(r.Uint32()), pkttest.Payload(data))
	case 1:
		return pkttest.UDP(src, dst, data)
	}
	return pkttest.ICMPEcho(src, dst, uint16(r.Uint32()), uint16(r.Uint32()), pkttest.Payload(data))
}

func TestRewriteOfRandomPackets(t *testing.T) {
	r := newRand(t)
	for range pkttest.Operations(4_000, 20_000, 200_000) {
		b := randomPacket(r)
		p := parse(t, OK, b)
		addr4, addr6, newPort := r.Uint32(), [16]byte(append([]byte{0x20}, randomBytes(r, 15)...)), uint16(1+r.IntN(65535))
		var was4 uint32
		var was6 [16]byte
		wasPort := port(&p)
		if p.Flags&V6 != 0 {
			was6 = p.IPv6().Src()
		} else {
			was4 = p.IPv4().Src()
		}

		// Incremental is full recomputation, byte for byte.
		got := Packet{B: slices.Clone(b), L4: p.L4, Proto: p.Proto, Flags: p.Flags}
		translate(&got, addr4, addr6, newPort)
		want := slices.Clone(got.B)
		pkttest.FixChecksums(want)
		require.Equal(t, want, got.B, "%s", pkttest.String(b))
		require.True(t, VerifyL4(&got))

		// There and back is identity.
		translate(&got, was4, was6, wasPort)
		require.Equal(t, b, got.B, "%s", pkttest.String(b))

		// Damage done to the upper layer leaves as large as it came.
		hurt := Packet{B: slices.Clone(b), L4: p.L4, Proto: p.Proto, Flags: p.Flags}
		bit := r.IntN(8 * (len(b) - int(p.L4) - 8))
		hurt.B[int(p.L4)+8+bit/8] ^= 1 << (bit % 8)
		before := residue(&hurt)
		require.NotEqual(t, uint16(0xffff), before)
		translate(&hurt, addr4, addr6, newPort)
		require.Equal(t, before, residue(&hurt), "%s", pkttest.String(b))
		require.False(t, VerifyL4(&hurt))
	}
}
