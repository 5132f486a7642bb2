package preset_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// What presets make of a site. What becomes of packets with them is tested in package
// snat, among the tests of what the translator does.

// site has n virtual machines 10.0.x.y and so many frontends from 203.0.113.10 on.
func site(n, frontends int) (s preset.Site) {
	for i := range n {
		s.Instances = append(s.Instances, snat.Instance{
			Name: fmt.Sprint("vm", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
		})
	}
	for i := range frontends {
		s.Frontends = append(s.Frontends, netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + i)}))
	}
	return s
}

// Every preset has a name, by which it is found and that its errors begin with; none
// accepts what it sets itself.
func TestAll(t *testing.T) {
	var names []string
	for _, p := range preset.All() {
		names = append(names, p.Name)
		found, ok := preset.ByName(p.Name)
		require.True(t, ok)
		assert.Equal(t, p.Summary, found.Summary)
		c, err := p.Configure(site(2, 1))
		require.NoError(t, err)
		require.NoError(t, c.Validate())

		_, err = p.Configure(preset.Site{Instances: []snat.Instance{{Name: "vm", Policy: &snat.Policy{}}}, IdleTimeout: -time.Minute})
		assert.ErrorIs(t, err, flow.ErrOutOfRange)
		for _, field := range []string{"Frontends has 0", "IdleTimeout -1m0s", "Instances[0]: conflict: the preset sets Ports and Policy"} {
			assert.ErrorContains(t, err, field, p.Name)
		}
	}
	assert.True(t, slices.IsSorted(names))
	assert.Len(t, slices.Compact(names), 10)
	_, ok := preset.ByName("carrier-pigeon")
	assert.False(t, ok)
}

// An error of a preset names it.
func TestErrorsNameThePreset(t *testing.T) {
	for _, p := range preset.All() {
		for name, s := range map[string]preset.Site{
			"no frontend":          {Instances: []snat.Instance{{Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")}}}},
			"an idle timeout":      {Frontends: []netip.Addr{netip.MustParseAddr("203.0.113.10")}, IdleTimeout: time.Microsecond},
			"ports per instance":   {Frontends: []netip.Addr{netip.MustParseAddr("203.0.113.10")}, PortsPerInstance: -1},
			"ports are the site's": {Frontends: []netip.Addr{netip.MustParseAddr("203.0.113.10")}, Instances: []snat.Instance{{Name: "vm", Policy: &snat.Policy{}}}},
		} {
			if _, err := p.Configure(s); err != nil {
				require.ErrorContains(t, err, "preset: "+p.Name+": ", name)
			} else {
				require.Equal(t, "ports per instance", name, "%s: only this is not every preset's", p.Name)
			}
		}
	}
	_, err := preset.AzureNATGateway(preset.Site{Frontends: []netip.Addr{netip.MustParseAddr("203.0.113.10")}}, 9)
	require.ErrorContains(t, err, "preset: azure-natgw: Generation 9")
}

// A preset for any site is a configuration, or an error that names the preset.
func TestExtremes(t *testing.T) {
	for _, p := range preset.All() {
		for name, s := range map[string]preset.Site{
			"nothing":     {},
			"no ports":    {Instances: site(1, 0).Instances, PortsPerInstance: -8},
			"all ports":   {Instances: site(1, 0).Instances, Frontends: site(0, 1).Frontends, PortsPerInstance: math.MaxInt},
			"no address":  {Instances: make([]snat.Instance, 2), Frontends: make([]netip.Addr, 3)},
			"no time":     {Instances: site(1, 0).Instances, Frontends: site(0, 1).Frontends, IdleTimeout: math.MinInt64},
			"no end":      {Instances: site(1, 0).Instances, Frontends: site(0, 1).Frontends, IdleTimeout: math.MaxInt64},
			"many things": {Instances: make([]snat.Instance, 20_000), Frontends: make([]netip.Addr, 20_000)},
		} {
			c, err := p.Configure(s)
			if err == nil {
				_ = c.Validate()
			} else {
				assert.ErrorContains(t, err, p.Name, name)
			}
		}
	}
}

// Capacity of static allocation: by the number of addresses, whole instances.
func TestVendor_01_GCPCapacity(t *testing.T) {
	for _, tc := range []struct{ ports, ips, instances int }{
		{64, 1, 1008}, {64, 2, 2016}, {4096, 1, 15}, {4096, 2, 31},
	} {
		s := site(tc.instances, tc.ips)
		s.PortsPerInstance = tc.ports
		c, err := preset.GCPCloudNAT(s)
		require.NoError(t, err)
		require.NoError(t, c.Validate())
		for _, inst := range c.Instances {
			n := 0
			for _, r := range inst.Ports {
				n += r.Count
			}
			require.Equal(t, tc.ports, n, inst.Name)
		}
		s.Instances = site(tc.instances+1, 0).Instances
		_, err = preset.GCPCloudNAT(s)
		require.ErrorIs(t, err, flow.ErrOutOfRange)
		assert.ErrorContains(t, err, fmt.Sprintf("%d instances with %d ports need %d", tc.instances+1, tc.ports, tc.ips+1))
	}
}
