package snat_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// snapshotOf returns what n writes.
func snapshotOf(t testing.TB, n *snat.NAT) []byte {
	var b bytes.Buffer
	require.NoError(t, n.Snapshot(&b))
	return b.Bytes()
}

// goesOnRestored returns what is read of what is written of a NAT, which has to be what that is and to be
// written as it, and ends the original.
func goesOnRestored(t testing.TB, n *snat.NAT, c snat.Config) *snat.NAT {
	t.Helper()
	b := snapshotOf(t, n)
	to, err := snat.Restore(c, bytes.NewReader(b))
	require.NoError(t, err)
	t.Cleanup(to.Close)
	to.Check()
	require.Equal(t, b, snapshotOf(t, to))
	was, is := n.Stats(), to.Stats()
	is.Bytes = was.Bytes // memory is laid out anew
	require.Equal(t, was, is)
	require.Equal(t, slices.Collect(n.Sessions()), slices.Collect(to.Sessions()))
	n.Close()
	return to
}

// A NAT that is written and read again and again does what one does that never was: byte for byte, event
// by event, for every preset. Written once more it is the same.
func TestSnapshotDigests(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			got, _ := mixedBy(t, p, 1, func(step int, _ *mixer, n *snat.NAT, c snat.Config) *snat.NAT {
				if step%397 != 0 {
					return n
				}
				return goesOnRestored(t, n, c)
			})
			require.Equal(t, digests[p.Name], got)
		})
	}
}

// It makes no difference by how many shards a snapshot is read, and how often that changes.
func TestSnapshotOtherShards(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			run := func(shards ...int) (string, snat.Stats) {
				k := 0
				return mixedBy(t, p, 1, func(step int, m *mixer, n *snat.NAT, c snat.Config) *snat.NAT {
					if step%397 != 0 {
						return n
					}
					for range len(shards) {
						if step > 0 {
							n.Advance(m.now, nil)
						}
						c.Shards = shards[k%len(shards)]
						to, err := snat.Restore(c, bytes.NewReader(snapshotOf(t, n)))
						require.NoError(t, err, "step %d", step)
						to.Check()
						n.Close()
						n = to
						k++
					}
					return n
				})
			}
			_, st := run(1, 1, 1) // digests differ: shards expire one after the other
			_, st2 := run(1, 13, 1)
			st.Bytes, st2.Bytes = 0, 0
			require.Equal(t, st, st2)
		})
	}
}

// Every flipped byte and every truncation is refused.
func TestSnapshotDamage(t *testing.T) {
	var b []byte
	var config snat.Config
	mixedBy(t, preset.All()[0], 1, func(step int, _ *mixer, n *snat.NAT, c snat.Config) *snat.NAT {
		if step < 100 {
			return n
		}
		b, config = snapshotOf(t, n), c
		return nil
	})
	for i := 0; i < len(b); i += max(1, len(b)/500) {
		spoilt := bytes.Clone(b)
		spoilt[i] ^= 0x10
		_, err := snat.Restore(config, bytes.NewReader(spoilt))
		require.Error(t, err)
		_, err = snat.Restore(config, bytes.NewReader(b[:i]))
		require.ErrorIs(t, err, flow.ErrDamaged)
	}
	other := config
	other.Seed++
	_, err := snat.Restore(other, bytes.NewReader(b))
	require.ErrorIs(t, err, flow.ErrOtherConfig)
	require.ErrorContains(t, err, "Seed")
}

// restoreDiffers is where a NAT that is restored may differ from the original.
var restoreDiffers = func() map[string]string {
	all := maps.Clone(forkShares)
	maps.Copy(all, map[string]string{
		"checker.skip":       "when natplane_invariants looks again: it begins anew",
		"audit.skip":         "when natplane_invariants looks again: it begins anew",
		"Table.hasher":       "of a secret key, which is another one",
		"Space.hasher":       "likewise",
		"State.hasher":       "likewise",
		"Shard.hasher":       "likewise",
		"Table.Key":          "likewise",
		"Table.index":        "by that key, and laid out anew",
		"Shard.index":        "likewise",
		"Table.byPair":       "likewise",
		"Table.byName":       "likewise",
		"State.remotes":      "likewise",
		"Table.byLeft":       "likewise",
		"Table.byKey":        "likewise",
		"Table.bySource":     "likewise",
		"Table.byOwner":      "likewise",
		"State.destinations": "records are made anew, for they have no order; package destinations has tests",
		"State.mappings":     "likewise",
		"State.subscribers":  "likewise",
		"spill.counts":       "by that key",
		"ChaCha8.state":      "numbers that have been drawn already are not kept",
		"wheel.lists":        "of slots without timers it has whatever was there",
		"wheel.taken":        "what may be looked at ahead",
		"wheel.last":         "saves work only",
		"holdings.random":    "in a shorter form of the same state",
		"book.random":        "likewise",
		"Slab.room":          "that the chunk in use is full is found out when the next record is made",
		"pool.uses":          "made when a port is first used",
	})
	return all
}()

// All that a NAT has is in what is restored of it by as many shards.
func TestSnapshotLikeness(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			_, _ = mixedBy(t, p, 1, func(step int, _ *mixer, n *snat.NAT, c snat.Config) *snat.NAT {
				if step%1000 == 999 {
					to, err := snat.Restore(c, bytes.NewReader(snapshotOf(t, n)))
					require.NoError(t, err)
					require.Empty(t, likeness.Compare(n, to, restoreDiffers))
					to.Close()
				}
				return n
			})
		})
	}
}

// RSTs within a rate are counted on by as many shards, and anew by others, for each shard has a rate of its own; shards that
// no instance is in make no difference.
func TestSnapshotResetRate(t *testing.T) {
	for name, tt := range map[string]struct {
		shards int
		more   uint64
	}{"as many shards": {2, 0}, "one": {1, 3}, "more than instances": {13, 3}} {
		t.Run(name, func(t *testing.T) {
			c := oneVM(16)
			c.Shards = 2
			c.ResetUnknown, c.ResetRate, c.ResetBurst = snat.ResetSender, 1, 3
			strays := func(n *snat.NAT) {
				for range 5 {
					n.Outbound(flow.At(time.Second), pkttest.TCP(socket(vmA, 5000), "198.51.100.7:443", pkttest.TCPFlags("A"), pkttest.Seq(1), pkttest.Ack(1)))
				}
			}
			n := newBed(t, c)
			strays(n.NAT)
			require.Equal(t, uint64(3), n.Stats().Resets)
			require.Equal(t, uint64(2), n.Stats().ResetsSuppressed)
			c.Shards = tt.shards
			to, err := snat.Restore(c, bytes.NewReader(snapshotOf(t, n.NAT)))
			require.NoError(t, err)
			defer to.Close()
			strays(to)
			require.Equal(t, 3+tt.more, to.Stats().Resets)
			require.Equal(t, 2+5-tt.more, to.Stats().ResetsSuppressed)
			emitted := 0
			to.Advance(flow.At(2*time.Second), func(flow.Emission) { emitted++ })
			require.Equal(t, int(3+tt.more), emitted, "those that waited are not lost")
		})
	}
}
