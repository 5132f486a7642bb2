package flow

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

const day = 24 * time.Hour

// alone returns the only shard of a table with the timeouts of the model.
func alone(t testing.TB) *Shard {
	return newTable(t, Config{Shards: 1, Timeouts: spread}).Shard(0)
}

// add inserts the n-th session.
func (sh *Shard) add(n uint32, class Class, now Time) ID {
	id, s := sh.New(n%2 == 1)
	s.Key = Key{SrcPort: uint16(n), DstPort: uint16(n >> 16), VNIProto: 17}
	if !id.Is6() {
		s.Key.Src = n
	}
	s.Track.Class = class
	sh.Insert(id, s, now)
	return id
}

// tick returns the time of a tick.
func tick(n uint64) Time { return Time(n) * Time(Tick) }

// drain removes everything due at now and returns when it expired.
func (sh *Shard) drain(now Time) (at []Time) {
	for {
		ids, when, more := sh.Expire(now)
		for _, id := range ids {
			at = append(at, when)
			sh.Remove(id, sh.At(id))
		}
		if !more {
			sh.checker.check(sh)
			return at
		}
	}
}

// TestExpireExactly holds every class to the promise of Time: used anywhere
// within tick t, expired at the start of tick t + timeout.
func TestExpireExactly(t *testing.T) {
	ticks := spread.ticks()
	for class := ClassTCPOpening; class < numBuiltinClasses; class++ {
		for _, start := range append(starts, 255, 256, 1<<24-1, 1<<32-1<<24) {
			for _, within := range []Time{0, Time(Tick) - 1} {
				sh := alone(t)
				sh.add(1, class, tick(start)+within)
				end := tick(start + uint64(ticks[class]))
				require.Empty(t, sh.drain(end-1), "%v from tick %d", class, start)
				at, ok := sh.NextDeadline()
				require.True(t, ok)
				require.Equal(t, end, at, "%v from tick %d", class, start)
				require.Equal(t, []Time{end}, sh.drain(end), "%v from tick %d", class, start)
				_, ok = sh.NextDeadline()
				require.False(t, ok)
			}
		}
	}
}

// TestExpireOrder expires many sessions in one go, after a jump of days: each
// says when its time was, in order.
func TestExpireOrder(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ticks := spread.ticks()
	for _, start := range starts {
		sh := alone(t)
		var want []Time
		now := start
		for n := range uint32(5000) {
			class := ClassTCPOpening + Class(rng.IntN(int(numBuiltinClasses)-1))
			sh.add(n, class, tick(now))
			want = append(want, tick(now+uint64(ticks[class])))
			now += rng.Uint64N(20)
		}
		slices.Sort(want)
		require.Equal(t, want, sh.drain(tick(now)+Time(500*day)))
		require.Zero(t, sh.Len())
	}
}

// TestTouchWithoutArming keeps a session alive by writing its record only.
func TestTouchWithoutArming(t *testing.T) {
	sh := alone(t)
	id := sh.add(1, ClassTCPTimeWait, 0) // 5 s
	s := sh.At(id)
	for now := Time(0); now < Time(time.Hour); now = now.Add(4999 * Tick) {
		s.TouchTick(TickOf(now))
		require.Empty(t, sh.drain(now.Add(4998*Tick)))
		require.Equal(t, now.Add(5*time.Second), sh.Deadline(s))
		require.False(t, sh.Expired(s, TickOf(now.Add(4999*Tick))))
		require.True(t, sh.Expired(s, TickOf(now.Add(5*time.Second))))
	}
	last := tick(uint64(s.last))
	assert.Equal(t, []Time{last.Add(5 * time.Second)}, sh.drain(last+Time(day)))
}

// TestTouchALittleLater touches sessions a few ticks after they were armed: the
// timer fires that much early, and must not be taken for the deadline.
func TestTouchALittleLater(t *testing.T) {
	for later := range uint64(600) {
		for _, class := range []Class{ClassTCPEstablished, ClassTCPTimeWait} {
			sh := alone(t)
			sh.At(sh.add(1, class, 0)).Touch(tick(later))
			want := tick(later + uint64(sh.timeouts[class]))
			for now := Time(0); now < want; now += want / 7 {
				require.Empty(t, sh.drain(now), "%d ticks later", later)
			}
			require.Empty(t, sh.drain(want-1), "%d ticks later", later)
			require.Equal(t, []Time{want}, sh.drain(want), "%d ticks later", later)
		}
	}
}

