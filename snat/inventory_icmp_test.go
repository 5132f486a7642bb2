package snat_test

// ICMP and fragments with a shared inventory.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
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

// sharing is two instances, of A and of B, that share so many ports of
// one frontend of each family from 1024 on, and whose translator carries all ICMP.
func sharing(choice snat.PortChoice, ports int, change ...func(*snat.Config)) snat.Config {
	c := snat.Config{
		Instances: []snat.Instance{
			{Name: "a", Inside: []netip.Prefix{netip.MustParsePrefix(vmA + "/32"), netip.MustParsePrefix(vmA6 + "/128")}},
			{Name: "b", Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("fd00::5/128")}},
		},
		Ports: &snat.Shared{
			Frontends: []netip.Addr{addr(frontend), addr(frontend6)},
			FirstPort: firstPort, LastPort: uint16(firstPort + ports - 1), Choice: choice,
		},
		Dataplane: snat.Dataplane{ICMP: snat.ICMP{Queries: true, Timestamps: true, Errors: true}},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// ident returns the identifier of a query.
func (r realm) ident(pkt []byte) int { return int(binary.BigEndian.Uint16(pkt[r.header+4:])) }

// pings sends an echo request and returns the identifier that it leaves with.
func (b *bed) pings(r realm, src, dst string, id uint16) int {
	b.t.Helper()
	pkt := r.ping(src, dst, id, 7)
	v := b.send(flow.Inside, pkt)
	require.Equal(b.t, flow.Forward, v.Action, "%v", v.Reason)
	out := r.ident(pkt)
	require.Empty(b.t, pkttest.Diff(pkt, r.ping(r.f, dst, uint16(out), 7)))
	b.Check()
	return out
}

// Queries of many hosts to many remotes, which are in different shards, and the
// replies to them; nobody else's.
func TestInventoryQueries(t *testing.T) {
	for _, choice := range []snat.PortChoice{snat.RandomPort, snat.PreservePort} {
		eachRealm(t, func(t *testing.T, r realm) {
			b := newBed(t, sharing(choice, 64))
			for i := range 40 {
				dst := addr("198.51.100.%d", 10+i).String()
				if r.name == "v6" {
					dst = addr("2001:db8:5::%x", 10+i).String()
				}
				mine, other := b.pings(r, r.a, dst, 1030), b.pings(r, r.b, dst, 1030)
				assert.NotEqual(t, mine, other)
				if choice == snat.PreservePort {
					assert.Equal(t, 1030, mine, "kept")
				}
				assert.Equal(t, mine, b.pings(r, r.a, dst, 1030), "by the same session")
				b.forwards(flow.Outside, r.pong(dst, r.f, uint16(mine), 7), r.pong(dst, r.a, 1030, 7))
				b.forwards(flow.Outside, r.pong(dst, r.f, uint16(other), 7), r.pong(dst, r.b, 1030, 7))
				b.drops(flow.Outside, r.pong(r.rx, r.f, uint16(mine), 7), flow.ReasonNoFlow)
				b.drops(flow.Outside, r.ping(dst, r.f, uint16(mine), 7), flow.ReasonNoFlow)
			}
			require.Equal(t, 80, b.Stats().SessionsActive)
			for _, s := range b.SharedPorts() {
				if s.Frontend == netip.MustParseAddr(r.f) && s.Protocol == snat.Query {
					assert.True(t, s.Used > 1 && s.Used+s.Free == 64, "%+v", s)
				} else {
					assert.Equal(t, 64, s.Free, "%+v", s)
				}
			}
			b.at(59 * time.Second)
			assert.Equal(t, 80, b.Stats().SessionsActive)
			b.at(time.Minute)
			assert.Equal(t, 0, b.Stats().SessionsActive)
			for _, s := range b.SharedPorts() {
				assert.Equal(t, 64, s.Free, "%+v", s)
			}
		})
	}
}

// Identifiers are shared between destinations, never towards one; the limits on
// flows count queries too.
func TestInventoryQueriesAreLimited(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, sharing(snat.RandomPort, 4))
		seen := map[int]bool{}
		for i := range 4 {
			seen[b.pings(r, r.a, r.s, uint16(i))] = true
		}
		assert.Len(t, seen, 4)
		b.drops(flow.Inside, r.ping(r.b, r.s, 0, 7), flow.ReasonPorts)
		b.pings(r, r.b, r.q, 0)
		assert.Equal(t, []snat.ConnectionStats{{Protocol: snat.Query, Successful: 5, Failed: 1, Active: 5}}, b.Connections()[2:])

		b = newBed(t, sharing(snat.RandomPort, 4, func(c *snat.Config) { sharedPorts(c).FlowsPerDestination = 2 }))
		b.pings(r, r.a, r.s, 1)
		b.pings(r, r.b, r.s, 1)
		b.drops(flow.Inside, r.ping(r.a, r.s, 2, 7), flow.ReasonDestinationLimit)

		b = newBed(t, sharing(snat.PreservePort, 4, func(c *snat.Config) { sharedPorts(c).MaxFlows = 2 }))
		b.pings(r, r.a, r.s, 1024)
		b.opens("udp", socket(r.a, 5000), socket(r.s, 53))
		b.drops(flow.Inside, r.ping(r.a, r.s, 2, 7), flow.ReasonFlowLimit)
	})
}

