package fragments

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Archive writes t, which is locked, or reads it into t, which is empty and which nobody uses yet: records as
// they are, at their indexes; the indexes by key are made anew. It reports whether there was memory.
func (t *Table) Archive(a *snapshot.Archive) bool {
	if t == nil {
		return true
	}
	ok := t.datagrams.Archive(a, func(_ uint32, d *datagram) { a.Value(d, 0) }) &&
		t.sources.Archive(a, func(_ uint32, s *sourceRecord) { a.Value(s, 0) }) &&
		t.owners.Archive(a, func(_ uint32, o *ownerRecord) { a.Value(o, 0) }) &&
		t.pieces.Archive(a, func(_ uint32, p *piece) { a.Value(p, 0) }) &&
		t.cells.Archive(a, func(_ uint32, c *cell) { a.Value(c, 0) }) &&
		t.releases.Archive(a, func(_ uint32, r *release) { a.Value(r, 0) })
	a.Value(&t.ranks, 1<<24)
	a.Value(&t.lists, 0)
	a.Value(&t.leaving, 0)
	snapshot.Num(a, &t.told)
	snapshot.Num(a, &t.queued)
	a.Bool(&t.unfound)
	snapshot.Nums(a, &t.forwarded[0], &t.forwarded[1], &t.bypassed[0], &t.bypassed[1])
	if !ok || a.Writing() || !a.OK() || !t.verify(a.Refuse) {
		return ok
	}
	for id := range t.owners.Used() {
		o := t.owners.At(id)
		a.Check(t.findOwner(o.name) == 0, "owner %#x is there twice", o.name)
		t.insert(&t.byOwner, t.ownerTag(o.name), id)
	}
	for id := range t.datagrams.Used() {
		d := t.datagrams.At(id)
		owner := t.owners.At(t.sources.At(d.source).owner).name
		switch source := t.sourceOf(&d.key, owner); source {
		case d.source:
		case 0:
			t.insert(&t.bySource, t.sourceTag(&d.key, owner), d.source)
		default:
			a.Refuse("source %d of datagrams is also source %d", d.source, source)
		}
		a.Check(t.find(&d.key) == 0, "datagram %d is there twice: %+v", id, *d)
		t.insert(&t.byKey, index.Tag(t.hasher.Hash6(&d.key)), id)
		if d.action == flow.Forward {
			t.remember(id)
		}
		for at := d.pieces; at != 0; at = t.pieces.At(at).next {
			q := t.pieces.At(at)
			p := t.parse(a, q)
			a.Check(p == nil || keyOf(d.from(), d.key.VNI(), p) == d.key && extentOf(p).is(q), "a fragment that waits is of another datagram")
		}
	}
	for id := t.leaving.head; id != 0; id = t.releases.At(id).next {
		for at := t.releases.At(id).pieces; at != 0; at = t.pieces.At(at).next {
			t.parse(a, t.pieces.At(at))
		}
	}
	return true
}

// parse returns the packet of a fragment that is queued, which it refuses if it is none; else nil.
func (t *Table) parse(a *snapshot.Archive, q *piece) *wire.Packet {
	if q.cell == 0 {
		return nil
	}
	var p wire.Packet
	problem := wire.Parse(t.appendTo(nil, q), &p)
	if !a.Check(problem == wire.OK && p.Flags&wire.NonFirst != 0, "a fragment that waits: %v", flow.Reason(problem)) {
		return nil
	}
	return &p
}

// is reports whether a piece is of an extent.
func (e extent) is(q *piece) bool { return e.start == q.start && e.end == q.end }
