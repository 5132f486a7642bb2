package flow

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMakeKey(t *testing.T) {
	src, dst := netip.MustParseAddrPort("10.1.2.3:4000"), netip.MustParseAddrPort("203.0.113.255:443")
	k := MakeKey(src, dst, protoTCP, 0xabcdef)
	assert.Equal(t, Key{Src: 0x0a010203, Dst: 0xcb0071ff, SrcPort: 4000, DstPort: 443, VNIProto: 0xabcdef06}, k)
	assert.Equal(t, uint8(6), k.Proto())
	assert.Equal(t, uint32(0xabcdef), k.VNI())
	assert.Equal(t, "6 10.1.2.3:4000 > 203.0.113.255:443", k.String())
	mapped := netip.AddrPortFrom(netip.MustParseAddr("::ffff:10.1.2.3"), 4000)
	assert.Equal(t, k, MakeKey(mapped, dst, protoTCP, MaxVNI&0xabcdef), "IPv4-mapped is IPv4")

	src6, dst6 := netip.MustParseAddrPort("[fd00::1:2]:4000"), netip.MustParseAddrPort("[2001:db8:0:8000::9]:53")
	k6 := MakeKey6(src6, dst6, 17, MaxVNI)
	assert.Equal(t, Key6{
		Src: [2]uint64{0xfd00 << 48, 0x10002}, Dst: [2]uint64{0x20010db8_00008000, 9},
		SrcPort: 4000, DstPort: 53, VNIProto: 0xffffff11,
	}, k6)
	assert.Equal(t, uint8(17), k6.Proto())
	assert.Equal(t, uint32(MaxVNI), k6.VNI())
	assert.Equal(t, "17 [fd00::1:2]:4000 > [2001:db8:0:8000::9]:53", k6.String())

	assert.PanicsWithValue(t, "flow: VNI 16777216 exceeds 16777215", func() { MakeKey(src, dst, 6, MaxVNI+1) })
	assert.PanicsWithValue(t, "flow: VNI 4294967295 exceeds 16777215", func() { MakeKey6(src6, dst6, 6, math.MaxUint32) })
	assert.Panics(t, func() { MakeKey(src6, dst, 6, 0) })
	assert.Panics(t, func() { Addr4(netip.Addr{}) })
}

func TestKeyReverse(t *testing.T) {
	k := Key{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, VNIProto: 5<<8 | 6}
	assert.Equal(t, Key{Src: 2, Dst: 1, SrcPort: 4, DstPort: 3, VNIProto: 5<<8 | 6}, k.Reverse())
	assert.Equal(t, k, k.Reverse().Reverse())
	k6 := Key6{Src: [2]uint64{1, 2}, Dst: [2]uint64{3, 4}, SrcPort: 5, DstPort: 6, VNIProto: 7<<8 | 17}
	assert.Equal(t, Key6{Src: [2]uint64{3, 4}, Dst: [2]uint64{1, 2}, SrcPort: 6, DstPort: 5, VNIProto: 7<<8 | 17}, k6.Reverse())
	assert.Equal(t, k6, k6.Reverse().Reverse())
}

func TestIsHost(t *testing.T) {
	for _, s := range []string{
		"1.0.0.0", "10.0.0.4", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "192.0.2.1", "198.51.100.7", "203.0.113.10", "223.255.255.255",
		"100.64.0.1", "2001:db8::1", "fd00::4", "fc00::", "fe7f::1", "fec0::", "64:ff9b::102:304", "1::",
	} {
		require.True(t, IsHost(netip.MustParseAddr(s)), s)
	}
	for _, s := range []string{
		"0.0.0.0", "0.255.255.255", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.1.1", "169.254.255.255", "224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255",
		"::", "::1", "fe80::", "fe80::1", "febf:ffff::1", "fe80::1%eth0", "fd00::4%eth0", "ff00::", "ff02::1", "ff0e::1", "::ffff:10.0.0.4", "::ffff:0.0.0.0",
	} {
		require.False(t, IsHost(netip.MustParseAddr(s)), s)
	}
	require.False(t, IsHost(netip.Addr{}))
}

