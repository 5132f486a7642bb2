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

// compare counts the ports that an instance gets and loses.
func (l *layout) compare(old *instance) {
	row := &InstanceChange{Name: old.Name}
	l.changes[old] = row
	next := l.successor(old)
	row.Removed = next == nil
	switch {
	case !l.ports.Affected[old.Index]:
	case next == nil:
		row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, nil)
	default:
		row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, &next.Instance)
	}
}

// change returns the report.
func (l *layout) change() (c Change) {
	for _, inst := range l.order {
		row := &InstanceChange{Name: inst.Name, Added: true}
		if old := l.predecessor(inst); old != nil {
			row = l.changes[old]
		}
		granted, awaiting := inst.Ports()
		row.AwaitingRemoval += awaiting
		if row.Added {
			row.Granted += granted
		}
		if *row != (InstanceChange{Name: inst.Name}) {
			c.Instances = append(c.Instances, *row)
		}
	}
	for _, old := range l.former {
		if old != nil && l.successor(old) == nil {
			c.Instances = append(c.Instances, *l.changes[old])
		}
	}
	return c
}
