package dataplane

import (
	"math/bits"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The states of targets, which change while traffic flows and nothing else does.

// TargetChange gives a target another state.
type TargetChange struct {
	Forward, Target int // as in Config.Forwards of the configuration in force
	State           forwards.State
}

// SetTargets changes the states of targets, of all at one moment as far as new flows are
// concerned. n must not be closed.
func (n *NAT) SetTargets(now flow.Time, changes []TargetChange) {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.endGrace(now)
	n.control.Lock()
	defer n.control.Unlock()
	r, states, gone := n.routes.Load(), map[int][]forwards.State{}, uint64(0)
	for _, c := range changes {
		f := r.Forwards.Get(uint32(c.Forward) + 1)
		if states[c.Forward] == nil {
			states[c.Forward] = f.States()
		}
		if states[c.Forward][c.Target] = c.State; c.State == forwards.Gone {
			for _, s := range f.Shards {
				gone |= 1 << s
			}
		}
		n.config.Forwards[c.Forward].Targets[c.Target].State = c.State
	}
	for i, all := range states {
		r.Forwards.Get(uint32(i)+1).Choose(all, &n.tables)
	}
	for ; gone != 0; gone &= gone - 1 {
		n.shards[bits.TrailingZeros64(gone)].cutGone(now, r)
	}
}

// cutGone ends the sessions whose target is gone. The lock of the shard must not be held.
func (sh *shard) cutGone(now flow.Time, r *routes) {
	sh.Lock()
	sh.expireAll(now)
	sh.Unlock()
	sh.eachForwarded(func(id flow.ID, s *flow.Session) {
		t := ports.TupleOf(id, s)
		if f := r.Forwarding(id, s); f != 0 && r.Forwards.Get(f).State(s.Key.VNI(), t.Inside) == forwards.Gone {
			sh.cutForwarded(now, id, s, counters.CutTarget)
		}
	})
}

// eachForwarded calls do for the forwarded sessions of a shard, which may be ended by it, as Walk
// does.
func (sh *shard) eachForwarded(do func(id flow.ID, s *flow.Session)) {
	sh.Walk(func(id flow.ID, s *flow.Session) {
		if s.Kind() == flow.KindForwarded {
			do(id, s)
		}
	})
}
