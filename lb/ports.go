// Port arithmetic: what a frontend has, what rules take away, and what the pool
// size grants. Read "Use SNAT for outbound connections" first, its sections on
// default port allocation and on the ports that rules consume.

package lb

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/lb/internal/grants"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Specification constants.
const (
	// PortsPerFrontend is the number of SNAT ports of one frontend, for TCP and
	// for UDP each (outbound rules document). It is also the most that one
	// backend can have, however many frontends there are.
	PortsPerFrontend = 64_000

	// FirstPort and LastPort bound the SNAT ports of a frontend. Azure does not
	// publish them; our choice is to take the first 64,000 above the well-known
	// ports, ascending.
	FirstPort = 1024
	LastPort  = FirstPort + PortsPerFrontend - 1

	// automaticMax bounds what a backend gets from several frontends together in
	// automatic mode (outbound connections document, 2023).
	automaticMax = 1024

	// automaticEnd is the largest pool of the table, automaticLeast what its
	// members get.
	automaticEnd, automaticLeast = 1000, 32
)

// The ports of a frontend are the blocks that are dealt out.
var (
	_ = [1]struct{}{}[FirstPort-grants.FirstBlock*snat.BlockSize]
	_ = [1]struct{}{}[PortsPerFrontend-grants.NumBlocks*snat.BlockSize]
)

// automaticTiers is the table of the outbound connections document.
var automaticTiers = [...]struct{ poolSize, ports int }{
	{50, 1024}, {100, 512}, {200, 256}, {400, 128}, {800, 64}, {automaticEnd, automaticLeast},
}

// AutomaticPorts returns how many ports, for TCP and for UDP each, a backend gets
// from one frontend when its pool has poolSize members: 1,024 up to 50, then half
// at each of 51, 101, 201, 401 and 801. Azure's table ends at 1,000; beyond it
// our choice is to stay at 32, from all frontends together, and to give less to a
// pool that is too large even for that (see [Config.Warnings]). An empty pool gets 0.
func AutomaticPorts(poolSize int) int {
	if poolSize <= 0 {
		return 0
	}
	for _, tier := range automaticTiers {
		if poolSize <= tier.poolSize {
			return tier.ports
		}
	}
	return automaticLeast
}

// FrontendMode says what several frontends do to automatic allocation. The
// outbound connections document has said both, so it is our choice that Capped,
// the newer text, is the default.
type FrontendMode uint8

// The frontend modes.
const (
	Capped   FrontendMode = iota // frontends add up, to at most 1,024 ports per backend (2023 text)
	Multiply                     // frontends add up, to at most 64,000 ports per backend (2019 text)
	numFrontendModes
)

var frontendModeNames = [...]string{"capped", "multiply"}

var _ = [1]struct{}{}[len(frontendModeNames)-int(numFrontendModes)] // one name per mode

// String returns "capped" or "multiply".
func (m FrontendMode) String() string { return enum.Name(m, frontendModeNames[:]) }

// AutomaticPortsTotal returns how many ports, for TCP and for UDP each, a backend
// gets from all frontends together when its pool has poolSize members, if they have
// that many ports.
func AutomaticPortsTotal(poolSize, frontends int, mode FrontendMode) int {
	perFrontend := AutomaticPorts(poolSize)
	if perFrontend == 0 || frontends <= 0 {
		return 0
	}
	if poolSize > automaticEnd {
		return automaticLeast
	}
	limit := automaticMax
	if mode == Multiply {
		limit = PortsPerFrontend
	}
	if frontends > limit/perFrontend {
		return limit
	}
	return perFrontend * frontends
}

// AvailablePorts returns how many SNAT ports, of one protocol, are left on a
// frontend whose load-balancing and inbound NAT rules use rulePorts: each aligned
// block of 8 with such a port in it is lost, once (outbound connections document).
func AvailablePorts(rulePorts ...uint16) int {
	return PortsPerFrontend - snat.BlockSize*len(lostBlocks(rulePorts))
}

// lostBlocks returns the numbers (port / 8) of the SNAT blocks that rulePorts
// take away, ascending. A rule port outside FirstPort..LastPort costs a block as
// well; as its own block is no SNAT block, the highest one left goes instead.
// That is our choice: the count is documented, the block is not.
func lostBlocks(rulePorts []uint16) []int {
	used := make([]int, len(rulePorts))
	for i, port := range rulePorts {
		used[i] = int(port) / snat.BlockSize
	}
	slices.Sort(used)
	used = slices.Compact(used)

	lost := slices.DeleteFunc(slices.Clone(used), func(b int) bool {
		return b < grants.FirstBlock || b >= grants.FirstBlock+grants.NumBlocks
	})
	highest := grants.FirstBlock + grants.NumBlocks
	for len(lost) < min(len(used), grants.NumBlocks) {
		highest--
		if i, taken := slices.BinarySearch(lost, highest); !taken {
			lost = slices.Insert(lost, i, highest)
		}
	}
	return lost
}
