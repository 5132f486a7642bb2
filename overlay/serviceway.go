// The way of packets to and from Services: what the nodes on it do, before or after the
// rest of the way.

package overlay

import (
	"net/netip"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/snat"
)

// serviceCounts counts the packets that end their way at Services, by the side they came from.
type serviceCounts [2]struct {
	forwarded atomic.Uint64
	drops     [flow.NumReasons]atomic.Uint64

	// What a translator has counted before the proxy of a node took it.
	wasForwarded, wasBypassed atomic.Uint64
}

// addTo adds the counts to those of a translator.
func (n *serviceCounts) addTo(s *snat.Stats) {
	for side, to := range []*snat.PacketStats{&s.Outbound, &s.Inbound} {
		to.Forwarded += n[side].forwarded.Load()
		to.Forwarded -= min(to.Forwarded, n[side].wasForwarded.Load())
		to.Bypassed -= min(to.Bypassed, n[side].wasBypassed.Load())
		for r := range n[side].drops {
			k := n[side].drops[r].Load()
			to.Drops[r] += k
			to.Dropped += k
		}
	}
}

// outboundService takes a packet that a pod or node sends, if it is for a Service, or the
// answer of an endpoint. done is false if the rest of the way is that of any packet.
//
// The first node on the way is the sender's, where the packet may begin a session. The
// other one is the receiver's, if it is of the cluster: there it may be an answer.
func (c *Cluster) outboundService(now flow.Time, s *state, pkt []byte) (v flow.Verdict, done bool) {
	var p wire.Packet
	if wire.Parse(pkt, &p) != wire.OK {
		return v, false
	}
	src, dst := ends(pkt)
	from, inside := s.nodeOf(src)
	if inside {
		origin := kubeproxy.FromPod
		if _, host := s.byAddr[src]; host {
			origin = kubeproxy.FromHost
		}
		if r := c.proxy.Translate(now, from, origin, &p); r.Action != kubeproxy.Pass {
			return c.serviceOutbound(now, s, from, pkt, r), true
		}
	}
	if to, ok := s.nodeOf(dst); ok && (!inside || to != from) {
		if r := c.proxy.Answer(now, to, &p); r.Action != kubeproxy.Pass {
			return c.serviceOutbound(now, s, to, pkt, r), true
		}
	}
	return v, false
}

// serviceOutbound says where a packet goes that a node has translated.
func (c *Cluster) serviceOutbound(now flow.Time, s *state, node int, pkt []byte, r kubeproxy.Result) flow.Verdict {
	switch r.Action {
	case kubeproxy.Drop:
		c.serviced[flow.Inside].drops[r.Reason].Add(1)
		return flow.Verdict{Action: flow.Drop, Reason: r.Reason, Instance: uint32(node)}
	case kubeproxy.Forward:
		c.serviced[flow.Inside].forwarded.Add(1)
		return flow.Verdict{Action: flow.Forward, To: flow.Inside, New: r.New, Instance: uint32(r.Node)}
	}
	if _, dst := ends(pkt); s.isOn(node, dst) {
		c.serviced[flow.Inside].forwarded.Add(1)
		return flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: uint32(node)}
	}
	w := s.outboundWay(pkt)
	if src, _ := ends(pkt); w == toNextHop && !s.isOn(node, src) {
		return c.serviceToNextHop(now, s, node, pkt)
	}
	return c.outboundRest(now, s, w, pkt)
}

// serviceToNextHop sends the answer of a frontend of the load balancer where the user's route
// says. It does not come by the load balancer again, and no node translates it, for its
// source is none of theirs.
func (c *Cluster) serviceToNextHop(now flow.Time, s *state, node int, pkt []byte) flow.Verdict {
	c.serviced[flow.Inside].forwarded.Add(1)
	v := flow.Verdict{Action: flow.Forward, To: flow.Outside}
	if s.config.NextHop != nil {
		v = s.config.NextHop(now, pkt)
	}
	v.Instance = uint32(node)
	return v
}

// isOn reports whether an address is a node's, or of one of its pods.
func (s *state) isOn(node int, a netip.Addr) bool {
	n, ok := s.nodeOf(a)
	return ok && n == node
}

// inboundService takes a packet that has arrived at a node, where v is what the rest of its way
// says: it may be for a Service.
func (c *Cluster) inboundService(now flow.Time, s *state, pkt []byte, v flow.Verdict) flow.Verdict {
	if v.Action == flow.Drop || v.Action == flow.Queued || v.Action == flow.Forward && v.To != flow.Inside {
		return v
	}
	var p wire.Packet
	if wire.Parse(pkt, &p) != wire.OK {
		return v
	}
	node := int(v.Instance)
	if _, dst := ends(pkt); v.Action == flow.Bypass {
		to, ok := s.nodeOf(dst)
		if !ok {
			return v
		}
		node = to
	}
	r := c.proxy.Translate(now, node, kubeproxy.FromWire, &p)
	count := &c.serviced[flow.Outside]
	switch {
	case r.Action == kubeproxy.Pass:
		return v
	case v.Action == flow.Bypass:
		count.wasBypassed.Add(1)
	default:
		count.wasForwarded.Add(1)
	}
	switch r.Action {
	case kubeproxy.Drop:
		count.drops[r.Reason].Add(1)
		return flow.Verdict{Action: flow.Drop, Reason: r.Reason, Instance: uint32(node)}
	case kubeproxy.Reply:
		return c.serviceOutbound(now, s, node, pkt, r)
	}
	count.forwarded.Add(1)
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
