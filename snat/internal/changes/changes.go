// Package changes is the report of a reconfiguration: what it did to which instance. It refuses
// to know how a configuration is laid out.
package changes

import (
	"iter"

	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
)

// Change is what a reconfiguration did to one instance. Ports of TCP, of UDP and
// identifiers of queries count separately.
type Change struct {
	Name           string // of the instance
	Added, Removed bool   // whether the instance is new, or gone

	Granted         int // ports it has got
	Reclaimed       int // ports it has lost
	AwaitingRemoval int // ports it has lost, now or before, that carry flows for a while

	Cut [counters.NumCutCauses]int // sessions ended, by cause
}

// Report has the changes by instance. The zero Report is empty.
type Report struct{ rows map[string]*Change }

// Of returns the change of an instance by name, which says nothing until it is written.
func (r *Report) Of(name string) *Change {
	c := r.rows[name]
	if c == nil {
		if r.rows == nil {
			r.rows = map[string]*Change{}
		}
		c = &Change{Name: name}
		r.rows[name] = c
	}
	return c
}

// All returns the changes that say something, in the order of names.
func (r *Report) All(names iter.Seq[string]) (all []Change) {
	for name := range names {
		if c := r.rows[name]; c != nil && *c != (Change{Name: name}) {
			all = append(all, *c)
		}
	}
	return all
}
