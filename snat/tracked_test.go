package snat_test

// Flows that are remembered and not translated.

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

// nodeInVNet is a node whose pods are masqueraded towards a virtual network, from which
// both can be reached.
func nodeInVNet(change ...func(*snat.Config)) snat.Config {
	c := snat.Config{
		Instances: []snat.Instance{{
			Name: "node", Addrs: []netip.Addr{addr("10.224.0.4"), addr("fd00:224::4")}, Inside: prefixes("10.244.1.0/24", "fd00:244:1::/64"),
			Ports: []snat.PortRange{{Frontend: addr(frontend), First: firstPort, Count: 64}, {Frontend: addr(frontend6), First: firstPort, Count: 64}},
		}},
		Routes: []snat.Route{
			{Prefix: netip.MustParsePrefix("10.224.0.0/11"), Action: snat.NodeAddress, BothWays: true},
			{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Action: snat.PassThrough, BothWays: true},
			{Prefix: netip.MustParsePrefix("fd00:224::/31"), Action: snat.NodeAddress, BothWays: true},
			{Prefix: netip.MustParsePrefix("fd00:244::/32"), Action: snat.PassThrough, BothWays: true},
		},
	}
	c.ICMP = snat.ICMP{Queries: true, Errors: true}
	for _, f := range change {
		f(&c)
	}
	return c
}

// same demands that a packet is forwarded byte for byte.
func (b *bed) same(from flow.Side, pkt []byte) {
	b.t.Helper()
	b.forwards(from, pkt, clone(pkt))
}

// kinds returns the kinds of all sessions.
func (b *bed) kinds() (all []flow.Kind) {
	for s := range b.Sessions() {
		all = append(all, s.Kind)
		if s.Kind == flow.KindTracked {
			assert.Equal(b.t, s.Inside, s.Outside)
		}
	}
	return all
}

// connects opens a TCP connection from outside that is not translated.
func (b *bed) connects(remote, inside string) {
	b.t.Helper()
	b.same(flow.Outside, pkttest.TCP(remote, inside, pkttest.SYN, pkttest.Seq(5000), pkttest.MSS(1460)))
	b.same(flow.Inside, pkttest.TCP(inside, remote, pkttest.TCPFlags("SA"), pkttest.Seq(1000), pkttest.Ack(5001)))
	b.same(flow.Outside, pkttest.TCP(remote, inside, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001)))
}

// What answers a connection that was not translated is not either; what begins inside
// gets the node's address as ever.
func TestAzure_63_AnswersStayUntranslated(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		t.Run("tcp", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			pod, host := socket(h.pod, 8080), socket(h.peer, 41000)
			b.connects(host, pod)
			b.same(flow.Inside, pkttest.TCP(pod, host, pkttest.TCPFlags("PA"), pkttest.Seq(1001), pkttest.Ack(5001), pkttest.Payload("hello")))
			assert.Equal(t, []flow.Kind{flow.KindTracked}, b.kinds())
			assert.Contains(t, b.opens("tcp", socket(h.pod, 8081), host), h.node, "the pod begins")
		})
		t.Run("udp", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			pod, host := socket(h.pod, 53), socket(h.peer, 41000)
			b.same(flow.Outside, pkttest.UDP(host, pod, "query"))
			for range 2 {
				b.same(flow.Inside, pkttest.UDP(pod, host, "answer"))
				b.same(flow.Outside, pkttest.UDP(host, pod, "more"))
			}
			if h.name == "v4" {
				b.same(flow.Inside, pkttest.UDP(pod, host, "answer", pkttest.NoChecksum()))
			}
			assert.Equal(t, []flow.Kind{flow.KindTracked}, b.kinds())
			assert.Contains(t, b.opens("udp", socket(h.pod, 54), host), h.node)
		})
		t.Run("echo", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			b.same(flow.Outside, h.ping(h.peer, h.pod, 7, 1))
			b.same(flow.Inside, h.pong(h.pod, h.peer, 7, 1))
			b.same(flow.Outside, h.ping(h.peer, h.pod, 7, 2))
			b.drops(flow.Inside, h.pong(h.pod, h.peer, 8, 1), flow.ReasonNoFlow)
			assert.Equal(t, []flow.Kind{flow.KindTracked}, b.kinds())
			b.forwards(flow.Inside, h.ping(h.pod, h.peer, 9, 1), h.ping(h.node, h.peer, 9, 1))
			b.forwards(flow.Outside, h.pong(h.peer, h.node, 9, 1), h.pong(h.peer, h.pod, 9, 1))
			b.at(time.Minute)
			assert.Empty(t, b.kinds())
		})
	})
}

