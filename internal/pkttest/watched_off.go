//go:build !race && !natplane_invariants

package pkttest

// watched says that this build watches every step.
const watched = false