// Errors find the flow they are about, whoever sends them, in packets and batches,
// and have no effect on it.
func TestInventoryErrors(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for proto, first := range r.conversations() {
			for _, batched := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/batched=%v", proto, batched), func(t *testing.T) {
					b := newBed(t, sharing(snat.PreservePort, 4096))
					var sent, want [][]byte // from outside
					var told, said [][]byte // from inside
					for port := 1100; port < 1120; port++ {
						pkt := first(r.a, port, r.s)
						require.Equal(t, flow.Forward, b.send(flow.Inside, pkt).Action)
						require.Empty(t, pkttest.Diff(pkt, first(r.f, port, r.s)), "the port is kept")
						sent = append(sent, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, first(r.f, port, r.s)))
						want = append(want, pkttest.ICMP(r.rx, r.a, r.exceeded, 0, 0, first(r.a, port, r.s)))
						told = append(told, pkttest.ICMP(r.a, r.s, r.unreachable, r.portCode, 0, r.answer(proto, r.s, r.a, port)))
						said = append(said, pkttest.ICMP(r.f, r.s, r.unreachable, r.portCode, 0, r.answer(proto, r.s, r.f, port)))
						b.drops(flow.Inside, pkttest.ICMP(r.b, r.s, r.unreachable, r.portCode, 0, r.answer(proto, r.s, r.b, port)), flow.ReasonICMPNoFlow)
						b.drops(flow.Outside, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, first(r.f, port, r.q)), flow.ReasonICMPNoFlow)
						b.drops(flow.Outside, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, first(r.f, port, r.s)[:r.header+2]), flow.ReasonICMPInnerShort)
					}
					before := b.Stats().SessionsActive
					if batched {
						verdicts := make([]flow.Verdict, len(sent))
						b.InboundBatch(b.now, sent, verdicts)
						b.OutboundBatch(b.now, told, verdicts)
						for i := range sent {
							require.Empty(t, pkttest.Diff(sent[i], want[i]))
							require.Empty(t, pkttest.Diff(told[i], said[i]), "%v", verdicts[i])
						}
						b.Check()
					} else {
						for i := range sent {
							b.forwards(flow.Outside, sent[i], want[i])
							b.forwards(flow.Inside, told[i], said[i])
						}
					}
					assert.Equal(t, before, b.Stats().SessionsActive)
				})
			}
		}
	})
}

