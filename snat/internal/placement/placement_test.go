package placement_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/snat/internal/placement"
)

func TestIndexesStayAndGapsAreFilled(t *testing.T) {
	for _, tt := range []struct {
		name          string
		former, names []string
		want          []uint32
		end           int
	}{
		{"the first configuration counts", nil, []string{"a", "b", "c"}, []uint32{0, 1, 2}, 3},
		{"who stays keeps its index", []string{"a", "b", "c"}, []string{"c", "a"}, []uint32{2, 0}, 3},
		{"a new one takes the lowest that is free", []string{"a", "", "c"}, []string{"x", "c", "y", "a"}, []uint32{1, 2, 3, 0}, 4},
		{"that of one that leaves too", []string{"a", "b"}, []string{"x", "b"}, []uint32{0, 1}, 2},
		{"nobody is left", []string{"a", "b"}, nil, []uint32{}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			indexes, end := placement.Indexes(tt.former, tt.names)
			assert.Equal(t, tt.want, indexes)
			assert.Equal(t, tt.end, end)
		})
	}
}

func TestShardsFollowThePoliciesOfTheirInstances(t *testing.T) {
	const none = placement.None
	for _, tt := range []struct {
		name             string
		shards, policies int
		wants, at        []int
		policy, shard    []int
	}{
		{"new ones go where there are fewest", 2, 1, []int{0, 0, 0}, []int{none, none, none}, []int{0, 0}, []int{0, 1, 0}},
		{"who fits stays", 2, 1, []int{0, 0, 0}, []int{1, 1, none}, []int{0, 0}, []int{1, 1, 0}},
		{"the most of a shard decide", 3, 2, []int{1, 1, 0}, []int{0, 0, 0}, []int{1, 0, 0}, []int{0, 0, 1}},
		{"shards without instances even out", 4, 2, []int{}, []int{}, []int{0, 1, 0, 1}, []int{}},
		{"a policy that nobody voted for takes the shard that is missed least", 2, 2, []int{0, 0, 0, 1}, []int{0, 0, 1, none}, []int{0, 1}, []int{0, 0, 0, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			policy, shard := placement.Shards(tt.shards, tt.policies, tt.wants, tt.at)
			assert.Equal(t, tt.policy, policy)
			assert.Equal(t, tt.shard, shard)
		})
	}
}
