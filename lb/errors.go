// Errors: the sentinels that every problem wraps, and the one error with fields.

package lb

import (
	"errors"
	"fmt"

	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// What can be wrong with resources besides what [flow] names. Every error of this package
// wraps one of these or one of package flow's or snat's; an error that reports several
// problems wraps the sentinel of each.
var (
	ErrNotBlockMultiple = errors.New("not a multiple of 8")

	// ErrUnsupported marks a setting that Azure refuses for this SKU, or that
	// one translator cannot carry out.
	ErrUnsupported = probe.ErrUnsupported

	// ErrInsufficientOutboundPorts is what an [InsufficientPortsError] wraps.
	ErrInsufficientOutboundPorts = errors.New("insufficient outbound ports")
)

// InsufficientPortsError reports that the frontends of an outbound rule have
// fewer SNAT ports than its pool needs. It wraps [ErrInsufficientOutboundPorts].
type InsufficientPortsError struct {
	Path      string // the rule, as a path into the Config; empty when a Capacity was checked
	Ports     int    // ports per node
	Nodes     int    // total node count, with surge and autoscaler maximum if they were counted
	Required  int64  // ports needed: Nodes x Ports
	Available int64  // ports of the frontends together, less the blocks lost to rules and to earlier rules
	IPs       int    // number of frontend IP addresses
	Strict    bool   // the check asked for more available than required ports
}

// Error returns the problem with the public code that Azure gives it in AKS.
func (e *InsufficientPortsError) Error() string {
	path, last := e.Path, ""
	if path != "" {
		path += ": "
	}
	if e.Strict {
		last = ", of which one must stay free"
	}
	return fmt.Sprintf("%sInvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): %d allocated ports "+
		"for a total node count of %d require %d ports, but only %d are available on %d outbound public IPs%s",
		path, e.Ports, e.Nodes, e.Required, e.Available, e.IPs, last)
}

// Unwrap returns ErrInsufficientOutboundPorts.
func (e *InsufficientPortsError) Unwrap() error { return ErrInsufficientOutboundPorts }
