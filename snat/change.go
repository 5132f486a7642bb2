package snat

// The report of a reconfiguration.

// Change is what a reconfiguration did.
type Change struct {
	// Instances are those that were added or removed, or whose ports or sessions
	// changed, in the order of the new configuration, then the removed ones.
	Instances []InstanceChange
}

// Total returns the sum over all instances, without a name.
func (c Change) Total() (t InstanceChange) {
	for i := range c.Instances {
		r := &c.Instances[i]
		t.Granted += r.Granted
		t.Reclaimed += r.Reclaimed
		t.AwaitingRemoval += r.AwaitingRemoval
		for cause, k := range r.Cut {
			t.Cut[cause] += k
		}
	}
	return t
}

// InstanceChange is what a reconfiguration did to one instance. Ports of TCP, of
// UDP and identifiers of queries count separately.
type InstanceChange struct {
	Name           string // of the instance; empty in a total
	Added, Removed bool   // whether the instance is new, or gone

	Granted         int // ports it has got
	Reclaimed       int // ports it has lost
	AwaitingRemoval int // ports it has lost, now or before, that carry flows for a while

	Cut [NumCutCauses]int // sessions ended, by cause
}
