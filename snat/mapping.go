package snat

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// mapping ties an inside socket to an outside port for all its destinations
// (RFC 4787 section 4.1, endpoint-independent). It lives as long as it has
// sessions.
type mapping struct {
	instance uint32
	port     uint16
	proto    uint8
	family   uint8
	addr     [2]uint64
	ordinal  uint32 // of the outside port in the instance's pool
	sessions uint32
}

// claim says that a mapping uses its port towards one scope. Another mapping
// may share the port only where there is no claim.
type claim struct {
	scope
	mapping  uint32
	sessions uint32
}

var (
	_ [32]byte = [unsafe.Sizeof(mapping{})]byte{}
	_ [32]byte = [unsafe.Sizeof(claim{})]byte{}
)

// mappings are the mappings and claims of one shard, under its lock. TCP, which
// maps each connection on its own, has none: there the session is the claim.
type mappings struct {
	hasher   *flow.Hasher
	mappings slab.Slab[mapping]
	byInside index.Index
	claims   slab.Slab[claim]
	byScope  index.Index // scope and ordinal
}

func (t *mappings) init(hasher *flow.Hasher, mem *slab.Memory) {
	t.hasher = hasher
	t.mappings.Init(mem)
	t.byInside.Init(mem)
	t.claims.Init(mem)
	t.byScope.Init(mem)
}

// hash returns the hash of the inside socket of m.
func (m *mapping) hash(h *flow.Hasher) uint64 {
	k := flow.Key6{
		Src: m.addr, Dst: [2]uint64{uint64(m.instance), uint64(m.family)},
		SrcPort: m.port, VNIProto: uint32(m.proto),
	}
	return h.Hash6(&k)
}

// find returns the mapping of the inside socket that want names, or 0.
func (t *mappings) find(want *mapping) uint32 {
	for p := t.byInside.Probe(index.Tag(want.hash(t.hasher))); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		m := t.mappings.At(id)
		if m.instance == want.instance && m.port == want.port && m.proto == want.proto &&
			m.family == want.family && m.addr == want.addr {
			return id
		}
	}
}

// add stores a mapping.
func (t *mappings) add(m *mapping) uint32 {
	id := t.mappings.Alloc()
	*t.mappings.At(id) = *m
	t.byInside.Insert(index.Tag(m.hash(t.hasher)), id)
	return id
}

// claimHash returns the hash of a scope at an ordinal.
func (t *mappings) claimHash(s *scope, ordinal int) uint64 {
	k := flow.Key6{
		Src: s.addr, Dst: [2]uint64{uint64(s.instance), uint64(s.family)<<32 | uint64(ordinal)},
		DstPort: s.port, VNIProto: uint32(s.proto) | 1<<8,
	}
	return t.hasher.Hash6(&k)
}

// claimed returns the claim on an ordinal for a scope, or 0.
func (t *mappings) claimed(s *scope, ordinal int) uint32 {
	for p := t.byScope.Probe(index.Tag(t.claimHash(s, ordinal))); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		if c := t.claims.At(id); c.scope == *s && t.mappings.At(c.mapping).ordinal == uint32(ordinal) {
			return id
		}
	}
}

// join counts a new session of mapping m towards a scope; c is the claim, or 0
// if this is the first session there.
func (t *mappings) join(m, c uint32, s *scope) {
	record := t.mappings.At(m)
	record.sessions++
	if c == 0 {
		c = t.claims.Alloc()
		*t.claims.At(c) = claim{scope: *s, mapping: m}
		t.byScope.Insert(index.Tag(t.claimHash(s, int(record.ordinal))), c)
	}
	t.claims.At(c).sessions++
}

// leave counts down a session of the mapping of the inside socket that want
// names, towards a scope. It reports whether that was the last one there, so
// that the port is free for the scope.
func (t *mappings) leave(want *mapping, s *scope) (last bool) {
	m := t.find(want)
	record := t.mappings.At(m)
	c := t.claimed(s, int(record.ordinal))
	if t.claims.At(c).sessions--; t.claims.At(c).sessions == 0 {
		t.byScope.Remove(index.Tag(t.claimHash(s, int(record.ordinal))), c)
		t.claims.Free(c)
		last = true
	}
	if record.sessions--; record.sessions == 0 {
		t.byInside.Remove(index.Tag(record.hash(t.hasher)), m)
		t.mappings.Free(m)
	}
	return last
}
