package lb

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A prefix without end is refused, together with everything else that is wrong.
func TestHugePrefixesAreRefusedAtOnce(t *testing.T) {
	for _, huge := range []string{"20.0.0.0/8", "0.0.0.0/0", "2001:db8::/64", "::/0", "2001:db8::/1"} {
		t.Run(huge, func(t *testing.T) {
			p, err := netip.ParsePrefix(huge)
			require.NoError(t, err)
			gateway := NATGateway{SKU: GatewayStandardV2, PublicIPPrefixes: []netip.Prefix{p}}
			backends := []Backend{{Name: "a", Addrs: make([]netip.Addr, 1)}}
			config := GatewayConfig{NATGateway: gateway, Backends: backends}
			for name, door := range map[string]func() error{
				"gateway":        gateway.Validate,
				"gateway config": config.Validate,
				"new gateway":    func() error { _, err := NewGateway(config); return err },
				"translator":     func() error { _, err := config.Translator(); return err },
				"egress": func() error {
					_, err := NewEgress(EgressConfig{LoadBalancer: Config{Backends: backends}, NATGateway: &gateway})
					return err
				},
				"load balancer": Config{Backends: backends, FrontendIPConfigurations: []FrontendIPConfiguration{{Name: "f", PublicIPPrefix: p}}}.Validate,
				"outbound default": func() error {
					_, err := NewEgress(EgressConfig{LoadBalancer: Config{Backends: backends}, DefaultOutboundRange: p})
					return err
				},
			} {
				pkttest.Prompt(t, func() {
					err := door()
					if name == "outbound default" && p.Addr().Is4() && p.Bits() > 0 {
						assert.NotContains(t, err.Error(), huge, name)
					} else {
						assert.ErrorContains(t, err, huge, name)
					}
					if name != "gateway" {
						assert.ErrorContains(t, err, "Backends[0].Addrs[0] invalid IP", name)
					}
				})
			}
			pkttest.Prompt(t, func() {
				assert.Empty(t, gateway.Addrs())
				assert.Zero(t, gateway.Ports(true)+gateway.Ports(false))
			})
		})
	}
}

// k of 0 and less asks for nobody.
func TestTopPortsOfNobody(t *testing.T) {
	l := newLoadBalancer(t, publicPool(1, 1, 8))
	open(t, l, 0, "10.224.0.4:5000")
	for _, by := range []snat.By{snat.ByInstance, snat.ByInside, snat.ByDestination} {
		assert.Empty(t, l.TopPorts(-1, by))
		assert.Empty(t, l.TopPorts(0, by))
		assert.Len(t, l.TopPorts(2, by), 1)
	}
}

// Thousands of everything are answered at once, and refused where they would make
// endless work.
func TestThousandsAreAnsweredAtOnce(t *testing.T) {
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}) }
	const many = 20_000
	addrs, same := make([]netip.Addr, many), make([]netip.Prefix, many)
	for i := range many {
		addrs[i], same[i] = at(256+i), netip.PrefixFrom(at(256), 28)
	}
	prefixes := func(ports, rules int) Config { // 4,096 frontends
		c := publicPool(maxPoolSize, 16, ports)
		c.OwnRanges = true
		for i := range c.FrontendIPConfigurations {
			f := &c.FrontendIPConfigurations[i]
			f.PublicIPAddress, f.PublicIPPrefix = netip.Addr{}, netip.PrefixFrom(at(256*i), 24)
		}
		for len(c.OutboundRules) < rules {
			o := c.OutboundRules[0]
			o.Name += fmt.Sprint(len(c.OutboundRules))
			c.OutboundRules = append(c.OutboundRules, o)
		}
		return c
	}
	backend := func(b Backend) error {
		c := publicPool(1, 1, 8)
		b.Name = "node0"
		c.Backends[0] = b
		return c.Validate()
	}
	for _, tt := range []struct {
		name string
		door func() error
		want string // of the error, "" for none
	}{
		{"gateway addresses", NATGateway{PublicIPAddresses: addrs}.Validate, "PublicIPAddresses has 20000 IPv4 addresses"},
		{"gateway prefixes", NATGateway{PublicIPPrefixes: same}.Validate, "PublicIPPrefixes[1] 20.0.1.0/28: overlap"},
		{"addresses of a backend", func() error { return backend(Backend{Addrs: addrs}) }, "Backends[0].Addrs[1] 20.0.1.1: too many"},
		{"public addresses of a backend", func() error { return backend(Backend{Addrs: addrs[:1], PublicIPAddresses: addrs[1:]}) }, "Backends[0].PublicIPAddresses[1] 20.0.1.2: too many"},
		{"prefixes of a backend", func() error { return backend(Backend{Addrs: addrs[many-1:], Inside: same}) }, ""},
		{"frontends", prefixes(0, 1).Validate, ""},
		{"rules for all frontends", prefixes(0, 2).Validate, ""},
		{"too many rules for all frontends", prefixes(0, maxOutboundRules).Validate, "FrontendIPConfigurations[0] has 3000000 IP configurations of backends in its rules: too many: at most 10000"},
		{"ports on all frontends", prefixes(50_000, 1).Validate, "they make more than 1048576 ranges"},
		{"frontends beyond the bound", func() error {
			c := prefixes(0, 1)
			c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "x", PublicIPAddress: at(1 << 20)})
			return c.Validate()
		}, "FrontendIPConfigurations has 4097 addresses: too many: at most 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pkttest.Prompt(t, func() {
				if err := tt.door(); tt.want == "" {
					assert.NoError(t, err)
				} else {
					assert.ErrorContains(t, err, tt.want)
				}
			})
		})
	}
}
