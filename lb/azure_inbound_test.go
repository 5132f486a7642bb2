package lb

// What Azure's documents say of inbound flows, row by row, with packets.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// machines are the backends as a prober sees them: those named are down.
type machines map[string]bool

func (m machines) Probe(_ flow.Time, b probe.Backend, _ *probe.Probe) probe.Result {
	if m[b.Name] {
		return probe.Failure
	}
	return probe.Success
}

// web is a public load balancer with nodes backends and rules for TCP port 80 and UDP
// port 53 of 20.50.1.1, which lead to 8080 and 5353, probed every 5 s, down after two
// failures. Nothing is translated outbound.
func web(sku SKU, nodes int, down machines) Config {
	c := publicPool(nodes, 1, 0)
	c.SKU, c.OutboundRules, c.Prober = sku, nil, down
	c.Probes = []probe.Probe{{Name: "health", Port: 8080, Interval: 5 * time.Second}}
	rule := LoadBalancingRule{
		Name: "http", FrontendIPConfiguration: "ip0", BackendAddressPool: c.BackendAddressPools[0].Name,
		Protocol: snat.TCP, FrontendPort: 80, BackendPort: 8080, Probe: "health", DisableOutboundSNAT: sku == Standard,
	}
	c.LoadBalancingRules = append(c.LoadBalancingRules, rule)
	rule.Name, rule.Protocol, rule.FrontendPort, rule.BackendPort = "dns", snat.UDP, 53, 5353
	c.LoadBalancingRules = append(c.LoadBalancingRules, rule)
	return c
}

// site drives a load balancer as its clients and backends do.
type site struct {
	*testing.T
	carrier
	now flow.Time
}

// newSite returns a load balancer whose first probes have been made.
func newSite(t *testing.T, c Config) *site {
	s := &site{T: t, carrier: newLoadBalancer(t, c)}
	s.pass(0)
	s.pass(5 * time.Second)
	return s
}

// pass lets time pass, and returns what is emitted.
func (s *site) pass(d time.Duration) (emitted []string) {
	s.now = s.now.Add(d)
	s.Advance(s.now, func(e flow.Emission) { emitted = append(emitted, fmt.Sprintf("%v %s", e.To, pkttest.String(e.Packet))) })
	return emitted
}

// in sends a packet from outside and returns the index of the backend that gets it, or
// the reason why none does.
func (s *site) in(p []byte) string {
	s.Helper()
	v := s.Inbound(s.now, p)
	if v.Action != flow.Forward {
		return v.Reason.String()
	}
	require.Equal(s, flow.Inside, v.To)
	pkttest.Check(s, p, pkttest.ChecksumsOK())
	return fmt.Sprint(v.Instance)
}

// out sends a packet from inside and returns its source, or the reason of its drop.
func (s *site) out(p []byte) string {
	s.Helper()
	v := s.Outbound(s.now, p)
	if v.Action != flow.Forward {
		return v.Reason.String()
	}
	pkttest.Check(s, p, pkttest.ChecksumsOK())
	src, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(pkttest.String(p), "TCP "), "UDP "), " ")
	return src
}

func client(i int) string { return fmt.Sprintf("203.0.113.%d:%d", 1+i%200, 40_000+i) }

// The segments of a connection: who opens it has sequence number 100, the other 500.
func syn(src, dst string) []byte {
	return pkttest.TCP(src, dst, pkttest.TCPFlags("S"), pkttest.Seq(100))
}
func synAck(src, dst string) []byte {
	return pkttest.TCP(src, dst, pkttest.TCPFlags("SA"), pkttest.Seq(500), pkttest.Ack(101))
}
func ack(src, dst string) []byte {
	return pkttest.TCP(src, dst, pkttest.TCPFlags("A"), pkttest.Seq(101), pkttest.Ack(501))
}
func ackBack(src, dst string) []byte {
	return pkttest.TCP(src, dst, pkttest.TCPFlags("A"), pkttest.Seq(501), pkttest.Ack(101))
}
func dgram(src, dst string) []byte { return pkttest.UDP(src, dst, "query") }

// node is the address of a backend by its index.
func node(i string) string {
	return map[string]string{"0": "10.224.0.4", "1": "10.224.0.5", "2": "10.224.0.6", "3": "10.224.0.7"}[i]
}

// connect opens a TCP connection of a client to 20.50.1.1:80 and returns its backend.
func (s *site) connect(from string) string {
	s.Helper()
	to := s.in(syn(from, "20.50.1.1:80"))
	require.NotEmpty(s, node(to), "SYN: %s", to)
	require.Equal(s, "20.50.1.1:80", s.out(synAck(node(to)+":8080", from)))
	require.Equal(s, to, s.in(ack(from, "20.50.1.1:80")))
	return to
}

