package index

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
)

// newIndex returns an empty index whose memory ends with the test.
func newIndex(t testing.TB) *Index {
	mem := new(slab.Memory)
	t.Cleanup(mem.Release)
	x := new(Index)
	x.Init(mem)
	return x
}

// all returns the candidates for tag in ascending order.
func (x *Index) all(tag uint32) (ids []uint32) {
	for p := x.Probe(tag); ; {
		id := p.Next()
		if id == 0 {
			slices.Sort(ids)
			return ids
		}
		ids = append(ids, id)
	}
}

// hint asks Hints about one tag.
func (x *Index) hint(tag uint32) uint32 {
	ids := [1]uint32{1<<32 - 1}
	Hints([]unsafe.Pointer{unsafe.Pointer(x.Home(tag))}, []uint32{tag}, ids[:])
	return ids[0]
}

// check returns what is wrong with the structure of x, or nil. It visits every
// slot.
func (x *Index) check() error {
	depth := 32 - x.shift
	if x.segments == 0 {
		if &x.dir[0] != &noSegment[0] || x.used != 0 || depth != 0 || none.Bucket != (Bucket{}) || x.mem.Bytes() != 0 {
			return fmt.Errorf("an empty index of depth %d with %d entries in %d bytes", depth, x.used, x.mem.Bytes())
		}
		return nil
	}
	if len(x.dir) != 1<<depth || len(x.meta) != len(x.dir) {
		return fmt.Errorf("directory of %d and %d entries at depth %d", len(x.dir), len(x.meta), depth)
	}
	if len(x.dir) > 8*x.segments {
		return fmt.Errorf("directory of %d entries for %d segments", len(x.dir), x.segments)
	}
	entries, segments, deepest, behind, chains := 0, 0, 0, 0, 0
	for first := 0; first < len(x.dir); segments++ {
		seg, m := x.dir[first], x.meta[first]
		if m.depth > depth {
			return fmt.Errorf("segment at %#x has depth %d, the directory %d", first, m.depth, depth)
		}
		if m.depth == depth {
			deepest++
		}
		run := 1 << (depth - m.depth)
		if first%run != 0 {
			return fmt.Errorf("segment of depth %d begins at %#x", m.depth, first)
		}
		for at := first; at < first+run; at++ {
			if x.dir[at] != seg || x.meta[at].depth != m.depth || x.run(uint64(at)) != uint64(first) {
				return fmt.Errorf("entry %#x does not belong to the segment at %#x", at, first)
			}
		}
		chain, level := x.chains[seg], uint32(0)
		if chain != nil {
			chains++
		}
		for i, o := range append([]overflow{{seg, 0, m.used}}, chain...) {
			if i > 0 && o.level <= level || i > 0 && o.used == 0 {
				return fmt.Errorf("segment %d behind %#x has level %d and %d entries", i, first, o.level, o.used)
			}
			level = o.level
			used := 0
			for pos := range x.mask + 1 {
				n, err := x.checkBucket(seg, o, pos)
				if err != nil {
					return fmt.Errorf("segment %d at %#x, bucket %d: %w", i, first, pos, err)
				}
				used += n
			}
			if used != int(o.used) || used > int(x.maxLoad()) {
				return fmt.Errorf("segment %d at %#x holds %d entries, counted %d, limit %d", i, first, used, o.used, x.maxLoad())
			}
			entries += used
		}
		behind += len(chain)
		first += run
	}
	if entries != x.used || x.Len() != x.used {
		return fmt.Errorf("%d entries, counted %d", entries, x.used)
	}
	if segments != x.segments || deepest != x.deepest || chains != len(x.chains) || x.Overflown() != (chains > 0) || behind > maxChain*segments {
		return fmt.Errorf("%d segments, counted %d; %d of the greatest depth, counted %d; %d of %d chains with %d segments",
			segments, x.segments, deepest, x.deepest, chains, len(x.chains), behind)
	}
	if got, want := x.mem.Bytes(), (segments+behind)*int(x.mask+1)*bucketBytes; got != want {
		return fmt.Errorf("%d bytes for %d and %d segments, want %d", got, segments, behind, want)
	}
	return nil
}

