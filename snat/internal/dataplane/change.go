package dataplane

import (
	"github.com/seed-a61be3fe/natplane/snat/internal/changes"
)

// What a reconfiguration reports.

// compare counts the ports that instances get and lose.
func (l *layout) compare() {
	for _, inst := range l.fresh {
		row := l.changes.Of(inst.Name)
		if old := l.predecessor(inst.Index, inst.Name); old == nil {
			row.Added = true
			row.Granted, _ = inst.Ports()
		} else {
			row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, &inst.Instance)
		}
	}
	for _, old := range l.gone {
		row := l.changes.Of(old.Name)
		row.Removed = true
		row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, nil)
	}
}

// countAwaiting counts the ports that await removal. The locks of all shards must be held.
func (l *layout) countAwaiting() {
	for _, inst := range l.fresh {
		if _, awaiting := inst.Ports(); awaiting > 0 {
			l.changes.Of(inst.Name).AwaitingRemoval = awaiting
		}
	}
}

// change returns the report.
func (l *layout) change() []changes.Change {
	return l.changes.All(func(yield func(string) bool) {
		for _, all := range [...][]*instance{l.order, l.gone} {
			for _, inst := range all {
				if !yield(inst.Name) {
					return
				}
			}
		}
	})
}
