//go:build !amd64

package index

import (
	"math/bits"
	"unsafe"
)

// Hints looks for each tags[i] in the one bucket buckets[i] (from Home) and stores
// into ids[i] the ID in the first slot that holds it, or 0. It looks no further:
// a miss is not an answer. The slices must have the same length.
func Hints(buckets []unsafe.Pointer, tags, ids []uint32) {
	if len(tags) != len(buckets) || len(ids) != len(buckets) {
		panic("index: slices of different lengths")
	}
	for i, p := range buckets {
		b := (*Bucket)(p)
		ids[i] = 0
		if m := b.Match(tags[i]); m != 0 {
			ids[i] = b.id[bits.TrailingZeros32(m)&7]
		}
	}
}
