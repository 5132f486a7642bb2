// Node public IPs: which node has which, and who may reach it there. Read "Use instance-level
// public IPs in AKS" first.

package overlay

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/publicips"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
)

// ClusterSecurityGroupName is the name of the network security group that AKS makes for the
// interfaces of the nodes, here without the cluster's hash in it.
const ClusterSecurityGroupName = security.GroupName

// NodePublicIP is whether the nodes of a pool have public addresses of their own. Pods and
// processes of such a node leave for the Internet from its address, one to one, as far as
// no NAT gateway or route of the user's precedes it, and the outbound rule serves the nodes
// that have none. Echoes of the node and of its pods pass, and so do ICMP errors about their flows,
// whatever ICMP.Queries and ICMP.Errors say, which are about nodes without a public address. Other
// protocols of pods are dropped, as a node does that masquerades what it cannot follow (our choice). None
// of this can change while the pool exists but AllowedHostPorts.
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

// publicFamilies are the families of the cluster, for errors about public IPs.
func (c *ClusterConfig) publicFamilies() publicips.Families {
	return publicips.Families{N: len(c.families()), Text: c.IPFamilies, Reason: ErrFamily}
}

// checkNodePublicIPs checks what each pool says of its nodes' public addresses.
func (v *validation) checkNodePublicIPs() {
	pools := make([]publicips.Pool, len(v.NodePools))
	for i := range pools {
		pools[i] = publicips.Pool(v.NodePools[i].NodePublicIP)
	}
	own := publicips.CheckPools(&v.List, pools, v.publicFamilies())
	all, _ := v.staticGateways(nil)
	v.checkNodePublicRanges(append(own, staticgateway.Ranges(all)...))
}

// checkNodePublicRanges checks that ranges of node public IPs and of static gateways are apart from each other, from
// what is inside, and from what else the cluster leaves by.
func (v *validation) checkNodePublicRanges(own []ranges.Named) {
	if len(own) == 0 {
		return
	}
	ranges.Apart(&v.List, own)
	others := v.insideRanges()
	if v.hasOutboundRule() && v.Len() == 0 {
		for _, f := range v.outbound().Frontends() {
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
// is false while the group decides about nothing: then there is no such Service, SecurityGroups is nil, and
// nobody outside of the virtual network reaches a node, be it by a public address, a service endpoint,
// NonMasqueradeCIDRs or a route of the user's. A group of the subnet, in SecurityGroups, has to allow the
// flows, too, and is the user's to open.
func (c *Cluster) ClusterSecurityGroup() (config nsg.Config, ok bool) {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	s := c.state.Load()
	config, ok, err := s.config.security(s.Nodes, c.services.secured()).ClusterGroup()
	if err != nil {
		panic(fmt.Sprintf("overlay: a security group passed validation: %v", err))
	}
	return config, ok
}
