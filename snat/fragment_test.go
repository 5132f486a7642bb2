package snat_test

// Rows of the requirement sheet on fragments.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// virtual is oneVM with fragments translated.
func virtual(ports int) snat.Config {
	c := oneVM(ports)
	c.Fragments.Mode = snat.FragmentsVirtual
	return c
}

// through sends packets by one door and returns all that leaves, in order, with
// what Advance emits when NextDeadline asks for it.
func (b *bed) through(from flow.Side, pkts ...[]byte) (left [][]byte) {
	for _, pkt := range pkts {
		pkt = slices.Clone(pkt)
		door := b.Outbound
		if from == flow.Outside {
			door = b.Inbound
		}
		if v := door(b.now, pkt); v.Action == flow.Forward || v.Action == flow.Bypass {
			left = append(left, pkt)
		}
		b.Check()
		if at, ok := b.NextDeadline(); ok && at <= b.now {
			b.at(b.now.Duration())
		}
		for _, e := range b.emitted {
			left = append(left, e.Packet)
		}
		b.emitted = nil
	}
	return left
}

// assemble puts fragments together to the packet they were cut from, its
// identification cleared.
func assemble(t *testing.T, frags [][]byte) []byte {
	t.Helper()
	frags = slices.Clone(frags)
	slices.SortFunc(frags, func(a, b []byte) int { return offsetOf(a) - offsetOf(b) })
	var whole []byte
	for i, f := range frags {
		var p wire.Packet
		require.Equal(t, wire.OK, wire.Parse(f, &p))
		head := 20
		if f[0]>>4 == 6 {
			head = 48
		}
		if i == 0 {
			whole = slices.Clone(f[:head])
		}
		require.Equal(t, len(whole)-head, offsetOf(f), "no gap")
		require.Equal(t, idOf(frags[0]), idOf(f), "one identification")
		require.Equal(t, i < len(frags)-1, moreOf(f))
		whole = append(whole, f[head:]...)
	}
	if whole[0]>>4 == 6 {
		whole[6] = whole[40]
		whole = slices.Delete(whole, 40, 48)
		binary.BigEndian.PutUint16(whole[4:], uint16(len(whole)-40))
		return whole
	}
	return anonymous(whole)
}

// anonymous clears the fragmentation fields of an IPv4 packet and makes its
// length and header checksum true.
func anonymous(b []byte) []byte {
	if b = slices.Clone(b); b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		copy(b[4:8], []byte{0, 0, 0, 0})
		wire.IPv4(b).ComputeChecksum()
	}
	return b
}

func offsetOf(b []byte) int {
	if b[0]>>4 == 6 {
		return wire.Fragment(b[40:]).Offset()
	}
	return wire.IPv4(b).FragmentOffset()
}

func moreOf(b []byte) bool {
	if b[0]>>4 == 6 {
		return wire.Fragment(b[40:]).More()
	}
	return wire.IPv4(b).Flags()&wire.IPv4MF != 0
}

func idOf(b []byte) uint32 {
	if b[0]>>4 == 6 {
		return wire.Fragment(b[40:]).ID()
	}
	return uint32(wire.IPv4(b).ID())
}

// permutations calls do with all orders of n things.
func permutations(n int, do func(order []int)) {
	var walk func(order []int)
	walk = func(order []int) {
		if len(order) == n {
			do(order)
		}
		for i := range n {
			if !slices.Contains(order, i) {
				walk(append(slices.Clone(order), i))
			}
		}
	}
	walk(nil)
}

