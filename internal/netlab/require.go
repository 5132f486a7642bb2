package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// TB is what a lab needs of its test. Every testing.TB is one; so is a small
// type of a program that wants a lab outside go test.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// labTools are the programs that every lab runs.
var labTools = []string{"ip", "ethtool", "nsenter"}

// Require ends the test unless labs work here: on Linux, as a user that may make
// network namespaces, with the programs of every lab (ip, ethtool, nsenter) and
// those named by tools on the PATH. It skips the test, or fails it if the
// environment variable CI is "true". The message names all that is missing.
func Require(tb TB, tools ...string) {
	tb.Helper()
	err := missing(tools)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		tb.Fatalf("kernel labs must run when CI=true: %v", err)
	default:
		tb.Skipf("kernel labs cannot run here: %v", err)
	}
}

// missing reports everything that keeps a lab with these tools from working.
func missing(tools []string) error {
	errs := []error{canUnshare()}
	for _, tool := range slices.Concat(labTools, tools) {
		if _, err := exec.LookPath(tool); err != nil {
			errs = append(errs, fmt.Errorf("program %q is not installed", tool))
		}
	}
	return errors.Join(errs...)
}
