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
	"maps"
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

// The probe of all Services with policy Cluster, in mode Shared: nodes' proxies answer it
// (cloud-provider-azure).
const (
	SharedProbeName = "cluster-service-shared-health-probe"
	sharedProbePort = 10256
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
	Shared        bool // whether the node's proxy runs, and no Service
}

// Options say how load balancers probe.
type Options struct {
	Prober probe.Prober
	Shared bool // Services with policy Cluster have one probe together
}

// Balance adds frontends, rules and probes of Services to the load balancers of an egress,
// whose backends are the nodes, and returns what the probes ask about, by name.
func Balance(egress *lb.EgressConfig, services []Service, o Options) map[string]Asked {
	l := &egress.LoadBalancer
	asked := make(map[string]Asked)
	pool := lb.BackendAddressPool{Name: PoolName}
	for _, b := range l.Backends {
		pool.Backends = append(pool.Backends, b.Name)
	}
	inner := lb.InternalLoadBalancer{Name: InternalName, SKU: l.SKU}
	for i := range services {
		s := &services[i]
		own := made{sku: l.SKU, shared: o.Shared, asked: asked}
		if s.Settings.Internal {
			own.frontends, own.probes, own.rules = &inner.FrontendIPConfigurations, &inner.Probes, &inner.LoadBalancingRules
			s.add(&own)
			inner.BackendAddressPools = []lb.BackendAddressPool{pool}
		} else {
			own.frontends, own.probes, own.rules = &l.FrontendIPConfigurations, &l.Probes, &l.LoadBalancingRules
			s.add(&own)
			if !slices.ContainsFunc(l.BackendAddressPools, func(p lb.BackendAddressPool) bool { return p.Name == PoolName }) {
				l.BackendAddressPools = append(l.BackendAddressPools, pool)
			}
		}
		l.Prober = o.Prober
	}
	if inner.BackendAddressPools != nil {
		egress.InternalLoadBalancers = append(egress.InternalLoadBalancers, inner)
	}
	return asked
}

// made is what has been made of the Services of one load balancer.
type made struct {
	sku       lb.SKU
	shared    bool // see Options
	asked     map[string]Asked
	frontends *[]lb.FrontendIPConfiguration
	probes    *[]probe.Probe
	rules     *[]lb.LoadBalancingRule
}

// add adds what a load balancer has of a Service. An address that another Service has already is one
// frontend for both. Each family has probes of its own.
func (s *Service) add(to *made) {
	for i, a := range s.Addrs {
		name := FrontendName(a)
		if slices.ContainsFunc(*to.frontends, func(f lb.FrontendIPConfiguration) bool { return f.Name == name }) {
			continue
		}
		f := lb.FrontendIPConfiguration{Name: name, PublicIPAddress: a}
		if s.Settings.Internal {
			f.PublicIPAddress, f.PrivateIPAddress, f.Subnet = netip.Addr{}, a, s.Subnets[i]
		}
		*to.frontends = append(*to.frontends, f)
	}
	if s.Settings.HAPorts {
		s.addHAPorts(to)
		return
	}
	for i := range s.Ports {
		if _, noRule, _ := s.Settings.Of(s.Ports[i].Port); noRule {
			continue
		}
		for j, a := range s.Addrs {
			r := s.rule(i, j, to.sku)
			r.Probe, _ = s.addProbe(to, i, a.Is6())
			*to.rules = append(*to.rules, r)
		}
	}
}

// addHAPorts adds the one rule that an address has for all ports, with the probe of the first port
// that has one. What comes to a port that is none of the Service's, its nodes have no use for.
func (s *Service) addHAPorts(to *made) {
	for j, a := range s.Addrs {
		r := s.rule(0, j, to.sku)
		r.Name, r.Protocol, r.FrontendPort, r.BackendPort = fmt.Sprintf("%s-HA-%d", s.Name, j), snat.All, 0, 0
		r.EnableTCPReset = !s.Settings.DisableTCPReset
		for i, found := 0, false; i < len(s.Ports) && !found; i++ {
			r.Probe, found = s.addProbe(to, i, a.Is6())
		}
		*to.rules = append(*to.rules, r)
	}
}

// addProbe adds the probe of a port over a family, if it is a new one, and returns its name, and
// whether the port has any.
func (s *Service) addProbe(to *made, i int, is6 bool) (name string, ok bool) {
	p, of, ok := s.probeOf(i, is6)
	have := func() bool { _, have := to.asked[p.Name]; return have }
	if to.shared && !s.Local {
		p, of = sharedProbe(is6)
		ok, have = true, func() bool {
			return slices.ContainsFunc(*to.probes, func(o probe.Probe) bool { return o.Name == p.Name }) // both load balancers have one
		}
	}
	switch {
	case !ok:
		return "", false
	case !have():
		*to.probes = append(*to.probes, p)
		to.asked[p.Name] = of
	}
	return p.Name, true
}

// sharedProbe returns the probe of mode Shared.
func sharedProbe(is6 bool) (probe.Probe, Asked) {
	name := SharedProbeName
	if is6 {
		name += "-IPv6"
	}
	p := probe.Probe{Name: name, Protocol: probe.HTTP, Port: sharedProbePort, RequestPath: healthPath, Interval: probeInterval, NumberOfProbes: probeCount}
	return p, Asked{Shared: true, Is6: is6}
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
	of = Asked{Service: s.Name, Port: sp.Name, Local: s.Local, Is6: is6}
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

// rule returns the rule of a port at one of the Service's addresses, without its probe. On SKU
// Basic it lends its frontend to what goes out, and there are no resets.
func (s *Service) rule(port, addr int, sku lb.SKU) lb.LoadBalancingRule {
	sp := &s.Ports[port]
	r := lb.LoadBalancingRule{
		Name: fmt.Sprintf("%s-%d", s.ruleName(port), addr), FrontendIPConfiguration: FrontendName(s.Addrs[addr]),
		BackendAddressPool: PoolName, Protocol: sp.Protocol, FrontendPort: sp.Port, BackendPort: sp.Port,
		IdleTimeout: s.Settings.IdleTimeout, EnableFloatingIP: Floats(s.Settings, s.Addrs[addr]),
	}
	if sku == lb.Standard {
		r.EnableTCPReset, r.DisableOutboundSNAT = sp.Protocol == snat.TCP && !s.Settings.DisableTCPReset, true
	}
	if !r.EnableFloatingIP {
		r.BackendPort = sp.NodePort
	}
	if s.SessionAffinity {
		r.LoadDistribution = lb.SourceIP
	}
	return r
}

// CheckProbes reports what Kubernetes refuses of the probes that annotations ask for. shared says
// that the Service shares its probe with others, and so cannot ask for any.
func CheckProbes(ports []Port, a *annotations.Settings, shared bool, l *problems.List) {
	if asks := func(p *annotations.Port) bool { return p.NoProbe || p.Probe != (annotations.Probe{}) }; shared &&
		(a.Probe != (annotations.Probe{}) || slices.ContainsFunc(slices.Collect(maps.Values(a.Ports)), asks)) {
		l.Add("Annotations", problems.Raw("health-probe"), flow.ErrConflict, "Services with policy Cluster share one probe, by ClusterServiceLoadBalancerHealthProbeMode")
	}
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