// Three fragments in every order, in both directions and families, leave as the
// same three fragments, which are the translated datagram, and nothing but
// addresses, ports, checksums and identifications has changed.
func TestNAT_U14_AnyOrder(t *testing.T) {
	payload := strings.Repeat("0123456789", 7)
	for name, h := range byFamily {
		for _, proto := range []string{"udp", "tcp"} {
			for _, from := range []flow.Side{flow.Inside, flow.Outside} {
				t.Run(fmt.Sprintf("%s %s from %v", name, proto, from), func(t *testing.T) {
					inside, outside, remote := socket(h.a, 5000), socket(h.f, firstPort), socket(h.s, 443)
					src, dst := inside, remote
					if from == flow.Outside {
						src, dst = remote, outside
					}
					pkt := pkttest.UDP(src, dst, payload)
					if proto == "tcp" {
						seq, ack := uint32(1001), uint32(5001)
						if from == flow.Outside {
							seq, ack = ack, seq
						}
						pkt = pkttest.TCP(src, dst, pkttest.ACK, pkttest.Seq(seq), pkttest.Ack(ack), pkttest.Payload(payload))
					}
					begin := func() *bed {
						b := newBed(t, virtual(8))
						if proto == "tcp" {
							b.dials(inside, remote)
						} else {
							b.opens("udp", inside, remote)
						}
						return b
					}
					want := begin().through(from, pkt)[0]
					frags := pkttest.Fragments(pkt, 32, 7)
					require.Len(t, frags, 3)
					var first [][]byte
					permutations(3, func(order []int) {
						b := begin()
						var sent [][]byte
						for _, i := range order {
							sent = append(sent, frags[i])
						}
						left := b.through(from, sent...)
						require.Len(t, left, 3, "order %v", order)
						require.Equal(t, anonymous(want), assemble(t, left), "order %v", order)
						if order[2] == 0 {
							assert.True(t, slices.IsSortedFunc(left, func(a, b []byte) int { return offsetOf(a) - offsetOf(b) }), "released by offset")
						}
						for _, f := range left {
							i := offsetOf(f) / 32
							pkttest.Check(t, f, pkttest.ChecksumsOK(), pkttest.FragmentAt(idOf(left[0]), i*32, i < 2))
							for _, at := range pkttest.Diff(frags[i], f) {
								assert.True(t, rewritten(f, from, proto, at), "order %v, fragment %d, byte %d", order, i, at)
							}
						}
						slices.SortFunc(left, func(a, b []byte) int { return offsetOf(a) - offsetOf(b) })
						if first == nil {
							first = left
						}
						assert.Equal(t, first, left, "the same three, order %v", order)
						s := b.Stats()
						assert.Equal(t, snat.FragmentStats{Datagrams: 1}, s.Fragments)
						assert.Zero(t, s.Outbound.Dropped+s.Inbound.Dropped)
						if from == flow.Inside {
							assert.Equal(t, s.Outbound.Forwarded, map[string]uint64{"udp": 4, "tcp": 5}[proto])
						}
					})
				})
			}
		}
	}
}

// rewritten reports whether a byte of a fragment may change.
func rewritten(b []byte, from flow.Side, proto string, at int) bool {
	var may [][2]int // from, to
	l4 := 20
	if b[0]>>4 == 6 {
		l4 = 48
		may = append(may, [2]int{8 + 16*int(from), 24 + 16*int(from)}, [2]int{44, 48})
	} else {
		may = append(may, [2]int{4, 6}, [2]int{10, 12}, [2]int{12 + 4*int(from), 16 + 4*int(from)})
	}
	if offsetOf(b) == 0 {
		sum := map[string]int{"udp": 6, "tcp": 16}[proto]
		may = append(may, [2]int{l4 + 2*int(from), l4 + 2*int(from) + 2}, [2]int{l4 + sum, l4 + sum + 2})
	}
	return slices.ContainsFunc(may, func(r [2]int) bool { return r[0] <= at && at < r[1] })
}

