package dataplane

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/turns"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/changes"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/instances"
	"github.com/seed-a61be3fe/natplane/snat/internal/placement"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/routing"
)

// MaxInstances is the number of instances that a translator can tell apart.
const MaxInstances = routing.MaxInstances

// layout is a configuration laid out for the packet path, before it is in force.
type layout struct {
	routes  *routes
	order   []*instance // of the configuration; those that nothing changes for are those of before
	follows []int       // indexes of policies, by shard
	ports   *ports.Layout

	former  []*instance // in force until then, by index
	fresh   []*instance // those of order that are not, or not as they are now
	gone    []*instance // former ones that are removed
	changes changes.Report
	noted   [][]flow.ID // by shard: sessions that may end or move; see survey.go
	kept    []kept

	stays   map[string]bool   // names of the instances that remain
	sockets []forwards.Socket // whose sessions may go on, by the forwards until now
	unmoved bool              // forwarded sessions need not be looked at
	moving  []moving
}

// moving is a forwarded session that belongs to another shard now.
type moving struct {
	sh *shard
	id flow.ID
	to int
}

// lay lays a configuration out. It only reads what is changed with changing held, and
// changes nothing. With rebook all sessions are booked anew; with keep all present
// frontends remain ours, used or not.
func (n *NAT) lay(c *compiled.Config, rebook, keep bool) *layout {
	old := n.routes.Load()
	l := &layout{routes: &routes{Hairpin: n.hairpins, Looks: slices.ContainsFunc(c.Forwards, func(f compiled.Forward) bool { return f.FromInside })}, former: old.Instances}
	l.routes.Tracks, l.routes.Admit, l.routes.Entries = old.Tracks, c.Admit, c.RememberEntries
	l.routes.Timed = c.Admit != nil || c.RememberEntries || slices.ContainsFunc(c.Routes, func(r addresses.Row) bool { return r.PassOn })
	l.routes.Locates = n.routed || n.ports.ByRemote() || len(c.Forwards) > 0 && n.messages.Errors
	l.routes.SetTable(c.Routes)
	l.noted = make([][]flow.ID, len(n.shards))
	l.stays = map[string]bool{}
	for i := range c.Instances {
		l.stays[c.Instances[i].Name] = true
	}
	was := map[string]*compiled.Instance{}
	for i := range n.config.Instances {
		was[n.config.Instances[i].Name] = &n.config.Instances[i]
	}
	indexes, shards := l.assign(n, c)
	l.ports = n.ports.Lay(len(l.routes.Instances))
	targeted := l.targeted(n, c)
	for i := range c.Instances {
		turns.Step(i)
		inst, index := &c.Instances[i], indexes[i]
		old := l.predecessor(index, inst.Name)
		if rebook || old == nil || old.Shard != shards[i] || old.Awaits() || !inst.Same(was[inst.Name]) {
			l.addInstance(instances.New(inst, index, shards[i], old))
		} else {
			l.goOn(old)
		}
		l.routes.Add(inst, l.routes.Instances[index], targeted[inst.Name])
		l.grant(n, inst, l.routes.Instances[index])
	}
	if keep {
		l.ports.KeepFrontends(n.ports)
	}
	for _, old := range l.former {
		if old != nil && l.successor(old) == nil {
			l.gone = append(l.gone, old)
		}
	}
	l.addForwards(n, c)
	l.ports.Settle(&c.Ports, c.Exclusions)
	l.routes.SetFrontends(l.ports.Frontends, l.ports.Order)
	return l
}

// predecessor returns what the instance with an index and a name is until now, or nil if it is new.
func (l *layout) predecessor(index uint32, name string) *instance {
	if int(index) < len(l.former) && l.former[index] != nil && l.former[index].Name == name {
		return l.former[index]
	}
	return nil
}

// successor returns what becomes of an instance, or nil if it is removed.
func (l *layout) successor(old *instance) *instance {
	if inst := l.routes.Instances[old.Index]; inst != nil && inst.Name == old.Name {
		return inst
	}
	return nil
}

// assign decides the index and the shard of each instance, and the policy of each shard.
func (l *layout) assign(n *NAT, c *compiled.Config) (indexes []uint32, shards []int) {
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
	l.routes.Resize(end)
	l.follows, shards = placement.Shards(len(n.shards), len(c.Policies), wants, places)
	return indexes, shards
}

// kept is a session that has to be booked anew, and the mapping it was on.
type kept struct {
	sh      *shard
	id      flow.ID
	booking ports.Booking
}

// addInstance adds an instance with state of its own.
func (l *layout) addInstance(inst *instance) {
	l.routes.Instances[inst.Index] = inst
	l.order, l.fresh = append(l.order, inst), append(l.fresh, inst)
	l.ports.Add(&inst.Instance)
}

// goOn adds an instance that nothing changes for.
func (l *layout) goOn(old *instance) {
	l.routes.Instances[old.Index] = old
	l.order = append(l.order, old)
	l.ports.GoOn(&old.Instance)
}

// grant grants an instance its ports.
func (l *layout) grant(n *NAT, c *compiled.Instance, inst *instance) {
	goesOn := l.predecessor(inst.Index, inst.Name) == inst
	for _, g := range c.Ports {
		if goesOn {
			l.ports.Use(g.Frontend)
			continue
		}
		for pool, has := range [ports.NumPools]bool{ports.TCPIndex: g.TCP, ports.UDPIndex: g.UDP, ports.QueryIndex: g.UDP && n.messages.Queries} {
			if has {
				l.ports.Grant(&inst.Instance, g.Frontend, pool, g.First, g.Count)
			}
		}
	}
}
