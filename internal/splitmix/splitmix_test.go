package splitmix

import "testing"

// TestVectors compares with the published program of Sebastiano Vigna, seed 1234567.
func TestVectors(t *testing.T) {
	s := Source(1234567)
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := s.Uint64(); got != want {
			t.Errorf("number %d is %d, want %d", i, got, want)
		}
	}
}

func TestBelow(t *testing.T) {
	s, seen := Source(1), [7]int{}
	for range 7000 {
		seen[s.Below(len(seen))]++
	}
	for i, n := range seen {
		if n < 850 || n > 1150 {
			t.Errorf("%d came %d times of 7000", i, n)
		}
	}
	if got := s.Below(1); got != 0 {
		t.Errorf("below 1: %d", got)
	}
}