// A datagram may begin its flow, whatever comes first, and a refused one is
// refused as a whole.
func TestNAT_G2_VerdictOfTheFirst(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, virtual(8))
			frags := pkttest.Fragments(pkttest.UDP(socket(h.a, 5000), socket(h.s, 53), strings.Repeat("x", 60)), 32, 1)
			assert.Equal(t, "queued", b.out(slices.Clone(frags[2])))
			require.Len(t, b.through(flow.Inside, frags[0], frags[1]), 3)
			assert.Equal(t, uint64(1), b.Stats().SessionsCreated)

			orphans := pkttest.Fragments(pkttest.UDP(socket(h.s, 99), socket(h.f, firstPort+1), strings.Repeat("x", 60)), 32, 1)
			assert.Equal(t, "queued", b.in(slices.Clone(orphans[1])))
			assert.Equal(t, "drop no_flow", b.in(slices.Clone(orphans[0])))
			assert.Equal(t, "drop no_flow", b.in(slices.Clone(orphans[2])))
			b.at(0)
			assert.Empty(t, b.sent())
			assert.Equal(t, uint64(3), b.Stats().Inbound.Drops[flow.ReasonNoFlow])

			assert.Equal(t, "drop spoof", b.out(pkttest.Fragments(pkttest.UDP(socket(h.s, 9), socket(h.s, 53), strings.Repeat("x", 60)), 32, 1)[1]))
			assert.Equal(t, "drop not_ours", b.in(pkttest.Fragments(pkttest.UDP(socket(h.s, 9), socket(h.a[:len(h.a)-1]+"9", 53), strings.Repeat("x", 60)), 32, 1)[1]))
		})
	}
	c := virtual(8)
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough}}
	b := newBed(t, c)
	frags := pkttest.Fragments(pkttest.UDP(vmA+":5000", "10.9.9.9:53", strings.Repeat("x", 60)), 32, 77)
	left := b.through(flow.Inside, frags[1], frags[0], frags[2])
	assert.Equal(t, [][]byte{frags[0], frags[1], frags[2]}, left, "passed through as they are")
	assert.Equal(t, uint64(3), b.Stats().Outbound.Bypassed)
}

// Only the first fragment refreshes the flow.
func TestNAT_G4_RefreshOncePerDatagram(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) { refreshOncePerDatagram(t, socket(h.a, 5000), socket(h.s, 53)) })
	}
}

func refreshOncePerDatagram(t *testing.T, inside, remote string) {
	b := newBed(t, virtual(8))
	b.opens("udp", inside, remote)
	frags := pkttest.Fragments(pkttest.UDP(inside, remote, strings.Repeat("x", 60)), 32, 1)
	b.at(100 * time.Second)
	require.Equal(t, "queued", b.out(frags[1]))
	b.at(103 * time.Second)
	b.out(frags[0])
	b.at(106 * time.Second)
	b.out(frags[2])
	b.at(343*time.Second - time.Millisecond)
	assert.Len(t, sessions(b), 1)
	b.at(343 * time.Second)
	assert.Empty(t, sessions(b))
}

// A fragmented segment counts with a length that covers all of it: what
// acknowledges it is in the window, and its FIN is seen.
func TestNAT_G4_TrackedByTheFirst(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) { trackedByTheFirst(t, h, socket(h.a, 5000), socket(h.s, 443)) })
	}
}

func trackedByTheFirst(t *testing.T, h realm, inside, remote string) {
	b := newBed(t, virtual(8))
	outside := b.dials(inside, remote)
	data := strings.Repeat("x", 1000)
	for _, f := range pkttest.Fragments(pkttest.TCP(inside, remote, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001), pkttest.Payload(data)), 96, 3) {
		require.Contains(t, b.out(f), h.f)
	}
	b.at(200 * time.Second)
	b.remotely(remote, outside, "A", 5001, 2001)
	assert.Zero(t, b.Stats().OutOfWindow)
	b.at(300 * time.Second)
	require.Len(t, sessions(b), 1, "the acknowledgment has refreshed it")
	b.through(flow.Inside, pkttest.Fragments(pkttest.TCP(inside, remote, pkttest.TCPFlags("FA"), pkttest.Seq(2001), pkttest.Ack(5001), pkttest.Payload(data)), 96, 4)...)
	assert.NotContains(t, sessions(b)[0], "established")
	assert.Zero(t, b.Stats().BadChecksum)
}

