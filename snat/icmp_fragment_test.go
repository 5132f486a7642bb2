package snat_test

// Rows of the requirement sheet on ICMP and fragments together.

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// inPieces is carrying with fragments translated.
func inPieces(change ...func(*snat.Config)) snat.Config {
	return carrying(append([]func(*snat.Config){func(c *snat.Config) { c.Fragments.Mode = snat.FragmentsVirtual }}, change...)...)
}

// bigPing is an echo request or reply with 70 bytes of data.
func (r realm) bigPing(typ uint8, src, dst string, id uint16) []byte {
	return pkttest.ICMP(src, dst, typ, 0, uint32(id)<<16|1, []byte(strings.Repeat("0123456789", 7)))
}

// Only the first fragment of an echo has the identifier; what becomes of it becomes
// of the others, in whatever order they come.
func TestNAT_G10_FragmentedEcho(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		permutations(3, func(order []int) {
			b := newBed(t, inPieces())
			pass := func(from flow.Side, whole, want []byte) {
				frags := pkttest.Fragments(whole, 32, 7)
				require.Len(t, frags, 3)
				var sent [][]byte
				for _, i := range order {
					sent = append(sent, frags[i])
				}
				got := assemble(t, b.through(from, sent...))
				assert.Empty(t, pkttest.Diff(got, anonymous(want)), "%v", order)
			}
			pass(flow.Inside, r.bigPing(r.echo, r.a, r.s, 9), r.bigPing(r.echo, r.f, r.s, firstPort))
			pass(flow.Outside, r.bigPing(r.reply, r.s, r.f, firstPort), r.bigPing(r.reply, r.s, r.a, 9))
			assert.Equal(t, 1, b.Stats().SessionsActive)
		})
	})
}

// Without a query the fragments of a reply are dropped, and without Queries all.
func TestNAT_G10_FragmentedEchoRefused(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for name, c := range map[string]struct {
			config snat.Config
			reason string
		}{
			"not carried": {inPieces(func(c *snat.Config) { c.ICMP = snat.ICMP{} }), "drop unsupported_proto"},
			"no query":    {inPieces(), "drop no_flow"},
		} {
			b := newBed(t, c.config)
			for _, f := range pkttest.Fragments(r.bigPing(r.reply, r.s, r.f, firstPort), 32, 7) {
				assert.Equal(t, c.reason, b.in(f), name)
			}
			assert.Zero(t, b.Stats().SessionsActive)
		}
	})
}

// A fragmented error is dropped, all of it, in either direction and any order.
func TestNAT_G10_FragmentedErrors(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		permutations(3, func(order []int) {
			b := newBed(t, inPieces())
			sent := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), strings.Repeat("q", 40))
			left, came := clone(sent), pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), strings.Repeat("a", 40))
			require.Equal(t, flow.Forward, b.Outbound(0, left).Action)
			delivered := clone(came)
			require.Equal(t, flow.Forward, b.Inbound(0, delivered).Action)
			e := [3]uint32{uint32(r.unreachable), 1}
			for from, whole := range [][]byte{
				flow.Inside:  report(e, r.a, r.s, delivered, 60),
				flow.Outside: report(e, r.rx, r.f, left, 60),
			} {
				require.Equal(t, flow.Forward, b.send(flow.Side(from), clone(whole)).Action, "it is a good one in one piece")
				size := (len(whole) - r.header + 2) / 3 &^ 7
				frags := pkttest.Fragments(whole, size+8, 7)
				require.Len(t, frags, 3)
				var came [][]byte
				for _, i := range order {
					came = append(came, frags[i])
				}
				assert.Empty(t, b.through(flow.Side(from), came...))
			}
			s := b.Stats()
			assert.Equal(t, uint64(3), s.Outbound.Drops[flow.ReasonFragment])
			assert.Equal(t, uint64(3), s.Inbound.Drops[flow.ReasonFragment])
		})
	})
}

// A hop answers the first fragment and no other, and counts down the TTL of those
// that it forwards, at once or when their first has come.
func TestNAT_Q13_FragmentsAtAHop(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, inPieces(func(c *snat.Config) { c.ICMP.TTL = snat.TTLRouter }))
		cut := func(ttl uint8, id uint32) [][]byte {
			return pkttest.Fragments(pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), strings.Repeat("x", 70), pkttest.TTL(ttl)), 32, id)
		}
		frags := cut(9, 1)
		left := b.through(flow.Inside, frags[1], frags[0], frags[2])
		require.Len(t, left, 3)
		for _, pkt := range left {
			pkttest.Check(t, pkt, pkttest.TTL(8))
		}
		frags = cut(1, 2)
		require.Equal(t, "drop ttl", b.out(clone(frags[0])))
		b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.exceeded, 0, 0, frags[0]))
		require.Equal(t, "drop ttl", b.out(clone(frags[1])))
		back := pkttest.Fragments(pkttest.UDP(socket(r.s, 53), socket(r.f, firstPort), strings.Repeat("x", 70), pkttest.TTL(1)), 32, 3)
		require.Equal(t, "drop ttl", b.in(clone(back[1])), "nor does it wait")
		require.Equal(t, "drop ttl", b.in(clone(back[0])))
		b.made(flow.Outside, pkttest.ICMP(r.f, r.s, r.exceeded, 0, 0, back[0]))
		assert.Equal(t, uint64(2), b.Stats().ICMPErrors)
		assert.Zero(t, b.Stats().Fragments.Queued)
	})
}

