package snat_test

// Instances with public addresses of their own.

import (
	"fmt"
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
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// publicVM is oneVM with public addresses.
func publicVM(ports int) snat.Config {
	c := oneVM(ports)
	c.Instances[0].PublicAddrs = []netip.Addr{addr(public), addr(public6)}
	return c
}

// publicNode is publicVM with pods.
func publicNode() snat.Config {
	c := publicVM(64)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:244:1::/64")}
	c.Routes = []snat.Route{
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress},
		{Prefix: netip.MustParsePrefix("10.9.0.0/16"), Action: snat.Blackhole},
		{Prefix: netip.MustParsePrefix("192.168.0.0/16"), Action: snat.PassThrough},
		{Prefix: netip.MustParsePrefix("fd00::/8"), Action: snat.NodeAddress},
	}
	return c
}

// What answers a flow that has come to a public address leaves by it, although other packets are
// passed on, whichever call either of them comes by, and whether anybody is asked or not.
func TestPublicAnswersAreNotPassedOn(t *testing.T) {
	for _, asks := range []bool{false, true} {
		for _, batches := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
			eachRealm(t, func(t *testing.T, h realm) {
				c := publicVM(8)
				c.RememberEntries = true
				c.Routes = []snat.Route{
					{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Action: snat.PassThrough, PassOn: true},
					{Prefix: netip.MustParsePrefix("::/0"), Action: snat.PassThrough, PassOn: true},
				}
				if asks {
					c.Admit = new(asker).admit
				}
				b := newBed(t, c)
				send := func(from flow.Side, pkt []byte) flow.Verdict {
					v, pkts := make([]flow.Verdict, 1), [][]byte{pkt}
					switch {
					case !batches[from]:
						return b.send(from, pkt)
					case from == flow.Inside:
						b.OutboundBatch(b.now, pkts, v)
					default:
						b.InboundBatch(b.now, pkts, v)
					}
					return v[0]
				}
				b.at(10 * time.Minute)
				what := fmt.Sprint("asks ", asks, ", batches ", batches)
				remote, own, public := socket(h.s, 1000), socket(h.a, 53), socket(h.public, 53)
				require.Equal(t, flow.Forward, send(flow.Outside, pkttest.UDP(remote, public, "x")).Action, what)
				answer := pkttest.UDP(own, remote, "y")
				require.Equal(t, flow.Forward, send(flow.Inside, answer).Action, what)
				assert.Equal(t, pkttest.UDP(public, remote, "y"), answer, what)
				require.Equal(t, flow.Bypass, send(flow.Inside, pkttest.UDP(socket(h.a, 54), remote, "z")).Action, what)
				if !asks { // what is remembered may be so no longer
					c.RememberEntries = false
					_, err := b.Reconfigure(b.now, c)
					require.NoError(t, err)
				}
				b.at(14 * time.Minute)
				require.Equal(t, flow.Bypass, send(flow.Inside, pkttest.UDP(own, remote, "y")).Action, what)
			})
		}
	}
}

// A virtual machine with a public IP and an outbound rule appears as its public
// IP, with its own source port, and uses no port of the rule.
func TestAzure_40_PublicIPBeforeOutboundRule(t *testing.T) {
	for _, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			b := newBed(t, publicVM(8))
			for _, port := range []int{1, 443, 1024, 5000, 65535} {
				for _, proto := range []string{"tcp", "udp"} {
					require.Equal(t, socket(f.public, port), b.opens(proto, socket(f.a, port), socket(f.s, 443)))
				}
			}
			assert.Equal(t, socket(f.a, 5000), destination(b.remotely(socket(f.s, 443), socket(f.public, 5000), "SA", 1, 1)))
			b.at(time.Hour)
			assert.Equal(t, socket(f.public, 5000), source(b.locally(socket(f.a, 5000), socket(f.s, 443), "A", 2, 2)), "no timeout")
			assert.Equal(t, socket(f.a, 22), destination(b.remotely(socket(f.s, 9), socket(f.public, 22), "S", 1, 0)), "unasked")

			s := b.Stats()
			assert.Zero(t, s.SessionsCreated)
			assert.Zero(t, s.ConnectionsSuccessful)
			assert.Equal(t, uint64(11), s.Outbound.OneToOne)
			assert.Equal(t, uint64(2), s.Inbound.OneToOne)
			assert.Equal(t, s.Outbound.OneToOne, s.Outbound.Forwarded)
			assert.Equal(t, s.Inbound.OneToOne, s.Inbound.Forwarded)
			assert.Equal(t, 8, b.pool(f.name == "v6", snat.TCP).Free)
			for _, inst := range b.Instances() {
				assert.Equal(t, [2]uint64{11, 2}, [2]uint64{inst.OutboundOneToOne, inst.InboundOneToOne})
			}
			for _, use := range b.Frontends() {
				assert.Zero(t, use.Peak)
				assert.True(t, b.IsFrontend(use.Frontend))
			}
			assert.True(t, b.IsFrontend(addr("%s", f.public)))
			assert.False(t, b.IsFrontend(addr("%s", f.a)))
			assert.False(t, b.IsFrontend(addr("%s", f.s)))
		})
	}
}

