//go:build linux

// Command record makes the capture that examples/egress replays by default:
//
//	go run ./examples/egress/internal/record -o examples/egress/testdata/conversations.pcap
//
// It needs root, and ip, ethtool and tcpdump in PATH. Two network namespaces,
// joined by one veth pair, hold a few clients and a few servers; real programs
// talk through real Linux TCP stacks while tcpdump listens on the clients'
// side. Offloads are off, so that the capture holds what a wire would carry:
// packets of at most 1500 bytes with finished checksums. Nothing leaves the
// namespaces, and they are removed on every way out, failure included.
//
// The same binary plays every role: without -role it builds the namespaces and
// runs itself once inside each.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	role := flag.String("role", "", "internal: server or client")
	out := flag.String("o", "conversations.pcap", "capture `file` to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch *role {
	case "":
		err = record(ctx, *out)
	case "server":
		err = serve()
	case "client":
		err = converse(ctx)
	default:
		err = fmt.Errorf("-role %q: want server or client", *role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

// record builds the namespaces, runs both roles in them and captures.
func record(ctx context.Context, out string) (err error) {
	clients := fmt.Sprintf("natplane-clients-%d", os.Getpid())
	servers := fmt.Sprintf("natplane-servers-%d", os.Getpid())
	for _, ns := range []string{clients, servers} {
		if err := command(ctx, "ip", "netns", "add", ns); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, command(context.Background(), "ip", "netns", "del", ns))
		}()
	}
	if err := connect(ctx, clients, servers); err != nil {
		return err
	}

	dump := exec.Command("ip", "netns", "exec", clients, "tcpdump", "-i", "eth0", "-w", out,
		"--time-stamp-precision=nano", "--immediate-mode", "-Z", "root", "tcp or udp")
	stopDump, err := start(dump, dump.StderrPipe, "listening on")
	if err != nil {
		return fmt.Errorf("tcpdump: %w", err)
	}
	defer stopDump()

	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command("ip", "netns", "exec", servers, self, "-role", "server")
	server.Stderr = os.Stderr
	stopServer, err := start(server, server.StdoutPipe, ready)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	defer stopServer()
	client := exec.Command("ip", "netns", "exec", clients, self, "-role", "client")
	client.Stderr = os.Stderr
	stopClient, err := start(client, client.StdoutPipe, ready)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	// The capture ends before the client does, so that nobody sees the idle
	// connections close.
	time.Sleep(300 * time.Millisecond)
	err = stopDump()
	stopClient()
	return err
}

// ready is the line with which a role says that its part is done.
const ready = "ready"

// start runs cmd until its output contains the text and returns how to end it.
func start(cmd *exec.Cmd, pipe func() (io.ReadCloser, error), text string) (stop func() error, err error) {
	output, err := pipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		if cmd.ProcessState != nil {
			return nil
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, output)
		_ = cmd.Wait() // an interrupted process may report its signal
		return nil
	}
	var seen strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		fmt.Fprintln(&seen, lines.Text())
		if strings.Contains(lines.Text(), text) {
			return stop, nil
		}
	}
	err = cmd.Wait()
	return nil, fmt.Errorf("ended before %q (%v): %s", text, err, seen.String())
}

// connect joins the two namespaces by a veth pair without offloads and gives
// every party its addresses.
func connect(ctx context.Context, clients, servers string) error {
	if err := command(ctx, "ip", "link", "add", "eth0", "netns", clients, "type", "veth", "peer", "name", "eth0", "netns", servers); err != nil {
		return err
	}
	for ns, addrs := range map[string][]string{clients: clientAddrs, servers: serverAddrs} {
		in := func(args ...string) error {
			return command(ctx, "ip", append([]string{"netns", "exec", ns}, args...)...)
		}
		steps := [][]string{
			{"ethtool", "-K", "eth0", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", "sg", "off"},
			{"ip", "link", "set", "lo", "up"},
			{"ip", "link", "set", "eth0", "up"},
		}
		for _, a := range addrs {
			if strings.Contains(a, ":") {
				steps = append(steps, []string{"ip", "addr", "add", a + "/128", "dev", "eth0", "nodad"})
			} else {
				steps = append(steps, []string{"ip", "addr", "add", a + "/32", "dev", "eth0"})
			}
		}
		steps = append(steps,
			[]string{"ip", "route", "add", "default", "dev", "eth0"},
			[]string{"ip", "-6", "route", "add", "default", "dev", "eth0"})
		for _, s := range steps {
			if err := in(s...); err != nil {
				return err
			}
		}
	}
	return nil
}

// command runs a program that is expected to succeed silently.
func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
