package podtable_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/overlay/internal/podtable"
)

// A table that is read has the pods that were written, where they were, and gives the next one the same
// place; no damage panics.
func TestArchive(t *testing.T) {
	const room = 5
	of := func(int) int { return room }
	v := podtable.New(3)
	for i := range 7 {
		v.Add(i%2, fmt.Sprint("pod", i), room)
	}
	v.Remove("pod2")
	b := snapshot.Written(func(a *snapshot.Archive) { v.Archive(a, of) })
	w := podtable.New(0)
	require.NoError(t, snapshot.Read(b, func(a *snapshot.Archive) { w.Archive(a, of) }))
	require.Empty(t, likeness.Compare(&v, &w, nil))
	v.Add(0, "late", room)
	w.Add(0, "late", room)
	want, _ := v.Of("late")
	got, ok := w.Of("late")
	require.True(t, ok)
	require.Equal(t, want, got)
	refused := 0
	snapshot.Damaged(b, func(_ int, bad []byte) {
		w := podtable.New(0)
		if snapshot.Read(bad, func(a *snapshot.Archive) { w.Archive(a, of) }) != nil {
			refused++
			return
		}
		snapshot.Written(func(a *snapshot.Archive) { w.Archive(a, of) })
	})
	require.NotZero(t, refused)
	less := podtable.New(0)
	require.Error(t, snapshot.Read(b, func(a *snapshot.Archive) { less.Archive(a, func(int) int { return 1 }) }), "nodes with less room")
}