func TestAddrRoundTrip(t *testing.T) {
	for _, s := range []string{"0.0.0.0", "255.255.255.255", "1.2.3.4", "128.0.0.1"} {
		a := netip.MustParseAddr(s)
		assert.Equal(t, a, NetAddr4(Addr4(a)))
		assert.Equal(t, binary.BigEndian.Uint32(a.AsSlice()), Addr4(a))
	}
	for _, s := range []string{"::", "::1", "ffff::", "2001:db8:1:2:3:4:5:6", "fe80::8000:0:0:1"} {
		a := netip.MustParseAddr(s)
		assert.Equal(t, a, NetAddr6(Addr6(a)))
		b := a.AsSlice()
		assert.Equal(t, [2]uint64{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, Addr6(a))
	}
}

// TestHasherSeed holds the hash to depend on every field of the key and on the
// seed, and on nothing else.
func TestHasherSeed(t *testing.T) {
	h, same, other := NewHasher(1), NewHasher(1), NewHasher(2)
	k := Key{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, VNIProto: 6}
	k6 := Key6{Src: [2]uint64{1, 2}, Dst: [2]uint64{3, 4}, SrcPort: 5, DstPort: 6, VNIProto: 6}
	assert.Equal(t, h.Hash(&k), same.Hash(&k))
	assert.Equal(t, h.Hash6(&k6), same.Hash6(&k6))
	seen := map[uint64]string{h.Hash(&k): "k", other.Hash(&k): "k, seed 2", h.Hash6(&k6): "k6", other.Hash6(&k6): "k6, seed 2"}
	require.Len(t, seen, 4)
	note := func(hash uint64, what string) {
		assert.Empty(t, seen[hash], "%s has the hash of", what)
		seen[hash] = what
	}
	for bit := range 32 {
		a, b, c := k, k, k
		a.Src ^= 1 << bit
		b.Dst ^= 1 << bit
		c.VNIProto ^= 1 << bit
		note(h.Hash(&a), fmt.Sprint("Src bit ", bit))
		note(h.Hash(&b), fmt.Sprint("Dst bit ", bit))
		note(h.Hash(&c), fmt.Sprint("VNIProto bit ", bit))
		c6 := k6
		c6.VNIProto ^= 1 << bit
		note(h.Hash6(&c6), fmt.Sprint("6 VNIProto bit ", bit))
	}
	for bit := range 16 {
		a, b := k, k
		a.SrcPort ^= 1 << bit
		b.DstPort ^= 1 << bit
		note(h.Hash(&a), fmt.Sprint("SrcPort bit ", bit))
		note(h.Hash(&b), fmt.Sprint("DstPort bit ", bit))
		a6, b6 := k6, k6
		a6.SrcPort ^= 1 << bit
		b6.DstPort ^= 1 << bit
		note(h.Hash6(&a6), fmt.Sprint("6 SrcPort bit ", bit))
		note(h.Hash6(&b6), fmt.Sprint("6 DstPort bit ", bit))
	}
	for bit := range 128 {
		a, b := k6, k6
		a.Src[bit/64] ^= 1 << (bit % 64)
		b.Dst[bit/64] ^= 1 << (bit % 64)
		note(h.Hash6(&a), fmt.Sprint("6 Src bit ", bit))
		note(h.Hash6(&b), fmt.Sprint("6 Dst bit ", bit))
	}
	r, r6 := k.Reverse(), k6.Reverse()
	note(h.Hash(&r), "the reverse")
	note(h.Hash6(&r6), "the reverse of k6")
}

// structured are families of keys as networks produce them: the i-th key of
// each. Nothing about them is random.
var structured = []struct {
	name string
	key  func(i uint32) Key
}{
	{"source ports", func(i uint32) Key { return Key{0x0a000001, 0xcb007150, uint16(i), 443, 6 | i>>16<<8} }},
	{"source addresses", func(i uint32) Key { return Key{0x0a000000 + i, 0xcb007150, 41000, 443, 6} }},
	{"destinations", func(i uint32) Key { return Key{0x0a000001, i << 8, 41000, 443, 6} }},
	{"pods and ports", func(i uint32) Key { return Key{0x0af40000 + i&0xff, 0xcb007150, uint16(32768 + i>>8), 53, 17} }},
	{"frontend ports", func(i uint32) Key { return Key{0xcb007150, 0x14320101, 443, uint16(1024 + i%64512), 6 | i/64512<<8} }},
	{"overlay networks", func(i uint32) Key { return Key{0x0a000001, 0x0a000002, 1, 1, i<<8 | 17} }},
	{"mirrored", func(i uint32) Key { return Key{i, i, uint16(i), uint16(i), 6} }},
	{"few bits", func(i uint32) Key { return Key{i & 0xf, i >> 4 & 0xf, uint16(i>>8) & 0xf, uint16(i >> 12), 6} }},
}

// key6 spreads an IPv4 key over the IPv6 key space as prefixes and hosts.
func key6(k Key) Key6 {
	return Key6{
		Src: [2]uint64{0x20010db8<<32 | uint64(k.Src)>>8, uint64(k.Src)}, Dst: [2]uint64{0xfd00 << 48, uint64(k.Dst)},
		SrcPort: k.SrcPort, DstPort: k.DstPort, VNIProto: k.VNIProto,
	}
}

// TestHashUniformity counts structured keys by pieces of their hash. The counts
// must differ from an even spread by no more than chance: chi-square within six
// standard deviations, on both sides, since too even is not random either.
func TestHashUniformity(t *testing.T) {
	const n, bins = 1 << 16, 1 << 10
	pieces := []struct {
		name  string
		shift int
	}{{"low bits: shards", 0}, {"bits 22-31", 22}, {"bits 32-41: home buckets", 32}, {"high bits: segments", 54}}
	check := func(t *testing.T, hash func(i uint32) uint64) {
		counts := make([][bins]int, len(pieces))
		for i := range uint32(n) {
			x := hash(i)
			for p := range pieces {
				counts[p][x>>pieces[p].shift%bins]++
			}
		}
		for p := range pieces {
			chi := 0.0
			for _, c := range counts[p] {
				d := float64(c) - n/bins
				chi += d * d / (n / bins)
			}
			sigmas := (chi - (bins - 1)) / math.Sqrt(2*(bins-1))
			assert.Less(t, math.Abs(sigmas), 6.0, "%s: chi-square %.0f for %d degrees of freedom", pieces[p].name, chi, bins-1)
		}
	}
	for seed := range uint64(3) {
		h := NewHasher(seed)
		for _, c := range structured {
			t.Run(fmt.Sprintf("%s/seed=%d", c.name, seed), func(t *testing.T) {
				check(t, func(i uint32) uint64 {
					k := c.key(i)
					return h.Hash(&k)
				})
				check(t, func(i uint32) uint64 {
					k := key6(c.key(i))
					return h.Hash6(&k)
				})
			})
		}
	}
}

// TestHash6Swapped asks for keys whose source is the destination with its halves
// swapped. A sender may choose them all, and the hash must still tell them apart.
func TestHash6Swapped(t *testing.T) {
	h := NewHasher(1)
	seen := map[uint64]bool{}
	const n = 1000
	for i := range uint64(n) {
		k := Key6{Src: [2]uint64{0x20010db8 << 32, i}, Dst: [2]uint64{i, 0x20010db8 << 32}, SrcPort: 1, DstPort: 2, VNIProto: 6}
		seen[h.Hash6(&k)] = true
		k = Key6{Src: [2]uint64{i, i}, Dst: [2]uint64{i, i}, SrcPort: 1, DstPort: 2, VNIProto: 6}
		seen[h.Hash6(&k)] = true
	}
	assert.Len(t, seen, 2*n)
}

// TestHashAvalanche flips single bits: each must change half of the hash's bits
// on average, and no bit of the hash may ignore it.
func TestHashAvalanche(t *testing.T) {
	const seed, n = 5, 2000
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := NewHasher(rng.Uint64())
	flips := map[string]func(k *Key){
		"Src 0": func(k *Key) { k.Src ^= 1 }, "Src 31": func(k *Key) { k.Src ^= 1 << 31 },
		"Dst 0": func(k *Key) { k.Dst ^= 1 }, "Dst 31": func(k *Key) { k.Dst ^= 1 << 31 },
		"SrcPort 0": func(k *Key) { k.SrcPort ^= 1 }, "DstPort 15": func(k *Key) { k.DstPort ^= 1 << 15 },
		"proto 0": func(k *Key) { k.VNIProto ^= 1 }, "VNI 23": func(k *Key) { k.VNIProto ^= 1 << 31 },
	}
	for name, flip := range flips {
		var changed [64]int
		for range n {
			k := Key{rng.Uint32(), rng.Uint32(), uint16(rng.Uint32()), uint16(rng.Uint32()), rng.Uint32()}
			x := h.Hash(&k)
			flip(&k)
			x ^= h.Hash(&k)
			for bit := range changed {
				changed[bit] += int(x >> bit & 1)
			}
		}
		for bit, c := range changed {
			assert.InDelta(t, n/2, c, 6*math.Sqrt(n)/2, "%s, hash bit %d", name, bit)
		}
	}
}
