//go:build race

package overlay

// raceEnabled says that the race detector is on, which changes what allocates.
const raceEnabled = true
