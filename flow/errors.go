package flow

import (
	"errors"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// What can be wrong with a field of a configuration, of whatever package: an error names
// the path of the field and the value as the user wrote it, and wraps one of these, or a
// sentinel of the package whose rule it is. An error that reports several problems wraps
// the sentinel of each, through every layer: what snat finds wrong with a field that
// overlay only passes on is still found by [errors.Is]. Of very many problems an error
// shows, and wraps, the first hundred.
var (
	// ErrMissing marks a field that must not be empty.
	ErrMissing = problems.ErrMissing
	// ErrAddress marks an address that is not one host's: not valid, unspecified,
	// loopback, link-local, multicast, IPv4-mapped, or with a zone. See [IsHost].
	ErrAddress = problems.ErrAddress
	// ErrPrefix marks a prefix that is not valid, IPv4-mapped, of the wrong family or
	// size, or has host bits set.
	ErrPrefix = problems.ErrPrefix
	// ErrSyntax marks a text that has none of the forms it may have.
	ErrSyntax = problems.ErrSyntax
	// ErrOutOfRange marks a value that is too small or too large, no constant of its
	// type, or pointless as the other fields stand.
	ErrOutOfRange = problems.ErrOutOfRange
	// ErrTooMany marks a list that is too long.
	ErrTooMany = problems.ErrTooMany
	// ErrUnknownName marks a reference to nothing.
	ErrUnknownName = problems.ErrUnknownName
	// ErrDuplicateName marks a name that another element of the list has.
	ErrDuplicateName = problems.ErrDuplicateName
	// ErrOverlap marks an address or prefix that something else has, too.
	ErrOverlap = problems.ErrOverlap
	// ErrConflict marks a setting that another one excludes.
	ErrConflict = problems.ErrConflict
	// ErrTimeout marks a timeout that is not a whole number of ticks up to
	// [MaxTimeout].
	ErrTimeout = errors.New("timeout is not a whole number of milliseconds from 1 ms to 24 days")
)

// What can be wrong otherwise.
var (
	// ErrMemory is wrapped where the system has no memory left for a table.
	ErrMemory = errors.New("the system has no memory left")
	// ErrClosed is wrapped by what cannot be done with a [Translator] after its Close.
	ErrClosed = errors.New("the translator has been closed")
)

// What can be wrong with a snapshot, of whatever package. The error says what, and where.
var (
	// ErrDamaged is wrapped where a stream is not what a Snapshot has written.
	ErrDamaged = snapshot.ErrDamaged
	// ErrVersion is wrapped where a later program has written a snapshot.
	ErrVersion = snapshot.ErrVersion
	// ErrOtherConfig is wrapped where a snapshot is to be restored with another configuration
	// than was in force.
	ErrOtherConfig = snapshot.ErrConfig
)
