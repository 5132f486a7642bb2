package bench

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// gatewayRemotes is the number of destinations that the flows of a gateway are
// spread over; one alone would be in one shard.
const gatewayRemotes = 256

// gatewayWorld is the world of BenchmarkGateway: flows over the shared inventory
// of 16 addresses instead of over preallocated ports. The outside port of a flow
// is random, so it is read from the packet that opened it.
type gatewayWorld struct {
	world
	inside, outside, remote []netip.AddrPort
}

func newGatewayWorld(b testing.TB, flows int) *gatewayWorld {
	site := preset.Site{Instances: make([]snat.Instance, max(1, (flows+1023)/1024)), IdleTimeout: time.Hour}
	for i := range site.Instances {
		site.Instances[i] = snat.Instance{
			Name: fmt.Sprint("vm", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		}
	}
	for i := range 16 {
		site.Frontends = append(site.Frontends, netip.AddrFrom4([4]byte{20, 50, 0, byte(i)}))
	}
	c, err := preset.AzureNATGateway(site, preset.NATGateway2023)
	if err != nil {
		b.Fatal(err)
	}
	nat, err := snat.New(c)
	if err != nil {
		b.Fatal(err)
	}
	w := &gatewayWorld{world: world{nat: nat, flows: flows}}
	bufs, verdicts := buffers(batch), make([]flow.Verdict, batch)
	for i := range flows {
		w.inside = append(w.inside, netip.AddrPortFrom(site.Instances[i/1024].Addrs[0], uint16(20_000+i%1024)))
		w.remote = append(w.remote, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i % gatewayRemotes)}), remote(false).Port()))
	}
	for first := 0; first < flows; first += batch {
		for i := range batch {
			bufs[i] = tcp(bufs[i], w.inside[first+i], w.remote[first+i], flow.SYN)
		}
		w.nat.OutboundBatch(0, bufs, verdicts)
		for i, v := range verdicts {
			if v.Action != flow.Forward {
				b.Fatalf("flow %d: %v", first+i, v.Reason)
			}
			p := bufs[i]
			w.outside = append(w.outside, netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), uint16(p[20])<<8|uint16(p[21])))
		}
		for i := range batch {
			bufs[i] = tcp(bufs[i], w.remote[first+i], w.outside[first+i], flow.SYN|flow.ACK)
		}
		w.nat.InboundBatch(0, bufs, verdicts)
		for i := range batch {
			bufs[i] = tcp(bufs[i], w.inside[first+i], w.remote[first+i], flow.ACK)
		}
		w.nat.OutboundBatch(0, bufs, verdicts)
	}
	return w
}

// BenchmarkGateway sends segments of random established connections through a
// NAT gateway, and in the same run through preallocated ports, mode=lb.
func BenchmarkGateway(b *testing.B) {
	for _, flows := range []int{1024, 1_032_192} {
		if testing.Short() && flows > 1024 {
			break
		}
		g := newGatewayWorld(b, flows)
		lb := newWorld(parent{b}, flows, false)
		for _, from := range []flow.Side{flow.Inside, flow.Outside} {
			for _, size := range []int{1, batch} {
				for _, mode := range []struct {
					name string
					w    *world
					t    *traffic
				}{{"lb", lb, lb.traffic(from)}, {"gateway", &g.world, g.traffic(from)}} {
					b.Run(fmt.Sprintf("from=%v/flows=%d/batch=%d/mode=%s", from, flows, size, mode.name), func(b *testing.B) {
						f := newFloor(b, mode.w.nat.Stats().Bytes)
						run(b, mode.w, mode.t, f, from, size)
					})
				}
			}
		}
		g.nat.Close()
		lb.nat.Close()
	}
}

// traffic is the stream of packets of random flows.
func (w *gatewayWorld) traffic(from flow.Side) *traffic {
	n := min(trafficLen, max(w.flows, 1024)&^63)
	t := &traffic{pkts: make([]byte, n*64), n: n}
	rng := rand.New(rand.NewPCG(1, uint64(w.flows)))
	for i := range n {
		src, dst := w.inside, w.remote
		if from == flow.Outside {
			src, dst = w.remote, w.outside
		}
		k := rng.IntN(w.flows)
		tcp(t.pkts[i*64:i*64+64], src[k], dst[k], flow.ACK|flow.PSH)
	}
	return t
}

// BenchmarkGatewaySetup opens connections: a SYN, a port of the inventory, a
// session. With used=0 all ports are free to begin with, with used=100 all have
// a flow already, so that each new one shares a port. The flows opened are 1 % of
// the ports.
func BenchmarkGatewaySetup(b *testing.B) {
	for _, used := range []int{0, 50, 99, 100} {
		if testing.Short() && used > 0 {
			break
		}
		b.Run(fmt.Sprintf("used=%d", used), func(b *testing.B) {
			const ports = 1_032_192
			w := newGatewayWorld(b, ports*used/100&^(batch-1))
			defer w.nat.Close()
			bufs, verdicts := buffers(batch), make([]flow.Verdict, batch)
			var elapsed time.Duration
			done := 0
			for done < b.N {
				for k := 0; k < ports/100; k += batch {
					for i := range batch {
						src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 0}), uint16(1+(k+i)%19_000))
						dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), remote(false).Port())
						bufs[i] = tcp(bufs[i], src, dst, flow.SYN)
					}
					start := time.Now()
					w.nat.OutboundBatch(w.now, bufs, verdicts)
					elapsed += time.Since(start)
					for i, v := range verdicts {
						if !v.New {
							b.Fatalf("packet %d: %+v %v", i, v, v.Reason)
						}
					}
					done += batch
				}
				w.now = w.now.Add(31 * time.Second) // half-open connections expire
				w.nat.Advance(w.now, nil)
			}
			perFlow(b, elapsed, done)
		})
	}
}
