package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// markdown is the table: nanoseconds a packet, and how many times ours that is.
func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s, %d CPUs (%s); nanoseconds a packet, in brackets the ratio\nto natplane measured in turns with it. The ratios of natplane to itself show how far they can be trusted.\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor())
	for _, kind := range kinds {
		fmt.Fprintf(&b, "\n| %s |", kind.title)
		for _, n := range r.counts {
			fmt.Fprintf(&b, " %s flows |", thousands(n))
		}
		fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(r.counts)))
		for _, p := range r.peers {
			fmt.Fprintf(&b, "| %s |", p.name)
			for _, n := range r.counts {
				f, ok := r.figures[p.name][n]
				if m := kind.of(f); ok && m.value > 0 {
					fmt.Fprintf(&b, " %.0f (%s) |", m.value, ratio(m.ratio))
				} else {
					b.WriteString(" - |")
				}
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\nWhat is unfair:\n\n")
	for _, p := range r.peers {
		fmt.Fprintf(&b, "- %s: %s\n", p.name, p.unfair)
	}
	return b.String()
}

// kinds are the tables, and what of a figure they show.
var kinds = []struct {
	title, file string
	of          func(figure) measured
}{
	{"established, random flows", "established.svg", func(f figure) measured { return f.established }},
	{"new flows", "new.svg", func(f figure) measured { return f.newFlow }},
	{"bytes per flow", "bytes.svg", func(f figure) measured { return f.perFlow }},
}

// ratio writes two digits, and no more decimals than it takes.
func ratio(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

// thousands writes 64512 as 64,512.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// processor is the model of the CPU, as far as the system tells.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for _, line := range strings.Split(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// write writes the table and the plots into a directory.
func (r *results) write(dir, table string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "table.md"), []byte(table), 0o644); err != nil {
		return err
	}
	for _, kind := range kinds {
		svg, err := r.plot(kind.title, kind.of)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, kind.file), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// plot draws a line for each peer over the number of flows, both scales logarithmic.
func (r *results) plot(title string, of func(figure) measured) ([]byte, error) {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "flows", "ns a packet"
	if strings.HasPrefix(title, "bytes") {
		p.Y.Label.Text = "bytes a flow"
	}
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{Y: 220}, color.Gray{Y: 220}
	p.Add(grid)
	p.BackgroundColor = color.White // readable on dark pages as well
	for i, peer := range r.peers {
		var points plotter.XYs
		for _, n := range r.counts {
			if f, ok := r.figures[peer.name][n]; ok && of(f).value > 0 {
				points = append(points, plotter.XY{X: float64(n), Y: of(f).value})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color, dots.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
		line.Width = vg.Points(1)
		if i == 0 {
			line.Width = vg.Points(2.5)
		}
		p.Add(line, dots)
		p.Legend.Add(peer.name, line, dots)
	}
	p.Y.Max *= 100 // room for the legend
	canvas := vgsvg.New(9*vg.Inch, 6*vg.Inch)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}