// A fragment that exceeds the MTU is refused as a packet would be: IPv6 and with DF.
// IPv4 fragments without DF are split further.
func TestNAT_G6_FragmentTooBig(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		config := inPieces(func(c *snat.Config) { c.ICMP.MTU = 1400 })
		whole := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), strings.Repeat("0123456789abcdef", 250))
		want := pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), strings.Repeat("0123456789abcdef", 250))
		frags := pkttest.Fragments(whole, 1480, 7)
		if r.name == "v4" {
			for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}} {
				b := newBed(t, config)
				var left [][]byte
				for _, i := range order {
					left = append(left, b.through(flow.Inside, frags[i])...)
				}
				require.Len(t, left, 5)
				for _, pkt := range left {
					assert.LessOrEqual(t, len(pkt), 1400)
				}
				assert.Empty(t, pkttest.Diff(assemble(t, left), anonymous(want)))
			}
			for _, f := range frags {
				f[6] |= 0x40 // DF
				fixHeader(f)
			}
		}
		b := newBed(t, config)
		require.Equal(t, "drop too_big", b.out(clone(frags[0])))
		most := 576 - 28
		if r.name == "v6" {
			most = 1280 - 48
		}
		b.made(flow.Inside, pkttest.ICMP(r.f, r.a, r.tooBig, r.tooBigCode, 1400, frags[0][:most]))
		require.Equal(t, "drop too_big", b.out(clone(frags[1])))
		require.Equal(t, "drop too_big", b.out(clone(frags[2])), "it would fit, but what is it without the rest?")
		b.made(flow.Inside)
		assert.Zero(t, b.Stats().SessionsActive)
	})
}

// DF=0: what exceeds the MTU leaves in fragments, ascending, under one new
// identification, the first with the translated ports.
func TestNAT_U13a_Fragmented(t *testing.T) {
	r := realms[0]
	for name, c := range map[string]snat.Config{
		"fragments dropped":    carrying(func(c *snat.Config) { c.ICMP.MTU = 1400 }),
		"fragments translated": inPieces(func(c *snat.Config) { c.ICMP.MTU = 1400; c.ICMP.TTL = snat.TTLRouter }),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, c)
			ttl := uint8(64)
			if c.ICMP.TTL == snat.TTLRouter {
				ttl--
			}
			body := strings.Repeat("0123456789abcdef", 186)[:3000-28]
			ids := map[uint32]bool{}
			for i := range 50 {
				for from, dir := range map[flow.Side][4]string{
					flow.Inside:  {socket(r.a, 1000), socket(r.s, 53), socket(r.f, firstPort), socket(r.s, 53)},
					flow.Outside: {socket(r.s, 53), socket(r.f, firstPort), socket(r.s, 53), socket(r.a, 1000)},
				} {
					if from == flow.Outside && i == 0 {
						continue // the session must begin
					}
					pkt := pkttest.UDP(dir[0], dir[1], body, pkttest.DF(false), pkttest.ID(77), pkttest.TTL(64))
					require.Equal(t, flow.Queued, b.send(from, pkt).Action)
					at, ok := b.NextDeadline()
					require.True(t, ok && at == b.now)
					b.at(b.now.Duration())
					require.Len(t, b.emitted, 3)
					var frags [][]byte
					for k, e := range b.emitted {
						assert.Equal(t, flow.Outside-from, e.To)
						assert.Equal(t, []int{0, 1376, 2752}[k], offsetOf(e.Packet))
						frags = append(frags, e.Packet)
					}
					b.emitted = nil
					if from == flow.Inside {
						assert.False(t, ids[idOf(frags[0])], "identifications are new")
						ids[idOf(frags[0])] = true
					}
					want := pkttest.UDP(dir[2], dir[3], body, pkttest.DF(false), pkttest.TTL(ttl))
					assert.Empty(t, pkttest.Diff(assemble(t, frags), anonymous(want)))
				}
			}
			s := b.Stats()
			assert.Equal(t, uint64(50), s.Outbound.Forwarded)
			assert.Equal(t, uint64(49), s.Inbound.Forwarded)
			// One that fits is not touched.
			b.forwards(flow.Inside, pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), body[:1372], pkttest.DF(false), pkttest.ID(77), pkttest.TTL(64)),
				pkttest.UDP(socket(r.f, firstPort), socket(r.s, 53), body[:1372], pkttest.DF(false), pkttest.ID(77), pkttest.TTL(ttl)))
		})
	}
}

