// Egress at run time: the SNAT that is in force while resources come and go. Read
// the outbound connections document's scenarios and the AKS documents on Basic
// load balancers first.

package lb

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

// DefaultOutboundRange is where the addresses of default outbound access come from
// unless told otherwise. Azure takes any public address of the region, and says no
// more; our choice is a range that is reserved for tests (RFC 2544), so that it
// collides with nobody's.
var DefaultOutboundRange = netip.MustParsePrefix("198.18.0.0/15")

// EgressConfig describes everything that decides how a group of virtual machines
// reaches the Internet: one availability set or scale set, such as the nodes of a
// cluster.
type EgressConfig struct {
	// LoadBalancer is the public load balancer and the backends, which are the
	// group. Without rules it translates nothing, and without members in its pools
	// it is as if it did not exist: an AKS cluster with SKU Basic has neither until
	// the first Service of type LoadBalancer. Its load-balancing rules are in the
	// order of creation. Its Routes, its NetworkSecurity and its Dataplane are those of
	// NATGateway, too.
	//
	// On SKU Basic with BasicFrontend SeededRule, a rule that was drawn stays until
	// it is deleted, whatever else comes and goes: our choice, as the documents only
	// say that the choice is random.
	LoadBalancer Config

	// NATGateway is the gateway of the group's subnet, or nil. It precedes everything
	// but routes: new flows switch to it at once, and those that other options have
	// begun go on (NAT document). It excludes Basic load balancers. Limit, November
	// 2026: when the gateway, the backends or the routes change, the gateway is made
	// anew and its flows end, because shared ports cannot be reconfigured; and it gets
	// no ping unless LoadBalancer.ICMP carries them, nor ever an ICMP error of a machine.
	NATGateway *NATGateway

	// InternalLoadBalancers are the SKUs of internal ones that have the group in a
	// pool. They never translate, but a Standard one excludes default outbound
	// access.
	InternalLoadBalancers []SKU

	// What else excludes default outbound access; see NIC.
	PrivateSubnet       bool
	FlexibleScaleSet    bool // the group is a scale set with flexible orchestration
	GroupHasStandardSKU bool // a member has a Standard load balancer or public IP that is not described here

	// DefaultOutboundRange is the IPv4 prefix that addresses of default outbound
	// access are drawn from; the zero Prefix is the package's DefaultOutboundRange.
	DefaultOutboundRange netip.Prefix
}

// Egress carries packets between a group of virtual machines and the Internet, by
// the option that Azure's order of precedence gives each machine ([ChooseSNAT]).
// It has the doors of [snat.NAT], and [Egress.Reconfigure] changes the resources while
// traffic flows. It is safe for concurrent use.
//
// Default outbound access is one IPv4 address for the whole group, drawn with
// Config.Seed each time it comes into force, and again by [Egress.Redeploy]. Every
// machine has 1,024 ports of it, fewer from 51 machines on ([AutomaticPorts]), and
// its flows idle out after 4 minutes without reset. That the group shares an
// address, and that there is none for IPv6, is our choice.
//
// A NAT gateway is a translator of its own, [Egress.Gateway]; a verdict's Instance
// is the index in the translator that carried the packet. What can be observed of an
// Egress is everything but the gateway, which shows the rest, except for Sessions. Packets
// that were passed on to the gateway count as bypassed.
type Egress struct {
	observation                          // of everything but the gateway
	gateway     atomic.Pointer[attached] // never nil; another one after each Reconfigure
	fragments   bool                     // are carried; immutable
	health      health

	mu      sync.RWMutex // taken before any lock of health and of a translator
	state   egressState
	retired []*Gateway // detached, but perhaps still in some caller's hands
	closed  bool
}

