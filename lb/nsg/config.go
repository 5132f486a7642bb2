// The resources, as plain structs with Azure's field names.

package nsg

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Direction says who begins a flow, as the interface sees it.
type Direction uint8

// The directions.
const (
	Inbound       Direction = iota // to the interface
	Outbound                       // from the interface
	numDirections                  // unexported count
)

var directionNames = [...]string{"Inbound", "Outbound"}

var _ = [1]struct{}{}[len(directionNames)-int(numDirections)] // one name per direction

// String returns "Inbound" or "Outbound".
func (d Direction) String() string { return enum.Name(d, directionNames[:]) }

// Access is what a rule does with a flow.
type Access uint8

// What becomes of a flow.
const (
	Deny Access = iota // the zero value: what is forgotten does not let anything in
	Allow
	numAccesses
)

var accessNames = [...]string{"Deny", "Allow"}

var _ = [1]struct{}{}[len(accessNames)-int(numAccesses)] // one name per access

// String returns "Deny" or "Allow".
func (a Access) String() string { return enum.Name(a, accessNames[:]) }

// Protocol is a protocol as a rule names it.
type Protocol uint8

// The protocols.
const (
	Any  Protocol = iota // every IP protocol, also those without a name here
	TCP                  // IP protocol 6
	UDP                  // 17
	ICMP                 // 1, and 58 in IPv6, which is our choice
	ESP                  // 50
	AH                   // 51
	numProtocols
)

var protocolNames = [...]string{"*", "Tcp", "Udp", "Icmp", "Esp", "Ah"}

var _ = [1]struct{}{}[len(protocolNames)-int(numProtocols)] // one name per protocol

// String returns Azure's name, such as "Tcp"; that of Any is "*".
func (p Protocol) String() string { return enum.Name(p, protocolNames[:]) }

// ParseDirection reads a direction, without regard to case. Its error wraps
// flow.ErrSyntax.
func ParseDirection(text string) (Direction, error) {
	return parseName[Direction](text, "direction", directionNames[:])
}

// ParseAccess reads an access, without regard to case. Its error wraps flow.ErrSyntax.
func ParseAccess(text string) (Access, error) {
	return parseName[Access](text, "access", accessNames[:])
}

// ParseProtocol reads a protocol, without regard to case; "Any" is "*". Its error wraps
// flow.ErrSyntax.
func ParseProtocol(text string) (Protocol, error) {
	if strings.EqualFold(text, "Any") {
		return Any, nil
	}
	return parseName[Protocol](text, "protocol", protocolNames[:])
}

func parseName[E ~uint8](text, what string, names []string) (E, error) {
	for i, name := range names {
		if strings.EqualFold(text, name) {
			return E(i), nil
		}
	}
	return 0, problems.New(what, text, flow.ErrSyntax, "want one of %s", strings.Join(names, ", "))
}

// Config is the groups of a virtual network and what they filter. Compile keeps no
// reference to it.
type Config struct {
	// VirtualNetwork is the address space that the tag of this name stands for: that of
	// the network, of its peers, of what is connected on premises, and where pods have
	// addresses of their own, that of the pods. Prefixes may overlap.
	VirtualNetwork []netip.Prefix

	ServiceTags               []ServiceTag               // besides those built in
	ApplicationSecurityGroups []ApplicationSecurityGroup // at most 3,000
	NetworkSecurityGroups     []NetworkSecurityGroup     // at most 5,000
	Subnets                   []Subnet                   // their prefixes do not overlap
	NetworkInterfaces         []NetworkInterface         // only those with a group need to be here

	// WithoutGroup says what becomes of inbound flows where neither the subnet nor the
	// interface has a group.
	WithoutGroup WithoutGroup
}

// Clone returns a copy that shares no memory with c.
func (c Config) Clone() Config {
	c.VirtualNetwork = slices.Clone(c.VirtualNetwork)
	c.ServiceTags = slices.Clone(c.ServiceTags)
	for i := range c.ServiceTags {
		t := &c.ServiceTags[i]
		t.Prefixes = slices.Clone(t.Prefixes)
	}
	c.ApplicationSecurityGroups = slices.Clone(c.ApplicationSecurityGroups)
	for i := range c.ApplicationSecurityGroups {
		g := &c.ApplicationSecurityGroups[i]
		g.Addrs = slices.Clone(g.Addrs)
	}
	c.NetworkSecurityGroups = slices.Clone(c.NetworkSecurityGroups)
	for i := range c.NetworkSecurityGroups {
		g := &c.NetworkSecurityGroups[i]
		g.SecurityRules = slices.Clone(g.SecurityRules)
		for j := range g.SecurityRules {
			g.SecurityRules[j] = g.SecurityRules[j].clone()
		}
	}
	c.Subnets = slices.Clone(c.Subnets)
	for i := range c.Subnets {
		s := &c.Subnets[i]
		s.AddressPrefixes = slices.Clone(s.AddressPrefixes)
	}
	c.NetworkInterfaces = slices.Clone(c.NetworkInterfaces)
	for i := range c.NetworkInterfaces {
		n := &c.NetworkInterfaces[i]
		n.Addrs = slices.Clone(n.Addrs)
	}
	return c
}

