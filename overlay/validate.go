// The rules a cluster configuration must keep. All problems are collected, so
// that one look at the error is enough to repair the configuration.

package overlay

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/outbound"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/overlay/internal/vnet"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Specification constants: ranges and limits of AKS. MaxNodes, MaxNodesPerPool
// and MaxPodsPerCluster are from the AKS document "Best practices for
// performance and scaling for large workloads", the others from "Azure CNI
// Overlay networking".
const (
	MaxNodes          = 5000    // per cluster
	MaxNodesPerPool   = 1000    // per node pool
	MaxPodsPerCluster = 200_000 // pods that exist at the same time

	maxSubnets = 3000 // per VNet; Azure subscription and service limits
	maxOwnIPs  = 600  // frontends of a load balancer, same document

	// Our choices, so that a configuration of any size is answered at once.
	maxAddressSpaces, maxSubnetPrefixes, maxPeeredPrefixes, maxNodePools = 1000, 100, 10_000, 1000

	minMaxPods, maxMaxPods = 10, 250
)

// Validate returns every problem of c in one error, or nil. Each problem wraps a
// sentinel (of package snat or flow for the fields that are passed on to them),
// and names the field and the value. Whether the outbound IPs have enough ports
// is only looked at when everything else is in order; the problem is then an
// [lb.InsufficientPortsError]. Validate does not change c.
func (c ClusterConfig) Validate() error { return c.validate(nil) }

// validate is Validate of a cluster whose pools have extra nodes, by name.
func (c ClusterConfig) validate(extra map[string]int) error {
	if err := c.validateFields(extra); err != nil {
		return err
	}
	d := c.withDefaults()
	var p problems.List
	nodes := d.planned(extra).Plan(new(fleet.Fleet)).Nodes
	a, err := newAdmission(&d, nodes, nil)
	if err != nil {
		p.Include("NodePools", fmt.Errorf("security group %s: %w", ClusterSecurityGroupName, err))
		return p.Err()
	}
	egress := d.compile(nodes, a)
	if err := egress.LoadBalancer.Validate(); err != nil {
		p.Include("", fmt.Errorf("load balancer %s: %w", LoadBalancerName, err))
	} else if egress.NATGateway != nil {
		if err := egress.Validate(); err != nil {
			p.Include("", fmt.Errorf("egress: %w", err))
		}
	}
	if err := d.compileNodes(nodes, a.Admit).Validate(); err != nil {
		p.Include("", fmt.Errorf("nodes: %w", err))
	}
	return p.Err()
}

// validateFields is validate but for what the translators say of all nodes, which costs most.
func (c ClusterConfig) validateFields(extra map[string]int) error {
	d := c.withDefaults()
	v := validation{ClusterConfig: d, extra: extra}
	v.checkFamilies()
	v.checkNetworkPlugin()
	v.checkCounts()
	v.network().Check(&v.List)
	v.checkNodePools()
	v.checkOutboundIPs()
	v.checkOutboundRule(c.LoadBalancerProfile)
	v.Include("Ceilings", d.Ceilings.Validate())
	v.Include("Timeouts", snat.Owned{}.ValidateTimeouts(d.Timeouts))
	v.Include("", snat.Owned{TCP: d.TCP, UDP: d.UDP}.Validate())
	v.Include("", d.Dataplane.Validate())
	v.checkOutboundType(&c)
	v.checkSKU()
	v.checkPublicIPs()
	v.checkStaticGateways()
	v.checkMasquerade()
	if v.SecurityGroups != nil {
		groups := *v.SecurityGroups
		if len(groups.VirtualNetwork) == 0 {
			groups.VirtualNetwork = v.virtualNetwork()
		}
		v.Include("SecurityGroups", groups.Validate())
	}
	v.checkNodePublicIPs()
	if v.Len() == 0 {
		v.checkPorts()
	}
	return v.Err()
}

// Warnings returns what is allowed in c and yet may not be what its author expects,
// as [lb.Config.Warnings] does of the cluster's load balancer, and which Windows nodes run more
// pods than is recommended; none if c is not valid.
func (c ClusterConfig) Warnings() []string {
	if c.Validate() != nil {
		return nil
	}
	d := c.withDefaults()
	nodes := d.planNodes()
	all := d.compile(nodes, &admission.Rules{}).LoadBalancer.Warnings()
	for i, p := range d.NodePools {
		if p.OSType == Windows && p.MaxPods > windowsPods {
			all = append(all, fmt.Sprintf("%s.MaxPods %d: at most %d are recommended on a Windows node", problems.Index("NodePools", i), p.MaxPods, windowsPods))
		}
	}
	return all
}

