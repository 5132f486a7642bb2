// What the page shows of an answer.

package main

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// Numbers of things that a page shows.
const (
	mostLines  = 6  // of a plot
	mostBars   = 30 // settings
	mostSample = 30 // rows of a table of samples
	mostRows   = 100
)

// view is what the template shows.
type view struct {
	*answer.Answer
	Name     string
	Ran      string // what was simulated, a sentence
	Compared []compared
	Figures  []figure // plots over time
	Holders  []bar    // who held ports at the peak
	Peak     string   // when that was
	Heat     *heat
	Ends     []bar // until the first refusal, by setting
	MoreEnds int   // settings that are left out
	Lasting  int   // settings with which nothing is refused
	Traffic  []answer.Counts
	Fills    []answer.Fill
	Upgraded []compared
}

// compared is a number before and after.
type compared struct {
	Name, Before, After string
	Better              bool
}

// figure is a plot with its legend and its numbers.
type figure struct {
	Title, Says string
	SVG         template.HTML
	Legend      []entry
	Columns     []string
	Rows        [][]string
}

// entry is a line of a legend.
type entry struct {
	Style  template.CSS
	Line   bool // of a line, rather than an area
	Dashed bool
	Text   string
}

// bar is a number as a bar.
type bar struct {
	Name, Text, Whose string
	Share             float64 // of the longest, 0..100
	Style             template.CSS
	Good              bool
}

func viewOf(a *answer.Answer) (*view, error) {
	c := &a.Cluster
	v := &view{Answer: a, Name: cmp.Or(c.Name, "aks"), Traffic: a.AsItIs.Traffic[:min(len(a.AsItIs.Traffic), mostRows)], Fills: a.AsItIs.Fullest()}
	v.Ran = fmt.Sprintf("%s in %s with %s, outbound type %s, %s", page.Plural(c.Nodes, "node"), page.Plural(c.Pools, "pool"), page.Plural(c.Pods, "pod"), c.OutboundType, page.Plural(c.IPs, "outbound IP"))
	if c.PortsPerNode > 0 {
		v.Ran += fmt.Sprintf(", %s SNAT ports for each node", page.Count(c.PortsPerNode))
	}
	v.Ran += fmt.Sprintf(", idle timeout %s; %s of traffic in virtual time, seed %d", answer.Duration(c.IdleSeconds), answer.Duration(a.Settings.UntilSeconds), a.Settings.Seed)
	v.Fills = v.Fills[:min(len(v.Fills), mostRows)]
	v.compare()
	v.holders()
	v.Heat = heatOf(a.Sweep)
	v.ends()
	v.upgrade()
	if course := a.AsItIs.Course; course != nil && len(course.Seconds) > 0 {
		for _, make := range []func(*answer.Course) (*figure, error){v.fill, v.uses, v.refusals} {
			f, err := make(course)
			if err != nil {
				return nil, err
			}
			if f != nil {
				v.Figures = append(v.Figures, *f)
			}
		}
	}
	return v, nil
}

// compare puts the numbers of the setting as it is beside those of the change.
func (v *view) compare() {
	b, after := &v.Headline.Before, v.Headline.After
	if after == nil {
		after = b
	}
	add := func(name, before, then string, better bool) {
		before, then = strings.ReplaceAll(before, " ", "\u00a0"), strings.ReplaceAll(then, " ", "\u00a0")
		v.Compared = append(v.Compared, compared{name, before, then, better})
	}
	add("conversations refused", page.Count(b.Refused), page.Count(after.Refused), after.Refused < b.Refused)
	add("cut or broken when idle", page.Count(b.Ended), page.Count(after.Ended), after.Ended < b.Ended)
	add("ports in use on the fullest node", page.Percent(b.PeakShare), page.Percent(after.PeakShare), after.PeakShare < b.PeakShare)
	if r := v.Recommendation; r != nil {
		add("SNAT ports for each node", page.Count(v.Cluster.PortsPerNode), page.Count(r.PortsPerNode), false)
		add("outbound IPs", page.Count(v.Cluster.IPs), page.Count(r.IPs), false)
		add("idle timeout", answer.Duration(v.Cluster.IdleSeconds), answer.Duration(r.IdleSeconds), false)
	}
}

// holders says who held ports at the peak.
func (v *view) holders() {
	peak := v.AsItIs.Peak
	v.Peak = answer.Duration(v.AsItIs.PeakSeconds)
	most := 0
	for _, u := range peak.List() {
		most = max(most, u.N)
	}
	for i, u := range peak.List() {
		if u.N > 0 {
			v.Holders = append(v.Holders, bar{Name: u.Name, Text: fmt.Sprintf("%s (%s)", page.Count(u.N), page.Percent(float64(u.N)/float64(peak.Flows()))), Whose: u.Whose, Share: 100 * float64(u.N) / float64(most), Style: template.CSS(series(i).css())})
		}
	}
	slices.SortStableFunc(v.Holders, func(a, b bar) int { return cmp.Compare(b.Share, a.Share) })
}

