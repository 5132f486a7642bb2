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

// serviceWorld is a cluster with a Service of type LoadBalancer, which a pod of each place of all
// nodes serves, and established connections of clients outside.
type serviceWorld struct {
	c        *overlay.Cluster
	is6      bool
	now      flow.Time
	public   netip.AddrPort
	endpoint []netip.AddrPort // by flow
	seen     []netip.AddrPort // by flow: whom the endpoint sees
	bytes    int              // what the flows have added
}

// newServiceWorld makes a cluster of a node for each 1,024 flows, without flows.
func newServiceWorld(b testing.TB, flows int, is6 bool, policy overlay.TrafficPolicy) *serviceWorld {
	w := &serviceWorld{is6: is6}
	w.c, _ = newCluster(b, flows, is6)
	web := overlay.Service{
		Name: "web", Type: overlay.LoadBalancer, ExternalTrafficPolicy: policy,
		Ports:       []overlay.ServicePort{{Port: 443, TargetPort: 8443}},
		Annotations: map[string]string{"service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout": "30"},
	}
	if is6 {
		web.IPFamilies = "ipv6"
	}
	status, err := w.c.AddService(0, web)
	if err != nil {
		b.Fatal(err)
	}
	var endpoints []overlay.Endpoint
	for p := range w.c.Pods() {
		endpoints = append(endpoints, overlay.Endpoint{Pod: p.Name})
	}
	if err := w.c.SetEndpoints("web", endpoints...); err != nil {
		b.Fatal(err)
	}
	w.probed()
	w.public = netip.AddrPortFrom(status.LoadBalancerIPs[0], 443)
	return w
}

// probed lets time pass until probes have found all nodes healthy.
func (w *serviceWorld) probed() {
	for range 6 {
		w.now += flow.Time(5 * time.Second)
		w.c.Advance(w.now, nil)
	}
}

// open sends SYNs of clients, which become what the endpoints get.
func (w *serviceWorld) open(b testing.TB, bufs [][]byte, verdicts []flow.Verdict, first int) (took time.Duration) {
	for i := range bufs {
		bufs[i] = tcp(bufs[i], forwardClient(first+i, w.is6), w.public, flow.SYN)
	}
	start := time.Now()
	w.c.InboundBatch(w.now, bufs, verdicts)
	took = time.Since(start)
	for i, v := range verdicts {
		if v.Action != flow.Forward || !v.New {
			b.Fatalf("flow %d: %v %v", first+i, v.Action, v.Reason)
		}
	}
	return took
}

// keepAlive sends a segment of each client.
func (w *serviceWorld) keepAlive(bufs [][]byte, verdicts []flow.Verdict) {
	for first := 0; first < len(w.endpoint); first += batch {
		for i := range bufs {
			bufs[i] = tcp(bufs[i], forwardClient(first+i, w.is6), w.public, flow.ACK)
		}
		w.c.InboundBatch(w.now, bufs, verdicts)
	}
}

// establish opens flows and lets the pods and the clients answer.
func (w *serviceWorld) establish(b testing.TB, flows int) {
	before := w.c.Stats().Bytes
	bufs, verdicts := buffers(batch), make([]flow.Verdict, batch)
	check := func(first int) {
		for i, v := range verdicts {
			if v.Action != flow.Forward {
				b.Fatalf("flow %d: %v %v", first+i, v.Action, v.Reason)
			}
		}
	}
	for first := 0; first < flows; first += batch {
		w.open(b, bufs, verdicts, first)
		for i, p := range bufs {
			w.endpoint, w.seen = append(w.endpoint, destinationOf(p)), append(w.seen, sourceOf(p))
			bufs[i] = tcp(p, w.endpoint[first+i], w.seen[first+i], flow.SYN|flow.ACK)
		}
		w.c.OutboundBatch(w.now, bufs, verdicts)
		check(first)
		for i := range bufs {
			bufs[i] = tcp(bufs[i], forwardClient(first+i, w.is6), w.public, flow.ACK)
		}
		w.c.InboundBatch(w.now, bufs, verdicts)
		check(first)
	}
	w.bytes = w.c.Stats().Bytes - before
}

