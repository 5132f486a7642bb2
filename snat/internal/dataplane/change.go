package dataplane

import (
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
)

// The report of a reconfiguration.

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

// row returns the report about an instance, one that is in force until now if it has been
// there before.
func (l *layout) row(inst *instance) *Change {
	if l.changes[inst] == nil {
		l.changes[inst] = &Change{Name: inst.Name}
	}
	return l.changes[inst]
}

// compare counts the ports that instances get and lose.
func (l *layout) compare() {
	for _, inst := range l.fresh {
		if old := l.predecessor(inst.Index, inst.Name); old == nil {
			row := l.row(inst)
			row.Added = true
			row.Granted, _ = inst.Ports()
		} else {
			row := l.row(old)
			row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, &inst.Instance)
		}
	}
	for _, old := range l.gone {
		row := l.row(old)
		row.Removed = true
		row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, nil)
	}
}

// countAwaiting counts the ports that await removal. The locks of all shards must be held.
func (l *layout) countAwaiting() {
	for _, inst := range l.fresh {
		if _, awaiting := inst.Ports(); awaiting > 0 {
			l.row(l.predecessor(inst.Index, inst.Name)).AwaitingRemoval = awaiting
		}
	}
}

// change returns the report.
func (l *layout) change() (all []Change) {
	for _, inst := range l.order {
		key := inst
		if old := l.predecessor(inst.Index, inst.Name); old != nil {
			key = old
		}
		if row := l.changes[key]; row != nil && *row != (Change{Name: inst.Name}) {
			all = append(all, *row)
		}
	}
	for _, old := range l.gone {
		all = append(all, *l.changes[old])
	}
	return all
}
