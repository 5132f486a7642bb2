package snat_test

// Rows of the requirements about ICMP messages: which cross, what becomes of what
// they quote, which are made, and when there is none.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// A flipped bit anywhere in an error makes its checksum wrong, and it is dropped.
func TestNAT_I3_EveryFlippedBit(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, left, _, delivered []byte) {
		for from, pkt := range [][]byte{
			report([3]uint32{uint32(r.unreachable)}, r.a, r.s, delivered, len(delivered)),
			report([3]uint32{uint32(r.unreachable)}, r.rx, r.f, left, len(left)),
		} {
			for bit := 8 * (r.header + 2); bit < 8*len(pkt); bit++ { // type and code decide what it is
				bad := clone(pkt)
				bad[bit/8] ^= 1 << (bit % 8)
				v := b.send(flow.Side(from), bad)
				require.Equal(t, flow.Drop, v.Action, "bit %d", bit)
				if v.Reason != flow.ReasonICMPChecksum { // or it does not even reach the ports
					require.Contains(t, []flow.Reason{flow.ReasonICMPInnerShort, flow.ReasonICMPInnerBad, flow.ReasonICMPInnerChecksum,
						flow.ReasonICMPNoFlow, flow.ReasonICMPNested, flow.ReasonICMPInnerFragment}, v.Reason, "bit %d", bit)
				}
			}
			require.Equal(t, flow.Forward, b.send(flow.Side(from), pkt).Action)
		}
	})
}

// A flipped bit anywhere in a quoted IPv4 header is found, though the error's own
// checksum is right.
func TestNAT_I3a_EveryFlippedBitOfAQuotedHeader(t *testing.T) {
	r := realms[0]
	b := newBed(t, carrying())
	left := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")
	require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
	for bit := range 8 * 20 {
		bad := clone(left)
		bad[bit/8] ^= 1 << (bit % 8)
		v := b.Inbound(0, report([3]uint32{3, 3}, r.rx, r.f, bad, len(bad)))
		require.Equal(t, flow.Drop, v.Action, "bit %d", bit)
		if bit >= 8 { // else its version or length are wrong
			require.Equal(t, flow.ReasonICMPInnerChecksum, v.Reason, "bit %d", bit)
		}
	}
}

// Echo works; what runs out of hops or is too big is answered; Destination
// Unreachable and Time Exceeded of others are carried.
func TestNAT_I10a_WhatIsSupported(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, routing(func(c *snat.Config) { c.ICMP.MTU = 1400 }))
		hop := func(pkt []byte) []byte {
			if r.name == "v6" {
				pkt[7]--
			} else {
				pkt[8]--
				fixHeader(pkt)
			}
			return pkt
		}
		b.forwards(flow.Inside, r.ping(r.a, r.s, 0x1234, 1), hop(r.ping(r.f, r.s, firstPort, 1)))
		b.forwards(flow.Outside, r.pong(r.s, r.f, firstPort, 1), hop(r.pong(r.s, r.a, 0x1234, 1)))
		tired := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q", pkttest.TTL(1))
		b.drops(flow.Inside, clone(tired), flow.ReasonTTL)
		b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.exceeded, 0, 0, tired))
		big := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), string(make([]byte, 1400)))
		b.drops(flow.Inside, clone(big), flow.ReasonTooBig)
		b.at(b.now.Duration())
		require.Len(t, b.emitted, 1)
		pkttest.Check(t, b.emitted[0].Packet, pkttest.ICMPType(r.tooBig, r.tooBigCode), pkttest.Dst(r.a), pkttest.ChecksumsOK())
		assert.Equal(t, uint16(1400), binary.BigEndian.Uint16(b.emitted[0].Packet[r.header+6:]))
		for _, typ := range []uint8{r.unreachable, r.exceeded} {
			sent, left := r.ping(r.a, r.s, 0x1234, 1), hop(r.ping(r.f, r.s, firstPort, 1))
			if r.name == "v4" {
				hop(sent) // the quote's header is as it left, but for what is translated
			} else {
				sent[7]--
			}
			b.forwards(flow.Outside, report([3]uint32{uint32(typ)}, r.rx, r.f, left, len(left)), hop(report([3]uint32{uint32(typ)}, r.rx, r.a, sent, len(left))))
		}
	})
}

