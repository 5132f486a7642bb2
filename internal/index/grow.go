package index

import (
	"math/bits"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// How segments grow, divide, get others behind them, and are joined again. See the
// package comment.

// makeRoom makes more segments, or a larger one, of the segment that directory
// entry at names. It reports whether that has been of use, and not ok if there is no
// memory for it.
func (x *Index) makeRoom(at uint64) (grown, ok bool) {
	switch {
	case x.segments == 0:
		return x.begin(firstBuckets)
	case x.mask < segBuckets-1:
		return x.begin(growth * int(x.mask+1))
	case len(x.chains[x.dir[at]]) < maxChain && x.divisible(at):
		return x.split(at)
	}
	return false, true
}

// splitEarly splits the segment that directory entry at names before it is full, if its turn has
// come.
func (x *Index) splitEarly(at uint64) {
	// Where entries have been removed since, the difference wraps around.
	if x.segments > 0 && x.meta[x.run(at)].used >= splitFrom && uint(x.used-x.last) >= splitPause {
		x.last = x.used
		x.makeRoom(at)
	}
}

// begin gives an index that has one small segment, or none, one of so many buckets, or
// of more if those do not hold what is there.
func (x *Index) begin(buckets int) (grown, ok bool) {
	old, n := x.dir[0], x.mask+1
	for ; ; buckets *= growth {
		h := half{buckets: (*Bucket)(x.mem.Chunk(buckets * bucketBytes))}
		x.mask = uint32(buckets) - 1
		if moved := h.buckets != nil && (x.segments == 0 || each(old, n, func(tag, id uint32) bool { return x.putHalf(&h, tag, id) })); moved {
			if x.segments > 0 {
				x.mem.FreeChunk(unsafe.Pointer(old), int(n)*bucketBytes)
			}
			x.dir, x.meta, x.segments, x.deepest = []*Bucket{h.buckets}, []segMeta{{used: h.used}}, 1, 1
			x.early = min(x.maxLoad(), splitFrom)
			x.setChain(h.buckets, h.chain)
			return true, true
		}
		x.drop(h)
		if x.mask = n - 1; h.buckets == nil || buckets == segBuckets {
			return false, false
		}
	}
}

// each calls f for the entries of a segment of n buckets until it answers false, and reports
// whether it never has.
func each(seg *Bucket, n uint32, f func(tag, id uint32) bool) bool {
	for i := range n {
		b := bucketAt(seg, i)
		for j := range b.count() {
			if !f(b.tag[j&7], b.id[j&7]) {
				return false
			}
		}
	}
	return true
}

// divisible reports whether a segment is better split than followed by another one.
// What lies in its buckets tells whether the next bit of the tags divides them: where
// it does not, segments and the directory would grow for nothing.
func (x *Index) divisible(at uint64) bool {
	depth, m := 32-x.shift, x.meta[x.run(at)]
	if m.depth == depth && (depth == maxDepth || len(x.dir) > 4*x.segments) {
		return false
	}
	seg, used := x.dir[at], m.used
	sides := sample(seg, 31-m.depth)
	for _, o := range x.chains[seg] {
		more := sample(o.buckets, 31-m.depth)
		used, sides[0], sides[1] = used+o.used, sides[0]+more[0], sides[1]+more[1]
	}
	return used >= segSlots/2 && min(sides[0], sides[1]) > (sides[0]+sides[1])/8
}

// sample counts the entries of every eighth bucket of a segment by a bit of their tags.
func sample(seg *Bucket, bit uint8) (sides [2]int) {
	for i := uint32(0); i < segBuckets; i += 8 {
		b := bucketAt(seg, i)
		for j, id := range b.id {
			if id != 0 {
				sides[b.tag[j]>>bit&1]++
			}
		}
	}
	return sides
}

// half is a segment that takes the entries of another one, or half of them.
type half struct {
	buckets *Bucket
	used    uint32
	chain   []overflow
}

// split divides the segment that directory entry at names, and those behind it, by
// its next tag bit.
func (x *Index) split(at uint64) (grown, ok bool) {
	first := x.run(at)
	m, old := x.meta[first], x.dir[first]
	halves, ok := x.parted(old, m)
	if !ok {
		halves, ok = x.halve(old, x.chains[old], 31-m.depth)
	}
	if !ok {
		return false, false
	}
	if m.depth == 32-x.shift {
		x.double()
		first *= 2
	} else if m.depth+1 == 32-x.shift {
		x.deepest += 2
	}
	n := uint64(1) << (32 - x.shift - m.depth)
	for i := range n {
		h := &halves[i/(n/2)]
		x.dir[first+i], x.meta[first+i] = h.buckets, segMeta{depth: m.depth + 1, used: h.used}
	}
	x.segments++
	if halves[0].buckets != old {
		x.drop(half{buckets: old, chain: x.chains[old]})
		x.setChain(old, nil)
	}
	for i := range halves {
		x.setChain(halves[i].buckets, halves[i].chain)
	}
	return true, true
}

// parted moves the entries of a segment whose next bit is set to a new one, and leaves the
// others where they are. It fails, and changes nothing, if there is no memory for a new
// segment, or if there are segments behind it.
//
// Buckets are looked at one by one, from behind one that is not full: nothing has passed that. So
// when a bucket's turn comes, all that its strays have passed has had its turn, and each of them
// finds room on its way here, or here. What is random decides what is counted, but no branch: that
// would be mispredicted for every second entry. A free slot may count as staying: it is zero.
func (x *Index) parted(old *Bucket, m segMeta) (halves [2]half, ok bool) {
	if x.chains[old] != nil {
		return halves, false
	}
	segs := [2]*Bucket{old, (*Bucket)(x.mem.Chunk(slab.ChunkSize))}
	if segs[1] == nil {
		return halves, false
	}
	pos, bit, moved := uint32(0), (31-m.depth)&31, uint32(0)
	for bucketAt(old, pos).Full() {
		pos++
	}
	for range segBuckets {
		pos = (pos + 1) & (segBuckets - 1)
		b, to := bucketAt(old, pos), bucketAt(segs[1], pos)
		was, stay, leave, home := *b, uint32(0), uint32(0), uint32(0)
		*b = Bucket{}
		for j := range slotsPerBucket {
			tag, id := was.tag[j], was.id[j]
			b.tag[stay&7], b.id[stay&7] = tag, id
			to.tag[leave&7], to.id[leave&7] = tag, id
			at := eq(tag&(segBuckets-1), pos)
			out := at & (tag >> bit)
			stay += at - out
			leave += out
			home = home>>1 | at<<7
		}
		b.end(stay)
		to.end(leave)
		moved += leave
		for strays := (1<<was.count() - 1) &^ home; strays != 0; strays &= strays - 1 {
			j := bits.TrailingZeros32(strays) & 7
			out := was.tag[j] >> bit & 1
			x.put(segs[out], 0, was.tag[j], was.id[j])
			moved += out
		}
	}
	return [2]half{{buckets: old, used: m.used - moved}, {buckets: segs[1], used: moved}}, true
}

// end frees slot n of b, if there is one.
func (b *Bucket) end(n uint32) {
	if n < slotsPerBucket {
		b.tag[n], b.id[n] = 0, 0
	}
}

// halve copies the entries of a segment and its chain to two new ones, by one bit of
// their tags. If there is no memory for that all is as it was.
func (x *Index) halve(old *Bucket, chain []overflow, bit uint8) (halves [2]half, ok bool) {
	for i := range halves {
		halves[i].buckets = (*Bucket)(x.mem.Chunk(slab.ChunkSize))
	}
	ok = halves[0].buckets != nil && halves[1].buckets != nil
	divide := func(tag, id uint32) bool { return x.putHalf(&halves[tag>>bit&1], tag, id) }
	ok = ok && each(old, segBuckets, divide)
	for i := range chain {
		ok = ok && each(chain[i].buckets, segBuckets, divide)
	}
	if !ok {
		x.drop(halves[0])
		x.drop(halves[1])
	}
	return halves, ok
}

// putHalf adds an entry to a half. Only what is full-grown can have a chain.
func (x *Index) putHalf(h *half, tag, id uint32) bool {
	if h.used < x.maxLoad() && x.put(h.buckets, 0, tag, id) {
		h.used++
		return true
	}
	for i := range h.chain {
		if o := &h.chain[i]; o.used < x.maxLoad() && x.put(o.buckets, o.level, tag, id) {
			o.used++
			return true
		}
	}
	if x.mask < segBuckets-1 {
		return false
	}
	o, ok := x.following(h.chain)
	if ok {
		x.put(o.buckets, o.level, tag, id)
		o.used = 1
		h.chain = append(h.chain, o)
	}
	return ok
}

// following returns a new overflow segment for a chain, if that may have another.
func (x *Index) following(chain []overflow) (o overflow, ok bool) {
	if len(chain) == maxChain {
		return o, false
	}
	if o.level = 1; len(chain) > 0 {
		o.level = chain[len(chain)-1].level + 1
	}
	o.buckets = (*Bucket)(x.mem.Chunk(slab.ChunkSize))
	return o, o.buckets != nil
}

// lengthen adds an entry in a new segment behind that of its tag.
func (x *Index) lengthen(tag, id uint32) bool {
	seg := x.dir[uint64(tag)>>x.shift]
	o, ok := x.following(x.chains[seg])
	if !ok {
		return false
	}
	x.put(o.buckets, o.level, tag, id)
	o.used = 1
	x.setChain(seg, append(x.chains[seg], o))
	x.used++
	return true
}

// setChain sets what is behind a segment.
func (x *Index) setChain(seg *Bucket, chain []overflow) {
	switch {
	case len(chain) > 0:
		if x.chains == nil {
			x.chains = map[*Bucket][]overflow{}
		}
		x.chains[seg] = chain
	case x.chains != nil:
		if delete(x.chains, seg); len(x.chains) == 0 {
			x.chains = nil
		}
	}
}

// drop frees a segment, which may be nil, and what is behind it.
func (x *Index) drop(h half) {
	if h.buckets != nil {
		x.mem.FreeChunk(unsafe.Pointer(h.buckets), int(x.mask+1)*bucketBytes)
	}
	for _, o := range h.chain {
		x.mem.FreeChunk(unsafe.Pointer(o.buckets), slab.ChunkSize)
	}
}

// double doubles the directory.
func (x *Index) double() {
	dir, meta := make([]*Bucket, 2*len(x.dir)), make([]segMeta, 2*len(x.meta))
	for i := range x.dir {
		dir[2*i], dir[2*i+1] = x.dir[i], x.dir[i]
		meta[2*i], meta[2*i+1] = x.meta[i], x.meta[i]
	}
	x.dir, x.meta, x.deepest = dir, meta, 2
	x.shift--
}

// mergeStep is after how many removals a sparse segment is compared with its
// neighbour.
const mergeStep = 64

// merge joins the segment that begins at directory entry first with the one that it
// was split from, if both are so sparse that it will not be split soon again, and reports
// whether it has. Cost: 40 microseconds, once in thousands of removals.
func (x *Index) merge(first uint64) bool {
	depth := 32 - x.shift
	m := x.meta[first]
	if m.depth == 0 {
		return false
	}
	n := uint64(1) << (depth - m.depth)
	low := first &^ n
	a, b := x.meta[low], x.meta[low|n]
	to, from := x.dir[low], x.dir[low|n]
	if a.depth != b.depth || a.used+b.used > segSlots/4 || x.chains[to] != nil || x.chains[from] != nil {
		return false
	}
	if !each(from, segBuckets, func(tag, id uint32) bool { return x.put(to, 0, tag, id) }) {
		each(from, segBuckets, func(tag, id uint32) bool { x.take(to, 0, tag, id); return true })
		return false
	}
	x.drop(half{buckets: from})
	for i := range 2 * n {
		x.dir[low+i], x.meta[low+i] = to, segMeta{depth: m.depth - 1, used: a.used + b.used}
	}
	x.segments--
	if m.depth == depth {
		x.deepest -= 2
		x.halveDirectory()
	}
	return true
}

// halveDirectory is the inverse of double, as often as no segment needs its depth.
func (x *Index) halveDirectory() {
	for x.deepest == 0 {
		dir, meta := make([]*Bucket, len(x.dir)/2), make([]segMeta, len(x.dir)/2)
		for i := range dir {
			dir[i], meta[i] = x.dir[2*i], x.meta[2*i]
		}
		x.dir, x.meta = dir, meta
		x.shift++
		for at := uint64(0); at < uint64(len(meta)); at += 1 << (32 - x.shift - meta[at].depth) {
			if meta[at].depth == 32-x.shift {
				x.deepest++
			}
		}
	}
}