// checkBucket checks the slots of one bucket of a segment, or of one behind it, and
// counts those in use.
func (x *Index) checkBucket(seg *Bucket, o overflow, pos uint32) (used int, err error) {
	b := bucketAt(o.buckets, pos)
	for j, id := range b.id {
		tag := b.tag[j]
		if id == 0 {
			if tag != 0 {
				return 0, fmt.Errorf("slot %d is free with tag %#x", j, tag)
			}
			continue
		}
		if used++; used != j+1 {
			return 0, fmt.Errorf("slot %d is in use behind a free one", j)
		}
		if x.dir[uint64(tag)>>x.shift] != seg {
			return 0, fmt.Errorf("tag %#x lies in the wrong segment", tag)
		}
		home := homeAt(tag, o.level, x.mask)
		if (pos-home)&x.mask >= maxProbe {
			return 0, fmt.Errorf("tag %#x is %d buckets from home", tag, (pos-home)&x.mask)
		}
		for at := home; at != pos; at = (at + 1) & x.mask {
			if !bucketAt(o.buckets, at).Full() {
				return 0, fmt.Errorf("tag %#x is unreachable: bucket %d has room", tag, at)
			}
		}
	}
	return used, nil
}

func TestTag(t *testing.T) {
	assert.Equal(t, uint32(0x12345678), Tag(0x12345678_9abcdef0))
	assert.Equal(t, uint32(1), Tag(0xffffffff), "0 would match free slots")
}

func TestEmpty(t *testing.T) {
	x := newIndex(t)
	require.NoError(t, x.check())
	for _, tag := range []uint32{1, 1023, 1024, 1 << 31, 1<<32 - 1} {
		assert.Empty(t, x.all(tag))
		assert.Zero(t, x.hint(tag))
	}
}

func TestHomeIsOneCacheLine(t *testing.T) {
	x := newIndex(t)
	for _, tag := range []uint32{1, 2, 1023, 1<<32 - 1} {
		x.Insert(tag, tag)
		assert.Zero(t, uintptr(unsafe.Pointer(x.Home(tag)))%64)
		assert.Equal(t, tag, x.hint(tag))
	}
}

// TestHintLooksAtHomeOnly fills a bucket so that the last entry lies next door.
func TestHintLooksAtHomeOnly(t *testing.T) {
	x := newIndex(t)
	for i := uint32(1); i <= slotsPerBucket; i++ {
		x.Insert(5, i)
	}
	x.Insert(1<<20|5, 100)
	assert.Zero(t, x.hint(1<<20|5))
	assert.Equal(t, []uint32{100}, x.all(1<<20|5))
	assert.Contains(t, []uint32{1, 2, 3, 4, 5, 6, 7, 8}, x.hint(5))
}

// TestHints compares batches of all lengths with a scan of the slots.
func TestHints(t *testing.T) {
	x := newIndex(t)
	tag := func(i uint32) uint32 { return max(i*0x9e3779b1, 1) }
	for i := range uint32(12_000) {
		x.Insert(tag(i), 1<<32-1-i) // IDs with all bits in use
	}
	for n := range 70 {
		homes, tags, ids := make([]unsafe.Pointer, n), make([]uint32, n), make([]uint32, n+1)
		for i := range n {
			tags[i] = tag(uint32(i%2*20_000 + i*100)) // every other one is not there
			homes[i], ids[i] = unsafe.Pointer(x.Home(tags[i])), 7
		}
		ids[n] = 42
		Hints(homes, tags, ids[:n])
		for i, tag := range tags {
			b := (*Bucket)(homes[i])
			want := uint32(0)
			if j := slices.Index(b.tag[:], tag); j >= 0 {
				want = b.id[j]
			}
			require.Equal(t, want, ids[i], "%d of %d, tag %#x", i, n, tag)
		}
		assert.Equal(t, uint32(42), ids[n], "written past the end")
	}
	for slot := range slotsPerBucket {
		b := Bucket{id: [8]uint32{11, 12, 13, 14, 15, 16, 17, 18}}
		b.tag[slot] = 0xffff0000
		var id [1]uint32
		Hints([]unsafe.Pointer{unsafe.Pointer(&b)}, []uint32{0xffff0000}, id[:])
		assert.Equal(t, uint32(11+slot), id[0])
		Hints([]unsafe.Pointer{unsafe.Pointer(&b)}, []uint32{0xffff}, id[:])
		assert.Zero(t, id[0])
	}
	assert.Panics(t, func() { Hints(make([]unsafe.Pointer, 2), make([]uint32, 2), make([]uint32, 1)) })
	assert.Panics(t, func() { Hints(make([]unsafe.Pointer, 2), make([]uint32, 1), make([]uint32, 2)) })
}

