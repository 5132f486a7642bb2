package ports

import (
	"math"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/heap"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/holders"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/mappings"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Space is what all shards of a translator have in common: the rules, the instances,
// and who hands ports out. All of it is written with the locks of all shards held and
// read with any, except for what shared ports guard themselves.
type Space struct {
	rules   Rules
	picky   bool // see Rules.picky
	enrolls bool // subscribers have records

	states    []*State               // by shard; nil until it is made
	instances []*Instance            // by index; nil where none is
	frontends []*Frontend            // by index; nil where none is
	order     []*Frontend            // in the order of their first use
	awaited   map[awaiting]flow.Time // what awaits removal in the next layout; see ArchivePlaces

	book   book    // who hands ports out
	shared *shared // it, if all instances share the ports; else nil; immutable

	hasher *flow.Hasher // of the table: secret
	seeded flow.Hasher  // of the seed, for what can be seen
	notice *flow.Notice

	tell func(Event) // nil if nobody listens

	counts holders.Rules // who holds ports, zero if nobody asks; immutable
}

// NewSpace returns a Space whose instances own their ports, for so many shards of a
// table with that hasher. notice is raised when a State's WakeAt becomes earlier. A
// shard has to be given to it by [State.Init] before an instance is there, and the rules by
// [Space.Install], before it is used.
func NewSpace(shards int, hasher *flow.Hasher, seed uint64, notice *flow.Notice) *Space {
	return &Space{states: make([]*State, shards), book: owned{}, hasher: hasher, seeded: flow.NewHasher(seed), notice: notice}
}

// Close forgets the instances, and the frontends too if they own these: what is used of
// shared ports can still be asked. The locks of all shards must be held.
func (sp *Space) Close() {
	sp.instances = nil
	if sp.shared == nil {
		sp.frontends, sp.order = nil, nil
	}
}

// setRules puts rules into force, and says who is told of events, nil if nobody is. No
// shard may have records of destinations that this changes. The locks of all shards
// must be held.
func (sp *Space) setRules(r Rules, tell func(Event)) {
	sp.rules, sp.tell = r, tell
	sp.picky, sp.enrolls = r.picky(), r.enrolls()
	for _, sh := range sp.states {
		if sh != nil {
			sh.destinations.Spread = sp.picky
		}
	}
}

// Frontends returns the frontends in force by index, nil where none is, and in the order of
// their first use. The lock of a shard must be held, or what keeps the configuration from changing.
func (sp *Space) Frontends() (all, order []*Frontend) { return sp.frontends, sp.order }

// Behavior returns that of an IP protocol.
func (sp *Space) Behavior(proto uint8) *Behavior { return &sp.rules.Behaviors[PoolIndex(proto)] }

// book is who has ports and takes them back. There are two: instances own theirs, or all share
// them. The shard's lock must be held.
type book interface {
	// release gives the port of a session back.
	release(sh *State, id flow.ID, s *flow.Session, inst *Instance)

	// exchange counts that a session has changed its class.
	exchange(sh *State, id flow.ID, s *flow.Session, inst *Instance, was, is flow.Class)

	// count adds one to a counter of an instance; read returns it.
	count(counter *uint64)
	read(counter *uint64) uint64

	// refused counts a packet that got no port of a family and protocol.
	refused(inst *Instance, family uint8, protocol int)

	// pool returns the ports that an instance is given flows on.
	pool(inst *Instance, family uint8, protocol int) *pool
}

// owned is the book of instances that own their ports: everything is under the lock of
// the instance's shard.
type owned struct{}

// Owner is what a shard's ports ask of the translator that they are part of. It is
// called with the shard's lock held.
type Owner interface {
	// End ends a session: the tombstone of a connection that was reset, which has the
	// outside socket that a new flow gets.
	End(id flow.ID, s *flow.Session)

	// Evict ends a half-open session that gives way at now, and tells of it.
	Evict(now flow.Time, id flow.ID, s *flow.Session)

	// Fault counts a broken invariant that was met at now.
	Fault(now flow.Time, what any)
}

// Never is a time that does not come.
const Never flow.Time = math.MaxInt64

// State is what the lock of a shard guards of ports: destinations, mappings and
// subscribers of the instances in it. Its sessions are in the flow.Shard underneath.
type State struct {
	*flow.Shard
	space  *Space
	owner  Owner
	number int // of the shard
	hasher flow.Hasher

	// Tombstones says that there may be sessions of connections that have been reset, which hold no
	// port; HoldsUDP that UDP sessions which end hold their port for a while, as the
	// policy of the shard says.
	Tombstones, HoldsUDP bool

	// EndedAt is when the session that is being released ended. Overdue says that it
	// was due then, which may be noticed late; else it is now.
	EndedAt flow.Time
	Overdue bool

	// WakeAt is not later than the first port in quarantine may be used again.
	WakeAt flow.Time

	destinations destinations.Table
	mappings     mappings.Table
	subscribers  subscribers.Table
	remotes      destinations.Sketch // of sessions with node ports

	holders holders.Table // counts nothing unless asked to

	sleepers    heap.Heap[sleeper] // those with ports in quarantine
	runs, parts []run              // scratch, see candidates and classes
	ends        []int              // scratch, see free
}

// Init makes the state of a shard, the one with a number, that takes its memory from
// mem and asks owner.
func (sh *State) Init(sp *Space, number int, s *flow.Shard, owner Owner, mem *slab.Memory) {
	sh.Shard, sh.space, sh.owner, sh.number, sh.hasher, sh.WakeAt = s, sp, owner, number, *sp.hasher, Never
	sp.states[number] = sh
	sh.destinations.Init(sp.hasher, mem)
	sh.destinations.Spread = sp.picky
	sh.mappings.Init(sp.hasher, mem)
	sh.subscribers.Init(sp.hasher, mem)
	if sp.counts.Window > 0 {
		sh.holders.Init(sp.hasher, mem, sp.counts)
	}
}

// Close forgets everything. The memory that Init was given must have been released.
func (sh *State) Close() {
	sh.sleepers, sh.WakeAt = nil, Never
	sh.destinations.Close()
	sh.subscribers.Close()
	sh.mappings.Close()
	sh.holders.Close()
	sh.remotes = destinations.Sketch{}
}

// Take finds and claims the outside port of a new flow: the lowest one of the
// instance's ports that is usable towards the destination, unless the rules say
// otherwise. It fails if and only if none is, a limit is reached, or memory is short.
func (sh *State) Take(now flow.Time, inst *Instance, t *Tuple) (outside [2]uint64, port uint16, reason flow.Reason) {
	if sh.space.shared == nil {
		outside, port, reason = sh.takeOwned(now, inst, t)
	} else {
		outside, port, reason = sh.takeShared(now, t)
	}
	if reason == flow.ReasonNone && sh.holders.On() {
		sh.beginsToHold(now, inst, t)
	}
	return outside, port, reason
}

// Release gives the outside port of a session back, unless it is its node's.
func (sh *State) Release(id flow.ID, s *flow.Session, inst *Instance) {
	if sh.holders.On() && s.Kind().HoldsPort() {
		sh.ceasesToHold(id, s)
	}
	switch {
	case !s.Kind().HoldsPort():
	case sh.space.shared == nil:
		owned{}.release(sh, id, s, inst) // not through the interface
	default:
		sh.space.shared.release(sh, id, s, inst)
	}
}

// Exchange counts what a session uses its outside port for, which has been of another
// class until now.
func (sh *State) Exchange(id flow.ID, s *flow.Session, inst *Instance, was, is flow.Class) {
	sh.space.book.exchange(sh, id, s, inst, was, is)
	if sh.holders.On() {
		sh.holdsFor(id, s, was, is)
	}
}

// CountCreated counts a new session of an instance.
func (sh *State) CountCreated(inst *Instance) {
	if sh.space.shared == nil {
		inst.created++ // not through the interface
		return
	}
	sh.space.shared.count(&inst.created)
}

// CountRefused counts a flow of an instance that gets no port for a reason.
func (sh *State) CountRefused(inst *Instance, t *Tuple, reason flow.Reason) {
	if sh.holders.On() {
		sh.wants(inst, t, reason)
	}
	sh.space.book.count(&inst.failed)
	sh.space.book.refused(inst, t.Family, PoolIndex(t.Proto))
}

// Flows returns how many sessions an instance has begun, and how many flows it was
// refused.
func (sh *State) Flows(inst *Instance) (created, failed uint64) {
	return sh.space.book.read(&inst.created), sh.space.book.read(&inst.failed)
}

// BeginSearch forgets that memory was short. Blame returns the reason for which a search
// since has found no port: the one that is given, unless memory was short.
func (sh *State) BeginSearch() { sh.destinations.BeginSearch() }

// Blame is explained at BeginSearch.
func (sh *State) Blame(reason flow.Reason) flow.Reason { return sh.destinations.Blame(reason) }

// OutsideID returns the session between the remote of a tuple and an outside socket, or 0,
// and notes the hash of what it has looked up; see [Tuple.OutsideHash]. The address is not
// passed by value: copies through memory would be half of what the look-up takes.
func (sh *State) OutsideID(t *Tuple, outside *[2]uint64, port uint16) flow.ID {
	if t.Family == 0 {
		var k flow.Key
		t.outsideKey(&k, outside, port)
		t.outsideHash = sh.hasher.HashParts(k.Src, k.Dst, uint32(t.DestPort)<<16|uint32(port), k.VNIProto)
		return sh.LookupOutside(&k, t.outsideHash)
	}
	var k flow.Key6
	t.outsideKey6(&k, outside, port)
	t.outsideHash = sh.hasher.Hash6(&k)
	return sh.LookupOutside6(&k, t.outsideHash)
}

// outsideHash returns the hash of what OutsideID looks up.
func (sh *State) outsideHash(t *Tuple, outside *[2]uint64, port uint16) uint64 {
	if t.Family == 0 {
		var k flow.Key
		t.outsideKey(&k, outside, port)
		return sh.hasher.Hash(&k)
	}
	var k flow.Key6
	t.outsideKey6(&k, outside, port)
	return sh.hasher.Hash6(&k)
}
