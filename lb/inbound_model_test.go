package lb

// A naive model of a load balancer, both senses: maps, and a walk over all of them
// wherever one is enough. It does not know the distribution hash: of a new flow it learns
// the backend, and checks that it is eligible, and the same as before for the same flow
// and eligible backends.

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The sockets of the model.
var (
	modelFrontend = [2]netip.Addr{netip.MustParseAddr("20.50.1.1"), netip.MustParseAddr("2001:db8:50::1")}
	modelSubnet   = [2]netip.Prefix{netip.MustParsePrefix("10.224.0.0/24"), netip.MustParsePrefix("fd00:224::/64")}
	modelClients  = [2]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:cafe::/64")}
	modelRemote   = netip.MustParseAddrPort("198.51.100.9:53")
)

// modelAddr is the n-th address of a prefix.
func modelAddr(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Ports of the frontends: of the rules, and from which on a NAT rule has them.
const (
	modelHTTP, modelHTTPS, modelDNS = 80, 443, 53 // HTTPS floats
	modelNAT                        = 5000
)

// inboundFlow is what tells a flow of a rule apart.
type inboundFlow struct {
	is6, tcp bool
	port     uint16 // of the frontend
	client   netip.AddrPort
}

// family returns 0 for IPv4 and 1 for IPv6.
func (f *inboundFlow) family() int {
	if f.is6 {
		return 1
	}
	return 0
}

// watchedHost is a machine by one of its addresses.
type watchedHost struct {
	name string
	is6  bool
}

// inboundSession is what the model knows of a flow.
type inboundSession struct {
	backend string
	last    time.Duration
	phase   modelPhase
}

// modelPhase is how far a flow has got. Of those that are not open nothing is sent any more.
type modelPhase uint8

const (
	modelOpen   modelPhase = iota
	modelSYN               // of a connection the first segment only
	modelClosed            // reset by its client
)

type inboundModel struct {
	t *testing.T
	r *rand.Rand
	l *LoadBalancer

	c       Config
	now     time.Duration
	blocked map[netip.Addr]bool // by the network security group

	down     map[string]bool      // machines
	healthy  map[watchedHost]bool // as their probe has found
	proven   map[watchedHost]bool
	streak   map[watchedHost]int
	attempts int
	states   map[watchedHost]snat.TargetState // of the probed rules' targets

	flows    map[inboundFlow]*inboundSession
	outbound map[netip.AddrPort]*outboundFlow // by inside socket, all to modelRemote
	chosen   map[string]string                // backends by flow and eligible ones
}

type outboundFlow struct {
	outside netip.AddrPort
	last    time.Duration
}

// modelBackends are five machines with addresses of both families.
func modelBackends() []Backend {
	all := publicPool(5, 1, 0).Backends
	for i := range all {
		all[i].Addrs = append(all[i].Addrs, modelAddr(modelSubnet[1], 4+i))
	}
	return all
}

// modelPool has three probed rules for each family, one of them with floating IP, a range of
// NAT ports without probe, and outbound ports on the same frontend.
func modelPool(r *rand.Rand) Config {
	c := publicPool(5, 1, 64)
	c.Backends = modelBackends()
	c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "ip6", PublicIPAddress: modelFrontend[1]})
	c.SKU = SKU(r.IntN(2))
	pool := c.BackendAddressPools[0].Name
	c.Probes = []probe.Probe{{Name: "health", Port: 8080, Interval: 5 * time.Second, NumberOfProbes: 1 + r.IntN(3), NoHealthyBackendsBehavior: probe.NoHealthyBackendsBehavior(r.IntN(4) / 3)}}
	idle, reset := time.Duration(4+r.IntN(4))*time.Minute, r.IntN(2) == 0 && c.SKU == Standard
	for _, frontend := range []string{"ip0", "ip6"} {
		rules := []LoadBalancingRule{
			{Name: "http", Protocol: snat.TCP, FrontendPort: modelHTTP, BackendPort: 8080, IdleTimeout: idle, EnableTCPReset: reset},
			{Name: "https", Protocol: snat.TCP, FrontendPort: modelHTTPS, BackendPort: modelHTTPS, EnableFloatingIP: true, EnableTCPReset: reset},
			{Name: "dns", Protocol: snat.UDP, FrontendPort: modelDNS, BackendPort: 5353},
		}
		for i := range rules {
			l := &rules[i]
			l.Name += frontend
			l.FrontendIPConfiguration, l.BackendAddressPool, l.Probe = frontend, pool, "health"
			l.LoadDistribution, l.DisableOutboundSNAT = LoadDistribution(r.IntN(3)), c.SKU == Standard
		}
		c.LoadBalancingRules = append(c.LoadBalancingRules, rules...)
	}
	c.InboundNATRules = []InboundNATRule{{
		Name: "ssh", FrontendIPConfiguration: "ip0", Protocol: snat.TCP, BackendAddressPool: pool,
		FrontendPortRangeStart: modelNAT, FrontendPortRangeEnd: modelNAT + 7, BackendPort: 22,
	}}
	if c.SKU == Basic {
		c.OutboundRules = nil
	}
	return c
}

