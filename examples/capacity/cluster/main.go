// Command cluster is the command capacity (go doc ./examples/capacity) with the readers of cluster
// files, manifests, what az prints, and workload files. It is a module of its own because that
// needs k8s.io; capacity builds and runs it for a command line with -cluster or -workload.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal kills
	status := planner.Command{Cluster: cluster, Workload: workload}.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
