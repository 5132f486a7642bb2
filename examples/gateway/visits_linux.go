// What the self-test does with forwards: one web site, two hosts that serve it.

package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/labs"
)

const (
	backends = 2
	portSite = 8080 // of the frontend; a SNAT port, were it not forwarded

	// leastVisits is how many of a hundred connections each backend serves at least: a
	// fair coin falls on one side less often once in ten billion times.
	leastVisits = 20
)

// site returns the frontend's socket of a family.
func site(f labs.Family) netip.AddrPort { return netip.AddrPortFrom(f.Frontend, portSite) }

// sites returns what the self-test forwards.
func sites() (all []forward) {
	for _, f := range labs.Families {
		to := forward{frontend: site(f)}
		for i := range backends {
			to.backends = append(to.backends, netip.AddrPortFrom(f.Backend(i), labs.PortHTTP))
		}
		all = append(all, to)
	}
	return all
}

var visits = []conversation{
	{"HTTP from outside: 100 connections to a frontend, served by two hosts", func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		c := l.Visitor(false)
		defer c.CloseIdleConnections()
		served := map[string]int{}
		for i := range int64(100) {
			by, err := f.Visit(ctx, c, site(f), 100*i)
			if err != nil {
				return err
			}
			served[by]++
		}
		if served["backend0"] < leastVisits || served["backend1"] < leastVisits {
			return fmt.Errorf("the hosts served %v connections, want %d each at least", served, leastVisits)
		}
		return nil
	}},
	{"HTTP from outside: 100 requests over one connection, by one host", func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		c := l.Visitor(true)
		defer c.CloseIdleConnections()
		served := map[string]bool{}
		for range 100 {
			by, err := f.Visit(ctx, c, site(f), 10_000)
			if err != nil {
				return err
			}
			served[by] = true
		}
		if len(served) != 1 {
			return fmt.Errorf("the hosts %v served one connection", served)
		}
		return nil
	}},
	{"HTTP from outside: 10 MiB down", func(ctx context.Context, l *labs.Lab, f labs.Family) error {
		c := l.Visitor(false)
		defer c.CloseIdleConnections()
		_, err := f.Visit(ctx, c, site(f), 10<<20)
		return err
	}},
}
