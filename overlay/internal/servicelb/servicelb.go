// Package servicelb compiles Services of type LoadBalancer into what load balancers have of
// them: frontends, rules and probes. Those that are internal are on an internal load
// balancer of the same nodes, the others on the cluster's public one.
//
// [Service] and [Port] are data: a Service with all that has been chosen for it. [Asked] is
// what one of the probes asks about. [Balance] and [CheckProbes] are functions of their arguments;
// the package has no state and no lock.
//
// It refuses to know nodes, endpoints and packets: who answers a probe, and how a node finds
// an endpoint for what a rule sends it, is the business of others.
//
// Source: the document "LoadBalancer annotations" of cloud-provider-azure, and its package
// pkg/provider.
package servicelb

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

// Names that cloud-provider-azure gives.
const (
	PoolName     = "kubernetes"          // the pool of all nodes
	InternalName = "kubernetes-internal" // the internal load balancer
)

// Defaults of a Service's probes (cloud-provider-azure).
const (
	probeInterval = 5 * time.Second
	probeCount    = 2
	healthPath    = "/healthz"
)

// Service is a Service of type LoadBalancer.
type Service struct {
	Name                string
	Ports               []Port
	Addrs               []netip.Addr   // at the load balancer
	Subnets             []netip.Prefix // of Addrs, if they are private
	Local               bool           // ExternalTrafficPolicy is Local
	HealthCheckNodePort uint16         // if Local
	SessionAffinity     bool
	Settings            *annotations.Settings
}

// Port is a port of a Service.
type Port struct {
	Name           string
	Protocol       snat.Protocol // TCP or UDP
	Port, NodePort uint16
	AppProtocol    string
}

// Asked is what a probe asks about.
type Asked struct {
	Service, Port string
	Local         bool // whether the node itself has endpoints
	Is6           bool // it asks over IPv6
}

// Balance adds frontends, rules and probes of Services to the load balancers of an egress,
// whose backends are the nodes, and returns what the probes ask about, by name.
func Balance(egress *lb.EgressConfig, services []Service, prober probe.Prober) map[string]Asked {
	l := &egress.LoadBalancer
	asked := make(map[string]Asked)
	pool := lb.BackendAddressPool{Name: PoolName}
	for _, b := range l.Backends {
		pool.Backends = append(pool.Backends, b.Name)
	}
	inner := lb.InternalLoadBalancer{Name: InternalName, SKU: l.SKU}
	for i := range services {
		s := &services[i]
		if s.Settings.Internal {
			s.add(asked, &inner.FrontendIPConfigurations, &inner.Probes, &inner.LoadBalancingRules)
			inner.BackendAddressPools = []lb.BackendAddressPool{pool}
		} else {
			s.add(asked, &l.FrontendIPConfigurations, &l.Probes, &l.LoadBalancingRules)
			if !slices.ContainsFunc(l.BackendAddressPools, func(p lb.BackendAddressPool) bool { return p.Name == PoolName }) {
				l.BackendAddressPools = append(l.BackendAddressPools, pool)
			}
		}
		l.Prober = prober
	}
	if inner.BackendAddressPools != nil {
		egress.InternalLoadBalancers = append(egress.InternalLoadBalancers, inner)
	}
	return asked
}

// add adds what a load balancer has of a Service. An address that another Service has already is one
// frontend for both. Each family has probes of its own.
func (s *Service) add(asked map[string]Asked, frontends *[]lb.FrontendIPConfiguration, probes *[]probe.Probe, rules *[]lb.LoadBalancingRule) {
	names := make([]string, len(s.Addrs))
	for i, a := range s.Addrs {
		names[i] = FrontendName(a)
		if slices.ContainsFunc(*frontends, func(f lb.FrontendIPConfiguration) bool { return f.Name == names[i] }) {
			continue
		}
		f := lb.FrontendIPConfiguration{Name: names[i], PublicIPAddress: a}
		if s.Settings.Internal {
			f.PublicIPAddress, f.PrivateIPAddress, f.Subnet = netip.Addr{}, a, s.Subnets[i]
		}
		*frontends = append(*frontends, f)
	}
	for i := range s.Ports {
		if _, noRule, _ := s.Settings.Of(s.Ports[i].Port); noRule {
			continue
		}
		for j, a := range s.Addrs {
			p, of, ok := s.probeOf(i, a.Is6())
			if _, have := asked[p.Name]; ok && !have {
				*probes = append(*probes, p)
				asked[p.Name] = of
			} else if !ok {
				p.Name = ""
			}
			r := s.rule(i, j, p.Name)
			r.FrontendIPConfiguration = names[j]
			*rules = append(*rules, r)
		}
	}
}

