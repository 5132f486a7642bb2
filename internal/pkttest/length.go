package pkttest

import (
	"os"
	"testing"
)

// Operations returns how many operations a test against a model plays: the first number
// with -short, the last one where NATPLANE_LONG is 1 in the environment, else the second.
func Operations(short, usual, long int) int {
	switch {
	case os.Getenv("NATPLANE_LONG") == "1":
		return long
	case testing.Short():
		return short
	}
	return usual
}
