// Backends: what they are, and what is wrong with them.

package lb

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/turns"
)

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
	// With one for every family what is behind the backend idles for 4 minutes and ends
	// silently (public IP addresses document); else as the rules of the other family say.
	PublicIPAddresses []netip.Addr

	// PublicIPSKU is the SKU of PublicIPAddresses, which must be that of the load
	// balancer. nil is the same.
	PublicIPSKU *SKU
}

// publicIP returns the backend's instance-level public IP of a family, or the zero
// Addr.
func (b Backend) publicIP(is6 bool) netip.Addr { return ofFamily(b.PublicIPAddresses, is6) }

// addr returns the backend's address of a family, or the zero Addr.
func (b Backend) addr(is6 bool) netip.Addr { return ofFamily(b.Addrs, is6) }

// ofFamily returns the first address of a family, or the zero Addr.
func ofFamily(all []netip.Addr, is6 bool) netip.Addr {
	for _, a := range all {
		if a.Is6() == is6 {
			return a
		}
	}
	return netip.Addr{}
}

// leavesDirectly reports whether the backend has a public IP in every family that it has.
func (b *Backend) leavesDirectly() bool {
	return len(b.Addrs) > 0 && !slices.ContainsFunc(b.Addrs, func(a netip.Addr) bool { return !b.publicIP(a.Is6()).IsValid() })
}

// hasFamily reports whether the backend has an address of the family.
func (b Backend) hasFamily(is6 bool) bool { return b.addr(is6).IsValid() }

// checkBackends checks the backends and indexes their names.
func (r *resolved) checkBackends() {
	r.backends = index(r, "Backends", r.Backends, func(b Backend) string { return b.Name })
	for i := range r.Backends {
		turns.Step(i)
		b := &r.Backends[i]
		path := func(j int) string { return fmt.Sprintf("Backends[%d].Addrs[%d]", i, j) }
		if len(b.Addrs) == 0 {
			r.Add(fmt.Sprintf("Backends[%d].Addrs", i), b.Addrs, flow.ErrMissing, "give one address, or one per family")
		}
		for j, a := range b.Addrs {
			if !flow.IsHost(a) {
				r.checkAddr(path(j), a)
			}
			if j > 0 && slices.ContainsFunc(b.Addrs[:j], func(o netip.Addr) bool { return o.BitLen() == a.BitLen() }) {
				r.Add(path(j), a, flow.ErrTooMany, "one address per family")
			}
		}
		for j, a := range b.PublicIPAddresses {
			path := fmt.Sprintf("Backends[%d].PublicIPAddresses[%d]", i, j)
			r.checkAddr(path, a)
			if slices.ContainsFunc(b.PublicIPAddresses[:j], func(o netip.Addr) bool { return o.BitLen() == a.BitLen() }) {
				r.Add(path, a, flow.ErrTooMany, "one address per family")
			} else if a.IsValid() && !b.hasFamily(a.Is6()) {
				r.Add(path, a, flow.ErrMissing, "the backend has no address of this family in Addrs")
			}
		}
		if b.PublicIPSKU != nil {
			r.checkPublicIPSKU(problems.Field(problems.Index("Backends", i), "PublicIPSKU"), b.PublicIPSKU)
		}
		for j, p := range b.Inside {
			if !p.IsValid() || p.Addr().Is4In6() {
				r.Add(fmt.Sprintf("Backends[%d].Inside[%d]", i, j), p, flow.ErrPrefix, "want an IPv4 or IPv6 prefix, not IPv4-mapped")
			} else if p != p.Masked() {
				r.Add(fmt.Sprintf("Backends[%d].Inside[%d]", i, j), p, flow.ErrPrefix, "has host bits set; did you mean %v?", p.Masked())
			}
		}
	}
}
