package snat_test

// Rows of the requirement sheet on hairpinning (RFC 4787 section 6, RFC 5382
// section 6, RFC 5508 section 7.1, RFC 7857 section 12).

import (
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
)

// hairpinning is subscribers with Config.Hairpin and a behavior for both protocols.
func hairpinning(f snat.Filtering) snat.Config {
	c := subscribers(snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: f, Share: snat.ShareNever}, 8)
	c.ICMP.Errors = true
	ownedPorts(&c).Hairpin = true
	return c
}

// apart is hairpinning with A and B in instances, and hence in shards, of their own.
func apart(f snat.Filtering) snat.Config {
	c := hairpinning(f)
	host := func(name string, first uint16, addrs ...string) snat.Instance {
		inst := snat.Instance{Name: name}
		for _, a := range addrs {
			p := netip.MustParseAddr(a)
			inst.Inside = append(inst.Inside, netip.PrefixFrom(p, p.BitLen()))
		}
		for _, f := range []string{frontend, frontend6} {
			inst.Ports = append(inst.Ports, snat.PortRange{Frontend: netip.MustParseAddr(f), First: first, Count: 8})
		}
		return inst
	}
	c.Instances = []snat.Instance{host("a", 2048, vmA, vmA6), host("b", 1024, "10.0.0.5", "fd00::5")}
	return c
}

// back sends a packet from the inside, which must come back to it, by one door or
// the other, and describes what became of it.
func (b *bed) back(pkt []byte, batch bool) string {
	v := []flow.Verdict{{}}
	if batch {
		b.OutboundBatch(b.now, [][]byte{pkt}, v)
	} else {
		v[0] = b.Outbound(b.now, pkt)
	}
	b.Check()
	if v[0].Action == flow.Forward {
		require.Equal(b.t, flow.Inside, v[0].To)
	}
	return verdict(v[0], pkt)
}

func TestNAT_U9_Hairpin(t *testing.T) {
	t.Run("rfc", func(t *testing.T) {
		for layout, config := range layouts {
			for _, batch := range []bool{false, true} {
				for name, w := range byFamily {
					t.Run(fmt.Sprintf("%s, batch=%v, %s", layout, batch, name), func(t *testing.T) {
						b := newBed(t, config(snat.EndpointIndependentFiltering))
						pb := b.opens("udp", socket(w.b, 2000), socket(w.s, 53))
						pkt := pkttest.UDP(socket(w.a, 1000), pb, "hello")
						got := b.back(pkt, batch)
						require.Equal(t, socket(w.b, 2000), destination(got))
						pkttest.Check(t, pkt, pkttest.Payload("hello"), pkttest.ChecksumsOK())
						pa := source(got)
						require.Equal(t, w.f, netip.MustParseAddrPort(pa).Addr().String())
						answer := pkttest.UDP(socket(w.b, 2000), pa, "world")
						require.Equal(t, socket(w.a, 1000), destination(b.back(answer, batch)))
						pkttest.Check(t, answer, pkttest.Src(pb), pkttest.Payload("world"), pkttest.ChecksumsOK())
						s := b.Stats()
						assert.EqualValues(t, 3, s.SessionsCreated, "one with S, one for each of the two hosts")
						assert.EqualValues(t, 3, s.Outbound.Forwarded)
						assert.EqualValues(t, 2, s.Inbound.Forwarded)
					})
				}
			}
		}
	})
	t.Run("azure", func(t *testing.T) { notHairpinned(t, "udp") })
}

// layouts are configurations for hairpinning.
var layouts = map[string]func(snat.Filtering) snat.Config{"one instance": hairpinning, "two": apart}

// notHairpinned sends to a mapping of the same virtual machine.
func notHairpinned(t *testing.T, proto string) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, oneVM(8))
			f := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
			assert.Equal(t, "drop hairpin", b.opens(proto, socket(w.a, 1001), f))
		})
	}
}

func TestNAT_U9a_HairpinFromOutsideSocket(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		for _, f := range filters {
			t.Run(f.String(), func(t *testing.T) {
				b := newBed(t, hairpinning(f))
				pb := b.opens(proto, socket(w.b, 2000), socket(w.s, 53))
				pa := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
				send := func(src, dst string) string {
					if proto == "udp" {
						return b.back(pkttest.UDP(src, dst, "hello"), false)
					}
					return b.back(pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1000)), false)
				}
				got := send(socket(w.a, 1000), pb)
				if f > snat.EndpointIndependentFiltering {
					require.Equal(t, "drop filtered", got, "B has sent nothing to A")
					got = send(socket(w.b, 2000), pa) // both have now sent, as behind two translators
					assert.Equal(t, socket(w.a, 1000), destination(got))
					assert.Equal(t, pb, source(got))
					got = send(socket(w.a, 1000), pb)
				}
				assert.Equal(t, socket(w.b, 2000), destination(got))
				assert.Equal(t, pa, source(got), "the source is the outside one")
			})
		}
	})
}

