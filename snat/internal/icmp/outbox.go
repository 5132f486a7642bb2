package icmp

import (
	"iter"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Outbox holds packets until the driver asks for what the translator has made, other
// than resets: errors, within a rate, and the parts of packets that exceed the MTU. It
// is safe for concurrent use.
type Outbox struct {
	notice *flow.Notice // raised when a packet is the only one that waits; immutable
	silent [2]bool      // no errors to a side; immutable

	mu         sync.Mutex // taken after any other lock but those that only a fork takes with it; guards all below
	rate       Rate       // of errors
	queue      []flow.Emission
	bytes      int // of packets in queue
	errors     uint64
	suppressed uint64
}

// maxOutbox bounds the bytes that wait: no packet is added while there are as many.
const maxOutbox = 4 << 20

// Init says who is told that packets wait where there were none, to which sides no
// errors are sent, and how many errors per second and at once are, both above 0. It
// comes before all else.
func (o *Outbox) Init(notice *flow.Notice, silent [2]bool, rate, burst int) {
	o.notice, o.silent = notice, silent
	o.rate.Init(rate, burst)
}

// Silent reports whether no errors are sent to a side.
func (o *Outbox) Silent(to flow.Side) bool { return o.silent[to] }

// Report queues an error that build makes, with the other fields of e, if the rate
// permits and there is room; else it counts one that is suppressed. To a silent side
// nothing is sent or counted. It asks the rate for the time of e, so errors must come
// in the order of their times.
func (o *Outbox) Report(e flow.Emission, build func() []byte) {
	if o.silent[e.To] {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes >= maxOutbox || !o.rate.Take(e.At, 1) {
		o.suppressed++
		return
	}
	o.errors++
	e.Packet = build()
	o.put(e)
}

// Suppress counts an error that cannot be made.
func (o *Outbox) Suppress() {
	o.mu.Lock()
	o.suppressed++
	o.mu.Unlock()
}

// Add queues packets, all or none, with the other fields of e, and reports whether there
// was room. The packets are not made if there is none.
func (o *Outbox) Add(e flow.Emission, packets iter.Seq[wire.IPv4]) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes >= maxOutbox {
		return false
	}
	for e.Packet = range packets {
		o.put(e)
	}
	return true
}

// put queues a packet. mu must be held.
func (o *Outbox) put(e flow.Emission) {
	if len(o.queue) == 0 {
		o.notice.Raise()
	}
	o.queue = append(o.queue, e)
	o.bytes += len(e.Packet)
}

// Advance emits all packets that wait, in the order in which they came; a nil sink
// discards them. No lock is held while emit runs.
func (o *Outbox) Advance(emit flow.Sink) {
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

// NextDeadline returns the time of the first packet that waits, and whether there is
// one.
func (o *Outbox) NextDeadline() (at flow.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return 0, false
	}
	return o.queue[0].At, true
}

// Errors returns how many errors have been queued, and how many suppressed.
func (o *Outbox) Errors() (made, suppressed uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.errors, o.suppressed
}
