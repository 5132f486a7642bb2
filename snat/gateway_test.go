package snat_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// The hosts of Azure's own example of a NAT gateway.
const (
	gatewayA, gatewayB = "10.0.0.1", "10.2.0.1"
	gatewayIP          = "65.52.1.1"
	farAway, faraway   = "26.108.254.155:80", "23.53.254.142:80"
)

// gateway is a NAT gateway of Azure's with one frontend of the ports from first
// on, and two instances.
func gateway(first, ports int) snat.Config {
	c, err := preset.AzureNATGateway(preset.Site{
		Instances: []snat.Instance{
			{Name: "vm-a", Addrs: []netip.Addr{addr(gatewayA), addr(vmA6)}},
			{Name: "vm-b", Addrs: []netip.Addr{addr(gatewayB)}},
		},
		Frontends: []netip.Addr{addr(gatewayIP)},
	}, preset.NATGateway2023)
	if err != nil {
		panic(err)
	}
	sharedPorts(&c).FirstPort = uint16(first)
	sharedPorts(&c).LastPort = uint16(first + ports - 1)
	return c
}

// Hold times by cause: a port may go to another flow to the same destination
// once they are over, and not before.
func TestAzure_36_GatewayHolds(t *testing.T) {
	for _, generation := range []struct {
		name                        string
		g                           preset.NATGatewayGeneration
		fin, rst, udp, half, silent time.Duration
	}{
		{"2023", preset.NATGateway2023, 65 * time.Second, 16 * time.Second, 65 * time.Second, 30 * time.Second, 0},
		{"2022", preset.NATGateway2022, 65 * time.Second, 20 * time.Second, 65 * time.Second, 25 * time.Second, 0},
		{"2020", preset.NATGateway2020, 65 * time.Second, 15 * time.Second, 5 * time.Second, 30 * time.Second, 0},
	} {
		for _, tc := range []struct {
			name  string
			proto string
			end   func(b *bed) // ends the flow; the clock then shows when it was
			hold  time.Duration
		}{
			{"FIN", "tcp", func(b *bed) {
				b.locally(gatewayA+":4285", farAway, "FA", 1001, 5001)
				b.remotely(farAway, gatewayIP+":1234", "FA", 5001, 1002)
				b.locally(gatewayA+":4285", farAway, "A", 1002, 5002)
			}, generation.fin},
			{"RST", "tcp", func(b *bed) { b.remotely(farAway, gatewayIP+":1234", "R", 5001, 0) }, generation.rst},
			{"UDP", "udp", func(b *bed) { b.lazily(4 * time.Minute) }, generation.udp},
		} {
			t.Run(generation.name+" "+tc.name, func(t *testing.T) {
				c := gateway(1234, 1)
				c, err := preset.AzureNATGateway(preset.Site{Instances: c.Instances, Frontends: sharedOf(c).Frontends}, generation.g)
				require.NoError(t, err)
				sharedPorts(&c).FirstPort = 1234
				sharedPorts(&c).LastPort = 1234
				b := newBed(t, c)
				if tc.proto == "tcp" {
					require.Equal(t, gatewayIP+":1234", b.dials(gatewayA+":4285", farAway))
				} else {
					require.Equal(t, gatewayIP+":1234", b.opens("udp", gatewayA+":4285", farAway))
				}
				tc.end(b)
				ended := time.Duration(b.now)
				b.at(ended)
				s := b.SharedPorts()[map[string]int{"tcp": 0, "udp": 1}[tc.proto]]
				uses := map[string]snat.PortUses{"FIN": {HeldFIN: 1}, "RST": {HeldRST: 1}, "UDP": {HeldUDP: 1}}[tc.name]
				assert.Equal(t, snat.SharedPortStats{Frontend: addr(gatewayIP), Protocol: s.Protocol, Allocated: 1, Used: 1, PortUses: uses, Peak: 1}, s)
				b.at(ended + tc.hold - time.Nanosecond)
				assert.Equal(t, "drop ports", b.opens(tc.proto, gatewayB+":5769", farAway))
				assert.Equal(t, gatewayIP+":1234", b.opens(tc.proto, gatewayB+":5769", faraway), "another destination may have it")
				b.at(ended + tc.hold)
				assert.Equal(t, gatewayIP+":1234", b.opens(tc.proto, gatewayB+":5769", farAway))
			})
		}
		t.Run(generation.name+" half-open", func(t *testing.T) {
			c := gateway(1234, 1)
			c, err := preset.AzureNATGateway(preset.Site{Instances: c.Instances, Frontends: sharedOf(c).Frontends}, generation.g)
			require.NoError(t, err)
			b := newBed(t, c)
			b.opens("tcp", gatewayA+":4285", farAway)
			b.at(generation.half - time.Nanosecond)
			assert.Equal(t, 1, b.Stats().SessionsActive)
			b.at(generation.half)
			assert.Equal(t, 0, b.Stats().SessionsActive)
			assert.Empty(t, b.sent(), "silently")
		})
	}
}