// The source stays, the destination becomes the backend's, and the answer leaves as the
// frontend (load balancer concepts): TCP and UDP, IPv4 and IPv6.
func TestAzureInboundPassThrough(t *testing.T) {
	s := newSite(t, web(Standard, 2, nil))
	p := syn(client(1), "20.50.1.1:80")
	to := s.in(p)
	pkttest.Check(t, p, pkttest.Src(client(1)), pkttest.Dst(node(to)+":8080"))
	assert.Equal(t, "20.50.1.1:80", s.out(synAck(node(to)+":8080", client(1))))
	p = dgram(client(2), "20.50.1.1:53")
	to = s.in(p)
	pkttest.Check(t, p, pkttest.Src(client(2)), pkttest.Dst(node(to)+":5353"))
	assert.Equal(t, "20.50.1.1:53", s.out(dgram(node(to)+":5353", client(2))))

	c := internalPool(2)
	withSecond(&c, func(l *LoadBalancingRule) { l.FrontendIPConfiguration = "fe6" })
	s = newSite(t, c)
	p = syn("[fd00:9::1]:4000", "[fd00:1::9]:80")
	to = s.in(p)
	pkttest.Check(t, p, pkttest.Src("[fd00:9::1]:4000"), pkttest.Dst(fmt.Sprintf("[fd00::%d]:8080", 4+int(to[0]-'0'))))
	assert.Equal(t, "[fd00:1::9]:80", s.out(pkttest.TCP(fmt.Sprintf("[fd00::%d]:8080", 4+int(to[0]-'0')), "[fd00:9::1]:4000", pkttest.TCPFlags("SA"))))
}

// One frontend in both senses: a rule's port goes to the rule, an owned SNAT port to its
// owner, and what is neither is dropped.
func TestAzureOneFrontendBothSenses(t *testing.T) {
	c := withRule(publicPool(2, 1, 1024), true)
	s := newSite(t, c)
	assert.Equal(t, "20.50.1.1:1024", s.out(syn("10.224.0.4:5000", "203.0.113.9:80")))
	assert.Equal(t, "0", s.in(synAck("203.0.113.9:80", "20.50.1.1:1024")))
	assert.NotEmpty(t, node(s.in(syn(client(0), "20.50.1.1:443"))))
	assert.NotEmpty(t, s.in(syn(client(0), "20.50.1.1:444")))
	assert.Empty(t, node(s.in(syn(client(0), "20.50.1.1:444"))))
	assert.Empty(t, node(s.in(dgram(client(0), "20.50.1.1:443"))), "the rule is for TCP")
}

func TestAzureDistribution_Default(t *testing.T) {
	s := newSite(t, web(Standard, 4, nil))
	got := map[string]int{}
	for i := range 4000 {
		got[s.in(dgram(fmt.Sprintf("203.0.113.9:%d", 1024+i), "20.50.1.1:53"))]++
	}
	for to, n := range got {
		assert.InDelta(t, 1000, n, 120, "backend %s", to)
	}
	assert.Len(t, got, 4)
}

// distributed returns the backends that one client's flows reach with a distribution, by
// TCP and by UDP on one frontend.
func distributed(t *testing.T, d LoadDistribution) (tcp, udp []string) {
	c := web(Standard, 4, nil)
	for i := range c.LoadBalancingRules {
		c.LoadBalancingRules[i].LoadDistribution = d
	}
	s := newSite(t, c)
	seen := [2]map[string]bool{{}, {}}
	for i := range 64 {
		from := fmt.Sprintf("203.0.113.9:%d", 40_000+i)
		seen[0][s.in(syn(from, "20.50.1.1:80"))] = true
		seen[1][s.in(dgram(from, "20.50.1.1:53"))] = true
	}
	return slices.Sorted(maps.Keys(seen[0])), slices.Sorted(maps.Keys(seen[1]))
}

// sessionAffinity ClientIP of Kubernetes is SourceIP.
func TestAzure_61_client_IP_affinity(t *testing.T) {
	tcp, udp := distributed(t, SourceIP)
	assert.Len(t, tcp, 1)
	assert.Equal(t, tcp, udp, "the protocol does not count")
	tcp, udp = distributed(t, SourceIPProtocol)
	assert.Len(t, tcp, 1)
	assert.Len(t, udp, 1)
	tcp, _ = distributed(t, DefaultDistribution)
	assert.Len(t, tcp, 4)
}

func TestAzure_62_probe_intervals(t *testing.T) {
	for interval, ok := range map[time.Duration]bool{5 * time.Second: true, 4 * time.Second: false} {
		c := web(Standard, 2, nil)
		c.Probes[0].Interval = interval
		if err := c.Validate(); ok {
			assert.NoError(t, err)
		} else {
			assert.ErrorIs(t, err, flow.ErrOutOfRange)
		}
	}
}

// Existing flows stay on their backend when the pool changes.
func TestAzurePoolChangeSparesFlows(t *testing.T) {
	c := web(Standard, 4, nil)
	s := newSite(t, c)
	at := map[string]string{}
	for i := range 64 {
		at[client(i)] = s.connect(client(i))
	}
	c.BackendAddressPools[0].Backends = []string{"node3", "node1", "node0"}
	_, err := s.carrier.(*LoadBalancer).Reconfigure(s.now, c)
	require.NoError(t, err)
	for from, to := range at {
		assert.Equal(t, to, s.in(ack(from, "20.50.1.1:80")), "also those of the backend that left the pool")
		assert.Equal(t, "20.50.1.1:80", s.out(ackBack(node(to)+":8080", from)))
	}
	for i := range 64 {
		assert.NotEqual(t, "2", s.in(syn(client(1000+i), "20.50.1.1:80")))
	}
}

