package agenda_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/whatif/internal/agenda"
)

// Entries come in the order of their steps; all that was put comes, near and far, and a clone
// gives the same again.
func TestAgenda(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a := agenda.New()
	want := map[int64][]uint32{} // by step
	now, owner := int64(0), uint32(0)
	put := func() {
		step := now + [3]int64{rng.Int64N(10), rng.Int64N(20_000), rng.Int64N(200_000)}[rng.IntN(3)]
		a.Put(step, agenda.Entry{Owner: owner, Ticket: owner + 1})
		want[step] = append(want[step], owner)
		owner++
	}
	for range 1000 {
		put()
	}
	clone := a.Clone()
	var all [2][]agenda.Entry
	for range 30_000 {
		step, ok := a.Next()
		if !ok {
			break
		}
		require.GreaterOrEqual(t, step, now)
		now = step
		var got []uint32
		for {
			e, ok := a.Take(step)
			if !ok {
				break
			}
			require.Equal(t, e.Owner+1, e.Ticket)
			all[0] = append(all[0], e)
			got = append(got, e.Owner)
			if owner < 5000 {
				put()
			}
		}
		slices.Sort(got) // what has waited comes behind what has not
		require.Equal(t, want[step], got, "step %d", step)
		delete(want, step)
	}
	assert.Empty(t, want)
	assert.Zero(t, a.Len())
	assert.Len(t, all[0], 5000)

	assert.Equal(t, 1000, clone.Len())
	for step, ok := clone.Next(); ok; step, ok = clone.Next() {
		for e, more := clone.Take(step); more; e, more = clone.Take(step) {
			all[1] = append(all[1], e)
		}
	}
	assert.Len(t, all[1], 1000)
}

// Entries of one step that were put in the ring keep their order, and room is used again.
func TestAgendaOrder(t *testing.T) {
	a := agenda.New()
	for i := range uint32(100) {
		a.Put(7, agenda.Entry{Owner: i})
	}
	for i := range uint32(100) {
		e, ok := a.Take(7)
		require.True(t, ok)
		assert.Equal(t, i, e.Owner)
	}
	_, ok := a.Take(7)
	assert.False(t, ok)
	_, ok = a.Next()
	assert.False(t, ok)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		a.Put(9, agenda.Entry{})
		a.Take(9)
	}))
}
