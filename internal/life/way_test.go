package life

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// leg is a stage that a new talk has to have.
type leg struct {
	kind       kind
	node       string // "" if the load balancer chooses it
	masquerade bool   // of byNode
	from       origin // of byProxy, as the next one
	frontend   frontend
}

// way returns the stages of a new talk, and why its first packet is dropped after them, if
// it is: for one of the reasons.
func (m *model) way(proto uint8, client, target netip.AddrPort) (legs []leg, reasons []flow.Reason) {
	from, isPod, inside := m.nodeOf(client.Addr())
	to, toPod, toInside := m.nodeOf(target.Addr())
	proxy := func(node string, from origin) bool {
		f, ok := m.frontendAt(node, proto, target)
		if !ok {
			return false
		}
		if _, reason := m.candidates(node, from, f, client.Addr()); reason != flow.ReasonNone {
			reasons = []flow.Reason{reason}
		} else {
			legs = append(legs, leg{kind: byProxy, node: node, from: from, frontend: f})
		}
		return true
	}
	remembers := func(node string, masquerade bool) {
		far := target.Addr() // seen from the node
		if node != from {
			far = client.Addr()
		}
		if m.forgets(far) {
			return
		}
		legs = append(legs, leg{kind: byNode, node: node, masquerade: masquerade})
	}
	origin := fromHost
	if isPod {
		origin = fromPod
	}
	publicNode, _ := m.isPublic(target.Addr())
	switch {
	case inside && isPod && m.strict && m.podAt(client.Addr()) == "":
		return nil, []flow.Reason{flow.ReasonSpoof}
	case inside && proxy(from, origin):
	case inside && within(target.Addr(), services):
		return nil, []flow.Reason{flow.ReasonRoute}
	case inside && toInside && (isPod && toPod || to == from):
	case inside && toInside && toPod:
		remembers(to, false)
	case inside && toInside:
		remembers(from, isPod)
		remembers(to, false)
		proxy(to, fromWire)
	case inside && isLocal(target.Addr()):
		remembers(from, isPod)
	case inside:
		return m.wayOut(proto, from, isPod, target.Addr())
	case m.nodes[publicNode].Name != "":
		legs = append(legs, leg{kind: oneToOne, node: publicNode})
		if !m.isOpen(proto, client.Addr(), target.Port()) {
			return nil, []flow.Reason{flow.ReasonNSGInbound}
		}
		target = netip.AddrPortFrom(familyOf(m.nodes[publicNode].Addrs, target), target.Port())
		proxy(publicNode, fromWire)
	case !toInside:
		return m.wayIn(proto, client, target)
	case isLocal(client.Addr()):
		remembers(to, false)
		if !toPod {
			proxy(to, fromWire)
		}
	case toPod:
		reasons = []flow.Reason{flow.ReasonNotOurs}
	default:
		reasons = []flow.Reason{flow.ReasonNoFlow}
	}
	if fromInternet := !inside && publicNode == "" && !isLocal(client.Addr()); fromInternet && !toPod && proto == protoICMP {
		reasons = []flow.Reason{flow.ReasonUnsupportedProto}
	}
	return legs, reasons
}

// isOpen reports whether the group of a node lets the Internet to a port: one for host ports, or the node port of
// an internal Service over IPv6, which has no floating IP, for its source ranges.
func (m *model) isOpen(proto uint8, client netip.Addr, port uint16) bool {
	if 40000 <= port && port <= 59999 {
		return true
	}
	for _, s := range m.services {
		if !client.Is6() || !s.isInternal() || !s.has(true) || len(s.LoadBalancerSourceRanges) == 0 || !admitted(s, client) {
			continue
		}
		for _, p := range s.Ports {
			if p.NodePort == port && protocolOf(p.Protocol) == proto {
				return true
			}
		}
	}
	return false
}

