package dataplane

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
)

// A shard is made when an instance is placed there, with the policy that it follows, and is in copies
// from then on; one with a forward is made, too.
func TestShardsAreMadeWhereSomethingIs(t *testing.T) {
	h := newHoldUp(t, 1)
	numbers := func(n *NAT) (all []int) {
		for _, sh := range n.all() {
			assert.Same(t, sh, n.shards[sh.number])
			assert.Equal(t, n.config.Policies[n.follows[sh.number]], sh.policy)
			all = append(all, sh.number)
		}
		return all
	}
	first := numbers(&h.nat)
	require.Len(t, first, 1)
	for k := 1; k < 3; k++ {
		h.config.Instances = append(h.config.Instances, instanceOf(k))
		h.nat.Reconfigure(0, h.next(), false)
		assert.Len(t, numbers(&h.nat), k+1)
		for i := range k + 1 {
			h.open(t, i, 10*k)
		}
	}
	before := numbers(&h.nat)
	assert.Subset(t, before, first)
	assert.IsIncreasing(t, before)
	h.config.Instances = h.config.Instances[:1]
	h.nat.Reconfigure(0, h.next(), false)
	assert.Equal(t, before, numbers(&h.nat), "none is unmade")

	var to NAT
	require.NoError(t, h.nat.Fork(&to, nil, compiled.Hooks{}, func() error { return nil }))
	defer to.Close()
	assert.Equal(t, before, numbers(&to))

	h.config.Forwards = []compiled.Forward{{
		Spec: forwards.Spec{
			Addr: netip.MustParseAddr("192.0.2.7"), TCP: true, First: 80, Last: 80,
			Targets: []forwards.Target{{Addr: [2]uint64{uint64(flow.Addr4(h.config.Instances[0].Addrs[0]))}, Port: 8080, Name: 1}},
		},
		Instances: []string{h.config.Instances[0].Name},
	}}
	h.nat.Reconfigure(0, h.next(), false)
	assert.Len(t, numbers(&h.nat), len(h.nat.shards))
	h.nat.Check()
}