// Only the family that has a public address is translated 1:1.
func TestPublicAddressOfOneFamily(t *testing.T) {
	c := publicVM(8)
	c.Instances[0].PublicAddrs = []netip.Addr{addr(public6)}
	b := newBed(t, c)
	assert.Equal(t, socket(frontend, 1024), b.opens("tcp", vmA+":5000", serverA+":443"))
	assert.Equal(t, socket(public6, 5000), b.opens("tcp", socket(vmA6, 5000), socket(serverA6, 443)))
	assert.Equal(t, "drop not_ours", b.remotely(serverA+":443", public+":5000", "A", 1, 1))
}

// An echo request does not pass an outbound rule; through the instance's public
// address it does, and so does the reply.
func TestAzure_43_Echo(t *testing.T) {
	for _, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			ask := func() []byte { return pkttest.ICMPEcho(f.a, f.s, 7, 1, pkttest.Payload("ping")) }
			assert.Equal(t, "drop unsupported_proto", newBed(t, oneVM(8)).out(ask()))
			b := newBed(t, publicVM(8))
			pkt := ask()
			require.NotContains(t, b.out(pkt), "drop")
			pkttest.Check(t, pkt, pkttest.Src(f.public), pkttest.Dst(f.s), pkttest.EchoID(7), pkttest.Payload("ping"), pkttest.ChecksumsOK())
			pkt = pkttest.ICMPEchoReply(f.s, f.public, 7, 1, pkttest.Payload("ping"))
			require.NotContains(t, b.in(pkt), "drop")
			pkttest.Check(t, pkt, pkttest.Src(f.s), pkttest.Dst(f.a), pkttest.EchoID(7), pkttest.Payload("ping"), pkttest.ChecksumsOK())
		})
	}
}

// Fragments pass a public address, in any order, and make the same datagram.
func TestAzure_44_FragmentsPassPublicIP(t *testing.T) {
	data := strings.Repeat("0123456789abcdef", 8)
	for _, f := range realms {
		for name, build := range map[string]func(src, dst string) []byte{
			"UDP": func(src, dst string) []byte { return pkttest.UDP(socket(src, 5000), socket(dst, 53), data) },
			"TCP": func(src, dst string) []byte {
				return pkttest.TCP(socket(src, 5000), socket(dst, 53), pkttest.ACK, pkttest.Payload(data))
			},
			"ICMP": func(src, dst string) []byte { return pkttest.ICMPEcho(src, dst, 1, 2, pkttest.Payload(data)) },
			"ESP":  func(src, dst string) []byte { return pkttest.IP(src, dst, 50, []byte(data)) },
		} {
			t.Run(f.name+" "+name, func(t *testing.T) {
				b := newBed(t, publicNode())
				pass := func(door func([]byte) string, sent, want []byte) {
					want4 := pkttest.Fragments(want, 24, 7)
					for i, frag := range slices.Backward(pkttest.Fragments(sent, 24, 7)) {
						require.NotContains(t, door(frag), "drop")
						assert.Equal(t, want4[i], frag, "fragment %d", i)
					}
				}
				pass(b.out, build(f.a, f.s), build(f.public, f.s))
				pass(b.in, build(f.s, f.public), build(f.s, f.a))
				for _, frag := range pkttest.Fragments(build(f.pod, f.s), 24, 7) {
					assert.Contains(t, []string{"drop fragment", "drop unsupported_proto"}, b.out(frag), "not from behind")
				}
			})
		}
	}
}