func newInboundModel(t *testing.T, seed uint64) *inboundModel {
	r := rand.New(rand.NewPCG(seed, 17))
	m := &inboundModel{
		t: t, r: r, c: modelPool(r), blocked: map[netip.Addr]bool{}, down: map[string]bool{}, healthy: map[watchedHost]bool{}, proven: map[watchedHost]bool{},
		streak: map[watchedHost]int{}, flows: map[inboundFlow]*inboundSession{}, outbound: map[netip.AddrPort]*outboundFlow{}, chosen: map[string]string{},
	}
	m.c.Seed, m.c.Prober, m.c.NetworkSecurity = seed, m, m.groups()
	m.l = newLoadBalancer(t, m.c)
	m.judge()
	return m
}

// Probe answers an attempt, and notes what follows of it.
func (m *inboundModel) Probe(_ flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	m.attempts++
	up, h := !m.down[b.Name], watchedHost{b.Name, b.Addr.Is6()}
	if up == m.healthy[h] {
		m.streak[h] = 0
	} else if m.streak[h]++; m.streak[h] >= p.NumberOfProbes || up && !m.proven[h] {
		m.healthy[h], m.proven[h], m.streak[h] = up, true, 0
		m.judge()
	}
	if up {
		return probe.Success
	}
	return probe.Failure
}

// groups is the network security group of now: all may come in but who is blocked.
func (m *inboundModel) groups() *nsg.Config {
	rules := []nsg.SecurityRule{sec("all", nsg.Inbound, nsg.Allow, "*", "*", "*")}
	rules[0].Priority, rules[0].Protocol = 4096, nsg.Any
	for i, a := range slices.SortedFunc(maps.Keys(m.blocked), netip.Addr.Compare) {
		no := sec(fmt.Sprint("no", i), nsg.Inbound, nsg.Deny, a.String(), modelSubnet[flow.Family(a)].String(), "1-65535")
		no.Priority, no.Protocol = 100+i, nsg.Any
		rules = append(rules, no)
	}
	return &nsg.Config{
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "nodes", SecurityRules: rules}},
		Subnets:               []nsg.Subnet{{Name: "nodes", AddressPrefixes: modelSubnet[:], NetworkSecurityGroup: "nodes"}},
	}
}

func (m *inboundModel) members() []string { return m.c.BackendAddressPools[0].Backends }

// judge finds the states of targets, and ends the flows of those that are gone.
func (m *inboundModel) judge() {
	admin := map[string]probe.AdminState{}
	for _, s := range m.c.BackendAddressPools[0].AdminStates {
		admin[s.Backend] = s.State
	}
	m.states = map[watchedHost]snat.TargetState{}
	for _, is6 := range []bool{false, true} {
		m.judgeFamily(is6, admin)
	}
	for f, s := range m.flows {
		if f.port < modelNAT && m.states[watchedHost{s.backend, f.is6}] == snat.TargetGone && slices.Contains(m.members(), s.backend) {
			delete(m.flows, f)
		}
	}
}

