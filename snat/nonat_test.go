package snat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// exempting is oneVM with hosts behind it and rows of the destination table.
func exempting(rows ...snat.Route) snat.Config {
	c := oneVM(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:244::/64")}
	c.Routes = rows
	return c
}

// exempt is a no-NAT rule for a host.
func exempt(host string, change ...func(*snat.Route)) snat.Route {
	a := netip.MustParseAddr(host)
	row := snat.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Action: snat.PassThrough, BothWays: true}
	for _, f := range change {
		f(&row)
	}
	return row
}

// passes demands that a packet goes on byte for byte, by both doors of its side,
// and belongs to the instance.
func (b *bed) passes(from flow.Side, pkt []byte) {
	b.t.Helper()
	for _, batch := range []bool{false, true} {
		v, got := make([]flow.Verdict, 1), clone(pkt)
		switch {
		case batch && from == flow.Inside:
			b.OutboundBatch(b.now, [][]byte{got}, v)
		case batch:
			b.InboundBatch(b.now, [][]byte{got}, v)
		default:
			v[0] = b.send(from, got)
		}
		require.Equal(b.t, flow.Verdict{Action: flow.Bypass, To: from ^ 1}, v[0], "batch %v: %s", batch, pkttest.String(pkt))
		require.Equal(b.t, pkt, got)
	}
}

