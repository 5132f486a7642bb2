package snat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// routing is carrying as a hop of the path.
func routing(change ...func(*snat.Config)) snat.Config {
	return carrying(append([]func(*snat.Config){func(c *snat.Config) { c.ICMP.TTL = snat.TTLRouter }}, change...)...)
}

// made takes the errors that were made off the tray and demands that they are want.
func (b *bed) made(to flow.Side, want ...[]byte) {
	b.t.Helper()
	b.at(b.now.Duration())
	require.Len(b.t, b.emitted, len(want))
	for i, e := range b.emitted {
		assert.Equal(b.t, to, e.To)
		if at := pkttest.Diff(e.Packet, want[i]); len(at) > 0 {
			b.t.Errorf("bytes %v differ:\n got %x\nwant %x", at, e.Packet, want[i])
		}
		pkttest.Check(b.t, e.Packet, pkttest.ChecksumsOK())
	}
	b.emitted = nil
}

func TestNAT_H6_RouterCountsDown(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for proto, packet := range r.conversations() {
			b := newBed(t, routing())
			with := func(pkt []byte, ttl uint8) []byte {
				if r.name == "v4" {
					pkt[8] = ttl
					fixHeader(pkt)
				} else {
					pkt[7] = ttl
				}
				return pkt
			}
			b.forwards(flow.Inside, with(packet(r.a, 4000, r.s), 2), with(packet(r.f, firstPort, r.s), 1))
			b.forwards(flow.Inside, with(packet(r.a, 4000, r.s), 200), with(packet(r.f, firstPort, r.s), 199)) // DF stays
			b.forwards(flow.Outside, with(r.answer(proto, r.s, r.f, firstPort), 9), with(r.answer(proto, r.s, r.a, 4000), 8))
			for _, ttl := range []uint8{0, 1} {
				sent, came := with(packet(r.a, 4000, r.s), ttl), with(r.answer(proto, r.s, r.f, firstPort), ttl)
				b.drops(flow.Inside, clone(sent), flow.ReasonTTL)
				b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.exceeded, 0, 0, sent))
				b.drops(flow.Outside, clone(came), flow.ReasonTTL)
				b.made(flow.Outside, pkttest.ICMP(r.f, r.s, r.exceeded, 0, 0, came))
			}
			// A new flow does not begin with it, and strangers are not answered.
			b.drops(flow.Inside, with(packet(r.a, 4001, r.s), 1), flow.ReasonTTL)
			b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.exceeded, 0, 0, with(packet(r.a, 4001, r.s), 1)))
			b.drops(flow.Outside, with(r.answer(proto, r.q, r.f, firstPort), 1), flow.ReasonNoFlow)
			b.made(flow.Outside)
			assert.Equal(t, 1, b.Stats().SessionsActive)
			assert.Equal(t, uint64(5), b.Stats().ICMPErrors)
		}
	})
}

func TestNAT_H6_TransparentIsDefault(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying())
		b.forwards(flow.Inside, pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q", pkttest.TTL(1)),
			pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), "q", pkttest.TTL(1)))
	})
}

// What is not translated is not routed by us either.
func TestNAT_H6_BypassedPacketsStay(t *testing.T) {
	b := newBed(t, routing(func(c *snat.Config) {
		c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Action: snat.PassThrough}}
	}))
	for _, ttl := range []uint8{0, 1, 64} {
		pkt := pkttest.UDP(socket(vmA, 1000), socket(serverA, 53), "q", pkttest.TTL(ttl))
		was := clone(pkt)
		require.Equal(t, flow.Bypass, b.Outbound(0, pkt).Action)
		require.Equal(t, was, pkt)
	}
	b.made(flow.Inside)
}

func TestNAT_Q12_PacketTooBig(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, carrying(func(c *snat.Config) {
			c.ICMP.MTU = 1400
			c.ICMP.RouterAddrs = []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}
		}))
		body := func(n int) string { return string(make([]byte, n-r.header-8)) }
		b.forwards(flow.Inside, pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), body(1400)),
			pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), body(1400)))
		most := 576 - 28
		if r.name == "v6" {
			most = 1280 - 48
		}
		sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), body(1401), pkttest.TOS(46<<2|1))
		b.drops(flow.Inside, clone(sent), flow.ReasonTooBig)
		b.made(flow.Inside, pkttest.ICMP(r.ry, r.a, r.tooBig, r.tooBigCode, 1400, sent[:most], pkttest.TOS(46<<2))) // I10d
		came := pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), body(1401))
		b.drops(flow.Outside, clone(came), flow.ReasonTooBig)
		b.made(flow.Outside, pkttest.ICMP(r.f, r.s, r.tooBig, r.tooBigCode, 1400, came[:most]))
	})
}

func TestNAT_I8_Refusals(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for refusal, codes := range map[snat.Refusal][2]uint8{
			snat.RefuseHostUnreachable: {1, 3}, snat.RefuseProhibited: {13, 1}, snat.RefuseSilently: {},
		} {
			b := newBed(t, carrying(func(c *snat.Config) {
				c.ICMP.Refusals = refusal
				c.Instances[0].Ports[0].Count, c.Instances[0].Ports[1].Count = 8, 8
				c.Routes = []snat.Route{
					{Prefix: netip.PrefixFrom(addr("198.51.100.8"), 32), Action: snat.Blackhole},
					{Prefix: netip.PrefixFrom(addr("2001:db8:5::8"), 128), Action: snat.Blackhole},
				}
			}))
			code := codes[0]
			if r.name == "v6" {
				code = codes[1]
			}
			told := func(sent []byte) {
				if refusal == snat.RefuseSilently {
					b.made(flow.Inside)
					return
				}
				b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.unreachable, code, 0, sent))
			}
			for _, packet := range r.conversations() {
				for i := range 8 {
					require.Equal(t, flow.Forward, b.Outbound(0, packet(r.a, 4000+i, r.s)).Action)
				}
				sent := packet(r.a, 5000, r.s)
				b.drops(flow.Inside, clone(sent), flow.ReasonPorts)
				told(sent)
				sent = packet(r.a, 5000, r.q)
				b.drops(flow.Inside, clone(sent), flow.ReasonRoute)
				told(sent)
			}
			// Nothing else is a refusal.
			b.drops(flow.Inside, pkttest.TCP(socket(r.a, 9), socket(r.s, 9), pkttest.ACK), flow.ReasonNoFlow)
			b.made(flow.Inside)
		}
	})
}

