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
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/outbound"
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
	minIdleTimeout = 4 * time.Minute
	maxIdleTimeout = 120 * time.Minute
)

// Field paths.
const (
	profilePath = "LoadBalancerProfile."
	portsPath   = profilePath + "AllocatedOutboundPorts"
)

// hasOwnIPs reports whether the outbound IPs are the user's own.
func (p *LoadBalancerProfile) hasOwnIPs() bool {
	return len(p.OutboundIPs) > 0 || len(p.OutboundIPPrefixes) > 0
}

// outbound describes the outbound IPs.
func (c *ClusterConfig) outbound() *outbound.IPs {
	p := &c.LoadBalancerProfile
	return &outbound.IPs{
		Families: len(c.families()), IPFamilies: c.IPFamilies, Own: p.OutboundIPs, OwnPrefixes: p.OutboundIPPrefixes, OwnRanges: p.OwnRanges,
		Managed: [numFamilies]int{p.ManagedOutboundIPCount, p.ManagedOutboundIPCountIPv6}, Ranges: p.ManagedOutboundIPRanges,
	}
}

// checkOutboundIPs checks how many outbound IPs there are, where they come from, and that they are apart.
func (v *validation) checkOutboundIPs() {
	check := outbound.Check{
		Inside: v.insideRanges(), Rule: v.hasOutboundRule(), Gateway: v.OutboundType.hasGateway(), Family: ErrFamily, Reserved: ErrReserved,
	}
	if v.OutboundType != OutboundUserAssignedNATGateway {
		check.GatewayCounts = v.gatewayCounts()
	}
	check.Managed(&v.List, v.outbound())
	check.Own(&v.List, v.outbound())
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
	if !given.hasOwnIPs() && given.ManagedOutboundIPCount == 0 && given.ManagedOutboundIPCountIPv6 == 0 {
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
		err := lb.Capacity{Nodes: nodes, Ports: ports, Frontends: v.outbound().Count(int(f)), Strict: v.LoadBalancerProfile.Strict}.Check()
		if insufficient := (*lb.InsufficientPortsError)(nil); errors.As(err, &insufficient) {
			insufficient.Path = fmt.Sprintf("%s (%v)", portsPath, f)
		}
		if err != nil {
			v.Include("", err)
		}
	}
}
