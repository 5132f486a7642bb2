package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

func lines(samples []monitor.Sample) (all []string) {
	for _, s := range samples {
		if s.Value != 0 {
			all = append(all, s.String())
		}
	}
	return all
}

func total(samples []monitor.Sample, m monitor.Metric, want func(monitor.Dimensions) bool) (sum float64) {
	for _, s := range samples {
		if s.Metric == m && want(s.Dimensions) {
			sum += s.Value
		}
	}
	return sum
}

func open(t testing.TB, l *LoadBalancer, now time.Duration, src string) flow.Action {
	t.Helper()
	return l.Outbound(flow.At(now), pkttest.UDP(src, "203.0.113.53:53", "query")).Action
}

// By hand: 8 ports, 9 queries of 33 bytes, one answer, one SYN of 40 bytes.
func TestMetricsByHand(t *testing.T) {
	c := publicPool(2, 1, 8)
	c.CountTraffic = true
	l := newLoadBalancer(t, c)
	for i := range 9 {
		open(t, l, 0, fmt.Sprintf("10.224.0.4:%d", 5000+i))
	}
	require.Equal(t, flow.Forward, l.Inbound(flow.At(0), pkttest.UDP("203.0.113.53:53", "20.50.1.1:1024", "answer")).Action)
	syn := pkttest.TCP("10.224.0.5:5000", "203.0.113.80:443", pkttest.TCPFlags("S"))
	require.Equal(t, flow.Forward, l.Outbound(flow.At(0), syn).Action)
	require.Len(t, syn, 40)

	const node0, node1 = "FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.4", "FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.5"
	assert.Equal(t, []string{
		"SnatConnectionCount " + node0 + " ConnectionState=successful 8",
		"SnatConnectionCount " + node0 + " ConnectionState=failed 1",
		"AllocatedSnatPorts " + node0 + " Protocol=TCP 8",
		"AllocatedSnatPorts " + node0 + " Protocol=UDP 8",
		"UsedSnatPorts " + node0 + " Protocol=UDP 8",
		"SnatConnectionCount " + node1 + " ConnectionState=successful 1",
		"AllocatedSnatPorts " + node1 + " Protocol=TCP 8",
		"UsedSnatPorts " + node1 + " Protocol=TCP 1",
		"AllocatedSnatPorts " + node1 + " Protocol=UDP 8",
		"ByteCount FrontendIPAddress=20.50.1.1 Direction=Inbound 34",
		"PacketCount FrontendIPAddress=20.50.1.1 Direction=Inbound 1",
		"SYNCount FrontendIPAddress=20.50.1.1 Direction=Outbound 1",
		fmt.Sprintf("ByteCount FrontendIPAddress=20.50.1.1 Direction=Outbound %d", 8*33+40),
		"PacketCount FrontendIPAddress=20.50.1.1 Direction=Outbound 9",
	}, lines(l.Metrics()))
	assert.Equal(t, []snat.StrandedPorts{{Name: "node0", Protocol: snat.UDP, Failed: 1, FreeElsewhere: 8}}, l.Stranded())
}

func TestBackendWithoutFrontendFails(t *testing.T) {
	c := publicPool(1, 1, 8)
	c.OutboundRules = nil
	l := newLoadBalancer(t, c)
	require.Equal(t, flow.Drop, open(t, l, 0, "10.224.0.4:5000"))
	assert.Equal(t, []string{"SnatConnectionCount BackendIPAddress=10.224.0.4 ConnectionState=failed 1"}, lines(l.Metrics()))
}

// Both families have series of their own, under the backend's address of the family.
func TestMetricsOfBothFamilies(t *testing.T) {
	c := publicPool(1, 1, 8)
	c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "ip6", PublicIPAddress: netip.MustParseAddr("2001:db8::1")})
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip0", "ip6"}
	c.Backends[0].Addrs = append(c.Backends[0].Addrs, netip.MustParseAddr("fd00::4"))
	l := newLoadBalancer(t, c)
	c.Backends[0].Addrs[1] = netip.MustParseAddr("fd00::5") // the load balancer keeps no reference
	require.Equal(t, flow.Forward, l.Outbound(flow.At(0), pkttest.UDP("[fd00::4]:5000", "[2001:db8:5::7]:53", "query")).Action)
	samples := l.Metrics()
	assert.Contains(t, lines(samples), "UsedSnatPorts FrontendIPAddress=2001:db8::1 BackendIPAddress=fd00::4 Protocol=UDP 1")
	assert.Equal(t, float64(32), total(samples, monitor.AllocatedSnatPorts, func(monitor.Dimensions) bool { return true }))
}

