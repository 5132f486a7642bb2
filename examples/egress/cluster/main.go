// Command cluster is the command egress (go doc ./examples/egress) with the reader of cluster
// files, manifests and what az prints. It is a module of its own because that needs k8s.io;
// egress builds and runs it for a command line with -cluster.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/seed-a61be3fe/natplane/examples/egress/internal/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal kills
	status := story.Command{Open: open}.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