// TestRunAroundTheEnd builds a run of full buckets over the segment's end and
// takes it apart in several orders: every removal has to pull entries back
// across the end.
func TestRunAroundTheEnd(t *testing.T) {
	const n = 24 * slotsPerBucket
	homes := []uint32{1019, 1020, 1023, 0, 3}
	for name, order := range map[string]func(i int) int{
		"first in first out": func(i int) int { return i },
		"last in first out":  func(i int) int { return n - 1 - i },
		"scattered":          func(i int) int { return i * 37 % n },
	} {
		t.Run(name, func(t *testing.T) {
			x := newIndex(t)
			tag := func(i int) uint32 { return 1<<20 | uint32(i)<<10&0xfc00 | homes[i%len(homes)] }
			for i := range n {
				x.Insert(tag(i), uint32(i+1))
			}
			require.NoError(t, x.check())
			require.True(t, bucketAt(x.dir[0], x.mask).Full() && x.dir[0].Full(), "the run goes around the end")
			gone := map[int]bool{}
			for i := range n {
				i = order(i)
				x.Remove(tag(i), uint32(i+1))
				gone[i] = true
				require.NoError(t, x.check())
				for j := range n {
					require.Equal(t, !gone[j], slices.Contains(x.all(tag(j)), uint32(j+1)), "entry %d after removal of %d", j, i)
				}
			}
			assert.Zero(t, x.Len())
		})
	}
}

// TestLongestProbe lets as many tags share a home as one segment takes on one probe
// path; the next ones go to a segment behind, where their homes differ.
func TestLongestProbe(t *testing.T) {
	x := newIndex(t)
	const home, path = 1000, maxProbe * slotsPerBucket // around the end
	for i := range uint32(path) {
		require.True(t, x.Insert(i<<10|home, i+1))
	}
	require.NoError(t, x.check())
	require.False(t, x.Overflown())
	assert.Equal(t, []uint32{path}, x.all((path-1)<<10|home))
	assert.Empty(t, x.all(path<<10|home))
	for i := uint32(path); i < 3*path; i++ {
		require.True(t, x.Insert(i<<10|home, i+1))
	}
	require.NoError(t, x.check())
	require.True(t, x.Overflown())
	assert.Len(t, x.chains[x.dir[0]], 1)
	for i := range uint32(3 * path) {
		require.Equal(t, []uint32{i + 1}, x.all(i<<10|home))
	}
	for i := range uint32(3 * path) {
		x.Remove(i<<10|home, i+1)
		if i%100 == 0 {
			require.NoError(t, x.check())
		}
	}
	require.NoError(t, x.check())
	require.False(t, x.Overflown())
}

// TestChosenTags holds memory, cost and the directory to their bounds under tags that
// somebody chose to collide.
func TestChosenTags(t *testing.T) {
	for _, c := range []struct {
		name     string
		tag      func(i uint32) uint32
		n, least int // entries tried, and those that must be taken
		segments int // at most, of all kinds
	}{
		{"equal", func(i uint32) uint32 { return 77 }, 20_000, 8192, 1 + maxChain},
		{"20 high bits agree", func(i uint32) uint32 { return 0x77700000 | i&0xfff }, 100_000, 60_000, 1 + maxChain},
		{"20 high bits agree, as many as made it panic", func(i uint32) uint32 { return 0x77700000 | i&0xfff }, 7169, 7169, 3},
		{"12 high bits agree", func(i uint32) uint32 { return 0x77700000 | i*0x9e3779b1>>12 }, 100_000, 100_000, 16},
		{"10 low bits agree", func(i uint32) uint32 { return i*0x9e3779b1&^1023 | 0x123 }, 100_000, 100_000, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newIndex(t)
			var taken []uint32
			for i := range uint32(c.n) {
				if x.Insert(max(c.tag(i), 1), i+1) {
					taken = append(taken, i)
				}
			}
			require.NoError(t, x.check())
			assert.GreaterOrEqual(t, len(taken), c.least)
			assert.LessOrEqual(t, x.mem.Bytes(), c.segments*slab.ChunkSize)
			assert.LessOrEqual(t, len(x.dir), 64)
			t.Logf("%d of %d taken in %d KiB, directory of %d", len(taken), c.n, x.mem.Bytes()>>10, len(x.dir))
			for k, i := range taken {
				if k%1000 == 0 {
					require.Contains(t, x.all(max(c.tag(i), 1)), i+1)
				}
				x.Remove(max(c.tag(i), 1), i+1)
			}
			assert.Zero(t, x.Len())
			require.NoError(t, x.check())
		})
	}
}