// Between a node's own address and the virtual network nothing is translated, whoever
// begins and whatever it is.
func TestAzure_64_NodeAddressBothWays(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		b := newBed(t, nodeInVNet())
		node, host := socket(h.node, 40000), socket(h.peer, 443)
		b.same(flow.Inside, pkttest.TCP(node, host, pkttest.SYN, pkttest.Seq(1)))
		b.same(flow.Outside, pkttest.TCP(host, node, pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2)))
		b.connects(socket(h.peer, 50000), socket(h.node, 22))
		b.same(flow.Outside, pkttest.UDP(socket(h.peer, 50000), socket(h.node, 53), "x"))
		b.same(flow.Inside, pkttest.UDP(socket(h.node, 53), socket(h.peer, 50000), "y"))
		b.same(flow.Outside, h.ping(h.peer, h.node, 7, 1))
		b.same(flow.Inside, h.pong(h.node, h.peer, 7, 1))
		b.same(flow.Inside, h.ping(h.node, h.peer, 8, 1))
		b.same(flow.Outside, h.pong(h.peer, h.node, 8, 1))
		assert.Len(t, b.kinds(), 5)
		assert.NotContains(t, b.kinds(), flow.KindNode)

		// What begins no session passes as it is.
		b.passes(flow.Inside, pkttest.TCP(socket(h.node, 1), host, pkttest.ACK))
		b.passes(flow.Outside, pkttest.TCP(host, socket(h.node, 1), pkttest.TCPFlags("SA")))
		b.passes(flow.Outside, pkttest.TCP(host, socket(h.node, 1), pkttest.SYN, pkttest.BadChecksum()))
		b.passes(flow.Outside, h.pong(h.peer, h.node, 99, 1))
		b.passes(flow.Outside, pkttest.ICMP(h.peer, h.node, h.unreachable, 0, 0, pkttest.UDP(socket(h.node, 9), socket(h.peer, 9), "x")))
	})
}

// A pod that opens a connection to its own node or to another one is masqueraded by
// neither and by its own (what is sent to its own never leaves it, and comes to no door).
func TestAzure_65_PodToNodes(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		c := nodeInVNet()
		second := c.Instances[0]
		second.Name, second.Addrs = "node-b", []netip.Addr{addr("10.224.0.5"), addr("fd00:224::5")}
		second.Inside = prefixes("10.244.2.0/24", "fd00:244:2::/64")
		second.Ports = []snat.PortRange{{Frontend: addr(frontend), First: firstPort + 64, Count: 64}}
		c.Instances = append(c.Instances, second)
		b := newBed(t, c)
		nodeB := map[string]string{"v4": "10.224.0.5", "v6": "fd00:224::5"}[h.name]
		pkt := pkttest.TCP(socket(h.pod, 5000), socket(nodeB, 9100), pkttest.SYN, pkttest.Seq(1))
		b.forwards(flow.Inside, pkt, pkttest.TCP(socket(h.node, 5000), socket(nodeB, 9100), pkttest.SYN, pkttest.Seq(1)))
		b.same(flow.Outside, pkt) // in at the other node
		pkt = pkttest.TCP(socket(nodeB, 9100), socket(h.node, 5000), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2))
		b.same(flow.Inside, pkt)
		b.forwards(flow.Outside, pkt, pkttest.TCP(socket(nodeB, 9100), socket(h.pod, 5000), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2)))
		assert.ElementsMatch(t, []flow.Kind{flow.KindNode, flow.KindTracked}, b.kinds())
	})
}

