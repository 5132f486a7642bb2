// Package command is what the commands of the examples have in common: how they
// end, and the flags that several of them have. It knows nothing of what they do.
package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// The exit statuses of a command.
const (
	Success = 0
	Failure = 1 // it could not do what it was asked for
	Misuse  = 2 // the command line is wrong
)

// Run parses a command line, then does what it asks for, and returns the exit
// status. An error is printed to stderr, one line per complaint, each behind the
// name of the command. flag.ErrHelp from parse is a success with nothing to do.
func Run(name string, stderr io.Writer, parse, work func() error) (status int) {
	err := parse()
	switch {
	case errors.Is(err, flag.ErrHelp):
		return Success
	case err != nil:
		Complain(name, stderr, err)
		return Misuse
	}
	if err := work(); err != nil {
		Complain(name, stderr, err)
		return Failure
	}
	return Success
}

// Complain prints an error as Run does.
func Complain(name string, stderr io.Writer, err error) {
	for line := range strings.SplitSeq(strings.TrimSuffix(err.Error(), "\n"), "\n") {
		fmt.Fprintf(stderr, "%s: %s\n", name, line)
	}
}

// Parse parses the arguments of a command that takes flags only. For -h it prints
// the synopsis and all flags to help and returns flag.ErrHelp.
func Parse(fs *flag.FlagSet, args []string, synopsis string, help io.Writer) error {
	fs.SetOutput(io.Discard) // one message per mistake, printed by Run
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(help, synopsis)
		fs.SetOutput(help)
		fs.PrintDefaults()
		return err
	case err != nil:
		return err
	case fs.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return nil
}
