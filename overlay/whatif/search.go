// The search for a recommendation: which settings are simulated, and in which order.

package whatif

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// search is one Recommend. Its steps:
//
//	generous   the shortest idle timeout and the longest with as many ports as there can be: their
//	           peaks are what nodes need, for ports are given from the lowest up
//	longest    with what the shortest needs, the longest timeout that refuses nothing
//	settle     a block less refuses; where one of both is not so, from there up or down, in steps that
//	           double and then halve
//	verify     the answer with its headroom
//
// No trial is simulated twice. Trials of a step run together.
type search struct {
	plan     Plan
	ctx      context.Context
	headroom float64
	noCuts   bool
	maxIPs   int
	timeouts []time.Duration // ascending
	most     int             // ports that a node can have
	begun    int             // simulations
	tally    tally

	mu    sync.Mutex
	tried map[trial]*outcome // guarded by mu
}

// trial is what a search simulates.
type trial struct {
	ips, ports int
	idle       time.Duration
	generous   bool // for its peaks only
}

// outcome is what a trial has come to. It has ended with the first refusal, or with the first cut if
// there may be none.
type outcome struct {
	*Result
	refuses, cuts bool
}

// good reports whether a trial has gone to its end.
func (o *outcome) good() bool { return !o.refuses && !o.cuts }

// change puts values into the profile.
func change(c *overlay.ClusterConfig, ips, ports int, idle time.Duration) {
	p := &c.LoadBalancerProfile
	p.ManagedOutboundIPCount, p.AllocatedOutboundPorts, p.IdleTimeout = ips, ports, idle
	p.OutboundIPs, p.OutboundIPPrefixes = nil, nil
	if strings.Contains(c.IPFamilies, "ipv6") {
		p.ManagedOutboundIPCountIPv6 = ips
	}
}

// of returns the trial of ports for each node, on as few IPs as have them.
func (s *search) of(ports int, idle time.Duration) trial {
	ips, _ := s.ips(ports)
	return trial{ips: ips, ports: ports, idle: idle}
}

// try simulates trials together and returns what has become of them, in their order.
func (s *search) try(trials ...trial) ([]*outcome, error) {
	all, errs := make([]*outcome, len(trials)), make([]error, len(trials))
	var tasks []func()
	for i, t := range trials {
		if all[i] = s.tried[t]; all[i] == nil {
			tasks = append(tasks, func() { all[i], errs[i] = s.simulate(t) })
		}
	}
	s.begun += len(tasks)
	s.tally.plan(time.Duration(s.begun+1) * s.plan.Until)
	s.plan.together(tasks)
	return all, errors.Join(errs...)
}

