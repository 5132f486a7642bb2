package fleet

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// Bounds of what a snapshot has.
const (
	maxNodes    = 1 << 20
	maxElements = 1 << 16
)

// Archive writes f, or reads it, which is zero then. What is read need not be a fleet of any configuration; see
// [Config.Makes].
func (f *Fleet) Archive(a *snapshot.Archive) {
	a.Section("nodes")
	snapshot.Slice(a, &f.Nodes, maxNodes, func(n *Node) { a.Value(n, maxElements) })
	snapshot.Map(a, &f.Numbers, maxElements, func(n *int) { snapshot.Num(a, n) })
	snapshot.Map(a, &f.Prefixes, maxElements, func(p *netip.Prefix) { a.Value(p, 0) })
}

// Makes refuses a fleet that c does not make: what it has must be all that c asks for, and no more. It
// returns what is in force then.
func (c *Config) Makes(a *snapshot.Archive, f *Fleet) *Fleet {
	indexes := make(map[int]bool, len(f.Nodes))
	for i := range f.Nodes {
		n := &f.Nodes[i]
		at := slices.IndexFunc(c.Pools, func(p Pool) bool { return p.Name == n.Pool })
		a.Check(at >= 0 && n.MaxPods == c.Pools[max(at, 0)].MaxPods, "node %q is of no pool that there is", n.Name)
		a.Check(n.Index >= 0 && n.Index < maxNodes && !indexes[n.Index], "node %q has index %d", n.Name, n.Index)
		a.Check(len(n.Addrs) == c.Families && len(n.PublicAddrs) <= c.Families, "node %q has %d addresses", n.Name, len(n.Addrs))
		for f, addr := range n.Addrs {
			a.Check(addr.IsValid() && flow.Family(addr) == f, "node %q has the address %v", n.Name, addr)
		}
		for _, addr := range n.PublicAddrs {
			a.Check(addr.IsValid(), "node %q has the public address %v", n.Name, addr)
		}
		for _, p := range n.PodBlocks {
			a.Check(p.IsValid() && p == p.Masked(), "node %q has the pods %v", n.Name, p)
		}
		indexes[n.Index] = true
	}
	for pool, n := range f.Numbers {
		a.Check(n >= 0, "the next node of pool %q is number %d", pool, n)
	}
	for name, p := range f.Prefixes {
		a.Check(p.IsValid() && p.Addr().Is4(), "static gateway %q has the prefix %v", name, p)
	}
	if !a.OK() {
		return nil
	}
	is := c.Plan(f)
	a.Check(maps.Equal(is.Numbers, f.Numbers) && maps.Equal(is.Prefixes, f.Prefixes) && slices.EqualFunc(is.Nodes, f.Nodes, Node.same), "nodes that the configuration does not make")
	return is
}

func (n Node) same(o Node) bool {
	return n.Index == o.Index && n.Name == o.Name && n.Pool == o.Pool && n.MaxPods == o.MaxPods &&
		slices.Equal(n.Addrs, o.Addrs) && slices.Equal(n.PublicAddrs, o.PublicAddrs) && slices.Equal(n.PodBlocks, o.PodBlocks)
}
