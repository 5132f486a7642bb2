//go:build race

package pkttest

// Race says that the race detector is on: some things allocate then that otherwise do not, and
// all take many times as long.
const Race = true