// probed opens TCP connections and UDP flows until both backends have some, and takes
// backends down or changes the configuration.
func TestAzureProbe_one_down(t *testing.T) {
	for _, sku := range []SKU{Standard, Basic} {
		down := machines{}
		s := newSite(t, web(sku, 2, down))
		s.pass(5 * time.Second)
		tcp, udp := map[string]string{}, map[string]string{}
		for i := range 32 {
			tcp[client(i)] = s.connect(client(i))
			udp[client(i)] = s.in(dgram(client(i), "20.50.1.1:53"))
		}
		down["node0"] = true
		s.pass(5 * time.Second)
		s.pass(5 * time.Second)
		for from, to := range tcp {
			assert.Equal(t, to, s.in(ack(from, "20.50.1.1:80")), "%v: established TCP stays", sku)
		}
		for from := range udp {
			assert.Equal(t, "1", s.in(dgram(from, "20.50.1.1:53")), "%v: UDP moves", sku)
		}
		for i := range 32 {
			assert.Equal(t, "1", s.in(syn(client(100+i), "20.50.1.1:80")), "%v: new ones go to the other", sku)
		}
		down["node0"] = false
		s.pass(5 * time.Second)
		assert.Equal(t, "1", s.in(syn(client(200), "20.50.1.1:80")), "one success is not enough")
		s.pass(5 * time.Second)
		back := map[string]bool{}
		for i := range 32 {
			back[s.in(syn(client(300+i), "20.50.1.1:80"))] = true
		}
		assert.Len(t, back, 2, "%v: after two it takes flows again", sku)
	}
}

// allDown returns what becomes of an established TCP connection, a UDP flow and a new
// connection when all backends go down.
func allDown(t *testing.T, sku SKU, nodes int, change func(*Config)) (tcp, udp, fresh bool) {
	down := machines{}
	c := web(sku, nodes, down)
	change(&c)
	s := newSite(t, c)
	s.pass(5 * time.Second)
	s.connect(client(1))
	s.in(dgram(client(1), "20.50.1.1:53"))
	for i := range nodes {
		down[fmt.Sprint("node", i)] = true
	}
	s.pass(5 * time.Second)
	s.pass(5 * time.Second)
	to := s.in(ack(client(1), "20.50.1.1:80"))
	tcp = node(to) != "" && s.out(ackBack(node(to)+":8080", client(1))) == "20.50.1.1:80"
	udp = node(s.in(dgram(client(1), "20.50.1.1:53"))) != ""
	answer := s.in(syn(client(2), "20.50.1.1:80"))
	if fresh = node(answer) != ""; !fresh {
		assert.Equal(t, flow.ReasonNoTarget.String(), answer)
	}
	return tcp, udp, fresh
}

func TestAzure_60_all_probes_down(t *testing.T) {
	none := func(*Config) {}
	tcp, udp, fresh := allDown(t, Standard, 2, none)
	assert.Equal(t, []bool{true, false, false}, []bool{tcp, udp, fresh}, "Standard keeps TCP")
	tcp, udp, fresh = allDown(t, Basic, 2, none)
	assert.Equal(t, []bool{false, false, false}, []bool{tcp, udp, fresh}, "Basic ends it")
	tcp, udp, fresh = allDown(t, Standard, 1, none)
	assert.Equal(t, []bool{false, false, false}, []bool{tcp, udp, fresh}, "a pool of one")
}

func TestAzureProbe_AllProbedUp(t *testing.T) {
	tcp, udp, fresh := allDown(t, Standard, 2, func(c *Config) { c.Probes[0].NoHealthyBackendsBehavior = probe.AllProbedUp })
	assert.Equal(t, []bool{true, true, true}, []bool{tcp, udp, fresh})
}

func TestAzureProbe_none_on_the_rule(t *testing.T) {
	tcp, udp, fresh := allDown(t, Basic, 2, func(c *Config) {
		c.LoadBalancingRules[0].Probe, c.LoadBalancingRules[1].Probe = "", ""
	})
	assert.Equal(t, []bool{true, true, true}, []bool{tcp, udp, fresh})
}

func TestAzureAdminState(t *testing.T) {
	down := machines{"node0": true}
	c := web(Standard, 2, down)
	reached := func(s *site, from int) []string {
		seen := map[string]bool{}
		for i := range 32 {
			seen[s.in(syn(client(from+i), "20.50.1.1:80"))] = true
		}
		return slices.Sorted(maps.Keys(seen))
	}
	s := newSite(t, c)
	s.pass(5 * time.Second)
	assert.Equal(t, []string{"1"}, reached(s, 0), "None: the probe decides")
	l := s.carrier.(*LoadBalancer)
	set := func(states ...BackendAdminState) {
		c.BackendAddressPools[0].AdminStates = states
		_, err := l.Reconfigure(s.now, c)
		require.NoError(t, err)
	}
	set(BackendAdminState{"node0", probe.AdminUp})
	assert.Equal(t, []string{"0", "1"}, reached(s, 100), "Up: whatever the probe says")
	tcp, udp := s.connect(client(500)), map[string]string{}
	for i := range 32 {
		udp[client(i)] = s.in(dgram(client(i), "20.50.1.1:53"))
	}
	set(BackendAdminState{fmt.Sprint("node", tcp), probe.AdminDown}, BackendAdminState{fmt.Sprint("node", string('0'+'1'-tcp[0])), probe.AdminUp})
	assert.NotContains(t, reached(s, 200), tcp, "Down: no new flows")
	assert.Equal(t, tcp, s.in(ack(client(500), "20.50.1.1:80")), "TCP stays")
	assert.Contains(t, slices.Collect(maps.Values(udp)), tcp)
	for from := range udp {
		assert.NotEqual(t, tcp, s.in(dgram(from, "20.50.1.1:53")), "UDP moves")
	}

	c.LoadBalancingRules[0].Probe, c.LoadBalancingRules[1].Probe = "", ""
	set(BackendAdminState{"node0", probe.AdminDown})
	assert.Equal(t, []string{"0", "1"}, reached(s, 300), "only rules with a probe have administrative states")
}

