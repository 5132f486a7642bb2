package rendezvous

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/splitmix"
)

const (
	// Slots is the number of parts of all hashes.
	Slots = 1 << slotBits
	// MaxMembers is the largest number of members.
	MaxMembers = nobody

	slotBits  = 17
	half      = (slotBits + 1) / 2 // x ^ x>>half undoes itself
	maxDirect = 8                  // so many eligible members need no table
	nobody    = math.MaxUint16     // in a table under construction
)

// Table says which member a flow goes to. Nobody may change it, so it is safe for
// concurrent use. It has 256 KiB if there are more than 8 eligible members.
type Table struct {
	members []member       // those eligible, by name
	slots   *[Slots]uint16 // the index of each slot's member; nil if there are at most maxDirect
}

// New returns the table of the members with these names, of which those are eligible
// for which eligible, as long as names, is true. Names should differ: of two equal ones
// the first gets nearly everything. It takes 5 ms for any number of members above 8.
// It keeps no reference to its arguments. It panics if there are more than MaxMembers.
func New(names []uint64, eligible []bool) *Table {
	return build(candidates(names, eligible))
}

// candidates returns those who are eligible, by name.
func candidates(names []uint64, eligible []bool) []member {
	if len(names) > MaxMembers {
		panic(fmt.Sprintf("rendezvous: %d members", len(names)))
	}
	members := make([]member, 0, len(names))
	for i, name := range names {
		if eligible[i] {
			members = append(members, newMember(name, uint16(i)))
		}
	}
	slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return members
}

func build(members []member) *Table {
	t := &Table{members: members}
	if len(members) > maxDirect {
		t.slots = claim(members)
	}
	return t
}

// At returns the index of the member that a flow goes to, by the hash of the flow. It
// is -1 if nobody is eligible.
func (t *Table) At(hash uint64) int {
	slot := uint32(hash >> (64 - slotBits))
	if t.slots != nil {
		return int(t.slots[slot])
	}
	if len(t.members) == 0 {
		return -1
	}
	first := uint32(math.MaxUint32)
	for i := range t.members {
		first = min(first, t.members[i].rank(slot)*maxDirect+uint32(i)) // no branch, which chance would decide
	}
	return int(t.members[first%maxDirect].index)
}

// Eligible returns how many members are.
func (t *Table) Eligible() int { return len(t.members) }

// member is one who takes flows.
type member struct {
	name  uint64
	index uint16 // in the list given to New

	// The order of preference: rank and its inverse, slot, are multiplications modulo
	// Slots, and shifts that undo themselves.
	start, first, second uint32 // first and second are odd
	part                 uint32 // of a slot, in Slots: what rounds the quota
}

func newMember(name uint64, index uint16) member {
	source := splitmix.Source(name)
	a, b := source.Uint64(), source.Uint64()
	return member{name, index, uint32(a % Slots), uint32(a>>32) | 1, uint32(b>>32) | 1, uint32(b % Slots)}
}

// rank returns the rank that a slot has with m.
func (m *member) rank(slot uint32) uint32 {
	x := (slot ^ m.start) * m.first % Slots
	x = (x ^ x>>half) * m.second % Slots
	return x ^ x>>half
}

// claimant is a member that still claims slots.
type claimant struct {
	start, first, second uint32 // of the member, but the inverses of its factors
	left                 int32  // of its quota
	index                uint16
}

// slot returns the slot of a rank.
func (c *claimant) slot(rank uint32) uint32 {
	x := (rank ^ rank>>half) * c.second % Slots
	x = (x ^ x>>half) * c.first % Slots
	return x ^ c.start
}

// claim gives each slot to a member. A round costs one read of a slot for each claimant,
// and nearly all slots are taken when each member has claimed 12 times its share.
func claim(members []member) *[Slots]uint16 {
	claimants := make([]claimant, len(members))
	for i, quota := range quotas(members) {
		m := &members[i]
		claimants[i] = claimant{m.start, inverse(m.first), inverse(m.second), quota, m.index}
	}
	slots := new([Slots]uint16)
	for i := range slots {
		slots[i] = nobody
	}
	free, full := Slots, 0
	for rank := uint32(0); free > 0; rank++ {
		for i := range claimants {
			c := &claimants[i]
			if slot := c.slot(rank); slots[slot] == nobody && c.left > 0 {
				slots[slot] = c.index
				free--
				if c.left--; c.left == 0 {
					full++
				}
			}
		}
		if full > len(claimants)/8 { // to drop each one at once would take longer
			claimants = slices.DeleteFunc(claimants, func(c claimant) bool { return c.left == 0 })
			full = 0
		}
	}
	return slots
}

// quotas returns the most slots that each member may take, together not less than
// there are. A quota is rounded up or down as the name decides. So when the number of
// members changes, the quotas of only a few do; otherwise all would by one slot, now
// and then, and too many flows moved.
func quotas(members []member) []int32 {
	n := int64(len(members))
	all := make([]int32, n)
	for share := Slots * (Slots + slack(n)) / n; ; share += share / 100 {
		sum := int64(0)
		for i, m := range members {
			all[i] = int32((share + int64(m.part)) / Slots)
			sum += int64(all[i])
		}
		if sum >= Slots {
			return all
		}
	}
}

// slack returns by how many parts in Slots the quota is above an even share: 3 percent
// for up to 500 members, then in proportion to the root of their number, as the
// differences are between what members would have without quotas.
func slack(n int64) int64 {
	const percent3 = Slots * 3 / 100
	return int64(math.Sqrt(float64(percent3 * percent3 * max(n, 500) / 500)))
}

// inverse returns an x for which odd * x is 1 modulo Slots. Each step doubles the
// number of bits that are right, from 3 (Newton's method).
func inverse(odd uint32) uint32 {
	x := odd
	for range 3 {
		x *= 2 - odd*x
	}
	return x
}
