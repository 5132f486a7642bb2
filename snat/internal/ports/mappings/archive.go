package mappings

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// How mappings get into a snapshot: by their keys and ordinals, and then claims, by the number of their
// mapping in that order, for a session that begins outside joins a mapping whose key is not of its remote.
// How many sessions there are is counted anew, by Restore.

// Archive writes the mappings of t, or reads them, each into the table that of says for its key, which it
// refuses together with an ordinal that there cannot be; plain is as in Add. anchor writes or reads a
// reference to a session. It reports whether there was memory.
func (t *Table) Archive(a *snapshot.Archive, of func(k *Key, ordinal uint32) (at *Table, plain bool), anchor func(id *flow.ID)) bool {
	if a.Writing() {
		t.write(a, anchor)
		return true
	}
	return read(a, of, anchor)
}

func (t *Table) write(a *snapshot.Archive, anchor func(id *flow.ID)) {
	count, number := t.narrow.Len()+t.wide.Len(), uint32(0)
	snapshot.Num(a, &count)
	var numbers [2][]uint32 // of narrow and of wide mappings, by ID
	for id, m := range t.All() {
		k, session, at := t.KeyOf(id), t.Anchor(id), &numbers[id/wide]
		k.archive(a, &m.Ordinal, &session, anchor)
		*at = append(append(*at, make([]uint32, int(id&^wide)-len(*at))...), number)
		number++
	}
	count = t.claims.Len()
	snapshot.Num(a, &count)
	for id := t.claims.Next(0); id != 0; id = t.claims.Next(id) {
		if c := t.claims.At(id); c.sessions > 0 {
			archiveClaim(a, &c.Scope, &numbers[c.mapping/wide][c.mapping&^wide])
		}
	}
}

func read(a *snapshot.Archive, of func(k *Key, ordinal uint32) (at *Table, plain bool), anchor func(id *flow.ID)) bool {
	type place struct {
		*Table
		id uint32
	}
	var places []place
	count := 0
	for snapshot.Num(a, &count); count > 0; count-- {
		var k Key
		ordinal, session := uint32(0), flow.ID(0)
		if k.archive(a, &ordinal, &session, anchor); !a.OK() {
			return true
		}
		at, plain := of(&k, ordinal)
		if !a.OK() || !a.Check(at.findAt(&k, int(ordinal)) == 0, "mapping %+v is there twice", k) {
			return true
		}
		id := at.Add(plain, &k, int(ordinal))
		if id == 0 {
			return false
		}
		if !a.Check(at.KeyOf(id) == k, "mapping %+v is for all remotes, and names one", k) {
			return true
		}
		at.SetAnchor(id, session)
		places = append(places, place{at, id})
	}
	for snapshot.Num(a, &count); count > 0; count-- {
		var s destinations.Scope
		number := uint32(0)
		if archiveClaim(a, &s, &number); !a.Check(int64(number) < int64(len(places)), "a claim of mapping %d of %d", number, len(places)) {
			return true
		}
		at := places[number]
		m := at.At(at.id)
		s.Instance, s.Proto, s.Family = m.Instance, m.Proto, m.Family
		if !a.Check(at.Claimed(&s, int(m.Ordinal)) == 0, "claim %+v is there twice", s) {
			return true
		}
		if at.claim(at.id, &s) == 0 {
			return false
		}
	}
	return true
}

// archiveClaim writes or reads the number of a mapping and the remote towards which it claims its port.
func archiveClaim(a *snapshot.Archive, s *destinations.Scope, number *uint32) {
	snapshot.Num(a, number)
	snapshot.Num(a, &s.Port)
	snapshot.Nums(a, &s.Addr[0], &s.Addr[1])
}

func (k *Key) archive(a *snapshot.Archive, ordinal *uint32, session *flow.ID, anchor func(id *flow.ID)) {
	snapshot.Nums(a, &k.Instance, ordinal)
	snapshot.Nums(a, &k.Port, &k.Peer.Port)
	snapshot.Nums(a, &k.Proto, &k.Family)
	snapshot.Nums(a, &k.Addr[0], &k.Addr[1], &k.Peer.Addr[0], &k.Peer.Addr[1])
	a.Bool(&k.Peer.Apart)
	has := *session != 0
	if a.Bool(&has); has {
		anchor(session)
	}
}

// findAt is Find for a mapping that has an ordinal.
func (t *Table) findAt(k *Key, ordinal int) uint32 {
	for p := t.byInside.Probe(index.Tag(k.hash(&t.hasher))); ; {
		id := p.Next()
		if id == 0 || t.At(id).Ordinal == uint32(ordinal) && t.KeyOf(id) == *k {
			return id
		}
	}
}

// Restore counts a session of an inside socket on an ordinal, towards a scope. It reports whether a mapping
// of the socket has a claim there, and whether it had no session before.
func (t *Table) Restore(addr [2]uint64, port uint16, s *destinations.Scope, ordinal int) (first, ok bool) {
	c := t.Claimed(s, ordinal)
	if c == 0 {
		return false, false
	}
	id := t.Claimant(c)
	m := t.At(id)
	if m.Addr != addr || m.Port != port {
		return false, false
	}
	t.Join(id, c, s) // needs no memory
	return m.Sessions == 1, true
}

// Whole refuses mappings and claims without sessions. It comes when all is read.
func (t *Table) Whole(a *snapshot.Archive) {
	mappings, claims := 0, 0
	for range t.All() {
		mappings++
	}
	for id := t.claims.Next(0); id != 0; id = t.claims.Next(id) {
		if t.claims.At(id).sessions > 0 {
			claims++
		}
	}
	all := t.narrow.Len() + t.wide.Len()
	a.Check(mappings == all, "of %d mappings %d have sessions", all, mappings)
	a.Check(claims == t.claims.Len(), "of %d claims %d have sessions", t.claims.Len(), claims)
}
