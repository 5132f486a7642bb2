// Default outbound access: who has it, by which address, and with which ports. Read the
// outbound connections document on it first.

package lb

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/grants"
	"github.com/seed-a61be3fe/natplane/snat"
)

// DefaultOutboundRange is where the addresses of default outbound access come from
// unless told otherwise. Azure takes any public address of the region, and says no
// more; our choice is a range that is reserved for tests (RFC 2544), so that it
// collides with nobody's.
var DefaultOutboundRange = netip.MustParsePrefix("198.18.0.0/15")

// byDefault returns the backends that have default outbound access.
func (c *EgressConfig) byDefault(r *resolved) (members []int) {
	known := map[string]bool{} // whether backends have it, by what decides about it
	for i := range r.Backends {
		b := &r.Backends[i]
		if !b.hasFamily(false) {
			continue
		}
		var of []byte
		if b.publicIP(false).IsValid() {
			of = append(of, 'p')
		}
		for _, b := range r.balancers() {
			of = binary.AppendUvarint(of, uint64(b.kinds.kind[i]))
		}
		has, ok := known[string(of)]
		if !ok {
			has = c.choose(r, i, snat.All, false).Option == DefaultOutboundAccess
			known[string(of)] = has
		}
		if has {
			members = append(members, i)
		}
	}
	return members
}

// mayUse reports whether a is an address that default outbound access may have.
func (c *EgressConfig) mayUse(r *resolved, a netip.Addr) bool {
	if !c.DefaultOutboundRange.Contains(a) {
		return false
	}
	for _, b := range r.balancers() {
		for _, f := range b.FrontendIPConfigurations {
			if f.addr() == a || f.PublicIPPrefix.Contains(a) {
				return false
			}
		}
	}
	if g := c.NATGateway; g != nil && (slices.Contains(g.PublicIPAddresses, a) || slices.ContainsFunc(g.PublicIPPrefixes, func(p netip.Prefix) bool { return p.Contains(a) })) {
		return false
	}
	for _, b := range r.Backends {
		if slices.Contains(b.Addrs, a) || slices.Contains(b.PublicIPAddresses, a) || slices.ContainsFunc(b.Inside, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return false
		}
	}
	return true
}

// draw draws an address of default outbound access.
func (s *egressState) draw(r *resolved) (netip.Addr, error) {
	const tries = 64
	q := s.config.DefaultOutboundRange
	for range tries {
		offset := s.random().Uint32() & (1<<(32-q.Bits()) - 1)
		if a := flow.NetAddr4(flow.Addr4(q.Addr()) | offset); flow.IsHost(a) && s.config.mayUse(r, a) {
			return a, nil
		}
	}
	return netip.Addr{}, problems.New("DefaultOutboundRange", q, flow.ErrConflict, "the load balancer and its backends use nearly all of it")
}

// layOutDefault gives the members their ports of default outbound access.
func (s *egressState) layOutDefault(r *resolved, members []int) error {
	group := 0
	for _, b := range r.Backends {
		if b.hasFamily(false) {
			group++
		}
	}
	claim := Capacity{Nodes: len(members), Frontends: 1}
	claim.Ports = min(AutomaticPorts(group), max(snat.BlockSize, claim.MaxPorts()))
	if err := claim.check("default outbound access"); err != nil {
		return err
	}
	d, blocks := &grants.Demand{Frontends: []netip.Addr{s.address}}, claim.Ports/snat.BlockSize
	shares := []grants.Share{{At: 0, Blocks: blocks}}
	var portions []grants.Portion
	for _, b := range members {
		portions = append(portions, grants.Portion{Demand: d, Backend: b, Blocks: blocks, Shares: shares})
	}
	var had [][]snat.PortRange
	if r.former != nil {
		had = r.had()
	}
	lent := lentEnding("default outbound access")
	for _, b := range members {
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			r.end(b, p, &lent)
		}
	}
	if r.counted {
		return nil
	}
	granted := r.grant(portions, snat.TCP, false, had, func() map[netip.Addr]*grants.Inventory {
		return map[netip.Addr]*grants.Inventory{s.address: grants.NewInventory(nil)}
	})
	for _, b := range members {
		a := &s.inForce.plan[b]
		if g := &granted[b]; g.Kept {
			a.Ports = slices.Concat(a.Ports, ranges(g, had[b], snat.TCP, false))
		} else {
			a.Ports = slices.Concat(a.Ports, g.Ranges)
		}
	}
	return nil
}
