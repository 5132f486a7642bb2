package lb

// A naive model of a load balancer, both senses: maps, and a walk over all of them
// wherever one is enough. It does not know the distribution hash: of a new flow it learns
// the backend, and checks that it is eligible, and the same as before for the same flow
// and eligible backends. inbound_model_flow_test.go has what becomes of packets,
// inbound_model_change_test.go what becomes of flows when the configuration changes.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The sockets of the model, by family.
var (
	modelPublic   = [2]netip.Addr{netip.MustParseAddr("20.50.1.1"), netip.MustParseAddr("2001:db8:50::1")}
	modelPrivate  = [2]netip.Addr{netip.MustParseAddr("10.225.0.4"), netip.MustParseAddr("fd00:225::4")}
	modelSubnet   = [2]netip.Prefix{netip.MustParsePrefix("10.224.0.0/24"), netip.MustParsePrefix("fd00:224::/64")}
	modelClients  = [2]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:cafe::/64")}
	modelRemotes  = [2]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:beef::/64")}
	modelRouter   = [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:2::1")}
	modelFrontend = [2]string{"ip0", "ip6"}
)

// modelAddr is the n-th address of a prefix.
func modelAddr(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Ports of the frontends: of the rules, of the inbound NAT rule of one backend, and from
// which on one for all has them.
const (
	modelHTTP, modelHTTPS, modelDNS, modelBoth = 80, 443, 53, 900
	modelOne, modelNAT                         = 4000, 5000
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
	backend        string
	inside         netip.AddrPort // of its target
	last           time.Duration  // when what counts has happened
	phase          modelPhase
	was            modelPhase // before modelReset, modelSynAgain
	client, server uint32     // next sequence numbers
}

// modelPhase is how far a flow has got.
type modelPhase uint8

const (
	modelOpen     modelPhase = iota // UDP, or established
	modelSyn                        // of a connection the first segment only
	modelSynAck                     // and its answer
	modelMid                        // begun without SYN
	modelFin                        // its client has closed it
	modelFinBack                    // its server has
	modelClosed                     // both have
	modelTimeWait                   // and both know it
	modelReset                      // by either
	modelSynAgain                   // another connection may have begun
	modelTomb                       // reset by the load balancer
)

// state names the phase of a connection as sessions do.
func (p modelPhase) state() string {
	return [...]flow.TCPState{
		flow.TCPEstablished, flow.TCPSynSent, flow.TCPSynReceived, flow.TCPMidstream, flow.TCPFinInitiator,
		flow.TCPFinResponder, flow.TCPFinBoth, flow.TCPTimeWait, flow.TCPReset, flow.TCPSynAgain, flow.TCPResetSent,
	}[p].String()
}

// over reports whether a connection is closed, so that another one may take its place.
func (p modelPhase) over() bool {
	return p == modelClosed || p == modelTimeWait || p == modelReset
}

type inboundModel struct {
	t testing.TB
	r *rand.Rand
	l *LoadBalancer

	c       Config
	all     Config // with every rule there may be
	now     time.Duration
	blocked map[netip.Addr]bool // clients, by the network security group
	denied  map[netip.Addr]bool // by the same group, to whom backends may not send

	down     map[string]bool      // machines
	healthy  map[watchedHost]bool // as their probe has found
	proven   map[watchedHost]bool
	streak   map[watchedHost]int
	attempts int
	states   map[watchedHost]snat.TargetState // of the probed rules' targets

	flows    map[inboundFlow]*inboundSession
	outbound map[outboundKey]*outboundFlow
	chosen   map[string]string            // backends by flow and eligible ones
	mapped   map[string]map[string]uint16 // frontend ports of inbound NAT rules, by rule and backend
	answers  int                          // to stragglers, which Advance may send
	datagram uint32                       // number of the last one in pieces
	seen     map[string]int
}

// outboundKey tells an outbound flow apart: all are of UDP.
type outboundKey struct{ inside, remote netip.AddrPort }

type outboundFlow struct {
	outside netip.AddrPort
	last    time.Duration
}

// isInternal reports whether the frontends are private.
func (m *inboundModel) isInternal() bool {
	return m.c.FrontendIPConfigurations[0].PrivateIPAddress.IsValid()
}

// frontend returns the address of a family's frontend.
func (m *inboundModel) frontend(family int) netip.Addr {
	return m.c.FrontendIPConfigurations[family].addr()
}

// modelBackends are five machines with addresses of both families.
func modelBackends() []Backend {
	all := publicPool(5, 1, 0).Backends
	for i := range all {
		all[i].Addrs = append(all[i].Addrs, modelAddr(modelSubnet[1], 4+i))
	}
	return all
}

// modelPool is a public or an internal load balancer for five machines: rules of all kinds
// for each family, or HA ports for one of them, inbound NAT rules, and where it is public and
// Standard outbound ports on the same frontends.
func modelPool(r *rand.Rand) Config {
	c := publicPool(5, 1, 64)
	c.Backends = modelBackends()
	c.SKU = SKU(r.IntN(4) / 3)
	internal, ha := r.IntN(2) == 0, -1
	if internal && c.SKU == Standard {
		ha = r.IntN(3) - 1
	}
	c.FrontendIPConfigurations = nil
	for i, name := range modelFrontend {
		f := FrontendIPConfiguration{Name: name, PublicIPAddress: modelPublic[i]}
		if internal {
			f = FrontendIPConfiguration{Name: name, PrivateIPAddress: modelPrivate[i]}
		}
		c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, f)
	}
	c.OutboundRules[0].FrontendIPConfigurations = modelFrontend[:]
	if internal || c.SKU == Basic {
		c.OutboundRules = nil
	}
	c.AssumeHealthy, c.FirstResult = r.IntN(4) == 0, r.IntN(4) == 0
	c.ICMP.Errors = r.IntN(4) > 0
	switch r.IntN(3) {
	case 0:
		c.Fragments.Mode = snat.FragmentsVirtual
	case 1:
		c.DropHAPortsFragments = r.IntN(2) == 0
	}
	c.Probes = []probe.Probe{{Name: "health", Port: 8080, Interval: 5 * time.Second, NumberOfProbes: 1 + r.IntN(3), NoHealthyBackendsBehavior: probe.NoHealthyBackendsBehavior(r.IntN(2))}}
	reset := r.IntN(2) == 0 && c.SKU == Standard
	for family := range modelFrontend {
		rules, nat := modelRules(r, family, c.BackendAddressPools[0].Name)
		if family == ha {
			l := rules[3]
			l.Name, l.FrontendPort, l.BackendPort, l.EnableFloatingIP = "ha", 0, 0, r.IntN(2) == 0
			rules, nat = []LoadBalancingRule{l}, nil
		}
		for i := range rules {
			rules[i].DisableOutboundSNAT = c.SKU == Standard && !internal
			rules[i].EnableTCPReset = reset && rules[i].Protocol != snat.UDP
		}
		c.LoadBalancingRules, c.InboundNATRules = append(c.LoadBalancingRules, rules...), append(c.InboundNATRules, nat...)
	}
	return c
}

// modelRules are the rules of a family.
func modelRules(r *rand.Rand, family int, pool string) ([]LoadBalancingRule, []InboundNATRule) {
	rules := []LoadBalancingRule{
		{Name: "http", Protocol: snat.TCP, FrontendPort: modelHTTP, BackendPort: 8080, IdleTimeout: time.Duration(4+r.IntN(4)) * time.Minute},
		{Name: "https", Protocol: snat.TCP, FrontendPort: modelHTTPS, BackendPort: modelHTTPS, EnableFloatingIP: true},
		{Name: "dns", Protocol: snat.UDP, FrontendPort: modelDNS, BackendPort: 5353},
		{Name: "both", FrontendPort: modelBoth, BackendPort: 9000},
	}
	for i := range rules {
		l := &rules[i]
		l.Name += modelFrontend[family]
		l.FrontendIPConfiguration, l.BackendAddressPool, l.Probe = modelFrontend[family], pool, "health"
		l.LoadDistribution = LoadDistribution(r.IntN(3))
	}
	nat := []InboundNATRule{
		{Name: "one", Backend: fmt.Sprint("node", r.IntN(5)), FrontendPort: modelOne, BackendPort: 2200},
		{Name: "ssh", Protocol: snat.TCP, BackendAddressPool: pool, FrontendPortRangeStart: modelNAT, FrontendPortRangeEnd: modelNAT + 7, BackendPort: 22},
	}
	if r.IntN(3) == 0 {
		nat[0].BackendPort, nat[0].EnableFloatingIP = modelOne, true
	}
	for i := range nat {
		nat[i].Name += modelFrontend[family]
		nat[i].FrontendIPConfiguration = modelFrontend[family]
	}
	return rules, nat
}

func newInboundModel(t testing.TB, r *rand.Rand) *inboundModel {
	m := &inboundModel{
		t: t, r: r, c: modelPool(r), blocked: map[netip.Addr]bool{}, denied: map[netip.Addr]bool{}, down: map[string]bool{},
		healthy: map[watchedHost]bool{}, proven: map[watchedHost]bool{}, streak: map[watchedHost]int{},
		flows: map[inboundFlow]*inboundSession{}, outbound: map[outboundKey]*outboundFlow{}, chosen: map[string]string{},
		mapped: map[string]map[string]uint16{}, seen: map[string]int{},
	}
	m.c.Seed, m.c.Prober = uint64(r.IntN(256)), m
	m.c.Shards = 32 // one for each of the timers that rules may have, one day
	m.c.NetworkSecurity = m.groups()
	m.all = m.c
	l, err := New(m.c)
	require.NoError(t, err)
	m.l = l
	m.watch()
	m.mapPorts()
	m.judge()
	return m
}

// Probe answers an attempt, and notes what follows of it.
func (m *inboundModel) Probe(_ flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	m.attempts++
	up, h := !m.down[b.Name], watchedHost{b.Name, b.Addr.Is6()}
	if up == m.healthy[h] {
		m.streak[h] = 0
	} else if m.streak[h]++; m.streak[h] >= p.NumberOfProbes || m.c.FirstResult || up && !m.proven[h] {
		m.healthy[h], m.proven[h], m.streak[h] = up, true, 0
		m.judge()
	}
	if up {
		return probe.Success
	}
	return probe.Failure
}

func (m *inboundModel) members() []string { return m.c.BackendAddressPools[0].Backends }

// exists reports whether a machine is there.
func (m *inboundModel) exists(name string) bool {
	return slices.ContainsFunc(m.c.Backends, func(b Backend) bool { return b.Name == name })
}

// watches reports whether a machine is probed at its address of a family.
func (m *inboundModel) watches(h watchedHost) bool {
	return slices.Contains(m.members(), h.name) && slices.ContainsFunc(m.c.LoadBalancingRules, func(l LoadBalancingRule) bool {
		return l.Probe != "" && (l.FrontendIPConfiguration == modelFrontend[1]) == h.is6
	})
}

// watch lets those begin anew who are watched again, and forgets those that are not.
func (m *inboundModel) watch() {
	for i := range 10 {
		h := watchedHost{fmt.Sprint("node", i/2), i%2 == 1}
		_, known := m.healthy[h]
		switch {
		case !m.watches(h):
			delete(m.healthy, h)
			delete(m.proven, h)
			delete(m.streak, h)
		case !known:
			m.healthy[h], m.proven[h] = m.c.AssumeHealthy, m.c.AssumeHealthy
		}
	}
}

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
		if m.stateOf(f, s) == snat.TargetGone {
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
			m.seen["all probed up"]++
		case m.c.SKU == Basic || len(m.members()) == 1:
			m.states[h] = snat.TargetGone
		}
	}
}

