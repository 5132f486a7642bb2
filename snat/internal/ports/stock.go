package ports

import (
	"iter"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/shelves"
)

// Shared ports by family and protocol, and which of them nobody uses.

// shared is the book of Shared ports. Instances do not own ports here, so
// sessions are sharded by their remote, which packets of both directions name:
// all that compete for a port towards one destination are in one shard, under
// one lock. What shards share is which ports have flows at all.
type shared struct {
	Shared        // immutable
	key    uint64 // of shardOf; odd
	shards uint64

	mu     sync.Mutex         // taken after a shard's lock, never before
	random rand.ChaCha8       // guarded by mu, and so is all below
	next   foresight          // what random and the shelves will say, as far as that has been asked
	flows  int                // active sessions
	stocks [2][NumPools]stock // by family and protocol; of identifiers empty unless queries are carried
}

// stock is the shared ports of one family and protocol. Each frontend has
// one range of ordinals; range i has shelf i. The lock of the book guards it.
type stock struct {
	pool
	shelves shelves.Set
}

// used returns the ports of a shelf that have sessions.
func (st *stock) used(shelf int) iter.Seq[int] {
	return st.uses.Used(st.ranges[shelf].base, st.ranges[shelf].count)
}

// MaxSharedFrontends is how many frontends of a family that all share we can tell
// apart: one bit each in a word.
const MaxSharedFrontends = 64

// Normal returns the protocol that a session's key stands for.
func Normal(proto uint8) uint8 {
	if proto == ProtoHeld {
		return wire.ProtoUDP
	}
	return proto
}

// ProtoHeld stands for UDP in the keys of sessions that are over and only hold
// their port (IANA reserves 255). No packet has it, so none finds them.
const ProtoHeld = 255

// Shared says what ports all instances share, and how they are given to flows.
type Shared struct {
	Frontends           []netip.Addr
	FirstPort, LastPort uint16 // the same for all frontends
	Choice              Choice // Random or Preserve
	FlowsPerDestination int    // of one frontend to one remote address and port
	MaxFlows            int    // of all together that are not over
	Queries             bool   // there are identifiers of the same numbers
}
