// Package report prints what a run of the command capacity has found for people, on the page of a
// terminal. It knows nothing that is not in the answer, and decides only what fits.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// Numbers of rows that fit a screen.
const (
	mostTraffic   = 20
	mostNodes     = 6
	mostRows      = 40
	mostOmissions = 8
	mostStranded  = 1
	mostSteps     = 20

	longSetting = 34 // letters of a setting that stands first in its row
	longName    = 26 // letters that are shown of a name
)

// name returns a name, or the beginning of a long one.
func name(s string) string {
	if letters := []rune(s); len(letters) > longName {
		return string(letters[:longName-1]) + "…"
	}
	return s
}

// Write prints the report.
func Write(p *page.Page, a *answer.Answer) {
	mood := page.Bad
	if a.AsItIs.Total.Refused == 0 {
		mood = page.Good
	}
	p.Headline(mood, "natplane capacity: %s", a.Headline.Verdict)
	if a.Headline.Change != "" {
		p.Note("%s", a.Headline.Change)
	}
	p.Note("")
	writeSettings(p, a)
	if a.Story != nil {
		p.Section(a.Story.Title, "")
		p.Note("%s", a.Story.Why)
	}
	writeTraffic(p, a)
	writePorts(p, a)
	writeSweep(p, a)
	writeUpgrade(p, a)
	writeRecommendation(p, a)
	if len(a.Findings) > 0 {
		p.Section("What this shows", "")
		for _, f := range a.Findings {
			p.Bullet(f.Text)
		}
	}
	if a.Story != nil {
		p.Section("What to do", "")
		p.Note("%s", a.Story.Advice)
	}
}

// writeSettings tells what was simulated.
func writeSettings(p *page.Page, a *answer.Answer) {
	s, c := &a.Settings, &a.Cluster
	t := p.Table("lw")
	text := fmt.Sprintf("%s: %s in %s, %s, outbound type %s, %s", cmp.Or(c.Name, "aks"), page.Plural(c.Nodes, "node"),
		page.Plural(c.Pools, "pool"), page.Plural(c.Pods, "pod"), c.OutboundType, page.Plural(c.IPs, "outbound IP"))
	if c.PortsPerNode > 0 {
		text += fmt.Sprintf(", %s SNAT ports per node", page.Count(c.PortsPerNode))
	}
	t.Row("Cluster", text+", idle timeout "+answer.Duration(c.IdleSeconds))
	if len(s.Cluster) > 0 {
		t.Row("Files", strings.Join(s.Cluster, ", "))
	}
	for _, list := range []struct {
		name string
		all  []string
	}{{"Not modelled", c.NotModelled}, {"Pending", c.Pending}} {
		for _, what := range list.all[:min(len(list.all), mostOmissions)] {
			t.Row(list.name, what)
		}
		if more := len(list.all) - mostOmissions; more > 0 {
			t.Row(list.name, fmt.Sprintf("and %s more; -json has all", page.Count(more)))
		}
	}
	var sources []string
	switch {
	case s.Workload != "":
		sources = append(sources, s.Workload)
	case s.Story != "":
		sources = append(sources, "that of the story "+s.Story)
	case s.Trace == "":
		sources = append(sources, "the built-in one")
	}
	if s.Trace != "" {
		sources = append(sources, fmt.Sprintf("%s of %s", page.Plural(s.TraceFlows, "conversation"), s.Trace))
	}
	t.Row("Workload", fmt.Sprintf("%s, for %s, seed %d", strings.Join(sources, " and "), answer.Duration(s.UntilSeconds), s.Seed))
	for _, what := range a.Skipped {
		t.Row("Skipped", what)
	}
	if !a.Complete {
		t.Row("Interrupted", "what was not done by then is left out")
	}
	t.Print()
}

// writeTraffic tells what has become of the conversations.
func writeTraffic(p *page.Page, a *answer.Answer) {
	p.Section("As it is", "conversations; failed: given up; cut: reset by the NAT; broken: forgotten by it")
	t := p.Table("lrrrrrrR")
	t.Row("traffic", "begun", "refused", "share", "failed", "cut", "broken", "first refused")
	row := func(what string, c *answer.Counts) {
		first := ""
		if c.Refused > 0 {
			first = answer.Duration(c.FirstRefusedSeconds)
		}
		t.Row(what, page.Count(c.Conversations), page.Count(c.Refused), page.Percent(c.RefusedShare), page.Count(c.Failed), page.Count(c.Cut), page.Count(c.Broken), first)
	}
	all := a.AsItIs.Traffic
	for i := range all[:min(len(all), mostTraffic)] {
		row(name(all[i].Name), &all[i])
	}
	if len(all) > 1 {
		row("all", &a.AsItIs.Total)
	}
	t.Print()
	p.More(len(all)-mostTraffic, "row", "in -json")
	for _, r := range a.AsItIs.Refusals {
		p.Note("%s refused from %s on: %s", page.Plural(r.Packets, "packet"), answer.Duration(r.FirstSeconds), r.Sentence)
	}
	writeStranded(p, a.AsItIs.Stranded)
}

