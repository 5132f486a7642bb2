// Flow logs in CSV (RFC 4180).

package trace

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// columns are those of a CSV file; the first four must be there.
var columns = []string{"start", "src", "dst", "port", "proto", "duration", "bytes", "end"}

const needed = 4

// maxTime bounds times and durations; our bound.
const maxTime = 366 * 24 * time.Hour

// alike is the rule about starts.
const alike = "must be since the beginning in all lines, or a date in all"

// csv reads a CSV file.
func (r *reader) csv(data []byte) {
	x := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	x.FieldsPerRecord = -1
	x.ReuseRecord = true
	x.TrimLeadingSpace = true
	header, err := x.Read()
	if err != nil {
		r.broken(err)
		return
	}
	at := make([]int, len(columns)) // place of each column, from 1; 0 if it is not there
	for i, name := range header {
		c := slices.Index(columns, strings.ToLower(strings.TrimSpace(name)))
		switch {
		case c < 0:
			r.bad(1, "header", name, problems.ErrUnknownName, "columns are %s", strings.Join(columns, ", "))
		case at[c] > 0:
			r.bad(1, "header", name, problems.ErrDuplicateName, "")
		default:
			at[c] = i + 1
		}
	}
	for c, name := range columns[:needed] {
		if at[c] == 0 {
			r.bad(1, "header", name, problems.ErrMissing, "the column is needed")
		}
	}
	if r.problems.Len() > 0 {
		return
	}
	width := len(header)
	for {
		fields, err := x.Read()
		if err == io.EOF {
			return
		}
		if err != nil {
			r.broken(err)
			continue
		}
		line, _ := x.FieldPos(0)
		if len(fields) != width {
			r.bad(line, "line", strings.Join(fields, ","), problems.ErrSyntax, "has %d fields, the header %d", len(fields), width)
			continue
		}
		value := func(c int) string {
			if at[c] == 0 {
				return ""
			}
			return strings.TrimSpace(fields[at[c]-1])
		}
		if f, ok := r.row(line, value); ok && !r.add(line, f) {
			return
		}
	}
}

// broken notes what is no CSV.
func (r *reader) broken(err error) {
	line, why := 1, err
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		line, why = parse.Line, parse.Err
	}
	r.bad(line, "line", "", problems.ErrSyntax, "%v", why)
}

// row reads a flow by the values of its columns.
func (r *reader) row(line int, value func(int) string) (f Flow, ok bool) {
	before := r.problems.Len()
	bad := func(c int, kind error, rule string) { r.bad(line, columns[c], value(c), kind, "%s", rule) }
	const start, src, dst, port, proto, duration, size, end = 0, 1, 2, 3, 4, 5, 6, 7
	if at, ok := span(value(start)); ok {
		f.Start = at
		if r.spans = true; !r.first.IsZero() {
			bad(start, problems.ErrConflict, alike)
		}
	} else if t, err := time.Parse(time.RFC3339Nano, value(start)); err == nil {
		if r.spans {
			bad(start, problems.ErrConflict, alike)
		} else if f.Start, ok = r.since(t); !ok {
			bad(start, problems.ErrOutOfRange, far)
		}
	} else {
		bad(start, problems.ErrSyntax, "must be seconds, a duration such as 1m30s, or a time such as 2026-11-29T10:00:00Z")
	}
	if a, err := netip.ParseAddr(value(src)); err == nil {
		f.Src = a.Unmap()
	} else if f.Host = value(src); f.Host == "" {
		bad(src, problems.ErrMissing, "an address, or the name of a host")
	}
	a, err := netip.ParseAddr(value(dst))
	if err != nil || !flow.IsHost(a.Unmap()) {
		bad(dst, problems.ErrAddress, "must be an address such as 203.0.113.9")
	}
	p, err := strconv.ParseUint(value(port), 10, 16)
	if err != nil || p == 0 {
		bad(port, problems.ErrOutOfRange, "1..65535")
	}
	f.Dst = netip.AddrPortFrom(a.Unmap(), uint16(p))
	switch strings.ToLower(value(proto)) {
	case "", "tcp", "6":
	case "udp", "17":
		f.UDP = true
	default:
		bad(proto, problems.ErrOutOfRange, "tcp or udp")
	}
	if v := value(duration); v != "" {
		if f.Duration, ok = span(v); !ok {
			bad(duration, problems.ErrSyntax, "must be seconds or a duration such as 1m30s, up to 366 days")
		}
	}
	if v := value(size); v != "" {
		if f.Bytes, err = strconv.ParseUint(v, 10, 64); err != nil {
			bad(size, problems.ErrSyntax, "must be a whole number")
		}
	}
	if v := value(end); v != "" {
		i := slices.Index(endNames[:], strings.ToLower(v))
		if i < 0 {
			bad(end, problems.ErrOutOfRange, "fin, rst or open")
		}
		f.End = End(max(i, 0))
	}
	return f, r.problems.Len() == before
}

// span reads a length of time, in seconds if no unit is said.
func span(text string) (time.Duration, bool) {
	if x, err := strconv.ParseFloat(text, 64); err == nil && x >= 0 && x <= maxTime.Seconds() {
		return time.Duration(math.Round(x * float64(time.Second))), true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0 && d <= maxTime
}
