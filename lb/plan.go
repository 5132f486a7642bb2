// The planner: from rules to the ports of each backend.

package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/turns"
	"github.com/seed-a61be3fe/natplane/lb/internal/grants"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Validate returns nil if [New] would accept c as far as this package is
// concerned, and otherwise one error that joins every problem found. Problems of
// capacity show only when everything else is in order.
func (c Config) Validate() error {
	r, err := c.resolve()
	if err == nil {
		r.counted = true
		_, _, err = r.compile(nil)
	}
	return err
}

// Plan returns what each backend gets, in the order of c.Backends. It is a pure
// function: equal configurations give equal plans. The errors are those of
// Validate.
func (c Config) Plan() ([]Allocation, error) {
	f, _, err := c.compile(nil)
	return f.plan, err
}

// Translator returns the configuration of the translator that carries out c, for
// programs that drive package snat themselves: instance i is c.Backends[i] with its
// ports, and with a policy of its own where its rules ask for other timers than
// those of the first backend. It is what [New] uses; the errors are those of
// Validate.
func (c Config) Translator() (snat.Config, error) {
	_, t, err := c.compile(nil)
	return t, err
}

// Warnings returns what is allowed in c and yet may not be what its author expects,
// a sentence each that begins with the field; none if c is not valid. Such is a pool
// that is too large for the ports that automatic allocation gives by its size
// ([AutomaticPorts]): then the backends of all automatic rules get less, the largest
// multiple of 8 with which all fit. It is a pure function.
func (c Config) Warnings() []string {
	r, err := c.resolve()
	if err != nil {
		return nil
	}
	r.counted = true
	r.translator(r.newInForce())
	if r.Len() > 0 {
		return nil
	}
	return r.warnings
}

// compile plans c and describes its translator. former, if not nil, is what is in
// force: backends keep what they can of it.
func (c *Config) compile(former *inForce) (inForce, snat.Config, error) {
	r, err := c.resolve()
	if err != nil {
		return inForce{}, snat.Config{}, err
	}
	return r.compile(former)
}

// compile plans r and describes its translator. former, if not nil, is what is in force.
func (r *resolved) compile(former *inForce) (inForce, snat.Config, error) {
	r.follow(former)
	r.checkFixed()
	next := r.newInForce()
	t := r.translator(next)
	if err := r.Err(); err != nil {
		return inForce{}, snat.Config{}, err
	}
	next.resting = r.restAfter(next.plan)
	return *next, t, nil
}

// follow says what is in force, if anything is: nil is nothing.
func (r *resolved) follow(former *inForce) {
	for k, b := range r.balancers() {
		if b.former, b.was = former, nil; former != nil {
			b.was = former.balancer(k > 0, b.Name)
		}
		b.counted = b.counted || former != nil && former.exact // then there is nothing to lay out
	}
}

// balancers returns r and what is beside it.
func (r *resolved) balancers() []*resolved { return append([]*resolved{r}, r.beside...) }

// newInForce plans r.
func (r *resolved) newInForce() *inForce {
	next := &inForce{plan: r.plan(), security: r.security, dropsHAPortsFragments: r.DropHAPortsFragments}
	for k, b := range r.balancers() {
		n := balancerInForce{beside: k > 0, name: b.Name, sku: b.SKU, exists: len(b.FrontendIPConfigurations) > 0}
		n.ports, n.vacated = b.mapPorts()
		next.balancers = append(next.balancers, n)
	}
	return next
}

// checkFixed checks that what cannot change is as in what is in force, if anything is.
func (r *resolved) checkFixed() {
	if f := r.former; f != nil && f.dropsHAPortsFragments != r.DropHAPortsFragments {
		r.Add("DropHAPortsFragments", r.DropHAPortsFragments, snat.ErrFixed, "it is %v", f.dropsHAPortsFragments)
	}
	for _, b := range r.balancers() {
		if f := b.was; f != nil && f.exists && f.sku != b.SKU {
			b.Add("SKU", b.SKU, snat.ErrFixed, "it is %v; Azure changes the SKU of no load balancer", f.sku)
		}
	}
}

