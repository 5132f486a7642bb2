package snat_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// ICMP and instances with public addresses. Pods ping through the address of
// their node; what no pod wants is for the node itself, as it came.
func TestICMPThroughPublicAddress(t *testing.T) {
	t.Run("all", func(t *testing.T) { icmpThroughPublicAddress(t, snat.ICMP{Queries: true, Errors: true}) })
	t.Run("public", func(t *testing.T) { icmpThroughPublicAddress(t, snat.ICMP{PublicAddrs: true}) })
}

func icmpThroughPublicAddress(t *testing.T, carried snat.ICMP) {
	for i, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			r := realms[i]
			c := publicNode()
			c.ICMP = carried
			b := newBed(t, c)
			sent, left := r.ping(f.pod, f.s, 7, 1), r.ping(f.public, f.s, 7, 1)
			b.forwards(flow.Inside, clone(sent), left)
			b.forwards(flow.Outside, r.pong(f.s, f.public, 7, 1), r.pong(f.s, f.pod, 7, 1))
			b.forwards(flow.Outside, pkttest.ICMP(r.rx, f.public, r.exceeded, 0, 0, left), pkttest.ICMP(r.rx, f.pod, r.exceeded, 0, 0, sent))
			about := r.pong(f.s, f.pod, 7, 1)
			b.forwards(flow.Inside, pkttest.ICMP(f.pod, f.s, r.unreachable, 1, 0, about),
				pkttest.ICMP(f.public, f.s, r.unreachable, 1, 0, r.pong(f.s, f.public, 7, 1)))

			// The node's own.
			b.forwards(flow.Outside, r.pong(f.s, f.public, 8, 1), r.pong(f.s, f.a, 8, 1))
			b.forwards(flow.Outside, r.ping(f.s, f.public, 7, 1), r.ping(f.s, f.a, 7, 1))
			own, other := r.ping(f.a, f.s, 8, 1), r.ping(f.public, f.s, 8, 1)
			b.forwards(flow.Outside, pkttest.ICMP(r.rx, f.public, r.exceeded, 0, 0, other), pkttest.ICMP(r.rx, f.a, r.exceeded, 0, 0, own))
			b.forwards(flow.Inside, r.ping(f.a, f.s, 7, 1), r.ping(f.public, f.s, 7, 1))
			assert.Equal(t, 1, b.Stats().SessionsActive)
		})
	}
}

// What is carried of those who share a public address is not of anybody else: neither of an instance
// without one, nor to a frontend.
func TestICMPOfPublicAddressesOnly(t *testing.T) {
	for i, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			r := realms[i]
			c := oneVM(8)
			c.ICMP.PublicAddrs = true
			b := newBed(t, c)
			b.drops(flow.Inside, r.ping(f.a, f.s, 7, 1), flow.ReasonUnsupportedProto)
			require.NotContains(t, b.opens("udp", socket(f.a, 5000), socket(f.s, 53)), "drop")
			at := socket(f.f, 1024)
			b.drops(flow.Outside, r.pong(f.s, f.f, 1024, 1), flow.ReasonUnsupportedProto)
			b.drops(flow.Outside, pkttest.ICMP(r.rx, f.f, r.exceeded, 0, 0, pkttest.UDP(at, socket(f.s, 53), "q")), flow.ReasonUnsupportedProto)
			b.drops(flow.Inside, pkttest.ICMP(f.a, f.s, r.unreachable, 1, 0, pkttest.UDP(socket(f.s, 53), socket(f.a, 5000), "a")), flow.ReasonUnsupportedProto)
		})
	}
}

