package wire

import (
	"slices"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/stretchr/testify/require"
)

var (
	ext      = pkttest.Extension
	destOpts = ext(60, 1, 4, 0, 0, 0, 0)
	hopOpts  = ext(0, 5, 2, 0, 0, 1, 0) // Router Alert and PadN
)

func udp6(fields ...pkttest.Field) []byte { return pkttest.UDP(src6, dst6, "hello", fields...) }

func TestNAT_M67_ExtensionHeaders(t *testing.T) {
	for name, tc := range map[string]struct {
		want Problem
		b    []byte
		at   int // offset of the header it is about
	}{
		"Hop-by-Hop second":         {ExtOrder, udp6(hopOpts, destOpts), 48},
		"Hop-by-Hop twice":          {ExtOrder, udp6(hopOpts, hopOpts), 48},
		"two Fragment headers":      {ExtOrder, udp6(ext(44, 0, 0, 0, 0, 0, 1), ext(44, 0, 0, 0, 0, 0, 2)), 48},
		"fragment of a fragment":    {ExtOrder, fragment(src6, dst6, 44, 64, false, make([]byte, 8)), 48},
		"fragment of a Hop-by-Hop":  {ExtOrder, fragment(src6, dst6, 0, 64, false, make([]byte, 8)), 48},
		"header longer than packet": {ExtLength, udp6(destOpts, pkttest.Patch(41, 9)), 40},
		"header cut":                {ExtLength, pkttest.IP(src6, dst6, 60, []byte{17, 0, 1, 4, 0, 0, 0}), 40},
		"second header cut":         {ExtLength, pkttest.IP(src6, dst6, 60, []byte{60, 0, 1, 4, 0, 0, 0, 0, 17, 0}), 48},
		"option longer than header": {ExtLength, udp6(ext(0, 5, 5, 0, 0, 0, 0)), 40},
		"option without length":     {ExtLength, udp6(ext(0, 1, 3, 0, 0, 0, 5)), 40},
		"nine headers":              {ExtLimit, udp6(slices.Repeat([]pkttest.Field{destOpts}, 9)...), 40 + 8*8},
		"520 bytes":                 {ExtLimit, udp6(ext(60, make([]byte, 518)...)), 40},
		"8 + 512 bytes":             {ExtLimit, udp6(ext(60, make([]byte, 510)...), destOpts), 48},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, tc.want, tc.b)
			require.Equal(t, tc.at, int(p.L4))
			require.Equal(t, tc.b, p.B)
		})
	}
}

func TestNAT_M68_RoutingHeader(t *testing.T) {
	for _, kind := range []byte{0, 2, 3, 4, 253} {
		p := parse(t, RoutingHeader, udp6(ext(43, kind, 1, 0, 0, 0, 0), destOpts))
		require.Equal(t, 48, int(p.L4), "a Parameter Problem points at L4+2")
		require.Equal(t, kind, p.B[p.L4+2])
		parse(t, OK, udp6(ext(43, kind, 0, 0, 0, 0, 0)))
	}
}

func TestNAT_E1_AllExtensionTypes(t *testing.T) {
	for _, kind := range []uint8{0, 43, 44, 60, 135, 139, 140} {
		p := parse(t, OK, udp6(ext(kind, 0, 0, 0, 0, 0, 0), hopOptsUnless(kind)))
		require.Equal(t, uint8(ProtoUDP), p.Proto)
		require.True(t, VerifyL4(&p))
	}
}

// hopOptsUnless puts a Hop-by-Hop header in front, unless kind is one.
func hopOptsUnless(kind uint8) pkttest.Field {
	if kind == 0 {
		return pkttest.TTL(64)
	}
	return hopOpts
}

func TestNAT_E2_BoundIsPayloadLength(t *testing.T) {
	b := udp6(destOpts, pkttest.Patch(4, 0, 7)) // the buffer has it all, the payload has not
	parse(t, ExtLength, b)
}