// ends says how long the ports last: as it is, under each setting with which they do not last for the whole run, and
// under the recommended one.
func (v *view) ends() {
	v.Ends = []bar{v.end("as it is", &v.AsItIs)}
	for i := range v.Sweep {
		switch r := &v.Sweep[i]; {
		case r.Result == nil:
		case r.Result.Total.Refused == 0:
			v.Lasting++
		case len(v.Ends) == mostBars:
			v.MoreEnds++
		default:
			v.Ends = append(v.Ends, v.end(r.Setting, r.Result))
		}
	}
	if r := v.Recommendation; r != nil {
		v.Ends = append(v.Ends, v.end("recommended: "+r.Setting, &r.Result))
	}
}

func (v *view) end(name string, r *answer.Result) bar {
	if r.Total.Refused == 0 {
		return bar{Name: name, Text: "none within " + answer.Duration(v.Settings.UntilSeconds), Share: 100, Style: "var(--good)", Good: true}
	}
	at := r.Total.FirstRefusedSeconds
	return bar{Name: name, Text: "after " + answer.Duration(at), Share: max(100*at/v.Settings.UntilSeconds, 0.5), Style: "var(--bad)"}
}

// Holdings returns who held most ports: workloads, or pods where there are no workloads, and destinations.
func (v *view) Holdings() []answer.Holding {
	r := &v.AsItIs
	who := r.Groups
	if len(who) == 0 {
		who = r.Hosts
	}
	return slices.Concat(who[:min(len(who), 10)], r.Destinations[:min(len(r.Destinations), 10)])
}

// Recommended says what is recommended, and how that is proved.
func (v *view) Recommended() string {
	r := v.Recommendation
	text := fmt.Sprintf("%s, %s SNAT ports for each node, idle timeout %s: the fewest outbound IPs, then ports, then the longest idle timeout. Simulated: %s of %s refused, the fullest node at %s of its ports.",
		page.Plural(r.IPs, "outbound IP"), page.Count(r.PortsPerNode), answer.Duration(r.IdleSeconds), page.Count(r.Result.Total.Refused), page.Plural(r.Result.Total.Conversations, "conversation"), page.Percent(r.Result.PeakShare))
	if r.Refusing != nil {
		text += fmt.Sprintf(" %s are the least; with %s the first conversation is refused after %s.", page.Plural(r.LeastPorts, "port"), page.Count(r.LeastPorts-8), answer.Duration(r.Refusing.Total.FirstRefusedSeconds))
	}
	return text
}

// upgrade puts the numbers of the upgrade beside those without it.
func (v *view) upgrade() {
	u := v.Upgrade
	if u == nil {
		return
	}
	now, then := &v.AsItIs, &u.Result
	v.Upgraded = []compared{
		{Name: "conversations refused", Before: page.Count(now.Total.Refused), After: page.Count(then.Total.Refused)},
		{Name: "cut or broken when idle", Before: page.Count(now.Total.Ended()), After: page.Count(then.Total.Ended())},
		{Name: "ended with their pod", Before: "0", After: page.Count(u.Lost)},
		{Name: "ports in use on the fullest node", Before: page.Percent(now.PeakShare), After: page.Percent(then.PeakShare)},
		{Name: "nodes at most", Before: page.Count(v.Cluster.Nodes), After: page.Count(u.MostNodes)},
		{Name: "ports that refusing nodes could not use", Before: page.Count(stranded(now)), After: page.Count(stranded(then))},
	}
}

// stranded returns the ports that were free in the end where a node that had refused could not use them.
func stranded(r *answer.Result) (most int) {
	for _, s := range r.Stranded {
		most = max(most, s.FreeElsewhere)
	}
	return most
}

// thin returns the indexes of samples that a table shows.
func thin(n int) (rows []int) {
	every := (n + mostSample - 1) / mostSample
	for i := n - 1; i >= 0; i -= every {
		rows = append(rows, i)
	}
	slices.Reverse(rows)
	return rows
}

// floats returns numbers for a plot.
func floats[N int | uint64](all []N) []float64 {
	y := make([]float64, len(all))
	for i, n := range all {
		y[i] = float64(n)
	}
	return y
}

// lineName returns what people call a line.
func lineName(l *answer.Line) string {
	name := l.Name + " " + l.Protocol
	if l.IPv6 {
		name += " IPv6"
	}
	return name
}

