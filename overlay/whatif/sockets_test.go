package whatif

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// Sockets do what a Go map does, of which there is a copy now and then.
func TestSocketsAgainstMap(t *testing.T) {
	pkttest.OneGoroutine(t)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var table sockets
		twin := map[socket]uint32{}
		all := make([]conversation, 1+rng.IntN(2000))
		for i := range all {
			all[i] = conversation{host: rng.Uint32N(8), port: uint16(firstEphemeral + rng.IntN(len(all))), udp: rng.IntN(2) == 0}
		}
		in := make([]bool, len(all))
		for range 20_000 {
			i := rng.Uint32N(uint32(len(all)))
			k := all[i].socket()
			_, taken := twin[k]
			switch {
			case in[i]:
				table.remove(all, i)
				delete(twin, k)
				in[i] = false
			default:
				require.Equal(t, !taken, table.add(all, i), "seed %d", seed)
				if !taken {
					twin[k], in[i] = i, true
				}
			}
			if rng.IntN(100) == 0 {
				table = table.clone()
			}
			k = all[rng.IntN(len(all))].socket()
			want, ok := twin[k]
			got, found := table.get(all, k)
			require.Equal(t, ok, found, "seed %d", seed)
			if ok {
				require.Equal(t, want, got, "seed %d", seed)
			}
			require.Equal(t, len(twin), table.n)
		}
	}
}