// A load balancer answers nothing by itself: where no backend is up, SYNs are lost.
func TestAzureInboundNeverAnswers(t *testing.T) {
	s := newSite(t, web(Standard, 2, machines{"node0": true, "node1": true}))
	assert.Equal(t, flow.ReasonNoTarget.String(), s.in(syn(client(1), "20.50.1.1:80")))
	assert.Empty(t, s.pass(time.Minute))
}

// The idle timeout of a rule, its reset to both ends, and what comes after it: a late
// segment is taken for the first of a flow (Ananta), unless the flow was reset.
func TestAzureInboundIdleTimeout(t *testing.T) {
	for _, reset := range []bool{false, true} {
		c := web(Standard, 2, nil)
		c.LoadBalancingRules[0].IdleTimeout, c.LoadBalancingRules[0].EnableTCPReset = 10*time.Minute, reset
		c.LoadBalancingRules[1].IdleTimeout = 10 * time.Minute
		s := newSite(t, c)
		to := s.connect(client(1))
		s.in(dgram(client(1), "20.50.1.1:53"))
		count := func() (n int) {
			for range s.carrier.(*LoadBalancer).Sessions() {
				n++
			}
			return n
		}
		assert.Empty(t, s.pass(4*time.Minute))
		assert.Equal(t, 1, count(), "UDP has 4 minutes, whatever the rule says")
		assert.Equal(t, to, s.in(ack(client(1), "20.50.1.1:80")))
		assert.Empty(t, s.pass(10*time.Minute-flow.Tick))
		got := s.pass(flow.Tick)
		if !reset {
			assert.Empty(t, got)
		} else if assert.Len(t, got, 2) {
			slices.Sort(got)
			assert.Contains(t, got[0], client(1)+" > "+node(to)+":8080")
			assert.Contains(t, got[1], "20.50.1.1:80 > "+client(1))
		}
		if late := s.in(ack(client(1), "20.50.1.1:80")); reset {
			assert.Equal(t, flow.ReasonFlowReset.String(), late, "further segments fail")
		} else {
			assert.Equal(t, to, late, "hashed like a first packet")
		}
		assert.Equal(t, to, s.in(syn(client(1), "20.50.1.1:80")), "a new connection begins at once")
	}
}

// Floating IP: the destination stays, so two rules may lead to one backend port.
func TestAzureFloatingIP(t *testing.T) {
	c := web(Standard, 2, nil)
	c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "ip1", PublicIPAddress: netip.MustParseAddr("20.50.1.2")})
	l := &c.LoadBalancingRules[0]
	l.EnableFloatingIP, l.BackendPort = true, 80
	withSecond(&c, func(l *LoadBalancingRule) { l.FrontendIPConfiguration = "ip1" })
	s := newSite(t, c)
	for _, frontend := range []string{"20.50.1.1:80", "20.50.1.2:80"} {
		p := syn(client(1), frontend)
		was := slices.Clone(p)
		to := s.in(p)
		assert.NotEmpty(t, node(to))
		assert.Equal(t, was, p, "nothing is rewritten")
		answer := synAck(frontend, client(1))
		was = slices.Clone(answer)
		assert.Equal(t, frontend, s.out(answer))
		assert.Equal(t, was, answer)
	}
}

// A machine behind floating IP is probed at its own address, and what it sends from the
// frontend's is not translated: only its own address is.
func TestAzureFloatingIP_ownAddress(t *testing.T) {
	c := web(Standard, 2, nil)
	l := &c.LoadBalancingRules[0]
	l.EnableFloatingIP, l.BackendPort = true, 80
	probed := map[netip.Addr]bool{}
	c.Prober = probe.ProberFunc(func(_ flow.Time, b probe.Backend, _ *probe.Probe) probe.Result {
		probed[b.Addr] = true
		return probe.Success
	})
	outbound := publicPool(2, 2, 64)
	c.FrontendIPConfigurations, c.OutboundRules = outbound.FrontendIPConfigurations, outbound.OutboundRules
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip1"}
	s := newSite(t, c)
	s.pass(5 * time.Second)
	assert.Equal(t, map[netip.Addr]bool{netip.MustParseAddr("10.224.0.4"): true, netip.MustParseAddr("10.224.0.5"): true}, probed)
	p := syn("20.50.1.1:5000", "203.0.113.9:443")
	v := s.carrier.Outbound(s.now, p)
	assert.Equal(t, flow.ReasonSpoofFrontend, v.Reason)
	pkttest.Check(t, p, pkttest.Src("20.50.1.1:5000"))
	p = syn("10.224.0.4:5000", "203.0.113.9:443")
	assert.Equal(t, flow.Forward, s.carrier.Outbound(s.now, p).Action)
}

