// Admission: which new flows may begin at all. The rules are in a room of their own; here they are
// made of the configuration and asked.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
	"github.com/seed-a61be3fe/natplane/snat"
)

// newAdmission makes the rules of a valid configuration, whose nodes and Services are given. The
// error is about rules for Services and host ports.
func newAdmission(c *ClusterConfig, nodes []fleet.Node, services []security.Service) (*admission.Rules, error) {
	config := admission.Config{
		RestrictIMDS: c.RestrictIMDS, NetworkPolicy: c.NetworkPolicy, Admit: c.Admit, Machine: c.machine, Exit: c.exit,
		Unmasked: c.unmasked(), Security: c.security(nodes, services),
		Nodes: make([]admission.Node, len(nodes)),
	}
	for i := range nodes {
		config.Nodes[i] = admission.Node{Name: nodes[i].Name, Addrs: nodes[i].Addrs, PodBlocks: nodes[i].PodBlocks}
	}
	return admission.New(config)
}

// security describes what decides about security groups.
func (c *ClusterConfig) security(nodes []fleet.Node, services []security.Service) *security.Cluster {
	s := &security.Cluster{User: c.SecurityGroups, VirtualNetwork: c.virtualNetwork(), Services: services}
	s.Beyond = c.OutboundType == OutboundUserDefinedRouting || len(c.VNet.ServiceEndpoints)+len(c.Masquerade.NonMasqueradeCIDRs) > 0
	s.Nodes = make([]security.Node, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		s.Nodes[i] = security.Node{Name: n.Name, Pool: n.Pool, Addrs: n.Addrs, Public: len(n.PublicAddrs) > 0}
	}
	for _, p := range c.NodePools {
		s.Pools = append(s.Pools, security.Pool{Name: p.Name, AllowedHostPorts: p.NodePublicIP.AllowedHostPorts})
	}
	return s
}

// virtualNetwork returns what rules mean by the virtual network.
func (c *ClusterConfig) virtualNetwork() []netip.Prefix {
	return slices.Concat(c.VNet.AddressSpaces, c.VNet.PeeredPrefixes, c.PodCIDRs)
}

// setState puts a state into force, whose rules proxies ask from now on about what they send to
// endpoints.
func (c *Cluster) setState(s *state) {
	c.state.Store(s)
	if s.admitted.LimitsLegs() {
		c.proxy.SetAdmit(c.admitLeg)
	} else {
		c.proxy.SetAdmit(nil)
	}
}

// admit decides about what nodes let begin, by the rules in force: those of Services come and go.
func (c *Cluster) admit(f snat.NewFlow) flow.Reason { return c.state.Load().admitted.Admit(f) }

// admitLeg decides about the first packet that a proxy sends to an endpoint.
func (c *Cluster) admitLeg(l kubeproxy.Leg) flow.Reason {
	s := c.state.Load()
	node := s.node(l.Node)
	if node == nil {
		return flow.ReasonNone
	}
	return s.admitted.DecideLeg(&admission.Leg{
		Node: node.Name, Outside: l.From == kubeproxy.FromWire, Protocol: l.Proto, Client: l.Client, Seen: l.Seen, Endpoint: l.Endpoint,
	})
}