// kinds are packets of all sorts between two addresses.
func kinds(src, dst string) map[string][]byte {
	s, d := socket(src, 5000), socket(dst, 443)
	quote := pkttest.UDP(socket(dst, 53), socket(src, 5000), "query")
	all := map[string][]byte{
		"SYN":               pkttest.TCP(s, d, pkttest.SYN, pkttest.MSS(1460), pkttest.WScale(7)),
		"data":              pkttest.TCP(s, d, pkttest.ACK, pkttest.Payload("odd")),
		"data, damaged":     pkttest.TCP(s, d, pkttest.ACK, pkttest.Payload("odd"), pkttest.BadChecksum()),
		"datagram":          pkttest.UDP(s, d, "odd"),
		"datagram, damaged": pkttest.UDP(s, d, "odd", pkttest.BadChecksum()),
		"echo":              pkttest.ICMPEcho(src, dst, 1, 2, pkttest.Payload("odd")),
		"echo, damaged":     pkttest.ICMPEcho(src, dst, 1, 2, pkttest.BadChecksum()),
		"ICMP error":        pkttest.ICMP(src, dst, 3, 3, 0, quote),
		"ESP":               pkttest.IP(src, dst, 50, []byte("\x00\x00\x00\x01\x00\x00\x00\x01secret")),
		"SCTP":              pkttest.IP(src, dst, 132, []byte("\x13\x88\x01\xbb\x00\x00\x00\x00\x00\x00\x00\x00")),
		"GRE":               pkttest.IP(src, dst, 47, []byte("\x00\x00\x08\x00")),
		"no payload":        pkttest.IP(src, dst, 59, []byte("x")),
	}
	if strings.Contains(src, ":") {
		all["Hop-by-Hop"] = pkttest.TCP(s, d, pkttest.ACK, pkttest.Extension(0, 1, 4, 0, 0, 0, 0))
	} else {
		all["datagram without checksum"] = pkttest.UDP(s, d, "odd", pkttest.NoChecksum())
		all["IP options"] = pkttest.TCP(s, d, pkttest.ACK, pkttest.IPOptions(1, 1, 148, 4, 0, 0))
	}
	return all
}

// Whatever passes a public address differs in the address and the checksums
// over it, and in nothing else; what was damaged stays damaged; and the way back
// restores every byte.
func TestPublicAddressChangesOnlyAddressAndChecksums(t *testing.T) {
	for _, f := range realms {
		b := newBed(t, publicNode())
		there, back := kinds(f.a, f.s), kinds(f.s, f.a)
		after, before := kinds(f.public, f.s), kinds(f.s, f.public)
		for name := range there {
			t.Run(f.name+" "+name, func(t *testing.T) {
				check := func(got, sent, want []byte, address int) {
					if !strings.Contains(name, "damaged") {
						assert.Equal(t, want, got)
					}
					if name == "ICMP error" {
						return // what it quotes changes as well
					}
					var p wire.Packet
					require.Contains(t, []wire.Problem{wire.OK, wire.UnsupportedProto}, wire.Parse(sent, &p))
					length, upper := 4, int(p.L4)
					if f.name == "v6" {
						length = 16
					}
					for _, at := range pkttest.Diff(got, sent) {
						inAddress := at >= address && at < address+length
						inIPChecksum := f.name == "v4" && at>>1 == 5
						inChecksum := map[uint8]int{6: 16, 17: 6, 58: 2}[p.Proto]
						assert.True(t, inAddress || inIPChecksum || inChecksum > 0 && (at-upper)>>1 == inChecksum/2, "byte %d", at)
					}
					if strings.Contains(name, "damaged") {
						pkttest.Check(t, got, pkttest.BadChecksum())
					}
				}
				src, dst := 12, 16
				if f.name == "v6" {
					src, dst = 8, 24
				}
				out := slices.Clone(there[name])
				require.NotContains(t, b.out(out), "drop")
				check(out, there[name], after[name], src)
				in := slices.Clone(before[name])
				require.NotContains(t, b.in(in), "drop")
				check(in, before[name], back[name], dst)
			})
		}
		assert.Zero(t, b.Stats().SessionsCreated)
	}
}

