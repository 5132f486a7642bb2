package flow

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// spread is a set of timeouts that lie on the seams of the wheel's levels.
var spread = Timeouts{
	TCPOpening: 1 * Tick, TCPEstablished: 255 * Tick, TCPHalfClosed: 256 * Tick, TCPClosing: 257 * Tick,
	TCPTimeWait: 5 * time.Second, TCPReset: 65536 * Tick, TCPResetSent: 65791 * Tick,
	UDP: 1<<24*Tick - Tick, UDPReplied: 1<<24*Tick + Tick, ICMP: 20 * 24 * time.Hour,
}

// newTable returns a table that is closed when the test ends.
func newTable(t testing.TB, c Config) *Table {
	table, err := NewTable(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// twin drives a shard and its dull twin, Go maps that are searched from end to
// end, with the same operations. Times are ticks.
type twin struct {
	testing.TB
	*Shard
	table    *Table
	timeouts [NumClasses]uint32

	sessions        map[ID]*record
	inside, outside map[any]ID // by Key or Key6
	now             uint64
	reached         uint64 // by Expire
	expired         int
}

// record is what the model knows of a session.
type record struct {
	inside, outside any
	class           Class
	last            uint64
	extra           []uint64 // hashes of further index entries
}

func newTwin(t testing.TB, start uint64) *twin {
	table := newTable(t, Config{Shards: 1, Timeouts: spread, Seed: 1})
	return &twin{
		TB: t, table: table, Shard: table.Shard(0), timeouts: spread.ticks(),
		sessions: map[ID]*record{}, inside: map[any]ID{}, outside: map[any]ID{}, now: start,
	}
}

func (w *twin) time() Time { return Time(w.now) * Time(Tick) }

// deadline is when a session expires, if nothing happens.
func (w *twin) deadline(r *record) uint64 {
	return max(r.last+uint64(w.timeouts[r.class]), w.reached)
}

// insert inserts a session, unless one of its keys is in use.
func (w *twin) insert(inside, outside any, class Class) {
	if w.inside[inside] != 0 || w.outside[outside] != 0 {
		return
	}
	if len(w.sessions) == 0 {
		w.reached = max(w.reached, w.now) // nothing can expire before it has begun
	}
	var id ID
	var s *Session
	switch k := inside.(type) {
	case Key:
		id, s = w.New(false)
		s.Key, s.Outside, s.OutsidePort = k, outside.(Key).Dst, outside.(Key).DstPort
	case Key6:
		id, s = w.New(true)
		s.Key = Key{SrcPort: k.SrcPort, DstPort: k.DstPort, VNIProto: k.VNIProto}
		s.OutsidePort = outside.(Key6).DstPort
		*s.Addrs6() = Addrs6{Inside: k.Src, Remote: k.Dst, Outside: outside.(Key6).Dst}
	}
	s.Track.Class = class
	if w.sessions[id] != nil {
		w.Fatalf("ID %#x is in use and handed out again", id)
	}
	w.Insert(id, s, w.time())
	w.sessions[id] = &record{inside: inside, outside: outside, class: class, last: w.now}
	w.inside[inside], w.outside[outside] = id, id
}

func (w *twin) hash(k any) uint64 {
	switch k := k.(type) {
	case Key:
		return w.table.Hasher().Hash(&k)
	case Key6:
		return w.table.Hasher().Hash6(&k)
	}
	panic("neither Key nor Key6")
}

// find compares what both find under the keys of a would-be session, and
// returns the session on which the inside sends.
func (w *twin) find(inside, outside any) ID {
	w.Helper()
	var in, out ID
	switch k := inside.(type) {
	case Key:
		o := outside.(Key)
		in, out = w.LookupInside(&k, w.hash(k)), w.LookupOutside(&o, w.hash(o))
	case Key6:
		o := outside.(Key6)
		in, out = w.LookupInside6(&k, w.hash(k)), w.LookupOutside6(&o, w.hash(o))
	}
	if in != w.inside[inside] || out != w.outside[outside] {
		w.Fatalf("found %#x by %v and %#x by %v, want %#x and %#x", in, inside, out, outside, w.inside[inside], w.outside[outside])
	}
	return in
}

// touch is a packet. Where time has gone back the timer would fire too late.
func (w *twin) touch(id ID) {
	s, r := w.At(id), w.sessions[id]
	s.Touch(w.time())
	if w.now < r.last {
		w.Rearm(id, s)
	}
	r.last = w.now
}

// reclass gives a session another class, as a packet without effect on the
// idle timer may do.
func (w *twin) reclass(id ID, class Class) {
	s := w.At(id)
	s.Track.Class = class
	w.sessions[id].class = class
	w.Rearm(id, s)
}

func (w *twin) addExtra(id ID, hash uint64) {
	w.IndexExtra(hash, id)
	w.sessions[id].extra = append(w.sessions[id].extra, hash)
}

func (w *twin) remove(id ID) {
	r := w.sessions[id]
	for _, hash := range r.extra {
		w.UnindexExtra(hash, id)
	}
	w.Remove(id, w.At(id))
	w.forget(id)
}

func (w *twin) forget(id ID) {
	delete(w.inside, w.sessions[id].inside)
	delete(w.outside, w.sessions[id].outside)
	delete(w.sessions, id)
}

// expire calls Expire once. What it returns must be due, and nothing may be due
// earlier. One in eight sessions gets a second life.
func (w *twin) expire() (more bool) {
	w.Helper()
	ids, at, more := w.Expire(w.time())
	if tick := tickOf(at); tick < w.reached || tick > max(w.now, w.reached) {
		w.Fatalf("Expire went to %v from %v ticks, now is %v", tick, w.reached, w.now)
	}
	earliest, any := w.earliest()
	if len(ids) > 0 && (!any || earliest != tickOf(at)) {
		w.Fatalf("sessions expire at tick %d, the first is due at %d", tickOf(at), earliest)
	}
	for _, id := range slices.Clone(ids) {
		r := w.sessions[id]
		if r == nil || w.deadline(r) != tickOf(at) {
			w.Fatalf("session %#x expires at tick %d: %+v", id, tickOf(at), r)
		}
		if w.expired++; w.expired%8 == 0 {
			s := w.At(id)
			now := min(w.now, tickOf(at)+maxLag) // the farthest that is Near
			s.Touch(tick(now))
			r.last = now
			w.Rearm(id, s)
			continue
		}
		w.remove(id)
	}
	w.reached = tickOf(at)
	if earliest, any := w.earliest(); !more && any && earliest <= w.now {
		w.Fatalf("Expire stopped at tick %d, a session was due at %d", w.now, earliest)
	}
	return more
}

// earliest returns the first deadline of all.
func (w *twin) earliest() (tick uint64, any bool) {
	for _, r := range w.sessions {
		if d := w.deadline(r); !any || d < tick {
			tick, any = d, true
		}
	}
	return tick, any
}

// advance moves the clock. When Expire has fallen back too far it catches up.
func (w *twin) advance(ticks uint64) {
	w.now += ticks
	for !w.Near(w.time()) {
		w.expire()
	}
}

// goBack moves the clock back, as far as that is Near at most.
func (w *twin) goBack(ticks uint64) {
	w.now = max(w.now-min(w.now, ticks), w.reached-min(w.reached, maxLag))
}

// compare compares everything that can be observed.
func (w *twin) compare() {
	w.Helper()
	w.checker.check(w.Shard)
	if w.Len() != len(w.sessions) {
		w.Fatalf("Len %d, want %d", w.Len(), len(w.sessions))
	}
	entries := 2 * len(w.sessions)
	for _, r := range w.sessions {
		entries += len(r.extra)
	}
	if w.index.Len() != entries {
		w.Fatalf("%d index entries, want %d", w.index.Len(), entries)
	}
	first, any := w.earliest()
	if at, ok := w.NextDeadline(); ok != any || any && (tickOf(at) > first || tickOf(at) < w.reached || first < w.reached+256 && tickOf(at) != first) {
		w.Fatalf("NextDeadline %v %v, Expire has reached tick %d, the first session is due at tick %d, any %v", at, ok, w.reached, first, any)
	}
	var ids []ID
	for after, page := ID(0), make([]ID, 0, 7); ; after = page[len(page)-1] {
		if page = w.IDs(page[:0], after); len(page) == 0 {
			break
		}
		ids = append(ids, page...)
	}
	slices.Sort(ids)
	if want := slices.Sorted(maps.Keys(w.sessions)); !slices.Equal(ids, want) {
		w.Fatalf("IDs %x, want %x", ids, want)
	}
	for id, r := range w.sessions {
		s := w.At(id)
		if w.find(r.inside, r.outside) != id {
			w.Fatalf("session %#x is not found by %v", id, r.inside)
		}
		due := w.now >= r.last+uint64(w.timeouts[r.class]) // never at a time before the last activity
		if got := w.Expired(s, TickOf(w.time())); got != due {
			w.Fatalf("session %#x, last %d, class %v: Expired %v at %d", id, r.last, r.class, got, w.now)
		}
		if got := tickOf(w.Deadline(s)); got != w.deadline(r) {
			w.Fatalf("session %#x, last %d, class %v: Deadline %d, want %d", id, r.last, r.class, got, w.deadline(r))
		}
		for _, hash := range r.extra {
			c, found := w.Candidates(hash), false
			for cand := c.Next(); cand != 0; cand = c.Next() {
				found = found || cand == id
			}
			if !found {
				w.Fatalf("session %#x is no candidate for %#x", id, hash)
			}
		}
	}
}

// keysOf makes the two keys of a session from two bytes. The spaces are small,
// so that scripts meet what they have made. Half of the sessions are translated
// to one address, and a quarter differs from another in the inside realm only.
func keysOf(a, b byte) (inside, outside any) {
	k := Key{
		Src: 0x0a000000 | uint32(a&7), Dst: 0xcb007100 | uint32(b&3),
		SrcPort: 1000 + uint16(a>>3&7), DstPort: 80, VNIProto: uint32(b>>2&1)<<8 | protoTCP,
	}
	if b&8 != 0 {
		k.VNIProto = k.VNIProto&^0xff | 17
	}
	o := Key{Src: k.Dst, Dst: k.Src, SrcPort: k.DstPort, DstPort: k.SrcPort, VNIProto: uint32(k.Proto())}
	if b&16 != 0 {
		o.Dst, o.DstPort = 0x14320101, 1024+uint16(a>>5)+uint16(b>>5)
	}
	if a>>6&1 != 0 {
		return mapped(k), mapped(o)
	}
	return k, o
}

// mapped makes an IPv6 key with the numbers of k.
func mapped(k Key) Key6 {
	addr := func(a uint32) [2]uint64 { return [2]uint64{0x20010db8<<32 | uint64(a)>>8, uint64(a)} }
	return Key6{Src: addr(k.Src), Dst: addr(k.Dst), SrcPort: k.SrcPort, DstPort: k.DstPort, VNIProto: k.VNIProto}
}

// fork goes on with a copy, and the original is gone. It has to be as it was until then.
func (w *twin) fork() {
	w.Helper()
	w.Lock()
	table, err := w.table.Fork(nil, nil)
	w.Unlock()
	if err != nil {
		w.Fatal(err)
	}
	w.compare()
	w.table.Close()
	w.Cleanup(table.Close)
	w.table, w.Shard = table, table.Shard(0)
}

// run executes a script of 4-byte operations.
func (w *twin) run(script []byte) {
	for ; len(script) >= 4; script = script[4:] {
		op, a, b, c := script[0]%16, script[1], script[2], script[3]
		inside, outside := keysOf(a, b)
		class := 1 + Class(c)%(numBuiltinClasses-1)
		id := w.find(inside, outside)
		switch {
		case op < 5:
			w.insert(inside, outside, class)
		case op < 9 && id == 0: // what follows needs a session
		case op == 5:
			w.touch(id)
		case op == 6:
			w.reclass(id, class)
		case op == 7:
			w.remove(id)
		case op == 8:
			w.addExtra(id, uint64(a)<<32|uint64(b)<<40)
		case op == 9 && a > 0xc0: // back, up to 25 days
			w.goBack(uint64(c) << (b % 24))
		case op == 9: // just a little
			w.advance(uint64(a & 3))
		case op < 12: // up to 65 s, mostly less
			w.advance(uint64(a) << (b % 9))
		case op == 12: // up to 198 days
			w.advance(uint64(a) << (b % 27))
		case op == 13:
			w.expire()
		case op == 14:
			for w.expire() {
			}
		case op == 15: // to the next moment that matters
			if at, ok := w.NextDeadline(); ok {
				w.advance(tickOf(at) - min(w.now, tickOf(at)))
				w.expire()
			}
		}
		w.find(inside, outside)
	}
	w.compare()
	w.fork()
	w.compare()
	for len(w.sessions) > 0 {
		at, ok := w.NextDeadline()
		if !ok {
			w.Fatalf("no deadline for %d sessions", len(w.sessions))
		}
		w.expired = 0 // no second lives
		w.advance(tickOf(at) - min(w.now, tickOf(at)))
		w.expire()
	}
	w.compare()
}

// starts are the times at which scripts begin, in ticks: the middle two cross
// the point where 32 bits of ticks are spent, after 49.7 days.
var starts = []uint64{0, 1<<32 - 70_000, 1<<32 - 1, 1_800_000_000_000}

func TestModel(t *testing.T) {
	for i, start := range starts {
		for seed := range uint64(8) {
			t.Logf("start %d, seed %d", start, seed)
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			w := newTwin(t, start)
			script := make([]byte, 4*40)
			for range pkttest.Operations(15, 60, 600) {
				for i := range script {
					script[i] = byte(rng.Uint32())
				}
				w.run(script)
				w.fork()
			}
		}
	}
}

// FuzzTable runs a script against the model; the first byte chooses the start. The
// fuzzer chooses a few bytes, a seed the rest: the fuzzer takes as many attempts as
// the square of the length of what it chooses to shorten what reaches something new.
func FuzzTable(f *testing.F) {
	const chosenBytes, more = 1 + 4*5, 4 * 40
	f.Add([]byte{1, 0, 1, 16, 0, 0, 65, 24, 9, 8, 1, 1, 1, 10, 200, 8, 0, 14, 0, 0, 0}, uint64(0))
	for seed := range uint64(8) {
		f.Add([]byte{byte(seed)}, seed)
	}
	f.Fuzz(func(t *testing.T, chosen []byte, seed uint64) {
		if len(chosen) == 0 || len(chosen) > chosenBytes {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 3))
		script := append([]byte{}, chosen[1:]...)
		for range more {
			script = append(script, byte(rng.Uint32()))
		}
		newTwin(t, starts[int(chosen[0])%len(starts)]).run(script)
	})
}
