// The report: everything a run found out, for people.

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// report is the outcome of a run.
type report struct {
	options   options
	recording *recording
	pods      []pod
	history
	tally
	copies int

	traffic usage // at the last packet of the traffic
	final   usage // when everything has expired
	virtual time.Duration
	wall    time.Duration
	files   *output
}

// finish takes the results of a run that is over.
func (r *report) finish(run *replay, wall time.Duration) {
	r.pods, r.copies, r.tally, r.files = run.pods, run.copies, run.tally, run.output
	r.virtual, r.wall = run.now.Duration(), wall
}

// Numbers of rows that fit a screen.
const (
	mostIPs          = 14 // unless they are used
	mostNodes        = 12
	mostPods         = 8
	mostDestinations = 8
)

// writeText prints the report; errors of w are left to its owner.
func (r *report) writeText(w io.Writer) {
	o := r.options
	fmt.Fprintf(w, "natplane egress: %s in %s, %s\n\n",
		plural(r.conversations, "conversation"), short(r.trafficEnd.Duration()), r.outcome())
	ports := count(o.ports)
	if o.ports == 0 {
		ports = count(r.final.nodes[0].tcp.allocated)
	}
	source := "the built-in capture"
	if o.pcap != "" {
		source = o.pcap
	}
	packets := r.outbound + r.inbound
	t := newTable("ll")
	t.row("Cluster", fmt.Sprintf("%s × %s, %s per family, %s SNAT ports per node, idle timeout %s",
		plural(o.nodes, "node"), plural(o.podsPerNode, "pod"), plural(o.ips, "outbound IP"), ports, short(o.idle.Duration)))
	load := ""
	if r.copies > 1 {
		load = fmt.Sprintf(", one per pod every %s on average", short(pace))
	}
	t.row("Traffic", fmt.Sprintf("%s of %s × %s%s, seed %d",
		plural(len(r.recording.conversations), "conversation"), source, plural(r.copies, "copy"), load, o.seed))
	t.row("Run", fmt.Sprintf("%s of virtual time in %.2f s: %s, %s a second", short(r.virtual), r.wall.Seconds(),
		plural(packets, "packet"), count(int(float64(packets)/max(r.wall.Seconds(), 1e-3)))))
	for _, kind := range slices.Sorted(maps.Keys(r.recording.skipped)) {
		t.row("Skipped", fmt.Sprintf("%s without an IP packet: %s", plural(r.recording.skipped[kind], "frame"), kind))
	}
	if r.files != nil {
		for _, f := range []*capture.File{r.files.inside, r.files.outside} {
			t.row("Written", fmt.Sprintf("%s, %s", f.Name(), plural(f.Packets(), "packet")))
		}
	}
	t.print(w)

	r.writePackets(w)
	r.writeFlows(w)
	r.writePorts(w)
	r.writeBusiest(w)
	r.writeLesson(w)
}

// outcome says in a few words how it went.
func (r *report) outcome() string {
	switch {
	case r.astray > 0:
		return fmt.Sprintf("%s went ASTRAY: this is a bug in natplane", plural(r.astray, "reply"))
	case r.final.failed > 0:
		return fmt.Sprintf("%s failed for want of a SNAT port", plural(r.final.failed, "connection"))
	case r.dropped > 0:
		return fmt.Sprintf("%s dropped, no SNAT port missing", plural(r.dropped, "packet"))
	}
	return "every one found a SNAT port and every reply its pod"
}

func (r *report) writePackets(w io.Writer) {
	heading(w, "Packets", "")
	t := newTable("lrl")
	t.row("outbound", count(r.outbound), "sent by pods")
	t.row("inbound", count(r.inbound), "sent by the Internet, to what it saw")
	t.row("forwarded", count(r.forwarded), "")
	t.row("bypassed", count(r.bypassed), "pod to pod, not translated")
	t.row("dropped", count(r.dropped), "")
	for reason := range flow.Reasons() {
		if n := r.drops[reason]; n > 0 {
			t.row("  "+reason.String(), count(n), reason.Sentence())
		}
	}
	t.print(w)
	if r.drops[flow.ReasonL4Checksum] > 0 {
		fmt.Fprintln(w, "Wrong checksums usually mean that the capture was taken on a sender with checksum\noffload; take it elsewhere, or switch the offload off while capturing.")
	}
}

func (r *report) writeFlows(w io.Writer) {
	heading(w, "Connections and flows", "")
	t := newTable("lrl")
	t.row("successful", count(r.final.successful), "SNAT connections that got a port")
	t.row("failed", count(r.final.failed), "for want of a port")
	t.row("flows created", count(r.final.created), "")
	t.row("active", count(r.traffic.active), "when the traffic ended, "+count(r.final.active)+" at the end")
	t.row("expired", count(r.traffic.expired), "when the traffic ended, "+count(r.final.expired)+" at the end")
	t.row("RSTs on idle", count(r.resets[flow.Inside]+r.resets[flow.Outside]),
		fmt.Sprintf("%s to pods, %s to the Internet", count(r.resets[flow.Inside]), count(r.resets[flow.Outside])))
	if r.cut > 0 {
		t.row("cut off", count(r.cut), "conversations that were reset while idle and had more to say")
	}
	if r.local > 0 {
		t.row("local", count(r.local), "conversations that stayed in the virtual network")
	}
	t.print(w)
}

