// The outbound IPs and the outbound rule: their rules, and whether their ports
// suffice ("Use a public standard load balancer in AKS").

package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// LoadBalancerProfile is how the cluster reaches the Internet: the outbound
// IPs and the outbound rule. Outbound IPs are either managed (made by AKS) or
// own (OutboundIPs and OutboundIPPrefixes), never both.
type LoadBalancerProfile struct {
	// ManagedOutboundIPCount is the number of managed IPv4 outbound IPs, 1 to
	// 100. 0 means 1, unless own IPs are given.
	ManagedOutboundIPCount int

	// ManagedOutboundIPCountIPv6 is the same for IPv6, with two families only.
	ManagedOutboundIPCountIPv6 int

	// ManagedOutboundIPRanges are where managed outbound IPs come from, at most
	// one prefix per family: ascending, beginning after its first address.
	// Azure picks from its regional ranges; the defaults, 20.50.1.0/24 and
	// 2001:db8:50:1::/64, are our choice.
	ManagedOutboundIPRanges []netip.Prefix

	// OutboundIPs are own outbound IPs, in the order in which they are used, at most
	// 600, as of OutboundIPPrefixes (the frontends of a load balancer). In a cluster
	// of two families each family needs at least one address.
	OutboundIPs []netip.Addr

	// OutboundIPPrefixes are own public IP prefixes, used whole and after
	// OutboundIPs: /28 to /31 (IPv6: /124 to /127), up to /24 (/120) with OwnRanges.
	OutboundIPPrefixes []netip.Prefix

	// AllocatedOutboundPorts is the number of SNAT ports of every node, for TCP
	// and for UDP each: a multiple of 8 up to 64,000. 0 lets the size of the
	// cluster decide; see [lb.AutomaticPorts] and [ClusterConfig.Warnings]. As with the AKS command line, setting it requires that
	// outbound IPs are given explicitly in one of the three ways.
	AllocatedOutboundPorts int

	// IdleTimeout ends idle flows: 4 to 120 whole minutes. 0 means 30.
	IdleTimeout time.Duration

	// DisableTCPReset lets idle TCP flows expire silently. AKS sends a reset to
	// both ends and offers no such switch.
	DisableTCPReset bool

	// Where Azure's documents leave a choice, or contradict each other; see
	// [lb.Config].
	FrontendMode lb.FrontendMode // several outbound IPs and automatic ports
	Layout       lb.Layout       // a node's ports over several outbound IPs
	Strict       bool            // outbound IPs must have more ports than are needed

	// ClusterServiceLoadBalancerHealthProbeMode says what the load balancers ask nodes about
	// Services with policy Cluster; zero is HealthProbeServiceNodePort.
	ClusterServiceLoadBalancerHealthProbeMode HealthProbeMode

	// OwnRanges says that OutboundIPPrefixes are out of ranges of one's own (custom IP
	// address prefixes), and so may be larger.
	OwnRanges bool
}

// HealthProbeMode is what is asked of nodes for Services of type LoadBalancer whose policy is
// Cluster. Those with policy Local have probes of their own, which ask about their endpoints.
type HealthProbeMode uint8

// The modes.
const (
	HealthProbeServiceNodePort HealthProbeMode = iota // each port of a Service by its node port
	HealthProbeShared                                 // for all Services together whether the node's proxy runs, HTTP 10256 /healthz
	numHealthProbeModes
)

var healthProbeModeNames = [...]string{"ServiceNodePort", "Shared"}

var _ = [1]struct{}{}[len(healthProbeModeNames)-int(numHealthProbeModes)] // one name per mode

// String returns the name of the mode in AKS.
func (m HealthProbeMode) String() string { return enum.Name(m, healthProbeModeNames[:]) }

// hasOutboundRule reports whether a load balancer with an outbound rule is what the cluster leaves by.
func (c *ClusterConfig) hasOutboundRule() bool {
	return c.OutboundType == OutboundLoadBalancer && c.LoadBalancerSKU == lb.Standard
}

// Specification constants of the load balancer profile.
const (
	maxManagedIPs  = 100
	minIdleTimeout = 4 * time.Minute
	maxIdleTimeout = 120 * time.Minute
)

