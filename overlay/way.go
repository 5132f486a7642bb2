// The way of a packet: which translator carries it. What each of them does is in compile.go.

package overlay

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// way says who carries a packet.
type way uint8

const (
	byEgress   way = iota // load balancer or NAT gateway; also what nobody can read
	byNodes               // the nodes, inside the network
	toNextHop             // the nodes, and then the next hop of the user's route
	onNode                // nobody: it does not leave its node, or passes it as it is; see staysOnNode
	byService             // first the proxy of a node
	pastNode              // the next hop of the user's route: a node has translated it, and no other does
	byBalancer            // a load balancer or the public address of a node if what this answers came there, else the nodes
	byGateway             // a static gateway
	spoofed               // nobody: no pod has the source
)

// outboundWay decides about a packet that a pod or node sends, by its destination.
func (s *state) outboundWay(pkt []byte) way {
	switch {
	case s.strict && s.spoofs(pkt):
		return spoofed
	case !s.routed && (s.local.Misses(pkt, dst4) || s.local.Misses6(pkt, dst6)):
		return s.toInternet(pkt, byEgress)
	}
	switch local, ok := s.isLocal(pkt, dst4, dst6); {
	case local:
		if w, ok := s.fromBalanced(pkt); ok {
			return w
		}
		if _, stays := s.staysOnNode(pkt); stays {
			return onNode
		}
		return byNodes
	case ok && s.routed:
		return s.toInternet(pkt, toNextHop)
	}
	return s.toInternet(pkt, byEgress)
}

// toInternet returns the way of a packet to the Internet that goes some way unless its pod uses a
// static gateway.
func (s *state) toInternet(pkt []byte, w way) way {
	if s.gateways != nil && s.gateways.Takes(pkt) {
		return byGateway
	}
	return w
}

// inboundWay decides about a packet that arrives: to an address inside the network from
// there it is for the nodes, and so is what the next hop of the user's route sends back.
func (s *state) inboundWay(pkt []byte) way {
	if to, _ := s.isLocal(pkt, dst4, dst6); !to {
		if s.gateways != nil && s.gateways.Owns(pkt) {
			return byGateway
		}
		return byEgress
	}
	from, _ := s.isLocal(pkt, src4, src6)
	switch {
	case s.isBalanced(pkt) && (from || s.routed):
		return byEgress
	case s.isBalanced(pkt):
		return byNodes // who refuse it: nobody outside reaches a private address
	case from:
		if _, stays := s.staysOnNode(pkt); stays {
			return onNode
		}
		return byNodes
	case s.routed:
		return byNodes
	}
	return byEgress
}

// Where addresses are in the headers.
const (
	src4, dst4 = 12, 16
	src6, dst6 = 8, 24
)

// isLocal reports whether the address at a place of a packet is inside the network, and ok
// whether there is one.
func (s *state) isLocal(pkt []byte, at4, at6 int) (local, ok bool) {
	return s.local.Holds(pkt, at4, at6)
}

// Outbound takes a packet that a pod or node of the cluster sends. pkt starts at
// the IP header and is rewritten in place. A verdict of Bypass means that it is not
// translated and nothing is remembered of it, as between pods: deliver it as it is.
func (c *Cluster) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	s := c.state.Load()
	w := c.outboundWay(s, pkt)
	if w == byEgress {
		return c.egress.Outbound(now, pkt)
	}
	return c.outboundOther(now, s, w, pkt)
}

// outboundOther carries what does not go to the Internet by load balancer or gateway.
func (c *Cluster) outboundOther(now flow.Time, s *state, w way, pkt []byte) flow.Verdict {
	if w == byService {
		var v flow.Verdict
		if v, w = c.outboundService(now, s, pkt); w == done {
			return v
		}
		return c.outboundRest(now, s, w, pkt, v.Instance)
	}
	return c.outboundRest(now, s, w, pkt, 0)
}

// outboundWay decides about a packet that a pod or node sends: it may be for a Service, else
// its destination decides.
func (c *Cluster) outboundWay(s *state, pkt []byte) way {
	if c.proxy.Concerns(pkt) != 0 && !(s.strict && s.spoofs(pkt)) {
		return byService
	}
	return s.outboundWay(pkt)
}

// outboundRest is the way of a packet after the proxies of nodes. With pastNode, node is the
// one that has translated it.
func (c *Cluster) outboundRest(now flow.Time, s *state, w way, pkt []byte, node uint32) flow.Verdict {
	switch w {
	case pastNode:
		return c.serviceToNextHop(now, s, node, pkt)
	case spoofed:
		return c.dropSpoof()
	case byEgress:
		return c.egress.Outbound(now, pkt)
	case byGateway:
		return c.toGateway(now, s, pkt)
	case onNode:
		return c.stay(flow.Inside, now, s, pkt)
	case byBalancer:
		if v := c.egress.Outbound(now, pkt); v.Action != flow.Bypass {
			return v
		}
		c.serviced[flow.Inside].WasBypassed.Add(1)
	}
	v := c.nodes.Outbound(now, pkt)
	if s.dns {
		c.asksDNS(now, s, pkt, &v)
	}
	if w == toNextHop && s.config.NextHop != nil && (v.Action == flow.Forward || v.Action == flow.Bypass) {
		instance := v.Instance
		v = s.config.NextHop(now, pkt)
		v.Instance = instance
	}
	return v
}

