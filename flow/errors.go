package flow

import "errors"

// What can be wrong with a field of a configuration, of whatever package. Errors name
// the field and the value as the user wrote them and wrap one of these.
var (
	ErrPrefix     = errors.New("prefix is not valid, or its host bits are not zero")
	ErrOutOfRange = errors.New("value out of range")
	ErrTooMany    = errors.New("too many")
)
