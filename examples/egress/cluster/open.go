// From files to a cluster that runs.

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/seed-a61be3fe/natplane/examples/egress/internal/story"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// maxFile is what is read of a file; package manifest refuses what is larger than it bears.
const maxFile = 64<<20 + 1

// open reads files and starts what they say.
func open(names []string, adjust func(*overlay.ClusterConfig)) (*story.Site, error) {
	var files []manifest.File
	var errs []error
	for _, name := range names {
		all, err := within(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("-cluster %s: %w", name, err))
		}
		for _, name := range all {
			data, err := read(name)
			if err != nil {
				errs = append(errs, fmt.Errorf("-cluster %s: %w", name, err))
			}
			files = append(files, manifest.File{Name: name, Data: data})
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
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

// within returns the files of a directory that may be of use, as kubectl apply -f takes them; of what is no directory
// the name itself.
func within(name string) (files []string, err error) {
	if is, err := os.Stat(name); name == "-" || err != nil || !is.IsDir() {
		return []string{name}, nil // whether it is there, reading tells
	}
	entries, err := os.ReadDir(name)
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if err == nil && len(files) == 0 {
		err = errors.New("the directory has no file *.yaml, *.yml or *.json")
	}
	return files, err
}

// read returns a file, but not much more than may be of use; - is the standard input.
func read(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxFile))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return io.ReadAll(io.LimitReader(f, maxFile))
}
