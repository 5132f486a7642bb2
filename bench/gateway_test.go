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

// mostShared is how many frontends' ports all can share; a NAT gateway of Azure has 16.
const (
	mostShared  = 64
	mostOfAzure = 16
	sharedPorts = 64_512 // of a frontend
)

// gatewayWorld is a world whose instances share ports, as many as they have preallocated ones in
// the other. The outside port of a flow is random, so it is read from the packet that opened it.
type gatewayWorld struct {
	world
	inside, outside, remote []netip.AddrPort
}

// newGatewayWorld makes a NAT gateway for so many flows, of which each instance has the first k.
func newGatewayWorld(b testing.TB, flows int, is6 bool, k int, idle time.Duration) *gatewayWorld {
	_, hosts := config(flows, is6)
	ports := len(hosts) * portsPerInstance
	n := (ports + sharedPorts - 1) / sharedPorts // frontends
	if n > mostShared {
		b.Skipf("the ports of %d frontends; all can share those of %d", n, mostShared)
	}
	site := preset.Site{IdleTimeout: time.Hour}
	for i := range hosts {
		site.Instances = append(site.Instances, snat.Instance{Name: fmt.Sprint("vm", i), Addrs: []netip.Addr{hosts[i].inside}})
	}
	var frontends []netip.Addr
	for i := range n {
		frontends = append(frontends, hosts[i*62].frontend)
	}
	site.Frontends = frontends[:min(n, mostOfAzure)]
	c, err := preset.AzureNATGateway(site, preset.NATGateway2023)
	if err != nil {
		b.Fatal(err)
	}
	shared := c.Ports.(*snat.Shared)
	shared.Frontends = frontends
	shared.FirstPort, shared.LastPort, shared.MaxFlows = 1024, uint16(1023+(ports+n-1)/n), 2*ports
	c.IdleTimeout, c.HashKey = idle, 1
	w := &gatewayWorld{world: *build(b, c, hosts, flows, is6)}
	for inst := range hosts {
		for i := range k {
			w.inside = append(w.inside, netip.AddrPortFrom(hosts[inst].inside, insidePort(i)))
			w.remote = append(w.remote, gatewayRemote(inst*portsPerInstance+i, is6))
		}
	}
	w.outside = make([]netip.AddrPort, len(w.inside))
	for first := 0; first < len(w.inside); first += batch {
		w.open(b, first, min(first+batch, len(w.inside)))
	}
	return w
}

// gatewayRemote is the destination of a flow.
func gatewayRemote(i int, is6 bool) netip.AddrPort {
	a := netip.AddrFrom4([4]byte{203, 0, 113, byte(i % gatewayRemotes)})
	if is6 {
		a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 5, 15: byte(i % gatewayRemotes)})
	}
	return netip.AddrPortFrom(a, remote(is6).Port())
}

// open takes flows through the handshake.
func (w *gatewayWorld) open(b testing.TB, first, end int) {
	pkts, verdicts := buffers(end-first), make([]flow.Verdict, end-first)
	send := func(from flow.Side, flags uint8, src, dst []netip.AddrPort) {
		for i := range pkts {
			pkts[i] = tcp(pkts[i], src[first+i], dst[first+i], flags)
		}
		w.send(from, batch, pkts, verdicts)
		forwarded(b, verdicts)
	}
	send(flow.Inside, flow.SYN, w.inside, w.remote)
	for i, p := range pkts {
		w.outside[first+i] = sourceOf(p)
	}
	send(flow.Outside, flow.SYN|flow.ACK, w.remote, w.outside)
	send(flow.Inside, flow.ACK, w.inside, w.remote)
}

// keepAll sends a segment on each flow.
func (w *gatewayWorld) keepAll(b testing.TB) {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	for first := 0; first < len(w.inside); first += batch {
		n := min(batch, len(w.inside)-first)
		for i := range n {
			pkts[i] = tcp(pkts[i], w.inside[first+i], w.remote[first+i], flow.ACK)
		}
		w.send(flow.Inside, batch, pkts[:n], verdicts[:n])
		forwarded(b, verdicts[:n])
	}
}

// BenchmarkGateway sends segments of random established connections through a
// NAT gateway, and in the same run through preallocated ports, mode=lb.
func BenchmarkGateway(b *testing.B) {
	for _, flows := range []int{1024, 1_032_192} {
		if testing.Short() && flows > 1024 {
			break
		}
		g := newGatewayWorld(parent{b}, flows, false, portsPerInstance, time.Hour)
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

// BenchmarkGatewaySetup opens connections through a NAT gateway all of whose ports have a flow, so
// that each new one shares one. The flows opened are 1 % of the ports; others measures BenchmarkSetup.
func BenchmarkGatewaySetup(b *testing.B) {
	for _, flows := range flowCounts(b) {
		b.Run(fmt.Sprintf("used=100/flows=%d", flows), func(b *testing.B) {
			w := newGatewayWorld(b, flows, false, portsPerInstance, longestIdle)
			o := &opening{w: &w.world, from: flow.Inside, keep: func() { w.keepAll(b) }, n: max(batch, flows/100), packet: func(buf []byte, i int) []byte {
				src := netip.AddrPortFrom(w.hosts[0].inside, uint16(1+i%60_000))
				dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i / 60_000), byte(i)}), remote4.Port())
				return tcp(buf, src, dst, flow.SYN)
			}}
			o.measure(b, nil)
		})
	}
}
