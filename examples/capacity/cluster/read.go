// From files to a cluster and a workload.

package main

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// cluster reads files.
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
	site := &planner.Site{Config: c.Config, Start: func(config overlay.ClusterConfig) (*planner.Running, error) {
		changed := *c
		changed.Config = config
		r, err := changed.Start(flow.At(0))
		if err != nil {
			return nil, err
		}
		started := &planner.Running{Cluster: r.Cluster, Hosts: r.Hosts()}
		for _, p := range r.Pending {
			started.Pending = append(started.Pending, fmt.Sprintf("pod %s: %s", p.Pod, p.Reason))
		}
		return started, nil
	}}
	for _, o := range c.NotModelled {
		site.NotModelled = append(site.NotModelled, o.String())
	}
	return site, nil
}

// workload reads a workload file.
func workload(name string) (*planner.Traffic, error) {
	files, err := command.Files("workload", name)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("-workload %s: must be one file", name)
	}
	w, err := manifest.ReadWorkloadFile(manifest.File(files[0]))
	if err != nil {
		return nil, err
	}
	return &planner.Traffic{Workload: w.Workload, Locate: w.Locate}, nil
}