func TestNAT_C6_NoTranslationForDestinations(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		pod := map[string]string{"v4": "10.244.0.9", "v6": "fd00:244::9"}[r.name]
		t.Run("a host", func(t *testing.T) {
			b := newBed(t, exempting(exempt(r.q)))
			for _, inside := range []string{r.a, pod} {
				b.passes(flow.Inside, pkttest.TCP(socket(inside, 5000), socket(r.q, 443), pkttest.SYN, pkttest.MSS(1460)))
				b.passes(flow.Outside, pkttest.TCP(socket(r.q, 443), socket(inside, 5000), pkttest.TCPFlags("SA"), pkttest.Ack(1)))
				b.passes(flow.Inside, pkttest.TCP(socket(inside, 5000), socket(r.q, 443), pkttest.ACK))
				b.passes(flow.Inside, pkttest.UDP(socket(inside, 5000), socket(r.q, 53), "x"))
				b.passes(flow.Outside, pkttest.UDP(socket(r.q, 53), socket(inside, 5000), "x", pkttest.BadChecksum()))
				b.passes(flow.Inside, r.ping(inside, r.q, 1, 2))
				b.passes(flow.Outside, r.pong(r.q, inside, 1, 2))
				for _, proto := range []uint8{47, 50, 132} {
					b.passes(flow.Inside, pkttest.IP(inside, r.q, proto, []byte("whatever it is")))
					b.passes(flow.Outside, pkttest.IP(r.q, inside, proto, []byte("whatever it is")))
				}
				for _, frag := range pkttest.Fragments(pkttest.UDP(socket(inside, 5000), socket(r.q, 53), string(make([]byte, 100))), 48, 7) {
					b.passes(flow.Inside, frag)
				}
				for _, frag := range pkttest.Fragments(pkttest.UDP(socket(r.q, 53), socket(inside, 5000), string(make([]byte, 100))), 48, 7) {
					b.passes(flow.Outside, frag)
				}
			}
			s := b.Stats()
			assert.Equal(t, uint64(2*2*10), s.Outbound.Bypassed)
			assert.Equal(t, uint64(2*2*9), s.Inbound.Bypassed)
			assert.Zero(t, s.Outbound.Dropped+s.Inbound.Dropped+s.SessionsCreated)

			// Everybody else is as before.
			outside := b.dials(socket(pod, 5000), socket(r.s, 443))
			assert.Contains(t, outside, r.f)
			assert.Equal(t, "drop not_ours", b.in(pkttest.UDP(socket(r.s, 53), socket(pod, 5000), "x")))
			assert.Equal(t, "drop no_flow", b.in(pkttest.UDP(socket(r.q, 53), socket(r.f, firstPort), "x")))
			assert.Equal(t, "drop not_ours", b.in(pkttest.UDP(socket(r.q, 53), socket(r.rx, 5000), "x")))
			assert.Equal(t, "drop land", b.in(pkttest.UDP(socket(r.a, 53), socket(r.a, 5000), "x")))
		})
		t.Run("a host, one way", func(t *testing.T) {
			b := newBed(t, exempting(exempt(r.q, func(r *snat.Route) { r.BothWays = false })))
			b.passes(flow.Inside, pkttest.UDP(socket(pod, 5000), socket(r.q, 53), "x"))
			assert.Equal(t, "drop not_ours", b.in(pkttest.UDP(socket(r.q, 53), socket(pod, 5000), "x")))
			assert.Equal(t, "drop unsupported_proto", b.out(pkttest.IP(pod, r.q, 47, []byte("x"))))
			assert.Equal(t, "drop no_flow", b.in(pkttest.UDP(socket(r.q, 53), socket(r.a, 5000), "x")))
		})
		t.Run("ports", func(t *testing.T) {
			b := newBed(t, exempting(
				exempt(r.q, func(r *snat.Route) { r.Protocol, r.FirstPort, r.LastPort = snat.TCP, 80, 90 }),
				exempt(r.q, func(r *snat.Route) { r.FirstPort = 53 })))
			inside := socket(pod, 5000)
			for _, port := range []int{53, 80, 85, 90} {
				b.passes(flow.Inside, pkttest.TCP(inside, socket(r.q, port), pkttest.SYN))
				b.passes(flow.Outside, pkttest.TCP(socket(r.q, port), inside, pkttest.ACK))
			}
			b.passes(flow.Inside, pkttest.UDP(inside, socket(r.q, 53), "x"))
			for _, port := range []int{52, 54, 79, 91} {
				assert.Contains(t, b.opens("tcp", inside, socket(r.q, port)), r.f, "%d", port)
				assert.Equal(t, "drop not_ours", b.in(pkttest.TCP(socket(r.q, port), inside, pkttest.ACK)))
			}
			assert.Contains(t, b.opens("udp", inside, socket(r.q, 80)), r.f)
			assert.Equal(t, "drop unsupported_proto", b.out(pkttest.IP(pod, r.q, 47, []byte("x"))), "it has no ports")
			frags := pkttest.Fragments(pkttest.UDP(inside, socket(r.q, 53), string(make([]byte, 100))), 48, 7)
			assert.Equal(t, "drop fragment", b.out(frags[1]), "it does not tell its ports")
		})
		t.Run("the most special row wins", func(t *testing.T) {
			b := newBed(t, exempting(
				exempt(r.q), // in whatever order they are
				exempt(r.q, func(r *snat.Route) { r.Protocol, r.Action, r.BothWays = snat.UDP, snat.Blackhole, false }),
				exempt(r.q, func(r *snat.Route) { r.FirstPort, r.Action, r.BothWays = 443, snat.Translate, false })))
			assert.Contains(t, b.opens("udp", socket(pod, 5000), socket(r.q, 443)), r.f)
			assert.Equal(t, "drop route", b.opens("udp", socket(pod, 5000), socket(r.q, 53)))
			b.passes(flow.Inside, pkttest.TCP(socket(pod, 5000), socket(r.q, 80), pkttest.SYN))
			frags := pkttest.Fragments(pkttest.TCP(socket(pod, 5000), socket(r.q, 80), pkttest.SYN, pkttest.Payload(string(make([]byte, 100)))), 48, 7)
			assert.Equal(t, "drop fragment", b.out(frags[1]), "it might be one to 443")
		})
		t.Run("fragments that are translated elsewhere", func(t *testing.T) {
			c := exempting(exempt(r.q))
			c.Fragments.Mode = snat.FragmentsVirtual
			b := newBed(t, c)
			for _, frag := range pkttest.Fragments(pkttest.UDP(socket(pod, 5000), socket(r.q, 53), string(make([]byte, 100))), 48, 7) {
				b.passes(flow.Inside, frag)
			}
			frags := pkttest.Fragments(pkttest.UDP(socket(pod, 5000), socket(r.s, 53), string(make([]byte, 100))), 48, 7)
			assert.Contains(t, b.out(frags[0]), r.f)
		})
		t.Run("1:1", func(t *testing.T) {
			c := exempting(exempt(r.q, func(r *snat.Route) { r.FirstPort = 53 }))
			c.Instances[0].PublicAddrs = []netip.Addr{publicOf(netip.MustParseAddr(r.a))}
			b := newBed(t, c)
			b.passes(flow.Inside, pkttest.UDP(socket(r.a, 5000), socket(r.q, 53), "x"))
			b.passes(flow.Outside, pkttest.UDP(socket(r.q, 53), socket(r.a, 5000), "x"))
			assert.Equal(t, socket(c.Instances[0].PublicAddrs[0].String(), 5000), b.opens("udp", socket(r.a, 5000), socket(r.q, 54)))
		})
		t.Run("a row that comes later", func(t *testing.T) { // does not tear a flow apart
			b := newBed(t, exempting())
			inside, server := socket(pod, 5000), socket(r.q, 443)
			outside := b.dials(inside, server)
			b.becomes(exempting(exempt(r.q)))
			assert.True(t, b.alive(inside, outside, server))
			b.passes(flow.Inside, pkttest.TCP(socket(pod, 5001), server, pkttest.SYN))
		})
	})
}