func TestNAT_T8_HairpinTCP(t *testing.T) {
	t.Run("rfc", func(t *testing.T) {
		for layout, config := range layouts {
			for name, w := range byFamily {
				t.Run(layout+", "+name, func(t *testing.T) {
					c := config(snat.EndpointIndependentFiltering)
					c.EnableTCPReset = true
					b := newBed(t, c)
					pb := b.opens("tcp", socket(w.b, 2000), socket(w.s, 53))
					pa := ""
					for i, x := range []struct {
						fromA    bool
						flags    string
						seq, ack uint32
						payload  string
					}{
						{true, "S", 1000, 0, ""}, {false, "SA", 5000, 1001, ""}, {true, "A", 1001, 5001, ""},
						{true, "PA", 1001, 5001, "hello"}, {false, "PA", 5001, 1006, "world"}, {true, "A", 1006, 5006, ""},
					} {
						src, dst, wantSrc, wantDst := socket(w.a, 1000), pb, pa, socket(w.b, 2000)
						if !x.fromA {
							src, dst, wantSrc, wantDst = socket(w.b, 2000), pa, pb, socket(w.a, 1000)
						}
						pkt := pkttest.TCP(src, dst, pkttest.TCPFlags(x.flags), pkttest.Seq(x.seq), pkttest.Ack(x.ack), pkttest.Payload(x.payload))
						got := b.back(pkt, false)
						if i == 0 {
							pa = source(got)
							wantSrc = pa
							require.Equal(t, w.f, netip.MustParseAddrPort(pa).Addr().String())
						}
						require.Equal(t, wantSrc, source(got), "segment %d", i)
						require.Equal(t, wantDst, destination(got), "segment %d", i)
						pkttest.Check(t, pkt, pkttest.TCPFlags(x.flags), pkttest.Seq(x.seq), pkttest.Payload(x.payload), pkttest.ChecksumsOK())
					}
					assert.Equal(t, "established", stateOf(b, pb))
					assert.Equal(t, "established", stateOf(b, pa))
					b.at(7440 * time.Second)
					assert.ElementsMatch(t, []string{
						fmt.Sprintf("2h4m0s inside TCP %s > %s R seq=5006 len=0", pb, socket(w.a, 1000)),
						fmt.Sprintf("2h4m0s inside TCP %s > %s R seq=1006 len=0", pa, socket(w.b, 2000)),
					}, b.sent(), "each end is told once, and nothing goes outside")
				})
			}
		}
	})
	t.Run("azure", func(t *testing.T) { notHairpinned(t, "tcp") })
}

func TestNAT_M70_HairpinToOneself(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		b := newBed(t, hairpinning(snat.EndpointIndependentFiltering))
		f := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
		before := b.Stats()
		assert.Equal(t, "drop hairpin_loop", b.opens(proto, socket(w.a, 1000), f))
		before.Outbound.Dropped++
		before.Outbound.Drops[flow.ReasonHairpinLoop]++
		assert.Equal(t, before, b.Stats(), "no session")

		// Another socket of the same host is another host, as far as can be told.
		pkt := pkttest.UDP(socket(w.a, 1001), f, "hello")
		if proto == "tcp" {
			pkt = pkttest.TCP(socket(w.a, 1001), f, pkttest.SYN, pkttest.Seq(1000))
		}
		got := b.back(pkt, false)
		assert.Equal(t, socket(w.a, 1000), destination(got))
		assert.Equal(t, socket(w.f, firstPort+1), source(got))

		// A port that nobody has is not given to the one who asks for it.
		assert.Equal(t, "drop hairpin_loop", b.opens(proto, socket(w.b, 1), socket(w.f, firstPort+2)))
		assert.Equal(t, "drop no_flow", b.opens(proto, socket(w.b, 1), socket(w.f, firstPort+7)))
		b.at(1000 * time.Second)
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			assert.Equal(t, 8, b.pool(w.is6(), p).Free)
		}
		for i := range 8 {
			assert.Equal(t, socket(w.f, firstPort+i), b.opens(proto, socket(w.b, 100+i), socket(w.s, 53)))
		}
	})
}

