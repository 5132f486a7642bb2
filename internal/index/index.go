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
	dir   []*Bucket // first buckets of segments; len 1<<depth; a segment of local depth d fills 1<<(depth-d) entries
	meta  []segMeta // parallel to dir; only the first entry of a segment's run counts
	mask  uint32    // buckets of a segment less 1
	early uint32    // entries of a segment up to which nothing has to be asked before another one
	shift uint8     // 32 - depth; & 63 where it is used spares the compiler longer shifts
	used  int       // entries in the index
	last  int       // how many there were when a segment was split before it was full, or looked at for that

	segments int // overflow segments not counted
	deepest  int // segments as deep as the directory

	chains map[*Bucket][]overflow // by the first bucket of their segment; nil in nearly all indexes
}

const (
	slotsPerBucket = 8
	bucketBytes    = 64
	segBuckets     = slab.ChunkSize / bucketBytes
	firstBuckets   = 4 // of a new index
	segSlots       = segBuckets * slotsPerBucket

	maxProbe = 64 // buckets on the probe path of an entry
	maxChain = 15 // overflow segments of one segment
	maxDepth = 20 // of the directory; at the maximum load it stands for 7.5 billion entries

	growth = 4 // a segment that is not full-grown grows by this factor

	// Segments are split from splitFrom entries on, but only one in splitPause insertions, so
	// that no batch of packets meets several, although all get there at about the same time. None is
	// full before its turn comes, unless tags are chosen.
	splitFrom  = segSlots / 32 * 25
	splitPause = 256
)

// Bucket is one cache line of the index. What is in use of it comes before what is free.
type Bucket struct {
	tag [slotsPerBucket]uint32
	id  [slotsPerBucket]uint32
}

type segMeta struct {
	depth uint8
	used  uint32 // in the segment itself
}

// overflow is a segment behind another one.
type overflow struct {
	buckets *Bucket
	level   uint32 // of homeAt; not 0
	used    uint32
}

var _ [bucketBytes]byte = [unsafe.Sizeof(Bucket{})]byte{}

// none is the segment of an empty index: read by everybody, written by nobody.
var none struct {
	_ [bucketBytes]byte // keeps others off its cache line
	Bucket
	_ [bucketBytes]byte
}

// noSegment is the directory of an empty index.
var noSegment = []*Bucket{&none.Bucket}

// Tag takes the index's part of a hash. It is never 0, so that a free slot
// cannot match.
func Tag(hash uint64) uint32 { return max(uint32(hash>>32), 1) }

// Init makes x an empty index that draws on mem. It takes no memory.
func (x *Index) Init(mem *slab.Memory) {
	x.mem = mem
	x.Forget()
	mem.Own(x)
}

// Forget makes x empty because its memory has been released.
func (x *Index) Forget() { *x = Index{mem: x.mem, dir: noSegment, shift: 32} }

// Home returns the bucket where the search for tag begins. It is valid until the
// next change.
func (x *Index) Home(tag uint32) *Bucket {
	return bucketAt(x.dir[uint64(tag)>>(x.shift&63)], tag&x.mask)
}

// Second returns the bucket where the search for tag goes on if its home bucket is full. It
// is valid until the next change.
func (x *Index) Second(tag uint32) *Bucket {
	return bucketAt(x.dir[uint64(tag)>>(x.shift&63)], (tag+1)&x.mask)
}

// Overflown reports whether a search may have to go on although the home bucket
// has room, because entries have been put elsewhere.
func (x *Index) Overflown() bool { return x.chains != nil }

// bucketAt returns bucket pos of the segment that begins at seg.
func bucketAt(seg *Bucket, pos uint32) *Bucket {
	return (*Bucket)(unsafe.Add(unsafe.Pointer(seg), uintptr(pos)*bucketBytes))
}

