// Plots over time, as SVG in the colours of the page.

package main

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// ink is a colour of the page, which the plot has by a number until its style says which it is, so that it
// follows the theme of the reader.
type ink uint8

// The inks, but for those of series: series(i).
const (
	text ink = iota + 1
	grid
	limit
	bad
	firstSeries
)

const numSeries = 8 // that can be told apart

func series(i int) ink { return firstSeries + ink(i%numSeries) }

// RGBA makes an ink a color.Color: a grey that no plot has otherwise.
func (i ink) RGBA() (r, g, b, a uint32) { return color.NRGBA{0xf0, 0x0f, uint8(i), 0xff}.RGBA() }

// written returns an ink as vgsvg writes it.
func (i ink) written() string { return fmt.Sprintf("#F00F%02X", uint8(i)) }

// css returns an ink as the page has it.
func (i ink) css() string {
	switch i {
	case text:
		return "var(--ink)"
	case grid:
		return "var(--grid)"
	case limit:
		return "var(--limit)"
	case bad:
		return "var(--bad)"
	}
	return fmt.Sprintf("var(--s%d)", i-firstSeries+1)
}

// curve is one line of a plot.
type curve struct {
	ink    ink
	dashed bool
	steps  bool // it is constant between two points
	y      []float64
}

// chart is a plot over time, in two sizes: for wide screens and narrow ones.
type chart struct {
	label   string    // for who cannot see it
	seconds []float64 // x of all points
	until   float64
	y       string  // what its axis counts
	curves  []curve // drawn in this order
	areas   []curve // stacked on each other, the first at the bottom
	marks   []float64
}

// sizes of a plot in points, which are pixels at full width.
var sizes = []struct {
	class         string
	width, height vg.Length
	ticks         int
}{{"wide", 860, 300, 9}, {"narrow", 350, 260, 4}}

// svg draws a chart.
func (c *chart) svg() (template.HTML, error) {
	var b strings.Builder
	for _, s := range sizes {
		p, err := c.plot(s.ticks)
		if err != nil {
			return "", fmt.Errorf("%s: %w", c.label, err)
		}
		canvas := vgsvg.New(s.width, s.height)
		p.Draw(draw.Crop(draw.New(canvas), 2, -16, 2, -8)) // letters may be wider than those that it measures
		var drawn bytes.Buffer
		if _, err := canvas.WriteTo(&drawn); err != nil {
			return "", fmt.Errorf("%s: %w", c.label, err)
		}
		_, body, ok := strings.Cut(drawn.String(), "<svg")
		_, body, closed := strings.Cut(body, ">")
		if !ok || !closed {
			return "", fmt.Errorf("%s: the plot is no SVG", c.label)
		}
		fmt.Fprintf(&b, `<svg class="%s" role="img" aria-label="%s" viewBox="0 0 %g %g">%s`, s.class, template.HTMLEscapeString(c.label), s.width.Points(), s.height.Points(), themed(body))
	}
	return template.HTML(b.String()), nil
}

// themed gives a plot the colours and letters of the page.
func themed(svg string) string {
	for i := text; i < firstSeries+numSeries; i++ {
		svg = strings.ReplaceAll(svg, i.written(), i.css())
	}
	return strings.NewReplacer("font-family:Liberation Sans;", "", "font-family:Liberation Serif;", "", "font-variant:none;", "", "font-weight:normal;", "", "font-style:normal;", "").Replace(svg)
}

// plot makes the plot.
func (c *chart) plot(ticks int) (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Min, p.X.Max, p.Y.Min = 0, c.until, 0
	p.X.Tick.Marker, p.Y.Tick.Marker = clock{ticks}, counts{5}
	p.Y.Label.Text = c.y
	p.X.Label.Text = "time since the beginning"
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Color, a.Tick.LineStyle.Color = grid, grid
		a.Label.TextStyle.Color, a.Tick.Label.Color = text, text
		a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = 12, 12
		a.Label.TextStyle.Font.Variant, a.Tick.Label.Font.Variant = "Sans", "Sans"
		a.Label.Padding = 4
	}
	lines := plotter.NewGrid()
	lines.Vertical.Color, lines.Horizontal.Color = grid, grid
	p.Add(lines)
	if err := c.stack(p); err != nil {
		return nil, err
	}
	top := p.Y.Max
	for _, l := range c.curves {
		points := make(plotter.XYs, len(l.y))
		for i, y := range l.y {
			points[i].X, points[i].Y = c.seconds[i], y
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = l.ink, 1.8
		if l.dashed {
			line.Dashes = []vg.Length{6, 4}
		}
		if l.steps {
			line.StepStyle = plotter.PreStep
		}
		p.Add(line)
		top = max(top, p.Y.Max)
	}
	p.Y.Max = nice(max(top, 1))
	for _, at := range c.marks {
		line, err := plotter.NewLine(plotter.XYs{{X: at}, {X: at, Y: p.Y.Max}})
		if err != nil {
			return nil, err
		}
		line.Color, line.Width, line.Dashes = bad, 1.5, []vg.Length{2, 3}
		p.Add(line)
	}
	p.X.Min, p.X.Max, p.Y.Min = 0, c.until, 0
	return p, nil
}

// stack adds the areas.
func (c *chart) stack(p *plot.Plot) error {
	below := make([]float64, len(c.seconds))
	for _, a := range c.areas {
		var outline plotter.XYs
		for i, y := range a.y {
			outline = append(outline, plotter.XY{X: c.seconds[i], Y: below[i] + y})
		}
		for i := len(a.y) - 1; i >= 0; i-- {
			outline = append(outline, plotter.XY{X: c.seconds[i], Y: below[i]})
			below[i] += a.y[i]
		}
		area, err := plotter.NewPolygon(outline)
		if err != nil {
			return err
		}
		area.Color, area.LineStyle.Width = a.ink, 0
		p.Add(area)
	}
	return nil
}

// nice returns the end of an axis: somewhat above the most that it shows.
func nice(most float64) float64 {
	unit := step(most*1.04, 5)
	return math.Ceil(most*1.04/unit) * unit
}

// step returns the distance of about n ticks: 1, 2, 2.5 or 5 times a power of ten, and whole.
func step(span float64, n int) float64 {
	raw := span / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if raw <= m*power && m*power == math.Trunc(m*power) {
			return max(m*power, 1)
		}
	}
	return max(10*power, 1)
}

// counts are the ticks of an axis that counts.
type counts struct{ n int }

// Ticks returns them.
func (c counts) Ticks(low, high float64) (all []plot.Tick) {
	unit := step(high-low, c.n)
	for y := 0.0; y <= high; y += unit {
		all = append(all, plot.Tick{Value: y, Label: page.Count(int(y))})
	}
	return all
}

// clock are the ticks of an axis of time.
type clock struct{ n int }

// distances are those that people have between times.
var distances = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 96 * time.Hour, 168 * time.Hour,
}

// Ticks returns them.
func (c clock) Ticks(low, high float64) (all []plot.Tick) {
	unit := distances[len(distances)-1]
	for i := len(distances) - 1; i >= 0 && (high-low)/distances[i].Seconds() <= float64(c.n); i-- {
		unit = distances[i]
	}
	for at := time.Duration(0); at.Seconds() <= high; at += unit {
		label := page.Short(at)
		if at == 0 {
			label = "0"
		}
		all = append(all, plot.Tick{Value: at.Seconds(), Label: label})
	}
	return all
}