// Source Quench, Information and Address Mask messages cross in no direction.
func TestNAT_I10c_Obsolete(t *testing.T) {
	r := realms[0]
	b := newBed(t, carrying())
	left := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q")
	require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
	for _, typ := range []uint8{4, 15, 16, 17, 18} {
		for _, body := range [][]byte{nil, left} {
			b.drops(flow.Outside, pkttest.ICMP(r.s, r.f, typ, 0, firstPort<<16, body), flow.ReasonICMPType)
			b.drops(flow.Inside, pkttest.ICMP(r.a, r.s, typ, 0, 1000<<16, body), flow.ReasonICMPType)
		}
	}
	assert.Equal(t, 1, b.Stats().SessionsActive)
}

// Whatever error is made has the DSCP of the packet it answers, and no ECN.
func TestNAT_I10d_DSCP(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, routing(func(c *snat.Config) {
			c.ICMP.MTU, c.ICMP.Refusals, c.ICMP.ErrorBurst = 1400, snat.RefuseProhibited, 1000
			c.Routes = []snat.Route{{Prefix: netip.PrefixFrom(netip.MustParseAddr(r.q), netip.MustParseAddr(r.q).BitLen()), Action: snat.Blackhole}}
		}))
		b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
		long := string(make([]byte, 1400))
		for tos := range 256 {
			is := pkttest.TOS(uint8(tos))
			for _, pkt := range [][]byte{
				pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q", is, pkttest.TTL(1)),
				pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), long, is),
				pkttest.UDP(socket(r.a, 1000), socket(r.q, 53), "q", is),
			} {
				require.Equal(t, flow.Drop, b.Outbound(b.now, pkt).Action)
			}
			require.Equal(t, flow.Drop, b.Inbound(b.now, pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), "a", is, pkttest.TTL(1))).Action)
			b.at(time.Duration(tos+1) * 500 * time.Millisecond) // 10 a second are allowed
			require.Len(t, b.emitted, 4)
			for _, e := range b.emitted {
				pkttest.Check(t, e.Packet, pkttest.TOS(uint8(tos)&^3))
			}
			b.emitted = nil
		}
	})
}

// What the RFC recommends and what the product does with a flow it has no port for.
func TestNAT_I8_ByProduct(t *testing.T) {
	azure, err := preset.AzureLB(preset.Site{
		Instances: []snat.Instance{{Name: "vm-a", Addrs: []netip.Addr{addr(vmA), addr(vmA6)}}},
		Frontends: []netip.Addr{addr(frontend), addr(frontend6)}, PortsPerInstance: 64,
	})
	require.NoError(t, err)
	for name, c := range map[string]snat.Config{"azure": azure, "rfc": carrying(func(c *snat.Config) { c.ICMP.Refusals = snat.RefuseProhibited })} {
		t.Run(name, func(t *testing.T) {
			eachRealm(t, func(t *testing.T, r realm) {
				b := newBed(t, c)
				for i := range 64 {
					require.NotContains(t, b.opens("tcp", socket(r.a, 4000+i), socket(r.s, 443)), "drop")
				}
				syn := pkttest.TCP(socket(r.a, 5000), socket(r.s, 443), pkttest.SYN)
				b.drops(flow.Inside, clone(syn), flow.ReasonPorts)
				if name == "azure" {
					b.made(flow.Inside)
				} else {
					code := map[string]uint8{"v4": 13, "v6": 1}[r.name]
					b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.unreachable, code, 0, syn))
				}
			})
		})
	}
}

// Every code of Destination Unreachable reaches the host that its quote is of.
func TestNAT_U12b_DestinationUnreachable(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "hello")
		left := pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), "hello")
		b.forwards(flow.Inside, clone(sent), clone(left))
		for code := range uint32(16) {
			e := [3]uint32{uint32(r.unreachable), code}
			b.forwards(flow.Outside, report(e, r.rx, r.f, left, len(left)), report(e, r.rx, r.a, sent, len(sent)))
		}
	})
}

