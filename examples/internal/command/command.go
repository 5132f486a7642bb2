// Package command is what the commands of the examples have in common: how they
// end, and the flags that several of them have. It knows nothing of what they do.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// The exit statuses of a command.
const (
	Success     = 0
	Failure     = 1   // it could not do what it was asked for
	Misuse      = 2   // the command line is wrong
	Refused     = 3   // connections were refused, and -fail-on-refusal asks to tell
	Interrupted = 130 // by Ctrl-C, as shells have it, or SIGTERM
)

// Errors that have an exit status of their own.
var (
	ErrRefused     = errors.New("refused connections")
	ErrInterrupted = errors.New("interrupted")
)

// Main is main of a command that run is: it exits with its status. ctx is over at Ctrl-C or SIGTERM; a
// second Ctrl-C kills.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // one of each
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			stop()
			if s == os.Interrupt {
				signal.Reset(os.Interrupt)
			}
		}
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

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
	if err = work(); err != nil {
		Complain(name, stderr, err)
	}
	switch {
	case err == nil:
		return Success
	case errors.Is(err, ErrInterrupted):
		return Interrupted
	case errors.Is(err, ErrRefused):
		return Refused
	}
	return Failure
}

// Complain prints an error as Run does.
func Complain(name string, stderr io.Writer, err error) {
	for line := range strings.SplitSeq(strings.TrimSuffix(err.Error(), "\n"), "\n") {
		fmt.Fprintf(stderr, "%s: %s\n", name, line)
	}
}

// Parse parses the arguments of a command that takes flags only, each once but for lists. For -h it
// prints the synopsis and all flags to help and returns flag.ErrHelp.
func Parse(fs *flag.FlagSet, args []string, synopsis string, help io.Writer, lists ...string) error {
	fs.SetOutput(io.Discard) // one message per mistake, printed by Run
	twice, err := parseOnce(fs, args, lists)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(help, synopsis)
		printFlags(fs, help)
		return err
	case err != nil:
		err = suggest(fs, err)
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: all is said by flags, see -h", fs.Arg(0))
	}
	return errors.Join(append([]error{err}, twice...)...)
}

// parseOnce parses arguments, and returns what is wrong with flags that are given twice and are no
// lists.
func parseOnce(fs *flag.FlagSet, args, lists []string) (twice []error, err error) {
	fs.VisitAll(func(f *flag.Flag) {
		if !slices.Contains(lists, f.Name) {
			f.Value = &once{Value: f.Value, again: func(first, second string) {
				twice = append(twice, fmt.Errorf("-%s: is given twice, as %q and as %q", f.Name, first, second))
			}}
		}
	})
	err = fs.Parse(args)
	fs.VisitAll(func(f *flag.Flag) {
		if o, ok := f.Value.(*once); ok {
			f.Value = o.Value
		}
	})
	return twice, err
}

// once is the value of a flag that is set once; the second time is told, and others are passed over.
type once struct {
	flag.Value
	times int
	first string
	again func(first, second string)
}

// Set sets the value the first time.
func (o *once) Set(text string) error {
	switch o.times++; o.times {
	case 1:
		o.first = text
		return o.Value.Set(text)
	case 2:
		o.again(o.first, text)
	}
	return nil
}

// IsBoolFlag reports whether the flag does without a value.
func (o *once) IsBoolFlag() bool {
	b, ok := o.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// printFlags prints all flags as package flag does, but in lines of 80 columns, tables apart.
func printFlags(fs *flag.FlagSet, to io.Writer) {
	var text strings.Builder
	fs.SetOutput(&text)
	fs.PrintDefaults()
	const indent = "        "
	for line := range strings.Lines(text.String()) {
		text, usage := strings.CutPrefix(line, "    \t")
		if !usage || len(indent)+len(text) <= 81 || strings.Contains(text, "  ") {
			fmt.Fprint(to, line)
			continue
		}
		words := strings.Fields(text)
		n := len(indent)
		fmt.Fprint(to, indent[1:])
		for _, w := range words {
			if n+len(w) >= 80 {
				fmt.Fprint(to, "\n"+indent[1:])
				n = len(indent)
			}
			fmt.Fprint(to, " "+w)
			n += 1 + len(w)
		}
		fmt.Fprintln(to)
	}
}

// suggest adds to the complaint about an unknown flag the one that was meant, if
// there is one that is written much like it.
func suggest(fs *flag.FlagSet, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err
	}
	best, least := "", 1+(len(name)+2)/3 // so many edits and more are another word
	fs.VisitAll(func(f *flag.Flag) {
		n := distance(name, f.Name)
		if strings.HasPrefix(f.Name, name) {
			n = 1
		}
		if n < least {
			best, least = f.Name, n
		}
	})
	if best == "" {
		return err
	}
	return fmt.Errorf("%w; did you mean -%s?", err, best)
}

// distance returns how many letters have to be added, removed or changed to make b
// of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1) // distances of a's first letters to those of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0]++
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, change)
		}
	}
	return row[len(b)]
}