// Options stay in the first fragment; in the others only those that are to be
// copied. Batches do as the single door does.
func TestSplitOptions(t *testing.T) {
	r := realms[0]
	b := newBed(t, carrying(func(c *snat.Config) { c.ICMP.MTU = 1280 }))
	copied, once := []byte{0x94, 4, 0, 0}, []byte{7, 7, 4, 0, 0, 0, 0} // router alert, record route
	opts := slices.Concat(once, []byte{1}, copied)
	pkt := pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), strings.Repeat("x", 2000), pkttest.DF(false), pkttest.IPOptions(opts...))
	verdicts := make([]flow.Verdict, 1)
	b.OutboundBatch(0, [][]byte{pkt}, verdicts)
	require.Equal(t, flow.Queued, verdicts[0].Action)
	b.at(0)
	require.Len(t, b.emitted, 2)
	assert.Equal(t, opts, b.emitted[0].Packet[20:32])
	assert.Equal(t, copied, b.emitted[1].Packet[20:24])
	for i, e := range b.emitted {
		var p wire.Packet
		require.Equal(t, wire.OK, wire.Parse(e.Packet, &p))
		assert.Equal(t, []int{32, 24}[i], p.IPv4().HeaderLen())
		assert.Equal(t, []int{0, 1248}[i], offsetOf(e.Packet))
	}
}

// What waits for Advance is bounded; what finds no place is dropped and counted.
func TestSplitsAreBounded(t *testing.T) {
	r := realms[0]
	b := newBed(t, carrying(func(c *snat.Config) { c.ICMP.MTU = 1280 }))
	body := strings.Repeat("x", 60000)
	split := 0
	for range 100 {
		v := b.Outbound(0, pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), body, pkttest.DF(false)))
		if v.Action == flow.Queued {
			split++
		} else {
			require.Equal(t, flow.Drop, v.Action)
			require.Equal(t, flow.ReasonFragLimit, v.Reason)
		}
	}
	assert.InDelta(t, 4<<20/60000, split, 3)
	s := b.Stats().Outbound
	assert.Equal(t, uint64(split), s.Forwarded)
	assert.Equal(t, uint64(100-split), s.Drops[flow.ReasonFragLimit])
	b.at(0)
	assert.Equal(t, flow.Queued, b.Outbound(0, pkttest.UDP(socket(r.a, 1000), socket(r.s, 53), body, pkttest.DF(false))).Action)
}

// A quote of a fragment with an offset tells its flow as long as the datagram is
// known; the receiver finds the address and identification that it knows.
func TestNAT_M61_QuotesOfKnownFragments(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := inPieces()
		c.CountTraffic = true
		b := newBed(t, c)
		cut := func(src, dst string) [][]byte {
			return pkttest.Fragments(pkttest.UDP(src, dst, strings.Repeat("0123456789", 7)), 32, 0x1234)
		}
		e := [3]uint32{uint32(r.exceeded), 1}
		sent := cut(socket(r.a, 1000), socket(r.s, 53))
		left := b.through(flow.Inside, sent...)
		came := cut(socket(r.s, 53), socket(r.f, firstPort))
		delivered := b.through(flow.Outside, came...)
		require.Len(t, left, 3)
		require.Len(t, delivered, 3)
		for i := 1; i < 3; i++ {
			n := len(sent[i])
			b.forwards(flow.Outside, report(e, r.rx, r.f, left[i], n), report(e, r.rx, r.a, sent[i], n))
			b.forwards(flow.Inside, report(e, r.a, r.s, delivered[i], n), report(e, r.f, r.s, came[i], n))
			short := len(sent[i]) - 8
			b.forwards(flow.Outside, report(e, r.rx, r.f, left[i], short), report(e, r.rx, r.a, sent[i], short))
		}
		s := b.Stats()
		assert.Equal(t, [2]uint64{3 + 2, 3 + 4}, [2]uint64{s.Outbound.Forwarded, s.Inbound.Forwarded})
		assert.Zero(t, s.Outbound.Drops[flow.ReasonICMPInnerFragment]+s.Inbound.Drops[flow.ReasonICMPInnerFragment])
		b.carries()

		// Not where anything is wrong, or nobody's, or the datagram is forgotten.
		wrong := report(e, r.rx, r.f, left[1], len(left[1]))
		wrong[len(wrong)-1] ^= 1
		b.drops(flow.Outside, wrong, flow.ReasonICMPChecksum)
		b.drops(flow.Outside, report(e, r.rx, r.f, sent[1], len(sent[1])), flow.ReasonICMPInnerFragment)
		b.drops(flow.Inside, report(e, r.a, r.q, delivered[1], len(sent[1])), flow.ReasonICMPInnerFragment)
		b.drops(flow.Inside, report(e, r.a, r.s, left[1], len(left[1])), flow.ReasonICMPInnerFragment)
		b.lazily(5 * time.Second)
		b.drops(flow.Outside, report(e, r.rx, r.f, left[1], len(left[1])), flow.ReasonICMPInnerFragment)
		b.drops(flow.Inside, report(e, r.a, r.s, delivered[1], len(left[1])), flow.ReasonICMPInnerFragment)
	})
}
