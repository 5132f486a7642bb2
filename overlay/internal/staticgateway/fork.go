package staticgateway

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// ForkTo makes to, which is zero, a copy of s, whose exits ask admit and tell count; see [Config]. It calls
// also at the moment of the copy, while all exits wait. The errors are its own and those of
// [snat.NAT.Fork]; then to is of no use.
func (s *Set) ForkTo(to *Set, admit func(snat.NewFlow) flow.Reason, count func(node string, by int), also func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, exits := s.seen(), map[*exit]*exit{nil: nil}
	err := forkExits(v.order, exits, admit, count, func() error {
		to.refused.Store(s.refused.Load())
		return also()
	})
	if err != nil {
		return err
	}
	to.pods = s.pods
	if s.view.Load() == nil {
		return nil
	}
	is := &view{pages: make(map[uint32]*page, len(v.pages)), exits: make(map[uint32]*exit, len(v.exits))}
	for _, e := range v.order {
		is.order, is.exits[flow.Addr4(e.public)] = append(is.order, exits[e]), exits[e]
	}
	gateways := map[*gateway]*gateway{nil: nil}
	to.gateways = make(map[string]*gateway, len(s.gateways))
	for name, g := range s.gateways {
		next := &gateway{g.Gateway, slices.Clone(g.exits)}
		for i := range next.exits {
			next.exits[i] = exits[g.exits[i]]
		}
		to.gateways[name], gateways[g] = next, next
	}
	for high, p := range v.pages {
		next := new(page)
		for low := range p {
			if u := p[low].Load(); u != nil {
				next[low].Store(&user{u.name, gateways[u.gateway], exits[u.exit]})
			}
		}
		is.pages[high] = next
	}
	to.view.Store(is)
	return nil
}

// forkExits copies exits at one moment, and calls also then.
func forkExits(left []*exit, copies map[*exit]*exit, admit func(snat.NewFlow) flow.Reason, count func(node string, by int), also func() error) error {
	if len(left) == 0 {
		return also()
	}
	e := left[0]
	to := &exit{node: e.node, public: e.public, tell: count}
	ties := snat.Ties{Admit: admit}
	if e.tell != nil {
		ties.Hooks = to.hooks()
	}
	var err error
	to.nat, err = e.nat.ForkWith(ties, func() error {
		to.flows.Store(e.flows.Load())
		return forkExits(left[1:], copies, admit, count, also)
	})
	copies[e] = to
	return err
}
