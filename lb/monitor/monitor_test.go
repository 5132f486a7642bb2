package monitor

// What becomes of samples. The samples of running load balancers and gateways are
// tested in package lb.

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

func TestSamplerForgetsOldGrains(t *testing.T) {
	value := 0.0
	s := NewSampler(func() []Sample {
		value++
		return []Sample{{Metric: UsedSnatPorts, Value: value}, {Metric: SYNCount, Value: value}}
	}, 3)
	for minute := range 10 {
		s.Sample(flow.At(time.Duration(minute) * time.Minute))
	}
	n := 0
	for series, points := range s.Series(Grain) {
		n++
		require.Len(t, points, 3)
		assert.Equal(t, flow.At(7*time.Minute), points[0].At)
		assert.Equal(t, map[Metric]float64{UsedSnatPorts: 10, SYNCount: 1}[series.Metric], series.Value)
	}
	assert.Equal(t, 2, n)
}

func TestSamplerFollowsAReplacedSource(t *testing.T) {
	values := []float64{5, 8, 2, 2}
	s := NewSampler(func() []Sample {
		v := values[0]
		values = values[1:]
		return []Sample{{Metric: PacketCount, Value: v}}
	}, 0)
	for range 4 {
		s.Sample(flow.At(0))
	}
	for _, points := range s.Series(Grain) {
		assert.Equal(t, []Point{{Sum: 3 + 2, Count: 4, Max: 3}}, points)
	}
	assert.PanicsWithValue(t, "monitor: points of 1s, not of whole minutes", func() { s.Series(time.Second) })
	assert.Panics(t, func() { NewSampler(nil, -1) })
	s.last = flow.At(time.Hour)
	assert.Panics(t, func() { s.Sample(0) })
}

// Active flows are no events, though Azure Monitor adds up their samples.
func TestSamplerAddsUpActiveFlows(t *testing.T) {
	values := []float64{5, 8, 2}
	s := NewSampler(func() []Sample {
		v := values[0]
		values = values[1:]
		return []Sample{{Metric: TotalConnectionCount, Value: v}}
	}, 0)
	for range 3 {
		s.Sample(flow.At(0))
	}
	for series, points := range s.Series(Grain) {
		assert.Equal(t, 15.0, series.Value)
		assert.Equal(t, []Point{{Sum: 15, Count: 3, Min: 2, Max: 8}}, points)
	}
}

func TestMetricNames(t *testing.T) {
	assert.Equal(t, Average, UsedSnatPorts.Aggregation())
	assert.Equal(t, Total, SnatConnectionCount.Aggregation())
	assert.Equal(t, "Total Average", fmt.Sprint(Total, " ", Average))
	s := Sample{Metric: SNATConnectionCount, Dimensions: Dimensions{Protocol: snat.TCP, ConnectionState: Attempted, IsAwaitingRemoval: true}, Value: 1}
	assert.Equal(t, "SNATConnectionCount Protocol=TCP ConnectionState=attempted IsAwaitingRemoval=true 1", s.String())
}

// A translator that carries queries has the same metrics as one that does not.
func TestQueriesAreLeftOut(t *testing.T) {
	read := func(queries bool) []Sample {
		backend := netip.MustParseAddr("10.0.0.4")
		c := snat.Config{Dataplane: snat.Dataplane{CountTraffic: true, ICMP: snat.ICMP{Queries: queries}}, Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{backend}, Ports: []snat.PortRange{
				{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 8}, {Frontend: netip.MustParseAddr("203.0.113.11"), First: 1024, Count: 8},
			},
		}}}
		nat, err := snat.New(c)
		require.NoError(t, err)
		defer nat.Close()
		for i := range 9 {
			nat.Outbound(0, pkttest.UDP(fmt.Sprintf("10.0.0.4:%d", 5000+i), "198.51.100.7:53", "query"))
			nat.Outbound(0, pkttest.ICMPEcho("10.0.0.4", "198.51.100.7", uint16(i), 1))
		}
		return LoadBalancer(nat, func(string, bool) netip.Addr { return backend })
	}
	assert.Equal(t, read(false), read(true))
	assert.Contains(t, fmt.Sprint(read(true)), "PacketCount FrontendIPAddress=203.0.113.11 Direction=Outbound 1")
}
