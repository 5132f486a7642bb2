package forwards

import (
	"cmp"
	"iter"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Socket is what a target of a forward without Floating answers from.
type Socket struct {
	Forward  uint32    // its number, plus one, in the set that the socket is of
	Instance uint32    // index
	V6       bool      // Addr is IPv6
	Proto    uint8     // IP protocol
	Port     uint16    // 0 is all ports
	Addr     [2]uint64 // inside; IPv4 in the low half of the first word
	Outside  uint16    // the frontend's port that its flows come by; 0 where Port is
	Departed bool      // it is no target's any more
}

// sockets finds the forwards that a socket answers for: open addressing, a quarter to a half
// of it used. It is immutable once it is made. Those that have a socket in common have the
// same shards, so that an answer's session is found by any of them.
type sockets struct {
	slots []slot // a power of two, or none
	anyOf bool   // there are sockets of all ports
	n     int
	ports *[2][1 << 16 / 64]uint64 // those of the others, by protocol; nil if there are none
}

// slot is a socket and the number of its forward plus one; 0 is an empty slot.
type slot struct {
	addr     [2]uint64
	instance uint32
	forward  uint32
	port     uint16
	outside  uint16
	proto    uint8
	v6       bool
	departed bool
}

// hash spreads what is configured, which nobody chooses to do harm: machines with
// consecutive numbers, addresses and ports, where the numbers may be the addresses' last
// bits. So each part has a factor or a place of its own before they meet.
func hash(instance uint32, addr *[2]uint64, port uint16, proto uint8) uint64 {
	hi, lo := bits.Mul64(addr[1]^0x9e3779b97f4a7c15, addr[0]^uint64(instance)*0xd6e8feb86659fd93^0xa0761d6478bd642f)
	return (hi ^ lo ^ uint64(port)<<8 ^ uint64(proto)) * 0xbf58476d1ce4e5b9 >> 16
}

// find returns the first slot of a socket, or the empty one where it would be.
func (t *sockets) find(instance uint32, v6 bool, addr *[2]uint64, port uint16, proto uint8) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := hash(instance, addr, port, proto); ; i++ {
		s := &t.slots[i&mask]
		if s.forward == 0 || s.addr == *addr && s.port == port && s.proto == proto && s.instance == instance && s.v6 == v6 {
			return s
		}
	}
}

// findOf returns the slot of a socket with one of its forwards, or the empty one where it
// would be.
func (t *sockets) findOf(s *Socket) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := hash(s.Instance, &s.Addr, s.Port, s.Proto); ; i++ {
		at := &t.slots[i&mask]
		if at.forward == 0 || at.forward == s.Forward && at.outside == s.Outside && at.has(s) {
			return at
		}
	}
}

// has reports whether a slot is for the socket s, of whatever forward.
func (at *slot) has(s *Socket) bool {
	return at.addr == s.Addr && at.port == s.Port && at.proto == s.Proto && at.instance == s.Instance && at.v6 == s.V6
}

// put enters a socket with one of its forwards, unless it is there, and reports whether it was not.
func (t *sockets) put(s *Socket) (entered bool) {
	if 2*(t.n+1) > len(t.slots) {
		was := t.slots
		t.slots = make([]slot, max(16, 2*len(was)))
		for i := range was {
			if was[i].forward != 0 {
				at := was[i].socket()
				*t.findOf(&at) = was[i]
			}
		}
	}
	at := t.findOf(s)
	if entered = at.forward == 0; entered {
		*at = slot{s.Addr, s.Instance, s.Forward, s.Port, s.Outside, s.Proto, s.V6, s.Departed}
		t.n++
		t.note(s.Port, s.Proto)
	}
	return entered
}

// note notes the port of a socket, or all of them.
func (t *sockets) note(port uint16, proto uint8) {
	if port == 0 {
		t.anyOf = true
		return
	}
	if t.ports == nil {
		t.ports = new([2][1 << 16 / 64]uint64)
	}
	t.ports[protocol(proto)][port/64] |= 1 << (port % 64)
}

// has reports whether a port, not all of them, is that of a socket.
func (t *sockets) has(port uint16, proto uint8) bool {
	return t.ports != nil && t.ports[protocol(proto)][port/64]>>(port%64)&1 != 0
}

// socket returns what a slot has.
func (s *slot) socket() Socket {
	return Socket{s.forward, s.instance, s.v6, s.proto, s.port, s.addr, s.outside, s.departed}
}

// Answering returns the number, plus one, of a forward that packets from a socket may be
// answers for, or 0. There may be others, which have the same shards.
func (s *Set) Answering(instance uint32, v6 bool, addr *[2]uint64, port uint16, proto uint8) uint32 {
	if s == nil || s.sockets.n == 0 {
		return 0
	}
	if f := s.sockets.find(instance, v6, addr, port, proto).forward; f != 0 || !s.sockets.anyOf {
		return f
	}
	return s.sockets.find(instance, v6, addr, 0, proto).forward
}

// Seeks returns the number, plus one, of a forward in whose shards packets from a socket are
// sought as answers, or 0 if they are none. All that an instance with a target sends asks this,
// so a bit for the port decides where it can: if each forward has all shards, any of them will
// do, and what has no more in common with a target's socket than the port is sought in vain. The
// words are those of the address.
func (s *Set) Seeks(instance uint32, v6 bool, high, low uint64, port uint16, proto uint8) uint32 {
	if s == nil {
		return 0
	}
	has := s.sockets.has(port, proto)
	if has && s.everywhere != 0 {
		return 1
	}
	if !has && !s.sockets.anyOf {
		return 0
	}
	return s.Answering(instance, v6, &[2]uint64{high, low}, port, proto)
}

