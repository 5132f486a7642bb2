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
	sources := map[uint32]fragmentSource{}
	for state, l := range f.lists {
		prev, since := uint32(0), flow.Time(0)
		for id := l.head; id != 0; id = f.datagrams.At(id).next {
			datagrams++
			d := f.datagrams.At(id)
			if d.state != fragmentState(state) || d.prev != prev || d.since < since || f.find(&d.key) != id || f.sourceOf(&d.key) != d.source {
				panic(fmt.Sprintf("snat: datagram %d is not where it belongs: %+v", id, *d))
			}
			if d.action == flow.Forward && f.nat.icmp.Errors {
				if k := d.left(); f.findLeft(&k) == nil {
					panic(fmt.Sprintf("snat: datagram %d is not found by what it left as: %+v", id, *d))
				}
			}
			prev, since = id, d.since
			s := sources[d.source]
			if s.all++; d.state != spent {
				s.count[state]++
			}
			sources[d.source] = s
			count, received, end, last := 0, 0, -1, uint32(0)
			for at := d.pieces; at != 0; at = f.pieces.At(at).next {
				q := f.pieces.At(at)
				if int(q.start) < end || q.end <= q.start || q.cell != 0 && d.state != waiting {
					panic(fmt.Sprintf("snat: piece %+v after %d of datagram %+v", *q, end, *d))
				}
				packet(q)
				count, received, end, last = count+1, received+int(q.end-q.start), int(q.end), at
			}
			if count != int(d.count) || last != d.last || d.state != spent && received != int(d.received) ||
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
	if pieces != f.pieces.Len() || cells != f.cells.Len() || queued != f.queued ||
		datagrams != f.datagrams.Len() || len(sources) != f.sources.Len() ||
		datagrams > f.limits.MaxDatagrams || cells > f.maxCells {
		panic(fmt.Sprintf("snat: %d datagrams, %d sources, %d pieces, %d cells, %d queued; counted %d, %d, %d, %d, %d",
			datagrams, len(sources), pieces, cells, queued, f.datagrams.Len(), f.sources.Len(), f.pieces.Len(), f.cells.Len(), f.queued))
	}
}
