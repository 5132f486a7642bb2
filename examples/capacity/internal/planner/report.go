// The report for people.

package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Numbers of rows that fit a screen.
const (
	mostTraffic   = 20
	mostNodes     = 6
	mostRows      = 40
	mostOmissions = 8
)

// writeText prints the report.
func (a *answer) writeText(p *page.Page) {
	if t := &a.now.Total; t.Refused > 0 {
		p.Headline(page.Bad, "natplane capacity: %s of %s refused, the first after %s", page.Count(t.Refused), page.Plural(t.Conversations, "conversation"), page.Short(t.FirstRefused))
	} else {
		p.Headline(page.Good, "natplane capacity: none of %s refused", page.Plural(t.Conversations, "conversation"))
	}
	p.Note("")
	a.writeSettings(p)
	a.writeTraffic(p)
	a.writePorts(p)
	a.writeSweep(p)
	a.writeRecommendation(p)
	if all := a.findings(); len(all) > 0 {
		p.Section("What this shows", "")
		for _, f := range all {
			p.Bullet(f.Text)
		}
	}
}

// writeSettings tells what was simulated.
func (a *answer) writeSettings(p *page.Page) {
	o := &a.options
	t := p.Table("lw")
	text := fmt.Sprintf("%s: %s in %s, %s, outbound type %v, %s", cmp.Or(a.config.Name, "aks"), page.Plural(a.nodes, "node"),
		page.Plural(len(a.config.NodePools), "pool"), page.Plural(a.hosts, "pod"), a.config.OutboundType, page.Plural(a.ips(), "outbound IP"))
	if n := a.ports(); n > 0 {
		text += fmt.Sprintf(", %s SNAT ports per node", page.Count(n))
	}
	t.Row("Cluster", text+", idle timeout "+page.Short(idleTimeout(&a.config)))
	if len(o.clusters) > 0 {
		t.Row("Files", strings.Join(o.clusters, ", "))
	}
	for _, what := range a.omitted[:min(len(a.omitted), mostOmissions)] {
		t.Row("Not modelled", what)
	}
	if more := len(a.omitted) - mostOmissions; more > 0 {
		t.Row("Not modelled", fmt.Sprintf("and %d more; -json has all", more))
	}
	var sources []string
	switch {
	case o.workload != "":
		sources = append(sources, o.workload)
	case o.trace == "":
		sources = append(sources, "the built-in one")
	}
	if o.trace != "" {
		sources = append(sources, fmt.Sprintf("%s of %s", page.Plural(len(a.workload.Trace), "conversation"), o.trace))
	}
	t.Row("Workload", fmt.Sprintf("%s, for %s, seed %d", strings.Join(sources, " and "), page.Short(o.until), a.workload.Seed))
	for _, what := range a.skipped {
		t.Row("Skipped", what)
	}
	if a.interrupted {
		t.Row("Interrupted", "what was not done by then is left out")
	}
	t.Print()
}

// writeTraffic tells what has become of the conversations.
func (a *answer) writeTraffic(p *page.Page) {
	p.Section("As it is", "conversations; failed: given up; cut: reset by the NAT; broken: forgotten by it")
	t := p.Table("lrrrrrrR")
	t.Row("traffic", "begun", "refused", "share", "failed", "cut", "broken", "first refused")
	row := func(name string, c *whatif.Counts) {
		first := ""
		if c.Refused > 0 {
			first = page.Short(c.FirstRefused)
		}
		t.Row(name, page.Count(c.Conversations), page.Count(c.Refused), page.Percent(c.RefusedShare()), page.Count(c.Failed), page.Count(c.Cut), page.Count(c.Broken), first)
	}
	all := a.now.Traffic
	for i := range all[:min(len(all), mostTraffic)] {
		row(all[i].Name, &all[i])
	}
	if len(all) > 1 {
		row("all", &a.now.Total)
	}
	t.Print()
	p.More(len(all)-mostTraffic, "row", "in -json")
	for _, r := range a.now.Refusals {
		p.Note("%s refused from %s on: %s", page.Plural(r.Packets, "packet"), page.Short(r.First), r.Reason.Sentence())
	}
}

// uses lists what ports were used for.
func uses(u whatif.Uses) []use {
	return []use{
		{"held after FIN", u.HeldFIN, "connections that were closed, for 4 minutes from the same destination"},
		{"held after RST", u.HeldRST, "connections that were reset"},
		{"abandoned", u.Abandoned, "TCP connections that no pod knows any more, until the idle timeout"},
		{"UDP waiting", u.UDPWaiting, "sockets that are closed, until the idle timeout"},
		{"UDP", u.UDP, "sockets that are open"},
		{"held after UDP", u.HeldUDP, "datagram flows that are over"},
		{"idle", u.Idle, "open connections that rest"},
		{"busy", u.Busy, "connections under way"},
	}
}

type use struct {
	name  string
	n     int
	whose string
}

