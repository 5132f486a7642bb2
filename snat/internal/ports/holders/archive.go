package holders

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// How what is counted gets into a snapshot. What parties and pairs hold is counted anew from the sessions, and
// so is what is spilled (Restore); written is what only history tells. Read into a table of as many shards,
// records keep their indexes and lists their order. Read into others, parties are entered one by one, their
// counts add up, and pairs come with their sessions.

// maxInstances is more than there can be.
const maxInstances = flow.MaxVNI

// Archive writes t, or reads it into t, which is empty. apart says that it was that of another shard, and then
// each party goes into the table that of names for it, or refuses it. It reports whether there was memory.
func (t *Table) Archive(a *snapshot.Archive, apart bool, of func(n *Name) *Table) bool {
	if !t.On() {
		return true
	}
	a.Section("holders")
	if apart {
		return t.merge(a, of)
	}
	memory := true
	ok := t.parties.Archive(a, func(id uint32, p *Party) {
		p.archive(a)
		snapshot.Nums(a, &p.crowd.first, &p.crowd.leader, &p.crowd.top)
		p.place.archive(a)
		if p.idle.archive(a); a.Writing() || !a.OK() {
			return
		}
		if at := of(&p.Name); !a.Check(at == t, "party %+v is of another shard", p.Name) || !a.Check(t.lookup(p.Name) == 0, "party %+v is there twice", p.Name) {
			return
		}
		p.known = true
		t.known[p.kind()]++
		memory = t.byName.Insert(index.Tag(t.hashName(&p.Name)), id) && memory
	})
	if !ok || !memory {
		return false
	}
	ok = t.pairs.Archive(a, func(id uint32, p *pair) {
		snapshot.Nums(a, &p.inside, &p.destination)
		if p.place.archive(a); a.Writing() || !a.Check(t.isParty(p.inside, insides) && t.isParty(p.destination, destinations) && t.agree(p), "a pair of parties that are none") {
			return
		}
		f := t.flowOf(p)
		if hash := t.hash(&f); a.Check(t.find(&f, hash) == 0, "pair %+v is there twice", f) {
			memory = t.byPair.Insert(index.Tag(hash), id) && memory
		}
	})
	if !ok || !memory {
		return false
	}
	snapshot.Slice(a, &t.instances, maxInstances, func(in *instance) { a.Value(in, 0) })
	a.Value(&t.idle, 0)
	if a.Value(&t.forgotten, 0); !a.Writing() {
		for i := range t.instances {
			if c := t.instances[i].forgotten; c != (Counts{}) && a.OK() {
				a.Check(of(&Name{Of: uint32(i), Family: Inside, Proto: 1}) == t, "what is forgotten of instance %d is of another shard", i)
			}
		}
		for p := range t.Parties() {
			a.Check(p.IsDestination() || int64(p.Of) < int64(len(t.instances)), "party %+v is of instance %d, of which nothing is known", p.Name, p.Of)
		}
	}
	return true
}

// merge reads what a table of another shard was.
func (t *Table) merge(a *snapshot.Archive, of func(n *Name) *Table) bool {
	var skipped sibling
	var c crowd
	t.parties.Scan(a, func(_ uint32, p *Party) {
		p.archive(a)
		snapshot.Nums(a, &c.first, &c.leader, &c.top)
		skipped.archive(a)
		if skipped.archive(a); !a.OK() {
			return
		}
		if at := of(&p.Name); a.OK() {
			at.add(p)
		}
	})
	t.pairs.Scan(a, func(_ uint32, p *pair) {
		snapshot.Nums(a, &p.inside, &p.destination)
		p.place.archive(a)
	})
	var all []instance
	var lists [kinds]list
	var forgotten Counts
	snapshot.Slice(a, &all, maxInstances, func(in *instance) { a.Value(in, 0) })
	a.Value(&lists, 0)
	if a.Value(&forgotten, 0); !a.OK() {
		return true
	}
	for i := range all {
		if all[i].forgotten == (Counts{}) {
			continue
		}
		if at := of(&Name{Of: uint32(i), Family: Inside, Proto: 1}); a.OK() {
			at.addForgotten(uint32(i), &all[i].forgotten)
		}
	}
	t.forgotten.Add(&forgotten)
	return true
}

// add adds what has been counted of a party elsewhere.
func (t *Table) add(q *Party) {
	id := t.meet(q.Name)
	if id == 0 {
		t.forgotten.Add(&q.Counts)
		return
	}
	p := t.parties.At(id)
	p.Counts.Add(&q.Counts)
	window := max(p.window, q.window)
	p.recent, p.earlier = p.in(window)+q.in(window), p.before(window)+q.before(window)
	p.window = window
}

// in returns how many flows were new in a window that is not before that of the party.
func (p *Party) in(window uint32) uint32 {
	if window == p.window {
		return p.recent
	}
	return 0
}

// before is in for the window before.
func (p *Party) before(window uint32) uint32 {
	switch window {
	case p.window:
		return p.earlier
	case p.window + 1:
		return p.recent
	}
	return 0
}

