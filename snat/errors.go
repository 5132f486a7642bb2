package snat

import (
	"errors"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// What can be wrong with a configuration besides what [flow] names. Every problem names
// the path of the field and its value as the user wrote them and wraps one of these, or
// one of package flow's.
var (
	ErrPorts  = errors.New("ports are not whole blocks of 8 within 8..65535")
	ErrOwned  = errors.New("ports are granted already")
	ErrPublic = errors.New("cannot be a public address here")
	ErrFixed  = errors.New("cannot be changed by Reconfigure")
	ErrShared = errors.New("does not go together with Shared ports")
	ErrTarget = errors.New("cannot be a target here")
)

// validation is what is known of a configuration while it is checked.
type validation struct {
	problems.List
	granted granted
}

// timeout checks an idle timeout, of which 0 means a default.
func (v *validation) timeout(path string, d time.Duration) {
	if d < 0 || d > flow.MaxTimeout || d%flow.Tick != 0 {
		v.Add(path, d, flow.ErrTimeout, "")
	}
}