// Fragments, ESP and SCTP pass at a node's own address, untouched; a pod's, which would
// have to be masqueraded, do not, but fragments can.
func TestAzure_66_OtherProtocolsAndFragments(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		big := func(src, dst string) [][]byte {
			return pkttest.Fragments(pkttest.UDP(socket(src, 5000), socket(dst, 53), string(make([]byte, 100))), 48, 7)
		}
		b := newBed(t, nodeInVNet())
		for _, proto := range []uint8{47, 50, 132} {
			b.passes(flow.Inside, pkttest.IP(h.node, h.peer, proto, []byte("whatever it is")))
			b.passes(flow.Outside, pkttest.IP(h.peer, h.node, proto, []byte("whatever it is")))
			b.drops(flow.Inside, pkttest.IP(h.pod, h.peer, proto, []byte("x")), flow.ReasonUnsupportedProto)
			b.drops(flow.Outside, pkttest.IP(h.peer, h.pod, proto, []byte("x")), flow.ReasonUnsupportedProto)
			b.passes(flow.Outside, pkttest.IP("10.244.3.3", "10.244.1.7", proto, []byte("pod to pod")))
		}
		for i := range big(h.node, h.peer) {
			b.passes(flow.Inside, big(h.node, h.peer)[i])
			b.passes(flow.Outside, big(h.peer, h.node)[i])
			b.drops(flow.Outside, big(h.peer, h.pod)[i], flow.ReasonFragment)
		}
		assert.Zero(t, b.Stats().SessionsCreated)

		b = newBed(t, nodeInVNet(func(c *snat.Config) { c.Fragments.Mode = snat.FragmentsVirtual }))
		for _, inside := range []string{h.pod, h.node} {
			for _, from := range []flow.Side{flow.Outside, flow.Inside} {
				frags := big(h.peer, inside)
				if from == flow.Inside {
					frags = pkttest.Fragments(pkttest.UDP(socket(inside, 53), socket(h.peer, 5000), string(make([]byte, 100))), 48, 7)
				}
				frags[0], frags[1] = frags[1], frags[0]
				left := b.through(from, frags...)
				require.Len(t, left, len(frags))
				assert.Equal(t, assemble(t, frags), assemble(t, left))
			}
		}
		assert.Equal(t, []flow.Kind{flow.KindTracked, flow.KindTracked}, b.kinds())
	})
}

// A flow that is not translated takes no port and counts as no connection; it ends by
// the policy, silently unless that says otherwise.
func TestAzure_72_NoPortAndNoConnection(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		for _, resets := range []bool{false, true} {
			var created, expired []flow.Kind
			events := 0
			b := newBed(t, nodeInVNet(func(c *snat.Config) {
				c.EnableTCPReset, c.CountTraffic = resets, true
				c.Log = snat.Log{Sessions: true}
				c.Hooks.Event = func(snat.Event) { events++ }
				c.Hooks.SessionCreated = func(_ flow.Time, _ uint32, s flow.Info) { created = append(created, s.Kind) }
				c.Hooks.SessionExpired = func(_ flow.Time, _ uint32, s flow.Info) { expired = append(expired, s.Kind) }
			}))
			pod, host := socket(h.pod, 8080), socket(h.peer, 41000)
			b.connects(host, pod)
			s := b.Stats()
			assert.Equal(t, [3]int{1, 0, 0}, [3]int{s.SessionsActive, int(s.ConnectionsSuccessful), s.Ports.Total()})
			assert.Equal(t, snat.ConnectionStats{Protocol: snat.TCP, Active: 1}, b.Connections()[0])
			assert.Zero(t, b.pool(h.name == "v6", snat.TCP).Used)
			assert.Empty(t, b.TopPorts(5, snat.ByInside))
			for _, row := range b.Traffic() {
				assert.Zero(t, row.Outbound.Packets+row.Inbound.Packets)
			}
			_, inst := b.instance("node")
			assert.Equal(t, [2]uint64{1, 0}, [2]uint64{inst.Created, inst.Failed})
			b.at(4*time.Minute - flow.Tick)
			assert.Len(t, b.kinds(), 1)
			b.at(4 * time.Minute)
			assert.Equal(t, []flow.Kind{flow.KindTracked}, created)
			assert.Equal(t, created, expired)
			assert.Zero(t, events, "nothing was translated")
			if !resets {
				assert.Empty(t, b.sent())
				assert.Empty(t, b.kinds())
				continue
			}
			require.Len(t, b.emitted, 2)
			assert.Equal(t, pkttest.TCP(host, pod, pkttest.RST, pkttest.Seq(5001), pkttest.Window(0)), b.emitted[0].Packet)
			assert.Equal(t, pkttest.TCP(pod, host, pkttest.RST, pkttest.Seq(1001), pkttest.Window(0)), b.emitted[1].Packet)
			b.drops(flow.Inside, pkttest.TCP(pod, host, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)), flow.ReasonFlowReset)
			b.connects(host, pod) // a tombstone gives way to whoever may begin
			b.at(8*time.Minute + time.Second)
			assert.Contains(t, b.opens("tcp", pod, host), h.node, "or to the pod, which is masqueraded")
		}
	})
}

