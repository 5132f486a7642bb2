package index

import (
	"slices"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// ForkTo makes to, for which Init must not have been called, a copy of x in mem: it finds
// the same and grows alike. It reports whether there was memory: if not, to is of no use.
// x must not change meanwhile. Cost: that of copying its segments.
func (x *Index) ForkTo(to *Index, mem *slab.Memory) bool {
	to.Init(mem)
	if x.segments == 0 {
		return true
	}
	bytes, ok := int(x.mask+1)*bucketBytes, true
	segment := func(from *Bucket, size int) *Bucket {
		p := (*Bucket)(mem.CopyChunk(unsafe.Pointer(from), size, size))
		ok = ok && p != nil
		return p
	}
	dir, chains := make([]*Bucket, len(x.dir)), map[*Bucket][]overflow(nil)
	for at := 0; at < len(dir) && ok; {
		seg := segment(x.dir[at], bytes)
		if chain := x.chains[x.dir[at]]; chain != nil {
			chain = slices.Clone(chain)
			for i := range chain {
				chain[i].buckets = segment(chain[i].buckets, slab.ChunkSize)
			}
			if chains == nil {
				chains = map[*Bucket][]overflow{}
			}
			chains[seg] = chain
		}
		for end := at + 1<<(32-x.shift-x.meta[at].depth); at < end; at++ {
			dir[at] = seg
		}
	}
	if !ok {
		return false
	}
	*to = Index{
		mem: mem, dir: dir, meta: slices.Clone(x.meta), mask: x.mask, early: x.early, shift: x.shift,
		used: x.used, last: x.last,
		segments: x.segments, deepest: x.deepest, chains: chains,
	}
	return true
}