// Field paths.
const (
	profilePath     = "LoadBalancerProfile."
	portsPath       = profilePath + "AllocatedOutboundPorts"
	rangesPath      = profilePath + "ManagedOutboundIPRanges"
	ownIPsPath      = profilePath + "OutboundIPs"
	ownPrefixesPath = profilePath + "OutboundIPPrefixes"
)

var managedCountPath = [numFamilies]string{profilePath + "ManagedOutboundIPCount", profilePath + "ManagedOutboundIPCountIPv6"}

// hasOwnIPs reports whether the outbound IPs are the user's own.
func (p *LoadBalancerProfile) hasOwnIPs() bool {
	return len(p.OutboundIPs) > 0 || len(p.OutboundIPPrefixes) > 0
}

// managedCount returns the number of managed outbound IPs of family f.
func (p *LoadBalancerProfile) managedCount(f family) int {
	if f == ipv4 {
		return p.ManagedOutboundIPCount
	}
	return p.ManagedOutboundIPCountIPv6
}

// managedRange returns where managed outbound IPs of family f come from.
func (p *LoadBalancerProfile) managedRange(f family) netip.Prefix {
	for _, r := range p.ManagedOutboundIPRanges {
		if familyOf(r.Addr()) == f {
			return r
		}
	}
	return defaultManagedRange[f]
}

// checkManagedIPs checks how many there are of each family, and where they come from.
func (v *validation) checkManagedIPs() {
	p := &v.LoadBalancerProfile
	var have [numFamilies]bool
	for _, r := range ranges.In(rangesPath, p.ManagedOutboundIPRanges) {
		if !v.prefix(r.Field, r.Prefix) {
			continue
		}
		f := familyOf(r.Addr())
		if have[f] {
			v.Add(r.Field, r.Value, flow.ErrConflict, "at most one range per family")
		}
		have[f] = true
		if n := p.managedCount(f); !p.hasOwnIPs() && addressing.Size(r.Prefix)-1 < n {
			v.Add(r.Field, r.Value, flow.ErrOutOfRange, "is too small for %d managed outbound IPs", n)
		}
	}
	for f := range numFamilies {
		n, inUse := p.managedCount(f), int(f) < len(v.families())
		switch {
		case p.hasOwnIPs() && n != 0:
			v.Add(managedCountPath[f], n, flow.ErrConflict, "managed outbound IPs exclude OutboundIPs and OutboundIPPrefixes")
		case p.hasOwnIPs():
		case !inUse && n != 0:
			v.Add(managedCountPath[f], n, ErrFamily, "IPFamilies is %q", v.IPFamilies)
		case v.OutboundType.hasGateway():
			from := p.managedRange(f)
			if n := v.gatewayCounts()[f]; v.OutboundType != OutboundUserAssignedNATGateway && n > 0 && addressing.Size(from)-1 < n {
				v.Add(rangesPath, from, flow.ErrOutOfRange, "is too small for %d managed outbound IPs", n)
			}
		case inUse && v.hasOutboundRule():
			problems.Between(&v.List, managedCountPath[f], n, 1, maxManagedIPs)
			from := p.managedRange(f)
			ranges.Disjoint(&v.List, ranges.One(rangesPath, from), v.insideRanges())
		}
	}
}

// checkOwnIPs checks the own IPs, and that they are apart.
func (v *validation) checkOwnIPs() {
	p := &v.LoadBalancerProfile
	if !p.hasOwnIPs() {
		return
	}
	var own []ranges.Named
	for i, a := range p.OutboundIPs {
		r := ranges.Host(problems.Index(ownIPsPath, i), a)
		if !flow.IsHost(a) {
			v.Add(r.Field, a, flow.ErrAddress, "must be the public address of a single host, not link-local or with a zone")
			continue
		}
		own = append(own, r)
	}
	for _, r := range ranges.In(ownPrefixesPath, p.OutboundIPPrefixes) {
		if !v.prefix(r.Field, r.Prefix) {
			continue
		}
		if err := lb.CheckPublicIPPrefix(r.Prefix, p.OwnRanges); err != nil {
			v.Include(r.Field, err)
		}
		own = append(own, r)
	}
	var have [numFamilies]bool
	inside := v.insideRanges()
	ranges.Apart(&v.List, own)
	for _, r := range own {
		f := familyOf(r.Addr())
		have[f] = true
		if int(f) >= len(v.families()) {
			v.Add(r.Field, r.Value, ErrFamily, "IPFamilies is %q", v.IPFamilies)
		}
		ranges.Disjoint(&v.List, r, inside)
	}
	for _, f := range v.families() {
		if !have[f] {
			v.Add(ownIPsPath, p.OutboundIPs, flow.ErrMissing, "no %v address, IPFamilies is %q", f, v.IPFamilies)
		}
	}
}