// plan returns what each backend gets. Who keeps exactly what it has shares the memory of it with
// the plan in force, so nobody changes a plan's ports.
func (r *resolved) plan() []Allocation {
	plan, had := make([]Allocation, len(r.Backends)), make([][]snat.PortRange, len(r.Backends))
	if r.former != nil {
		had = r.had()
	}
	var granted [flow.NumFamilies][2][]grants.Granted // by protocol, TCP first
	for family := range granted {
		granted[family] = [2][]grants.Granted{r.planProtocol(snat.TCP, family > 0, had), r.planProtocol(snat.UDP, family > 0, had)}
	}
	for i := range plan {
		turns.Step(i)
		a := &plan[i]
		if a.Instance, a.Ports = r.Backends[i].Name, had[i]; r.counted || r.Len() > 0 || keptAll(&granted, i) {
			continue
		}
		a.Ports = nil
		for family := range granted {
			tcp, udp := &granted[family][0][i], &granted[family][1][i]
			a.Ports = append(a.Ports, merge(ranges(tcp, had[i], snat.TCP, family > 0), ranges(udp, had[i], snat.UDP, family > 0))...)
		}
	}
	return plan
}

// translator describes the translator in which every backend has its part of a plan, and
// completes the plan by what the forwards are.
func (r *resolved) translator(next *inForce) snat.Config {
	c := r.Config
	t := snat.Config{Routes: c.Routes, Ports: &snat.Owned{TCP: c.TCP, UDP: c.UDP}, Dataplane: c.Dataplane}
	if t.Fragments.Mode == snat.FragmentsDropped && !c.DropHAPortsFragments {
		t.Fragments.Mode = snat.FragmentsForwarded // by HA ports, which may come later
	}
	if r.security != nil {
		t.Admit = admission(r.security, c.Backends)
	}
	t.Instances = make([]snat.Instance, len(c.Backends))
	for i := range c.Backends {
		b := &c.Backends[i]
		t.Instances[i] = snat.Instance{
			Name: b.Name, Addrs: b.Addrs, PublicAddrs: b.PublicIPAddresses, Inside: b.Inside, Ports: next.plan[i].Ports,
		}
	}
	next.health = health.Verdicts{Prober: r.Prober}
	for k, b := range r.balancers() {
		in := &next.balancers[k]
		forwards, of := b.forwards(in.ports, in.vacated)
		for i := range of {
			of[i].balancer = k
		}
		b.judge(&next.health, len(t.Forwards), of)
		t.Forwards, next.forwards = append(t.Forwards, forwards...), append(next.forwards, of...)
	}
	next.health.Apply(t.Forwards)
	r.setPolicies(&t, next)
	return t
}

// demand is what one rule, or all automatic rules of a pool together, claim in
// one protocol and family.
type demand struct {
	grants.Demand // of the addresses of configs

	path      string
	pool      int
	ports     int      // per backend
	automatic bool     // ports is 0 until all frontends are known
	configs   []int    // frontend configurations, perhaps some of them several times
	members   []int    // backends that get ports, in pool order
	poolSize  int      // members, and those that a better option serves
	endings   []ending // of its rules
}

// planProtocol returns what every backend, which had ports, gets in one protocol and family.
func (r *resolved) planProtocol(p snat.Protocol, is6 bool, had [][]snat.PortRange) []grants.Granted {
	demands := r.demands(p, is6)
	for i := range demands {
		d := &demands[i]
		for _, b := range d.members {
			for k := range d.endings {
				r.end(b, p, &d.endings[k])
			}
		}
	}
	inventories := r.inventories(p, is6)
	portions, bad := r.deal(demands, inventories)
	if errors.Is(bad.Err(), ErrInsufficientOutboundPorts) {
		portions, bad = r.squeeze(demands, inventories)
	}
	r.Include("", bad.Err())
	if r.counted || r.Len() > 0 {
		return nil
	}
	return r.grant(portions, p, is6, had, func() map[netip.Addr]*grants.Inventory { return r.inventories(p, is6) })
}

// grant returns what every backend, which had ports, gets for portions of one protocol and family:
// that of a plan from scratch, or as near as possible to what is in force.
// inventories makes those that the portions were promised from.
func (r *resolved) grant(portions []grants.Portion, p snat.Protocol, is6 bool, had [][]snat.PortRange, inventories func() map[netip.Addr]*grants.Inventory) []grants.Granted {
	if r.former == nil {
		return grants.Fresh(portions, len(r.Backends), inventories())
	}
	return grants.Settle(portions, grants.Former{
		Had: had, Protocol: p, Is6: is6, Grace: r.ReclaimGrace > 0, Resting: r.resting(p, inventories()),
	}, inventories)
}

// maxRanges bounds the port ranges of all backends, in one protocol and family: our
// choice.
const maxRanges = 1 << 20