// Inbound takes a packet that arrives for an outbound IP, a Service, a node or a pod.
// pkt starts at the IP header and is rewritten in place.
func (c *Cluster) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	s := c.state.Load()
	v := c.inboundRest(now, s, pkt)
	if c.proxy.Concerns(pkt) != 0 {
		c.inboundService(now, s, pkt, &v)
	}
	if s.internal.HasHAPorts() {
		c.dropStray(s, pkt, &v)
	}
	return v
}

// inboundRest is the way of a packet before the proxies of nodes.
func (c *Cluster) inboundRest(now flow.Time, s *state, pkt []byte) flow.Verdict {
	return c.inboundBy(now, s, s.inboundWay(pkt), pkt)
}

// inboundBy carries a packet that arrives by its way.
func (c *Cluster) inboundBy(now flow.Time, s *state, w way, pkt []byte) flow.Verdict {
	switch w {
	case byEgress:
		return c.egress.Inbound(now, pkt)
	case byGateway:
		return c.fromGateway(now, s, pkt)
	case onNode:
		return c.stay(flow.Outside, now, s, pkt)
	}
	if s.dns {
		s.machines.Answered(pkt)
	}
	return c.nodes.Inbound(now, pkt)
}

// stay is the way of a packet from a side that passes as it is, for staysOnNode says so. One
// that is malformed, or comes after the end, the nodes' translator drops and counts.
func (c *Cluster) stay(from flow.Side, now flow.Time, s *state, pkt []byte) flow.Verdict {
	var p wire.Packet
	if problem := wire.Parse(pkt, &p); c.closed.Load() || problem != wire.OK && problem != wire.UnsupportedProto {
		if from == flow.Inside {
			return c.nodes.Outbound(now, pkt)
		}
		return c.nodes.Inbound(now, pkt)
	}
	node, _ := s.staysOnNode(pkt)
	c.stayed[from].Add(1)
	return flow.Verdict{Action: flow.Bypass, To: from ^ 1, Instance: uint32(node)}
}

// OutboundBatch does what Outbound does to each packet, in order and faster.
// verdicts must be at least as long as pkts. Packets one after the other that go the same
// way go together, so what is mixed gains less.
func (c *Cluster) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	verdicts = verdicts[:len(pkts)]
	s, idle := c.state.Load(), c.proxy.Idle()
	if !s.strict && !s.routed && s.gateways == nil {
		n := 0
		for n < len(pkts) && (s.local.Misses(pkts[n], dst4) || s.local.Misses6(pkts[n], dst6)) && (idle || c.proxy.Concerns(pkts[n]) == 0) {
			n++
		}
		if n == len(pkts) {
			c.egress.OutboundBatch(now, pkts, verdicts)
			return
		}
	}
	if s.dns {
		for i, pkt := range pkts {
			verdicts[i] = c.Outbound(now, pkt)
		}
		return
	}
	st := stages.Get().(*stage)
	for len(pkts) > 0 {
		k := min(len(pkts), stageSize)
		st.outbound(c, now, s, pkts[:k], verdicts[:k])
		pkts, verdicts = pkts[k:], verdicts[k:]
	}
	st.settle(c)
	stages.Put(st)
}

// InboundBatch does what Inbound does to each packet, in order and faster.
// verdicts must be at least as long as pkts.
func (c *Cluster) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	verdicts = verdicts[:len(pkts)]
	s, n := c.state.Load(), 0
	for n < len(pkts) && s.gateways == nil && (s.local.Misses(pkts[n], dst4) || s.local.Misses6(pkts[n], dst6)) {
		n++
	}
	if n == len(pkts) {
		c.egress.InboundBatch(now, pkts, verdicts)
		c.arrive(now, s, pkts, verdicts)
		return
	}
	if s.dns {
		for i, pkt := range pkts {
			verdicts[i] = c.Inbound(now, pkt)
		}
		return
	}
	for start := 0; start < len(pkts); {
		w, end := s.inboundWay(pkts[start]), start+1
		for end < len(pkts) && s.inboundWay(pkts[end]) == w {
			end++
		}
		run, out := pkts[start:end], verdicts[start:end]
		switch w {
		case byEgress:
			c.egress.InboundBatch(now, run, out)
		case byNodes:
			c.nodes.InboundBatch(now, run, out)
		default:
			for i, pkt := range run {
				out[i] = c.inboundBy(now, s, w, pkt)
			}
		}
		c.arrive(now, s, run, out)
		if s.internal.HasHAPorts() {
			for i, pkt := range run {
				c.dropStray(s, pkt, &out[i])
			}
		}
		start = end
	}
}

// dropSpoof counts a packet refused by the strict check.
func (c *Cluster) dropSpoof() flow.Verdict {
	c.spoofed.Add(1)
	return flow.Verdict{Action: flow.Drop, Reason: flow.ReasonSpoof}
}
