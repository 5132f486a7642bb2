//go:build !race

package labs

// raceEnabled says that the race detector is on, which makes everything slower.
const raceEnabled = false
