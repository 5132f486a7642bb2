// What can be wrong with a configuration or a request. Every error of this
// package wraps one of these and names the field and the value.

package overlay

import "errors"

// Sentinels besides those of packages flow and lb, which errors of this package wrap as
// well.
var (
	// ErrFamily marks an address or range of a family that the cluster has not, or that
	// belongs elsewhere in the list.
	ErrFamily = errors.New("wrong address family")
	// ErrReserved marks a range or address that AKS keeps for itself, or that is no
	// host's.
	ErrReserved = errors.New("reserved")
	// ErrTooManyNodes marks more nodes than a cluster, a range or a subnet can have.
	ErrTooManyNodes = errors.New("too many nodes")
	// ErrTooManyPods marks a pod more than its node or the cluster can have.
	ErrTooManyPods = errors.New("too many pods")
	// ErrCordoned marks a pod for a node that takes none.
	ErrCordoned = errors.New("cordoned")
)