// deal divides the blocks of the inventories among the members of all demands.
func (r *resolved) deal(demands []demand, inventories map[netip.Addr]*grants.Inventory) (portions []grants.Portion, bad problems.List) {
	for _, v := range inventories {
		v.Forget()
	}
	total, ranges := make([]int, len(r.Backends)), 0
	for i := range demands {
		d := &demands[i]
		if len(d.members) == 0 {
			continue
		}
		dealer, free := grants.Dealer{Spread: r.Layout == Spread}, 0
		for _, f := range d.Frontends {
			dealer.From = append(dealer.From, inventories[f])
			free += inventories[f].Promise
		}
		claim := Capacity{
			Nodes: len(d.members), Ports: d.ports, Frontends: len(dealer.From),
			LostBlocks: len(dealer.From)*grants.NumBlocks - free, Strict: r.Strict,
		}
		if err := claim.check(d.path); err != nil {
			bad.Include("", err)
			continue
		}
		full := func(b int) bool { return total[b]+d.ports > PortsPerFrontend }
		if i := slices.IndexFunc(d.members, full); i >= 0 {
			b := d.members[i]
			bad.Include("", problems.New(d.path, r.Backends[b].Name, flow.ErrOutOfRange, "this backend would have %d ports from all rules, at most %d are possible", total[b]+d.ports, PortsPerFrontend))
			continue
		}
		portions = slices.Grow(portions, len(d.members))
		for i, b := range d.members {
			turns.Step(i)
			total[b] += d.ports
			shares := dealer.Promise(d.ports / snat.BlockSize)
			portions = append(portions, grants.Portion{Demand: &d.Demand, Backend: b, Blocks: d.ports / snat.BlockSize, Shares: shares})
			ranges += len(shares)
			if ranges > maxRanges {
				bad.Include("", problems.New(d.path, r.BackendAddressPools[d.pool].Name, flow.ErrOutOfRange, "the ports of its backends lie on so many frontends that they make more than %d ranges; Layout Pack makes fewer", maxRanges))
				return portions, bad
			}
		}
	}
	return portions, bad
}

// squeeze is deal when there are too few ports: where the pool size decides, each
// backend gets the largest multiple of 8, up to what it should have, with which all
// demands can be met, but not less than 8. That is our choice; Azure publishes
// nothing for pools that are so large.
func (r *resolved) squeeze(demands []demand, inventories map[netip.Addr]*grants.Inventory) (portions []grants.Portion, bad problems.List) {
	should, most := make([]int, len(demands)), snat.BlockSize
	for i, d := range demands {
		if should[i] = d.ports; d.automatic {
			most = max(most, d.ports)
		}
	}
	deal := func(ports int) {
		for i := range demands {
			if demands[i].automatic {
				demands[i].ports = min(should[i], ports)
			}
		}
		portions, bad = r.deal(demands, inventories)
	}
	fits := func(i int) bool { // i blocks less than the most
		deal(most - i*snat.BlockSize)
		return !errors.Is(bad.Err(), ErrInsufficientOutboundPorts)
	}
	deal(most - snat.BlockSize*sort.Search(most/snat.BlockSize-1, fits))
	for i, d := range demands {
		if d.ports < should[i] && len(d.members) > 0 {
			r.warn("%s: each backend of pool %q gets %d ports instead of the %d of automatic allocation, because there are too few for all %d",
				d.path, r.BackendAddressPools[d.pool].Name, d.ports, should[i], len(d.members))
		}
	}
	return portions, bad
}

// inventories returns those of all frontends of a family.
func (r *resolved) inventories(p snat.Protocol, is6 bool) map[netip.Addr]*grants.Inventory {
	rulePorts := map[int][]uint16{} // by frontend configuration
	for _, c := range r.rulePorts {
		if c.Protocol == p {
			for block := int(c.First) / snat.BlockSize; block <= int(c.Last)/snat.BlockSize; block++ {
				rulePorts[c.Frontend] = append(rulePorts[c.Frontend], uint16(block*snat.BlockSize)) // one port stands for all of its block
			}
		}
	}
	all := map[netip.Addr]*grants.Inventory{}
	for i, f := range r.FrontendIPConfigurations {
		if f.is6() == is6 {
			for _, a := range f.addrs() {
				all[a] = grants.NewInventory(lostBlocks(rulePorts[i]))
			}
		}
	}
	return all
}

