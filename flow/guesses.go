package flow

import (
	"math/bits"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// MaxGuesses is how many packets [Guesses] takes at once. More, and what is known of
// them no longer fits into the first-level cache.
const MaxGuesses = 64

// Guesses names the sessions that many packets probably belong to. It hides the
// cache misses of one packet behind those of the others: it prefetches the index
// buckets of all, then reads them, then prefetches the records they name.
//
// Add the packets first, then call Look, then read At. All of that needs the locks of
// all the shards that are involved, and nothing may be inserted between Add and Look.
// A Guesses may be used again and again. It holds no state of a table, only scratch
// memory; the zero value is ready.
type Guesses struct {
	n      int
	tags   [MaxGuesses]uint32
	ids    [MaxGuesses]ID
	shards [MaxGuesses]*Shard
	lines  [MaxGuesses]unsafe.Pointer // buckets, after Look records
	second [MaxGuesses]unsafe.Pointer // second buckets, later second lines of IPv6 records
	full   [MaxGuesses]uint8          // packets whose first bucket is full of others
}

// Reset forgets all packets.
func (g *Guesses) Reset() { g.n = 0 }

// Add adds a packet whose key has a hash and whose session can only be in sh. It
// panics if there are more than MaxGuesses.
func (g *Guesses) Add(sh *Shard, hash uint64) {
	tag := index.Tag(hash)
	g.tags[g.n], g.shards[g.n], g.lines[g.n] = tag, sh, unsafe.Pointer(sh.index.Home(tag))
	g.n++
}

// Prefetch prefetches the index buckets of all packets, and no more: for sessions that are
// looked up later, or inserted. It needs the locks, as Look does.
func (g *Guesses) Prefetch() { slab.PrefetchEach(g.lines[:g.n]) }

// Look makes a guess for every packet added. It reads one bucket for each, and a second one
// where the first is full of others: where an ordinary look-up would go on it gives up.
func (g *Guesses) Look() {
	n := g.n
	lines, ids, shards := g.lines[:n], g.ids[:n], g.shards[:n]
	slab.PrefetchEach(lines)
	index.Hints(lines, g.tags[:n], unsafe.Slice((*uint32)(unsafe.SliceData(ids)), n))
	var all ID
	full := 0
	for i, id := range ids {
		if id == 0 && (*index.Bucket)(lines[i]).Full() {
			g.second[full&(MaxGuesses-1)] = unsafe.Pointer(shards[i].index.Second(g.tags[i]))
			g.full[full&(MaxGuesses-1)] = uint8(i)
			full++
		}
		all |= id
		lines[i] = unsafe.Pointer(shards[i].At(id)) // ID 0 names a record too, one that is never in use
	}
	if full > 0 {
		all |= g.lookOn(full)
	}
	slab.PrefetchEach(lines)
	if all.Is6() {
		k := 0
		for i, id := range ids {
			if id.Is6() {
				g.second[k] = unsafe.Pointer((*Session)(lines[i]).Addrs6())
				k++
			}
		}
		slab.PrefetchEach(g.second[:k])
	}
}

// lookOn reads the second buckets, and returns what it has found as one.
func (g *Guesses) lookOn(n int) (all ID) {
	slab.PrefetchEach(g.second[:n])
	for k, i := range g.full[:n] {
		b := (*index.Bucket)(g.second[k])
		if m := b.Match(g.tags[i]); m != 0 {
			g.ids[i] = ID(b.ID(bits.TrailingZeros32(m)))
			all |= g.ids[i]
			g.lines[i] = unsafe.Pointer(g.shards[i].At(g.ids[i]))
		}
	}
	return all
}

// At returns the guess for the packet that was added as the i-th, counted from 0. A
// wrong guess is possible, and so is a session that has been removed since: compare
// its key. Where there is none it returns 0 and a record that matches no key; that is
// no answer either, only a look-up gives one.
func (g *Guesses) At(i int) (ID, *Session) { return g.ids[i], (*Session)(g.lines[i]) }
