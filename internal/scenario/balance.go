package scenario

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// balance is the load balancer of a scene, besides its backends and frontends.
type balance struct {
	sku      lb.SKU
	outbound lb.OutboundRule
	rules    []lb.LoadBalancingRule
	natRules []lb.InboundNATRule
	down     map[string]bool // machines
}

// Probe is the prober of the scene.
func (b *balance) Probe(_ flow.Time, m probe.Backend, _ *probe.Probe) probe.Result {
	if b.down[m.Name] {
		return probe.Failure
	}
	return probe.Success
}

// balanced is a load balancer that can be reconfigured as a scene.
type balanced struct{ *lb.LoadBalancer }

func (s *stage) balancer(words []string) ([]string, error) {
	a := parse(words, "ports idle", "basic reset")
	s.balance.outbound = lb.OutboundRule{
		Name: "outbound", BackendAddressPool: "pool", AllocatedOutboundPorts: int(a.number("ports", 1<<20)),
		IdleTimeout: a.duration("idle"), EnableTCPReset: a.is("reset"),
	}
	if a.is("basic") {
		s.balance.sku = lb.Basic
	}
	s.make = func(s *stage) (translator, error) {
		l, err := lb.New(s.balanced())
		if err != nil {
			return nil, err
		}
		return &balanced{l}, nil
	}
	return nil, a.err
}

// backends are the instances as a load balancer knows them.
func (s *stage) backends() (all []lb.Backend, names []string) {
	for _, i := range s.site.Instances {
		all = append(all, lb.Backend{Name: i.Name, Addrs: i.Addrs, Inside: i.Inside})
		names = append(names, i.Name)
	}
	return all, names
}

// balanced is the load balancer of the scene.
func (s *stage) balanced() lb.Config {
	backends, names := s.backends()
	b := &s.balance
	c := lb.Config{
		Name: "balancer", SKU: b.sku, Backends: backends, Routes: s.site.Routes,
		BackendAddressPools: []lb.BackendAddressPool{{Name: "pool", Backends: names}},
		LoadBalancingRules:  slices.Clone(b.rules), InboundNATRules: b.natRules,
		Probes: []probe.Probe{{Name: "health", Port: 8080, Interval: 5 * time.Second}}, Prober: b,
	}
	rule, internal := b.outbound, false
	for _, f := range s.site.Frontends {
		config := lb.FrontendIPConfiguration{Name: f.String(), PublicIPAddress: f}
		if f.IsPrivate() {
			config.PublicIPAddress, config.PrivateIPAddress, internal = netip.Addr{}, f, true
		}
		c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, config)
		rule.FrontendIPConfigurations = append(rule.FrontendIPConfigurations, config.Name)
	}
	if b.sku == lb.Standard && !internal {
		c.OutboundRules = []lb.OutboundRule{rule}
	}
	for i := range c.LoadBalancingRules {
		c.LoadBalancingRules[i].DisableOutboundSNAT = b.sku == lb.Standard
	}
	c.Dataplane = s.bare().Dataplane
	return c
}

// opens reads FRONTEND:PORT[/PROTOCOL].
func opens(text string) (frontend string, port uint16, p snat.Protocol, err error) {
	text, proto, _ := strings.Cut(text, "/")
	socket, err := netip.ParseAddrPort(text)
	p, ok := map[string]snat.Protocol{"": snat.All, "tcp": snat.TCP, "udp": snat.UDP}[proto]
	if err == nil && !ok {
		err = fmt.Errorf("no protocol %s", proto)
	}
	return socket.Addr().String(), socket.Port(), p, err
}

func (s *stage) rule(words []string) ([]string, error) {
	if len(words) < 2 {
		return nil, errUsage
	}
	a := parse(words[2:], "backend idle spread", "probe floating reset")
	l := lb.LoadBalancingRule{
		Name: words[0], BackendAddressPool: "pool", IdleTimeout: a.duration("idle"), EnableTCPReset: a.is("reset"), EnableFloatingIP: a.is("floating"),
	}
	var err error
	if l.FrontendIPConfiguration, l.FrontendPort, l.Protocol, err = opens(words[1]); err != nil {
		return nil, err
	}
	if l.BackendPort = uint16(a.number("backend", 65535)); l.BackendPort == 0 {
		l.BackendPort = l.FrontendPort
	}
	if a.is("probe") {
		l.Probe = "health"
	}
	spread, ok := map[string]lb.LoadDistribution{"": lb.DefaultDistribution, "source": lb.SourceIP, "source+protocol": lb.SourceIPProtocol}[a.text("spread")]
	if !ok {
		return nil, errUsage
	}
	l.LoadDistribution = spread
	s.balance.rules = append(s.balance.rules, l)
	return nil, a.err
}

func (s *stage) natPool(words []string) ([]string, error) {
	if len(words) < 2 {
		return nil, errUsage
	}
	a := parse(words[2:], "last backend", "")
	n := lb.InboundNATRule{
		Name: words[0], BackendAddressPool: "pool", FrontendPortRangeEnd: uint16(a.number("last", 65535)), BackendPort: uint16(a.number("backend", 65535)),
	}
	var err error
	if n.FrontendIPConfiguration, n.FrontendPortRangeStart, n.Protocol, err = opens(words[1]); err != nil {
		return nil, err
	}
	s.balance.natRules = append(s.balance.natRules, n)
	return nil, a.err
}

// machines lets machines of a load balancer go down, or come up.
func (s *stage) machines(words []string, down bool) ([]string, error) {
	if len(words) == 0 {
		return nil, errUsage
	}
	if s.balance.down == nil {
		s.balance.down = map[string]bool{}
	}
	for _, name := range words {
		s.balance.down[name] = down
	}
	return nil, nil
}
