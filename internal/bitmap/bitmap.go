// Package bitmap finds the lowest clear bit of a large bitmap in constant time: one
// count of trailing zeros per level of a 64-ary tree. It works on words the caller
// supplies, so a bitmap can live in any memory; it allocates nothing and keeps no pointer.
//
// A bitmap of n bits takes [Words](n) words w, its root first:
//
//	n <= 64       bits
//	n <= 4,096    root, then the words of bits
//	n <= 516,096  root, then the words of the middle level, then the words of bits
//
// The root is one word for every 262,144 bits, so two at most.
//
// A bit of a summary word is set when the word below it is full; bits from n on, which
// do not exist, count as set there. All words zero is the empty bitmap. Every function
// takes the same w and n; n out of range, or w shorter than Words(n), is a bug of the
// caller's that panics at the latest when it leads to a missing word.
//
// Functions that change w need exclusive use of it; the others may run concurrently.
package bitmap

import (
	"fmt"
	"math/bits"
)

// MaxBits is the largest number of bits: what takes 8,192 words, 64 KiB, with its
// summaries. It is eight times the 64,512 ports from 1024 on.
const MaxBits = 8 * 64_512

// Words returns the number of 64-bit words a bitmap of n bits takes, summaries
// included. It panics unless 1 <= n <= MaxBits.
func Words(n int) int {
	if n < 1 || n > MaxBits {
		panic(fmt.Sprintf("bitmap: %d bits, not between 1 and %d", n, MaxBits))
	}
	_, low := levels(n)
	return low + words(n)
}

// Test reports whether bit i is set. It panics unless 0 <= i < n.
func Test(w []uint64, n, i int) bool {
	check(n, i)
	_, low := levels(n)
	return w[low+i>>6]>>(i&63)&1 != 0
}

// WordOf returns which word of a bitmap of n bits holds bit i. It panics unless 0 <= i < n.
func WordOf(n, i int) int {
	check(n, i)
	_, low := levels(n)
	return low + i>>6
}

// Bits returns the part of w that holds the bits themselves, bit i in bit i&63 of word
// i>>6, without the summaries. It is for those who look at many bits; they must not
// change them. Bits from n on in the last word have no meaning.
func Bits(w []uint64, n int) []uint64 {
	_, low := levels(n)
	return w[low : low+words(n)]
}

// Set sets bit i. It panics unless 0 <= i < n.
func Set(w []uint64, n, i int) {
	check(n, i)
	mid, low := levels(n)
	if !set(&w[low+i>>6], i, n) || low == 0 {
		return
	}
	i, n = i>>6, words(n)
	if !set(&w[mid+i>>6], i, n) || mid == 0 {
		return
	}
	w[i>>12] |= 1 << (i >> 6 & 63)
}

// Clear clears bit i, and reports whether it was set. It panics unless 0 <= i < n.
func Clear(w []uint64, n, i int) (was bool) {
	check(n, i)
	mid, low := levels(n)
	x := &w[low+i>>6]
	was = *x>>(i&63)&1 != 0
	if !unset(x, i, n) || low == 0 {
		return was
	}
	i, n = i>>6, words(n)
	if !unset(&w[mid+i>>6], i, n) || mid == 0 {
		return was
	}
	w[i>>12] &^= 1 << (i >> 6 & 63)
	return was
}

// FirstZero returns the lowest clear bit, and whether there is one.
func FirstZero(w []uint64, n int) (int, bool) {
	mid, low := levels(n)
	i := bits.TrailingZeros64(^w[0])
	if mid != 0 {
		for k := 1; k < mid && i == k<<6; k++ {
			i += bits.TrailingZeros64(^w[k])
		}
		if i >= low-mid {
			return 0, false
		}
		i = i<<6 | bits.TrailingZeros64(^w[mid+i])
	}
	if low != 0 {
		if i >= words(n) {
			return 0, false
		}
		i = i<<6 | bits.TrailingZeros64(^w[low+i])
	}
	if i >= n {
		return 0, false
	}
	return i, true
}

