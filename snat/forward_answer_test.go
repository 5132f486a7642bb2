package snat_test

import (
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
