// Command probe sends real health probes, judges the answers as an Azure load balancer
// would, and prints when a backend becomes healthy or unhealthy.
//
//	go run ./examples/probe -target example.org:443 -protocol https -path /healthz
//	go run ./examples/probe
//
// All addresses of the target's host are probed, each as a backend of its own. Without
// -target there is a demonstration: a web server of this program that is well, then ill,
// then well again.
//
// It shows how real answers get into package probe, which knows neither clock nor
// sockets: prober.go asks over net and net/http, and the loop in watch.go turns the clock into
// virtual time. Attempts are made one after the other, so one that gets no answer delays
// the next ones.
//
// The exit status is 0 after -count attempts and after Ctrl-C, 1 if the target has no
// address, and 2 for a wrong command line.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the command: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	parse := func() (err error) {
		o, err = parseOptions(args, stdout)
		return err
	}
	return command.Run("probe", stderr, parse, func() error {
		if o.target == "" {
			return demonstrate(ctx, o, stdout)
		}
		return watch(ctx, o, stdout)
	})
}
