package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/heldsyn"
	"github.com/seed-a61be3fe/natplane/snat/internal/hop"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/instances"
	"github.com/seed-a61be3fe/natplane/snat/internal/permits"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
	"github.com/seed-a61be3fe/natplane/snat/internal/routing"
	"github.com/seed-a61be3fe/natplane/snat/internal/udp"
)

// What a NAT remembers, and what a packet carries along on its way. The package comment
// says which lock guards what.
//
// Lock order, for whoever needs more than one:
//   - the table of datagrams in pieces, which whole packets never take (package
//     fragments);
//   - changing, which Reconfigure holds; its owner may have a lock of its own before it;
//   - control, which the moment of a change holds, and observers of several instances share;
//   - shards, in ascending order;
//   - that of shared ports;
//   - held SYNs (package heldsyn), and permits (package permits);
//   - the packets that we make and Advance hands out (icmp.Outbox);
//   - the identifications and the traffic of fragments, each for a few steps (fragment.go).

// NAT translates the packets of a set of instances. See the package comment for
// the way of a packet. A NAT is safe for concurrent use.
type NAT struct {
	table  *flow.Table
	seeded flow.Hasher // of Fixed.Seed, for what can be seen; the table's is secret
	routes atomic.Pointer[routes]
	shards []*shard // by number; nil until an instance or a forward is there, see shard.go

	// made are those of shards that are not nil. Both are written with changing held.
	made atomic.Pointer[[]*shard]

	ports *ports.Space // who has which port

	// steady is routes, or nil while ports await removal. Whoever holds a lock
	// compares it with the routes that were used to find the lock.
	steady atomic.Pointer[routes]

	// changing is held by whatever changes the configuration, from before it looks at
	// the one in force. It is taken before control.
	changing sync.Mutex

	// control is held while the configuration changes, and for reading by observers of
	// more than one shard. It is taken before the locks of shards.
	control sync.RWMutex
	order   []*instance // of the configuration; guarded by control

	// Counts of removed instances with a public address, to which packets that
	// need no lock may still be adding. Guarded by control.
	departed []*counters.Direct

	// Written with the locks of all shards held, read with any of them.
	config    compiled.Config
	instances []*instance // by index; nil where none is
	follows   []int       // indexes of policies, by shard

	retargeted []string // of instances, for a layout while n is read from a snapshot

	records counters.Daily // of deterministic mappings, see parameters.go

	tables    rendezvous.Cache // of forwards; guarded by changing
	fragments fragmentation
	held      *heldsyn.Table // nil if none are held
	permits   permits.Table  // of flows without a session

	lenient       headers.Leniency // immutable
	perConnection bool             // only the inside may open a closed connection again: TCP's filter; immutable
	hairpins      bool             // there are hairpins; immutable
	alarmInterval time.Duration    // immutable

	messages    icmp.Rules   // which are carried; immutable, as are the others
	shared      icmp.Rules   // those of what shares a public address
	routed      bool         // we are a hop: packets are looked at before and after translation
	router      hop.Hop      // which one
	routerAddrs [2][2]uint64 // Fixed.RouterAddrs
	outbox      icmp.Outbox  // what we make ourselves, except resets

	notice flow.Notice // raised by whatever has deadlines; see DeadlineMoved

	closed atomic.Bool

	// Packets that are dropped before a shard is known.
	early counters.Early

	faults atomic.Uint64
}

// shard is everything that a set of instances owns: their sessions (in the flow
// shard), the state of their ports, and the counters. The flow shard's lock
// guards all of it; an instance never leaves its shard while packets are
// processed, so both directions of a flow and the allocation of its port happen
// under this one lock.
type shard struct {
	ports.State
	nat    *NAT
	layout *layout // that is going to be in force, while sessions are noted for it, else nil; see survey.go
	number int
	policy compiled.Policy // of all instances here
	mem    slab.Memory

	audit audit

	udp udp.Timers

	counters counters.Counters
	resets   resets.Queue // made by packets or expiry, not yet emitted

	_ [64]byte
}

// instance is what is remembered of an instance.
type instance = instances.Instance

// routes is the configuration as packets read it.
type routes = routing.Routes

// lane is what the translator knows of one packet on its way.
type lane struct {
	p        wire.Packet
	hash     uint64
	key      flow.Key // IPv4
	sh       *shard
	s        *flow.Session // a guess from the batch's early look, or nil
	id       flow.ID       // of s
	inst     uint32
	shard    uint8
	is6      bool
	foreseen bool  // it may begin a flow that has been looked ahead for; of a batch
	at       uint8 // index of the packet in its batch

	forward uint32 // number, plus one, of an inbound packet to a forwarded port
	own     uint8  // shard of the instance, if answer

	answer   answer // of a target, sought in the shard of its forward
	asked    bool   // it is none
	floating bool   // the answer of a floating target

	now      flow.Time      // of the call
	carried  *permits.Batch // of the batch that the lane is of; nil if it is of none, or none has permits
	hairpin  bool           // on the way from the inside to the inside
	first    bool           // a first fragment, on the way of a whole packet
	caughtUp bool           // all shards have ended what was due; see catchUp
	key6     flow.Key6
}

// answer says whether a packet of the inside is sought as the answer of a target.
type answer uint8

const (
	noAnswer     answer = iota
	maybeAnswer         // to be sought
	soughtAnswer        // it has been
	quotedAnswer        // an ICMP error that quotes what a forward has delivered
)

// moment is what all packets of a call have in common.
type moment struct {
	routes *routes
	now    flow.Time
	tick   uint32

	settled bool // all that was due at now has ended in all shards, as long as the locks are held
}

// undecided is the action of a packet without a verdict. Parsing leaves it for a
// fragment and for a packet from the inside to the inside (hairpin or forward);
// processing, for a new flow that other shards must make room for, and for a packet
// that was sought as a target's answer and is none. No door returns it.
const undecided flow.Action = 0xff

// fragmentation is what the translator has for datagrams in pieces.
type fragmentation struct {
	table         *fragments.Table // nil if they are dropped; immutable, as are those below
	ids           *fragments.IDs   // of what is translated and of what we split; nil if neither is done
	udpOnly       bool
	forwardedOnly bool // those of forwards of all ports

	corrections fragments.Corrections

	traffic sync.Mutex // guards the last traffic row of every frontend; taken after any other lock
}

// tracked is what the tracker wants done with a segment.
type tracked uint8

const (
	forward tracked = iota
	discard         // do not forward
	replace         // a new session must take the place of this tombstone, or closed connection
	refuse          // do not forward: the filter does not admit it
	faulty          // the verdict has been made: the session is no more, or stays as it was
)

// noPorts is what a lane's key has for the ports of an ICMP message, messagePort
// each: a session of a query has remote port 0, so the key fits none, and the
// message takes the way of packets without a session.
const (
	messagePort = 1
	noPorts     = messagePort<<16 | messagePort
)