// TestExpireOutOfOrder calls Expire with a time that has passed, as goroutines
// may: nothing happens, and nothing fires twice or late afterwards.
func TestExpireOutOfOrder(t *testing.T) {
	sh := alone(t)
	sh.add(1, ClassTCPTimeWait, 0)
	require.Empty(t, sh.drain(At(4*time.Second)))
	require.Empty(t, sh.drain(At(time.Second)))
	id := sh.add(2, ClassTCPEstablished, At(2*time.Second)) // over before it began
	assert.Equal(t, At(4*time.Second), sh.Deadline(sh.At(id)))
	assert.Equal(t, []Time{At(4 * time.Second), At(5 * time.Second)}, sh.drain(At(time.Hour)))
}

func TestRearm(t *testing.T) {
	second := At(time.Second)
	for _, c := range []struct {
		name     string
		from, to Class
		touch    bool
		want     Time
	}{
		{"shorter, from the last activity", ClassICMP, ClassTCPTimeWait, false, 5 * second},
		{"shorter, from now", ClassICMP, ClassTCPTimeWait, true, 8 * second},
		{"longer", ClassTCPTimeWait, ClassTCPReset, false, At(65536 * Tick)},
		{"so short that it is over", ClassICMP, ClassTCPOpening, false, 2 * second},
		{"no timeout", ClassTCPTimeWait, ClassNone, true, 0},
		{"a timeout after none", ClassNone, ClassTCPTimeWait, false, 5 * second},
	} {
		t.Run(c.name, func(t *testing.T) {
			sh := alone(t)
			id := sh.add(1, c.from, 0)
			neighbours := []ID{sh.add(2, c.from, 0), sh.add(3, c.from, 0)} // same slot
			sh.Expire(2 * second)                                          // what is over expires at once, not in the past
			s := sh.At(id)
			s.Track.Class = c.to
			if c.touch {
				s.Touch(3 * second)
			}
			sh.Rearm(id, s)
			for _, id := range neighbours {
				sh.Remove(id, sh.At(id))
			}
			sh.checker.check(sh)
			if c.want == 0 {
				assert.Empty(t, sh.drain(At(400*day)))
				return
			}
			at, ok := sh.NextDeadline()
			require.True(t, ok)
			assert.LessOrEqual(t, at, c.want)
			assert.Equal(t, []Time{c.want}, sh.drain(At(400*day)))
		})
	}
}

// TestExpireIsBounded fires more timers than one call may visit.
func TestExpireIsBounded(t *testing.T) {
	const n = 10_000
	sh := alone(t)
	ids := make([]ID, n)
	for i := range ids {
		ids[i] = sh.add(uint32(i), ClassTCPTimeWait, 0)
	}
	for _, id := range ids {
		sh.At(id).Touch(At(4 * time.Second))
	}
	// At 5 s every timer fires early; nothing is due and the work comes in parts.
	calls, end := 0, At(5*time.Second)
	for more := true; more; calls++ {
		var due []ID
		due, _, more = sh.Expire(end)
		require.Empty(t, due)
		at, ok := sh.NextDeadline()
		require.True(t, ok)
		require.LessOrEqual(t, at, At(9*time.Second))
		sh.checker.check(sh)
	}
	// Each timer is visited when it comes down a level and when it fires.
	assert.GreaterOrEqual(t, calls, n/expireBudget+1)
	assert.LessOrEqual(t, calls, wheelLevels*n/expireBudget+1)
	require.Equal(t, n, sh.Len())

	batches := 0
	end = At(9 * time.Second)
	for more := true; more; {
		var due []ID
		var at Time
		due, at, more = sh.Expire(end)
		require.LessOrEqual(t, len(due), dueBatch)
		if len(due) > 0 {
			batches++
		}
		for _, id := range due {
			require.Equal(t, end, at)
			sh.Remove(id, sh.At(id))
		}
		if sh.Len() > 0 {
			at, ok := sh.NextDeadline()
			require.True(t, ok)
			require.LessOrEqual(t, at, end, "%d sessions are due", sh.Len())
		}
	}
	assert.Zero(t, sh.Len())
	assert.Equal(t, (n+dueBatch-1)/dueBatch, batches, "full batches but for the last")
}