// A packet too big for the next link is answered with the link's MTU and the
// packet as its sender has sent it, and does not leave: by either side, every
// protocol, first or later packet of a flow.
func tooBigAnswered(t *testing.T, r realm, from flow.Side, mtu int) {
	b := newBed(t, carrying(func(c *snat.Config) { c.ICMP.MTU, c.ICMP.ErrorBurst = mtu, 100 }))
	fill := func(n, head int) string { return string(make([]byte, n-r.header-head)) }
	most := map[string]int{"v4": 576 - 28, "v6": 1280 - 48}[r.name]
	b.dials(socket(r.a, 1000), socket(r.s, 443))
	b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
	b.out(r.ping(r.a, r.s, 1000, 1))
	near, far, via := r.a, r.s, socket(r.f, firstPort)
	for _, over := range []int{1, 100} {
		n := mtu + over
		pkts := [][]byte{
			pkttest.TCP(socket(near, 1000), socket(far, 443), pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001), pkttest.Payload(fill(n, 20))),
			pkttest.UDP(socket(near, 1000), socket(far, 53), fill(n, 8)),
			pkttest.ICMP(near, far, r.echo, 0, 1000<<16|2, []byte(fill(n, 8))),
			pkttest.UDP(socket(near, 2000), socket(far, 53), fill(n, 8)), // would open a flow
		}
		to, source := near, r.f
		if from == flow.Outside {
			pkts = [][]byte{
				pkttest.TCP(socket(far, 443), via, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001), pkttest.Payload(fill(n, 20))),
				pkttest.UDP(socket(far, 53), via, fill(n, 8)),
				pkttest.ICMP(far, r.f, r.reply, 0, firstPort<<16|2, []byte(fill(n, 8))),
			}
			to = far
		}
		for _, pkt := range pkts {
			require.Len(t, pkt, n)
			b.drops(from, clone(pkt), flow.ReasonTooBig)
			b.made(from, pkttest.ICMP(source, to, r.tooBig, r.tooBigCode, uint32(mtu), pkt[:most]))
		}
	}
	assert.Equal(t, 3, b.Stats().SessionsActive)
}

func TestNAT_U13_TooBigFromInside(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) { tooBigAnswered(t, r, flow.Inside, 1400) })
}

func TestNAT_M69_TooBigFromEitherSide(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, mtu := range []int{1280, 1500, 9000} {
			tooBigAnswered(t, r, flow.Inside, mtu)
			tooBigAnswered(t, r, flow.Outside, mtu)
		}
	})
}

// In batches, too, packets without hops left are dropped and answered by a router,
// and those around them pass; what is no hop drops those that come with none.
func TestNAT_M11_NoHopsLeft(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, c := range []snat.Config{routing(), carrying()} {
			b := newBed(t, c)
			b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
			for from, packet := range []func(ttl uint8) []byte{
				func(ttl uint8) []byte { return pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q", pkttest.TTL(ttl)) },
				func(ttl uint8) []byte {
					return pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), "a", pkttest.TTL(ttl))
				},
			} {
				batch, verdicts := [][]byte{packet(64), packet(1), packet(2), packet(0), packet(255)}, make([]flow.Verdict, 5)
				if from == int(flow.Inside) {
					b.OutboundBatch(b.now, batch, verdicts)
				} else {
					b.InboundBatch(b.now, batch, verdicts)
				}
				b.at(b.now.Duration())
				for i, ttl := range []int{64, 1, 2, 0, 255} {
					if c.ICMP.TTL == snat.TTLTransparent && ttl > 0 {
						require.Equal(t, flow.Forward, verdicts[i].Action)
						pkttest.Check(t, batch[i], pkttest.TTL(uint8(ttl)))
					} else if ttl > 1 {
						require.Equal(t, flow.Forward, verdicts[i].Action)
						pkttest.Check(t, batch[i], pkttest.TTL(uint8(ttl-1)), pkttest.ChecksumsOK())
					} else {
						require.Equal(t, flow.ReasonTTL, verdicts[i].Reason)
					}
				}
				if c.ICMP.TTL == snat.TTLTransparent {
					require.Empty(t, b.emitted)
					continue
				}
				to := []string{r.a, r.s}[from]
				b.made(flow.Side(from), pkttest.ICMP(r.f, to, r.exceeded, 0, 0, packet(1)), pkttest.ICMP(r.f, to, r.exceeded, 0, 0, packet(0)))
			}
		}
	})
}