func TestNAT_I10e_NeverAnswered(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, routing(func(c *snat.Config) {
			c.ICMP.Refusals = snat.RefuseProhibited
			c.Routes = []snat.Route{
				{Prefix: netip.MustParsePrefix("224.0.0.0/4"), Action: snat.Blackhole},
				{Prefix: netip.MustParsePrefix("ff00::/8"), Action: snat.Blackhole},
			}
		}))
		left := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), "q")
		require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
		ttl := pkttest.TTL(1)
		multicast, stranger := "224.0.0.5", "0.0.0.1"
		if r.name == "v6" {
			multicast, stranger = "ff02::5", "::1"
		}
		b.out(pkttest.ICMP(r.a, r.s, r.unreachable, 0, 0, left, ttl))        // an error
		b.in(pkttest.ICMP(r.s, r.f, r.unreachable, 0, 0, left, ttl))         // so too
		b.out(pkttest.ICMP(r.a, r.s, 137, 0, 0, left, ttl))                  // a redirect
		b.out(pkttest.UDP(socket(r.a, 1), socket(multicast, 1), "x", ttl))   // to many hosts
		b.in(pkttest.UDP(socket(stranger, 53), socket(r.f, firstPort), "x")) // from nobody
		b.in(pkttest.UDP(socket(stranger, 1), socket(r.f, firstPort), "", ttl))
		for i, f := range pkttest.Fragments(pkttest.UDP(socket(r.a, 1), socket(r.s, 1), string(make([]byte, 64)), ttl), 32, 7) {
			if i > 0 {
				b.out(f)
			}
		}
		broken := pkttest.UDP(socket(r.a, 1), socket(r.s, 1), "x", ttl)
		if r.name == "v4" {
			broken[10] ^= 1 // the header checksum
		} else {
			broken[4] = 0xff // the length
		}
		b.out(broken)
		b.made(flow.Inside)
		assert.Zero(t, b.Stats().ICMPErrors)
	})
}

func TestNAT_I10f_RateLimit(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, routing())
		flood := func() (errors int) {
			for i := range 1000 {
				b.lazily(b.now.Duration() + time.Millisecond)
				require.Equal(t, flow.ReasonTTL, b.Outbound(b.now, pkttest.UDP(socket(r.a, 1+i), socket(r.s, 53), "q", pkttest.TTL(1))).Reason)
			}
			b.at(b.now.Duration())
			errors = len(b.emitted)
			b.emitted = nil
			return errors
		}
		assert.Equal(t, 19, flood(), "a burst of 10, then one each 100 ms")
		assert.Equal(t, 10, flood())
		b.lazily(b.now.Duration() + time.Hour)
		assert.Equal(t, 19, flood())
		s := b.Stats()
		assert.Equal(t, uint64(3000), s.ICMPErrors+s.ICMPErrorsSuppressed)
		assert.Equal(t, uint64(3000), s.Outbound.Drops[flow.ReasonTTL])
	})
}

// A NAT gateway may be a hop and tell of refusals, but it carries no ICMP.
func TestICMPOfInventory(t *testing.T) {
	c := gateway(1024, 1)
	c.ICMP = snat.ICMP{TTL: snat.TTLRouter, Refusals: snat.RefuseProhibited}
	b := newBed(t, c)
	gone := func(src string) []byte { return pkttest.UDP(src, farAway, "x", pkttest.TTL(1)) }
	require.Equal(t, gatewayIP+":1024", b.opens("udp", gatewayA+":5000", farAway))
	b.drops(flow.Inside, gone(gatewayA+":5000"), flow.ReasonTTL)
	b.made(flow.Inside, pkttest.ICMP(gatewayIP, gatewayA, 11, 0, 0, gone(gatewayA+":5000")))
	late := pkttest.UDP(farAway, gatewayIP+":1024", "x", pkttest.TTL(1))
	b.drops(flow.Outside, clone(late), flow.ReasonTTL)
	b.made(flow.Outside, pkttest.ICMP(gatewayIP, "26.108.254.155", 11, 0, 0, late))
	refused := pkttest.UDP(gatewayB+":5000", farAway, "x")
	b.drops(flow.Inside, clone(refused), flow.ReasonPorts)
	b.made(flow.Inside, pkttest.ICMP(gatewayIP, gatewayB, 3, 13, 0, refused))
	b.at(4 * time.Minute) // the port is held, and the record of that is nobody's session
	b.drops(flow.Inside, gone(gatewayA+":5000"), flow.ReasonTTL)
	b.made(flow.Inside, pkttest.ICMP(gatewayIP, gatewayA, 11, 0, 0, gone(gatewayA+":5000")))
	b.drops(flow.Outside, clone(late), flow.ReasonNoFlow)
	b.made(flow.Outside)
}