// HA ports: all ports and protocols of an internal frontend.
func TestAzureHAPorts(t *testing.T) {
	s := newSite(t, haPorts(2, false))
	for i, port := range []int{1, 22, 80, 1024, 65535} {
		for _, p := range [][]byte{syn(client(i), fmt.Sprint("10.225.0.4:", port)), dgram(client(i), fmt.Sprint("10.225.0.4:", port))} {
			to := s.in(p)
			pkttest.Check(t, p, pkttest.Src(client(i)), pkttest.Dst(fmt.Sprintf("%s:%d", node(to), port)))
		}
	}
}

func TestAzureInboundNATRules(t *testing.T) {
	c := natPool("node0", "node1")
	c.InboundNATRules = append(c.InboundNATRules, InboundNATRule{
		Name: "rdp", FrontendIPConfiguration: "fe", Protocol: snat.TCP, Backend: "node2", FrontendPort: 3389, BackendPort: 33890,
	})
	s := newSite(t, c)
	for port, want := range map[int]string{5000: "10.224.0.4:22", 5001: "10.224.0.5:22", 3389: "10.224.0.6:33890"} {
		p := syn(client(port), fmt.Sprint("10.225.0.4:", port))
		s.in(p)
		pkttest.Check(t, p, pkttest.Dst(want))
		assert.Equal(t, fmt.Sprint("10.225.0.4:", port), s.out(synAck(want, client(port))))
	}
	assert.Equal(t, flow.ReasonNoTarget.String(), s.in(syn(client(1), "10.225.0.4:5002")), "nobody's yet")
}

// A backend that connects to its own internal frontend is served by another one, or by
// itself, and then it waits in vain: once in n flows.
func TestAzureInternalHairpin(t *testing.T) {
	s := newSite(t, internalPool(4))
	lost := 0
	for i := range 4000 {
		p := syn(fmt.Sprintf("10.224.0.4:%d", 1024+i), "10.225.0.4:80")
		v := s.Outbound(s.now, p)
		if v.Action == flow.Drop {
			require.Equal(t, flow.ReasonTargetLoop, v.Reason)
			lost++
			continue
		}
		require.NotZero(t, v.Instance)
		pkttest.Check(t, p, pkttest.Src(fmt.Sprintf("10.224.0.4:%d", 1024+i)), pkttest.ChecksumsOK())
	}
	assert.InDelta(t, 1000, lost, 120)
}

// Fragments of rules are not forwarded.
func TestAzureInboundFragments(t *testing.T) {
	s := newSite(t, web(Standard, 2, nil))
	p := pkttest.UDP(client(1), "20.50.1.1:53", "16 bytes of data")
	p[6] |= 0x20 // more fragments
	pkttest.FixChecksums(p)
	v := s.Inbound(s.now, p)
	assert.Equal(t, []any{flow.Drop, flow.ReasonFragment}, []any{v.Action, v.Reason})
}

// haPortsOf is haPorts for both families.
func haPortsOf(floating bool) Config {
	c := haPorts(3, floating)
	six := c.LoadBalancingRules[0]
	six.Name, six.FrontendIPConfiguration = "ha6", "fe6"
	c.LoadBalancingRules = append(c.LoadBalancingRules, six)
	return c
}

// fragmentsOf sends datagrams in pieces.
type fragmentsOf struct {
	*testing.T
	carrier
	last uint32 // identification
}

// pass sends a datagram in pieces by a door, the first one first or last, and returns what
// comes out, and the reason of each drop.
func (x *fragmentsOf) pass(from flow.Side, src, dst string, firstLast bool) (out [][]byte, dropped []flow.Reason) {
	x.last++
	pieces := pkttest.Fragments(pkttest.UDP(src, dst, strings.Repeat("x", 100)), 40, x.last)
	if firstLast {
		slices.Reverse(pieces)
	}
	for _, p := range pieces {
		v := map[flow.Side]func(flow.Time, []byte) flow.Verdict{flow.Inside: x.Outbound, flow.Outside: x.Inbound}[from](0, p)
		switch v.Action {
		case flow.Forward:
			out = append(out, p)
		case flow.Drop:
			dropped = append(dropped, v.Reason)
		}
	}
	x.Advance(0, func(e flow.Emission) { out = append(out, slices.Clone(e.Packet)) })
	return out, dropped
}

// check checks that all pieces have come out, from one address to another.
func (x *fragmentsOf) check(out [][]byte, src, dst string) {
	x.Helper()
	require.Len(x, out, 3)
	for _, p := range out {
		at, size := 12, 4
		if p[0]>>4 == 6 {
			at, size = 8, 16
		}
		assert.Equal(x, netip.MustParseAddr(src).AsSlice(), p[at:at+size])
		assert.Equal(x, netip.MustParseAddr(dst).AsSlice(), p[at+size:at+2*size])
	}
}

