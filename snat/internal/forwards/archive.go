package forwards

import (
	"cmp"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Archive writes the departed sockets of s, which only its history tells, or reads them into s, which is
// fresh and has none. has says which instances there are, by index. Nobody may use s meanwhile.
func (s *Set) Archive(a *snapshot.Archive, has func(instance uint32) bool) {
	a.Section("departed sockets")
	var all []Socket
	if s != nil && a.Writing() {
		for i := range s.sockets.slots {
			if at := &s.sockets.slots[i]; at.departed {
				all = append(all, at.socket())
			}
		}
		slices.SortFunc(all, func(a, b Socket) int {
			return cmp.Or(cmp.Compare(a.Forward, b.Forward), cmp.Compare(a.Instance, b.Instance), slices.Compare(a.Addr[:], b.Addr[:]),
				cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Outside, b.Outside))
		})
	}
	snapshot.Slice(a, &all, 1<<30, func(at *Socket) {
		a.Value(at, 0)
		if !a.Writing() && a.Check(at.Departed && at.Forward > 0 && int64(at.Forward) <= int64(s.Len()) && has(at.Instance) && s.mayDepart(at), "socket %+v cannot be a former one", *at) {
			a.Check(s.sockets.put(at), "socket %+v is there twice", *at)
			s.departs = true
		}
	})
	if !a.Writing() && len(all) > 0 {
		s.share()
	}
}

// mayDepart reports whether a socket of a forward and an instance can be one that heirs yields.
func (s *Set) mayDepart(at *Socket) bool {
	f := s.Get(at.Forward)
	if f.Floating || f.Addr.Is6() != at.V6 || (at.Port == 0) != (at.Outside == 0) || !slices.Contains(f.protocols(), at.Proto) ||
		at.Proto != wire.ProtoTCP && at.Proto != wire.ProtoUDP {
		return false
	}
	if at.Port == 0 && !f.AllPorts() || at.Port != 0 && s.At(f.Frontend, at.Proto, at.Outside) != at.Forward {
		return false
	}
	return s.joins(at)
}
