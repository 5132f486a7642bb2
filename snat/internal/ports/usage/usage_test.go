package usage_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// TestCountsAgainstList shifts ports between uses by chance, and counts a plain list of them.
func TestCountsAgainstList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	list := make([]usage.Use, 40)
	var counts, total = usage.Counts{}, usage.Total{}
	peak := 0
	for step := range 2000 {
		i, is := random.IntN(len(list)), usage.Use(random.IntN(int(usage.Excluded)+1))
		was := list[i]
		list[i] = is
		counts.Shift(was, is)
		total.Shift(was, is)
		switch {
		case was == usage.Unused && is != usage.Unused:
			total.Take(0, func() bool { return false })
		case was != usage.Unused && is == usage.Unused:
			total.Give(0, false)
		}
		want, used := usage.Uses{}, 0
		for _, u := range list {
			if u != usage.Unused {
				used++
			}
			if at := [...]*int{usage.Active: &want.Active, usage.HeldFIN: &want.HeldFIN, usage.HeldRST: &want.HeldRST, usage.HeldUDP: &want.HeldUDP, usage.Resting: &want.Resting, usage.Excluded: &want.Excluded}[u]; at != nil {
				*at++
			}
		}
		peak = max(peak, used)
		assert.Equal(t, want, counts.Uses(), "step %d", step)
		assert.Equal(t, want, total.Uses(), "step %d", step)
		assert.Equal(t, [3]int{used, used, peak}, [3]int{int(counts.Used), total.Used(), total.Peak()}, "step %d", step)
	}
	var again usage.Total
	again.Inherit(&total)
	again.Withdraw(&counts)
	assert.Zero(t, again.Uses(), "all is withdrawn")
}

func TestAPeakIsTakenBackIfItRoseTooLate(t *testing.T) {
	tick := flow.Time(flow.Tick)
	lags := true
	var c usage.Total
	take := func(at flow.Time) { c.Take(at, func() bool { return lags }) }
	take(tick)
	take(5 * tick)
	until, ok := c.Until()
	assert.True(t, ok)
	assert.Equal(t, 5*tick, until)
	c.Give(3*tick, true) // it was over at 3, so that at 5 there was one only
	assert.Equal(t, [2]int{1, 1}, [2]int{c.Used(), c.Peak()})
	take(6 * tick)
	assert.Equal(t, 2, c.Peak())
	c.Give(6*tick, false)
	assert.Equal(t, 2, c.Peak(), "two there were")
	lags = false
	take(7 * tick)
	take(8 * tick)
	_, ok = c.Until()
	assert.False(t, ok, "all that had ended was noticed")
	assert.Equal(t, 3, c.Peak())
	c.Give(2*tick, true)
	assert.Equal(t, 3, c.Peak(), "it is for good")
}

func TestSessionsOfAPortCountByClass(t *testing.T) {
	var p usage.Port
	for class, is := range map[flow.Class]*uint32{
		flow.ClassTCPOpening: &p.Active, flow.ClassUDPHeld: &p.Held, flow.ClassTCPClosing: &p.Held, flow.ClassTCPReset: &p.Reset,
	} {
		assert.Same(t, is, p.Of(class), "class %v", class)
	}
}
