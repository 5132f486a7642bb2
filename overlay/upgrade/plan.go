// The plan of an upgrade: which nodes are cordoned, drained and made anew when.

package upgrade

import "time"

// planned is a step whose nodes have numbers: those of the pool from 0 on, and after them the
// surge nodes.
type planned struct {
	after       time.Duration // after the beginning of the upgrade
	action      Action
	first, last int // numbers, last exclusive
}

// times are how long nodes take.
type times struct{ drain, soak, reimage time.Duration }

// plan plans the upgrade of n nodes, with surge nodes, at most n, or, without, at most
// unavailable ones away at once. As many nodes as there are buffers are drained at a time; once
// made anew they are the buffers of the next ones.
func plan(n, surge, unavailable int, t times) (all []planned) {
	surge = min(surge, n)
	var at time.Duration
	step := func(a Action, first, last int) { all = append(all, planned{at, a, first, last}) }
	width := surge
	if surge > 0 {
		step(Surge, n, n+surge)
	} else {
		width = unavailable
	}
	for first := 0; first < n; first += width {
		last := min(n, first+width)
		step(Cordon, first, last)
		at += t.drain
		step(Drain, first, last)
		at += t.soak
		step(Reimage, first, last)
		at += t.reimage
		step(Ready, first, last)
	}
	if surge > 0 {
		step(Cordon, n, n+surge)
		at += t.drain
		step(Drain, n, n+surge)
		step(Remove, n, n+surge)
	}
	return all
}
