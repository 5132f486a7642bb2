// When the flows of each backend end, and how: from the timers of the rules to the
// policies of the translator's instances. Read the TCP reset document first.

package lb

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Specification constants (TCP reset and outbound rules documents).
const (
	minIdleTimeout         = 4 * time.Minute
	defaultIdleTimeout     = minIdleTimeout
	maxOutboundIdleTimeout = 120 * time.Minute
	maxRuleIdleTimeout     = 30 * time.Minute
	maxRuleIdleTimeoutNew  = 100 * time.Minute
)

// CheckIdleTimeout returns nil if timeout is 0, for the default, or whole minutes
// from 4 to longest; longest 0 means 120 minutes, what an outbound rule accepts.
// Otherwise it wraps flow.ErrOutOfRange; the message begins with "IdleTimeout".
func CheckIdleTimeout(timeout, longest time.Duration) error {
	return checkMinutes("IdleTimeout", timeout, cmp.Or(longest, maxOutboundIdleTimeout))
}

func checkMinutes(field string, d, longest time.Duration) error {
	if d == 0 || d >= minIdleTimeout && d <= longest && d%time.Minute == 0 {
		return nil
	}
	return problems.New(field, d, flow.ErrOutOfRange, "valid are whole minutes 4..%d, or 0 for the default", longest/time.Minute)
}

// ending is when the flows that a rule translates end, and how.
type ending struct {
	idlePath, resetPath string // of the fields that say so
	idle                time.Duration
	reset               bool // TCP only
}

// ending returns that of outbound rule i.
func (r *resolved) ending(i int) ending {
	o, path := &r.OutboundRules[i], fmt.Sprintf("OutboundRules[%d]", i)
	return ending{path + ".IdleTimeout", path + ".EnableTCPReset", cmp.Or(o.IdleTimeout, defaultIdleTimeout), o.EnableTCPReset}
}

// lentEnding returns that of the load-balancing rule at path, which is the same
// for all: the rule's own timers are those of inbound flows.
func lentEnding(path string) ending {
	return ending{path + ": outbound idle timeout", path + ": outbound TCP reset", defaultIdleTimeout, false}
}

// end notes how flows of protocol p of a backend end. Two rules that serve the same
// flows must agree, because the translator keeps one policy per instance and not
// one per port. Nobody changes e any more.
func (r *resolved) end(backend int, p snat.Protocol, e *ending) {
	if r.endings == nil {
		r.endings = make([][2]*ending, len(r.Backends))
	}
	first := &r.endings[backend][p-snat.TCP]
	if *first == nil {
		*first = e
		return
	}
	const one = "differs from %s %v, which serves the same backends; the flows of one backend and protocol have one idle timeout and reset setting"
	if f := *first; e.idle != f.idle {
		r.Include("", problems.New(e.idlePath, e.idle, ErrUnsupported, one, f.idlePath, f.idle))
	} else if p == snat.TCP && e.reset != f.reset {
		r.Include("", problems.New(e.resetPath, e.reset, ErrUnsupported, one, f.resetPath, f.reset))
	}
}

// policy returns the policy of a backend, and false if no rule serves it.
func (r *resolved) policy(backend int) (p snat.Policy, ok bool) {
	p.Timeouts = r.Timeouts
	if b := &r.Backends[backend]; b.leavesDirectly() { // which has no other way that rules could say anything about
		p.IdleTimeout = defaultIdleTimeout
		return p, true
	}
	if r.endings == nil {
		return p, false
	}
	tcp, udp := r.endings[backend][0], r.endings[backend][1]
	switch {
	case tcp == nil && udp == nil:
		return p, false
	case tcp == nil:
		p.IdleTimeout = udp.idle
	default:
		p.IdleTimeout, p.EnableTCPReset = tcp.idle, tcp.reset
		if udp != nil && udp.idle != tcp.idle {
			p.Timeouts.UDP = cmp.Or(p.Timeouts.UDP, udp.idle)
			p.Timeouts.UDPReplied = cmp.Or(p.Timeouts.UDPReplied, udp.idle)
		}
	}
	return p, true
}

// setPolicies gives the instances of t, one per backend, their policies. That of
// the first backend that a rule serves is t's own, and the policy of backends that
// none serves. The forwards of t have theirs already, which count too. next learns how many
// there can be while t runs. Too many are a problem of the load balancer whose rules go beyond
// that.
func (r *resolved) setPolicies(t *snat.Config, next *inForce) {
	t.Policy = snat.Policy{IdleTimeout: defaultIdleTimeout, Timeouts: r.Timeouts}
	var own []snat.Policy // different ones
	for b := range r.Backends {
		p, ok := r.policy(b)
		if !ok {
			continue
		}
		if !slices.Contains(own, p) {
			own = append(own, p)
		}
		if p == own[0] {
			t.Policy = p
		} else {
			t.Instances[b].Policy = new(p)
		}
	}
	if len(own) == 0 {
		own = append(own, t.Policy)
	}
	most, why := flow.MaxShards, fmt.Sprintf("a translator has at most %d", flow.MaxShards)
	if r.former != nil {
		most = r.former.shards
		why = fmt.Sprintf("this load balancer began with %d shards, which is the most; a new one, or with more Shards, has more", most)
	}
	path, of := "OutboundRules", r
	if len(own) <= most {
		for i, f := range t.Forwards {
			if f.Policy == nil || slices.Contains(own, *f.Policy) {
				continue
			}
			if own = append(own, *f.Policy); len(own) == most+1 {
				of = r.balancers()[next.forwards[i].balancer]
			}
		}
		if path = "LoadBalancingRules and InboundNATRules, with OutboundRules"; of != r {
			path = "LoadBalancingRules and InboundNATRules, with those of LoadBalancer"
		}
	}
	if len(own) > most {
		of.Include("", problems.New(path+": different idle timeouts and reset settings", len(own), ErrUnsupported, "%s", why))
	}
	if next.policies = len(own); r.former != nil {
		next.policies = max(r.former.policies, len(own))
	}
	next.shards = next.mostPolicies(&t.Dataplane)
}

// mostPolicies returns how many shards the translator has, and so how many different policies
// there can be while it runs.
func (f *inForce) mostPolicies(d *snat.Dataplane) int {
	return max(cmp.Or(d.Shards, flow.DefaultShards), f.policies)
}
