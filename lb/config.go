// The resources of a load balancer, as plain structs with Azure's field names.

package lb

import (
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/snat"
)

// SKU is the kind of a load balancer.
type SKU uint8

// The SKUs.
const (
	Standard SKU = iota // outbound rules; closed unless told otherwise
	Basic               // retired by Azure in 2025: no outbound rules, load-balancing rules always translate
	numSKUs
)

var skuNames = [...]string{"Standard", "Basic"}

var _ = [1]struct{}{}[len(skuNames)-int(numSKUs)] // one name per SKU

// String returns "Standard" or "Basic".
func (s SKU) String() string { return enum.Name(s, skuNames[:]) }

// Layout says how a backend's ports are laid over several frontends. Azure does
// not publish it, so both layouts are our choice.
type Layout uint8

// The layouts.
const (
	// Spread gives every backend an even share of each frontend, in blocks, the
	// remainder on the first frontends; what a full frontend cannot give comes
	// from the first one with room.
	Spread Layout = iota

	// Pack takes from the first frontend with room until it is full.
	Pack
	numLayouts
)

var layoutNames = [...]string{"spread", "pack"}

var _ = [1]struct{}{}[len(layoutNames)-int(numLayouts)] // one name per layout

// String returns "spread" or "pack".
func (l Layout) String() string { return enum.Name(l, layoutNames[:]) }

// BasicFrontend says whose frontend a Basic load balancer uses for outbound flows
// when several load-balancing rules serve a pool. Azure documents describe both:
// the first created Service of a cluster stays, or a random choice among all.
type BasicFrontend uint8

// The choices of a frontend.
const (
	OldestRule BasicFrontend = iota // the first rule in configuration order; our default
	SeededRule                      // a rule drawn with Config.Seed
	numBasicFrontends
)

var basicFrontendNames = [...]string{"oldest rule", "seeded rule"}

var _ = [1]struct{}{}[len(basicFrontendNames)-int(numBasicFrontends)] // one name per choice

// String returns "oldest rule" or "seeded rule".
func (f BasicFrontend) String() string { return enum.Name(f, basicFrontendNames[:]) }

// Config describes a public load balancer and the backends behind it. The zero
// value of every optional field is its documented default. New and Plan keep no
// reference to it.
type Config struct {
	Name string // optional; an AKS cluster's is "kubernetes"
	SKU  SKU    // zero is Standard

	FrontendIPConfigurations []FrontendIPConfiguration // at most 600, with at most 4,096 addresses altogether, which is our choice
	Backends                 []Backend                 // instance i of the translator is Backends[i]
	BackendAddressPools      []BackendAddressPool      // named by the rules
	LoadBalancingRules       []LoadBalancingRule       // with InboundNATRules at most 1,500, and at most 300 that serve one backend
	InboundNATRules          []InboundNATRule          // see LoadBalancingRules for how many
	OutboundRules            []OutboundRule            // Standard only, at most 600; ports are handed out in this order

	FrontendMode  FrontendMode  // several frontends in automatic mode; zero is Capped
	Layout        Layout        // ports over several frontends; zero is Spread
	BasicFrontend BasicFrontend // Basic only; zero is OldestRule

	// Strict refuses rules that would use the very last port; see Capacity.Strict.
	Strict bool

	// OwnRanges says that public IP prefixes are out of ranges of one's own, which
	// Azure calls custom IP address prefixes: then they may have up to 256 addresses.
	OwnRanges bool

	// MaxOutboundIdleTimeout and MaxRuleIdleTimeout are the longest IdleTimeout
	// of an outbound rule, and of a load-balancing or inbound NAT rule. Zero means
	// 120 and 30 minutes. Azure's documents have had 66, 100 and 120 minutes for
	// the first, 30 and 100 for the second.
	MaxOutboundIdleTimeout, MaxRuleIdleTimeout time.Duration

	// Routes say what happens to new flows by their destination; see snat.Config.
	Routes []snat.Route

	// Timeouts are the timeouts of all idle classes, for all rules. A field that is set
	// precedes what rules say; the others are those of snat.AzureTimeouts with the
	// IdleTimeout of the rule.
	Timeouts flow.Timeouts

	// TCP and UDP say how flows are mapped and filtered, and when they share ports.
	// The zero value is what Azure does.
	TCP, UDP snat.Behavior

	// Dataplane is how the translator runs and what it carries besides TCP and UDP,
	// by default nothing. Seed decides everything that is random here, too.
	// CountTraffic makes the metrics SYNCount, ByteCount and PacketCount.
	snat.Dataplane
}

// FrontendIPConfiguration is a public IP address or prefix of the load balancer.
type FrontendIPConfiguration struct {
	Name string // unique, not empty

	// Exactly one of the two. Every address of a prefix is a frontend, ascending
	// (outbound rules document). A prefix is /28../31, in IPv6 /124../127, or larger
	// with Config.OwnRanges. It serves outbound rules only.
	PublicIPAddress netip.Addr
	PublicIPPrefix  netip.Prefix // the other of the two; the zero Prefix is none
}