// Fragments of queries and datagrams cross, in any order.
func TestInventoryFragments(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, sharing(snat.PreservePort, 4096, func(c *snat.Config) { c.Fragments.Mode = snat.FragmentsVirtual }))
		for name, pkt := range map[string][]byte{
			"query":    pkttest.ICMP(r.a, r.s, r.echo, 0, 1100<<16|7, make([]byte, 2000)),
			"datagram": pkttest.UDP(socket(r.a, 1100), socket(r.s, 53), string(make([]byte, 2000))),
		} {
			pieces := pkttest.Fragments(pkt, 1200, uint32(len(name))) // any, but different
			require.Len(t, pieces, 2)
			assert.Equal(t, flow.Queued, b.send(flow.Inside, pieces[1]).Action, name)
			assert.Equal(t, flow.Forward, b.send(flow.Inside, pieces[0]).Action, name)
			b.at(b.now.Duration())
			require.Len(t, b.emitted, 1, name)
			assert.Contains(t, pkttest.String(b.emitted[0].Packet), r.f, name)
			b.emitted = nil
		}
		assert.Equal(t, 2, b.Stats().SessionsActive)
	})
}

// FragmentsUDP carries those of UDP only, whatever comes first.
func TestFragmentsUDPOnly(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, sharing(snat.PreservePort, 4096, func(c *snat.Config) { c.Fragments.Mode = snat.FragmentsUDP }))
		payload := string(make([]byte, 2000))
		for name, pkt := range map[string][]byte{
			"udp":  pkttest.UDP(socket(r.a, 1100), socket(r.s, 53), payload),
			"tcp":  pkttest.TCP(socket(r.a, 1100), socket(r.s, 53), pkttest.SYN, pkttest.Payload(payload)),
			"icmp": pkttest.ICMP(r.a, r.s, r.echo, 0, 1100<<16|7, []byte(payload)),
		} {
			for k, reversed := range []bool{false, true} {
				pieces := pkttest.Fragments(clone(pkt), 1200, uint32(100*k)+uint32(name[0]))
				forwarded := 0
				if reversed {
					pieces[0], pieces[1] = pieces[1], pieces[0]
				}
				for _, f := range pieces {
					if b.send(flow.Inside, f).Action == flow.Forward {
						forwarded++
					}
				}
				b.at(b.now.Duration())
				forwarded += len(b.emitted)
				b.emitted = nil
				if name == "udp" {
					assert.Equal(t, 2, forwarded)
				} else {
					assert.Equal(t, 0, forwarded, name)
				}
			}
		}
		assert.Equal(t, uint64(8), b.Stats().Outbound.Drops[flow.ReasonFragment])
		assert.Equal(t, 1, b.Stats().SessionsActive)
	})
}

// What an inventory decides itself, it takes no orders for.
func TestInventoryICMPValidate(t *testing.T) {
	c := sharing(snat.RandomPort, 8, func(c *snat.Config) { c.ICMP.RandomIDs = true })
	err := c.Validate()
	require.ErrorIs(t, err, snat.ErrShared)
	assert.ErrorContains(t, err, "ICMP.QueryPerDestination false, ICMP.RandomIDs true")
}

// Without queries the inventory has no identifiers.
func TestInventoryWithoutQueries(t *testing.T) {
	b := newBed(t, sharing(snat.RandomPort, 8, func(c *snat.Config) { c.ICMP = snat.ICMP{Errors: true} }))
	assert.Len(t, b.SharedPorts(), 4)
	r := realms[0]
	b.drops(flow.Inside, r.ping(r.a, r.s, 7, 7), flow.ReasonICMPType)
	b.drops(flow.Outside, r.pong(r.s, r.f, 1024, 7), flow.ReasonICMPType)
	b.drops(flow.Outside, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, r.ping(r.f, r.s, 1024, 7)), flow.ReasonICMPNoFlow)
}

