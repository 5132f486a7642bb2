// Outbound types: which resource the traffic to the Internet leaves through. Read "Customize
// cluster egress with outbound types in AKS" first.

package overlay

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// OutboundType says what traffic to the Internet leaves through. It may be changed while a
// cluster runs: then its flows to the Internet end, and its address there changes.
type OutboundType uint8

// The outbound types of AKS.
const (
	// OutboundLoadBalancer is the outbound rule of the cluster's load balancer; see
	// LoadBalancerProfile. The default.
	OutboundLoadBalancer OutboundType = iota

	// OutboundManagedNATGateway is a NAT gateway that AKS makes, of SKU Standard, for
	// IPv4 only; see NATGatewayProfile.
	OutboundManagedNATGateway

	// OutboundManagedNATGatewayV2 is one of SKU StandardV2, for both families.
	OutboundManagedNATGatewayV2

	// OutboundUserAssignedNATGateway is the user's own, NATGatewayProfile.NATGateway.
	OutboundUserAssignedNATGateway

	// OutboundUserDefinedRouting is a route of the subnet to the user's appliance: packets
	// leave with the address of their node, for ClusterConfig.NextHop. What comes back is
	// for Cluster.Inbound with that address as its destination.
	OutboundUserDefinedRouting

	// OutboundNone is no way to the Internet; what goes there is dropped with
	// [flow.ReasonNoOutbound]. AKS leaves the way to the user, who has none here.
	OutboundNone

	// OutboundBlock is that too; AKS refuses the traffic actively.
	OutboundBlock

	numOutboundTypes
)

var outboundTypeNames = [...]string{
	"loadBalancer", "managedNATGateway", "managedNATGatewayV2", "userAssignedNATGateway", "userDefinedRouting", "none", "block",
}

var _ = [1]struct{}{}[len(outboundTypeNames)-int(numOutboundTypes)] // one name per type

// String returns the name that AKS gives it, such as "userDefinedRouting".
func (t OutboundType) String() string { return enum.Name(t, outboundTypeNames[:]) }

// hasGateway reports whether t is a NAT gateway.
func (t OutboundType) hasGateway() bool {
	return t == OutboundManagedNATGateway || t == OutboundManagedNATGatewayV2 || t == OutboundUserAssignedNATGateway
}

// NATGatewayProfile is the NAT gateway of the outbound types that have one.
type NATGatewayProfile struct {
	// ManagedOutboundIPCount is the number of managed IPv4 addresses, 1 to 16; 0 means 1.
	// ManagedOutboundIPCountIPv6 is that of IPv6, of managedNATGatewayV2 only, and 0 means
	// 1 there if the cluster has two families. They come from
	// LoadBalancerProfile.ManagedOutboundIPRanges.
	ManagedOutboundIPCount, ManagedOutboundIPCountIPv6 int

	// IdleTimeout ends idle TCP flows of a managed gateway: 4 to 120 whole minutes. 0
	// means 4.
	IdleTimeout time.Duration

	// NATGateway is the gateway of userAssignedNATGateway, and nil with the other types.
	NATGateway *lb.NATGateway
}

// Field paths.
const (
	gatewayPath      = "NATGatewayProfile."
	gatewayCountPath = gatewayPath + "ManagedOutboundIPCount"
)

// gatewayCounts returns the number of managed addresses by family, defaults filled in.
func (c *ClusterConfig) gatewayCounts() (n [numFamilies]int) {
	n = [numFamilies]int{c.NATGatewayProfile.ManagedOutboundIPCount, c.NATGatewayProfile.ManagedOutboundIPCountIPv6}
	setDefault(&n[ipv4], DefaultManagedOutboundIPCount)
	if c.OutboundType == OutboundManagedNATGatewayV2 && len(c.families()) == int(numFamilies) {
		setDefault(&n[ipv6], DefaultManagedOutboundIPCount)
	}
	return n
}

// gateway returns the NAT gateway of a valid configuration, or nil.
func (c *ClusterConfig) gateway() *lb.NATGateway {
	p := &c.NATGatewayProfile
	switch c.OutboundType {
	case OutboundManagedNATGateway, OutboundManagedNATGatewayV2:
		g := &lb.NATGateway{Name: c.Name + "-nat-gateway", IdleTimeout: p.IdleTimeout}
		if c.OutboundType == OutboundManagedNATGatewayV2 {
			g.SKU = lb.GatewayStandardV2
		}
		for f, n := range c.gatewayCounts() {
			for i := range n {
				g.PublicIPAddresses = append(g.PublicIPAddresses, addressing.At(c.outbound().Range(f), uint64(i)+1))
			}
		}
		return g
	case OutboundUserAssignedNATGateway:
		return p.NATGateway
	}
	return nil
}

