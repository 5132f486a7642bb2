// Internal load balancers beside the public one: the same machines behind both.

package lb

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// InternalLoadBalancer is an internal load balancer in front of the backends of an Egress:
// what comes to its private frontends, from the virtual network or from the backends
// themselves, goes to them by its rules. It never translates outbound flows. Whatever Config
// has besides these fields, from Prober to MaxRuleIdleTimeout, is that of
// EgressConfig.LoadBalancer for all load balancers.
type InternalLoadBalancer struct {
	Name string // unique among all load balancers, not empty
	SKU  SKU    // zero is Standard; that of all load balancers with the same backends

	FrontendIPConfigurations []FrontendIPConfiguration // with PrivateIPAddress; see Config
	BackendAddressPools      []BackendAddressPool      // of EgressConfig.LoadBalancer.Backends; their names are its own
	LoadBalancingRules       []LoadBalancingRule       // see Config; the 300 rules of a backend are those of all load balancers
	InboundNATRules          []InboundNATRule          // see LoadBalancingRules
	Probes                   []probe.Probe             // their names are its own
}

// clone returns a copy that shares no memory with b.
func (b InternalLoadBalancer) clone() InternalLoadBalancer {
	b.FrontendIPConfigurations = cloneFrontends(b.FrontendIPConfigurations)
	b.BackendAddressPools = clonePools(b.BackendAddressPools)
	b.LoadBalancingRules, b.InboundNATRules = slices.Clone(b.LoadBalancingRules), slices.Clone(b.InboundNATRules)
	b.Probes = slices.Clone(b.Probes)
	return b
}

// internal returns the configuration of an internal load balancer.
func (c *EgressConfig) internal(i int) *Config {
	b, l := &c.InternalLoadBalancers[i], &c.LoadBalancer
	return &Config{
		Name: b.Name, SKU: b.SKU, FrontendIPConfigurations: b.FrontendIPConfigurations, Backends: l.Backends,
		BackendAddressPools: b.BackendAddressPools, LoadBalancingRules: b.LoadBalancingRules, InboundNATRules: b.InboundNATRules, Probes: b.Probes,
		Prober: l.Prober, AssumeHealthy: l.AssumeHealthy, FirstResult: l.FirstResult, KubernetesProbes: l.KubernetesProbes,
		MaxRuleIdleTimeout: l.MaxRuleIdleTimeout, HAPortsTCPReset: l.HAPortsTCPReset, Timeouts: l.Timeouts,
	}
}

// internalPath is where an internal load balancer is in an EgressConfig.
func internalPath(i int) string { return problems.Index("InternalLoadBalancers", i) }

// paths returns where the load balancers of an EgressConfig are, as balancers has them.
func (r *resolved) paths() []string {
	paths := []string{"LoadBalancer"}
	for i := range r.beside {
		paths = append(paths, internalPath(i))
	}
	return paths
}

// report adds what is wrong with r and what is beside it.
func (r *resolved) report(p *problems.List) {
	paths := r.paths()
	for k, b := range r.balancers() {
		p.Include(paths[k], b.Err())
	}
}

// checkBeside checks what load balancers are to one another, as far as that needs no names
// of theirs.
func (r *resolved) checkBeside(p *problems.List) {
	all, paths := r.balancers(), r.paths()
	names := map[string]int{}
	for k, b := range all {
		path := paths[k] + ".Name"
		if first, dup := names[b.Name]; k > 0 && b.Name == "" {
			p.Add(path, b.Name, flow.ErrMissing, "every internal load balancer needs a name")
		} else if dup && b.Name != "" {
			p.Add(path, b.Name, flow.ErrDuplicateName, "already %s", paths[first])
		} else {
			names[b.Name] = k
		}
	}
	first := -1
	for k, b := range all {
		if k > 0 && len(r.FrontendIPConfigurations) == 0 { // else the public one is asked
			b.checkWithoutGroup(r.NetworkSecurity, "LoadBalancer.", p)
		}
		switch {
		case !b.hasMembers():
		case first < 0:
			first = k
		case b.SKU < numSKUs && b.SKU != all[first].SKU:
			p.Add(paths[k]+".SKU", b.SKU, flow.ErrConflict, "the pools of %s are of SKU %v, and have the same backends", paths[first], all[first].SKU)
		}
	}
}

// socketOf is where packets without floating IP arrive at a backend; port 0 is all ports.
type socketOf struct {
	backend  int
	is6      bool
	protocol snat.Protocol
	port     uint16
}

