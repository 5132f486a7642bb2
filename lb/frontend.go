// Frontend IP configurations: what they are, and what is wrong with them.

package lb

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// The host bits of a public IP prefix: /28../31, in IPv6 /124../127 (public IP prefix
// document). Out of a range of one's own it may be larger, by our choice up to 256
// addresses.
const (
	minPrefixHostBits = 1
	maxPrefixHostBits = 4
	maxOwnHostBits    = 8
)

// FrontendIPConfiguration is an address of the load balancer, or a public IP prefix.
// All of a load balancer are public, or all are private: then it is an internal one.
type FrontendIPConfiguration struct {
	Name string // unique, not empty

	// Exactly one of the three. Every address of a prefix is a frontend, ascending
	// (outbound rules document). A prefix is /28../31, in IPv6 /124../127, or larger
	// with Config.OwnRanges. It serves outbound rules only.
	PublicIPAddress  netip.Addr
	PublicIPPrefix   netip.Prefix // the second of the three; the zero Prefix is none
	PrivateIPAddress netip.Addr   // the third: the frontend of an internal load balancer

	// Subnet is that of PrivateIPAddress, which must be an address in it that Azure
	// does not reserve: the first four, and in IPv4 the last. The zero Prefix says
	// nothing, and then nothing is checked.
	Subnet netip.Prefix

	// PublicIPSKU is the SKU of the public address or prefix, which must be that of
	// the load balancer. nil is the same.
	PublicIPSKU *SKU
}

// addrs returns the addresses of the configuration, ascending.
func (f FrontendIPConfiguration) addrs() []netip.Addr {
	if a := f.addr(); a.IsValid() {
		return []netip.Addr{a}
	}
	var all []netip.Addr
	for a := f.PublicIPPrefix.Masked().Addr(); f.PublicIPPrefix.Contains(a); a = a.Next() {
		all = append(all, a)
	}
	return all
}

// is6 reports whether the configuration is an IPv6 one.
func (f FrontendIPConfiguration) is6() bool {
	return f.addr().Is6() || f.PublicIPPrefix.Addr().Is6()
}

// addr returns the address of the configuration, or the zero Addr if it has a prefix.
func (f FrontendIPConfiguration) addr() netip.Addr {
	if f.PublicIPAddress.IsValid() {
		return f.PublicIPAddress
	}
	return f.PrivateIPAddress
}

// isInternal reports whether the configuration makes its load balancer an internal one.
func (f FrontendIPConfiguration) isInternal() bool { return f.PrivateIPAddress.IsValid() }

// CheckPublicIPPrefix returns nil if p has the size of a public IP prefix: /28../31,
// in IPv6 /124../127 (public IP prefix document), or up to /24 and /120 if it is out
// of a range of one's own, which is our bound. Otherwise it wraps flow.ErrOutOfRange, or
// ErrPrefix if p is no prefix; the message begins with p, so that a caller can put
// the path of the field before it.
func CheckPublicIPPrefix(p netip.Prefix, ownRange bool) error {
	if ownRange {
		return checkPrefixSize(p, maxOwnHostBits, "")
	}
	return checkPrefixSize(p, maxPrefixHostBits, ", larger only with OwnRanges")
}

func checkPrefixSize(p netip.Prefix, maxHostBits int, hint string) error {
	if !p.IsValid() {
		return problems.New("", p, flow.ErrPrefix, "want an IPv4 or IPv6 prefix")
	}
	bits := p.Addr().BitLen()
	if n := bits - p.Bits(); n < minPrefixHostBits || n > maxHostBits {
		return problems.New("", p, flow.ErrOutOfRange, "valid are /%d../%d%s", bits-maxHostBits, bits-minPrefixHostBits, hint)
	}
	return nil
}

func (r *resolved) checkPrefix(path string, p netip.Prefix) {
	if p != p.Masked() {
		r.Add(path, p, flow.ErrPrefix, "has host bits set; did you mean %v?", p.Masked())
		return
	}
	r.checkAddr(path, p.Addr())
	r.Include(path, CheckPublicIPPrefix(p, r.OwnRanges))
	if r.SKU == Basic {
		r.Add(path, p, ErrUnsupported, "a prefix serves outbound rules, which SKU Basic does not have")
	}
}

