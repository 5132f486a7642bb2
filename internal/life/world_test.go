package life

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/upgrade"
	"github.com/seed-a61be3fe/natplane/snat"
)

// world is a cluster and its model, and the hosts around both.
type world struct {
	t        testing.TB
	next     func(n int) int // decides: from 0, less than n
	families int             // of the cluster
	now      flow.Time
	c        *overlay.Cluster
	m        *model

	upgrade *upgrade.Upgrade
	want    map[string]int // nodes, by pool
	resets  []string
	told    map[string]int // packets of pods and nodes that a node has rejected, until it says so
	serial  int            // of talks, pods and Services
	counts  map[string]int
}

// newWorld starts a cluster of two pools with a network plugin, which next decides about.
func newWorld(t testing.TB, seed uint64, plugin cni.Plugin, next func(int) int) *world {
	w := &world{t: t, next: next, families: 2, want: map[string]int{"system": 2, "user": 1}, told: map[string]int{}, counts: map[string]int{}}
	cfg := overlay.ClusterConfig{
		NetworkPlugin: plugin, IPFamilies: "ipv4,ipv6", PodCIDRs: podCIDRs, ServiceCIDRs: services,
		VNet: overlay.VNet{AddressSpaces: vnet, PeeredPrefixes: peered, Subnets: []overlay.Subnet{{Name: "nodes", AddressPrefixes: prefixes("10.1.0.0/24", "fd00:1::/64")}}},
		NodePools: []overlay.NodePool{
			{Name: "system", Count: 2, MaxPods: 10}, {Name: "user", Count: 1, MaxPods: 10, MaxSurge: "50%", NodePublicIP: overlay.NodePublicIP{
				Enabled: true, Prefixes: prefixes("20.61.0.0/31", "2001:db8:61::/127"), AllowedHostPorts: "40000-59999/tcp,40000-59999/udp",
			}},
		},
		LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1, ManagedOutboundIPCountIPv6: 1, AllocatedOutboundPorts: 8, IdleTimeout: 4 * time.Minute},
		StrictPodAddresses:  next(2) == 1,
		Dataplane:           snat.Dataplane{Seed: seed, HashKey: 1},
	}
	if !plugin.HasPodCIDRs() { // which is for one family
		w.families, cfg.IPFamilies, cfg.PodCIDRs, cfg.ServiceCIDRs = 1, "ipv4", nil, services[:1]
		cfg.LoadBalancerProfile.ManagedOutboundIPCountIPv6, cfg.NodePools[1].NodePublicIP.Prefixes = 0, prefixes("20.61.0.0/31")
	}
	c, err := overlay.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w.c = c
	w.m = &model{
		nodes: map[string]overlay.Node{}, pods: map[string]overlay.Pod{}, services: map[string]*service{}, hostPorts: map[string][]overlay.HostPort{},
		sticky: map[client]stuck{}, idle: 4 * time.Minute, strict: cfg.StrictPodAddresses, inSubnet: !plugin.HasPodCIDRs(),
	}
	w.readNodes()
	return w
}

// one returns one of several.
func one[T any](w *world, all []T) T { return all[w.next(len(all))] }

