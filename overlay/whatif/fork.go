// Forks: a simulation that goes on twice.

package whatif

import (
	"maps"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Fork returns an independent copy of a simulation that goes on in another world: a fork of its own
// world, or one restored from a snapshot of it, made since the last Advance, perhaps configured anew. Both then do what one alone would
// have done, as far as their worlds do. packets takes the place of Config.Packets, and may be
// nil. Cost: a copy of what goes on at once, and of the samples.
func (s *Simulation) Fork(world World, packets func(at flow.Time, seen flow.Side, pkt []byte)) *Simulation {
	f := *s
	f.world, f.packets = world, packets
	f.sink = f.emitted
	f.hosts = slices.Clone(s.hosts)
	f.streams = slices.Clone(s.streams)
	for i := range f.streams {
		st := &f.streams[i] // destinations, peers and the trace do not change
		st.pools, st.answers = slices.Clone(st.pools), slices.Clone(st.answers)
	}
	f.arrivals = slices.Clone(s.arrivals)
	f.conversations = slices.Clone(s.conversations)
	f.byPort = s.byPort.clone()
	f.agenda = s.agenda.Clone()
	f.out, f.in = newBatch(), newBatch() // between two steps nothing waits in them
	f.seen = s.seen.clone()
	f.consult()
	return &f
}

// clone returns an independent copy.
func (o *observation) clone() observation {
	c := *o
	c.nodes, c.frontends, c.byKey = slices.Clone(o.nodes), slices.Clone(o.frontends), maps.Clone(o.byKey)
	c.foretold, c.byRow = slices.Clone(o.foretold), maps.Clone(o.byRow) // atPeak does not change
	if o.forecast != nil {
		c.forecast = o.forecast.Fork()
	}
	for _, all := range [][]series{c.nodes, c.frontends} {
		for i := range all {
			all[i].used = slices.Clone(all[i].used)
		}
	}
	return c
}
