// Trials: settings that a search simulates, and what becomes of them.

package whatif

import (
	"errors"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay"
)

// trial is what a search simulates.
type trial struct {
	ips, ports int
	idle       time.Duration
	limit      int  // of the ports that a node uses; 0 is none
	generous   bool // for its peaks only
}

// outcome is what a trial has come to. It has ended with the first refusal, with the first cut if there
// may be none, or beyond its limit.
type outcome struct {
	*Result                // at the end
	passed                 time.Duration
	peak                   int // ports in use at a node
	refuses, cuts, exceeds bool

	against int // peak of the shortest timeout when the longest had this one
}

// good reports whether a trial has gone to its end.
func (o *outcome) good() bool { return !o.refuses && !o.cuts && !o.exceeds }

// attempt is a trial on its way.
type attempt struct {
	trial
	*running
	outcome
}

func (s *search) begin(t trial) (*attempt, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	r, err := s.plan.begin(func(c *overlay.ClusterConfig, _ *Workload) { change(c, t.ips, t.ports, t.idle) })
	if err != nil {
		return nil, err
	}
	r.plain = t.generous
	return &attempt{trial: t, running: r}, nil
}

// advance carries an attempt on until a time, or what ends it.
func (s *search) advance(a *attempt, until time.Duration) error {
	return a.running.advance(s.ctx, until, func(more time.Duration, sim *Simulation) bool {
		a.passed += more
		s.tally.add(more)
		a.peak = sim.peak()
		a.refuses, a.cuts, a.exceeds = sim.refuses(), s.noCuts && sim.cuts() > 0, a.limit > 0 && a.peak > a.limit
		return a.good()
	})
}

// end ends an attempt and notes what it has come to.
func (s *search) end(a *attempt) *outcome {
	a.Result = a.running.Result()
	o := s.giveUp(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried[a.trial] = o
	return o
}

// giveUp ends an attempt, of which nothing is kept but what it has come to so far.
func (s *search) giveUp(a *attempt) *outcome {
	a.close()
	s.tally.add(s.plan.Until - a.passed)
	o := a.outcome
	return &o
}

// begins notes that so many more simulations begin.
func (s *search) begins(more int) {
	s.begun += more
	s.tally.plan(time.Duration(s.begun+1) * s.plan.Until)
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
	s.begins(len(tasks))
	s.plan.together(tasks)
	return all, errors.Join(errs...)
}

// simulate runs the plan as a trial has it.
func (s *search) simulate(t trial) (*outcome, error) {
	a, err := s.begin(t)
	if err != nil {
		return nil, err
	}
	if err := s.advance(a, s.plan.Until); err != nil {
		s.giveUp(a)
		return nil, err
	}
	return s.end(a), nil
}
