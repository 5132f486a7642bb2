package ports

import (
	"time"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Rules say how ports are given to flows: what a configuration means, for all
// instances. They are written with the locks of all shards held, and read with any.
// Package snat compiles them from its configuration, which has the same fields with
// the same meaning, and checks them there.
type Rules struct {
	Behaviors [NumPools]Behavior // by protocol

	Choice     Choice
	Parity     bool
	Class      Class
	Pooling    Pooling
	Quarantine Quarantine
	Excludes   bool // some ports are given to nobody

	// SubscriberBlockSize is the ports of a block that a subscriber is granted, 0 if there are
	// none; BlocksPerSubscriber how many it may have, 0 if there is no limit.
	SubscriberBlockSize, BlocksPerSubscriber int

	Limits        subscribers.Limits
	Deterministic bool // some instance has a deterministic mapping

	RandomIDs bool   // identifiers of queries are random
	Seed      uint64 // decides all that is random
}

// Choice says which of several free ports a flow gets.
type Choice uint8

// The choices. DefaultChoice is Lowest where instances own ports.
const (
	DefaultChoice Choice = iota
	Lowest               // the first one in the order of ordinals
	Random               // any, each with the same chance
	Preserve             // the source port, else a random one
)

// Class says what the class of the source port means: below 1,024, or not.
type Class uint8

// The rules about classes.
const (
	AnyClass     Class = iota
	PreferClass        // a port of the same class as long as there is one
	RequireClass       // a port of the same class or none
)

// Pooling says which frontends a subscriber gets ports of.
type Pooling uint8

// The poolings.
const (
	InOrder    Pooling = iota // the first one that has a port
	Paired                    // its home only
	PairedSoft                // its home first, then those that follow
	Arbitrary                 // a random one first, then those that follow
)

// Quarantine says for how long freed ports are kept from everybody.
type Quarantine struct {
	Hold      time.Duration // 0 if not at all
	MaxPorts  int           // of a pool that may be in quarantine at once; 0 is no limit
	ExemptTCP bool          // TCP ports are in none
}

// Behavior says how the flows of a protocol get their ports.
type Behavior struct {
	Mapping Mapping
	Sharing Sharing

	// PerFlow says that a session is its own mapping: there are no records.
	PerFlow bool

	// Claim is the granularity of claims: that of sharing, but finer where the
	// filter has to find the mapping by a remote address.
	Claim Sharing

	Opens bool // sessions may begin outside
}

// Mapping says for how much of a destination an inside socket keeps its port.
type Mapping uint8

// The mappings, from the coarsest.
const (
	_ Mapping = iota
	EndpointIndependent
	AddressDependent
	AddressAndPortDependent
	PerConnection
)

// Sharing says when mappings of an instance may use the same port.
type Sharing uint8

// The ways of sharing.
const (
	_              Sharing = iota
	PerAddress             // if their destination addresses differ
	PerDestination         // if their destination addresses or ports differ
	Exclusive              // never
)

// paired reports whether subscribers have homes.
func (r *Rules) paired() bool { return r.Pooling == Paired || r.Pooling == PairedSoft }

// enrolls reports whether subscribers have records.
func (r *Rules) enrolls() bool {
	return r.paired() || r.Limits != subscribers.Limits{} || r.SubscriberBlockSize > 0 || r.Deterministic
}

// picky reports whether ports are not just the lowest ones, or not for everybody.
func (r *Rules) picky() bool {
	return r.enrolls() || r.Choice != DefaultChoice || r.Parity || r.Class != AnyClass || r.Pooling != InOrder ||
		r.Quarantine != Quarantine{} || r.Excludes
}

// random reports whether the choice of ports draws numbers.
func (r *Rules) random() bool {
	return r.Choice == Random || r.Choice == Preserve || r.Pooling == Arbitrary || r.RandomIDs
}
