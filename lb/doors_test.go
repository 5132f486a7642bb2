package lb

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
)

// prompt fails the test if f takes longer than anything may on a slow machine.
func prompt(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
}

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
				prompt(t, func() {
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
			prompt(t, func() {
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