// checkOutboundRule checks the settings of the outbound rule; given is the profile
// as the user wrote it.
func (v *validation) checkOutboundRule(given LoadBalancerProfile) {
	p := &v.LoadBalancerProfile
	if !v.hasOutboundRule() {
		return // checkOutboundType has refused what concerns the rule
	}
	if t := p.IdleTimeout; t < minIdleTimeout || t > maxIdleTimeout || t%time.Minute != 0 {
		v.Add(profilePath+"IdleTimeout", t, flow.ErrOutOfRange, "must be 4 to 120 whole minutes")
	}
	if p.AllocatedOutboundPorts == 0 {
		return
	}
	if err := lb.CheckAllocatedOutboundPorts(p.AllocatedOutboundPorts); err != nil {
		v.Include("LoadBalancerProfile", err)
	}
	if !given.hasOwnIPs() && given.managedCount(ipv4) == 0 && given.managedCount(ipv6) == 0 {
		v.Add(portsPath, p.AllocatedOutboundPorts, flow.ErrMissing, "needs ManagedOutboundIPCount, OutboundIPs or OutboundIPPrefixes to be given as well")
	}
}

// checkPorts compares the ports of all nodes that may exist, surge included,
// with those of the outbound IPs. The configuration must be valid otherwise.
func (v *validation) checkPorts() {
	ports := v.LoadBalancerProfile.AllocatedOutboundPorts
	if ports == 0 || !v.hasOutboundRule() {
		return
	}
	pools := make([]lb.PoolSize, len(v.NodePools))
	for i, p := range v.NodePools {
		pools[i] = lb.PoolSize{Count: p.Count, MaxCount: p.MaxCount, MaxSurge: lb.MaxSurge(p.MaxSurge)}
	}
	nodes, err := lb.TotalNodes(pools...)
	if err != nil {
		panic(fmt.Sprintf("overlay: node pools passed validation: %v", err))
	}
	for _, f := range v.families() {
		err := lb.Capacity{Nodes: nodes, Ports: ports, Frontends: v.outboundIPCount(f), Strict: v.LoadBalancerProfile.Strict}.Check()
		if insufficient := (*lb.InsufficientPortsError)(nil); errors.As(err, &insufficient) {
			insufficient.Path = fmt.Sprintf("%s (%v)", portsPath, f)
		}
		if err != nil {
			v.Include("", err)
		}
	}
}

// frontends returns the outbound IPs in the order in which their ports are used.
func (c *ClusterConfig) frontends() []lb.FrontendIPConfiguration {
	profile := &c.LoadBalancerProfile
	var all []lb.FrontendIPConfiguration
	add := func(f lb.FrontendIPConfiguration) {
		f.Name = fmt.Sprintf("outbound-%d", len(all)+1)
		all = append(all, f)
	}
	for _, a := range profile.OutboundIPs {
		add(lb.FrontendIPConfiguration{PublicIPAddress: a})
	}
	for _, p := range profile.OutboundIPPrefixes {
		add(lb.FrontendIPConfiguration{PublicIPPrefix: p})
	}
	for _, f := range c.families() {
		for i := range profile.managedCount(f) {
			add(lb.FrontendIPConfiguration{PublicIPAddress: addressing.At(profile.managedRange(f), uint64(i)+1)})
		}
	}
	return all
}

// outboundIPCount returns the number of outbound IPs of family f. A prefix counts
// for at most 65,536; package lb refuses much smaller ones.
func (c *ClusterConfig) outboundIPCount(f family) (n int) {
	for _, fe := range c.frontends() {
		if p := fe.PublicIPPrefix; p.IsValid() && familyOf(p.Addr()) == f {
			n += min(1<<16, addressing.Size(p))
		} else if a := fe.PublicIPAddress; a.IsValid() && familyOf(a) == f {
			n++
		}
	}
	return n
}
