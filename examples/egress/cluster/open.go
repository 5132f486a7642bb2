// From files to a cluster that runs.

package main

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/examples/egress/internal/story"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// open reads files and starts what they say.
func open(names []string, adjust func(*overlay.ClusterConfig)) (*story.Site, error) {
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
	adjust(&c.Config)
	r, err := c.Start(flow.At(0))
	if err != nil {
		return nil, err
	}
	site := &story.Site{Cluster: r.Cluster}
	for _, p := range r.Pods {
		if !p.HostNetwork {
			site.Pods = append(site.Pods, p.Name)
		}
	}
	for _, o := range c.NotModelled {
		site.NotModelled = append(site.NotModelled, o.String())
	}
	for _, p := range r.Pending {
		site.NotModelled = append(site.NotModelled, fmt.Sprintf("pod %s is pending: %s", p.Pod, p.Reason))
	}
	return site, nil
}
