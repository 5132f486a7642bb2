// Package vnet checks the ranges of a cluster's network: those of pods and Services, and the virtual
// network around the nodes.
//
// [Network] is data, and nothing here changes it. It refuses to know how many nodes and pods there are to be.
// Families are numbers: 0 is IPv4, 1 is IPv6.
//
// Sources: "Azure CNI Overlay networking", "Plan IP addressing for your AKS cluster".
package vnet

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// Network is the ranges of a network, with the names of the configuration.
type Network struct {
	Families         int    // 1 or 2
	IPFamilies       string // how they are written
	Family, Reserved error  // sentinels of what is of another family, and of what nobody may have

	PodCIDRs, ServiceCIDRs []netip.Prefix // IPv4 first; at least one of the latter
	DNSServiceIP           netip.Addr

	// The virtual network.
	Name, ResourceGroup           string
	AddressSpaces, PeeredPrefixes []netip.Prefix
	Subnets                       []Subnet
}

// Subnet is a part of the virtual network.
type Subnet struct {
	Name            string
	AddressPrefixes []netip.Prefix
}

const (
	minServiceBits4, minServiceBits6 = 13, 108 // prefix lengths: no larger range than that
	maxNameLen                       = 63
	shortList                        = 4 // elements of a list that an error shows
)

// reservedRanges must not be used for pods, services or the VNet ("Plan IP
// addressing for your AKS cluster").
var reservedRanges = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.30.0.0/16"),
	netip.MustParsePrefix("172.31.0.0/16"),
	netip.MustParsePrefix("192.0.2.0/24"),
}

// Check reports what is wrong with the network.
func (n *Network) Check(l *problems.List) {
	n.checkRanges(l)
	n.checkVNet(l)
	n.checkOverlaps(l)
	n.checkDNSServiceIP(l)
}

