// What a Service of type LoadBalancer makes of the cluster's load balancer: frontends,
// rules and probes. Read the document "LoadBalancer annotations" of cloud-provider-azure.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/overlay/internal/outbound"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/overlay/internal/servicelb"
)

// Names of what Services have at the load balancers.
const (
	ServiceBackendPoolName   = servicelb.PoolName     // the pool of all nodes that the rules of Services have
	InternalLoadBalancerName = servicelb.InternalName // the load balancer of Services that are internal
)

// balance adds frontends, rules and probes of all Services to the load balancers of an egress,
// whose backends are the nodes, and returns what the probes ask about.
func balance(egress *lb.EgressConfig, c *ClusterConfig, services []*serviceEntry, prober probe.Prober) map[string]servicelb.Asked {
	var all []servicelb.Service
	for _, e := range services {
		if e.Type != LoadBalancer {
			continue
		}
		s := servicelb.Service{
			Name: e.Name, Ports: e.balancedPorts(), Addrs: e.addrs, Local: e.ExternalTrafficPolicy == PolicyLocal,
			HealthCheckNodePort: e.HealthCheckNodePort, SessionAffinity: e.SessionAffinity, Settings: &e.settings,
		}
		for _, a := range e.addrs {
			s.Subnets = append(s.Subnets, c.nodeSubnetAt(a))
		}
		all = append(all, s)
	}
	return servicelb.Balance(egress, all, servicelb.Options{Prober: prober, Shared: c.LoadBalancerProfile.ClusterServiceLoadBalancerHealthProbeMode == HealthProbeShared})
}

// balancedPorts returns the ports as load balancers see them.
func (s *Service) balancedPorts() []servicelb.Port {
	all := make([]servicelb.Port, len(s.Ports))
	for i, p := range s.Ports {
		all[i] = servicelb.Port{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort, AppProtocol: p.AppProtocol}
	}
	return all
}

// probe answers a probe of the load balancer for a node: policy Local is 200 if the node
// has endpoints and else 503; Cluster is a handshake if anybody has; and the probe that Services
// share is 200 on every node, for its proxy runs.
func (c *Cluster) probe(_ flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	asked := c.services.probes.Load()
	of, ok := (*asked)[p.Name]
	node, known := c.state.Load().byName[b.Name]
	if !ok || !known {
		return probe.Failure
	}
	if n := c.state.Load().byIndex[node]; of.Is6 && !of.Local && c.state.Load().config.pool(n.Pool).OSSKU == AzureLinux {
		return probe.Failure // it comes from a link-local address, which such a node routes to no pod
	}
	if of.Shared {
		return probe.Success
	}
	if of.Local {
		if n, _ := c.proxy.LocalEndpoints(of.Service, node); n == 0 {
			return probe.Refusal
		}
		return probe.Success
	}
	if c.proxy.Endpoints(of.Service, of.Port) == 0 {
		return probe.Failure
	}
	return probe.Success
}

// addresses returns the addresses of a Service at the load balancer: those that it or its annotations
// name, else the next free ones, of the managed ranges from after those that outbound IPs may have,
// or of a subnet if it is internal.
func (s *state) addresses(e *serviceEntry, taken map[netip.Addr]bool) ([]netip.Addr, error) {
	var l problems.List
	var all []netip.Addr
	c := &s.config
	for f, a := range e.settings.Addrs {
		if a.IsValid() && !slices.Contains(e.families(), family(f)) {
			l.Add(e.fieldOf(a), a, ErrFamily, "IPFamilies is %q", e.IPFamilies)
		}
	}
	if e.settings.Internal {
		all = s.privateAddresses(e, taken, &l)
		return all, l.Err()
	}
	for _, x := range [...]struct{ name, value string }{
		{"azure-pip-name-ipv6", e.settings.PublicIPNames[ipv6]}, {"azure-pip-prefix-id-ipv6", e.settings.PublicIPPrefixIDs[ipv6]},
	} {
		if x.value != "" && len(e.families()) == 1 {
			l.Add(annotations.Path(x.name), x.value, ErrFamily, "is for Services with two families, IPFamilies is %q", e.IPFamilies)
		}
	}
	for _, f := range e.families() {
		a := c.chosenAddr(e, f, taken, &l)
		if !a.IsValid() {
			if a = c.nextAddress(f, taken); !a.IsValid() {
				l.Add("Type", e.Type, flow.ErrTooMany, "no free %v address in %v", f, c.outbound().Range(int(f)))
				continue
			}
		}
		all = append(all, a)
	}
	for _, a := range e.settings.AdditionalAddrs {
		if !slices.Contains(e.families(), familyOf(a)) {
			l.Add("Annotations", a, ErrFamily, "IPFamilies is %q", e.IPFamilies)
		}
		all = append(all, a)
	}
	v := validation{ClusterConfig: *c}
	for _, a := range slices.Concat(e.settings.Addrs[:], e.settings.AdditionalAddrs) {
		v.checkServiceAddresses(e.fieldOf(a), []netip.Addr{a})
	}
	l.Include("", v.Err())
	return all, l.Err()
}

// fieldOf returns the field of the Service that names an address at the load balancer.
func (e *serviceEntry) fieldOf(a netip.Addr) string {
	if a == e.LoadBalancerIP {
		return "LoadBalancerIP"
	}
	return "Annotations"
}

// checkServiceAddresses checks that addresses of Services at the load balancer mean nothing
// inside the cluster's network, whose nodes might get them.
func (v *validation) checkServiceAddresses(field string, addrs []netip.Addr) {
	inside := v.insideRanges()
	for _, a := range addrs {
		if a == wireServer {
			v.Add(field, a, ErrReserved, "it is the platform's")
		} else if a.IsValid() {
			ranges.Disjoint(&v.List, ranges.Host(field, a), inside)
		}
	}
}

// nextAddress returns the next free address of a managed range.
func (c *ClusterConfig) nextAddress(f family, taken map[netip.Addr]bool) netip.Addr {
	from := c.outbound().Range(int(f))
	for i := uint64(outbound.MaxManaged + 1); ; i++ {
		a := addressing.At(from.Masked(), i)
		if !from.Contains(a) || i > 1<<16 {
			return netip.Addr{}
		}
		if !taken[a] {
			return a
		}
	}
}
