package deterministic_test

// RFC 7422.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// rfc7422 is the example of RFC 7422.
func rfc7422() deterministic.Parameters {
	return deterministic.Parameters{
		Inside: prefixes("198.51.100.0/28"), Outside: prefixes("192.0.2.1/32"), DynamicFactor: 2, MaxPorts: 5040,
	}
}

func mapping(t testing.TB, d deterministic.Parameters) *deterministic.Mapping {
	t.Helper()
	m, err := deterministic.New(d)
	require.NoError(t, err)
	return m
}

func TestNAT_D1_ShareOfEachAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		d    deterministic.Parameters
		want int
	}{
		"the RFC's example":             {rfc7422(), (65536 - 1024) / (14 + 2)},
		"no dynamic range":              {deterministic.Parameters{Inside: prefixes("10.0.0.0/28"), Outside: prefixes("192.0.2.1/32")}, (65536 - 1024) / 14},
		"compression is rounded up":     {deterministic.Parameters{Inside: prefixes("10.0.0.0/28"), Outside: prefixes("192.0.2.0/30"), DynamicFactor: 1}, (65536 - 1024) / (4 + 1)},
		"further reserved ports":        {deterministic.Parameters{Inside: prefixes("10.0.0.0/28"), Outside: prefixes("192.0.2.1/32"), DynamicFactor: 2, Reserved: []flow.PortSpan{{First: 3000, Last: 3999}, {First: 65535, Last: 65535}, {First: 0, Last: 80}, {First: 3500, Last: 3500}}}, (65536 - 1024 - 1001) / 16},
		"one subscriber, one port each": {deterministic.Parameters{Inside: prefixes("10.0.0.1/32"), Outside: prefixes("192.0.2.1/32"), DynamicFactor: 64511}, 1},
		"IPv6":                          {deterministic.Parameters{Inside: prefixes("fd00::10/124"), Outside: prefixes("2001:db8:f::10/128"), DynamicFactor: 2}, (65536 - 1024) / 18},
	} {
		assert.Equal(t, tc.want, mapping(t, tc.d).Share(), name)
	}
}

func TestNAT_D2_BothFunctions(t *testing.T) {
	t.Run("v4", func(t *testing.T) {
		m := mapping(t, rfc7422())
		outside := netip.MustParseAddr("192.0.2.1")
		for host, want := range map[string]flow.PortSpan{
			"198.51.100.1": {First: 1024, Last: 5055}, "198.51.100.2": {First: 5056, Last: 9087}, "198.51.100.14": {First: 53440, Last: 57471},
		} {
			f, ok := m.Outside(netip.MustParseAddr(host))
			require.True(t, ok)
			assert.Equal(t, outside, f.Outside)
			assert.Equal(t, 4032, f.Len())
			assert.Equal(t, want, f.Range(), host)
		}
		assert.Equal(t, []flow.PortSpan{{First: 57472, Last: 65535}}, slices.Collect(m.Dynamic(outside)))
		for port, want := range map[uint16]string{
			2001: "198.51.100.1 fixed", 5055: "198.51.100.1 fixed", 5056: "198.51.100.2 fixed", 57471: "198.51.100.14 fixed",
			57472: "invalid IP dynamic, consult the log", 58204: "invalid IP dynamic, consult the log",
			0: "invalid IP reserved", 1023: "invalid IP reserved",
		} {
			host, kind := m.Inside(netip.AddrPortFrom(outside, port))
			assert.Equal(t, want, fmt.Sprint(host, " ", kind), "port %d", port)
		}
		for _, nobody := range []string{"198.51.100.0", "198.51.100.15", "198.51.100.16", "10.0.0.1", "::1"} {
			_, ok := m.Outside(netip.MustParseAddr(nobody))
			assert.False(t, ok, nobody)
		}
		_, kind := m.Inside(netip.MustParseAddrPort("192.0.2.2:2001"))
		assert.Equal(t, deterministic.Foreign, kind)
	})
	t.Run("v6", func(t *testing.T) {
		m := mapping(t, deterministic.Parameters{Inside: prefixes("fd00::10/124"), Outside: prefixes("2001:db8:f::10/127"), DynamicFactor: 2})
		f, ok := m.Outside(netip.MustParseAddr("fd00::19")) // the tenth of 16, the second of the second address
		require.True(t, ok)
		assert.Equal(t, netip.MustParseAddr("2001:db8:f::11"), f.Outside)
		assert.Equal(t, flow.PortSpan{First: 1024 + 6451, Last: 1024 + 2*6451 - 1}, f.Range())
		host, kind := m.Inside(netip.AddrPortFrom(f.Outside, f.Range().Last))
		assert.Equal(t, netip.MustParseAddr("fd00::19"), host)
		assert.Equal(t, deterministic.Fixed, kind)
	})
}

