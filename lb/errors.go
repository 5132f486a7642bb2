// Errors: the sentinels that every problem wraps, and the one error with fields.

package lb

import (
	"errors"
	"fmt"
)

// Sentinels. Every error of this package wraps one of them; an error that reports
// several problems wraps the sentinel of each.
var (
	ErrMissing          = errors.New("missing")
	ErrInvalid          = errors.New("invalid")
	ErrOutOfRange       = errors.New("out of range")
	ErrNotBlockMultiple = errors.New("not a multiple of 8")
	ErrUnknownName      = errors.New("unknown name")
	ErrDuplicateName    = errors.New("duplicate name")

	// ErrConflict marks two settings that exclude each other.
	ErrConflict = errors.New("conflict")

	// ErrUnsupported marks a setting that Azure refuses for this SKU, or that
	// one translator cannot carry out.
	ErrUnsupported = errors.New("not supported")

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

// problems collects everything that is wrong with a configuration.
type problems []error

// add records that the field at path has a bad value. valid says what would be
// accepted.
func (p *problems) add(sentinel error, path string, value any, valid string) {
	*p = append(*p, fieldError(sentinel, path, value, valid))
}

// fieldError formats one problem: field path, value as the user wrote it, what is
// wrong, and what is valid.
func fieldError(sentinel error, path string, value any, valid string) error {
	if s, ok := value.(string); ok {
		return fmt.Errorf("%s %q: %w: %s", path, s, sentinel, valid)
	}
	return fmt.Errorf("%s %v: %w: %s", path, value, sentinel, valid)
}

func (p problems) join() error { return errors.Join(p...) }
