package flow

import (
	"net/netip"
	"time"
	"unsafe"
)

// ID names a session within its shard. IDs are recycled: one is valid only
// until the session is removed, and must not be kept across calls that may
// remove sessions. 0 names none. Three of its bits are always 0; see Kind.
type ID uint32

// id6 marks the IDs of IPv6 sessions, which live in a slab of their own.
const id6 ID = 1 << 31

// Is6 reports whether id names an IPv6 session.
func (id ID) Is6() bool { return id&id6 != 0 }

// Session is one tracked conversation: a 64-byte, pointer-free record that
// stays where it is for life. Its roles do not change with packet direction:
//
//	Inside ──► (translator) Outside ──► Remote
//
// Seen from the inside the conversation is Key; seen from the outside it runs
// between Remote and Outside. A session that is not translated has Outside
// equal to Inside. IPv6 sessions keep their addresses in [Addrs6]; the address
// words of the record are then unused.
//
// All fields belong to the shard's lock. The key fields must not change while
// the session is indexed.
type Session struct {
	Key         Key       // inside to remote; VNI is the inside realm
	Outside     uint32    // IPv4 address the remote sees
	OutsidePort uint16    // port the remote sees; of queries the identifier
	Data        [3]uint16 // for the owner of the table, which alone reads it

	last  uint32 // tick of the last packet that restarted the idle timer
	next  ID     // timer list of the slot; see wheel
	prev  ID     // likewise, and the Kind in bits that no ID has
	Track Track  // TCP state and idle class; of other protocols Class, and the rest belongs to the owner of the table
}

// Addrs6 are the addresses of an IPv6 session.
type Addrs6 struct {
	Inside, Remote, Outside [2]uint64 // big-endian halves of each address
}

// session6 is an IPv6 session in two cache lines.
type session6 struct {
	Session
	Addrs6
	_ [16]byte
}

var (
	_ [64]byte  = [unsafe.Sizeof(Session{})]byte{}
	_ [128]byte = [unsafe.Sizeof(session6{})]byte{}
)

// Addrs6 returns the addresses of s, which must be an IPv6 session.
func (s *Session) Addrs6() *Addrs6 {
	return &(*session6)(unsafe.Pointer(s)).Addrs6
}

// Proto returns the IP protocol of s; a free record has protocol 0.
func (s *Session) Proto() uint8 { return uint8(s.Key.VNIProto) }

// MatchInside reports whether s is the IPv4 session that the inside sends k on.
func (s *Session) MatchInside(k *Key) bool { return s.Key == *k }

// MatchOutside reports whether s is the IPv4 session that the remote sends k
// on: k.Src is the remote. The VNI of k is not compared.
func (s *Session) MatchOutside(k *Key) bool {
	return s.Key.Dst == k.Src && s.Outside == k.Dst &&
		s.Key.DstPort == k.SrcPort && s.OutsidePort == k.DstPort && uint8(s.Key.VNIProto) == uint8(k.VNIProto)
}

// MatchAnswer reports whether s is the IPv4 session that the remote sends the reverse of k
// on, as MatchOutside would for that.
func (s *Session) MatchAnswer(k *Key) bool {
	return s.Key.Dst == k.Dst && s.Outside == k.Src &&
		s.Key.DstPort == k.DstPort && s.OutsidePort == k.SrcPort && uint8(s.Key.VNIProto) == uint8(k.VNIProto)
}

// MatchInside6 is MatchInside for an IPv6 session.
func (s *Session) MatchInside6(k *Key6) bool {
	a := s.Addrs6()
	return a.Inside == k.Src && a.Remote == k.Dst &&
		s.Key.SrcPort == k.SrcPort && s.Key.DstPort == k.DstPort && s.Key.VNIProto == k.VNIProto
}

// MatchOutside6 is MatchOutside for an IPv6 session.
func (s *Session) MatchOutside6(k *Key6) bool {
	a := s.Addrs6()
	return a.Remote == k.Src && a.Outside == k.Dst &&
		s.Key.DstPort == k.SrcPort && s.OutsidePort == k.DstPort && uint8(s.Key.VNIProto) == uint8(k.VNIProto)
}

// MatchAnswer6 is MatchAnswer for an IPv6 session.
func (s *Session) MatchAnswer6(k *Key6) bool {
	a := s.Addrs6()
	return a.Remote == k.Dst && a.Outside == k.Src &&
		s.Key.DstPort == k.DstPort && s.OutsidePort == k.SrcPort && uint8(s.Key.VNIProto) == uint8(k.VNIProto)
}

// KeyInside6 returns the key of the packets that the inside of s sends.
func (s *Session) KeyInside6() Key6 {
	a := s.Addrs6()
	return Key6{Src: a.Inside, Dst: a.Remote, SrcPort: s.Key.SrcPort, DstPort: s.Key.DstPort, VNIProto: s.Key.VNIProto}
}

// KeyOutside returns the key of the packets that the remote of s sends, in VNI 0.
func (s *Session) KeyOutside() Key {
	return Key{Src: s.Key.Dst, Dst: s.Outside, SrcPort: s.Key.DstPort, DstPort: s.OutsidePort, VNIProto: uint32(s.Proto())}
}

// KeyOutside6 is KeyOutside for an IPv6 session.
func (s *Session) KeyOutside6() Key6 {
	a := s.Addrs6()
	return Key6{Src: a.Remote, Dst: a.Outside, SrcPort: s.Key.DstPort, DstPort: s.OutsidePort, VNIProto: uint32(s.Proto())}
}

// Info is a session as people read it: a copy, safe to keep.
type Info struct {
	Proto   uint8          // IP protocol: 6 TCP, 17 UDP
	Kind    Kind           // what becomes of its packets
	VNI     uint32         // inside realm
	Inside  netip.AddrPort // the host behind the translator
	Outside netip.AddrPort // what the remote sees; equal to Inside if not translated
	Remote  netip.AddrPort // its peer
	State   string         // TCP state; empty for other protocols
	Class   Class          // idle class
	Idle    time.Duration  // at the time Expire has reached, whole ticks; 0 after a later packet
	Due     Time           // when it ends if no packet comes; not before the time Expire has reached
	Data    [3]uint16      // as in Session
}
