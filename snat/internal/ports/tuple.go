package ports

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Tuple is a packet's 5-tuple for the slow path, where both families share the
// code. IPv4 addresses are in the low half of the first word.
type Tuple struct {
	Family               uint8     // 0 IPv4, 1 IPv6
	Proto                uint8     // IP protocol
	Inside, Remote       [2]uint64 // addresses
	InsidePort, DestPort uint16    // of Inside and of Remote

	subscriber uint32 // record of whose flow it is, while a port is allocated and where that matters; else 0
	Hairpin    bool   // it goes on from the inside to the inside

	// InsideHash is the hash of the key that the inside sends, as its session will have it,
	// or 0 if that is not known.
	InsideHash  uint64
	outsideHash uint64 // see OutsideHash
}

// TupleOf returns the tuple of a session.
func TupleOf(id flow.ID, s *flow.Session) (t Tuple) {
	t.read(id, s)
	return t
}

// read makes t, which is zero, the tuple of a session, without a copy.
func (t *Tuple) read(id flow.ID, s *flow.Session) {
	t.Proto, t.InsidePort, t.DestPort = s.Proto(), s.Key.SrcPort, s.Key.DstPort
	if id.Is6() {
		a := s.Addrs6()
		t.Family, t.Inside, t.Remote = 1, a.Inside, a.Remote
	} else {
		t.Inside[0], t.Remote[0] = uint64(s.Key.Src), uint64(s.Key.Dst)
	}
}

// OutsideOf returns the address of a session's outside socket.
func OutsideOf(id flow.ID, s *flow.Session) [2]uint64 {
	_, outside := outsideOf(id, s)
	return outside
}

// OutsideHash returns the hash of the key that the remote sends to the outside socket that
// [State.OutsideID] was last asked about for t, or 0 if it was not asked yet.
func (t *Tuple) OutsideHash() uint64 { return t.outsideHash }

// InsideAddr returns the inside address of a tuple.
func (t *Tuple) InsideAddr() netip.Addr { return netAddr(int(t.Family), t.Inside) }

// RemoteOf returns the remote address of a session.
func RemoteOf(id flow.ID, s *flow.Session) netip.Addr {
	t := TupleOf(id, s)
	return netAddr(int(t.Family), t.Remote)
}

// BegunInside reports whether a session is of a TCP connection that the inside has begun and that
// has not been reset by us.
func BegunInside(s *flow.Session) bool {
	return s.Proto() == wire.ProtoTCP && s.Kind() != flow.KindForwarded && s.Track.Phase() != flow.TCPResetSent && s.Track.Initiator() == flow.Inside
}

// Unpacked returns an address of a family that is held as tuples hold it; see [Packed].
func Unpacked(family uint8, a [2]uint64) netip.Addr { return netAddr(int(family), a) }

// netAddr returns an address of a family that is held as tuples hold it.
func netAddr(family int, a [2]uint64) netip.Addr {
	if family == 0 {
		return flow.NetAddr4(uint32(a[0]))
	}
	return flow.NetAddr6(a)
}

// InsideKey returns the key of the IPv4 packets that the inside socket of an instance sends.
func (t *Tuple) InsideKey(instance uint32) flow.Key {
	return flow.Key{
		Src: uint32(t.Inside[0]), Dst: uint32(t.Remote[0]),
		SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: instance<<8 | uint32(t.Proto),
	}
}

// InsideKey6 is InsideKey for IPv6.
func (t *Tuple) InsideKey6(instance uint32) flow.Key6 {
	return flow.Key6{Src: t.Inside, Dst: t.Remote, SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: instance<<8 | uint32(t.Proto)}
}

// outsideKey makes k the key of the packets that the remote sends to an outside socket,
// without a copy.
func (t *Tuple) outsideKey(k *flow.Key, outside *[2]uint64, port uint16) {
	k.Src, k.Dst = uint32(t.Remote[0]), uint32(outside[0])
	k.SrcPort, k.DstPort, k.VNIProto = t.DestPort, port, uint32(t.Proto)
}

// outsideKey6 is outsideKey for IPv6.
func (t *Tuple) outsideKey6(k *flow.Key6, outside *[2]uint64, port uint16) {
	k.Src, k.Dst = t.Remote, *outside
	k.SrcPort, k.DstPort, k.VNIProto = t.DestPort, port, uint32(t.Proto)
}

// loops reports whether a hairpinned packet would leave with the socket that it is
// sent to.
func (t *Tuple) loops(outside *[2]uint64, port uint16) bool {
	return t.Hairpin && t.DestPort == port && t.Remote == *outside
}

// The protocols as array indexes.
const (
	TCPIndex = iota
	UDPIndex
	NumProtocols
	QueryIndex = NumProtocols // of identifiers
	NumPools   = subscribers.Kinds
)

var _ = [1]struct{}{}[NumPools-QueryIndex-1]

// PoolIndex returns an IP protocol as an array index.
func PoolIndex(proto uint8) int {
	switch proto {
	case wire.ProtoTCP:
		return TCPIndex
	case wire.ProtoICMP, wire.ProtoICMPv6:
		return QueryIndex
	}
	return UDPIndex
}

// TransportIndex is PoolIndex of TCP and UDP, for what is known to be either. It has no
// branches, and is below NumProtocols for any protocol.
func TransportIndex(proto uint8) int {
	if proto == wire.ProtoTCP {
		return TCPIndex
	}
	return UDPIndex
}

// isQuery reports whether a tuple is that of an ICMP query, of either family.
func (t *Tuple) isQuery() bool { return PoolIndex(t.Proto) == QueryIndex }

// outsideOf returns the family and the outside address of a session.
func outsideOf(id flow.ID, s *flow.Session) (family int, outside [2]uint64) {
	if id.Is6() {
		return 1, s.Addrs6().Outside
	}
	return 0, [2]uint64{uint64(s.Outside)}
}

// Packed returns an address as tuples hold it.
func Packed(a netip.Addr) [2]uint64 {
	if a.Is4() {
		return [2]uint64{uint64(flow.Addr4(a))}
	}
	return flow.Addr6(a)
}
