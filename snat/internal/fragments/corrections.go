package fragments

import "sync/atomic"

// Corrections are what an owner of a [Table] has counted as something else before it knew
// better, by the side packets came from.
type Corrections struct {
	Reconsidered [2]atomic.Uint64 // ICMP errors that count as dropped but were not
	Lost         [2]atomic.Uint64 // packets that count as forwarded but could not be split for want of memory
}
