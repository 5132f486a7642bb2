// Words and numbers, as people and tables want them.

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// table is rows of cells, aligned column by column.
type table struct {
	align string // a letter per column: l or r
	rows  [][]string
}

func newTable(align string) *table { return &table{align: align} }

// row adds a line; missing cells at its end stay empty.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table.
func (t *table) print(w io.Writer) {
	widths := make([]int, len(t.align))
	for _, cells := range t.rows {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range t.rows {
		var line strings.Builder
		for i, c := range cells {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if t.align[i] == 'r' {
				c = pad + c
			} else {
				c += pad
			}
			line.WriteString(c + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
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

func percent(share float64) string {
	if share > 0 && share < 0.005 {
		return "<1 %"
	}
	return strconv.Itoa(int(share*100+0.5)) + " %"
}

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
