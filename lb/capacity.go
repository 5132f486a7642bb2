// Capacity: how many nodes count, how many ports and frontends they need. Read
// the AKS document first, its section on allocated outbound ports.

package lb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/snat"
)

// Capacity is a claim of equal nodes on equal frontends with manual allocation.
// Its methods need only the fields they name, and expect them not to be negative.
type Capacity struct {
	Nodes      int // all nodes that may exist at once; see TotalNodes
	Ports      int // AllocatedOutboundPorts: ports per node, 8..64,000, a multiple of 8
	Frontends  int // number of outbound public IPs
	LostBlocks int // blocks of 8 ports lost to rules, over all frontends

	// Strict refuses a claim that uses the very last port. The AKS document
	// writes the condition so, yet its examples and the outbound rules document
	// accept equality, which is our choice of a default.
	Strict bool
}

// Required returns the ports that Nodes with Ports each need.
func (c Capacity) Required() int64 { return int64(c.Nodes) * int64(c.Ports) }

// Available returns the ports that Frontends have, less LostBlocks; not less than 0.
func (c Capacity) Available() int64 {
	return max(0, int64(c.Frontends)*PortsPerFrontend-int64(c.LostBlocks)*snat.BlockSize)
}

// Check returns nil if the claim can be met. Otherwise it returns the problem with
// Ports (see [CheckAllocatedOutboundPorts]; 0, automatic, is out of range here),
// or an [*InsufficientPortsError].
func (c Capacity) Check() error {
	if err := CheckAllocatedOutboundPorts(c.Ports); err != nil {
		return err
	}
	if c.Ports == 0 {
		return fieldError(ErrOutOfRange, "AllocatedOutboundPorts", 0, "a capacity needs 8..64000 ports per node")
	}
	return c.check("")
}

// check compares what is required and available, and nothing else.
func (c Capacity) check(path string) error {
	required, available := c.Required(), c.Available()
	if required < available || required == available && !c.Strict {
		return nil
	}
	return &InsufficientPortsError{
		Path: path, Ports: c.Ports, Nodes: c.Nodes,
		Required: required, Available: available, IPs: c.Frontends, Strict: c.Strict,
	}
}

// MinFrontends returns the smallest number of frontends that meets the claim of
// Nodes with Ports each, given LostBlocks. It ignores Frontends.
func (c Capacity) MinFrontends() int {
	need := c.Required() + int64(c.LostBlocks)*snat.BlockSize + c.reserve()
	return int((need + PortsPerFrontend - 1) / PortsPerFrontend)
}

// MaxNodes returns the largest number of nodes that can have Ports each on
// Frontends, given LostBlocks. It ignores Nodes, and panics if Ports is 0.
func (c Capacity) MaxNodes() int { return int(c.grantable() / int64(c.Ports)) }

// MaxPorts returns the most ports that each of Nodes can have on Frontends, given
// LostBlocks: a multiple of 8, at most 64,000. It ignores Ports, and panics if
// Nodes is 0.
func (c Capacity) MaxPorts() int {
	ports := min(c.grantable()/int64(c.Nodes), PortsPerFrontend)
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

// PoolSize is what counts of an AKS node pool when its outbound ports are checked.
type PoolSize struct {
	Count    int      // nodes now; 0 or more
	MaxCount int      // maximum of the cluster autoscaler; 0 without autoscaler
	MaxSurge MaxSurge // nodes added during an upgrade
}

// Nodes returns the larger of Count and MaxCount, plus the surge (AKS document).
// Errors: a negative field, or a MaxSurge that cannot be parsed.
func (p PoolSize) Nodes() (int, error) {
	var bad problems
	for _, f := range []struct {
		name  string
		value int
	}{{"Count", p.Count}, {"MaxCount", p.MaxCount}} {
		if f.value < 0 {
			bad.add(ErrOutOfRange, f.name, f.value, "0 or more")
		}
	}
	nodes := max(p.Count, p.MaxCount)
	surge, err := p.MaxSurge.Nodes(nodes)
	if err != nil {
		bad = append(bad, err)
	}
	if len(bad) > 0 {
		return 0, bad.join()
	}
	return nodes + surge, nil
}

// TotalNodes returns the sum of [PoolSize.Nodes] over all node pools of a cluster,
// for use as Capacity.Nodes. Error paths begin with the index of the pool.
func TotalNodes(pools ...PoolSize) (int, error) {
	total, errs := 0, []error(nil)
	for i, pool := range pools {
		nodes, err := pool.Nodes()
		if err != nil {
			errs = append(errs, fmt.Errorf("pool %d: %w", i, err))
		}
		total += nodes
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	return total, nil
}

// MaxSurge is the AKS setting of that name: a number of nodes ("2"), or a
// percentage of the pool ("33%") that is rounded up. Empty means 1 node, AKS's
// default. It is our choice that a percentage is taken of the counted nodes, thus
// of the autoscaler maximum, and must be 1..100.
type MaxSurge string

// Nodes returns the surge of a pool with count nodes. Errors: ErrInvalid for text
// that is neither form, ErrOutOfRange for a number below 0 or a percentage outside
// 1..100.
func (s MaxSurge) Nodes(count int) (int, error) {
	if s == "" {
		return 1, nil
	}
	const valid = "a number of nodes such as 1, or a percentage such as 33%, of 1%..100%"
	digits, isPercent := strings.CutSuffix(string(s), "%")
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil:
		return 0, fieldError(ErrInvalid, "MaxSurge", string(s), valid)
	case n < 0, isPercent && (n < 1 || n > 100):
		return 0, fieldError(ErrOutOfRange, "MaxSurge", string(s), valid)
	case isPercent:
		return (count*n + 99) / 100, nil
	}
	return n, nil
}
