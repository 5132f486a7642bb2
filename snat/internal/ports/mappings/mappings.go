// Package mappings remembers which inside socket has which outside port, and towards whom.
//
// Terminology:
//   - Mapping: an inside socket's outside port. It lives as long as it has sessions.
//   - Key: what names a mapping: the inside socket, and as much of a remote as it is for.
//   - Claim: that a mapping uses its port towards one scope (package destinations). Another mapping may
//     have the same port only where there is no claim.
//   - Anchor: the session of a mapping that strangers cannot outlive.
//
// It refuses to know who has which port, and what sessions are. A [Table] is part of what the lock of
// one shard guards.
package mappings

import (
	"fmt"
	"iter"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// Key names a mapping.
type Key struct {
	Instance uint32
	Port     uint16 // of the inside
	Proto    uint8
	Family   uint8
	Addr     [2]uint64 // of the inside
	Peer     Peer
}

// Peer is the part of a remote that a mapping is for; what it leaves out is zero.
type Peer struct {
	Addr  [2]uint64
	Port  uint16
	Apart bool    // Addr and Port are a scope, for which the socket's usual mapping could not be used
	_     [5]byte // the same size everywhere
}

// Mapping ties an inside socket, and as much of a remote as its key says, to an outside port.
//
// Where the port of that mapping is another's towards some scope, the socket has a
// mapping apart, for this scope only: whoever needs a port towards a scope has a
// second place to look, and never a third, however many mappings the socket has.
type Mapping struct {
	Instance uint32
	Port     uint16
	Proto    uint8
	Family   uint8
	Addr     [2]uint64
	Ordinal  uint32 // of the outside port in the instance's pool
	Sessions uint32
}

// wideMapping is a mapping of which more has to be known: for which remotes it is,
// and of one that admits sessions from outside, how long it lives without them.
type wideMapping struct {
	Mapping
	Peer
	anchor flow.ID // 0 if there is none
	_      uint32
}

// wide marks the IDs of mappings in a slab of their own.
const wide = 1 << 31

// claim says that a mapping uses its port towards one scope.
type claim struct {
	destinations.Scope
	mapping  uint32
	sessions uint32
}

var (
	_ [32]byte = [unsafe.Sizeof(Mapping{})]byte{}
	_ [64]byte = [unsafe.Sizeof(wideMapping{})]byte{}
	_ [32]byte = [unsafe.Sizeof(claim{})]byte{}
)

// Table is the mappings and claims of one shard. Where each flow is mapped on its own there are
// none: the session is the claim.
type Table struct {
	hasher   flow.Hasher
	narrow   slab.Slab[Mapping]
	wide     slab.Slab[wideMapping]
	apart    int // mappings that are apart
	byInside index.Index
	claims   slab.Slab[claim]
	byScope  index.Index // scope and ordinal
}

// Init makes t an empty table that takes its memory from mem.
func (t *Table) Init(hasher *flow.Hasher, mem *slab.Memory) {
	t.hasher = *hasher
	t.narrow.Init(mem)
	t.wide.Init(mem)
	t.byInside.Init(mem)
	t.claims.Init(mem)
	t.byScope.Init(mem)
}

// Close forgets everything. The memory must have been released.
func (t *Table) Close() { t.apart = 0 }

// hash returns the hash of a key.
func (k *Key) hash(h *flow.Hasher) uint64 {
	socket := flow.Key6{
		Src: k.Addr, Dst: [2]uint64{uint64(k.Instance), uint64(k.Family)},
		SrcPort: k.Port, DstPort: k.Peer.Port, VNIProto: uint32(k.Proto),
	}
	if k.Peer.Apart {
		socket.VNIProto |= 1 << 8
	}
	if k.Peer != (Peer{}) {
		socket.Dst[0] ^= k.Peer.Addr[0]
		socket.Dst[1] ^= k.Peer.Addr[1]
	}
	return h.Hash6(&socket)
}

// At returns the mapping with an ID.
func (t *Table) At(id uint32) *Mapping {
	if id&wide == 0 {
		return t.narrow.At(id)
	}
	return &t.wide.At(id &^ wide).Mapping
}

// KeyOf returns the key of a mapping.
func (t *Table) KeyOf(id uint32) Key {
	m := t.At(id)
	k := Key{Instance: m.Instance, Port: m.Port, Proto: m.Proto, Family: m.Family, Addr: m.Addr}
	if id&wide != 0 {
		k.Peer = t.wide.At(id &^ wide).Peer
	}
	return k
}

// Find returns the mapping with a key, or 0.
func (t *Table) Find(k *Key) uint32 {
	for p := t.byInside.Probe(index.Tag(k.hash(&t.hasher))); ; {
		id := p.Next()
		if id == 0 || t.KeyOf(id) == *k {
			return id
		}
	}
}

// Toward returns the mapping that an inside socket uses towards a scope, and its
// claim there, or 0 if it has none yet. k names the socket's usual mapping. If
// there is no mapping that it may use, k then names the one to be made.
func (t *Table) Toward(k *Key, s *destinations.Scope) (id, c uint32) {
	apart := *k
	apart.Peer = Peer{Addr: s.Addr, Port: s.Port, Apart: true}
	if t.apart > 0 {
		if id = t.Find(&apart); id != 0 {
			return id, t.Claimed(s, int(t.At(id).Ordinal))
		}
	}
	if id = t.Find(k); id == 0 {
		return 0, 0
	}
	if c = t.Claimed(s, int(t.At(id).Ordinal)); c != 0 && t.Claimant(c) != id {
		*k = apart
		return 0, 0
	}
	return id, c
}

// Add stores a mapping of an outside port, which is to be joined at once. With plain it is for all remotes,
// and none of them begins sessions. It returns 0 for want of memory.
func (t *Table) Add(plain bool, k *Key, ordinal int) (id uint32) {
	if plain && !k.Peer.Apart {
		if !t.narrow.Ready(wide) {
			return 0
		}
		id = t.narrow.Alloc()
	} else {
		if !t.wide.Ready(wide) {
			return 0
		}
		id = t.wide.Alloc() | wide
		t.wide.At(id &^ wide).Peer = k.Peer
	}
	*t.At(id) = Mapping{Instance: k.Instance, Port: k.Port, Proto: k.Proto, Family: k.Family, Addr: k.Addr, Ordinal: uint32(ordinal)}
	if !t.byInside.Insert(index.Tag(k.hash(&t.hasher)), id) {
		t.free(id)
		return 0
	}
	if k.Peer.Apart {
		t.apart++
	}
	return id
}

// End removes a mapping that has no sessions: its port is free for all.
func (t *Table) End(id uint32) {
	k := t.KeyOf(id)
	t.byInside.Remove(index.Tag(k.hash(&t.hasher)), id)
	if k.Peer.Apart {
		t.apart--
	}
	t.free(id)
}

// free returns the record of a mapping.
func (t *Table) free(id uint32) {
	if id&wide == 0 {
		t.narrow.Free(id)
	} else {
		t.wide.Free(id &^ wide)
	}
}

// claimHash returns the hash of a scope at an ordinal.
func (t *Table) claimHash(s *destinations.Scope, ordinal int) uint64 {
	k := flow.Key6{
		Src: s.Addr, Dst: [2]uint64{uint64(s.Instance), uint64(s.Family)<<32 | uint64(ordinal)},
		DstPort: s.Port, VNIProto: uint32(s.Proto) | 1<<8,
	}
	return t.hasher.Hash6(&k)
}

// Claimed returns the claim on an ordinal for a scope, or 0.
func (t *Table) Claimed(s *destinations.Scope, ordinal int) uint32 {
	for p := t.byScope.Probe(index.Tag(t.claimHash(s, ordinal))); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		if c := t.claims.At(id); c.Scope == *s && t.At(c.mapping).Ordinal == uint32(ordinal) {
			return id
		}
	}
}

