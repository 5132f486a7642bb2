package snat

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/dataplane"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
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
	if n.plane.Closed() {
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
	compiled := make([]dataplane.TargetChange, len(changes))
	for i, c := range changes {
		compiled[i] = dataplane.TargetChange{Forward: c.Forward, Target: c.Target, State: forwards.State(c.State)}
		n.config.Forwards[c.Forward].Targets[c.Target].State = c.State
	}
	n.plane.SetTargets(now, compiled)
	return nil
}
