package kubeproxy_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
)

// model is a proxy as one would write it down: a list of sessions, searched from the
// beginning. What chance decides it takes over from the proxy, once that is permitted.
type model struct {
	nodes     [][]netip.Addr
	services  map[string]*modelService
	sessions  []*modelSession
	stuck     map[stuckKey]modelStuck
	endpoints int // serial
}

type modelService struct {
	kubeproxy.Service
	endpoints []modelEndpoint
}

type modelEndpoint struct {
	kubeproxy.Endpoint
	serial []int // by port
}

type stuckKey struct {
	service, port string
	node          int
	client        netip.Addr
}

type modelStuck struct {
	endpoint netip.AddrPort
	serial   int
	until    flow.Time
}

type modelSession struct {
	kubeproxy.Session
	serial   int
	last     flow.Time
	began    flow.Time
	answered bool
	track    flow.Track
}

var modelTimeouts = map[flow.Class]time.Duration{
	flow.ClassTCPOpening: 120 * time.Second, flow.ClassTCPSynReceived: 60 * time.Second, flow.ClassTCPEstablished: 432_000 * time.Second,
	flow.ClassTCPHalfClosed: 120 * time.Second, flow.ClassTCPCloseWait: 60 * time.Second, flow.ClassTCPClosing: 30 * time.Second,
	flow.ClassTCPTimeWait: 120 * time.Second, flow.ClassTCPReset: 10 * time.Second, flow.ClassTCPUnacknowledged: 300 * time.Second,
	flow.ClassUDP: 30 * time.Second, flow.ClassUDPReplied: 120 * time.Second,
}

// probe is a packet as both sides take it.
type probe struct {
	node     int
	from     kubeproxy.Origin
	src, dst netip.AddrPort
	proto    uint8
	flags    string
	seq, ack uint32
}

// packet is what both sides take.
func (p *probe) packet(src, dst netip.AddrPort) []byte {
	if p.proto == kubeproxy.UDP {
		return pkttest.UDP(src.String(), dst.String(), "payload")
	}
	return pkttest.TCP(src.String(), dst.String(), pkttest.TCPFlags(p.flags), pkttest.Seq(p.seq), pkttest.Ack(p.ack), pkttest.Window(1000))
}

func (p *probe) segment() *flow.Segment {
	s := &flow.Segment{Seq: p.seq, Ack: p.ack, Window: 1000, Scale: flow.NoScale}
	for _, c := range p.flags {
		s.Flags |= map[rune]uint8{'S': flow.SYN, 'A': flow.ACK, 'F': flow.FIN, 'R': flow.RST}[c]
	}
	if s.Flags&(flow.SYN|flow.FIN) != 0 {
		s.Len = 1
	}
	return s
}

// purge removes the sessions that are over.
func (m *model) purge(now flow.Time) {
	m.sessions = slices.DeleteFunc(m.sessions, func(s *modelSession) bool {
		return now-s.last >= flow.Time(modelTimeouts[s.track.Class]) || s.Proto == kubeproxy.UDP && !m.alive(s)
	})
}

func (m *model) alive(s *modelSession) bool {
	svc := m.services[s.Service]
	if svc == nil {
		return false
	}
	for _, e := range svc.endpoints {
		if slices.Contains(e.serial, s.serial) {
			return true
		}
	}
	return false
}

func (m *model) find(node int, proto uint8, match func(*modelSession) bool) *modelSession {
	for _, s := range m.sessions {
		if s.Node == node && s.Proto == proto && match(s) {
			return s
		}
	}
	return nil
}

// frontend returns what a socket leads to on a node.
func (m *model) frontend(p *probe) (svc *modelService, port int, kind string) {
	for _, s := range m.services {
		for i, sp := range s.Ports {
			switch {
			case sp.Protocol != p.proto:
			case sp.Port == p.dst.Port() && slices.Contains(s.ClusterIPs, p.dst.Addr()):
				return s, i, "cluster"
			case sp.Port == p.dst.Port() && slices.Contains(s.LoadBalancerIPs, p.dst.Addr()):
				return s, i, "lb"
			case sp.NodePort != 0 && sp.NodePort == p.dst.Port() && slices.Contains(m.nodes[p.node], p.dst.Addr()) && s.has(p.dst.Addr().Is6()):
				return s, i, "node"
			}
		}
	}
	return nil, 0, ""
}