// Errors about hairpinned packets have both addresses and both ends of their quote
// rewritten, whoever of the inside sends them.
func TestNAT_I7_HairpinnedError(t *testing.T) {
	hairpinnedError(t, func(w realm) string { return w.b })
}

func TestNAT_Q15_HairpinnedErrorOfARouter(t *testing.T) {
	hairpinnedError(t, func(w realm) string { return w.c })
}

func TestNAT_P12_HairpinnedErrorWithoutQuery(t *testing.T) {
	hairpinnedError(t, func(w realm) string { return w.b }) // there is no query mapping
}

func hairpinnedError(t *testing.T, sender func(w realm) string) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		b := newBed(t, hairpinning(snat.EndpointIndependentFiltering))
		pb := b.opens(proto, socket(w.b, 2000), socket(w.s, 53))
		delivered := pkttest.UDP(socket(w.a, 1000), pb, "hello")
		if proto == "tcp" {
			delivered = pkttest.TCP(socket(w.a, 1000), pb, pkttest.SYN, pkttest.Seq(1000))
		}
		sent := append([]byte(nil), delivered...)
		require.Equal(t, socket(w.b, 2000), destination(b.back(delivered, false)))
		refusal := pkttest.ICMP(sender(w), w.f, unreachableType(w), 3, 0, delivered)
		got := b.back(refusal, false)
		require.NotContains(t, got, "drop")
		pkttest.Check(t, refusal, pkttest.Src(w.f), pkttest.Dst(w.a), pkttest.ICMPType(unreachableType(w), 3), pkttest.ChecksumsOK())
		assert.Equal(t, sent, refusal[len(refusal)-len(sent):], "A finds in it what it has sent")
	})
}

// Queries and fragments are not hairpinned, and neither is what goes to a public
// address.
func TestHairpin_limits(t *testing.T) {
	c := hairpinning(snat.EndpointIndependentFiltering)
	c.ICMP.Queries = true
	c.Fragments.Mode = snat.FragmentsVirtual
	c.Instances = append(c.Instances, snat.Instance{Name: "vm", Addrs: []netip.Addr{addr("10.1.0.4")}, PublicAddrs: []netip.Addr{addr("20.50.1.4")}})
	b := newBed(t, c)
	w := byFamily["v4"]
	f := b.opens("udp", socket(w.b, 2000), socket(w.s, 53))
	assert.Equal(t, "drop hairpin", b.out(pkttest.ICMPEcho(w.a, w.f, 1, 1)))
	assert.Equal(t, "drop hairpin", b.opens("udp", socket(w.a, 1000), "20.50.1.4:53"))
	assert.Equal(t, "drop hairpin", b.opens("udp", "10.1.0.4:1000", f))
	for _, pkt := range pkttest.Fragments(pkttest.UDP(socket(w.a, 1000), f, string(make([]byte, 200))), 104, 7)[:1] {
		assert.Equal(t, "drop hairpin", b.out(pkt))
	}
	assert.Equal(t, uint64(1), b.Stats().SessionsCreated)
}

// A hairpinned packet keeps its place in a batch.
func TestHairpin_batchKeepsOrder(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, apart(snat.EndpointIndependentFiltering))
			pb := socket(w.f, 1024)
			pkts := [][]byte{
				pkttest.UDP(socket(w.a, 1000), pb, "too soon"),
				pkttest.UDP(socket(w.b, 2000), socket(w.s, 53), "makes the mapping"),
				pkttest.UDP(socket(w.a, 1000), pb, "hello"),
				pkttest.UDP(socket(w.a, 1000), socket(w.s, 53), "out"),
			}
			v := make([]flow.Verdict, len(pkts))
			b.OutboundBatch(0, pkts, v)
			b.Check()
			assert.Equal(t, flow.ReasonNoFlow, v[0].Reason)
			assert.Equal(t, flow.Outside, v[1].To)
			assert.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Inside, New: true, Instance: 1}, v[2])
			assert.Equal(t, flow.Outside, v[3].To)
		})
	}
}

// Hairpinned packets cost no allocation.
func TestHairpin_noAllocations(t *testing.T) {
	b := newBed(t, hairpinning(snat.EndpointIndependentFiltering))
	w := byFamily["v4"]
	pb := b.opens("udp", socket(w.b, 2000), socket(w.s, 53))
	sent := pkttest.UDP(socket(w.a, 1000), pb, "hello")
	pkt := make([]byte, len(sent))
	n := testing.AllocsPerRun(1000, func() {
		copy(pkt, sent)
		b.Outbound(0, pkt)
	})
	if !pkttest.Race && n != 0 {
		t.Errorf("%v allocations per hairpinned packet", n)
	}
}

