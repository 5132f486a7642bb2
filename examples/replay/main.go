// Command replay sends any capture through the translator, both ways, and checks
// that what comes back is what was sent.
//
//	go run ./examples/replay -in FILE -inside 10.0.0.0/8 -frontend 198.51.100.7
//	go run ./examples/replay -in FILE -inside 10.0.0.0/8,fd00::/8 \
//	    -frontend 198.51.100.7,2001:db8::7 -out outside.pcap -json
//
// The translator is one of the presets of package preset; -h lists them. Where a
// preset preallocates ports, every inside host is an instance with ports of its own;
// the others share all ports of the frontends among all hosts. What a preset drops
// because its product does, ICMP and fragments, stays dropped, with the reason;
// -icmp and -fragments translate it all the same.
//
// Terminology: an inside host is an address of the capture within -inside. The
// outside form of a packet is what it looks like beyond the translator.
//
// # Directions
//
// A capture does not say on which side of a translator a packet was seen, so its
// addresses decide.
//
//   - From an inside host: the packet goes out as it is. To another address within
//     -inside it bypasses the translator, as it would in the network it is from.
//   - To an inside host, from elsewhere: it is brought into its outside form, then
//     it comes in. Its destination becomes the address and port that the flow was
//     last translated to, if another flow has not taken that over since. Otherwise
//     the outside does not know where to send it and can only try a frontend, at
//     a port that nobody has had: the translator has to find that it is unsolicited.
//   - Anything else comes from the outside as it is, and is not ours.
//
// An ICMP error is for the sender of the packet it quotes, so what is quoted gets
// its outside form too. Fragments follow the first one of their datagram; where two
// inside hosts get datagrams of the same identification from the same host, which
// sends them to the same frontend, one gets another identification. If the
// translator is a router, which the preset says, the outside form has a TTL that is
// higher by one.
//
// Packets go in the order of their timestamps, which are also the translator's
// clock: flows expire in the silence of the capture. Fragments that wait in the
// translator for the first of their datagram are counted when they leave, or as
// drops: those that wait still when the capture ends, as frag_timeout.
//
// # Round trip
//
// Every packet that is forwarded or bypasses is compared, byte by byte, with the
// packet of the capture. One that came in must be the original again; in one that
// went out the translated source, which must be a frontend, is first replaced by
// the original one, and what an ICMP error quotes likewise. Arithmetic of this
// program does that (form.go), none of the translator's. So a byte that the
// translator should not have touched shows, and a checksum that is wrong shows, but
// one that the capture had wrong may stay. Packets from an inside host to a frontend
// that come back inside are not compared.
//
// A packet is identical, different, or canonical, which is different only where
// any translator that updates checksums has to be:
//
//   - an IPv4 header, TCP or ICMP checksum of FFFF comes back as 0000, the form
//     of zero that RFC 1624 arithmetic yields, also in what an ICMP error quotes.
//     A UDP checksum does not: 0000 is no checksum and stays, FFFF stays too
//     (RFC 768);
//   - the identification of a fragment, which translators may have to choose anew
//     because several hosts now share an address, and with it the IPv4 header
//     checksum.
//
// # Hostile captures
//
// Whatever a file holds, it is replayed or refused with a complaint. Of a capture
// that is cut off or damaged all sound frames are replayed, the others are counted
// as skipped, and the first damage is told. Frames without an IP packet are counted
// by what they are. Frames without a time that makes sense keep their place in the
// file. Packets of damaged form go through as they are: the translator has to say
// what is wrong with them.
//
// # Captures of a sender
//
// A capture that was made on the host that sent the packets, such as a pod, has them
// before the network card has computed checksums and cut long segments (offloading). What
// looks like that is repaired before anything else, and counted: TCP and UDP checksums
// that are the sum of the pseudo-header alone, or 0000 in TCP; header checksums of
// 0000; wrong checksums of a protocol of which a host sent three at least and none that
// is right, or of a capture that has two at least and none that is right; TCP segments
// with an IP length of 0. -checksums repair computes all that are wrong, -checksums
// keep leaves all as they are.
//
// # Cut captures
//
// Of frames that a snap length has cut zeros stand for what is missing, up to the length
// that the IP header tells, if the headers are there; checksums are made to fit,
// unless -checksums is keep. In the file of -out such packets are cut, too. Without
// their headers packets are dropped as bad_len.
//
// # Files
//
// A file is read into memory as a whole; one that grows, as far as it was when it was
// opened. One that is compressed with gzip may hold 32 MiB, or 32 times its length up
// to 256 MiB. -in may be a pipe of up to 1 GiB, - is the standard input. -out
// appears complete or not at all, also where it is a link to a file; pipes and
// devices are written through.
//
// # The report for programs
//
// -json prints one object:
//
//	complete                  false if the run was interrupted
//	packets                   IP packets of the capture, = verdicts.forward + .bypass + .drop;
//	                          reasons gives the dropped ones by reason
//	flows                     sessions created
//	roundtrip.compared        packets that were forwarded or bypassed, = .identical + .canonical
//	                          + .different (must be 0)
//	frames.total, .cut,       frames in the file, those kept in part only, those with offloaded
//	    .repaired, .untimed,  checksums, without a time that makes sense, and without an IP
//	    .skipped              packet by what they are: ARP, damaged ..
//	frames.damage             the first damage of the file; empty if it is sound
//	rst.generated,            RSTs and ICMP errors that the translator made
//	    icmp.generated
//	digest                    16 hexadecimal digits that all packets, verdicts, RSTs and errors
//	                          fold into: the same run, the same digest
//
// # Results
//
// The exit status is 0 on success, 2 for a wrong command line, 130 after Ctrl-C or SIGTERM, which
// prints what is known by then and leaves no capture of -out, 1 for a capture that
// cannot be read, for anything else that fails, if a packet is different, and if no
// packet at all was translated.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/snat"
)