// writeStranded tells of ports that were free where nobody could use them.
func writeStranded(p *page.Page, all []answer.Stranded) {
	for _, s := range all[:min(len(all), mostStranded)] {
		p.Note("%s refused %s of %s, and in the end other nodes have %s free that it cannot use.", s.Name, page.Plural(s.Failed, "packet"), s.Protocol, page.Plural(s.FreeElsewhere, "port"))
	}
	p.More(len(all)-mostStranded, "node", "likewise")
}

// writePorts tells how full the nodes were, and of what.
func writePorts(p *page.Page, a *answer.Answer) {
	peak := a.AsItIs.Peak
	p.Section("Ports at the peak", fmt.Sprintf("of TCP and UDP, after %s", answer.Duration(a.AsItIs.PeakSeconds)))
	t := p.Table("lrw")
	t.Row("in use", page.Count(peak.Ports), "at least, on all outbound IPs: of a sample, or the peak of a node or IP if that is more; flows to several destinations may share one")
	for _, u := range peak.List() {
		if u.N > 0 {
			t.Row("  "+u.Name, page.Count(u.N), u.Whose)
		}
	}
	t.Print()

	writeHoldings(p, a)
	fills := a.AsItIs.Fullest()
	if len(fills) == 0 {
		return
	}
	p.Section("Fullest nodes", "ports per protocol; of 100 samples 99 were not above p99")
	t = p.Table("llrrrr")
	t.Row("node", "", "allocated", "peak", "", "p99")
	for _, f := range fills[:min(len(fills), mostNodes)] {
		family := ""
		if f.IPv6 {
			family = " IPv6"
		}
		t.Row(name(f.Label()), f.Protocol+family, page.Count(f.AllocatedPorts), page.Count(f.PeakPorts), page.Percent(f.Share()), page.Count(f.P99Ports))
	}
	t.Print()
	p.More(len(fills)-mostNodes, "row", "with lower peaks")
}

// writeHoldings tells which workloads and destinations held the ports.
func writeHoldings(p *page.Page, a *answer.Answer) {
	r := &a.AsItIs
	if len(r.Groups)+len(r.Hosts)+len(r.Destinations) == 0 {
		return
	}
	p.Section("Who held them", "at the peak; packets refused to it, and because of what it held")
	t := p.Table("llrrr")
	t.Row("", "", "ports", "refused", "because")
	who := r.Groups
	if len(who) == 0 {
		who = r.Hosts
	}
	for _, list := range [][]answer.Holding{who, r.Destinations} {
		for _, h := range list[:min(len(list), mostNodes)] {
			because := ""
			if h.Protocol == "" {
				because = page.Count(h.Blamed) // nobody blames a destination
			}
			t.Row(name(h.Name), h.Protocol, page.Count(h.AtPeakPorts), page.Count(h.Suffered), because)
		}
	}
	t.Print()
	for _, f := range r.Foretold[:min(len(r.Foretold), mostStranded)] {
		if text := f.Sentence(); text != "" {
			p.Note("%s", text)
		}
	}
}

// writeSweep prints a row for each setting.
func writeSweep(p *page.Page, a *answer.Answer) {
	if len(a.Sweep) == 0 {
		return
	}
	good, done, of := 0, 0, strconv.Itoa(len(a.Sweep))
	for _, r := range a.Sweep {
		if r.Result != nil && r.Result.Total.Refused == 0 {
			good++
		}
		if r.Error != answer.NotDone {
			done++
		}
	}
	if done < len(a.Sweep) {
		of = fmt.Sprintf("%d done, of %d,", done, len(a.Sweep))
	}
	since := ""
	if a.Settings.WarmUpSeconds > 0 {
		since = ", in force after " + answer.Duration(a.Settings.WarmUpSeconds)
	}
	p.Section("Other settings", fmt.Sprintf("%d of %s refuse nothing%s", good, of, since))
	var reasons []string // of what is not there
	longest := 0
	for _, r := range a.Sweep {
		longest = max(longest, len(r.Setting))
	}
	t := p.Table("lrrrrrw")
	row := func(setting string, cells ...string) { t.Row(append([]string{setting}, cells...)...) }
	if longest > longSetting { // last, on as many lines as it takes
		t = p.Table("rrrrrlw")
		row = func(setting string, cells ...string) { t.Row(append(cells, setting)...) }
	}
	row("setting", "refused", "share", "peak", "cut", "broken", "first refused")
	for _, r := range a.Sweep[:min(len(a.Sweep), mostRows)] {
		if r.Result == nil {
			row(r.Setting, "-", "-", "-", "-", "-", "")
			if why := strings.ReplaceAll(r.Error, "\n", "; "); !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
			continue
		}
		c, first := &r.Result.Total, ""
		if c.Refused > 0 {
			first = "after " + answer.Duration(c.FirstRefusedSeconds)
		}
		row(r.Setting, page.Count(c.Refused), page.Percent(c.RefusedShare), page.Percent(r.Result.PeakShare), page.Count(c.Cut), page.Count(c.Broken), first)
	}
	t.Print()
	p.More(len(a.Sweep)-mostRows, "setting", "in -json and -csv")
	for _, why := range reasons {
		p.Note("-: %s", why)
	}
}