func TestNAT_D5_RecordOfParameters(t *testing.T) {
	d := rfc7422()
	assert.Equal(t, "24h0m0s I=198.51.100.0/28 O=192.0.2.1/32 D=2 M=5040 A=0 R=0-1023", d.Record(flow.At(24*time.Hour)))
	d.Inside, d.Outside = prefixes("fd00::/120", "fd00:1::/120"), prefixes("2001:db8:f::10/128")
	d.Algorithm, d.Reserved, d.Key = deterministic.KeyedRandom, []flow.PortSpan{{First: 8080, Last: 8081}}, [32]byte{1}
	assert.Equal(t, "0s I=fd00::/120,fd00:1::/120 O=2001:db8:f::10/128 D=2 M=5040 A=4 R=0-1023,8080-8081", d.Record(0))
}

// reversible demands that the map is a bijection: no port has two owners, each
// fixed port leads back to its owner, and every port is of one kind.
func reversible(t *testing.T, d deterministic.Parameters) {
	t.Helper()
	m := mapping(t, d)
	owners := map[netip.AddrPort]netip.Addr{}
	outside := map[netip.Addr]bool{}
	for _, p := range d.Inside {
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			f, ok := m.Outside(a)
			if !ok {
				continue
			}
			outside[f.Outside] = true
			var spanned []uint16
			for s := range f.Spans() {
				for p := int(s.First); p <= int(s.Last); p++ {
					spanned = append(spanned, uint16(p))
				}
			}
			require.Equal(t, slices.Collect(f.All()), spanned)
			lowest, highest, n := uint16(65535), uint16(0), 0
			for port := range f.All() {
				ap := netip.AddrPortFrom(f.Outside, port)
				if was, taken := owners[ap]; taken {
					t.Fatalf("%v is of %v and %v", ap, was, a)
				}
				owners[ap] = a
				lowest, highest, n = min(lowest, port), max(highest, port), n+1
			}
			require.Equal(t, m.Share(), n)
			require.Equal(t, flow.PortSpan{First: lowest, Last: highest}, f.Range())
		}
	}
	for o := range outside {
		usable := map[uint16]bool{}
		for s := range m.Usable() {
			for p := int(s.First); p <= int(s.Last); p++ {
				usable[uint16(p)] = true
			}
		}
		dynamic := map[uint16]bool{}
		for s := range m.Dynamic(o) {
			for p := int(s.First); p <= int(s.Last); p++ {
				dynamic[uint16(p)] = true
			}
		}
		for p := range 65536 {
			ap := netip.AddrPortFrom(o, uint16(p))
			host, kind := m.Inside(ap)
			reserved := p < 1024 || slices.ContainsFunc(d.Reserved, func(s flow.PortSpan) bool { return int(s.First) <= p && p <= int(s.Last) })
			owner, fixed := owners[ap]
			want := deterministic.Dynamic
			switch {
			case reserved:
				want = deterministic.Reserved
			case fixed:
				want = deterministic.Fixed
			}
			if kind != want || host != owner || usable[uint16(p)] == reserved || dynamic[uint16(p)] != (kind == deterministic.Dynamic) {
				t.Fatalf("%v: %v %v, want %v %v; dynamic %v", ap, host, kind, owner, want, dynamic[uint16(p)])
			}
		}
	}
}

var algorithms = []deterministic.Algorithm{deterministic.Sequential, deterministic.Staggered, deterministic.KeyedRandom}

