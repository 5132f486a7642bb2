package resets

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// ForkTo makes to, which is zero, a copy of q, with a notice of its own; see Init, whose place
// it takes. A step that has been taken is in neither.
func (q *Queue) ForkTo(to *Queue, notice *flow.Notice) {
	*to = *q
	to.notice, to.waiting = notice, slices.Clone(q.waiting)
}