// has reports whether a Service has a family.
func (s *modelService) has(is6 bool) bool {
	return len(s.ClusterIPs) == 0 || slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return a.Is6() == is6 })
}

// expected is what the model says of a packet; of a new session what is permitted.
type expected struct {
	action   kubeproxy.Action
	reason   flow.Reason
	src, dst netip.AddrPort
	begin    *modelSession
	allowed  []candidate
}

type candidate struct {
	endpoint   netip.AddrPort
	node       int
	serial     int
	masquerade bool
}

func (m *model) translate(now flow.Time, p *probe) expected {
	m.purge(now)
	if s := m.find(p.node, p.proto, func(s *modelSession) bool { return s.Client == p.src && s.Frontend == p.dst }); s != nil {
		if m.follow(now, s, flow.Outside, p)&flow.Reopened == 0 {
			return expected{action: kubeproxy.Forward, src: s.Seen, dst: s.Endpoint}
		}
		m.sessions = slices.DeleteFunc(m.sessions, func(o *modelSession) bool { return o == s })
	}
	if e := m.answer(now, p); e.action != kubeproxy.Pass {
		return e
	}
	return m.begin(now, p)
}

// answer is what a node does with packets that endpoints send.
func (m *model) answer(now flow.Time, p *probe) expected {
	m.purge(now)
	s := m.find(p.node, p.proto, func(s *modelSession) bool { return s.Endpoint == p.src && s.Seen == p.dst })
	if s == nil {
		return expected{action: kubeproxy.Pass}
	}
	m.follow(now, s, flow.Inside, p)
	return expected{action: kubeproxy.Reply, src: s.Frontend, dst: s.Client}
}

// follow shows a packet to the tracker of a session.
func (m *model) follow(now flow.Time, s *modelSession, from flow.Side, p *probe) flow.Effect {
	if p.proto == kubeproxy.UDP {
		s.last = now
		s.answered = s.answered || from == flow.Inside
		if s.answered && now-s.began >= flow.Time(2*time.Second) {
			s.track.Class = flow.ClassUDPReplied
		}
		return 0
	}
	e := s.track.Update(from, p.segment())
	if e&flow.Touch != 0 {
		s.last = now
	}
	return e
}

func (m *model) begin(now flow.Time, p *probe) expected {
	svc, i, kind := m.frontend(p)
	if svc == nil {
		return expected{action: kubeproxy.Pass}
	}
	drop := func(r flow.Reason) expected { return expected{action: kubeproxy.Drop, reason: r} }
	if p.proto == kubeproxy.TCP && p.segment().Flags&flow.RST != 0 {
		return drop(flow.ReasonNoFlow)
	}
	var local, masquerade bool
	switch {
	case kind == "cluster":
		local, masquerade = svc.InternalLocal, p.from != kubeproxy.FromPod
	case kind == "lb" && !m.admitted(svc, p):
		return drop(flow.ReasonSourceRange)
	case p.from == kubeproxy.FromHost:
		masquerade = true
	case p.from == kubeproxy.FromPod:
		masquerade = !svc.ExternalLocal
	default:
		local, masquerade = svc.ExternalLocal, !svc.ExternalLocal
	}
	var all, some, here, dying, dyingHere []candidate
	for _, e := range svc.endpoints {
		if e.Ports[i] == 0 || e.Addr.Is6() != p.dst.Addr().Is6() {
			continue
		}
		c := candidate{netip.AddrPortFrom(e.Addr, e.Ports[i]), e.Node, e.serial[i], masquerade || e.Addr == p.src.Addr() || p.from == kubeproxy.FromPod && e.HostNetwork && e.Node != p.node}
		if all = append(all, c); e.Terminating {
			if dying = append(dying, c); e.Node == p.node {
				dyingHere = append(dyingHere, c)
			}
			continue
		}
		if some = append(some, c); e.Node == p.node {
			here = append(here, c)
		}
	}
	if len(some) == 0 {
		some = dying
	}
	if len(here) == 0 {
		here = dyingHere
	}
	if local {
		some = here
	}
	if len(all) == 0 {
		return drop(flow.ReasonNoTarget)
	}
	if len(some) == 0 {
		return drop(flow.ReasonNoLocalTarget)
	}
	key := stuckKey{svc.Name, svc.Ports[i].Name, p.node, p.src.Addr()}
	if a, ok := m.stuck[key]; ok && svc.Affinity > 0 && a.until > now {
		for _, c := range some {
			if c.endpoint == a.endpoint && c.serial == a.serial {
				some = []candidate{c}
				break
			}
		}
	}
	s := &modelSession{last: now, began: now}
	s.Session = kubeproxy.Session{Proto: p.proto, Node: p.node, Service: svc.Name, Port: svc.Ports[i].Name, Client: p.src, Frontend: p.dst}
	return expected{action: kubeproxy.Forward, begin: s, allowed: some}
}