// egressState is what is in force.
type egressState struct {
	config   EgressConfig
	resolved *resolved // config.LoadBalancer; not changed any more
	inForce  inForce   // plan by backend; of load balancer and default outbound access

	// address is that of default outbound access, the zero Addr while nobody has
	// it; draws counts the addresses and rules that were drawn.
	address netip.Addr
	draws   uint64

	// rules are the load-balancing rules that Basic pools have drawn, by pool.
	rules map[string]string
}

// NewEgress returns the egress that c describes. The error joins every problem of
// c. NewEgress starts no goroutine; Close returns its memory.
func NewEgress(c EgressConfig) (*Egress, error) {
	state, t, err := (&egressState{}).next(0, c, nil)
	if err != nil {
		return nil, err
	}
	nat, err := snat.New(t)
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	e := &Egress{observation: observation{nat}, state: state, fragments: c.LoadBalancer.Fragments.Mode != snat.FragmentsDropped}
	e.gateway.Store(&attached{})
	g, err := e.attach(state.config, t.Admit)
	if err != nil {
		nat.Close()
		return nil, err
	}
	e.gateway.Store(g)
	e.health.adopt(0, state.inForce.health)
	return e, nil
}

// Reconfigure replaces the resources at now and reports what that changed. Flows whose
// address and port their machine keeps go on; the others end silently, for their
// address has been given back: when the first Service of a Basic cluster comes, the
// flows of default outbound access end. An error joins every problem of c, and
// then nothing has changed. Of LoadBalancer.Dataplane only ReclaimGrace, CountTraffic
// and Hooks can change, and TCP and UDP cannot. See [snat.NAT.Reconfigure].
func (e *Egress) Reconfigure(now flow.Time, c EgressConfig) (snat.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.replace(now, c, e.state)
}

// Redeploy gives the group another address of default outbound access, as Azure
// may when machines are deallocated or deployed again. All flows of the old one
// end. Without default outbound access it changes nothing.
func (e *Egress) Redeploy(now flow.Time) (snat.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.state.address.IsValid() {
		return snat.Change{}, nil
	}
	from := e.state
	from.address = netip.Addr{}
	return e.replace(now, e.state.config, from)
}

// replace puts c into force, coming from a state. e.mu must be held.
func (e *Egress) replace(now flow.Time, c EgressConfig, from egressState) (snat.Change, error) {
	if e.closed {
		return snat.Change{}, fmt.Errorf("egress: %w", flow.ErrClosed)
	}
	e.health.mu.Lock()
	defer e.health.mu.Unlock()
	e.health.probe(now, e.nat)
	state, t, err := from.next(now, c, e.health.known)
	if err != nil {
		return snat.Change{}, err
	}
	was := e.gateway.Load()
	g, err := e.attach(state.config, t.Admit)
	if err != nil {
		return snat.Change{}, err
	}
	if g.Gateway != nil {
		e.gateway.Store(g) // before packets are passed on to it
	}
	change, err := e.nat.Reconfigure(now, t)
	if err != nil {
		e.gateway.Store(was)
		e.retire(g, was)
		return snat.Change{}, fmt.Errorf("egress: %w", err)
	}
	g.admitBy(t.Admit)
	e.gateway.Store(g)
	e.retire(was, g)
	e.health.adopt(now, state.inForce.health)
	e.state = state
	return change, nil
}

// next returns the state that follows s when c comes into force at now, and its
// translator. known is what is known of the health of backends. next keeps no reference
// to c.
func (s *egressState) next(now flow.Time, c EgressConfig, known knownHealth) (egressState, snat.Config, error) {
	next := egressState{config: c.clone(), draws: s.draws, rules: map[string]string{}}
	c = next.config
	if err := c.validate(); err != nil {
		return egressState{}, snat.Config{}, err
	}
	next.drawRules(s.rules)
	r, err := next.config.LoadBalancer.resolve()
	if err != nil {
		panic(fmt.Sprintf("lb: valid resources in another order are not: %v", err))
	}
	r.indexMembers()
	if s.resolved != nil {
		former := s.inForce
		former.now, former.known = now, known
		r.former = &former
	}
	r.checkSKU()
	next.resolved = r
	next.inForce = *r.newInForce()
	// Ports are those without gateway, so that flows go on when one is attached.
	without := next.config
	without.NATGateway = nil
	if members := without.byDefault(r); len(members) > 0 {
		next.address = s.address
		if !next.config.mayUse(r, s.address) {
			if next.address, err = next.draw(r); err != nil {
				return egressState{}, snat.Config{}, err
			}
		}
		next.layOutDefault(r, members)
	}
	t := r.translator(&next.inForce)
	if err := r.Err(); err != nil {
		return egressState{}, snat.Config{}, err
	}
	next.inForce.resting = r.restAfter(next.inForce.plan)
	r.former = nil
	t.Routes = next.config.passOn(t.Routes)
	return next, t, nil
}

