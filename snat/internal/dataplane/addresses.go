package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What the addresses and ports of a packet are to us. Package addresses knows whose they
// are, and why they may not begin a flow.

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

// inboundTuple makes t, which is zero, the tuple of an inbound packet without its inside
// socket.
func (l *lane) inboundTuple(t *ports.Tuple) {
	t.Proto = l.p.Proto
	if l.is6 {
		t.Family, t.Remote, t.DestPort = 1, l.key6.Src, l.key6.SrcPort
	} else {
		t.Remote[0], t.DestPort = uint64(l.key.Src), l.key.SrcPort
	}
}

// outsidePort returns the port that an inbound packet is sent to.
func (l *lane) outsidePort() uint16 {
	if l.is6 {
		return l.key6.DstPort
	}
	return l.key.DstPort
}

// outsideOf returns what the destination of an inbound packet is to us.
func (l *lane) outsideOf(r *routes) uint32 {
	if l.is6 {
		return r.Outside6.Get(l.key6.Dst)
	}
	return r.Outside4.Get(l.key.Dst)
}

// ownerOf returns the frontend that an inbound packet is sent to, and the instance
// that owns the port; nil if none does.
func (l *lane) ownerOf(r *routes, t *ports.Tuple) (*ports.Frontend, *instance) {
	target := l.outsideOf(r)
	if target--; target >= addresses.PublicFlag {
		return nil, nil
	}
	f := r.Frontends[target]
	owner := f.Owner[ports.PoolIndex(t.Proto)].Instance(l.outsidePort())
	if owner == 0 {
		return nil, nil
	}
	return f, r.Instances[owner-1]
}

// unsolicited says why an inbound packet that belongs to no session is dropped for its
// addresses; ReasonNoFlow if they are as they should be.
func (l *lane) unsolicited(r *routes) flow.Reason {
	if l.hairpin {
		return flow.ReasonNoFlow // its addresses have been looked at on the way out
	}
	if l.is6 {
		return r.Unsolicited6(l.key6.Src, l.key6.Dst)
	}
	return r.Unsolicited(l.key.Src, l.key.Dst)
}

// publicOf returns the instance whose public address a packet is sent to, or nil.
func (l *lane) publicOf(r *routes) *instance {
	target := l.outsideOf(r)
	if target--; target&(addresses.NodeFlag|addresses.PublicFlag) != addresses.PublicFlag {
		return nil
	}
	return r.Instances[target&^addresses.PublicFlag]
}
