package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
)

// capacity runs the command with -json.
func capacity(t *testing.T, args ...string) *answer.Answer {
	t.Helper()
	var out, complaints bytes.Buffer
	require.Zero(t, planner.Command{}.Run(t.Context(), append(args, "-json"), &out, &complaints), complaints.String())
	a, err := answer.ReadJSON(&out)
	require.NoError(t, err)
	return a
}

// drawn returns the page of an answer.
func drawn(t *testing.T, a *answer.Answer) string {
	t.Helper()
	var in, out bytes.Buffer
	require.NoError(t, a.WriteJSON(&in))
	require.NoError(t, render(&in, &out))
	return out.String()
}

// everything returns an answer with all that a page can show.
func everything(t *testing.T) *answer.Answer {
	t.Helper()
	return capacity(t, "-until", "48m", "-sweep", "ports=auto,2048 idle=4m,30m reuse=off,on", "-recommend", "-upgrade", "pool=nodepool1 at=5m drain=2m reimage=2m")
}

// hostile puts what no name should do into every name.
func hostile(a *answer.Answer) {
	const evil = `"><script>document.title='pwned'</script><img src=http://203.0.113.1/x onerror=alert(1)>&amp;</style>{{.}}`
	long := strings.Repeat("W", 300)
	a.Cluster.Name = evil + long
	a.Settings.Cluster = []string{evil, long}
	a.Settings.Workload, a.Settings.Trace = evil, long
	a.Cluster.NotModelled, a.Cluster.Pending, a.Skipped = []string{evil, long}, []string{evil}, []string{evil}
	for i := range a.AsItIs.Traffic {
		a.AsItIs.Traffic[i].Name = evil + long
	}
	for i := range a.AsItIs.Groups {
		a.AsItIs.Groups[i].Name = evil + long
	}
	for i := range a.AsItIs.Nodes {
		a.AsItIs.Nodes[i].Name = evil + long
	}
	for i := range a.AsItIs.Course.Nodes {
		a.AsItIs.Course.Nodes[i].Name = evil + long
	}
	a.Sweep = append(slices.Clone(a.Sweep), answer.Row{Setting: a.Sweep[0].Setting, Error: evil + long})
	a.Findings = append(a.Findings, answer.Finding{Code: evil, Text: evil + long})
	a.Headline.Verdict += evil
	a.Upgrade.Pool = evil
	a.Upgrade.Steps[0].Nodes = []string{evil, long}
	a.Recommendation.Command += evil
	a.NoSetting = evil
}

// What is wrong with how a page looks: a list of sentences.
const looks = `(() => {
  const wrong = [], seen = e => e.getClientRects().length > 0;
  const channel = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.match(/[\d.]+/g).map(x => c.startsWith('color(') ? x * 255 : Number(x)); return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b); };
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const paper = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!c.startsWith('rgba(0, 0, 0, 0')) return c; } return 'rgb(255, 255, 255)'; };
  if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page scrolls sideways: ' + document.documentElement.scrollWidth + ' > ' + innerWidth);
  document.querySelectorAll('details').forEach(d => d.open = true);
  if (document.documentElement.scrollWidth > innerWidth) wrong.push('the open page scrolls sideways');
  for (const e of document.querySelectorAll('body *')) {
    if (!seen(e) || e.closest('.scroll') || e.closest('svg') && e.tagName != 'svg') continue;
    const r = e.getBoundingClientRect();
    if (r.right > innerWidth + .5 || r.left < -.5) wrong.push(e.tagName + ' is cut at the edge: ' + e.textContent.slice(0, 40));
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display != 'inline') wrong.push(e.tagName + ' is wider than its room: ' + e.textContent.slice(0, 40));
  }
  for (const e of document.querySelectorAll('h1, h2, p, li, td, th, dt, dd, summary, pre, small')) {
    if (seen(e) && contrast(getComputedStyle(e).color, paper(e)) < 4.5) wrong.push(e.tagName + ' is hard to read: ' + getComputedStyle(e).color + ' on ' + paper(e) + ': ' + e.textContent.slice(0, 40));
  }
  let plots = 0;
  for (const svg of document.querySelectorAll('svg')) {
    if (!seen(svg)) continue;
    plots++;
    const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')].map(e => [e, e.getBoundingClientRect()]);
    if (texts.length < 6) wrong.push('a plot has no labels');
    if (!svg.getAttribute('aria-label')) wrong.push('a plot says nothing to who cannot see it');
    for (const [e, r] of texts) {
      if (r.left < frame.left - .5 || r.right > frame.right + .5 || r.top < frame.top - .5 || r.bottom > frame.bottom + .5) wrong.push('a label is cut: ' + e.textContent);
      if (r.height < 9) wrong.push('a label is too small: ' + e.textContent + ' ' + r.height);
      if (contrast(getComputedStyle(e).fill, paper(svg)) < 4.5) wrong.push('a label is hard to read: ' + e.textContent);
      for (const [f, q] of texts) if (e !== f && r.left < q.right && q.left < r.right && r.top + 3 < q.bottom && q.top + 3 < r.bottom) wrong.push('labels overlap: ' + e.textContent + ' and ' + f.textContent);
    }
    for (const e of svg.querySelectorAll('path')) {
      const c = getComputedStyle(e);
      for (const p of [c.fill, c.stroke]) if (p != 'none' && (contrast(p, paper(svg)) < 1.15)) wrong.push('a line cannot be seen: ' + p);
    }
  }
  if (plots != document.querySelectorAll('svg').length / 2) wrong.push(plots + ' plots are shown');
  if (plots != document.querySelectorAll('section details table').length - document.querySelectorAll('section:not(:has(svg)) details table').length) wrong.push('a plot has no table');
  return [...new Set(wrong)].slice(0, 30);
})()`

