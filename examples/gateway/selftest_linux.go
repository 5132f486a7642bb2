// The self-test: real hosts, real traffic, and the same forwarding.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/labs"
	"github.com/seed-a61be3fe/natplane/snat"
)

const (
	selftestTimeout = 5 * time.Minute
	patience        = time.Minute     // idle timeout while hosts talk, on a machine that may stall
	impatience      = 2 * time.Second // and where they are silent
)

// bench stands in for a test where there is none; it is a netlab.TB.
type bench struct {
	err     error
	cleanup []func()
}

func (b *bench) Helper()                          {}
func (b *bench) Cleanup(fn func())                { b.cleanup = append(b.cleanup, fn) }
func (b *bench) Skipf(format string, args ...any) { b.Fatalf(format, args...) }

// Fatalf ends the goroutine of do.
func (b *bench) Fatalf(format string, args ...any) {
	b.err = errors.Join(b.err, fmt.Errorf(format, args...))
	runtime.Goexit()
}

// do runs fn, then all cleanups, the last first, and returns what went wrong.
func (b *bench) do(fn func() error) error {
	var done sync.WaitGroup
	done.Go(func() {
		defer func() {
			for len(b.cleanup) > 0 {
				last := b.cleanup[len(b.cleanup)-1]
				b.cleanup = b.cleanup[:len(b.cleanup)-1]
				last()
			}
		}()
		b.err = errors.Join(b.err, fn())
	})
	done.Wait()
	return b.err
}

// selftest moves real traffic through a gateway of its own and reports it.
func selftest(ctx context.Context, preset string, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, selftestTimeout)
	defer cancel()
	for _, t := range trials {
		var b bench
		if err := b.do(func() error { return t.run(ctx, &b, preset, stdout) }); err != nil {
			return fmt.Errorf("self-test: %w", err)
		}
	}
	_, err := fmt.Fprintln(stdout, "\nself-test passed")
	return err
}

// A trial is some conversations through a gateway with an idle timeout.
type trial struct {
	idle          time.Duration
	conversations []conversation
	visits        []conversation // by a forward, which not every preset has
}

var trials = []trial{{patience, talk, visits}, {impatience, silence, nil}}

// run holds the conversations; b ends the network that it makes. No preset's user may
// ask for an idle timeout as short as that of a test, so it is set behind its back.
func (t *trial) run(ctx context.Context, b *bench, preset string, stdout io.Writer) error {
	o := options{
		insideDev: "tun0", outsideDev: "tun1", inside: labs.Inside, frontends: labs.Frontends,
		preset: preset, extras: command.Extras{Reset: true},
	}
	config, err := o.config()
	if err != nil {
		return err
	}
	conversations := t.conversations
	if takesForwards(&config) {
		conversations = append(slices.Clone(conversations), t.visits...)
		o.forwards = sites()
		if config, err = o.config(); err != nil {
			return err
		}
	}
	config.EnforceMinimums = false
	config.IdleTimeout, config.Timeouts.TCPEstablished = t.idle, t.idle
	nat, err := snat.New(config)
	if err != nil {
		return err
	}
	b.Cleanup(nat.Close)
	l := labs.New(b, nat)
	l.Serve(b)
	l.Backends(b, backends)
	fmt.Fprintln(stdout, o.summary(&config))
	var errs []error
	for _, f := range labs.Families {
		for _, c := range conversations {
			if err := ctx.Err(); err != nil {
				return errors.Join(append(errs, err)...)
			}
			began := time.Now()
			err := c.hold(ctx, l, f)
			verdict := "ok"
			if err != nil {
				verdict = "FAILED"
				errs = append(errs, fmt.Errorf("%s over %s: %w", c.what, f.Name, err))
			}
			fmt.Fprintf(stdout, "%-6s  %s  %s, %v\n", verdict, f.Name, c.what, time.Since(began).Round(time.Millisecond))
		}
	}
	err = statisticsOf(&o, nat, l.Router).write(stdout)
	if stopErr := l.Stop(); stopErr != nil {
		errs = append(errs, stopErr)
	} else {
		fmt.Fprintf(stdout, "\nall %d packets outside came from a frontend, all %d inside went to an inside host, every checksum was right\n",
			l.Audit.Packets(flow.Outside), l.Audit.Packets(flow.Inside))
	}
	return errors.Join(append(errs, err)...)
}

// A conversation is something that the self-test makes two hosts say.
type conversation struct {
	what string
	hold func(ctx context.Context, l *labs.Lab, f labs.Family) error
}

var talk = []conversation{
	{"HTTP: 100 requests over one connection", func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		return browse(ctx, l, f, true)
	}},
	{"HTTP: 100 connections", func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		return browse(ctx, l, f, false)
	}},
	{"HTTP: 10 MiB up and 10 MiB down", func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		c := l.Browser(true)
		defer c.CloseIdleConnections()
		return errors.Join(f.Upload(ctx, c, 10<<20), f.Download(ctx, c, 10<<20))
	}},
	{"DNS: 100 questions over UDP", func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		for i := range 100 {
			if err := l.Lookup(ctx, f, fmt.Sprintf("host-%d.example.", i), nil); err != nil {
				return err
			}
		}
		return nil
	}},
}

var silence = []conversation{
	{fmt.Sprintf("TCP: a connection that says nothing for %v is reset", impatience), func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		c, err := l.Client.DialContext(ctx, "tcp", f.At(labs.PortHTTP))
		if err != nil {
			return err
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("reading ended with %v, want %w", err, syscall.ECONNRESET)
		}
		return nil
	}},
}

// browse makes 100 requests.
func browse(ctx context.Context, l *labs.Lab, f labs.Family, keepAlive bool) error {
	c := l.Browser(keepAlive)
	defer c.CloseIdleConnections()
	for i := range int64(100) {
		if err := f.Download(ctx, c, 100*i); err != nil {
			return err
		}
	}
	return nil
}
