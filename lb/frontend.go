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

// FrontendIPConfiguration is a public IP address or prefix of the load balancer.
type FrontendIPConfiguration struct {
	Name string // unique, not empty

	// Exactly one of the two. Every address of a prefix is a frontend, ascending
	// (outbound rules document). A prefix is /28../31, in IPv6 /124../127, or larger
	// with Config.OwnRanges. It serves outbound rules only.
	PublicIPAddress netip.Addr
	PublicIPPrefix  netip.Prefix // the other of the two; the zero Prefix is none
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
	problems.AtMost(&r.List, "FrontendIPConfigurations", len(r.FrontendIPConfigurations), "elements", maxFrontendIPConfigurations)
	r.frontends = index(r, "FrontendIPConfigurations", r.FrontendIPConfigurations, func(f FrontendIPConfiguration) string { return f.Name })
	for i, f := range r.FrontendIPConfigurations {
		path := fmt.Sprintf("FrontendIPConfigurations[%d]", i)
		switch {
		case f.PublicIPAddress.IsValid() && f.PublicIPPrefix.IsValid():
			r.Add(path+".PublicIPPrefix", f.PublicIPPrefix, flow.ErrConflict, "PublicIPAddress is set too; give one of them")
		case f.PublicIPAddress.IsValid():
			r.checkAddr(path+".PublicIPAddress", f.PublicIPAddress)
		case f.PublicIPPrefix.IsValid():
			r.checkPrefix(path+".PublicIPPrefix", f.PublicIPPrefix)
		default:
			r.Add(path+".PublicIPAddress", f.PublicIPAddress, flow.ErrMissing, "give PublicIPAddress or PublicIPPrefix")
		}
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