// TestNextDeadlineLoop is the loop of an event-driven simulator: it must come
// back for each session exactly when that expires, in few steps.
func TestNextDeadlineLoop(t *testing.T) {
	const seed, n = 12, 400
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ticks := spread.ticks()
	for _, start := range starts {
		sh := alone(t)
		due := map[ID]Time{}
		for i := range uint32(n) {
			class := ClassTCPOpening + Class(rng.IntN(int(numBuiltinClasses)-1))
			now := start + rng.Uint64N(3_600_000)
			if i == 0 {
				now = start
			}
			due[sh.add(i, class, tick(now))] = tick(now + uint64(ticks[class]))
		}
		steps, last := 0, Time(-1)
		for at, ok := sh.NextDeadline(); ok; at, ok = sh.NextDeadline() {
			require.Greater(t, at, last, "no progress")
			last = at
			for more := true; more; {
				var ids []ID
				ids, _, more = sh.Expire(at)
				for _, id := range ids {
					require.Equal(t, due[id], at)
					delete(due, id)
					sh.Remove(id, sh.At(id))
				}
			}
			steps++
		}
		assert.Empty(t, due)
		assert.LessOrEqual(t, steps, wheelLevels*n)
	}
}

// TestNextDeadlineAfterArmingForNow arms a timer in the slot that has just
// fired: it is due now, not one turn of the wheel later.
func TestNextDeadlineAfterArmingForNow(t *testing.T) {
	for _, now := range []Time{At(1000 * Tick), At(1024 * Tick), tick(1 << 16), tick(1 << 24)} {
		sh := alone(t)
		id := sh.add(1, ClassICMP, 0)
		require.Empty(t, sh.drain(now))
		s := sh.At(id)
		s.Track.Class = ClassTCPOpening
		sh.Rearm(id, s)
		at, ok := sh.NextDeadline()
		require.True(t, ok)
		assert.Equal(t, now, at)
		assert.Equal(t, []Time{now}, sh.drain(now))
	}
}

// TestFirstInsertionAnywhere begins a table at any time without a call of
// Expire, also after its last session has gone.
func TestFirstInsertionAnywhere(t *testing.T) {
	sh := alone(t)
	for i, start := range []time.Duration{0, 25 * day, 50 * day, 400 * day, 20_000 * day} {
		now := At(start)
		id := sh.add(uint32(i), ClassTCPTimeWait, now)
		assert.Equal(t, now.Add(5*time.Second), sh.Deadline(sh.At(id)))
		if i%2 == 0 {
			assert.Equal(t, []Time{now.Add(5 * time.Second)}, sh.drain(now.Add(time.Hour)))
		} else {
			sh.Remove(id, sh.At(id))
		}
		assert.Zero(t, sh.Len())
	}
}

// TestFarFromTheWheel inserts as far from the time that Expire has reached as is
// allowed, on either side, and tells where that ends.
func TestFarFromTheWheel(t *testing.T) {
	for _, start := range starts {
		for _, c := range []struct {
			name string
			lag  int64
			near bool
		}{
			{"the present", 0, true},
			{"a little later", maxLag - 1, true},
			{"as late as may be", maxLag, true},
			{"too late", maxLag + 1, false},
			{"as early as may be", -maxLag, true},
			{"too early", -maxLag - 1, false},
		} {
			base := start + 1<<31
			sh := alone(t)
			require.Empty(t, sh.drain(tick(base)))
			sh.add(1, ClassNone, tick(base))
			now := tick(base + uint64(c.lag))
			require.Equal(t, c.near, sh.Near(now), "%s, from tick %d", c.name, base)
			require.Equal(t, tick(base), sh.Reached())
			if !c.near {
				continue
			}
			s := sh.At(sh.add(2, ClassTCPTimeWait, now))
			want := max(now.Add(5*time.Second), tick(base))
			require.Equal(t, want, sh.Deadline(s), c.name)
			require.False(t, sh.Expired(s, TickOf(now)-1), c.name)
			require.False(t, sh.Expired(s, TickOf(now)+4999), c.name)
			if sh.Near(now.Add(5 * time.Second)) {
				require.True(t, sh.Expired(s, TickOf(now)+5000), c.name)
			}
			require.Equal(t, []Time{want}, sh.drain(want.Add(day)), c.name)
		}
	}
}

