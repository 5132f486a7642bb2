package flow

import (
	"testing"
	"time"
)

// TestNoAllocs pins the path of a packet, and what happens to a session once
// its shard has grown to size.
func TestNoAllocs(t *testing.T) {
	table := newTable(t, Config{Shards: 1})
	sh, h := table.Shard(0), table.Hasher()
	k := Key{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, VNIProto: protoTCP}
	k6 := mapped(k)
	for _, seg := range []Segment{tcp("S", 100, 0, 0), tcp("A", 101, 501, 0)} {
		table.Observe(0, k, &seg)
		table.Observe6(0, k6, &seg)
		table.Observe(0, k.Reverse(), new(tcp("SA", 500, 101, 0)))
		table.Observe6(0, k6.Reverse(), new(tcp("SA", 500, 101, 0)))
	}
	out, out6 := k.Reverse(), k6.Reverse()
	hash, hashOut, hash6, hashOut6 := h.Hash(&k), h.Hash(&out), h.Hash6(&k6), h.Hash6(&out6)
	id, id6 := sh.LookupInside(&k, hash), sh.LookupInside6(&k6, hash6)
	s, data := sh.At(id), tcp("A", 101, 501, 100)
	now := Time(0)
	guesses := new(Guesses)
	names := make([]ID, 0, 8)
	for name, f := range map[string]func() bool{
		"LookupInside":   func() bool { return sh.LookupInside(&k, hash) == id },
		"LookupOutside":  func() bool { return sh.LookupOutside(&out, hashOut) == id },
		"LookupInside6":  func() bool { return sh.LookupInside6(&k6, hash6) == id6 },
		"LookupOutside6": func() bool { return sh.LookupOutside6(&out6, hashOut6) == id6 },
		"Guesses": func() bool {
			guesses.Reset()
			guesses.Add(sh, hash)
			guesses.Add(sh, hash6)
			guesses.Look()
			first, s4 := guesses.At(0)
			second, s6 := guesses.At(1)
			return first == id && s4 == s && second == id6 && s6 == sh.At(id6)
		},
		"Update, Touch, Expired": func() bool {
			now += Time(Tick)
			effect := s.Track.Update(Inside, &data)
			s.Touch(now)
			return effect == Touch && !sh.Expired(s, TickOf(now))
		},
		"Rearm, NextDeadline": func() bool {
			sh.Rearm(id, s)
			_, ok := sh.NextDeadline()
			return ok && sh.Deadline(s) > now
		},
		"Observe": func() bool {
			_, from, created := table.Observe(now, out, &data)
			return from == Outside && !created
		},
		"Observe6": func() bool {
			_, from, created := table.Observe6(now, out6, &data)
			return from == Outside && !created
		},
		"IDs": func() bool { return len(sh.IDs(names, 0)) == 2 },
		"New, Insert, Expire, Remove": func() bool {
			id, s := sh.New(false)
			s.Key = Key{Src: 9, Dst: 9, VNIProto: 17}
			s.Track.Class = ClassTCPResetSent
			sh.Insert(id, s, now)
			now += Time(30 * time.Second)
			ids, _, _ := sh.Expire(now)
			if len(ids) != 1 || ids[0] != id {
				return false
			}
			sh.Remove(id, s)
			_, _, more := sh.Expire(now)
			return !more
		},
	} {
		if !f() {
			t.Errorf("%s does not do what it is measured for", name)
		}
		if n := testing.AllocsPerRun(100, func() { f() }); n != 0 {
			t.Errorf("%s: %v allocs, want 0", name, n)
		}
	}
}
