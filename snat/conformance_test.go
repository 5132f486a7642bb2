package snat_test

// Rows of the requirement sheet on malformed and hostile packets, as far as they
// are about addresses and state; what can be told from a packet alone is tested
// where packets are parsed.

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// hostile is one packet and what must become of it.
type hostile struct {
	name string
	from flow.Side
	pkt  []byte
	want flow.Reason
}

// refused sends each packet to a NAT with two instances and an established
// connection of each family, by both doors, and demands the verdict, the count,
// and that nothing else has changed.
func refused(t *testing.T, cases []hostile) {
	t.Helper()
	c := oneVM(8)
	c.Instances = append(c.Instances, snat.Instance{
		Name: "vm-b", Addrs: []netip.Addr{addr("10.0.0.5"), addr("fd00::5")}, Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")},
		Ports: []snat.PortRange{{Frontend: addr(frontend), First: 2048, Count: 8}, {Frontend: addr("203.0.113.11"), Protocol: snat.TCP, First: 1024, Count: 8}},
	})
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress}}
	for _, tc := range cases {
		for _, batch := range []bool{false, true} {
			name := tc.name
			if batch {
				name += ", batch"
			}
			t.Run(name, func(t *testing.T) {
				b := newBed(t, c)
				b.dials(vmA+":5000", serverA+":443")
				b.dials(socket(vmA6, 5000), socket(serverA6, 443))
				before, sessionsBefore := b.Stats(), sessions(b)
				pkt, v := append([]byte(nil), tc.pkt...), make([]flow.Verdict, 1)
				switch {
				case batch && tc.from == flow.Inside:
					b.OutboundBatch(0, [][]byte{pkt}, v)
				case batch:
					b.InboundBatch(0, [][]byte{pkt}, v)
				case tc.from == flow.Inside:
					v[0] = b.Outbound(0, pkt)
				default:
					v[0] = b.Inbound(0, pkt)
				}
				assert.Equal(t, flow.Drop, v[0].Action)
				assert.Equal(t, tc.want.String(), v[0].Reason.String())
				want := before
				side := &want.Outbound
				if tc.from == flow.Outside {
					side = &want.Inbound
				}
				side.Dropped++
				side.Drops[tc.want]++
				assert.Equal(t, want, b.Stats())
				assert.Equal(t, sessionsBefore, sessions(b))
				b.at(0)
				assert.Empty(t, b.sent(), "nobody is answered")
			})
		}
	}
}

// both builds cases for both families and transport protocols that differ only
// in addresses.
func both(from flow.Side, want flow.Reason, pairs ...[2]string) (cases []hostile) {
	for _, p := range pairs {
		src, dst := p[0], p[1]
		cases = append(cases,
			hostile{"UDP " + src + " to " + dst, from, pkttest.UDP(socket(src, 5000), socket(dst, 1026), "x"), want},
			hostile{"SYN " + src + " to " + dst, from, pkttest.TCP(socket(src, 5000), socket(dst, 1026), pkttest.SYN), want})
	}
	return cases
}

func TestNAT_M24_Land(t *testing.T) {
	refused(t, append(
		both(flow.Inside, flow.ReasonLand, [2]string{vmA6, vmA6}, [2]string{"10.244.0.9", "10.244.0.9"}),
		both(flow.Outside, flow.ReasonLand, [2]string{frontend, frontend}, [2]string{frontend6, frontend6}, [2]string{vmA, vmA})...))
	// Whatever a route says, and whoever the sender is: one that is translated 1:1,
	// another, and what is behind either; and whatever the packet.
	eachRealm(t, func(t *testing.T, r realm) {
		pod, public := map[string]string{"v4": "10.244.0.9", "v6": "fd00:244::9"}[r.name], map[string]string{"v4": "20.50.1.5", "v6": "2001:db8:20::5"}[r.name]
		for _, route := range []snat.Route{
			{Action: snat.Translate}, {Action: snat.NodeAddress}, {Action: snat.Blackhole}, {Action: snat.PassThrough}, {Action: snat.PassThrough, BothWays: true},
		} {
			for _, mode := range []snat.FragmentMode{snat.FragmentsDropped, snat.FragmentsVirtual} {
				c := oneVM(8)
				c.Instances = append(c.Instances, snat.Instance{
					Name: "public", Addrs: []netip.Addr{netip.MustParseAddr(r.b)}, PublicAddrs: []netip.Addr{netip.MustParseAddr(public)},
					Inside: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(pod), netip.MustParseAddr(pod).BitLen())},
				})
				c.Fragments.Mode, c.ICMP = mode, snat.ICMP{Queries: true, Errors: true}
				route.Prefix = netip.PrefixFrom(netip.MustParseAddr(r.a), 0).Masked()
				c.Routes = []snat.Route{route}
				b := newBed(t, c)
				for _, host := range []string{r.a, r.b, pod} {
					to := socket(host, 2000)
					for _, pkt := range [][]byte{
						pkttest.UDP(socket(host, 1000), to, "x"), pkttest.UDP(to, to, "x"), pkttest.TCP(to, to, pkttest.SYN), pkttest.TCP(to, to, pkttest.ACK),
						r.ping(host, host, 1, 1),
					} {
						b.drops(flow.Inside, pkt, flow.ReasonLand)
					}
					frags := pkttest.Fragments(pkttest.UDP(to, to, strings.Repeat("x", 64)), 24, 7)
					if mode == snat.FragmentsVirtual || host == r.b || route.BothWays {
						b.drops(flow.Inside, frags[0], flow.ReasonLand)
					}
					for _, frag := range frags {
						require.Equal(t, flow.Drop, b.send(flow.Inside, frag).Action)
					}
				}
				b.at(0)
				require.Empty(t, b.emitted, "nobody is answered")
				require.Empty(t, sessions(b))
			}
		}
	})
}

