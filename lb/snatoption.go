// Which of Azure's outbound options a network interface uses. Read "Use SNAT for
// outbound connections" and the NAT document's section on precedence first.

package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/snat"
)

// SNATOption is a way to the Internet, in Azure's order of precedence except that
// the zero value is the absence of all.
type SNATOption uint8

// The options. The first that applies, from UserDefinedRoute on, wins.
const (
	NoOutbound            SNATOption = iota // nothing applies: no outbound connectivity
	UserDefinedRoute                        // the destination's next hop is not the Internet; it decides
	NATGatewaySNAT                          // the subnet has a NAT gateway
	InstancePublicIP                        // a public IP on the primary IP configuration, one to one
	OutboundRuleSNAT                        // an outbound rule of a Standard public load balancer
	LoadBalancingRuleSNAT                   // the frontend of a load-balancing rule
	DefaultOutboundAccess                   // a public IP that Azure picks and may change
	numSNATOptions
)

var snatOptionNames = [...]string{
	"no outbound connectivity", "user-defined route", "NAT gateway", "instance public IP",
	"outbound rule", "load-balancing rule", "default outbound access",
}

var _ = [1]struct{}{}[len(snatOptionNames)-int(numSNATOptions)] // one name per option

// String returns Azure's name of the option.
func (o SNATOption) String() string { return enum.Name(o, snatOptionNames[:]) }

// TranslatesPorts reports whether flows take SNAT ports. An instance public IP
// keeps the source port; without Azure SNAT there is nothing to translate.
func (o SNATOption) TranslatesPorts() bool {
	return o == NATGatewaySNAT || o >= OutboundRuleSNAT
}

// NIC is what decides about the outbound flows of one network interface, in one
// address family: Azure chooses for IPv4 and IPv6 separately.
type NIC struct {
	NonInternetRoute bool         // the route of the destination leads to an appliance, VPN or ExpressRoute
	NATGateway       bool         // the subnet has a NAT gateway
	PublicIPAddress  netip.Addr   // on the primary IP configuration; the zero Addr is none
	LoadBalancers    []Membership // one per load balancer whose pools it is in

	// What excludes default outbound access, besides Standard load balancers.
	PrivateSubnet       bool
	FlexibleScaleSet    bool // a member of a scale set with flexible orchestration
	GroupHasStandardSKU bool // another member of its availability set or scale set has a Standard load balancer or public IP
}

// Membership is a load balancer seen from one backend.
type Membership struct {
	SKU         SKU  // of the load balancer
	Internal    bool // private frontends, which never translate
	IPBasedPool bool // pool of IP addresses, not NICs: behaves like Basic (outbound rules document)

	// The rules whose pool the backend is in and whose frontends are of the
	// family in question, in order of creation.
	OutboundRules      []OutboundRule
	LoadBalancingRules []LoadBalancingRule // which may lend their frontends to outbound flows

	BasicFrontend BasicFrontend // how a Basic load balancer picks among several rules
	Seed          uint64        // for SeededRule
}

// basic reports whether the member is treated as one of a Basic load balancer.
func (m Membership) basic() bool { return m.SKU == Basic || m.IPBasedPool }

// Decision is the answer of [ChooseSNAT].
type Decision struct {
	Option SNATOption // what translates new flows
	Reason string     // one sentence for people

	// Frontends names the frontend IP configurations in the order of consumption,
	// for OutboundRuleSNAT and LoadBalancingRuleSNAT.
	Frontends []string
}