// HA ports carry fragments in both directions, in any order, and nothing else does: neither
// what a machine begins, nor the rules of one port beside them. It is so whether the load
// balancer is alone or beside a public one.
func TestAzureInboundFragmentsOfHAPorts(t *testing.T) {
	for i := range 8 {
		floating, beside, firstLast := i&1 > 0, i&2 > 0, i&4 > 0
		c := haPortsOf(floating)
		x := &fragmentsOf{T: t, carrier: newLoadBalancer(t, c)}
		if beside {
			public := web(Standard, 3, nil)
			public.Backends, public.Prober = c.Backends, nil
			public.Probes, public.LoadBalancingRules = nil, public.LoadBalancingRules[:1]
			public.LoadBalancingRules[0].Probe, public.LoadBalancingRules[0].Protocol = "", snat.UDP
			public.LoadBalancingRules[0].EnableTCPReset = false
			x.carrier = newEgress(t, EgressConfig{LoadBalancer: public, InternalLoadBalancers: []InternalLoadBalancer{besides(c)}})
			_, dropped := x.pass(flow.Outside, "203.0.113.7:4000", "20.50.1.1:80", firstLast)
			assert.Equal(t, []flow.Reason{flow.ReasonFragment, flow.ReasonFragment, flow.ReasonFragment}, dropped, "none has waited")
			p := dgram("203.0.113.7:4000", "20.50.1.1:80")
			require.Equal(t, flow.Forward, x.Inbound(0, p).Action)
			x.drops(flow.Inside, destination(p), "203.0.113.7:4000", firstLast)
		}
		for _, at := range [][2]string{{"10.224.9.9", "10.225.0.4"}, {"fd00:9::9", "fd00:1::9"}} {
			client, frontend := netip.MustParseAddr(at[0]), netip.MustParseAddr(at[1])
			for port := range 12 {
				from, to := netip.AddrPortFrom(client, uint16(4000+port)).String(), netip.AddrPortFrom(frontend, 53).String()
				out, _ := x.pass(flow.Outside, from, to, firstLast)
				require.Len(t, out, 3)
				backend := netip.AddrPortFrom(frontend, 53)
				if !floating {
					b, _ := netip.AddrFromSlice(out[0][map[byte]int{4: 16, 6: 24}[out[0][0]>>4]:][:client.BitLen()/8])
					require.True(t, slices.ContainsFunc(c.Backends, func(own Backend) bool { return slices.Contains(own.Addrs, b) }), "%v", b)
					backend = netip.AddrPortFrom(b, 53)
				}
				x.check(out, at[0], backend.Addr().String())
				out, _ = x.pass(flow.Inside, backend.String(), from, firstLast)
				x.check(out, at[1], at[0])
			}
		}
		for _, own := range c.Backends[0].Addrs { // it begins this
			x.drops(flow.Inside, netip.AddrPortFrom(own, 7000).String(), map[bool]string{true: "203.0.113.9:53", false: "[2001:db8::9]:53"}[own.Is4()], firstLast)
		}
	}
}

// drops checks that no piece of a datagram comes out, for a reason that tells why, and that
// nothing is queued in the end.
func (x *fragmentsOf) drops(from flow.Side, src, dst string, firstLast bool) {
	x.Helper()
	before := x.Stats()
	out, dropped := x.pass(from, src, dst, firstLast)
	assert.Empty(x, out, "%s to %s", src, dst)
	for _, reason := range dropped {
		assert.Equal(x, flow.ReasonFragment, reason, "%s to %s", src, dst)
	}
	after := x.Stats()
	assert.Equal(x, before.Fragments.Queued, after.Fragments.Queued)
	assert.Equal(x, before.SessionsActive, after.SessionsActive, "%s to %s", src, dst)
}

// What HA ports carry does not depend on what outbound flows do, but for one wish that
// cannot be granted.
func TestDropHAPortsFragments(t *testing.T) {
	c := haPortsOf(false)
	c.DropHAPortsFragments = true
	x := &fragmentsOf{T: t, carrier: newLoadBalancer(t, c)}
	x.drops(flow.Outside, "10.224.9.9:4000", "10.225.0.4:53", false)
	x.drops(flow.Outside, "[fd00:9::9]:4000", "[fd00:1::9]:53", true)
	assert.Zero(t, x.Stats().Fragments.Datagrams, "none is known")

	l := newLoadBalancer(t, c)
	c.DropHAPortsFragments = false
	_, err := l.Reconfigure(0, c)
	require.ErrorIs(t, err, snat.ErrFixed)
	assert.ErrorContains(t, err, "DropHAPortsFragments false: cannot be changed by Reconfigure: it is true")
	e := newEgress(t, EgressConfig{LoadBalancer: c})
	c.DropHAPortsFragments = true
	_, err = e.Reconfigure(0, EgressConfig{LoadBalancer: c})
	require.ErrorIs(t, err, snat.ErrFixed)
	assert.ErrorContains(t, err, "LoadBalancer.DropHAPortsFragments true: cannot be changed by Reconfigure: it is false")

	c.DropHAPortsFragments, c.Fragments.Mode = false, snat.FragmentsVirtual // all of them
	x.carrier = newLoadBalancer(t, c)
	out, _ := x.pass(flow.Outside, "10.224.9.9:4000", "10.225.0.4:53", true)
	assert.Len(t, out, 3)

	// Beside all of them a rule of one port has none.
	c = internalPool(3)
	c.Fragments.Mode = snat.FragmentsVirtual
	c.LoadBalancingRules[0].Protocol, c.LoadBalancingRules[0].EnableTCPReset = snat.UDP, false
	x.carrier = newLoadBalancer(t, c)
	x.drops(flow.Outside, "10.224.9.9:4000", "10.225.0.4:80", false)
}

