package kubeproxy

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// A filter that is read is the one that was written.
func TestArchiveFilter(t *testing.T) {
	for _, room := range []int{0, 1, 63, 64, 1000, 4096} {
		f := newFilter(room)
		for i := range uint64(room) {
			f.add(i * 0x9e3779b97f4a7c15)
		}
		var g filter
		b := snapshot.Written(func(a *snapshot.Archive) { f.archive(a, room) })
		require.NoError(t, snapshot.Read(b, func(a *snapshot.Archive) { g.archive(a, room) }))
		require.Equal(t, f.shift, g.shift)
		require.Len(t, g.words, len(f.words))
		for i := range f.words {
			require.Equal(t, f.words[i].Load(), g.words[i].Load())
		}
	}
}

// A forged size of filters takes no memory that the stream does not have words for.
func TestArchiveForgedFilters(t *testing.T) {
	room, none := maxSlots, 0
	b := snapshot.Written(func(a *snapshot.Archive) {
		a.Section("Services of proxies")
		snapshot.Nums(a, &room, &room, &none, &none)
		word := make([]byte, 100)
		a.Bytes(&word, 100)
	})
	p, err := New(Config{})
	require.NoError(t, err)
	defer p.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = snapshot.Read(b, func(a *snapshot.Archive) {
		a.Section("Services of proxies")
		p.archiveFilters(a)
	})
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, "section Services of proxies")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}