// Queries and errors of many goroutines, each with remotes of its own.
func TestInventoryICMPConcurrently(t *testing.T) {
	b := newBed(t, sharing(snat.RandomPort, 4096))
	b.seldom = true
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := realms[g%2]
			for i := range 200 {
				dst := addr("198.51.%d.%d", 100+g, i).String()
				if r.name == "v6" {
					dst = addr("2001:db8:5:%x::%x", g, i).String()
				}
				pkt := r.ping(r.a, dst, uint16(i), 7)
				if v := b.Outbound(0, pkt); v.Action != flow.Forward {
					t.Errorf("request: %v", v.Reason)
					return
				}
				id := uint16(r.ident(pkt))
				about := pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, pkt)
				for _, reply := range [][]byte{r.pong(dst, r.f, id, 7), about} {
					if v := b.Inbound(0, reply); v.Action != flow.Forward {
						t.Errorf("answer: %v", v.Reason)
					}
				}
			}
		})
	}
	wg.Wait()
	b.Check()
	assert.Equal(t, 800, b.Stats().SessionsActive)
}

// Queries, replies and errors of established flows allocate nothing.
func TestInventoryICMPAllocatesNothing(t *testing.T) {
	b := newBed(t, sharing(snat.PreservePort, 64))
	r := realms[0]
	ping, pong := r.ping(r.a, r.s, 1030, 7), r.pong(r.s, r.f, 1030, 7)
	about := pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, r.ping(r.f, r.s, 1030, 7))
	buf := make([]byte, 256)
	b.Outbound(0, clone(ping))
	n := testing.AllocsPerRun(100, func() {
		b.Outbound(0, buf[:copy(buf, ping)])
		b.Inbound(0, buf[:copy(buf, pong)])
		if v := b.Inbound(0, buf[:copy(buf, about)]); v.Action != flow.Forward {
			t.Error(v.Reason)
		}
	})
	assert.Zero(t, n)
}

// Presets carry the ICMP and the fragments that their products do.
func TestPresetsCarryWhatTheirProductsDo(t *testing.T) {
	for name, want := range map[string]struct {
		echo, timestamp, err, udp, tcp bool
		idle                           time.Duration
	}{
		"azure-lb": {}, "azure-natgw": {},
		"aws-natgw":        {echo: true, err: true, udp: true, idle: 350 * time.Second},
		"gcp-cloudnat":     {echo: true, err: true, idle: 30 * time.Second},
		"linux-masquerade": {echo: true, timestamp: true, err: true, udp: true, tcp: true, idle: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := preset.ByName(name)
			b := configured(t, p.Configure, site(1, 1))
			const inside, front = "10.0.0.0", "203.0.113.10"
			forward := func(from flow.Side, pkt []byte) bool { return b.send(from, pkt).Action == flow.Forward }

			assert.Equal(t, want.timestamp, forward(flow.Inside, pkttest.ICMP(inside, serverA, 13, 0, 5000<<16, make([]byte, 12))))
			b.at(time.Minute * 10)
			ping := pkttest.ICMPEcho(inside, serverA, 5000, 1)
			assert.Equal(t, want.echo, forward(flow.Inside, ping))
			id := binary.BigEndian.Uint16(ping[24:])
			b.at(10*time.Minute + max(want.idle, 1) - 1)
			assert.Equal(t, want.echo, forward(flow.Outside, pkttest.ICMPEchoReply(serverA, front, id, 1)), "a reply just in time")
			b.at(10*time.Minute + 2*want.idle)
			assert.False(t, forward(flow.Outside, pkttest.ICMPEchoReply(serverA, front, id, 1)), "a reply too late")

			udp := pkttest.UDP(inside+":5000", serverA+":53", "question")
			require.True(t, forward(flow.Inside, udp))
			assert.Equal(t, want.err, forward(flow.Outside, pkttest.ICMP("192.0.2.1", front, 11, 0, 0, udp)))

			first := func(pkt []byte) []byte { return pkttest.Fragments(pkt, 600, 9)[0] }
			long := string(make([]byte, 1000))
			assert.Equal(t, want.udp, forward(flow.Inside, first(pkttest.UDP(inside+":5001", serverA+":53", long))))
			assert.Equal(t, want.tcp, forward(flow.Inside, first(pkttest.TCP(inside+":5001", serverA+":53", pkttest.SYN, pkttest.Payload(long)))))
			b.Check()
		})
	}
}
