package page

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

// blank returns a page of a width, and what has been written to it.
func blank(t *testing.T, columns string) (*Page, *bytes.Buffer) {
	t.Setenv("COLUMNS", columns)
	var out bytes.Buffer
	return New(&out, &out), &out
}

func TestTablesFitThePage(t *testing.T) {
	fill := func(p *Page) {
		table := p.Table("lRrLw")
		table.Row("node", "flows", "peak", "over time", "remark")
		table.Row("aks-nodepool1-vmss000000", "1,234", "1,024", "▁▂▃▄▅▆▇█▁▂▃▄▅▆▇█", "a remark that goes on and on until it no longer fits")
		table.Row("b", "1")
		table.Print()
	}
	for columns, want := range map[string]string{
		"200": "" +
			"node                      flows   peak  over time         remark\n" +
			"aks-nodepool1-vmss000000  1,234  1,024  ▁▂▃▄▅▆▇█▁▂▃▄▅▆▇█  a remark that goes on and on until it no longer fits\n" +
			"b                             1\n",
		"60": "" +
			"node                      flows   peak  remark\n" +
			"aks-nodepool1-vmss000000  1,234  1,024  a remark that goes\n" +
			"                                        on and on until it\n" +
			"                                        no longer fits\n" +
			"b                             1\n",
	} {
		p, out := blank(t, columns)
		fill(p)
		assert.Equal(t, want, out.String(), columns)
	}
}

func TestTextFitsThePage(t *testing.T) {
	p, out := blank(t, "") // goes to no terminal
	p.Headline(Good, "%s", strings.Repeat("word ", 30)+"end")
	p.Section("a title", strings.Repeat("and a long remark ", 10))
	p.Note("%s", strings.Repeat("a note ", 30))
	p.Bullet(strings.Repeat("a bullet ", 30))
	p.More(2, "destination", "that nobody asked for")
	p.More(0, "destination", "")
	for line := range strings.Lines(out.String()) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
		assert.NotContains(t, line, "\x1b", "no terminal, no colour")
	}
	assert.Contains(t, out.String(), "\nA TITLE  (and a long")
	assert.Contains(t, out.String(), "\n- a bullet")
	assert.Contains(t, out.String(), "\n  a bullet", "hanging indent")
	assert.Contains(t, out.String(), "and 2 more destinations that nobody asked for\n")
	assert.Equal(t, 1, strings.Count(out.String(), "more"))
}

func TestColors(t *testing.T) {
	p, out := blank(t, "80")
	p.color = true
	p.Headline(Bad, "failed")
	p.Section("title", "remark")
	assert.Equal(t, "\x1b[31mfailed\x1b[0m\n\n\x1b[1mTITLE\x1b[0m  (remark)\n", out.String())
}

func TestNumbersForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"0": Count(0), "999": Count(999), "1,000": Count(1000), "-1,234,567": Count(-1234567), "12": Count(uint64(12)),
		"1 node": Plural(1, "node"), "2,000 nodes": Plural(2000, "node"), "2 copies": Plural(2, "copy"),
		"0 %": Percent(0), "<1 %": Percent(0.001), "12 %": Percent(0.123), "100 %": Percent(1),
		"30m": Short(30 * time.Minute), "1h2m3s": Short(time.Hour + 2*time.Minute + 3*time.Second), "2h": Short(2 * time.Hour),
		"1.5ms": Short(1500 * time.Microsecond), "2s": Short(1999 * time.Millisecond),
	} {
		assert.Equal(t, want, got)
	}
}
