package index

import "unsafe"

// hints is Hints without the bounds checks.
//
//go:noescape
func hints(buckets *unsafe.Pointer, tags, ids *uint32, n int)

// Hints looks for each tags[i] in the one bucket buckets[i] (from Home) and stores
// into ids[i] the ID in the first slot that holds it, or 0. It looks no further:
// a miss is not an answer. The slices must have the same length.
func Hints(buckets []unsafe.Pointer, tags, ids []uint32) {
	if len(tags) != len(buckets) || len(ids) != len(buckets) {
		panic("index: slices of different lengths")
	}
	hints(unsafe.SliceData(buckets), unsafe.SliceData(tags), unsafe.SliceData(ids), len(buckets))
}
