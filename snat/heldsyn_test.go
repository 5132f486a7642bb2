package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// holding is oneVM whose NAT holds unsolicited SYNs.
func holding(most int) snat.Config {
	c := oneVM(64)
	c.HoldSYN.Max = most
	return c
}

// unreached is the error that tells the sender of an inbound packet that nobody
// wants it.
func (r realm) unreached(sent []byte) []byte {
	return pkttest.ICMP(r.f, r.s, r.unreachable, r.portCode, 0, sent)
}

func TestNAT_T4_UnsolicitedSYN(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		inside, server, outside := socket(r.a, 5000), socket(r.s, 9), socket(r.f, firstPort)
		syn := pkttest.TCP(server, outside, pkttest.SYN, pkttest.Seq(7000), pkttest.MSS(1460))
		t.Run("answered after 6 s", func(t *testing.T) {
			b := newBed(t, holding(10))
			require.Equal(t, "drop no_flow", b.in(clone(syn)))
			assert.Equal(t, snat.HeldSYNStats{Held: 1}, b.Stats().HeldSYNs)
			b.at(3 * time.Second)
			require.Equal(t, "drop no_flow", b.in(clone(syn)), "the same again begins nothing anew")
			at, ok := b.NextDeadline()
			assert.True(t, ok)
			assert.Equal(t, flow.At(6*time.Second), at)
			b.at(6*time.Second - time.Nanosecond)
			assert.Empty(t, b.emitted)
			b.now = flow.At(6 * time.Second)
			b.made(flow.Outside, r.unreached(syn))
			assert.Equal(t, snat.HeldSYNStats{Expired: 1}, b.Stats().HeldSYNs)
			assert.Equal(t, uint64(1), b.Stats().ICMPErrors)
			b.at(time.Hour)
			assert.Empty(t, b.emitted, "once")
			_, ok = b.NextDeadline()
			assert.False(t, ok)
		})
		t.Run("opened from inside meanwhile", func(t *testing.T) {
			b := newBed(t, holding(10))
			require.Equal(t, "drop no_flow", b.in(clone(syn)))
			b.at(3 * time.Second)
			require.Equal(t, outside, b.opens("tcp", inside, server))
			assert.Equal(t, snat.HeldSYNStats{Matched: 1}, b.Stats().HeldSYNs)
			require.Equal(t, inside, destination(b.in(clone(syn))), "sent again, it passes")
			require.Equal(t, outside, source(b.out(pkttest.TCP(inside, server, pkttest.TCPFlags("SA"), pkttest.Seq(1000), pkttest.Ack(7001)))))
			require.Equal(t, inside, destination(b.remotely(server, outside, "SA", 7000, 1001)))
			assert.Contains(t, sessions(b)[0], "established")
			b.at(time.Minute)
			assert.Empty(t, b.emitted)
		})
		t.Run("another connection from inside", func(t *testing.T) {
			b := newBed(t, holding(10))
			b.in(clone(syn))
			b.opens("tcp", inside, socket(r.s, 10))
			b.opens("udp", inside, server)
			b.now = flow.At(6 * time.Second)
			b.made(flow.Outside, r.unreached(syn))
		})
		t.Run("due before another error, seen after it", func(t *testing.T) {
			c := holding(10)
			c.ICMP.TTL = snat.TTLRouter
			b := newBed(t, c)
			b.in(clone(syn))
			b.lazily(8 * time.Second)
			b.out(pkttest.UDP(inside, server, "x", pkttest.TTL(1)))
			b.at(8 * time.Second)
			assert.Len(t, b.emitted, 2)
			assert.Zero(t, b.Stats().ICMPErrorsSuppressed)
		})
		t.Run("the rate is for what is due first, whenever that is seen", func(t *testing.T) {
			for _, advance := range []func(b *bed, d time.Duration){(*bed).at, (*bed).lazily} {
				c := holding(10)
				c.ICMP.TTL, c.ICMP.ErrorRate, c.ICMP.ErrorBurst = snat.TTLRouter, 1, 1
				b := newBed(t, c)
				b.in(clone(syn))
				advance(b, 6*time.Second)
				advance(b, 6*time.Second+500*time.Millisecond)
				b.out(pkttest.UDP(inside, server, "x", pkttest.TTL(1)))
				assert.Equal(t, uint64(1), b.Stats().ICMPErrorsSuppressed)
				b.made(flow.Outside, r.unreached(syn))
			}
		})
		t.Run("to a mapping, by its filter", func(t *testing.T) {
			for _, filter := range []snat.Filtering{snat.AddressAndPortDependentFiltering, snat.EndpointIndependentFiltering} {
				c := holding(10)
				ownedPorts(&c).TCP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: filter, Share: snat.ShareNever}
				b := newBed(t, c)
				require.Equal(t, outside, b.dials(inside, socket(r.q, 443)))
				if filter == snat.EndpointIndependentFiltering {
					require.Equal(t, inside, destination(b.in(clone(syn))), "admitted, it is nobody's to hold")
					assert.Zero(t, b.Stats().HeldSYNs)
					continue
				}
				require.Equal(t, "drop filtered", b.in(clone(syn)))
				b.at(3 * time.Second)
				require.Equal(t, outside, b.opens("tcp", inside, server), "the mapping makes the ports meet")
				require.Equal(t, inside, destination(b.in(clone(syn))))
				assert.Equal(t, snat.HeldSYNStats{Matched: 1}, b.Stats().HeldSYNs)
			}
		})
		t.Run("opened from inside too late", func(t *testing.T) {
			b := newBed(t, holding(10))
			b.in(clone(syn))
			b.lazily(6 * time.Second)
			require.Equal(t, outside, b.opens("tcp", inside, server))
			b.made(flow.Outside, r.unreached(syn))
		})
		t.Run("only SYNs that may come", func(t *testing.T) {
			b := newBed(t, holding(10))
			martian := map[string]string{"v4": "224.0.0.1", "v6": "ff02::1"}[r.name]
			for what, pkt := range map[string][]byte{
				"SYN-ACK": pkttest.TCP(server, outside, pkttest.TCPFlags("SA")), "RST": pkttest.TCP(server, outside, pkttest.RST),
				"corrupt": pkttest.TCP(server, outside, pkttest.SYN, pkttest.BadChecksum()), "UDP": pkttest.UDP(server, outside, "x"),
				"martian": pkttest.TCP(socket(martian, 9), outside, pkttest.SYN), "ours": pkttest.TCP(socket(r.f, 9), outside, pkttest.SYN),
				"nobody's port": pkttest.TCP(server, socket(r.f, 9000), pkttest.SYN),
			} {
				require.Contains(t, b.in(pkt), "drop", what)
			}
			b.dials(inside, server)
			b.in(clone(syn))
			assert.Zero(t, b.Stats().HeldSYNs, "a session has its own SYNs")
		})
		t.Run("waiting longer, by batches and steps", func(t *testing.T) {
			c := holding(10)
			c.HoldSYN.Wait = 8 * time.Second
			b := newBed(t, c)
			b.InboundBatch(0, [][]byte{clone(syn)}, make([]flow.Verdict, 1))
			var got [][]byte
			step := func(at time.Duration) {
				for !b.AdvanceStep(flow.At(at), func(e flow.Emission) { got = append(got, e.Packet) }) {
				}
			}
			step(8*time.Second - 1)
			assert.Empty(t, got)
			step(8 * time.Second)
			assert.Equal(t, [][]byte{r.unreached(syn)}, got)
		})
	})
}