// clone returns a copy of c that the caller of this package does not share, as far
// as an Egress keeps it.
func (c EgressConfig) clone() EgressConfig {
	l := &c.LoadBalancer
	l.FrontendIPConfigurations, l.Backends = slices.Clone(l.FrontendIPConfigurations), slices.Clone(l.Backends)
	for i := range l.Backends {
		b := &l.Backends[i]
		b.Addrs, b.PublicIPAddresses, b.Inside = slices.Clone(b.Addrs), slices.Clone(b.PublicIPAddresses), slices.Clone(b.Inside)
		b.PublicIPSKU = clonePointer(b.PublicIPSKU)
	}
	for i := range l.FrontendIPConfigurations {
		f := &l.FrontendIPConfigurations[i]
		f.PublicIPSKU = clonePointer(f.PublicIPSKU)
	}
	l.BackendAddressPools = slices.Clone(l.BackendAddressPools)
	for i := range l.BackendAddressPools {
		p := &l.BackendAddressPools[i]
		p.Backends, p.AdminStates = slices.Clone(p.Backends), slices.Clone(p.AdminStates)
	}
	l.LoadBalancingRules, l.InboundNATRules, l.OutboundRules = slices.Clone(l.LoadBalancingRules), slices.Clone(l.InboundNATRules), slices.Clone(l.OutboundRules)
	for i := range l.OutboundRules {
		o := &l.OutboundRules[i]
		o.FrontendIPConfigurations = slices.Clone(o.FrontendIPConfigurations)
	}
	l.Routes, l.Probes = slices.Clone(l.Routes), slices.Clone(l.Probes)
	l.ICMP.RouterAddrs = slices.Clone(l.ICMP.RouterAddrs)
	if l.NetworkSecurity != nil {
		l.NetworkSecurity = new(l.NetworkSecurity.Clone())
	}
	if c.NATGateway != nil {
		g := *c.NATGateway
		g.PublicIPAddresses, g.PublicIPPrefixes = slices.Clone(g.PublicIPAddresses), slices.Clone(g.PublicIPPrefixes)
		c.NATGateway = &g
	}
	c.InternalLoadBalancers = slices.Clone(c.InternalLoadBalancers)
	if !c.DefaultOutboundRange.IsValid() {
		c.DefaultOutboundRange = DefaultOutboundRange
	}
	return c
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// validate reports every problem of c.
func (c *EgressConfig) validate() error {
	var p problems.List
	for i, sku := range c.InternalLoadBalancers {
		path := problems.Index("InternalLoadBalancers", i)
		if l := &c.LoadBalancer; problems.Constant(&p, path, sku, numSKUs) && sku != l.SKU && l.hasMembers() {
			p.Add(path, sku, flow.ErrConflict, "the pools of LoadBalancer are of SKU %v, and have the same backends", l.SKU)
		}
	}
	if q := c.DefaultOutboundRange; !q.Addr().Is4() || q != q.Masked() || !flow.IsHost(q.Addr()) {
		p.Add("DefaultOutboundRange", q, flow.ErrPrefix, "want an IPv4 prefix of host addresses, without host bits")
	}
	if c.NATGateway != nil {
		c.validateGateway(&p)
	}
	p.Include("LoadBalancer", c.LoadBalancer.Validate())
	return p.Err()
}

// drawRules decides which rule each pool of a Basic load balancer uses: one that
// was drawn stays as long as it exists. They come first, so that the planner takes
// them for the oldest.
func (s *egressState) drawRules(kept map[string]string) {
	c := &s.config.LoadBalancer
	if c.SKU != Basic || c.BasicFrontend != SeededRule {
		return
	}
	for _, pool := range c.BackendAddressPools {
		var rules []string
		for _, l := range c.LoadBalancingRules {
			if l.BackendAddressPool == pool.Name {
				rules = append(rules, l.Name)
			}
		}
		if name, ok := kept[pool.Name]; ok && slices.Contains(rules, name) {
			s.rules[pool.Name] = name
		} else if len(rules) > 0 {
			s.rules[pool.Name] = rules[s.random().IntN(len(rules))]
		}
	}
	drawn := func(l LoadBalancingRule) bool { return s.rules[l.BackendAddressPool] == l.Name }
	slices.SortStableFunc(c.LoadBalancingRules, func(a, b LoadBalancingRule) int {
		switch {
		case drawn(a) == drawn(b):
			return 0
		case drawn(a):
			return -1
		}
		return 1
	})
	c.BasicFrontend = OldestRule
}

// random returns the generator of the next draw.
func (s *egressState) random() *rand.Rand {
	s.draws++
	return rand.New(rand.NewPCG(s.config.LoadBalancer.Seed, s.draws))
}

// byDefault returns the backends that have default outbound access.
func (c *EgressConfig) byDefault(r *resolved) (members []int) {
	for i := range r.Backends {
		if r.Backends[i].hasFamily(false) && c.choose(r, i, snat.All, false).Option == DefaultOutboundAccess {
			members = append(members, i)
		}
	}
	return members
}

// choose decides for a backend, a protocol and a family.
func (c *EgressConfig) choose(r *resolved, backend int, p snat.Protocol, is6 bool) Decision {
	nic := NIC{
		NATGateway:      c.NATGateway.serves(is6),
		PublicIPAddress: r.Backends[backend].publicIP(is6),
		PrivateSubnet:   c.PrivateSubnet, FlexibleScaleSet: c.FlexibleScaleSet, GroupHasStandardSKU: c.GroupHasStandardSKU,
	}
	nic.LoadBalancers = r.memberships(backend, is6)
	if len(nic.LoadBalancers) == 0 && r.SKU == Standard && r.hasNICs() {
		nic.GroupHasStandardSKU = true
	}
	for _, sku := range c.InternalLoadBalancers {
		nic.LoadBalancers = append(nic.LoadBalancers, Membership{SKU: sku, Internal: true})
	}
	d := ChooseSNAT(nic, p)
	if is6 && d.Option == DefaultOutboundAccess {
		return Decision{Option: NoOutbound, Reason: "Default outbound access is for IPv4 only."}
	}
	return d
}

// hasMembers reports whether any pool has a backend.
func (c *Config) hasMembers() bool {
	return slices.ContainsFunc(c.BackendAddressPools, func(p BackendAddressPool) bool { return len(p.Backends) > 0 })
}

// hasNICs reports whether any pool has a backend by its network interface.
func (c *Config) hasNICs() bool {
	return slices.ContainsFunc(c.BackendAddressPools, func(p BackendAddressPool) bool { return len(p.Backends) > 0 && !p.IPBased })
}

// indexMembers prepares r for memberships.
func (r *resolved) indexMembers() {
	r.memberOf = make([]map[string]bool, len(r.Backends))
	for i := range r.memberOf {
		r.memberOf[i] = map[string]bool{}
	}
	for _, pool := range r.BackendAddressPools {
		for _, name := range pool.Backends {
			r.memberOf[r.backends[name]][pool.Name] = true
		}
	}
}

// memberships returns the load balancer as a backend sees it in one family: once for
// its pools of network interfaces and once for those of addresses, if it is in such.
func (r *resolved) memberships(backend int, is6 bool) (all []Membership) {
	for _, ipBased := range []bool{false, true} {
		in := func(pool string) bool {
			return r.memberOf[backend][pool] && r.BackendAddressPools[r.pools[pool]].IPBased == ipBased
		}
		if !slices.ContainsFunc(r.BackendAddressPools, func(p BackendAddressPool) bool { return in(p.Name) }) {
			continue
		}
		m := r.newMembership(ipBased)
		for _, o := range r.OutboundRules {
			if in(o.BackendAddressPool) && r.hasFrontend(is6, o.FrontendIPConfigurations...) {
				m.OutboundRules = append(m.OutboundRules, o)
			}
		}
		for _, l := range r.LoadBalancingRules {
			if in(l.BackendAddressPool) && r.hasFrontend(is6, l.FrontendIPConfiguration) {
				m.LoadBalancingRules = append(m.LoadBalancingRules, l)
			}
		}
		all = append(all, m)
	}
	return all
}

// newMembership returns the load balancer as a member of some pool sees it, without rules.
func (r *resolved) newMembership(ipBased bool) Membership {
	return Membership{SKU: r.SKU, Internal: r.internal, IPBasedPool: ipBased, BasicFrontend: r.BasicFrontend, Seed: r.Seed}
}

// mayUse reports whether a is an address that default outbound access may have.
func (c *EgressConfig) mayUse(r *resolved, a netip.Addr) bool {
	if !c.DefaultOutboundRange.Contains(a) {
		return false
	}
	for _, f := range r.FrontendIPConfigurations {
		if f.PublicIPAddress == a || f.PublicIPPrefix.Contains(a) {
			return false
		}
	}
	for _, b := range r.Backends {
		if slices.Contains(b.Addrs, a) || slices.Contains(b.PublicIPAddresses, a) || slices.ContainsFunc(b.Inside, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return false
		}
	}
	return true
}

// draw draws an address of default outbound access.
func (s *egressState) draw(r *resolved) (netip.Addr, error) {
	const tries = 64
	q := s.config.DefaultOutboundRange
	for range tries {
		offset := s.random().Uint32() & (1<<(32-q.Bits()) - 1)
		if a := flow.NetAddr4(flow.Addr4(q.Addr()) | offset); flow.IsHost(a) && s.config.mayUse(r, a) {
			return a, nil
		}
	}
	return netip.Addr{}, problems.New("DefaultOutboundRange", q, flow.ErrConflict, "the load balancer and its backends use nearly all of it")
}

// layOutDefault gives the members their ports of default outbound access.
func (s *egressState) layOutDefault(r *resolved, members []int) {
	group := 0
	for _, b := range r.Backends {
		if b.hasFamily(false) {
			group++
		}
	}
	claim := Capacity{Nodes: len(members), Frontends: 1}
	claim.Ports = min(AutomaticPorts(group), max(snat.BlockSize, claim.MaxPorts()))
	if err := claim.check("default outbound access"); err != nil {
		r.Include("", err)
		return
	}
	d := &demand{members: members, frontends: []netip.Addr{s.address}}
	var portions []portion
	for _, b := range members {
		n := claim.Ports / snat.BlockSize
		portions = append(portions, portion{d, b, n, []share{{0, n}}})
	}
	granted := r.grant(portions, snat.TCP, false, func() map[netip.Addr]*inventory {
		return map[netip.Addr]*inventory{s.address: newInventory(nil)}
	})
	for _, b := range members {
		s.inForce.plan[b].Ports = append(s.inForce.plan[b].Ports, withProtocol(granted[b], snat.All)...)
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			r.end(b, p, lentEnding("default outbound access"))
		}
	}
}