// ChooseSNAT returns the option that new flows of nic use for protocol p; All asks
// whether TCP or UDP is served. The first that applies wins (NAT and outbound
// connections documents):
//
//  1. A route to the destination whose next hop is not the Internet.
//  2. The NAT gateway of the subnet.
//  3. The public IP of the interface.
//  4. Outbound rules for p of Standard public load balancers.
//  5. Load-balancing rules of public load balancers. Standard: those for p with
//     DisableOutboundSNAT unset, the frontends of all of them. Basic: any, for
//     both protocols, the frontend of one.
//  6. Default outbound access, if eligible: no Standard load balancer, neither
//     here nor in the group, and no private subnet or flexible scale set.
//  7. None.
//
// It is our choice to go through the order for TCP and UDP separately, so that a
// rule for one protocol does not shut off the other. Health of probes and rules
// never matters. ChooseSNAT is a pure function.
func ChooseSNAT(nic NIC, p snat.Protocol) Decision {
	switch {
	case nic.NonInternetRoute:
		return Decision{Option: UserDefinedRoute, Reason: "The route of the destination does not lead to the Internet."}
	case nic.NATGateway:
		return Decision{Option: NATGatewaySNAT, Reason: "The NAT gateway of the subnet precedes every other option."}
	case nic.PublicIPAddress.IsValid():
		return Decision{Option: InstancePublicIP, Reason: fmt.Sprintf("The interface has the public IP %v.", nic.PublicIPAddress)}
	}
	if d, ok := chooseOutboundRule(nic, p); ok {
		return d
	}
	if d, ok := chooseLoadBalancingRule(nic, p); ok {
		return d
	}
	if why := nic.noDefaultOutbound(); why != "" {
		return Decision{Option: NoOutbound, Reason: why}
	}
	return Decision{Option: DefaultOutboundAccess, Reason: "No explicit option applies and nothing excludes default outbound access."}
}

func chooseOutboundRule(nic NIC, p snat.Protocol) (d Decision, ok bool) {
	for _, m := range nic.LoadBalancers {
		if m.Internal || m.basic() {
			continue
		}
		for _, o := range m.OutboundRules {
			if p == snat.All || covers(o.Protocol, p) {
				if !ok {
					d = Decision{Option: OutboundRuleSNAT, Reason: fmt.Sprintf("Outbound rule %q serves the pool.", o.Name)}
				}
				d.addFrontends(o.FrontendIPConfigurations...)
				ok = true
			}
		}
	}
	return d, ok
}

func chooseLoadBalancingRule(nic NIC, p snat.Protocol) (d Decision, ok bool) {
	for _, m := range nic.LoadBalancers {
		if m.Internal {
			continue
		}
		for _, l := range m.lending(p) {
			if !ok {
				d = Decision{Option: LoadBalancingRuleSNAT, Reason: fmt.Sprintf("Load-balancing rule %q lends its frontend.", l.Name)}
			}
			d.addFrontends(l.FrontendIPConfiguration)
			ok = true
		}
	}
	return d, ok
}

// lending returns the load-balancing rules whose frontends translate flows of p.
func (m Membership) lending(p snat.Protocol) []LoadBalancingRule {
	rules := m.LoadBalancingRules
	if !m.basic() {
		return slices.DeleteFunc(slices.Clone(rules), func(l LoadBalancingRule) bool {
			return l.DisableOutboundSNAT || p != snat.All && !covers(l.Protocol, p)
		})
	}
	if len(rules) == 0 {
		return nil
	}
	i := 0
	if m.BasicFrontend == SeededRule {
		i = rand.New(rand.NewPCG(m.Seed, 0)).IntN(len(rules))
	}
	return rules[i : i+1]
}

// noDefaultOutbound returns why there is no default outbound access, or "".
func (nic NIC) noDefaultOutbound() string {
	standard := slices.ContainsFunc(nic.LoadBalancers, func(m Membership) bool { return !m.basic() })
	switch {
	case standard:
		return "No rule of its Standard load balancer serves outbound flows, and membership excludes default outbound access."
	case nic.GroupHasStandardSKU:
		return "A member of its group has a Standard SKU, which excludes default outbound access for all."
	case nic.PrivateSubnet:
		return "The subnet is private, which excludes default outbound access."
	case nic.FlexibleScaleSet:
		return "Flexible scale sets have no default outbound access."
	}
	return ""
}

func (d *Decision) addFrontends(names ...string) {
	for _, name := range names {
		if !slices.Contains(d.Frontends, name) {
			d.Frontends = append(d.Frontends, name)
		}
	}
}