// One port serves two destinations at once.
func TestAzure_37_GatewayPortShared(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		b := newBed(t, gateway(1234, 1))
		assert.Equal(t, gatewayIP+":1234", b.opens(proto, gatewayA+":4283", farAway))
		assert.Equal(t, gatewayIP+":1234", b.opens(proto, gatewayA+":4283", faraway), "one socket")
		assert.Equal(t, "drop ports", b.opens(proto, gatewayA+":4284", faraway))
		assert.Equal(t, gatewayIP+":1234", b.opens(proto, gatewayB+":4283", "23.53.254.142:81"), "another port of the same address")
	}
}

// Sixteen addresses are 1,032,192 ports; seventeen are refused.
func TestAzure_38_GatewayAddresses(t *testing.T) {
	site := preset.Site{Instances: []snat.Instance{{Name: "vm", Addrs: []netip.Addr{addr(vmA)}}}}
	for i := range 17 {
		site.Frontends = append(site.Frontends, addr("203.0.113.%d", 10+i))
	}
	_, err := preset.AzureNATGateway(site, preset.NATGateway2023)
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.ErrorContains(t, err, "Frontends has 17")
	site.Frontends = site.Frontends[:16]
	c, err := preset.AzureNATGateway(site, preset.NATGateway2023)
	require.NoError(t, err)
	b := newBed(t, c)
	ports := map[snat.Protocol]int{}
	for _, s := range b.SharedPorts() {
		ports[s.Protocol] += s.Allocated
		assert.Equal(t, s.Allocated, s.Free)
	}
	assert.Equal(t, map[snat.Protocol]int{snat.TCP: 1_032_192, snat.UDP: 1_032_192}, ports)
	assert.Len(t, b.Frontends(), 32)
}

// After a silent expiry each end that goes on gets one RST, the other end none.
func TestAzure_39_GatewayResetsTheSender(t *testing.T) {
	b := newBed(t, gateway(1234, 1))
	outside := b.dials(gatewayA+":4285", farAway)
	b.at(4*time.Minute - time.Nanosecond)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at(4 * time.Minute)
	assert.Equal(t, 0, b.Stats().SessionsActive)
	assert.Empty(t, b.sent(), "expiry is silent")
	assert.Equal(t, "drop no_flow", b.locally(gatewayA+":4285", farAway, "A", 1001, 5001))
	b.at(5 * time.Minute)
	assert.Equal(t, []string{"4m0s inside TCP 26.108.254.155:80 > 10.0.0.1:4285 R seq=5001 len=0"}, b.sent())
	assert.Equal(t, "drop no_flow", b.remotely(farAway, outside, "PA", 5001, 1001))
	b.at(5 * time.Minute)
	assert.Equal(t, []string{"5m0s outside TCP 65.52.1.1:1234 > 26.108.254.155:80 R seq=1001 len=0"}, b.sent())
	assert.Equal(t, uint64(2), b.Stats().Resets)
}

// Earlier documents know of a RST to the inside only.
func TestGatewayGenerationsResetTheInside(t *testing.T) {
	for _, name := range []string{"azure-natgw-2022", "azure-natgw-2020"} {
		p, ok := preset.ByName(name)
		require.True(t, ok)
		b := configured(t, p.Configure, site(1, 1))
		outside := b.dials("10.0.0.0:4285", farAway)
		b.at(4 * time.Minute)
		require.Empty(t, b.sent(), name)
		b.locally("10.0.0.0:4285", farAway, "PA", 1001, 5001)
		b.remotely(farAway, outside, "PA", 5001, 1001)
		b.at(5 * time.Minute)
		assert.Equal(t, []string{"4m0s inside TCP 26.108.254.155:80 > 10.0.0.0:4285 R seq=5001 len=0"}, b.sent(), name)
	}
}