// A rule that is added under traffic takes its block of ports from outbound flows; the
// flows on it end, the others go on.
func TestAzureRuleTakesBlockLive(t *testing.T) {
	c := publicPool(1, 1, 16)
	s := newSite(t, c)
	for i := range 16 {
		require.Equal(t, fmt.Sprint("20.50.1.1:", 1024+i), s.out(syn(fmt.Sprintf("10.224.0.4:%d", 5000+i), "203.0.113.9:80")))
	}
	c = withRule(c, true)
	c.LoadBalancingRules[0].FrontendPort = 1030
	change, err := s.carrier.(*LoadBalancer).Reconfigure(s.now, c)
	require.NoError(t, err)
	assert.Equal(t, 8, change.Total().Cut[snat.CutReclaimed])
	for i := range 8 {
		assert.Equal(t, fmt.Sprint("20.50.1.1:", 1032+i), s.out(ack(fmt.Sprintf("10.224.0.4:%d", 5008+i), "203.0.113.9:80")))
	}
	assert.Empty(t, node(s.in(synAck("203.0.113.9:80", "20.50.1.1:1025"))))
	assert.Equal(t, "0", s.in(syn(client(1), "20.50.1.1:1030")))
	assert.Equal(t, "20.50.1.1:1040", s.out(syn("10.224.0.4:6000", "203.0.113.9:80")), "another block came in its place")
}

// Network security groups see inbound flows after translation, and with the client's
// address; a change of rules is for new flows.
func TestAzureNSGOfInboundFlows(t *testing.T) {
	groups := func(allow ...nsg.SecurityRule) *nsg.Config {
		all := nsg.Config{NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "web", SecurityRules: allow}}}
		all.Subnets = []nsg.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/16")}, NetworkSecurityGroup: "web"}}
		return &all
	}
	c := web(Standard, 2, nil)
	open := nsg.SecurityRule{
		Name: "http", Priority: 100, Direction: nsg.Inbound, Access: nsg.Allow, Protocol: nsg.TCP, SourceAddressPrefixes: []string{"203.0.113.0/24"},
		SourcePortRanges: []string{"*"}, DestinationAddressPrefixes: []string{"10.224.0.0/16"}, DestinationPortRanges: []string{"8080"},
	}
	c.NetworkSecurity = groups(open)
	s := newSite(t, c)
	to := s.connect(client(1))
	assert.Equal(t, flow.ReasonNSGInbound.String(), s.in(syn("198.51.100.1:4000", "20.50.1.1:80")), "another source")
	assert.Equal(t, flow.ReasonNSGInbound.String(), s.in(dgram(client(1), "20.50.1.1:53")), "another port")
	c.NetworkSecurity = groups()
	_, err := s.carrier.(*LoadBalancer).Reconfigure(s.now, c)
	require.NoError(t, err)
	assert.Equal(t, to, s.in(ack(client(1), "20.50.1.1:80")), "established flows go on")
	s.in(pkttest.TCP(client(1), "20.50.1.1:80", pkttest.TCPFlags("RA"), pkttest.Seq(101), pkttest.Ack(501)))
	assert.Equal(t, flow.ReasonNSGInbound.String(), s.in(pkttest.TCP(client(1), "20.50.1.1:80", pkttest.TCPFlags("S"), pkttest.Seq(90_000))), "the next connection from there is new")
	assert.Equal(t, flow.ReasonNSGInbound.String(), s.in(syn(client(2), "20.50.1.1:80")))
}

func TestAzureInboundMetrics(t *testing.T) {
	down := machines{"node1": true}
	c := web(Standard, 2, down)
	c.CountTraffic = true
	s := newSite(t, c)
	s.pass(5 * time.Second)
	read := func(m monitor.Metric) (lines []string) {
		for _, x := range s.Metrics() {
			if x.Metric == m {
				lines = append(lines, x.String())
			}
		}
		return lines
	}
	assert.Equal(t, []string{
		"VipAvailability FrontendIPAddress=20.50.1.1 FrontendPort=80 100", "VipAvailability FrontendIPAddress=20.50.1.1 FrontendPort=53 100",
	}, read(monitor.VipAvailability))
	assert.Equal(t, []string{
		"DipAvailability FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.4 FrontendPort=80 BackendPort=8080 Protocol=TCP 100",
		"DipAvailability FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.5 FrontendPort=80 BackendPort=8080 Protocol=TCP 0",
		"DipAvailability FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.4 FrontendPort=53 BackendPort=5353 Protocol=UDP 100",
		"DipAvailability FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.5 FrontendPort=53 BackendPort=5353 Protocol=UDP 0",
	}, read(monitor.DipAvailability))
	s.connect(client(1))
	assert.Contains(t, read(monitor.SYNCount), "SYNCount FrontendIPAddress=20.50.1.1 Direction=Inbound 1")
	assert.Contains(t, read(monitor.PacketCount), "PacketCount FrontendIPAddress=20.50.1.1 Direction=Inbound 2")
	assert.Contains(t, read(monitor.PacketCount), "PacketCount FrontendIPAddress=20.50.1.1 Direction=Outbound 1")
	s.in(dgram(client(1), "20.50.1.1:53"))
	count := func(port, direction string, packets int) {
		t.Helper()
		assert.Contains(t, read(monitor.PacketCount), fmt.Sprintf("PacketCount FrontendIPAddress=20.50.1.1 %sDirection=%s %d", port, direction, packets))
	}
	count("", "Inbound", 3)
	count("FrontendPort=80 ", "Inbound", 2)
	count("FrontendPort=80 ", "Outbound", 1)
	count("FrontendPort=53 ", "Inbound", 1)
	count("FrontendPort=53 ", "Outbound", 0)
	assert.Contains(t, read(monitor.SYNCount), "SYNCount FrontendIPAddress=20.50.1.1 FrontendPort=80 Direction=Inbound 1")
	down["node0"] = true
	s.pass(5 * time.Second)
	s.pass(5 * time.Second)
	assert.Contains(t, read(monitor.VipAvailability), "VipAvailability FrontendIPAddress=20.50.1.1 FrontendPort=80 0")
}

