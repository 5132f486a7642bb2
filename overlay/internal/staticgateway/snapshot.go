// Snapshots: users are in an archive; exits, whose translators have streams of their own, follow it.

package staticgateway

import (
	"cmp"
	"io"
	"maps"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/snat"
)

const (
	maxName  = 1 << 12
	maxUsers = 1 << 24
)

// named is a user by its address, with the name of its gateway.
type named struct {
	addr uint32
	name string
}

// SnapshotWith writes to w the translators of all exits as they are at one moment, and calls also then,
// when it has been written. It is for the owner of an archive that has what Archive writes.
func (s *Set) SnapshotWith(w io.Writer, also func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return snapshotExits(w, s.seen().order, also)
}

func snapshotExits(w io.Writer, left []*exit, also func() error) error {
	if len(left) == 0 {
		return also()
	}
	return left[0].nat.SnapshotWith(w, func() error { return snapshotExits(w, left[1:], also) })
}

// Archive writes which exits and users there are, and what has been counted. What reads it is
// [Set.Restore].
func (s *Set) Archive(a *snapshot.Archive) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Section("static gateways")
	refused := s.refused.Load()
	snapshot.Num(a, &refused)
	var all []named
	for addr, u := range s.seen().all() {
		all = append(all, named{addr, u.name})
	}
	slices.SortFunc(all, func(a, b named) int { return cmp.Compare(a.addr, b.addr) })
	archiveUsers(a, &all)
	pages := slices.Sorted(maps.Keys(s.seen().pages))
	archivePages(a, &pages)
	for _, name := range slices.Sorted(maps.Keys(s.gateways)) {
		for _, e := range s.gateways[name].exits {
			a.Addr(&e.public)
			flows := e.flows.Load()
			snapshot.Num(a, &flows)
		}
	}
}

func archiveUsers(a *snapshot.Archive, all *[]named) {
	snapshot.Slice(a, all, maxUsers, func(u *named) {
		snapshot.Num(a, &u.addr)
		a.Text(&u.name, maxName)
	})
}

func archivePages(a *snapshot.Archive, all *[]uint32) {
	snapshot.Slice(a, all, maxUsers, func(page *uint32) {
		snapshot.Num(a, page)
		a.Check(*page < 1<<24, "the page %x", *page)
	})
}

// Restore reads what Archive has written into s, which is zero, for a configuration that was in force. The
// translators of exits are yet to be read, by the function that it returns, from what SnapshotWith has
// written; without them s is not to be used but for Close.
func (s *Set) Restore(a *snapshot.Archive, c Config) (exits func(io.Reader) error) {
	a.Section("static gateways")
	var refused uint64
	snapshot.Num(a, &refused)
	s.refused.Store(refused)
	var users []named
	archiveUsers(a, &users)
	var pages []uint32
	archivePages(a, &pages)
	p := &Plan{pods: c.Pods, gateways: make(map[string]*gateway), exits: make(map[uint32]*exit)}
	slices.SortFunc(c.Gateways, func(a, b Gateway) int { return cmp.Compare(a.Name, b.Name) })
	for _, g := range c.Gateways {
		next := &gateway{Gateway: g}
		for _, node := range g.Nodes {
			e := &exit{node: node, tell: c.Count}
			a.Addr(&e.public)
			var flows int64
			snapshot.Num(a, &flows)
			e.flows.Store(flows)
			if !a.Check(flows >= 0 && g.Prefix.Contains(e.public), "the exit %v of static gateway %q, with %d flows", e.public, g.Name, flows) {
				return nil
			}
			if !a.Check(p.exits[flow.Addr4(e.public)] == nil, "the exit %v is there twice", e.public) {
				return nil
			}
			next.exits, p.exits[flow.Addr4(e.public)] = append(next.exits, e), e
		}
		p.gateways[g.Name] = next
	}
	s.pods, s.gateways = p.pods, p.gateways
	v := (&view{}).with(p.exits)
	for _, high := range pages {
		v = v.withPage(high << 8)
	}
	for i, u := range users {
		if !a.Check(v.pages[u.addr>>8] != nil && (i == 0 || users[i-1].addr < u.addr), "the user %v", flow.NetAddr4(u.addr)) {
			return nil
		}
		v.put(u.addr, s.place(u.addr, u.name))
	}
	return func(r io.Reader) (err error) {
		for _, e := range v.order {
			if e.nat, err = snat.Restore(e.config(c), r); err != nil {
				break
			}
		}
		if err != nil {
			for _, e := range v.order {
				if e.nat != nil {
					e.nat.Close()
				}
			}
			return err
		}
		s.view.Store(v)
		return nil
	}
}