// wayOut is the way to the Internet.
func (m *model) wayOut(proto uint8, node string, isPod bool, target netip.Addr) ([]leg, []flow.Reason) {
	if _, ok := m.publicOf(node, target); ok && m.usesPublic() {
		if !isPod {
			return []leg{{kind: oneToOne, node: node}}, nil
		}
		return []leg{{kind: byPublic, node: node}}, nil
	}
	switch m.outbound {
	case overlay.OutboundLoadBalancer:
		if proto == protoICMP {
			return nil, []flow.Reason{flow.ReasonUnsupportedProto}
		}
		return []leg{{kind: byOutbound, node: node}}, nil
	case overlay.OutboundUserDefinedRouting:
		return []leg{{kind: byNode, node: node, masquerade: isPod}}, nil
	case overlay.OutboundNone:
		if proto == protoICMP {
			return nil, []flow.Reason{flow.ReasonUnsupportedProto}
		}
		return nil, []flow.Reason{flow.ReasonNoOutbound}
	}
	return []leg{{kind: byGateway, node: node}}, nil
}

// wayIn is the way to an address of the load balancer.
func (m *model) wayIn(proto uint8, client, target netip.AddrPort) ([]leg, []flow.Reason) {
	f, ok := m.frontendAt("", proto, target)
	if !ok {
		return nil, []flow.Reason{flow.ReasonNoFlow}
	}
	if !admitted(f.service, client.Addr()) {
		return nil, []flow.Reason{flow.ReasonNSGInbound}
	}
	return []leg{{kind: byInbound}, {kind: byProxy, from: fromWire, frontend: f}}, nil
}

// hop is where a packet is after a door.
type hop struct{ src, dst netip.AddrPort }

// remember notes the stages of a new talk whose first packet has been where hops say, and
// says what is wrong with them.
func (m *model) remember(now flow.Time, t *talk, legs []leg, hops []hop, chosen func(t *talk) string) error {
	at := hop{t.client, t.target}
	for _, l := range legs {
		s := &stage{kind: l.kind, node: l.node, proto: t.proto, src: at.src, dst: at.dst, began: now, last: now, heard: [2]flow.Time{now, now}}
		switch l.kind {
		case byNode:
			_, _, inside := m.nodeOf(at.src.Addr())
			s.clientIsInside = inside && m.isOn(l.node, at.src.Addr())
			if l.masquerade {
				at = hops[0]
			}
		case byOutbound, byGateway, byPublic:
			s.clientIsInside, at = true, hops[0]
		case oneToOne:
			if node, _, inside := m.nodeOf(at.src.Addr()); inside {
				public, _ := m.publicOf(node, at.src.Addr())
				at.src = netip.AddrPortFrom(public, at.src.Port())
			} else {
				at.dst = netip.AddrPortFrom(familyOf(m.nodes[l.node].Addrs, at.dst), at.dst.Port())
			}
			continue
		case byInbound:
			s.node = chosen(t)
		case byProxy:
			if at = hops[len(hops)-1]; s.node == "" {
				s.node = t.stages[0].node
			}
		}
		s.asSrc, s.asDst = at.src, at.dst
		if o := m.known(s); o != nil { // of datagrams of somebody else, who had the port before
			m.hangUp(func(t *talk) bool { return slices.Contains(t.stages, o) })
			o.last, t.stages = now, append(t.stages, o)
			continue
		}
		if err := m.permits(now, s, l); err != nil {
			return err
		}
		s.track.Class = flow.ClassUDP
		if t.proto == protoICMP {
			s.track.Class = flow.ClassICMP
		}
		if t.proto == protoTCP {
			rules := flow.RFCRules
			if l.kind == byNode || l.kind == byProxy {
				rules = flow.ConntrackRules
			}
			s.track.OpenBy(rules, s.side(true), t.segment(true, "S", 0))
		}
		t.stages = append(t.stages, s)
		m.stages = append(m.stages, s)
	}
	t.seen, t.server = at.src, at.dst
	return nil
}

// known returns what the receiver's node remembers already of such datagrams, if anything.
func (m *model) known(s *stage) *stage {
	return m.find(func(o *stage) bool {
		return s.kind == byNode && s.proto == protoUDP && !s.clientIsInside && o.kind == byNode && !o.clientIsInside &&
			o.proto == s.proto && o.node == s.node && o.asSrc == s.asSrc && o.asDst == s.asDst
	})
}