// What must not be answered: RSTs, broken segments, what cannot come from a
// single host, and unsolicited SYNs.
func TestResetUnknownAnswersNothingElse(t *testing.T) {
	pkttest.OneGoroutine(t)
	b := newBed(t, gateway(1024, 8))
	frontend := gatewayIP + ":1024"
	for what, pkt := range map[string][]byte{
		"RST":               pkttest.TCP(farAway, frontend, pkttest.TCPFlags("R"), pkttest.Seq(7)),
		"RST-ACK":           pkttest.TCP(farAway, frontend, pkttest.TCPFlags("RA"), pkttest.Seq(7), pkttest.Ack(8)),
		"SYN":               pkttest.TCP(farAway, frontend, pkttest.SYN),
		"bad checksum":      pkttest.TCP(farAway, frontend, pkttest.ACK, pkttest.BadChecksum()),
		"multicast source":  pkttest.TCP("224.0.0.1:80", frontend, pkttest.ACK),
		"our own address":   pkttest.TCP(gatewayIP+":80", frontend, pkttest.ACK),
		"the inside's":      pkttest.TCP(gatewayA+":80", frontend, pkttest.ACK),
		"link-local source": pkttest.TCP("169.254.0.7:80", frontend, pkttest.ACK),
		"UDP":               pkttest.UDP(farAway, frontend, "hello"),
	} {
		assert.Contains(t, b.in(pkt), "drop", what)
	}
	for what, pkt := range map[string][]byte{
		"RST":             pkttest.TCP(gatewayA+":80", farAway, pkttest.TCPFlags("R"), pkttest.Seq(7)),
		"bad checksum":    pkttest.TCP(gatewayA+":80", farAway, pkttest.ACK, pkttest.BadChecksum()),
		"multicast":       pkttest.TCP(gatewayA+":80", "224.0.0.1:80", pkttest.ACK),
		"to our frontend": pkttest.TCP(gatewayA+":80", frontend, pkttest.ACK),
		"a stranger's":    pkttest.TCP("10.9.9.9:80", farAway, pkttest.ACK),
	} {
		assert.Contains(t, b.out(pkt), "drop", what)
	}
	for _, frag := range pkttest.Fragments(pkttest.TCP(farAway, frontend, pkttest.ACK, pkttest.Payload(fmt.Sprintf("%080d", 0))), 40, 7) {
		assert.Equal(t, "drop fragment", b.in(frag))
	}
	b.at(time.Second)
	assert.Empty(t, b.sent())
	assert.Equal(t, "drop no_flow", b.in(pkttest.TCP(farAway, frontend, pkttest.TCPFlags("SA"), pkttest.Ack(77))), "a SYN-ACK is late, not unsolicited")
	b.at(time.Second)
	assert.Equal(t, []string{"1s outside TCP 65.52.1.1:1024 > 26.108.254.155:80 R seq=77 len=0"}, b.sent())
	// However many come, what waits is bounded.
	for range snat.MaxResets + 10 {
		b.Inbound(b.now, pkttest.TCP(farAway, frontend, pkttest.ACK, pkttest.Ack(77)))
	}
	b.at(time.Second)
	assert.Len(t, b.sent(), snat.MaxResets)
	assert.Equal(t, uint64(10), b.Stats().ResetsSuppressed)
}

// A datagram keeps its own direction alive, no more.
func TestGatewayUDPRefreshPerDirection(t *testing.T) {
	const idle = 240 * time.Second
	for _, tc := range []struct {
		name   string
		both   bool
		dies   time.Duration // when the first packet is at 0
		direct string
	}{
		{"inside only", false, idle, "out"},
		{"remote only", false, idle, "in"},
		{"both", true, 600*time.Second + idle, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBed(t, gateway(1024, 8))
			outside := b.opens("udp", gatewayA+":5000", farAway)
			for at := 100 * time.Second; at <= min(600*time.Second, tc.dies-1); at += 100 * time.Second {
				b.at(at)
				if tc.both || tc.direct == "out" {
					require.Equal(t, outside, b.opens("udp", gatewayA+":5000", farAway))
				}
				if tc.both || tc.direct == "in" {
					require.Equal(t, gatewayA+":5000", destination(b.in(pkttest.UDP(farAway, outside, "x"))))
				}
			}
			b.at(tc.dies - time.Nanosecond)
			assert.Equal(t, 1, b.Stats().SessionsActive)
			b.at(tc.dies)
			assert.Equal(t, 0, b.Stats().SessionsActive)
			assert.Equal(t, "drop no_flow", b.in(pkttest.UDP(farAway, outside, "late")), "a held port belongs to nobody")
			again := b.opens("udp", gatewayA+":5000", farAway)
			assert.NotEqual(t, outside, again, "not even to the socket that had it")
			b.at(tc.dies + 65*time.Second)
			assert.Equal(t, 1, b.SharedPorts()[1].Active)
			assert.Equal(t, 0, b.SharedPorts()[1].Held())
		})
	}
}