// TestShrinks takes a large index apart and holds it to giving memory and directory
// back.
func TestShrinks(t *testing.T) {
	x := newIndex(t)
	const n = 150_000
	tag := func(i uint32) uint32 { return max(i*0x9e3779b1, 1) }
	for round := range 2 {
		for i := range uint32(n) {
			require.True(t, x.Insert(tag(i), i+1))
		}
		require.NoError(t, x.check())
		require.Greater(t, x.mem.Bytes(), n*9)
		for i := range uint32(n) {
			x.Remove(tag(i), i+1)
			if left := n - 1 - i; i%50_000 == 0 {
				require.NoError(t, x.check(), "round %d", round)
				require.LessOrEqual(t, x.mem.Bytes(), int(left)*80+2*slab.ChunkSize, "%d entries left", left)
			}
		}
		require.NoError(t, x.check())
		assert.Equal(t, slab.ChunkSize, x.mem.Bytes())
		assert.Len(t, x.dir, 1)
	}
}

// TestSmall holds a new index to little memory.
func TestSmall(t *testing.T) {
	x := newIndex(t)
	for i, want := range []int{0: 0, 1: 256, 28: 256, 29: 1024, 112: 1024, 113: 4096, 448: 4096, 449: 16384, 1793: 65536} {
		if want == 0 && i > 0 {
			require.True(t, x.Insert(uint32(i)*0x9e3779b1, uint32(i)))
			continue
		}
		if i > 0 {
			require.True(t, x.Insert(uint32(i)*0x9e3779b1, uint32(i)))
		}
		assert.Equal(t, want, x.mem.Bytes(), "%d entries", i)
		require.NoError(t, x.check())
	}
}

// TestNoMemory refuses every piece of memory once and holds the index to be as it was.
func TestNoMemory(t *testing.T) {
	x := newIndex(t)
	refuse, refused := false, 0
	slab.Fault = func() bool { return refuse }
	defer func() { slab.Fault = nil }()
	for i := range uint32(60_000) {
		tag := max(i*0x9e3779b1, 1)
		if refuse = true; !x.Insert(tag, i+1) {
			refused++
			require.Equal(t, int(i), x.Len())
			require.NoError(t, x.check())
			require.Empty(t, x.all(tag))
			refuse = false
			require.True(t, x.Insert(tag, i+1))
		}
	}
	require.NoError(t, x.check())
	assert.Greater(t, refused, 3, "what has been made ready is not asked for")
}

// TestSplits grows one half of the tag space only, so that segments of many
// depths share a directory.
func TestSplits(t *testing.T) {
	x := newIndex(t)
	const n = 60_000
	tag := func(i uint32) uint32 {
		return max(i*0x9e3779b1&bits.RotateLeft32(i*0x85ebca6b, 16), 1) // of each bit 1/4: the smaller the tags, the denser
	}
	for i := range uint32(n) {
		x.Insert(tag(i), i+1)
		if i%10_000 == 0 {
			require.NoError(t, x.check())
		}
	}
	require.NoError(t, x.check())
	assert.Equal(t, n, x.Len())
	depths := map[uint8]bool{}
	for _, m := range x.meta {
		depths[m.depth] = true
	}
	assert.GreaterOrEqual(t, len(depths), 4, "depths %v", depths)
	for i := range uint32(n) {
		require.Contains(t, x.all(tag(i)), i+1)
	}
	for i := range uint32(n) {
		x.Remove(tag(i), i+1)
	}
	require.NoError(t, x.check())
	assert.Zero(t, x.Len())
}

