// The report: everything a run found out, for people.

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// report is the outcome of a run.
type report struct {
	options   options
	recording *recording
	pods      []pod
	history
	tally

	traffic usage // at the last packet of the traffic
	final   usage // when everything has expired
	virtual time.Duration
	wall    time.Duration
	files   *output
}

// finish takes the results of a run that is over.
func (r *report) finish(run *replay, wall time.Duration) {
	r.pods, r.tally, r.files = run.pods, run.tally, run.output
	r.virtual, r.wall = run.now.Duration(), wall
}

// Numbers of rows that fit a screen.
const (
	mostNodes        = 12
	mostPods         = 8
	mostDestinations = 8
)

// writeText prints the report; errors of w are left to its owner.
func (r *report) writeText(w io.Writer) {
	o := r.options
	ports := "SNAT ports per node by Azure's table"
	if o.ports > 0 {
		ports = count(o.ports) + " SNAT ports per node"
	}
	fmt.Fprintf(w, "natplane egress: %s in %s, %s\n\n",
		plural(r.conversations, "conversation"), short(r.trafficEnd.Duration()), r.outcome())
	t := table(w)
	row(t, "Cluster", fmt.Sprintf("%s × %s, %s per family, %s, idle timeout %s",
		plural(o.nodes, "node"), plural(o.podsPerNode, "pod"), plural(o.ips, "outbound IP"), ports, short(o.idle)))
	source := "built-in capture"
	if o.pcap != "" {
		source = o.pcap
	}
	row(t, "Traffic", fmt.Sprintf("%s of %s × %s, a new one per pod every %s on average, seed %d",
		plural(len(r.recording.conversations), "conversation"), source, plural(o.copies, "copy"), short(pace), o.seed))
	packets := r.outbound + r.inbound
	row(t, "Run", fmt.Sprintf("%s of virtual time in %.1f s; %s, %s a second",
		short(r.virtual), r.wall.Seconds(), plural(packets, "packet"), count(int(float64(packets)/max(r.wall.Seconds(), 1e-3)))))
	for _, kind := range sortedKeys(r.recording.skipped) {
		row(t, "Skipped", fmt.Sprintf("%s without an IP packet: %s", plural(r.recording.skipped[kind], "frame"), kind))
	}
	if r.files != nil {
		row(t, "Written", fmt.Sprintf("%s (%s), %s (%s)",
			r.files.inside.name, plural(r.files.inside.packets, "packet"), r.files.outside.name, plural(r.files.outside.packets, "packet")))
	}
	t.Flush()

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
	t := table(w)
	row(t, "outbound", count(r.outbound), "sent by pods")
	row(t, "inbound", count(r.inbound), "sent by the Internet, to what it saw")
	row(t, "forwarded", count(r.forwarded), "")
	row(t, "bypassed", count(r.bypassed), "pod to pod, not translated")
	row(t, "dropped", count(r.dropped), "")
	for reason := range flow.Reasons() {
		if n := r.drops[reason]; n > 0 {
			row(t, "  "+reason.String(), count(n), reason.Sentence())
		}
	}
	t.Flush()
	if r.drops[flow.ReasonL4Checksum] > 0 {
		fmt.Fprintln(w, "Wrong checksums usually mean that the capture was taken on a sender with checksum\noffload; take it elsewhere, or switch the offload off while capturing.")
	}
}

func (r *report) writeFlows(w io.Writer) {
	heading(w, "Connections and flows", "")
	t := table(w)
	row(t, "successful", count(r.final.successful), "SNAT connections that got a port")
	row(t, "failed", count(r.final.failed), "for want of a port")
	row(t, "flows created", count(r.final.created), "")
	row(t, "active", count(r.traffic.active), "when the traffic ended, "+count(r.final.active)+" at the end")
	row(t, "expired", count(r.traffic.expired), "when the traffic ended, "+count(r.final.expired)+" at the end")
	row(t, "RSTs on idle", count(r.resets[flow.Inside]+r.resets[flow.Outside]),
		fmt.Sprintf("%s to pods, %s to the Internet", count(r.resets[flow.Inside]), count(r.resets[flow.Outside])))
	if r.cut > 0 {
		row(t, "cut off", count(r.cut), "conversations that were reset while idle and had more to say")
	}
	if r.local > 0 {
		row(t, "local", count(r.local), "conversations that stayed in the virtual network")
	}
	t.Flush()
}