func TestNAT_E3_Limits(t *testing.T) {
	parse(t, OK, udp6(slices.Repeat([]pkttest.Field{destOpts}, 8)...))
	parse(t, OK, udp6(ext(60, make([]byte, 510)...)))
	alerts := func(n int) []byte { return slices.Repeat([]byte{5, 2, 0, 0}, n) }
	parse(t, OK, udp6(ext(0, append(alerts(8), 1, 4, 0, 0, 0, 0)...)))
	parse(t, ExtLimit, udp6(ext(0, append(alerts(9), 0, 0)...)))
	for _, tc := range []struct {
		want Problem
		opts []byte
	}{
		{OK, []byte{5, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0}},       // 7 Pad1
		{ExtLimit, []byte{5, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0}}, // 8 Pad1
		{OK, []byte{1, 5, 0, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 0}},       // PadN of 7 bytes
		{ExtLimit, []byte{1, 6, 0, 0, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0}}, // PadN of 8 bytes
		{ExtLimit, []byte{1, 4, 0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0}}, // PadN, then PadN
		{OK, []byte{1, 4, 0, 0, 0, 0, 5, 2, 0, 0, 1, 2, 0, 0}},       // an option between
	} {
		parse(t, tc.want, udp6(ext(0, tc.opts...)))
	}
	parse(t, OK, udp6(ext(60, make([]byte, 30)...))) // Destination options are not counted
}

func TestNAT_E4_AnyOrderAndRepeats(t *testing.T) {
	routed := ext(43, 4, 0, 0, 0, 0, 0)
	parse(t, OK, udp6(destOpts, routed, ext(44, 0, 0, 0, 0, 0, 1), destOpts, routed, hopOpts))
}

func TestNAT_E6_UnknownHopOptions(t *testing.T) {
	for action, want := range []Problem{OK, HopOption, HopOption, HopOption} {
		kind := byte(action<<6 | 0x1e)
		parse(t, want, udp6(ext(0, kind, 4, 0, 0, 0, 0)))
		parse(t, OK, udp6(ext(60, kind, 4, 0, 0, 0, 0)))
	}
}

func TestNAT_E7_AuthenticationAndESP(t *testing.T) {
	p := parse(t, UnsupportedProto, pkttest.IP(src6, dst6, 51, make([]byte, 24), destOpts))
	require.Equal(t, Packet{B: p.B, L4: 48, Proto: 51, Flags: V6}, p)
	parse(t, UnsupportedProto, pkttest.IP(src6, dst6, 50, make([]byte, 24), destOpts))
	parse(t, OK, pkttest.UDP("[fd00::4]:4500", "[2001:db8:5::7]:4500", "ESP in UDP"))
}

func TestNAT_E8_NoNextHeader(t *testing.T) {
	p := parse(t, UnsupportedProto, pkttest.IP(src6, dst6, 59, nil, destOpts))
	require.Equal(t, 48, int(p.L4))
}

func TestNAT_G6_AtomicFragment(t *testing.T) {
	p := parse(t, OK, udp6(ext(44, 0, 0, 0, 0, 0, 7)))
	require.Equal(t, V6, p.Flags)
	require.True(t, VerifyL4(&p))
	f, ok := p.Fragment()
	require.True(t, ok)
	require.Equal(t, uint32(7), f.ID())
}

func TestFragmentHeader(t *testing.T) {
	whole := pkttest.UDP(src6, dst6, string(make([]byte, 100)))
	for i, b := range pkttest.Fragments(whole, 64, 0xabcd0123) {
		p := parse(t, OK, b)
		f, ok := p.Fragment()
		require.True(t, ok)
		require.Equal(t, uint32(0xabcd0123), f.ID())
		require.Equal(t, uint8(ProtoUDP), f.NextHeader())
		require.Equal(t, 64*i, f.Offset())
		require.Equal(t, i == 0, f.More())
	}
	p := parse(t, OK, pkttest.IP(src6, dst6, 60, make([]byte, 32), ext(44, 0, 65, 0, 0, 0, 5), destOpts, hopOpts, pkttest.Patch(6, 0)))
	require.Equal(t, Packet{B: p.B, L4: 64, Proto: 60, Flags: V6 | Fragmented | NonFirst}, p, "upper layer unknown")
	f, ok := p.Fragment()
	require.True(t, ok)
	require.Equal(t, uint32(5), f.ID())
	for _, b := range [][]byte{udp6(destOpts), udp6(), pkttest.UDP(src4, dst4, "")} {
		p := parse(t, OK, b)
		_, ok := p.Fragment()
		require.False(t, ok)
	}
	t.Run("setters", func(t *testing.T) {
		f := Fragment(unhex("000005c900000000"))
		f.SetNextHeader(6)
		f.SetID(0xdeadbeef)
		require.Equal(t, unhex("060005c9deadbeef"), []byte(f))
		require.Equal(t, 1480, f.Offset())
		require.True(t, f.More())
		f = unhex("0000fff800000000")
		require.Equal(t, 65528, f.Offset())
		require.False(t, f.More())
	})
}
