// Hosts that move, as pods do that start again on another node.

package whatif

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Move gives the host of an index of [Config].Hosts other addresses, as a pod has that starts again on
// another node. Its open conversations end without a packet, for who had them is gone; ended is how many.
// What it begins from now on comes from the new addresses. Without any it begins nothing, and what
// it would have begun meanwhile is left out of all counts but Arrivals. Conversations that wait to try again
// do so from the new addresses. The error is about the index or an address, which another host
// has or which is no host's, and then nothing has changed.
func (s *Simulation) Move(host int, addrs []netip.Addr) (ended int, err error) {
	if host < 0 || host >= len(s.hosts) {
		return 0, fmt.Errorf("host %d: %w: there are %d hosts", host, flow.ErrOutOfRange, len(s.hosts))
	}
	h := s.hosts[host]
	h.addrs, h.has = [flow.NumFamilies]addr{}, [flow.NumFamilies]bool{}
	for _, a := range addrs {
		if !flow.IsHost(a) {
			return 0, fmt.Errorf("host %d: %v: %w", host, a, flow.ErrAddress)
		}
		key, family := addrOf(a), flow.Family(a)
		if other, taken := s.byAddr[key]; h.has[family] || taken && other != uint32(host) {
			return 0, fmt.Errorf("host %d: %v: %w: another address of the family, or another host's", host, a, flow.ErrConflict)
		}
		h.addrs[family], h.has[family] = key, true
	}
	var open []uint32
	for _, i := range s.byPort.slots {
		if i != none && s.conversations[i].host == uint32(host) {
			open = append(open, i)
		}
	}
	slices.Sort(open)
	for _, i := range open {
		if s.conversations[i].inPool {
			s.leave(i)
		}
		s.release(i)
	}
	s.byAddr = maps.Clone(s.byAddr) // forks have the same one
	for family, has := range s.hosts[host].has {
		if has {
			delete(s.byAddr, s.hosts[host].addrs[family])
		}
	}
	for family, has := range h.has {
		if has {
			s.byAddr[h.addrs[family]] = uint32(host)
		}
	}
	s.hosts[host].addrs, s.hosts[host].has = h.addrs, h.has // ports go on in turn
	return len(open), nil
}
