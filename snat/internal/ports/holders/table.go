package holders

import (
	"iter"
	"time"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Use is what a port is held for.
type Use uint8

// The uses.
const (
	Active  Use = iota // by a flow that is not over
	HeldFIN            // after a connection that was closed
	HeldRST            // after a connection that was reset
	HeldUDP            // after a UDP flow
	NumUses
)

// Held counts ports by use.
type Held [NumUses]uint32

// Total returns the number of ports.
func (h *Held) Total() (n uint32) {
	for _, k := range h {
		n += k
	}
	return n
}

// AllInstances is the space of ports that instances share.
const AllInstances = ^uint32(0)

// Rules say how much is counted. The zero value counts nothing.
type Rules struct {
	Window    time.Duration // of the rate of new flows, above 0
	IdleAfter time.Duration // after which a flow is idle; for those who look
	Limit     int           // of pairs, and of parties of one kind that hold no port; in one shard
}

// Flow names the parties of a flow.
type Flow struct {
	Instance       uint32    // of the inside address
	Space          uint32    // Instance, or AllInstances
	Inside, Remote [2]uint64 // addresses, as tuples of package ports have them
	Port           uint16    // of the remote
	Proto          uint8     // IP protocol, not 0
	Family         uint8     // 0 IPv4, 1 IPv6
}

// Name names a party.
type Name struct {
	Addr   [2]uint64 // as tuples of package ports have it
	Of     uint32    // of an inside address its instance, of a destination its space
	Port   uint16    // of a destination
	Proto  uint8     // IP protocol
	Family uint8     // 0 IPv4, 1 IPv6; and Inside of an inside address
}

// Inside is what is added to the family in the name of an inside address.
const Inside = 2

// InsideName returns the name of the inside address.
func (f *Flow) InsideName() Name {
	return Name{Addr: f.Inside, Of: f.Instance, Proto: f.Proto, Family: f.Family | Inside}
}

// DestinationName returns the name of the destination.
func (f *Flow) DestinationName() Name {
	return Name{Addr: f.Remote, Of: f.Space, Port: f.Port, Proto: f.Proto, Family: f.Family}
}

// Counts are what is counted of a party, for good.
type Counts struct {
	Created uint64 // flows that got a port
	Refused uint64 // flows that got none
	Blamed  uint64 // flows that got none because of it; of destinations 0
}

// Add adds the counts of others.
func (c *Counts) Add(o *Counts) {
	c.Created += o.Created
	c.Refused += o.Refused
	c.Blamed += o.Blamed
}

// Party is what is known of an inside address or a destination.
type Party struct {
	Name
	Counts
	Held                    // sum over its pairs; and what is spilled, of an inside address
	window          uint32  // that recent is of
	recent, earlier uint32  // new flows in window, and in the one before
	crowd           crowd   // of a destination
	place           sibling // of an inside address, in the crowd of its instance
	idle            sibling // in the list of those that hold no port
	known           bool    // else the record is free
	_               [5]uint32
}

// pair is what an inside address holds towards a destination: at least one port.
type pair struct {
	inside, destination uint32
	Held
	place sibling // in the crowd of the destination
}

// instance is what is known of an instance besides its inside addresses.
type instance struct {
	crowds    [2][protocols]crowd // of its inside addresses, by family and protocol
	forgotten Counts
}

// protocols is how many protocols have ports of their own: TCP, UDP and queries.
const protocols = 3

// crowdOf returns the crowd that an inside address is of.
func (t *Table) crowdOf(n *Name) *crowd {
	protocol := protocols - 1
	switch n.Proto {
	case wire.ProtoTCP:
		protocol = 0
	case wire.ProtoUDP:
		protocol = 1
	}
	return &t.instances[n.Of].crowds[n.Family&1][protocol]
}

// sibling is a place in a list.
type sibling struct{ prev, next uint32 }

// list is records by index, from the latest to the earliest.
type list struct{ first, last uint32 }

var (
	_ [128]byte = [unsafe.Sizeof(Party{})]byte{}
	_ [32]byte  = [unsafe.Sizeof(pair{})]byte{}
)

// The kinds of parties.
const (
	insides = iota
	destinations
	kinds
)

// IsDestination reports whether a party is a destination, not an inside address.
func (n *Name) IsDestination() bool { return n.Family&Inside == 0 }

// kind returns what a party is.
func (n *Name) kind() int {
	if n.IsDestination() {
		return destinations
	}
	return insides
}

// Table is what is counted of one shard, under its lock. The zero Table counts nothing, until Init.
type Table struct {
	hasher flow.Hasher
	rules  Rules

	parties slab.Slab[Party]
	byName  index.Index
	known   [kinds]int
	idle    [kinds]list // that hold no port

	pairs  slab.Slab[pair]
	byPair index.Index

	instances []instance // by index
	forgotten Counts     // of destinations, and of instances that are gone
	spill     spill
}

// Init makes an empty table that draws on mem.
func (t *Table) Init(hasher *flow.Hasher, mem *slab.Memory, r Rules) {
	t.hasher, t.rules = *hasher, r
	t.parties.Init(mem)
	t.byName.Init(mem)
	t.pairs.Init(mem)
	t.byPair.Init(mem)
}

// On reports whether anything is counted.
func (t *Table) On() bool { return t.rules.Window > 0 }

// Close forgets everything and counts nothing more. The memory that Init was given must have been
// released.
func (t *Table) Close() { *t = Table{} }

// IdleAfter returns after what time a flow is idle.
func (t *Table) IdleAfter() time.Duration { return t.rules.IdleAfter }

// Begin counts a new flow that has got a port at now.
func (t *Table) Begin(now flow.Time, f *Flow) {
	t.enter(f, Active, uint32(now/flow.Time(t.rules.Window)), true)
}

// Enter counts the port of a flow that is not new.
func (t *Table) Enter(f *Flow, use Use) { t.enter(f, use, 0, false) }

func (t *Table) enter(f *Flow, use Use, window uint32, begins bool) {
	hash := t.hash(f)
	id := t.find(f, hash)
	var in, to *Party
	var inside uint32
	if id != 0 {
		p := t.pairs.At(id)
		inside = p.inside
		in, to = t.parties.At(inside), t.parties.At(p.destination)
	} else if inside = t.meet(f.InsideName()); inside != 0 {
		in = t.parties.At(inside)
		if id = t.join(f, hash, inside); id != 0 {
			to = t.parties.At(t.pairs.At(id).destination)
		}
	}
	if in != nil {
		t.hold(inside, in, use)
		t.crowdOf(&in.Name).rise(inside, in.Total(), begins)
		if begins {
			in.begin(window)
		}
	}
	if to == nil {
		t.spill.add(hash)
		return
	}
	p := t.pairs.At(id)
	t.hold(p.destination, to, use)
	p.Held[use]++
	to.crowd.rise(id, p.Total(), begins)
	if begins {
		to.begin(window)
	}
}

// Leave counts that a flow has given its port back.
func (t *Table) Leave(f *Flow, use Use) {
	hash := t.hash(f)
	id := t.find(f, hash)
	if id == 0 {
		t.spill.remove(hash)
		if in := t.lookup(f.InsideName()); in != 0 {
			t.crowdOf(&t.parties.At(in).Name).fall(in)
			t.let(in, use)
		}
		return
	}
	p := t.pairs.At(id)
	t.crowdOf(&t.parties.At(p.inside).Name).fall(p.inside)
	t.let(p.inside, use)
	t.let(p.destination, use)
	p.Held[use]--
	t.parties.At(p.destination).crowd.fall(id)
	if p.Held == (Held{}) {
		t.part(id, hash)
	}
}

// Shift counts that a flow holds its port for something else.
func (t *Table) Shift(f *Flow, was, is Use) {
	shift := func(h *Held) {
		if h[was] > 0 {
			h[was]--
			h[is]++
		}
	}
	if id := t.find(f, t.hash(f)); id != 0 {
		p := t.pairs.At(id)
		shift(&p.Held)
		shift(&t.parties.At(p.inside).Held)
		shift(&t.parties.At(p.destination).Held)
	} else if in := t.lookup(f.InsideName()); in != 0 {
		shift(&t.parties.At(in).Held)
	}
}

// Cause says what a flow has got no port for.
type Cause uint8

// The causes.
const (
	Taken     Cause = iota // others hold the ports
	Limited                // its inside address has reached a limit
	Unrelated              // whatever nobody's ports are the cause of
)

// Refuse counts a flow that has got no port.
func (t *Table) Refuse(f *Flow, why Cause) {
	in, to := t.meet(f.InsideName()), t.meet(f.DestinationName())
	blamed := uint32(0)
	if to != 0 {
		d := t.parties.At(to)
		d.Refused++
		if leader := t.leader(&d.crowd, pairsOf); leader != 0 {
			blamed = t.pairs.At(leader).inside
		}
	}
	if in != 0 {
		t.parties.At(in).Refused++
		if blamed == 0 && f.Space != AllInstances {
			blamed = t.leader(t.crowdOf(&t.parties.At(in).Name), insidesOf)
		}
	}
	switch {
	case why == Limited:
		blamed = in
	case why == Unrelated:
		blamed = 0
	}
	if blamed != 0 {
		t.parties.At(blamed).Blamed++
	}
}

// Forgotten iterates over the sums of what was counted of inside addresses that are forgotten, by instance.
func (t *Table) Forgotten() iter.Seq2[uint32, Counts] {
	return func(yield func(uint32, Counts) bool) {
		for i := range t.instances {
			if c := t.instances[i].forgotten; c != (Counts{}) && !yield(uint32(i), c) {
				return
			}
		}
	}
}

// Spilled returns how many ports are held towards destinations that they are not counted for.
func (t *Table) Spilled() int { return t.spill.total }

// MostSpilled returns how many ports at most are held towards one destination that has no record.
func (t *Table) MostSpilled() (most uint32) { return t.spill.most() }

// Parties iterates over all inside addresses, of every instance, and all destinations. They must not
// be kept.
func (t *Table) Parties() iter.Seq[*Party] {
	return func(yield func(*Party) bool) {
		for id := t.parties.Next(0); id != 0; id = t.parties.Next(id) {
			if p := t.parties.At(id); p.known && !yield(p) {
				return
			}
		}
	}
}

// Pairs iterates over what inside addresses hold towards destinations.
func (t *Table) Pairs() iter.Seq2[Flow, Held] {
	return func(yield func(Flow, Held) bool) {
		for id := t.pairs.Next(0); id != 0; id = t.pairs.Next(id) {
			p := t.pairs.At(id)
			if p.Held == (Held{}) {
				continue // the record is free
			}
			if !yield(t.flowOf(p), p.Held) {
				return
			}
		}
	}
}

// begin counts a new flow in a window. What comes a little out of order counts in the latest.
func (p *Party) begin(window uint32) {
	p.Created++
	switch {
	case window <= p.window:
	case window == p.window+1:
		p.window, p.earlier, p.recent = window, p.recent, 0
	default:
		p.window, p.earlier, p.recent = window, 0, 0
	}
	p.recent++
}

// Recent returns how many flows of a party are new since the beginning of the window before the one
// that now lies in.
func (t *Table) Recent(p *Party, now flow.Time) uint32 {
	switch window := uint32(now / flow.Time(t.rules.Window)); {
	case window <= p.window:
		return p.recent + p.earlier
	case window == p.window+1:
		return p.recent
	}
	return 0
}

// Since returns when the window before the one that now lies in has begun, but not before 0.
func (t *Table) Since(now flow.Time) flow.Time {
	w := flow.Time(t.rules.Window)
	return max(0, now-now%w-w)
}
