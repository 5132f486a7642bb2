// The addresses of a lab, all out of ranges for private use or documentation (RFC
// 1918, RFC 4193, RFC 5737, RFC 3849).

package labs

import (
	"fmt"
	"net/netip"
)

// Family is what a lab has of one address family.
type Family struct {
	Name                     string     // IPv4 or IPv6
	Client, Server, Frontend netip.Addr // the hosts, and what the engine must translate the client to
	Stranger                 netip.Addr // an outside address that the client never talks to
	Router                   netip.Addr // what the engine calls itself towards the inside, if it does
}

// The families of every lab.
var (
	IPv4 = Family{"IPv4", netip.MustParseAddr("10.244.0.10"), netip.MustParseAddr("203.0.113.80"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.99"), netip.MustParseAddr("10.244.255.254")}
	IPv6 = Family{"IPv6", netip.MustParseAddr("fd00:244::10"), netip.MustParseAddr("2001:db8:80::80"), netip.MustParseAddr("2001:db8:f::1"), netip.MustParseAddr("2001:db8:80::99"), netip.MustParseAddr("fd00:244::fffe")}

	Families = []Family{IPv4, IPv6}
)

// What an engine must be configured for: the networks of the client, and the
// frontends.
var (
	Inside    = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/64")}
	Frontends = []netip.Addr{IPv4.Frontend, IPv6.Frontend}
)

// Backend returns the address of an inside host behind the client's, by its number. The one
// before it is the client's own towards it.
func (f Family) Backend(i int) netip.Addr {
	if f.Client.Is4() {
		return netip.AddrFrom4([4]byte{10, 244, byte(8 + i), 2})
	}
	b := f.Client.As16()
	b[14], b[15] = byte(8+i), 2
	return netip.AddrFrom16(b)
}

// At returns the address and port of a service of the server.
func (f Family) At(port uint16) string { return netip.AddrPortFrom(f.Server, port).String() }

// Translated reports what is wrong with the socket that the server saw as its
// client's: it must be the frontend and a port from 1024 on.
func (f Family) Translated(seen string) error {
	switch ap, err := netip.ParseAddrPort(seen); {
	case err != nil:
		return fmt.Errorf("the server saw %q: %w", seen, err)
	case ap.Addr() != f.Frontend || ap.Port() < 1024:
		return fmt.Errorf("the server saw %v, want %v and a SNAT port", ap, f.Frontend)
	}
	return nil
}
