package snat

// What an inside socket looks like from outside, and who may reach it there.
// Read RFC 4787 sections 4 and 5 and RFC 5382 sections 4 and 5 first. Package
// ports has the records, package dataplane the sessions that begin outside.

import (
	"errors"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Behavior says how flows of one protocol get their outside ports and which
// packets from outside may begin one. The zero value of each field is what an
// Azure load balancer does for the protocol. TCP and UDP never share a mapping
// (RFC 7857 section 5), and a mapping of one protocol lets nothing of the other
// in (section 6).
//
// It applies to what is translated to ports of frontends. What gets the address
// of its node, or a public address of the instance, is mapped flow by flow and
// admits nothing.
//
// Where ports are shared, the port of a socket's mapping may be another's towards a
// destination. Then the socket gets a further port, for as much of that destination
// as Share tells apart and as long as it has sessions there: it looks endpoint-
// independent everywhere else, and no flow is refused while a port is usable (our
// choice of what Azure leaves open). With ShareNever that cannot happen, so the
// promise of RFC 4787 REQ-1 needs [ShareNever].
//
// A filter that is wider than the sharing of ports could not tell whose packet
// it sees. So [EndpointIndependentFiltering] needs [ShareNever], and
// [AddressDependentFiltering] must not come with [SharePerDestination].
//
// Cost: flows that are mapped and filtered by address and port, sharing ports
// per destination, need no record besides their session. Any other combination
// takes 64 bytes for a mapping, or 32 as is UDP's default, and 32 for each scope
// that it uses its port for. A flow finds its mapping in two look-ups at most,
// however many its socket has.
type Behavior struct {
	Mapping   Mapping   // for how much of a destination a socket keeps its port
	Filtering Filtering // who may send to that port
	Share     PortShare // when two mappings may use one port
}

// Mapping says for how much of a destination an inside socket keeps its outside
// port (RFC 4787 section 4.1), unless that is another's; see [Behavior]. A mapping
// lives as long as it has sessions.
type Mapping uint8

// The mappings.
const (
	DefaultMapping          Mapping = iota // AddressAndPortDependent for TCP, EndpointIndependent for UDP
	EndpointIndependent                    // one port for all destinations of a socket
	AddressDependent                       // a port for every remote address
	AddressAndPortDependent                // a port for every remote address and port
	// PerConnection is a port for every connection that begins inside. It
	// differs from AddressAndPortDependent when a connection has ended while
	// sessions from outside keep its mapping: the next one to the same remote
	// then gets a mapping of its own. A connection that is opened again before
	// its session is gone keeps its port.
	PerConnection
	numMappings
)

// Filtering says which remotes may send to the outside port of a mapping (RFC
// 4787 section 5). What belongs to a session always may. A packet that the filter
// refuses, a datagram or a SYN, is counted as [flow.ReasonFiltered] and refreshes
// nothing (RFC 7857 section 7).
type Filtering uint8

// The filters.
const (
	DefaultFiltering                 Filtering = iota // AddressAndPortDependentFiltering
	EndpointIndependentFiltering                      // every remote
	AddressDependentFiltering                         // remotes whose address the mapping has a session with
	AddressAndPortDependentFiltering                  // remotes whose address and port the mapping has a session with
	// PerConnectionFiltering is every packet of a connection that has not ended.
	// It differs from AddressAndPortDependentFiltering for TCP: after FIN from
	// both ends or a RST only the inside may open the connection again.
	PerConnectionFiltering
	numFilterings
)

// PortShare says when two mappings of an instance may use the same outside port
// at the same time. Protocols never compete for ports.
type PortShare uint8

// The ways of sharing. Azure's texts on UDP differ: since 2022 a port may serve
// several destination addresses, before it never did.
const (
	DefaultShare        PortShare = iota // SharePerDestination for TCP, SharePerAddress for UDP
	SharePerAddress                      // if their destination addresses differ
	SharePerDestination                  // if their destination addresses or ports differ
	ShareNever                           // never
	numPortShares
)

// ErrAmbiguous complains about a filter that could not tell whose packet it sees.
var ErrAmbiguous = errors.New("does not tell whose packet comes from outside")

// filled returns b with every zero field filled in for a protocol.
func (b Behavior) filled(protocol int) Behavior {
	tcp := protocol == ports.TCPIndex
	if b.Mapping == DefaultMapping {
		b.Mapping = EndpointIndependent
		if tcp {
			b.Mapping = AddressAndPortDependent
		}
	}
	if b.Filtering == DefaultFiltering {
		b.Filtering = AddressAndPortDependentFiltering
	}
	if b.Share == DefaultShare {
		b.Share = SharePerAddress
		if tcp {
			b.Share = SharePerDestination
		}
	}
	return b
}

// behavior checks a Behavior that stands in a field of Owned.
func (v *validation) behavior(field string, protocol int, b Behavior) {
	if b == (Behavior{}) {
		return // the default
	}
	errs := v.Len()
	problems.Constant(&v.List, field+".Mapping", b.Mapping, numMappings)
	problems.Constant(&v.List, field+".Filtering", b.Filtering, numFilterings)
	problems.Constant(&v.List, field+".Share", b.Share, numPortShares)
	if v.Len() > errs {
		return
	}
	switch b = b.filled(protocol); {
	case b.Filtering == EndpointIndependentFiltering && b.Share != ShareNever:
		v.Add(field+".Filtering", b.Filtering, ErrAmbiguous, "where %s.Share is %v: it must be ShareNever", field, b.Share)
	case b.Filtering == AddressDependentFiltering && b.Share == SharePerDestination:
		v.Add(field+".Filtering", b.Filtering, ErrAmbiguous, "where %s.Share is %v: it must be SharePerAddress or ShareNever", field, b.Share)
	}
}
