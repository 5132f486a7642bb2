// Package rollout plans the upgrade of a pool of nodes: which of them are cordoned, drained
// and made anew when. It knows nodes as numbers, and refuses to know anything else of them.
// Read "Upgrade options and recommendations for AKS clusters" first.
//
// Terminology:
//   - Buffer: a node that can run the pods of one that is drained: at first the surge nodes,
//     then the nodes that have been made anew.
package rollout

import "time"

// Action is what a step does.
type Action uint8

// The actions, in their order.
const (
	Surge   Action = iota // surge nodes are added
	Cordon                // nodes take no further pods
	Drain                 // their pods have left them
	Reimage               // they are made anew
	Ready                 // they take pods again
	Remove                // surge nodes are removed
	NumActions
)

// Step is a step whose nodes have numbers: those of the pool from 0 on, and after them the
// surge nodes.
type Step struct {
	After       time.Duration // the beginning of the upgrade
	Action      Action
	First, Last int // numbers, Last exclusive
}

// Times are how long nodes take.
type Times struct{ Drain, Soak, Reimage time.Duration }

// Plan plans the upgrade of n nodes, with surge nodes, at most n, or, without, at most
// unavailable ones away at once. As many nodes as there are buffers are drained at a time; once
// made anew they are the buffers of the next ones.
func Plan(n, surge, unavailable int, t Times) (all []Step) {
	surge = min(surge, n)
	var at time.Duration
	step := func(a Action, first, last int) { all = append(all, Step{at, a, first, last}) }
	width := surge
	if surge > 0 {
		step(Surge, n, n+surge)
	} else {
		width = unavailable
	}
	for first := 0; first < n; first += width {
		last := min(n, first+width)
		step(Cordon, first, last)
		at += t.Drain
		step(Drain, first, last)
		at += t.Soak
		step(Reimage, first, last)
		at += t.Reimage
		step(Ready, first, last)
	}
	if surge > 0 {
		step(Cordon, n, n+surge)
		at += t.Drain
		step(Drain, n, n+surge)
		step(Remove, n, n+surge)
	}
	return all
}