// writePorts tells how full the nodes were, and of what.
func (a *answer) writePorts(p *page.Page) {
	p.Section("Ports at the peak", fmt.Sprintf("of TCP and UDP, after %s", page.Short(a.now.PeakAt)))
	t := p.Table("lrw")
	t.Row("in use", page.Count(a.now.Peak.Ports), "on all outbound IPs; flows to several destinations may share one")
	for _, u := range uses(a.now.Peak) {
		if u.n > 0 {
			t.Row("  "+u.name, page.Count(u.n), u.whose)
		}
	}
	t.Print()

	fills := fullest(a.now)
	if len(fills) == 0 {
		return
	}
	p.Section("Fullest nodes", "ports per protocol; of 100 samples 99 were not above p99")
	t = p.Table("llrrrr")
	t.Row("node", "", "allocated", "peak", "", "p99")
	for _, f := range fills[:min(len(fills), mostNodes)] {
		name := f.Name
		if name == "" {
			name = f.Frontend.String() // shared ports
		}
		family := ""
		if f.Is6 {
			family = " IPv6"
		}
		t.Row(name, f.Protocol.String()+family, page.Count(f.Allocated), page.Count(f.Peak), page.Percent(f.Share()), page.Count(f.P99))
	}
	t.Print()
	p.More(len(fills)-mostNodes, "row", "with lower peaks")
}

// writeSweep prints a row for each setting.
func (a *answer) writeSweep(p *page.Page) {
	if len(a.rows) == 0 {
		return
	}
	good := 0
	for _, r := range a.rows {
		if r.Err == nil && r.Result.Total.Refused == 0 {
			good++
		}
	}
	p.Section("Other settings", fmt.Sprintf("%d of %d refuse nothing", good, len(a.rows)))
	var reasons []string // of what is not there
	t := p.Table("lrrrrrw")
	t.Row("setting", "refused", "share", "peak", "cut", "broken", "first refused")
	for _, r := range a.rows[:min(len(a.rows), mostRows)] {
		if r.Err != nil {
			t.Row(r.Setting, "-", "-", "-", "-", "-", "")
			if why := strings.ReplaceAll(reason(r.Err), "\n", "; "); !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
			continue
		}
		c, first := &r.Result.Total, ""
		if c.Refused > 0 {
			first = "after " + page.Short(c.FirstRefused)
		}
		t.Row(r.Setting, page.Count(c.Refused), page.Percent(c.RefusedShare()), page.Percent(peak(r.Result)), page.Count(c.Cut), page.Count(c.Broken), first)
	}
	t.Print()
	p.More(len(a.rows)-mostRows, "setting", "in -json and -csv")
	for _, why := range reasons {
		p.Note("-: %s", why)
	}
}

// reason says why a setting has no result.
func reason(err error) string {
	if errors.Is(err, context.Canceled) {
		return "not done"
	}
	return err.Error()
}

// writeRecommendation tells the cheapest setting and proves it.
func (a *answer) writeRecommendation(p *page.Page) {
	switch b := a.best; {
	case a.none != "":
		p.Section("Recommendation", "")
		p.Note("There is %s.", a.none)
		if cuts(a.now) > 0 && !a.options.cuts {
			p.Note("Connections are cut as it is, too; -accept-cuts permits that.")
		}
	case b != nil:
		p.Section("Recommendation", "the fewest outbound IPs, then ports, then the longest idle timeout that "+map[bool]string{true: "refuse nothing", false: "refuse and cut nothing"}[a.options.cuts])
		t := p.Table("lw")
		t.Row("Setting", fmt.Sprintf("%s, %s SNAT ports per node, idle timeout %s", page.Plural(b.IPs, "outbound IP"), page.Count(b.Ports), page.Short(b.IdleTimeout)))
		t.Row("Proof", fmt.Sprintf("simulated: %s of %s refused, the fullest node at %s of its ports", page.Count(b.Result.Total.Refused), page.Plural(b.Result.Total.Conversations, "conversation"), page.Percent(peak(b.Result))))
		if b.Refusing != nil {
			t.Row("", fmt.Sprintf("%s are the least; with %s the first conversation is refused after %s", page.Plural(b.Least, "port"), page.Count(b.Least-8), page.Short(b.Refusing.Total.FirstRefused)))
		}
		if lost := a.givenUp(); lost != "" {
			t.Row("Mind", lost)
		}
		if n := cuts(b.Result); n > 0 {
			t.Row("Mind", fmt.Sprintf("%s cut or broken after an idle timeout, as it is %s", page.Plural(n, "conversation"), page.Count(cuts(a.now))))
		}
		t.Print()
		p.Note("")
		p.Note("%s", a.azure())
	}
}

// cuts returns how many conversations an idle timeout has ended.
func cuts(r *whatif.Result) uint64 { return r.Total.Cut + r.Total.Broken }