// stateOf returns what the target of a flow gets: who is no target any more keeps its flows.
func (m *inboundModel) stateOf(f inboundFlow, s *inboundSession) snat.TargetState {
	if l := m.rule(f); l == nil || l.Probe == "" || !slices.Contains(m.members(), s.backend) {
		return snat.TargetUp
	}
	return m.states[watchedHost{s.backend, f.is6}]
}

// rule returns the load-balancing rule of a flow, or nil.
func (m *inboundModel) rule(f inboundFlow) *LoadBalancingRule {
	for i := range m.c.LoadBalancingRules {
		l := &m.c.LoadBalancingRules[i]
		if l.FrontendIPConfiguration == modelFrontend[f.family()] && (l.FrontendPort == f.port || l.isHAPorts()) && has(l.Protocol, f.tcp) {
			return l
		}
	}
	return nil
}

// natRule returns the inbound NAT rule of a flow, or nil.
func (m *inboundModel) natRule(f inboundFlow) *InboundNATRule {
	for i := range m.c.InboundNATRules {
		n := &m.c.InboundNATRules[i]
		first, last := n.frontendPorts()
		if n.FrontendIPConfiguration == modelFrontend[f.family()] && first <= f.port && f.port <= last && has(n.Protocol, f.tcp) {
			return n
		}
	}
	return nil
}

