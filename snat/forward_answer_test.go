package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
