package scenario

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// name returns the name of a pool.
func name(p snat.Protocol, is6 bool) string {
	text := map[snat.Protocol]string{snat.TCP: "tcp", snat.UDP: "udp", snat.Query: "query"}[p]
	if is6 {
		text += "6"
	}
	return text
}

// stats prints the ports of instances that were used, and the counters.
func (s *stage) stats([]string) (lines []string, err error) {
	for _, inst := range s.see.Instances() {
		for _, p := range inst.Pools {
			if p.Peak > 0 {
				lines = append(lines, fmt.Sprintf("%s %s allocated=%d free=%d used=%d held=%d peak=%d", inst.Name, name(p.Protocol, p.Is6), p.Allocated, p.Free, p.Used, p.Held(), p.Peak))
			}
		}
	}
	st := s.see.Stats()
	line := fmt.Sprintf("sessions active=%d created=%d ended=%d refused=%d resets=%d",
		st.SessionsActive, st.SessionsCreated, st.SessionsEnded, st.ConnectionsFailed, st.Resets)
	if st.Faults > 0 {
		line += fmt.Sprintf(" faults=%d", st.Faults)
	}
	return append(lines, line), nil
}

// frontends prints the ports of frontends that were used.
func (s *stage) frontends([]string) (lines []string, err error) {
	for _, f := range s.see.Frontends() {
		if f.Peak == 0 {
			continue
		}
		line := fmt.Sprintf("%v %s allocated=%d used=%d active=%d fin=%d rst=%d udp=%d peak=%d", f.Frontend, name(f.Protocol, f.Frontend.Is6()),
			f.Allocated, f.Used, f.Active, f.HeldFIN, f.HeldRST, f.HeldUDP, f.Peak)
		if f.AwaitingRemoval > 0 {
			line += fmt.Sprintf(" removing=%d", f.AwaitingRemoval)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// sessions prints all sessions, sorted.
func (s *stage) sessions([]string) (lines []string, err error) {
	add := func(i flow.Info) {
		line := fmt.Sprintf("%d %v > %v > %v %v", i.Proto, i.Inside, i.Outside, i.Remote, i.Class)
		if i.State != "" {
			line += " " + i.State
		}
		lines = append(lines, line)
	}
	switch t := s.see.(type) {
	case interface{ Sessions() iter.Seq[flow.Info] }:
		for i := range t.Sessions() {
			add(i)
		}
	case interface {
		Sessions() iter.Seq[overlay.Session]
	}:
		for i := range t.Sessions() {
			add(i.Info)
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// traffic prints what was counted, if it is.
func (s *stage) traffic([]string) (lines []string, err error) {
	n, ok := s.see.(interface{ Traffic() []snat.FrontendTraffic })
	if !ok {
		return nil, fmt.Errorf("it does not count traffic")
	}
	for _, t := range n.Traffic() {
		if t.Outbound.Packets+t.Inbound.Packets > 0 {
			lines = append(lines, fmt.Sprintf("%v %s out=%d/%dB in=%d/%dB syns=%d", t.Frontend, name(t.Protocol, t.Frontend.Is6()),
				t.Outbound.Packets, t.Outbound.Bytes, t.Inbound.Packets, t.Inbound.Bytes, t.Outbound.SYNs))
		}
	}
	return lines, nil
}

func (s *stage) digestSoFar([]string) ([]string, error) { return []string{s.nat.String()}, nil }

// describe prints what a reconfiguration did.
func describe(c snat.Change) string {
	t, cut := c.Total(), 0
	for _, n := range t.Cut {
		cut += n
	}
	names := make([]string, len(c.Instances))
	for i, inst := range c.Instances {
		names[i] = inst.Name
	}
	if len(names) > 4 {
		names = []string{fmt.Sprint(len(names))}
	}
	return fmt.Sprintf("instances=%s granted=%d reclaimed=%d removing=%d cut=%d", strings.Join(names, ","), t.Granted, t.Reclaimed, t.AwaitingRemoval, cut)
}
