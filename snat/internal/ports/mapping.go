package ports

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// mapping ties an inside socket, and as much of a remote as [Mapping] says, to an
// outside port. It lives as long as it has sessions.
//
// Where the port of that mapping is another's towards some scope, the socket has a
// mapping apart, for this scope only: whoever needs a port towards a scope has a
// second place to look, and never a third, however many mappings the socket has.
type mapping struct {
	instance uint32
	port     uint16
	proto    uint8
	family   uint8
	addr     [2]uint64
	ordinal  uint32 // of the outside port in the instance's pool
	sessions uint32
}

// wideMapping is a mapping of which more has to be known: for which remotes it is,
// and of one that admits sessions from outside, how long it lives without them.
type wideMapping struct {
	mapping
	peer
	anchor flow.ID // see anchor; 0 if there is none
	_      uint32
}

// wide marks the IDs of mappings in a slab of their own.
const wide = 1 << 31

// claim says that a mapping uses its port towards one scope. Another mapping
// may share the port only where there is no claim.
type claim struct {
	destinations.Scope
	mapping  uint32
	sessions uint32
}

var (
	_ [32]byte = [unsafe.Sizeof(mapping{})]byte{}
	_ [64]byte = [unsafe.Sizeof(wideMapping{})]byte{}
	_ [32]byte = [unsafe.Sizeof(claim{})]byte{}
)

// mappings are the mappings and claims of one shard, under its lock. Where each
// flow is mapped on its own there are none: the session is the claim.
type mappings struct {
	hasher   flow.Hasher
	narrow   slab.Slab[mapping]
	wide     slab.Slab[wideMapping]
	apart    int // mappings that are apart
	byInside index.Index
	claims   slab.Slab[claim]
	byScope  index.Index // scope and ordinal
}

func (t *mappings) init(hasher *flow.Hasher, mem *slab.Memory) {
	t.hasher = *hasher
	t.narrow.Init(mem)
	t.wide.Init(mem)
	t.byInside.Init(mem)
	t.claims.Init(mem)
	t.byScope.Init(mem)
}

// hash returns the hash of a key.
func (k *mappingKey) hash(h *flow.Hasher) uint64 {
	socket := flow.Key6{
		Src: k.addr, Dst: [2]uint64{uint64(k.instance), uint64(k.family)},
		SrcPort: k.port, DstPort: k.peer.port, VNIProto: uint32(k.proto),
	}
	if k.peer.apart {
		socket.VNIProto |= 1 << 8
	}
	if k.peer != (peer{}) {
		socket.Dst[0] ^= k.peer.addr[0]
		socket.Dst[1] ^= k.peer.addr[1]
	}
	return h.Hash6(&socket)
}

// at returns the mapping with an ID.
func (t *mappings) at(id uint32) *mapping {
	if id&wide == 0 {
		return t.narrow.At(id)
	}
	return &t.wide.At(id &^ wide).mapping
}

// keyOf returns the key of a mapping.
func (t *mappings) keyOf(id uint32) mappingKey {
	m := t.at(id)
	k := mappingKey{instance: m.instance, port: m.port, proto: m.proto, family: m.family, addr: m.addr}
	if id&wide != 0 {
		k.peer = t.wide.At(id &^ wide).peer
	}
	return k
}

// find returns the mapping with a key, or 0.
func (t *mappings) find(k *mappingKey) uint32 {
	for p := t.byInside.Probe(index.Tag(k.hash(&t.hasher))); ; {
		id := p.Next()
		if id == 0 || t.keyOf(id) == *k {
			return id
		}
	}
}

// toward returns the mapping that an inside socket uses towards a scope, and its
// claim there, or 0 if it has none yet. k names the socket's usual mapping. If
// there is no mapping that it may use, k then names the one to be made.
func (t *mappings) toward(k *mappingKey, s *destinations.Scope) (id, c uint32) {
	apart := *k
	apart.peer = peer{addr: s.Addr, port: s.Port, apart: true}
	if t.apart > 0 {
		if id = t.find(&apart); id != 0 {
			return id, t.claimed(s, int(t.at(id).ordinal))
		}
	}
	if id = t.find(k); id == 0 {
		return 0, 0
	}
	if c = t.claimed(s, int(t.at(id).ordinal)); c != 0 && t.claims.At(c).mapping != id {
		*k = apart
		return 0, 0
	}
	return id, c
}