// judgeFamily finds the states of the targets of a family.
func (m *inboundModel) judgeFamily(is6 bool, admin map[string]probe.AdminState) {
	anybody := false
	for _, name := range m.members() {
		h := watchedHost{name, is6}
		m.states[h] = snat.TargetDown
		if admin[name] == probe.AdminUp || admin[name] == probe.AdminNone && m.healthy[h] {
			m.states[h], anybody = snat.TargetUp, true
		}
	}
	for _, name := range m.members() {
		switch h := (watchedHost{name, is6}); {
		case anybody || admin[name] == probe.AdminDown:
		case m.c.Probes[0].NoHealthyBackendsBehavior == probe.AllProbedUp:
			m.states[h] = snat.TargetUp
		case m.c.SKU == Basic || len(m.members()) == 1:
			m.states[h] = snat.TargetGone
		}
	}
}

// rule returns the rule of a flow; nil if it is a NAT rule's.
func (m *inboundModel) rule(f inboundFlow) *LoadBalancingRule {
	for i := range m.c.LoadBalancingRules {
		l := &m.c.LoadBalancingRules[i]
		if l.FrontendPort == f.port && l.FrontendIPConfiguration == []string{"ip0", "ip6"}[f.family()] {
			return l
		}
	}
	return nil
}

// idle returns when a flow in a phase ends without packets.
func (m *inboundModel) idle(f inboundFlow, phase modelPhase) time.Duration {
	switch phase {
	case modelSYN:
		return 30 * time.Second
	case modelClosed:
		return 15 * time.Second
	}
	if l := m.rule(f); l != nil && l.IdleTimeout != 0 {
		return l.IdleTimeout
	}
	return 4 * time.Minute
}

