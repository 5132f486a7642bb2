// The report: everything a run found out, for people.

package story

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// report is the outcome of a run.
type report struct {
	options   options
	site      *Site // of -cluster, or nil
	recording *recording
	placement string // how the hosts of a file were placed; "" if they were drawn
	pods      []pod
	history
	tally
	copies int

	traffic usage // at the last packet of the traffic
	final   usage // when everything has expired
	virtual time.Duration
	wall    time.Duration
	files   *output
	digest  string
	done    float64 // share of the packets, 1 unless the run was interrupted
}

// finish takes the results of a run that is over.
func (r *report) finish(run *replay, digest string, wall time.Duration) {
	r.pods, r.copies, r.tally, r.files = run.pods, run.copies, run.tally, run.output
	r.virtual, r.wall, r.digest = run.now.Duration(), wall, digest
	r.done = run.done()
}

// print writes the report in the form that the command line asks for.
func (r *report) print(stdout io.Writer) error {
	w := bufio.NewWriter(stdout)
	if r.options.json {
		return errors.Join(r.writeJSON(w), w.Flush())
	}
	r.writeText(page.New(w, stdout))
	return w.Flush()
}

// Numbers of rows that fit a screen.
const (
	mostIPs          = 14 // unless they are used
	mostNodes        = 12
	mostPods         = 8
	mostDestinations = 8
	mostOmissions    = 8
)

// writeText prints the report.
func (r *report) writeText(p *page.Page) {
	o := r.options
	mood := page.Good
	if r.astray > 0 || r.final.failed > 0 || r.dropped > 0 {
		mood = page.Bad
	}
	p.Headline(mood, "natplane egress: %s in %s, %s",
		page.Plural(r.conversations, "conversation"), page.Short(r.trafficEnd.Duration()), r.outcome())
	source := "the built-in capture"
	if o.pcap != "" {
		source = o.pcap
	}
	packets := r.outbound + r.inbound
	p.Note("")
	t := p.Table("lw")
	t.Row("Cluster", r.cluster())
	if r.site != nil {
		t.Row("Files", strings.Join(o.clusters, ", "))
		for _, what := range r.site.NotModelled[:min(len(r.site.NotModelled), mostOmissions)] {
			t.Row("Not modelled", what)
		}
		if more := len(r.site.NotModelled) - mostOmissions; more > 0 {
			t.Row("Not modelled", fmt.Sprintf("and %d more; -json has all", more))
		}
	}
	load := ""
	if r.copies > 1 {
		load = fmt.Sprintf(", one per pod every %s on average", page.Short(pace))
	}
	if r.placement != "" {
		t.Row("Hosts", r.placement)
	}
	t.Row("Traffic", fmt.Sprintf("%s of %s × %s%s, seed %d",
		page.Plural(len(r.recording.conversations), "conversation"), source, page.Plural(r.copies, "copy"), load, o.seed))
	t.Row("Run", fmt.Sprintf("%s of virtual time in %.2f s: %s, %s a second", page.Short(r.virtual), r.wall.Seconds(),
		page.Plural(packets, "packet"), page.Count(int(float64(packets)/max(r.wall.Seconds(), 1e-3)))))
	for _, kind := range slices.Sorted(maps.Keys(r.recording.skipped)) {
		t.Row("Skipped", fmt.Sprintf("%s without an IP packet: %s", page.Plural(r.recording.skipped[kind], "frame"), kind))
	}
	if r.recording.elsewhere > 0 {
		t.Row("Left out", fmt.Sprintf("%s from and to hosts that are not -inside", page.Plural(r.recording.elsewhere, "packet")))
	}
	if r.recording.otherFamily > 0 {
		t.Row("Left out", fmt.Sprintf("%s of IPv6, which the cluster has not", page.Plural(r.recording.otherFamily, "packet")))
	}
	if r.recording.cut > 0 {
		t.Row("Cut", fmt.Sprintf("%s of which the capture kept a part only (snap length); zeros stand for the rest", page.Plural(r.recording.cut, "frame")))
	}
	if r.recording.repairs.Packets > 0 {
		t.Row("Repaired", r.recording.repairs.String())
	}
	if r.recording.damage != nil {
		t.Row("Damage", fmt.Sprintf("the capture is not sound, the rest of it was used: %v", r.recording.damage))
	}
	if r.done < 1 {
		t.Row("Interrupted", fmt.Sprintf("after %s of the packets", page.Percent(r.done)))
	} else if r.files != nil {
		for _, f := range []*capture.File{r.files.inside, r.files.outside} {
			t.Row("Written", fmt.Sprintf("%s, %s", f.Name(), page.Plural(f.Packets(), "packet")))
		}
	}
	t.Print()

	r.writePackets(p)
	r.writeFlows(p)
	r.writePorts(p)
	r.writeBusiest(p)
	r.writeFindings(p)
}

