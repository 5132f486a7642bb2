package upgrade

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// Whatever the numbers: every node is made anew once, after it has been cordoned and
// drained; never are more away than buffers, and nothing is left over.
func TestPlan(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range pkttest.Operations(300, 2_000, 100_000) {
		n, surge, unavailable := 1+r.IntN(40), r.IntN(50), 1+r.IntN(5)
		times := times{drain: time.Minute, soak: time.Duration(r.IntN(3)) * time.Minute, reimage: 5 * time.Minute}
		state, there, last := make([]Action, n+min(surge, n)), n, time.Duration(0)
		for i := range state {
			state[i] = numActions // as it was
		}
		want := map[Action]Action{Drain: Cordon, Reimage: Drain, Ready: Reimage, Remove: Drain}
		for _, step := range plan(n, surge, unavailable, times) {
			require.GreaterOrEqual(t, step.after, last)
			last = step.after
			for i := step.first; i < step.last; i++ {
				if before, ok := want[step.action]; ok {
					require.Equal(t, before, state[i])
				} else {
					require.Equal(t, numActions, state[i])
				}
				if state[i] = step.action; step.action == Surge {
					state[i] = numActions
					there++
				}
				if step.action == Remove {
					there--
				}
			}
			away := 0
			for i := range n {
				if state[i] == Cordon || state[i] == Drain || state[i] == Reimage {
					away++
				}
			}
			if surge > 0 {
				require.LessOrEqual(t, away, min(surge, n))
			} else {
				require.LessOrEqual(t, away, unavailable)
			}
		}
		require.Equal(t, n, there)
		for i := range state {
			require.Equal(t, i < n, state[i] == Ready)
		}
	}
}
