// A moment: what a simulation has come to so far, and what ports are in use for just then.

package whatif

import "net/netip"

// Moment is a simulation as it stands.
type Moment struct {
	Total Counts // of all conversations so far; without name
	Uses  Uses   // what ports are in use for now
}

// Moment returns the simulation as it stands, so that a course over time can be drawn. It changes
// nothing. Cost: a walk over all sessions of the world.
func (s *Simulation) Moment() Moment {
	var m Moment
	for i := range s.streams {
		m.Total.add(&s.streams[i].counts)
	}
	ours := make(map[netip.Addr]bool)
	for _, f := range s.world.Frontends() {
		ours[f.Frontend] = true
		m.Uses.Ports += f.Used
		m.Uses.HeldFIN += f.HeldFIN
		m.Uses.HeldRST += f.HeldRST
		m.Uses.HeldUDP += f.HeldUDP
	}
	for f := range flows(s.world) {
		if ours[f.Outside.Addr()] {
			s.attribute(&m.Uses, &f)
		}
	}
	return m
}
