package snat

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// layout is a configuration laid out for the packet path, before it is in force.
type layout struct {
	routes   *routes
	order    []*instance // of the configuration
	policies []Policy    // by shard
	queries  bool        // ports of UDP come with identifiers
	ports    *ports.Layout

	former  []*instance // in force until then, by index
	changes map[*instance]*InstanceChange
	kept    []kept
}

// lay lays a configuration out. It only reads what control guards, and changes
// nothing. With addresses all present frontends remain ours, used or not.
func (n *NAT) lay(c *settings, addresses bool) *layout {
	old := n.routes.Load()
	l := &layout{routes: &routes{hairpin: c.Hairpin}, former: old.instances, changes: map[*instance]*InstanceChange{}}
	l.queries = c.ICMP.Queries
	l.routes.setTable(c.Routes)
	policies, shards := n.place(&c.Config)
	l.policies = policies
	indexes := l.number(&c.Config)
	l.ports = n.ports.Lay(len(l.routes.instances))
	for i := range c.Instances {
		l.addInstance(&c.Instances[i], indexes[i], shards[i])
	}
	if addresses {
		l.ports.KeepFrontends(n.ports)
	}
	l.routes.setFrontends(l.ports.Frontends)
	was := map[string]*Instance{}
	for i := range n.config.Instances {
		was[n.config.Instances[i].Name] = &n.config.Instances[i]
	}
	anew := !c.Allocation.same(&n.config.Allocation) || c.Limits != n.config.Limits || c.deterministic() != n.config.deterministic()
	for i, inst := range l.order {
		if o := l.predecessor(inst); o != nil {
			l.ports.Affected[inst.Index] = anew || o.Shard != inst.Shard || o.Awaits() || !c.Instances[i].same(was[inst.Name])
		}
	}
	return l
}

// same reports whether nothing of an instance has changed that its sessions
// depend on.
func (i *Instance) same(o *Instance) bool {
	return i.Realm == o.Realm && slices.Equal(i.Addrs, o.Addrs) && slices.Equal(i.PublicAddrs, o.PublicAddrs) &&
		slices.Equal(i.Inside, o.Inside) && slices.Equal(i.Ports, o.Ports) && i.Deterministic.Equal(o.Deterministic)
}

// number gives each instance its index: the one it has, or the lowest that no
// instance has which stays.
func (l *layout) number(c *Config) []uint32 {
	at := map[string]int{}
	for i := range c.Instances {
		at[c.Instances[i].Name] = i
	}
	indexes := make([]uint32, len(c.Instances))
	holder := make([]int, max(len(l.former), len(c.Instances))) // position + 1
	for index, inst := range l.former {
		if inst == nil {
			continue
		}
		if i, ok := at[inst.Name]; ok {
			indexes[i], holder[index] = uint32(index), i+1
			delete(at, inst.Name)
		}
	}
	index := 0
	for i := range c.Instances {
		if _, added := at[c.Instances[i].Name]; added {
			for holder[index] != 0 {
				index++
			}
			indexes[i], holder[index] = uint32(index), i+1
		}
	}
	l.routes.instances = make([]*instance, len(holder))
	return indexes
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

// policies returns the different policies of c, that of c itself first.
func (c *Config) policies() []Policy {
	all, seen := []Policy{c.Policy}, map[Policy]bool{c.Policy: true}
	for i := range c.Instances {
		if p := c.Instances[i].Policy; p != nil && !seen[*p] {
			seen[*p] = true
			all = append(all, *p)
		}
	}
	return all
}

// place decides the policy of each shard and the shard of each instance. A shard
// takes the policy that most of the instances in it have from now on, so that a
// change of policy moves as few of them as possible; a shard without instances
// takes one that few shards have. Instances that do not fit where they are, and
// new ones, go to the shard of their policy with the fewest instances.
func (n *NAT) place(c *Config) (policies []Policy, shards []int) {
	all := c.policies()
	at := map[string]int{}
	for _, inst := range n.order {
		at[inst.Name] = inst.Shard
	}
	wants := make([]int, len(c.Instances)) // policy by instance
	votes := make([][]int, len(n.shards))  // instances by shard and policy
	for s := range votes {
		votes[s] = make([]int, len(all))
	}
	for i := range c.Instances {
		if p := c.Instances[i].Policy; p != nil {
			wants[i] = slices.Index(all, *p)
		}
		if s, ok := at[c.Instances[i].Name]; ok {
			votes[s][wants[i]]++
		}
	}
	of, count := make([]int, len(n.shards)), make([]int, len(all)) // policy by shard, shards by policy
	for s := range of {
		of[s] = -1
		if most := slices.Max(votes[s]); most > 0 {
			of[s] = slices.Index(votes[s], most)
			count[of[s]]++
		}
	}
	for s := range of {
		if of[s] < 0 {
			of[s] = slices.Index(count, slices.Min(count))
			count[of[s]]++
		}
	}
	for p := range count {
		if count[p] > 0 {
			continue
		}
		best := -1 // the shard whose policy can do without it, and which has the fewest instances
		for s := range of {
			if count[of[s]] > 1 && (best < 0 || votes[s][of[s]] < votes[best][of[best]]) {
				best = s
			}
		}
		count[of[best]]--
		of[best] = p
		count[p]++
	}
	load := make([]int, len(n.shards))
	shards = make([]int, len(c.Instances))
	for i := range c.Instances {
		if s, ok := at[c.Instances[i].Name]; ok && of[s] == wants[i] {
			shards[i] = s
			load[s]++
		} else {
			shards[i] = -1
		}
	}
	for i := range shards {
		if shards[i] < 0 {
			best := -1
			for s := range of {
				if of[s] == wants[i] && (best < 0 || load[s] < load[best]) {
					best = s
				}
			}
			shards[i] = best
			load[best]++
		}
	}
	for _, p := range of {
		policies = append(policies, all[p])
	}
	return policies, shards
}

// clone returns a copy of c that shares no memory with it.
func (c settings) clone() settings {
	c.Ports = nil // it has been taken apart
	if c.shared != nil {
		s := *c.shared
		s.Frontends = slices.Clone(s.Frontends)
		c.shared = &s
	}
	c.Allocation.Exclude = slices.Clone(c.Allocation.Exclude)
	c.Instances, c.Routes = slices.Clone(c.Instances), slices.Clone(c.Routes)
	c.ICMP.RouterAddrs = slices.Clone(c.ICMP.RouterAddrs)
	for i := range c.Instances {
		inst := &c.Instances[i]
		inst.Addrs, inst.PublicAddrs = slices.Clone(inst.Addrs), slices.Clone(inst.PublicAddrs)
		inst.Inside, inst.Ports = slices.Clone(inst.Inside), slices.Clone(inst.Ports)
		inst.Deterministic = inst.Deterministic.Clone()
		if inst.Policy != nil {
			p := *inst.Policy
			inst.Policy = &p
		}
	}
	return c
}
