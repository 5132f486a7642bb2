package slab

import (
	"fmt"
	"math/bits"
)

// Runs hands out runs of 64-bit words, in sizes that are powers of two from one cache
// line (8 words) to one chunk (8,192 words). A run is aligned to its own size. A run of a
// size that has no free one is cut from the next larger size; halves are not joined again.
//
// Call Init first. A Runs must not be copied after Init, and is not safe for concurrent use.
type Runs struct {
	dir  directory
	free [runClasses]Run // heads of the free lists, linked through the runs' first word; 0 ends them
}

// Run names a run of a [Runs]. The zero Run names none.
//
// The low 4 bits hold the size class plus 1, the others the position in lines of 64
// bytes, so that one Runs addresses 16 GiB.
type Run uint32

const (
	lineWords  = 8
	chunkWords = ChunkSize / 8
	chunkLines = chunkWords / lineWords
	runClasses = 11 // class c holds lineWords<<c words; the last one fills a chunk

	// MaxRunWords is the largest number of words one run can have.
	MaxRunWords = lineWords << (runClasses - 1)
)

var _ = [1]struct{}{}[MaxRunWords-chunkWords] // the largest run is a chunk

func makeRun(line, class int) Run { return Run(line<<4 | class + 1) }

func (h Run) class() int { return int(h&15) - 1 }
func (h Run) line() int  { return int(h >> 4) }

// Init makes r empty and lets it draw on m. It panics if r was initialised before.
func (r *Runs) Init(m *Memory) { r.dir.init(m) }

// Alloc returns a zeroed run of at least words words, rounded up to a power of two and to
// 8. It panics unless 1 <= words <= MaxRunWords, or if no memory is left: neither the
// system's nor, at 16 GiB, the handle's.
func (r *Runs) Alloc(words int) Run {
	if words < 1 || words > MaxRunWords {
		panic(fmt.Sprintf("slab: run of %d words, not between 1 and %d", words, MaxRunWords))
	}
	return r.alloc(bits.Len(uint(words-1) / lineWords))
}

// Words returns the words of h. The slice is valid until Free(h) or Memory.Release. It
// panics if h lies beyond the last chunk; it does not notice a run that is free, or zero.
func (r *Runs) Words(h Run) []uint64 {
	line, n := uint32(h)>>4, uint32(lineWords/2)<<(h&15)
	chunk := (*[chunkWords]uint64)(r.dir.chunks[line/chunkLines])
	i := line % chunkLines * lineWords
	return chunk[i : i+n : i+n]
}

// Free returns h to r. It panics if h is zero, or the run of its size that was freed last;
// any other double free is a bug that goes unnoticed.
func (r *Runs) Free(h Run) {
	if h == 0 || h == r.free[h.class()] {
		panic(fmt.Sprintf("slab: Free of run %#x, which is not in use", uint32(h)))
	}
	clear(r.Words(h))
	r.push(h)
}

// push puts a zeroed run on the free list of its class.
func (r *Runs) push(h Run) {
	head := &r.free[h.class()]
	r.Words(h)[0] = uint64(*head)
	*head = h
}

// alloc takes a zeroed run of a class: a free one, half of a larger one, or a chunk.
func (r *Runs) alloc(class int) Run {
	if h := r.free[class]; h != 0 {
		link := &r.Words(h)[0]
		r.free[class], *link = Run(*link), 0
		return h
	}
	if class < runClasses-1 {
		line := r.alloc(class + 1).line()
		r.push(makeRun(line+1<<class, class))
		return makeRun(line, class)
	}
	line := len(r.dir.chunks) * chunkLines
	if line >= 1<<28 {
		panic("slab: all 16 GiB of a Runs are in use")
	}
	r.dir.add()
	return makeRun(line, class)
}