// Of two that begin on the same sockets the first wins.
func TestTrackedSimultaneousOpen(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		pod, host := socket(h.pod, 5000), socket(h.peer, 443)
		syn := func(src, dst string, seq uint32) []byte {
			return pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(seq))
		}
		t.Run("the pod first", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			assert.Equal(t, socket(h.node, 5000), b.opens("tcp", pod, host))
			b.drops(flow.Outside, syn(host, pod, 5000), flow.ReasonMappingConflict)
			b.forwards(flow.Outside, syn(host, socket(h.node, 5000), 5000), syn(host, pod, 5000)) // to the socket that it sees
			assert.Equal(t, []flow.Kind{flow.KindNode}, b.kinds())
		})
		t.Run("the host first", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			b.same(flow.Outside, syn(host, pod, 5000))
			b.same(flow.Inside, syn(pod, host, 1000))
			b.same(flow.Outside, pkttest.TCP(host, pod, pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001)))
			b.same(flow.Inside, pkttest.TCP(pod, host, pkttest.TCPFlags("SA"), pkttest.Seq(1000), pkttest.Ack(5001)))
			assert.Equal(t, []flow.Kind{flow.KindTracked}, b.kinds())
		})
		t.Run("echo", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			b.forwards(flow.Inside, h.ping(h.pod, h.peer, 1, 1), h.ping(h.node, h.peer, 1, 1))
			b.drops(flow.Outside, h.ping(h.peer, h.pod, 1, 1), flow.ReasonMappingConflict)
			b.drops(flow.Outside, h.ping(h.peer, h.node, 1, 1), flow.ReasonMappingConflict)
			b.same(flow.Outside, h.ping(h.peer, h.pod, 2, 1))
			b.same(flow.Inside, h.ping(h.pod, h.peer, 2, 1))
			b.same(flow.Outside, h.pong(h.peer, h.pod, 2, 1))
		})
		t.Run("at the node's port", func(t *testing.T) { // which two do not have towards one remote
			b := newBed(t, nodeInVNet())
			node := socket(h.node, 5000)
			b.same(flow.Outside, pkttest.UDP(host, node, "x"))
			assert.Equal(t, socket(h.node, 5001), b.opens("udp", pod, host))
			b.same(flow.Inside, pkttest.UDP(node, host, "x"))
			moved := socket(h.node, 5002) // for a pod has its own
			b.forwards(flow.Inside, pkttest.UDP(socket(h.node, 5001), host, "x"), pkttest.UDP(moved, host, "x"))
			b.forwards(flow.Outside, pkttest.UDP(host, moved, "y"), pkttest.UDP(host, socket(h.node, 5001), "y"))
			b.forwards(flow.Outside, pkttest.UDP(host, socket(h.node, 5001), "z"), pkttest.UDP(host, pod, "z"))
			b.at(4 * time.Minute)
			b.same(flow.Inside, pkttest.UDP(socket(h.node, 5001), host, "x"))
		})
		t.Run("a translated one first", func(t *testing.T) {
			c := nodeInVNet()
			c.Routes = append(c.Routes, snat.Route{Prefix: netip.PrefixFrom(netip.MustParseAddr(h.s), netip.MustParseAddr(h.s).BitLen()), BothWays: true})
			b := newBed(t, c)
			server := socket(h.s, 443)
			assert.Contains(t, b.opens("tcp", pod, server), h.f)
			b.drops(flow.Outside, syn(server, pod, 5000), flow.ReasonMappingConflict)
			b.connects(server, socket(h.pod, 80))
			assert.ElementsMatch(t, []flow.Kind{flow.KindTranslated, flow.KindTracked}, b.kinds())
		})
	})
}