func (m *model) admitted(svc *modelService, p *probe) bool {
	any := false
	for _, r := range svc.SourceRanges {
		if r.Addr().Is6() == p.src.Addr().Is6() {
			any = true
			if r.Contains(p.src.Addr()) {
				return true
			}
		}
	}
	return !any
}

// adopt takes over what chance has decided about a new session, if it is permitted.
func (m *model) adopt(now flow.Time, p *probe, e expected, src, dst netip.AddrPort) error {
	i := slices.IndexFunc(e.allowed, func(c candidate) bool { return c.endpoint == dst })
	if i < 0 {
		return fmt.Errorf("endpoint %v is not among %v", dst, e.allowed)
	}
	c := e.allowed[i]
	want := p.src.Addr()
	if c.masquerade {
		want = m.nodes[p.node][flow.Family(want)]
	}
	taken := func(a netip.AddrPort) bool {
		return m.find(p.node, p.proto, func(s *modelSession) bool { return s.Endpoint == dst && s.Seen == a }) != nil
	}
	class := [2]uint16{1024, 65535}
	if p.src.Port() < 512 {
		class = [2]uint16{1, 511}
	}
	switch {
	case src.Addr() != want:
		return fmt.Errorf("the endpoint sees %v, not %v", src, want)
	case taken(src):
		return fmt.Errorf("%v is taken at %v", src, dst)
	case !c.masquerade && src != p.src && !taken(p.src):
		return fmt.Errorf("%v became %v, though it was free", p.src, src)
	case src != p.src && (src.Port() < class[0] || src.Port() > class[1]):
		return fmt.Errorf("port %d for %d", src.Port(), p.src.Port())
	}
	s := e.begin
	s.Endpoint, s.EndpointNode, s.Seen, s.serial = dst, c.node, src, c.serial
	if s.track.Class = flow.ClassUDP; p.proto == kubeproxy.TCP {
		s.track.OpenBy(flow.ConntrackRules, flow.Outside, p.segment())
	}
	m.sessions = append(m.sessions, s)
	svc := m.services[s.Service]
	if svc.Affinity > 0 {
		m.stuck[stuckKey{s.Service, s.Port, s.Node, s.Client.Addr()}] = modelStuck{dst, c.serial, now + flow.Time(svc.Affinity)}
	}
	return nil
}

// setEndpoints gives a Service endpoints; those that stay keep their serial.
func (m *model) setEndpoints(svc *modelService, next []kubeproxy.Endpoint) {
	var all []modelEndpoint
	for _, e := range next {
		me := modelEndpoint{e, make([]int, len(e.Ports))}
		for i := range e.Ports {
			m.endpoints++
			me.serial[i] = m.endpoints
			for _, old := range svc.endpoints {
				if old.Addr == e.Addr && old.Node == e.Node && old.HostNetwork == e.HostNetwork && old.Ports[i] == e.Ports[i] {
					me.serial[i] = old.serial[i]
				}
			}
		}
		all = append(all, me)
	}
	svc.endpoints = all
}

