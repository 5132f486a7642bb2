//go:build !race

package snat_test

// raceEnabled says that the race detector is on, which changes what allocates.
const raceEnabled = false
