// Internal Services: those whose load balancer has private addresses. Read the AKS document
// "Use an internal load balancer" first.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

// isBalanced reports whether a packet is for a frontend of an internal Service.
func (s *state) isBalanced(pkt []byte) bool {
	if s.internal == nil {
		return false
	}
	_, dst := addressing.Ends(pkt)
	return s.internal.Has(dst)
}

// fromBalanced returns the way of a packet to the network that answers by a frontend of an
// internal Service, or to a range of service endpoints by a public address, or may do so, and whether it is one.
func (s *state) fromBalanced(pkt []byte) (w way, ok bool) {
	toService := false
	if s.services != nil {
		toService, _ = s.services.Holds(pkt, dst4, dst6)
	}
	if s.internal == nil && !toService {
		return 0, false
	}
	src, _ := addressing.Ends(pkt)
	if s.internal.Has(src) || toService && s.public.Has(src) {
		return byEgress, true
	}
	i, node := s.byAddr[src]
	return byBalancer, node && (s.internal.Answers(pkt) || toService && (len(s.byIndex[i].PublicAddrs) > 0 || s.public.Answers(pkt)))
}

// dropStray drops a packet that has come to a node by HA ports, at the frontend's address, and that
// no Service's port is for: the node has not the address, and to pass it on is not for it.
func (c *Cluster) dropStray(s *state, pkt []byte, v *flow.Verdict) {
	if v.Action != flow.Forward || v.To != flow.Inside || !s.isBalanced(pkt) {
		return
	}
	n := &c.serviced[flow.Outside]
	n.WasForwarded.Add(1)
	n.Drops[flow.ReasonNotOurs].Add(1)
	*v = flow.Verdict{Action: flow.Drop, Reason: flow.ReasonNotOurs, Instance: v.Instance}
}

// nodeSubnetAt returns the prefix of a subnet that has an address, or the zero Prefix.
func (c *ClusterConfig) nodeSubnetAt(a netip.Addr) netip.Prefix {
	for i := range c.VNet.Subnets {
		if p, ok := c.VNet.Subnets[i].prefix(familyOf(a)); ok && p.Contains(a) {
			return p
		}
	}
	return netip.Prefix{}
}

// privateAddrs returns the addresses of all internal Services. s.mu must be held.
func (s *services) privateAddrs() (all []netip.Addr) {
	for _, e := range s.all() {
		if e.settings.Internal {
			all = append(all, e.addrs...)
		}
	}
	return all
}

// privateAddresses returns the addresses of an internal Service: those of its annotations,
// else free ones of its subnet, by default that of the first node pool. They come from the end
// of the subnet, or of its first 65,536 addresses, descending, for nodes have theirs from the
// beginning: our choice, for Azure takes the next free one.
func (s *state) privateAddresses(e *serviceEntry, taken map[netip.Addr]bool, l *problems.List) (all []netip.Addr) {
	name := e.settings.InternalSubnet
	if name == "" {
		name = s.config.NodePools[0].Subnet
	}
	subnet := s.config.subnet(name)
	if subnet == nil {
		l.Add("Annotations[azure-load-balancer-internal-subnet]", name, flow.ErrUnknownName, "no such subnet in VNet.Subnets")
		return nil
	}
	for _, f := range e.families() {
		prefix, ok := subnet.prefix(f)
		a := e.settings.Addrs[f]
		switch node, of := s.nodeOf(a); {
		case !ok:
			l.Add("IPFamilies", e.IPFamilies, ErrFamily, "subnet %q has no %v prefix", name, f)
		case !a.IsValid():
			if a = addressing.LastFree(prefix, func(a netip.Addr) bool { _, node := s.nodeOf(a); return node || taken[a] }); !a.IsValid() {
				l.Add("Type", e.Type, flow.ErrTooMany, "no free address in %v of subnet %q", prefix, name)
			}
		case !prefix.Contains(a):
			l.Add(e.fieldOf(a), a, flow.ErrOutOfRange, "must be in %v of subnet %q", prefix, name)
		case of:
			l.Add(e.fieldOf(a), a, flow.ErrOverlap, "node %s has it", s.byIndex[node].Name)
		case addressing.IsReserved(prefix, a):
			l.Add(e.fieldOf(a), a, ErrReserved, "Azure keeps the first four addresses of %v, and the last", prefix)
		}
		all = append(all, a)
	}
	return all
}

// checkPrivateAddresses checks that addresses of internal Services are in subnets, and that
// these have room for them beside the nodes that there may be.
func (v *validation) checkPrivateAddresses(field string, addrs []netip.Addr) {
	count := make(map[netip.Prefix]int)
	slices.SortFunc(addrs, netip.Addr.Compare) // Services may share one
	for _, a := range slices.Compact(addrs) {
		if p := v.nodeSubnetAt(a); p.IsValid() {
			count[p]++
		} else {
			v.Add(field, a, flow.ErrOutOfRange, "must be in one of VNet.Subnets, for an internal Service has it")
		}
	}
	for i := range v.VNet.Subnets {
		s, nodes := &v.VNet.Subnets[i], 0
		for j := range v.NodePools {
			if p := &v.NodePools[j]; p.Subnet == s.Name {
				nodes += max(p.maxNodes(), p.Count+v.extra[p.Name]) * v.addrsPerNode(p)
			}
		}
		for _, f := range v.families() {
			if p, ok := s.prefix(f); ok && count[p] > 0 && nodes+count[p] > NodesPerSubnet(p) {
				v.Add(problems.Index("VNet.Subnets", i)+".AddressPrefixes", p, ErrTooManyNodes, "has room for %d addresses of nodes and internal Services, and needs %d and %d", NodesPerSubnet(p), nodes, count[p])
			}
		}
	}
}