// cut returns the fragment of a datagram of bytes that holds some of them.
func cut(h realm, id uint32, data []byte, start, end int, more bool) []byte {
	return pkttest.Fragment(pkttest.IP(h.a, h.s, wire.ProtoUDP, data[start:end]), start, more, id)
}

// datagramOf returns a UDP datagram of n bytes, header included.
func datagramOf(h realm, n int) []byte {
	pkt := pkttest.UDP(socket(h.a, 5000), socket(h.s, 53), strings.Repeat("x", n-8))
	return pkt[len(pkt)-n:]
}

// sequence is a series of fragments of one datagram and what becomes of each.
type sequence struct {
	name  string
	parts []part
}

type part struct {
	start, end int
	more       bool
	want       string // "forward", "queued" or the reason of a drop
}

func (s *sequence) run(t *testing.T) {
	for name, h := range byFamily {
		t.Run(s.name+", "+name, func(t *testing.T) {
			b := newBed(t, virtual(8))
			data := datagramOf(h, 65504)
			for i, p := range s.parts {
				v := b.Outbound(0, cut(h, 9, data, p.start, p.end, p.more))
				b.Check()
				got := v.Action.String()
				if v.Action == flow.Drop {
					got = v.Reason.String()
				}
				assert.Equal(t, p.want, got, "fragment %d", i)
			}
			b.at(0)
			for _, line := range b.sent() {
				assert.NotContains(t, line, "RST")
			}
			b.at(time.Minute)
			assert.Zero(t, b.Stats().Fragments)
		})
	}
}

func TestNAT_M19_Overlap(t *testing.T) {
	for _, s := range []sequence{
		{"into the one before", []part{{0, 32, true, "forward"}, {24, 64, true, "frag_overlap"}, {64, 72, false, "frag_overlap"}, {0, 32, true, "frag_overlap"}}},
		{"into the one behind", []part{{64, 96, true, "queued"}, {40, 72, true, "frag_overlap"}, {0, 32, true, "frag_overlap"}}},
		{"inside another", []part{{32, 96, true, "queued"}, {40, 48, true, "frag_overlap"}, {0, 32, true, "frag_overlap"}}},
		{"around another", []part{{40, 48, true, "queued"}, {32, 96, true, "frag_overlap"}}},
		{"the first", []part{{16, 32, false, "queued"}, {0, 24, true, "frag_overlap"}}},
		{"8 bytes further each", []part{{0, 64, true, "forward"}, {8, 72, true, "frag_overlap"}, {16, 80, true, "frag_overlap"}}},
		{"beyond the end", []part{{32, 64, false, "queued"}, {64, 96, true, "frag_overlap"}, {0, 32, true, "frag_overlap"}}},
		{"end before what has come", []part{{64, 96, true, "queued"}, {32, 64, false, "frag_overlap"}}},
		{"two ends", []part{{64, 96, false, "queued"}, {32, 64, false, "frag_overlap"}}},
		{"a second last one without the end", []part{{32, 64, false, "queued"}, {32, 64, true, "frag_overlap"}}},
		{"the first is shorter, then longer", []part{{0, 32, true, "forward"}, {0, 40, true, "frag_overlap"}, {40, 48, false, "frag_overlap"}}},
	} {
		s.run(t)
	}
}

func TestNAT_G5_ExactDuplicate(t *testing.T) {
	for _, s := range []sequence{
		{"queued", []part{{32, 64, true, "queued"}, {32, 64, true, "frag_duplicate"}, {0, 32, true, "forward"}, {32, 64, true, "frag_duplicate"}, {64, 72, false, "forward"}}},
		{"the first", []part{{0, 32, true, "forward"}, {0, 32, true, "frag_duplicate"}, {32, 64, false, "forward"}}},
		{"of a complete datagram", []part{{0, 32, true, "forward"}, {32, 64, false, "forward"}, {0, 32, true, "frag_duplicate"}, {32, 64, false, "frag_duplicate"}}},
		{"the end", []part{{32, 64, false, "queued"}, {32, 64, false, "frag_duplicate"}, {0, 32, true, "forward"}}},
	} {
		s.run(t)
	}
}