// What may begin no flow does not, and hosts that no row names reach nobody.
func TestTrackedRefuses(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		pod, host := socket(h.pod, 8080), socket(h.peer, 41000)
		b := newBed(t, nodeInVNet())
		b.drops(flow.Outside, pkttest.TCP(host, pod, pkttest.ACK), flow.ReasonNoFlow)
		b.drops(flow.Outside, pkttest.TCP(host, pod, pkttest.SYN, pkttest.BadChecksum()), flow.ReasonL4Checksum)
		b.drops(flow.Outside, h.pong(h.peer, h.pod, 1, 1), flow.ReasonNoFlow)
		b.drops(flow.Outside, pkttest.TCP(socket(h.s, 443), pod, pkttest.SYN), flow.ReasonNotOurs)
		b.drops(flow.Outside, pkttest.TCP(socket(h.s, 443), socket(h.node, 22), pkttest.SYN), flow.ReasonNoFlow)
		b.drops(flow.Outside, pkttest.TCP(host, socket(h.b, 1), pkttest.SYN), flow.ReasonNotOurs)
		b.drops(flow.Outside, pkttest.UDP(socket(h.f, 53), pod, "x"), flow.ReasonSpoofFrontend)
		b.drops(flow.Outside, pkttest.UDP(socket(h.pod, 53), pod, "x"), flow.ReasonLand)
		assert.Zero(t, b.Stats().SessionsCreated)
		b = newBed(t, nodeInVNet(func(c *snat.Config) { c.PickUp = true }))
		b.same(flow.Outside, pkttest.TCP(host, pod, pkttest.ACK, pkttest.Seq(1), pkttest.Ack(1)))
		b.same(flow.Inside, pkttest.TCP(pod, host, pkttest.ACK, pkttest.Seq(1), pkttest.Ack(1)))
		b = newBed(t, nodeInVNet(func(c *snat.Config) { c.ICMP = snat.ICMP{} }))
		b.drops(flow.Outside, h.ping(h.peer, h.pod, 1, 1), flow.ReasonUnsupportedProto)
		b.passes(flow.Outside, h.ping(h.peer, h.node, 1, 1))
		b.passes(flow.Inside, h.pong(h.node, h.peer, 1, 1))
	})
}

// ICMP errors about a flow that is not translated pass with it, and a router counts hops.
func TestTrackedErrorsAndHops(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		b := newBed(t, nodeInVNet(func(c *snat.Config) { c.ICMP.TTL = snat.TTLRouter }))
		pod, host := socket(h.pod, 53), socket(h.peer, 41000)
		asked, answer := pkttest.UDP(host, pod, "query", pkttest.TTL(9)), pkttest.UDP(pod, host, "answer", pkttest.TTL(9))
		b.forwards(flow.Outside, clone(asked), pkttest.UDP(host, pod, "query", pkttest.TTL(8)))
		b.forwards(flow.Inside, clone(answer), pkttest.UDP(pod, host, "answer", pkttest.TTL(8)))
		fault := func(src, dst string, about []byte, ttl uint8) []byte {
			return pkttest.ICMP(src, dst, h.unreachable, h.portCode, 0, about, pkttest.TTL(ttl))
		}
		b.forwards(flow.Outside, fault(h.rx, h.pod, answer, 9), fault(h.rx, h.pod, answer, 8))
		b.forwards(flow.Inside, fault(h.pod, h.peer, asked, 9), fault(h.pod, h.peer, asked, 8))
		b.drops(flow.Outside, fault(h.rx, h.pod, pkttest.UDP(pod, socket(h.peer, 1), "x"), 9), flow.ReasonICMPNoFlow)
		for _, pkt := range [][]byte{pkttest.UDP(host, pod, "x", pkttest.TTL(1)), pkttest.UDP(host, socket(h.pod, 99), "x", pkttest.TTL(1))} {
			b.drops(flow.Outside, pkt, flow.ReasonTTL)
		}
		b.drops(flow.Inside, pkttest.UDP(socket(h.node, 9), host, "x", pkttest.TTL(1)), flow.ReasonTTL)
		b.at(0)
		assert.Len(t, b.sent(), 3)
		assert.Len(t, b.kinds(), 1)
	})
}

