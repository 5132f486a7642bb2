package snat

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
)

// Routes: rows of the destination table, as they are configured, and what is checked of
// one. compile.go has what they are compiled to.

// RouteAction says what happens to new flows towards a destination.
type RouteAction uint8

// The route actions.
const (
	Translate   RouteAction = iota // source-NAT to a frontend
	NodeAddress                    // source-NAT to the instance's own address, if the source is not already that
	PassThrough                    // leave the packet alone
	Blackhole                      // drop
	numRouteActions
)

// Route is one row of the destination table. The longest prefix wins; among rows
// with the same one those with ports come first, then those with a protocol. A
// destination without a row is translated.
//
// Cost: rows are found by search, not one by one, so a new flow or a stray packet
// takes about the same time for a hundred thousand of them. [NAT.Reconfigure] lays n
// rows out in O(n log n).
type Route struct {
	Prefix netip.Prefix // of the remote address, without host bits
	Action RouteAction  // what happens to new flows; zero is Translate

	// Protocol narrows the row to TCP or UDP; All, the default, is any protocol.
	Protocol Protocol

	// FirstPort and LastPort narrow the row to TCP and UDP with a remote port
	// between them, 1..65535. FirstPort 0, the default, is all ports, LastPort 0
	// is FirstPort alone.
	FirstPort, LastPort uint16

	// BothWays lets what comes from there, by its source address and port, reach
	// inside addresses untranslated and unasked. Inside addresses of a [Realm] other
	// than 0 cannot be told apart from outside and get nothing.
	//
	// It makes a no-NAT rule of a PassThrough row (RFC 6888 REQ-6): nothing is
	// remembered. In both directions it then covers protocols that are not
	// translated, and fragments unless there is a row with ports for that prefix.
	//
	// With NodeAddress and Translate it matters who begins, because source NAT sees
	// the first packet of a connection only (Azure CNI Overlay: a node masquerades
	// what its pods begin). A TCP connection, a UDP flow or, with [ICMP].Queries, a
	// query that comes from there begins a session of [flow.KindTracked]: it is not
	// translated and takes no port, and what answers it leaves with the inside address
	// that it has. It ends by Policy as any other, with its RSTs. Strangers can begin
	// as many as memory allows. What begins inside is translated as the row says. Only
	// one session can have a pair of sockets, or a pair of addresses and an
	// identifier, so the first wins: what either end sends between those belongs to
	// it, and a packet from there that would begin another one is dropped with
	// [flow.ReasonMappingConflict]. Other protocols are dropped. Fragments are what
	// [Dataplane].Fragments says, and begin nothing if there is a row with ports for
	// that prefix.
	//
	// With NodeAddress nothing between there and an instance's own address is
	// translated, but what the own address begins on a port that a source behind the
	// instance has there: it gets another port. So all protocols pass in both directions;
	// sessions remember what can be remembered, so that no source behind the instance gets a
	// port there that is in use, and the rest passes without. An own address with a public one passes
	// everything and begins no session; with Translate it gets nothing unasked.
	BothWays bool

	// PassOn, which needs PassThrough, is for packets that another translator carries next: it
	// asks about them itself, so [Dataplane].Admit is not asked here. Of them only UDP flows of
	// addresses with a public one are remembered, as Admit's are: a datagram from outside to the
	// public address that is between the same sockets begins nothing. What belongs to a flow that has
	// come to an instance's public address is not passed on, while that is remembered
	// ([Config].RememberEntries): it leaves by the public address.
	PassOn bool
}

// route checks a row.
func (v *validation) route(i int, r *Route) {
	if !r.Prefix.IsValid() || r.Prefix.Masked() != r.Prefix {
		v.Add(fmt.Sprintf("Routes[%d].Prefix", i), r.Prefix, flow.ErrPrefix, "")
	}
	if r.Action >= numRouteActions {
		v.Add(fmt.Sprintf("Routes[%d].Action", i), uint8(r.Action), flow.ErrOutOfRange, "0..%d", Blackhole)
	}
	if r.Protocol > UDP {
		v.Add(fmt.Sprintf("Routes[%d].Protocol", i), uint8(r.Protocol), flow.ErrOutOfRange, "0..%d", UDP)
	}
	if r.LastPort != 0 && (r.FirstPort == 0 || r.FirstPort > r.LastPort) {
		v.Add(fmt.Sprintf("Routes[%d].FirstPort", i), r.FirstPort, flow.ErrOutOfRange, "1..%d, which is LastPort", r.LastPort)
	}
	if r.PassOn && r.Action != PassThrough {
		v.Add(fmt.Sprintf("Routes[%d].PassOn", i), r.PassOn, flow.ErrOutOfRange, "only with PassThrough")
	}
	if r.BothWays && r.Action == Blackhole {
		v.Add(fmt.Sprintf("Routes[%d].BothWays", i), r.BothWays, flow.ErrOutOfRange, "not with Blackhole")
	}
}

// RouteTo returns what rows, the destination table of a [Config], do with new flows
// of protocol p to a remote; with All, with those of either protocol. It is a pure
// function of O(n log n) for planning, and the table in force says the same.
func RouteTo(rows []Route, p Protocol, remote netip.AddrPort) RouteAction {
	d := addresses.NewDestinations(destinations(rows))
	return RouteAction(d.ToRemote((&Route{Protocol: p}).row().Proto, remote))
}
