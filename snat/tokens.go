package snat

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// tokens is a token bucket in virtual time. It counts in time: a token is worth
// an interval, and what lies between next and now is what there is to spend, at
// most the depth. The zero value gives tokens without limit.
type tokens struct {
	interval, depth time.Duration
	next            flow.Time
	latest          flow.Time // that tokens were asked for
}

// init fills the bucket, for a rate of tokens per second and a burst, both above 0.
func (b *tokens) init(rate, burst int) {
	b.interval = time.Second / time.Duration(rate)
	b.depth = b.interval * time.Duration(burst)
	b.next = flow.Time(0).Add(-b.depth)
}

// take takes n tokens, or none, and reports whether there were as many. Where now
// goes back, as for what was due before but is only seen now, it stands still.
func (b *tokens) take(now flow.Time, n int) bool {
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

// maxResetRate bounds Policy.ResetRate, so that an interval is whole microseconds
// at least.
const maxResetRate = 1_000_000

// mayReset reports whether the shard may make n RSTs at a time, and takes them
// off what it may.
func (sh *shard) mayReset(at flow.Time, n int) bool {
	return len(sh.resets)+n <= maxResets && sh.mayResets.take(at, n)
}

// mayAnswer is mayReset for a RST that answers a packet: the connections that end
// before that come first.
func (sh *shard) mayAnswer(now flow.Time) bool {
	sh.expireAll(now)
	return sh.mayReset(now, 1)
}