func TestNAT_D6_Reversible(t *testing.T) {
	pkttest.OneGoroutine(t)
	const seed = 7422
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 16 {
		d := deterministic.Parameters{DynamicFactor: r.IntN(20), Algorithm: algorithms[r.IntN(3)], Key: [32]byte{byte(r.Uint32())}}
		if r.IntN(2) == 0 {
			d.Inside = prefixes(fmt.Sprintf("10.0.0.0/%d", 24+r.IntN(9)), fmt.Sprintf("10.1.0.128/%d", 25+r.IntN(8)))
			d.Outside = prefixes(fmt.Sprintf("203.0.113.16/%d", 31+r.IntN(2)), "192.0.2.1/32")
		} else {
			d.Inside = prefixes(fmt.Sprintf("fd00::/%d", 120+r.IntN(9)), fmt.Sprintf("fd00::1:8000/%d", 121+r.IntN(8)))
			d.Outside = prefixes(fmt.Sprintf("2001:db8:f::10/%d", 126+r.IntN(3)))
		}
		for range r.IntN(4) {
			first := r.IntN(65536)
			d.Reserved = append(d.Reserved, flow.PortSpan{First: uint16(first), Last: uint16(first + r.IntN(min(5000, 65536-first)))})
		}
		t.Run(d.Record(0), func(t *testing.T) { reversible(t, d) })
	}
}

func TestNAT_D6_Algorithms(t *testing.T) {
	first := func(a deterministic.Algorithm, key byte) (ports []uint16) {
		d := rfc7422()
		d.Algorithm, d.Key[0] = a, key
		f, _ := mapping(t, d).Outside(netip.MustParseAddr("198.51.100.2"))
		for i := range 4 {
			ports = append(ports, f.At(i))
		}
		return ports
	}
	assert.Equal(t, []uint16{5056, 5057, 5058, 5059}, first(deterministic.Sequential, 0))
	assert.Equal(t, []uint16{1025, 1039, 1053, 1067}, first(deterministic.Staggered, 0))
	assert.Equal(t, first(deterministic.KeyedRandom, 1), first(deterministic.KeyedRandom, 1), "a key means the same ports for ever")
	assert.NotEqual(t, first(deterministic.KeyedRandom, 1), first(deterministic.KeyedRandom, 2))
	assert.Equal(t, []uint16{17607, 26775, 10934, 5255}, first(deterministic.KeyedRandom, 1), "in later versions, too")
}

func TestValidate(t *testing.T) {
	good := rfc7422()
	require.NoError(t, good.Validate())
	for want, d := range map[string]deterministic.Parameters{
		"Inside: ":                {Outside: good.Outside},
		"Inside[0] 10.0.0.1/24: ": {Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, Outside: good.Outside},
		"Inside[0] 10.0.0.0/7: ":  {Inside: prefixes("10.0.0.0/7"), Outside: good.Outside},
		"Inside[1] fd00::/120: ":  {Inside: prefixes("10.0.0.0/24", "fd00::/120"), Outside: good.Outside},
		"Inside[1] 10.0.0.0/25: overlap: with Inside[0] 10.0.0.0/24": {Inside: prefixes("10.0.0.0/24", "10.0.0.0/25"), Outside: good.Outside},
		"Inside has 33554432 addresses: ":                            {Inside: prefixes("10.0.0.0/8", "11.0.0.0/8"), Outside: good.Outside},
		"Outside[0] 2001:db8::1/128: ":                               {Inside: good.Inside, Outside: prefixes("2001:db8::1/128")},
		"DynamicFactor -1: ":                                         {Inside: good.Inside, Outside: good.Outside, DynamicFactor: -1},
		"MaxPorts 4031: ":                                            {Inside: good.Inside, Outside: good.Outside, DynamicFactor: 2, MaxPorts: 4031},
		"MaxPorts 70000: ":                                           {Inside: good.Inside, Outside: good.Outside, MaxPorts: 70000},
		"Algorithm 2: ":                                              {Inside: good.Inside, Outside: good.Outside, Algorithm: 2},
		"Reserved[0] 9-8: ":                                          {Inside: good.Inside, Outside: good.Outside, Reserved: []flow.PortSpan{{First: 9, Last: 8}}},
		"Inside: out of range: 65534 subs":                           {Inside: prefixes("10.0.0.0/16"), Outside: good.Outside},
	} {
		_, err := deterministic.New(d)
		assert.ErrorContains(t, err, want)
	}
	_, err := deterministic.New(deterministic.Parameters{Inside: prefixes("10.0.0.0/7"), DynamicFactor: -1, Algorithm: 9})
	for _, field := range []string{"Inside[0]", "Outside", "DynamicFactor", "Algorithm"} {
		assert.ErrorContains(t, err, field)
	}
	assert.ErrorIs(t, err, flow.ErrMissing)
	assert.ErrorIs(t, err, flow.ErrTooMany)
	assert.ErrorIs(t, err, flow.ErrOutOfRange)
	err = deterministic.Parameters{Reserved: slices.Repeat([]flow.PortSpan{{First: 9, Last: 8}}, 1000)}.Validate()
	assert.ErrorContains(t, err, "and 902 more", "with those of Inside and Outside")
}