// isOn reports whether an address is of a node or one of its pods.
func (m *model) isOn(node string, a netip.Addr) bool {
	name, _, ok := m.nodeOf(a)
	return ok && name == node
}

// side returns the side of a stage's table that client or server is on.
func (s *stage) side(client bool) flow.Side {
	if client == s.clientIsInside {
		return flow.Inside
	}
	return flow.Outside
}

// permits reports what is wrong with what a new stage does to its packets.
func (m *model) permits(now flow.Time, s *stage, l leg) error {
	clash := m.find(func(o *stage) bool {
		return o.kind == s.kind && o.proto == s.proto && o.asSrc == s.asSrc && o.asDst == s.asDst && (s.kind != byNode || o.node == s.node)
	})
	if clash != nil {
		return fmt.Errorf("%v > %v looks like %v > %v to %v", s.src, s.dst, clash.src, clash.dst, s.asDst)
	}
	switch s.kind {
	case byNode:
		return m.permitsNode(s, l)
	case byOutbound:
		return m.permitsOutbound(s)
	case byPublic:
		return m.permitsPublic(s)
	case byProxy:
		return m.permitsProxy(now, s, l)
	}
	return nil
}

func (m *model) permitsNode(s *stage, l leg) error {
	if !l.masquerade {
		return nil
	}
	own := netip.AddrPortFrom(familyOf(m.nodes[l.node].Addrs, s.src), s.src.Port())
	free := m.find(func(o *stage) bool {
		return o.node == s.node && o.proto == s.proto && (o.asSrc == own || o.kind == byNode && !o.clientIsInside && o.dst == own)
	}) == nil
	switch {
	case s.asSrc.Addr() != own.Addr():
		return fmt.Errorf("%v became %v, want %v", s.src, s.asSrc, own)
	case free && s.asSrc != own:
		return fmt.Errorf("%v became %v, though %v was free", s.src, s.asSrc, own)
	}
	return nil
}

// permitsPublic reports what is wrong with the port that a pod has at its node's public address.
func (m *model) permitsPublic(s *stage) error {
	public, _ := m.publicOf(s.node, s.src.Addr())
	own := netip.AddrPortFrom(public, s.src.Port())
	taken := m.find(func(o *stage) bool { return o.kind == byPublic && o.proto == s.proto && o.asSrc == own }) != nil
	if s.asSrc.Addr() != public || s.asSrc != own && !taken {
		return fmt.Errorf("%v became %v, want %v", s.src, s.asSrc, own)
	}
	return nil
}

// familyOf returns the one of two addresses whose family a is of.
func familyOf(of []netip.Addr, a netip.AddrPort) netip.Addr {
	if a.Addr().Is6() {
		return of[1]
	}
	return of[0]
}

func (m *model) permitsOutbound(s *stage) error {
	if !owns(m.granted[s.node], s.proto, s.asSrc) {
		return fmt.Errorf("%v is no port of %v", s.asSrc, s.node)
	}
	if o := m.sharer(s.proto, s.asSrc, s.src, s.dst); o != nil {
		return fmt.Errorf("%v for %v > %v is that of %v > %v", s.asSrc, s.src, s.dst, o.src, o.dst)
	}
	return nil
}

// owns reports whether a port is one of those granted.
func owns(granted []snat.PortRange, proto uint8, at netip.AddrPort) bool {
	return slices.ContainsFunc(granted, func(r snat.PortRange) bool {
		return r.Frontend == at.Addr() && (r.Protocol == snat.All || protocolOf(r.Protocol) == proto) &&
			at.Port() >= r.First && int(at.Port()) < int(r.First)+r.Count
	})
}

// sharer returns a flow that keeps another one, between src and dst, from an outbound port.
func (m *model) sharer(proto uint8, port, src, dst netip.AddrPort) *stage {
	return m.find(func(o *stage) bool {
		if o.kind != byOutbound || o.proto != proto || o.asSrc != port {
			return false
		}
		if proto == protoUDP {
			return o.src != src && o.dst.Addr() == dst.Addr()
		}
		return o.dst == dst
	})
}