// What is behind a public address shares it, with ports of the node: its own
// port if that is free towards the remote. Replies go to it, all else to the
// node.
func TestAzure_40_PodsBehindPublicIP(t *testing.T) {
	for _, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			c := publicNode()
			c.EnableTCPReset = true
			b := newBed(t, c)
			other := netip.MustParseAddr(f.pod).Next().String()
			server := socket(f.s, 443)
			assert.Equal(t, socket(f.public, 40000), b.dials(socket(f.pod, 40000), server), "the pod's own port")
			assert.Equal(t, socket(f.public, 40001), b.dials(socket(other, 40000), server), "the next one")
			assert.Equal(t, socket(f.public, 40000), b.opens("tcp", socket(other, 40000), socket(f.s, 80)), "another remote")
			assert.Equal(t, socket(f.public, 40000), b.opens("udp", socket(other, 40000), server), "another protocol")

			assert.Equal(t, socket(f.pod, 40000), destination(b.remotely(server, socket(f.public, 40000), "A", 5001, 1001)))
			assert.Equal(t, socket(other, 40000), destination(b.remotely(server, socket(f.public, 40001), "A", 5001, 1001)))
			assert.Equal(t, socket(f.a, 40002), destination(b.remotely(server, socket(f.public, 40002), "A", 5001, 1001)))
			assert.Equal(t, socket(f.a, 40000), destination(b.remotely(socket(f.s, 444), socket(f.public, 40000), "A", 5001, 1001)))
			assert.Equal(t, socket(f.public, 50000), b.opens("tcp", socket(f.a, 50000), server), "the node itself")

			assert.Equal(t, "drop unsupported_proto", b.out(pkttest.ICMPEcho(f.pod, f.s, 1, 1)))
			assert.Equal(t, "drop no_flow", b.locally(socket(f.pod, 7), server, "A", 1, 1), "a session begins with a SYN")

			s := b.Stats()
			assert.Equal(t, uint64(4), s.SessionsCreated)
			assert.Equal(t, uint64(1), s.Outbound.OneToOne)
			assert.Equal(t, uint64(2), s.Inbound.OneToOne)
			assert.Equal(t, 64, b.pool(f.name == "v6", snat.TCP).Free)
			assert.Equal(t, 64, b.pool(f.name == "v6", snat.UDP).Free)
			for session := range b.Sessions() {
				assert.Equal(t, f.public, session.Outside.Addr().String())
				assert.Equal(t, session.Outside.Port(), session.Data[0], "the port at the node")
			}

			b.at(time.Hour)
			assert.Equal(t, 0, b.Stats().SessionsActive)
			assert.Len(t, b.sent(), 4, "a RST to both ends of both connections")
			assert.Equal(t, socket(f.a, 40000), destination(b.remotely(server, socket(f.public, 40000), "A", 5001, 1001)), "the node's again")
			assert.Equal(t, socket(f.public, 40000), b.opens("tcp", socket(other, 40000), server))
		})
	}
}

