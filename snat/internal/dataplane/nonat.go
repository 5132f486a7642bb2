package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
)

// Rows of the destination table that work both ways: what they let in, and what they
// leave untranslated without remembering it. tracked.go has what is remembered. Read
// RFC 6888 section 3 (REQ-6) first.

// entry is what becomes of an inbound packet without a session at an inside address.
type entry uint8

const (
	noEntry      entry = iota
	entryPass          // it passes, and nothing is remembered
	entryTracked       // it begins a session that is not translated, or does not pass
	entryOwn           // it begins one, or else it passes: to an instance's own address
)

// entryTo returns the instance that an inbound packet reaches unasked, by a row that
// works both ways, and how; nil if it may not. The lane's addresses must have been read.
func (l *lane) entryTo(r *routes) (*instance, entry) {
	if !r.BothWays() {
		return nil, noEntry
	}
	t := headers.Addresses(&l.p, flow.Outside)
	port := int32(-1)
	if l.p.Flags&wire.Fragmented == 0 {
		port = int32(headers.RemotePort(&l.p, flow.Outside))
	}
	e := r.Effect(&t, port)
	if !e.BothWays || port < 0 && !e.AnyPort {
		return nil, noEntry
	}
	packed := r.Source(&t)
	if packed == 0 || l.unsolicited(r) != flow.ReasonNoFlow {
		return nil, noEntry
	}
	index, _ := addresses.Unpack(packed)
	inst := r.Instances[index]
	own := e.Action == addresses.NodeAddress && inst.Owns(t.Family, t.Inside)
	switch direct := addresses.IsDirect(packed); {
	case e.Action == addresses.PassThrough || own && direct:
		return inst, entryPass
	case direct:
		return nil, noEntry // what answers would leave with the public address
	case own:
		return inst, entryOwn
	}
	return inst, entryTracked
}

// untranslated returns the instance that an inbound packet reaches unchanged, or
// nil. It is for packets that no session can have: fragments, and protocols that
// are not translated.
func (n *NAT) untranslated(r *routes, l *lane) *instance {
	inst, how := l.entryTo(r)
	if how == entryPass || how == entryOwn && !n.pieces(&l.p) {
		return inst
	}
	return nil
}

// leaves returns the instance of an outbound packet of that sort that leaves as it is,
// or nil.
func (n *NAT) leaves(r *routes, p *wire.Packet) *instance {
	t := headers.Addresses(p, flow.Inside)
	packed := r.Source(&t)
	e := r.Effect(&t, -1)
	if packed == 0 || !e.BothWays || !e.AnyPort {
		return nil
	}
	index, _ := addresses.Unpack(packed)
	inst := r.Instances[index]
	if e.Action == addresses.PassThrough || e.Action == addresses.NodeAddress && inst.Owns(t.Family, t.Inside) && !n.pieces(p) {
		return inst
	}
	return nil
}

// pieces reports whether a packet is a fragment that may belong to a session of any kind.
func (n *NAT) pieces(p *wire.Packet) bool {
	return p.Flags&wire.Fragmented != 0 && n.fragments.table != nil && !n.fragments.forwardedOnly
}
