// Command cluster is the command capacity (go doc ./examples/capacity) with the readers of cluster
// files, manifests, what az prints, and workload files. It is a module of its own because that
// needs k8s.io; capacity builds and runs it for a command line with -cluster or -workload.
package main

import (
	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

func main() {
	page := command.Elsewhere{Name: "page", Dir: "examples/capacity/page", Option: "html"}
	command.Main(planner.Command{Cluster: cluster, Workload: workload, Page: page.Filter}.Run)
}