func TestNAT_M25_MartianSource(t *testing.T) {
	var cases []hostile
	for _, src := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"} {
		cases = append(cases, both(flow.Inside, flow.ReasonMartianSource, [2]string{src, serverA})...)
		cases = append(cases, both(flow.Outside, flow.ReasonMartianSource, [2]string{src, frontend}, [2]string{src, vmA})...)
	}
	for _, src := range []string{"::", "::1", "ff02::1", "::ffff:10.0.0.4"} {
		out := pkttest.UDP("[fd00::9]:5000", socket(serverA6, 53), "x")
		in := pkttest.UDP("[fd00::9]:5000", socket(frontend6, 1026), "x")
		from16 := netip.MustParseAddr(src).As16()
		copy(out[8:], from16[:])
		copy(in[8:], from16[:])
		cases = append(cases, hostile{src + " from inside", flow.Inside, out, flow.ReasonMartianSource},
			hostile{src + " from outside", flow.Outside, in, flow.ReasonMartianSource})
	}
	refused(t, cases)
}

func TestNAT_M26_MartianDestination(t *testing.T) {
	var cases []hostile
	for _, dst := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"} {
		cases = append(cases, both(flow.Inside, flow.ReasonMartianDestination, [2]string{vmA, dst})...)
		cases = append(cases, both(flow.Outside, flow.ReasonNotOurs, [2]string{serverA, dst})...)
	}
	for _, dst := range []string{"::", "::1", "ff02::1"} {
		cases = append(cases, both(flow.Inside, flow.ReasonMartianDestination, [2]string{vmA6, dst})...)
	}
	refused(t, cases)
}

func TestNAT_M27_LinkLocal(t *testing.T) {
	refused(t, append(
		both(flow.Inside, flow.ReasonLinkLocal, [2]string{vmA, "169.254.169.254"}, [2]string{vmA6, "fe80::1"}, [2]string{vmA6, "febf::1"}),
		both(flow.Outside, flow.ReasonLinkLocal, [2]string{"169.254.1.1", frontend}, [2]string{"fe80::1", frontend6})...))

	// The platform's addresses are reachable by the instance's own address, never by SNAT.
	c := oneVM(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("169.254.169.254/32"), Action: snat.NodeAddress}}
	b := newBed(t, c)
	assert.Equal(t, vmA+":5000", b.opens("tcp", "10.244.0.1:5000", "169.254.169.254:80"))
	assert.Equal(t, "10.244.0.1:5000", destination(b.remotely("169.254.169.254:80", vmA+":5000", "SA", 1, 1001)))
	assert.Equal(t, "drop link_local", b.opens("tcp", "10.244.0.1:5000", "169.254.1.1:80"))
}

func TestNAT_M28_Spoof(t *testing.T) {
	refused(t, both(flow.Inside, flow.ReasonSpoof,
		[2]string{"10.0.0.6", serverA}, [2]string{serverA, "198.51.100.8"}, [2]string{"fd00::6", serverA6}, [2]string{"fe80::1", serverA6}))
}