// names returns the keys of a map in order.
func names[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// node returns a node.
func (w *world) node() overlay.Node { return w.m.nodes[one(w, names(w.m.nodes))] }

// client returns a host of a family that may begin a talk, and its port.
func (w *world) client(family int) netip.AddrPort {
	w.serial++
	port := uint16(20000 + w.serial%20000)
	switch pods := names(w.m.pods); w.next(8) {
	case 0, 1, 2, 3:
		if len(pods) > 0 {
			return netip.AddrPortFrom(w.m.pods[one(w, pods)].Addrs[family], port)
		}
		fallthrough
	case 4, 5:
		return netip.AddrPortFrom(w.node().Addrs[family], port-10000)
	case 6:
		return netip.AddrPortFrom(one(w, machines[family]), port)
	}
	return netip.AddrPortFrom(one(w, internet[family]), port)
}

// target returns whom a client may address.
func (w *world) target(family int, proto uint8) netip.AddrPort {
	direct := []uint16{9100, 9101}[w.next(2)]
	switch n := w.next(16); {
	case n < 2:
		if pods := names(w.m.pods); len(pods) > 0 {
			return netip.AddrPortFrom(w.m.pods[one(w, pods)].Addrs[family], direct)
		}
	case n < 3:
		return netip.AddrPortFrom(w.node().Addrs[family], direct)
	case n < 4:
		return netip.AddrPortFrom(one(w, machines[family]), direct)
	case n < 5:
		if pods := names(w.m.hostPorts); len(pods) > 0 {
			pod := one(w, pods)
			at := w.m.nodes[w.m.pods[pod].Node].Addrs[family]
			return netip.AddrPortFrom(at, one(w, w.m.hostPorts[pod]).HostPort)
		}
	case n == 5 && w.next(4) == 0: // nobody's
		return netip.AddrPortFrom([]netip.Addr{netip.MustParseAddr("10.0.99.99"), netip.MustParseAddr("fd12:3456:789a:1::9999")}[family], 80)
	case n < 11:
		if all := names(w.m.services); len(all) > 0 {
			return w.targetOf(w.m.services[one(w, all)], family)
		}
	}
	return netip.AddrPortFrom(one(w, internet[family]), one(w, outsiders))
}

// targetOf returns a socket of a Service, of another family if it has not this one.
func (w *world) targetOf(s *service, family int) netip.AddrPort {
	family = min(family, len(s.ClusterIPs)-1)
	p := one(w, s.Ports)
	switch i := w.next(3); {
	case i == 1 && len(s.LoadBalancerIPs) > 0:
		return netip.AddrPortFrom(s.LoadBalancerIPs[family], p.Port)
	case i == 2 && p.NodePort != 0:
		return netip.AddrPortFrom(w.node().Addrs[family], p.NodePort)
	}
	return netip.AddrPortFrom(s.ClusterIPs[family], p.Port)
}

// begin begins a talk, or tries to.
func (w *world) begin() {
	family, proto := w.next(w.families), []uint8{protoTCP, protoUDP, protoTCP, protoUDP, protoICMP}[w.next(5)]
	client, target := w.client(family), w.target(family, proto)
	if w.isInternet(client) {
		target = w.public(family, proto, target)
	}
	if n := len(w.m.talks); n > 0 && w.next(8) == 0 {
		o := w.m.talks[w.next(n)] // the same socket to somebody else
		client, proto = o.client, o.proto
	} else if n > 0 && w.next(8) == 0 {
		o := w.m.talks[w.next(n)] // the same host to the same one, from another port
		w.serial++
		client, target, proto = netip.AddrPortFrom(o.client.Addr(), uint16(40000+w.serial%20000)), o.target, o.proto
	}
	if proto == protoICMP {
		target = netip.AddrPortFrom(target.Addr(), 0)
	}
	w.beginBetween(proto, client, target)
}

// public returns a socket that the Internet knows, or else one given.
func (w *world) public(family int, proto uint8, other netip.AddrPort) netip.AddrPort {
	var all []netip.AddrPort
	for _, name := range names(w.m.services) {
		s := w.m.services[name]
		for _, p := range s.Ports {
			if len(s.LoadBalancerIPs) > family && protocolOf(p.Protocol) == proto && !s.isInternal() {
				all = append(all, netip.AddrPortFrom(s.LoadBalancerIPs[family], p.Port))
			}
		}
	}
	for _, name := range names(w.m.nodes) {
		at, ok := w.m.publicOf(name, internet[family][0])
		if !ok {
			continue
		}
		all = append(all, netip.AddrPortFrom(at, other.Port()), netip.AddrPortFrom(at, 45000))
		for _, pod := range names(w.m.hostPorts) {
			if w.m.pods[pod].Node == name {
				for _, p := range w.m.hostPorts[pod] {
					all = append(all, netip.AddrPortFrom(at, p.HostPort))
				}
			}
		}
	}
	if len(all) == 0 || w.next(4) == 0 {
		return other
	}
	return one(w, all)
}

// burst begins many talks of one host with one socket on the Internet.
func (w *world) burst() {
	family, proto := w.next(w.families), []uint8{protoTCP, protoUDP}[w.next(2)]
	client, target := w.client(family), netip.AddrPortFrom(one(w, internet[family]), one(w, outsiders))
	if w.isInternet(client) {
		return
	}
	for range 12 {
		w.serial++
		w.beginBetween(proto, netip.AddrPortFrom(client.Addr(), uint16(20000+w.serial%20000)), target)
	}
}

// beginBetween begins a talk between two sockets, unless the model does not know how.
func (w *world) beginBetween(proto uint8, client, target netip.AddrPort) {
	if !w.canBegin(proto, client, target) {
		return
	}
	t := &talk{proto: proto, client: client, target: target, seq: [2]uint32{1000, 5000}}
	legs, reasons := w.m.way(proto, client, target)
	_, _, inside := w.m.nodeOf(client.Addr())
	pkt := t.packet(client, target, true, "S", 0)
	hops, v := w.carry(pkt, inside)
	what := fmt.Sprintf("at %v: %d %v > %v by %v: %v", w.now, proto, client, target, legs, hops)
	if v.Action == flow.Drop {
		if v.Reason == flow.ReasonPorts && len(legs) == 1 && legs[0].kind == byOutbound {
			require.False(w.t, w.m.usable(legs[0].node, proto, client, target), what)
			w.counts["refused for want of a port"]++
			return
		}
		require.Contains(w.t, reasons, v.Reason, what)
	} else {
		require.Empty(w.t, reasons, what)
	}
	require.NoError(w.t, w.m.remember(w.now, t, legs, hops, w.chosen), what)
	if len(reasons) > 0 {
		w.counts["dropped: "+v.Reason.String()]++
		return
	}
	require.Equal(w.t, t.packet(t.seen, t.server, true, "S", 0), pkt, what)
	t.seq[0]++
	t.last = w.now
	w.m.talks = append(w.m.talks, t)
	w.counts[fmt.Sprint("begun by stages ", kinds(t))]++
	if proto == protoICMP {
		w.counts[fmt.Sprint("echoes by stages ", kinds(t))]++
	}
	if _, ok := w.m.isPublic(target.Addr()); ok {
		w.counts[fmt.Sprint("begun at a node's public address by stages ", kinds(t))]++
	}
}

func kinds(t *talk) (all []string) {
	for _, s := range t.stages {
		all = append(all, []string{"node", "proxy", "outbound", "gateway", "inbound", "public"}[s.kind])
	}
	return all
}

// canBegin reports whether the model knows what becomes of a talk.
func (w *world) canBegin(proto uint8, client, target netip.AddrPort) bool {
	_, _, inside := w.m.nodeOf(client.Addr())
	_, _, toInside := w.m.nodeOf(target.Addr())
	f, service := w.m.frontendAt("", proto, target)
	_, public := w.m.isPublic(target.Addr())
	switch {
	case client.Addr().Is6() != target.Addr().Is6():
		return false
	case public:
		if !w.isInternet(client) || !w.m.usesPublic() {
			return false // a hairpin, or by a way that answers do not take
		}
	case client.Addr() == target.Addr() && !service:
		return false
	case !inside && !toInside && !(service && f.kind == "balancer"):
		return false // nobody's packet, or one that the cluster has no way for
	case !inside && service && f.kind == "cluster":
		return false
	case toInside && w.isInternet(client) && w.m.outbound == overlay.OutboundUserDefinedRouting:
		return false // it is for the security groups of whoever has routed it here
	case !inside && service && f.kind == "balancer":
		if s := f.service; w.now < w.m.settled || len(s.endpoints) == 0 || isLocal(client.Addr()) || s.isInternal() {
			return false
		}
	case inside && !toInside && !service && w.isBalancers(target.Addr()):
		return false // a hairpin through the load balancer
	}
	same := func(s *stage) bool { return s.proto == proto && s.src == client && s.dst == target }
	return w.m.find(same) == nil && !slices.ContainsFunc(w.m.talks, func(t *talk) bool {
		return t.proto == proto && (t.client == client && t.target == target || t.server == client && t.seen == target)
	})
}

func (w *world) isBalancers(a netip.Addr) bool {
	for _, s := range w.m.services {
		if slices.Contains(s.LoadBalancerIPs, a) {
			return true
		}
	}
	return false
}

// chosen returns the node that the load balancer has chosen for a talk.
func (w *world) chosen(t *talk) string {
	for s := range w.c.ServiceSessions() {
		if s.Proto == t.proto && s.Client == t.client && s.Frontend == t.target {
			for name, n := range w.m.nodes {
				if n.Index == s.Node {
					return name
				}
			}
		}
	}
	return ""
}

// carry takes a packet through the doors from one host to another, and says where it was
// after each.
func (w *world) carry(pkt []byte, inside bool) (hops []hop, v flow.Verdict) {
	sent := string(pkt)
	pass := func(one func(flow.Time, []byte) flow.Verdict, many func(flow.Time, [][]byte, []flow.Verdict)) bool {
		if w.next(4) == 0 {
			verdicts := []flow.Verdict{{}}
			many(w.now, [][]byte{pkt}, verdicts)
			v = verdicts[0]
		} else {
			v = one(w.now, pkt)
		}
		hops = append(hops, sockets(pkt))
		return v.Action != flow.Drop
	}
	if inside {
		if !pass(w.c.Outbound, w.c.OutboundBatch) || v.Action == flow.Forward && v.To == flow.Inside {
			if v.Reason == flow.ReasonNoTarget {
				w.told[sent]++
			}
			return hops, v
		}
		if _, _, ok := w.m.nodeOf(hops[0].dst.Addr()); !ok {
			return hops, v
		}
	}
	pass(w.c.Inbound, w.c.InboundBatch)
	return hops, v
}

// sockets reads the ends of a packet of a talk, which has no options.
func sockets(b []byte) hop {
	src, dst, l4, echo := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[20:], b[9] == protoICMP
	if b[0]>>4 == 6 {
		src, dst, l4, echo = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[40:], b[6] == 58
	}
	port := func(at int) uint16 { return uint16(l4[at])<<8 | uint16(l4[at+1]) }
	switch {
	case !echo:
		return hop{netip.AddrPortFrom(src, port(0)), netip.AddrPortFrom(dst, port(2))}
	case l4[0] == 8 || l4[0] == 128:
		return hop{netip.AddrPortFrom(src, port(4)), netip.AddrPortFrom(dst, 0)}
	}
	return hop{netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, port(4))}
}

