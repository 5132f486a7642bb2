package ports

import (
	"math/rand/v2"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
)

// foresight is which ports without flows the next flows get of a stock of which each takes one: what
// the random numbers to come and the shelves say. So it does not matter whose flows these are, and
// nothing but a port that is given back, one that is taken in another way, or a number that is drawn
// without taking one makes it forget. It is found out for many flows at once and ahead of them, so
// that what they need of their ports can be fetched. The lock of the book guards it; the zero value
// knows nothing.
type foresight struct {
	of       [2]uint8     // family and protocol of the stock
	random   rand.ChaCha8 // as it is after the numbers of those that are foreseen
	first, n int          // of ordinals
	ordinals [2 * flow.MaxGuesses]uint32
}

// forget makes f know nothing.
func (f *foresight) forget() { f.n = 0 }

// take returns the ordinal that the flow gets for which a number has been drawn, if it has been foreseen.
func (f *foresight) take(st *stock) (ordinal int, ok bool) {
	if f.n == 0 || f.of != st.kind() {
		f.n = 0
		return 0, false
	}
	ordinal = int(f.ordinals[f.first])
	f.first++
	f.n--
	return ordinal, true
}

// at returns the i-th ordinal from now on, -1 if it is not known.
func (f *foresight) at(i int) int {
	if i >= f.n {
		return -1
	}
	return int(f.ordinals[f.first+i])
}

// foresee finds out the ordinals of the next n flows of a stock, at most flow.MaxGuesses, if there are
// as many free ports. The lock must be held.
func (b *shared) foresee(st *stock, n int) {
	f := &b.next
	if f.n == 0 || f.of != st.kind() {
		f.of, f.random, f.n = st.kind(), b.random, 0
	}
	if f.n >= n {
		return
	}
	copy(f.ordinals[:], f.ordinals[f.first:f.first+f.n])
	f.first = 0
	for _, o := range f.ordinals[:f.n] {
		st.shelves.Take(st.shelves.Split(int(o)))
	}
	for f.n < n {
		d := splitmix.Source(f.random.Uint64())
		shelf, k := st.choose(0, &d)
		if shelf < 0 {
			break
		}
		port := st.shelves.At(shelf, k)
		st.shelves.Take(shelf, port)
		f.ordinals[f.n] = uint32(st.ranges[shelf].base + port)
		f.n++
	}
	for _, o := range f.ordinals[:f.n] {
		st.shelves.Put(st.shelves.Split(int(o)))
	}
}

// kind is what names a stock.
func (st *stock) kind() [2]uint8 { return [2]uint8{st.family, st.protocol} }

// choose returns a shelf that is not closed, by its index, and which of its free ports: each has the
// same chance. The shelf is -1 if there are none.
func (st *stock) choose(closed uint64, d *splitmix.Source) (shelf, k int) {
	total, all := 0, st.shelves.Free()
	for i, free := range all {
		if closed>>i&1 == 0 {
			total += free
		}
	}
	if total == 0 {
		return -1, 0
	}
	for k = d.Below(total); closed>>shelf&1 != 0 || k >= all[shelf]; shelf++ {
		if closed>>shelf&1 == 0 {
			k -= all[shelf]
		}
	}
	return shelf, k
}