// EgressDecision is the option that is in force for a machine.
type EgressDecision struct {
	Decision
	Addrs []netip.Addr // the addresses that its flows leave with, in the order of consumption
}

// Decide returns the option in force for a backend, a protocol, TCP or UDP, and a
// family, and false if there is no such backend. It speaks for all destinations that
// no route names: of Config.Routes only those for a whole family count.
func (e *Egress) Decide(backend string, p snat.Protocol, is6 bool) (EgressDecision, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	remote := netip.IPv4Unspecified()
	if is6 {
		remote = netip.IPv6Unspecified()
	}
	rows := slices.DeleteFunc(slices.Clone(e.state.config.LoadBalancer.Routes), func(r snat.Route) bool { return r.Prefix.Bits() > 0 })
	return e.decide(backend, p, is6, snat.RouteTo(rows, p, netip.AddrPortFrom(remote, 0)))
}

// DecideTo returns the option in force for flows of a backend and protocol, TCP or
// UDP, to a remote, and false if there is no such backend. All routes count.
func (e *Egress) DecideTo(backend string, p snat.Protocol, remote netip.AddrPort) (EgressDecision, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.decide(backend, p, remote.Addr().Unmap().Is6(), snat.RouteTo(e.state.config.LoadBalancer.Routes, p, remote))
}

