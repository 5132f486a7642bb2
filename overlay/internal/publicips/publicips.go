// Package publicips knows the public IPs that are not for everybody: those of nodes, and those that
// Services choose by name.
//
// Everything here is a function of its arguments. It refuses to know clusters, and what is sent to or from
// an address. Families are numbers: 0 is IPv4, 1 is IPv6. The sentinel of a wrong one is the caller's.
//
// Sources: "Use instance-level public IPs in AKS", and "LoadBalancer annotations" of
// cloud-provider-azure.
package publicips

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// NodeRange is where public IPs of nodes come from without a prefix. Azure picks from its regional
// ranges; the range is our choice.
var NodeRange = netip.MustParsePrefix("20.60.0.0/16")

// tags are the IP tags of public addresses that the document of node public IPs has.
var tags = []string{"RoutingPreference=Internet"}

// Families say which families a cluster has, and how that is written.
type Families struct {
	N      int    // 1 or 2
	Text   string // IPFamilies
	Reason error  // the sentinel of what is of another family
}

// Pool is what a node pool says of its nodes' public IPs.
type Pool struct {
	Enabled          bool
	Prefixes         []netip.Prefix
	Tags             []string
	AllowedHostPorts string
}

// prefix returns where the addresses of a family come from, if the pool has any.
func (p *Pool) prefix(family int) (netip.Prefix, bool) {
	switch {
	case !p.Enabled:
		return netip.Prefix{}, false
	case len(p.Prefixes) > family:
		return p.Prefixes[family], true
	}
	return NodeRange, family == 0
}

// size returns how many addresses of a prefix are looked at, at most 65,536.
func size(p netip.Prefix) int { return min(1<<16, addressing.Size(p)) }

// Node is a node that may get public addresses.
type Node struct {
	Pool  *Pool
	New   bool         // it has no other addresses yet
	Addrs []netip.Addr // that it has
}

// Give gives public addresses to new nodes, as far as there are any: the lowest that is free.
func Give(nodes []Node, families int) {
	taken := make(map[netip.Addr]bool)
	for i := range nodes {
		for _, a := range nodes[i].Addrs {
			taken[a] = true
		}
	}
	next := make(map[netip.Prefix]int)
	for f := range families {
		for i := range nodes {
			n := &nodes[i]
			from, ok := n.Pool.prefix(f)
			if !ok || !n.New {
				continue
			}
			for ; next[from] < size(from); next[from]++ {
				if a := addressing.At(from, uint64(next[from])); !taken[a] {
					taken[a] = true
					n.Addrs = append(n.Addrs, a)
					break
				}
			}
		}
	}
}

// CheckPools reports what is wrong with pools, and returns the ranges that their addresses come from.
func CheckPools(l *problems.List, pools []Pool, families Families) (own []ranges.Named) {
	add := func(r ranges.Named) {
		if !slices.ContainsFunc(own, func(o ranges.Named) bool { return o.Prefix == r.Prefix }) {
			own = append(own, r)
		}
	}
	for i := range pools {
		p, path := &pools[i], problems.Index("NodePools", i)+".NodePublicIP"
		if p.AllowedHostPorts != "" {
			_, err := nsg.ParseHostPorts(p.AllowedHostPorts)
			l.Include(path, err)
		}
		if !p.Enabled {
			if len(p.Prefixes) > 0 || len(p.Tags) > 0 {
				l.Add(path+".Enabled", false, flow.ErrConflict, "prefixes and tags are for a pool with node public IPs")
			}
			continue
		}
		for k, tag := range p.Tags {
			if !slices.Contains(tags, tag) {
				l.Add(problems.Index(path+".Tags", k), tag, flow.ErrOutOfRange, "want %q", tags[0])
			} else if slices.Contains(p.Tags[:k], tag) {
				l.Add(problems.Index(path+".Tags", k), tag, flow.ErrConflict, "stands there twice")
			}
		}
		if n := len(p.Prefixes); n > 0 && n != families.N {
			l.Add(path+".Prefixes", p.Prefixes, flow.ErrMissing, "want one prefix per family, IPFamilies is %q", families.Text)
			continue
		}
		if len(p.Prefixes) == 0 {
			add(ranges.One(path, NodeRange))
		}
		for f, r := range ranges.In(path+".Prefixes", p.Prefixes) {
			if err := lb.CheckPublicIPPrefix(r.Prefix, false); err != nil {
				l.Include(r.Field, err)
			} else if flow.Family(r.Addr()) != f {
				l.Add(r.Field, r.Value, families.Reason, "want an IPv%d prefix here", 4+2*f)
			} else {
				add(r)
			}
		}
	}
	return own
}

