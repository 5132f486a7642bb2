//go:build !natplane_invariants

package snat_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Builds that check invariants recount everything, and panic at what Restore takes as written if its
// checksum fits, such as who wakes ports that rest. The others must not panic, whatever they are told.

// Bytes of snapshots of NATs that have done much, changed at random, are refused, or make a NAT that goes on.
func TestRestoreForgedPresets(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			const seed = 3
			t.Log("seed", seed)
			rng, refused := rand.New(rand.NewPCG(seed, 0)), 0
			mixedBy(t, p, 1, func(step int, m *mixer, n *snat.NAT, c snat.Config) *snat.NAT {
				if step%1000 != 700 {
					return n
				}
				b := snapshotOf(t, n)
				for range pkttest.Operations(10, 30, 3000) {
					forged, err := snat.Restore(c, bytes.NewReader(snapshot.Forge(b, rng.IntN(len(b)), []byte{byte(rng.Uint32())})))
					if err != nil {
						refused++
						continue
					}
					_ = snapshotOf(t, forged)
					forged.Advance(m.now.Add(time.Second), nil)
					forged.Advance(m.now.Add(100*24*time.Hour), nil)
					forged.Close()
				}
				return n
			})
			require.NotZero(t, refused)
		})
	}
}
