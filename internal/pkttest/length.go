package pkttest

import (
	"os"
	"testing"
	"time"
)

// Short reports whether tests that one goroutine plays should be brief: with -short, and in
// builds that watch every step (the race detector, natplane_invariants), in which they take
// ten times as long and find nothing that fewer steps do not. Tests of what goroutines do to
// each other ask testing.Short, for those builds are made for them.
func Short() bool { return testing.Short() || watched }

// Operations returns how many operations a test against a model plays: the first number
// where Short holds, the last one where NATPLANE_LONG is 1 in the environment, else the second.
func Operations(short, usual, long int) int {
	switch {
	case os.Getenv("NATPLANE_LONG") == "1":
		return long
	case Short():
		return short
	}
	return usual
}

// OneGoroutine skips a long test that starts no goroutines where the race detector is on: it
// would find nothing there, and takes ten times as long.
func OneGoroutine(t testing.TB) {
	t.Helper()
	if Race {
		t.Skip("one goroutine, and long: nothing for the race detector")
	}
}

// Prompt fails a test whose f has not returned after two minutes, longer than anything may take
// that does not go through all there could be: even on a slow machine, with every step watched.
func Prompt(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("no answer")
	}
}
