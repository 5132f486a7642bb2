// What can be wrong with a configuration or a request. Every error of this
// package wraps one of these and names the field and the value.

package overlay

import (
	"errors"

	"github.com/seed-a61be3fe/natplane/lb"
)

// The sentinels that this package shares with package lb: the same values, so
// that it does not matter which of the two is asked for.
var (
	ErrMissing          = lb.ErrMissing
	ErrInvalid          = lb.ErrInvalid
	ErrOutOfRange       = lb.ErrOutOfRange
	ErrNotBlockMultiple = lb.ErrNotBlockMultiple
	ErrUnknownName      = lb.ErrUnknownName
	ErrDuplicateName    = lb.ErrDuplicateName
	ErrConflict         = lb.ErrConflict

	ErrInsufficientOutboundPorts = lb.ErrInsufficientOutboundPorts
)

// The sentinels of this package.
var (
	ErrFamily       = errors.New("wrong address family")
	ErrOverlap      = errors.New("overlap")
	ErrReserved     = errors.New("reserved")
	ErrTooManyNodes = errors.New("too many nodes")
	ErrTooManyPods  = errors.New("too many pods")
)
