package dataplane

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/placement"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// layout is a configuration laid out for the packet path, before it is in force.
type layout struct {
	routes  *routes
	order   []*instance // of the configuration
	follows []int       // indexes of policies, by shard
	ports   *ports.Layout

	former  []*instance // in force until then, by index
	changes map[*instance]*Change
	kept    []kept

	stays    map[string]bool          // names of the instances that remain
	departed map[forwards.Socket]bool // whether sockets without a target have sessions
	unmoved  bool                     // forwarded sessions need not be looked at
	moving   []moving
}

// moving is a forwarded session that belongs to another shard now.
type moving struct {
	sh *shard
	id flow.ID
	to int
}

// lay lays a configuration out. It only reads what control guards, and changes
// nothing. With rebook all sessions are booked anew; with addresses all present
// frontends remain ours, used or not.
func (n *NAT) lay(c *Config, rebook, addresses bool) *layout {
	old := n.routes.Load()
	l := &layout{routes: &routes{hairpin: n.hairpins, looks: slices.ContainsFunc(c.Forwards, func(f Forward) bool { return f.FromInside })}, former: old.instances, changes: map[*instance]*Change{}}
	l.routes.tracks, l.routes.admit = old.tracks, c.Admit
	l.routes.locates = n.routed || n.ports.ByRemote() || len(c.Forwards) > 0 && n.messages.Errors
	l.routes.setTable(c.Routes)
	l.stays = map[string]bool{}
	for i := range c.Instances {
		l.stays[c.Instances[i].Name] = true
	}
	indexes, shards := l.assign(n, c)
	l.ports = n.ports.Lay(len(l.routes.instances))
	targeted := l.targeted(n, c)
	for i := range c.Instances {
		l.addInstance(n, &c.Instances[i], indexes[i], shards[i], targeted[c.Instances[i].Name])
	}
	if addresses {
		l.ports.KeepFrontends(n.ports)
	}
	was := map[string]*Instance{}
	for i := range n.config.Instances {
		was[n.config.Instances[i].Name] = &n.config.Instances[i]
	}
	for i, inst := range l.order {
		if o := l.predecessor(inst); o != nil {
			l.ports.Affected[inst.Index] = rebook || o.Shard != inst.Shard || o.Awaits() || !c.Instances[i].same(was[inst.Name])
		}
	}
	l.addForwards(n, c)
	l.routes.setFrontends(l.ports.Frontends)
	return l
}

// predecessor returns what an instance is until now, or nil if it is new.
func (l *layout) predecessor(inst *instance) *instance {
	if l.ports.Predecessor(&inst.Instance) == nil {
		return nil
	}
	return l.former[inst.Index]
}

// successor returns what becomes of an instance, or nil if it is removed.
func (l *layout) successor(old *instance) *instance {
	if inst := l.routes.instances[old.Index]; inst != nil && inst.Name == old.Name {
		return inst
	}
	return nil
}

// assign decides the index and the shard of each instance, and the policy of each shard.
func (l *layout) assign(n *NAT, c *Config) (indexes []uint32, shards []int) {
	former, at := make([]string, len(l.former)), map[string]int{}
	for index, inst := range l.former {
		if inst != nil {
			former[index], at[inst.Name] = inst.Name, inst.Shard
		}
	}
	names, wants, places := make([]string, len(c.Instances)), make([]int, len(c.Instances)), make([]int, len(c.Instances))
	for i := range c.Instances {
		inst := &c.Instances[i]
		names[i], wants[i], places[i] = inst.Name, inst.Policy, placement.None
		if s, ok := at[inst.Name]; ok {
			places[i] = s
		}
	}
	indexes, end := placement.Indexes(former, names)
	l.routes.instances = make([]*instance, end)
	l.follows, shards = placement.Shards(len(n.shards), len(c.Policies), wants, places)
	return indexes, shards
}

// kept is a session that has to be booked anew, and the mapping it was on.
type kept struct {
	sh      *shard
	id      flow.ID
	booking ports.Booking
}

// addInstance builds an instance's state and its routes.
func (l *layout) addInstance(n *NAT, c *Instance, index uint32, shard int, targeted bool) {
	inst := &instance{direct: new(direct), alarms: new(alarms), targeted: targeted}
	inst.Index, inst.Shard, inst.Realm, inst.Name, inst.Masquerades = index, shard, c.Realm, c.Name, len(c.Inside) > 0
	r, in := l.routes, l.routes.begin(c.Realm)
	r.instances[index] = inst
	l.order = append(l.order, inst)
	l.ports.Add(&inst.Instance)
	for _, a := range c.Addrs {
		if a.Is4() {
			if inst.Addr4 = flow.Addr4(a); c.Realm == 0 {
				r.Outside4.Put(inst.Addr4, (inst.Index|addresses.NodeFlag)+1)
			}
		} else {
			if inst.Addr6 = flow.Addr6(a); c.Realm == 0 {
				r.Outside6.Put(inst.Addr6, (inst.Index|addresses.NodeFlag)+1)
			}
		}
		in.inside(netip.PrefixFrom(a, a.BitLen()), inst)
	}
	inst.publish(r, in, c.PublicAddrs)
	for _, p := range c.Inside {
		in.inside(p, inst)
	}
	for _, g := range c.Ports {
		for pool, has := range [ports.NumPools]bool{ports.TCPIndex: g.TCP, ports.UDPIndex: g.UDP, ports.QueryIndex: g.UDP && n.messages.Queries} {
			if has {
				l.ports.Grant(&inst.Instance, g.Frontend, pool, g.First, g.Count)
			}
		}
	}
	if c.Deterministic != nil {
		inst.Fix(c.Deterministic)
	}
}

// inside routes an inside prefix to an instance.
func (r *routes) inside(p netip.Prefix, inst *instance) {
	if p.Addr().Is4() {
		r.Inside4.Put(p, r.mark(inst))
	} else {
		r.Inside6.Put(p, r.mark(inst))
	}
}

// publish gives an instance, whose own addresses are routed already, its public
// addresses; in has the inside addresses of its realm.
func (inst *instance) publish(r, in *routes, addrs []netip.Addr) {
	for _, a := range addrs {
		public, delta := &inst.Public[flow.Family(a)], &inst.deltas[flow.Family(a)]
		if v := inst.Index | addresses.PublicFlag; a.Is4() {
			public[0] = uint64(flow.Addr4(a))
			*delta = wire.Delta32(inst.Addr4, uint32(public[0]))
			r.Outside4.Put(uint32(public[0]), v+1)
			in.Inside4.Put(netip.PrefixFrom(flow.NetAddr4(inst.Addr4), 32), addresses.Pack(inst.Index, inst.Shard)|addresses.DirectFlag)
		} else {
			*public = flow.Addr6(a)
			from, to := flow.NetAddr6(inst.Addr6).As16(), a.As16()
			*delta = wire.DeltaAddr6(&from, &to)
			r.Outside6.Put(*public, v+1)
			in.Inside6.Put(netip.PrefixFrom(flow.NetAddr6(inst.Addr6), 128), addresses.Pack(inst.Index, inst.Shard)|addresses.DirectFlag)
		}
	}
}