// Routes decide before public addresses do, for fragments too.
func TestPublicAddressAndRoutes(t *testing.T) {
	b := newBed(t, publicNode())
	assert.Equal(t, "bypass TCP 10.0.0.4:5000 > 10.1.0.9:443 S seq=1000 len=0", b.out(pkttest.TCP(vmA+":5000", "10.1.0.9:443", pkttest.SYN, pkttest.Seq(1000))))
	assert.Contains(t, b.out(pkttest.IP(vmA, "192.168.1.1", 50, []byte("secret"))), "bypass")
	for _, frag := range pkttest.Fragments(pkttest.UDP(vmA+":1", "192.168.1.1:2", strings.Repeat("x", 64)), 24, 7) {
		assert.Contains(t, b.out(frag), "bypass")
	}
	assert.Equal(t, "drop route", b.opens("udp", vmA+":5000", "10.9.0.1:53"))
	assert.Equal(t, socket(vmA, 40000), b.opens("tcp", podA+":40000", "10.1.0.9:443"), "a pod inside the network is its node")
	assert.Equal(t, podA+":40000", destination(b.remotely("10.1.0.9:443", vmA+":40000", "SA", 1, 1001)))
	assert.Equal(t, "drop no_flow", b.remotely("10.1.0.9:443", vmA+":22", "S", 1, 0), "the own address is not public")
	assert.Equal(t, "drop fragment", b.in(pkttest.Fragments(pkttest.UDP("10.1.0.9:1", vmA+":2", strings.Repeat("x", 64)), 24, 7)[0]))
	s := b.Stats()
	assert.Equal(t, uint64(5), s.Outbound.Bypassed)
	assert.Equal(t, uint64(1), s.Outbound.Drops[flow.ReasonRoute])
	assert.Zero(t, s.Outbound.OneToOne)
	assert.Equal(t, uint64(7), s.Outbound.Packets())
}

// What no session may begin with does not pass a public address either.
func TestPublicAddressRefuses(t *testing.T) {
	c := publicNode()
	c.Instances = append(c.Instances, snat.Instance{
		Name: "vm-b", Addrs: []netip.Addr{addr("10.0.0.5"), addr("fd00::5")}, PublicAddrs: []netip.Addr{addr("20.50.1.2"), addr("2001:db8:50::2")},
	})
	b := newBed(t, c)
	for _, tc := range []struct{ src, dst, want string }{
		{vmA, frontend, "hairpin"},
		{vmA, public, "hairpin"},
		{vmA, "20.50.1.2", "hairpin"},
		{podA, "20.50.1.2", "hairpin"},
		{vmA, "127.0.0.1", "martian_dst"},
		{vmA, "224.0.0.1", "martian_dst"},
		{vmA, "169.254.1.1", "link_local"},
		{public, serverA, "spoof_frontend"},
		{"10.0.0.9", serverA, "spoof"},
		{"127.0.0.1", serverA, "martian_src"},
		{vmA6, public6, "hairpin"},
		{vmA6, "::1", "martian_dst"},
		{vmA6, "fe80::1", "link_local"},
		{public6, serverA6, "spoof_frontend"},
		{"fd00::9", serverA6, "spoof"},
		{"::1", serverA6, "martian_src"},
	} {
		assert.Equal(t, "drop "+tc.want, b.opens("udp", socket(tc.src, 5000), socket(tc.dst, 53)), "%v > %v", tc.src, tc.dst)
	}
	for _, dst := range []string{public, "20.50.1.2", public6, "2001:db8:50::2"} { // with pods and without
		cases := map[string]string{
			dst: "land", frontend: "spoof_frontend", public: "spoof_frontend", vmA: "martian_src", podA: "martian_src",
			"127.0.0.1": "martian_src", "169.254.1.1": "link_local",
		}
		if strings.Contains(dst, ":") {
			cases = map[string]string{
				dst: "land", frontend6: "spoof_frontend", public6: "spoof_frontend", vmA6: "martian_src", podA6: "martian_src",
				"::1": "martian_src", "fe80::1": "link_local",
			}
		}
		cases[dst] = "land"
		for src, want := range cases {
			assert.Equal(t, "drop "+want, b.in(pkttest.UDP(socket(src, 53), socket(dst, 5000), "x")), "%v > %v", src, dst)
			assert.Equal(t, "drop "+want, b.in(pkttest.IP(src, dst, 50, []byte("secret"))), "%v > %v", src, dst)
		}
	}
	bad := pkttest.TCP(vmA+":1", serverA+":2", pkttest.TCPFlags("SF"))
	assert.Equal(t, "drop tcp_flags", b.out(bad), "malformed is malformed")
	assert.Equal(t, "drop not_ours", b.remotely(serverA+":443", "20.50.1.3:5000", "A", 1, 1))
	assert.Equal(t, "drop unsupported_proto", b.in(pkttest.IP(serverA, frontend, 50, []byte("secret"))))
	assert.Equal(t, "drop unsupported_proto", b.out(pkttest.IP(podA, serverA, 50, []byte("secret"))))
	assert.Zero(t, b.Stats().Inbound.Forwarded)
	assert.Zero(t, b.Stats().Outbound.Forwarded)
}