// Hosts with the same address in different realms reach each other, and a router
// counts the packet down once.
func TestHairpin_acrossRealms(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			c := apart(snat.EndpointIndependentFiltering)
			c.Instances[0].Realm, c.Instances[1].Realm = 1, 2
			c.Instances[1].Inside = c.Instances[0].Inside // B has A's address
			c.ICMP.TTL = snat.TTLRouter
			b := newBed(t, c)
			pb := socket(w.f, 1024)
			pkt := pkttest.UDP(socket(w.a, 1000), socket(w.s, 53), "makes the mapping")
			require.Equal(t, flow.Outside, b.Realm(2).Outbound(0, pkt).To)
			pkt = pkttest.UDP(socket(w.a, 1000), pb, "hello", pkttest.TTL(9))
			v := b.Realm(1).Outbound(0, pkt)
			require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Inside, New: true, Instance: 1}, v)
			pkttest.Check(t, pkt, pkttest.Src(socket(w.f, 2048)), pkttest.Dst(socket(w.a, 1000)), pkttest.TTL(8), pkttest.ChecksumsOK())
			answer := pkttest.UDP(socket(w.a, 1000), socket(w.f, 2048), "world")
			require.Equal(t, uint32(0), b.Realm(2).Outbound(0, answer).Instance)
			pkttest.Check(t, answer, pkttest.Src(pb), pkttest.Dst(socket(w.a, 1000)), pkttest.ChecksumsOK())
			b.Check()
		})
	}
}

// Packets that hairpin in opposite directions between two shards, while others do
// so in batches and the configuration changes, neither lock each other out nor
// lose their sessions.
func TestHairpin_concurrent(t *testing.T) {
	c := apart(snat.EndpointIndependentFiltering)
	b := newBed(t, c)
	w := byFamily["v4"]
	pa, pb := b.opens("udp", socket(w.a, 1000), socket(w.s, 53)), b.opens("udp", socket(w.b, 2000), socket(w.s, 53))
	var wg sync.WaitGroup
	for _, x := range [][3]string{{socket(w.a, 1000), pb, socket(w.b, 2000)}, {socket(w.b, 2000), pa, socket(w.a, 1000)}} {
		for _, batch := range []bool{false, true} {
			wg.Go(func() {
				sent := pkttest.UDP(x[0], x[1], "hello")
				v := make([]flow.Verdict, 1)
				for range 500 {
					pkt := append([]byte(nil), sent...)
					if batch {
						b.OutboundBatch(0, [][]byte{pkt}, v)
					} else {
						v[0] = b.Outbound(0, pkt)
					}
					if got := destination(verdict(v[0], pkt)); got != x[2] {
						t.Errorf("%s > %s reached %s", x[0], x[1], got)
						return
					}
				}
			})
		}
	}
	wg.Go(func() {
		for i := range 50 {
			next := c
			next.CountTraffic = i%2 == 0
			if _, err := b.Reconfigure(0, next); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	b.Check()
	assert.EqualValues(t, 4, b.Stats().SessionsCreated)
}

// A port that is put back, because a host would have got the one that it sends to,
// does not count for its subscriber.
func TestHairpin_loopSpendsNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		c := hairpinning(snat.EndpointIndependentFiltering)
		ownedPorts(&c).Limits.Ports = 2
		ownedPorts(&c).Limits.Sessions = 3
		b := newBed(t, c)
		require.Equal(t, socket(w.f, firstPort), b.opens(proto, socket(w.a, 1000), socket(w.s, 53)))
		for range 4 {
			require.Equal(t, "drop hairpin_loop", b.opens(proto, socket(w.a, 1001), socket(w.f, firstPort+1)))
		}
		require.Equal(t, socket(w.f, firstPort+1), b.opens(proto, socket(w.a, 1001), socket(w.s, 53)))
		assert.Equal(t, "drop quota", b.opens(proto, socket(w.a, 1002), socket(w.s, 53)))
		assert.Equal(t, socket(w.a, 1000), destination(b.knocks(proto, socket(w.q, 53), socket(w.f, firstPort))))
		assert.Equal(t, "drop session_cap", b.knocks(proto, socket(w.q, 54), socket(w.f, firstPort)))
	})
}