func TestNAT_M14_NotMultipleOf8(t *testing.T) {
	(&sequence{"length", []part{{0, 33, true, "frag_len"}, {32, 45, true, "frag_len"}}}).run(t)
}

func TestNAT_M16_Empty(t *testing.T) {
	(&sequence{"empty", []part{{32, 32, true, "frag_empty"}, {32, 32, false, "frag_empty"}}}).run(t)
}

func TestNAT_M15_Overflow(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, virtual(8))
			assert.Equal(t, "drop frag_overflow", b.out(cut(h, 1, make([]byte, 65600), 65528, 65536+8, false)))
			assert.Zero(t, b.Stats().Fragments, "nothing is kept of it")
		})
	}
}

// synPart returns a part of a SYN with data.
func synPart(h realm, start, end int) []byte {
	pkt := pkttest.TCP(socket(h.a, 5000), socket(h.s, 443), pkttest.SYN, pkttest.Payload(strings.Repeat("x", 40)))
	f := cut(h, 2, pkt[len(pkt)-60:], start, end, true)
	if f[0]>>4 == 6 {
		f[40] = wire.ProtoTCP
	} else {
		f[9] = wire.ProtoTCP
		wire.IPv4(f).ComputeChecksum()
	}
	return f
}

func TestNAT_M17_Tiny(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, virtual(8))
			assert.Equal(t, "drop frag_tiny", b.out(synPart(h, 0, 16)))
			assert.Zero(t, b.Stats().Fragments, "nothing is kept of it")
			assert.Contains(t, b.out(synPart(h, 0, 24)), h.f, "a SYN in fragments opens a connection")
			assert.Len(t, sessions(b), 1)
		})
	}
}

func TestNAT_M18_Offset1(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, virtual(8))
			assert.Equal(t, "drop frag_fo1", b.out(synPart(h, 8, 24)))
			assert.Zero(t, b.Stats().Fragments, "nothing is kept of it")
		})
	}
}

func TestNAT_M20_Conflict(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, virtual(8))
			data, other := datagramOf(h, 96), datagramOf(h, 96)
			other[1]++
			require.Equal(t, flow.Forward, b.Outbound(0, cut(h, 9, data, 0, 32, true)).Action)
			for _, pkt := range [][]byte{cut(h, 9, other, 0, 32, true), cut(h, 9, data, 32, 64, true), cut(h, 9, data, 0, 32, true)} {
				assert.Equal(t, "drop frag_conflict", b.out(pkt))
			}
			// After a complete datagram another may follow with its identification.
			require.Equal(t, flow.Forward, b.Outbound(0, cut(h, 10, data, 0, 32, true)).Action)
			require.Equal(t, flow.Forward, b.Outbound(0, cut(h, 10, data, 32, 96, false)).Action)
			require.Equal(t, flow.Forward, b.Outbound(0, cut(h, 10, other, 0, 32, true)).Action)
			require.Equal(t, flow.Forward, b.Outbound(0, cut(h, 10, other, 32, 96, false)).Action)
		})
	}
}

// An atomic fragment is a whole packet and has nothing to do with fragments of the
// same identification.
func TestNAT_G6_AtomicFragment(t *testing.T) {
	h := byFamily["v6"]
	b := newBed(t, virtual(8))
	data := datagramOf(h, 96)
	assert.Equal(t, "queued", b.out(cut(h, 9, data, 32, 96, false)))
	atomic := cut(h, 9, datagramOf(h, 40), 0, 40, false)
	require.Equal(t, flow.Forward, b.Outbound(0, atomic).Action)
	assert.Equal(t, uint32(9), idOf(atomic))
	assert.Equal(t, 1, b.Stats().Fragments.Queued)
	assert.Len(t, b.through(flow.Inside, cut(h, 9, data, 0, 32, true)), 2)
}

