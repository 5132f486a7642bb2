package snat

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
)

// NAT translates the packets of a set of instances. See the package comment for
// the way of a packet. A NAT is safe for concurrent use.
type NAT struct {
	config    Config // immutable; slices belong to the caller and are not used
	table     *flow.Table
	routes    atomic.Pointer[routes]
	shards    []shard
	instances []*instance
	frontends []*frontend // in the order of their first use by an instance

	// Packets that are dropped before a shard is known.
	early [2][flow.NumReasons]atomic.Uint64 // by side they came from
}

// New returns a NAT for a configuration, or an error that names every bad
// field. It starts no goroutine. Close returns its memory.
func New(c Config) (*NAT, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	policies := c.policies()
	table, err := flow.NewTable(flow.Config{Shards: max(cmp.Or(c.Shards, flow.DefaultShards), len(policies)), Seed: c.Seed})
	if err != nil {
		return nil, err
	}
	n := &NAT{config: c, table: table, shards: make([]shard, table.NumShards())}
	n.config.Instances, n.config.Routes = nil, nil
	for i := range n.shards {
		n.shards[i].init(n, table.Shard(i), policies[i%len(policies)])
	}
	place := n.placement(policies)
	r := &routes{}
	r.setPolicy(c.Routes)
	byAddr := map[netip.Addr]*frontend{}
	for i := range c.Instances {
		n.addInstance(r, &c.Instances[i], place(&c.Instances[i]), byAddr)
	}
	n.countTraffic(n.frontends)
	r.instances, r.frontends = n.instances, n.frontends
	n.routes.Store(r)
	return n, nil
}

// policies returns the different policies of c, that of c itself first.
func (c *Config) policies() []Policy {
	all := []Policy{c.Policy}
	for i := range c.Instances {
		if p := c.Instances[i].Policy; p != nil && !slices.Contains(all, *p) {
			all = append(all, *p)
		}
	}
	return all
}

// placement returns the rule that puts instances into shards. Shard i has policy
// i modulo their number; instances with the same policy take turns in its
// shards.
func (n *NAT) placement(policies []Policy) func(*Instance) int {
	turns := make([]int, len(policies))
	return func(inst *Instance) int {
		policy := 0
		if inst.Policy != nil {
			policy = slices.Index(policies, *inst.Policy)
		}
		shards := (len(n.shards) - policy + len(policies) - 1) / len(policies)
		turn := turns[policy] % shards
		turns[policy]++
		return policy + turn*len(policies)
	}
}

// addInstance builds an instance's state and its routes.
func (n *NAT) addInstance(r *routes, c *Instance, shard int, byAddr map[netip.Addr]*frontend) {
	inst := &instance{
		index: uint32(len(n.instances)), shard: shard,
		name: c.Name, masquerades: len(c.Inside) > 0,
	}
	n.instances = append(n.instances, inst)
	for _, a := range c.Addrs {
		if a.Is4() {
			inst.addr4 = flow.Addr4(a)
			r.outside4.put(inst.addr4, (inst.index|nodeFlag)+1)
		} else {
			inst.addr6 = flow.Addr6(a)
			r.outside6.put(inst.addr6, (inst.index|nodeFlag)+1)
		}
		r.inside(netip.PrefixFrom(a, a.BitLen()), inst)
	}
	for _, p := range c.Inside {
		r.inside(p, inst)
	}
	for _, rng := range c.Ports {
		f := byAddr[rng.Frontend]
		if f == nil {
			f = &frontend{addr: rng.Frontend}
			byAddr[rng.Frontend] = f
			n.frontends = append(n.frontends, f)
			if rng.Frontend.Is4() {
				f.packed[0] = uint64(flow.Addr4(rng.Frontend))
				r.outside4.put(uint32(f.packed[0]), uint32(len(n.frontends)))
			} else {
				f.packed = flow.Addr6(rng.Frontend)
				r.outside6.put(f.packed, uint32(len(n.frontends)))
			}
		}
		for _, proto := range rng.protocols() {
			inst.grant(f, proto, rng)
		}
	}
	for fam := range inst.pools {
		for proto := range inst.pools[fam] {
			p := &inst.pools[fam][proto]
			if k := len(p.ranges); k > 0 {
				p.uses = make([]portUse, p.ranges[k-1].base+p.ranges[k-1].count)
			}
		}
	}
}

// inside routes an inside prefix to an instance.
func (r *routes) inside(p netip.Prefix, inst *instance) {
	if p.Addr().Is4() {
		r.inside4.put(p, pack(inst))
	} else {
		r.inside6.put(p, pack(inst))
	}
}

// grant makes the instance the owner of a range of ports.
func (inst *instance) grant(f *frontend, proto Protocol, rng PortRange) {
	protocol := int(proto - TCP)
	p := &inst.pools[family(rng.Frontend)][protocol]
	base := 0
	if k := len(p.ranges); k > 0 {
		base = p.ranges[k-1].base + p.ranges[k-1].count
	}
	s := p.share(f)
	s.allocated += rng.Count
	p.ranges = append(p.ranges, ordinals{frontend: f, share: s, base: base, count: rng.Count, first: rng.First})
	f.use[protocol].allocated.Add(int64(rng.Count))
	if f.owner[protocol] == nil {
		f.owner[protocol] = new(owners)
	}
	for b := range rng.Count / BlockSize {
		block := int(rng.First)/BlockSize + b
		f.owner[protocol].shard[block] = uint8(inst.shard + 1)
		f.owner[protocol].instance[block] = inst.index + 1
	}
}

// Close returns the memory of n to the system. n must not be used afterwards.
func (n *NAT) Close() {
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		sh.mem.Release()
		sh.Unlock()
	}
	n.table.Close()
}

// Outbound translates a packet from the inside. pkt starts at the IP header and
// is rewritten in place; bytes behind its IP length are left alone. No
// allocation. Cost: see Benchmark Outbound; batches are several times faster
// when there are more flows than the caches hold.
func (n *NAT) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	var (
		l lane
		v flow.Verdict
	)
	r := n.routes.Load()
	if n.parseOutbound(r, &l, pkt, &v) {
		sh := &n.shards[l.shard]
		sh.Lock()
		sh.processOutbound(&moment{r, now, flow.TickOf(now)}, &l, &v)
		if n.config.CountTraffic {
			l.countOutbound(r, &v)
		}
		sh.Unlock()
	}
	return v
}

// Inbound translates a packet from the outside. See Outbound.
func (n *NAT) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	var (
		l lane
		v flow.Verdict
	)
	r := n.routes.Load()
	if n.parseInbound(r, &l, pkt, &v) {
		sh := &n.shards[l.shard]
		sh.Lock()
		sh.processInbound(&moment{r, now, flow.TickOf(now)}, &l, &v)
		if n.config.CountTraffic {
			l.countInbound(r, &v)
		}
		sh.Unlock()
	}
	return v
}
