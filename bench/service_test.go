package bench

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// BenchmarkService sends segments of random established connections of clients through the
// load balancer to a node, and from there to a pod of any node (externalTrafficPolicy Cluster):
// two sessions, three sockets rewritten. Compare BenchmarkInbound.
func BenchmarkService(b *testing.B) {
	for _, flows := range flowCounts(b) {
		if flows > 1_032_192 {
			continue // more nodes than AKS allows in a cluster
		}
		b.Run(fmt.Sprintf("ip=4/flows=%d/batch=%d", flows, batch), func(b *testing.B) {
			c, _ := cluster(b, flows)
			defer c.Close()
			t := serviceTraffic(b, c, flows)
			f := newFloor(b, c.Stats().Bytes)
			pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
			measure(b, t, f, pkts, verdicts, func() { c.InboundBatch(0, pkts, verdicts) }, 0)
		})
	}
}

// serviceTraffic adds a Service with a pod of each node, establishes the flows, and returns
// the clients' packets in random order.
func serviceTraffic(b *testing.B, c *overlay.Cluster, flows int) *traffic {
	web, err := c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 443, TargetPort: 8443}}})
	if err != nil {
		b.Fatal(err)
	}
	var endpoints []overlay.Endpoint
	for p := range c.Pods() {
		endpoints = append(endpoints, overlay.Endpoint{Pod: p.Name})
	}
	if err := c.SetEndpoints("web", endpoints...); err != nil {
		b.Fatal(err)
	}
	var now flow.Time
	for range 6 { // probes
		now += flow.Time(5 * time.Second)
		c.Advance(now, nil)
	}
	client := func(i int) netip.AddrPort { return forwardClient(i, false) }
	public := netip.AddrPortFrom(web.LoadBalancerIPs[0], 443)
	buf := buffers(1)[0]
	for i := range flows {
		pkt := tcp(buf, client(i), public, flow.SYN)
		if v := c.Inbound(now, pkt); v.Action != flow.Forward {
			b.Fatalf("flow %d: %v", i, v.Reason)
		}
		seen := netip.AddrPortFrom(netip.AddrFrom4([4]byte(pkt[12:16])), uint16(pkt[20])<<8|uint16(pkt[21]))
		if v := c.Outbound(now, tcp(buf, destinationOf(pkt), seen, flow.SYN|flow.ACK)); v.Action == flow.Drop {
			b.Fatalf("flow %d: %v", i, v.Reason)
		}
		c.Inbound(now, tcp(buf, client(i), public, flow.ACK))
	}
	n := min(trafficLen, flows)
	t := &traffic{pkts: make([]byte, n*64), n: n}
	rng := rand.New(rand.NewPCG(2, uint64(flows)))
	for i := range n {
		tcp(t.pkts[i*64:i*64+64], client(rng.IntN(flows)), public, flow.ACK|flow.PSH)
	}
	return t
}