// V21: the checksum of the first fragment is right without the others.
func TestNAT_G7_ChecksumWithoutTheRest(t *testing.T) {
	c := snat.Config{Instances: []snat.Instance{{
		Name: "a", Addrs: []netip.Addr{addr("10.0.0.4")},
		Ports: []snat.PortRange{{Frontend: addr("198.51.100.7"), First: 1024, Count: 8}},
	}}, Dataplane: snat.Dataplane{Fragments: snat.Fragments{Mode: snat.FragmentsVirtual}}}
	b := newBed(t, c)
	var payload []byte
	for i := range 1536 {
		payload = append(payload, byte(i))
	}
	pkt := pkttest.UDP("10.0.0.4:4242", "203.0.113.10:53", string(payload))
	left := b.through(flow.Inside, pkttest.Fragments(pkt, 1480, 1)...)
	require.Len(t, left, 2)
	pkttest.Check(t, assemble(t, left), pkttest.ChecksumsOK())
}

// Two hosts use the same identification towards one server, interleaved; outside
// theirs differ, and each datagram keeps its own.
func twoHostsOneIdentification(t *testing.T, name string) {
	h := byFamily[name]
	c := virtual(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}
	pods := [2]string{"10.244.0.1", "10.244.0.2"}
	if name == "v6" {
		pods = [2]string{"fd00:244::1", "fd00:244::2"}
	}
	b := newBed(t, c)
	var pieces [2][][]byte
	for i, pod := range pods {
		pieces[i] = pkttest.Fragments(pkttest.UDP(socket(pod, 5000+i), socket(h.s, 53), strings.Repeat(string(rune('a'+i)), 60)), 32, 7)
	}
	left := b.through(flow.Inside, pieces[0][2], pieces[1][0], pieces[0][0], pieces[1][1], pieces[0][1], pieces[1][2])
	byID := map[uint32][][]byte{}
	for _, f := range left {
		byID[idOf(f)] = append(byID[idOf(f)], f)
	}
	require.Len(t, byID, 2)
	for _, frags := range byID {
		pkttest.Check(t, assemble(t, frags), pkttest.ChecksumsOK())
	}
}

func TestNAT_H8_TwoHostsOneIdentification(t *testing.T) { twoHostsOneIdentification(t, "v4") }

func TestNAT_H9_TwoHostsOneIdentification(t *testing.T) { twoHostsOneIdentification(t, "v6") }

// No identification returns before all others have been used (IPv4), or at all,
// nor do they follow a step (IPv6).
func TestNAT_P10_IdentificationsUnique(t *testing.T) {
	pkttest.OneGoroutine(t)
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			c := virtual(8)
			c.Fragments.MaxPerSource = 4096
			b := newBed(t, c)
			data := datagramOf(h, 64)
			seen, steps, last := map[uint32]bool{}, map[uint32]int{}, uint32(0)
			for i := range 65536 {
				f := cut(h, uint32(i), data, 0, 32, true)
				require.Equal(t, flow.Forward, b.Outbound(flow.At(time.Duration(i)*10*time.Millisecond), f).Action)
				id := idOf(f)
				require.False(t, seen[id], "datagram %d", i)
				seen[id] = true
				steps[id-last]++
				last = id
			}
			for step, n := range steps {
				require.Less(t, n, 64, "step %d", step)
			}
		})
	}
}