// A copy is equal and apart; each parameter counts.
func TestEqualAndClone(t *testing.T) {
	p := rfc7422()
	p.Reserved = []flow.PortSpan{{First: 8080, Last: 8081}}
	assert.True(t, p.Equal(p.Clone()))
	for name, change := range map[string]func(p *deterministic.Parameters){
		"Inside":        func(p *deterministic.Parameters) { p.Inside[0] = netip.MustParsePrefix("10.0.0.0/28") },
		"Outside":       func(p *deterministic.Parameters) { p.Outside[0] = netip.MustParsePrefix("10.0.0.0/28") },
		"DynamicFactor": func(p *deterministic.Parameters) { p.DynamicFactor++ },
		"MaxPorts":      func(p *deterministic.Parameters) { p.MaxPorts++ },
		"Algorithm":     func(p *deterministic.Parameters) { p.Algorithm = deterministic.Staggered },
		"Reserved":      func(p *deterministic.Parameters) { p.Reserved[0].Last++ },
		"Key":           func(p *deterministic.Parameters) { p.Key[31] = 1 },
	} {
		c := p.Clone()
		change(c)
		assert.False(t, p.Equal(c), name)
		assert.False(t, c.Equal(nil), name)
	}
	assert.Equal(t, "0s I=198.51.100.0/28 O=192.0.2.1/32 D=2 M=5040 A=0 R=0-1023,8080-8081", p.Record(0), "what happens to the copies does nothing to it")
	var none *deterministic.Parameters
	assert.True(t, none.Equal(none.Clone()))
}

func TestDoesNotAllocate(t *testing.T) {
	d := rfc7422()
	d.Algorithm = deterministic.KeyedRandom
	m := mapping(t, d)
	host := netip.MustParseAddr("198.51.100.9")
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		f, _ := m.Outside(host)
		if back, _ := m.Inside(netip.AddrPortFrom(f.Outside, f.At(17))); back != host {
			t.Errorf("%v is of %v", f.At(17), back)
		}
	}))
}

func FuzzMapping(f *testing.F) {
	f.Add(uint8(28), uint8(32), uint8(2), uint8(0), uint16(0), uint16(0), uint16(2001), false)
	f.Add(uint8(25), uint8(30), uint8(0), uint8(1), uint16(5000), uint16(6000), uint16(58204), false)
	f.Add(uint8(121), uint8(127), uint8(1), uint8(4), uint16(65535), uint16(65535), uint16(65535), true)
	f.Fuzz(func(t *testing.T, insideBits, outsideBits, dynamic, algorithm uint8, from, to, port uint16, is6 bool) {
		d := deterministic.Parameters{DynamicFactor: int(dynamic), Algorithm: deterministic.Algorithm(algorithm), Reserved: []flow.PortSpan{{First: from, Last: to}}, Key: [32]byte{dynamic}}
		in, out := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("203.0.113.0")
		if is6 {
			in, out = netip.MustParseAddr("fd00::"), netip.MustParseAddr("2001:db8:f::")
		}
		d.Inside = []netip.Prefix{netip.PrefixFrom(in, int(insideBits))}
		d.Outside = []netip.Prefix{netip.PrefixFrom(out, int(outsideBits))}
		m, err := deterministic.New(d)
		if err != nil {
			return
		}
		ap := netip.AddrPortFrom(d.Outside[0].Addr(), port)
		host, kind := m.Inside(ap)
		if (kind == deterministic.Fixed) != host.IsValid() {
			t.Fatalf("%v: %v %v", ap, host, kind)
		}
		if kind != deterministic.Fixed {
			return
		}
		f, ok := m.Outside(host)
		if !ok || f.Outside != ap.Addr() || !slices.Contains(slices.Collect(f.All()), port) {
			t.Fatalf("%v leads to %v, whose ports do not hold it", ap, host)
		}
		for _, i := range []int{0, f.Len() / 2, f.Len() - 1} {
			if back, _ := m.Inside(netip.AddrPortFrom(f.Outside, f.At(i))); back != host {
				t.Fatalf("port %d of %v leads to %v", f.At(i), host, back)
			}
		}
	})
}
