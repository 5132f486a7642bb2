package snat

import (
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
)

// outbox holds the packets that the translator makes itself, other than resets:
// ICMP errors and the parts of packets that exceed the MTU. They leave by Advance.
type outbox struct {
	silent [2]bool // no errors to a side; immutable

	mu     sync.Mutex // taken after any other lock; guards all below
	rate   tokens     // for errors
	queue  []flow.Emission
	bytes  int // of packets in queue
	errors uint64
	kept   uint64    // errors not made
	lost   [2]uint64 // packets that were translated, but not split for want of memory
}

// maxOutbox bounds the bytes that wait for Advance.
const maxOutbox = 4 << 20

// complain queues an error if the rate permits.
func (o *outbox) complain(e flow.Emission, build func() []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes >= maxOutbox || !o.rate.take(e.At, 1) {
		o.kept++
		return
	}
	o.errors++
	e.Packet = build()
	o.put(e)
}

// suppress counts an error that cannot be made.
func (o *outbox) suppress() {
	o.mu.Lock()
	o.kept++
	o.mu.Unlock()
}

// put queues a packet. mu must be held.
func (o *outbox) put(e flow.Emission) {
	o.queue = append(o.queue, e)
	o.bytes += len(e.Packet)
}

// advance emits all packets that wait; a nil sink discards them.
func (o *outbox) advance(emit flow.Sink) {
	o.mu.Lock()
	queue := o.queue
	o.queue, o.bytes = nil, 0
	o.mu.Unlock()
	if emit != nil {
		for _, e := range queue {
			emit(e)
		}
	}
}

// nextDeadline is the part of NextDeadline that these packets have.
func (o *outbox) nextDeadline() (at flow.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return 0, false
	}
	return o.queue[0].At, true
}

// addTo sets the counts of errors, and takes from those of forwarded packets what
// was counted there before it was lost.
func (o *outbox) addTo(s *Stats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.ICMPErrors, s.ICMPErrorsSuppressed = o.errors, o.kept
	s.Outbound.Forwarded -= o.lost[flow.Inside]
	s.Inbound.Forwarded -= o.lost[flow.Outside]
}
