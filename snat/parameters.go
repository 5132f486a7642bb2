package snat

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// The records of deterministic mappings: RFC 7422 wants the parameters
// logged whenever they change and once a day. Times are those of Advance, which
// is the first to know when the simulation begins.

const (
	recordInterval       = 24 * time.Hour
	atOnce         int64 = -1           // with the next Advance
	never                = int64(noEnd) // there is nothing to tell
)

// scheduleRecords is the end of a reconfiguration, or of New.
func (n *NAT) scheduleRecords(now flow.Time, l *layout) {
	changed := false
	for _, inst := range n.order {
		old := l.predecessor(inst)
		changed = changed || old == nil && inst.deterministic != nil || old != nil && !inst.deterministic.same(old.deterministic)
	}
	switch {
	case n.config.Hooks.Event == nil || !n.config.deterministic():
		n.recordAt.Store(never)
	case len(l.former) == 0:
		n.recordAt.Store(atOnce)
	case changed:
		n.recordAt.Store(int64(now.Add(recordInterval)))
		n.logParameters(now)
	}
}

// logDaily tells of the parameters for every day that has passed.
func (n *NAT) logDaily(now flow.Time) {
	if n.recordAt.Load() > int64(now) {
		return
	}
	n.control.Lock()
	defer n.control.Unlock()
	at := n.recordAt.Load()
	if at == atOnce {
		at = int64(now)
	}
	for ; at <= int64(now); at += int64(recordInterval) {
		n.logParameters(flow.Time(at))
	}
	n.recordAt.Store(at)
}

// logParameters tells of all deterministic mappings. The caller holds control.
func (n *NAT) logParameters(at flow.Time) {
	for _, inst := range n.order {
		if d := inst.deterministic; d != nil {
			n.config.Hooks.Event(Event{At: at, Kind: EventParameters, Instance: inst.index, Parameters: d.Record(at)})
		}
	}
}