// eligible returns the backends that a new flow may reach.
func (m *inboundModel) eligible(f inboundFlow) (names []string) {
	for _, p := range m.l.PortMappings() {
		if p.FrontendPort == f.port {
			return []string{p.Backend}
		}
	}
	if f.port >= modelNAT {
		return nil
	}
	for _, name := range m.members() {
		if m.states[watchedHost{name, f.is6}] == snat.TargetUp {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// learn checks that the backend of a new flow is eligible and what it was before.
func (m *inboundModel) learn(f inboundFlow, names []string, backend string) {
	require.Contains(m.t, names, backend, "%+v", f)
	rule := m.rule(f)
	if rule == nil {
		return
	}
	k := fmt.Sprint(rule.LoadDistribution, f.client.Addr(), strings.Join(names, ","))
	switch rule.LoadDistribution {
	case DefaultDistribution:
		k += fmt.Sprint(f)
	case SourceIPProtocol:
		k += fmt.Sprint(f.tcp)
	}
	if was, known := m.chosen[k]; known {
		require.Equal(m.t, was, backend, "%+v among %v", f, names)
	}
	m.chosen[k] = backend
}

// inside returns the socket of a backend that a flow is for.
func (m *inboundModel) inside(backend string, f inboundFlow) netip.AddrPort {
	a, port := modelAddr(modelSubnet[f.family()], int(4+backend[4]-'0')), uint16(22)
	switch f.port {
	case modelHTTP:
		port = 8080
	case modelDNS:
		port = 5353
	case modelHTTPS:
		a, port = modelFrontend[f.family()], modelHTTPS
	}
	return netip.AddrPortFrom(a, port)
}

// send sends a packet of a flow from its client, with flags of TCP, and checks what
// becomes of it.
func (m *inboundModel) send(f inboundFlow, flags string) {
	frontend := netip.AddrPortFrom(modelFrontend[f.family()], f.port)
	var p []byte
	switch {
	case !f.tcp:
		p = pkttest.UDP(f.client.String(), frontend.String(), "query")
	case flags == "S":
		p = pkttest.TCP(f.client.String(), frontend.String(), pkttest.TCPFlags("S"), pkttest.Seq(100))
	case flags == "R":
		p = pkttest.TCP(f.client.String(), frontend.String(), pkttest.TCPFlags("R"), pkttest.Seq(101))
	default:
		p = pkttest.TCP(f.client.String(), frontend.String(), pkttest.TCPFlags("A"), pkttest.Seq(101), pkttest.Ack(501))
	}
	v := m.l.Inbound(flow.At(m.now), p)
	s := m.flows[f]
	if s != nil && !f.tcp && m.states[watchedHost{s.backend, f.is6}] == snat.TargetDown && slices.Contains(m.members(), s.backend) {
		s = nil // the flow moves
	}
	if s == nil {
		names := m.eligible(f)
		want := flow.ReasonNone
		switch {
		case len(names) == 0:
			want = flow.ReasonNoTarget
		case m.blocked[f.client.Addr()] && f.port != modelHTTPS: // the groups see where it is sent, which floats
			want = flow.ReasonNSGInbound
		}
		require.Equal(m.t, want, v.Reason, "%v %+v %s: %v", m.now, f, flags, names)
		if want != flow.ReasonNone {
			delete(m.flows, f)
			return
		}
		require.True(m.t, v.New, "%+v", f)
		s = &inboundSession{backend: m.nameOf(v)}
		m.learn(f, names, s.backend)
		m.flows[f] = s
	}
	require.Equal(m.t, flow.Forward, v.Action, "%v %+v: %v", m.now, f, v.Reason)
	require.Equal(m.t, s.backend, m.nameOf(v))
	pkttest.Check(m.t, p, pkttest.Src(f.client.String()), pkttest.Dst(m.inside(s.backend, f).String()), pkttest.ChecksumsOK())
	s.last = m.now
}

// nameOf returns the backend that a verdict names.
func (m *inboundModel) nameOf(v flow.Verdict) string {
	for i, inst := range m.l.Instances() {
		if i == int(v.Instance) {
			return inst.Name
		}
	}
	return ""
}

// answer sends an answer out of a flow.
func (m *inboundModel) answer(f inboundFlow, flags string) {
	s := m.flows[f]
	from := m.inside(s.backend, f).String()
	p := pkttest.UDP(from, f.client.String(), "answer")
	if f.tcp {
		p = pkttest.TCP(from, f.client.String(), pkttest.TCPFlags("A"), pkttest.Seq(501), pkttest.Ack(101))
		if flags != "" {
			p = pkttest.TCP(from, f.client.String(), pkttest.TCPFlags(flags), pkttest.Seq(500), pkttest.Ack(101))
		}
	}
	v := m.l.Outbound(flow.At(m.now), p)
	require.Equal(m.t, flow.Forward, v.Action, "%v %+v of %s: %v", m.now, f, s.backend, v.Reason)
	pkttest.Check(m.t, p, pkttest.Src(netip.AddrPortFrom(modelFrontend[f.family()], f.port).String()), pkttest.Dst(f.client.String()), pkttest.ChecksumsOK())
	s.last = m.now
}

// randomFlow returns a flow that may exist.
func (m *inboundModel) randomFlow() inboundFlow {
	f := inboundFlow{is6: m.r.IntN(2) == 0, tcp: true}
	f.client = netip.AddrPortFrom(modelAddr(modelClients[f.family()], 1+m.r.IntN(5)), uint16(40_000+m.r.IntN(5)))
	switch m.r.IntN(6) {
	case 0, 1:
		f.port = modelHTTP
	case 2:
		f.port = modelHTTPS
	case 3:
		if f.port = modelNAT + uint16(m.r.IntN(8)); f.is6 {
			f.port = modelHTTP
		}
	default:
		f.port, f.tcp = modelDNS, false
	}
	return f
}

// inboundOp does something with a flow of a rule.
func (m *inboundModel) inboundOp() {
	f := m.randomFlow()
	s := m.flows[f]
	switch {
	case !f.tcp && s != nil && m.r.IntN(3) == 0:
		m.answer(f, "")
	case !f.tcp:
		m.send(f, "")
	case s != nil && s.phase != modelOpen:
	case s == nil:
		m.send(f, "S")
		switch {
		case m.flows[f] == nil:
		case m.r.IntN(6) == 0:
			m.flows[f].phase = modelSYN
		default:
			m.answer(f, "SA")
			m.send(f, "A")
		}
	case m.r.IntN(12) == 0:
		m.send(f, "R")
		s.phase = modelClosed
	case m.r.IntN(2) == 0:
		m.send(f, "A")
	default:
		m.answer(f, "")
	}
}

// outboundOp lets a backend send to the remote, and the remote answer.
func (m *inboundModel) outboundOp() {
	inside := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 224, 0, byte(4 + m.r.IntN(5))}), uint16(6000+m.r.IntN(12)))
	p := pkttest.UDP(inside.String(), modelRemote.String(), "query")
	v := m.l.Outbound(flow.At(m.now), p)
	f := m.outbound[inside]
	if !slices.ContainsFunc(m.c.Backends, func(b Backend) bool { return b.Addrs[0] == inside.Addr() }) {
		require.Equal(m.t, flow.Drop, v.Action)
		return
	}
	if f == nil && v.Action == flow.Drop { // it is in no pool, or out of ports
		require.NotContains(m.t, m.members(), m.backendAt(inside.Addr()), "%v", v.Reason)
		return
	}
	require.Equal(m.t, flow.Forward, v.Action, "%v %v: %v", m.now, inside, v.Reason)
	outside := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p[20:]))
	if f == nil {
		require.True(m.t, v.New)
		f = &outboundFlow{outside: outside}
		m.outbound[inside] = f
	}
	require.Equal(m.t, f.outside, outside)
	require.NotEqual(m.t, modelNAT/snat.BlockSize, int(outside.Port()/snat.BlockSize), "the block of the NAT rule")
	f.last = m.now
	if m.r.IntN(2) == 0 {
		p = pkttest.UDP(modelRemote.String(), outside.String(), "answer")
		require.Equal(m.t, flow.Forward, m.l.Inbound(flow.At(m.now), p).Action)
		pkttest.Check(m.t, p, pkttest.Dst(inside.String()), pkttest.ChecksumsOK())
	}
}

