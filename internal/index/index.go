package index

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Index maps tags to IDs. Call Init first; the owner provides the lock.
type Index struct {
	mem   *slab.Memory
	dir   []*segment // len 1<<depth; a segment of local depth d fills 1<<(depth-d) entries
	meta  []segMeta  // parallel to dir; only the first entry of a segment's run counts
	shift uint8      // 32 - depth
	used  int        // entries in the index
}

const (
	slotsPerBucket = 8
	segBuckets     = slab.ChunkSize / 64
	bucketMask     = segBuckets - 1
	segSlots       = segBuckets * slotsPerBucket
	maxLoad        = segSlots * 7 / 8
)

// Bucket is one cache line of the index.
type Bucket struct {
	tag [slotsPerBucket]uint32
	id  [slotsPerBucket]uint32
}

type segment [segBuckets]Bucket

type segMeta struct {
	depth uint8
	used  uint32
}

var (
	_ [64]byte             = [unsafe.Sizeof(Bucket{})]byte{}
	_ [slab.ChunkSize]byte = [unsafe.Sizeof(segment{})]byte{}
)

// Tag takes the index's part of a hash. It is never 0, so that a free slot
// cannot match.
func Tag(hash uint64) uint32 { return max(uint32(hash>>32), 1) }

// Init makes x an empty index that draws on mem.
func (x *Index) Init(mem *slab.Memory) {
	x.mem = mem
	x.dir = []*segment{(*segment)(mem.Chunk())}
	x.meta = make([]segMeta, 1)
	x.shift = 32
}

// Home returns the bucket where the search for tag begins. It is valid until the
// next insertion.
func (x *Index) Home(tag uint32) *Bucket {
	return &x.dir[uint64(tag)>>x.shift][tag&bucketMask]
}

// Match returns the slots of b that hold tag, one bit each. It has no branches:
// which slot matches is random, and a mispredicted branch costs more. The loop
// is unrolled by hand because the compiler does not.
func (b *Bucket) Match(tag uint32) uint32 {
	return eq(b.tag[0], tag) | eq(b.tag[1], tag)<<1 | eq(b.tag[2], tag)<<2 | eq(b.tag[3], tag)<<3 |
		eq(b.tag[4], tag)<<4 | eq(b.tag[5], tag)<<5 | eq(b.tag[6], tag)<<6 | eq(b.tag[7], tag)<<7
}

// eq returns 1 if a and b are equal, else 0.
func eq(a, b uint32) uint32 {
	if a == b {
		return 1
	}
	return 0
}

// ID returns what slot i holds.
func (b *Bucket) ID(i int) uint32 { return b.id[i&(slotsPerBucket-1)] }

// Full reports whether b has no free slot. Slots fill in any order.
func (b *Bucket) Full() bool {
	return b.id[0] != 0 && b.id[1] != 0 && b.id[2] != 0 && b.id[3] != 0 &&
		b.id[4] != 0 && b.id[5] != 0 && b.id[6] != 0 && b.id[7] != 0
}

// Probe walks the candidates for one tag. It is valid until the next change.
type Probe struct {
	seg  *segment
	tag  uint32
	pos  uint32 // bucket
	hits uint32 // matching slots of bucket pos not yet returned
	left uint32 // buckets not yet visited
}

// Probe begins a search. Cost: one cache line in most cases.
func (x *Index) Probe(tag uint32) Probe {
	p := Probe{seg: x.dir[uint64(tag)>>x.shift], tag: tag, pos: tag & bucketMask, left: segBuckets - 1}
	p.hits = p.seg[p.pos].Match(tag)
	return p
}

// Next returns the next candidate, or 0 when there is none.
func (p *Probe) Next() uint32 {
	for {
		b := &p.seg[p.pos&bucketMask]
		if p.hits != 0 {
			i := bits.TrailingZeros32(p.hits)
			p.hits &= p.hits - 1
			return b.id[i&7]
		}
		if p.left == 0 || !b.Full() {
			return 0
		}
		p.left--
		p.pos = (p.pos + 1) & bucketMask
		p.hits = p.seg[p.pos].Match(p.tag)
	}
}

// Insert adds an entry. The caller knows that the pair is not there yet.
func (x *Index) Insert(tag uint32, id uint32) {
	at := uint64(tag) >> x.shift
	for x.meta[x.run(at)].used >= maxLoad {
		x.split(at)
		at = uint64(tag) >> x.shift
	}
	x.meta[x.run(at)].used++
	x.used++
	x.dir[at].put(tag, id)
}