func has(p snat.Protocol, tcp bool) bool {
	return p == snat.All || (p == snat.TCP) == tcp
}

// idle returns when a flow ends without packets.
func (m *inboundModel) idle(f inboundFlow, s *inboundSession) time.Duration {
	phase := s.phase
	if phase == modelSynAgain {
		phase = s.was
	}
	switch phase {
	case modelSyn, modelSynAck, modelMid:
		return 30 * time.Second
	case modelFin, modelFinBack, modelClosed, modelTimeWait:
		return 240 * time.Second
	case modelReset, modelTomb:
		return 15 * time.Second
	}
	idle := time.Duration(0)
	if l := m.rule(f); l != nil && f.tcp {
		idle = l.IdleTimeout
	} else if n := m.natRule(f); n != nil && f.tcp {
		idle = n.IdleTimeout
	}
	if idle == 0 {
		idle = 4 * time.Minute
	}
	return idle
}

// resets reports whether the ends of a flow are told when it idles out.
func (m *inboundModel) resets(f inboundFlow, s *inboundSession) bool {
	if !f.tcp || s.phase != modelOpen {
		return false
	}
	if l := m.rule(f); l != nil {
		return l.EnableTCPReset && (!l.isHAPorts() || m.c.HAPortsTCPReset)
	}
	return m.natRule(f).EnableTCPReset
}