// checkOutboundType checks the type and what does not go together with it; given is the
// configuration as the user wrote it.
func (v *validation) checkOutboundType(given *ClusterConfig) {
	const path = "OutboundType"
	if !problems.Constant(&v.List, path, v.OutboundType, numOutboundTypes) {
		return
	}
	if v.NextHop != nil && v.OutboundType != OutboundUserDefinedRouting {
		v.Add("NextHop", problems.None, flow.ErrConflict, "is for OutboundType %v, not %v", OutboundUserDefinedRouting, v.OutboundType)
	}
	v.checkGatewayProfile()
	if v.hasOutboundRule() {
		return
	}
	p := given.LoadBalancerProfile
	p.ManagedOutboundIPRanges = nil // gateways take theirs from there, too
	if p.hasOwnIPs() || p.ManagedOutboundIPCount != 0 || p.ManagedOutboundIPCountIPv6 != 0 || p.AllocatedOutboundPorts != 0 || p.IdleTimeout != 0 {
		v.Add("LoadBalancerProfile", problems.None, flow.ErrConflict, "outbound IPs, ports and idle timeout are for OutboundType %v of LoadBalancerSKU %v, not %v of %v",
			OutboundLoadBalancer, lb.Standard, v.OutboundType, v.LoadBalancerSKU)
	}
}

// checkSKU checks the SKU of the load balancers, and what Basic excludes.
func (v *validation) checkSKU() {
	problems.Constant(&v.List, "LoadBalancerSKU", v.LoadBalancerSKU, lb.Basic+1)
	problems.Constant(&v.List, profilePath+"ClusterServiceLoadBalancerHealthProbeMode", v.LoadBalancerProfile.ClusterServiceLoadBalancerHealthProbeMode, numHealthProbeModes)
	if v.LoadBalancerSKU != lb.Basic {
		return
	}
	if v.OutboundType != OutboundLoadBalancer {
		v.Add("OutboundType", v.OutboundType, flow.ErrConflict, "LoadBalancerSKU %v has %v only", v.LoadBalancerSKU, OutboundLoadBalancer)
	}
	if n := len(v.NodePools); n > 1 {
		v.Add("NodePools", problems.Rawf("has %d elements", n), flow.ErrConflict, "LoadBalancerSKU %v has one node pool", v.LoadBalancerSKU)
	}
}

// checkGatewayProfile checks the NAT gateway, or that there is none.
func (v *validation) checkGatewayProfile() {
	p := &v.NATGatewayProfile
	managed := v.OutboundType == OutboundManagedNATGateway || v.OutboundType == OutboundManagedNATGatewayV2
	counted := p.ManagedOutboundIPCount != 0 || p.ManagedOutboundIPCountIPv6 != 0 || p.IdleTimeout != 0
	if counted && !managed {
		v.Add("NATGatewayProfile", problems.None, flow.ErrConflict, "managed addresses and idle timeout are for a managed NAT gateway, OutboundType is %v", v.OutboundType)
	}
	switch own := v.OutboundType == OutboundUserAssignedNATGateway; {
	case own && p.NATGateway == nil:
		v.Add(gatewayPath+"NATGateway", problems.None, flow.ErrMissing, "OutboundType %v needs one", v.OutboundType)
	case !own && p.NATGateway != nil:
		v.Add(gatewayPath+"NATGateway", problems.None, flow.ErrConflict, "is for OutboundType %v, not %v", OutboundUserAssignedNATGateway, v.OutboundType)
	}
	if !v.OutboundType.hasGateway() {
		return
	}
	for f, n := range v.gatewayCounts() {
		path := [numFamilies]string{gatewayCountPath, gatewayCountPath + "IPv6"}[f]
		switch {
		case !managed:
		case f == int(ipv6) && n > 0 && (v.OutboundType != OutboundManagedNATGatewayV2 || len(v.families()) == 1):
			v.Add(path, n, ErrFamily, "needs OutboundType %v and two families", OutboundManagedNATGatewayV2)
		case n != 0:
			problems.Between(&v.List, path, n, 1, lb.MaxGatewayAddresses)
		}
	}
	g := v.gateway()
	if g == nil || v.Len() > 0 {
		return
	}
	v.Include(gatewayPath+"NATGateway", g.Validate())
	if g.SKU == lb.GatewayStandard && len(v.families()) == int(numFamilies) {
		v.Add("OutboundType", v.OutboundType, flow.ErrConflict, "a NAT gateway of SKU %v does not serve a cluster of two families, IPFamilies is %q", g.SKU, v.IPFamilies)
	}
	inside := v.insideRanges()
	for _, a := range g.Addrs() {
		ranges.Disjoint(&v.List, ranges.Host(gatewayPath+"NATGateway", a), inside)
	}
}