// decide returns the option in force where routes say what they do. e.mu must be held.
func (e *Egress) decide(backend string, p snat.Protocol, is6 bool, route snat.RouteAction) (EgressDecision, bool) {
	i, ok := e.state.resolved.backends[backend]
	if !ok {
		return EgressDecision{}, false
	}
	if route != snat.Translate {
		return EgressDecision{Decision: ChooseSNAT(NIC{NonInternetRoute: true}, p)}, true
	}
	d := EgressDecision{Decision: e.state.config.choose(e.state.resolved, i, p, is6)}
	switch d.Option {
	case NATGatewaySNAT:
		d.Addrs = slices.DeleteFunc(e.state.config.NATGateway.Addrs(), func(a netip.Addr) bool { return a.Is6() != is6 })
		return d, true
	case InstancePublicIP:
		d.Addrs = []netip.Addr{e.state.resolved.Backends[i].publicIP(is6)}
	}
	for _, rng := range e.state.inForce.plan[i].Ports {
		if covers(rng.Protocol, p) && rng.Frontend.Is6() == is6 && !slices.Contains(d.Addrs, rng.Frontend) {
			d.Addrs = append(d.Addrs, rng.Frontend)
		}
	}
	return d, true
}

// Outbound takes a packet from a machine, or from behind one, and rewrites it in
// place. See [snat.NAT.Outbound].
func (e *Egress) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	for {
		before := e.gateway.Load()
		v := e.nat.Outbound(now, pkt)
		if v.Action != flow.Bypass {
			return v
		}
		g := e.gateway.Load()
		if g.Gateway != nil {
			return g.Outbound(now, pkt)
		}
		if g == before {
			return v
		}
		// The gateway that the packet was passed on to has gone meanwhile.
	}
}

