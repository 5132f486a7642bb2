// Command egress sends real traffic out of a simulated AKS cluster. Pods of an
// Azure CNI Overlay cluster repeat recorded conversations (HTTP, TLS, DNS,
// QUIC-like UDP, IPv4 and IPv6) with servers on the Internet; every packet goes
// through the cluster's source NAT and back, and a report tells what that did to
// the SNAT ports.
//
//	go run ./examples/egress
//	go run ./examples/egress -pods-per-node 30           # more pods than ports
//	go run ./examples/egress -pods-per-node 30 -idle 4m  # a remedy
//	go run ./examples/egress -pcap my.pcapng -copies 100 -out captures
//
// Terminology: a recording is a capture file understood as conversations; every
// copy of it is performed by pods drawn at random, at its own time, with sequence
// numbers, timestamps and identifiers of its own. The hosts of a
// file of your own are pods instead, the same in every copy: the report calls them by
// their addresses and says where they were placed. Replies are sent to the address
// and port that the Internet saw, never looked up.
//
// Of a capture that is damaged or cut off its sound frames are played. What looks as if
// a network card was to compute it (checksums, lengths of TCP segments) is repaired,
// unless -checksums is keep; zeros stand for what a snap length has cut. The report
// tells.
//
// An outbound rule carries neither ICMP nor fragments; with -icmp pings are translated, with
// -fragments datagrams in pieces. A ping is the conversation of its identifier then, and
// a fragment belongs to that of its datagram's first, if that has come before it.
//
// The same flags and capture give the same report, except for the wall-clock
// time, and byte-identical captures. The exit status is 0 on success, 2 for a wrong
// command line, 3 if connections were refused and -fail-on-refusal is given, 130
// after Ctrl-C, which prints what is known by then and writes no captures, and 1 for
// everything else, such as a run in which nothing was translated.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/digest"
)

// builtin is a recording of real stacks; record_linux_test.go makes it.
//
//go:embed testdata/conversations.pcap
var builtin []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal kills
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
	return command.Run("egress", stderr, parse, func() error { return simulate(ctx, o, stdout, stderr) })
}

// simulate does what the command line asks for and prints the report.
func simulate(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	begin := time.Now()
	recording, err := loadRecording(ctx, &o)
	if err != nil {
		return err
	}
	var places placement
	if o.pcap != "" {
		places = place(recording.hosts, &o)
		if err := o.validate(); err != nil { // of as many nodes as there are now
			return err
		}
	}
	fleet, err := newFleet(o)
	if err != nil {
		return err
	}
	defer fleet.Close()
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
	bar := newProgress(stderr)
	report := &report{options: o, recording: recording, placement: places.how}
	r := &replay{
		recording: recording,
		cluster:   recorder,
		pods:      fleet.pods,
		places:    places.pods,
		frontends: fleet.frontends,
		copies:    o.automaticCopies(len(recording.conversations)),
		seed:      o.seed,
		random:    rand.New(rand.NewPCG(o.seed, 0)),
		output:    captures,
		sample:    report.observe(fleet),
		progress:  bar.show,
	}
	err = r.play(ctx)
	report.traffic = fleet.usage()
	if err == nil {
		err = r.drain(ctx)
	}
	report.final = fleet.usage()
	bar.clear()
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
	file := builtin
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
	r := newRecording(c, o.carried, o.inside...)
	if len(r.packets) == 0 {
		return nil, fmt.Errorf("-inside: none of %s comes from or goes to such a host", page.Plural(len(c.Packets), "packet"))
	}
	r.damage, r.repairs = damage, repairs
	return r, nil
}
