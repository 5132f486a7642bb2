package addresses

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Plan says whose the addresses of a realm are, and what destinations mean.
type Plan struct {
	Inside4  prefixes.Disjoint4 // sources; prefixes of different instances never overlap
	Inside6  prefixes.Disjoint6
	Outside4 prefixes.Addrs4 // fronts
	Outside6 prefixes.Addrs6
	Destinations
}

// What a front stands for: the index of a frontend, or with NodeFlag the index of an
// instance whose own address it is, or with PublicFlag that of one whose public address
// it is; plus one.
const (
	NodeFlag   = 1 << 31
	PublicFlag = 1 << 30
)

// IsFrontend reports whether a front is an address that the Internet sees: a frontend or
// a public address.
func IsFrontend(front uint32) bool { return front != 0 && (front-1)&NodeFlag == 0 }

// Flags of a source. Either makes it negative as int32. With DirectFlag alone its packets are translated 1:1 and the shard is not used. With LookFlag they are not, but
// have to be looked at first, because of hairpins or of forwards.
const (
	DirectFlag = 1 << 31
	LookFlag   = 1<<31 | 1<<30
)

// Pack returns the source of an instance in a shard: its index plus one, and the shard in
// the highest byte.
func Pack(instance uint32, shard int) uint32 { return uint32(shard)<<24 | (instance + 1) }

// Unpack returns the instance and the shard of a source.
func Unpack(source uint32) (instance uint32, shard uint8) {
	return source&(1<<24-1) - 1, uint8(source >> 24)
}

// IsDirect reports whether a source is translated 1:1.
func IsDirect(source uint32) bool { return source&LookFlag == DirectFlag }

// Source returns the source that a tuple's inside address is.
func (p *Plan) Source(t *ports.Tuple) uint32 {
	if t.Family == 0 {
		return p.Inside4.Get(uint32(t.Inside[0]))
	}
	return p.Inside6.Get(t.Inside)
}

// Front returns what a tuple's inside address is to the outside.
func (p *Plan) Front(t *ports.Tuple) uint32 { return p.FrontAt(t.Family == 1, t.Inside) }

// FrontAt returns what an address is to the outside.
func (p *Plan) FrontAt(is6 bool, addr [2]uint64) uint32 {
	if is6 {
		return p.Outside6.Get(addr)
	}
	return p.Outside4.Get(uint32(addr[0]))
}

// Publisher returns the instance whose public address a front
// stands for, and 0 for a frontend, which may be that of many.
func Publisher(front uint32) uint32 {
	if front--; front&PublicFlag != 0 {
		return front &^ PublicFlag
	}
	return 0
}

// Unsolicited says why a packet from outside that belongs to no session is dropped for its
// addresses; ReasonNoFlow if they are as they should be. The own address of an instance is
// part of the inside network, so there the source may lie inside as well.
func (p *Plan) Unsolicited(src, dst uint32) flow.Reason {
	to := p.Outside4.Get(dst)
	return unsolicited(src == dst, flow.IsLinkLocal4(src), p.Outside4.Get(src), to,
		flow.IsMartian4(src) || IsFrontend(to) && p.Inside4.Get(src) != 0)
}

// Unsolicited6 is Unsolicited for IPv6.
func (p *Plan) Unsolicited6(src, dst [2]uint64) flow.Reason {
	to := p.Outside6.Get(dst)
	return unsolicited(src == dst, flow.IsLinkLocal6(src), p.Outside6.Get(src), to,
		flow.IsMartian6(src) || IsFrontend(to) && p.Inside6.Get(src) != 0)
}

// unsolicited is Unsolicited for what is known of both addresses. from and to are their
// fronts.
func unsolicited(land, linkLocal bool, from, to uint32, martian bool) flow.Reason {
	switch {
	case land:
		return flow.ReasonLand
	case IsFrontend(from):
		return flow.ReasonSpoofFrontend
	case martian:
		return flow.ReasonMartianSource
	case linkLocal && IsFrontend(to):
		return flow.ReasonLinkLocal
	}
	return flow.ReasonNoFlow
}

// Stranger says why an inside source without instance is refused.
func (p *Plan) Stranger(t *ports.Tuple) flow.Reason {
	var martian bool
	if t.Family == 0 {
		martian = flow.IsMartian4(uint32(t.Inside[0]))
	} else {
		martian = flow.IsMartian6(t.Inside)
	}
	switch {
	case IsFrontend(p.Front(t)):
		return flow.ReasonSpoofFrontend
	case martian:
		return flow.ReasonMartianSource
	}
	return flow.ReasonSpoof
}

// Refuses reports why a new flow between two addresses may not begin, if so.
func (p *Plan) Refuses(t *ports.Tuple) flow.Reason {
	if t.Family == 0 {
		src, dst := uint32(t.Inside[0]), uint32(t.Remote[0])
		switch {
		case src == dst:
			return flow.ReasonLand
		case flow.IsMartian4(src):
			return flow.ReasonMartianSource
		case flow.IsMartian4(dst):
			return flow.ReasonMartianDestination
		case (flow.IsLinkLocal4(src) || flow.IsLinkLocal4(dst)) && p.Effect(t, int32(t.DestPort)).Action != NodeAddress:
			return flow.ReasonLinkLocal
		case !t.Hairpin && IsFrontend(p.Outside4.Get(dst)):
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
	case !t.Hairpin && IsFrontend(p.Outside6.Get(t.Remote)):
		return flow.ReasonHairpin
	}
	return flow.ReasonNone
}