// Claimant returns the mapping that has a claim; of claim 0 it is one without sessions.
func (t *Table) Claimant(c uint32) uint32 { return t.claims.At(c).mapping }

// Join counts a new session of mapping m towards a scope; c is the claim, or 0
// if this is the first session there. It does nothing for want of memory, which only
// a first one needs, and reports whether there was any.
func (t *Table) Join(m, c uint32, s *destinations.Scope) bool {
	if c == 0 {
		if c = t.claim(m, s); c == 0 {
			return false
		}
	}
	t.At(m).Sessions++
	t.claims.At(c).sessions++
	return true
}

// claim makes a claim of mapping m for a scope, without sessions. It returns 0 for want of memory.
func (t *Table) claim(m uint32, s *destinations.Scope) (c uint32) {
	if c = t.claims.Alloc(); c == 0 {
		return 0
	}
	if !t.byScope.Insert(index.Tag(t.claimHash(s, int(t.At(m).Ordinal))), c) {
		t.claims.Free(c)
		return 0
	}
	*t.claims.At(c) = claim{Scope: *s, mapping: m}
	return c
}

// Leave counts down session id towards a scope of the mapping that uses an ordinal
// there. It reports whether that was the last one of the scope, and whether it was
// the mapping's last one, which has ended then.
func (t *Table) Leave(id flow.ID, s *destinations.Scope, ordinal int) (claimGone, gone bool) {
	c := t.Claimed(s, ordinal)
	m := t.Claimant(c)
	if t.claims.At(c).sessions--; t.claims.At(c).sessions == 0 {
		t.byScope.Remove(index.Tag(t.claimHash(s, ordinal)), c)
		t.claims.Free(c)
		claimGone = true
	}
	if t.Anchor(m) == id {
		t.SetAnchor(m, 0)
	}
	record := t.At(m)
	if record.Sessions--; record.Sessions == 0 {
		t.End(m)
		gone = true
	}
	return claimGone, gone
}

