package permits

import (
	"cmp"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// archived is a permit in a snapshot.
type archived struct {
	flow Flow
	last flow.Time
	by   begun
}

// Archive writes the permits of t, which is locked, or reads them into t, which has none and which nobody
// uses yet. They come in an order that does not depend on Key.
func (t *Table) Archive(a *snapshot.Archive) {
	var all []archived
	stripes := t.made()
	for i := range stripes {
		if parts := stripes[i].parts.Load(); parts != nil {
			for k := range parts {
				if p := parts[k].slots.Load(); p != nil {
					all = p.appendTo(all)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b archived) int {
		f, g := &a.flow, &b.flow
		return cmp.Or(cmp.Compare(f.Instance, g.Instance), cmp.Compare(f.Proto, g.Proto), slices.Compare(f.Inside[:], g.Inside[:]), slices.Compare(f.Remote[:], g.Remote[:]),
			cmp.Compare(f.InsidePort, g.InsidePort), cmp.Compare(f.RemotePort, g.RemotePort), cmp.Compare(f.Family(), g.Family()))
	})
	snapshot.Slice(a, &all, MaxFlows, func(p *archived) {
		a.Value(p, 0)
		if !a.Writing() && a.Check(p.by <= passedOn, "a permit of side %d", p.by) {
			t.put(p)
		}
	})
}

// appendTo appends the permits to a list.
func (p *slots) appendTo(all []archived) []archived {
	for i := range *p {
		if s := &(*p)[i]; s.state.Load() != free {
			all = append(all, archived{s.flow, flow.Time(s.last.Load()), begun(s.state.Load() - 1)})
		}
	}
	return all
}

// put enters a permit as it was, if there is room: with another Key there may be more of them in a part.
func (t *Table) put(was *archived) {
	hash := was.flow.hash(t.Key)
	s := t.of(hash)
	if s.parts.Load() == nil {
		s.parts.Store(new([parts]part))
	}
	p := s.part(hash)
	if p.n >= p.sweepAt && p.n < maxPerPart {
		p.keep(t.Key, func(*permit) bool { return true })
	}
	if at, used := p.slots.Load().find(&was.flow, hash); !used && p.n < maxPerPart {
		at.flow = was.flow
		at.last.Store(int64(was.last))
		at.state.Store(uint32(was.by) + 1)
		p.n++
	}
}