// Answers reports whether packets from a socket are sought as answers for its forward, which
// has flows there by the frontend's port at.Outside.
func (s *Set) Answers(at Socket) bool {
	first := s.Answering(at.Instance, at.V6, &at.Addr, at.Port, at.Proto)
	return first != 0 && (first == at.Forward || slices.Equal(s.Get(first).Shards, s.Get(at.Forward).Shards)) && s.of(at).forward != 0
}

// Departed reports whether flows of a forward at a socket, by the frontend's port at.Outside,
// are without a target that gets new ones.
func (s *Set) Departed(at Socket) bool { return s.of(at).departed }

// of returns the slot that a socket, which has a port, has with its forward, or that of all ports.
func (s *Set) of(at Socket) *slot {
	if slot := s.sockets.findOf(&at); slot.forward != 0 {
		return slot
	}
	at.Port, at.Outside = 0, 0
	return s.sockets.findOf(&at)
}

// answers enters the sockets of all targets, and after them former ones, by their numbers in was.
func (s *Set) answers(was *Set, former []Socket) {
	for i := range s.all {
		f := &s.all[i]
		for j := range f.Targets {
			f.sockets(&f.Targets[j], func(at Socket) {
				at.Forward = uint32(i + 1)
				s.sockets.put(&at)
			})
		}
	}
	frontends := map[netip.Addr]uint32{}
	for i := range s.all {
		frontends[s.all[i].Addr] = s.all[i].Frontend
	}
	var departed []Socket
	for _, at := range former {
		if frontend, ok := frontends[was.Get(at.Forward).Addr]; ok {
			s.heirs(frontend, at, func(heir Socket) { departed = append(departed, heir) })
		}
	}
	slices.SortStableFunc(departed, func(a, b Socket) int { return cmp.Compare(a.Forward, b.Forward) })
	for i := range departed {
		at := &departed[i]
		if s.joins(at) {
			s.departs = s.sockets.put(at) || s.departs
		}
	}
}

// joins reports whether a departed socket can be entered beside those that there are: all that have it have
// the same shards, and it is not that of a target of another forward of the frontend.
func (s *Set) joins(at *Socket) bool {
	has := s.Answering(at.Instance, at.V6, &at.Addr, at.Port, at.Proto)
	return has == 0 || slices.Equal(s.Get(has).Shards, s.Get(at.Forward).Shards) && !s.isOfAnother(at)
}

// heirs yields a former socket of a frontend as that of the forwards which have its ports now,
// those without Floating.
func (s *Set) heirs(frontend uint32, at Socket, yield func(Socket)) {
	at.Departed = true
	first, last := int(at.Outside), int(at.Outside)
	if at.Outside == 0 {
		first, last = 1, 65535
	}
	for port := first; port <= last; port++ {
		if at.Forward = s.At(frontend, at.Proto, uint16(port)); at.Forward == 0 {
			continue
		}
		f := s.Get(at.Forward)
		switch {
		case f.Floating:
		case first == last:
			yield(at)
		case f.AllPorts(): // no other one has any then
			yield(at)
			return
		default:
			at.Port, at.Outside = uint16(port), uint16(port)
			yield(at)
		}
	}
}

// isOfAnother reports whether a socket is that of a target of another forward of the same
// frontend as its own.
func (s *Set) isOfAnother(at *Socket) bool {
	of, mask := *at, uint64(len(s.sockets.slots)-1)
	for _, of.Port = range [...]uint16{at.Port, 0} {
		for i := hash(of.Instance, &of.Addr, of.Port, of.Proto); ; i++ {
			slot := &s.sockets.slots[i&mask]
			if slot.forward == 0 {
				break
			}
			if slot.forward != at.Forward && !slot.departed && slot.has(&of) && s.Get(slot.forward).Addr == s.Get(at.Forward).Addr {
				return true
			}
		}
	}
	return false
}

// share notes which forwards have sockets in common.
func (s *Set) share() {
	for i := range s.sockets.slots {
		at := &s.sockets.slots[i]
		if at.forward == 0 {
			continue
		}
		for _, port := range [...]uint16{at.port, 0} {
			if other := s.sockets.find(at.instance, at.v6, &at.addr, port, at.proto).forward; other != 0 && other != at.forward {
				s.Get(at.forward).shares, s.Get(other).shares = true, true
			}
		}
	}
}

// sockets yields the sockets of a target.
func (f *Forward) sockets(t *Target, yield func(Socket)) {
	if f.Floating {
		return
	}
	at := Socket{Instance: t.Instance, V6: f.Addr.Is6(), Addr: t.Addr}
	for _, proto := range f.protocols() {
		at.Proto = proto
		switch {
		case t.Port != 0:
			at.Port, at.Outside = t.Port, f.First
			yield(at)
		case f.AllPorts():
			at.Port, at.Outside = 0, 0
			yield(at)
		default:
			for port := int(f.First); port <= int(f.Last); port++ {
				at.Port, at.Outside = uint16(port), uint16(port)
				yield(at)
			}
		}
	}
}

// protocols returns the IP protocols of f.
func (f *Forward) protocols() []uint8 {
	switch {
	case f.TCP && f.UDP:
		return []uint8{wire.ProtoTCP, wire.ProtoUDP}
	case f.UDP:
		return []uint8{wire.ProtoUDP}
	}
	return []uint8{wire.ProtoTCP}
}

// Departs reports whether there may be sockets that are departed.
func (s *Set) Departs() bool { return s != nil && s.departs }

// Sockets iterates over the sockets of all targets.
func (s *Set) Sockets() iter.Seq[Socket] {
	return func(yield func(Socket) bool) {
		if s == nil {
			return
		}
		for i := range s.sockets.slots {
			if at := &s.sockets.slots[i]; at.forward != 0 && !at.departed && !yield(at.socket()) {
				return
			}
		}
	}
}
