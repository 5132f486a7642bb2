package page

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Bar is a progress bar: only on a terminal, and only when there is time to read it, that is from a
// second on. It is for one goroutine at a time.
type Bar struct {
	w     io.Writer // nil if nobody would see it
	begin time.Time
	next  time.Time // earliest time of the next drawing
	seen  bool
}

// NewBar returns a bar on w.
func NewBar(w io.Writer) *Bar {
	now := time.Now()
	b := &Bar{begin: now, next: now.Add(time.Second)}
	if IsTerminal(w) {
		b.w = w
	}
	return b
}

// IsTerminal reports whether somebody may watch what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Show draws the bar at done, 0 to 1, with the time that is left at this pace, unless it was drawn
// a moment ago.
func (b *Bar) Show(done float64) {
	now := time.Now()
	if b.w == nil || now.Before(b.next) {
		return
	}
	const width = 40
	filled := int(done * width)
	left := ""
	if done > 0 {
		left = ", " + Short(time.Duration(float64(now.Sub(b.begin))*(1-done)/done).Truncate(time.Second)) + " left"
	}
	fmt.Fprintf(b.w, "\r[%s%s] %3.0f %%%s\x1b[K", strings.Repeat("█", filled), strings.Repeat("░", width-filled), done*100, left)
	b.seen, b.next = true, now.Add(200*time.Millisecond)
}

// Clear removes the bar.
func (b *Bar) Clear() {
	if b.seen {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
