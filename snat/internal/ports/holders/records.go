package holders

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Records: how parties and pairs are found, made and forgotten.

// hash returns the hash of a pair.
func (t *Table) hash(f *Flow) uint64 {
	if f.Family == 0 {
		return t.hasher.HashParts(uint32(f.Inside[0]), uint32(f.Remote[0]), uint32(f.Port), f.Instance<<8|uint32(f.Proto))
	}
	return t.hasher.HashParts6(f.Inside[0], f.Inside[1], f.Remote[0], f.Remote[1], uint32(f.Port), f.Instance<<8|uint32(f.Proto))
}

// hashName returns the hash of a party.
func (t *Table) hashName(n *Name) uint64 {
	return t.hasher.HashParts6(n.Addr[0], n.Addr[1], uint64(n.Of), uint64(n.Family), uint32(n.Port), uint32(n.Proto))
}

// find returns the pair of a flow, or 0.
func (t *Table) find(f *Flow, hash uint64) uint32 {
	for probe := t.byPair.Probe(index.Tag(hash)); ; {
		id := probe.Next()
		if id == 0 {
			return 0
		}
		p := t.pairs.At(id)
		if t.parties.At(p.inside).Name == f.InsideName() && t.parties.At(p.destination).Name == f.DestinationName() {
			return id
		}
	}
}

// lookup returns the party with a name, or 0.
func (t *Table) lookup(n Name) uint32 {
	for probe := t.byName.Probe(index.Tag(t.hashName(&n))); ; {
		id := probe.Next()
		if id == 0 || t.parties.At(id).Name == n {
			return id
		}
	}
}

// meet returns the party with a name, which it may have to make, in the place of another one that has
// been idle longest if there are many. It returns 0 for want of memory, and for a destination if there are
// as many that hold ports as there may be.
func (t *Table) meet(n Name) uint32 {
	if id := t.lookup(n); id != 0 {
		return id
	}
	kind := n.kind()
	if t.known[kind] >= t.rules.Limit {
		if oldest := t.idle[kind].last; oldest != 0 {
			t.forget(oldest, t.parties.At(oldest))
		} else if kind == destinations {
			return 0
		}
	}
	if !t.parties.Ready(AllInstances) {
		return 0
	}
	id := t.parties.Alloc()
	p := t.parties.At(id)
	p.Name, p.known = n, true
	if !t.byName.Insert(index.Tag(t.hashName(&n)), id) {
		t.parties.Free(id)
		return 0
	}
	t.known[kind]++
	t.rest(id, p)
	if kind == insides {
		t.grow(n.Of)
		t.gather(t.crowdOf(&n), id, insidesOf)
	}
	return id
}

// forget forgets a party that holds no port.
func (t *Table) forget(id uint32, p *Party) {
	t.wake(p)
	if p.kind() == insides {
		t.instances[p.Of].forgotten.Add(&p.Counts)
		t.scatter(t.crowdOf(&p.Name), id, insidesOf)
	} else {
		t.forgotten.Add(&p.Counts)
	}
	t.known[p.kind()]--
	t.byName.Remove(index.Tag(t.hashName(&p.Name)), id)
	t.parties.Free(id)
}

// join makes the pair of a flow and an inside address, or returns 0: for want of memory, if there are
// too many, or if some of its flows may be spilled.
func (t *Table) join(f *Flow, hash uint64, inside uint32) uint32 {
	if t.pairs.Len() >= t.rules.Limit || t.spill.at(hash) > 0 || !t.pairs.Ready(AllInstances) {
		return 0
	}
	to := t.meet(f.DestinationName())
	if to == 0 {
		return 0
	}
	id := t.pairs.Alloc()
	*t.pairs.At(id) = pair{inside: inside, destination: to}
	if !t.byPair.Insert(index.Tag(hash), id) {
		t.pairs.Free(id)
		return 0
	}
	t.gather(&t.parties.At(to).crowd, id, pairsOf)
	return id
}

// part ends a pair that holds no port.
func (t *Table) part(id uint32, hash uint64) {
	t.scatter(&t.parties.At(t.pairs.At(id).destination).crowd, id, pairsOf)
	t.byPair.Remove(index.Tag(hash), id)
	t.pairs.Free(id)
}

// hold counts a port of a party.
func (t *Table) hold(id uint32, p *Party, use Use) {
	if p.Held == (Held{}) {
		t.wake(p)
	}
	p.Held[use]++
}

// let counts a port less of a party. One that was taken while there was no memory for the record has not
// been counted.
func (t *Table) let(id uint32, use Use) {
	p := t.parties.At(id)
	if p.Held[use] == 0 {
		return
	}
	if p.Held[use]--; p.Held == (Held{}) {
		t.rest(id, p)
	}
}

// rest notes that a party holds no port now.
func (t *Table) rest(id uint32, p *Party) {
	l := &t.idle[p.kind()]
	if p.idle = (sibling{next: l.first}); l.first != 0 {
		t.parties.At(l.first).idle.prev = id
	} else {
		l.last = id
	}
	l.first = id
}

// wake notes that a party that held no port will hold one, or goes.
func (t *Table) wake(p *Party) {
	l := &t.idle[p.kind()]
	if p.idle.prev == 0 {
		l.first = p.idle.next
	} else {
		t.parties.At(p.idle.prev).idle.next = p.idle.next
	}
	if p.idle.next == 0 {
		l.last = p.idle.prev
	} else {
		t.parties.At(p.idle.next).idle.prev = p.idle.prev
	}
	p.idle = sibling{}
}

// Follow lets what is known of instances that hold no ports go where of says that it is counted from now on, and
// forgets it if that is nowhere. What has been idle longest goes first.
func (t *Table) Follow(of func(instance uint32) *Table) {
	for kind := range t.idle {
		for id, next := t.idle[kind].last, uint32(0); id != 0; id = next {
			p := t.parties.At(id)
			if next = p.idle.prev; p.Of == AllInstances {
				continue
			}
			switch to := of(p.Of); to {
			case t:
				continue
			default:
				to.add(p)
				p.Counts = Counts{}
				fallthrough
			case nil:
				t.forget(id, p)
			}
		}
	}
	for i := range t.instances {
		c := t.instances[i].forgotten
		if c == (Counts{}) {
			continue
		}
		t.instances[i].forgotten = Counts{}
		if to := of(uint32(i)); to != nil {
			to.addForgotten(uint32(i), &c)
		} else {
			t.forgotten.Add(&c)
		}
	}
}

// addForgotten adds what has been counted of inside addresses that are forgotten.
func (t *Table) addForgotten(of uint32, c *Counts) {
	t.grow(of)
	t.instances[of].forgotten.Add(c)
}

// ForkTo makes to, which is zero, a copy of t in mem, in the place of Init. It reports whether there was
// memory. Cost: that of copying it.
func (t *Table) ForkTo(to *Table, mem *slab.Memory) bool {
	to.hasher, to.rules, to.known, to.idle, to.forgotten, to.spill = t.hasher, t.rules, t.known, t.idle, t.forgotten, t.spill
	to.instances, to.spill.counts = slab.Clone(t.instances), slab.Clone(t.spill.counts)
	return !t.On() || t.parties.ForkTo(&to.parties, mem) && t.byName.ForkTo(&to.byName, mem) &&
		t.pairs.ForkTo(&to.pairs, mem) && t.byPair.ForkTo(&to.byPair, mem)
}

// Bytes returns the memory that is not in the slab.Memory.
func (t *Table) Bytes() int {
	return cap(t.instances)*int(unsafe.Sizeof(instance{})) + cap(t.spill.counts)*4
}
