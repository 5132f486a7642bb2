package seats

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
)

// config has instances by number, in an order.
func config(numbers []int) (c snat.Config) {
	for _, i := range numbers {
		c.Instances = append(c.Instances, snat.Instance{
			Name:  fmt.Sprint("-", i),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)})},
		})
	}
	return c
}

func indexes(n *snat.NAT) map[string]int {
	all := map[string]int{}
	for i, inst := range n.Instances() {
		all[inst.Name] = i
	}
	return all
}

// Whatever a translator has been through, one that is made like it has its indexes after the
// next change, and after those that follow.
func TestIndexesAreTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	gaps := 0
	for range 200 {
		some := func() snat.Config { return config(r.Perm(9)[:r.IntN(10)]) }
		like, err := snat.New(some())
		require.NoError(t, err)
		for range r.IntN(4) {
			_, err = like.Reconfigure(0, some())
			require.NoError(t, err)
		}
		next := some()
		n, err := New(0, next, like)
		require.NoError(t, err)
		for range 3 {
			_, err = like.Reconfigure(0, next)
			require.NoError(t, err)
			require.Equal(t, indexes(like), indexes(n))
			next = some()
			_, err = n.Reconfigure(0, next)
			require.NoError(t, err)
		}
		for i := range maps.Values(indexes(like)) {
			if i >= len(indexes(like)) {
				gaps++
				break
			}
		}
		like.Close()
		n.Close()
	}
	assert.Greater(t, gaps, 50)
}

// What is wrong with the configuration is said, and nil is no other translator.
func TestErrors(t *testing.T) {
	like, err := snat.New(config([]int{0, 1, 2}))
	require.NoError(t, err)
	defer like.Close()
	_, err = like.Reconfigure(0, config([]int{2}))
	require.NoError(t, err)
	bad := config([]int{0, 2})
	bad.Instances[1].Addrs = bad.Instances[0].Addrs
	_, err = New(0, bad, like)
	assert.ErrorContains(t, err, "Instances[1].Addrs")
	bad = config([]int{0, 2})
	bad.Fragments.Mode = 99
	_, err = New(0, bad, like)
	assert.ErrorContains(t, err, "Fragments.Mode 99")
	n, err := New(0, config([]int{5, 3}), nil)
	require.NoError(t, err)
	defer n.Close()
	assert.Equal(t, map[string]int{"-5": 0, "-3": 1}, indexes(n))
}
