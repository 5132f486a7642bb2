package icmp_test

import (
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// A bucket holds the burst, fills with the rate, and stands still where time goes back.
func TestRate(t *testing.T) {
	var r icmp.Rate
	assert.True(t, r.Take(0, 1<<20), "the zero value has no limit")
	r.Init(10, 3)
	at := func(d time.Duration) flow.Time { return flow.At(d) }
	assert.False(t, r.Take(0, 4), "all or none")
	assert.True(t, r.Take(0, 3))
	assert.False(t, r.Take(at(99*time.Millisecond), 1))
	assert.True(t, r.Take(at(100*time.Millisecond), 1))
	assert.False(t, r.Take(at(50*time.Millisecond), 1), "an earlier time")
	assert.True(t, r.Take(at(time.Hour), 3), "no more than the burst is saved")
	assert.False(t, r.Take(at(time.Hour), 1))
}

// In any second there are no more than the burst and what a second's rate gives.
func TestRateInTheLongRun(t *testing.T) {
	var r icmp.Rate
	r.Init(1000, 10)
	taken := 0
	for ms := range 10_000 {
		for r.Take(flow.At(time.Duration(ms)*time.Millisecond), 1) {
			taken++
		}
	}
	assert.Equal(t, 10+9_999, taken)
}

// emitted is what an outbox hands out.
func emitted(o *icmp.Outbox) (all []flow.Emission) {
	o.Advance(func(e flow.Emission) { all = append(all, e) })
	return all
}

// Errors leave once, in their order, within the rate and not to a silent side.
func TestOutbox(t *testing.T) {
	var o icmp.Outbox
	o.Init(nil, [2]bool{flow.Outside: true}, 1, 2)
	made := 0
	build := func() []byte { made++; return []byte{byte(made)} }
	_, ok := o.NextDeadline()
	assert.False(t, ok)
	assert.True(t, o.Silent(flow.Outside))
	o.Report(flow.Emission{To: flow.Outside}, build)
	o.Report(flow.Emission{At: 5, Instance: 3}, build)
	o.Report(flow.Emission{At: 6}, build)
	o.Report(flow.Emission{At: 7}, build)
	o.Suppress()
	at, ok := o.NextDeadline()
	assert.True(t, ok)
	assert.Equal(t, flow.Time(5), at)
	assert.Equal(t, []flow.Emission{{At: 5, Instance: 3, Packet: []byte{1}}, {At: 6, Packet: []byte{2}}}, emitted(&o))
	assert.Empty(t, emitted(&o))
	errors, suppressed := o.Errors()
	assert.Equal(t, [2]uint64{2, 2}, [2]uint64{errors, suppressed}, "nothing counts to a silent side")
	assert.Equal(t, 2, made)
}

// No more than the bound waits, and what is added together is added or left together.
func TestOutboxIsBounded(t *testing.T) {
	var o icmp.Outbox
	o.Init(nil, [2]bool{}, 1_000_000, 1_000_000)
	parts := func(n int) iter.Seq[wire.IPv4] {
		return slices.Values(slices.Repeat([]wire.IPv4{make(wire.IPv4, 1<<20)}, n))
	}
	assert.True(t, o.Add(flow.Emission{At: 9, To: flow.Outside}, parts(3)))
	assert.True(t, o.Add(flow.Emission{}, parts(2)), "there is room for a byte")
	assert.False(t, o.Add(flow.Emission{}, func(func(wire.IPv4) bool) { t.Error("made for nothing") }))
	o.Report(flow.Emission{}, func() []byte { t.Error("made for nothing"); return nil })
	_, suppressed := o.Errors()
	assert.Equal(t, uint64(1), suppressed)
	all := emitted(&o)
	assert.Len(t, all, 5)
	assert.Equal(t, flow.Time(9), all[2].At)
	assert.Equal(t, flow.Outside, all[2].To)
	assert.True(t, o.Add(flow.Emission{}, parts(1)), "the room is back")
	o.Advance(nil)
	assert.Empty(t, emitted(&o), "discarded")
}