func (r *report) writePorts(w io.Writer) {
	heading(w, "Outbound IPs", "ports of TCP and UDP together")
	t := table(w)
	row(t, "IP", "allocated", "used", "peak", "")
	for i, f := range r.final.frontends {
		row(t, f.ip.String(), count(f.allocated), count(r.traffic.frontends[i].used), count(f.peak), percent(f.share()))
	}
	t.Flush()

	heading(w, "Nodes", "allocated: ports per protocol and family; used: when the traffic ended, in the fullest family")
	t = table(w)
	row(t, "node", "address", "allocated", "TCP used", "peak", "", "UDP used", "peak", "", "ports in use over time")
	order := byPeak(r.final.nodes)
	for _, i := range order[:min(len(order), mostNodes)] {
		n, then := r.final.nodes[i], r.traffic.nodes[i]
		allocated := max(n.tcp.allocated, n.udp.allocated)
		row(t, n.name, n.addr.String(), count(allocated),
			count(then.tcp.used), count(n.tcp.peak), percent(n.tcp.share()),
			count(then.udp.used), count(n.udp.peak), percent(n.udp.share()),
			"▕"+r.sparkline(i, allocated)+"▏")
	}
	t.Flush()
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
	t := table(w)
	row(t, "pod", "node", "conversations", "refused", "packets")
	pods := busiest(len(r.pods), func(i int) traffic { return r.pods[i].traffic })
	for _, i := range pods[:min(len(pods), mostPods)] {
		p := r.pods[i]
		row(t, p.name, p.node, count(p.traffic.conversations), count(p.traffic.refused), count(p.traffic.packets))
	}
	t.Flush()

	heading(w, "Busiest destinations", "")
	t = table(w)
	row(t, "destination", "conversations", "refused", "packets")
	all := busiest(len(r.destinations), func(i int) traffic { return r.destinations[i] })
	for _, i := range all[:min(len(all), mostDestinations)] {
		d := r.destinations[i]
		row(t, r.recording.destinations[i].String(), count(d.conversations), count(d.refused), count(d.packets))
	}
	t.Flush()
	more(w, len(all)-mostDestinations, "destination", "")
}

// busiest returns the indexes 0 to n-1 by falling number of conversations, then
// of packets.
func busiest(n int, of func(int) traffic) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
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
	perNode := float64(r.final.created) / float64(len(nodes))
	fmt.Fprintf(w, "- A node saw %s flows on average, yet %s never had more than %s %s ports in use: a port\n  serves any number of destinations at once, and comes back when its flow is over.\n",
		count(int(perNode)), fullest.name, count(use.peak), protocol)
	switch {
	case r.final.failed > 0:
		fmt.Fprintf(w, "- %s connections failed: %s had all its %s ports for one destination in use. Other nodes'\n  free ports do not help. More -ports per node (or -ips to have them), a shorter -idle, or\n  fewer pods per node would.\n",
			count(r.final.failed), fullest.name, count(use.allocated))
	default:
		fmt.Fprintf(w, "- At its peak the fullest node used %s of its %s %s ports. Pressure grows with the pods per\n  node, and falls with a shorter idle timeout.\n", percent(use.share()), count(use.allocated), protocol)
	}
	if protocol == "UDP" {
		fmt.Fprintf(w, "- A UDP flow has no end that anybody could see: every DNS look-up keeps its port for the whole\n  idle timeout of %s. A DNS cache in the cluster, or -idle 4m, is the cheapest relief.\n", short(r.options.idle))
	} else {
		fmt.Fprintf(w, "- A closed TCP connection keeps its port from the same destination for another 4 minutes.\n  Connections that are kept alive and used again need no new port.\n")
	}
	if n := r.resets[flow.Inside]; n > 0 {
		fmt.Fprintf(w, "- %s said nothing for %s and got a RST, as did the server; a TCP keepalive from\n  either side prevents that.\n", plural(n, "connection"), short(r.options.idle))
	}
}

// Formatting.

// table returns a writer that aligns cells to the right of the first column.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// row writes the cells of one line of a table.
func row(t *tabwriter.Writer, cells ...string) {
	fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

// heading begins a section.
func heading(w io.Writer, title, remark string) {
	if remark != "" {
		remark = "  (" + remark + ")"
	}
	fmt.Fprintf(w, "\n%s%s\n", strings.ToUpper(title), remark)
}

// more says how many rows were left out.
func more(w io.Writer, n int, noun, remark string) {
	if n > 0 {
		fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("and %s more %s %s", count(n), pluralize(n, noun), remark)))
	}
}

// count formats n with thousands separators.
func count[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural formats n things.
func plural(n int, noun string) string { return count(n) + " " + pluralize(n, noun) }

func pluralize(n int, noun string) string {
	switch stem, y := strings.CutSuffix(noun, "y"); {
	case n == 1:
		return noun
	case y:
		return stem + "ies"
	}
	return noun + "s"
}

func percent(share float64) string { return strconv.Itoa(int(share*100+0.5)) + " %" }

// short formats a duration without its zero parts: 30m, 1h2m3s.
func short(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
