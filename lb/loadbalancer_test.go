package lb

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

func newLoadBalancer(t *testing.T, c Config) *LoadBalancer {
	t.Helper()
	l, err := New(c)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

func TestNewRefusesWhatValidateRefuses(t *testing.T) {
	c := fullConfig()
	c.OutboundRules[0].AllocatedOutboundPorts = 12
	c.Layout = 7
	_, err := New(c)
	assert.EqualError(t, err, c.Validate().Error())
}

func TestNewReportsWhatTheTranslatorRefuses(t *testing.T) {
	c := fullConfig()
	c.ICMP.Queries, c.Timeouts.ICMP = true, time.Second
	require.NoError(t, c.Validate())
	_, err := New(c)
	assert.ErrorContains(t, err, `load balancer "kubernetes": `)
	assert.ErrorContains(t, err, "Timeouts.ICMP 1s: out of range")
}

func TestPacketsUseTheAllocation(t *testing.T) {
	c := fullConfig()
	c.OutboundRules[0].AllocatedOutboundPorts = 8
	l := newLoadBalancer(t, c)

	for i := range 8 {
		p := pkttest.TCP(fmt.Sprintf("10.244.1.9:%d", 41000+i), "203.0.113.80:443", pkttest.TCPFlags("S"))
		v := l.Outbound(flow.At(0), p)
		require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Outside, New: true, Instance: 1}, v)
		pkttest.Check(t, p, pkttest.Src(fmt.Sprintf("20.50.1.1:%d", 1032+i)), pkttest.Dst("203.0.113.80:443"), pkttest.ChecksumsOK())
	}
	p := pkttest.TCP("10.244.1.9:50000", "203.0.113.80:443", pkttest.TCPFlags("S"))
	v := l.Outbound(flow.At(0), p)
	assert.Equal(t, flow.Drop, v.Action, "no port is left for this destination")
	assert.NotZero(t, v.Reason)

	reply := pkttest.TCP("203.0.113.80:443", "20.50.1.1:1033", pkttest.TCPFlags("SA"))
	v = l.Inbound(flow.At(time.Second), reply)
	assert.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: 1}, v)
	pkttest.Check(t, reply, pkttest.Src("203.0.113.80:443"), pkttest.Dst("10.244.1.9:41001"), pkttest.ChecksumsOK())

	other := pkttest.TCP("10.224.0.4:41000", "203.0.113.80:443", pkttest.TCPFlags("S"))
	v = l.Outbound(flow.At(time.Second), other)
	assert.Equal(t, uint32(0), v.Instance)
	pkttest.Check(t, other, pkttest.Src("20.50.1.1:1024"), pkttest.ChecksumsOK())
}

// The outbound rule decides when flows idle out, and whether both ends are told.
func TestIdleTimeoutOfTheOutboundRule(t *testing.T) {
	for _, tt := range []struct {
		timeout time.Duration
		reset   bool
		idle    time.Duration
		resets  int
	}{
		{0, false, 4 * time.Minute, 0},
		{30 * time.Minute, true, 30 * time.Minute, 2},
	} {
		c := fullConfig()
		c.OutboundRules[0].IdleTimeout, c.OutboundRules[0].EnableTCPReset = tt.timeout, tt.reset
		l := newLoadBalancer(t, c)

		inside, outside, remote := "10.244.0.9:41000", "20.50.1.1:1024", "203.0.113.80:443"
		for _, step := range []struct {
			door   func(flow.Time, []byte) flow.Verdict
			packet []byte
		}{
			{l.Outbound, pkttest.TCP(inside, remote, pkttest.TCPFlags("S"), pkttest.Seq(100))},
			{l.Inbound, pkttest.TCP(remote, outside, pkttest.TCPFlags("SA"), pkttest.Seq(500), pkttest.Ack(101))},
			{l.Outbound, pkttest.TCP(inside, remote, pkttest.TCPFlags("A"), pkttest.Seq(101), pkttest.Ack(501))},
		} {
			require.Equal(t, flow.Forward, step.door(flow.At(0), step.packet).Action)
		}

		resets := 0
		count := func(flow.Emission) { resets++ }
		l.Advance(flow.At(tt.idle-flow.Tick), count)
		require.Zero(t, resets)
		late := pkttest.TCP(inside, remote, pkttest.TCPFlags("A"), pkttest.Seq(101), pkttest.Ack(501))
		l.Advance(flow.At(tt.idle), count)
		assert.Equal(t, tt.resets, resets, "idle timeout %v", tt.timeout)
		assert.Equal(t, flow.Drop, l.Outbound(flow.At(tt.idle), late).Action, "the flow is gone")
	}
}