func TestMetricsAddUpToStats(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := publicPool(4, 2, 16)
	c.CountTraffic = true
	l := newLoadBalancer(t, c)
	flags := []string{"S", "A", "FA", "R"}
	for step := range 8000 {
		now := flow.At(time.Duration(step) * 100 * time.Millisecond)
		src := fmt.Sprintf("10.224.0.%d:%d", 4+r.IntN(4), 5000+r.IntN(60))
		dst := fmt.Sprintf("20.50.1.%d:%d", 1+r.IntN(2), 1024+r.IntN(64))
		const remote = "203.0.113.80:443"
		switch r.IntN(4) {
		case 0:
			l.Outbound(now, pkttest.UDP(src, remote, "query"))
		case 1:
			l.Outbound(now, pkttest.TCP(src, remote, pkttest.TCPFlags(flags[r.IntN(4)])))
		case 2:
			l.Inbound(now, pkttest.UDP(remote, dst, "answer"))
		case 3:
			l.Inbound(now, pkttest.TCP(remote, dst, pkttest.TCPFlags("RA"), pkttest.Ack(1)))
		}
	}
	s, m := l.Stats(), l.Metrics()
	state := func(c monitor.ConnectionState) func(monitor.Dimensions) bool {
		return func(d monitor.Dimensions) bool { return d.ConnectionState == c }
	}
	direction := func(c monitor.Direction) func(monitor.Dimensions) bool {
		return func(d monitor.Dimensions) bool { return d.Direction == c }
	}
	all := func(monitor.Dimensions) bool { return true }
	assert.Equal(t, float64(s.ConnectionsSuccessful), total(m, monitor.SnatConnectionCount, state(monitor.Successful)))
	assert.Equal(t, float64(s.ConnectionsFailed), total(m, monitor.SnatConnectionCount, state(monitor.Failed)))
	assert.NotZero(t, s.ConnectionsFailed)
	assert.Zero(t, total(m, monitor.SnatConnectionCount, state(monitor.Pending)))
	assert.Equal(t, float64(s.Outbound.Forwarded), total(m, monitor.PacketCount, direction(monitor.OutboundPackets)))
	assert.Equal(t, float64(s.Inbound.Forwarded), total(m, monitor.PacketCount, direction(monitor.InboundPackets)))
	assert.NotZero(t, s.Inbound.Forwarded)
	assert.Equal(t, float64(4*16*2), total(m, monitor.AllocatedSnatPorts, all))
	used := 0
	for _, f := range l.Frontends() {
		used += f.Used
	}
	assert.Equal(t, float64(used), total(m, monitor.UsedSnatPorts, all))
	assert.NotZero(t, used)
	after := func(h monitor.Hold) func(monitor.Dimensions) bool {
		return func(d monitor.Dimensions) bool { return d.HeldAfter == h }
	}
	assert.Equal(t, float64(s.Ports.HeldFIN), total(m, monitor.HeldSnatPorts, after(monitor.AfterFIN)))
	assert.Equal(t, float64(s.Ports.HeldRST), total(m, monitor.HeldSnatPorts, after(monitor.AfterRST)))
	assert.NotZero(t, s.Ports.HeldRST)
}

// A port that only a closed connection keeps from its destination is used.
func TestHeldPortsAreUsed(t *testing.T) {
	l := newLoadBalancer(t, publicPool(1, 1, 8))
	const pod, web, outside = "10.224.0.4:4000", "203.0.113.80:443", "20.50.1.1:1024"
	l.Outbound(0, pkttest.TCP(pod, web, pkttest.SYN, pkttest.Seq(1000)))
	l.Inbound(0, pkttest.TCP(web, outside, pkttest.TCPFlags("RA"), pkttest.Ack(1001)))
	var lines []string
	for _, s := range l.Metrics() {
		if s.Protocol == snat.TCP {
			lines = append(lines, s.String())
		}
	}
	const of = " FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.4 Protocol=TCP"
	assert.Equal(t, []string{
		"AllocatedSnatPorts" + of + " 8", "UsedSnatPorts" + of + " 1", "HeldSnatPorts" + of + " HeldAfter=FIN 0", "HeldSnatPorts" + of + " HeldAfter=RST 1",
	}, lines)
}

