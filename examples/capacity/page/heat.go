// The heat map: settings by two of their axes.

package main

import (
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// heat is a map of settings: a column for each value of one axis, a row for each combination of the others.
type heat struct {
	Axis    string // of the columns
	Columns []string
	Rows    []heatRow
	More    int // rows that are left out
}

type heatRow struct {
	Name  string
	Cells []heatCell
}

// heatCell is a setting.
type heatCell struct {
	There bool
	Error string  // why there is no result
	Share float64 // of the conversations that are refused, 0..1
	Warm  int     // how warm the cell looks, 0..100
	Text  string
	Count string
	Lost  string // cut or broken; "" if none
}

const mostHeatRows = 40

// axes returns the names and values of a setting.
func axes(setting string) (names, values []string) {
	for _, field := range strings.Fields(setting) {
		name, value, _ := strings.Cut(field, "=")
		names, values = append(names, name), append(values, value)
	}
	return names, values
}

// heatOf returns the map of a sweep; nil if there is none.
func heatOf(rows []answer.Row) *heat {
	if len(rows) == 0 {
		return nil
	}
	names, _ := axes(rows[0].Setting)
	distinct := make([][]string, len(names))
	for _, r := range rows {
		_, values := axes(r.Setting)
		if len(values) != len(names) {
			return nil
		}
		for i, v := range values {
			if !slices.Contains(distinct[i], v) {
				distinct[i] = append(distinct[i], v)
			}
		}
	}
	across := 0
	for i := range names {
		if n := len(distinct[i]); n <= 10 && (len(distinct[across]) > 10 || n >= len(distinct[across])) {
			across = i
		}
	}
	h := &heat{Axis: names[across], Columns: distinct[across]}
	index := make(map[string]int)
	for _, r := range rows {
		_, values := axes(r.Setting)
		at := slices.Index(h.Columns, values[across])
		var others []string
		for i, v := range values {
			if i != across {
				others = append(others, names[i]+"="+v)
			}
		}
		name := strings.Join(others, " ")
		i, ok := index[name]
		if !ok {
			i = len(h.Rows)
			index[name] = i
			h.Rows = append(h.Rows, heatRow{name, make([]heatCell, len(h.Columns))})
		}
		h.Rows[i].Cells[at] = cellOf(&r)
	}
	if h.More = len(h.Rows) - mostHeatRows; h.More > 0 {
		h.Rows = h.Rows[:mostHeatRows]
	}
	return h
}

func cellOf(r *answer.Row) heatCell {
	if r.Result == nil {
		return heatCell{There: true, Error: r.Error, Text: "cannot be"}
	}
	t := &r.Result.Total
	c := heatCell{There: true, Share: t.RefusedShare, Text: page.Percent(t.RefusedShare), Count: page.Count(t.Refused)}
	if t.Refused > 0 {
		c.Warm = 25 + int(75*min(t.RefusedShare*2, 1)) // half of all is as bad as can be
	}
	if n := t.Ended(); n > 0 {
		c.Lost = page.Count(n)
	}
	return c
}