// A changed row concerns new flows; a flow whose address changes hands is cut.
func TestTrackedReconfigured(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		pod, host, node := socket(h.pod, 8080), socket(h.peer, 41000), socket(h.node, 22)
		ack := func(b *bed, inside string) {
			t.Helper()
			b.same(flow.Inside, pkttest.TCP(inside, host, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))
			b.same(flow.Outside, pkttest.TCP(host, inside, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001)))
		}
		for what, rows := range map[string][]snat.Route{"none": nil, "pass": {
			{Prefix: netip.MustParsePrefix("10.224.0.0/11"), Action: snat.PassThrough, BothWays: true},
			{Prefix: netip.MustParsePrefix("fd00:224::/31"), Action: snat.PassThrough, BothWays: true},
		}} {
			t.Run("rows become "+what, func(t *testing.T) {
				b := newBed(t, nodeInVNet())
				b.connects(host, pod)
				b.connects(host, node)
				for range 2 { // once is for ever
					b.becomes(nodeInVNet(func(c *snat.Config) { c.Routes = rows }))
					ack(b, pod)
					ack(b, node)
				}
				if what == "none" {
					b.drops(flow.Outside, pkttest.TCP(host, socket(h.pod, 1), pkttest.SYN), flow.ReasonNotOurs)
					b.drops(flow.Outside, pkttest.TCP(host, socket(h.node, 1), pkttest.SYN), flow.ReasonNoFlow)
				} else {
					b.passes(flow.Outside, pkttest.TCP(host, socket(h.pod, 1), pkttest.SYN))
					b.passes(flow.Outside, h.ping(h.peer, h.pod, 1, 1))
				}
			})
		}
		t.Run("rows appear", func(t *testing.T) {
			b := newBed(t, nodeInVNet(func(c *snat.Config) { c.Routes = nil }))
			b.drops(flow.Outside, pkttest.TCP(host, pod, pkttest.SYN), flow.ReasonNotOurs)
			b.becomes(nodeInVNet())
			b.connects(host, pod)
		})
		t.Run("another shard", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			b.connects(host, pod)
			b.connects(host, node)
			b.becomes(nodeInVNet(func(c *snat.Config) {
				p := c.Policy
				p.IdleTimeout = 10 * time.Minute
				c.Instances[0].Policy = &p
			}))
			ack(b, pod)
			ack(b, node)
			assert.Equal(t, socket(h.node, 1025), b.opens("tcp", socket(h.pod, 22), host))
		})
		t.Run("pods leave and come", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			b.connects(host, pod)
			b.connects(host, node)
			b.same(flow.Outside, h.ping(h.peer, h.node, 0, 1))
			change := b.becomes(nodeInVNet(func(c *snat.Config) { c.Instances[0].Inside = nil }))
			assert.Equal(t, 1, change.Total().Cut[snat.CutReaddressed])
			ack(b, node)
			b.connects(socket(h.peer, 41001), node)
			b.becomes(nodeInVNet())
			ack(b, node)
			assert.Equal(t, socket(h.node, 1025), b.opens("tcp", socket(h.pod, 22), host))
			assert.Equal(t, socket(h.node, 1025), b.opens("tcp", socket(h.pod, 22), socket(h.peer, 41001)))
		})
		t.Run("the node's address changes", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			b.connects(host, pod)
			b.connects(host, node)
			b.becomes(nodeInVNet(func(c *snat.Config) { c.Instances[0].Addrs = []netip.Addr{addr("10.224.0.99"), addr("fd00:224::99")} }))
			ack(b, pod)
			assert.Len(t, b.kinds(), 1)
		})
		t.Run("the instance is removed", func(t *testing.T) {
			b := newBed(t, nodeInVNet())
			b.connects(host, pod)
			change := b.becomes(nodeInVNet(func(c *snat.Config) { c.Instances = nil }))
			assert.Equal(t, 1, change.Total().Cut[snat.CutRemoved])
		})
	})
}