// A flow is refused exactly when no port is left for its destination or a limit
// is reached, however full the inventory is.
func TestNAT_R6_InventoryExact(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, tc := range []struct {
		name                        string
		ips, ports, perDestination  int
		max, wantEach, destinations int
		refused                     flow.Reason
	}{
		{name: "all ports", ips: 3, ports: 1000, wantEach: 3000, destinations: 3, refused: flow.ReasonPorts},
		{name: "a limit per address and destination", ips: 3, ports: 1000, perDestination: 990, wantEach: 2970, destinations: 3, refused: flow.ReasonDestinationLimit},
		{name: "a limit of one", ips: 2, ports: 10, perDestination: 1, wantEach: 2, destinations: 30, refused: flow.ReasonDestinationLimit},
		{name: "a limit in all", ips: 1, ports: 1000, max: 777, wantEach: 777, destinations: 1, refused: flow.ReasonFlowLimit},
		{name: "one port", ips: 1, ports: 1, wantEach: 1, destinations: 300, refused: flow.ReasonPorts},
	} {
		for _, proto := range []string{"tcp", "udp"} {
			t.Run(tc.name+" "+proto, func(t *testing.T) {
				c := gateway(2000, tc.ports)
				for i := 1; i < tc.ips; i++ {
					sharedPorts(&c).Frontends = append(sharedOf(c).Frontends, addr("65.52.1.%d", 1+i))
				}
				sharedPorts(&c).FlowsPerDestination = tc.perDestination
				sharedPorts(&c).MaxFlows = tc.max
				c.Timeouts.TCPOpening = 10 * time.Hour
				b := newBed(t, c)
				send := func(i int, dst string) (string, flow.Reason) {
					src := socket(gatewayA, 1+i)
					pkt := pkttest.TCP(src, dst, pkttest.SYN)
					if proto == "udp" {
						pkt = pkttest.UDP(src, dst, "x")
					}
					v := b.Outbound(b.now, pkt)
					return source(verdict(v, pkt)), v.Reason
				}
				perIP := map[string]int{}
				for d := range tc.destinations {
					dst := socket("198.51.100.7", 1+d)
					used := map[string]bool{}
					for i := range tc.wantEach {
						port, reason := send(i, dst)
						require.Equal(t, flow.ReasonNone, reason, "flow %d to destination %d", i, d)
						require.False(t, used[port], "%s twice to %s", port, dst)
						used[port] = true
						if d == 0 {
							perIP[netip.MustParseAddrPort(port).Addr().String()]++
						}
					}
					for i := range 5 {
						_, reason := send(tc.wantEach+i, dst)
						require.Equal(t, tc.refused, reason)
					}
					// One that ends makes room for one.
					if proto == "tcp" && tc.max == 0 {
						var s flow.Info
						for s = range b.Sessions() {
							if s.Remote.String() == dst {
								break
							}
						}
						b.in(pkttest.TCP(dst, s.Outside.String(), pkttest.TCPFlags("RA"), pkttest.Ack(1)))
						_, reason := send(60000, dst)
						require.Equal(t, tc.refused, reason, "held")
						b.lazily(time.Duration(b.now) + 16*time.Second)
						port, reason := send(60000, dst)
						require.Equal(t, flow.ReasonNone, reason)
						if tc.refused == flow.ReasonPorts {
							require.Equal(t, s.Outside.String(), port, "the only one")
						}
					}
				}
				assert.Len(t, perIP, tc.ips)
				b.Check()
				failed := uint64(0)
				for _, inst := range b.Instances() {
					failed += inst.Failed
					assert.Empty(t, inst.Pools)
				}
				assert.Equal(t, b.Stats().ConnectionsFailed, failed)
				b.at(20 * time.Hour)
				b.at(21 * time.Hour)
				for _, s := range b.SharedPorts() {
					assert.Equal(t, s.Allocated, s.Free, "everything comes back: %+v", s)
				}
			})
		}
	}
}

