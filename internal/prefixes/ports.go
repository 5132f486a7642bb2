package prefixes

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/heap"
)

// few is how many rows of one prefix are compared one by one.
const few = 4

// ports finds the first row of one prefix that fits a protocol and port. A few rows
// are compared; of many, each protocol that they name has a list of the places where
// the first fitting row changes, and so have all others.
type ports struct {
	rows  []line
	lists []list
}

// line is what a row says of protocols and ports.
type line struct {
	row         int32
	first, last uint16
	proto       uint8
}

// Before orders lines by which of them counts.
func (a line) Before(b line) bool { return a.row < b.row }

// list is the rows for one protocol; 0 stands for those that no other list is for.
type list struct {
	proto  uint8
	any    int32 // the first row, whatever the port, or -1
	starts []uint16
	rows   []int32 // the first row from there on, or -1
}

// fits reports whether a row is for a protocol and port.
func (r *line) fits(proto uint8, port int32) bool {
	return (r.proto == 0 || r.proto == proto) && (port < 0 || uint16(port) >= r.first && uint16(port) <= r.last)
}

// newPorts takes the rows of one prefix.
func newPorts(lines []line) (p ports) {
	if len(lines) <= few {
		p.rows = lines
		return p
	}
	protos := []uint8{0}
	for _, r := range lines {
		if !slices.Contains(protos, r.proto) {
			protos = append(protos, r.proto)
		}
	}
	for _, proto := range protos {
		p.lists = append(p.lists, newList(lines, proto))
	}
	return p
}

// match returns the first row that fits, or -1.
func (p *ports) match(proto uint8, port int32) int32 {
	for i := range p.rows {
		if p.rows[i].fits(proto, port) {
			return p.rows[i].row
		}
	}
	if len(p.lists) == 0 {
		return -1
	}
	l := &p.lists[0]
	for i := range p.lists[1:] {
		if p.lists[i+1].proto == proto {
			l = &p.lists[i+1]
		}
	}
	if port < 0 {
		return l.any
	}
	i, found := slices.BinarySearch(l.starts, uint16(port))
	if !found {
		i-- // the first place is port 0
	}
	return l.rows[i]
}

// newList lays out the rows for a protocol. Of the rows that are open at a port the
// first one counts; a heap of them finds it, from which closed ones are taken when
// they come up.
func newList(lines []line, proto uint8) list {
	l := list{proto: proto, any: -1}
	var fit []line
	for _, r := range lines {
		if r.proto != 0 && r.proto != proto {
			continue
		}
		if l.any < 0 {
			l.any = r.row
		}
		if r.first <= r.last {
			fit = append(fit, r)
		}
	}
	slices.SortStableFunc(fit, func(a, b line) int { return int(a.first) - int(b.first) })
	var open heap.Heap[line]
	for at := 0; at <= 1<<16-1; {
		for len(fit) > 0 && int(fit[0].first) == at {
			open.Push(fit[0])
			fit = fit[1:]
		}
		for len(open) > 0 && int(open[0].last) < at {
			open.Pop()
		}
		row, next := int32(-1), 1<<16
		if len(open) > 0 {
			row, next = open[0].row, int(open[0].last)+1
		}
		if len(fit) > 0 {
			next = min(next, int(fit[0].first))
		}
		if n := len(l.rows); n == 0 || l.rows[n-1] != row {
			l.starts, l.rows = append(l.starts, uint16(at)), append(l.rows, row)
		}
		at = next
	}
	return l
}
