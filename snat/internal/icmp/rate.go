package icmp

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Rate is a token bucket in virtual time, for what is made for others. It counts in time: a token is worth
// an interval, and what lies between next and now is what there is to spend, at
// most the depth. The zero value gives
// tokens without limit. It is guarded by whoever owns it.
type Rate struct {
	interval, depth time.Duration
	next            flow.Time
	latest          flow.Time // that tokens were asked for
}

// Init fills the bucket, for a rate of tokens per second and a burst, both above 0.
func (b *Rate) Init(rate, burst int) {
	b.interval = time.Second / time.Duration(rate)
	b.depth = b.interval * time.Duration(burst)
	b.next = flow.Time(0).Add(-b.depth)
}

// Take takes n tokens, or none, and reports whether there were as many. Where now
// goes back, as for what was due before but is only seen now, it stands still.
func (b *Rate) Take(now flow.Time, n int) bool {
	if b.interval == 0 {
		return true
	}
	now = max(now, b.latest)
	b.latest = now
	next := max(b.next, now.Add(-b.depth)).Add(b.interval * time.Duration(n))
	if next > now {
		return false
	}
	b.next = next
	return true
}
