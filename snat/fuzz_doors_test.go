package snat_test

// Arbitrary bytes at the doors, under every preset and with everything switched on.

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// arrivals are packets of every kind for every case of a translator's, by the side
// they come from.
func arrivals() (all [2][][]byte) {
	for _, r := range realms {
		for _, a := range []string{r.a, r.b} {
			src, dst := socket(a, 5000), socket(r.s, 443)
			big := pkttest.UDP(src, dst, strings.Repeat("x", 1500), pkttest.DF(false))
			all[flow.Inside] = append(all[flow.Inside], pkttest.TCP(src, dst, pkttest.SYN), pkttest.TCP(src, dst, pkttest.ACK, pkttest.Seq(1)),
				pkttest.TCP(src, dst, pkttest.RST), pkttest.TCP(src, dst, pkttest.TCPFlags("FA"), pkttest.BadChecksum()), pkttest.UDP(src, dst, "x"), pkttest.UDP(src, dst, "x", pkttest.TTL(1)),
				pkttest.UDP(src, socket(r.f, firstPort), "hairpin"), r.ping(a, r.s, 9, 1), pkttest.IP(a, r.s, 47, []byte("payload")), big)
			all[flow.Inside] = append(all[flow.Inside], pkttest.Fragments(big, 800, 9)...)
		}
		for i := range 3 {
			src, dst := socket(r.s, 443), socket(r.f, firstPort+8*i)
			big := pkttest.UDP(src, dst, strings.Repeat("x", 1500), pkttest.DF(false))
			all[flow.Outside] = append(all[flow.Outside], pkttest.TCP(src, dst, pkttest.SYN), pkttest.TCP(src, dst, pkttest.TCPFlags("SA"), pkttest.Ack(1)),
				pkttest.TCP(src, dst, pkttest.TCPFlags("FA")), pkttest.TCP(src, dst, pkttest.RST), pkttest.UDP(src, dst, "x"),
				r.pong(r.s, r.f, uint16(firstPort+8*i), 1), big, report([3]uint32{uint32(r.exceeded)}, r.rx, r.f, pkttest.UDP(dst, src, "x"), 28))
			all[flow.Outside] = append(all[flow.Outside], pkttest.Fragments(big, 800, 9)...)
		}
	}
	return all
}

// hostilePacket draws a packet of a script: one of known, with a few bytes changed,
// cut or lengthened, or bytes as they come.
func (s *script) hostilePacket(known [][]byte) []byte {
	pkt := clone(known[s.next(len(known))])
	for range s.next(4) {
		at := s.next(min(len(pkt), 80))
		switch s.next(8) {
		case 0:
			pkt = pkt[:at+1]
		case 1:
			pkt = append(pkt, make([]byte, s.next(9))...)
		case 2:
			pkt[at] ^= 1 << s.next(8)
		default:
			pkt[at] = byte(s.next(256))
		}
	}
	if len(pkt) > 20 && pkt[0]>>4 == 4 && int(pkt[0]&15)*4 >= 20 && int(pkt[0]&15)*4 <= len(pkt) && s.next(8) > 0 {
		wire.IPv4(pkt).ComputeChecksum() // else hardly any would pass
	}
	return pkt
}

// FuzzDoors sends packets by a script, singly to one translator and in batches to
// another: both do the same, no packet that is dropped has changed, one that leaves
// is well formed if its payload is, and once nothing comes any more, all is over.
func FuzzDoors(f *testing.F) {
	for i := range configurations(f) {
		f.Add([]byte{byte(i)}, uint64(i))
	}
	fuzzScripts(f, 150, runDoors)
}

// Long scripts for every configuration, and what the fuzzer has found.
func TestDoors(t *testing.T) {
	for i := range configurations(t) {
		runDoors(t, &script{append([]byte{byte(i)}, randomScript(100+uint64(i), 900)...)})
	}
	found, err := filepath.Glob(filepath.Join("testdata", "doors", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	for _, name := range found {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		runDoors(t, &script{b})
	}
}

// runDoors runs a script of FuzzDoors.
func runDoors(t *testing.T, s *script) {
	starts, known := configurations(t), arrivals()
	c := starts[s.next(len(starts))]
	c.Shards = 1 + s.next(3)
	one, all := newBed(t, c), newBed(t, c)
	var now time.Duration
	for !s.done() {
		if s.next(4) == 0 {
			now += pick(s, 0, time.Millisecond, time.Second, 7*time.Second, 5*time.Minute)
		}
		if s.next(4) == 0 {
			one.at(now)
			all.at(now)
			for _, e := range one.emitted {
				checkWhole(t, e.Packet)
			}
			got, want := one.sent(), all.sent()
			require.Len(t, got, len(want))
			if one.Stats().ICMPErrorsSuppressed == 0 { // else it may be those of other packets that were
				require.ElementsMatch(t, got, want)
			}
		}
		one.now, all.now = flow.At(now), flow.At(now)
		from, realm := flow.Side(s.next(2)), pick[uint32](s, 0, 0, 0, 7)
		pkts, verdicts := make([][]byte, 1+s.next(6)), make([]flow.Verdict, 6)
		for i := range pkts {
			pkts[i] = s.hostilePacket(known[from])
		}
		batch := make([][]byte, len(pkts))
		for i := range pkts {
			batch[i] = clone(pkts[i])
		}
		if from == flow.Inside {
			all.Realm(realm).OutboundBatch(all.now, batch, verdicts)
		} else {
			all.InboundBatch(all.now, batch, verdicts)
		}
		for i, pkt := range pkts {
			was := clone(pkt)
			var v flow.Verdict
			if from == flow.Inside {
				v = one.Realm(realm).Outbound(one.now, pkt)
			} else {
				v = one.Inbound(one.now, pkt)
			}
			require.Equal(t, v, verdicts[i], "packet %d of the batch: %x", i, was)
			switch v.Action {
			case flow.Drop:
				require.NotEqual(t, flow.ReasonNone, v.Reason)
				if !ownedOf(c).Hairpin { // one that is refused on its way back has been translated once
					require.Equal(t, was, pkt, "%v: a dropped packet is left alone", v.Reason)
				}
			case flow.Bypass:
				require.Equal(t, was, pkt)
			case flow.Forward:
				require.Equal(t, pkt, batch[i])
				require.Len(t, pkt, len(was))
				checkWhole(t, pkt)
			}
		}
		one.Check()
		all.Check()
	}
	require.Equal(t, one.Stats(), all.Stats())
	for range 3 {
		now += flow.MaxTimeout
		one.at(now)
	}
	stats := one.Stats()
	require.Zero(t, stats.SessionsActive)
	require.Zero(t, stats.Fragments.QueuedBytes)
	require.Zero(t, stats.HeldSYNs.Held)
}

// checkWhole demands of a packet that leaves that another parser would take it.
func checkWhole(t *testing.T, pkt []byte) {
	t.Helper()
	var p wire.Packet
	problem := wire.Parse(pkt, &p)
	if problem == wire.OK || slices.Contains([]wire.Problem{wire.UnsupportedProto}, problem) {
		return
	}
	t.Fatalf("leaves as %v: %s", problem, fmt.Sprintf("%x", pkt))
}