// world is a proxy and its model.
type world struct {
	t   testing.TB
	rnd *rand.Rand
	now flow.Time
	p   *kubeproxy.Proxy
	m   *model

	seed   uint64
	shards int
}

func newWorld(t testing.TB, seed uint64) *world {
	p, err := kubeproxy.New(kubeproxy.Config{Shards: 2, Seed: seed, HashKey: 1})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	w := &world{t: t, seed: seed, shards: 2, rnd: rand.New(rand.NewPCG(seed, 1)), p: p, m: &model{services: map[string]*modelService{}, stuck: map[stuckKey]modelStuck{}}}
	for i := range 3 {
		w.m.nodes = append(w.m.nodes, []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.224.0.%d", 4+i)), netip.MustParseAddr(fmt.Sprintf("fd00:1::%d", 4+i))})
	}
	p.SetNodes(w.m.nodes)
	return w
}

func addr(v6 bool, v4, six string) netip.Addr {
	if v6 {
		return netip.MustParseAddr(six)
	}
	return netip.MustParseAddr(v4)
}

func (w *world) pod(node int, v6 bool) netip.Addr {
	i := w.rnd.IntN(3) + 2
	return addr(v6, fmt.Sprintf("10.244.%d.%d", node, i), fmt.Sprintf("fd00:2:%d::%d", node, i))
}

// setService adds or changes a Service at random.
func (w *world) setService(i int) {
	local := w.rnd.IntN(2) == 0
	svc := kubeproxy.Service{
		Name:            fmt.Sprint("svc", i),
		ClusterIPs:      []netip.Addr{addr(false, fmt.Sprintf("10.0.0.%d", i+1), ""), addr(true, "", fmt.Sprintf("fd00:3::%d", i+1))},
		LoadBalancerIPs: []netip.Addr{addr(false, fmt.Sprintf("20.50.1.%d", i+1), ""), addr(true, "", fmt.Sprintf("2001:db8::%d", i+1))},
		ExternalLocal:   local, InternalLocal: w.rnd.IntN(3) == 0,
		Ports: []kubeproxy.Port{{Name: "t", Protocol: kubeproxy.TCP, Port: 80, NodePort: uint16(30000 + i)}, {Name: "u", Protocol: kubeproxy.UDP, Port: 53}},
	}
	if w.rnd.IntN(3) == 0 {
		svc.Affinity = time.Duration(1+w.rnd.IntN(100)) * time.Second
	}
	if w.rnd.IntN(3) == 0 {
		svc.SourceRanges = []netip.Prefix{netip.MustParsePrefix("20.0.0.2/32"), netip.MustParsePrefix("10.244.0.0/16")}
	}
	require.NoError(w.t, w.p.SetService(svc))
	if was := w.m.services[svc.Name]; was != nil {
		was.Service = svc
		return
	}
	w.m.services[svc.Name] = &modelService{Service: svc}
}

// setEndpoints changes the endpoints of a Service at random.
func (w *world) setEndpoints(svc *modelService) {
	var next []kubeproxy.Endpoint
	seen := map[netip.Addr]bool{}
	for range w.rnd.IntN(6) {
		node := w.rnd.IntN(3)
		e := kubeproxy.Endpoint{Addr: w.pod(node, w.rnd.IntN(2) == 0), Node: node, Ports: []uint16{8080, 5353}}
		if w.rnd.IntN(8) == 0 {
			e.Addr, e.HostNetwork = w.m.nodes[node][w.rnd.IntN(2)], true
		}
		if w.rnd.IntN(6) == 0 {
			e.Ports[0] = 0
		}
		e.Terminating = w.rnd.IntN(4) == 0
		if !seen[e.Addr] {
			next = append(next, e)
		}
		seen[e.Addr] = true
	}
	require.NoError(w.t, w.p.SetEndpoints(svc.Name, next))
	w.m.setEndpoints(svc, next)
}

// randomProbe makes a packet: often one that belongs to a session.
func (w *world) randomProbe() *probe {
	p := &probe{proto: kubeproxy.TCP, flags: []string{"S", "S", "A", "A", "FA", "R", "SA"}[w.rnd.IntN(7)], seq: 1000 + w.rnd.Uint32N(3), ack: 1000 + w.rnd.Uint32N(3)}
	if p.node = w.rnd.IntN(3); w.rnd.IntN(2) == 0 {
		p.proto = kubeproxy.UDP
	}
	if n := len(w.m.sessions); n > 0 && w.rnd.IntN(2) == 0 {
		s := w.m.sessions[w.rnd.IntN(n)]
		p.node, p.proto, p.src, p.dst = s.Node, s.Proto, s.Client, s.Frontend
		p.from = kubeproxy.FromWire // does not matter any more
		if w.rnd.IntN(2) == 0 {
			p.src, p.dst = s.Endpoint, s.Seen
			return p
		}
		p.from = w.originOf(p)
		return p
	}
	v6 := w.rnd.IntN(3) == 0
	src := addr(v6, fmt.Sprintf("20.0.0.%d", 1+w.rnd.IntN(2)), fmt.Sprintf("2001:db8:9::%d", 1+w.rnd.IntN(2)))
	switch w.rnd.IntN(5) {
	case 0, 1:
		src = w.pod(p.node, v6)
	case 2:
		src = w.m.nodes[p.node][flow.Family(src)]
	case 3:
		src = w.m.nodes[(p.node+1)%3][flow.Family(src)]
	}
	i := w.rnd.IntN(4) + 1
	dst := netip.AddrPortFrom(addr(v6, fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("fd00:3::%d", i)), 80)
	switch w.rnd.IntN(4) {
	case 0:
		dst = netip.AddrPortFrom(addr(v6, fmt.Sprintf("20.50.1.%d", i), fmt.Sprintf("2001:db8::%d", i)), 80)
	case 1:
		dst = netip.AddrPortFrom(w.m.nodes[p.node][flow.Family(src)], uint16(30000+i-1))
	case 2:
		dst = netip.AddrPortFrom(dst.Addr(), uint16(79+w.rnd.IntN(2)))
	}
	if p.proto == kubeproxy.UDP && dst.Port() < 30000 {
		dst = netip.AddrPortFrom(dst.Addr(), 53)
	}
	p.src, p.dst = netip.AddrPortFrom(src, []uint16{5000, 5001, 100, 8080}[w.rnd.IntN(4)]), dst
	p.from = w.originOf(p)
	return p
}

// originOf returns where a packet of that source comes from.
func (w *world) originOf(p *probe) kubeproxy.Origin {
	switch {
	case netip.MustParsePrefix("10.244.0.0/16").Contains(p.src.Addr()), netip.MustParsePrefix("fd00:2::/32").Contains(p.src.Addr()):
		return kubeproxy.FromPod
	case slices.Contains(w.m.nodes[p.node], p.src.Addr()):
		return kubeproxy.FromHost
	}
	return kubeproxy.FromWire
}

// send lets both sides take a packet.
func (w *world) send(p *probe) {
	b := p.packet(p.src, p.dst)
	var pkt wire.Packet
	require.Equal(w.t, wire.OK, wire.Parse(b, &pkt))
	concerns := w.p.Concerns(b) != 0
	r := w.p.Translate(w.now, p.node, p.from, &pkt)
	w.agree(p, &pkt, r, w.m.translate(w.now, p), concerns)
}

// agree compares a packet after it was translated with what the model expects.
func (w *world) agree(p *probe, pkt *wire.Packet, r kubeproxy.Result, e expected, concerns bool) {
	before := p.packet(p.src, p.dst)
	name := fmt.Sprintf("at %v node %d from %d: %d %v > %v %s", w.now, p.node, p.from, p.proto, p.src, p.dst, p.flags)
	require.Equal(w.t, []any{e.action, e.reason}, []any{r.Action, r.Reason}, name)
	switch {
	case r.Action == kubeproxy.Pass:
		require.Equal(w.t, before, pkt.B, name)
		return
	case r.Action == kubeproxy.Drop:
		require.Equal(w.t, before, pkt.B, name)
	case e.begin != nil:
		require.True(w.t, r.New, name)
		src, dst := pkt.Addrs()
		e.src, e.dst = socketOf(src, uint16(pkt.Ports()>>16), pkt.Flags), socketOf(dst, uint16(pkt.Ports()), pkt.Flags)
		require.NoError(w.t, w.m.adopt(w.now, p, e, e.src, e.dst), name)
		fallthrough
	default:
		require.Equal(w.t, p.packet(e.src, e.dst), pkt.B, name)
	}
	require.True(w.t, concerns, name)
}

// sendBatch lets the proxy take many packets at once, and the model one after the other.
func (w *world) sendBatch() {
	var probes []*probe
	var batch kubeproxy.Batch
	batch.Begin(w.p)
	for range 1 + w.rnd.IntN(kubeproxy.BatchSize) {
		p := w.randomProbe()
		b := p.packet(p.src, p.dst)
		if p.from == kubeproxy.FromWire && w.rnd.IntN(2) == 0 {
			n := len(batch.Items())
			v := flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: uint32(p.node)}
			require.Equal(w.t, 1, batch.Arrive(0, [][]byte{b}, []flow.Verdict{v}))
			if len(batch.Items()) > n {
				probes = append(probes, p)
			} else {
				require.Zero(w.t, w.p.Concerns(b))
			}
			continue
		}
		it := batch.Next()
		*it = kubeproxy.Item{Node: int32(p.node), Then: -1, From: p.from, Concern: w.p.Concerns(b)}
		switch w.rnd.IntN(8) {
		case 0:
			it.Then = (it.Node + 1) % 3
		case 1:
			it.Node, it.Then = -1, it.Node
		case 2:
			it.Concern = kubeproxy.Unsure
		}
		require.Equal(w.t, wire.OK, wire.Parse(b, &it.Packet))
		batch.Add()
		probes = append(probes, p)
	}
	batch.Run(w.now)
	require.Len(w.t, batch.Items(), len(probes))
	for i, p := range probes {
		it := &batch.Items()[i]
		e := expected{action: kubeproxy.Pass}
		if it.Node >= 0 {
			e = w.m.translate(w.now, p)
		}
		if e.action == kubeproxy.Pass && it.Then >= 0 {
			p.node = int(it.Then)
			e = w.m.answer(w.now, p)
		}
		if w.agree(p, &it.Packet, it.Result, e, true); e.action != kubeproxy.Pass {
			require.Equal(w.t, int32(p.node), it.By)
		}
	}
}

