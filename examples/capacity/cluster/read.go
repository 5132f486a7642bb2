// From files to a cluster and a workload.

package main

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// cluster reads files, and starts what they say once, to tell which pods are pending.
func cluster(names []string) (*planner.Site, error) {
	read, err := command.Files("cluster", names...)
	if err != nil {
		return nil, err
	}
	files := make([]manifest.File, len(read))
	for i, f := range read {
		files[i] = manifest.File(f)
	}
	c, err := manifest.Read(files...)
	if err != nil {
		return nil, err
	}
	r, err := c.Start(flow.At(0))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	site := &planner.Site{Config: c.Config, Start: func(config overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) {
		changed := *c
		changed.Config = config
		r, err := changed.Start(flow.At(0))
		if err != nil {
			return nil, nil, err
		}
		return r.Cluster, r.Hosts(), nil
	}}
	for _, o := range c.NotModelled {
		site.NotModelled = append(site.NotModelled, o.String())
	}
	for _, p := range r.Pending {
		site.NotModelled = append(site.NotModelled, fmt.Sprintf("pod %s is pending: %s", p.Pod, p.Reason))
	}
	return site, nil
}

// workload reads a workload file.
func workload(name string) (whatif.Workload, error) {
	files, err := command.Files("workload", name)
	if err != nil {
		return whatif.Workload{}, err
	}
	if len(files) != 1 {
		return whatif.Workload{}, fmt.Errorf("-workload %s: must be one file", name)
	}
	return manifest.ReadWorkload(manifest.File(files[0]))
}