// Prefix returns the first valid prefix of a family, and whether there is one.
func (s *Subnet) Prefix(family int) (netip.Prefix, bool) {
	for _, p := range s.AddressPrefixes {
		if p.IsValid() && flow.Family(p.Addr()) == family {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// name checks the length of a name.
func name(l *problems.List, field, name string) {
	if len(name) > maxNameLen {
		l.Add(field, name, flow.ErrOutOfRange, "has %d characters, must be at most %d", len(name), maxNameLen)
	}
}

// checkRanges checks sizes, and that ranges are not reserved.
func (n *Network) checkRanges(l *problems.List) {
	for i, p := range n.PodCIDRs {
		if !p.IsValid() {
			continue
		}
		if bits := addressing.PodBlockBits[flow.Family(p.Addr())]; p.Bits() > bits {
			l.Add(problems.Index("PodCIDRs", i), p, flow.ErrOutOfRange, "must have room for at least one pod block, /%d", bits)
		}
	}
	for i, p := range n.ServiceCIDRs {
		lo := minServiceBits4
		if p.IsValid() && flow.Family(p.Addr()) == 1 {
			lo = minServiceBits6
		}
		if p.IsValid() && p.Bits() < lo {
			l.Add(problems.Index("ServiceCIDRs", i), p, flow.ErrOutOfRange, "must be /%d or smaller", lo)
		}
	}
	ranges.Unreserved(l, ranges.In("PodCIDRs", n.PodCIDRs), reservedRanges, n.Reserved)
	ranges.Unreserved(l, ranges.In("ServiceCIDRs", n.ServiceCIDRs), reservedRanges, n.Reserved)
	ranges.Unreserved(l, ranges.In("VNet.AddressSpaces", n.AddressSpaces), reservedRanges, n.Reserved)
}

// Inside are all ranges that mean something inside the cluster's network.
func (n *Network) Inside() []ranges.Named {
	all := ranges.In("PodCIDRs", n.PodCIDRs)
	all = append(all, ranges.In("ServiceCIDRs", n.ServiceCIDRs)...)
	all = append(all, ranges.In("VNet.AddressSpaces", n.AddressSpaces)...)
	return append(all, ranges.In("VNet.PeeredPrefixes", n.PeeredPrefixes)...)
}

// checkOverlaps checks that pod and service CIDRs overlap neither each other, nor the
// node subnets, nor directly connected networks. The rest of the VNet may
// overlap them, but is then out of reach for pods.
func (n *Network) checkOverlaps(l *problems.List) {
	var others []ranges.Named
	for i, s := range n.Subnets {
		others = append(others, ranges.In(problems.Index("VNet.Subnets", i)+".AddressPrefixes", s.AddressPrefixes)...)
	}
	others = append(others, ranges.In("VNet.PeeredPrefixes", n.PeeredPrefixes)...)
	services := ranges.In("ServiceCIDRs", n.ServiceCIDRs)
	for _, p := range ranges.In("PodCIDRs", n.PodCIDRs) {
		ranges.Disjoint(l, p, services)
		ranges.Disjoint(l, p, others)
	}
	for _, s := range services {
		ranges.Disjoint(l, s, others)
	}
}

// checkDNSServiceIP checks the address of the cluster's DNS.
func (n *Network) checkDNSServiceIP(l *problems.List) {
	ip, cidr := n.DNSServiceIP, n.ServiceCIDRs[0]
	switch {
	case !cidr.IsValid(): // reported already
	case !cidr.Contains(ip):
		l.Add("DNSServiceIP", ip, flow.ErrOutOfRange, "must lie inside ServiceCIDRs[0] %v", cidr)
	case offsetIs(cidr, ip, 0):
		l.Add("DNSServiceIP", ip, n.Reserved, "the first address of ServiceCIDRs[0] %v must not be used", cidr)
	case offsetIs(cidr, ip, 1):
		l.Add("DNSServiceIP", ip, n.Reserved, "the first address of ServiceCIDRs[0] %v belongs to the kubernetes.default Service", cidr)
	}
}

// offsetIs reports whether a is the address that many places after the first
// one of p, which contains it.
func offsetIs(p netip.Prefix, a netip.Addr, offset uint64) bool {
	o, ok := addressing.Offset(p, a)
	return ok && o == offset
}

// checkVNet checks the network by itself. What it must not overlap, checkOverlaps knows.
func (n *Network) checkVNet(l *problems.List) {
	name(l, "VNet.Name", n.Name)
	name(l, "VNet.ResourceGroup", n.ResourceGroup)
	for _, r := range append(ranges.In("VNet.AddressSpaces", n.AddressSpaces), ranges.In("VNet.PeeredPrefixes", n.PeeredPrefixes)...) {
		ranges.Check(l, r, n.Reserved)
	}
	if len(n.Subnets) == 0 {
		l.Add("VNet.Subnets", n.Subnets, flow.ErrMissing, "AddressSpaces need at least one subnet for the nodes")
	}
	if len(n.AddressSpaces) == 0 {
		l.Add("VNet.AddressSpaces", n.AddressSpaces, flow.ErrMissing, "the subnets must lie in an address space")
	}
	names := make(map[string]bool)
	var seen []ranges.Named
	for i, s := range n.Subnets {
		at := problems.Index("VNet.Subnets", i)
		switch {
		case s.Name == "":
			l.Add(at+".Name", "", flow.ErrMissing, "a subnet needs a name of 1 to %d characters", maxNameLen)
		case names[s.Name]:
			l.Add(at+".Name", s.Name, flow.ErrDuplicateName, "subnets have unique names")
		}
		names[s.Name] = true
		name(l, at+".Name", s.Name)
		for f := range n.Families {
			if _, ok := s.Prefix(f); !ok {
				l.Add(at+".AddressPrefixes", s.AddressPrefixes, n.Family, "needs an IPv%d prefix, IPFamilies is %q", 4+2*f, n.IPFamilies)
			}
		}
		for j, p := range s.AddressPrefixes {
			at := problems.Index(at+".AddressPrefixes", j)
			if !ranges.Check(l, ranges.One(at, p), n.Reserved) {
				continue
			}
			if len(n.AddressSpaces) > 0 && !ranges.Within(p, n.AddressSpaces) {
				where := fmt.Sprintf("VNet.AddressSpaces %v", n.AddressSpaces)
				if len(n.AddressSpaces) > shortList {
					where = fmt.Sprintf("one of the %d VNet.AddressSpaces", len(n.AddressSpaces))
				}
				l.Add(at, p, flow.ErrOutOfRange, "must lie inside %s", where)
			}
			seen = append(seen, ranges.One(at, p))
		}
	}
	ranges.Apart(l, seen)
}
