// Observation: samples of how full the world is, and who holds the ports.

package whatif

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// refusals are counted by reason.
type refusals struct {
	packets [flow.NumReasons]uint64
	first   [flow.NumReasons]time.Duration
}

func (r *refusals) add(at time.Duration, why flow.Reason) {
	if r.packets[why] == 0 {
		r.first[why] = at
	}
	r.packets[why]++
}

// refuses reports whether anything has been refused.
func (s *Simulation) refuses() bool { return s.refusals.packets != [flow.NumReasons]uint64{} }

// cuts returns how many conversations have been cut or broken.
func (s *Simulation) cuts() (n uint64) {
	for i := range s.streams {
		n += s.streams[i].counts.Cut + s.streams[i].counts.Broken
	}
	return n
}

// peak returns how many ports of a node have been in use at most, of one family and protocol.
func (s *Simulation) peak() (most int) {
	for _, n := range s.world.Instances() {
		for _, p := range n.Pools {
			most = max(most, p.Peak)
		}
	}
	return most
}

// observation is what samples have shown.
type observation struct {
	nodes, frontends []series
	byKey            map[key]int // index of both
	peak             Uses
	peakAt           time.Duration
	attribution
	sinceWalk int // looks
}

// key names a series: of an instance by index, or of a frontend.
type key struct {
	instance int
	frontend netip.Addr
	is6      bool
	protocol snat.Protocol
}

// series is samples of one Fill.
type series struct {
	Fill
	used []int32
}

// of returns the series of a key, new if there is none.
func (o *observation) of(all *[]series, k key, name string) *series {
	i, ok := o.byKey[k]
	if !ok {
		if o.byKey == nil {
			o.byKey = make(map[key]int)
		}
		i = len(*all)
		o.byKey[k] = i
		*all = append(*all, series{Fill: Fill{Name: name, Frontend: k.frontend, Is6: k.is6, Protocol: k.protocol}})
	}
	return &(*all)[i]
}

// add adds a look, which may be a sample.
func (x *series) add(allocated, used, peak int, sample bool) {
	x.Allocated, x.Peak = allocated, peak
	if sample || len(x.used) == 0 {
		x.used = append(x.used, int32(used))
	}
}

// observe looks at the world, and counts that as a sample or not.
func (s *Simulation) observe(o *observation, sample bool) {
	if sample {
		s.foresee(o)
	}
	for i, n := range s.world.Instances() {
		for _, p := range n.Pools {
			o.of(&o.nodes, key{instance: i, is6: p.Is6, protocol: p.Protocol}, n.Name).add(p.Allocated, p.Used, p.Peak, sample)
		}
	}
	u, ours := Uses{}, make(map[netip.Addr]bool)
	for _, f := range s.world.Frontends() {
		ours[f.Frontend] = true
		o.of(&o.frontends, key{frontend: f.Frontend, is6: f.Frontend.Is6(), protocol: f.Protocol}, "").add(f.Allocated, f.Used, f.Peak, sample)
		u.Ports += f.Used
		u.HeldFIN += f.HeldFIN
		u.HeldRST += f.HeldRST
		u.HeldUDP += f.HeldUDP
	}
	// A walk over all flows is not for each sample.
	if o.sinceWalk++; s.plain || u.Ports*100 <= o.peak.Ports*105 || o.sinceWalk < 10 && u.Ports*100 <= o.peak.Ports*125 {
		return
	}
	o.sinceWalk = 0
	for f := range flows(s.world) {
		if ours[f.Outside.Addr()] {
			s.attribute(&u, &f)
		}
	}
	o.peak, o.peakAt = u, s.now.Sub(s.begin)
	s.holdAtPeak(o)
}

// flows returns the flows of a world; none if it does not tell them.
func flows(w World) iter.Seq[flow.Info] {
	switch w := w.(type) {
	case interface{ Sessions() iter.Seq[flow.Info] }:
		return w.Sessions()
	case interface {
		Sessions() iter.Seq[overlay.Session]
	}:
		return func(yield func(flow.Info) bool) {
			for f := range w.Sessions() {
				if !yield(f.Info) {
					return
				}
			}
		}
	}
	return func(func(flow.Info) bool) {}
}

// attribute counts a flow.
func (s *Simulation) attribute(u *Uses, f *flow.Info) {
	udp := f.Proto == wire.ProtoUDP
	var c *conversation
	if i, ok := s.between(addrOf(f.Inside.Addr()), f.Inside.Port(), udp, peer{addrOf(f.Remote.Addr()), f.Remote.Port()}); ok {
		c = &s.conversations[i]
	}
	switch {
	case udp && f.Class == flow.ClassUDPHeld:
	case udp && c != nil:
		u.UDP++
	case udp:
		u.UDPWaiting++
	case c != nil && (c.state == resting || c.state == probing):
		u.Idle++
	case c != nil || f.Class == flow.ClassTCPOpening: // or given up just now
		u.Busy++
	case f.Class == flow.ClassTCPEstablished:
		u.Abandoned++
	}
}

// Result returns what has happened so far. It changes nothing, so that it does not matter how often
// it is called. Cost: that of [snat.NAT.Instances], Frontends and, if
// there were never so many ports in use, Sessions.
func (s *Simulation) Result() *Result {
	seen := s.seen.clone()
	s.observe(&seen, false)
	r := &Result{
		Until: s.now.Sub(s.begin) + s.unit, Peak: seen.peak, PeakAt: seen.peakAt, Resets: s.resets,
		Outbound: s.carried[flow.Inside][0], OutboundDropped: s.carried[flow.Inside][1],
		Inbound: s.carried[flow.Outside][0], InboundDropped: s.carried[flow.Outside][1],
	}
	for i := range s.streams {
		r.Traffic = append(r.Traffic, s.streams[i].counts)
		r.Total.add(&s.streams[i].counts)
	}
	for why, n := range s.refusals.packets {
		if n > 0 {
			r.Refusals = append(r.Refusals, Refusal{flow.Reason(why), n, s.refusals.first[why]})
		}
	}
	slices.SortStableFunc(r.Refusals, func(a, b Refusal) int { return cmp.Compare(b.Packets, a.Packets) })
	if w, ok := s.world.(interface{ Stranded() []snat.StrandedPorts }); ok {
		r.Stranded = w.Stranded()
	}
	r.Nodes, r.Frontends = fills(seen.nodes), fills(seen.frontends)
	s.attributeTo(r, &seen)
	return r
}

func fills(all []series) []Fill {
	list := make([]Fill, 0, len(all))
	for i := range all {
		f, used := all[i].Fill, slices.Sorted(slices.Values(all[i].used))
		f.P99 = int(used[(99*len(used)+99)/100-1])
		list = append(list, f)
	}
	return list
}
