// Node public IPs: which node has which, and who may reach it there. Read "Use instance-level
// public IPs in AKS" first.

package overlay

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
)

// ClusterSecurityGroupName is the name of the network security group that AKS makes for the
// interfaces of the nodes, here without the cluster's hash in it.
const ClusterSecurityGroupName = security.GroupName

// nodePublicIPRange is where node public IPs come from without a prefix. Azure picks from
// its regional ranges; the range is our choice.
var nodePublicIPRange = netip.MustParsePrefix("20.60.0.0/16")

// ipTags are the IP tags of public addresses that the document of node public IPs has.
var ipTags = []string{"RoutingPreference=Internet"}

// NodePublicIP is whether the nodes of a pool have public addresses of their own. Pods and
// processes of such a node leave for the Internet from its address, one to one, as far as
// no NAT gateway or route of the user's precedes it, and the outbound rule serves the nodes
// that have none. None of this can change while the pool exists but AllowedHostPorts.
type NodePublicIP struct {
	// Enabled gives each node of the pool a public address (enable-node-public-ip).
	Enabled bool

	// Prefixes are the public IP prefixes that the addresses come from, each used whole:
	// one /28 to /31, and in a cluster of two families an IPv6 one of /124 to /127
	// besides, IPv4 first (node-public-ip-prefix). A node for which a prefix has no address left has
	// none of that family for as long as it exists: a /28 serves 16 nodes. Pools may share a prefix. None means
	// IPv4 addresses out of 20.60.0.0/16, which is our choice.
	Prefixes []netip.Prefix

	// Tags are the IP tags of the addresses: "RoutingPreference=Internet" or none. They
	// change no packet here.
	Tags []string

	// AllowedHostPorts are the ports that the Internet reaches the nodes at, such as
	// "80/tcp,53/udp,40000-60000/tcp"; see [nsg.ParseHostPorts]. "" is none. What else
	// the Internet begins to a node is dropped ([flow.ReasonNSGInbound]): TCP connections, and
	// flows of other protocols, of which an answer is known by what the node has sent less
	// than 4 minutes ago.
	AllowedHostPorts string
}

// clone returns a copy of p that shares nothing with it.
func (p NodePublicIP) clone() NodePublicIP {
	p.Prefixes, p.Tags = slices.Clone(p.Prefixes), slices.Clone(p.Tags)
	return p
}

// prefix returns where the addresses of family f come from, if the pool has any.
func (p *NodePublicIP) prefix(f family) (netip.Prefix, bool) {
	switch {
	case !p.Enabled:
		return netip.Prefix{}, false
	case len(p.Prefixes) > int(f):
		return p.Prefixes[f], true
	}
	return nodePublicIPRange, f == ipv4
}

// size returns how many nodes a prefix serves, at most 65,536.
func size(p netip.Prefix) int { return min(1<<16, addressing.Size(p)) }

// givePublicAddrs gives public addresses to new nodes, which have no other addresses yet, as
// far as there are any: the lowest that is free.
func (c *ClusterConfig) givePublicAddrs(nodes []Node) {
	taken := make(map[netip.Addr]bool)
	for i := range nodes {
		for _, a := range nodes[i].PublicAddrs {
			taken[a] = true
		}
	}
	next := make(map[netip.Prefix]int)
	for _, f := range c.families() {
		for i := range nodes {
			n := &nodes[i]
			from, ok := c.pool(n.Pool).NodePublicIP.prefix(f)
			if !ok || len(n.Addrs) > 0 {
				continue
			}
			for ; next[from] < size(from); next[from]++ {
				if a := addressing.At(from, uint64(next[from])); !taken[a] {
					taken[a] = true
					n.PublicAddrs = append(n.PublicAddrs, a)
					break
				}
			}
		}
	}
}