func (r *report) writePorts(w io.Writer) {
	heading(w, "Outbound IPs", "ports of TCP and UDP together")
	t := newTable("lrrrr")
	t.row("IP", "allocated", "used", "peak", "")
	left := 0
	for i, f := range r.final.frontends {
		if i >= mostIPs && f.peak == 0 {
			left++
			continue
		}
		t.row(f.ip.String(), count(f.allocated), count(r.traffic.frontends[i].used), count(f.peak), percent(f.share()))
	}
	t.print(w)
	more(w, left, "outbound IP", "that were never used")

	heading(w, "Nodes", "ports per protocol and family, in the fuller family; used: when the traffic ended")
	t = newTable("lrrrrrrrrl")
	t.row("node", "flows", "failed", "allocated", "TCP used", "peak", "UDP used", "peak", "", "in use over time")
	order := byPeak(r.final.nodes)
	for _, i := range order[:min(len(order), mostNodes)] {
		n, then := r.final.nodes[i], r.traffic.nodes[i]
		t.row(n.name, count(n.flows), count(n.failed), count(n.tcp.allocated),
			count(then.tcp.used), count(n.tcp.peak), count(then.udp.used), count(n.udp.peak),
			percent(max(n.tcp.share(), n.udp.share())), "▕"+r.sparkline(i, n.tcp.allocated)+"▏")
	}
	t.print(w)
	more(w, len(order)-mostNodes, "node", "with lower peaks")
}

// byPeak returns the indexes of nodes, the fullest first.
func byPeak(nodes []nodeUsage) []int {
	order := make([]int, len(nodes))
	for i := range order {
		order[i] = i
	}
	fullness := func(i int) float64 { return max(nodes[i].tcp.share(), nodes[i].udp.share()) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(fullness(b), fullness(a)) })
	return order
}

func (r *report) writeBusiest(w io.Writer) {
	heading(w, "Busiest pods", "")
	t := newTable("llrrr")
	t.row("pod", "node", "conversations", "refused", "packets")
	pods := busiest(len(r.pods), func(i int) traffic { return r.pods[i].traffic })
	for _, i := range pods[:min(len(pods), mostPods)] {
		p := r.pods[i]
		t.row(p.name, p.node, count(p.traffic.conversations), count(p.traffic.refused), count(p.traffic.packets))
	}
	t.print(w)

	heading(w, "Busiest destinations", "")
	t = newTable("lrrr")
	t.row("destination", "conversations", "refused", "packets")
	all := busiest(len(r.destinations), func(i int) traffic { return r.destinations[i] })
	for _, i := range all[:min(len(all), mostDestinations)] {
		d := r.destinations[i]
		t.row(r.recording.destinations[i].String(), count(d.conversations), count(d.refused), count(d.packets))
	}
	t.print(w)
	more(w, len(all)-mostDestinations, "destination", "")
}

// busiest returns those of the indexes 0 to n-1 that have any traffic, by falling
// number of conversations, then of packets.
func busiest(n int, of func(int) traffic) []int {
	var order []int
	for i := range n {
		if of(i).conversations > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(of(b).conversations, of(a).conversations), cmp.Compare(of(b).packets, of(a).packets))
	})
	return order
}

// writeLesson explains the numbers of this run.
func (r *report) writeLesson(w io.Writer) {
	nodes := r.final.nodes
	fullest := nodes[byPeak(nodes)[0]]
	protocol, use := "UDP", fullest.udp
	if fullest.tcp.share() > use.share() {
		protocol, use = "TCP", fullest.tcp
	}
	if use.peak == 0 {
		return
	}
	heading(w, "What this run shows", "")
	fmt.Fprintf(w, "- %s carried %s with at most %s in use: a port serves any\n  number of destinations at once, and comes back when its flow is over.\n",
		fullest.name, plural(fullest.flows, "flow"), plural(use.peak, protocol+" port"))
	switch {
	case r.final.failed > 0:
		fmt.Fprintf(w, "- %s failed: %s had all its %s ports in use, or resting, for one\n  destination. Free ports of other nodes do not help. More -ports per node (and -ips to have\n  them), a shorter -idle or fewer pods per node would.\n",
			plural(r.final.failed, "connection"), fullest.name, count(use.allocated))
	default:
		fmt.Fprintf(w, "- At its peak the fullest node used %s of its %s %s ports. Pressure grows with the pods per\n  node, and falls with a shorter idle timeout.\n", percent(use.share()), count(use.allocated), protocol)
	}
	if protocol == "UDP" {
		fmt.Fprintf(w, "- A UDP flow has no end that anybody could see: every DNS look-up keeps its port for the whole\n  idle timeout of %s. A DNS cache in the cluster, or -idle 4m, is the cheapest relief.\n", short(r.options.idle.Duration))
	} else {
		fmt.Fprintf(w, "- A closed TCP connection keeps its port from the same destination for another 4 minutes.\n  Connections that are kept alive and used again need no new port.\n")
	}
	if n := r.resetPods; n > 0 {
		fmt.Fprintf(w, "- %s said nothing for %s and got a RST, as did the server; a TCP keepalive from\n  either side prevents that.\n", plural(n, "connection"), short(r.options.idle.Duration))
	}
}