// Inbound takes a packet from the Internet and rewrites it in place. See
// [snat.NAT.Inbound].
func (e *Egress) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	if g := e.gateway.Load(); g.owns(pkt) {
		return g.Inbound(now, pkt)
	}
	return e.nat.Inbound(now, pkt)
}

// OutboundBatch is Outbound for many packets at once. See [snat.NAT.OutboundBatch].
func (e *Egress) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	before := e.gateway.Load()
	e.nat.OutboundBatch(now, pkts, verdicts)
	g := e.gateway.Load()
	if g.Gateway == nil {
		for i := range pkts {
			if g != before && verdicts[i].Action == flow.Bypass {
				verdicts[i] = e.Outbound(now, pkts[i])
			}
		}
		return
	}
	part := parts.Get().(*part)
	for i := range pkts {
		if verdicts[i].Action == flow.Bypass {
			part.add(i, pkts, verdicts, now, g.OutboundBatch)
		}
	}
	part.flush(verdicts, now, g.OutboundBatch)
	parts.Put(part)
}

// InboundBatch is Inbound for many packets at once. See [snat.NAT.InboundBatch].
func (e *Egress) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	g := e.gateway.Load()
	if g.Gateway == nil {
		e.nat.InboundBatch(now, pkts, verdicts)
		return
	}
	ours, others := parts.Get().(*part), parts.Get().(*part)
	for i, pkt := range pkts {
		if g.owns(pkt) {
			ours.add(i, pkts, verdicts, now, g.InboundBatch)
		} else {
			others.add(i, pkts, verdicts, now, e.nat.InboundBatch)
		}
	}
	ours.flush(verdicts, now, g.InboundBatch)
	others.flush(verdicts, now, e.nat.InboundBatch)
	parts.Put(ours)
	parts.Put(others)
}