// What is no hop drops whatever comes without hops, by either door, and sends
// nothing: of flows or not, fragments, messages, and any protocol at 1:1 addresses.
func TestNAT_M11_NoHopsOnArrival(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		public := map[string]string{"v4": "20.50.1.5", "v6": "2001:db8:20::5"}[r.name]
		c := carrying(func(c *snat.Config) {
			c.Fragments.Mode, c.ICMP.ProtocolUnreachable, c.ICMP.Problems = snat.FragmentsVirtual, true, true
			c.Instances[0].Inside = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(r.a), netip.MustParseAddr(r.a).BitLen())}
			c.Instances = append(c.Instances, snat.Instance{
				Name: "public", Addrs: []netip.Addr{netip.MustParseAddr(r.b)}, PublicAddrs: []netip.Addr{netip.MustParseAddr(public)},
			})
		})
		b := newBed(t, c)
		inside, outside, server := socket(r.a, 1000), socket(r.f, firstPort), socket(r.s, 53)
		b.dials(inside, server)
		b.opens("udp", inside, server)
		before := b.Stats()
		none, one := pkttest.TTL(0), pkttest.TTL(1)
		packets := func(hops pkttest.Field) [2][][]byte {
			long := strings.Repeat("x", 64)
			return [2][][]byte{
				flow.Inside: append([][]byte{
					pkttest.TCP(inside, server, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001), hops), pkttest.TCP(socket(r.a, 2000), server, pkttest.SYN, hops),
					pkttest.UDP(inside, server, "x", hops), pkttest.UDP(socket(r.a, 2000), server, "x", hops), pkttest.ICMPEcho(r.a, r.s, 1, 1, hops),
					pkttest.UDP(socket(r.b, 2000), server, "x", hops), pkttest.IP(r.b, r.s, 47, make([]byte, 8), hops), pkttest.ICMPEcho(r.b, r.s, 1, 1, hops),
				}, pkttest.Fragments(pkttest.UDP(inside, server, long, hops), 24, 7)...),
				flow.Outside: append([][]byte{
					pkttest.TCP(server, outside, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001), hops), pkttest.UDP(server, outside, "x", hops),
					pkttest.UDP(server, socket(public, 2000), "x", hops), pkttest.IP(r.s, public, 47, make([]byte, 8), hops), pkttest.ICMPEcho(r.s, public, 1, 1, hops),
				}, pkttest.Fragments(pkttest.UDP(server, outside, long, hops), 24, 7)...),
			}
		}
		want := before
		for from, all := range packets(none) {
			verdicts := make([]flow.Verdict, len(all))
			for _, pkt := range all {
				b.drops(flow.Side(from), clone(pkt), flow.ReasonTTL)
			}
			if flow.Side(from) == flow.Inside {
				b.OutboundBatch(b.now, all, verdicts)
			} else {
				b.InboundBatch(b.now, all, verdicts)
			}
			for _, v := range verdicts {
				require.Equal(t, flow.Verdict{Reason: flow.ReasonTTL}, v)
			}
			side := []*snat.PacketStats{&want.Outbound, &want.Inbound}[from]
			side.Dropped += uint64(2 * len(all))
			side.Drops[flow.ReasonTTL] += uint64(2 * len(all))
		}
		b.at(0)
		require.Empty(t, b.emitted)
		require.Equal(t, want, b.Stats(), "nothing else has happened")
		// What arrives with one hop passes, with one.
		for from, all := range packets(one) {
			for _, pkt := range all {
				require.Equal(t, flow.Forward, b.send(flow.Side(from), pkt).Action, pkttest.String(pkt))
				pkttest.Check(t, pkt, one)
			}
		}
	})
}

// Pings and datagrams to broadcast addresses and groups amplify nothing: they are
// dropped, and no error tells of it.
func TestNAT_M64_Amplifiers(t *testing.T) {
	many := map[string][]string{"v4": {"255.255.255.255", "224.0.0.1", "239.1.2.3"}, "v6": {"ff02::1", "ff05::2", "ff0e::101"}}
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, routing(func(c *snat.Config) { c.ICMP.MTU, c.ICMP.Refusals = 1280, snat.RefuseProhibited }))
		for _, dst := range many[r.name] {
			for _, pkt := range [][]byte{
				r.ping(r.a, dst, 1, 1), pkttest.UDP(socket(r.a, 1000), socket(dst, 7), "x"),
				pkttest.UDP(socket(r.a, 1000), socket(dst, 7), "x", pkttest.TTL(1)),
				pkttest.UDP(socket(r.a, 1000), socket(dst, 7), string(make([]byte, 1300))),
			} {
				b.drops(flow.Inside, pkt, flow.ReasonMartianDestination)
			}
			b.drops(flow.Outside, r.ping(r.s, dst, 1, 1), flow.ReasonNotOurs)
		}
		b.made(flow.Inside)
		assert.Zero(t, b.Stats().SessionsCreated)
	})
}