// Groups are found by name, whatever indexes backends have after a change of the pool.
func TestAzureNSGFollowsBackends(t *testing.T) {
	c := web(Basic, 3, nil)
	c.NetworkSecurity = &nsg.Config{
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "closed"}},
		NetworkInterfaces:     []nsg.NetworkInterface{{Name: "node2", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.6")}, NetworkSecurityGroup: "closed"}},
		WithoutGroup:          nsg.Open,
	}
	s := newSite(t, c)
	c.Backends, c.BackendAddressPools[0].Backends = c.Backends[2:], []string{"node2"}
	_, err := s.carrier.(*LoadBalancer).Reconfigure(s.now, c)
	require.NoError(t, err)
	assert.Equal(t, flow.ReasonNSGInbound.String(), s.in(syn(client(1), "20.50.1.1:80")), "node2 has still index 2, and is now the only backend")
}

// A rule for one port precedes HA ports on its frontend, if both have floating IP. When it
// comes or goes, flows stay where they are.
func TestAzureHAPortsBesideARule(t *testing.T) {
	c := haPorts(3, true)
	c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: "web", Backends: []string{"node2"}})
	c.BackendAddressPools[0].Backends = []string{"node0", "node1"}
	alone := c
	s := newSite(t, c)
	before := s.in(syn(client(0), "10.225.0.4:80"))
	require.NotEqual(t, "2", before)
	withSecond(&c, func(l *LoadBalancingRule) {
		l.BackendAddressPool, l.Protocol, l.FrontendPort, l.BackendPort, l.IdleTimeout, l.EnableTCPReset = "web", snat.TCP, 80, 80, 9*time.Minute, true
	})
	l := s.carrier.(*LoadBalancer)
	_, err := l.Reconfigure(s.now, c)
	require.NoError(t, err)
	assert.Equal(t, before, s.in(ack(client(0), "10.225.0.4:80")), "the flow stays")
	assert.Equal(t, "10.225.0.4:80", s.out(synAck("10.225.0.4:80", client(0))))
	for i := 1; i < 40; i++ {
		assert.Equal(t, "2", s.in(syn(client(i), "10.225.0.4:80")))
		assert.NotEqual(t, "2", s.in(syn(client(i), "10.225.0.4:81")))
		assert.NotEqual(t, "2", s.in(dgram(client(i), "10.225.0.4:80")), "the rule is for TCP")
		assert.Equal(t, "10.225.0.4:80", s.out(synAck("10.225.0.4:80", client(i))))
	}
	_, err = l.Reconfigure(s.now, alone)
	require.NoError(t, err)
	assert.Equal(t, "2", s.in(ack(client(1), "10.225.0.4:80")), "the flow stays")
	assert.NotEqual(t, "2", s.in(syn(client(41), "10.225.0.4:80")))
}

// No reset is sent by HA ports, behind which an appliance is thought to be, unless one asks for
// it; by any other rule one is.
func TestHAPortsSendNoResets(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ha, send bool
		want     int
	}{{"HA ports", true, false, 0}, {"HA ports, without appliance", true, true, 2}, {"one port", false, false, 2}} {
		for _, beside := range []bool{false, true} {
			c := internalPool(2)
			if tt.ha {
				c = haPorts(2, false)
				c.LoadBalancingRules[0].EnableTCPReset = true
			}
			c.HAPortsTCPReset = tt.send
			s := &site{T: t, carrier: newLoadBalancer(t, c)}
			if beside {
				public := publicPool(2, 1, 64)
				public.Backends, public.HAPortsTCPReset = c.Backends, tt.send
				s.carrier = newEgress(t, EgressConfig{LoadBalancer: public, InternalLoadBalancers: []InternalLoadBalancer{besides(c)}})
			}
			port := map[bool]string{true: ":80", false: ":8080"}[tt.ha]
			backend := node(s.in(syn("10.226.0.9:40000", "10.225.0.4:80"))) + port
			s.out(synAck(backend, "10.226.0.9:40000"))
			s.in(ack("10.226.0.9:40000", "10.225.0.4:80"))
			assert.Len(t, s.pass(4*time.Minute), tt.want, "%s, beside a public one: %v", tt.name, beside)
		}
	}
}
