package lb

// Changes of the configuration in the model of inbound_model_test.go.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// groups is the network security group of now: all may come in but who is blocked, and go
// out but to whom that is denied.
func (m *inboundModel) groups() *nsg.Config {
	rules := []nsg.SecurityRule{sec("all", nsg.Inbound, nsg.Allow, "*", "*", "*")}
	rules[0].Priority, rules[0].Protocol = 4096, nsg.Any
	for i, a := range slices.SortedFunc(maps.Keys(m.blocked), netip.Addr.Compare) {
		no := sec(fmt.Sprint("in", i), nsg.Inbound, nsg.Deny, a.String(), modelSubnet[flow.Family(a)].String(), "1-65535")
		no.Priority, no.Protocol = 100+i, nsg.Any
		rules = append(rules, no)
	}
	for i, a := range slices.SortedFunc(maps.Keys(m.denied), netip.Addr.Compare) {
		no := sec(fmt.Sprint("out", i), nsg.Outbound, nsg.Deny, modelSubnet[flow.Family(a)].String(), a.String(), "*")
		no.Priority, no.Protocol = 100+i, nsg.Any
		rules = append(rules, no)
	}
	return &nsg.Config{
		WithoutGroup:          nsg.WithoutGroup(m.c.SKU), // closed with Standard, open with Basic
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "nodes", SecurityRules: rules}},
		Subnets:               []nsg.Subnet{{Name: "nodes", AddressPrefixes: modelSubnet[:], NetworkSecurityGroup: "nodes"}},
	}
}

// change changes the configuration.
func (m *inboundModel) change() {
	c := m.c
	pool := c.BackendAddressPools[0]
	blocked, denied := m.blocked, m.denied
	switch m.r.IntN(9) {
	case 0:
		pool.Backends, pool.AdminStates = nil, nil
		for _, i := range m.r.Perm(5)[:m.r.IntN(6)] {
			if name := fmt.Sprint("node", i); m.exists(name) {
				pool.Backends = append(pool.Backends, name)
			}
		}
	case 1:
		pool.AdminStates = nil
		for _, name := range pool.Backends {
			if m.r.IntN(3) == 0 {
				pool.AdminStates = append(pool.AdminStates, BackendAdminState{name, probe.AdminState(m.r.IntN(3))})
			}
		}
	case 2:
		m.secure()
	case 3: // a backend is gone, or all are there
		c.Backends = modelBackends()
		if m.r.IntN(2) == 0 {
			i := m.r.IntN(5)
			c.Backends = slices.Delete(c.Backends, i, i+1)
			name := fmt.Sprint("node", i)
			pool.Backends = slices.DeleteFunc(slices.Clone(pool.Backends), func(b string) bool { return b == name })
			pool.AdminStates = slices.DeleteFunc(slices.Clone(pool.AdminStates), func(s BackendAdminState) bool { return s.Backend == name })
			c.InboundNATRules = slices.DeleteFunc(slices.Clone(c.InboundNATRules), func(n InboundNATRule) bool { return n.Backend == name })
		}
	case 4:
		c.Probes = slices.Clone(c.Probes)
		p := &c.Probes[0]
		p.NumberOfProbes, p.NoHealthyBackendsBehavior = 1+m.r.IntN(3), probe.NoHealthyBackendsBehavior(m.r.IntN(2))
	case 5:
		c.InboundNATRules = m.changeNATRules(c.InboundNATRules)
	default:
		c.LoadBalancingRules = m.changeRules(c.LoadBalancingRules)
	}
	c.BackendAddressPools = []BackendAddressPool{pool}
	c.NetworkSecurity = m.groups()
	_, err := m.l.Reconfigure(flow.At(m.now), c)
	if invalid(&c) {
		require.Error(m.t, err)
		m.blocked, m.denied = blocked, denied
		m.seen["refused change"]++
		m.check()
		return
	}
	require.NoError(m.t, err)
	m.c = c
	m.watch()
	m.mapPorts()
	for f, s := range m.flows {
		if !m.goesOn(f, s) {
			delete(m.flows, f)
			m.seen["cut"]++
		}
	}
	m.judge()
	m.advance() // some have shorter timeouts now
	owned := m.ports()
	for k, f := range m.outbound {
		if !owned[fmt.Sprint(m.backendAt(k.inside.Addr()), " ", f.outside)] {
			delete(m.outbound, k)
		}
	}
}

// invalid reports whether a changed configuration has one of the faults that changes may make.
func invalid(c *Config) bool {
	short := func(idle time.Duration) bool { return idle > 0 && idle < 4*time.Minute }
	return slices.ContainsFunc(c.LoadBalancingRules, func(l LoadBalancingRule) bool { return short(l.IdleTimeout) }) ||
		slices.ContainsFunc(c.InboundNATRules, func(n InboundNATRule) bool {
			if n.Backend != "" {
				return short(n.IdleTimeout) || !slices.ContainsFunc(c.Backends, func(b Backend) bool { return b.Name == n.Backend })
			}
			return short(n.IdleTimeout) || len(c.BackendAddressPools[0].Backends) > int(n.FrontendPortRangeEnd-n.FrontendPortRangeStart)+1
		})
}

// secure makes up whom the network security group blocks.
func (m *inboundModel) secure() {
	m.blocked, m.denied = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for i := range 20 {
		if m.r.IntN(5) == 0 {
			prefixes := [][2]netip.Prefix{modelClients, modelSubnet}[i/10]
			m.blocked[modelAddr(prefixes[i/5%2], 4+i%5)] = true
		}
	}
	for family := range 2 {
		if m.r.IntN(4) == 0 {
			m.denied[modelAddr(modelRemotes[family], 1+m.r.IntN(2))] = true
		}
		if m.r.IntN(4) == 0 {
			m.denied[m.frontend(family)] = true
		}
	}
}

