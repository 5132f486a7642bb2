package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/stretchr/testify/require"
)

// newRand returns a generator whose seed the test logs.
func newRand(t testing.TB) *rand.Rand {
	const seed = 20260213
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// naiveSum is the dull twin of Sum and Fold: word by word, folding at once.
func naiveSum(b []byte, initial uint16) uint16 {
	sum := uint32(initial)
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func TestNAT_V22_SumOfWords(t *testing.T) {
	b := unhex("0001f203f4f5f6f7")
	require.Equal(t, uint16(0xddf2), Fold(Sum(b, 0)))
	require.Equal(t, uint16(0x220d), Checksum(b, 0))
}

func TestNAT_V23_HeaderVerifies(t *testing.T) {
	require.Equal(t, uint16(0xffff), Fold(Sum(unhex("45000073000040004011b861c0a80001c0a800c7"), 0)))
}

func TestNAT_V24_OddLength(t *testing.T) {
	require.Equal(t, uint16(0xfeff), Checksum(unhex("01"), 0))
	require.Equal(t, uint16(0x0dfe), Checksum(unhex("0001f2"), 0))
}

func TestSumEqualsTwin(t *testing.T) {
	r := newRand(t)
	for range 20000 {
		b := randomBytes(r, r.IntN(200))
		initial := uint16(r.Uint32())
		require.Equal(t, naiveSum(b, initial), Fold(Sum(b, uint64(initial))), "% x", b)
		cut := r.IntN(len(b)+1) &^ 1
		require.Equal(t, Fold(Sum(b, 0)), Fold(Sum(b[cut:], Sum(b[:cut], 0))), "in two pieces")
	}
}

// randomBytes returns n bytes, at times nearly all 00 or FF, where carries and
// the two zeros live.
func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	style := r.IntN(4)
	for i := range b {
		switch style {
		case 0:
			b[i] = 0xff
		case 1:
			b[i] = 0
		default:
			b[i] = byte(r.Uint32())
		}
	}
	if n > 0 && r.IntN(2) == 0 {
		b[r.IntN(n)] = byte(r.Uint32())
	}
	return b
}

func TestFoldKeepsBothZerosApart(t *testing.T) {
	for sum, want := range map[uint64]uint16{
		0: 0, 1: 1, 0xffff: 0xffff, 0x10000: 1, 0xffffffff: 0xffff, 1 << 32: 1, 1<<64 - 1: 0xffff,
		0xffff_ffff_0000_0001: 1, 0x1_fffe: 0xffff, 0xffff_0000_0000_0000: 0xffff,
	} {
		require.Equalf(t, want, Fold(sum), "%#x", sum)
	}
	r := newRand(t)
	for range 100000 {
		sum := r.Uint64() | 1
		want := uint16(sum % 0xffff)
		if want == 0 {
			want = 0xffff
		}
		require.Equalf(t, want, Fold(sum), "%#x", sum)
	}
}

func TestPseudoHeaders(t *testing.T) {
	src, dst := [16]byte(unhex("fd000000000000000000000000000004")), [16]byte(unhex("20010db8000500000000000000000007"))
	segment := unhex("10920035000d807168656c6c6f") // V11
	require.Equal(t, uint16(0xffff), Fold(Sum(segment, PseudoHeader6(src, dst, ProtoUDP, uint32(len(segment))))))
	segment = unhex("10920035000d76fc68656c6c6f") // V5
	require.Equal(t, uint16(0xffff), Fold(Sum(segment, PseudoHeader4(0x0a000004, 0xc6336407, ProtoUDP, uint16(len(segment))))))
	require.Equal(t, uint64(0x1_fffffffe+0xff+0xffff), PseudoHeader4(0xffffffff, 0xffffffff, 0xff, 0xffff), "no carry is lost")
}

func TestVerifyL4(t *testing.T) {
	for name, tc := range map[string]struct {
		b    []byte
		want bool
	}{
		"v4 TCP":                 {pkttest.TCP(src4, dst4, pkttest.ACK, pkttest.Payload("odd")), true},
		"v4 TCP bad":             {pkttest.TCP(src4, dst4, pkttest.ACK, pkttest.BadChecksum()), false},
		"v4 UDP":                 {pkttest.UDP(src4, dst4, "hello"), true},
		"v4 UDP bad":             {pkttest.UDP(src4, dst4, "hello", pkttest.BadChecksum()), false},
		"v4 UDP none":            {pkttest.UDP(src4, dst4, "hello", pkttest.NoChecksum()), true},
		"v4 UDP surplus":         {surplus(pkttest.UDP(src4, dst4, "hello"), 5), true},
		"v4 UDP surplus bad":     {surplus(pkttest.UDP(src4, dst4, "hello", pkttest.BadChecksum()), 5), false},
		"v4 UDP and options":     {pkttest.UDP(src4, dst4, "hello", pkttest.IPOptions(7, 7, 4, 0, 0, 0, 0)), true},
		"v4 ICMP":                {pkttest.ICMPEcho("10.0.0.4", "198.51.100.7", 1, 2), true},
		"v4 ICMP bad":            {pkttest.ICMPEcho("10.0.0.4", "198.51.100.7", 1, 2, pkttest.BadChecksum()), false},
		"v6 TCP":                 {pkttest.TCP(src6, dst6, pkttest.ACK, pkttest.Payload("odd")), true},
		"v6 TCP bad":             {pkttest.TCP(src6, dst6, pkttest.ACK, pkttest.BadChecksum()), false},
		"v6 UDP behind a header": {pkttest.UDP(src6, dst6, "hello", pkttest.Extension(60, 1, 4, 0, 0, 0, 0)), true},
		"v6 UDP bad":             {pkttest.UDP(src6, dst6, "hello", pkttest.BadChecksum()), false},
		"v6 ICMPv6":              {pkttest.ICMPEcho("fd00::4", "2001:db8:5::7", 1, 2), true},
		"v6 ICMPv6 bad":          {pkttest.ICMPEcho("fd00::4", "2001:db8:5::7", 1, 2, pkttest.BadChecksum()), false},
		"v4 first fragment":      {pkttest.Fragments(pkttest.UDP(src4, dst4, "0123456789abcdef"), 16, 1)[0], false},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, OK, tc.b)
			require.Equal(t, tc.want, VerifyL4(&p))
		})
	}
	p := parse(t, UDP6Zero, pkttest.UDP(src6, dst6, "hello", pkttest.NoChecksum()))
	require.False(t, VerifyL4(&p), "no checksum is wrong over IPv6")
	p = parse(t, UnsupportedProto, pkttest.IP(src4, dst4, 47, []byte("gre")))
	require.False(t, VerifyL4(&p), "unknown checksum")
}

// surplus lengthens the IP payload of an IPv4 packet by n bytes that UDP's
// length does not cover.
func surplus(b []byte, n int) []byte {
	for i := range n {
		b = append(b, byte(0xa0+i))
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	IPv4(b).ComputeChecksum()
	return b
}