func (m *inboundModel) backendAt(a netip.Addr) string { return fmt.Sprintf("node%d", a.As4()[3]-4) }

// passTime lets a second or more pass.
func (m *inboundModel) passTime() {
	for range 1 + m.r.IntN(40) {
		m.now += time.Second
		resets := 0
		m.l.Advance(flow.At(m.now), func(flow.Emission) { resets++ })
		want := 0
		for f, s := range m.flows {
			if m.now-s.last < m.idle(f, s.phase) {
				continue
			}
			if delete(m.flows, f); f.tcp && m.rule(f) != nil && m.rule(f).EnableTCPReset && s.phase == modelOpen {
				want += 2
			}
		}
		for inside, f := range m.outbound {
			if m.now-f.last >= 4*time.Minute {
				delete(m.outbound, inside)
			}
		}
		require.Equal(m.t, want, resets, "resets at %v", m.now)
	}
}

// change changes the configuration: the pool, administrative states, who is blocked.
func (m *inboundModel) change() {
	c := m.c
	pool := c.BackendAddressPools[0]
	switch m.r.IntN(4) {
	case 0:
		pool.Backends = nil
		for _, i := range m.r.Perm(5)[:m.r.IntN(6)] {
			if name := fmt.Sprint("node", i); slices.ContainsFunc(c.Backends, func(b Backend) bool { return b.Name == name }) {
				pool.Backends = append(pool.Backends, name)
			}
		}
		pool.AdminStates = nil
	case 1:
		pool.AdminStates = nil
		for _, name := range pool.Backends {
			if m.r.IntN(3) == 0 {
				pool.AdminStates = append(pool.AdminStates, BackendAdminState{name, probe.AdminState(m.r.IntN(3))})
			}
		}
	case 2:
		m.blocked = map[netip.Addr]bool{}
		for i := range 10 {
			if m.r.IntN(5) == 0 {
				m.blocked[modelAddr(modelClients[i/5], 1+i%5)] = true
			}
		}
	case 3: // a backend is gone, or all are there
		c.Backends = modelBackends()
		if m.r.IntN(2) == 0 {
			i := m.r.IntN(5)
			c.Backends = slices.Delete(c.Backends, i, i+1)
			name := fmt.Sprint("node", i)
			pool.Backends = slices.DeleteFunc(slices.Clone(pool.Backends), func(b string) bool { return b == name })
			pool.AdminStates = slices.DeleteFunc(slices.Clone(pool.AdminStates), func(s BackendAdminState) bool { return s.Backend == name })
		}
	}
	c.BackendAddressPools = []BackendAddressPool{pool}
	c.NetworkSecurity = m.groups()
	ports := m.l.PortMappings()
	_, err := m.l.Reconfigure(flow.At(m.now), c)
	require.NoError(m.t, err)
	m.c = c
	for _, was := range ports {
		for _, is := range m.l.PortMappings() {
			if is.Backend == was.Backend {
				require.Equal(m.t, was.FrontendPort, is.FrontendPort, "%s keeps its port", is.Backend)
			}
		}
	}
	for h := range m.healthy { // whoever is watched no more begins anew
		if !slices.Contains(m.members(), h.name) {
			delete(m.healthy, h)
			delete(m.proven, h)
			delete(m.streak, h)
		}
	}
	present := func(name string) bool {
		return slices.ContainsFunc(c.Backends, func(b Backend) bool { return b.Name == name })
	}
	mapped := map[string]uint16{}
	for _, p := range m.l.PortMappings() {
		mapped[p.Backend] = p.FrontendPort
	}
	for f, s := range m.flows { // those on NAT ports end when the backend has another one
		if port := mapped[s.backend]; !present(s.backend) || f.port >= modelNAT && port != 0 && port != f.port {
			delete(m.flows, f)
		}
	}
	m.judge()
	m.forgetCut()
}

