package overlay_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Each layer reports what is wrong with the sentinels of package flow, whichever layer
// finds it.
func TestSentinelsThroughEveryLayer(t *testing.T) {
	host, prefixes := netip.MustParseAddr("10.0.0.4"), func(s ...string) (all []netip.Prefix) {
		for _, p := range s {
			all = append(all, netip.MustParsePrefix(p))
		}
		return all
	}
	instances := func(change func(*snat.Instance)) error {
		inst := snat.Instance{Name: "a", Addrs: []netip.Addr{host}}
		change(&inst)
		return snat.Config{Instances: []snat.Instance{{Name: "b", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}, inst}}.Validate()
	}
	balancer := func() lb.Config {
		return lb.Config{
			FrontendIPConfigurations: []lb.FrontendIPConfiguration{{Name: "web", PublicIPAddress: netip.MustParseAddr("20.50.1.1")}},
			Backends:                 []lb.Backend{{Name: "a", Addrs: []netip.Addr{host}}},
			BackendAddressPools:      []lb.BackendAddressPool{{Name: "pool", Backends: []string{"a"}}},
			OutboundRules:            []lb.OutboundRule{{Name: "out", FrontendIPConfigurations: []string{"web"}, BackendAddressPool: "pool"}},
		}
	}
	// What a load balancer refuses, an Egress refuses of its load balancer.
	changes := map[error]func(*lb.Config){
		flow.ErrMissing:       func(c *lb.Config) { c.Backends[0].Name = "" },
		flow.ErrAddress:       func(c *lb.Config) { c.Backends[0].Addrs[0] = netip.MustParseAddr("127.0.0.1") },
		flow.ErrPrefix:        func(c *lb.Config) { c.Backends[0].Inside = prefixes("10.1.0.1/16") },
		flow.ErrOutOfRange:    func(c *lb.Config) { c.OutboundRules[0].IdleTimeout = time.Second },
		flow.ErrTooMany:       func(c *lb.Config) { c.Backends[0].Addrs = []netip.Addr{host, host.Next()} },
		flow.ErrUnknownName:   func(c *lb.Config) { c.OutboundRules[0].BackendAddressPool = "none" },
		flow.ErrDuplicateName: func(c *lb.Config) { c.BackendAddressPools[0].Backends = []string{"a", "a"} },
		flow.ErrOverlap:       func(c *lb.Config) { c.Backends[0].Addrs[0] = netip.MustParseAddr("20.50.1.1") },
		flow.ErrConflict:      func(c *lb.Config) { c.FrontendIPConfigurations[0].PublicIPPrefix = prefixes("20.60.0.0/28")[0] },
		flow.ErrTimeout:       func(c *lb.Config) { c.Timeouts.UDP = -1 }, // which only the translator looks at
	}
	gateway := func(change func(*lb.GatewayConfig)) error {
		c := lb.GatewayConfig{
			NATGateway: lb.NATGateway{PublicIPAddresses: []netip.Addr{netip.MustParseAddr("20.60.0.1")}},
			Backends:   []lb.Backend{{Name: "a", Addrs: []netip.Addr{host}}},
		}
		change(&c)
		_, err := lb.NewGateway(c)
		return err
	}
	cluster := func(change func(*overlay.ClusterConfig)) error {
		c := overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}}
		change(&c)
		return c.Validate()
	}
	type found struct {
		layer string
		kind  error
		err   error
	}
	all := []found{
		{"snat", flow.ErrMissing, instances(func(i *snat.Instance) { i.Name = "" })},
		{"snat", flow.ErrDuplicateName, instances(func(i *snat.Instance) { i.Name = "b" })},
		{"snat", flow.ErrAddress, instances(func(i *snat.Instance) { i.Addrs[0] = netip.Addr{} })},
		{"snat", flow.ErrPrefix, instances(func(i *snat.Instance) { i.Inside = prefixes("10.1.0.1/16") })},
		{"snat", flow.ErrTooMany, instances(func(i *snat.Instance) { i.Addrs = append(i.Addrs, host.Next()) })},
		{"snat", flow.ErrOverlap, instances(func(i *snat.Instance) { i.Inside = prefixes("10.0.0.0/16") })},
		{"snat", flow.ErrOutOfRange, snat.Config{Dataplane: snat.Dataplane{Shards: 65}}.Validate()},
		{"snat", flow.ErrTimeout, snat.Config{Dataplane: snat.Dataplane{ReclaimGrace: -1}}.Validate()},

		{"lb.Gateway", flow.ErrMissing, gateway(func(c *lb.GatewayConfig) { c.Backends[0].Name = "" })},
		{"lb.Gateway", flow.ErrAddress, gateway(func(c *lb.GatewayConfig) { c.PublicIPAddresses[0] = netip.Addr{} })},
		{"lb.Gateway", flow.ErrPrefix, gateway(func(c *lb.GatewayConfig) { c.PublicIPPrefixes = prefixes("20.60.1.1/28") })},
		{"lb.Gateway", flow.ErrOutOfRange, gateway(func(c *lb.GatewayConfig) { c.Shards = -1 })},
		{"lb.Gateway", flow.ErrTooMany, gateway(func(c *lb.GatewayConfig) { c.PublicIPPrefixes = prefixes("20.60.1.0/28") })},
		{"lb.Gateway", flow.ErrDuplicateName, gateway(func(c *lb.GatewayConfig) { c.Backends = append(c.Backends, c.Backends[0]) })},
		{"lb.Gateway", flow.ErrOverlap, gateway(func(c *lb.GatewayConfig) { c.Backends[0].Addrs[0] = c.PublicIPAddresses[0] })},

		{"overlay", flow.ErrMissing, cluster(func(c *overlay.ClusterConfig) { c.NodePools = nil })},
		{"overlay", flow.ErrAddress, cluster(func(c *overlay.ClusterConfig) { c.LoadBalancerProfile.OutboundIPs = make([]netip.Addr, 1) })},
		{"overlay", flow.ErrPrefix, cluster(func(c *overlay.ClusterConfig) { c.PodCIDRs = prefixes("10.244.0.1/16") })},
		{"overlay", flow.ErrSyntax, cluster(func(c *overlay.ClusterConfig) { c.NodePools[0].MaxSurge = "some" })},
		{"overlay", flow.ErrOutOfRange, cluster(func(c *overlay.ClusterConfig) { c.Shards = 65 })},
		{"overlay", flow.ErrTooMany, cluster(func(c *overlay.ClusterConfig) { c.NodePools = make([]overlay.NodePool, 1001) })},
		{"overlay", flow.ErrUnknownName, cluster(func(c *overlay.ClusterConfig) { c.NodePools[0].Subnet = "none" })},
		{"overlay", flow.ErrDuplicateName, cluster(func(c *overlay.ClusterConfig) { c.NodePools = []overlay.NodePool{{Name: "a"}, {Name: "a", Count: 1}} })},
		{"overlay", flow.ErrOverlap, cluster(func(c *overlay.ClusterConfig) { c.ServiceCIDRs = prefixes("10.244.0.0/16") })},
		{"overlay", flow.ErrConflict, cluster(func(c *overlay.ClusterConfig) {
			c.LoadBalancerProfile.ManagedOutboundIPCount, c.LoadBalancerProfile.OutboundIPs = 1, []netip.Addr{netip.MustParseAddr("20.60.0.1")}
		})},
		{"overlay", flow.ErrTimeout, cluster(func(c *overlay.ClusterConfig) { c.Timeouts.UDP = -1 })},
	}
	for kind, change := range changes {
		c := balancer()
		change(&c)
		_, err := lb.New(c)
		all = append(all, found{"lb", kind, err})
		_, err = lb.NewEgress(lb.EgressConfig{LoadBalancer: c})
		all = append(all, found{"lb.Egress", kind, err})
	}
	kinds := []error{
		flow.ErrMissing, flow.ErrAddress, flow.ErrPrefix, flow.ErrSyntax, flow.ErrOutOfRange, flow.ErrTooMany, flow.ErrUnknownName,
		flow.ErrDuplicateName, flow.ErrOverlap, flow.ErrConflict, flow.ErrTimeout,
	}
	for _, f := range all {
		assert.ErrorIs(t, f.err, f.kind, f.layer)
		kinds = slices.DeleteFunc(kinds, func(k error) bool { return k == f.kind && errors.Is(f.err, k) })
	}
	assert.Empty(t, kinds, "each sentinel is wrapped by something")
}
