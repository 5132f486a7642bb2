package shelves

import (
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The k-th free port is that of a sorted list, on shelves of any size and however many are taken.
func TestModel(t *testing.T) {
	for _, ports := range []int{1, 63, 64, 65, 1024, 1025, 64_512} {
		rng := rand.New(rand.NewPCG(1, uint64(ports)))
		var s Set
		free := [2][]int{}
		for shelf := range free {
			s.Add(ports)
			for port := range ports {
				free[shelf] = append(free[shelf], port)
			}
		}
		taken := [2][]int{}
		used := func(shelf int) iter.Seq[int] { return slices.Values(taken[shelf]) }
		for turn := range 3000 {
			shelf, fill := rng.IntN(2), turn < 1500
			if n := len(free[shelf]); n > 0 && (fill || len(taken[shelf]) == 0) {
				k := rng.IntN(n)
				port := s.At(shelf, k)
				require.Equal(t, free[shelf][k], port, "%d-th of %d", k, n)
				s.Take(shelf, port)
				free[shelf], taken[shelf] = slices.Delete(free[shelf], k, k+1), append(taken[shelf], port)
			} else if n := len(taken[shelf]); n > 0 {
				k := rng.IntN(n)
				port := taken[shelf][k]
				s.Put(shelf, port)
				taken[shelf] = slices.Delete(taken[shelf], k, k+1)
				at, _ := slices.BinarySearch(free[shelf], port)
				free[shelf] = slices.Insert(free[shelf], at, port)
			}
			require.Equal(t, []int{len(free[0]), len(free[1])}, s.Free())
		}
		s.Check(used)
		of := s.Clone()
		if len(free[1]) > 0 {
			of.Take(1, free[1][0])
			require.Panics(t, func() { of.Check(used) })
		}
		s.Check(used)
		shelf, port := s.Split(ports + ports/2)
		require.Equal(t, []int{1, ports / 2}, []int{shelf, port})
	}
}

// Check finds counts that are wrong.
func TestCheck(t *testing.T) {
	none := func(int) iter.Seq[int] { return slices.Values([]int(nil)) }
	for _, spoil := range []func(s *Set){
		func(s *Set) { s.groups[1]++ },
		func(s *Set) { s.free[0]-- },
		func(s *Set) { s.busy[2] = 1 },
	} {
		var s Set
		s.Add(3000)
		s.Check(none)
		spoil(&s)
		require.Panics(t, func() { s.Check(none) })
	}
}
