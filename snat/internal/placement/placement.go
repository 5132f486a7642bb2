// Package placement decides where the instances of a configuration go: which index each
// has, which shard, and which policy each shard has. What was there before stays where it
// can, so that a change of configuration moves little.
//
// It knows instances by their place in the configuration and policies by number, and
// refuses to know what either is. It has no state.
package placement

import "slices"

// None stands for an instance without a shard, in place of its number.
const None = -1

// Indexes gives each instance its index: the one it has, or the lowest that no instance
// has which stays. names are unique and not empty; former are the names of those until
// now by index, "" where there is none. It returns the indexes, and one more than the
// highest that is or was in use.
func Indexes(former, names []string) (indexes []uint32, end int) {
	at := map[string]int{}
	for i, name := range names {
		at[name] = i
	}
	indexes = make([]uint32, len(names))
	taken := make([]bool, max(len(former), len(names)))
	for index, name := range former {
		if i, ok := at[name]; ok {
			indexes[i], taken[index] = uint32(index), true
			delete(at, name)
		}
	}
	index := 0
	for i, name := range names {
		if _, added := at[name]; added {
			for taken[index] {
				index++
			}
			indexes[i], taken[index] = uint32(index), true
		}
	}
	return indexes, len(taken)
}

// Shards decides the policy of each of some shards and the shard of each instance. A shard
// takes the policy that most of the instances in it have from now on, so that a
// change of policy moves as few of them as possible; a shard without instances
// takes one that few shards have. Instances that do not fit where they are, and
// new ones, go to the shard of their policy with the fewest instances.
//
// There are at most as many policies as shards. wants are the policies of the instances,
// at their present shards, or None. Cost: O(shards × (policies + instances that move)).
func Shards(shards, policies int, wants, at []int) (policy, shard []int) {
	votes, all := make([][]int, shards), make([]int, shards*policies) // instances by shard and policy
	for s := range votes {
		votes[s] = all[s*policies:][:policies]
	}
	for i, s := range at {
		if s != None {
			votes[s][wants[i]]++
		}
	}
	policy = elect(policies, votes)
	load := make([]int, shards)
	shard = slices.Repeat([]int{None}, len(at))
	for i, s := range at {
		if s != None && policy[s] == wants[i] {
			shard[i] = s
			load[s]++
		}
	}
	for i := range shard {
		if shard[i] != None {
			continue
		}
		best := None
		for s := range policy {
			if policy[s] == wants[i] && (best == None || load[s] < load[best]) {
				best = s
			}
		}
		shard[i] = best
		load[best]++
	}
	return policy, shard
}

// elect decides the policy of each shard, so that each policy has one.
func elect(policies int, votes [][]int) []int {
	policy, count := make([]int, len(votes)), make([]int, policies) // by shard; shards by policy
	for s := range policy {
		policy[s] = None
		if most := slices.Max(votes[s]); most > 0 {
			policy[s] = slices.Index(votes[s], most)
			count[policy[s]]++
		}
	}
	for s := range policy {
		if policy[s] == None {
			policy[s] = slices.Index(count, slices.Min(count))
			count[policy[s]]++
		}
	}
	for p := range count {
		if count[p] > 0 {
			continue
		}
		best := None // the shard whose policy can do without it, and which has the fewest instances
		for s := range policy {
			if count[policy[s]] > 1 && (best == None || votes[s][policy[s]] < votes[best][policy[best]]) {
				best = s
			}
		}
		count[policy[best]]--
		policy[best] = p
		count[p]++
	}
	return policy
}
