// The resources of a load balancer, as plain structs with Azure's field names.

package lb

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/lb/probe"
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

// Config describes a public or an internal load balancer and the backends behind it.
// It is internal if its frontends have private addresses. The zero value of every
// optional field is its documented default. New and Plan keep no reference to it.
type Config struct {
	Name string // optional; an AKS cluster's is "kubernetes"
	SKU  SKU    // zero is Standard

	// On Standard, the rules of one frontend of all kinds serve at most 10,000 IP
	// configurations of backends, those of all frontends 500,000; a backend counts once for
	// each rule. All pools together have at most 20,000.
	FrontendIPConfigurations []FrontendIPConfiguration // at most 600, on Basic 200; with at most 4,096 addresses altogether, which is our choice
	Backends                 []Backend                 // instance i of the translator is Backends[i]
	BackendAddressPools      []BackendAddressPool      // named by the rules
	LoadBalancingRules       []LoadBalancingRule       // with InboundNATRules at most 1,500, on Basic 250; with OutboundRules at most 300 that serve one backend
	InboundNATRules          []InboundNATRule          // see LoadBalancingRules for how many
	Probes                   []probe.Probe             // named by load-balancing rules
	OutboundRules            []OutboundRule            // Standard only, at most 600; ports are handed out in this order

	// Prober answers the probes of rules, or is nil: then no probe is sent, and all
	// backends are healthy. With it nothing new reaches a backend by a rule with a probe before
	// Advance has made the first one, unless AssumeHealthy or its administrative state says so.
	// Its method is called by Advance and Reconfigure, and must not call the load balancer.
	Prober        probe.Prober
	AssumeHealthy bool // see probe.Config
	FirstResult   bool // see probe.Config

	// KubernetesProbes checks probes as the cloud provider of Kubernetes does, too: the
	// interval times the number of probes is below 120 s. Azure has no such rule.
	KubernetesProbes bool

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

	// HAPortsTCPReset sends the resets of rules with HA ports, too, that have EnableTCPReset.
	// By default there are none, as where a network virtual appliance is in the path (TCP reset
	// document).
	HAPortsTCPReset bool

	// DropHAPortsFragments drops IP fragments of rules with HA ports, too. By default these
	// carry them in both directions, and nothing else of a load balancer does (limitations
	// document), unless Fragments.Mode says so; with that it must be false. It cannot be
	// changed by Reconfigure.
	DropHAPortsFragments bool

	// Routes say what happens to new flows by their destination; see snat.Config.
	Routes []snat.Route

	// Timeouts are the timeouts of all idle classes, for all rules. A field that is set
	// precedes what rules say; the others are those of snat.AzureTimeouts with the
	// IdleTimeout of the rule.
	Timeouts flow.Timeouts

	// TCP and UDP say how flows are mapped and filtered, and when they share ports.
	// The zero value is what Azure does.
	TCP, UDP snat.Behavior

	// NetworkSecurity is the network security groups of the subnets and interfaces of
	// Backends, which decide which flows begin, in both directions; nil is none, and then
	// all may. Inbound flows are asked about with the backend's private address and port,
	// outbound ones before SNAT. Those of pods behind a backend, and with floating IP those
	// to a frontend, meet the groups of the backend. Flows of instance-level public IPs of all
	// protocols are asked about, too; see [snat.Dataplane].Admit for how answers are known.
	// Changes act on new flows only.
	// Its WithoutGroup must be Closed with SKU Standard, and Open with Basic.
	// It excludes Dataplane.Admit.
	NetworkSecurity *nsg.Config

	// Dataplane is how the translator runs and what it carries besides whole packets of TCP
	// and UDP, by default nothing but fragments of HA ports. Seed decides everything that is random here, too.
	// CountTraffic makes the metrics SYNCount, ByteCount and PacketCount.
	snat.Dataplane
}
