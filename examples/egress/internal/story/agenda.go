// The order of events: a binary heap of performances by the time of their next
// packet. Equal times go by the order in which the performances began, so that
// every run of one seed is the same.

package story

import "github.com/seed-a61be3fe/natplane/flow"

// agenda holds the performances under way, the earliest first.
type agenda []event

// event is the next packet of a performance.
type event struct {
	at    flow.Time
	order int // of the performance's start
	what  *performance
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.order < o.order
}

// push adds an event.
func (a *agenda) push(e event) {
	*a = append(*a, e)
	h := *a
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// pop removes the earliest event.
func (a *agenda) pop() {
	h := *a
	last := len(h) - 1
	h[0], h[last] = h[last], event{}
	*a = h[:last]
	a.settle()
}

// settle restores the order after the earliest event was moved to a later time.
func (a *agenda) settle() {
	h := *a
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if right := child + 1; right < len(h) && h[right].before(&h[child]) {
			child = right
		}
		if !h[child].before(&h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
