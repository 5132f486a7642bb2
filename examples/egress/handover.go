// Handing over: a command line with -cluster is run by the command of a module of its own,
// which this module does without.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// module is the path of the module that has this command.
const module = "github.com/seed-a61be3fe/natplane"

// handOver builds the other command where its source is, runs it here, and returns its exit
// status.
func handOver(ctx context.Context, args []string, stdout, stderr io.Writer) (status int, err error) {
	dir, err := source()
	if err != nil {
		return 0, err
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return 0, fmt.Errorf("-cluster: needs the go command, to build the reader of files in %s: %w", dir, err)
	}
	temp, err := os.MkdirTemp("", "natplane-egress")
	if err != nil {
		return 0, fmt.Errorf("-cluster: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	binary := filepath.Join(temp, "egress")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.CommandContext(ctx, goCommand, "build", "-buildvcs=false", "-o", binary, ".")
	build.Dir, build.Stderr = dir, stderr
	build.Env = append(os.Environ(), "GOWORK=off", "PWD="+dir)
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("-cluster: the reader of files in %s cannot be built: %w", dir, err)
	}
	// An interrupt of the terminal reaches it too: it ends by itself, and tells what is known.
	run := exec.Command(binary, args...)
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, stdout, stderr
	err = run.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// source returns the directory of the other command: beside this file, or else below the
// module that the working directory is in.
func source() (string, error) {
	var tried []string
	look := func(dir string) bool {
		tried = append(tried, dir)
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		return err == nil
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if dir := filepath.Join(filepath.Dir(file), "cluster"); look(dir) {
			return dir, nil
		}
	}
	if at, err := os.Getwd(); err == nil {
		for ; ; at = filepath.Dir(at) {
			if dir := filepath.Join(at, "examples", "egress", "cluster"); look(dir) {
				return dir, nil
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return "", fmt.Errorf("-cluster: the source of the reader of files, examples/egress/cluster of %s, is not there: run it in a clone (looked for %s first): %w", module, tried[0], fs.ErrNotExist)
}
