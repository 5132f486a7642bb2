// What the numbers of a run mean, and what would help.

package story

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// finding is one thing that a run shows.
type finding struct {
	Code string `json:"code"` // for programs; stays
	Text string `json:"text"` // for people
}

// findings explains the numbers of this run. There are none if no port was used.
func (r *report) findings() (all []finding) {
	add := func(code, format string, args ...any) { all = append(all, finding{code, fmt.Sprintf(format, args...)}) }
	nodes := r.final.nodes
	at := byPeak(nodes)[0]
	fullest := nodes[at]
	protocol, use, then := "UDP", fullest.udp, r.highest[at].udp.uses
	if fullest.tcp.share() > use.share() {
		protocol, use, then = "TCP", fullest.tcp, r.highest[at].tcp.uses
	}
	if use.peak == 0 {
		return nil
	}
	idle := page.Short(r.options.idle.Duration)
	ports, ips, flag := "-ports", "-ips", "-idle" // what to turn
	if r.site != nil {
		ports, ips, flag = "outbound ports", "outbound IPs", "idle timeout"
	}
	shorter := "" // what a shorter idle timeout would do, if there can be one and it would
	if r.options.idle.Duration > minIdle && then.Active > then.Held() {
		shorter = "a shorter " + flag + ", "
	}
	add("reuse", "%s carried %s with at most %s in use: a port serves any number of destinations at once, and comes back when its flow is over.",
		fullest.name, page.Plural(fullest.flows, "flow"), page.Plural(use.peak, protocol+" port"))
	if r.final.failed > 0 {
		add("exhausted", "%s failed: %s had all its %s ports in use for one destination. Free ports of other nodes do not help. More %s per node (and %s to have them), %sor fewer pods per node would.",
			page.Plural(r.final.failed, "connection"), fullest.name, page.Count(use.allocated), ports, ips, shorter)
	} else {
		add("headroom", "At its peak the fullest node used %s of its %s %s ports. Pressure grows with the pods per node%s.",
			page.Percent(use.share()), page.Count(use.allocated), protocol, map[bool]string{true: ", and falls with a shorter idle timeout"}[shorter != ""])
	}
	if held := then.Held(); held >= then.Active {
		add("held", "Of the %s that were in use then, %s had no flow: closed connections kept them from their destinations, %s after FIN for 4 minutes and %s after RST for 15 seconds. No idle timeout changes that; connections that are kept open and used again do.",
			page.Plural(then.Total(), protocol+" port"), page.Count(held), page.Count(then.HeldFIN), page.Count(then.HeldRST))
	}
	if protocol == "UDP" {
		add("udp", "A UDP flow has no end that anybody could see: it keeps its port for the whole idle timeout of %s.", idle)
	} else if then.Active > then.Held() {
		add("close", "A closed TCP connection keeps its port from the same destination for another 4 minutes. Connections that are kept alive and used again need no new port.")
	}
	if n := r.lookups(); n > 0 {
		add("dns", "%s went to DNS servers on the Internet. Pods that ask the cluster's DNS (CoreDNS) need no SNAT port for that, and neither does CoreDNS when it asks Azure's resolver, 168.63.129.16: look for pods, stub domains or forwarders that are set to public servers. A cache%s relieves what has to stay.",
			page.Plural(n, "conversation"), map[bool]string{true: ", or " + flag + " 4m,"}[r.options.idle.Duration > minIdle])
	}
	if n := r.resetPods; n > 0 {
		add("reset", "%s said nothing for %s and got a RST, as did the server; a TCP keepalive from either side prevents that.",
			page.Plural(n, "connection"), idle)
	}
	return all
}

// lookups returns the number of conversations with DNS servers, by their port.
func (r *report) lookups() (n int) {
	for i, d := range r.recording.destinations {
		if d.Port() == dnsPort {
			n += r.destinations[i].conversations
		}
	}
	return n
}

func (r *report) writeFindings(p *page.Page) {
	all := r.findings()
	if len(all) == 0 {
		return
	}
	p.Section("What this run shows", "")
	for _, f := range all {
		p.Bullet(f.Text)
	}
}
