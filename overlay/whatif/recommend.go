// Recommendation: the cheapest setting of a load balancer that refuses nothing.

package whatif

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
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
	Ports       int           // LoadBalancerProfile.AllocatedOutboundPorts, with the headroom
	IdleTimeout time.Duration // LoadBalancerProfile.IdleTimeout

	Cluster overlay.ClusterConfig // the plan's with these three
	Result  *Result               // what it comes to: no refusals, nor cuts with NoCuts

	// Least is how many ports refuse nothing, without headroom. Refusing is what comes to with 8
	// fewer, until soon after the first refusal; nil where Least is 8, the fewest that there can be.
	Least    int
	Refusing *Result // see Least
}

// Recommend searches for the cheapest setting of a plan whose outbound type is the load balancer.
//
// A node takes its ports from the lowest up, so that a simulation with as many as there can be says
// how many it needs. One with each of the shortest and the longest idle timeout tell whether that
// matters, and if so a few more find which it is. The answer is then simulated as it is, and with a
// step less. The error is about the plan, or that of ctx, or wraps
// [ErrNoSetting]: flows are refused for other reasons than ports, the most IPs have too few, or all
// idle timeouts cut.
//
// Cost: at most four simulations, of which two may run together, if idle timeouts matter three more,
// and four more if with NoCuts the shortest cuts.
func Recommend(ctx context.Context, p Plan, w Wish) (*Recommendation, error) {
	if err := w.validate(p); err != nil {
		return nil, err
	}
	s := search{plan: p, ctx: ctx, headroom: w.Headroom, noCuts: w.NoCuts, maxIPs: w.MaxIPs, timeouts: slices.Clone(w.IdleTimeouts)}
	def(&s.maxIPs, 100)
	if len(s.timeouts) == 0 {
		for _, m := range []time.Duration{4, 5, 10, 15, 20, 30, 45, 60, 90, 120} {
			if len(s.timeouts) == 0 || m*time.Minute <= p.Until {
				s.timeouts = append(s.timeouts, m*time.Minute)
			}
		}
	}
	slices.Sort(s.timeouts)
	return s.run()
}

