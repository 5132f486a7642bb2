package problems

import "errors"

// The kinds that packages share. Package flow documents them.
var (
	ErrMissing       = errors.New("missing")
	ErrAddress       = errors.New("not the address of a single host")
	ErrPrefix        = errors.New("prefix is not valid, or its host bits are not zero")
	ErrSyntax        = errors.New("cannot be read")
	ErrOutOfRange    = errors.New("out of range")
	ErrTooMany       = errors.New("too many")
	ErrUnknownName   = errors.New("unknown name")
	ErrDuplicateName = errors.New("duplicate name")
	ErrOverlap       = errors.New("overlap")
	ErrConflict      = errors.New("conflict")
)
