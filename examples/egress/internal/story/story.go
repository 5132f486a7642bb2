// Package story is the command egress: what its flags are, how a recording becomes traffic of
// pods, what happens to it in a cluster, and the report about that. The command itself says
// more (go doc ./examples/egress).
//
// It is a package so that two commands can be made of it: one that needs nothing but this
// module, and one in a module of its own that also reads what [Command].Open reads. A run is one
// call of [Command.Run], and nothing is shared between two of them.
package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/egress/testdata"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/digest"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// Command is the command egress.
type Command struct {
	// Open makes the cluster that files of -cluster describe, with a configuration that adjust
	// has changed. The command closes it.
	Open func(files []string, adjust func(*overlay.ClusterConfig)) (*Site, error)

	// HandOver does what a command line with -cluster asks for where Open is nil, and returns
	// the exit status.
	HandOver func(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error)
}

// Site is a cluster that files describe.
type Site struct {
	*overlay.Cluster
	Pods        []string // names of those that may talk: all with addresses of their own, in order
	NotModelled []string // what the files say and the cluster is without, a sentence each
}

// Run is the command: it returns the exit status.
func (c Command) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	parse := func() (err error) {
		o, err = parseOptions(args, stdout)
		return err
	}
	elsewhere := 0
	status := command.Run("egress", stderr, parse, func() (err error) {
		if len(o.clusters) > 0 && c.Open == nil {
			elsewhere, err = c.HandOver(ctx, args, stdout, stderr)
			return err
		}
		return c.simulate(ctx, o, stdout, stderr)
	})
	return max(status, elsewhere)
}

// open makes the cluster of -cluster; without that flag there is none.
func (c Command) open(o *options) (*Site, error) {
	if len(o.clusters) == 0 {
		return nil, nil
	}
	site, err := c.Open(o.clusters, func(config *overlay.ClusterConfig) {
		if o.given["seed"] || config.Seed == 0 {
			config.Seed = o.seed
		}
		o.carried.apply(&config.Dataplane)
	})
	if err == nil {
		o.take(site)
	}
	return site, err
}

// simulate does what the command line asks for and prints the report.
func (c Command) simulate(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	begin := time.Now()
	site, err := c.open(&o)
	if err != nil {
		return err
	}
	if site != nil {
		defer site.Close()
	}
	if len(o.explain) > 0 {
		return explain(o, site, stdout)
	}
	recording, err := loadRecording(ctx, &o)
	if err != nil {
		return err
	}
	var places placement
	if o.pcap != "" && site == nil {
		places = place(recording.hosts, &o)
		if err := o.validate(); err != nil { // of as many nodes as there are now
			return err
		}
	}
	fleet, err := newFleet(o, site)
	if err != nil {
		return err
	}
	defer fleet.Close()
	if o.pcap != "" && site != nil {
		places = placeAmong(recording.hosts, len(fleet.pods))
	}
	places.name(fleet.pods, recording.hosts)

	var captures *output
	if o.out != "" {
		if captures, err = createOutput(ctx, o.out); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				captures.discard()
			}
		}()
	}

	recorder := digest.Record(fleet)
	bar := page.NewBar(stderr)
	report := &report{options: o, recording: recording, placement: places.how, site: site}
	r := &replay{
		recording: recording,
		cluster:   recorder,
		pods:      fleet.pods,
		places:    places.pods,
		frontends: fleet.frontends,
		nodeIPs:   fleet.publicAddrs(),
		copies:    o.automaticCopies(len(recording.conversations), len(fleet.pods)),
		seed:      o.seed,
		random:    rand.New(rand.NewPCG(o.seed, 0)),
		output:    captures,
		sample:    report.observe(fleet),
		progress:  bar.Show,
	}
	if site != nil { // health probes never end
		r.busy = fleet.busy
	}
	err = r.play(ctx)
	report.traffic = fleet.usage()
	if err == nil {
		err = r.drain(ctx)
	}
	report.final = fleet.usage()
	bar.Clear()
	interrupted := errors.Is(err, command.ErrInterrupted)
	if err != nil && (!interrupted || r.packetsDone == 0) {
		return err
	}
	report.finish(r, recorder.String(), time.Since(begin))
	if !interrupted {
		if err := captures.commit(); err != nil {
			return command.Failed(ctx, err)
		}
	}
	if err := report.print(stdout); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if recording.damage != nil { // the report is true, but perhaps not what was asked for
		command.Complain("egress", stderr, fmt.Errorf("warning: -pcap %s: %w", o.pcap, recording.damage))
	}
	switch failed := report.final.failed; {
	case interrupted:
		return fmt.Errorf("%w after %s of the packets", err, page.Percent(report.done))
	case o.failOnRefusal && failed > 0:
		return fmt.Errorf("%w: %s", command.ErrRefused, page.Count(failed))
	case r.forwarded == 0 && r.dropped > 0:
		return fmt.Errorf("nothing was translated: %w", command.MostDropped(&r.drops, r.outbound+r.inbound))
	case r.forwarded == 0:
		return errors.New("nothing was translated: all packets are between pods")
	}
	return nil
}

// loadRecording reads the user's capture, or the built-in one. Of one that is damaged
// it keeps what is sound.
func loadRecording(ctx context.Context, o *options) (*recording, error) {
	file := testdata.Conversations
	if o.pcap != "" {
		var err error
		if file, err = command.Load(ctx, "pcap", o.pcap); err != nil {
			return nil, err
		}
	}
	c, damage := capture.Salvage(file)
	if c == nil || len(c.Packets) == 0 && damage != nil {
		return nil, fmt.Errorf("-pcap %s: %w", o.pcap, damage)
	}
	if len(c.Packets) == 0 {
		return nil, fmt.Errorf("-pcap %s: no IP packet among %s frames", o.pcap, page.Count(c.Frames))
	}
	repairs := c.Repair(o.checksums)
	all := len(c.Packets)
	if o.ipv4Only {
		c.Packets = slices.DeleteFunc(c.Packets, func(p capture.Packet) bool { return p.Data[0]>>4 == 6 })
		if len(c.Packets) == 0 {
			return nil, errors.New("-cluster: has no IPv6, and there are no other packets")
		}
	}
	r := newRecording(c, o.carried, o.inside...)
	if len(r.packets) == 0 {
		return nil, fmt.Errorf("-inside: none of %s comes from or goes to such a host", page.Plural(len(c.Packets), "packet"))
	}
	r.damage, r.repairs, r.otherFamily = damage, repairs, all-len(c.Packets)
	return r, nil
}