// An error that an instance with a public address sends or receives about a flow of
// its own quotes what the other end knows, byte for byte, of whatever protocol and
// however much of it; whoever else is behind the instance, and whatever ICMP the
// translator carries otherwise.
func TestNAT_I4_ErrorsThroughPublicAddress(t *testing.T) {
	for i, f := range realms {
		r := realms[i]
		s, vm, pub := func(port int) string { return socket(f.s, port) }, socket(f.a, 5000), socket(f.public, 5000)
		quotes := map[string]func(a, at string, back bool) []byte{} // of a packet of a, or to it
		add := func(name string, build func(src, dst, srcAt, dstAt string) []byte) {
			quotes[name] = func(a, at string, back bool) []byte {
				if back {
					return build(f.s, a, s(443), at)
				}
				return build(a, f.s, at, s(443))
			}
		}
		add("TCP", func(_, _, src, dst string) []byte { return pkttest.TCP(src, dst, pkttest.ACK, pkttest.Payload("data")) })
		add("UDP", func(_, _, src, dst string) []byte { return pkttest.UDP(src, dst, "data") })
		add("echo", func(src, dst, _, _ string) []byte { return r.ping(src, dst, 7, 1) })
		add("echo reply of zeros", func(src, dst, _, _ string) []byte { return pkttest.ICMPEchoReply(src, dst, 0, 0) })
		add("ESP", func(src, dst, _, _ string) []byte { return pkttest.IP(src, dst, 50, []byte("0123456789")) })
		add("last fragment", func(_, _, src, dst string) []byte {
			return pkttest.Fragments(pkttest.UDP(src, dst, string(make([]byte, 100))), 40, 7)[2]
		})
		for name, c := range map[string]snat.Config{"vm": publicVM(8), "node": publicNode(), "node, ICMP": publicNode(), "vm, fragments": publicVM(8)} {
			switch name {
			case "node, ICMP":
				c.ICMP = snat.ICMP{Queries: true, Errors: true}
			case "vm, fragments":
				c.Fragments.Mode = snat.FragmentsVirtual
			}
			for of, quoted := range quotes {
				t.Run(f.name+" "+name+" "+of, func(t *testing.T) {
					b := newBed(t, c)
					shortest := r.header
					if of == "last fragment" && f.name == "v6" || name == "node, ICMP" {
						shortest += 8
					}
					for _, e := range r.errors() {
						sent, left := quoted(f.a, vm, false), quoted(f.public, pub, false)
						came, delivered := quoted(f.public, pub, true), quoted(f.a, vm, true)
						for n := shortest; n <= len(sent); n++ {
							if of == "TCP" && halfChecksum(r, sent, n) || of == "UDP" && n == r.header+7 || len(of) > 3 && of[:4] == "echo" && n == r.header+3 {
								continue // half a checksum stays
							}
							b.forwards(flow.Outside, report(e, r.rx, f.public, left, n), report(e, r.rx, f.a, sent, n))
							b.forwards(flow.Inside, report(e, f.a, f.s, delivered, n), report(e, f.public, f.s, came, n))
						}
					}
					assert.Zero(t, b.Stats().SessionsActive)
				})
			}
		}
	}
}

// An error through a public address that is damaged, is about somebody else, or
// cannot be translated as a whole does not pass.
func TestNAT_I3_ErrorsThroughPublicAddressRefused(t *testing.T) {
	for i, f := range realms {
		r := realms[i]
		for name, c := range map[string]snat.Config{"vm": publicVM(8), "node": publicNode()} {
			t.Run(f.name+" "+name, func(t *testing.T) {
				b := newBed(t, c)
				sent, came := pkttest.UDP(socket(f.a, 5000), socket(f.s, 53), "q"), pkttest.UDP(socket(f.s, 53), socket(f.public, 5000), "a")
				left, delivered := pkttest.UDP(socket(f.public, 5000), socket(f.s, 53), "q"), pkttest.UDP(socket(f.s, 53), socket(f.a, 5000), "a")
				in := func(quote []byte, fields ...pkttest.Field) []byte {
					return pkttest.ICMP(r.rx, f.public, r.unreachable, 1, 0, quote, fields...)
				}
				out := func(quote []byte, fields ...pkttest.Field) []byte {
					return pkttest.ICMP(f.a, f.s, r.unreachable, 1, 0, quote, fields...)
				}
				b.drops(flow.Outside, in(left, pkttest.BadChecksum()), flow.ReasonICMPChecksum)
				b.drops(flow.Inside, out(delivered, pkttest.BadChecksum()), flow.ReasonICMPChecksum)
				b.drops(flow.Outside, in(sent), flow.ReasonICMPNoFlow)
				b.drops(flow.Outside, in(came), flow.ReasonICMPNoFlow)
				b.drops(flow.Inside, out(came), flow.ReasonICMPNoFlow)
				b.drops(flow.Inside, out(pkttest.UDP(socket(r.q, 53), socket(f.a, 5000), "a")), flow.ReasonICMPNoFlow)
				b.drops(flow.Inside, out(pkttest.UDP(socket(f.s, 53), socket(f.pod, 5000), "a")), flow.ReasonICMPNoFlow)
				b.drops(flow.Outside, in(left[:r.header-1]), flow.ReasonICMPInnerShort)
				b.drops(flow.Inside, out(delivered[:r.header-1]), flow.ReasonICMPInnerShort)
				b.drops(flow.Outside, in(pkttest.ICMP(f.public, f.s, r.unreachable, 1, 0, came)), flow.ReasonICMPNested)
				b.drops(flow.Inside, out(pkttest.ICMP(f.s, f.a, r.unreachable, 1, 0, sent)), flow.ReasonICMPNested)
				b.drops(flow.Outside, pkttest.Fragments(in(pkttest.UDP(socket(f.public, 5000), socket(f.s, 53), string(make([]byte, 200)))), 80, 7)[0], flow.ReasonFragment)
				b.drops(flow.Inside, pkttest.Fragments(out(pkttest.UDP(socket(f.s, 53), socket(f.a, 5000), string(make([]byte, 200)))), 80, 7)[0], flow.ReasonFragment)
				if f.name == "v4" {
					bad := clone(left)
					bad[10] ^= 1
					b.drops(flow.Outside, in(bad), flow.ReasonICMPInnerChecksum)
					routed := pkttest.UDP(socket(f.s, 53), socket(f.a, 5000), "a", pkttest.IPOptions(131, 3, 4, 0))
					b.drops(flow.Inside, out(routed), flow.ReasonSourceRoute)
				}
				s := b.Stats()
				assert.Zero(t, s.Inbound.Forwarded+s.Outbound.Forwarded)
				b.forwards(flow.Outside, in(left), pkttest.ICMP(r.rx, f.a, r.unreachable, 1, 0, sent))
				b.forwards(flow.Inside, out(delivered), pkttest.ICMP(f.public, f.s, r.unreachable, 1, 0, came))
			})
		}
	}
}