func (w Wish) validate(p Plan) error {
	var l problems.List
	l.Include("Plan", p.validate())
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

// search is one Recommend.
type search struct {
	plan     Plan
	ctx      context.Context
	headroom float64
	noCuts   bool
	maxIPs   int
	timeouts []time.Duration // ascending
	most     int             // ports that a node can have
}

// change puts values into the profile.
func change(c *overlay.ClusterConfig, ips, ports int, idle time.Duration) {
	p := &c.LoadBalancerProfile
	p.ManagedOutboundIPCount, p.AllocatedOutboundPorts, p.IdleTimeout = ips, ports, idle
	p.OutboundIPs, p.OutboundIPPrefixes = nil, nil
	if strings.Contains(c.IPFamilies, "ipv6") {
		p.ManagedOutboundIPCountIPv6 = ips
	}
}

// simulate runs the plan with values; early ends it with the first refusal, or cut if there may be
// none.
func (s *search) simulate(ips, ports int, idle time.Duration, early bool) (*Result, error) {
	return s.plan.simulate(s.ctx, func(c *overlay.ClusterConfig, _ *Workload) { change(c, ips, ports, idle) }, func(_ time.Duration, sim *Simulation) bool {
		return !early || !sim.refuses() && !(s.noCuts && sim.cuts() > 0)
	})
}

// demand is how many ports a node needs with an idle timeout, in whole blocks, or that it cuts
// conversations and may not.
type demand struct {
	ports int
	cuts  bool
}

// need finds what an idle timeout needs.
func (s *search) need(idle time.Duration) (demand, error) {
	r, err := s.simulate(s.maxIPs, s.most, idle, true)
	if err != nil {
		return demand{}, err
	}
	if r.Total.Refused > 0 {
		return demand{}, fmt.Errorf("%w: with %d ports for each node on %d outbound IPs and an idle timeout of %s flows are refused after %v (%v)",
			ErrNoSetting, s.most, s.maxIPs, short(idle), r.Total.FirstRefused, r.Refusals[0].Reason)
	}
	if s.noCuts && r.Total.Cut+r.Total.Broken > 0 {
		return demand{cuts: true}, nil
	}
	ports := 0
	for _, n := range r.Nodes {
		ports = max(ports, n.Peak)
	}
	return demand{ports: max(blocks(ports), snat.BlockSize)}, nil
}

// blocks rounds up to whole blocks.
func blocks(ports int) int { return (ports + snat.BlockSize - 1) / snat.BlockSize * snat.BlockSize }

// ips returns how many outbound IPs a number of ports for each node needs; ok is false if there
// may not be so many.
func (s *search) ips(ports int) (n int, ok bool) {
	for n = 1; n <= s.maxIPs; n++ {
		c := s.plan.Cluster
		change(&c, n, ports, s.timeouts[0])
		err := c.Validate()
		var few *lb.InsufficientPortsError
		if !errors.As(err, &few) {
			return n, true // of other problems the simulation tells
		}
		// The number that would do if each had as many as these have on average.
		n = max(n, int(few.Required*int64(n)/max(few.Available, 1))-1)
	}
	return 0, false
}

// mostPorts finds out how many ports a node can have.
func (s *search) mostPorts() {
	low, high := 0, 64_000/snat.BlockSize // low has been found good
	for low < high {
		mid := (low + high + 1) / 2
		if _, ok := s.ips(mid * snat.BlockSize); ok {
			low = mid
		} else {
			high = mid - 1
		}
	}
	s.most = low * snat.BlockSize
}

// least finds how many ports a node needs with the shortest idle timeout that may be, and the longest
// timeout that does with them.
func (s *search) least() (ports int, idle time.Duration, err error) {
	low, high := 0, len(s.timeouts)-1 // low does
	var least, long demand            // with the shortest timeout and the longest
	var err2 error
	tasks := []func(){func() { least, err = s.need(s.timeouts[low]) }}
	if low < high {
		tasks = append(tasks, func() { long, err2 = s.need(s.timeouts[high]) })
	}
	s.plan.together(tasks)
	if low == high {
		long = least
	}
	switch {
	case err != nil:
		return 0, 0, err
	case err2 != nil && !errors.Is(err2, ErrNoSetting):
		return 0, 0, err2
	case long.cuts:
		return 0, 0, fmt.Errorf("%w: with the longest idle timeout, %s, conversations are cut", ErrNoSetting, short(s.timeouts[high]))
	case least.cuts:
		if low, least, err = s.uncut(low+1, high, long, err2); err != nil {
			return 0, 0, err
		}
	}
	if err2 == nil && long.ports <= least.ports {
		low, least = high, long
	}
	for high--; low < high; {
		mid := (low + high + 1) / 2
		ips, _ := s.ips(least.ports)
		r, err := s.simulate(ips, least.ports, s.timeouts[mid], true)
		switch {
		case err != nil:
			return 0, 0, err
		case r.Total.Refused == 0:
			low = mid
		default:
			high = mid - 1
		}
	}
	return least.ports, s.timeouts[low], nil
}

// uncut finds the first of timeouts with which no conversation is cut, and what it needs, or that it
// refuses. Of the last one both are known.
func (s *search) uncut(low, high int, long demand, err error) (int, demand, error) {
	for low < high {
		mid := (low + high) / 2
		d, err2 := s.need(s.timeouts[mid])
		switch {
		case err2 != nil && !errors.Is(err2, ErrNoSetting):
			return 0, demand{}, err2
		case err2 == nil && d.cuts:
			low = mid + 1
		default:
			high, long, err = mid, d, err2
		}
	}
	return high, long, err
}

func (s *search) run() (*Recommendation, error) {
	if s.mostPorts(); s.most == 0 {
		return nil, fmt.Errorf("%w: %d outbound IPs have less than %d ports for each node", ErrNoSetting, s.maxIPs, snat.BlockSize)
	}
	least, idle, err := s.least()
	if err != nil {
		return nil, err
	}
	for { // once, but for ports that are not given from the lowest up
		r, err := s.verify(least, idle)
		switch {
		case err != nil:
			return nil, err
		case r.Result.Total.Refused > 0:
			least += snat.BlockSize
		case r.Refusing != nil && r.Refusing.Total.Refused == 0:
			least -= snat.BlockSize
		default:
			return r, nil
		}
	}
}

// verify simulates a recommendation as it is, and with a step less than refuses nothing.
func (s *search) verify(least int, idle time.Duration) (*Recommendation, error) {
	r := &Recommendation{Least: least, IdleTimeout: idle, Ports: least, Cluster: s.plan.Cluster}
	if s.headroom > 0 {
		r.Ports = blocks(int(math.Ceil(float64(least) / (1 - s.headroom))))
	}
	var ok bool
	if r.IPs, ok = s.ips(r.Ports); !ok {
		return nil, fmt.Errorf("%w: %d ports for each node are more than %d outbound IPs have", ErrNoSetting, r.Ports, s.maxIPs)
	}
	change(&r.Cluster, r.IPs, r.Ports, idle)
	var err1, err2 error
	tasks := []func(){func() { r.Result, err1 = s.simulate(r.IPs, r.Ports, idle, false) }}
	if fewer := least - snat.BlockSize; fewer > 0 {
		tasks = append(tasks, func() {
			ips, _ := s.ips(fewer)
			r.Refusing, err2 = s.simulate(ips, fewer, idle, true)
		})
	}
	s.plan.together(tasks)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return r, nil
}