func socketOf(a [2]uint64, port uint16, f wire.Flags) netip.AddrPort {
	if f&wire.V6 != 0 {
		return netip.AddrPortFrom(flow.NetAddr6(a), port)
	}
	return netip.AddrPortFrom(flow.NetAddr4(uint32(a[0])), port)
}

// step does something at random.
func (w *world) step() {
	switch n := w.rnd.IntN(200); {
	case n < 2:
		w.setService(w.rnd.IntN(4))
	case n < 3:
		name := fmt.Sprint("svc", w.rnd.IntN(4))
		require.Equal(w.t, w.m.services[name] != nil, w.p.RemoveService(name))
		delete(w.m.services, name)
		for k := range w.m.stuck {
			if k.service == name {
				delete(w.m.stuck, k)
			}
		}
	case n < 8:
		if svc := w.m.services[fmt.Sprint("svc", w.rnd.IntN(4))]; svc != nil {
			w.setEndpoints(svc)
		}
	case n < 14:
		w.now += flow.Time(time.Duration(w.rnd.IntN(40_000)) * time.Millisecond)
	case n < 16:
		w.p.Advance(w.now)
		w.check()
	case n < 17 && w.rnd.IntN(4) == 0:
		i, was := w.rnd.IntN(3), w.m.nodes
		w.m.nodes = slices.Clone(was)
		w.m.nodes[i] = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.224.0.%d", 4+i+3*w.rnd.IntN(2))), was[i][1]}
		w.p.SetNodes(w.m.nodes)
		if w.m.nodes[i][0] != was[i][0] { // all sessions of the node end, as those of a node that is gone
			w.m.sessions = slices.DeleteFunc(w.m.sessions, func(s *modelSession) bool { return s.Node == i })
		}
	case n < 18 && w.rnd.IntN(2) == 0:
		w.restore()
	case n < 25:
		w.sendBatch()
	default:
		w.send(w.randomProbe())
	}
}

