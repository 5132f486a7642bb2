package dataplane

// The report of a reconfiguration.

// Change is what a reconfiguration did to one instance. Ports of TCP, of UDP and
// identifiers of queries count separately.
type Change struct {
	Name           string // of the instance
	Added, Removed bool   // whether the instance is new, or gone

	Granted         int // ports it has got
	Reclaimed       int // ports it has lost
	AwaitingRemoval int // ports it has lost, now or before, that carry flows for a while

	Cut [NumCutCauses]int // sessions ended, by cause
}

// compare counts the ports that an instance gets and loses.
func (l *layout) compare(old *instance) {
	row := &Change{Name: old.Name}
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
func (l *layout) change() (all []Change) {
	for _, inst := range l.order {
		row := &Change{Name: inst.Name, Added: true}
		if old := l.predecessor(inst); old != nil {
			row = l.changes[old]
		}
		granted, awaiting := inst.Ports()
		row.AwaitingRemoval += awaiting
		if row.Added {
			row.Granted += granted
		}
		if *row != (Change{Name: inst.Name}) {
			all = append(all, *row)
		}
	}
	for _, old := range l.former {
		if old != nil && l.successor(old) == nil {
			all = append(all, *l.changes[old])
		}
	}
	return all
}