// Address is a public IP with a name.
type Address struct {
	Name    string
	Address netip.Addr
}

// Prefix is a public IP prefix with an id.
type Prefix struct {
	ID     string
	Prefix netip.Prefix
}

// Max is the most public IPs, and the most prefixes, of a configuration: our bound.
const Max = 10_000

// Named are the public IPs that Services choose by name.
type Named struct {
	Addresses []Address
	Prefixes  []Prefix
}

// Check reports what is wrong with public IPs. They must be apart from inside; ownRanges says that
// prefixes may be as large as those of ranges of the user's own.
func (n *Named) Check(l *problems.List, families Families, inside []ranges.Named, ownRanges bool) {
	var own []ranges.Named
	names, ids := make(map[string]bool), make(map[string]bool)
	name := func(seen map[string]bool, path, name string) {
		switch {
		case name == "":
			l.Add(path, name, flow.ErrMissing, "Services choose by it")
		case seen[name]:
			l.Add(path, name, flow.ErrDuplicateName, "another has it")
		}
		seen[name] = true
	}
	for i, p := range n.Addresses {
		at := problems.Index("PublicIPs", i)
		name(names, at+".Name", p.Name)
		if !flow.IsHost(p.Address) {
			l.Add(at+".Address", p.Address, flow.ErrAddress, "must be the public address of a single host")
			continue
		}
		own = append(own, ranges.Host(at+".Address", p.Address))
	}
	for i, p := range n.Prefixes {
		at := problems.Index("PublicIPPrefixes", i)
		name(ids, at+".ID", p.ID)
		if err := lb.CheckPublicIPPrefix(p.Prefix, ownRanges); err != nil {
			l.Include(at+".Prefix", err)
			continue
		}
		own = append(own, ranges.One(at+".Prefix", p.Prefix))
	}
	ranges.Apart(l, own)
	for _, r := range own {
		if flow.Family(r.Addr()) >= families.N {
			l.Add(r.Field, r.Value, families.Reason, "IPFamilies is %q", families.Text)
		}
		ranges.Disjoint(l, r, inside)
	}
}

// Choice is what a Service says of its address of one family.
type Choice struct {
	Family           int
	Given            netip.Addr // the zero Addr is none
	Name, ID         string     // of a public IP or a prefix; "" is none
	NamePath, IDPath string     // where they stand
	GivenPath        string     // likewise
	Families         Families   // of the Service
	Taken            map[netip.Addr]bool
}

// Choose returns the address that a choice is for, or the zero Addr if it leaves that open: the lowest
// free one of a prefix.
func (n *Named) Choose(c *Choice, l *problems.List) netip.Addr {
	switch {
	case c.Name != "":
		at := slices.IndexFunc(n.Addresses, func(p Address) bool { return p.Name == c.Name })
		if at < 0 {
			l.Add(c.NamePath, c.Name, flow.ErrUnknownName, "no such name in PublicIPs")
			return c.Given
		}
		a := n.Addresses[at].Address
		if flow.Family(a) != c.Family {
			l.Add(c.NamePath, c.Name, c.Families.Reason, "it is %v, IPFamilies is %q", a, c.Families.Text)
		} else if c.Given.IsValid() && c.Given != a {
			l.Add(c.GivenPath, c.Given, flow.ErrConflict, "public IP %q is %v", c.Name, a)
		}
		return a
	case c.ID != "":
		at := slices.IndexFunc(n.Prefixes, func(p Prefix) bool { return p.ID == c.ID })
		if at < 0 {
			l.Add(c.IDPath, c.ID, flow.ErrUnknownName, "no such ID in PublicIPPrefixes")
			return c.Given
		}
		p := n.Prefixes[at].Prefix
		switch {
		case flow.Family(p.Addr()) != c.Family:
			l.Add(c.IDPath, c.ID, c.Families.Reason, "it is %v, IPFamilies is %q", p, c.Families.Text)
		case c.Given.IsValid() && !p.Contains(c.Given):
			l.Add(c.GivenPath, c.Given, flow.ErrConflict, "public IP prefix %q is %v", c.ID, p)
		case !c.Given.IsValid():
			for i := range uint64(size(p)) {
				if a := addressing.At(p, i); !c.Taken[a] {
					return a
				}
			}
			l.Add(c.IDPath, c.ID, flow.ErrTooMany, "no free address in %v", p)
		}
	}
	return c.Given
}
