// What the outside has seen of the inside, and so where it sends its packets.

package main

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// translations is what the outside has seen so far.
type translations struct {
	frontends map[netip.Addr]bool
	first     [2]netip.Addr // of the frontends, by family

	// filters says whom the translator lets in, by protocol. Whom it lets in, what
	// was sent to an address and port of the outside reaches the last one it served.
	filters map[uint8]snat.Filtering

	flows   map[conversation]netip.AddrPort // inside and remote: outside
	sockets map[conversation]netip.AddrPort // inside alone: outside, of whatever remote was last
	owners  map[conversation]netip.AddrPort // outside and remote, its address, or nobody: inside, the last
	unused  map[conversation]uint16         // of a protocol and frontend: ports below have been in use
}

// conversation is the local end and the remote of packets of one protocol.
type conversation struct {
	proto         uint8
	local, remote netip.AddrPort
}

// owned returns what c says of ports that instances own, to be changed or read; of
// shared ones that is nothing.
func owned(c *snat.Config) *snat.Owned {
	if c.Ports == nil {
		c.Ports = &snat.Owned{}
	}
	if of, ok := c.Ports.(*snat.Owned); ok {
		return of
	}
	return &snat.Owned{}
}

func newTranslations(frontends []netip.Addr, c *snat.Config) translations {
	t := translations{
		frontends: make(map[netip.Addr]bool),
		filters:   map[uint8]snat.Filtering{protoTCP: owned(c).TCP.Filtering, protoUDP: owned(c).UDP.Filtering},
		flows:     make(map[conversation]netip.AddrPort),
		sockets:   make(map[conversation]netip.AddrPort),
		owners:    make(map[conversation]netip.AddrPort),
		unused:    make(map[conversation]uint16),
	}
	for _, a := range frontends {
		t.frontends[a] = true
		if at := &t.first[flow.Family(a)]; !at.IsValid() {
			*at = a
		}
	}
	return t
}

// hostOf returns an endpoint without its port.
func hostOf(at netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(at.Addr(), 0) }

// learn notes that remote sees inside as outside. Protocol and ports are 0 where
// a packet tells none.
func (t *translations) learn(proto uint8, inside, remote, outside netip.AddrPort) {
	t.flows[conversation{proto, inside, remote}] = outside
	t.sockets[conversation{proto: proto, local: inside}] = outside
	for _, remote := range [...]netip.AddrPort{remote, hostOf(remote), {}} {
		t.owners[conversation{proto, outside, remote}] = inside
	}
}

// outsideOf returns how remote sees inside, or would see it if mappings serve all
// remotes. It does not know what has since been given to others, unless that has
// been seen: then what remote sends is not for inside any more.
func (t *translations) outsideOf(proto uint8, inside, remote netip.AddrPort) (outside netip.AddrPort, ok bool) {
	owned := func(by netip.AddrPort) bool {
		owner, seen := t.owners[conversation{proto, outside, by}]
		return !seen || owner == inside
	}
	if outside, ok = t.flows[conversation{proto, inside, remote}]; ok {
		ok = owned(remote)
		switch t.filters[proto] {
		case snat.EndpointIndependentFiltering:
			ok = ok && owned(netip.AddrPort{})
		case snat.AddressDependentFiltering:
			ok = ok && owned(hostOf(remote))
		}
	} else if outside, ok = t.sockets[conversation{proto: proto, local: inside}]; ok {
		ok = owned(remote) && owned(hostOf(remote)) && owned(netip.AddrPort{})
	}
	if !ok {
		return netip.AddrPort{}, false
	}
	return outside, true
}

// nowhere returns where the outside sends what it has no address for: the first
// frontend of a family, if there is one, at a port that nobody has had so far.
func (t *translations) nowhere(proto uint8, family int) netip.AddrPort {
	a := t.first[family]
	if !a.IsValid() {
		return netip.AddrPort{}
	}
	k := conversation{proto: proto, local: netip.AddrPortFrom(a, 0)}
	port := max(t.unused[k], 1)
	for ; port > 0; port++ {
		if _, seen := t.owners[conversation{proto: proto, local: netip.AddrPortFrom(a, port)}]; !seen {
			break
		}
	}
	t.unused[k] = port
	return netip.AddrPortFrom(a, port)
}