// checkFrontends checks the frontend IP configurations and indexes their names.
func (r *resolved) checkFrontends() {
	problems.AtMost(&r.List, "FrontendIPConfigurations", len(r.FrontendIPConfigurations), "elements", r.limits().frontends)
	r.frontends = index(r, "FrontendIPConfigurations", r.FrontendIPConfigurations, func(f FrontendIPConfiguration) string { return f.Name })
	for i, f := range r.FrontendIPConfigurations {
		path := fmt.Sprintf("FrontendIPConfigurations[%d]", i)
		switch {
		case f.PublicIPAddress.IsValid() && f.PublicIPPrefix.IsValid():
			r.Add(path+".PublicIPPrefix", f.PublicIPPrefix, flow.ErrConflict, "PublicIPAddress is set too; give one of them")
		case f.PrivateIPAddress.IsValid() && (f.PublicIPAddress.IsValid() || f.PublicIPPrefix.IsValid()):
			r.Add(path+".PrivateIPAddress", f.PrivateIPAddress, flow.ErrConflict, "the frontend is public; give one of them")
		case f.PrivateIPAddress.IsValid():
			r.checkAddr(path+".PrivateIPAddress", f.PrivateIPAddress)
		case f.PublicIPAddress.IsValid():
			r.checkAddr(path+".PublicIPAddress", f.PublicIPAddress)
		case f.PublicIPPrefix.IsValid():
			r.checkPrefix(path+".PublicIPPrefix", f.PublicIPPrefix)
		default:
			r.Add(path+".PublicIPAddress", f.PublicIPAddress, flow.ErrMissing, "give PublicIPAddress, PublicIPPrefix or PrivateIPAddress")
		}
		if first := r.FrontendIPConfigurations[0]; r.owner != nil && !f.isInternal() {
			r.Add(path, f.Name, flow.ErrConflict, "a frontend of an internal load balancer has PrivateIPAddress")
		} else if f.isInternal() != first.isInternal() {
			r.Add(path, f.Name, flow.ErrConflict, "FrontendIPConfigurations[0] is %s; a load balancer is public or internal", kindOf(first.isInternal()))
		}
		r.checkSubnet(path+".Subnet", f)
		r.checkPublicIPSKU(path+".PublicIPSKU", f.PublicIPSKU)
	}

	addrs := 0
	for _, f := range r.FrontendIPConfigurations {
		if p := f.PublicIPPrefix; p.IsValid() {
			addrs += 1<<min(maxOwnHostBits, p.Addr().BitLen()-p.Bits()) - 1
		}
		addrs++
	}
	problems.AtMost(&r.List, "FrontendIPConfigurations", addrs, "addresses", maxFrontendAddrs)
}

// kindOf names a kind of load balancer.
func kindOf(internal bool) string {
	if internal {
		return "internal"
	}
	return "public"
}

// reservedFirst is the number of addresses at the beginning of a subnet that Azure
// keeps for itself (virtual network FAQ).
const reservedFirst = 4

// checkSubnet checks the subnet of a frontend.
func (r *resolved) checkSubnet(path string, f FrontendIPConfiguration) {
	s, a := f.Subnet, f.PrivateIPAddress
	switch {
	case s == netip.Prefix{}:
	case !s.IsValid() || s.Addr().Is4In6() || s != s.Masked():
		r.Add(path, s, flow.ErrPrefix, "want an IPv4 or IPv6 prefix without host bits")
	case !a.IsValid():
		r.Add(path, s, flow.ErrConflict, "only a frontend with PrivateIPAddress is in a subnet")
	case !s.Contains(a):
		r.Add(path, s, flow.ErrConflict, "PrivateIPAddress %v is not in it", a)
	default:
		reserved := s.Addr()
		for range reservedFirst {
			if a == reserved {
				r.Add(path, s, flow.ErrConflict, "Azure reserves %v of it", a)
			}
			reserved = reserved.Next()
		}
		if next := a.Next(); a.Is4() && !s.Contains(next) {
			r.Add(path, s, flow.ErrConflict, "Azure reserves %v of it", a)
		}
	}
}

// checkPublicIPSKU checks the SKU of a public IP.
func (r *resolved) checkPublicIPSKU(path string, sku *SKU) {
	if sku != nil && problems.Constant(&r.List, path, *sku, numSKUs) && *sku != r.SKU {
		r.Add(path, *sku, flow.ErrConflict, "DifferentSkuLoadBalancersAndPublicIPAddressNotAllowed: the load balancer is %v", r.SKU)
	}
}
