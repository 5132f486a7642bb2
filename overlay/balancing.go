// What a Service of type LoadBalancer makes of the cluster's load balancer: frontends,
// rules and probes. Read the document "LoadBalancer annotations" of cloud-provider-azure.

package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/snat"
)

// ServiceBackendPoolName is the pool of all nodes that the rules of Services have.
const ServiceBackendPoolName = "kubernetes"

// Defaults of a Service's probes (cloud-provider-azure).
const (
	serviceProbeInterval = 5 * time.Second
	serviceProbeCount    = 2
	healthPath           = "/healthz"
)

// probed is what a probe of a Service asks about.
type probed struct {
	service, port string
	local         bool // whether the node itself has endpoints
}

// probeOf returns the probe of a port, which has none if ok is false. Policy Local asks the health
// check node port; Cluster asks the node port, but not of UDP.
func (e *serviceEntry) probeOf(i int) (p probe.Probe, of probed, ok bool) {
	sp := &e.Ports[i]
	said, _, no := e.settings.Of(sp.Port)
	if no {
		return p, of, false
	}
	of = probed{e.Name, sp.Name, e.ExternalTrafficPolicy == PolicyLocal}
	p = probe.Probe{
		Name: e.ruleName(i), Port: sp.NodePort,
		Interval: cmp.Or(said.Interval, serviceProbeInterval), NumberOfProbes: cmp.Or(said.NumberOfProbes, serviceProbeCount),
	}
	protocol := cmp.Or(said.Protocol, sp.AppProtocol, "tcp")
	switch {
	case of.local:
		p.Port, protocol = e.HealthCheckNodePort, cmp.Or(said.Protocol, "http")
	case sp.Protocol == snat.UDP:
		return p, of, false
	}
	p.Port = cmp.Or(said.Port, p.Port)
	switch protocol {
	case "http":
		p.Protocol = probe.HTTP
	case "https":
		p.Protocol = probe.HTTPS
	}
	if p.Protocol != probe.TCP {
		path := "/"
		if of.local {
			path = healthPath
		}
		p.RequestPath = cmp.Or(said.RequestPath, path)
	}
	return p, of, true
}

// checkProbes reports what Kubernetes refuses of the probes that annotations ask for.
func (s *Service) checkProbes(a *annotations.Settings, l *problems.List) {
	for i, sp := range s.Ports {
		said, _, _ := a.Of(sp.Port)
		interval, n := cmp.Or(said.Interval, serviceProbeInterval), cmp.Or(said.NumberOfProbes, serviceProbeCount)
		if interval >= 2*time.Minute || n >= 120 || interval*time.Duration(n) >= 2*time.Minute {
			l.Add(problems.Index("Ports", i), sp.Port, probe.ErrTooSlow, "%d probes every %v", n, interval)
		}
		switch sp.AppProtocol {
		case "", "tcp", "http", "https":
		default:
			l.Add(problems.Index("Ports", i)+".AppProtocol", sp.AppProtocol, flow.ErrOutOfRange, "tcp, http or https")
		}
	}
	for port := range a.Ports {
		if !slices.ContainsFunc(s.Ports, func(sp ServicePort) bool { return sp.Port == port }) {
			l.Add("Annotations", problems.Raw(fmt.Sprintf("port_%d", port)), flow.ErrUnknownName, "the Service has no port %d", port)
		}
	}
}

// ruleName names the rule of a port, and its probe.
func (e *serviceEntry) ruleName(i int) string {
	return fmt.Sprintf("%s-%v-%d", e.Name, e.Ports[i].Protocol, e.Ports[i].Port)
}

// balance adds frontends, rules and probes of all Services to the load balancer of an
// egress, whose backends are the nodes, and returns what the probes ask about.
func balance(egress *lb.EgressConfig, services []*serviceEntry, prober probe.Prober) map[string]probed {
	l := &egress.LoadBalancer
	asked := make(map[string]probed)
	pool := lb.BackendAddressPool{Name: ServiceBackendPoolName}
	for _, b := range l.Backends {
		pool.Backends = append(pool.Backends, b.Name)
	}
	used := false
	for _, e := range services {
		if e.Type != LoadBalancer {
			continue
		}
		used = true
		for i, a := range e.addrs {
			l.FrontendIPConfigurations = append(l.FrontendIPConfigurations, lb.FrontendIPConfiguration{Name: fmt.Sprintf("%s-%d", e.Name, i), PublicIPAddress: a})
		}
		for i := range e.Ports {
			if _, noRule, _ := e.settings.Of(e.Ports[i].Port); noRule {
				continue
			}
			p, of, ok := e.probeOf(i)
			if ok {
				l.Probes = append(l.Probes, p)
				asked[p.Name] = of
			} else {
				p.Name = ""
			}
			for j := range e.addrs {
				l.LoadBalancingRules = append(l.LoadBalancingRules, e.rule(i, j, p.Name))
			}
		}
	}
	if used {
		l.BackendAddressPools = append(l.BackendAddressPools, pool)
		l.Prober = prober
	}
	return asked
}

