//go:build natplane_invariants

package flow

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/index"
)

// TestVerifyBites damages a shard in every way that verify looks for.
func TestVerifyBites(t *testing.T) {
	for name, damage := range map[string]func(sh *Shard, id ID, s *Session){
		"is not indexed": func(sh *Shard, id ID, s *Session) {
			sh.index.Remove(index.Tag(sh.hasher.Hash(&s.Key)), uint32(id))
		},
		"5 sessions, counted 6":        func(sh *Shard, _ ID, _ *Session) { sh.sessions++ },
		"5 sessions have timers, 4":    func(sh *Shard, _ ID, s *Session) { sh.unarm(s); s.next = 1 },
		"is linked wrongly behind 0x5": func(_ *Shard, _ ID, s *Session) { s.next = 0 },
		"is linked wrongly behind 0x4": func(_ *Shard, _ ID, s *Session) { s.prev++ },
		"ends with":                    func(sh *Shard, _ ID, s *Session) { sh.wheel.tail[sh.wheel.slotOf(5000)]++ },
		"5 sessions have timers, 0 ar": func(sh *Shard, _ ID, _ *Session) { clear(sh.wheel.busy[:]) },
	} {
		t.Run(name, func(t *testing.T) {
			sh := alone(t)
			var id ID
			for n := range uint32(5) {
				id = sh.add(2*n, ClassTCPTimeWait, 0)
			}
			require.NotPanics(t, sh.verify)
			damage(sh, id, sh.At(id))
			defer func() { assert.Contains(t, recover(), name) }()
			sh.verify()
		})
	}
}
