// Package rendezvous distributes flows over members: the same flow always to the same
// member, every member its share, and when members leave or come, hardly any flow of
// another member moves.
//
// Terminology:
//   - Member: who takes flows, known by its name, a number such as [Name] makes of a
//     text. Nothing but names decides who gets what: neither positions in a list nor
//     who has been a member before.
//   - Eligible: said of a member that takes flows now.
//   - Slot: one of 131,072 equal parts of all hashes, which has one member. A hash
//     belongs to the slot that its upper 17 bits number.
//   - Rank: the position that a slot has in a member's order of preference, from 0. The
//     order is a permutation of all slots that follows from the member's name.
//   - Quota: the most slots that a member takes.
//
// # Who gets a slot
//
// Members claim slots in rounds, as in Maglev (Eisenbud and others, NSDI 2016): in round
// r each member claims the slot that has rank r with it, and gets it if nobody has it
// and its own quota is not used up. Within a round smaller names come first. So a slot
// goes to the member that ranks it highest, as in rendezvous hashing, but for members
// whose quota is used up.
//
// Maglev differs in one point: a member that finds a slot taken goes on to its next
// choice in the same round. So one member less shifts the turns of all others, and too
// many of their flows move: at 1,000 members with 100 slots each 5.8/n of them. Here a
// slot of another member moves only if somewhere a quota was used up.
//
// The quota is 3 percent above an even share for up to 500 members, and grows with the
// root of their number above: a lower one would make shares more even, and move more.
//
// From 2 to 8 members have no table, for quotas of so few are hardly ever used up: the
// member with the highest rank is found directly, in the same slots. All others have
// tables of one size. A size that depended on the number of members would move all flows
// whenever that number crosses a bound.
//
// # Bounds
//
// Of n members, as TestBounds measures them over 20 sets of names (5,000: 5 sets):
//
//	members                                        2      3     10    100   1,000   5,000
//	largest share, by the mean                 1.003  1.005  1.015  1.031   1.045   1.106
//	of others' flows move when one leaves,
//	or comes: on average, by 1/n                   0      0      0   0.01    0.60    0.68
//	at most                                        0      0      0   0.02    0.73    0.88
//
// Azure does not publish its own distribution. This one is our choice.
//
// # The hash of a flow
//
// [Hash4] and [Hash6] are XXH64 with seed 0 of these bytes, numbers with the most
// significant byte first, so that anybody can compute them:
//
//	8        the key
//	4 or 16  source address
//	4 or 16  destination address
//	2        source port        FiveTuple only
//	2        destination port   FiveTuple only
//	1        protocol           FiveTuple and SourceIPProtocol only
//
// Both ports of an ICMP query are its identifier, as in [flow.Key]. The overlay VNI
// takes no part. The key is no secret that would keep a determined stranger from
// finding flows of one slot; it makes distributions independent of each other.
//
// A [Table] is immutable, so it is safe for concurrent use. The package refuses to know
// what members are, and why one is eligible.
package rendezvous
