package slab

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// Runs hands out runs of 64-bit words, in sizes that are powers of two from one cache
// line (8 words) to one chunk (8,192 words). A run of a size that has no free one is cut
// from the next larger size; halves are not joined again, but a chunk whose runs are all
// free goes back to the Memory, except one. The first three are small, and stay.
//
// Call Init first. A Runs must not be copied after Init, and is not safe for concurrent use.
type Runs struct {
	dir    directory
	state  []runsChunk
	gone   bitSet          // chunks that have been given back
	vacant int             // chunks that could be given back
	free   [runClasses]Run // heads of the free lists; 0 ends them
}

// runsChunk says how much of a chunk is there, and in use.
type runsChunk struct{ lines, used uint16 }

// The first words of a free run.
const (
	nextFree  = iota // the handle of the next one of its size
	prevFree         // that of the one before
	freeClass        // its own size class
)

// Run names a run of a [Runs]. The zero Run names none.
//
// The low 4 bits hold the size class plus 1, the others the position in lines of 64
// bytes, so that one Runs addresses 16 GiB.
type Run uint32

const (
	lineWords  = 8
	lineBytes  = 8 * lineWords
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
func (r *Runs) Init(m *Memory) { r.dir.init(m, r) }

// Forget makes r empty because its memory has been released.
func (r *Runs) Forget() {
	r.dir.chunks, r.state, r.gone, r.vacant, r.free = noChunks, nil, bitSet{}, 0, [runClasses]Run{}
}

// Alloc returns a zeroed run of at least words words, rounded up to a power of two and to
// 8. It returns 0 if no memory is left: neither the system's nor, at 16 GiB, the handle's.
// It panics unless 1 <= words <= MaxRunWords.
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
	first := unsafe.Add(r.dir.chunks[line/chunkLines], line%chunkLines*lineBytes)
	return unsafe.Slice((*uint64)(first), n)
}

// Free returns h to r. It panics if h is zero, or the run of its size that was freed last;
// any other double free is a bug that goes unnoticed.
func (r *Runs) Free(h Run) {
	if h == 0 || h == r.free[h.class()] {
		panic(fmt.Sprintf("slab: Free of run %#x, which is not in use", uint32(h)))
	}
	clear(r.Words(h))
	r.push(h)
	c := h.line() / chunkLines
	if r.state[c].used -= 1 << h.class(); r.state[c].used == 0 && c >= smallChunks {
		if r.vacant++; r.vacant > 1 {
			r.giveBack(c)
		}
	}
}

// push puts a zeroed run on the free list of its class.
func (r *Runs) push(h Run) {
	head, w := &r.free[h.class()], r.Words(h)
	if *head != 0 {
		r.Words(*head)[prevFree] = uint64(h)
	}
	w[nextFree], w[prevFree], w[freeClass] = uint64(*head), 0, uint64(h.class())
	*head = h
}

// pull takes a run off the free list of its class, and zeroes it.
func (r *Runs) pull(h Run) {
	w := r.Words(h)
	next, prev := Run(w[nextFree]), Run(w[prevFree])
	if next != 0 {
		r.Words(next)[prevFree] = uint64(prev)
	}
	if prev != 0 {
		r.Words(prev)[nextFree] = uint64(next)
	} else {
		r.free[h.class()] = next
	}
	w[nextFree], w[prevFree], w[freeClass] = 0, 0, 0
}

// alloc takes a zeroed run of a class into use, or returns 0.
func (r *Runs) alloc(class int) Run {
	h := r.cut(class)
	if h == 0 {
		return 0
	}
	c := &r.state[h.line()/chunkLines]
	if c.used == 0 && h.line() >= smallChunks*chunkLines {
		r.vacant--
	}
	c.used += 1 << class
	return h
}

// cut takes a run of a class off the free lists: a free one, half of a larger one, or a
// chunk. Cost: O(classes).
func (r *Runs) cut(class int) Run {
	if h := r.free[class]; h != 0 {
		r.pull(h)
		return h
	}
	c, ok := r.gone.lowest()
	if !ok {
		c = len(r.state)
	}
	if lineBytes<<class < chunkSize(c, 0) {
		h := r.cut(class + 1)
		if h == 0 {
			return 0
		}
		r.push(makeRun(h.line()+1<<class, class))
		return makeRun(h.line(), class)
	}
	p := unsafe.Pointer(nil)
	if c*chunkLines < 1<<28 {
		p = r.dir.m.Chunk(lineBytes << class)
	}
	if p == nil {
		return 0
	}
	if state := (runsChunk{lines: 1 << class}); ok {
		r.gone.remove(c)
		r.dir.chunks[c], r.state[c] = p, state
	} else {
		r.dir.chunks, r.state = r.dir.with(c, p), append(r.state, state)
	}
	if c >= smallChunks {
		r.vacant++
	}
	return makeRun(c*chunkLines, class)
}

// giveBack returns a chunk whose runs are all free to the Memory.
func (r *Runs) giveBack(c int) {
	r.vacant--
	lines := int(r.state[c].lines)
	for line := 0; line < lines; {
		class := int(r.Words(makeRun(c*chunkLines+line, 0))[freeClass])
		r.pull(makeRun(c*chunkLines+line, class))
		line += 1 << class
	}
	r.dir.m.FreeChunk(r.dir.chunks[c], lines*lineBytes)
	r.dir.chunks[c], r.state[c] = nil, runsChunk{}
	r.gone.add(c)
	for n := len(r.state) - 1; n > 0 && r.state[n].lines == 0; n-- {
		r.gone.remove(n)
		r.dir.chunks, r.state = r.dir.chunks[:n], r.state[:n]
	}
}