// Batches give the same verdicts, bytes and counts as packets.
func TestPublicAddressBatch(t *testing.T) {
	one, many := newBed(t, publicNode()), newBed(t, publicNode())
	for _, from := range []flow.Side{flow.Inside, flow.Outside, flow.Inside} {
		var pkts [][]byte
		add := func(src, dst string) {
			all := kinds(src, dst)
			names := make([]string, 0, len(all))
			for name := range all {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				pkts = append(pkts, all[name])
			}
			pkts = append(pkts, pkttest.Fragments(pkttest.UDP(socket(src, 5000), socket(dst, 53), strings.Repeat("x", 64)), 24, 7)...)
		}
		for range 3 {
			for _, f := range realms {
				if from == flow.Inside {
					add(f.a, f.s)
					add(f.pod, f.s)
				} else {
					add(f.s, f.public)
					add(f.s, f.a)
				}
			}
		}
		single, batched := make([][]byte, len(pkts)), make([][]byte, len(pkts))
		for i, pkt := range pkts {
			single[i], batched[i] = slices.Clone(pkt), slices.Clone(pkt)
		}
		want, got := make([]flow.Verdict, len(pkts)), make([]flow.Verdict, len(pkts))
		door, doors := one.Outbound, many.OutboundBatch
		if from == flow.Outside {
			door, doors = one.Inbound, many.InboundBatch
		}
		for i := range pkts {
			want[i] = door(one.now, single[i])
		}
		doors(many.now, batched, got)
		require.Equal(t, want, got)
		require.Equal(t, single, batched)
	}
	assert.Equal(t, one.Stats(), many.Stats())
	assert.NotZero(t, one.Stats().SessionsCreated, "of pods")
}

// Neither door allocates.
func TestPublicAddressAllocatesNothing(t *testing.T) {
	b := newBed(t, publicNode())
	for _, f := range realms {
		for name, pkt := range kinds(f.a, f.s) {
			back := kinds(f.s, f.public)[name]
			scratch := make([]byte, len(pkt))
			if n := testing.AllocsPerRun(100, func() {
				copy(scratch, pkt)
				b.Outbound(0, scratch)
				copy(scratch, back)
				b.Inbound(0, scratch)
			}); n != 0 {
				t.Errorf("%s %s: %v allocations per packet, want 0", f.name, name, n)
			}
		}
	}
	assert.Zero(t, b.Stats().Inbound.Dropped)
	assert.Zero(t, b.Stats().Outbound.Dropped)
}

// Goroutines may use one instance's public address at the same time.
func TestPublicAddressConcurrently(t *testing.T) {
	const goroutines, packets = 4, 500
	b := newBed(t, publicNode())
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range packets {
				port := 1024 + g*packets + i
				b.Outbound(0, pkttest.UDP(socket(vmA, port), serverA+":53", "query"))
				b.Outbound(0, pkttest.UDP(socket(podA, port), serverA+":54", "query"))
				b.Inbound(0, pkttest.UDP(serverA+":53", socket(public, port), "answer"))
				b.Inbound(0, pkttest.UDP(serverA+":54", socket(public, port), "answer"))
			}
		})
	}
	wg.Wait()
	s := b.Stats()
	assert.Equal(t, uint64(goroutines*packets), s.Outbound.OneToOne)
	assert.Equal(t, uint64(goroutines*packets), s.Inbound.OneToOne)
	assert.Equal(t, uint64(2*goroutines*packets), s.Inbound.Forwarded)
	assert.Equal(t, goroutines*packets, s.SessionsActive)
}