// givenUp says which addresses others know, such as for a list of those allowed, and the recommended
// setting is without; "" if none.
func (a *answer) givenUp() string {
	p := &a.config.LoadBalancerProfile
	switch managed := p.ManagedOutboundIPCount; {
	case len(p.OutboundIPs)+len(p.OutboundIPPrefixes) > 0:
		return "packets leave from other addresses: managed outbound IPs take the place of the cluster's own ones"
	case a.best.IPs < managed:
		return fmt.Sprintf("%s fewer: packets leave no more from those that go", page.Plural(managed-a.best.IPs, "outbound IP"))
	}
	return ""
}

// azure returns the command that sets what is recommended; the flags are those of az aks update
// (learn.microsoft.com/azure/aks/load-balancer-standard).
func (a *answer) azure() string {
	b := a.best
	name := "NAME"
	if a.config.Name != "" {
		name = a.config.Name
	}
	text := fmt.Sprintf("az aks update -g GROUP -n %s --load-balancer-managed-outbound-ip-count %d", name, b.IPs)
	if n := b.Cluster.LoadBalancerProfile.ManagedOutboundIPCountIPv6; n > 0 {
		text += fmt.Sprintf(" --load-balancer-managed-outbound-ipv6-count %d", n)
	}
	return text + fmt.Sprintf(" --load-balancer-outbound-ports %d --load-balancer-idle-timeout %d", b.Ports, b.IdleTimeout/time.Minute)
}

// ips returns the number of outbound IPs.
func (a *answer) ips() int {
	seen := make(map[string]bool)
	for _, f := range a.now.Frontends {
		seen[f.Frontend.String()] = true
	}
	return len(seen)
}

// ports returns how many a node has of a protocol; 0 where they are shared.
func (a *answer) ports() int {
	if len(a.now.Nodes) == 0 {
		return 0
	}
	return a.now.Nodes[0].Allocated
}

// finding is one thing that a run shows.
type finding struct {
	Code string `json:"code"` // for programs; stays
	Text string `json:"text"` // for people
}

// findings explains what held the ports, and what would help.
func (a *answer) findings() (all []finding) {
	add := func(code, format string, args ...any) { all = append(all, finding{code, fmt.Sprintf(format, args...)}) }
	u, idle := a.now.Peak, idleTimeout(&a.config)
	shorter := map[bool]string{true: ", or a shorter idle timeout,"}[idle > minIdle]
	if flows := u.HeldFIN + u.HeldRST + u.Busy + u.Idle + u.UDP + u.UDPWaiting + u.Abandoned + u.HeldUDP; flows > 0 {
		share := func(n int) string {
			text := page.Percent(float64(n) / float64(flows))
			if len(all) == 0 {
				text += " of what held ports at the peak"
			}
			return text
		}
		if u.HeldFIN*4 >= flows {
			text := fmt.Sprintf("%s were closed connections. They keep a port from their destination for 4 minutes, whatever the idle timeout: connections that are kept open and used again (reuse=on) need no new port.", share(u.HeldFIN))
			if n := a.ports(); n > 0 && a.config.OutboundType == overlay.OutboundLoadBalancer {
				text += fmt.Sprintf(" The %s ports of a node last for %.1f new connections a second to one destination.", page.Count(n), whatif.Sustained(n, 0, snat.AzureTimeouts(0).TCPTimeWait))
			}
			add("held", "%s", text)
		}
		if u.Abandoned*10 >= flows {
			add("abandoned", "%s were connections that their pods had left without FIN; each holds its port for %s. Closing them%s gives the ports back.", share(u.Abandoned), page.Short(idle), shorter)
		}
		if u.UDPWaiting*10 >= flows {
			add("udp", "%s were UDP sockets that nobody used any more: nobody can see the end of UDP, so each holds its port for %s. A DNS cache (dns-cache=30s)%s relieves that.", share(u.UDPWaiting), page.Short(idle), shorter)
		}
	}
	if n := a.now.Total.Cut; n > 0 {
		add("cut", "%s said nothing for %s, got a RST, and had more to say; a TCP keepalive (keepalive=1m) prevents that.", page.Plural(n, "conversation"), page.Short(idle))
	}
	if n := a.now.Total.Broken; n > 0 {
		add("broken", "%s said nothing for %s, and what they said then was dropped, for the NAT had forgotten them and had not told; a TCP keepalive (keepalive=1m) prevents that.", page.Plural(n, "conversation"), page.Short(idle))
	}
	if n := a.now.Total.NoPort; n > 0 {
		add("ephemeral", "%s failed before any packet left: their pod had no ephemeral port.", page.Plural(n, "conversation"))
	}
	if t := &a.now.Total; t.Refused == 0 && len(all) > 0 && peak(a.now) > 0 {
		add("headroom", "Nothing was refused; at its peak the fullest node used %s of its ports.", page.Percent(peak(a.now)))
	}
	return all
}