func TestRouteValidate(t *testing.T) {
	c := exempting(
		exempt("198.51.100.8", func(r *snat.Route) { r.Action = snat.Blackhole }),
		exempt("198.51.100.8", func(r *snat.Route) { r.Protocol = 7 }),
		exempt("198.51.100.8", func(r *snat.Route) { r.LastPort = 7 }),
		exempt("198.51.100.8", func(r *snat.Route) { r.FirstPort, r.LastPort = 9, 8 }))
	err := c.Validate()
	assert.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.ErrorContains(t, err, "Routes[0].BothWays true: out of range: not with Blackhole")
	assert.ErrorContains(t, err, "Routes[1].Protocol 7: out of range: 0..2")
	assert.ErrorContains(t, err, "Routes[2].FirstPort 0: out of range: 1..7, which is LastPort")
	assert.ErrorContains(t, err, "Routes[3].FirstPort 9: out of range: 1..8, which is LastPort")
}

// Rows by the thousand are found as one is: the longest prefix, and of its rows the
// first that fits, in both directions.
func TestManyRoutes(t *testing.T) {
	c := oneVM(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	for i := range 4096 {
		a := netip.AddrFrom4([4]byte{100, 64, byte(i >> 4), byte(i << 4)})
		c.Routes = append(c.Routes,
			snat.Route{Prefix: netip.PrefixFrom(a, 28), Action: snat.PassThrough, BothWays: true},
			snat.Route{Prefix: netip.PrefixFrom(a, 28), Action: snat.Blackhole, Protocol: snat.UDP, FirstPort: uint16(1 + i)},
			snat.Route{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Action: snat.Blackhole, FirstPort: uint16(2000 + 2*i)})
	}
	c.Routes = append(c.Routes, snat.Route{Prefix: netip.MustParsePrefix("100.64.0.0/10"), Action: snat.Blackhole})
	b := newBed(t, c)
	b.seldom = true
	for _, i := range []int{0, 1, 17, 4095} {
		remote := netip.AddrFrom4([4]byte{100, 64, byte(i >> 4), byte(i<<4 + 5)}).String()
		assert.Equal(t, "drop route", b.opens("udp", "10.244.0.1:5000", socket(remote, 1+i)))
		assert.Contains(t, b.out(pkttest.UDP("10.244.0.1:5000", socket(remote, 5000), "x")), "bypass")
		assert.Contains(t, b.in(pkttest.UDP(socket(remote, 5000), "10.244.0.1:5000", "x")), "bypass")
		assert.Equal(t, "drop route", b.opens("tcp", "10.244.0.1:5000", socket("198.51.100.7", 2000+2*i)))
		assert.NotContains(t, b.opens("tcp", "10.244.0.1:5000", socket("198.51.100.7", 2001+2*i)), "drop")
	}
	assert.Equal(t, "drop route", b.opens("tcp", "10.244.0.1:5000", "100.100.0.1:80"))
	assert.Equal(t, "drop not_ours", b.in(pkttest.UDP("100.100.0.1:80", "10.244.0.1:5000", "x")))
}
