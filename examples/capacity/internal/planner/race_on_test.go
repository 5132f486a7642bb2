//go:build race

package planner

// raceEnabled says that the race detector is on, which changes what allocates and takes many times as long.
const raceEnabled = true