// homeAt returns the home bucket of a tag in a segment: its low bits, and in one
// behind another bits that depend on all of the tag, so that what has met in the
// first does not meet again.
func homeAt(tag, level, mask uint32) uint32 {
	if level == 0 {
		return tag & mask
	}
	return (tag + level*0x85ebca6b) * 0x9e3779b1 >> 22 & mask
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

// Full reports whether b has no free slot.
func (b *Bucket) Full() bool { return b.id[slotsPerBucket-1] != 0 }

// count returns how many slots are in use, by halving. Where it compares the compiler
// chooses values and does not branch: the answer is random.
func (b *Bucket) count() uint32 {
	n := uint32(0)
	if b.id[3] != 0 {
		n = 4
	}
	more := n + 2
	if b.id[(n+1)&7] != 0 {
		n = more
	}
	more = n + 1
	if b.id[n&7] != 0 {
		n = more
	}
	if b.Full() {
		n = slotsPerBucket
	}
	return n
}

// free frees slot i of b, in which the last one takes its place.
func (b *Bucket) free(i uint32) {
	i, last := i&(slotsPerBucket-1), (b.count()-1)&(slotsPerBucket-1)
	b.tag[i], b.id[i] = b.tag[last], b.id[last]
	b.tag[last], b.id[last] = 0, 0
}

// Probe walks the candidates for one tag. It is valid until the next change.
type Probe struct {
	x    *Index
	seg  *Bucket
	tag  uint32
	pos  uint32 // bucket
	hits uint32 // matching slots of bucket pos not yet returned
	left uint32 // buckets not yet visited
	next int    // overflow segment that comes next
}

// Probe begins a search. Cost: one cache line in most cases, and never more than
// maxProbe for each segment of a chain.
func (x *Index) Probe(tag uint32) Probe {
	p := Probe{x: x, seg: x.dir[uint64(tag)>>(x.shift&63)], tag: tag, pos: tag & x.mask, left: min(x.mask, maxProbe-1)}
	p.hits = bucketAt(p.seg, p.pos).Match(tag)
	return p
}

// Next returns the next candidate, or 0 when there is none.
func (p *Probe) Next() uint32 {
	for {
		b := bucketAt(p.seg, p.pos)
		if p.hits != 0 {
			i := bits.TrailingZeros32(p.hits)
			p.hits &= p.hits - 1
			return b.id[i&7]
		}
		if p.left == 0 || !b.Full() {
			if p.x.chains == nil || !p.descend() {
				return 0
			}
			continue
		}
		p.left--
		p.pos = (p.pos + 1) & p.x.mask
		p.hits = bucketAt(p.seg, p.pos).Match(p.tag)
	}
}

// descend goes on with the next segment of the chain, if there is one.
func (p *Probe) descend() bool {
	chain := p.x.chains[p.x.dir[uint64(p.tag)>>(p.x.shift&63)]]
	if p.next >= len(chain) {
		return false
	}
	o := &chain[p.next]
	p.next++
	p.seg, p.pos, p.left = o.buckets, homeAt(p.tag, o.level, p.x.mask), maxProbe-1
	p.hits = bucketAt(p.seg, p.pos).Match(p.tag)
	return true
}

// Insert adds an entry, and reports whether there was room: there is none if the
// system has no memory left, or if more than 8,000 entries have equal tags or
// 100,000 agree in their high bits, as only chosen ones do. The caller knows that
// the pair is not there yet.
func (x *Index) Insert(tag uint32, id uint32) bool {
	at := uint64(tag) >> (x.shift & 63)
	if b := bucketAt(x.dir[at], tag&x.mask); !b.Full() && x.segments != 0 { // the common case
		if m := &x.meta[x.run(at)]; m.used < x.early {
			j := b.count() & (slotsPerBucket - 1)
			b.tag[j], b.id[j] = tag, id
			m.used++
			x.used++
			return true
		}
	}
	x.splitEarly(at)
	for !x.store(tag, id) {
		if grown, ok := x.makeRoom(uint64(tag) >> (x.shift & 63)); !ok {
			return false
		} else if !grown {
			return x.lengthen(tag, id)
		}
	}
	x.used++
	return true
}

// store adds an entry to the segment of its tag, or to one behind that, if there is
// room in them.
func (x *Index) store(tag, id uint32) bool {
	at := uint64(tag) >> (x.shift & 63)
	if x.segments == 0 {
		return false
	}
	if m := &x.meta[x.run(at)]; m.used < x.maxLoad() && x.put(x.dir[at], 0, tag, id) {
		m.used++
		return true
	}
	if x.chains != nil {
		chain := x.chains[x.dir[at]]
		for i := range chain {
			if o := &chain[i]; o.used < x.maxLoad() && x.put(o.buckets, o.level, tag, id) {
				o.used++
				return true
			}
		}
	}
	return false
}

// maxLoad is how many entries a segment takes: 7/8 of its slots.
func (x *Index) maxLoad() uint32 { return (x.mask + 1) * slotsPerBucket / 8 * 7 }

// run returns the first directory entry of the segment that entry at names.
func (x *Index) run(at uint64) uint64 {
	depth := 32 - x.shift
	// Segments fill aligned runs, so the run of an entry with local depth d
	// starts at the entry with its low depth-d bits cleared. All entries of a
	// run carry the same depth.
	return at &^ (1<<((depth-x.meta[at].depth)&63) - 1)
}

// put stores an entry into the first free slot of its probe path in a segment, if
// there is one.
func (x *Index) put(seg *Bucket, level, tag, id uint32) bool {
	pos := homeAt(tag, level, x.mask)
	for range min(x.mask+1, maxProbe) {
		if b := bucketAt(seg, pos); !b.Full() {
			j := b.count() & (slotsPerBucket - 1)
			b.tag[j], b.id[j] = tag, id
			return true
		}
		pos = (pos + 1) & x.mask
	}
	return false
}

// Remove deletes the entry (tag, id). It panics if there is none.
func (x *Index) Remove(tag uint32, id uint32) {
	if !x.Discard(tag, id) {
		panic(fmt.Sprintf("index: ID %#x is not indexed under tag %#x", id, tag))
	}
}

// Discard deletes the entry (tag, id), if there is one, and reports whether there was.
func (x *Index) Discard(tag uint32, id uint32) bool {
	at := uint64(tag) >> (x.shift & 63)
	if takeOut(bucketAt(x.dir[at], tag&x.mask), tag, id) || x.take(x.dir[at], 0, tag, id) {
		m := &x.meta[x.run(at)]
		m.used--
		x.used--
		if m.used < segSlots/8 && m.depth > 0 && m.used%mergeStep == 0 {
			for x.merge(x.run(uint64(tag) >> (x.shift & 63))) {
			}
		}
		return true
	}
	chain := x.chains[x.dir[at]]
	for i := range chain {
		o := &chain[i]
		if !x.take(o.buckets, o.level, tag, id) {
			continue
		}
		x.used--
		if o.used--; o.used == 0 {
			x.drop(half{buckets: o.buckets})
			x.setChain(x.dir[at], append(chain[:i:i], chain[i+1:]...))
		}
		return true
	}
	return false
}

// take removes an entry from a segment, if it is there.
func (x *Index) take(seg *Bucket, level, tag, id uint32) bool {
	pos := homeAt(tag, level, x.mask)
	for range min(x.mask+1, maxProbe) {
		b := bucketAt(seg, pos)
		for m := b.Match(tag); m != 0; m &= m - 1 {
			j := uint32(bits.TrailingZeros32(m)) & 7
			if b.id[j] == id {
				x.clear(seg, level, pos, j)
				return true
			}
		}
		if !b.Full() {
			return false
		}
		pos = (pos + 1) & x.mask
	}
	return false
}

// clear frees slot j of bucket pos of a segment and restores the probe rule.
func (x *Index) clear(seg *Bucket, level, pos, j uint32) {
	hole, holePos := bucketAt(seg, pos), pos
	wasFull := hole.Full()
	if hole.free(j); !wasFull {
		return
	}
	for range x.mask {
		pos = (pos + 1) & x.mask
		span := (pos - holePos) & x.mask // distance from the hole
		if span == maxProbe {
			return // nothing has come as far
		}
		b := bucketAt(seg, pos)
		full := b.Full()
		for k, id := range b.id {
			if id == 0 {
				break
			}
			if (pos-homeAt(b.tag[k], level, x.mask))&x.mask < span {
				continue // its home lies behind the hole
			}
			hole.tag[slotsPerBucket-1], hole.id[slotsPerBucket-1] = b.tag[k], id
			b.free(uint32(k))
			hole, holePos = b, pos
			break
		}
		if !full {
			return
		}
	}
}

// Len returns the number of entries.
func (x *Index) Len() int { return x.used }
