//go:build !amd64

package index

import "math/bits"

// takeOut removes an entry from a bucket, in which the last one takes its place. It does
// nothing and reports false if the entry is not there, or if the bucket is full: then
// others may have gone past it.
func takeOut(b *Bucket, tag, id uint32) bool {
	if b.Full() {
		return false
	}
	for m := b.Match(tag); m != 0; m &= m - 1 {
		if j := uint32(bits.TrailingZeros32(m)) & 7; b.id[j] == id {
			b.free(j)
			return true
		}
	}
	return false
}