// checkNodePublicIPs checks what each pool says of its nodes' public addresses.
func (v *validation) checkNodePublicIPs() {
	var own []ranges.Named
	for i := range v.NodePools {
		p, path := &v.NodePools[i].NodePublicIP, problems.Index("NodePools", i)+".NodePublicIP"
		if p.AllowedHostPorts != "" {
			_, err := nsg.ParseHostPorts(p.AllowedHostPorts)
			v.Include(path, err)
		}
		if !p.Enabled {
			if len(p.Prefixes) > 0 || len(p.Tags) > 0 {
				v.Add(path+".Enabled", false, flow.ErrConflict, "prefixes and tags are for a pool with node public IPs")
			}
			continue
		}
		for k, tag := range p.Tags {
			if !slices.Contains(ipTags, tag) {
				v.Add(problems.Index(path+".Tags", k), tag, flow.ErrOutOfRange, "want %q", ipTags[0])
			} else if slices.Contains(p.Tags[:k], tag) {
				v.Add(problems.Index(path+".Tags", k), tag, flow.ErrConflict, "stands there twice")
			}
		}
		if n := len(p.Prefixes); n > 0 && n != len(v.families()) {
			v.Add(path+".Prefixes", p.Prefixes, flow.ErrMissing, "want one prefix per family, IPFamilies is %q", v.IPFamilies)
			continue
		}
		if !slices.ContainsFunc(own, func(o ranges.Named) bool { return o.Prefix == nodePublicIPRange }) && len(p.Prefixes) == 0 {
			own = append(own, ranges.One(path, nodePublicIPRange))
		}
		for f, r := range ranges.In(path+".Prefixes", p.Prefixes) {
			if err := lb.CheckPublicIPPrefix(r.Prefix, false); err != nil {
				v.Include(r.Field, err)
			} else if familyOf(r.Addr()) != family(f) {
				v.Add(r.Field, r.Value, ErrFamily, "want an %v prefix here", family(f))
			} else if !slices.ContainsFunc(own, func(o ranges.Named) bool { return o.Prefix == r.Prefix }) {
				own = append(own, r)
			}
		}
	}
	v.checkNodePublicRanges(own)
}

// checkNodePublicRanges checks that ranges of node public IPs are apart from each other, from
// what is inside, and from what else the cluster leaves by.
func (v *validation) checkNodePublicRanges(own []ranges.Named) {
	if len(own) == 0 {
		return
	}
	ranges.Apart(&v.List, own)
	others := v.insideRanges()
	if v.hasOutboundRule() && v.Len() == 0 {
		for _, f := range v.frontends() {
			r := f.PublicIPPrefix
			if !r.IsValid() {
				r = netip.PrefixFrom(f.PublicIPAddress, f.PublicIPAddress.BitLen())
			}
			others = append(others, ranges.One("LoadBalancerProfile", r))
		}
	}
	if v.OutboundType.hasGateway() && v.Len() == 0 {
		for _, a := range v.gateway().Addrs() {
			others = append(others, ranges.Host("NATGatewayProfile", a))
		}
	}
	for _, r := range own {
		ranges.Disjoint(&v.List, r, others)
	}
}

// ClusterSecurityGroup returns the network security group that AKS makes for the interfaces
// of nodes: the rules for AllowedHostPorts, those for Services of type LoadBalancer, and those of
// a group of its name in SecurityGroups, which are the user's own and precede by their
// priorities. Besides it has the application security group of each pool that has such ports. ok
// is false while nothing needs the group: then no node has a public address, there is no such
// Service, and SecurityGroups is nil. A group of the subnet, in SecurityGroups, has to allow the
// flows, too, and is the user's to open.
func (c *Cluster) ClusterSecurityGroup() (config nsg.Config, ok bool) {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	s := c.state.Load()
	config, ok, err := s.config.security(s.nodes, c.services.secured()).ClusterGroup()
	if err != nil {
		panic(fmt.Sprintf("overlay: a security group passed validation: %v", err))
	}
	return config, ok
}
