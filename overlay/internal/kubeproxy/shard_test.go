package kubeproxy

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What the nodes of a shard are is a plain remainder, whatever the number of shards.
func TestAShardHasTheNodesOfARemainder(t *testing.T) {
	for n := 1; n <= 64; n++ {
		p, err := New(Config{Shards: n, HashKey: 1})
		require.NoError(t, err)
		for _, node := range []uint32{0, 1, 2, 63, 64, 65, 4999, 65535, 1<<24 - 1} {
			require.Equal(t, node%uint32(n), p.shardIndex(node), "%d shards", n)
		}
		p.Close()
	}
}
