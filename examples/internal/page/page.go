// Package page prints what a command has found, in one style for all examples:
// sections, tables that fit the screen, notes, and numbers as people write them.
//
// A [Page] is as wide as the terminal it goes to, and 80 columns if it goes elsewhere;
// the environment variable COLUMNS overrides both. It is coloured on a terminal
// only, and not if NO_COLOR is set or TERM is dumb (https://no-color.org).
package page

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Page is a report under way. Errors of its writer are left to the writer's owner.
type Page struct {
	w     io.Writer
	width int
	color bool
}

const (
	defaultWidth = 80
	minWidth     = 40 // narrower terminals wrap the lines themselves
)

// New returns a page that is written to w and looks as if it went to screen,
// which w may buffer.
func New(w, screen io.Writer) *Page {
	p := &Page{w: w, width: defaultWidth}
	if f, ok := screen.(*os.File); ok {
		if width, ok := terminalWidth(f); ok {
			p.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
			if width > 0 {
				p.width = width
			}
		}
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		p.width = n
	}
	p.width = max(p.width, minWidth)
	return p
}

// Mood says how a headline is meant.
type Mood int

// Moods, with their colours.
const (
	Good Mood = iota // green
	Bad              // red
)

// Headline begins the page.
func (p *Page) Headline(m Mood, format string, args ...any) {
	code := "32"
	if m == Bad {
		code = "31"
	}
	for _, line := range wrap(fmt.Sprintf(format, args...), p.width) {
		fmt.Fprintln(p.w, p.paint(code, line))
	}
}

// Section begins a section; remark, which may be empty, stands behind its title.
func (p *Page) Section(title, remark string) {
	fmt.Fprintln(p.w)
	title = strings.ToUpper(title)
	if remark == "" {
		fmt.Fprintln(p.w, p.paint("1", title))
		return
	}
	lines := wrap(title+"  ("+remark+")", p.width)
	lines[0] = p.paint("1", title) + strings.TrimPrefix(lines[0], title)
	for _, line := range lines {
		fmt.Fprintln(p.w, line)
	}
}

// Note prints a paragraph.
func (p *Page) Note(format string, args ...any) { p.paragraph("", fmt.Sprintf(format, args...)) }

// Bullet prints a paragraph of a list.
func (p *Page) Bullet(text string) { p.paragraph("- ", text) }

func (p *Page) paragraph(mark, text string) {
	for i, line := range wrap(text, p.width-len(mark)) {
		if i > 0 {
			mark = strings.Repeat(" ", len(mark))
		}
		fmt.Fprintln(p.w, mark+line)
	}
}

// More says how many rows of a table were left out, if any were.
func (p *Page) More(n int, noun, remark string) {
	if n > 0 {
		p.Note("%s", strings.TrimSpace(fmt.Sprintf("and %s more %s %s", Count(n), pluralize(n, noun), remark)))
	}
}

func (p *Page) paint(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// wrap breaks a text into lines of at most width characters, at spaces. A longer
// word has a line of its own.
func wrap(text string, width int) (lines []string) {
	line, n := "", 0
	for word := range strings.SplitSeq(text, " ") {
		size := utf8.RuneCountInString(word)
		if line != "" && n+1+size > width {
			lines = append(lines, strings.TrimRight(line, " "))
			line, n = "", 0
		}
		if line != "" {
			line, n = line+" ", n+1
		}
		line, n = line+word, n+size
	}
	return append(lines, line)
}