// cluster describes the cluster in a line.
func (r *report) cluster() string {
	o := r.options
	ports := page.Count(o.ports)
	if o.ports == 0 {
		ports = page.Count(r.final.nodes[0].tcp.allocated)
	}
	if r.site == nil {
		return fmt.Sprintf("%s × %s, %s per family, %s SNAT ports per node, idle timeout %s",
			page.Plural(o.nodes, "node"), page.Plural(o.podsPerNode, "pod"), page.Plural(o.ips, "outbound IP"), ports, page.Short(o.idle.Duration))
	}
	config := r.site.Config()
	text := fmt.Sprintf("%s: %s in %s, %s, %s, outbound type %v", cmp.Or(config.Name, "aks"), page.Plural(o.nodes, "node"), page.Plural(len(config.NodePools), "pool"),
		page.Plural(len(r.pods), "pod"), page.Plural(len(r.site.Services()), "Service"), config.OutboundType)
	if n := len(r.final.frontends); n > 0 {
		text += fmt.Sprintf(", %s, idle timeout %s", page.Plural(n, "outbound IP"), page.Short(o.idle.Duration))
	}
	if ports != "0" {
		text += fmt.Sprintf(", %s SNAT ports per node", ports)
	}
	return text
}

// outcome says in a few words how it went.
func (r *report) outcome() string {
	switch {
	case r.astray > 0:
		return fmt.Sprintf("%s went ASTRAY: this is a bug in natplane", page.Plural(r.astray, "reply"))
	case r.final.failed > 0:
		return fmt.Sprintf("%s failed for want of a SNAT port", page.Plural(r.final.failed, "connection"))
	case r.dropped > 0:
		return fmt.Sprintf("%s dropped, no SNAT port missing", page.Plural(r.dropped, "packet"))
	}
	return "every one found a SNAT port and every reply its pod"
}

func (r *report) writePackets(p *page.Page) {
	p.Section("Packets", "")
	t := p.Table("lrw")
	t.Row("outbound", page.Count(r.outbound), "sent by pods")
	t.Row("inbound", page.Count(r.inbound), "sent by the Internet, to what it saw")
	t.Row("forwarded", page.Count(r.forwarded), "")
	t.Row("bypassed", page.Count(r.bypassed), "pod to pod, not translated")
	t.Row("dropped", page.Count(r.dropped), "")
	for reason := range flow.Reasons() {
		if n := r.drops[reason]; n > 0 {
			t.Row("  "+reason.String(), page.Count(n), reason.Sentence())
		}
	}
	t.Print()
	if r.drops[flow.ReasonL4Checksum] > 0 {
		p.Note("Wrong checksums usually mean that the capture was taken on a sender with checksum offload, before they were computed: -checksums repair computes all of them.")
	}
}

