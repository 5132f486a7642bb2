package page

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table is rows of cells, aligned column by column. Make one by [Page.Table], fill it,
// then Print it.
type Table struct {
	page  *Page
	align string
	rows  [][]string
}

// Table returns an empty table with a column for each letter of align: l and r are
// aligned to the left and to the right; L and R are too, but left out if the table
// would be wider than the page, the last of them first; w, for the last column,
// breaks its text into lines.
func (p *Page) Table(align string) *Table { return &Table{page: p, align: align} }

// Row adds a row. Missing cells at its end stay empty.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// Print writes the table.
func (t *Table) Print() {
	widths := make([]int, len(t.align))
	for _, cells := range t.rows {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	shown := t.columns(widths)
	for _, cells := range t.rows {
		t.line(cells, widths, shown)
	}
}

const (
	gap       = 2  // between columns
	narrowest = 20 // what a column of text gets at least
)

// columns returns which columns fit the page.
func (t *Table) columns(widths []int) []bool {
	shown, total := make([]bool, len(widths)), -gap
	for i, n := range widths {
		if shown[i] = true; t.align[i] == 'w' {
			n = min(n, narrowest)
		}
		total += n + gap
	}
	for i := len(widths) - 1; i >= 0 && total > t.page.width; i-- {
		if unicode.IsUpper(rune(t.align[i])) {
			shown[i] = false
			total -= widths[i] + gap
		}
	}
	return shown
}

// line writes one row, on as many lines as its last cell takes.
func (t *Table) line(cells []string, widths []int, shown []bool) {
	var line strings.Builder
	column := 0 // where the next cell begins
	for i, c := range cells {
		if !shown[i] {
			continue
		}
		if t.align[i] == 'w' {
			parts := wrap(c, max(t.page.width-column, narrowest))
			line.WriteString(parts[0])
			for _, part := range parts[1:] {
				line.WriteString("\n" + strings.Repeat(" ", column) + part)
			}
			break
		}
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
		if unicode.ToLower(rune(t.align[i])) == 'r' {
			c = pad + c
		} else {
			c += pad
		}
		line.WriteString(c + strings.Repeat(" ", gap))
		column += widths[i] + gap
	}
	fmt.Fprintln(t.page.w, strings.TrimRight(line.String(), " "))
}
