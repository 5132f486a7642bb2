package snat

import (
	"fmt"
	"math/bits"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The states of targets, which change while traffic flows and nothing else does.

// TargetChange gives a target another state.
type TargetChange struct {
	Forward, Target int         // as in Config.Forwards[Forward].Targets[Target] of the configuration in force
	State           TargetState // from now on
}

// SetTargets changes the states of targets, of all at one moment as far as new flows are
// concerned: health probes are for that. What [NAT.Reconfigure] is given later says what the
// states are then. If one of the changes is wrong nothing is changed, and the error names
// it. Cost: O(targets) of each forward that is named, without any lock that packets take;
// for targets that are [TargetGone] now, O(sessions) of the forward's shards too, in small
// pieces. now must not lie before that of an earlier call.
func (n *NAT) SetTargets(now flow.Time, changes ...TargetChange) error {
	n.control.Lock()
	defer n.control.Unlock()
	if n.closed.Load() {
		return flow.ErrClosed
	}
	var wrong problems.List
	for i, c := range changes {
		path := fmt.Sprintf("changes[%d].", i)
		if c.Forward < 0 || c.Forward >= len(n.config.Forwards) {
			wrong.Add(path+"Forward", c.Forward, flow.ErrOutOfRange, "0..%d", len(n.config.Forwards)-1)
		} else if targets := len(n.config.Forwards[c.Forward].Targets); c.Target < 0 || c.Target >= targets {
			wrong.Add(path+"Target", c.Target, flow.ErrOutOfRange, "0..%d", targets-1)
		}
		problems.Constant(&wrong, path+"State", c.State, numTargetStates)
	}
	if err := wrong.Err(); err != nil {
		return err
	}
	n.endGrace(now)
	r, states, gone := n.routes.Load(), map[int][]forwards.State{}, uint64(0)
	for _, c := range changes {
		f := r.forwards.Get(uint32(c.Forward) + 1)
		if states[c.Forward] == nil {
			states[c.Forward] = f.States()
		}
		if states[c.Forward][c.Target] = forwards.State(c.State); c.State == TargetGone {
			for _, s := range f.Shards {
				gone |= 1 << s
			}
		}
		n.config.Forwards[c.Forward].Targets[c.Target].State = c.State
	}
	for i, all := range states {
		r.forwards.Get(uint32(i)+1).Choose(all, &n.tables)
	}
	for ; gone != 0; gone &= gone - 1 {
		n.shards[bits.TrailingZeros64(gone)].cutGone(now, r)
	}
	return nil
}

// cutGone ends the sessions whose target is gone. The lock of the shard must not be held.
func (sh *shard) cutGone(now flow.Time, r *routes) {
	sh.Lock()
	sh.expireAll(now)
	sh.Unlock()
	sh.eachForwarded(func(id flow.ID, s *flow.Session) {
		t := ports.TupleOf(id, s)
		if f := r.forwarding(id, s); f != 0 && r.forwards.Get(f).State(s.Key.VNI(), t.Inside) == forwards.Gone {
			sh.cutForwarded(now, id, s, CutTarget)
		}
	})
}