// usable reports whether a node has a port for a new flow.
func (m *model) usable(node string, proto uint8, src, dst netip.AddrPort) bool {
	for _, r := range m.granted[node] {
		if r.Frontend.Is6() != src.Addr().Is6() || r.Protocol != snat.All && protocolOf(r.Protocol) != proto {
			continue
		}
		for i := range r.Count {
			if m.sharer(proto, netip.AddrPortFrom(r.Frontend, r.First+uint16(i)), src, dst) == nil {
				return true
			}
		}
	}
	return false
}

func (m *model) permitsProxy(now flow.Time, s *stage, l leg) error {
	all, _ := m.candidates(s.node, l.from, l.frontend, s.src.Addr())
	i := slices.IndexFunc(all, func(c candidate) bool { return c.at == s.asDst })
	if i < 0 {
		return fmt.Errorf("endpoint %v is not among %v", s.asDst, all)
	}
	c := all[i]
	want := s.src.Addr()
	if c.masquerade {
		want = familyOf(m.nodes[s.node].Addrs, s.src)
	}
	if s.asSrc.Addr() != want {
		return fmt.Errorf("%v sees %v, want %v", s.asDst, s.asSrc, want)
	}
	if s.service, s.pod = "hostPort:"+l.frontend.pod, c.pod; l.frontend.service != nil {
		s.service, s.port = l.frontend.service.Name, l.frontend.service.Ports[l.frontend.port].Name
		return m.permitsAffinity(now, s, l.frontend.service, all)
	}
	return nil
}

// permitsAffinity wants a client to have the endpoint that it keeps, and lets it keep that.
func (m *model) permitsAffinity(now flow.Time, s *stage, svc *service, all []candidate) error {
	if !svc.SessionAffinity {
		return nil
	}
	who := client{s.node, s.service, s.port, s.src.Addr()}
	was, ok := m.sticky[who]
	if ok && now < was.until && was.at != s.asDst && slices.ContainsFunc(all, func(c candidate) bool { return c.at == was.at }) {
		return fmt.Errorf("%v goes to %v, and keeps %v", s.src, s.asDst, was.at)
	}
	if ok && now < was.until && was.at == s.asDst {
		m.kept++
	}
	m.sticky[who] = stuck{s.asDst, now + flow.At(svc.AffinityTimeout)}
	return nil
}

// unstick forgets what clients keep of a Service but by endpoints that it has.
func (m *model) unstick(name string) {
	for who, was := range m.sticky {
		if who.service != name {
			continue
		}
		s := m.services[name]
		if s == nil || !slices.ContainsFunc(s.endpoints, func(e overlay.Endpoint) bool {
			return e.Pod != "" && slices.Contains(m.pods[e.Pod].Addrs, was.at.Addr()) || e.Pod == "" && slices.Contains(m.nodes[e.Node].Addrs, was.at.Addr())
		}) {
			delete(m.sticky, who)
		}
	}
}

// follow shows a packet of a talk, which has passed, to its stages.
func (m *model) follow(now flow.Time, t *talk, fromClient bool, seg *flow.Segment) {
	for _, s := range t.stages {
		side := s.side(fromClient)
		switch {
		case s.kind == byInbound && !fromClient && m.outbound == overlay.OutboundUserDefinedRouting: // it takes the user's route
		case t.proto == protoTCP:
			s.followTCP(now, side, seg)
		case t.proto == protoICMP:
			s.last = now
		case s.kind == byProxy:
			s.answered = s.answered || side == flow.Inside
			if s.last = now; s.answered && now-s.began >= flow.Time(2e9) {
				s.track.Class = flow.ClassUDPReplied
			}
		case s.kind == byGateway:
			s.heard[side] = now
			s.last = min(s.heard[0], s.heard[1])
		default:
			if s.last = now; !fromClient && s.kind != byInbound {
				s.track.Class = flow.ClassUDPReplied
			}
		}
	}
}

func (s *stage) followTCP(now flow.Time, side flow.Side, seg *flow.Segment) {
	unasked := s.kind != byProxy && s.track.Unanswered() && s.track.Initiator() == flow.Outside && side == flow.Outside
	if s.track.Update(side, seg)&flow.Touch != 0 && !unasked {
		s.last = now
	}
}