// traffic returns packets of random flows in random order: what the clients or the pods send.
func (w *serviceWorld) traffic(from flow.Side) *traffic {
	flows := len(w.endpoint)
	n := min(trafficLen, flows)
	t := &traffic{pkts: make([]byte, n*64), n: n}
	rng := rand.New(rand.NewPCG(2, uint64(flows)))
	for i := range n {
		k, buf := rng.IntN(flows), t.pkts[i*64:i*64+64]
		if from == flow.Outside {
			tcp(buf, forwardClient(k, w.is6), w.public, flow.ACK|flow.PSH)
		} else {
			tcp(buf, w.endpoint[k], w.seen[k], flow.ACK|flow.PSH)
		}
	}
	return t
}

// send takes packets through the door of a side.
func (w *serviceWorld) send(from flow.Side, pkts [][]byte, verdicts []flow.Verdict) {
	if from == flow.Outside {
		w.c.InboundBatch(w.now, pkts, verdicts)
	} else {
		w.c.OutboundBatch(w.now, pkts, verdicts)
	}
}

// sendAny is send with the door for single packets where there is only one.
func (w *serviceWorld) sendAny(from flow.Side, pkts [][]byte, verdicts []flow.Verdict) {
	switch {
	case len(pkts) > 1:
		w.send(from, pkts, verdicts)
	case from == flow.Outside:
		verdicts[0] = w.c.Inbound(w.now, pkts[0])
	default:
		verdicts[0] = w.c.Outbound(w.now, pkts[0])
	}
}

// BenchmarkService sends segments of random established connections of clients through the
// load balancer to a node, and from there to a pod (from=outside): with policy Cluster on
// any node, two sessions, three sockets rewritten; with Local on the same one. Or it sends
// the pods' answers (from=inside). In turns with it run established flows of package snat,
// as many and in the same sense: x-snat is the ratio.
func BenchmarkService(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			if flows > 1_032_192 {
				continue // more nodes than AKS allows in a cluster
			}
			var nat *world
			for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
				var w *serviceWorld
				for _, from := range []flow.Side{flow.Outside, flow.Inside} {
					b.Run(fmt.Sprintf("ip=%d/policy=%v/from=%v/flows=%d/batch=%d", ip, policy, from, flows, batch), func(b *testing.B) {
						if nat == nil {
							nat = newWorld(parent{b}, flows, ip == 6)
						}
						if w == nil {
							w = newServiceWorld(b, flows, ip == 6, policy)
							w.establish(b, flows)
						}
						f := newFloor(b, w.c.Stats().Bytes)
						pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
						beside := nat.beside(from)
						measureBeside(b, flow.Forward, w.traffic(from), f, beside, pkts, verdicts,
							func() { w.send(from, pkts, verdicts) }, float64(w.bytes)/float64(flows))
					})
				}
				if w != nil {
					w.c.Close()
				}
			}
			if nat != nil {
				nat.nat.Close()
			}
		}
	}
}

// BenchmarkServiceSetup opens connections through a Service: the load balancer chooses a
// node, and the node a pod and a port. Compare BenchmarkForwardSetup.
func BenchmarkServiceSetup(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
			for _, flows := range flowCounts(b) {
				if flows > 1_032_192 {
					continue
				}
				b.Run(fmt.Sprintf("ip=%d/policy=%v/flows=%d", ip, policy, flows), func(b *testing.B) {
					w := newServiceWorld(b, flows, ip == 6, policy)
					defer w.c.Close()
					w.establish(b, flows)
					f, t := newFloor(b, w.c.Stats().Bytes), w.traffic(flow.Outside)
					pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
					opened := max(batch, flows/100&^(batch-1))
					var elapsed, floorTime time.Duration
					for done, round := 0, 0; ; round++ {
						if round%10 == 9 { // before the load balancer's 30 minutes are over
							w.keepAlive(pkts, verdicts)
						}
						for k := 0; k < opened; k += batch {
							start := time.Now()
							f.opening(t, pkts)
							floorTime += time.Since(start)
							elapsed += w.open(b, pkts, verdicts, flows+k)
						}
						if done += opened; done >= b.N {
							sample(b, pkts)
							perFlow(b, elapsed, done)
							b.ReportMetric(float64(elapsed)/float64(floorTime), "x-floor")
							return
						}
						w.now = w.now.Add(121 * time.Second) // half-open connections expire
						w.c.Advance(w.now, nil)
					}
				})
			}
		}
	}
}