// With a shared inventory, and behind a public address, fragments go the same way.
func TestFragmentsOfOtherPorts(t *testing.T) {
	for name, h := range byFamily {
		inside := map[string]string{"v4": "10.244.0.1", "v6": "fd00:244::1"}[name]
		pool := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}
		instance := snat.Instance{Name: "a", Addrs: []netip.Addr{addr(vmA), addr(vmA6)}, Inside: pool}
		shared := snat.Config{
			Instances: []snat.Instance{instance},
			Ports:     &snat.Shared{Frontends: []netip.Addr{addr(frontend), addr(frontend6)}},
		}
		instance.PublicAddrs = []netip.Addr{addr(frontend), addr(frontend6)}
		for kind, c := range map[string]snat.Config{"inventory": shared, "public address": {Instances: []snat.Instance{instance}}} {
			t.Run(kind+" "+name, func(t *testing.T) {
				c.Fragments.Mode = snat.FragmentsVirtual
				b := newBed(t, c)
				out := pkttest.Fragments(pkttest.UDP(socket(inside, 5000), socket(h.s, 53), strings.Repeat("x", 60)), 32, 7)
				left := b.through(flow.Inside, out[2], out[1], out[0])
				require.Len(t, left, 3)
				whole := assemble(t, left)
				pkttest.Check(t, whole, pkttest.ChecksumsOK(), pkttest.Dst(socket(h.s, 53)))
				outside := source(pkttest.String(whole))
				require.Contains(t, outside, h.f)
				in := pkttest.Fragments(pkttest.UDP(socket(h.s, 53), outside, strings.Repeat("y", 60)), 32, 7)
				left = b.through(flow.Outside, in[1], in[2], in[0])
				require.Len(t, left, 3)
				pkttest.Check(t, assemble(t, left), pkttest.ChecksumsOK(), pkttest.Dst(socket(inside, 5000)))
				if kind == "public address" { // what belongs to no session is for the instance itself
					in = pkttest.Fragments(pkttest.UDP(socket(h.s, 99), socket(h.f, 99), strings.Repeat("y", 60)), 32, 8)
					left = b.through(flow.Outside, in[1], in[0], in[2])
					require.Len(t, left, 3)
					pkttest.Check(t, assemble(t, left), pkttest.ChecksumsOK(), pkttest.Dst(socket(h.a, 99)))
				}
			})
		}
	}
}

// Fragments of many hosts by many goroutines, with whole packets between them and
// Advance at any time: each datagram leaves complete.
func TestFragmentsConcurrently(t *testing.T) {
	const workers, rounds = 4, 200
	c := fleet(workers)
	c.Fragments.Mode = snat.FragmentsVirtual
	b := newBed(t, c)
	var emitted atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			src := socket(fmt.Sprintf("10.0.0.%d", 4+w), 5000)
			whole := pkttest.UDP(src, serverA+":53", "x")
			frags := pkttest.Fragments(pkttest.UDP(src, serverA+":53", strings.Repeat("x", 60)), 32, 7)
			for i := range rounds {
				now := flow.At(time.Duration(i) * time.Millisecond)
				pkts, verdicts := [][]byte{slices.Clone(frags[2]), slices.Clone(whole), slices.Clone(frags[0]), slices.Clone(frags[1])}, make([]flow.Verdict, 4)
				for _, k := range []int{0, 2, 3} {
					wire.IPv4(pkts[k]).SetID(uint16(i))
					wire.IPv4(pkts[k]).ComputeChecksum()
				}
				b.OutboundBatch(now, pkts, verdicts)
				for k, want := range []flow.Action{flow.Queued, flow.Forward, flow.Forward, flow.Forward} {
					if verdicts[k].Action != want {
						t.Errorf("worker %d round %d: packet %d: %+v", w, i, k, verdicts[k])
					}
				}
				b.Advance(now, func(flow.Emission) { emitted.Add(1) })
			}
		})
	}
	wg.Wait()
	b.Advance(flow.At(time.Second), func(flow.Emission) { emitted.Add(1) })
	assert.Equal(t, int64(workers*rounds), emitted.Load())
	assert.Equal(t, uint64(4*workers*rounds), b.Stats().Outbound.Forwarded)
	b.Check()
}