const payload = "payload"

// packet makes the next packet of client or server, which travels from src to dst.
func (t *talk) packet(src, dst netip.AddrPort, fromClient bool, flags string, n int) []byte {
	switch {
	case t.proto == protoUDP:
		return pkttest.UDP(src.String(), dst.String(), payload)
	case t.proto == protoICMP && fromClient:
		return pkttest.ICMPEcho(src.Addr().String(), dst.Addr().String(), src.Port(), 1)
	case t.proto == protoICMP:
		return pkttest.ICMPEchoReply(src.Addr().String(), dst.Addr().String(), dst.Port(), 1)
	}
	seq, ack := t.numbers(fromClient)
	fields := []pkttest.Field{pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Window(60000), pkttest.Payload(payload[:n])}
	if flags != "S" {
		fields = append(fields, pkttest.Ack(ack))
	}
	return pkttest.TCP(src.String(), dst.String(), fields...)
}

// numbers returns the next sequence number and acknowledgment of client or server.
func (t *talk) numbers(fromClient bool) (seq, ack uint32) {
	if fromClient {
		return t.seq[0], t.seq[1]
	}
	return t.seq[1], t.seq[0]
}

// segment is what the tracker sees of such a packet.
func (t *talk) segment(fromClient bool, flags string, n int) *flow.Segment {
	seq, ack := t.numbers(fromClient)
	s := &flow.Segment{Seq: seq, Ack: ack, Len: uint32(n), Window: 60000, Scale: flow.NoScale}
	if flags == "S" {
		s.Ack = 0
	}
	for _, c := range flags {
		s.Flags |= map[rune]uint8{'S': flow.SYN, 'A': flow.ACK, 'F': flow.FIN, 'R': flow.RST, 'P': flow.PSH}[c]
	}
	if s.Flags&(flow.SYN|flow.FIN) != 0 {
		s.Len++
	}
	return s
}

