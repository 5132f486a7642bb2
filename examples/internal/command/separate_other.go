//go:build !unix

package command

import "os/exec"

// separate does nothing here.
func separate(*exec.Cmd) {}