// TestSplitsTakeTurns demands that no two of 256 entries meet a segment that is split, although
// all segments become full at about the same time, and that none becomes full.
func TestSplitsTakeTurns(t *testing.T) {
	x := newIndex(t)
	last := 0
	for i := range uint32(400_000) {
		segments, before := x.segments, x.used
		require.True(t, x.Insert(scattered(i), i+1))
		if x.mask < segBuckets-1 || x.segments == segments {
			continue
		}
		if last > 0 {
			require.GreaterOrEqual(t, before-last, splitPause, "segment %d", x.segments)
		}
		last = before
		for _, m := range x.meta {
			require.Less(t, m.used, x.maxLoad())
		}
	}
	require.NoError(t, x.check())
	assert.GreaterOrEqual(t, x.segments, 64)
}

// TestMergeFindsNoRoom removes what lies around two clusters that have room in a segment each,
// but not in one together.
func TestMergeFindsNoRoom(t *testing.T) {
	x := newIndex(t)
	const cluster, n = 400, 8000
	tag := func(i uint32) uint32 { return i&1<<31 | i<<10 }
	for i := uint32(2); i < 2+2*cluster; i++ {
		require.True(t, x.Insert(tag(i), i))
	}
	for i := uint32(1000); i < 1000+n; i++ {
		require.True(t, x.Insert(scattered(i), i))
	}
	require.Equal(t, 2, x.segments)
	for i := uint32(1000); i < 1000+n; i++ {
		x.Remove(scattered(i), i)
	}
	require.NoError(t, x.check())
	assert.Equal(t, 2, x.segments)
	for i := uint32(2); i < 2+2*cluster; i++ {
		require.Equal(t, []uint32{i}, x.all(tag(i)))
		x.Remove(tag(i), i)
	}
	require.NoError(t, x.check())
	assert.Equal(t, 1, x.segments)
}

// TestTwins allows one pair twice, as a key that is its own reverse has it.
func TestTwins(t *testing.T) {
	x := newIndex(t)
	x.Insert(9, 4)
	x.Insert(9, 4)
	assert.Equal(t, []uint32{4, 4}, x.all(9))
	x.Remove(9, 4)
	assert.Equal(t, []uint32{4}, x.all(9))
	x.Remove(9, 4)
	assert.Empty(t, x.all(9))
}

func TestPanics(t *testing.T) {
	t.Run("removing what is not there", func(t *testing.T) {
		x := newIndex(t)
		x.Insert(0x2a, 7)
		for _, c := range []struct{ tag, id uint32 }{{0x2a, 8}, {0x2b, 7}, {1<<10 | 0x2a, 7}} {
			assert.PanicsWithValue(t, fmt.Sprintf("index: ID %#x is not indexed under tag %#x", c.id, c.tag),
				func() { x.Remove(c.tag, c.id) })
		}
		require.NoError(t, x.check())
	})
}

// takeOut has a twin in Go for other architectures; this is what both promise.
func TestTakeOut(t *testing.T) {
	for n := range uint32(slotsPerBucket + 1) {
		for i := range uint32(slotsPerBucket) {
			var b Bucket
			for k := range n {
				b.tag[k], b.id[k] = 7+k%2, 1+k // tags that several have
			}
			was := b
			require.False(t, takeOut(&b, 99, 1+i), "another tag")
			require.False(t, takeOut(&b, 7+i%2, 99), "another ID")
			require.Equal(t, was, b)
			want := i < n && n < slotsPerBucket
			require.Equal(t, want, takeOut(&b, 7+i%2, 1+i), "%d of %d", i, n)
			if want {
				was.free(i)
			}
			require.Equal(t, was, b, "%d of %d", i, n)
		}
	}
}

// scattered is a tag that is as good as random, by number.
func scattered(i uint32) uint32 {
	r := splitmix.Source(i)
	return Tag(r.Uint64())
}
