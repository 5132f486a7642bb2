// The way of packets to and from Services: what the nodes on it do, before or after the
// rest of the way.

package overlay

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/tallies"
)

// outboundService takes a packet that a pod or node sends, if it is for a Service, or the
// answer of an endpoint. The way is done if it has its verdict, else what is left of it.
func (c *Cluster) outboundService(now flow.Time, s *state, pkt []byte) (v flow.Verdict, w way) {
	var it kubeproxy.Item
	if !s.leavesFrom(pkt, &it) {
		return v, s.outboundWay(pkt)
	}
	r, by := kubeproxy.Result{Action: kubeproxy.Pass}, it.Node
	if it.Node >= 0 {
		r = c.proxy.Translate(now, int(it.Node), it.From, &it.Packet)
	}
	if r.Action == kubeproxy.Pass && it.Then >= 0 {
		r, by = c.proxy.Answer(now, int(it.Then), &it.Packet), it.Then
	}
	if r.Action == kubeproxy.Pass {
		return v, s.outboundWay(pkt)
	}
	var t [2]tallies.Tally
	w = c.serviceWay(now, s, pkt, by, r, &t, &v)
	c.serviced[flow.Inside].Add(&t[flow.Inside])
	return v, w
}

// serviceWay says where a packet goes that a node has translated: it has its verdict, or
// goes the rest of a way.
func (c *Cluster) serviceWay(now flow.Time, s *state, pkt []byte, node int32, r kubeproxy.Result, t *[2]tallies.Tally, v *flow.Verdict) way {
	switch r.Action {
	case kubeproxy.Drop:
		c.serviced[flow.Inside].Drops[r.Reason].Add(1)
		c.reject(now, s, pkt, node, r.Reason, flow.Inside)
		*v = flow.Verdict{Action: flow.Drop, Reason: r.Reason, Instance: uint32(node)}
		return done
	case kubeproxy.Forward:
		if r.Node < 0 { // outside of the cluster
			return s.outboundWay(pkt)
		}
		t[flow.Inside].Forwarded++
		*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, New: r.New, Instance: uint32(r.Node)}
		return done
	}
	if s.isAt(pkt, node) {
		t[flow.Inside].Forwarded++
		*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: uint32(node)}
		return done
	}
	w := s.outboundWay(pkt)
	if w == toNextHop {
		if at, _ := s.places.Of(pkt, src4, src6); at != int(node) {
			t[flow.Inside].Forwarded++
			v.Instance = uint32(node)
			return pastNode
		}
	}
	return w
}

// isAt reports whether a packet's destination is at a node: itself, or a pod of it.
func (s *state) isAt(pkt []byte, node int32) bool {
	if s.local.Misses(pkt, dst4) || s.local.Misses6(pkt, dst6) {
		return false
	}
	at, _ := s.places.Of(pkt, dst4, dst6)
	return at == int(node)
}

// reject answers a packet to a Service without endpoints, which a node drops, to the side where it has
// come from. What has come from the Internet has no answer, for the load balancer carries no ICMP.
func (c *Cluster) reject(now flow.Time, s *state, pkt []byte, node int32, why flow.Reason, from flow.Side) {
	var p wire.Packet
	if local, _ := s.isLocal(pkt, src4, src6); why != flow.ReasonNoTarget || !local || wire.Parse(pkt, &p) != wire.OK || p.Flags&wire.NonFirst != 0 {
		return
	}
	if n := s.node(int(node)); n != nil {
		c.rejects.Add(now, uint32(node), n.Addr(p.Flags&wire.V6 != 0), from, &p)
	}
}

// serviceToNextHop sends the answer of a frontend of the load balancer where the user's route
// says. It does not come by the load balancer again, and no node translates it, for its
// source is none of theirs.
func (c *Cluster) serviceToNextHop(now flow.Time, s *state, node uint32, pkt []byte) flow.Verdict {
	v := flow.Verdict{Action: flow.Forward, To: flow.Outside}
	if s.config.NextHop != nil {
		v = s.config.NextHop(now, pkt)
	}
	v.Instance = node
	return v
}

// inboundService takes a packet that has arrived at a node, where v is what the rest of its way
// says: it may be for a Service.
func (c *Cluster) inboundService(now flow.Time, s *state, pkt []byte, v *flow.Verdict) {
	var p wire.Packet
	node, ok := s.arrivesAt(pkt, v, &p)
	if !ok {
		return
	}
	if r := c.proxy.Translate(now, node, kubeproxy.FromWire, &p); r.Action != kubeproxy.Pass {
		var t [2]tallies.Tally
		*v = c.arrived(now, s, pkt, v.Action, int32(node), r, &t)
		for side := range t {
			c.serviced[side].Add(&t[side])
		}
	}
}

// arrived returns the verdict of a packet that a node has translated, after a translator has
// decided on an action.
func (c *Cluster) arrived(now flow.Time, s *state, pkt []byte, was flow.Action, node int32, r kubeproxy.Result, t *[2]tallies.Tally) flow.Verdict {
	if was == flow.Bypass {
		t[flow.Outside].WasBypassed++
	} else {
		t[flow.Outside].WasForwarded++
	}
	switch r.Action {
	case kubeproxy.Drop:
		c.serviced[flow.Outside].Drops[r.Reason].Add(1)
		c.reject(now, s, pkt, node, r.Reason, flow.Outside)
		return flow.Verdict{Action: flow.Drop, Reason: r.Reason, Instance: uint32(node)}
	}
	if r.Action == kubeproxy.Reply || r.Node < 0 {
		var v flow.Verdict
		if w := c.serviceWay(now, s, pkt, node, r, t, &v); w != done {
			return c.outboundRest(now, s, w, pkt, v.Instance)
		}
		return v
	}
	t[flow.Outside].Forwarded++
	return flow.Verdict{Action: flow.Forward, To: flow.Inside, New: r.New, Instance: uint32(r.Node)}
}

// proxiedNodes returns the addresses of nodes by index, as the nodes' proxy wants them: of all,
// or of those that have been in a former state.
func (s *state) proxiedNodes(former *state) [][]netip.Addr {
	all := make([][]netip.Addr, len(s.byIndex))
	for i, n := range s.byIndex {
		if n != nil && (former == nil || former.has(n.Name)) {
			all[i] = n.Addrs
		}
	}
	return all
}
