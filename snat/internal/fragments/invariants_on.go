//go:build natplane_invariants

package fragments

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
)

// check recounts lists, sources, pieces and cells and panics if any counter, index
// entry or byte disagrees. It is O(datagrams + pieces).
func (t *Table) check() {
	pieces, cells, queued, datagrams := 0, 0, 0, 0
	packet := func(q *piece) {
		if q.cell == 0 {
			return
		}
		left := int(q.size)
		for c := q.cell; c != 0; c = t.cells.At(c).next {
			cells++
			left -= cellSize
		}
		if left > 0 || left <= -cellSize {
			panic(fmt.Sprintf("fragments: cells of a fragment of %d bytes end with %d bytes to go", q.size, left))
		}
		queued++
	}
	sources, owners := map[uint32]sourceRecord{}, map[uint32]*ownerCount{}
	for at, l := range t.lists {
		prev, since := uint32(0), flow.Time(0)
		for id := l.head; id != 0; id = t.datagrams.At(id).in[inStage].next {
			datagrams++
			d := t.datagrams.At(id)
			if d.stage != stage(at) || d.in[inStage].prev != prev || d.since < since ||
				!t.unfound && (t.find(&d.key) != id || t.sourceOf(&d.key, t.owners.At(t.sources.At(d.source).owner).name) != d.source) {
				panic(fmt.Sprintf("fragments: datagram %d is not where it belongs: %+v", id, *d))
			}
			if d.action == flow.Forward && t.recall && !t.unfound {
				if k := d.left(); t.findLeft(d.since, &k) == nil {
					panic(fmt.Sprintf("fragments: datagram %d is not found by what it left as: %+v", id, *d))
				}
			}
			prev, since = id, d.since
			s := sources[d.source]
			if s.all++; d.stage != spent {
				s.count[at]++
			}
			sources[d.source] = s
			owner := t.sources.At(d.source).owner
			if owners[owner] == nil {
				owners[owner] = &ownerCount{sources: map[uint32]bool{}}
			}
			owners[owner].add(d)
			count, received, end, last, queuedCells := 0, 0, -1, uint32(0), 0
			for at := d.pieces; at != 0; at = t.pieces.At(at).next {
				q := t.pieces.At(at)
				if int(q.start) < end || q.end <= q.start || q.cell != 0 && d.stage != waiting {
					panic(fmt.Sprintf("fragments: piece %+v after %d of datagram %+v", *q, end, *d))
				}
				was := cells
				packet(q)
				queuedCells += cells - was
				count, received, end, last = count+1, received+int(q.end-q.start), int(q.end), at
			}
			if count != int(d.count) || queuedCells != int(d.cells) || last != d.last || d.stage != spent && received != int(d.received) ||
				d.stage == spent && count != 0 || d.stage == open && d.received == d.total {
				panic(fmt.Sprintf("fragments: %d pieces of %d bytes in datagram %+v", count, received, *d))
			}
			pieces += count
		}
		if prev != l.tail {
			panic(fmt.Sprintf("fragments: list %d ends with %d, not %d", at, prev, l.tail))
		}
	}
	for id := t.leaving.head; id != 0; id = t.releases.At(id).next {
		for at := t.releases.At(id).pieces; at != 0; at = t.pieces.At(at).next {
			pieces++
			packet(t.pieces.At(at))
		}
	}
	for id, want := range sources {
		if s := t.sources.At(id); s.count != want.count || s.all != want.all {
			panic(fmt.Sprintf("fragments: source %+v has %+v", *s, want))
		}
	}
	t.checkOwners(owners)
	if pieces != t.pieces.Len() || cells != t.cells.Len() || queued != t.queued ||
		datagrams != t.datagrams.Len() || len(sources) != t.sources.Len() ||
		datagrams > t.limits.MaxDatagrams || cells > t.maxCells {
		panic(fmt.Sprintf("fragments: %d datagrams, %d sources, %d pieces, %d cells, %d queued; counted %d, %d, %d, %d, %d",
			datagrams, len(sources), pieces, cells, queued, t.datagrams.Len(), t.sources.Len(), t.pieces.Len(), t.cells.Len(), t.queued))
	}
}

// ownerCount is what an owner turns out to have.
type ownerCount struct {
	load    [numLoads]uint32
	sources map[uint32]bool
}

// add counts a datagram.
func (c *ownerCount) add(d *datagram) {
	c.sources[d.source] = true
	c.load[cellLoad] += uint32(d.cells)
	if d.stage != spent {
		c.load[datagramLoad]++
	}
}

// checkOwners panics if any owner has something else than it turns out to have, or
// is not where it belongs in a rank.
func (t *Table) checkOwners(want map[uint32]*ownerCount) {
	if len(want) != t.owners.Len() || len(want) != len(t.ranks[datagramLoad]) || len(want) != len(t.ranks[cellLoad]) {
		panic(fmt.Sprintf("fragments: %d owners of fragments, counted %d, ranked %d and %d", len(want), t.owners.Len(), len(t.ranks[datagramLoad]), len(t.ranks[cellLoad])))
	}
	for id, c := range want {
		if o := t.owners.At(id); o.load != c.load || int(o.sources) != len(c.sources) {
			panic(fmt.Sprintf("fragments: owner %+v has %+v", *o, *c))
		}
	}
	for m, h := range t.ranks {
		for i, id := range h {
			if t.owners.At(id).place[m] != uint32(i) || i > 0 && t.above(id, h[(i-1)/2], load(m)) {
				panic(fmt.Sprintf("fragments: owner %+v is at place %d of rank %d", *t.owners.At(id), i, m))
			}
		}
	}
	for at := range stage(numLive) {
		for id := range want {
			t.checkList(t.owners.At(id).lists[at], inOwner, at)
		}
	}
	for id := t.lists[waiting].head; id != 0; id = t.datagrams.At(id).in[inStage].next {
		t.checkList(t.sources.At(t.datagrams.At(id).source).lists[waiting], inSource, waiting)
	}
}

// checkList panics if a list of a kind is not in order, or has datagrams of another
// stage.
func (t *Table) checkList(l list, kind int, at stage) {
	prev, since := uint32(0), flow.Time(0)
	for id := l.head; id != 0; id = t.datagrams.At(id).in[kind].next {
		if d := t.datagrams.At(id); d.stage != at || d.in[kind].prev != prev || d.since < since {
			panic(fmt.Sprintf("fragments: datagram %d is not where it belongs in list %d: %+v", id, kind, *d))
		}
		prev, since = id, t.datagrams.At(id).since
	}
	if prev != l.tail {
		panic(fmt.Sprintf("fragments: list ends with %d, not %d", prev, l.tail))
	}
}
