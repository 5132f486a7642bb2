// Recommendation: the cheapest setting of a load balancer that refuses nothing.

package whatif

import (
	"context"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// Wish is what a recommendation has to meet.
type Wish struct {
	// Headroom is the share of a node's ports that stays free at the peak, 0..0.9.
	Headroom float64

	// NoCuts rules out idle timeouts with which conversations are cut or broken, because they rest for
	// longer.
	NoCuts bool

	// IdleTimeouts are those to choose from, 4 to 120 whole minutes; none means 4, 5, 10, 15, 20,
	// 30, 45, 60, 90 and 120 minutes, without those longer than the plan, which cannot show what they
	// hold. 4 minutes are there always.
	IdleTimeouts []time.Duration

	// MaxIPs is how many outbound IPs there may be, 1..100; 0 means 100, which is the most that AKS
	// manages.
	MaxIPs int
}

// Recommendation is the cheapest setting without a refusal: of those the one with the fewest
// outbound IPs, of these with the fewest ports for each node, and of these with the longest idle
// timeout.
type Recommendation struct {
	IPs         int           // LoadBalancerProfile.ManagedOutboundIPCount, in place of own ones
	Ports       int           // LoadBalancerProfile.AllocatedOutboundPorts, the fewest whose peak leaves the headroom
	IdleTimeout time.Duration // LoadBalancerProfile.IdleTimeout

	// ShortestIdle is the shortest idle timeout that does with as many ports, and so do those between: IdleTimeout
	// itself if shorter ones cut, need more, or are not known to do. TooLong is the next longer one to choose
	// from, which needs more ports or refuses; 0 if IdleTimeout is the longest. Both follow from simulations.
	ShortestIdle, TooLong time.Duration

	Cluster overlay.ClusterConfig // the plan's with these three
	Result  *Result               // what it comes to: no refusals, nor cuts with NoCuts

	// Least is how many ports refuse nothing, without headroom: the peak, in whole blocks. Refusing is what comes to with 8
	// fewer, until soon after the first refusal; nil where Least is 8, the fewest that there can be.
	Least    int
	Refusing *Result // see Least
}

// Recommend searches for the cheapest setting of a plan whose outbound type is the load balancer.
//
// A node takes its ports from the lowest up, so that a simulation with as many as there can be says
// how many it needs: its peak. One with each of the shortest and the longest idle timeout tell whether
// that matters. A longer one holds more ports, unless clients that a shorter one cuts connect anew: so if
// the longest needs no more than the shortest it is taken, and else the longest of those between them
// that does with the ports of the shortest. The answer is simulated as it is, and so is a block less for each node
// than its peak needs, which refuses. If one of the two is not as expected, the nearest pair that is so takes its
// place. The error is about the plan, or that of ctx, or wraps [ErrNoSetting]: flows are refused for other reasons
// than ports, the most IPs have too few, or all idle timeouts cut.
//
// Cost: one whole simulation for what is needed, and one of the answer. Besides, the beginning of one with the
// longest timeout, until it needs more than the shortest or to its end, and of one with a block less, until soon after
// the first refusal. If idle timeouts matter two more for each time that they are halved, of which those end soon that do
// not do; if with NoCuts the shortest cuts, four more. Where a peak does not say what is needed, at most 26 more, and
// nothing is known for which that is so. Simulations end with the first minute in which there is a
// refusal, and none is made twice; each holds its own cluster in memory, and at most three run together.
func Recommend(ctx context.Context, p Plan, w Wish) (*Recommendation, error) {
	if err := w.validate(p); err != nil {
		return nil, err
	}
	s := search{
		plan: p, ctx: ctx, headroom: w.Headroom, noCuts: w.NoCuts, maxIPs: w.MaxIPs, timeouts: slices.Clone(w.IdleTimeouts),
		tally: tally{tell: p.Progress, planned: usualTrials * p.Until}, tried: make(map[trial]*outcome),
	}
	def(&s.maxIPs, 100)
	if len(s.timeouts) == 0 {
		for _, m := range []time.Duration{4, 5, 10, 15, 20, 30, 45, 60, 90, 120} {
			if len(s.timeouts) == 0 || m*time.Minute <= p.Until {
				s.timeouts = append(s.timeouts, m*time.Minute)
			}
		}
	}
	slices.Sort(s.timeouts)
	s.timeouts = slices.Compact(s.timeouts)
	return s.run()
}

// usualTrials is how many simulations a recommendation takes as a rule.
const usualTrials = 5

func (w Wish) validate(p Plan) error {
	var l problems.List
	l.Include("Plan", p.validate())
	if p.WarmUp != 0 {
		l.Add("Plan.WarmUp", p.WarmUp, flow.ErrConflict, "what is recommended is to do from the beginning")
	}
	if p.Cluster.OutboundType != overlay.OutboundLoadBalancer || p.Cluster.LoadBalancerSKU != lb.Standard {
		l.Add("Plan.Cluster.OutboundType", problems.Raw(p.Cluster.OutboundType.String()), flow.ErrConflict, "there are ports to recommend of a Standard load balancer only")
	}
	number(&l, "Wish.Headroom", w.Headroom, 0, 0.9)
	for i, d := range w.IdleTimeouts {
		if d < 4*time.Minute || d > 120*time.Minute || d%time.Minute != 0 {
			l.Add(problems.Index("Wish.IdleTimeouts", i), d, flow.ErrOutOfRange, "4 to 120 whole minutes")
		}
	}
	problems.Between(&l, "Wish.MaxIPs", w.MaxIPs, 0, 100)
	return l.Err()
}
