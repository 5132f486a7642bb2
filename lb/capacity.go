// Capacity: how many nodes count, how many ports and frontends they need. Read
// the AKS document first, its section on allocated outbound ports.

package lb

import (
	"cmp"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Capacity is a claim of equal nodes on equal frontends. Its methods need only the
// fields they name. A negative field counts as 0, and a result that is too large for
// its type is the largest value of it.
type Capacity struct {
	Nodes int // all nodes that may exist at once; see TotalNodes

	// Ports is AllocatedOutboundPorts: ports per node, 8..64,000, a multiple of 8. 0,
	// AKS's default, is automatic: it claims the 8 ports per node that automatic
	// allocation gives at least, however many nodes there are.
	Ports int

	Frontends  int // number of outbound public IPs
	LostBlocks int // blocks of 8 ports lost to rules, over all frontends

	// Strict refuses a claim that uses the very last port. The AKS document
	// writes the condition so, yet its examples and the outbound rules document
	// accept equality, which is our choice of a default.
	Strict bool
}

// times returns a x b, for which no factor may be negative, as far as it is an int64.
func times(a, b int64) int64 {
	if a > 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}

// plus is the sum, likewise.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// asInt returns n, not negative, as far as it is an int.
func asInt(n int64) int { return int(min(n, math.MaxInt)) }

// natural returns a field, 0 if it is negative.
func natural(n int) int64 { return max(0, int64(n)) }

// claimed returns the ports per node of the claim.
func (c Capacity) claimed() int64 {
	if c.Ports == 0 {
		return snat.BlockSize
	}
	return natural(c.Ports)
}

// lost returns the ports of LostBlocks.
func (c Capacity) lost() int64 { return times(natural(c.LostBlocks), snat.BlockSize) }

// Required returns the ports that Nodes with Ports each need.
func (c Capacity) Required() int64 { return times(natural(c.Nodes), c.claimed()) }

// Available returns the ports that Frontends have, less LostBlocks; not less than 0.
func (c Capacity) Available() int64 {
	return max(0, times(natural(c.Frontends), PortsPerFrontend)-c.lost())
}

// Check returns nil if the claim can be met. Otherwise it returns the problem with
// Ports (see [CheckAllocatedOutboundPorts]), one error wrapping flow.ErrOutOfRange for
// all fields that are negative, or an [*InsufficientPortsError].
func (c Capacity) Check() error {
	if err := CheckAllocatedOutboundPorts(c.Ports); err != nil {
		return err
	}
	var p problems.List
	for _, f := range []struct {
		name  string
		value int
	}{{"Nodes", c.Nodes}, {"Frontends", c.Frontends}, {"LostBlocks", c.LostBlocks}} {
		if f.value < 0 {
			p.Add(f.name, f.value, flow.ErrOutOfRange, "0 or more")
		}
	}
	if p.Len() > 0 {
		return p.Err()
	}
	return c.check("")
}

// check compares what is required and available, and nothing else. What does not fit
// into an int64 nobody has.
func (c Capacity) check(path string) error {
	required, available := c.Required(), c.Available()
	if required < available || required == available && !c.Strict && required < math.MaxInt64 {
		return nil
	}
	return &InsufficientPortsError{
		Path: path, Ports: int(c.claimed()), Nodes: c.Nodes,
		Required: required, Available: available, IPs: c.Frontends, Strict: c.Strict,
	}
}

// MinFrontends returns the smallest number of frontends that meets the claim of
// Nodes with Ports each, given LostBlocks. It ignores Frontends.
func (c Capacity) MinFrontends() int {
	need := plus(plus(c.Required(), c.lost()), c.reserve())
	frontends := need / PortsPerFrontend
	if need%PortsPerFrontend > 0 {
		frontends++
	}
	return asInt(frontends)
}

// MaxNodes returns the largest number of nodes that can have Ports each on
// Frontends, given LostBlocks; 0 for negative Ports. It ignores Nodes.
func (c Capacity) MaxNodes() int {
	if c.Ports < 0 {
		return 0
	}
	return asInt(c.grantable() / c.claimed())
}

// MaxPorts returns the most ports that each of Nodes can have on Frontends, given
// LostBlocks: a multiple of 8, at most 64,000. Without nodes that is what a single
// one could have. It ignores Ports.
func (c Capacity) MaxPorts() int {
	ports := min(c.grantable()/max(1, natural(c.Nodes)), PortsPerFrontend)
	return int(ports / snat.BlockSize * snat.BlockSize)
}

// grantable returns how many ports may be given away.
func (c Capacity) grantable() int64 { return max(0, c.Available()-c.reserve()) }

// reserve returns how many ports must be left over: one under Strict.
func (c Capacity) reserve() int64 {
	if c.Strict {
		return 1
	}
	return 0
}

// maxPoolNodes bounds the counts of a PoolSize, so that sums are exact: our choice,
// far beyond the nodes of any cluster.
const maxPoolNodes = 1_000_000_000

// PoolSize is what counts of an AKS node pool when its outbound ports are checked.
type PoolSize struct {
	Count    int      // nodes now; 0..1,000,000,000
	MaxCount int      // maximum of the cluster autoscaler, likewise; 0 without autoscaler
	MaxSurge MaxSurge // nodes added during an upgrade
}

// Nodes returns the larger of Count and MaxCount, plus the surge (AKS document).
// Errors: a field out of range, or a MaxSurge that cannot be parsed.
func (p PoolSize) Nodes() (int, error) {
	var bad problems.List
	for _, f := range []struct {
		name  string
		value int
	}{{"Count", p.Count}, {"MaxCount", p.MaxCount}} {
		if f.value < 0 || f.value > maxPoolNodes {
			bad.Add(f.name, f.value, flow.ErrOutOfRange, "valid are 0..%d", maxPoolNodes)
		}
	}
	nodes := max(p.Count, p.MaxCount)
	surge, err := p.MaxSurge.Nodes(nodes)
	if err != nil {
		bad.Include("", err)
	}
	if bad.Len() > 0 {
		return 0, bad.Err()
	}
	return nodes + surge, nil
}

// TotalNodes returns the sum of [PoolSize.Nodes] over all node pools of a cluster,
// for use as Capacity.Nodes. Error paths begin with the pool, as in "pools[3].Count".
func TotalNodes(pools ...PoolSize) (int, error) {
	var bad problems.List
	total := 0
	for i, pool := range pools {
		nodes, err := pool.Nodes()
		if err == nil && nodes > math.MaxInt-total {
			err = problems.New("", problems.Rawf("%d nodes, with %d of those before", nodes, total), flow.ErrOutOfRange, "at most %d", math.MaxInt)
		}
		if err != nil {
			bad.Include(problems.Index("pools", i), err)
			continue
		}
		total += nodes
	}
	if err := bad.Err(); err != nil {
		return 0, err
	}
	return total, nil
}

// MaxSurge is the AKS setting of that name: a number of nodes ("2"), or a
// percentage of the pool ("33%") that is rounded up. Empty means 1 node, AKS's
// default. It is our choice that a percentage is taken of the counted nodes, thus
// of the autoscaler maximum, and must be 1..100.
type MaxSurge string

// Nodes returns the surge of a pool with count nodes: never more than these, since
// an upgrade has no more to replace (AKS document on upgrades), and 0 if count is
// negative. Errors: flow.ErrSyntax for text that is neither form, flow.ErrOutOfRange for a
// number below 0 or a percentage outside 1..100.
func (s MaxSurge) Nodes(count int) (int, error) {
	const valid = "a number of nodes such as 1, or a percentage such as 33%%, of 1%%..100%%"
	count = max(0, count)
	digits, isPercent := strings.CutSuffix(cmp.Or(string(s), "1"), "%")
	n, err := strconv.Atoi(digits) // the nearest int, if it is none
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, problems.New("MaxSurge", string(s), flow.ErrSyntax, valid)
	case n < 0, isPercent && (n < 1 || n > 100):
		return 0, problems.New("MaxSurge", string(s), flow.ErrOutOfRange, valid)
	case isPercent:
		return count/100*n + (count%100*n+99)/100, nil
	}
	return min(n, count), nil
}