func TestNAT_T4a_SilentAndBounded(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		syn := func(port int) []byte {
			return pkttest.TCP(socket(r.s, port), socket(r.f, firstPort), pkttest.SYN)
		}
		t.Run("azure: silence", func(t *testing.T) {
			b := newBed(t, oneVM(8))
			require.Equal(t, "drop no_flow", b.in(syn(9)))
			_, ok := b.NextDeadline()
			assert.False(t, ok)
			b.at(time.Hour)
			assert.Empty(t, b.emitted)
			assert.Equal(t, uint64(1), b.Stats().Inbound.Drops[flow.ReasonNoFlow])
		})
		t.Run("rfc: a flood", func(t *testing.T) {
			c := holding(20)
			c.ICMP.ErrorRate, c.ICMP.ErrorBurst = 1, 5
			b := newBed(t, c)
			b.in(syn(1))
			bytes := b.Stats().Bytes
			b.seldom = true
			for port := 1; port <= 10_000; port++ {
				require.Equal(t, "drop no_flow", b.in(syn(port)))
			}
			s := b.Stats()
			assert.Equal(t, snat.HeldSYNStats{Held: 20, Forgotten: 10_000 - 20}, s.HeldSYNs)
			assert.LessOrEqual(t, s.Bytes-bytes, 20*1280)
			assert.Zero(t, s.SessionsActive)
			// Those from inside do not suffer, and errors are limited.
			assert.NotContains(t, b.opens("tcp", socket(r.a, 5000), socket(r.s, 7)), "drop")
			b.at(6 * time.Second)
			assert.Len(t, b.emitted, 5)
			s = b.Stats()
			assert.Equal(t, snat.HeldSYNStats{Matched: 1, Expired: 19, Forgotten: 10_000 - 20}, s.HeldSYNs)
			assert.Equal(t, uint64(14), s.ICMPErrorsSuppressed)
		})
	})
}

