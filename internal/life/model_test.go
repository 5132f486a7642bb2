package life

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Protocols. An echo is protoICMP in both families; its client's port is the identifier, and its
// server's 0.
const (
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

// The network of the model's clusters.
var (
	vnet      = prefixes("10.1.0.0/16", "fd00:1::/48")
	peered    = prefixes("192.168.0.0/16", "fd00:2::/48")
	podCIDRs  = prefixes("10.244.0.0/16", "fd12:3456:789a::/64")
	services  = prefixes("10.0.0.0/16", "fd12:3456:789a:1::/108")
	machines  = [2][]netip.Addr{addrs("10.1.77.1", "10.1.77.2", "192.168.3.4"), addrs("fd00:1::7701", "fd00:1::7702", "fd00:2::9")}
	internet  = [2][]netip.Addr{addrs("198.51.100.9", "203.0.113.80"), addrs("2001:db8:ffff::9", "2001:db8:ffff::80")}
	outsiders = []uint16{443, 443, 443, 53}
)

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(all ...string) (out []netip.Addr) {
	for _, s := range all {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func within(a netip.Addr, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// kind is who has a stage.
type kind uint8

const (
	byNode     kind = iota // the node, which masquerades or only remembers
	byProxy                // the node, for a Service or a host port
	byOutbound             // the load balancer, by its outbound rule
	byGateway              // the NAT gateway
	byInbound              // the load balancer, by a rule of a Service
	byPublic               // the node's public address, which its pods share
	oneToOne               // nobody: the node itself by its public address
)

// stage is what somebody remembers of a talk: its client's packets come from src for dst,
// and go on from asSrc for asDst.
type stage struct {
	kind               kind
	node               string
	proto              uint8
	src, dst           netip.AddrPort
	asSrc, asDst       netip.AddrPort
	clientIsInside     bool // of the translator
	service, pod, port string
	track              flow.Track
	began, last        flow.Time
	answered           bool
	heard              [2]flow.Time // of a gateway's UDP, by side: the timer of either ends it
}

// talk is a connection: to its client it is one with target, to its server one with seen.
type talk struct {
	proto                        uint8
	client, target, seen, server netip.AddrPort
	stages                       []*stage
	phase                        int
	last                         flow.Time // when anybody has sent
	seq                          [2]uint32 // next, of client and server
}

// service is a Service and who serves it.
type service struct {
	overlay.ServiceStatus
	endpoints []overlay.Endpoint
}

// client is who may keep an endpoint of a Service: by node, and by port of the Service.
type client struct {
	node, service, port string
	addr                netip.Addr
}

// stuck is the endpoint that a client keeps if it begins another connection in time.
type stuck struct {
	at    netip.AddrPort
	until flow.Time
}

// model is what the model knows of a cluster.
type model struct {
	nodes     map[string]overlay.Node
	pods      map[string]overlay.Pod
	services  map[string]*service
	hostPorts map[string][]overlay.HostPort // by pod
	granted   map[string][]snat.PortRange   // outbound ports, by node
	outbound  overlay.OutboundType
	idle      time.Duration // of the outbound rule
	strict    bool
	inSubnet  bool      // pods have addresses of the VNet
	settled   flow.Time // when probes have found all that they can find
	changed   flow.Time // of the configuration: nothing has ended before

	sticky map[client]stuck // who keeps an endpoint
	kept   int              // endpoints that a client has had again

	stages []*stage
	talks  []*talk
	resets []string // that have to have come
}

// Timers: those of nf_conntrack, and those of Azure with the idle timeout of a rule.
var conntrack = map[flow.Class]time.Duration{
	flow.ClassTCPOpening: 120 * time.Second, flow.ClassTCPSynReceived: 60 * time.Second, flow.ClassTCPEstablished: 432_000 * time.Second,
	flow.ClassTCPHalfClosed: 120 * time.Second, flow.ClassTCPCloseWait: 60 * time.Second, flow.ClassTCPClosing: 30 * time.Second,
	flow.ClassTCPTimeWait: 120 * time.Second, flow.ClassTCPReset: 10 * time.Second, flow.ClassTCPUnacknowledged: 300 * time.Second,
	flow.ClassUDP: 30 * time.Second, flow.ClassUDPReplied: 120 * time.Second, flow.ClassICMP: 30 * time.Second,
}

func azure(idle, closing, reset time.Duration) map[flow.Class]time.Duration {
	return map[flow.Class]time.Duration{
		flow.ClassTCPOpening: 30 * time.Second, flow.ClassTCPEstablished: idle, flow.ClassTCPHalfClosed: closing,
		flow.ClassTCPClosing: closing, flow.ClassTCPTimeWait: closing, flow.ClassTCPReset: reset,
	}
}

// timeout returns how long a stage is remembered without a packet.
func (m *model) timeout(s *stage) time.Duration {
	class := s.track.Class
	udp := class == flow.ClassUDP || class == flow.ClassUDPReplied
	switch s.kind {
	case byOutbound:
		if udp {
			return m.idle
		}
		return azure(m.idle, 240*time.Second, 15*time.Second)[class]
	case byGateway:
		switch {
		case udp:
			return 4 * time.Minute
		case class == flow.ClassICMP:
			return time.Minute
		}
		if class == flow.ClassTCPHalfClosed {
			return 4 * time.Minute // only what is closed from both ends is closed
		}
		return azure(4*time.Minute, 65*time.Second, 16*time.Second)[class]
	case byInbound, byPublic:
		switch {
		case udp:
			return 4 * time.Minute
		case class == flow.ClassICMP:
			return time.Minute
		}
		return azure(4*time.Minute, 240*time.Second, 15*time.Second)[class]
	}
	return conntrack[class]
}

// nodeOf returns the node whose address a is, or in whose pod block it is, and which of both.
func (m *model) nodeOf(a netip.Addr) (node string, isPod, ok bool) {
	for name, n := range m.nodes {
		if slices.Contains(n.Addrs, a) {
			return name, false, true
		}
		if within(a, n.PodBlocks) {
			return name, true, true
		}
	}
	return "", false, false
}

// publicOf returns the public address of a node in the family of another address, if it has one.
func (m *model) publicOf(node string, like netip.Addr) (netip.Addr, bool) {
	all := m.nodes[node].PublicAddrs
	if i := slices.IndexFunc(all, func(a netip.Addr) bool { return a.Is6() == like.Is6() }); i >= 0 {
		return all[i], true
	}
	return netip.Addr{}, false
}

// isPublic reports whether an address is the public one of a node, and of which.
func (m *model) isPublic(a netip.Addr) (node string, ok bool) {
	for name, n := range m.nodes {
		if slices.Contains(n.PublicAddrs, a) {
			return name, true
		}
	}
	return "", false
}

// usesPublic reports whether nodes leave by their public addresses, for no gateway and no route of
// the user's precedes these.
func (m *model) usesPublic() bool {
	return m.outbound == overlay.OutboundLoadBalancer || m.outbound == overlay.OutboundNone
}

// podAt returns the pod that has an address, "" if none.
func (m *model) podAt(a netip.Addr) string {
	for name, p := range m.pods {
		if slices.Contains(p.Addrs, a) {
			return name
		}
	}
	return ""
}

// isLocal reports whether an address is of the VNet or a network connected to it.
func isLocal(a netip.Addr) bool { return within(a, vnet) || within(a, peered) }

// forgets reports whether nodes remember nothing of what they exchange with an address.
func (m *model) forgets(a netip.Addr) bool { return m.inSubnet && within(a, vnet) }

// find returns the first stage that fulfils a condition.
func (m *model) find(match func(*stage) bool) *stage {
	if i := slices.IndexFunc(m.stages, match); i >= 0 {
		return m.stages[i]
	}
	return nil
}

// end forgets the stages that fulfil a condition. Nobody sends in their talks any more.
func (m *model) end(match func(*stage) bool) {
	m.stages = slices.DeleteFunc(m.stages, func(s *stage) bool {
		if !match(s) {
			return false
		}
		m.hangUp(func(t *talk) bool { return slices.Contains(t.stages, s) })
		return true
	})
}

// hangUp ends talks; what is remembered of them stays.
func (m *model) hangUp(match func(*talk) bool) { m.talks = slices.DeleteFunc(m.talks, match) }

// expire ends what is due at now, and notes which resets that gives.
func (m *model) expire(now flow.Time) {
	m.end(func(s *stage) bool {
		if tick(max(s.last+flow.Time(m.timeout(s)), m.changed)) > tick(now) {
			return false
		}
		tells := s.kind == byOutbound || s.kind == byInbound
		if idle := s.track.Class == flow.ClassTCPEstablished || s.track.Class == flow.ClassTCPUnacknowledged; tells && idle && s.track.Established() {
			m.reset(s)
		}
		return true
	})
}

func tick(t flow.Time) int64 { return int64(t) / int64(flow.Tick) }

// reset notes the resets of a stage to both ends.
func (m *model) reset(s *stage) {
	for _, to := range []flow.Side{flow.Inside, flow.Outside} {
		seqs, n := s.track.Resets(to)
		src, dst := s.dst, s.src // towards the client
		if (to == flow.Inside) != s.clientIsInside {
			src, dst = s.asSrc, s.asDst
		}
		for _, seq := range seqs[:n] {
			m.resets = append(m.resets, string(rst(src, dst, seq)))
		}
	}
}

// frontend is what a socket leads to on a node.
type frontend struct {
	service *service // or the host port of
	pod     string
	port    int
	kind    string // "cluster", "balancer", "node", "host"
	target  uint16
}

// frontendAt returns what a socket leads to on a node, if it is anything.
func (m *model) frontendAt(node string, proto uint8, at netip.AddrPort) (f frontend, ok bool) {
	for _, s := range m.services {
		for i, p := range s.Ports {
			f := frontend{service: s, port: i, target: p.TargetPort}
			switch {
			case protocolOf(p.Protocol) != proto:
				continue
			case p.Port == at.Port() && slices.Contains(s.ClusterIPs, at.Addr()):
				f.kind = "cluster"
			case p.Port == at.Port() && slices.Contains(s.LoadBalancerIPs, at.Addr()):
				f.kind = "balancer"
			case p.NodePort != 0 && p.NodePort == at.Port() && slices.Contains(m.nodes[node].Addrs, at.Addr()) && s.has(at.Addr().Is6()):
				f.kind = "node"
			default:
				continue
			}
			return f, true
		}
	}
	for pod, all := range m.hostPorts {
		for _, p := range all {
			if p.HostPort == at.Port() && protocolOf(p.Protocol) == proto && slices.Contains(m.nodes[m.pods[pod].Node].Addrs, at.Addr()) {
				return frontend{pod: pod, kind: "host", target: p.Port}, true
			}
		}
	}
	return f, false
}

// has reports whether a Service has a family.
func (s *service) has(is6 bool) bool {
	return slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return a.Is6() == is6 })
}

func protocolOf(p snat.Protocol) uint8 {
	if p == snat.UDP {
		return protoUDP
	}
	return protoTCP
}

// origin is where a node gets a packet from.
type origin uint8

const (
	fromWire origin = iota
	fromPod
	fromHost
)

// candidate is an endpoint that a packet may go to.
type candidate struct {
	at         netip.AddrPort
	node, pod  string
	masquerade bool
}

// candidates returns the endpoints that a packet to a frontend may go to, or why there are none.
func (m *model) candidates(node string, from origin, f frontend, client netip.Addr) (all []candidate, reason flow.Reason) {
	if f.kind == "host" {
		return []candidate{m.endpoint(overlay.Endpoint{Pod: f.pod}, f.target, client.Is6(), from == fromHost, node, from, client)}, flow.ReasonNone
	}
	s, local, masquerade := f.service, false, false
	switch {
	case f.kind == "cluster":
		local, masquerade = s.InternalTrafficPolicy == overlay.PolicyLocal, from != fromPod
	case f.kind == "balancer" && !admitted(s, client):
		return nil, flow.ReasonSourceRange
	case from == fromWire:
		local = s.ExternalTrafficPolicy == overlay.PolicyLocal
		masquerade = !local
	case from == fromPod:
		masquerade = s.ExternalTrafficPolicy == overlay.PolicyCluster
	default:
		masquerade = true
	}
	reason = flow.ReasonNoTarget
	for _, e := range s.endpoints {
		c := m.endpoint(e, f.target, client.Is6(), masquerade, node, from, client)
		if reason == flow.ReasonNoTarget {
			reason = flow.ReasonNoLocalTarget
		}
		if !local || c.node == node {
			all = append(all, c)
		}
	}
	if len(all) > 0 {
		reason = flow.ReasonNone
	}
	return all, reason
}

func admitted(s *service, client netip.Addr) bool {
	any := false
	for _, r := range s.LoadBalancerSourceRanges {
		if r.Addr().Is6() == client.Is6() {
			any = true
			if r.Contains(client) {
				return true
			}
		}
	}
	return !any
}

// endpoint returns a candidate.
func (m *model) endpoint(e overlay.Endpoint, port uint16, is6, masquerade bool, node string, from origin, client netip.Addr) candidate {
	c := candidate{node: e.Node, pod: e.Pod, masquerade: masquerade}
	var all []netip.Addr
	if e.Pod != "" {
		c.node, all = m.pods[e.Pod].Node, m.pods[e.Pod].Addrs
	} else {
		all = m.nodes[e.Node].Addrs
	}
	a := all[0]
	if is6 {
		a = all[1]
	}
	c.at = netip.AddrPortFrom(a, port)
	if a == client || from == fromPod && e.Pod == "" && c.node != node {
		c.masquerade = true
	}
	return c
}
