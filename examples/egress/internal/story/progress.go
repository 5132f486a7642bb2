// The progress bar: only on a terminal, and only when there is time to read it.

package story

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress draws a bar on a terminal, beginning after a second.
type progress struct {
	w    io.Writer // nil if nobody would see it
	next time.Time // earliest time of the next drawing
	seen bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{next: time.Now().Add(time.Second)}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.w = w
		}
	}
	return p
}

// show draws the bar at done, 0 to 1, unless it was drawn a moment ago.
func (p *progress) show(done float64) {
	if p.w == nil || time.Now().Before(p.next) {
		return
	}
	const width = 40
	filled := int(done * width)
	fmt.Fprintf(p.w, "\r[%s%s] %3.0f %%", strings.Repeat("█", filled), strings.Repeat("░", width-filled), done*100)
	p.seen, p.next = true, time.Now().Add(200*time.Millisecond)
}

// clear removes the bar.
func (p *progress) clear() {
	if p.seen {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