// FrontendName names the frontend that has an address. It does not name a Service, for the
// frontend stays when the first of several Services goes.
func FrontendName(a netip.Addr) string { return "frontend-" + a.String() }

// probeOf returns the probe of a port over a family, which has none if ok is false. Policy Local asks the health
// check node port; Cluster asks the node port, but not of UDP.
func (s *Service) probeOf(i int, is6 bool) (p probe.Probe, of Asked, ok bool) {
	sp := &s.Ports[i]
	said, _, no := s.Settings.Of(sp.Port)
	if no {
		return p, of, false
	}
	of = Asked{s.Name, sp.Name, s.Local, is6}
	p = probe.Probe{
		Name: s.probeName(i, is6), Port: sp.NodePort,
		Interval: cmp.Or(said.Interval, probeInterval), NumberOfProbes: cmp.Or(said.NumberOfProbes, probeCount),
	}
	protocol := cmp.Or(said.Protocol, sp.AppProtocol, "tcp")
	switch {
	case of.Local:
		p.Port, protocol = s.HealthCheckNodePort, cmp.Or(said.Protocol, "http")
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
		if of.Local {
			path = healthPath
		}
		p.RequestPath = cmp.Or(said.RequestPath, path)
	}
	return p, of, true
}

// probeName names the probe of a port over a family.
func (s *Service) probeName(i int, is6 bool) string {
	if is6 {
		return s.ruleName(i) + "-IPv6"
	}
	return s.ruleName(i)
}

// ruleName names the rule of a port, and its probe.
func (s *Service) ruleName(i int) string {
	return fmt.Sprintf("%s-%v-%d", s.Name, s.Ports[i].Protocol, s.Ports[i].Port)
}

// Floats reports whether the rules of a Service at an address have floating IP: not if an
// annotation says so, and not on an internal load balancer for IPv6.
func Floats(a *annotations.Settings, addr netip.Addr) bool {
	return !a.DisableFloatingIP && !(a.Internal && addr.Is6())
}

// rule returns the rule of a port at one of the Service's addresses.
func (s *Service) rule(port, addr int, probe string) lb.LoadBalancingRule {
	sp := &s.Ports[port]
	r := lb.LoadBalancingRule{
		Name:               fmt.Sprintf("%s-%d", s.ruleName(port), addr),
		BackendAddressPool: PoolName, Protocol: sp.Protocol, FrontendPort: sp.Port, BackendPort: sp.Port,
		IdleTimeout: s.Settings.IdleTimeout, EnableTCPReset: sp.Protocol == snat.TCP && !s.Settings.DisableTCPReset,
		EnableFloatingIP: Floats(s.Settings, s.Addrs[addr]), Probe: probe, DisableOutboundSNAT: true,
	}
	if !r.EnableFloatingIP {
		r.BackendPort = sp.NodePort
	}
	if s.SessionAffinity {
		r.LoadDistribution = lb.SourceIP
	}
	return r
}

// CheckProbes reports what Kubernetes refuses of the probes that annotations ask for.
func CheckProbes(ports []Port, a *annotations.Settings, l *problems.List) {
	for i, sp := range ports {
		said, _, _ := a.Of(sp.Port)
		interval, n := cmp.Or(said.Interval, probeInterval), cmp.Or(said.NumberOfProbes, probeCount)
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
		if !slices.ContainsFunc(ports, func(sp Port) bool { return sp.Port == port }) {
			l.Add("Annotations", problems.Raw(fmt.Sprintf("port_%d", port)), flow.ErrUnknownName, "the Service has no port %d", port)
		}
	}
}
