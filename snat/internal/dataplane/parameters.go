package dataplane

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The records of deterministic mappings: RFC 7422 wants the parameters
// logged whenever they change and once a day. Times are those of Advance, which
// is the first to know when the simulation begins.

const (
	recordInterval       = 24 * time.Hour
	atOnce         int64 = -1                 // with the next Advance
	never                = int64(ports.Never) // there is nothing to tell
)

// scheduleRecords is the end of a reconfiguration, or of New.
func (n *NAT) scheduleRecords(now flow.Time, l *layout) {
	changed := false
	for _, inst := range l.fresh {
		old := l.predecessor(inst.Index, inst.Name)
		changed = changed || old == nil && inst.Deterministic != nil || old != nil && !inst.Deterministic.Equal(old.Deterministic)
	}
	switch {
	case n.config.Hooks.Parameters == nil || !n.config.Ports.Deterministic:
		n.recordAt.Store(never)
	case len(l.former) == 0:
		n.recordAt.Store(atOnce)
	case changed:
		n.recordAt.Store(int64(now.Add(recordInterval)))
		n.logParameters(now)
	}
}

// logDaily tells of the parameters for the first day that has passed since it last
// did, and reports whether that may not be the last one.
func (n *NAT) logDaily(now flow.Time) (more bool) {
	if at := n.recordAt.Load(); at > int64(now) || at == never {
		return false
	}
	n.control.Lock()
	defer n.control.Unlock()
	at := flow.Time(n.recordAt.Load())
	if at == flow.Time(atOnce) {
		at = now
	}
	if at > now || at == ports.Never {
		return false // another goroutine has told
	}
	n.logParameters(at)
	n.recordAt.Store(int64(at.Add(recordInterval)))
	return true
}

// logParameters tells of all deterministic mappings. The caller holds control.
func (n *NAT) logParameters(at flow.Time) {
	for _, inst := range n.order {
		if inst.Deterministic != nil {
			n.config.Hooks.Parameters(at, &inst.Instance)
		}
	}
}