// changeRules changes one load-balancing rule.
func (m *inboundModel) changeRules(rules []LoadBalancingRule) []LoadBalancingRule {
	rules = slices.Clone(rules)
	all := m.all.LoadBalancingRules
	one := all[m.r.IntN(len(all))]
	i := slices.IndexFunc(rules, func(l LoadBalancingRule) bool { return l.Name == one.Name })
	if i < 0 {
		return append(rules, one)
	}
	l := &rules[i]
	switch m.r.IntN(7) {
	case 0:
		rules = slices.Delete(rules, i, i+1)
	case 1:
		l.LoadDistribution = LoadDistribution(m.r.IntN(3))
	case 2:
		l.IdleTimeout = time.Duration(m.r.IntN(10)) * time.Minute // 1 to 3 are refused
	case 3:
		l.EnableTCPReset = !l.EnableTCPReset && m.c.SKU == Standard
		m.c.HAPortsTCPReset = !m.c.HAPortsTCPReset
	case 4:
		if l.Probe = ""; m.r.IntN(2) == 0 {
			l.Probe = "health"
		}
	case 5:
		if l.EnableFloatingIP = !l.EnableFloatingIP; l.EnableFloatingIP {
			l.BackendPort = l.FrontendPort
		} else {
			l.BackendPort = one.BackendPort
		}
	default:
		if !l.EnableFloatingIP && !l.isHAPorts() {
			l.BackendPort = one.BackendPort + uint16(m.r.IntN(2))
		}
	}
	return rules
}

// changeNATRules changes one inbound NAT rule.
func (m *inboundModel) changeNATRules(rules []InboundNATRule) []InboundNATRule {
	rules = slices.Clone(rules)
	all := m.all.InboundNATRules
	if len(all) == 0 {
		return rules
	}
	one := all[m.r.IntN(len(all))]
	i := slices.IndexFunc(rules, func(n InboundNATRule) bool { return n.Name == one.Name })
	if i < 0 {
		return append(rules, one)
	}
	n := &rules[i]
	switch k := m.r.IntN(6); {
	case k == 0:
		rules = slices.Delete(rules, i, i+1)
	case k == 1:
		n.IdleTimeout = time.Duration(m.r.IntN(10)) * time.Minute
	case k == 2:
		n.EnableTCPReset = !n.EnableTCPReset && m.c.SKU == Standard
	case n.BackendAddressPool != "": // fewer ports, or more
		n.FrontendPortRangeStart = modelNAT + uint16(m.r.IntN(3))
		n.FrontendPortRangeEnd = n.FrontendPortRangeStart + uint16(m.r.IntN(7))
	case k == 3 && !n.EnableFloatingIP:
		n.BackendPort = 2200 + uint16(m.r.IntN(2))
	default:
		n.Backend = fmt.Sprint("node", m.r.IntN(5)) // who may not exist
	}
	return rules
}

// mapPorts finds out whose the ports of inbound NAT rules are: whoever has one keeps it, and
// the others get the lowest that are free.
func (m *inboundModel) mapPorts() {
	var want []PortMapping
	mapped := map[string]map[string]uint16{}
	for _, n := range m.c.InboundNATRules {
		own := map[string]uint16{}
		taken := map[uint16]bool{}
		mapped[n.Name] = own
		names := m.members()
		first, last := n.frontendPorts()
		if n.Backend != "" {
			names = []string{n.Backend}
		}
		for _, name := range names {
			if port, had := m.mapped[n.Name][name]; had && first <= port && port <= last {
				own[name], taken[port] = port, true
			}
		}
		for _, name := range names {
			for port := first; own[name] == 0; port++ {
				if !taken[port] {
					own[name], taken[port] = port, true
				}
			}
			want = append(want, PortMapping{n.Name, name, own[name]})
		}
	}
	m.mapped = mapped
	require.Equal(m.t, fmt.Sprint(want), fmt.Sprint(m.l.PortMappings()))
}

// goesOn reports whether a flow goes on in the configuration of now.
func (m *inboundModel) goesOn(f inboundFlow, s *inboundSession) bool {
	if !m.exists(s.backend) || m.rule(f) == nil && m.natRule(f) == nil {
		return false
	}
	floated := s.inside == m.socket(f)
	if floated != m.floats(f) {
		return false
	}
	if floated {
		return true
	}
	rule, port := m.answering(f, s)
	return rule == "" || rule == m.ruleName(f) && port == f.port
}

// ruleName returns the name of a flow's rule.
func (m *inboundModel) ruleName(f inboundFlow) string {
	if l := m.rule(f); l != nil {
		return l.Name
	}
	return m.natRule(f).Name
}

// answering returns the rule that leads to the socket of a flow's backend now, and the
// frontend's port; "" if there is none.
func (m *inboundModel) answering(f inboundFlow, s *inboundSession) (rule string, port uint16) {
	for _, l := range m.c.LoadBalancingRules {
		is := l.FrontendIPConfiguration == modelFrontend[f.family()] && has(l.Protocol, f.tcp) && !l.EnableFloatingIP
		switch {
		case !is || !slices.Contains(m.members(), s.backend):
		case l.isHAPorts():
			return l.Name, s.inside.Port()
		case l.BackendPort == s.inside.Port():
			return l.Name, l.FrontendPort
		}
	}
	for _, n := range m.c.InboundNATRules {
		is := n.FrontendIPConfiguration == modelFrontend[f.family()] && has(n.Protocol, f.tcp) && !n.EnableFloatingIP
		if port := m.mapped[n.Name][s.backend]; is && port != 0 && n.BackendPort == s.inside.Port() {
			return n.Name, port
		}
	}
	return "", 0
}