// eligible returns the backends that a new flow may reach.
func (m *inboundModel) eligible(f inboundFlow) (names []string) {
	if n := m.natRule(f); n != nil {
		if n.Backend != "" {
			return []string{n.Backend}
		}
		for name, port := range m.mapped[n.Name] {
			if port == f.port {
				return []string{name}
			}
		}
		return nil
	}
	l := m.rule(f)
	for _, name := range m.members() {
		if l.Probe == "" || m.states[watchedHost{name, f.is6}] == snat.TargetUp {
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
	m.seen[rule.LoadDistribution.String()]++
}

// floats reports whether the flows of a frontend's port keep their destination.
func (m *inboundModel) floats(f inboundFlow) bool {
	if l := m.rule(f); l != nil {
		return l.EnableFloatingIP
	}
	n := m.natRule(f)
	return n != nil && n.EnableFloatingIP
}

// target returns the socket of a backend that a new flow is for.
func (m *inboundModel) target(backend string, f inboundFlow) netip.AddrPort {
	if m.floats(f) {
		return netip.AddrPortFrom(m.frontend(f.family()), f.port)
	}
	port := f.port
	if l := m.rule(f); l != nil && !l.isHAPorts() {
		port = l.BackendPort
	} else if n := m.natRule(f); n != nil {
		port = n.BackendPort
	}
	return netip.AddrPortFrom(m.own(backend, f.is6), port)
}

// own returns a machine's address of a family.
func (m *inboundModel) own(backend string, is6 bool) netip.Addr {
	family := 0
	if is6 {
		family = 1
	}
	return modelAddr(modelSubnet[family], int(4+backend[4]-'0'))
}

// backendAt returns the machine that has an address, or "".
func (m *inboundModel) backendAt(a netip.Addr) string {
	if i := flow.Family(a); modelSubnet[i].Contains(a) {
		b := a.AsSlice()
		return fmt.Sprintf("node%d", b[len(b)-1]-4)
	}
	return ""
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

// passTime lets some seconds pass.
func (m *inboundModel) passTime(seconds int) {
	for range seconds {
		m.now += time.Second
		m.advance()
	}
}

// advance ends what is due now.
func (m *inboundModel) advance() {
	resets, want := 0, 0
	m.l.Advance(flow.At(m.now), func(e flow.Emission) {
		resets++
		pkttest.Check(m.t, e.Packet, pkttest.ChecksumsOK())
	})
	for f, s := range m.flows {
		switch {
		case m.now-s.last < m.idle(f, s):
		case m.resets(f, s):
			s.phase, s.last = modelTomb, m.now
			want += 2
			m.seen["reset"]++
		default:
			delete(m.flows, f)
		}
	}
	for k, f := range m.outbound {
		if m.now-f.last >= 4*time.Minute {
			delete(m.outbound, k)
		}
	}
	require.GreaterOrEqual(m.t, resets, want, "resets at %v", m.now)
	require.LessOrEqual(m.t, resets, want+m.answers, "resets at %v", m.now)
	m.answers = 0
}

// check compares all sessions: nothing has leaked, and no outside tuple has two owners.
func (m *inboundModel) check() {
	m.advance() // refused connections are over when their packet has passed
	want := map[string]int{}
	for f, s := range m.flows {
		state := ""
		if f.tcp {
			state = s.phase.state()
		}
		want[fmt.Sprint(f.tcp, netip.AddrPortFrom(m.frontend(f.family()), f.port), f.client, s.inside, state)]++
	}
	for k, f := range m.outbound {
		want[fmt.Sprint(false, f.outside, k.remote, k.inside, "")]++
	}
	got, owners := map[string]int{}, map[string]int{}
	for s := range m.l.Sessions() {
		owners[fmt.Sprint(s.Proto, s.Outside, s.Remote)]++
		got[fmt.Sprint(s.Proto == 6, s.Outside, s.Remote, s.Inside, s.State)]++
	}
	for tuple, n := range owners {
		require.Equal(m.t, 1, n, "owners of %s", tuple)
	}
	for tuple, n := range got {
		if want[tuple] -= n; want[tuple] == 0 {
			delete(want, tuple)
		}
	}
	require.Empty(m.t, want, "at %v: flows of the model only, and below 0 of the load balancer only", m.now)
}

// step does one thing.
func (m *inboundModel) step() {
	switch n := m.r.IntN(100); {
	case n < 66:
		m.inboundOp()
	case n < 70:
		m.errorOp()
	case n < 73:
		m.fragmentOp()
	case n < 74:
		m.strayOp()
	case n < 88:
		m.outboundOp()
	case n < 94:
		m.passTime(1 + m.r.IntN(40))
	case n < 97:
		name := fmt.Sprint("node", m.r.IntN(5))
		m.down[name] = !m.down[name]
	default:
		m.change()
	}
}

// end lets everything end, and finds that nothing is left.
func (m *inboundModel) end() {
	m.check()
	for range 8 {
		m.passTime(5 * 60)
	}
	m.check()
	require.Empty(m.t, m.flows)
	require.Empty(m.t, m.outbound)
	s := m.l.Stats()
	require.Zero(m.t, s.SessionsActive)
	require.Equal(m.t, snat.PortUses{}, s.Ports)
	require.Zero(m.t, s.Faults)
	m.l.Close()
}

func TestInboundModel(t *testing.T) {
	pkttest.OneGoroutine(t)
	const seeds = 12
	ops := pkttest.Operations(30_000, 120_000, 600_000) / seeds
	seen := map[string]int{}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := newInboundModel(t, rand.New(rand.NewPCG(seed, 17)))
			for i := range ops {
				m.step()
				if i%50 == 0 {
					m.check()
				}
				if i%400 == 399 {
					m.fork()
				} else if i%400 == 199 {
					m.restore()
				}
				if i%2000 == 0 {
					clear(m.chosen)
				}
			}
			m.end()
			require.NotZero(t, m.attempts)
			for what, n := range m.seen {
				seen[what] += n
			}
		})
	}
	t.Log(seen)
	for _, what := range []string{
		"Default", "SourceIP", "SourceIPProtocol", "all probed up", "reset", "closed", "opened again", "picked up", "moved", "left", "loop",
		"error in", "error out", "pieces", "pieces out", "NSG in", "NSG out", "NSG again", "no target", "refused change", "cut",
	} {
		if seen[what] == 0 && !t.Failed() {
			t.Errorf("no script has reached: %s", what)
		}
	}
}

// byteSource is a source of chance that a fuzzer controls: small choices take one byte.
type byteSource struct {
	b    []byte
	more uint64
}

// Uint64 repeats the next byte, so that it counts whichever bits are used. After the last
// one it never ends.
func (s *byteSource) Uint64() uint64 {
	if len(s.b) == 0 {
		s.more += 0x9e3779b97f4a7c15
		return s.more
	}
	x := uint64(s.b[0])
	s.b = s.b[1:]
	return x * 0x0101010101010101
}

// FuzzInboundModel looks for a script on which load balancer and model disagree.
func FuzzInboundModel(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 18))
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4000 {
			t.Skip("as long as many short ones")
		}
		chance := &byteSource{b: b}
		m := newInboundModel(t, rand.New(chance))
		for len(chance.b) > 0 {
			m.step()
			m.check()
		}
		m.end()
	})
}