// Every bad public address is named, with the reason.
func TestPublicAddressValidation(t *testing.T) {
	bad := []snat.Instance{
		{
			Name: "a", Addrs: []netip.Addr{addr("10.0.0.4")},
			Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
			Ports:  []snat.PortRange{{Frontend: addr("203.0.113.10"), First: 1024, Count: 8}},
			PublicAddrs: []netip.Addr{
				addr("20.50.1.1"), addr("20.50.1.2"), addr("2001:db8::1"), {}, addr("127.0.0.1"), netip.MustParseAddr("::ffff:1.2.3.4"),
			},
		},
		{Name: "b", Addrs: []netip.Addr{addr("10.0.0.5")}, PublicAddrs: []netip.Addr{addr("20.50.1.1")}},
		{Name: "c", Addrs: []netip.Addr{addr("10.0.0.6")}, PublicAddrs: []netip.Addr{addr("203.0.113.10")}},
		{Name: "d", Addrs: []netip.Addr{addr("10.0.0.7")}, PublicAddrs: []netip.Addr{addr("10.0.0.4")}},
		{Name: "e", Addrs: []netip.Addr{addr("10.0.0.8")}, PublicAddrs: []netip.Addr{addr("10.0.0.8")}},
		{Name: "f", Addrs: []netip.Addr{addr("10.0.0.9")}, PublicAddrs: []netip.Addr{addr("10.244.3.3")}},
		{
			Name: "g", Addrs: []netip.Addr{addr("10.1.0.9")}, PublicAddrs: []netip.Addr{addr("20.50.1.7")},
			Inside: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("10.1.0.0/24")},
		},
	}
	err := snat.Config{Instances: bad}.Validate()
	require.Error(t, err)
	assert.ErrorIs(t, err, snat.ErrPublic)
	assert.ErrorIs(t, err, flow.ErrTooMany)
	assert.ErrorIs(t, err, flow.ErrAddress)
	assert.Equal(t, []string{
		"Instances[0].PublicAddrs[1] 20.50.1.2: too many: one address per family",
		"Instances[0].PublicAddrs[2] 2001:db8::1: cannot be a public address here: Addrs has no address of its family",
		"Instances[0].PublicAddrs[3] invalid IP: not the address of a single host",
		"Instances[0].PublicAddrs[4] 127.0.0.1: not the address of a single host",
		"Instances[0].PublicAddrs[5] ::ffff:1.2.3.4: not the address of a single host",
		"Instances[1].PublicAddrs[0] 20.50.1.1: cannot be a public address here: it is in use by Instances[0].PublicAddrs[0] 20.50.1.1",
		"Instances[2].PublicAddrs[0] 203.0.113.10: cannot be a public address here: it is in use by Instances[0].Ports[0].Frontend 203.0.113.10",
		"Instances[3].PublicAddrs[0] 10.0.0.4: cannot be a public address here: it is in use by Instances[0].Addrs[0] 10.0.0.4",
		"Instances[4].PublicAddrs[0] 10.0.0.8: cannot be a public address here: it is in use by Instances[4].Addrs[0] 10.0.0.8",
		"Instances[5].PublicAddrs[0] 10.244.3.3: cannot be a public address here: it is in use by Instances[0].Inside[0] 10.244.0.0/16",
		"Instances[6].PublicAddrs[0] 20.50.1.7: cannot be a public address here: what it stands for, Addrs[0] 10.1.0.9, lies in Inside[1] 10.1.0.0/24",
	}, strings.Split(err.Error(), "\n"))
	assert.NoError(t, publicNode().Validate())
}

