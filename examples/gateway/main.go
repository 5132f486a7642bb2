// Command gateway is a live NAT router for Linux: what the kernel routes into one
// TUN device comes out of the other from a port of a frontend, and replies find
// their way back, as behind an Azure load balancer's outbound rule.
//
//	go run ./examples/gateway -selftest
//	go run ./examples/gateway -inside-dev tun0 -outside-dev tun1 -inside 10.0.0.0/24 -frontend 198.51.100.1
//
// The self-test needs root, and the programs ip, ethtool and nsenter. It makes two
// hosts in network namespaces of their own, moves HTTP and DNS between them through
// the gateway, over IPv4 and IPv6, lets one visit a web site that two more hosts
// behind the gateway serve, if the preset has forwards, checks every packet, and leaves
// nothing behind.
//
// # In a network
//
// The gateway opens both devices, makes those that do not exist, and sets them
// up; routes are yours. On a router between eth1, where the inside hosts are, and
// the Internet, which has to send packets for the frontends here:
//
//	sysctl -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tun0.rp_filter=0
//	ip route add default dev tun0 table 100    # what inside hosts send ...
//	ip rule add iif eth1 lookup 100            # ... goes into the gateway
//	ip route add 198.51.100.1 dev tun1         # and so does what comes back
//
// What leaves tun1 has a frontend as its source and goes out by the default route;
// what leaves tun0 is addressed to an inside host. The same works with -6.
//
// # Instances and ports
//
// The translator is what -preset says: an outbound rule of an Azure load balancer,
// or any other product that package preset knows. A SNAT port may belong
// to an instance. Here all hosts of -inside together are one, as the pods of a node
// are; that is our choice. Where the preset preallocates ports, it owns the first
// -ports ports of the frontends, for each address family, for TCP and UDP each, or
// all the frontends have, which is more than some products would grant. ICMP and
// fragments are translated if the preset does so, or with -icmp and -fragments;
// packets that have waited in the translator leave within 10 ms.
//
// # Forwards
//
// -forward 198.51.100.1:80=10.0.0.7:8080,10.0.0.8:8080 makes a service of two inside hosts
// reachable from outside, as a load-balancing rule does. They see the client's own address,
// and their answers come from the frontend. The eight ports around a forward's are no SNAT
// ports. All backends count as healthy. Presets whose hosts share all ports, such as NAT
// gateways, or reach each other by them, have no forwards.
//
// SIGUSR1 prints the statistics, and so does the end. SIGINT or SIGTERM ends the
// gateway at once: it closes its devices, which removes those it made, and flows
// are forgotten. The exit status is 0 after a signal or a self-test without
// failures, 2 for a wrong command line and 1 for everything else.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the command: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	parse := func() (err error) {
		o, err = parseOptions(args, stdout)
		return err
	}
	return command.Run("gateway", stderr, parse, func() error {
		if o.selftest {
			return selftest(ctx, o.preset, stdout)
		}
		return serve(ctx, o, stdout)
	})
}