// Ports are unpredictable and evenly spread, a matter of the seed alone.
func TestNAT_R4_InventoryUnpredictable(t *testing.T) {
	draw := func(seed uint64) (ports []int) {
		c := gateway(1024, 64512)
		c.Seed = seed
		b := newBed(t, c)
		for i := range 10_000 {
			pkt := pkttest.TCP(socket(gatewayA, 1+i), farAway, pkttest.SYN)
			v := b.Outbound(0, pkt)
			require.Equal(t, flow.Forward, v.Action)
			ports = append(ports, int(netip.MustParseAddrPort(source(verdict(v, pkt))).Port()))
		}
		return ports
	}
	ports := draw(1)
	steps, buckets := 0, [64]float64{}
	for i, p := range ports {
		if i > 0 && (p-ports[i-1] == 1 || p-ports[i-1] == -1) {
			steps++
		}
		buckets[(p-1024)/1008]++
	}
	assert.Less(t, steps, 100, "steps of one")
	chi2, want := 0.0, 10_000/64.0
	for _, n := range buckets {
		chi2 += (n - want) * (n - want) / want
	}
	assert.Less(t, chi2, 63+5*math.Sqrt(2*63), "63 degrees of freedom, five sigma")
	assert.Equal(t, ports, draw(1), "the same seed")
	assert.NotEqual(t, ports, draw(2), "another seed")
}

// The frontends are used evenly.
func TestInventorySpreadsOverFrontends(t *testing.T) {
	c := gateway(1024, 64512)
	for i := range 3 {
		sharedPorts(&c).Frontends = append(sharedOf(c).Frontends, addr("65.52.1.%d", 2+i))
	}
	b := newBed(t, c)
	for i := range 4000 {
		require.Equal(t, flow.Forward, b.Outbound(0, pkttest.TCP(socket(gatewayA, 1+i), farAway, pkttest.SYN)).Action)
	}
	for _, s := range b.SharedPorts() {
		if s.Protocol == snat.TCP {
			assert.InDelta(t, 1000, s.Used, 140, "five sigma: %+v", s)
		}
	}
}

// Many goroutines on one small inventory: no tuple twice, every refusal is
// deserved, everything returns. A retransmitted first packet makes one flow.
func TestNAT_R12_InventoryConcurrent(t *testing.T) {
	const (
		workers, rounds, sockets = 8, 20, 64
		ports, ips               = 100, 2
	)
	c := gateway(1024, ports)
	sharedPorts(&c).Frontends = append(sharedOf(c).Frontends, addr("65.52.1.2"))
	n, err := snat.New(c)
	require.NoError(t, err)
	defer n.Close()
	dsts := []string{farAway, faraway, "198.51.100.7:443", "198.51.100.8:443"}
	for round := range rounds {
		now := flow.At(time.Duration(round) * 20 * time.Second)
		n.Advance(now, nil)
		var wg sync.WaitGroup
		refused := make([]int, workers)
		for w := range workers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				pkts, verdicts := make([][]byte, 0, 2*sockets), make([]flow.Verdict, 2*sockets)
				for i := range sockets {
					// Two workers share a socket: both send its first packet.
					src := socket([]string{gatewayA, gatewayB}[w/2%2], 1000+w/2*sockets+i)
					for range 2 {
						pkts = append(pkts, pkttest.TCP(src, dsts[i%len(dsts)], pkttest.SYN))
					}
				}
				n.OutboundBatch(now, pkts, verdicts[:len(pkts)])
				for i, v := range verdicts[:len(pkts)] {
					if v.Action != flow.Forward {
						refused[w]++
						continue
					}
					outside := source(verdict(v, pkts[i]))
					reply := pkttest.TCP(dsts[i/2%len(dsts)], outside, pkttest.TCPFlags("RA"), pkttest.Ack(1))
					if i%4 == 0 {
						n.Inbound(now, reply) // held for 16 s
					}
				}
			}()
		}
		wg.Wait()
		n.Check()
		tuples, perDestination := map[string]bool{}, map[string]int{}
		for s := range n.Sessions() {
			k := fmt.Sprint(s.Outside, s.Remote)
			require.False(t, tuples[k], "%s twice", k)
			tuples[k] = true
			perDestination[s.Remote.String()]++
		}
		for _, dst := range dsts {
			// 4 sockets groups of 16 flows compete for 200 ports.
			require.Equal(t, workers/2*sockets/len(dsts), perDestination[dst])
		}
	}
	for _, d := range []time.Duration{time.Hour, 2 * time.Hour} {
		n.Advance(flow.At(d), nil)
	}
	n.Check()
	for _, s := range n.SharedPorts() {
		assert.Equal(t, s.Allocated, s.Free)
	}
}

