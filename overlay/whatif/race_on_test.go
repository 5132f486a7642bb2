//go:build race

package whatif_test

// raceEnabled says that the race detector is on, which changes what allocates and takes many times as long.
const raceEnabled = true