// FuzzOneToOne sends any packet out through a public address and its mirror
// image back: it must be what was sent, mirrored.
func FuzzOneToOne(f *testing.F) {
	for _, x := range realms {
		for _, pkt := range kinds(x.a, x.s) {
			f.Add(pkt)
		}
		for _, frag := range pkttest.Fragments(pkttest.UDP(socket(x.a, 5000), socket(x.s, 53), strings.Repeat("x", 64)), 24, 7) {
			f.Add(frag)
		}
	}
	vm, err := snat.New(publicVM(8))
	require.NoError(f, err)
	node, err := snat.New(publicNode())
	require.NoError(f, err)
	f.Cleanup(vm.Close)
	f.Cleanup(node.Close)
	f.Fuzz(func(t *testing.T, pkt []byte) {
		if len(pkt) < 20 || len(pkt) > 2000 {
			t.Skip("no IP packet")
		}
		x, src, dst := realms[0], 12, 16
		if pkt[0]>>4 == 6 {
			if x, src, dst = realms[1], 8, 24; len(pkt) < 40 {
				t.Skip("no IPv6 packet")
			}
		}
		size := dst - src
		copy(pkt[src:], netip.MustParseAddr(x.a).AsSlice())
		copy(pkt[dst:], netip.MustParseAddr(x.s).AsSlice())
		if h := wire.IPv4(pkt); pkt[0]>>4 == 4 && h.HeaderLen() >= 20 && h.HeaderLen() <= len(pkt) {
			h.ComputeChecksum()
		}
		var p wire.Packet
		wire.Parse(pkt, &p)
		swap := func(b []byte) {
			for i := range size {
				b[src+i], b[dst+i] = b[dst+i], b[src+i]
			}
		}
		mirror := func(b []byte) []byte {
			b = slices.Clone(b)
			swap(b)
			if quote := int(p.L4) + 8; p.Flags&wire.Fragmented == 0 && (p.Proto == 1 && slices.Contains([]byte{3, 4, 5, 11, 12}, b[p.L4]) ||
				p.Proto == 58 && b[p.L4] < 128) && len(b) >= quote+dst+size {
				swap(b[quote:]) // what it quotes went the other way
			}
			return b
		}
		for _, n := range []*snat.NAT{vm, node} {
			sent := slices.Clone(pkt)
			v := n.Outbound(0, sent)
			if v.Action == flow.Drop {
				require.Equal(t, pkt, sent, "a dropped packet is left alone")
				continue
			}
			require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Outside}, v)
			require.Equal(t, netip.MustParseAddr(x.public).AsSlice(), sent[src:src+size])
			back := mirror(sent)
			require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Inside}, n.Inbound(0, back))
			want := mirror(pkt)
			if at := int(p.L4) + map[uint8]int{6: 16, 58: 2}[p.Proto]; p.Flags&wire.NonFirst == 0 && at > int(p.L4) &&
				want[at] == 0xff && want[at+1] == 0xff {
				want[at], want[at+1] = 0, 0 // two ways to write zero; only this one is ever computed
			}
			require.Equal(t, want, back)
		}
	})
}

// A virtual machine pings from its own public address.
func ExampleInstance_publicAddrs() {
	n, err := snat.New(snat.Config{Instances: []snat.Instance{{
		Name:        "vm",
		Addrs:       []netip.Addr{netip.MustParseAddr("10.0.0.4")},
		PublicAddrs: []netip.Addr{netip.MustParseAddr("20.50.1.1")},
	}}})
	if err != nil {
		panic(err)
	}
	defer n.Close()
	pkt := pkttest.ICMPEcho("10.0.0.4", "198.51.100.7", 1, 1)
	v := n.Outbound(0, pkt)
	fmt.Println(v.Action, pkttest.String(pkt))
	pkt = pkttest.ICMPEchoReply("198.51.100.7", "20.50.1.1", 1, 1)
	v = n.Inbound(0, pkt)
	fmt.Println(v.Action, pkttest.String(pkt))
	// Output:
	// forward ICMP 20.50.1.1 > 198.51.100.7 type=8 code=0 id=1 seq=1 len=0
	// forward ICMP 198.51.100.7 > 10.0.0.4 type=0 code=0 id=1 seq=1 len=0
}

// Traffic is counted at frontends, and a public address is none: neither the
// sessions of what is behind the instance nor its own packets count.
func TestPublicAddressInTraffic(t *testing.T) {
	for _, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			c := publicNode()
			c.CountTraffic = true
			b := newBed(t, c)
			server := socket(f.s, 443)
			assert.Equal(t, socket(f.public, 40000), b.dials(socket(f.pod, 40000), server))
			assert.Equal(t, socket(f.pod, 40000), destination(b.remotely(server, socket(f.public, 40000), "A", 5001, 1001)))
			assert.Equal(t, socket(f.public, 50000), b.opens("tcp", socket(f.a, 50000), server))
			rows := b.Traffic()
			assert.NotEmpty(t, rows)
			for _, row := range rows {
				assert.Zero(t, row.Inbound.Packets+row.Outbound.Packets, row.Frontend)
			}
		})
	}
}