// An error whose quote cannot be told, or quotes an error, is dropped and nobody
// hears of it, even where errors are made.
func TestNAT_N7_DroppedInSilence(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, routing(func(c *snat.Config) { c.ICMP.Refusals = snat.RefuseProhibited }))
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q", pkttest.TTL(64))
		left := clone(sent)
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		nested := report([3]uint32{uint32(r.unreachable)}, r.f, r.s, left, len(left))
		for _, e := range r.errors() {
			for n := range r.header + 8 {
				b.drops(flow.Outside, report(e, r.rx, r.f, left, n), flow.ReasonICMPInnerShort)
			}
			b.drops(flow.Outside, report(e, r.rx, r.f, nested, len(nested)), flow.ReasonICMPNested)
		}
		b.made(flow.Outside)
		assert.Zero(t, b.Stats().ICMPErrors+b.Stats().ICMPErrorsSuppressed)
	})
}

// Of all types, only these are queries: echo, and timestamp where it is asked for.
func TestNAT_Q2_QueryTypes(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, timestamps := range []bool{false, true} {
			b := newBed(t, carrying(func(c *snat.Config) { c.ICMP.Timestamps, c.ICMP.Errors = timestamps, false }))
			var begin, answer []int
			for typ := range 256 {
				if b.Outbound(0, pkttest.ICMP(r.a, r.s, uint8(typ), 0, 0x1234<<16|1, make([]byte, 12))).Action == flow.Forward {
					begin = append(begin, typ)
				}
				if b.Inbound(0, pkttest.ICMP(r.s, r.f, uint8(typ), 0, firstPort<<16|1, make([]byte, 12))).Action == flow.Forward {
					answer = append(answer, typ)
				}
			}
			want := [2][]int{{int(r.echo)}, {int(r.reply)}}
			if timestamps && r.name == "v4" {
				want = [2][]int{{8, 13}, {14}} // the reply to the echo comes before it is asked
			} else if r.name == "v4" {
				want[1] = nil
			}
			assert.Equal(t, want, [2][]int{begin, answer}, "timestamps %v", timestamps)
		}
	})
}

// Of all types, only these are errors, whoever sends them.
func TestNAT_Q3_ErrorTypes(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, left, _, delivered []byte) {
		want := map[string][]int{"v4": {3, 11, 12}, "v6": {1, 2, 3, 4}}[r.name]
		for from, q := range []struct {
			src, dst string
			quote    []byte
		}{{r.a, r.s, delivered}, {r.rx, r.f, left}} {
			var got []int
			for typ := range 256 {
				if typ == int(r.echo) || r.name == "v4" && typ == 13 {
					continue // queries, of the inside
				}
				if b.send(flow.Side(from), report([3]uint32{uint32(typ)}, q.src, q.dst, q.quote, len(q.quote))).Action == flow.Forward {
					got = append(got, typ)
				}
			}
			assert.Equal(t, want, got, "from %v", flow.Side(from))
		}
	})
}

