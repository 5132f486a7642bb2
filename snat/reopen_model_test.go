package snat_test

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What the model knows of closed connections, when the next one begins on their sockets.

// reopens reports whether a packet from a side begins the next connection of a closed flow, and
// does not answer such a one.
func (m *model) reopens(from flow.Side, f *modelFlow, p packet) bool {
	return f.held() && p.isSYN() && !p.corrupt && !(f.track.Phase() == flow.TCPSynAgain && from != f.track.Initiator())
}

// lasts reports whether a new flow of the inside on the sockets of a closed one would be as that is.
func (m *model) lasts(f *modelFlow, hairpin bool) bool {
	if f.forward > 0 && f.inside == f.outside { // what floats begins nothing
		return true
	}
	row, dst := m.route(f.remote, f.proto), f.remote.Addr()
	own := m.own(f.instance, f.inside.Addr()) == f.inside.Addr()
	switch {
	case row.Action == snat.PassThrough || row.Action == snat.Blackhole:
		return false
	case f.forward > 0:
		return true
	case f.asIs:
		return row.BothWays
	case m.refusesTo(dst, row.Action, hairpin):
		return false
	case row.Action == snat.NodeAddress:
		return f.atNode && f.outside.Addr() == m.own(f.instance, f.inside.Addr()) && (!own || row.BothWays)
	case m.public(f.instance, f.inside.Addr()).IsValid():
		return f.outside.Addr() == m.public(f.instance, f.inside.Addr())
	}
	return !f.atNode
}

// refusesTo reports whether no flow begins inside to a destination by an action.
func (m *model) refusesTo(dst netip.Addr, action snat.RouteAction, hairpin bool) bool {
	return martian(dst) || dst.IsLinkLocalUnicast() && (dst.Is6() || action != snat.NodeAddress) || m.isFrontend(dst) && !hairpin
}

// entersAnew reports whether a SYN from outside finds no flow although one of its sockets is there,
// which is not translated: a tombstone, or a closed one that no row would let in.
func (m *model) entersAnew(f *modelFlow, p packet) bool {
	if !f.asIs || !p.isSYN() || p.corrupt {
		return false
	}
	row := m.route(f.remote, f.proto)
	own := m.own(f.instance, f.inside.Addr()) == f.inside.Addr()
	direct := own && m.public(f.instance, f.inside.Addr()).IsValid()
	remembers := row.BothWays && row.Action != snat.PassThrough && !direct && !m.isFrontend(f.remote.Addr())
	return f.tombstone() || m.reopens(flow.Outside, f, p) && !remembers
}

// giveWay ends a flow, if there is one, that another one takes the place of: a tombstone, or a
// closed one.
func (m *model) giveWay(now flow.Time, f *modelFlow) {
	switch {
	case f == nil:
	case f.tombstone():
		m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool { return g == f })
	default:
		m.gaveWay++
		m.finish(f, now, false)
	}
}

// refuse lets the inside end some connections by RST, as what they have heard last wants it.
func (r *runner) refuse(s *script) {
	for range s.next(4) {
		if len(r.model.flows) == 0 {
			return
		}
		if f := r.model.flows[s.next(len(r.model.flows))]; f.proto == protoTCP && !f.tombstone() {
			r.packet(flow.Inside, packet{proto: protoTCP, flags: flow.RST, seq: f.track.Ack[flow.Outside], src: f.inside, dst: f.remote})
		}
	}
}

// reopen sends the SYN of the next connection on the sockets of some closed flows, from either
// side.
func (r *runner) reopen(s *script) {
	for range 3 {
		var closed []*modelFlow
		for _, f := range r.model.flows {
			if f.proto == protoTCP && (f.held() || f.tombstone()) {
				closed = append(closed, f)
			}
		}
		if len(closed) == 0 {
			return
		}
		f := closed[s.next(len(closed))]
		p, from := packet{proto: protoTCP, flags: flow.SYN, seq: 700_000, src: f.inside, dst: f.remote}, flow.Inside
		if s.next(3) == 0 {
			p.src, p.dst, from = f.remote, f.outside, flow.Outside
		}
		r.packet(from, p)
	}
}

// reroute gives c one more row for a remote, or takes such rows away.
func (s *script) reroute(c *snat.Config) {
	remote := s.remote(s.next(2) == 0).Addr()
	rows := slices.DeleteFunc(slices.Clone(c.Routes), func(r snat.Route) bool { return r.Prefix.IsSingleIP() && r.Prefix.Addr() == remote })
	if s.next(3) > 0 {
		row := snat.Route{Prefix: netip.PrefixFrom(remote, remote.BitLen())}
		row.Action = pick(s, snat.Translate, snat.NodeAddress, snat.PassThrough, snat.Blackhole)
		row.BothWays = row.Action != snat.Blackhole && s.next(2) == 0
		rows = append(rows, row)
	}
	c.Routes = rows
}
