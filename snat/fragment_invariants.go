//go:build natplane_invariants

package snat

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
)

// check recounts lists, sources, pieces and cells and panics if any counter, index
// entry or byte disagrees. It is O(datagrams + pieces).
func (f *fragments) check() {
	pieces, cells, queued, datagrams := 0, 0, 0, 0
	packet := func(q *piece) {
		if q.cell == 0 {
			return
		}
		left := int(q.size)
		for c := q.cell; c != 0; c = f.cells.At(c).next {
			cells++
			left -= cellSize
		}
		if left > 0 || left <= -cellSize {
			panic(fmt.Sprintf("snat: cells of a fragment of %d bytes end with %d bytes to go", q.size, left))
		}
		queued++
	}
	sources, owners := map[uint32]fragmentSource{}, map[uint32]*ownerCount{}
	for state, l := range f.lists {
		prev, since := uint32(0), flow.Time(0)
		for id := l.head; id != 0; id = f.datagrams.At(id).in[inState].next {
			datagrams++
			d := f.datagrams.At(id)
			if d.state != fragmentState(state) || d.in[inState].prev != prev || d.since < since ||
				!f.unfound && (f.find(&d.key) != id || f.sourceOf(&d.key, f.owners.At(f.sources.At(d.source).owner).name) != d.source) {
				panic(fmt.Sprintf("snat: datagram %d is not where it belongs: %+v", id, *d))
			}
			if d.action == flow.Forward && f.nat.icmp.Errors && !f.unfound {
				if k := d.left(); f.findLeft(d.since, &k) == nil {
					panic(fmt.Sprintf("snat: datagram %d is not found by what it left as: %+v", id, *d))
				}
			}
			prev, since = id, d.since
			s := sources[d.source]
			if s.all++; d.state != spent {
				s.count[state]++
			}
			sources[d.source] = s
			owner := f.sources.At(d.source).owner
			if owners[owner] == nil {
				owners[owner] = &ownerCount{sources: map[uint32]bool{}}
			}
			owners[owner].add(d)
			count, received, end, last, queuedCells := 0, 0, -1, uint32(0), 0
			for at := d.pieces; at != 0; at = f.pieces.At(at).next {
				q := f.pieces.At(at)
				if int(q.start) < end || q.end <= q.start || q.cell != 0 && d.state != waiting {
					panic(fmt.Sprintf("snat: piece %+v after %d of datagram %+v", *q, end, *d))
				}
				was := cells
				packet(q)
				queuedCells += cells - was
				count, received, end, last = count+1, received+int(q.end-q.start), int(q.end), at
			}
			if count != int(d.count) || queuedCells != int(d.cells) || last != d.last || d.state != spent && received != int(d.received) ||
				d.state == spent && count != 0 || d.state == open && d.received == d.total {
				panic(fmt.Sprintf("snat: %d pieces of %d bytes in datagram %+v", count, received, *d))
			}
			pieces += count
		}
		if prev != l.tail {
			panic(fmt.Sprintf("snat: list %d ends with %d, not %d", state, prev, l.tail))
		}
	}
	for id := f.leaving.head; id != 0; id = f.releases.At(id).next {
		for at := f.releases.At(id).pieces; at != 0; at = f.pieces.At(at).next {
			pieces++
			packet(f.pieces.At(at))
		}
	}
	for id, want := range sources {
		if s := f.sources.At(id); s.count != want.count || s.all != want.all {
			panic(fmt.Sprintf("snat: source %+v has %+v", *s, want))
		}
	}
	f.checkOwners(owners)
	if pieces != f.pieces.Len() || cells != f.cells.Len() || queued != f.queued ||
		datagrams != f.datagrams.Len() || len(sources) != f.sources.Len() ||
		datagrams > f.limits.MaxDatagrams || cells > f.maxCells {
		panic(fmt.Sprintf("snat: %d datagrams, %d sources, %d pieces, %d cells, %d queued; counted %d, %d, %d, %d, %d",
			datagrams, len(sources), pieces, cells, queued, f.datagrams.Len(), f.sources.Len(), f.pieces.Len(), f.cells.Len(), f.queued))
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
	if d.state != spent {
		c.load[datagramLoad]++
	}
}

// checkOwners panics if any owner has something else than it turns out to have, or
// is not where it belongs in a rank.
func (f *fragments) checkOwners(want map[uint32]*ownerCount) {
	if len(want) != f.owners.Len() || len(want) != len(f.ranks[datagramLoad]) || len(want) != len(f.ranks[cellLoad]) {
		panic(fmt.Sprintf("snat: %d owners of fragments, counted %d, ranked %d and %d", len(want), f.owners.Len(), len(f.ranks[datagramLoad]), len(f.ranks[cellLoad])))
	}
	for id, c := range want {
		if o := f.owners.At(id); o.load != c.load || int(o.sources) != len(c.sources) {
			panic(fmt.Sprintf("snat: owner %+v has %+v", *o, *c))
		}
	}
	for m, h := range f.ranks {
		for i, id := range h {
			if f.owners.At(id).place[m] != uint32(i) || i > 0 && f.above(id, h[(i-1)/2], load(m)) {
				panic(fmt.Sprintf("snat: owner %+v is at place %d of rank %d", *f.owners.At(id), i, m))
			}
		}
	}
	for state := range fragmentState(numLive) {
		for id := range want {
			f.checkList(f.owners.At(id).lists[state], inOwner, state)
		}
	}
	for id := f.lists[waiting].head; id != 0; id = f.datagrams.At(id).in[inState].next {
		f.checkList(f.sources.At(f.datagrams.At(id).source).lists[waiting], inSource, waiting)
	}
}

// checkList panics if a list of a kind is not in order, or has datagrams of another
// state.
func (f *fragments) checkList(l list, kind int, state fragmentState) {
	prev, since := uint32(0), flow.Time(0)
	for id := l.head; id != 0; id = f.datagrams.At(id).in[kind].next {
		if d := f.datagrams.At(id); d.state != state || d.in[kind].prev != prev || d.since < since {
			panic(fmt.Sprintf("snat: datagram %d is not where it belongs in list %d: %+v", id, kind, *d))
		}
		prev, since = id, f.datagrams.At(id).since
	}
	if prev != l.tail {
		panic(fmt.Sprintf("snat: list ends with %d, not %d", prev, l.tail))
	}
}
