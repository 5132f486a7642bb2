package forwards

import (
	"iter"
	"math/bits"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Socket is what a target of a forward without Floating answers from.
type Socket struct {
	Instance uint32    // index
	V6       bool      // Addr is IPv6
	Proto    uint8     // IP protocol
	Port     uint16    // 0 is all ports
	Addr     [2]uint64 // inside; IPv4 in the low half of the first word
	Departed bool      // it is no target's any more
}

// sockets finds the forward that a socket answers for: open addressing, a quarter to a half
// of it used. It is immutable once it is made.
type sockets struct {
	slots []slot // a power of two, or none
	anyOf bool   // there are sockets of all ports
	n     int
}

// slot is a socket and the number of its forward plus one; 0 is an empty slot.
type slot struct {
	addr     [2]uint64
	instance uint32
	forward  uint32
	port     uint16
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

// find returns the slot of a socket, or the empty one where it would be.
func (t *sockets) find(instance uint32, v6 bool, addr *[2]uint64, port uint16, proto uint8) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := hash(instance, addr, port, proto); ; i++ {
		s := &t.slots[i&mask]
		if s.forward == 0 || s.addr == *addr && s.port == port && s.proto == proto && s.instance == instance && s.v6 == v6 {
			return s
		}
	}
}

// put enters a socket, unless it is there.
func (t *sockets) put(s *Socket, forward uint32) {
	if 2*(t.n+1) > len(t.slots) {
		was := t.slots
		t.slots = make([]slot, max(16, 2*len(was)))
		for i := range was {
			if w := &was[i]; w.forward != 0 {
				*t.find(w.instance, w.v6, &w.addr, w.port, w.proto) = *w
			}
		}
	}
	if at := t.find(s.Instance, s.V6, &s.Addr, s.Port, s.Proto); at.forward == 0 {
		*at = slot{s.Addr, s.Instance, forward, s.Port, s.Proto, s.V6, s.Departed}
		t.anyOf = t.anyOf || s.Port == 0
		t.n++
	}
}

// Answering returns the number, plus one, of the forward that packets from a socket may be
// answers for, or 0.
func (s *Set) Answering(instance uint32, v6 bool, addr *[2]uint64, port uint16, proto uint8) uint32 {
	if s == nil || s.sockets.n == 0 {
		return 0
	}
	if f := s.sockets.find(instance, v6, addr, port, proto).forward; f != 0 || !s.sockets.anyOf {
		return f
	}
	return s.sockets.find(instance, v6, addr, 0, proto).forward
}

// answers enters the sockets of all targets, and those that was knows besides.
func (s *Set) answers(was *Set, keep func(Socket) bool) {
	for i := range s.all {
		f := &s.all[i]
		for j := range f.Targets {
			f.sockets(&f.Targets[j], func(at Socket) { s.sockets.put(&at, uint32(i+1)) })
		}
	}
	if was == nil {
		return
	}
	frontends := map[netip.Addr]uint32{}
	for i := range s.all {
		frontends[s.all[i].Addr] = s.all[i].Frontend
	}
	for at, f := range was.Sockets() {
		frontend, ok := frontends[f.Addr]
		if !ok {
			continue
		}
		i := s.At(frontend, at.Proto, f.First)
		if i == 0 || s.Get(i).Floating || s.Answering(at.Instance, at.V6, &at.Addr, at.Port, at.Proto) != 0 || !keep(at) {
			continue
		}
		at.Departed = true
		s.sockets.put(&at, i)
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
			at.Port = t.Port
			yield(at)
		case f.AllPorts():
			at.Port = 0
			yield(at)
		default:
			for port := int(f.First); port <= int(f.Last); port++ {
				at.Port = uint16(port)
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

// Sockets iterates over all sockets that are known, and their forwards.
func (s *Set) Sockets() iter.Seq2[Socket, *Forward] {
	return func(yield func(Socket, *Forward) bool) {
		if s == nil {
			return
		}
		for i := range s.sockets.slots {
			if at := &s.sockets.slots[i]; at.forward != 0 {
				if !yield(Socket{at.instance, at.v6, at.proto, at.port, at.addr, at.departed}, s.Get(at.forward)) {
					return
				}
			}
		}
	}
}