// updated is a checksum after bytes it covers have changed (RFC 1624).
func updated(sum uint16, old, new []byte) uint16 {
	s := uint32(^sum)
	for i := 0; i < len(old); i += 2 {
		s += uint32(^binary.BigEndian.Uint16(old[i:])) + uint32(binary.BigEndian.Uint16(new[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// Only these bytes of an error change: the receiver's address, checksums, and in
// the quote the address, its checksum, the port and its checksum if it is there.
func TestNAT_Q4_OnlyTheseBytes(t *testing.T) {
	eachConversation(t, func(t *testing.T, r realm, b *bed, _, left, _, delivered []byte) {
		size := map[string]int{"v4": 4, "v6": 16}[r.name]
		for from, q := range []struct {
			src, dst string
			quote    []byte
		}{{r.a, r.s, delivered}, {r.rx, r.f, left}} {
			outer, inner, port := r.header-2*size, r.header-size, 2 // the source of the error, the destination of its quote
			if from == int(flow.Outside) {
				outer, inner, port = inner, outer, 0
			}
			icmp, quote := r.header, r.header+8
			l4 := quote + r.header
			proto := q.quote[map[string]int{"v4": 9, "v6": 6}[r.name]]
			may := slices.Concat(span(outer, outer+size), span(icmp+2, icmp+4), span(quote+inner, quote+inner+size))
			if r.name == "v4" {
				may = slices.Concat(may, span(10, 12), span(quote+10, quote+12))
			}
			switch proto {
			case protoTCP:
				may = slices.Concat(may, span(l4+port, l4+port+2), span(l4+16, l4+18))
			case protoUDP:
				may = slices.Concat(may, span(l4+port, l4+port+2), span(l4+6, l4+8))
			default:
				may = slices.Concat(may, span(l4+4, l4+6), span(l4+2, l4+4))
			}
			for n := r.header + 8; n <= len(q.quote); n++ {
				if halfChecksum(r, q.quote, n) {
					continue
				}
				before := report([3]uint32{uint32(r.unreachable), 1}, q.src, q.dst, q.quote, n)
				after := clone(before)
				require.Equal(t, flow.Forward, b.send(flow.Side(from), after).Action)
				require.Subset(t, may, pkttest.Diff(before, after), "%d bytes quoted", n)
				pkttest.Check(t, after, pkttest.ChecksumsOK())
			}
		}
	})
}

// What happens to the ICMP checksum is what happens to the bytes that do not
// cancel out. Of IPv4 the port alone if a TCP quote is cut, else the address, the
// other way round: it is in the quoted checksum. Of IPv6 the address, which the
// checksum covers once more.
func TestNAT_Q5_WhatCancelsOut(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		f, a := netip.MustParseAddr(r.f).AsSlice(), netip.MustParseAddr(r.a).AsSlice()
		p, x := []byte{firstPort >> 8, firstPort & 255}, []byte{40000 >> 8, 40000 & 255}
		for _, tc := range []struct {
			proto    string
			n        int
			old, new []byte
		}{
			{"tcp", r.header + 8, p, x},
			{"tcp", r.header + 24, a, f},
			{"udp", r.header + 13, a, f},
			{"query", r.header + 12, nil, nil}, // the identifier and its checksum
		} {
			switch {
			case r.name == "v6" && tc.n == r.header+8:
				tc.old, tc.new = slices.Concat(f, f, p), slices.Concat(a, a, x)
			case r.name == "v6":
				tc.old, tc.new = f, a
			}
			b := newBed(t, carrying())
			sent := r.conversations()[tc.proto](r.a, 40000, r.s)
			left := clone(sent)
			require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
			before := report([3]uint32{uint32(r.unreachable), 3}, r.rx, r.f, left, tc.n)
			after := clone(before)
			require.Equal(t, flow.Forward, b.Inbound(0, after).Action)
			sum := func(b []byte) uint16 { return binary.BigEndian.Uint16(b[r.header+2:]) }
			want := updated(sum(before), tc.old, tc.new)
			assert.Equal(t, fmt.Sprintf("%04x", want), fmt.Sprintf("%04x", sum(after)), "%s, %d bytes quoted", tc.proto, tc.n)
		}
	})
}

// A quote may be as long as it likes: it is neither cut nor extended.
func TestNAT_Q6_QuotesOfAnyLength(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), string(make([]byte, 1400)))
		left := clone(sent)
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		e := [3]uint32{uint32(r.exceeded)}
		for _, n := range []int{r.header + 8, r.header + 9, 128, 548, 576, 1000, 1232, 1280, len(sent)} {
			b.forwards(flow.Outside, report(e, r.rx, r.f, left, n), report(e, r.rx, r.a, sent, n))
		}
	})
}

