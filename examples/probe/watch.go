package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// watch probes the target until there were enough attempts or ctx is done.
func watch(ctx context.Context, o options, stdout io.Writer) error {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", o.host)
	if err != nil {
		return err
	}
	var backends []probe.Backend
	for _, a := range addrs {
		backends = append(backends, probe.Backend{Name: o.host, Addr: a.Unmap().WithZone("")})
	}
	monitor, err := probe.NewMonitor(probe.Config{
		Probes:  []probe.Probe{o.probe},
		Watches: []probe.Watch{{Probe: o.probe.Name, Backends: backends}},
	}, newProber(ctx, o))
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%v to %s every %v, states change with %d results in a row\n", o.probe.Protocol, o.target, o.probe.Interval, o.probe.ProbeThreshold)
	drive(ctx, monitor, o, stdout)
	for s := range monitor.Statuses() {
		fmt.Fprintf(stdout, "%v: %d attempts, %d successes, %s\n", netip.AddrPortFrom(s.Backend.Addr, o.probe.Port), s.Attempts, s.Successes, health(s.Healthy))
	}
	return nil
}

// drive lets the monitor's time pass with the clock.
func drive(ctx context.Context, m *probe.Monitor, o options, stdout io.Writer) {
	begin := time.Now()
	tell := func(c probe.Change) {
		fmt.Fprintf(stdout, "%v %v is %s\n", c.At.Duration().Truncate(time.Millisecond), netip.AddrPortFrom(c.Backend.Addr, o.probe.Port), health(c.Healthy))
	}
	for now := flow.Time(0); !done(m, o.count); {
		m.Advance(now, tell)
		now, _ = m.NextDeadline()
		timer := time.NewTimer(time.Until(begin.Add(time.Duration(float64(now) / o.speed))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// done reports whether every backend has had its attempts.
func done(m *probe.Monitor, count int) bool {
	if count == 0 {
		return false
	}
	for s := range m.Statuses() {
		if s.Attempts < uint64(count) {
			return false
		}
	}
	return true
}

func health(healthy bool) string {
	if healthy {
		return "healthy"
	}
	return "unhealthy"
}
