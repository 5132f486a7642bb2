package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What the addresses and ports of a packet are to us: whose they are, and why they may not
// begin a flow.

// between makes the key of a packet one of addresses only, from src to dst.
func (l *lane) between(src, dst [2]uint64) {
	if l.is6 = l.p.Flags&wire.V6 != 0; l.is6 {
		l.key6 = flow.Key6{Src: src, Dst: dst}
	} else {
		l.key = flow.Key{Src: uint32(src[0]), Dst: uint32(dst[0])}
	}
}

// ports returns both ports as they stand in the packet, or noPorts if the
// protocol has none.
func (l *lane) ports() uint32 {
	if l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return noPorts
	}
	return l.p.Ports()
}

// inboundTuple returns the tuple of an inbound packet without its inside socket.
func (l *lane) inboundTuple() (t ports.Tuple) {
	t.Proto = l.p.Proto
	if l.is6 {
		t.Family, t.Remote, t.DestPort = 1, l.key6.Src, l.key6.SrcPort
	} else {
		t.Remote[0], t.DestPort = uint64(l.key.Src), l.key.SrcPort
	}
	return t
}

// outsidePort returns the port that an inbound packet is sent to.
func (l *lane) outsidePort() uint16 {
	if l.is6 {
		return l.key6.DstPort
	}
	return l.key.DstPort
}

// outsideOf returns what the destination of an inbound packet is to us.
func (r *routes) outsideOf(l *lane) uint32 {
	if l.is6 {
		return r.outside6.Get(l.key6.Dst)
	}
	return r.outside4.Get(l.key.Dst)
}

// ownerOf returns the frontend that an inbound packet is sent to, and the instance
// that owns the port; nil if none does.
func (r *routes) ownerOf(t *ports.Tuple, l *lane) (*ports.Frontend, *instance) {
	target := r.outsideOf(l)
	if target--; target >= publicFlag {
		return nil, nil
	}
	f := r.frontends[target]
	o := f.Owner[ports.PoolIndex(t.Proto)]
	if o == nil || o.Instance[l.outsidePort()/BlockSize] == 0 {
		return nil, nil
	}
	return f, r.instances[o.Instance[l.outsidePort()/BlockSize]-1]
}

// unsolicited says why an inbound packet that belongs to no session is dropped.
// The own address of an instance is part of the inside network, so there the
// source may lie inside as well.
func (r *routes) unsolicited(l *lane) flow.Reason {
	if l.hairpin {
		return flow.ReasonNoFlow // its addresses have been looked at on the way out
	}
	var land, martian, linkLocal bool
	var from, to uint32 // what source and destination are to us
	if l.is6 {
		src := l.key6.Src
		land, martian, linkLocal = src == l.key6.Dst, flow.IsMartian6(src), flow.IsLinkLocal6(src)
		from, to = r.outside6.Get(src), r.outside6.Get(l.key6.Dst)
		martian = martian || isFrontend(to) && r.inside6.Get(src) != 0
	} else {
		src := l.key.Src
		land, martian, linkLocal = src == l.key.Dst, flow.IsMartian4(src), flow.IsLinkLocal4(src)
		from, to = r.outside4.Get(src), r.outside4.Get(l.key.Dst)
		martian = martian || isFrontend(to) && r.inside4.Get(src) != 0
	}
	switch {
	case land:
		return flow.ReasonLand
	case isFrontend(from):
		return flow.ReasonSpoofFrontend
	case martian:
		return flow.ReasonMartianSource
	case linkLocal && isFrontend(to):
		return flow.ReasonLinkLocal
	}
	return flow.ReasonNoFlow
}

// stranger says why an inside source without instance is refused.
func (r *routes) stranger(t *ports.Tuple) flow.Reason {
	var ours, martian bool
	if t.Family == 0 {
		src := uint32(t.Inside[0])
		ours, martian = isFrontend(r.outside4.Get(src)), flow.IsMartian4(src)
	} else {
		ours, martian = isFrontend(r.outside6.Get(t.Inside)), flow.IsMartian6(t.Inside)
	}
	switch {
	case ours:
		return flow.ReasonSpoofFrontend
	case martian:
		return flow.ReasonMartianSource
	}
	return flow.ReasonSpoof
}

// admit reports why a new flow between two addresses may not begin, if so.
func (n *NAT) admit(r *routes, t *ports.Tuple) flow.Reason {
	if t.Family == 0 {
		src, dst := uint32(t.Inside[0]), uint32(t.Remote[0])
		switch {
		case src == dst:
			return flow.ReasonLand
		case flow.IsMartian4(src):
			return flow.ReasonMartianSource
		case flow.IsMartian4(dst):
			return flow.ReasonMartianDestination
		case (flow.IsLinkLocal4(src) || flow.IsLinkLocal4(dst)) && r.action(t) != NodeAddress:
			return flow.ReasonLinkLocal
		case !t.Hairpin && isFrontend(r.outside4.Get(dst)):
			return flow.ReasonHairpin
		}
		return flow.ReasonNone
	}
	switch {
	case t.Inside == t.Remote:
		return flow.ReasonLand
	case flow.IsMartian6(t.Inside):
		return flow.ReasonMartianSource
	case flow.IsMartian6(t.Remote):
		return flow.ReasonMartianDestination
	case flow.IsLinkLocal6(t.Inside) || flow.IsLinkLocal6(t.Remote):
		return flow.ReasonLinkLocal
	case !t.Hairpin && isFrontend(r.outside6.Get(t.Remote)):
		return flow.ReasonHairpin
	}
	return flow.ReasonNone
}

// publicOf returns the instance whose public address a packet is sent to, or nil.
func (r *routes) publicOf(l *lane) *instance {
	target := r.outsideOf(l)
	if target--; target&(nodeFlag|publicFlag) != publicFlag {
		return nil
	}
	return r.instances[target&^publicFlag]
}
