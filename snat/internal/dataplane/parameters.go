package dataplane

import "github.com/seed-a61be3fe/natplane/flow"

// The records of deterministic mappings: RFC 7422 wants the parameters
// logged whenever they change and once a day. Times are those of Advance, which
// is the first to know when the simulation begins.

// scheduleRecords is the end of a reconfiguration, or of New.
func (n *NAT) scheduleRecords(now flow.Time, l *layout) {
	changed := false
	for _, inst := range l.fresh {
		old := l.predecessor(inst.Index, inst.Name)
		changed = changed || old == nil && inst.Deterministic != nil || old != nil && !inst.Deterministic.Equal(old.Deterministic)
	}
	switch {
	case n.config.Hooks.Parameters == nil || !n.config.Ports.Deterministic:
		n.records.Stop()
	case len(l.former) == 0:
		n.records.Begin()
	case changed || n.records.Stopped():
		n.logParameters(now)
	}
}

// logDaily tells of the parameters for the first day that has passed since it last
// did, and reports whether that may not be the last one.
func (n *NAT) logDaily(now flow.Time) (more bool) {
	if _, ok := n.records.Due(now); !ok {
		return false
	}
	n.control.Lock()
	defer n.control.Unlock()
	at, ok := n.records.Due(now)
	if ok { // else another goroutine has told
		n.logParameters(at)
	}
	return ok
}

// logParameters tells of all deterministic mappings, from then on once a day. The caller holds
// control.
func (n *NAT) logParameters(at flow.Time) {
	n.records.Told(at)
	for _, inst := range n.order {
		if inst.Deterministic != nil {
			n.config.Hooks.Parameters(at, &inst.Instance)
		}
	}
}