// The length of RFC 4884 is there in these types only: in others the same bytes are
// an MTU or a pointer.
func TestNAT_Q7_LengthOrMTU(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), string(make([]byte, 200)))
		left := clone(sent)
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		extension := unhex("2000000000080101000c8101")
		padded := func(q []byte, n int) []byte { return append(clone(q[:n]), extension...) }
		types := map[string][]uint8{"v4": {3, 11, 12}, "v6": {1, 3}}[r.name]
		for _, typ := range types {
			n, word := 128, uint32(128/4)<<16
			if r.name == "v6" {
				word = 128 / 8 << 24
			}
			e := [3]uint32{uint32(typ), 0, word}
			b.forwards(flow.Outside, report(e, r.rx, r.f, padded(left, n), n+12), report(e, r.rx, r.a, padded(sent, n), n+12))
		}
		if r.name == "v6" { // an MTU and pointers that would be lengths
			for _, e := range [][3]uint32{{2, 0, 0x05000500}, {4, 0, 0x05000000}} {
				b.forwards(flow.Outside, report(e, r.rx, r.f, left, len(left)), report(e, r.rx, r.a, sent, len(sent)))
			}
		} else { // an MTU beside the length
			e := [3]uint32{3, 4, 128/4<<16 | 1400}
			b.forwards(flow.Outside, report(e, r.rx, r.f, padded(left, 128), 140), report(e, r.rx, r.a, padded(sent, 128), 140))
		}
	})
}

// What passes: any sender, a quote with any TTL. What does not: a quote of somebody
// else's packet, or of a packet that F has not sent, though its ports are known.
func TestNAT_Q8_WhatPasses(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		ttl := func(n uint8) pkttest.Field { return pkttest.TTL(n) }
		b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
		e := [3]uint32{uint32(r.exceeded)}
		for _, n := range []uint8{0, 1, 255} {
			left, sent := pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), "q", ttl(n)), pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q", ttl(n))
			for _, from := range []string{r.s, r.q, r.rx} {
				b.forwards(flow.Outside, report(e, from, r.f, left, len(left)), report(e, from, r.a, sent, len(sent)))
			}
		}
		for _, quote := range [][]byte{
			pkttest.UDP(socket(r.q, firstPort), socket(r.s, 53), "q"),       // not the receiver's
			pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), "q"),       // the other way
			pkttest.TCP(socket(r.f, firstPort), socket(r.s, 53)),            // another protocol
			pkttest.UDP(socket(r.f, firstPort), socket(r.s, 54), "q"),       // another remote
			pkttest.UDP(socket(r.f, firstPort+1), socket(r.s, 53), "q"),     // nobody's port
			pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q"),            // as only the inside knows it
			pkttest.ICMP(r.f, r.s, r.echo, 0, firstPort<<16|1, []byte("q")), // no such query
		} {
			b.drops(flow.Outside, report(e, r.rx, r.f, quote, len(quote)), flow.ReasonICMPNoFlow)
		}
	})
}

// In whatever state a connection is, storms of errors from both sides leave it, its
// time and everybody's ports as they are; without a flow they begin none.
func TestNAT_Q10_ErrorsActOnNothing(t *testing.T) {
	c := patient(8)
	c.ICMP = snat.ICMP{Errors: true}
	for _, st := range stations {
		t.Run(st.state, func(t *testing.T) {
			eachRealm(t, func(t *testing.T, r realm) {
				k := &talk{bed: newBed(t, c), inside: socket(r.a, 5000), outside: socket(r.f, firstPort), remote: socket(r.s, 443)}
				left, came := pkttest.TCP(k.outside, k.remote, pkttest.ACK), pkttest.TCP(k.remote, k.inside, pkttest.ACK)
				storm := func(action flow.Action) {
					for _, e := range r.errors() {
						require.Equal(t, action, k.Inbound(k.now, report(e, r.rx, r.f, left, len(left))).Action)
						require.Equal(t, action, k.Outbound(k.now, report(e, r.a, r.s, came, len(came))).Action)
					}
				}
				storm(flow.Drop)
				require.Zero(t, k.Stats().SessionsCreated)
				st.reach(k)
				pool := k.pool(r.name == "v6", snat.TCP)
				k.at(10 * time.Second)
				storm(flow.Forward)
				k.is(st.state)
				require.Equal(t, pool, k.pool(r.name == "v6", snat.TCP))
				k.ends(st.idle)
				storm(flow.Drop)
			})
		})
	}
}