func rst(src, dst netip.AddrPort, seq uint32) []byte {
	return pkttest.TCP(src.String(), dst.String(), pkttest.RST, pkttest.Seq(seq), pkttest.Window(0))
}

// Phases of a talk over TCP.
const (
	opening = iota
	answered
	open
	closing // by one
	closed  // by both
)

// goOn sends the next packet of a talk.
func (w *world) goOn() {
	if len(w.m.talks) == 0 {
		return
	}
	t := one(w, w.m.talks)
	fromClient, flags, n := w.next(2) == 0, "A", 0
	if t.proto == protoTCP {
		switch t.phase {
		case opening:
			fromClient, flags = false, "SA"
		case answered:
			fromClient = true
		case open:
			switch w.next(8) {
			case 0:
				fromClient, flags = true, "FA"
			case 1:
				flags = "RA"
			case 2, 3, 4:
				n = 1 + w.next(len(payload))
			}
		case closing:
			fromClient, flags = false, "FA"
		case closed:
			fromClient = true
		}
	}
	if _, direct := w.m.isPublic(t.seen.Addr()); direct && t.proto != protoTCP && w.now >= t.last+flow.At(4*time.Minute) {
		w.m.hangUp(func(o *talk) bool { return o == t }) // the group of the node knows it no longer
		return
	}
	t.last = w.now
	src, dst, isSrc, isDst := t.ends(fromClient)
	if t.proto == protoUDP && w.next(6) == 0 {
		w.sendPieces(t, fromClient)
		return
	}
	pkt := t.packet(src, dst, fromClient, flags, n)
	_, _, inside := w.m.nodeOf(src.Addr())
	hops, v := w.carry(pkt, inside)
	what := fmt.Sprintf("at %v: %d %s of %v > %v, seen as %v > %v by %v: %v %v", w.now, t.proto, flags, t.client, t.target, t.seen, t.server, kinds(t), hops, v.Reason)
	require.NotEqual(w.t, flow.Drop, v.Action, what)
	require.Equal(w.t, t.packet(isSrc, isDst, fromClient, flags, n), pkt, what)
	seg := t.segment(fromClient, flags, n)
	w.m.follow(w.now, t, fromClient, seg)
	if t.proto == protoTCP {
		t.advance(w, fromClient, flags, seg.Len)
	}
}

