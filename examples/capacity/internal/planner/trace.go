// The trace of -trace: a flow log, or a capture.

package planner

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/trace"
)

// readTrace reads the file of -trace; without one there are no flows. What begins after -until is left
// out.
func (r *run) readTrace() ([]trace.Flow, error) {
	name := r.options.trace
	if name == "" {
		return nil, nil
	}
	read := func() ([]byte, error) { return os.ReadFile(name) }
	if name == "-" {
		read = func() ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	data, err := read()
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	if err != nil {
		return nil, fmt.Errorf("-trace %s: %w", name, err)
	}
	t, err := r.understand(name, data)
	if err != nil {
		return nil, err
	}
	for _, why := range slices.Sorted(maps.Keys(t.Skipped)) {
		r.skipped = append(r.skipped, fmt.Sprintf("%s: %s", page.Plural(t.Skipped[why], "record"), why))
	}
	if len(t.Flows) == 0 {
		return nil, fmt.Errorf("-trace %s: no host begins a conversation in it%s", name, strings.Join(append([]string{""}, r.skipped...), "\nleft out "))
	}
	n, _ := slices.BinarySearchFunc(t.Flows, r.options.until, func(f trace.Flow, until time.Duration) int { return cmp.Compare(f.Start, until) })
	if late := len(t.Flows) - n; late > 0 {
		r.skipped = append(r.skipped, fmt.Sprintf("%s: after -until", page.Plural(late, "conversation")))
	}
	return t.Flows[:n], nil
}

func (r *run) understand(name string, data []byte) (*trace.Trace, error) {
	c, damage := capture.Salvage(data)
	if c == nil {
		return trace.Read(name, data)
	}
	if damage != nil {
		return nil, fmt.Errorf("-trace %s: %w", name, damage)
	}
	t, err := trace.Packets(func(yield func(time.Duration, []byte) bool) {
		for _, p := range c.Packets {
			if !yield(p.At, p.Data) {
				return
			}
		}
	}, r.options.isInside)
	if err != nil {
		return nil, fmt.Errorf("-trace %s: %w", name, err)
	}
	return t, nil
}

// isInside reports whether an address is of -inside.
func (o *options) isInside(addr netip.Addr) bool {
	within := o.inside
	if len(within) == 0 {
		within = private
	}
	return slices.ContainsFunc(within, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// recorded is how a simulation names a conversation of the trace.
var recorded = regexp.MustCompile(`^Workload\.Trace\[(\d+)\]\.(\w+) `)

// locateTrace tells problems of conversations of the trace by its file and what they are.
func (r *run) locateTrace(err error) error {
	if err == nil {
		return nil
	}
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if at := recorded.FindStringSubmatch(line); at != nil {
			if i, err := strconv.Atoi(at[1]); err == nil && i < len(r.workload.Trace) {
				f := &r.workload.Trace[i]
				line = fmt.Sprintf("-trace %s: the conversation of %v with %v at %v: %s %s", r.options.trace, cmp.Or(f.Host, f.Src.String()), f.Dst, f.Start, strings.ToLower(at[2]), line[len(at[0]):])
			}
		}
		errs = append(errs, errors.New(line))
	}
	return errors.Join(errs...)
}