// TestLongestTimeout keeps a session of the longest timeout, which is judged by
// packets that come as long after Expire as is allowed.
func TestLongestTimeout(t *testing.T) {
	for _, start := range starts {
		for _, reached := range []uint64{0, 1, 1_000_000_000, uint64(maxTicks) - 1} {
			table := newTable(t, Config{Shards: 1, Timeouts: Timeouts{UDP: MaxTimeout}})
			sh := table.Shard(0)
			s := sh.At(sh.add(1, ClassUDP, tick(start)))
			require.Empty(t, sh.drain(tick(start+reached)))
			for _, now := range []uint64{1, 1 << 29, 1 << 30, uint64(maxTicks) - 1, uint64(maxTicks), uint64(maxTicks) + 1, 1 << 31, 1<<31 + 1<<29} {
				if sh.Near(tick(start + now)) {
					require.Equal(t, now >= uint64(maxTicks), sh.Expired(s, TickOf(tick(start+now))), "reached %d, now %d", reached, now)
				}
			}
			require.Equal(t, []Time{tick(start).Add(MaxTimeout)}, sh.drain(tick(start).Add(2*MaxTimeout)))
		}
	}
}

// TestIdleWithoutTimeout leaves a session alone for years that then gets a timeout:
// none is so long that it is not over.
func TestIdleWithoutTimeout(t *testing.T) {
	for _, idle := range []time.Duration{23 * day, 25 * day, 50 * day, 60 * day, 99 * day, 1000 * day} {
		sh := alone(t)
		id := sh.add(1, FirstCustomClass, 0)
		sh.drain(At(idle))
		sh.SetClassTimeout(FirstCustomClass, MaxTimeout)
		sh.Rearm(id, sh.At(id))
		require.Equal(t, idle >= MaxTimeout, sh.Expired(sh.At(id), TickOf(At(idle))), idle)
		require.Equal(t, max(At(idle), At(MaxTimeout)), sh.Deadline(sh.At(id)), idle)
	}
}

// TestTicksOfSides keeps the ticks that sessions of UDP hold for each side, of which
// one may be silent for years, in their order.
func TestTicksOfSides(t *testing.T) {
	sh := alone(t)
	id := sh.add(1, ClassICMP, 0)
	s := sh.At(id)
	for now := Time(0); now < At(200*day); now = now.Add(day) {
		sh.drain(now)
		s.Touch(now)
		s.Track.Ack[Outside] = TickOf(now)
		require.Equal(t, now > 0, sh.Before(s.Track.Ack[Inside], s.Track.Ack[Outside]), now)
		require.False(t, sh.Before(s.Track.Ack[Outside], s.Track.Ack[Inside]), now)
		require.Zero(t, sh.Info(id).Idle)
	}
}

// TestEndOfTime goes to the last moment there is.
func TestEndOfTime(t *testing.T) {
	sh := alone(t)
	sh.add(1, ClassTCPTimeWait, 0)
	sh.add(2, ClassNone, 0)
	require.Equal(t, []Time{At(5 * time.Second)}, sh.drain(math.MaxInt64))
	sh.Expire(math.MaxInt64)
	id := sh.add(3, ClassUDP, math.MaxInt64)
	require.Equal(t, Time(math.MaxInt64), sh.Deadline(sh.At(id)))
	require.Empty(t, sh.drain(math.MaxInt64))
	require.True(t, sh.Near(math.MaxInt64))
	require.False(t, sh.Near(0))
	require.Equal(t, Time(math.MaxInt64), Time(math.MaxInt64).Add(1))
	require.Equal(t, Time(math.MinInt64), Time(math.MinInt64).Add(-1))
	require.Equal(t, Time(0), At(1).Add(-1))
}

// TestNeverExpires leaves sessions of classes without a timeout alone, for
// years; NextDeadline still asks for Expire at least every 24 days, which keeps
// the wheel near the present.
func TestNeverExpires(t *testing.T) {
	for _, class := range []Class{ClassNone, FirstCustomClass, Class(NumClasses - 1)} {
		t.Run(class.String(), func(t *testing.T) {
			sh := alone(t)
			s := sh.At(sh.add(1, class, 0))
			for now := Time(0); now < At(1000*day); {
				at, ok := sh.NextDeadline()
				require.True(t, ok)
				require.Greater(t, at, now)
				require.LessOrEqual(t, at, now.Add(24*day))
				now = at
				require.Empty(t, sh.drain(now))
				require.False(t, sh.Expired(s, TickOf(now)))
				require.Greater(t, sh.Deadline(s), now)
			}
		})
	}
}