// Take sets the lowest clear bit and returns it, or reports that there is none: FirstZero
// and Set in one.
func Take(w []uint64, n int) (i int, ok bool) {
	if i, ok = FirstZero(w, n); ok {
		Set(w, n, i)
	}
	return i, ok
}

// FirstZeroFrom returns the lowest clear bit that is not below from, and whether there is
// one. It panics if from is negative; there is none from n on.
func FirstZeroFrom(w []uint64, n, from int) (int, bool) {
	if from >= n {
		return 0, false
	}
	mid, low := levels(n)
	if i, ok := zeroFrom(w[low:], from, n); ok || low == 0 {
		return i, ok
	}
	// The word of from has none, so climb until a level has one further on, then descend.
	i, ok := zeroFrom(w[mid:], from>>6+1, words(n))
	if !ok && mid != 0 {
		for from = from>>12 + 1; !ok && from < low-mid; from = (from | 63) + 1 {
			i, ok = zeroFrom(w, from, low-mid)
		}
		if ok {
			i = i<<6 | bits.TrailingZeros64(^w[mid+i])
		}
	}
	if !ok {
		return 0, false
	}
	return i<<6 | bits.TrailingZeros64(^w[low+i]), true
}

// Grow copies the nOld bits of src into dst, a bitmap of nNew bits that is all zero.
// It panics if nNew < nOld. The cost is proportional to nOld/64.
func Grow(dst []uint64, nNew int, src []uint64, nOld int) {
	if nNew < nOld {
		panic(fmt.Sprintf("bitmap: cannot grow from %d to %d bits", nOld, nNew))
	}
	_, from := levels(nOld)
	mid, low := levels(nNew)
	used := copy(dst[low:], src[from:from+words(nOld)])
	if low == 0 {
		return
	}
	summarize(dst[mid:], dst[low:low+used], nNew)
	if mid != 0 {
		summarize(dst, dst[mid:mid+words(used)], words(nNew))
	}
}

// summarize sets in up the bit of every full word of down, whose level has n bits.
func summarize(up, down []uint64, n int) {
	for j, x := range down {
		if full(x, j, n) {
			up[j>>6] |= 1 << (j & 63)
		}
	}
}

// levels returns where the middle and the lowest level of a bitmap of n bits start. The
// middle one is the root (mid 0) up to 4,096 bits, the lowest one (low 0) up to 64.
func levels(n int) (mid, low int) {
	switch {
	case n <= 64:
		return 0, 0
	case n <= 64*64:
		return 0, 1
	}
	mid = (n + 64*64*64 - 1) >> 18
	return mid, mid + (n+64*64-1)>>12
}

// words returns the number of words that hold n bits of one level.
func words(n int) int { return (n + 63) >> 6 }

// set sets bit i of a level of n bits in its word x, and reports whether x is now full.
func set(x *uint64, i, n int) bool {
	*x |= 1 << (i & 63)
	return full(*x, i>>6, n)
}

// unset clears bit i of a level of n bits in its word x, and reports whether x was full.
func unset(x *uint64, i, n int) bool {
	was := *x
	*x = was &^ (1 << (i & 63))
	return full(was, i>>6, n)
}

// full reports whether x, word j of a level of n bits, has no clear bit below n.
func full(x uint64, j, n int) bool {
	return bits.TrailingZeros64(^x) >= min(64, n-j<<6)
}

// zeroFrom returns the lowest clear bit not below from in the one word of a level that
// holds bit from, and whether it is one of the level's n bits.
func zeroFrom(level []uint64, from, n int) (int, bool) {
	if from >= n {
		return 0, false
	}
	i := from + bits.TrailingZeros64(^level[from>>6]>>(from&63))
	if i >= n || i>>6 != from>>6 {
		return 0, false
	}
	return i, true
}

func check(n, i int) {
	if uint(i) >= uint(n) {
		panic(fmt.Sprintf("bitmap: bit %d, not between 0 and %d", i, n-1))
	}
}