// What may not be answered is not, whichever reason there is to: no hops, too big,
// refused.
func TestNAT_Q13_NeverAnswered(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, routing(func(c *snat.Config) {
			c.ICMP.MTU, c.ICMP.Refusals = 1280, snat.RefuseHostUnreachable
			c.Instances[0].Ports[0].Count, c.Instances[0].Ports[1].Count = 8, 8
		}))
		for i := range 8 {
			b.opens("udp", socket(r.a, 1000+i), socket(r.s, 53))
		}
		nobody := map[string][]string{"v4": {"0.0.0.0", "0.0.0.9", "127.0.0.1", "224.0.0.1", "255.255.255.255"}, "v6": {"::", "::1", "ff02::1"}}[r.name]
		many := map[string]string{"v4": "224.0.0.9", "v6": "ff0e::9"}[r.name]
		left := pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), "q")
		came := pkttest.UDP(socket(r.s, 53), socket(r.a, 1000), "q")
		long := make([]byte, 1300)
		silent := func(from flow.Side, pkts ...[]byte) {
			for i, pkt := range pkts {
				require.Equal(t, flow.Drop, b.send(from, pkt).Action, "packet %d", i)
			}
			b.made(from)
		}
		for _, src := range nobody {
			for _, door := range []struct {
				from     flow.Side
				src, dst string
			}{{flow.Inside, socket(src, 9), socket(r.s, 53)}, {flow.Outside, socket(src, 53), socket(r.f, firstPort)}} {
				silent(door.from, pkttest.UDP(door.src, door.dst, "x", pkttest.TTL(1)),
					pkttest.UDP(door.src, door.dst, string(long)), pkttest.UDP(door.src, door.dst, "x"))
			}
		}
		silent(flow.Inside,
			pkttest.UDP(socket(r.a, 9), socket(many, 9), "x", pkttest.TTL(1)), pkttest.UDP(socket(r.a, 9), socket(many, 9), string(long)),
			pkttest.ICMP(r.a, r.s, r.unreachable, 0, 0, came, pkttest.TTL(1)), // errors, also too big ones
			pkttest.ICMP(r.a, r.s, r.exceeded, 0, 0, append(clone(came), long...)))
		silent(flow.Outside,
			pkttest.ICMP(r.s, r.f, r.unreachable, 0, 0, left, pkttest.TTL(1)),
			pkttest.ICMP(r.rx, r.f, r.tooBig, r.tooBigCode, 1400, append(clone(left), long...)))
		for i, f := range pkttest.Fragments(pkttest.UDP(socket(r.a, 9), socket(r.s, 9), string(make([]byte, 64)), pkttest.TTL(1)), 32, 7) {
			if i > 0 {
				silent(flow.Inside, f)
			}
		}
		// And these are, so that there were reasons.
		for _, pkt := range [][]byte{
			pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "x", pkttest.TTL(1)), pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), string(long)), pkttest.UDP(socket(r.a, 9), socket(r.s, 53), "x"),
		} {
			require.Equal(t, flow.Drop, b.Outbound(b.now, pkt).Action)
		}
		assert.Equal(t, uint64(3), b.Stats().ICMPErrors)
	})
}

// The code of a refusal is chosen for all its causes; silence is the default.
func TestNAT_Q16_CodeOfRefusals(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for refusal, codes := range map[snat.Refusal]map[string]uint8{
			snat.RefuseHostUnreachable: {"v4": 1, "v6": 3}, snat.RefuseProhibited: {"v4": 13, "v6": 1}, snat.Refusal(0): nil,
		} {
			b := newBed(t, carrying(func(c *snat.Config) {
				c.ICMP.Refusals, c.ICMP.RouterAddrs = refusal, []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}
				c.Instances[0].Ports = nil // nothing to leave with
			}))
			for _, pkt := range [][]byte{
				pkttest.TCP(socket(r.a, 1000), socket(r.s, 443), pkttest.SYN), pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q"),
			} {
				require.Equal(t, flow.Drop, b.Outbound(0, clone(pkt)).Action)
				b.at(0)
				if codes == nil {
					require.Empty(t, b.emitted)
					continue
				}
				require.Len(t, b.emitted, 1)
				pkttest.Check(t, b.emitted[0].Packet, pkttest.ICMPType(r.unreachable, codes[r.name]), pkttest.Dst(r.a), pkttest.ChecksumsOK())
				b.emitted = nil
			}
		}
	})
}
