package heldsyn

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// Lock locks a table, for Fork.
func (h *Table) Lock() {
	if h != nil {
		h.mu.Lock()
	}
}

// Unlock is the inverse of Lock.
func (h *Table) Unlock() {
	if h != nil {
		h.mu.Unlock()
	}
}

// Fork returns a copy of h, which is locked. What becomes of its SYNs goes to outbox, and
// notice is its own; see [New].
func (h *Table) Fork(outbox *icmp.Outbox, notice *flow.Notice) *Table {
	if h == nil {
		return nil
	}
	to := &Table{outbox: outbox, notice: notice, max: h.max, wait: h.wait, all: slices.Clone(h.all), stats: h.stats}
	for i := range to.all {
		to.all[i].answer = slices.Clone(h.all[i].answer)
	}
	return to
}
