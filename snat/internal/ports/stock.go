package ports

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/seed-a61be3fe/natplane/internal/wire"
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
	flows  int                // active sessions
	stocks [2][NumPools]stock // by family and protocol; of identifiers empty unless queries are carried
}

// stock is the shared ports of one family and protocol. Each frontend has
// one range of ordinals; range i has shelf i. The lock of the book guards it.
type stock struct {
	pool
	busy   []uint64 // of all shelves
	groups []uint16
	free   []int // by shelf
}

// shelf knows which ports of one frontend have a flow, active or held. Ports are
// named by their offset from the first. A new flow is given the k-th free one in
// their order, so that what it gets does not depend on the order in which others
// have ended, or in which that was noticed. It is a part of a stock.
type shelf struct {
	busy   []uint64 // a bit for each port; those beyond the last are set
	groups []uint16 // ports in use in each group of words
	free   *int
}

// groupWords is how many words of a shelf are counted together.
const groupWords = 16

// shelfWords returns how many words a shelf of so many ports has, and how many groups
// of them.
func shelfWords(ports int) (words, groups int) {
	words = (ports + 63) / 64
	return words, (words + groupWords - 1) / groupWords
}

// shelf returns the i-th one.
func (st *stock) shelf(i int) shelf {
	words, groups := shelfWords(st.ranges[i].count)
	return shelf{st.busy[i*words : (i+1)*words], st.groups[i*groups : (i+1)*groups], &st.free[i]}
}

// addShelf adds the shelf of the last range; all have the same number of ports.
func (st *stock) addShelf(ports int) {
	words, groups := shelfWords(ports)
	st.busy = append(st.busy, make([]uint64, words)...)
	st.groups = append(st.groups, make([]uint16, groups)...)
	st.free = append(st.free, ports)
	s := st.shelf(len(st.free) - 1)
	for port := ports; port < 64*words; port++ {
		s.busy[port>>6] |= 1 << (port & 63)
		s.groups[port>>6/groupWords]++
	}
}

// at returns the k-th free port. Cost: one step for each 1,024 ports.
func (s shelf) at(k int) int {
	group := 0
	for ; ; group++ {
		words := min(groupWords, len(s.busy)-group*groupWords)
		free := 64*words - int(s.groups[group])
		if k < free {
			break
		}
		k -= free
	}
	for w := group * groupWords; ; w++ {
		free := ^s.busy[w]
		if n := bits.OnesCount64(free); k >= n {
			k -= n
			continue
		}
		for ; k > 0; k-- {
			free &= free - 1
		}
		return w<<6 + bits.TrailingZeros64(free)
	}
}

// take removes a free port.
func (s shelf) take(port int) {
	*s.free--
	s.busy[port>>6] |= 1 << (port & 63)
	s.groups[port>>6/groupWords]++
}

// put adds a port to the free ones.
func (s shelf) put(port int) {
	*s.free++
	s.busy[port>>6] &^= 1 << (port & 63)
	s.groups[port>>6/groupWords]--
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
