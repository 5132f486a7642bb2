//go:build !race

package whatif_test

// raceEnabled says that the race detector is on, with which simulations take many times as long.
const raceEnabled = false