// restoreDiffers are where a proxy that is restored may differ from that which was written, besides what
// the table of sessions may.
var restoreDiffers = map[string]string{
	"Proxy.table":     "a table of its own, see flow",
	"Proxy.hasher":    "likewise",
	"shard.sessions":  "likewise",
	"endpoint.socket": "of a slot that is free it is what it was last",
	"endpoint.port":   "likewise",
	"endpoint.host":   "likewise",
	"endpoint.serial": "likewise",
	"endpoint.node":   "likewise",
	"chunk.nodes":     "likewise",
	"frontend.port":   "seen by the name of its Service",
	"port.service":    "shared with its Service",
	"entry.service":   "likewise",
	"timed.next":      "counted round and round",
	"Proxy.admit":     "asks the owner",
	"tables.closed":   "none, while nothing changes",
	"registry.closed": "likewise",
}

// restore lets a proxy go on that has been read from what the other has written, now and then with other shards.
func (w *world) restore() {
	write := func(p *kubeproxy.Proxy) []byte {
		var b bytes.Buffer
		a := snapshot.NewWriter(&b, "proxy", 1)
		p.Write(a)
		require.NoError(w.t, a.Close())
		return b.Bytes()
	}
	shards := 1 + w.rnd.IntN(4)
	p, err := kubeproxy.New(kubeproxy.Config{Shards: shards, Seed: w.seed, HashKey: 1})
	require.NoError(w.t, err)
	w.t.Cleanup(p.Close)
	was := write(w.p)
	a := snapshot.NewReader(bytes.NewReader(was), "proxy", 1)
	p.Read(a)
	require.NoError(w.t, a.Close())
	if shards == w.shards {
		require.Empty(w.t, likeness.Compare(w.p, p, restoreDiffers))
		require.True(w.t, bytes.Equal(was, write(p)), "written again")
	}
	require.Equal(w.t, w.p.Counts(), p.Counts())
	w.p, w.shards = p, shards
}

// check compares the sessions.
func (w *world) check() {
	w.m.purge(w.now)
	order := func(a, b kubeproxy.Session) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Proto, b.Proto), a.Client.Compare(b.Client), a.Frontend.Compare(b.Frontend))
	}
	var got, want []kubeproxy.Session
	for s := range w.p.Sessions() {
		s.State, s.Class, s.Idle, s.Due = "", 0, 0, 0
		got = append(got, s)
	}
	for _, s := range w.m.sessions {
		want = append(want, s.Session)
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	assert.Equal(w.t, want, got)
}

func TestProxyDoesWhatTheModelDoes(t *testing.T) {
	for seed := range uint64(4) {
		w := newWorld(t, seed)
		for range pkttest.Operations(2_500, 5_000, 300_000) {
			if w.step(); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		assert.NotZero(t, w.p.Counts().Sessions)
	}
}

func FuzzProxyDoesWhatTheModelDoes(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed, uint16(500))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		w := newWorld(t, seed)
		for range n {
			w.step()
		}
		w.p.Advance(w.now)
		w.check()
	})
}
