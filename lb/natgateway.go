// The NAT gateway resource. Read "Azure NAT Gateway resource" and "NAT Gateway
// SKUs" first.

package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/owners"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// GatewaySKU is the kind of a NAT gateway.
type GatewaySKU uint8

// The SKUs of NAT gateways.
const (
	GatewayStandard   GatewaySKU = iota // IPv4 only; one zone or none
	GatewayStandardV2                   // IPv4 and IPv6, zone redundant; carries ICMP echo
	numGatewaySKUs
)

var gatewaySKUNames = [...]string{"Standard", "StandardV2"}

var _ = [1]struct{}{}[len(gatewaySKUNames)-int(numGatewaySKUs)] // one name per SKU

// String returns "Standard" or "StandardV2".
func (s GatewaySKU) String() string { return enum.Name(s, gatewaySKUNames[:]) }

// Specification constants (NAT gateway document; SKUs document for IPv6).
const (
	// GatewayPorts is the number of ports of one address of a NAT gateway, for TCP
	// and for UDP each: 1024..65535, shared by all its backends.
	GatewayPorts = 64_512

	// MaxGatewayAddresses is the most addresses of one family, in any mix of
	// addresses and prefixes.
	MaxGatewayAddresses = 16

	gatewayPorts2020 = 64_000 // of the preview
)

// NATGateway describes a NAT gateway.
type NATGateway struct {
	Name string     // used in errors
	SKU  GatewaySKU // zero is GatewayStandard

	// The public addresses, 1..16 of each family in use; every address of a prefix,
	// which is /28../31 or /124../127, counts. IPv6 needs StandardV2.
	PublicIPAddresses []netip.Addr
	PublicIPPrefixes  []netip.Prefix // without host bits

	// IdleTimeout ends TCP flows without packets: 4..120 whole minutes, 0 means 4.
	// That of UDP flows is always 4.
	IdleTimeout time.Duration

	// Generation selects the numbers that Azure's documents gave at a time: how long a
	// closed connection keeps its port from its destination, and the ports of an
	// address. Zero is preset.NATGateway2023.
	Generation preset.NATGatewayGeneration
}

// Validate returns nil if g is a gateway that Azure would make, and otherwise one
// error that joins every problem found.
func (g NATGateway) Validate() error {
	var p problems.List
	g.validate("", &p)
	return p.Err()
}

// validate adds what is wrong with g, which is at path.
func (g *NATGateway) validate(path string, p *problems.List) {
	problems.Constant(p, problems.Field(path, "SKU"), g.SKU, numGatewaySKUs)
	problems.Constant(p, problems.Field(path, "Generation"), g.Generation, preset.NATGateway2020+1)
	p.Include(path, CheckIdleTimeout(g.IdleTimeout, 0))
	var all []netip.Prefix
	for i, a := range g.PublicIPAddresses {
		path := problems.Field(path, problems.Index("PublicIPAddresses", i))
		if a.Zone() != "" {
			p.Add(path, a, flow.ErrAddress, "want an address without zone")
		} else if g.checkPrefix(path, owners.Host(a), a, p) {
			all = g.checkOverlap(path, all, owners.Host(a), p)
		}
	}
	for i, q := range g.PublicIPPrefixes {
		path := problems.Field(path, problems.Index("PublicIPPrefixes", i))
		if q.IsValid() && q != q.Masked() {
			p.Add(path, q, flow.ErrPrefix, "has host bits set; did you mean %v?", q.Masked())
		} else if err := checkPrefixSize(q, maxPrefixHostBits, ""); err != nil {
			p.Include(path, err)
		} else if g.checkPrefix(path, q, q, p) {
			all = g.checkOverlap(path, all, q, p)
		}
	}
	var count [flow.NumFamilies]int
	for _, q := range all {
		count[flow.Family(q.Addr())] += 1 << (q.Addr().BitLen() - q.Bits())
	}
	if len(g.PublicIPAddresses)+len(g.PublicIPPrefixes) == 0 {
		p.Add(problems.Field(path, "PublicIPAddresses"), g.PublicIPAddresses, flow.ErrMissing, "give 1..16 addresses, or prefixes")
	}
	for family, n := range count {
		problems.AtMost(p, problems.Field(path, "PublicIPAddresses"), n,
			fmt.Sprintf("IPv%d addresses, those of PublicIPPrefixes included", 4+2*family), MaxGatewayAddresses)
	}
}

// owned returns the addresses of g, which is at path.
func (g *NATGateway) owned(path string) (all []owners.Owned) {
	for _, a := range g.Addrs() {
		all = append(all, owners.Owned{Prefix: owners.Host(a), Owner: owners.Owner{Path: path}, Field: "PublicIPAddresses", Index: -1})
	}
	return all
}

// checkPrefix reports whether q, an address or prefix that the user wrote as value,
// may be one of the gateway's. Its host bits must be zero.
func (g *NATGateway) checkPrefix(path string, q netip.Prefix, value any, p *problems.List) bool {
	a := q.Addr()
	switch {
	case !q.IsValid() || !flow.IsHost(a):
		p.Add(path, value, flow.ErrAddress, "want the address of a host, not link-local, IPv4-mapped or with a zone, or a prefix of such")
	case a.Is6() && g.SKU == GatewayStandard:
		p.Add(path, value, ErrUnsupported, "SKU Standard has IPv4 only; StandardV2 has IPv6")
	default:
		return true
	}
	return false
}

// checkOverlap appends q to all, unless it overlaps one of them. If there are too
// many anyway, it does not look.
func (g *NATGateway) checkOverlap(path string, all []netip.Prefix, q netip.Prefix, p *problems.List) []netip.Prefix {
	if i := slices.IndexFunc(all[:min(len(all), 2*MaxGatewayAddresses)], q.Overlaps); i >= 0 {
		p.Add(path, q, flow.ErrOverlap, "with %v", all[i])
		return all
	}
	return append(all, q)
}

// Addrs returns the public addresses in the order of the configuration, those of
// prefixes last. A prefix that Validate refuses for its size adds none.
func (g NATGateway) Addrs() []netip.Addr {
	all := slices.Clone(g.PublicIPAddresses)
	for _, q := range g.PublicIPPrefixes {
		if q.IsValid() && q.Addr().BitLen()-q.Bits() <= maxPrefixHostBits {
			all = append(all, FrontendIPConfiguration{PublicIPPrefix: q}.addrs()...)
		}
	}
	return all
}

// Ports returns how many ports the gateway has in one family, for TCP and for UDP
// each: those of Addrs.
func (g NATGateway) Ports(is6 bool) (ports int) {
	for _, a := range g.Addrs() {
		if a.Is6() == is6 {
			ports += g.portsPerAddr()
		}
	}
	return ports
}

func (g *NATGateway) portsPerAddr() int {
	if g.Generation == preset.NATGateway2020 {
		return gatewayPorts2020
	}
	return GatewayPorts
}

// serves reports whether the gateway translates flows of a family.
func (g *NATGateway) serves(is6 bool) bool { return g != nil && g.Ports(is6) > 0 }

// idleTimeout returns that of TCP flows.
func (g *NATGateway) idleTimeout() time.Duration { return cmp.Or(g.IdleTimeout, defaultIdleTimeout) }