func (p *Party) archive(a *snapshot.Archive) {
	a.Value(&p.Name, 0)
	a.Value(&p.Counts, 0)
	snapshot.Nums(a, &p.window, &p.recent, &p.earlier)
	a.Check(p.Proto != 0 && p.Family < 2*Inside && (p.IsDestination() || p.Of < maxInstances), "a party that is called %+v", p.Name)
}

func (s *sibling) archive(a *snapshot.Archive) { snapshot.Nums(a, &s.prev, &s.next) }

// isParty reports whether a record is in use, for a party of a kind.
func (t *Table) isParty(id uint32, kind int) bool {
	return id != 0 && t.parties.Has(id) && t.parties.At(id).known && t.parties.At(id).kind() == kind
}

// agree reports whether an inside address and a destination can hold ports together.
func (t *Table) agree(p *pair) bool {
	in, to := t.parties.At(p.inside), t.parties.At(p.destination)
	return in.Proto == to.Proto && in.Family&^Inside == to.Family && (to.Of == AllInstances || to.Of == in.Of)
}

// flowOf returns the flow of a pair.
func (t *Table) flowOf(p *pair) Flow {
	in, to := t.parties.At(p.inside), t.parties.At(p.destination)
	return Flow{Instance: in.Of, Space: to.Of, Inside: in.Addr, Remote: to.Addr, Port: to.Port, Proto: to.Proto, Family: to.Family}
}

// Restore counts the port of a session where Archive has read the others, or merged them.
func (t *Table) Restore(f *Flow, use Use, apart bool) {
	if apart {
		t.Enter(f, use)
		return
	}
	hash := t.hash(f)
	if in := t.lookup(f.InsideName()); in != 0 {
		t.parties.At(in).Held[use]++
	}
	if id := t.find(f, hash); id != 0 {
		p := t.pairs.At(id)
		p.Held[use]++
		t.parties.At(p.destination).Held[use]++
		return
	}
	t.spill.add(hash)
}

// Whole refuses records that nothing keeps, and lists that do not hold together. It comes when all is read.
func (t *Table) Whole(a *snapshot.Archive) {
	if !t.On() {
		return
	}
	idle, pairs, crowded, n := 0, 0, 0, [kinds]int{}
	for p := range t.Parties() {
		if n[p.kind()]++; p.Held == (Held{}) {
			idle++
		}
		if p.IsDestination() {
			pairs += t.walk(a, &p.crowd, pairsOf, func(id uint32) bool {
				return id != 0 && t.pairs.Has(id) && t.pairs.At(id).Held != (Held{}) && t.parties.At(t.pairs.At(id).destination) == p
			})
		}
	}
	for i := range t.instances {
		for f := range t.instances[i].crowds {
			for k := range t.instances[i].crowds[f] {
				c := &t.instances[i].crowds[f][k]
				crowded += t.walk(a, c, insidesOf, func(id uint32) bool {
					return t.isParty(id, insides) && int(t.parties.At(id).Of) == i && t.crowdOf(&t.parties.At(id).Name) == c
				})
			}
		}
	}
	a.Check(pairs == t.pairs.Len() && crowded == n[insides], "%d of %d pairs and %d of %d inside addresses are in crowds", pairs, t.pairs.Len(), crowded, n[insides])
	for kind := range t.idle {
		last := uint32(0)
		for id := t.idle[kind].first; id != 0 && a.OK(); {
			if !a.Check(t.isParty(id, kind) && t.parties.At(id).Held == (Held{}) && t.parties.At(id).idle.prev == last, "party %d does not rest there", id) {
				return
			}
			last, id, idle = id, t.parties.At(id).idle.next, idle-1
		}
		a.Check(last == t.idle[kind].last, "party %d is not the last one that rests", last)
	}
	a.Check(idle == 0, "%d parties hold no port, and do not rest", idle)
}

// walk returns how many records a crowd has, of which each is one that is of it. A list whose records name the
// one before them ends.
func (t *Table) walk(a *snapshot.Archive, c *crowd, of bool, is func(id uint32) bool) (n int) {
	last, led := uint32(0), c.leader == 0
	for id := c.first; id != 0 && a.OK(); n++ {
		if !a.Check(is(id) && t.place(id, of).prev == last, "record %d is not of this crowd", id) {
			return n
		}
		held, _, next := t.member(id, of)
		a.Check(id != c.leader || held.Total() == c.top, "record %d leads a crowd with %d ports, not %d", id, held.Total(), c.top)
		led = led || id == c.leader
		last, id = id, next
	}
	a.Check(led, "record %d leads a crowd, and is not of it", c.leader)
	return n
}

// grow makes room for what is known of an instance.
func (t *Table) grow(of uint32) {
	if n := int(of) + 1; n > len(t.instances) {
		t.instances = append(t.instances, make([]instance, n-len(t.instances))...)
	}
}