// A gauge is sampled once a minute: its average over 5 minutes is right, its sum is
// 5 times too high. A count is the same in every width.
func TestSamplerGrains(t *testing.T) {
	l := newLoadBalancer(t, publicPool(1, 1, 64))
	for i := range 7 {
		open(t, l, 0, fmt.Sprintf("10.224.0.4:%d", 4000+i))
	}
	s := monitor.NewSampler(l.Metrics, 10)
	s.Sample(flow.At(0))
	for minute := range 5 {
		now := time.Duration(minute)*time.Minute + 30*time.Second
		for i := range 7 {
			open(t, l, now, fmt.Sprintf("10.224.0.4:%d", 4000+i)) // keeps the flows alive
		}
		for i := range minute {
			open(t, l, now, fmt.Sprintf("10.224.0.4:%d", 5000+10*minute+i))
		}
		s.Sample(flow.At(now))
	}
	points := func(width time.Duration, m monitor.Metric, want func(monitor.Dimensions) bool) []monitor.Point {
		for series, points := range s.Series(width) {
			if series.Metric == m && want(series.Dimensions) {
				return points
			}
		}
		return nil
	}
	udp := func(d monitor.Dimensions) bool { return d.Protocol == snat.UDP }
	made := func(d monitor.Dimensions) bool { return d.ConnectionState == monitor.Successful }

	minutes := points(time.Minute, monitor.UsedSnatPorts, udp)
	require.Len(t, minutes, 5)
	assert.Equal(t, monitor.Point{At: 0, Sum: 14, Count: 2, Min: 7, Max: 7}, minutes[0], "the samples at 0:00 and 0:30")
	assert.Equal(t, monitor.Point{At: flow.At(4 * time.Minute), Sum: 17, Count: 1, Min: 17, Max: 17}, minutes[4])
	five := points(5*time.Minute, monitor.UsedSnatPorts, udp)
	require.Len(t, five, 1)
	assert.Equal(t, monitor.Point{Sum: 7 + 7 + 8 + 10 + 13 + 17, Count: 6, Min: 7, Max: 17}, five[0])
	assert.InDelta(t, 62.0/6, five[0].Average(), 1e-9)
	allocated := points(5*time.Minute, monitor.AllocatedSnatPorts, udp)[0]
	assert.Equal(t, float64(6*64), allocated.Sum, "a sum of 6 samples of 64 ports")
	assert.Equal(t, float64(64), allocated.Average())

	connections := points(time.Minute, monitor.SnatConnectionCount, made)
	assert.Equal(t, float64(3), connections[3].Sum, "the seven before the first sample do not count")
	assert.Equal(t, float64(0+1+2+3+4), points(5*time.Minute, monitor.SnatConnectionCount, made)[0].Sum)
}

func TestMetricsWhileTrafficRuns(t *testing.T) {
	c := publicPool(4, 1, 16)
	c.CountTraffic = true
	l := newLoadBalancer(t, c)
	done := make(chan struct{})
	for g := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 4000 {
				p := pkttest.UDP(fmt.Sprintf("10.224.0.%d:%d", 4+2*g+i%2, 5000+i%20), "203.0.113.53:53", "query")
				l.Outbound(flow.At(time.Duration(i)*time.Second), p)
			}
		}()
	}
	s := monitor.NewSampler(l.Metrics, 0)
	for running, i := 2, 0; running > 0; i++ {
		select {
		case <-done:
			running--
		default:
		}
		s.Sample(flow.At(time.Duration(i) * time.Second))
	}
	assert.Equal(t, float64(l.Stats().Outbound.Forwarded), total(l.Metrics(), monitor.PacketCount, func(monitor.Dimensions) bool { return true }))
}
