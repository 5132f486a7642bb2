// Command cluster is the command egress (go doc ./examples/egress) with the reader of cluster
// files, manifests and what az prints. It is a module of its own because that needs k8s.io;
// egress builds and runs it for a command line with -cluster.
package main

import (
	"github.com/seed-a61be3fe/natplane/examples/egress/internal/story"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

func main() {
	command.Main(story.Command{Open: open}.Run)
}
