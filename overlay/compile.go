// The two translators of a cluster: what AKS makes of the configuration for its egress, and
// what the nodes do themselves.

package overlay

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/conntrack"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/snat"
)

// compile describes the egress of a valid configuration with defaults, whose nodes are
// given: the load balancer, whose backends they are, and the NAT gateway, if there is one.
func (c *ClusterConfig) compile(nodes []fleet.Node, a *admission.Rules) lb.EgressConfig {
	profile := &c.LoadBalancerProfile
	frontends := c.outbound().Frontends()
	pool := lb.BackendAddressPool{Name: OutboundBackendPoolName, Backends: make([]string, 0, len(nodes))}
	backends := make([]lb.Backend, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		backends[i] = lb.Backend{Name: n.Name, Addrs: n.Addrs, Inside: n.PodBlocks, PublicIPAddresses: n.PublicAddrs}
		pool.Backends = append(pool.Backends, n.Name)
	}
	balancer := lb.Config{
		Name:                     LoadBalancerName,
		SKU:                      c.LoadBalancerSKU,
		FrontendIPConfigurations: frontends,
		Backends:                 backends,
		FrontendMode:             profile.FrontendMode,
		Layout:                   profile.Layout,
		Strict:                   profile.Strict,
		OwnRanges:                profile.OwnRanges,
		Routes:                   c.balancerRoutes(),
		Timeouts:                 c.Timeouts,
		TCP:                      c.TCP,
		UDP:                      c.UDP,
		Dataplane:                c.Dataplane,
	}
	if c.hasOutboundRule() {
		rule := lb.OutboundRule{
			Name:                   OutboundRuleName,
			BackendAddressPool:     OutboundBackendPoolName,
			Protocol:               snat.All,
			AllocatedOutboundPorts: profile.AllocatedOutboundPorts,
			IdleTimeout:            profile.IdleTimeout,
			EnableTCPReset:         !profile.DisableTCPReset,
		}
		for _, f := range frontends {
			rule.FrontendIPConfigurations = append(rule.FrontendIPConfigurations, f.Name)
		}
		balancer.BackendAddressPools = []lb.BackendAddressPool{pool}
		balancer.OutboundRules = []lb.OutboundRule{rule}
	}
	balancer.ICMP.PublicAddrs = true // a public IP carries every protocol, whoever shares it
	if a.LimitsEgress() {
		balancer.Admit = a.Admit
	}
	return lb.EgressConfig{
		LoadBalancer: balancer,
		NATGateway:   c.gateway(),
		// Without it a node without other ways would have default outbound access, which
		// new virtual networks and AKS's isolated clusters do without; Basic ones have it.
		PrivateSubnet: c.LoadBalancerSKU == lb.Standard,
	}
}

// compileNodes describes what the nodes do with what does not go to the Internet: Linux
// masquerades what pods begin, follows connections by its own timers, and tells nobody when
// one ends. Fragments and ICMP are carried there whatever Dataplane says, for what limits them is
// the load balancer.
func (c *ClusterConfig) compileNodes(nodes []fleet.Node, admit func(snat.NewFlow) flow.Reason) snat.Config {
	n := snat.Config{
		Routes:    c.localRoutes(),
		Policy:    conntrack.Policy(),
		Dataplane: c.Dataplane,
	}
	if c.OutboundType == OutboundUserDefinedRouting {
		n.Routes = append(n.Routes, snat.Route{Prefix: everything4, Action: snat.NodeAddress, BothWays: true})
		if len(c.families()) == int(numFamilies) {
			n.Routes = append(n.Routes, snat.Route{Prefix: everything6, Action: snat.NodeAddress, BothWays: true})
		}
	}
	n.Instances = make([]snat.Instance, len(nodes))
	for i := range nodes {
		node := &nodes[i]
		n.Instances[i] = snat.Instance{Name: node.Name, Addrs: node.Addrs, Inside: node.PodBlocks}
	}
	n.ICMP.Queries, n.ICMP.Errors, n.ICMP.AllowShortTimeout = true, true, true
	n.Fragments.Mode = snat.FragmentsVirtual
	n.CountTraffic, n.CountHolders, n.HoldSYN, n.ReclaimGrace = false, snat.CountHolders{}, snat.HoldSYN{}, 0
	n.Admit = admit
	return n
}
