package prefixes

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestAddrsTwin compares the maps of addresses with Go's while they grow. Addresses
// are few, so that many are put twice, and some collide.
func TestAddrsTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 0))
	var m4 Addrs4
	var m6 Addrs6
	want4, want6 := map[uint32]uint32{}, map[[2]uint64]uint32{}
	if m4.Get(0) != 0 || m6.Get([2]uint64{}) != 0 {
		t.Fatal("the empty map has an entry")
	}
	for val := range uint32(2000) {
		k4, k6 := uint32(random.IntN(3000))<<20|uint32(random.IntN(3)), [2]uint64{uint64(random.IntN(40)), uint64(random.IntN(40)) << 56}
		m4.Put(k4, val+1)
		m6.Put(k6, val+1)
		want4[k4], want6[k6] = val+1, val+1
		for range 20 {
			k4, k6 := uint32(random.IntN(3000))<<20|uint32(random.IntN(3)), [2]uint64{uint64(random.IntN(40)), uint64(random.IntN(40)) << 56}
			if m4.Get(k4) != want4[k4] || m6.Get(k6) != want6[k6] {
				t.Fatalf("%#x: %d, want %d; %#x: %d, want %d", k4, m4.Get(k4), want4[k4], k6, m6.Get(k6), want6[k6])
			}
		}
		if m4.n != len(want4) || 2*m4.n > len(m4.slots) || m6.n != len(want6) || 2*m6.n > len(m6.slots) {
			t.Fatalf("%d of %d slots and %d of %d used by %d and %d entries", m4.n, len(m4.slots), m6.n, len(m6.slots), len(want4), len(want6))
		}
	}
}

// TestDisjointTwin compares the maps of prefixes with a linear scan, for random
// prefixes of all lengths that do not overlap.
func TestDisjointTwin(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		var t4 Disjoint4
		var t6 Disjoint6
		var all []netip.Prefix
		var addrs []netip.Addr
		anyAddr := func() netip.Addr {
			if random.IntN(2) == 0 {
				return netip.AddrFrom4([4]byte{10, byte(random.IntN(256)), byte(random.IntN(4)), byte(random.IntN(256))})
			}
			return netip.AddrFrom16([16]byte{0x20, 1, 5: byte(random.IntN(2)), 7: byte(random.IntN(256)), 8: byte(random.IntN(2)), 15: byte(random.IntN(256))})
		}
		for range 400 {
			a := anyAddr()
			p := netip.PrefixFrom(a, random.IntN(a.BitLen()+1)) // host bits stay
			if seed%3 > 0 {
				p = netip.PrefixFrom(a, a.BitLen()-random.IntN(12))
			}
			free := true
			for _, q := range all {
				free = free && (!p.Overlaps(q) || p.Masked() == q.Masked())
			}
			if !free {
				continue
			}
			all, addrs = append(all, p), append(addrs, a)
			if val := uint32(len(all)); a.Is4() {
				t4.Put(p, val)
			} else {
				t6.Put(p, val)
			}
		}
		for range 400 {
			addrs = append(addrs, anyAddr())
		}
		for _, a := range addrs {
			want, got := uint32(0), uint32(0)
			for i, p := range all {
				if p.Contains(a) {
					want = uint32(i) + 1
				}
			}
			if _, halves := split(a); a.Is4() {
				got = t4.Get(uint32(halves[0] >> 32))
				if first := t4.First(uint32(halves[0] >> 32)); first != 0 && first != got {
					t.Fatalf("seed %d, %v: First says %d, Get %d", seed, a, first, got)
				}
			} else {
				got = t6.Get(halves)
			}
			if got != want {
				t.Fatalf("seed %d, %v: %d, want %d of %v", seed, a, got, want, all)
			}
		}
	}
}