// demands lists all claims in the order of service: outbound rules first, then
// load-balancing rules for the backends without outbound rule. Automatic rules of
// one pool are one demand, at the place of the first.
func (r *resolved) demands(p snat.Protocol, is6 bool) []demand {
	var all []demand
	automatic := map[int]int{} // pool to index in all
	direct := func(b int) bool { return r.Backends[b].publicIP(is6).IsValid() }
	for i, o := range r.OutboundRules {
		configs := r.frontendConfigs(is6, o.FrontendIPConfigurations...)
		if !covers(o.Protocol, p) || len(configs) == 0 {
			continue
		}
		pool := r.pools[o.BackendAddressPool]
		if r.BackendAddressPools[pool].IPBased {
			r.warn("OutboundRules[%d].BackendAddressPool: pool %q is IP-based, and gets no ports by outbound rules", i, o.BackendAddressPool)
			continue
		}
		if at, seen := automatic[pool]; seen && o.AllocatedOutboundPorts == 0 {
			all[at].configs = append(all[at].configs, configs...)
			all[at].endings = append(all[at].endings, r.ending(i))
			continue
		}
		d := demand{
			path: fmt.Sprintf("OutboundRules[%d]", i), pool: pool,
			ports: o.AllocatedOutboundPorts, automatic: o.AllocatedOutboundPorts == 0,
			endings: []ending{r.ending(i)}, configs: configs,
		}
		d.members = r.members(pool, is6)
		d.poolSize = len(d.members)
		d.members = slices.DeleteFunc(d.members, direct)
		if d.automatic {
			automatic[pool] = len(all)
		}
		all = append(all, d)
	}

	served := make([]bool, len(r.Backends)) // by a public IP or an outbound rule
	for b := range served {
		served[b] = direct(b)
	}
	for _, d := range all {
		for _, b := range d.members {
			served[b] = true
		}
	}
	all = append(all, r.ruleDemands(p, is6, served)...)

	for i := range all {
		d := &all[i]
		known := map[int]bool{}
		for _, f := range d.configs {
			if !known[f] {
				known[f] = true
				d.Frontends = append(d.Frontends, r.FrontendIPConfigurations[f].addrs()...)
			}
		}
		if d.automatic {
			d.ports = AutomaticPortsTotal(d.poolSize, len(d.Frontends), r.FrontendMode)
		}
	}
	return all
}

// ruleDemands lists the claims of load-balancing rules that translate, one per
// pool, for the backends that are not served yet.
func (r *resolved) ruleDemands(p snat.Protocol, is6 bool, served []bool) []demand {
	var all []demand
	for pool := range r.BackendAddressPools {
		members := r.members(pool, is6)
		d := demand{pool: pool, automatic: true, poolSize: len(members)}
		d.members = slices.DeleteFunc(members, func(b int) bool { return served[b] })
		if len(d.members) == 0 {
			continue
		}
		m := r.newMembership(r.BackendAddressPools[pool].IPBased)
		for i, l := range r.LoadBalancingRules {
			if r.pools[l.BackendAddressPool] == pool && r.FrontendIPConfigurations[r.frontends[l.FrontendIPConfiguration]].is6() == is6 {
				d.path = cmp.Or(d.path, fmt.Sprintf("LoadBalancingRules[%d]", i))
				m.LoadBalancingRules = append(m.LoadBalancingRules, l)
			}
		}
		choice := ChooseSNAT(NIC{LoadBalancers: []Membership{m}}, p)
		if choice.Option == LoadBalancingRuleSNAT {
			d.configs = r.frontendConfigs(is6, choice.Frontends...)
			d.endings = []ending{lentEnding(d.path)}
			all = append(all, d)
		}
	}
	return all
}

// frontendConfigs returns which of the named configurations are of one family.
func (r *resolved) frontendConfigs(is6 bool, names ...string) (configs []int) {
	for _, name := range names {
		if f := r.frontends[name]; r.FrontendIPConfigurations[f].is6() == is6 {
			configs = append(configs, f)
		}
	}
	return configs
}

// hasFrontend reports whether any of the named configurations is of a family.
func (r *resolved) hasFrontend(is6 bool, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return r.FrontendIPConfigurations[r.frontends[name]].is6() == is6 })
}

// members returns the backends of a pool that have an address of the family. Unknown
// names are none.
func (r *resolved) members(pool int, is6 bool) (members []int) {
	names := r.BackendAddressPools[pool].Backends
	members = make([]int, 0, len(names))
	for _, name := range names {
		if b, known := r.backends[name]; known && r.Backends[b].hasFamily(is6) {
			members = append(members, b)
		}
	}
	return members
}

// warn records a warning of the plan, unless another protocol or family has shown the
// same one.
func (r *resolved) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(r.warnings, w) {
		r.warnings = append(r.warnings, w)
	}
}