// fill is how full the nodes were over time.
func (v *view) fill(c *answer.Course) (*figure, error) {
	lines := c.Nodes[:min(len(c.Nodes), mostLines)]
	if len(lines) == 0 {
		return nil, nil
	}
	f := &figure{Title: "How full the nodes were", Columns: []string{"time"}}
	plot := chart{label: "Ports in use on the fullest nodes over time, and the limit", seconds: c.Seconds, until: v.Settings.UntilSeconds, y: "ports in use"}
	limits := make([]float64, len(c.Seconds))
	for i := range lines {
		l := &lines[i]
		for j, n := range l.Allocated {
			limits[j] = max(limits[j], float64(n))
		}
		at := c.Seconds[slices.Index(l.Used, slices.Max(l.Used))]
		plot.curves = append(plot.curves, curve{ink: series(i), y: floats(l.Used)})
		f.Legend = append(f.Legend, entry{Style: template.CSS(series(i).css()), Line: true, Text: fmt.Sprintf("%s, at most %s about %s", lineName(l), page.Count(v.AsItIs.PeakOf(l)), answer.Duration(at))})
		f.Columns = append(f.Columns, lineName(l))
	}
	plot.curves = append(plot.curves, curve{ink: limit, dashed: true, steps: true, y: limits})
	f.Columns = append(f.Columns, "limit")
	f.Legend = append(f.Legend, entry{Style: template.CSS(limit.css()), Line: true, Dashed: true, Text: fmt.Sprintf("limit, %s", page.Plural(int(limits[len(limits)-1]), "port"))})
	f.Says = fmt.Sprintf("The fullest node used %s of its ports.", page.Percent(v.AsItIs.PeakShare))
	if t := &v.AsItIs.Total; t.Refused > 0 {
		plot.marks = []float64{t.FirstRefusedSeconds}
		f.Legend = append(f.Legend, entry{Style: template.CSS(bad.css()), Line: true, Dashed: true, Text: "first refusal, after " + answer.Duration(t.FirstRefusedSeconds)})
		f.Says += " Where a line reaches the limit, new connections to the busiest destination are refused."
	}
	for _, i := range thin(len(c.Seconds)) {
		row := []string{answer.Duration(c.Seconds[i])}
		for j := range lines {
			row = append(row, page.Count(lines[j].Used[i]))
		}
		f.Rows = append(f.Rows, append(row, page.Count(int(limits[i]))))
	}
	var err error
	f.SVG, err = plot.svg()
	return f, err
}

// uses is what ports were in use for over time.
func (v *view) uses(c *answer.Course) (*figure, error) {
	f := &figure{Title: "What held the ports", Says: "Of all nodes together, TCP and UDP; flows to several destinations may share a port.", Columns: []string{"time"}}
	plot := chart{label: "Ports and flows by what they are in use for over time", seconds: c.Seconds, until: v.Settings.UntilSeconds, y: "flows and held ports"}
	var shown []int // of the list of uses
	for k, u := range (answer.Uses{}).List() {
		y := make([]float64, len(c.Uses))
		for i := range c.Uses {
			y[i] = float64(c.Uses[i].List()[k].N)
		}
		if most := slices.Max(y); most > 0 {
			shown = append(shown, k)
			plot.areas = append(plot.areas, curve{ink: series(k), y: y})
			f.Legend = append(f.Legend, entry{Style: template.CSS(series(k).css()), Text: fmt.Sprintf("%s, at most %s", u.Name, page.Count(int(most)))})
			f.Columns = append(f.Columns, u.Name)
		}
	}
	if len(shown) == 0 {
		return nil, nil
	}
	for _, i := range thin(len(c.Seconds)) {
		row := []string{answer.Duration(c.Seconds[i])}
		for _, k := range shown {
			row = append(row, page.Count(c.Uses[i].List()[k].N))
		}
		f.Rows = append(f.Rows, row)
	}
	var err error
	f.SVG, err = plot.svg()
	return f, err
}

// refusals is when conversations were refused.
func (v *view) refusals(c *answer.Course) (*figure, error) {
	if v.AsItIs.Total.Refused == 0 {
		return nil, nil
	}
	per := c.Seconds[0]
	f := &figure{Title: "When conversations were refused", Says: fmt.Sprintf("Conversations whose first packet was dropped, in each %s.", answer.Duration(per)), Columns: []string{"until", "refused since the row above"}}
	plot := chart{label: "Refused conversations over time", seconds: c.Seconds, until: v.Settings.UntilSeconds, y: "refused", areas: []curve{{ink: bad, y: floats(c.Refused)}}}
	var since uint64
	next := thin(len(c.Seconds))
	for i, n := range c.Refused {
		if since += n; len(next) > 0 && i == next[0] {
			f.Rows = append(f.Rows, []string{answer.Duration(c.Seconds[i]), page.Count(since)})
			since, next = 0, next[1:]
		}
	}
	for _, r := range v.AsItIs.Refusals {
		f.Says += fmt.Sprintf(" %s refused from %s on: %s", page.Plural(r.Packets, "packet"), answer.Duration(r.FirstSeconds), r.Sentence)
	}
	var err error
	f.SVG, err = plot.svg()
	return f, err
}

// Count writes a number for the template.
func (v *view) Count(n any) string {
	switch n := n.(type) {
	case int:
		return page.Count(n)
	case uint64:
		return page.Count(n)
	}
	return fmt.Sprint(n)
}

// Percent writes a share for the template.
func (v *view) Percent(share float64) string { return page.Percent(share) }

// Duration writes seconds for the template.
func (v *view) Duration(seconds float64) string { return answer.Duration(seconds) }

// Join joins names for the template.
func (v *view) Join(names []string) string { return strings.Join(names, ", ") }
