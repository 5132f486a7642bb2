package snat_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A target has a flow of its own, and one that is forwarded to it, between the same sockets.
// The forwarded one has ended with a RST, and what the target still sends belongs to that,
// however many shards there are and whether somebody has advanced the time or not.
func TestAnswerAfterResetIsNotTakenForOwnFlow(t *testing.T) {
	eachRealm(t, func(t *testing.T, f realm) {
		for _, shards := range []int{1, 2, 8} {
			for _, lazy := range []bool{false, true} {
				c := backends(1)
				c.Shards, c.Policy.EnableTCPReset = shards, true
				b := newBed(t, c)
				vm, client, front := socket(backend(0, f.is6()), 8080), socket(f.s, 5000), socket(f.f, 80)
				own := b.dials(vm, client)
				b.remotely(client, front, "S", 100, 0)
				assert.Equal(t, front, source(b.locally(vm, client, "SA", 200, 101)))
				b.remotely(client, front, "A", 101, 201)
				b.at(2 * time.Minute)
				assert.Equal(t, vm, destination(b.remotely(client, own, "A", 5001, 1001)))
				if at := 4*time.Minute + 5*time.Second; lazy {
					b.lazily(at)
				} else {
					b.at(at)
				}
				assert.Equal(t, "drop flow_reset", b.locally(vm, client, "A", 201, 101), "%d shards, lazily: %v", shards, lazy)
			}
		}
	})
}

// Fragments of an answer leave in any order, those of floating targets too, which come from
// the frontend. From a frontend that nobody owns they are spoofed.
func TestForwardFragmentedAnswers(t *testing.T) {
	eachRealm(t, func(t *testing.T, f realm) {
		for _, floating := range []bool{false, true} {
			c := backends(1)
			c.Fragments.Mode = snat.FragmentsVirtual
			c.Instances[0].Ports = nil
			for i := range c.Forwards {
				c.Forwards[i].FirstPort, c.Forwards[i].Floating = 0, floating
				c.Forwards[i].Targets[0].Port = 0
			}
			b := newBed(t, c)
			client, front, target := socket(f.s, 5000), socket(f.f, 99), socket(backend(0, f.is6()), 99)
			if floating {
				target = front
			}
			require.Equal(t, target, destination(b.knocks("udp", client, front)))
			payload := strings.Repeat("x", 3000)
			for i, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
				frags := pkttest.Fragments(pkttest.UDP(target, client, payload), 1200, uint32(i))
				left := b.through(flow.Inside, frags[order[0]], frags[order[1]], frags[order[2]])
				require.Len(t, left, 3, "floating: %v, order %v", floating, order)
				want := pkttest.Fragments(pkttest.UDP(front, client, payload), 1200, 0)
				assert.Equal(t, assemble(t, want), assemble(t, left), "floating: %v, order %v", floating, order)

			}
			if !floating {
				for _, frag := range pkttest.Fragments(pkttest.UDP(front, client, payload), 1200, 9) {
					assert.Equal(t, flow.ReasonSpoofFrontend, b.Outbound(b.now, frag).Reason)
				}
			}
			b.at(time.Hour)
			assert.Zero(t, b.Stats().SessionsActive)
		}
	})
}

// A target is reached by the frontend and, from the same remote socket, directly, in a flow
// that is not translated: of what it sends nobody can tell which of the two it is for, so it
// is for the forwarded one as long as that lives, whichever began first, and for the other one
// after that. The two are in shards that have nothing to do with each other: with every number
// of them each packet becomes the same.
func TestForwardedAndTrackedFlowBetweenTheSameSockets(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		for _, proto := range []string{"tcp", "udp"} {
			for _, trackedFirst := range []bool{false, true} {
				var first []string
				for _, shards := range []int{1, 2, 8, 64} {
					got := forwardedBesideTracked(t, h, proto, trackedFirst, shards)
					if first == nil {
						first = got
					}
					require.Equal(t, first, got, "%s, tracked first: %v, %d shards", proto, trackedFirst, shards)
				}
			}
		}
	})
}

// forwardedBesideTracked plays that with 16 remote sockets, and returns what has become of each
// packet.
func forwardedBesideTracked(t *testing.T, h realm, proto string, trackedFirst bool, shards int) (log []string) {
	c := nodeInVNet(func(c *snat.Config) {
		c.Shards = shards
		c.Forwards = []snat.Forward{{
			Frontend: netip.MustParseAddr(h.f), FirstPort: 80, FromInside: true,
			Targets: []snat.Target{{Instance: "node", Addr: netip.MustParseAddr(h.pod), Port: 8080}},
		}}
	})
	b := newBed(t, c)
	target, front := socket(h.pod, 8080), socket(h.f, 80)
	packet := func(src, dst, flags string, seq, ack uint32) []byte {
		if proto == "udp" {
			return pkttest.UDP(src, dst, "data")
		}
		return pkttest.TCP(src, dst, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack))
	}
	note := func(s string) string { log = append(log, s); return s }
	for i := range 16 {
		remote := socket(h.peer, 41000+i)
		begin := func(to string) {
			assert.Equal(t, target, destination(note(b.in(packet(remote, to, "S", 5000, 0)))))
		}
		tos := []string{front, target}
		if trackedFirst {
			tos = []string{target, front}
		}
		begin(tos[0])
		begin(tos[1])
		// One target, one socket: to it the second SYN is the first one again, so one handshake is
		// all there is.
		assert.Equal(t, front, source(note(b.out(packet(target, remote, "SA", 1000, 5001)))))
		for _, to := range tos {
			assert.Equal(t, target, destination(note(b.in(packet(remote, to, "A", 5001, 1001)))))
		}
	}
	count := map[flow.Kind]int{}
	for _, k := range b.kinds() {
		count[k]++
	}
	require.Equal(t, map[flow.Kind]int{flow.KindTracked: 16, flow.KindForwarded: 16}, count)

	for i := range 8 { // the forwarded one goes, and what the target sends is for the other
		remote := socket(h.peer, 41000+i)
		if proto == "udp" {
			continue
		}
		note(b.in(packet(remote, front, "R", 5001, 0)))
	}
	b.at(20 * time.Second)
	for i := range 16 {
		want := front
		if i < 8 && proto == "tcp" {
			want = target
		}
		assert.Equal(t, want, source(note(b.out(packet(target, socket(h.peer, 41000+i), "A", 1001, 5001)))), "%d", i)
	}
	c.Forwards = nil
	_, err := b.Reconfigure(b.now, c)
	require.NoError(t, err)
	b.Check()
	for i := range 16 {
		assert.Equal(t, target, source(note(b.out(packet(target, socket(h.peer, 41000+i), "A", 1001, 5001)))), "%d", i)
	}
	b.at(10 * time.Minute)
	assert.Empty(t, b.kinds())
	for _, frontend := range b.Frontends() {
		assert.Zero(t, frontend.Used, "%v", frontend.Frontend)
	}
	return log
}
