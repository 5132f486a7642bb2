//go:build unix

package command

import (
	"os/exec"
	"syscall"
)

// separate keeps an interrupt of the terminal from a program that has to end its work.
func separate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