// A node's own error about a packet that was delivered to a pod is about the pod's
// session, and leaves as such.
func TestNAT_I5_NodesErrorAboutAPod(t *testing.T) {
	for i, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			r := realms[i]
			c := publicNode()
			c.ICMP = snat.ICMP{Queries: true, Errors: true}
			b := newBed(t, c)
			require.Equal(t, socket(f.public, 40000), b.opens("udp", socket(f.pod, 40000), socket(f.s, 53)))
			delivered, came := pkttest.UDP(socket(f.s, 53), socket(f.pod, 40000), "a"), pkttest.UDP(socket(f.s, 53), socket(f.public, 40000), "a")
			b.forwards(flow.Inside, pkttest.ICMP(f.a, f.s, r.unreachable, 1, 0, delivered), pkttest.ICMP(f.public, f.s, r.unreachable, 1, 0, came))
			b.drops(flow.Inside, pkttest.ICMP(f.a, f.s, r.unreachable, 1, 0, pkttest.UDP(socket(f.s, 53), socket(f.pod, 7), "a")), flow.ReasonICMPNoFlow)
		})
	}
}

// A translator that is a hop is one for packets of public addresses too, which it
// does not track, and whole batches of them.
func TestNAT_H6_HopOfPublicAddresses(t *testing.T) {
	for i, f := range realms {
		for name, c := range map[string]snat.Config{"node": publicNode(), "vm": publicVM(8)} {
			t.Run(f.name+" "+name, func(t *testing.T) {
				r := realms[i]
				c.ICMP = snat.ICMP{TTL: snat.TTLRouter, ErrorBurst: 100}
				b := newBed(t, c)
				for ttl := range uint8(3) {
					for proto := range map[uint8]bool{protoUDP: true, 50: true} {
						build := func(src, dst string, ttl uint8) []byte {
							if proto == protoUDP {
								return pkttest.UDP(socket(src, 5000), socket(dst, 53), "x", pkttest.TTL(ttl))
							}
							return pkttest.IP(src, dst, 50, []byte("secret"), pkttest.TTL(ttl))
						}
						sent, came := build(f.a, f.s, ttl), build(f.s, f.public, ttl)
						if ttl > 1 {
							b.forwards(flow.Inside, sent, build(f.public, f.s, ttl-1))
							b.forwards(flow.Outside, came, build(f.s, f.a, ttl-1))
							continue
						}
						b.drops(flow.Inside, clone(sent), flow.ReasonTTL)
						b.made(flow.Inside, pkttest.ICMP(r.f, f.a, r.exceeded, 0, 0, sent))
						pkts, verdicts := [][]byte{clone(came), clone(came)}, make([]flow.Verdict, 2)
						b.InboundBatch(b.now, pkts, verdicts)
						for _, v := range verdicts {
							require.Equal(t, flow.ReasonTTL, v.Reason)
						}
						answer := pkttest.ICMP(f.public, f.s, r.exceeded, 0, 0, came)
						b.made(flow.Outside, answer, answer)
					}
				}
				// Of a datagram only the first fragment is answered.
				big := pkttest.UDP(socket(f.a, 5000), socket(f.s, 53), string(make([]byte, 64)), pkttest.TTL(1))
				frags := pkttest.Fragments(big, 32, 7)
				for _, frag := range frags {
					b.drops(flow.Inside, clone(frag), flow.ReasonTTL)
				}
				b.made(flow.Inside, pkttest.ICMP(r.f, f.a, r.exceeded, 0, 0, frags[0]))
				assert.Zero(t, b.Stats().SessionsCreated)
			})
		}
	}
}