// run returns the first directory entry of the segment that entry at names.
func (x *Index) run(at uint64) uint64 {
	depth := 32 - x.shift
	// Segments fill aligned runs, so the run of an entry with local depth d
	// starts at the entry with its low depth-d bits cleared. All entries of a
	// run carry the same depth.
	return at &^ (1<<(depth-x.meta[at].depth) - 1)
}

// put stores an entry into the first free slot of its probe path.
func (s *segment) put(tag uint32, id uint32) {
	for i := uint32(0); i < segBuckets; i++ {
		b := &s[(tag+i)&bucketMask]
		for j, have := range b.id {
			if have == 0 {
				b.tag[j], b.id[j] = tag, id
				return
			}
		}
	}
	panic("index: segment overflows")
}

// split divides the segment that directory entry at names by its next tag bit.
func (x *Index) split(at uint64) {
	if x.meta[at].depth == 32-x.shift {
		x.double()
		at *= 2
	}
	depth := 32 - x.shift
	d := x.meta[at].depth
	first := x.run(at)
	n := uint64(1) << (depth - d)
	old := x.dir[first]
	low, high := (*segment)(x.mem.Chunk()), (*segment)(x.mem.Chunk())
	var nLow, nHigh uint32
	for i := range old {
		b := &old[i]
		for j, id := range b.id {
			if id == 0 {
				continue
			}
			if b.tag[j]>>(31-d)&1 == 0 {
				low.put(b.tag[j], id)
				nLow++
			} else {
				high.put(b.tag[j], id)
				nHigh++
			}
		}
	}
	for i := range n {
		if i < n/2 {
			x.dir[first+i], x.meta[first+i] = low, segMeta{depth: d + 1, used: nLow}
		} else {
			x.dir[first+i], x.meta[first+i] = high, segMeta{depth: d + 1, used: nHigh}
		}
	}
	x.mem.FreeChunk(unsafe.Pointer(old))
}

// double doubles the directory.
func (x *Index) double() {
	if x.shift == 32-maxDepth {
		panic(fmt.Sprintf("index: directory exceeds %d bits with %d entries", maxDepth, x.used))
	}
	dir, meta := make([]*segment, 2*len(x.dir)), make([]segMeta, 2*len(x.meta))
	for i := range x.dir {
		dir[2*i], dir[2*i+1] = x.dir[i], x.dir[i]
		meta[2*i], meta[2*i+1] = x.meta[i], x.meta[i]
	}
	x.dir, x.meta = dir, meta
	x.shift--
}

// maxDepth bounds the directory; at maxLoad it stands for 7.5 billion entries.
const maxDepth = 20

// Remove deletes the entry (tag, id). It panics if there is none.
func (x *Index) Remove(tag uint32, id uint32) {
	at := uint64(tag) >> x.shift
	s := x.dir[at]
	for i := uint32(0); i < segBuckets; i++ {
		pos := (tag + i) & bucketMask
		b := &s[pos]
		for m := b.Match(tag); m != 0; m &= m - 1 {
			j := bits.TrailingZeros32(m) & 7
			if b.id[j] == id {
				x.meta[x.run(at)].used--
				x.used--
				s.clear(pos, j)
				return
			}
		}
	}
	panic(fmt.Sprintf("index: ID %#x is not indexed under tag %#x", id, tag))
}

// clear frees slot j of bucket pos and restores the probe rule.
func (s *segment) clear(pos uint32, j int) {
	hole, holeSlot := pos, j
	wasFull := s[hole].Full()
	s[hole].tag[j], s[hole].id[j] = 0, 0
	if !wasFull {
		return
	}
	for i := uint32(1); i < segBuckets; i++ {
		pos = (pos + 1) & bucketMask
		b := &s[pos]
		full := b.Full()
		span := (pos - hole) & bucketMask // distance from the hole
		for k, id := range b.id {
			if id == 0 || (pos-b.tag[k])&bucketMask < span {
				continue // free, or its home lies behind the hole
			}
			s[hole].tag[holeSlot], s[hole].id[holeSlot] = b.tag[k], id
			b.tag[k], b.id[k] = 0, 0
			hole, holeSlot = pos, k
			break
		}
		if !full {
			return
		}
	}
}

// Len returns the number of entries.
func (x *Index) Len() int { return x.used }