// simulate runs the plan as a trial has it.
func (s *search) simulate(t trial) (*outcome, error) {
	o, passed := new(outcome), time.Duration(0)
	begin := func(by func(*overlay.ClusterConfig, *Workload)) (*running, error) {
		r, err := s.plan.begin(by)
		if err == nil {
			r.plain = t.generous
		}
		return r, err
	}
	put := func(c *overlay.ClusterConfig, _ *Workload) { change(c, t.ips, t.ports, t.idle) }
	var err error
	o.Result, err = s.plan.simulate(s.ctx, begin, put, func(more time.Duration, sim *Simulation) bool {
		passed += more
		s.tally.add(more)
		o.refuses, o.cuts = sim.refuses(), s.noCuts && sim.cuts() > 0
		return o.good()
	})
	if err != nil {
		return nil, err
	}
	s.tally.add(s.plan.Until - passed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried[t] = o
	return o, nil
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

// demand is what a node needs with an idle timeout.
type demand struct {
	ports   int   // in whole blocks
	peak    int   // ports as they were in use
	refused error // if as many as there can be are not enough
	cuts    bool  // conversations are cut, and may not be
}

// needs finds what nodes need with timeouts, by index.
func (s *search) needs(timeouts ...int) ([]demand, error) {
	var trials []trial
	for _, i := range timeouts {
		trials = append(trials, trial{s.maxIPs, s.most, s.timeouts[i], true})
	}
	all, err := s.try(trials...)
	if err != nil {
		return nil, err
	}
	demands := make([]demand, len(all))
	for i, o := range all {
		d := &demands[i]
		if d.cuts = o.cuts; o.refuses {
			d.refused = fmt.Errorf("%w: with %d ports for each node on %d outbound IPs and an idle timeout of %s flows are refused after %v (%v)",
				ErrNoSetting, s.most, s.maxIPs, short(trials[i].idle), o.Total.FirstRefused, o.Refusals[0].Reason)
		}
		for _, n := range o.Nodes {
			d.peak = max(d.peak, n.Peak)
		}
		d.ports = max(blocks(d.peak), snat.BlockSize)
	}
	return demands, nil
}

func (s *search) run() (*Recommendation, error) {
	if s.mostPorts(); s.most == 0 {
		return nil, fmt.Errorf("%w: %d outbound IPs have less than %d ports for each node", ErrNoSetting, s.maxIPs, snat.BlockSize)
	}
	ports, idle, err := s.generous()
	if err != nil {
		return nil, err
	}
	least, err := s.settle(ports, idle)
	if err != nil {
		return nil, err
	}
	return s.verify(least, idle)
}

// generous finds how many ports a node needs with the shortest idle timeout that may be, and the
// longest timeout that does with them.
func (s *search) generous() (ports int, idle time.Duration, err error) {
	low, high := 0, len(s.timeouts)-1
	first := []int{low}
	if low < high {
		first = append(first, high)
	}
	all, err := s.needs(first...)
	if err != nil {
		return 0, 0, err
	}
	least, long := all[0], all[len(all)-1]
	switch {
	case least.refused != nil && long.refused != nil:
		return 0, 0, least.refused
	case long.cuts:
		return 0, 0, fmt.Errorf("%w: with the longest idle timeout, %s, conversations are cut", ErrNoSetting, short(s.timeouts[high]))
	case least.cuts && least.refused == nil:
		if low, least, err = s.uncut(low+1, high, long); err != nil {
			return 0, 0, err
		}
	}
	if long.refused == nil && (least.refused != nil || long.ports <= least.ports) {
		return long.ports, s.timeouts[high], nil
	}
	idle, err = s.longest(low, high, least, long)
	return least.ports, idle, err
}

// uncut finds the first of timeouts with which no conversation is cut, and what it needs. Of the last
// one that is known.
func (s *search) uncut(low, high int, long demand) (int, demand, error) {
	for low < high {
		mid := (low + high) / 2
		d, err := s.needs(mid)
		switch {
		case err != nil:
			return 0, demand{}, err
		case d[0].cuts && d[0].refused == nil:
			low = mid + 1
		default:
			high, long = mid, d[0]
		}
	}
	return high, long, long.refused
}

// longest finds the longest idle timeout between two, by index, that does with the ports that the
// shorter one needs; the longer one does not. It begins where ports that grow evenly with the timeout
// would be as many, and lets two that follow each other run together.
func (s *search) longest(low, high int, least, long demand) (time.Duration, error) {
	guess := low
	if long.refused == nil {
		first, last := s.timeouts[low], min(s.timeouts[high], s.plan.Until)
		share := float64(least.ports-least.peak) / float64(long.peak-least.peak) // of the way between the two
		for guess+1 < high && float64(s.timeouts[guess+1]-first) <= share*float64(last-first) {
			guess++
		}
	}
	probable := guess
	bottom := low // does, as far as is known
	for high--; ; guess = (bottom + high + 1) / 2 {
		trials := []trial{s.of(least.ports, s.timeouts[guess])}
		if guess < high {
			trials = append(trials, s.of(least.ports, s.timeouts[guess+1]))
		}
		if guess == probable && least.ports > snat.BlockSize {
			trials = append(trials, s.of(least.ports-snat.BlockSize, s.timeouts[guess]))
		}
		all, err := s.try(trials...)
		switch {
		case err != nil:
			return 0, err
		case guess == low && (guess == high || !all[1].good()):
			return s.timeouts[low], nil
		case !all[0].good():
			high = guess - 1
		case guess == high || !all[1].good():
			return s.timeouts[guess], nil
		default:
			bottom = guess + 1
		}
		if bottom == high {
			return s.timeouts[bottom], nil
		}
	}
}

// settle finds, near a number of ports, one that refuses nothing while a block less does. It tries the
// two, and goes on only if they are not so: away from the number in steps that double until it has one
// of each sort, and then by halves.
func (s *search) settle(ports int, idle time.Duration) (int, error) {
	const block = snat.BlockSize
	trials := []trial{s.of(ports, idle)}
	if ports > block {
		trials = append(trials, s.of(ports-block, idle))
	}
	if s.headroom > 0 {
		if with, ok := s.withHeadroom(ports, idle); ok {
			trials = append(trials, with)
		}
	}
	all, err := s.try(trials...)
	if err != nil {
		return 0, err
	}
	bad, good := 0, 0 // ports; 0 ports refuse everything
	if all[0].good() {
		if good = ports; good > block && all[1].good() {
			good -= block
		} else {
			return good, nil
		}
		for step := block; bad == 0 && good > block; step *= 2 {
			next := max(good-step, block)
			if ok, err := s.does(next, idle); err != nil {
				return 0, err
			} else if ok {
				good = next
			} else {
				bad = next
			}
		}
	} else {
		bad = ports
		for step := block; good == 0; step *= 2 {
			if bad >= s.most {
				return 0, fmt.Errorf("%w: %d ports for each node refuse flows, which as many on %d outbound IPs do not", ErrNoSetting, bad, s.maxIPs)
			}
			next := min(bad+step, s.most)
			if ok, err := s.does(next, idle); err != nil {
				return 0, err
			} else if ok {
				good = next
			} else {
				bad = next
			}
		}
	}
	for good-bad > block {
		mid := (good + bad) / 2 / block * block
		ok, err := s.does(mid, idle)
		switch {
		case err != nil:
			return 0, err
		case ok:
			good = mid
		default:
			bad = mid
		}
	}
	return good, nil
}

// does reports whether a number of ports does.
func (s *search) does(ports int, idle time.Duration) (bool, error) {
	all, err := s.try(s.of(ports, idle))
	return err == nil && all[0].good(), err
}

// withHeadroom returns the trial of a number of ports with the headroom; ok is false if there may not
// be so many.
func (s *search) withHeadroom(least int, idle time.Duration) (t trial, ok bool) {
	ports := least
	if s.headroom > 0 {
		ports = blocks(int(math.Ceil(float64(least) / (1 - s.headroom))))
	}
	t = s.of(ports, idle)
	return t, t.ips > 0
}

// verify returns the recommendation of a number of ports that settle has found.
func (s *search) verify(least int, idle time.Duration) (*Recommendation, error) {
	t, ok := s.withHeadroom(least, idle)
	if !ok {
		return nil, fmt.Errorf("%w: with the headroom %d ports for each node are more than %d outbound IPs have", ErrNoSetting, least, s.maxIPs)
	}
	trials := []trial{t}
	if least > snat.BlockSize {
		trials = append(trials, s.of(least-snat.BlockSize, idle))
	}
	all, err := s.try(trials...)
	if err != nil {
		return nil, err
	}
	if !all[0].good() {
		return nil, fmt.Errorf("%w: %d ports for each node refuse nothing, but the %d with headroom do", ErrNoSetting, least, t.ports)
	}
	r := &Recommendation{IPs: t.ips, Ports: t.ports, Least: least, IdleTimeout: idle, Cluster: s.plan.Cluster, Result: all[0].Result}
	change(&r.Cluster, r.IPs, r.Ports, idle)
	if len(all) > 1 {
		r.Refusing = all[1].Result
	}
	return r, nil
}