// forgetCut forgets the outbound flows whose ports their backend has lost.
func (m *inboundModel) forgetCut() {
	owns := map[netip.AddrPort]bool{}
	for _, a := range m.l.Allocations() {
		for _, r := range a.Ports {
			for i := range r.Count {
				owns[netip.AddrPortFrom(netip.AddrFrom4([4]byte{0, 0, 0, a.Instance[4] - '0'}), r.First+uint16(i))] = true
			}
		}
	}
	for inside, f := range m.outbound {
		if !owns[netip.AddrPortFrom(netip.AddrFrom4([4]byte{0, 0, 0, inside.Addr().As4()[3] - 4}), f.outside.Port())] {
			delete(m.outbound, inside)
		}
	}
}

// check compares all sessions: nothing has leaked, and no outside tuple has two owners.
func (m *inboundModel) check() {
	want := map[string]int{}
	for f, s := range m.flows {
		want[fmt.Sprint(f.tcp, netip.AddrPortFrom(modelFrontend[f.family()], f.port), f.client, m.inside(s.backend, f))]++
	}
	for inside, f := range m.outbound {
		want[fmt.Sprint(false, f.outside, modelRemote, inside)]++
	}
	got, owners := map[string]int{}, map[string]int{}
	for s := range m.l.Sessions() {
		owners[fmt.Sprint(s.Proto, s.Outside, s.Remote)]++
		if s.State != flow.TCPResetSent.String() { // a tombstone, which only answers stragglers
			got[fmt.Sprint(s.Proto == 6, s.Outside, s.Remote, s.Inside)]++
		}
	}
	for tuple, n := range owners {
		require.Equal(m.t, 1, n, "owners of %s", tuple)
	}
	require.Equal(m.t, want, got, "at %v", m.now)
}

func TestInboundModel(t *testing.T) {
	const seeds = 4
	ops := pkttest.Operations(12_000, 120_000, 1_200_000) / seeds
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := newInboundModel(t, seed)
			for i := range ops {
				switch n := m.r.IntN(100); {
				case n < 70:
					m.inboundOp()
				case n < 88:
					m.outboundOp()
				case n < 94:
					m.passTime()
				case n < 97:
					name := fmt.Sprint("node", m.r.IntN(5))
					m.down[name] = !m.down[name]
				default:
					m.change()
				}
				if i%50 == 0 {
					m.check()
				}
				if i%2000 == 0 {
					clear(m.chosen)
				}
			}
			m.check()
			require.NotZero(t, m.attempts)
		})
	}
}
