package lb

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// A load balancer has as many shards as it has policies, whatever Shards says: both when it began and when it
// is restored with fewer Shards than it has come to need.
func TestRestoredWithMorePoliciesThanShards(t *testing.T) {
	varied := func(n, shards int) Config {
		c := poolsOfOne(12)
		c.Shards = shards
		for i := range n {
			c.OutboundRules[i].IdleTimeout = time.Duration(5+i) * time.Minute
		}
		return c
	}
	for name, tt := range map[string]struct{ began, is, shards, restored int }{
		"from the beginning":               {11, 11, 2, 2},
		"from the beginning, other shards": {11, 11, 2, 1},
		"since a change":                   {0, 5, 6, 6},
		"since a change, with fewer":       {0, 5, 6, 1},
		"no more":                          {11, 0, 2, 2},
		"no more, with fewer":              {11, 0, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoadBalancer(t, varied(tt.began, tt.shards))
			_, err := l.Reconfigure(0, varied(tt.is, tt.shards))
			require.NoError(t, err)
			b := snapshotOf(t, l.Snapshot)
			c := l.Config()
			c.Shards = tt.restored
			restored, err := Restore(c, bytes.NewReader(b))
			require.NoError(t, err)
			t.Cleanup(restored.Close)
			for _, of := range []*LoadBalancer{l, restored} {
				idle, _ := expiry(t, of, false, "10.224.0.4:5000")
				want := 4 * time.Minute
				if tt.is > 0 {
					want = 5 * time.Minute
				}
				require.Equal(t, want, idle)
				most := max(tt.began+1, tt.is+1, of.Config().Shards) // one rule has the usual timeout
				_, err := of.Reconfigure(flow.At(4*time.Hour), varied(most-1, of.Config().Shards))
				require.NoError(t, err, "as many as ever")
				_, err = of.Reconfigure(flow.At(4*time.Hour), varied(most, of.Config().Shards))
				require.Equal(t, most < 12, err != nil, "one more: %v", err)
			}
		})
	}
}
