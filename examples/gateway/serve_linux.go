// The gateway itself: a translator between two devices, until a signal.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-a61be3fe/natplane/internal/router"
	"github.com/seed-a61be3fe/natplane/snat"
)

// serve forwards packets until ctx ends, which is no error.
func serve(ctx context.Context, o options, stdout io.Writer) (err error) {
	config, err := o.config()
	if err != nil {
		return err
	}
	nat, err := snat.New(config)
	if err != nil {
		return err
	}
	defer nat.Close()
	inside, insideErr := openDevice(o.insideDev)
	if insideErr != nil {
		insideErr = fmt.Errorf("-inside-dev: %w", insideErr)
	} else {
		defer inside.Close()
	}
	outside, outsideErr := openDevice(o.outsideDev)
	if outsideErr != nil {
		outsideErr = fmt.Errorf("-outside-dev: %w", outsideErr)
	} else {
		defer outside.Close()
	}
	if err := errors.Join(insideErr, outsideErr); err != nil {
		return err
	}
	r, err := router.New(router.Config{Engine: nat, Inside: []*os.File{inside.File}, Outside: outside.File})
	if err != nil {
		return err
	}

	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	defer signal.Stop(asked)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	report := func() error { return statisticsOf(&o, nat, r).write(stdout) }
	_, printErr := fmt.Fprintf(stdout, "%s, pid %d: kill -USR1 for statistics, -TERM to end\n", o.summary(&config), os.Getpid())
	for {
		select {
		case <-asked:
			printErr = errors.Join(printErr, report())
		case err := <-done:
			return errors.Join(err, printErr, report())
		}
	}
}