// ServiceTag is a named list of prefixes, which a rule can name instead of prefixes. Built
// in are:
//   - VirtualNetwork: Config.VirtualNetwork, and 168.63.129.16.
//   - AzureLoadBalancer: where probes come from, 168.63.129.16, and in IPv6 fe80::/10.
//   - Internet: every address that is neither in VirtualNetwork nor the platform's. Azure
//     leaves out what the public Internet cannot reach, too; that no such address
//     reaches an interface is up to routes.
//   - AzurePlatformDNS and AzurePlatformIMDS: 168.63.129.16 and 169.254.169.254. Only rules
//     with a tag whose name begins with AzurePlatform act on what is sent to the platform.
type ServiceTag struct {
	Name     string         // such as "Sql.WestEurope": unique, case counts, begins with a letter
	Prefixes []netip.Prefix // of both families; they may overlap
}

// ApplicationSecurityGroup is a named set of interfaces, by address.
type ApplicationSecurityGroup struct {
	Name  string       // unique, not empty
	Addrs []netip.Addr // at most 4,000; an address may be in 20 such groups
}

// NetworkSecurityGroup is a group: its rules, besides those of [DefaultRules].
type NetworkSecurityGroup struct {
	Name string // unique, not empty

	// SecurityRules are at most 1,000, in any order. Together they have at most 4,000
	// source prefixes, 4,000 destination prefixes, and 100 application security groups.
	SecurityRules []SecurityRule
}

// SecurityRule is a rule. For each end it names either prefixes or application security
// groups.
//
// A prefix is "10.0.0.0/8", an address, a service tag, or "*" (also "Any") for every
// address. "0.0.0.0/0" is every IPv4 address. A tag and "*" stand alone; all others are of
// one family, and do not overlap. A range of ports is "80", "1000-2000", or "*", which
// stands alone. Ports 0 to 65535 are valid.
//
// A rule that restricts ports fits packets of TCP, UDP and SCTP only, which is our choice.
type SecurityRule struct {
	// Name is unique in its group, without regard to case. It has 1 to 80 letters, digits,
	// '.', '-' and '_', begins with a letter, digit or '_', and ends with one of these.
	Name string

	Priority  int       // 100..4096, unique in its group and direction; the lowest that fits decides
	Direction Direction // zero is Inbound
	Access    Access    // zero is Deny
	Protocol  Protocol  // zero is Any

	SourceAddressPrefixes           []string // of who begins the flow
	SourceApplicationSecurityGroups []string // names, at most 10
	SourcePortRanges                []string // nil is "*"

	DestinationAddressPrefixes           []string // of whom the flow is for
	DestinationApplicationSecurityGroups []string // names, at most 10
	DestinationPortRanges                []string // with ICMP, ESP and AH "*" or nil, else not empty
}

// Subnet is part of the virtual network.
type Subnet struct {
	Name                 string         // unique, not empty
	AddressPrefixes      []netip.Prefix // what has an address in them is in the subnet
	NetworkSecurityGroup string         // name of a group; empty is none
}

// NetworkInterface is that of a virtual machine. Its subnet is the one that has its
// addresses.
type NetworkInterface struct {
	Name                 string       // unique, not empty
	Addrs                []netip.Addr // its private addresses, no other interface's
	NetworkSecurityGroup string       // name of a group; empty is none
}

// WithoutGroup says what becomes of inbound flows to an interface without any group. It
// depends on the SKU of its public address or load balancer (SKU document). Outbound flows
// are allowed.
type WithoutGroup uint8

// What can become of them.
const (
	// Closed is Standard: decided by the default rules, so that what comes from the
	// virtual network or is a probe is allowed, and nothing else.
	Closed WithoutGroup = iota

	Open // Basic: allowed
	numWithoutGroup
)

var withoutGroupNames = [...]string{"closed", "open"}

var _ = [1]struct{}{}[len(withoutGroupNames)-int(numWithoutGroup)] // one name per constant

// String returns "closed" or "open".
func (w WithoutGroup) String() string { return enum.Name(w, withoutGroupNames[:]) }