// Packets of established flows, and new flows once the memory is there, cost no
// allocation.
func TestGatewayAllocs(t *testing.T) {
	b := newBed(t, gateway(1024, 64512))
	outside := b.dials(gatewayA+":5000", farAway)
	dgram := b.opens("udp", gatewayA+":5000", farAway)
	packets := [][]byte{
		pkttest.TCP(gatewayA+":5000", farAway, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)),
		pkttest.UDP(gatewayA+":5000", farAway, "x"),
	}
	replies := [][]byte{
		pkttest.TCP(farAway, outside, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001)),
		pkttest.UDP(farAway, dgram, "x"),
	}
	buf, verdicts := [][]byte{make([]byte, 64), make([]byte, 64)}, make([]flow.Verdict, 2)
	fill := func(from [][]byte) {
		for i, p := range from {
			buf[i] = append(buf[i][:0], p...)
		}
	}
	syn := pkttest.TCP(gatewayA+":5001", farAway, pkttest.SYN)
	now := b.now
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		for _, p := range packets {
			buf[0] = append(buf[0][:0], p...)
			b.Outbound(now, buf[0])
		}
		fill(packets)
		b.OutboundBatch(now, buf, verdicts)
		fill(replies)
		b.InboundBatch(now, buf, verdicts)
		buf[0] = append(buf[0][:0], syn...)
		if v := b.Outbound(now, buf[0]); v.Action != flow.Forward {
			t.Fatal(v.Reason)
		}
		now = now.Add(time.Minute) // the half-open one is gone by then
		b.Advance(now, nil)
	}))
}

// What a shared inventory decides does not depend on shards, nor on how often Advance
// is called: flows that are over do not count, and neither does the order in which it
// was noticed that they are.
func TestInventoryDependsOnNothingElse(t *testing.T) {
	pkttest.OneGoroutine(t)
	play := func(shards int, eager, batch bool) (lines []string) {
		c := gateway(1024, 64)
		c.Shards = shards
		sharedPorts(&c).MaxFlows = 100
		c.IdleTimeout = 4 * time.Minute
		b := newBed(t, c)
		random := rand.New(rand.NewPCG(4, 4))
		for i := range 3000 {
			now := time.Duration(i) * 1500 * time.Millisecond
			if b.lazily(now); eager {
				b.at(now)
			}
			pkt := pkttest.UDP(socket(gatewayA, 5000+random.IntN(40)), socket(fmt.Sprintf("198.51.100.%d", 1+random.IntN(9)), 53), "query")
			v := [1]flow.Verdict{}
			if batch {
				b.OutboundBatch(b.now, [][]byte{pkt}, v[:])
			} else {
				v[0] = b.Outbound(b.now, pkt)
			}
			lines = append(lines, verdict(v[0], pkt))
		}
		return lines
	}
	want := play(1, true, false)
	for _, reason := range []string{"drop flow_limit", "UDP 65.52.1.1"} {
		require.True(t, slices.ContainsFunc(want, func(s string) bool { return strings.HasPrefix(s, reason) }), reason)
	}
	for _, shards := range []int{1, 2, 8} {
		for _, eager := range []bool{false, true} {
			for _, batch := range []bool{false, true} {
				assert.Equal(t, want, play(shards, eager, batch), "%d shards, %v, %v", shards, eager, batch)
			}
		}
	}
}

// A batch is what its packets are one by one, also where it reaches the limit while
// other shards have not noticed that flows are over.
func TestBatchReachesLimitOfFlows(t *testing.T) {
	for _, shards := range []int{1, 8} {
		c := gateway(1024, 1000)
		c.Shards = shards
		sharedPorts(&c).MaxFlows = 60
		b := newBed(t, c)
		for round := range 3 {
			b.lazily(time.Duration(round) * time.Hour)
			var pkts [][]byte
			for i := range 64 {
				pkts = append(pkts, pkttest.UDP(socket(gatewayA, 5000+i), socket(fmt.Sprintf("198.51.100.%d", 1+i), 53+round), "query"))
			}
			verdicts := make([]flow.Verdict, len(pkts))
			b.OutboundBatch(b.now, pkts, verdicts)
			for i, v := range verdicts {
				if i < 60 {
					assert.Equal(t, flow.Forward, v.Action, "%d shards, round %d, packet %d", shards, round, i)
				} else {
					assert.Equal(t, flow.ReasonFlowLimit, v.Reason)
				}
			}
			b.Check()
		}
	}
}