// add stores a mapping of an outside port, which is to be joined at once. It returns 0
// for want of memory.
func (t *mappings) add(b *Behavior, k *mappingKey, ordinal int) (id uint32) {
	if b.Mapping == EndpointIndependent && !b.Opens && !k.peer.apart {
		if !t.narrow.Ready(wide) {
			return 0
		}
		id = t.narrow.Alloc()
	} else {
		if !t.wide.Ready(wide) {
			return 0
		}
		id = t.wide.Alloc() | wide
		t.wide.At(id &^ wide).peer = k.peer
	}
	*t.at(id) = mapping{instance: k.instance, port: k.port, proto: k.proto, family: k.family, addr: k.addr, ordinal: uint32(ordinal)}
	if !t.byInside.Insert(index.Tag(k.hash(&t.hasher)), id) {
		t.free(id)
		return 0
	}
	if k.peer.apart {
		t.apart++
	}
	return id
}

// end removes a mapping that has no sessions: its port is free for all.
func (t *mappings) end(id uint32) {
	k := t.keyOf(id)
	t.byInside.Remove(index.Tag(k.hash(&t.hasher)), id)
	if k.peer.apart {
		t.apart--
	}
	t.free(id)
}

// free returns the record of a mapping.
func (t *mappings) free(id uint32) {
	if id&wide == 0 {
		t.narrow.Free(id)
	} else {
		t.wide.Free(id &^ wide)
	}
}

// claimHash returns the hash of a scope at an ordinal.
func (t *mappings) claimHash(s *destinations.Scope, ordinal int) uint64 {
	k := flow.Key6{
		Src: s.Addr, Dst: [2]uint64{uint64(s.Instance), uint64(s.Family)<<32 | uint64(ordinal)},
		DstPort: s.Port, VNIProto: uint32(s.Proto) | 1<<8,
	}
	return t.hasher.Hash6(&k)
}

// claimed returns the claim on an ordinal for a scope, or 0.
func (t *mappings) claimed(s *destinations.Scope, ordinal int) uint32 {
	for p := t.byScope.Probe(index.Tag(t.claimHash(s, ordinal))); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		if c := t.claims.At(id); c.Scope == *s && t.at(c.mapping).ordinal == uint32(ordinal) {
			return id
		}
	}
}

// join counts a new session of mapping m towards a scope; c is the claim, or 0
// if this is the first session there. It does nothing for want of memory, which only
// a first one needs, and reports whether there was any.
func (t *mappings) join(m, c uint32, s *destinations.Scope) bool {
	record := t.at(m)
	if c == 0 {
		if c = t.claims.Alloc(); c == 0 {
			return false
		}
		if !t.byScope.Insert(index.Tag(t.claimHash(s, int(record.ordinal))), c) {
			t.claims.Free(c)
			return false
		}
		*t.claims.At(c) = claim{Scope: *s, mapping: m}
	}
	record.sessions++
	t.claims.At(c).sessions++
	return true
}

// leave counts down session id towards a scope of the mapping that uses an ordinal
// there. It reports whether that was the last one of the scope, and whether it was
// the mapping's last one, which has ended then.
func (t *mappings) leave(id flow.ID, s *destinations.Scope, ordinal int) (claimGone, gone bool) {
	c := t.claimed(s, ordinal)
	m := t.claims.At(c).mapping
	if t.claims.At(c).sessions--; t.claims.At(c).sessions == 0 {
		t.byScope.Remove(index.Tag(t.claimHash(s, ordinal)), c)
		t.claims.Free(c)
		claimGone = true
	}
	if m&wide != 0 && t.wide.At(m&^wide).anchor == id {
		t.wide.At(m &^ wide).anchor = 0
	}
	record := t.at(m)
	if record.sessions--; record.sessions == 0 {
		t.end(m)
		gone = true
	}
	return claimGone, gone
}