// TestExpiredAcrossTheWrap compares Expired and Deadline tick by tick where 32
// bits of ticks are spent. A tick before the last activity is no expiry: packets
// of several goroutines may be a little out of order.
func TestExpiredAcrossTheWrap(t *testing.T) {
	const timeout = 5000
	for _, last := range []uint64{1<<32 - 6000, 1<<32 - 5000, 1<<32 - 1, 1 << 32, 3<<32 - 1} {
		sh := alone(t)
		s := sh.At(sh.add(1, ClassTCPTimeWait, tick(last)))
		for now := last - 3; now <= last+2*timeout; now++ {
			require.Equal(t, now >= last+timeout, sh.Expired(s, TickOf(tick(now))), "%d ticks after tick %d", int64(now-last), last)
		}
		require.Equal(t, tick(last+timeout), sh.Deadline(s))
		require.False(t, sh.Expired(s, TickOf(tick(max(last, maxLag)-maxLag))))
	}
}

// TestSlots walks the wheel's arithmetic: every deadline must be found again at
// or before its time, from any present.
func TestSlots(t *testing.T) {
	const seed = 13
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range pkttest.Operations(20_000, 200_000, 2_000_000) {
		w := wheel{tick: rng.Uint64() >> rng.IntN(60) >> 4}
		deadline := w.tick + 1 + rng.Uint64N(maxLag)>>rng.IntN(30)
		slot := w.slotOf(deadline)
		w.busy[slot>>6] |= 1 << (slot & 63)
		at, ok := w.next()
		require.True(t, ok)
		what := fmt.Sprintf("tick %d, deadline %d, slot %#x", w.tick, deadline, slot)
		require.Greater(t, at, w.tick, what)
		require.LessOrEqual(t, at, deadline, what)
		require.Equal(t, at, w.firesAt(slot, deadline), what)
		if deadline-w.tick < wheelSlots {
			require.Equal(t, deadline, at, what)
		}
		require.False(t, w.overdue(), what)
	}
}

// TestPass lets one shard ask Pass before each Expire, and another one not: both return
// the same sessions at the same times, whatever comes in between, and reach the same time.
func TestPass(t *testing.T) {
	const seed = 17
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	asks, plain := alone(t), alone(t)
	var ids []ID
	passed, now := 0, uint64(0)
	for n := range uint32(20_000) {
		switch k := rng.IntN(8); {
		case k < 3:
			class := ClassTCPOpening + Class(rng.IntN(int(numBuiltinClasses)-1))
			id := asks.add(n, class, tick(now))
			require.Equal(t, id, plain.add(n, class, tick(now)))
			ids = append(ids, id)
		case k < 5 && len(ids) > 0:
			i := rng.IntN(len(ids))
			for _, sh := range []*Shard{asks, plain} {
				if s := sh.At(ids[i]); k == 3 {
					s.Touch(tick(now))
				} else if s.Track.Class = ClassTCPTimeWait; true {
					sh.Rearm(ids[i], s)
				}
			}
		default:
			now += rng.Uint64N(2 << rng.IntN(14))
			if rng.IntN(8) == 0 { // a packet that comes late
				now -= min(now, rng.Uint64N(40))
			}
			want := plain.gone(tick(now))
			if asks.Pass(tick(now)) {
				require.Empty(t, want)
				passed++
			} else {
				require.Equal(t, want, asks.gone(tick(now)))
			}
			require.Equal(t, plain.Reached(), asks.Reached())
			ids = slices.DeleteFunc(ids, func(id ID) bool { return slices.Contains(want, id) })
		}
	}
	assert.Greater(t, passed, 1000)
}

// gone is drain that returns the sessions.
func (sh *Shard) gone(now Time) (gone []ID) {
	for {
		ids, _, more := sh.Expire(now)
		gone = append(gone, ids...)
		for _, id := range ids {
			sh.Remove(id, sh.At(id))
		}
		if !more {
			return gone
		}
	}
}