// Advance makes the probes that are due at now, and expires what is due; resets go to
// emit. See [snat.NAT.Advance].
func (e *Egress) Advance(now flow.Time, emit flow.Sink) {
	e.health.advance(now, e.nat)
	e.nat.Advance(now, e.before(emit))
	if g := e.Gateway(); g != nil {
		g.Advance(now, emit)
	}
}

// AdvanceStep does a bounded piece of what Advance does, and reports whether all is
// done. See [snat.NAT.AdvanceStep].
func (e *Egress) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	e.health.advance(now, e.nat)
	if !e.nat.AdvanceStep(now, e.before(emit)) {
		return false
	}
	g := e.Gateway()
	return g == nil || g.AdvanceStep(now, emit)
}

// NextDeadline returns when Advance is to be called next, and false if nothing is
// waiting. The first probes follow the first call of Advance. See
// [snat.NAT.NextDeadline].
func (e *Egress) NextDeadline() (flow.Time, bool) {
	at, ok := e.health.earlier(e.nat.NextDeadline())
	if g := e.Gateway(); g != nil {
		if d, waiting := g.NextDeadline(); waiting && (!ok || d < at) {
			return d, true
		}
	}
	return at, ok
}

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. See [snat.NAT.DeadlineMoved].
func (e *Egress) DeadlineMoved() bool {
	g := e.Gateway()
	return e.nat.DeadlineMoved() || g != nil && g.DeadlineMoved()
}

// Sessions iterates over copies of all sessions, those of the gateway last. See
// [snat.NAT.Sessions].
func (e *Egress) Sessions() iter.Seq[flow.Info] {
	return func(yield func(flow.Info) bool) {
		for s := range e.nat.Sessions() {
			if !yield(s) {
				return
			}
		}
		if g := e.Gateway(); g != nil {
			for s := range g.Sessions() {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// PortMappings returns the frontend ports of the inbound NAT rules in force. See
// [LoadBalancer.PortMappings].
func (e *Egress) PortMappings() []PortMapping {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Clone(e.state.inForce.ports)
}

// Stranded returns the backends that have refused flows while others have free ports on
// the same frontends. See [snat.NAT.Stranded].
func (e *Egress) Stranded() []snat.StrandedPorts { return e.nat.Stranded() }

// Metrics returns a sample of every series of everything but the gateway, as
// [LoadBalancer.Metrics] does. The backends are those in force.
func (e *Egress) Metrics() []monitor.Sample {
	e.mu.RLock()
	defer e.mu.RUnlock()
	own := ownAddrsOf(e.state.config.LoadBalancer.Backends)
	return e.health.metrics(e.nat, own, e.state.inForce.forwards)
}

// Close returns the memory of the egress and of its gateways. It may be called at any
// time, and twice; afterwards all packets are dropped, and Reconfigure and Redeploy fail ([flow.ErrClosed]). See
// [snat.NAT.Close].
func (e *Egress) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.nat.Close()
	if g := e.Gateway(); g != nil {
		g.Close()
	}
	for _, g := range e.retired {
		g.Close()
	}
}