// Pages are whole, quiet and readable on small and large screens, by day and by night, whatever names there
// are.
func TestInBrowser(t *testing.T) {
	b := newBrowser(t)
	evil := everything(t)
	hostile(evil)
	for name, a := range map[string]*answer.Answer{"plain": everything(t), "evil": evil, "least": capacity(t, "-until", "1s", "-sweep", "ips=1"), "story": capacity(t, "-story", "connection-reuse")} {
		file := filepath.Join(t.TempDir(), name+".html")
		require.NoError(t, os.WriteFile(file, []byte(drawn(t, a)), 0o600))
		for _, width := range []int{400, 1600} {
			for _, scheme := range []string{"light", "dark"} {
				at := fmt.Sprintf("%s, %d px, %s", name, width, scheme)
				b.open(file, width, scheme)
				var wrong []string
				b.evaluate(looks, &wrong)
				assert.Empty(t, wrong, at)
				var title string
				b.evaluate("document.title", &title)
				assert.Contains(t, title, "SNAT ports of ", at)
				assert.Empty(t, b.troubles(file), at)
			}
		}
	}
}

// A page tells what to change and why before anything else, and has the numbers of all plots.
func TestContent(t *testing.T) {
	a := everything(t)
	html := drawn(t, a)
	at := 0
	for _, want := range []string{
		"<h1 class=\"bad\">" + a.Headline.Verdict, a.Headline.Change, a.Headline.Why, "az aks update", "How full the nodes were", "What held the ports",
		"When conversations were refused", "Who held the ports at the peak", "Which pods and destinations", "Refusals by setting", "How long the ports last", "recommended: ", "While nodepool1 is upgraded", "What this shows", "What was simulated",
	} {
		i := strings.Index(html[at:], want)
		require.GreaterOrEqual(t, i, 0, want)
		at += i
	}
	assert.Equal(t, html, drawn(t, a), "the same bytes each time")
	assert.NotContains(t, html, "F00F0", "every colour is of the theme")
	assert.NotContains(t, html, "ZgotmplZ")
	assert.Equal(t, 6, strings.Count(html, "<svg"))
}

// Where ports are shared it is the frontends that fill, and the fewest things make a page.
func TestSmallAnswers(t *testing.T) {
	var a answer.Answer
	a.Conclude()
	assert.Contains(t, drawn(t, &a), "Nothing has to change.")
	a.AsItIs.Course = &answer.Course{Seconds: []float64{1}, Refused: []uint64{0}, Uses: []answer.Uses{{}}}
	a.AsItIs.Frontends = []answer.Fill{{IP: netip.MustParseAddr("20.50.1.1"), Protocol: "TCP", AllocatedPorts: 64512, PeakPorts: 7}}
	a.Settings.UntilSeconds = 1
	assert.Contains(t, drawn(t, &a), "20.50.1.1")
}

func TestHeat(t *testing.T) {
	row := func(setting string, refused uint64) answer.Row {
		return answer.Row{Setting: setting, Result: &answer.Result{Total: answer.Counts{Conversations: 100, Refused: refused, RefusedShare: float64(refused) / 100, Cut: refused / 10}}}
	}
	assert.Nil(t, heatOf(nil))
	h := heatOf([]answer.Row{row("a=1 b=x c=7", 50), row("a=1 b=y c=7", 20), row("a=2 b=x c=7", 0), {Setting: "a=2 b=y c=7", Error: "no"}})
	assert.Equal(t, []any{"b", []string{"x", "y"}}, []any{h.Axis, h.Columns})
	require.Len(t, h.Rows, 2)
	assert.Equal(t, "a=1 c=7", h.Rows[0].Name)
	assert.Equal(t, heatCell{There: true, Share: .5, Warm: 100, Text: "50 %", Count: "50", Lost: "5"}, h.Rows[0].Cells[0])
	assert.Equal(t, "no", h.Rows[1].Cells[1].Error)
	assert.Zero(t, h.Rows[1].Cells[0].Warm)
	var many []answer.Row
	for i := range 100 {
		many = append(many, row(fmt.Sprintf("a=%d b=1", i), 0))
	}
	h = heatOf(many)
	assert.Equal(t, []any{"b", mostHeatRows, 60}, []any{h.Axis, len(h.Rows), h.More})
	assert.Nil(t, heatOf([]answer.Row{row("a=1", 1), row("a=1 b=2", 1)}), "not of one sweep")
}

// What is no answer is refused, and nothing is written.
func TestBadInput(t *testing.T) {
	for _, text := range []string{"", "{", `{"x": 1}`} {
		var out bytes.Buffer
		assert.ErrorContains(t, render(strings.NewReader(text), &out), "the answer cannot be read: ")
		assert.Empty(t, out.String())
	}
}

// Ticks are round and few.
func TestTicks(t *testing.T) {
	labels := func(high float64, n int) (all []string) {
		for _, tick := range (clock{n}).Ticks(0, high) {
			all = append(all, tick.Label)
		}
		return all
	}
	assert.Equal(t, []string{"0", "15m", "30m", "45m", "1h"}, labels(3600, 4))
	assert.Equal(t, []string{"0", "1s"}, labels(1, 4))
	assert.LessOrEqual(t, len(labels(31*24*3600, 4)), 6)
	for _, most := range []float64{1, 7, 99, 1024, 64_000, 2e6} {
		assert.Greater(t, nice(most), most)
		assert.Less(t, nice(most), most*1.6+2)
	}
}