func TestNAT_M29_SpoofFrontendFromInside(t *testing.T) {
	refused(t, both(flow.Inside, flow.ReasonSpoofFrontend,
		[2]string{frontend, serverA}, [2]string{"203.0.113.11", serverA}, [2]string{frontend6, serverA6}))
}

func TestNAT_M30_SpoofFrontendFromOutside(t *testing.T) {
	refused(t, both(flow.Outside, flow.ReasonSpoofFrontend,
		[2]string{"203.0.113.11", frontend}, [2]string{frontend, "203.0.113.11"}, [2]string{frontend, vmA}))
}

func TestNAT_M31_InsideSourceFromOutside(t *testing.T) {
	refused(t, append(
		both(flow.Outside, flow.ReasonMartianSource, [2]string{vmA, frontend}, [2]string{"10.244.3.4", frontend},
			[2]string{vmA6, frontend6}, [2]string{"fd00:244::7", frontend6}),
		// Instances do talk to each other's own addresses.
		both(flow.Outside, flow.ReasonNoFlow, [2]string{"10.0.0.5", vmA})...))
}

func TestNAT_M32_NotOurs(t *testing.T) {
	refused(t, both(flow.Outside, flow.ReasonNotOurs,
		[2]string{serverA, "203.0.113.12"}, [2]string{serverA, "10.244.0.1"}, [2]string{serverA6, "2001:db8:f::11"}))
}

// A wrong TCP checksum opens no flow, and on a known one passes, still wrong, and
// proves nothing.
func TestNAT_M39_TCPChecksum(t *testing.T) {
	refused(t, []hostile{
		{"SYN over IPv4", flow.Inside, pkttest.TCP(vmA+":6000", serverA+":443", pkttest.SYN, pkttest.BadChecksum()), flow.ReasonL4Checksum},
		{"SYN over IPv6", flow.Inside, pkttest.TCP(socket(vmA6, 6000), socket(serverA6, 443), pkttest.SYN, pkttest.BadChecksum()), flow.ReasonL4Checksum},
	})
	for _, h := range byFamily {
		b := newBed(t, oneVM(8))
		inside, remote := socket(h.a, 5000), socket(h.s, 443)
		outside := b.dials(inside, remote)
		for n, flags := range []string{"R", "FA", "S"} {
			in := pkttest.TCP(remote, outside, pkttest.TCPFlags(flags), pkttest.Seq(5001), pkttest.Ack(1001), pkttest.BadChecksum())
			require.Equal(t, inside, destination(b.in(in)), flags)
			pkttest.Check(t, in, pkttest.BadChecksum())
			assert.Contains(t, sessions(b)[0], "established")
			assert.Equal(t, uint64(n+1), b.Stats().BadChecksum)
		}
	}
}

func TestNAT_M44_PortZero(t *testing.T) {
	var cases []hostile
	for _, a := range []struct{ vm, frontend, server string }{{vmA, frontend, serverA}, {vmA6, frontend6, serverA6}} {
		for _, p := range [][2]int{{0, 443}, {5000, 0}, {0, 0}} {
			cases = append(cases,
				hostile{"UDP out", flow.Inside, pkttest.UDP(socket(a.vm, p[0]), socket(a.server, p[1]), "x"), flow.ReasonPortZero},
				hostile{"TCP out", flow.Inside, pkttest.TCP(socket(a.vm, p[0]), socket(a.server, p[1]), pkttest.SYN), flow.ReasonPortZero},
				hostile{"UDP in", flow.Outside, pkttest.UDP(socket(a.server, p[0]), socket(a.frontend, p[1]), "x"), flow.ReasonPortZero},
				hostile{"TCP in", flow.Outside, pkttest.TCP(socket(a.server, p[0]), socket(a.frontend, p[1]), pkttest.SYN), flow.ReasonPortZero})
		}
	}
	refused(t, cases)
}

// without builds a segment that belongs to no flow, in both directions and
// families.
func without(flags string) []hostile {
	field := pkttest.TCPFlags(flags)
	return []hostile{
		{"out", flow.Inside, pkttest.TCP(vmA+":6000", serverA+":443", field), flow.ReasonNoFlow},
		{"out IPv6", flow.Inside, pkttest.TCP(socket(vmA6, 6000), socket(serverA6, 443), field), flow.ReasonNoFlow},
		{"in, port in use", flow.Outside, pkttest.TCP(serverA+":80", frontend+":1024", field), flow.ReasonNoFlow},
		{"in, port granted", flow.Outside, pkttest.TCP(serverA+":443", frontend+":1027", field), flow.ReasonNoFlow},
		{"in, port nobody's", flow.Outside, pkttest.TCP(serverA+":443", frontend+":9000", field), flow.ReasonNoFlow},
		{"in, IPv6", flow.Outside, pkttest.TCP(socket(serverA6, 443), socket(frontend6, 1025), field), flow.ReasonNoFlow},
		{"in, own address", flow.Outside, pkttest.TCP("10.0.0.5:443", vmA+":5000", field), flow.ReasonNoFlow},
	}
}