// writeUpgrade tells what becomes of the traffic while a pool is upgraded.
func writeUpgrade(p *page.Page, a *answer.Answer) {
	u := a.Upgrade
	if u == nil {
		return
	}
	remark := "not over by the end of the run"
	if u.EndSeconds > 0 {
		remark = "until " + answer.Duration(u.EndSeconds)
	}
	p.Section("While "+u.Pool+" is upgraded", "from "+answer.Duration(u.BeginSeconds)+" on, "+remark)
	t := p.Table("lrr")
	t.Row("", "as it is", "upgraded")
	now, then := &a.AsItIs, &u.Result
	for _, r := range []struct {
		name string
		of   func(*answer.Result) string
	}{
		{"conversations", func(r *answer.Result) string { return page.Count(r.Total.Conversations) }},
		{"refused", func(r *answer.Result) string { return page.Count(r.Total.Refused) }},
		{"cut or broken", func(r *answer.Result) string { return page.Count(r.Total.Ended()) }},
		{"fullest node", func(r *answer.Result) string { return page.Percent(r.PeakShare) }},
	} {
		t.Row(r.name, r.of(now), r.of(then))
	}
	t.Row("ended with their pod", "0", page.Count(u.Lost))
	t.Row("moves of pods", "0", page.Count(u.Moved))
	t.Row("nodes at most", page.Count(a.Cluster.Nodes), page.Count(u.MostNodes))
	t.Print()
	t = p.Table("rlw")
	for _, s := range u.Steps[:min(len(u.Steps), mostSteps)] {
		t.Row(answer.Duration(s.Seconds), s.Action, strings.Join(s.Nodes, ", "))
	}
	t.Print()
	p.More(len(u.Steps)-mostSteps, "step", "in -json")
	writeStranded(p, then.Stranded)
}

// writeRecommendation tells the cheapest setting and proves it.
func writeRecommendation(p *page.Page, a *answer.Answer) {
	switch b := a.Recommendation; {
	case a.NoSetting != "":
		p.Section("Recommendation", "")
		p.Note("There is %s.", a.NoSetting)
		if a.AsItIs.Total.Ended() > 0 && !a.Settings.AcceptCuts {
			p.Note("Connections are cut as it is, too; -accept-cuts permits that.")
		}
	case b != nil:
		p.Section("Recommendation", "the fewest outbound IPs, then ports, then the longest idle timeout that "+map[bool]string{true: "refuse nothing", false: "refuse and cut nothing"}[a.Settings.AcceptCuts])
		t := p.Table("lw")
		t.Row("Setting", fmt.Sprintf("%s, %s SNAT ports per node, idle timeout %s", page.Plural(b.IPs, "outbound IP"), page.Count(b.PortsPerNode), answer.Duration(b.IdleSeconds)))
		t.Row("Proof", fmt.Sprintf("simulated: %s of %s refused, the fullest node at %s of its ports", page.Count(b.Result.Total.Refused), page.Plural(b.Result.Total.Conversations, "conversation"), page.Percent(b.Result.PeakShare)))
		if b.Refusing != nil {
			t.Row("", fmt.Sprintf("%s are the least; with %s the first conversation is refused after %s", page.Plural(b.LeastPorts, "port"), page.Count(b.LeastPorts-8), answer.Duration(b.Refusing.Total.FirstRefusedSeconds)))
		}
		for _, list := range []struct {
			name string
			all  []string
		}{{"Needed", b.Needed}, {"Free", b.Free}, {"Mind", b.Mind}} {
			for _, what := range list.all {
				t.Row(list.name, what)
			}
		}
		t.Print()
		p.Note("")
		p.Note("%s", b.Command)
	}
}