// validation is a configuration with its defaults filled in and the problems
// found in it so far.
type validation struct {
	ClusterConfig
	extra map[string]int // nodes by pool, besides Count
	problems.List
}

// prefix records a problem unless p is a range in canonical form.
func (v *validation) prefix(field string, p netip.Prefix) bool {
	return ranges.Check(&v.List, ranges.One(field, p), ErrReserved)
}

func (v *validation) checkFamilies() {
	switch v.IPFamilies {
	case "ipv4", "ipv4,ipv6":
	default:
		v.Add("IPFamilies", v.IPFamilies, ErrFamily, `must be "ipv4" or "ipv4,ipv6"`)
	}
	if v.NetworkPlugin.HasPodCIDRs() {
		v.checkCIDRFamilies("PodCIDRs", v.PodCIDRs)
	} else if len(v.PodCIDRs) > 0 {
		v.Add("PodCIDRs", v.PodCIDRs, flow.ErrConflict, "with NetworkPlugin %v pods have addresses of VNet.Subnets", v.NetworkPlugin)
	}
	v.checkCIDRFamilies("ServiceCIDRs", v.ServiceCIDRs)
}

// checkCounts checks the length of every list. What is beyond is not looked at.
func (v *validation) checkCounts() {
	v.PodCIDRs = v.PodCIDRs[:min(len(v.PodCIDRs), int(numFamilies))] // reported already
	v.ServiceCIDRs = v.ServiceCIDRs[:min(len(v.ServiceCIDRs), int(numFamilies))]
	cut(v, "VNet.AddressSpaces", &v.VNet.AddressSpaces, maxAddressSpaces)
	cut(v, "VNet.PeeredPrefixes", &v.VNet.PeeredPrefixes, maxPeeredPrefixes)
	cut(v, "VNet.ServiceEndpoints", &v.VNet.ServiceEndpoints, maxPeeredPrefixes)
	cut(v, "VNet.Subnets", &v.VNet.Subnets, maxSubnets)
	for i := range v.VNet.Subnets {
		cut(v, problems.Index("VNet.Subnets", i)+".AddressPrefixes", &v.VNet.Subnets[i].AddressPrefixes, maxSubnetPrefixes)
	}
	cut(v, "NodePools", &v.NodePools, maxNodePools)
	p := &v.LoadBalancerProfile
	cut(v, outbound.IPsPath, &p.OutboundIPs, maxOwnIPs)
	cut(v, outbound.PrefixesPath, &p.OutboundIPPrefixes, maxOwnIPs)
}

// cut records a problem if a list is too long, and shortens it.
func cut[T any](v *validation, field string, list *[]T, most int) {
	if !problems.AtMost(&v.List, field, len(*list), "elements", most) {
		*list = (*list)[:most]
	}
}

// checkCIDRFamilies compares the CIDRs with the families of the cluster: same
// number, same order.
func (v *validation) checkCIDRFamilies(field string, cidrs []netip.Prefix) {
	families := v.families()
	if len(cidrs) != len(families) {
		v.Add(field, cidrs, ErrFamily, "IPFamilies %q needs %d, one per family in that order", v.IPFamilies, len(families))
	}
	for i, p := range cidrs {
		if at := problems.Index(field, i); v.prefix(at, p) && i < len(families) && familyOf(p.Addr()) != families[i] {
			v.Add(at, p, ErrFamily, "must be %v, IPFamilies is %q", families[i], v.IPFamilies)
		}
	}
}

// network returns the ranges of the cluster's network.
func (c *ClusterConfig) network() *vnet.Network {
	n := &vnet.Network{
		Families: len(c.families()), IPFamilies: c.IPFamilies, Family: ErrFamily, Reserved: ErrReserved,
		PodCIDRs: c.PodCIDRs, ServiceCIDRs: c.ServiceCIDRs, DNSServiceIP: c.DNSServiceIP,
		Name: c.VNet.Name, ResourceGroup: c.VNet.ResourceGroup, AddressSpaces: c.VNet.AddressSpaces, PeeredPrefixes: c.VNet.PeeredPrefixes,
	}
	for _, s := range c.VNet.Subnets {
		n.Subnets = append(n.Subnets, vnet.Subnet(s))
	}
	return n
}

// insideRanges are all ranges that mean something inside the cluster's network.
func (v *validation) insideRanges() []ranges.Named { return v.network().Inside() }