// Anchor returns the anchor of a mapping, or 0 if it has none.
func (t *Table) Anchor(m uint32) flow.ID {
	if m&wide == 0 {
		return 0
	}
	return t.wide.At(m &^ wide).anchor
}

// SetAnchor replaces what Anchor returns, of a mapping that has one, or could have.
func (t *Table) SetAnchor(m uint32, id flow.ID) {
	if m&wide != 0 {
		t.wide.At(m &^ wide).anchor = id
	}
}

// All iterates over the mappings.
func (t *Table) All() iter.Seq2[uint32, *Mapping] {
	return func(yield func(uint32, *Mapping) bool) {
		for i := t.narrow.Next(0); i != 0; i = t.narrow.Next(i) {
			if m := t.narrow.At(i); m.Sessions > 0 && !yield(i, m) {
				return
			}
		}
		for i := t.wide.Next(0); i != 0; i = t.wide.Next(i) {
			if m := &t.wide.At(i).Mapping; m.Sessions > 0 && !yield(i|wide, m) {
				return
			}
		}
	}
}

// LongestSearch returns how many mappings have to be compared to find one of those that are for some
// remotes by its key, at most. Cost: O(mappings).
func (t *Table) LongestSearch() (longest int) {
	for id := range t.All() {
		if id&wide == 0 {
			continue
		}
		k, steps := t.KeyOf(id), 1
		for p := t.byInside.Probe(index.Tag(k.hash(&t.hasher))); p.Next() != id; steps++ {
		}
		longest = max(longest, steps)
	}
	return longest
}

// Check panics unless the claims have exactly these sessions, and the mappings
// those of their claims.
func (t *Table) Check(joined map[uint32]uint32) {
	onMapping := map[uint32]uint32{}
	for id, want := range joined {
		c := t.claims.At(id)
		if c.sessions != want {
			panic(fmt.Sprintf("mappings: claim %+v has %d sessions", *c, want))
		}
		onMapping[c.mapping] += want
	}
	apart := 0
	for id, want := range onMapping {
		if m := t.At(id); m.Sessions != want {
			panic(fmt.Sprintf("mappings: %+v has %d sessions", *m, want))
		}
		if t.KeyOf(id).Peer.Apart {
			apart++
		}
	}
	if n := t.narrow.Len() + t.wide.Len(); n != len(onMapping) || t.claims.Len() != len(joined) {
		panic(fmt.Sprintf("mappings: %d and %d claims, %d and %d have sessions", n, t.claims.Len(), len(onMapping), len(joined)))
	}
	if apart != t.apart {
		panic(fmt.Sprintf("mappings: %d are apart, counted %d", apart, t.apart))
	}
}