func TestAllocationsBelongToTheCaller(t *testing.T) {
	l := newLoadBalancer(t, fullConfig())
	want, err := fullConfig().Plan()
	require.NoError(t, err)
	got := l.Allocations()
	require.Equal(t, want, got)
	got[0].Ports[0].First = 8
	assert.Equal(t, want, l.Allocations())
}

func TestObservation(t *testing.T) {
	l := newLoadBalancer(t, fullConfig())
	for i := range 3 {
		p := pkttest.UDP(fmt.Sprintf("10.244.1.9:%d", 5000+i), "203.0.113.53:53", "query")
		require.Equal(t, flow.Forward, l.Outbound(flow.At(0), p).Action)
	}
	web := pkttest.TCP("203.0.113.80:50000", "198.51.100.1:444", pkttest.TCPFlags("S"))
	assert.Equal(t, flow.Drop, l.Inbound(flow.At(0), web).Action, "no rule has the port")

	s := l.Stats()
	assert.Equal(t, uint64(3), s.ConnectionsSuccessful)
	assert.Equal(t, uint64(1), s.Inbound.Dropped)

	assert.Equal(t, []snat.FrontendStats{
		{Frontend: netip.MustParseAddr("20.50.1.1"), Protocol: snat.TCP, Allocated: 2048},
		{Frontend: netip.MustParseAddr("20.50.1.1"), Protocol: snat.UDP, Allocated: 2048, Used: 3, PortUses: snat.PortUses{Active: 3}, Peak: 3},
	}, l.Frontends())
	for i, inst := range l.Instances() {
		assert.Equal(t, fmt.Sprintf("node%d", i), inst.Name)
		assert.Equal(t, uint64(3*i), inst.Created)
	}
	assert.Equal(t, []snat.PortUser{{Name: "node1", Ports: 3}}, l.TopPorts(1, snat.ByInstance))

	ports := map[uint16]bool{}
	for session := range l.Sessions() {
		ports[session.Outside.Port()] = true
	}
	assert.Equal(t, map[uint16]bool{2048: true, 2049: true, 2050: true}, ports)

	for now := flow.At(4 * time.Minute); !l.AdvanceStep(now, nil); {
	}
	assert.Zero(t, l.Stats().SessionsActive)
	_, waiting := l.NextDeadline()
	assert.False(t, waiting)
}

func TestBatchDoors(t *testing.T) {
	l := newLoadBalancer(t, fullConfig())
	out := [][]byte{
		pkttest.UDP("10.244.0.9:5000", "203.0.113.53:53", "query"),
		pkttest.UDP("10.244.1.9:5000", "203.0.113.53:53", "query"),
	}
	verdicts := make([]flow.Verdict, 2)
	l.OutboundBatch(flow.At(0), out, verdicts)
	for i, src := range []string{"20.50.1.1:1024", "20.50.1.1:2048"} {
		assert.Equal(t, uint32(i), verdicts[i].Instance)
		pkttest.Check(t, out[i], pkttest.Src(src), pkttest.ChecksumsOK())
	}
	in := [][]byte{
		pkttest.UDP("203.0.113.53:53", "20.50.1.1:2048", "answer"),
		pkttest.UDP("203.0.113.53:53", "20.50.1.1:1024", "answer"),
	}
	l.InboundBatch(flow.At(0), in, verdicts)
	for i, dst := range []string{"10.244.1.9:5000", "10.244.0.9:5000"} {
		assert.Equal(t, flow.Forward, verdicts[i].Action)
		pkttest.Check(t, in[i], pkttest.Dst(dst), pkttest.ChecksumsOK())
	}
	at, ok := l.NextDeadline()
	assert.True(t, ok)
	assert.LessOrEqual(t, at.Duration(), 4*time.Minute)
}
