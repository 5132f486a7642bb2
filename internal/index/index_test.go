package index

import (
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/slab"
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
	if len(x.dir) != 1<<depth || len(x.meta) != len(x.dir) {
		return fmt.Errorf("directory of %d and %d entries at depth %d", len(x.dir), len(x.meta), depth)
	}
	entries, segments := 0, 0
	for first := 0; first < len(x.dir); segments++ {
		seg, m := x.dir[first], x.meta[first]
		if m.depth > depth {
			return fmt.Errorf("segment at %#x has depth %d, the directory %d", first, m.depth, depth)
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
		used := 0
		for pos := range seg {
			n, err := x.checkBucket(seg, uint32(pos))
			if err != nil {
				return fmt.Errorf("segment at %#x, bucket %d: %w", first, pos, err)
			}
			used += n
		}
		if used != int(m.used) || used > maxLoad {
			return fmt.Errorf("segment at %#x holds %d entries, counted %d, limit %d", first, used, m.used, maxLoad)
		}
		entries += used
		first += run
	}
	if entries != x.used || x.Len() != x.used {
		return fmt.Errorf("%d entries, counted %d", entries, x.used)
	}
	if got, want := x.mem.Bytes(), segments*slab.ChunkSize; got != want {
		return fmt.Errorf("%d bytes for %d segments, want %d", got, segments, want)
	}
	return nil
}

// checkBucket checks the slots of one bucket and counts those in use.
func (x *Index) checkBucket(seg *segment, pos uint32) (used int, err error) {
	b := &seg[pos]
	for j, id := range b.id {
		tag := b.tag[j]
		if id == 0 {
			if tag != 0 {
				return 0, fmt.Errorf("slot %d is free with tag %#x", j, tag)
			}
			continue
		}
		used++
		if x.dir[uint64(tag)>>x.shift] != seg {
			return 0, fmt.Errorf("tag %#x lies in the wrong segment", tag)
		}
		for at := tag & bucketMask; at != pos; at = (at + 1) & bucketMask {
			if !seg[at].Full() {
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
		home := x.Home(tag)
		assert.Zero(t, uintptr(unsafe.Pointer(home))%64)
		x.Insert(tag, tag)
		assert.Equal(t, tag, x.hint(tag))
		assert.Same(t, home, x.Home(tag))
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
			tag := func(i int) uint32 { return uint32(i)<<10&0xfc00 | homes[i%len(homes)] }
			for i := range n {
				x.Insert(tag(i), uint32(i+1))
			}
			require.NoError(t, x.check())
			require.True(t, x.dir[0][1023].Full() && x.dir[0][0].Full(), "the run goes around the end")
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

// TestProbeGoesAllTheWayRound fills a segment to its limit from one home: the
// probe path is then as long as it can get, and ends.
func TestProbeGoesAllTheWayRound(t *testing.T) {
	x := newIndex(t)
	const home = 700
	for i := range uint32(maxLoad) {
		x.Insert(i<<10&0x7ffffc00|home, i+1)
	}
	require.NoError(t, x.check())
	require.Len(t, x.dir, 1)
	assert.Equal(t, []uint32{maxLoad}, x.all((maxLoad-1)<<10|home))
	assert.Empty(t, x.all(1<<31|home))

	// The longest path that no insertion can exceed: every bucket full.
	seg := new(segment)
	for i := range uint32(segSlots) {
		seg.put(home, i+1)
	}
	p := Probe{seg: seg, tag: home, pos: home, left: segBuckets - 1, hits: seg[home].Match(home)}
	n := 0
	for p.Next() != 0 {
		n++
	}
	assert.Equal(t, segSlots, n)
	assert.PanicsWithValue(t, "index: segment overflows", func() { seg.put(home, 1) })
	seg.clear(home, 3) // must end although no bucket has room
}

// TestSplits grows one half of the tag space only, so that segments of many
// depths share a directory.
func TestSplits(t *testing.T) {
	x := newIndex(t)
	const n = 60_000
	tag := func(i uint32) uint32 {
		z := i * 0x9e3779b1
		return max(z>>(z>>28), 1) // 1/16 each: the smaller the tags, the denser
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
	assert.GreaterOrEqual(t, len(depths), 5, "depths %v", depths)
	for i := range uint32(n) {
		require.Contains(t, x.all(tag(i)), i+1)
	}
	for i := range uint32(n) {
		x.Remove(tag(i), i+1)
	}
	require.NoError(t, x.check())
	assert.Zero(t, x.Len())
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
	t.Run("more equal tags than a segment takes", func(t *testing.T) {
		x := newIndex(t)
		for i := range uint32(maxLoad) {
			x.Insert(77, i+1)
		}
		assert.PanicsWithValue(t, fmt.Sprintf("index: directory exceeds 20 bits with %d entries", maxLoad),
			func() { x.Insert(77, maxLoad+1) })
	})
}