// The inventory's shards own remotes; the SYNs of both sides meet there, too.
func TestHeldSYNWithInventory(t *testing.T) {
	c := gateway(1024, 2)
	c.HoldSYN.Max = 4
	b := newBed(t, c)
	b.in(pkttest.TCP(farAway, gatewayIP+":1024", pkttest.SYN))
	b.in(pkttest.TCP(farAway, gatewayIP+":1025", pkttest.SYN))
	b.in(pkttest.TCP(farAway, gatewayIP+":1026", pkttest.SYN)) // which is granted to nobody
	outside := b.opens("tcp", gatewayA+":5000", farAway)
	assert.NotContains(t, outside, "drop")
	s := b.Stats().HeldSYNs
	assert.Equal(t, 2, s.Held+int(s.Matched))
	if outside == gatewayIP+":1024" || outside == gatewayIP+":1025" {
		assert.Equal(t, uint64(1), s.Matched)
	}
}

func TestHoldSYNValidate(t *testing.T) {
	c := holding(2000)
	c.HoldSYN.Wait = 5 * time.Second
	c.ResetSYN = snat.ResetSender
	err := c.Validate()
	assert.ErrorContains(t, err, "HoldSYN.Max 2000: out of range: 0..1024")
	assert.ErrorContains(t, err, "HoldSYN.Wait 5s: out of range: whole milliseconds, 6s..1m0s")
	assert.ErrorContains(t, err, "HoldSYN.Max 2000: out of range: not with Policy.ResetSYN ResetSender")
	assert.ErrorIs(t, err, flow.ErrOutOfRange)

	b := newBed(t, holding(1))
	_, err = b.Reconfigure(0, holding(2))
	assert.ErrorIs(t, err, snat.ErrFixed)
}

// Holding a SYN of an unsolicited connection costs the others no memory.
func TestHeldSYNsDoNotAllocate(t *testing.T) {
	b := newBed(t, holding(1))
	b.in(pkttest.TCP(serverA+":1", frontend+":1024", pkttest.SYN))
	pkt := pkttest.TCP(serverA+":2", frontend+":1024", pkttest.SYN)
	assert.Zero(t, testing.AllocsPerRun(100, func() { b.Inbound(0, pkt) }))
}