// An own address with a public one remembers nothing; pods behind it are as ever. In
// realms nobody is reached from outside.
func TestTrackedPublicAddressesAndRealms(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		c := nodeInVNet(func(c *snat.Config) {
			c.Instances[0].PublicAddrs = []netip.Addr{addr(public), addr(public6)}
			c.Routes = append(c.Routes, snat.Route{Prefix: netip.PrefixFrom(netip.MustParseAddr(h.s), netip.MustParseAddr(h.s).BitLen()), BothWays: true})
		})
		b := newBed(t, c)
		host := socket(h.peer, 41000)
		b.passes(flow.Outside, pkttest.TCP(host, socket(h.node, 22), pkttest.SYN))
		b.passes(flow.Inside, pkttest.TCP(socket(h.node, 22), host, pkttest.TCPFlags("SA")))
		b.passes(flow.Outside, h.ping(h.peer, h.node, 1, 1))
		b.drops(flow.Outside, pkttest.TCP(socket(h.s, 443), socket(h.node, 22), pkttest.SYN), flow.ReasonNoFlow)
		b.connects(host, socket(h.pod, 80))
		b.connects(socket(h.s, 443), socket(h.pod, 80))
		assert.Equal(t, []flow.Kind{flow.KindTracked, flow.KindTracked}, b.kinds())

		c = nodeInVNet(func(c *snat.Config) { c.Instances[0].Realm = 7 })
		b = newBed(t, c)
		b.drops(flow.Outside, pkttest.TCP(host, socket(h.pod, 80), pkttest.SYN), flow.ReasonNotOurs)
		b.drops(flow.Outside, pkttest.TCP(host, socket(h.node, 80), pkttest.SYN), flow.ReasonNotOurs)
		assert.Contains(t, b.from(7, false, pkttest.TCP(socket(h.node, 80), host, pkttest.SYN)), "bypass")
		assert.Zero(t, b.Stats().SessionsCreated)
	})
}

// Packets of flows that are not translated allocate nothing.
func TestTrackedNoAllocations(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		b := newBed(t, nodeInVNet())
		b.seldom = true
		pod, host := socket(h.pod, 8080), socket(h.peer, 41000)
		b.connects(host, pod)
		out, in := pkttest.TCP(pod, host, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)), pkttest.TCP(host, pod, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001))
		begins, buf := pkttest.UDP(socket(h.peer, 1), socket(h.pod, 2), "x"), make([]byte, 128)
		now := b.now
		for name, once := range map[string]func(){
			"outbound": func() { b.Outbound(now, buf[:copy(buf, out)]) },
			"inbound":  func() { b.Inbound(now, buf[:copy(buf, in)]) },
			"new": func() {
				now = now.Add(5 * time.Minute)
				require.True(t, b.Inbound(now, buf[:copy(buf, begins)]).New)
			},
		} {
			once()
			assert.Zero(t, testing.AllocsPerRun(100, once), fmt.Sprint(name))
		}
	})
}

// A pod that is a target of a forward answers whoever has reached it without that.
func TestTrackedBesideForward(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		b := newBed(t, nodeInVNet(func(c *snat.Config) {
			for _, inside := range []string{h.pod, h.node} {
				c.Forwards = append(c.Forwards, snat.Forward{
					Frontend: netip.MustParseAddr(h.f), FirstPort: uint16(80 + len(c.Forwards)),
					Targets: []snat.Target{{Instance: "node", Addr: netip.MustParseAddr(inside), Port: 8080}},
				})
			}
		}))
		for i, inside := range []string{h.pod, h.node} {
			target, host, client := socket(inside, 8080), socket(h.peer, 41000), socket(h.s, 50000)
			b.connects(host, target)
			b.forwards(flow.Outside, pkttest.TCP(client, socket(h.f, 80+i), pkttest.SYN, pkttest.Seq(1)), pkttest.TCP(client, target, pkttest.SYN, pkttest.Seq(1)))
			b.forwards(flow.Inside, pkttest.TCP(target, client, pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2)), pkttest.TCP(socket(h.f, 80+i), client, pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2)))
			b.same(flow.Inside, pkttest.TCP(target, host, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))
			b.same(flow.Outside, h.ping(h.peer, inside, 7, 1))
			b.same(flow.Inside, h.pong(inside, h.peer, 7, 1))
		}
		count := map[flow.Kind]int{}
		for _, k := range b.kinds() {
			count[k]++
		}
		assert.Equal(t, map[flow.Kind]int{flow.KindTracked: 4, flow.KindForwarded: 2}, count)
	})
}