// user is a rule that leads to a socket.
type user struct {
	balancer int
	opening  *opening // nil is nobody
	path     string
	policy   *snat.Policy
}

// others reports whether a rule of a public (0) or internal (1) load balancer conflicts with one of
// another load balancer that leads to the same socket of a backend, and adds that.
func (u *user) others(p *problems.List, users [2]user, kind int, backend string) bool {
	for k, was := range users {
		path, port := u.path+".BackendPort", u.opening.backendPort
		switch {
		case was.opening == nil || was.balancer == u.balancer:
		case k == kind:
			p.Add(path, port, flow.ErrConflict,
				"RulesOfSameLoadBalancerTypeUseSameBackendPortProtocolAndIPConfig: %s leads to it on backend %q, too; one of them needs EnableFloatingIP", was.path, backend)
			return true
		case *was.policy != *u.policy:
			p.Add(path, port, ErrUnsupported,
				"%s leads to it on backend %q, too; both need the same Protocol, IdleTimeout and EnableTCPReset (which rules with HA ports have only with HAPortsTCPReset), or one of them EnableFloatingIP", was.path, backend)
			return true
		}
	}
	return false
}

// checkTogether checks what all load balancers together do to the backends: how many rules
// one has, and which rules lead to one of its sockets. Those of load balancers of one type
// may not, and those of a public and an internal one need the same timers, because the
// translator seeks an answer by one policy. It must come when each load balancer for itself is
// in order.
func (r *resolved) checkTogether(p *problems.List) {
	if len(r.beside) == 0 {
		return
	}
	paths, perBackend := r.paths(), make([]int, len(r.Backends))
	by := map[socketOf][2]user{} // of the public ones and of internal ones; those with HA ports at port 0
	enter := func(of user, at socketOf) (goOn bool) {
		kind, all := 0, at
		if r.balancers()[of.balancer].internal {
			kind = 1
		}
		all.port = 0
		for _, at := range []socketOf{at, all} {
			if of.others(p, by[at], kind, r.Backends[at.backend].Name) {
				return false
			}
		}
		if users := by[at]; users[kind].opening == nil {
			users[kind] = of
			by[at] = users
		}
		return true
	}
	each := func(haPorts bool) {
		for k, b := range r.balancers() {
			for i := range b.openings {
				o := &b.openings[i]
				if o.floating || o.haPorts != haPorts {
					continue
				}
				of := user{k, o, paths[k] + "." + o.path, b.inboundPolicy(o)}
				for _, backend := range b.served(o) {
					goOn := true
					for _, protocol := range []snat.Protocol{snat.TCP, snat.UDP} {
						goOn = goOn && (!covers(o.protocol, protocol) || enter(of, socketOf{backend, b.is6(o), protocol, o.backendPort}))
					}
					if !goOn {
						break
					}
				}
			}
		}
	}
	each(true) // which those of one port are to find
	each(false)
	for _, b := range r.balancers() {
		for i, n := range b.rulesPerBackend() {
			perBackend[i] += n
		}
	}
	for i, n := range perBackend {
		problems.AtMost(p, problems.Field("LoadBalancer", problems.Index("Backends", i)), n, "rules of all load balancers", maxRulesPerBackend)
	}
}

// InternalMetrics returns a sample of every series of an internal load balancer in force, by
// its name, and false if there is none: the availability of its frontend ports and backends,
// and with CountTraffic its traffic. It has no SNAT ports. See [LoadBalancer.Metrics].
func (e *Egress) InternalMetrics(name string) ([]monitor.Sample, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	k, ok := e.state.internal(name)
	if !ok {
		return nil, false
	}
	own := ownAddrsOf(e.state.config.LoadBalancer.Backends)
	return metrics(&e.health, e.nat, own, e.state.inForce.forwards, k), true
}

// InternalPortMappings returns the frontend ports of the inbound NAT rules of an internal load
// balancer in force, by its name, and false if there is none. See [LoadBalancer.PortMappings].
func (e *Egress) InternalPortMappings(name string) ([]PortMapping, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	k, ok := e.state.internal(name)
	if !ok {
		return nil, false
	}
	return slices.Clone(e.state.inForce.balancers[k].ports), true
}

// internal returns the number of an internal load balancer among all, by its name.
func (s *egressState) internal(name string) (int, bool) {
	k := slices.IndexFunc(s.inForce.balancers, func(b balancerInForce) bool { return b.beside && b.name == name })
	return k, k >= 0
}
