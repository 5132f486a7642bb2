package snat_test

// Configurations with thousands of everything, which are checked and laid out in
// about the time of their size.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// addrFrom returns the ith address from a network on.
func addrFrom(network byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{network, byte(i >> 16), byte(i >> 8), byte(i)})
}

func TestThousandsOfEverything(t *testing.T) {
	const n = 8000
	host := func(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, 32)} }
	t.Run("policies", func(t *testing.T) {
		var c snat.Config
		for i := range n {
			p := snat.Policy{IdleTimeout: time.Duration(i+1) * time.Second}
			c.Instances = append(c.Instances, snat.Instance{Name: fmt.Sprint(i), Inside: host(addrFrom(10, i)), Policy: &p})
		}
		assert.ErrorContains(t, c.Validate(), fmt.Sprintf("Instances has %d different policies", n+1))
	})
	t.Run("realms", func(t *testing.T) {
		var c snat.Config
		for i := range n {
			c.Instances = append(c.Instances, snat.Instance{
				Name: fmt.Sprint(i), Realm: uint32(i), Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				Ports: []snat.PortRange{{Frontend: addr(frontend), First: uint16(8 + 8*i), Count: 8}},
			})
		}
		require.NoError(t, c.Validate())
		c.Instances[n-1].Inside = append(c.Instances[n-1].Inside, netip.MustParsePrefix("203.0.113.0/24"))
		assert.ErrorContains(t, c.Validate(), "Instances[0].Ports[0].Frontend 203.0.113.10/32: overlap: with Instances[7999].Inside[1] 203.0.113.0/24")
	})
	t.Run("deterministic prefixes", func(t *testing.T) {
		d := &deterministic.Parameters{Outside: host(addr(frontend))}
		for i := range n {
			d.Inside = append(d.Inside, host(addrFrom(10, 2*(n-i)))[0])
		}
		c := oneVM(8)
		ownedPorts(&c).Allocation.Pooling = snat.Paired
		c.Instances[0].Addrs, c.Instances[0].Inside, c.Instances[0].Deterministic = nil, d.Inside, d
		c.Instances[0].Ports = []snat.PortRange{{Frontend: addr(frontend), First: 1024, Count: 64_512}}
		b := newBed(t, c)
		m, err := deterministic.New(*d)
		require.NoError(t, err)
		for _, i := range []int{0, 1, 4567, n - 1} {
			inside := d.Inside[i].Addr()
			fixed, ok := m.Outside(inside)
			require.True(t, ok)
			assert.Equal(t, socket(frontend, int(fixed.At(0))), b.opens("udp", socket(inside.String(), 5000), "198.51.100.7:53"))
			_, ok = m.Outside(inside.Next())
			assert.False(t, ok)
		}
		d.Inside[17] = d.Inside[4711]
		assert.ErrorContains(t, d.Validate(), fmt.Sprintf("Inside[4711] %v: overlap", d.Inside[17]))
		assert.ErrorContains(t, d.Validate(), "with Inside[17]")
	})
	t.Run("exclusions", func(t *testing.T) {
		c := oneVM(4096)
		for i := range n {
			ownedPorts(&c).Allocation.Exclude = append(ownedOf(c).Allocation.Exclude, snat.Exclusion{Frontend: addr(frontend), First: uint16(1024 + i%4000), Last: uint16(1024 + i%4000 + i%7)})
		}
		b := newBed(t, c)
		assert.Equal(t, 4005, b.pool(false, snat.TCP).Excluded)
		assert.Equal(t, outside(1024+4005), b.opens("tcp", vmA+":5000", "198.51.100.7:443"))
	})
}

// Overlapping prefixes of instances are found wherever they stand, those of realms
// apart, and frontends among them: as a comparison of each with each finds them.
func TestOverlapsAgainstPairs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 4632))
	for range 400 {
		var c snat.Config
		for i := range 1 + random.IntN(6) {
			inst := snat.Instance{Name: fmt.Sprint(i), Realm: uint32(random.IntN(2))}
			for range random.IntN(3) {
				p := netip.PrefixFrom(addrFrom(10, random.IntN(64)), 24+random.IntN(9)).Masked()
				if !slices.ContainsFunc(inst.Inside, p.Overlaps) {
					inst.Inside = append(inst.Inside, p)
				}
			}
			inst.Ports = []snat.PortRange{{Frontend: addrFrom(10, random.IntN(1024)), First: uint16(1024 + 8*i), Count: 8}}
			c.Instances = append(c.Instances, inst)
		}
		want := false
		for i, a := range c.Instances {
			for j, b := range c.Instances {
				for _, p := range a.Inside {
					want = want || p.Contains(b.Ports[0].Frontend) || i != j && a.Realm == b.Realm && slices.ContainsFunc(b.Inside, p.Overlaps)
				}
			}
		}
		err := c.Validate()
		require.Equal(t, want, err != nil, "%+v: %v", c.Instances, err)
		if err != nil {
			require.True(t, strings.Contains(err.Error(), "overlap"), "%v", err)
		}
	}
}
