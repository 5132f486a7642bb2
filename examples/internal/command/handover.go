// Handing over: some command lines are run by the command of a module of its own, which this
// module does without.

package command

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
	"syscall"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// module is the path of the module that has this package.
const module = "github.com/seed-a61be3fe/natplane"

// buildEnd is how long a build may take to end after an interrupt; our choice.
const buildEnd = 10 * time.Second

// Elsewhere is a command in a nested module.
type Elsewhere struct {
	Name   string // of the command
	Dir    string // of its source, in the module, with slashes
	Option string // the flag for which it is needed, for errors
}

// HandOver builds the command where its source is, runs it here, and returns its exit status.
// Errors are in terms of the flag.
func (e Elsewhere) HandOver(ctx context.Context, args []string, stdout, stderr io.Writer) (status int, err error) {
	binary, remove, err := e.build(ctx, stderr)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	// It ends by itself, and tells what is known. An interrupt of the terminal reaches it too; after that
	// SIGTERM, which tells it of others, changes nothing.
	run := exec.CommandContext(ctx, binary, args...)
	run.Cancel = func() error {
		_ = run.Process.Signal(syscall.SIGTERM) // there is none on Windows
		return os.ErrProcessDone                // its exit status counts
	}
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, stdout, stderr
	err = run.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), nil
	}
	return 0, Failed(ctx, err)
}

// Filter builds a command that makes an output of an input. run runs it, and done removes it.
func (e Elsewhere) Filter(ctx context.Context, stderr io.Writer) (run func(from io.Reader, to io.Writer) error, done func() error, err error) {
	binary, remove, err := e.build(ctx, stderr)
	if err != nil {
		return nil, nil, err
	}
	return func(from io.Reader, to io.Writer) error {
		cmd := exec.Command(binary) // not of ctx: what is done at an interrupt is made of as well
		cmd.Stdin, cmd.Stdout, cmd.Stderr = from, to, stderr
		separate(cmd)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		return nil
	}, remove, nil
}

// build builds the command where its source is, and returns the binary, and what removes it.
func (e Elsewhere) build(ctx context.Context, stderr io.Writer) (binary string, remove func() error, err error) {
	dir, err := e.source()
	if err != nil {
		return "", nil, err
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return "", nil, fmt.Errorf("-%s: needs the go command, to build what is in %s: %w", e.Option, dir, err)
	}
	temp, err := os.MkdirTemp("", "natplane-"+e.Name)
	if err != nil {
		return "", nil, fmt.Errorf("-%s: %w", e.Option, err)
	}
	remove = func() error { return os.RemoveAll(temp) }
	binary = filepath.Join(temp, e.Name)
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.CommandContext(ctx, goCommand, "build", "-buildvcs=false", "-o", binary, ".")
	build.Dir, build.Stderr = dir, stderr
	build.Env = append(os.Environ(), "GOWORK=off", "PWD="+dir, "GOTMPDIR="+temp)
	build.Cancel = func() error {
		err := build.Process.Signal(os.Interrupt) // it ends what it has begun
		if err != nil {
			err = build.Process.Kill()
		}
		return err
	}
	build.WaitDelay = buildEnd
	if page.IsTerminal(stderr) {
		fmt.Fprintf(stderr, "building %s for -%s: the first time that may take a minute\n", e.Dir, e.Option)
	}
	if err := build.Run(); err != nil {
		return "", nil, errors.Join(Failed(ctx, fmt.Errorf("-%s: what is in %s cannot be built: %w", e.Option, dir, err)), remove())
	}
	return binary, remove, nil
}

// source returns the directory of the other command: in the source of this one, or else below the
// module that the working directory is in.
func (e Elsewhere) source() (string, error) {
	var tried []string
	look := func(root string) (dir string, ok bool) {
		dir = filepath.Join(root, filepath.FromSlash(e.Dir))
		tried = append(tried, dir)
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		return dir, err == nil
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if dir, ok := look(filepath.Join(filepath.Dir(file), "..", "..", "..")); ok {
			return dir, nil
		}
	}
	if at, err := os.Getwd(); err == nil {
		for ; ; at = filepath.Dir(at) {
			if dir, ok := look(at); ok {
				return dir, nil
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return "", fmt.Errorf("-%s: the source of what it needs, %s of %s, is not there: run it in a clone (looked for %s first): %w", e.Option, e.Dir, module, tried[0], fs.ErrNotExist)
}