// rule returns the rule of a port at one of the Service's addresses.
func (e *serviceEntry) rule(port, addr int, probe string) lb.LoadBalancingRule {
	sp := &e.Ports[port]
	r := lb.LoadBalancingRule{
		Name: fmt.Sprintf("%s-%d", e.ruleName(port), addr), FrontendIPConfiguration: fmt.Sprintf("%s-%d", e.Name, addr),
		BackendAddressPool: ServiceBackendPoolName, Protocol: sp.Protocol, FrontendPort: sp.Port, BackendPort: sp.Port,
		IdleTimeout: e.settings.IdleTimeout, EnableTCPReset: sp.Protocol == snat.TCP && !e.settings.DisableTCPReset,
		EnableFloatingIP: !e.settings.DisableFloatingIP, Probe: probe, DisableOutboundSNAT: true,
	}
	if e.settings.DisableFloatingIP {
		r.BackendPort = sp.NodePort
	}
	if e.SessionAffinity {
		r.LoadDistribution = lb.SourceIP
	}
	return r
}

// Probe answers a probe of the load balancer for a node: policy Local is 200 if the node
// has endpoints and else 503; Cluster is a handshake if anybody has.
func (c *Cluster) probe(_ flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	asked := c.services.probes.Load()
	of, ok := (*asked)[p.Name]
	node, known := c.state.Load().byName[b.Name]
	if !ok || !known {
		return probe.Failure
	}
	if of.local {
		if n, _ := c.proxy.LocalEndpoints(of.service, node); n == 0 {
			return probe.Refusal
		}
		return probe.Success
	}
	if c.proxy.Endpoints(of.service, of.port) == 0 {
		return probe.Failure
	}
	return probe.Success
}

// addresses returns the addresses of a Service at the load balancer: those of its annotations,
// else the next free ones of the managed ranges, from after those that outbound IPs may have.
func (c *ClusterConfig) addresses(e *serviceEntry, taken map[netip.Addr]bool) ([]netip.Addr, error) {
	var l problems.List
	var all []netip.Addr
	for _, f := range e.families() {
		a := e.settings.Addrs[f]
		if !a.IsValid() {
			if a = c.nextAddress(f, taken); !a.IsValid() {
				l.Add("Type", e.Type, flow.ErrTooMany, "no free %v address in %v", f, c.LoadBalancerProfile.managedRange(f))
				continue
			}
		}
		all = append(all, a)
	}
	for f, a := range e.settings.Addrs {
		if a.IsValid() && !slices.Contains(e.families(), family(f)) {
			l.Add("Annotations", a, ErrFamily, "IPFamilies is %q", e.IPFamilies)
		}
	}
	for _, a := range e.settings.AdditionalAddrs {
		if !slices.Contains(e.families(), familyOf(a)) {
			l.Add("Annotations", a, ErrFamily, "IPFamilies is %q", e.IPFamilies)
		}
		all = append(all, a)
	}
	v := validation{ClusterConfig: *c}
	v.checkServiceAddresses("Annotations", e.settings.Addrs[:])
	v.checkServiceAddresses("Annotations", e.settings.AdditionalAddrs)
	l.Include("", v.Err())
	return all, l.Err()
}

// checkServiceAddresses checks that addresses of Services at the load balancer mean nothing
// inside the cluster's network, whose nodes might get them.
func (v *validation) checkServiceAddresses(field string, addrs []netip.Addr) {
	inside := v.insideRanges()
	for _, a := range addrs {
		if a == wireServer {
			v.Add(field, a, ErrReserved, "it is the platform's")
		} else if a.IsValid() {
			v.disjoint(namedRange{netip.PrefixFrom(a, a.BitLen()), field, a}, inside)
		}
	}
}

// nextAddress returns the next free address of a managed range.
func (c *ClusterConfig) nextAddress(f family, taken map[netip.Addr]bool) netip.Addr {
	from := c.LoadBalancerProfile.managedRange(f)
	for i := uint64(maxManagedIPs + 1); ; i++ {
		a := addrAt(from.Masked(), i)
		if !from.Contains(a) || i > 1<<16 {
			return netip.Addr{}
		}
		if !taken[a] {
			return a
		}
	}
}