func main() {
	command.Main(run)
}

// run is the command: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	parse := func() (err error) {
		o, err = parseOptions(args, stdout)
		return err
	}
	return command.Run("replay", stderr, parse, func() error { return simulate(ctx, o, stdout, stderr) })
}

// simulate does what the command line asks for and prints the report.
func simulate(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	file, err := command.Load(ctx, "in", o.in)
	if err != nil {
		return err
	}
	content, damage := capture.Salvage(file)
	if content == nil {
		return fmt.Errorf("-in %s: %w", o.in, damage)
	}
	repairs := content.Repair(o.checksums)
	hosts, others := o.hosts(content)
	config, err := o.translator(hosts)
	if err != nil {
		return err
	}
	nat, err := snat.New(config)
	if err != nil {
		return err
	}
	defer nat.Close()

	var out *capture.File
	if o.out != "" {
		if out, err = createOut(ctx, o.out, o.in); err != nil {
			return err
		}
		defer out.Remove() // nothing is left of a capture that is not complete
	}
	r := newReplay(nat, &o, &config, content.Begin, out)
	err = r.play(ctx, content.Packets)
	interrupted := errors.Is(err, command.ErrInterrupted)
	if err != nil && (!interrupted || r.packets == 0) {
		return err
	}
	if out != nil && !interrupted {
		if err = out.Finish(); err == nil {
			err = out.Rename()
		}
		if err != nil {
			return command.Failed(ctx, fmt.Errorf("-out %s: %w", o.out, err))
		}
	}

	err = nil
	report := report{options: &o, content: content, damage: damage, repairs: repairs, hosts: hosts, tally: &r.tally, flows: int(nat.Stats().SessionsCreated), digest: r.nat.String(), complete: !interrupted}
	w := bufio.NewWriter(stdout)
	if o.json {
		err = report.writeJSON(w)
	} else {
		report.writeText(page.New(w, stdout))
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if interrupted {
		return command.ErrInterrupted
	}
	if r.different > 0 {
		return fmt.Errorf("%d of %d packets came back different, first %s", r.different, r.compared, r.firstDifference)
	}
	// The report is true, but perhaps not what was asked for.
	if damage != nil {
		command.Complain("replay", stderr, fmt.Errorf("warning: -in %s: %w", o.in, damage))
	}
	if r.forwarded == 0 {
		return fmt.Errorf("nothing was translated: %w", report.fruitless(others))
	}
	return nil
}

// createOut begins the capture of -out, which must not replace that of -in.
func createOut(ctx context.Context, name, in string) (*capture.File, error) {
	was, err := os.Stat(in)
	if err == nil {
		if is, err := os.Stat(name); err == nil && os.SameFile(was, is) {
			return nil, fmt.Errorf("-out %s: is the file of -in", name)
		}
	}
	out, err := capture.Create(ctx, name)
	if err != nil {
		return nil, command.Failed(ctx, fmt.Errorf("-out %s: %w", name, err))
	}
	return out, nil
}
