// The search for a recommendation: which settings are simulated, and in which order.

package whatif

import (
	"context"
	"errors"
	"fmt"
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
//	           peaks are what nodes need, for ports are given from the lowest up. The longest ends as soon
//	           as it is seen to need more
//	longest    the longest timeout that does with the ports and the headroom of the shortest
//	settle     the answer, and a block less than its peak needs, which refuses; where one of both is not
//	           so, from there up or down, in steps that double and then halve
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

// generously returns the trial of an idle timeout with as many ports as there can be.
func (s *search) generously(idle time.Duration) trial {
	return trial{ips: s.maxIPs, ports: s.most, idle: idle, generous: true}
}

// answer returns the trial of the ports that a peak needs with the headroom; ok is false if there may not be so many.
func (s *search) answer(peak int, idle time.Duration) (t trial, ok bool) {
	ports := s.roomFor(peak)
	t = s.of(ports, idle)
	t.limit = s.limit(ports)
	return t, t.ips > 0
}

// limit returns how many of a number of ports may be in use.
func (s *search) limit(ports int) int { return int((1-s.headroom)*float64(ports) + 1e-9) }

// roomFor returns how many ports a peak needs with the headroom.
func (s *search) roomFor(peak int) int {
	ports := least(int(float64(peak) / (1 - s.headroom)))
	for s.limit(ports) < peak {
		ports += snat.BlockSize
	}
	return ports
}

// least returns how many ports have room for a peak: whole blocks, and at least one.
func least(peak int) int {
	return max(snat.BlockSize, (peak+snat.BlockSize-1)/snat.BlockSize*snat.BlockSize)
}

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

func (s *search) run() (*Recommendation, error) {
	if s.mostPorts(); s.most == 0 {
		return nil, fmt.Errorf("%w: %d outbound IPs have less than %d ports for each node", ErrNoSetting, s.maxIPs, snat.BlockSize)
	}
	found, err := s.generous()
	if err != nil {
		return nil, err
	}
	peak, err := s.settle(found.peak, found.idle)
	if err != nil {
		return nil, err
	}
	r, err := s.verify(peak, found.idle)
	if err == nil && peak == found.peak { // else the others are not known to do or not
		r.ShortestIdle, r.TooLong = found.shortest, found.tooLong
	}
	return r, err
}

// choice is an idle timeout, and the peak that it has.
type choice struct {
	peak              int
	idle              time.Duration
	shortest, tooLong time.Duration // see Recommendation
}

// choose returns the choice of a timeout, by index, with which a node has a peak. The shortest that does what is
// asked for has the index low.
func (s *search) choose(peak, at, low int, shortest *outcome) choice {
	c := choice{peak: peak, idle: s.timeouts[at], shortest: s.timeouts[at]}
	if shortest.good() && s.roomFor(shortest.peak) <= s.roomFor(peak) {
		c.shortest = s.timeouts[low]
	}
	if at+1 < len(s.timeouts) {
		c.tooLong = s.timeouts[at+1]
	}
	return c
}

// refused returns the error of refusals with as many ports as there can be.
func (s *search) refused(o *outcome, idle time.Duration) error {
	return fmt.Errorf("%w: with %d ports for each node on %d outbound IPs and an idle timeout of %s flows are refused after %v (%v)",
		ErrNoSetting, s.most, s.maxIPs, short(idle), o.Total.FirstRefused, o.Refusals[0].Reason)
}

// generous chooses the longest idle timeout that does with the ports that the shortest one needs.
func (s *search) generous() (choice, error) {
	low, high := 0, len(s.timeouts)-1
	first, last, err := s.ends()
	switch {
	case err != nil:
		return choice{}, err
	case first.refuses && last.refuses:
		return choice{}, s.refused(first, s.timeouts[low])
	case last.cuts:
		return choice{}, fmt.Errorf("%w: with the longest idle timeout, %s, conversations are cut", ErrNoSetting, short(s.timeouts[high]))
	case first.cuts && !first.refuses:
		if low, first, err = s.uncut(low+1, high, last); err != nil {
			return choice{}, err
		}
	}
	if last.good() && (!first.good() || s.roomFor(last.peak) <= s.roomFor(first.peak)) {
		return s.choose(last.peak, high, low, first), nil
	}
	return s.longest(low, high, first, last)
}

// ends simulates the shortest idle timeout and the longest. The longest exceeds, and ends, as soon as it is
// seen to need more ports than the shortest until then, if that refuses and cuts nothing.
func (s *search) ends() (*outcome, *outcome, error) {
	low, high := s.generously(s.timeouts[0]), s.generously(s.timeouts[len(s.timeouts)-1])
	if low == high {
		all, err := s.try(low)
		return all[0], all[0], err
	}
	s.begins(2)
	var both [2]*attempt
	var errs [2]error
	for until := max(piece, (s.plan.Until / 8).Truncate(piece)); ; until *= 2 {
		var tasks []func()
		for i, t := range [...]trial{low, high} {
			tasks = append(tasks, func() {
				if both[i] == nil {
					both[i], errs[i] = s.begin(t)
				}
				if errs[i] == nil && both[i].good() {
					errs[i] = s.advance(both[i], min(until, s.plan.Until))
				}
			})
		}
		s.plan.together(tasks)
		if err := errors.Join(errs[:]...); err != nil {
			for _, a := range both {
				if a != nil {
					s.giveUp(a)
				}
			}
			return nil, nil, err
		}
		first, last := both[0], both[1]
		if last.against = first.peak; until >= s.plan.Until {
			return s.end(first), s.end(last), nil
		}
		if last.exceeds = first.good() && last.good() && s.roomFor(last.peak) > s.roomFor(first.peak); !last.exceeds {
			continue
		}
		beginning := s.giveUp(last)
		if err := s.advance(first, s.plan.Until); err != nil {
			s.giveUp(first)
			return nil, nil, err
		}
		if o := s.end(first); o.good() {
			return o, beginning, nil
		}
		all, err := s.try(low, high) // what it does in the end has to be known
		return all[0], all[1], err
	}
}

// uncut finds the first of timeouts with which no conversation is cut. What becomes of the last one is known.
func (s *search) uncut(low, high int, last *outcome) (int, *outcome, error) {
	for low < high {
		mid := (low + high) / 2
		all, err := s.try(s.generously(s.timeouts[mid]))
		switch {
		case err != nil:
			return 0, nil, err
		case all[0].cuts && !all[0].refuses:
			low = mid + 1
		default:
			high, last = mid, all[0]
		}
	}
	if last.refuses {
		return 0, nil, s.refused(last, s.timeouts[high])
	}
	return high, last, nil
}

// longest chooses the longest idle timeout between two, by index, that does with the ports that the
// shorter one needs; the longer one does not. It begins where ports that grow evenly with the timeout
// would be as many, and lets two that follow each other run together, and the proof of the first.
func (s *search) longest(low, high int, first, last *outcome) (choice, error) {
	if _, ok := s.answer(first.peak, s.timeouts[low]); !ok {
		return choice{peak: first.peak, idle: s.timeouts[low]}, nil // settle tells
	}
	if last.exceeds {
		high++ // the beginning says that it probably does not
	}
	shortest, peak := low, first.peak
	probable := max(low+1, s.guess(low, high, last))
	for next := probable; low+1 < high; next = (low + high) / 2 {
		var trials []trial
		for _, d := range s.timeouts[next:min(next+2, high)] {
			t, _ := s.answer(first.peak, d)
			trials = append(trials, t)
		}
		tried := len(trials)
		if ports := least(first.peak) - snat.BlockSize; next == probable && ports > 0 { // settle will ask, probably
			trials = append(trials, s.of(ports, s.timeouts[next]))
		}
		all, err := s.try(trials...)
		if err != nil {
			return choice{}, err
		}
		for i, o := range all[:tried] {
			if !o.good() {
				high = next + i
				break
			}
			low, peak = next+i, o.peak
		}
	}
	return s.choose(peak, low, shortest, first), nil
}

// guess returns the timeout between two, by index, that probably needs the ports of the shortest.
func (s *search) guess(low, high int, last *outcome) (i int) {
	more := last.peak - last.against
	if last.refuses || more <= 0 {
		return low
	}
	spare := s.limit(s.roomFor(last.against)) - last.against
	from, to := s.timeouts[low], min(s.timeouts[len(s.timeouts)-1], last.passed)
	for i = low; i+1 < high && float64(s.timeouts[i+1]-from)*float64(more) <= float64(spare)*float64(to-from); i++ {
	}
	return i
}

// settle finds a peak for which the answer refuses nothing while a block less than the peak needs does. It tries the
// one that there has been, and goes on only if that is not so: away from it in steps that double until it has a
// number of ports of each sort, and then by halves.
func (s *search) settle(peak int, idle time.Duration) (int, error) {
	const block = snat.BlockSize
	all, err := s.both(peak, idle)
	if err != nil {
		return 0, err
	}
	if all[0].good() && (len(all) == 1 || !all[1].good()) {
		return peak, nil
	}
	ports := least(peak)
	bad, good := 0, 0 // ports; 0 ports refuse everything
	if all[0].good() {
		good = ports - block
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

// both simulates the answer of a peak, and a block less than that needs, if that is not all.
func (s *search) both(peak int, idle time.Duration) ([]*outcome, error) {
	t, ok := s.answer(peak, idle)
	if !ok {
		return nil, fmt.Errorf("%w: with the headroom each node needs %d ports, and %d without it, and %d outbound IPs have %d for each", ErrNoSetting, t.ports, least(peak), s.maxIPs, s.most)
	}
	trials := []trial{t}
	if ports := least(peak); ports > snat.BlockSize {
		trials = append(trials, s.of(ports-snat.BlockSize, idle))
	}
	return s.try(trials...)
}

// verify returns the recommendation of a peak that settle has found.
func (s *search) verify(peak int, idle time.Duration) (*Recommendation, error) {
	all, err := s.both(peak, idle)
	if err != nil {
		return nil, err
	}
	t, _ := s.answer(peak, idle)
	if !all[0].good() {
		return nil, fmt.Errorf("%w: %d ports for each node refuse nothing, but the %d with headroom do", ErrNoSetting, least(peak), t.ports)
	}
	r := &Recommendation{IPs: t.ips, Ports: t.ports, Least: least(peak), IdleTimeout: idle, Cluster: s.plan.Cluster, Result: all[0].Result}
	change(&r.Cluster, r.IPs, r.Ports, idle)
	if len(all) > 1 {
		r.Refusing = all[1].Result
	}
	return r, nil
}
