package slab

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

type archived struct{ key, value uint64 }

func (r *archived) archive(a *snapshot.Archive) { snapshot.Nums(a, &r.key, &r.value) }

// A Slab that has been read has the same records, and hands out the same places from then on.
func TestSlabArchive(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var m, m2 Memory
		var s, s2, none Slab[archived]
		s.Init(&m)
		s2.Init(&m2)
		none.Init(new(Memory))
		var used []uint32
		step := func(tables ...*Slab[archived]) {
			if len(used) > 0 && r.IntN(100) < 20+60*int(seed%2)*(len(used)/15000) {
				k := r.IntN(len(used))
				for _, s := range tables {
					s.Free(used[k])
				}
				used[k] = used[len(used)-1]
				used = used[:len(used)-1]
				return
			}
			i := tables[0].Alloc()
			for _, other := range tables[1:] {
				require.Equal(t, i, other.Alloc())
			}
			used = append(used, i)
			for _, s := range tables {
				*s.At(i) = archived{uint64(i), 1 + r.Uint64()>>8}
			}
		}
		for range r.IntN(30000) {
			step(&s)
		}
		if seed%3 == 0 { // so that chunks go back
			for len(used) > 100 {
				s.Free(used[len(used)-1])
				used = used[:len(used)-1]
			}
		}
		var b bytes.Buffer
		w := snapshot.NewWriter(&b, "slab", 1)
		s.Archive(w, func(_ uint32, e *archived) { e.archive(w) })
		require.NoError(t, w.Close())
		a := snapshot.NewReader(bytes.NewReader(b.Bytes()), "slab", 1)
		require.True(t, s2.Archive(a, func(_ uint32, e *archived) { e.archive(a) }))
		require.NoError(t, a.Close())
		require.Equal(t, s.state, s2.state)
		require.Equal(t, s.vacant, s2.vacant)
		require.Equal(t, s.Len(), s2.Len())
		for _, i := range used {
			require.Equal(t, *s.At(i), *s2.At(i))
		}
		a = snapshot.NewReader(bytes.NewReader(b.Bytes()), "slab", 1)
		n := 0
		none.Scan(a, func(i uint32, e *archived) {
			e.archive(a)
			require.Equal(t, *s.At(i), *e)
			n++
		})
		require.NoError(t, a.Close())
		require.Equal(t, s.Len(), n)
		require.Zero(t, none.Len())
		for range 20000 {
			step(&s, &s2)
		}
		require.Equal(t, s.state, s2.state)
		m.Release()
		m2.Release()
	}
}

// FuzzSlabArchive reads anything: it is refused, or makes a Slab that is whole.
func FuzzSlabArchive(f *testing.F) {
	var m Memory
	var s Slab[archived]
	s.Init(&m)
	for range 300 {
		s.Alloc()
	}
	for i := range uint32(40) {
		s.Free(2*i + 1)
	}
	var b bytes.Buffer
	w := snapshot.NewWriter(&b, "slab", 1)
	s.Archive(w, func(_ uint32, e *archived) { e.archive(w) })
	require.NoError(f, w.Close())
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Memory
		defer m.Release()
		var s Slab[archived]
		s.Init(&m)
		a := snapshot.NewReader(bytes.NewReader(snapshot.Reseal(b)), "slab", 1)
		s.Archive(a, func(_ uint32, e *archived) { e.archive(a) })
		if a.Close() != nil {
			return
		}
		seen := map[uint32]bool{}
		for range 2000 {
			i := s.Alloc()
			require.False(t, seen[i] || i == 0)
			seen[i] = true
			s.At(i).key = 1
		}
	})
}
