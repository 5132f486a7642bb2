package forwards

import "github.com/seed-a61be3fe/natplane/internal/wire"

// Recent remembers for a few sockets of frontends, those of IPv4 that floating targets have just
// answered from, which forward they are of: answers come in runs, and a batch asks for each once.
// It knows one set and one realm: who changes either calls Reset. The zero Recent knows nothing.
type Recent struct {
	some  bool
	slots [8]recentSlot // by a hash of the socket
}

type recentSlot struct {
	socket uint64 // see recentSocket
	number uint32 // of the forward, plus one; 0 is a free slot
}

// recentSocket packs a socket.
func recentSocket(addr uint32, port uint16, proto uint8) uint64 {
	return uint64(addr)<<32 | uint64(port)<<16 | uint64(proto)
}

// slot returns where a socket is, if it is known.
func (r *Recent) slot(socket uint64) *recentSlot {
	return &r.slots[socket*0x9e3779b97f4a7c15>>61]
}

// Reset forgets all.
func (r *Recent) Reset() {
	if r.some {
		*r = Recent{}
	}
}

// Of returns Get for the source of a packet, if it is a whole one of TCP or UDP over IPv4 and the
// parser has found no problem with it, else 0. It is inlined where nothing is known.
func (r *Recent) Of(problem wire.Problem, p *wire.Packet) uint32 {
	if !r.some {
		return 0
	}
	return r.of(problem, p)
}

func (r *Recent) of(problem wire.Problem, p *wire.Packet) uint32 {
	if problem != wire.OK || p.Flags != 0 || p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		return 0
	}
	return r.Get(p.IPv4().Src(), uint16(p.Ports()>>16), p.Proto)
}

// Get returns the number, plus one, of the forward that a socket is of, or 0 if that is not known.
func (r *Recent) Get(addr uint32, port uint16, proto uint8) uint32 {
	socket := recentSocket(addr, port, proto)
	if s := r.slot(socket); s.socket == socket {
		return s.number
	}
	return 0
}

// Put notes what Get is to return. Another socket may be forgotten for it.
func (r *Recent) Put(addr uint32, port uint16, proto uint8, number uint32) {
	socket := recentSocket(addr, port, proto)
	*r.slot(socket) = recentSlot{socket, number}
	r.some = true
}