// Backend is a virtual machine or node. A backend that no rule serves has no
// ports, and its new flows are refused.
type Backend struct {
	Name   string         // unique, not empty
	Addrs  []netip.Addr   // its own addresses: one, or one per family
	Inside []netip.Prefix // further sources behind it, such as its pods; see snat.Instance

	// PublicIPAddresses are instance-level public IPs on the primary IP
	// configuration, at most one per family that Addrs has. What the backend sends
	// leaves from them one to one, source port unchanged, and no rule serves that
	// family (outbound rules document). The backend still counts in the size of its
	// pools, but gets no ports, which is our choice. See snat.Instance.PublicAddrs.
	PublicIPAddresses []netip.Addr
}

// BackendAddressPool is a set of backends that rules refer to by name. It has
// at most 5,000 backends. Order counts: earlier members get lower ports, and a
// member appended within an automatic tier changes nothing for those before it.
type BackendAddressPool struct {
	Name     string   // unique, not empty
	Backends []string // names of Config.Backends, without repetition
}

// OutboundRule gives the backends of a pool SNAT ports of its frontends.
type OutboundRule struct {
	Name                     string        // unique, not empty
	FrontendIPConfigurations []string      // one or more names; consumed in this order
	BackendAddressPool       string        // name of the pool whose backends get ports
	Protocol                 snat.Protocol // zero is All

	// AllocatedOutboundPorts is what each backend gets from all frontends of one
	// family together, for TCP and for UDP each: 8..64,000, a multiple of 8. 0 is
	// automatic: the pool size decides, see AutomaticPorts.
	AllocatedOutboundPorts int

	// IdleTimeout ends flows without packets: 4..120 whole minutes, 0 means 4.
	// Rules may differ by pool and by protocol. Those that serve the same backend
	// and protocol must agree, whatever the family: a flow's timers are those of its
	// backend, not of its port.
	IdleTimeout time.Duration

	// EnableTCPReset sends a RST to both ends of an established TCP flow that
	// reaches IdleTimeout. Rules for TCP that serve the same backend must agree.
	EnableTCPReset bool
}

// LoadBalancingRule opens a frontend port. Without outbound rule its frontend
// also translates outbound flows of its pool: on Standard those of its own
// protocol, unless DisableOutboundSNAT; on Basic always and both. Such flows idle
// out after 4 minutes without reset, whatever the rule says.
type LoadBalancingRule struct {
	Name                      string        // unique, not empty
	FrontendIPConfiguration   string        // name of the one whose port is opened
	BackendAddressPool        string        // name of the pool that serves the port
	Protocol                  snat.Protocol // zero is All
	FrontendPort, BackendPort uint16        // 1..65535
	IdleTimeout               time.Duration // of inbound flows: 4..30 whole minutes, 0 means 4
	DisableOutboundSNAT       bool          // Standard only
}

// InboundNATRule opens a frontend port for one backend, or a range of them, one
// per member of a pool. It never translates outbound flows.
type InboundNATRule struct {
	Name                    string        // unique, not empty
	FrontendIPConfiguration string        // name of the one whose ports are opened
	Protocol                snat.Protocol // zero is All

	// Either Backend and FrontendPort, or BackendAddressPool and a range of
	// frontend ports, both ends included.
	Backend                                      string
	FrontendPort                                 uint16 // 1..65535, with Backend
	BackendAddressPool                           string // name of a pool; excludes Backend
	FrontendPortRangeStart, FrontendPortRangeEnd uint16 // 1..65535, with BackendAddressPool

	BackendPort uint16        // 1..65535
	IdleTimeout time.Duration // of inbound flows: 4..30 whole minutes, 0 means 4
}

// frontendPorts returns the first and the last frontend port of the rule.
func (r InboundNATRule) frontendPorts() (first, last uint16) {
	if r.BackendAddressPool != "" {
		return r.FrontendPortRangeStart, r.FrontendPortRangeEnd
	}
	return r.FrontendPort, r.FrontendPort
}

// addrs returns the addresses of the configuration, ascending.
func (f FrontendIPConfiguration) addrs() []netip.Addr {
	if f.PublicIPAddress.IsValid() {
		return []netip.Addr{f.PublicIPAddress}
	}
	var all []netip.Addr
	for a := f.PublicIPPrefix.Masked().Addr(); f.PublicIPPrefix.Contains(a); a = a.Next() {
		all = append(all, a)
	}
	return all
}

// is6 reports whether the configuration is an IPv6 one.
func (f FrontendIPConfiguration) is6() bool {
	return f.PublicIPAddress.Is6() || f.PublicIPPrefix.Addr().Is6()
}

// publicIP returns the backend's instance-level public IP of a family, or the zero
// Addr.
func (b Backend) publicIP(is6 bool) netip.Addr {
	for _, a := range b.PublicIPAddresses {
		if a.Is6() == is6 {
			return a
		}
	}
	return netip.Addr{}
}

// hasFamily reports whether the backend has an address of the family.
func (b Backend) hasFamily(is6 bool) bool {
	for _, a := range b.Addrs {
		if a.Is6() == is6 {
			return true
		}
	}
	return false
}