// ends returns between whom packets of client or server go, and between whom they come out.
func (t *talk) ends(fromClient bool) (src, dst, isSrc, isDst netip.AddrPort) {
	if fromClient {
		return t.client, t.target, t.seen, t.server
	}
	return t.server, t.seen, t.target, t.client
}

// sendPieces sends a datagram in pieces. They pass where nodes alone carry the talk; who leaves by
// load balancer or gateway gets none of them out.
func (w *world) sendPieces(t *talk, fromClient bool) {
	src, dst, isSrc, isDst := t.ends(fromClient)
	w.serial++
	pieces := func(src, dst netip.AddrPort, id uint32) [][]byte {
		return pkttest.Fragments(pkttest.UDP(src.String(), dst.String(), strings.Repeat(payload, 30)), 104, id)
	}
	nodesOnly := !slices.ContainsFunc(t.stages, func(s *stage) bool { return s.kind != byNode && s.kind != byProxy })
	leaves := fromClient && len(t.stages) == 1 && !nodesOnly
	if !nodesOnly && !leaves {
		return // a node sees them before or after the load balancer does
	}
	_, _, inside := w.m.nodeOf(src.Addr())
	var want [][]byte
	for i, piece := range pieces(src, dst, uint32(w.serial)) {
		hops, v := w.carry(piece, inside)
		what := fmt.Sprintf("at %v: piece %d of %v > %v, seen as %v > %v by %v: %v %v", w.now, i, t.client, t.target, t.seen, t.server, kinds(t), hops, v.Reason)
		if leaves {
			require.Equal(w.t, flow.ReasonFragment, v.Reason, what)
			continue
		}
		require.NotEqual(w.t, flow.Drop, v.Action, what)
		if i == 0 { // nodes exchange identifications, for who shares an address has them in common
			want = pieces(isSrc, isDst, identification(piece))
		}
		require.Equal(w.t, want[i], piece, what)
	}
	if w.counts["datagrams in pieces"]++; !leaves {
		w.m.follow(w.now, t, fromClient, nil)
	}
}

// identification returns that of a fragment.
func identification(b []byte) uint32 {
	if b[0]>>4 == 4 {
		return uint32(binary.BigEndian.Uint16(b[4:]))
	}
	return binary.BigEndian.Uint32(b[44:])
}

// advance notes that a segment has been received.
func (t *talk) advance(w *world, fromClient bool, flags string, n uint32) {
	i := 1
	if fromClient {
		i = 0
	}
	t.seq[i] += n
	if t.phase != open || flags == "FA" {
		t.phase++
	}
	if t.phase > closed || flags == "RA" {
		w.m.hangUp(func(o *talk) bool { return o == t })
	}
}
