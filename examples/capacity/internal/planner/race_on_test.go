//go:build race

package planner

// raceEnabled says that the race detector is on, with which simulations take many times as long.
const raceEnabled = true
