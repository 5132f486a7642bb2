package machine

import (
	"cmp"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

const maxCounted = 1 << 28

// Archive writes the counts of s; or, if a is read, it gives the machines of s, which have counted nothing,
// those that were written. A nil Set has none.
func (s *Set) Archive(a *snapshot.Archive) {
	a.Section("machines")
	n := 0
	if s != nil {
		n = len(s.nodes)
	}
	snapshot.Same(a, "the number of machines", n)
	for i := range n {
		m := s.nodes[i].Machine
		snapshot.Same(a, "whether there is a machine", map[bool]uint8{true: 1}[m != nil])
		if m != nil && a.OK() {
			m.archive(a)
		}
	}
}

func (m *Machine) archive(a *snapshot.Archive) {
	m.mu.Lock()
	defer m.mu.Unlock()
	connections := m.connections.Load()
	snapshot.Num(a, &connections)
	a.Check(connections >= 0, "%d connections", connections)
	if !a.Writing() {
		m.connections.Store(connections) // else others may count meanwhile
	}
	type counted struct {
		destination
		n int
	}
	var all []counted
	for to, n := range m.to {
		all = append(all, counted{to, n})
	}
	slices.SortFunc(all, func(x, y counted) int {
		own := 0
		if x.own != y.own {
			if own = -1; x.own {
				own = 1
			}
		}
		return cmp.Or(own, cmp.Compare(x.protocol, y.protocol), x.remote.Compare(y.remote))
	})
	snapshot.Slice(a, &all, maxCounted, func(c *counted) {
		a.Bool(&c.own)
		snapshot.Num(a, &c.protocol)
		a.AddrPort(&c.remote)
		snapshot.Num(a, &c.n)
		a.Check(c.n > 0, "%d flows to %v", c.n, c.remote)
	})
	q := &m.dns
	snapshot.Num(a, &q.second)
	snapshot.Num(a, &q.asked)
	snapshot.Slice(a, &q.wait, maxCounted, func(w *question) {
		snapshot.Nums(a, &w.port, &w.id)
		snapshot.Num(a, &w.until)
	})
	if a.Writing() || !a.OK() {
		return
	}
	for _, c := range all {
		if m.to == nil {
			m.to = make(map[destination]int, len(all))
		}
		m.to[c.destination] = c.n
	}
}