func (r *report) writeFlows(p *page.Page) {
	p.Section("Connections and flows", "")
	t := p.Table("lrw")
	t.Row("successful", page.Count(r.final.successful), "SNAT connections that got a port")
	t.Row("failed", page.Count(r.final.failed), "for want of a port")
	t.Row("flows created", page.Count(r.final.created), "")
	t.Row("active", page.Count(r.traffic.active), "when the traffic ended, "+page.Count(r.final.active)+" at the end")
	t.Row("expired", page.Count(r.traffic.expired), "when the traffic ended, "+page.Count(r.final.expired)+" at the end")
	t.Row("RSTs on idle", page.Count(r.resets[flow.Inside]+r.resets[flow.Outside]),
		fmt.Sprintf("%s to pods, %s to the Internet", page.Count(r.resets[flow.Inside]), page.Count(r.resets[flow.Outside])))
	if r.cut > 0 {
		t.Row("cut off", page.Count(r.cut), "conversations that were reset while idle and had more to say")
	}
	if r.local > 0 {
		t.Row("local", page.Count(r.local), "conversations that stayed in the virtual network")
	}
	t.Print()
}

func (r *report) writePorts(p *page.Page) {
	p.Section("Outbound IPs", "ports of TCP and UDP together; used: active or held, when the traffic ended")
	t := p.Table("lrrRRRrr")
	t.Row("IP", "allocated", "used", "active", "after FIN", "after RST", "peak", "")
	left := 0
	for i, f := range r.final.frontends {
		if i >= mostIPs && f.peak == 0 {
			left++
			continue
		}
		then := r.traffic.frontends[i].uses
		t.Row(f.ip.String(), page.Count(f.allocated), page.Count(then.Total()), page.Count(then.Active), page.Count(then.HeldFIN), page.Count(then.HeldRST),
			page.Count(f.peak), page.Percent(f.share()))
	}
	t.Print()
	p.More(left, "outbound IP", "that were never used")

	p.Section("Nodes", "ports per protocol and family, in the fuller family; used: when the traffic ended")
	t = p.Table("lRrRrrrrr")
	t.Row("node", "flows", "failed", "allocated", "TCP used", "peak", "UDP used", "peak", "")
	order := byPeak(r.final.nodes)
	for _, i := range order[:min(len(order), mostNodes)] {
		n, then := r.final.nodes[i], r.traffic.nodes[i]
		t.Row(n.name, page.Count(n.flows), page.Count(n.failed), page.Count(n.tcp.allocated),
			page.Count(then.tcp.used()), page.Count(n.tcp.peak), page.Count(then.udp.used()), page.Count(n.udp.peak),
			page.Percent(max(n.tcp.share(), n.udp.share())))
	}
	t.Print()
	p.More(len(order)-mostNodes, "node", "with lower peaks")

	p.Section("Ports in use over time", page.Short(r.virtual)+", up to all that the node has")
	t = p.Table("ll")
	for _, i := range order[:min(len(order), mostNodes)] {
		n := r.final.nodes[i]
		t.Row(n.name, "▕"+sparkline(r.over(i), n.tcp.allocated)+"▏")
	}
	t.Print()
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

func (r *report) writeBusiest(p *page.Page) {
	p.Section("Busiest pods", "")
	t := p.Table("lLrrr")
	t.Row("pod", "node", "conversations", "refused", "packets")
	pods := busiest(len(r.pods), func(i int) traffic { return r.pods[i].traffic })
	for _, i := range pods[:min(len(pods), mostPods)] {
		pod := r.pods[i]
		t.Row(pod.name, pod.node, page.Count(pod.traffic.conversations), page.Count(pod.traffic.refused), page.Count(pod.traffic.packets))
	}
	t.Print()

	p.Section("Busiest destinations", "")
	t = p.Table("lrrr")
	t.Row("destination", "conversations", "refused", "packets")
	all := busiest(len(r.destinations), func(i int) traffic { return r.destinations[i] })
	for _, i := range all[:min(len(all), mostDestinations)] {
		d := r.destinations[i]
		t.Row(r.recording.destinations[i].String(), page.Count(d.conversations), page.Count(d.refused), page.Count(d.packets))
	}
	t.Print()
	p.More(len(all)-mostDestinations, "destination", "")
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