func TestNAT_M45_SegmentWithoutFlow(t *testing.T) {
	for _, flags := range []string{"A", "PA", "FA"} {
		t.Run(flags, func(t *testing.T) { refused(t, without(flags)) })
	}
}

func TestNAT_M46_ResetWithoutFlow(t *testing.T) {
	for _, flags := range []string{"R", "RA"} {
		t.Run(flags, func(t *testing.T) { refused(t, without(flags)) })
	}
}

func TestNAT_M47_SynAckWithoutFlow(t *testing.T) { refused(t, without("SA")) }

func TestNAT_M53_UDP6WithoutChecksum(t *testing.T) {
	refused(t, []hostile{
		{"out", flow.Inside, pkttest.UDP(socket(vmA6, 5000), socket(serverA6, 53), "x", pkttest.NoChecksum()), flow.ReasonUDP6Zero},
		{"in", flow.Outside, pkttest.UDP(socket(serverA6, 53), socket(frontend6, 1024), "x", pkttest.NoChecksum()), flow.ReasonUDP6Zero},
	})
}

// Two identical first packets in one burst make one flow.
func TestNAT_M71_TwoIdenticalFirstPackets(t *testing.T) {
	for name, pkt := range map[string][]byte{
		"SYN":      pkttest.TCP(vmA+":5000", serverA+":443", pkttest.SYN, pkttest.Seq(1)),
		"datagram": pkttest.UDP(vmA+":5000", serverA+":443", "x"),
		"IPv6 SYN": pkttest.TCP(socket(vmA6, 5000), socket(serverA6, 443), pkttest.SYN, pkttest.Seq(1)),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, oneVM(8))
			burst := [][]byte{append([]byte(nil), pkt...), append([]byte(nil), pkt...), append([]byte(nil), pkt...)}
			v := make([]flow.Verdict, 3)
			b.OutboundBatch(0, burst, v)
			assert.Equal(t, []bool{true, false, false}, []bool{v[0].New, v[1].New, v[2].New})
			assert.Equal(t, burst[0], burst[1])
			assert.Equal(t, burst[0], burst[2])
			assert.Len(t, sessions(b), 1)
			assert.Equal(t, uint64(1), b.Stats().SessionsCreated)
		})
	}
}

// A scan of all ports of a frontend finds nothing, leaves nothing behind and
// allocates nothing.
func TestNAT_M73_InboundScan(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, oneVM(1024))
			b.dials(socket(h.a, 5000), socket(h.s, 443))
			before := b.Stats()
			for _, pkt := range [][]byte{
				pkttest.TCP(socket(h.s, 9), socket(h.f, 1), pkttest.SYN), pkttest.UDP(socket(h.s, 9), socket(h.f, 1), "x"),
			} {
				buf, port := make([]byte, len(pkt)), 22
				if pkt[0]>>4 == 6 {
					port = 42
				}
				dropped := b.Stats().Inbound.Drops
				scan := func() {
					for i := range 65536 {
						copy(buf, pkt)
						buf[port], buf[port+1] = byte(i>>8), byte(i)
						if v := b.Inbound(0, buf); v.Action != flow.Drop {
							t.Fatalf("port %d: %v", i, v)
						}
					}
				}
				assert.Zero(t, testing.AllocsPerRun(2, scan)) // the runtime may have one of its own
				after := b.Stats().Inbound.Drops
				filtered := after[flow.ReasonFiltered] - dropped[flow.ReasonFiltered] // at the port of the connection
				assert.LessOrEqual(t, filtered, uint64(3))
				assert.Equal(t, uint64(3*65535), after[flow.ReasonNoFlow]-dropped[flow.ReasonNoFlow]+filtered)
				assert.Equal(t, uint64(3), after[flow.ReasonPortZero]-dropped[flow.ReasonPortZero])
			}
			assert.Equal(t, before.SessionsActive, b.Stats().SessionsActive)
			assert.Equal(t, before.Bytes, b.Stats().Bytes)
		})
	}
}
