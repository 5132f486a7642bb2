// From rules to what the translator forwards.

package lb

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/snat"
)

// forwarded is what a rule has become: a forward of the translator.
type forwarded struct {
	balancer    int // of those in force
	opening     *opening
	frontend    netip.Addr
	first       uint16 // frontend port; 0 is all
	backendPort uint16 // 0 is the frontend's
	backends    []int  // by target
}

// forwards returns the forwards of all rules, and what each is for. ports are the
// mappings in force.
//
// A load-balancing rule is one forward. An inbound NAT rule is one for each backend, and
// those ports of a range that nobody has are forwards without target, so that what
// comes to them is counted as [flow.ReasonNoTarget]. Ports that somebody has had, which
// are vacated, stay forwards of their own, so that the flows of their former owners go
// on.
func (r *resolved) forwards(ports, vacated []PortMapping) (all []snat.Forward, of []forwarded) {
	add := func(o *opening, first, last, backendPort uint16, backends []int) {
		f := snat.Forward{
			Frontend: r.FrontendIPConfigurations[o.frontend].addr(), Protocol: o.protocol, FirstPort: first, LastPort: last,
			Distribution: o.distribution, Floating: o.floating, FromInside: r.internal, Policy: r.inboundPolicy(o),
		}
		is6 := f.Frontend.Is6()
		f.Targets = make([]snat.Target, 0, len(backends))
		for _, b := range backends {
			a := r.Backends[b].addr(is6)
			f.Targets = append(f.Targets, snat.Target{Instance: r.Backends[b].Name, Addr: a, Port: backendPort})
		}
		all, of = append(all, f), append(of, forwarded{opening: o, frontend: f.Frontend, first: first, backendPort: backendPort, backends: backends})
	}
	for i := range r.openings {
		o := &r.openings[i]
		switch {
		case o.natRule == "":
			backendPort := o.backendPort
			if o.floating {
				backendPort = 0
			}
			last := o.last
			if o.haPorts {
				last = 0
			}
			add(o, o.first, last, backendPort, r.served(o))
			continue
		}
		own := ports[:len(r.served(o))]
		ports = ports[len(own):]
		own = slices.Clone(own)
		for len(vacated) > 0 && vacated[0].InboundNATRule == o.natRule {
			own, vacated = append(own, vacated[0]), vacated[1:]
		}
		slices.SortFunc(own, func(a, b PortMapping) int { return cmp.Compare(a.FrontendPort, b.FrontendPort) })
		next := int(o.first) // the first port that is not accounted for
		gap := func(end int) {
			if next < end {
				add(o, uint16(next), uint16(end-1), 0, nil)
			}
			next = end + 1
		}
		for _, m := range own {
			gap(int(m.FrontendPort))
			if m.Backend == "" {
				add(o, m.FrontendPort, m.FrontendPort, 0, nil)
				continue
			}
			backendPort := o.backendPort
			if o.floating {
				backendPort = 0
			}
			add(o, m.FrontendPort, m.FrontendPort, backendPort, []int{r.backends[m.Backend]})
		}
		gap(int(o.last) + 1)
	}
	return all, of
}

// udpIdleTimeout is that of inbound UDP flows, whatever the rule says: our choice, since
// the idle timeout of a rule is one of TCP (TCP reset document).
const udpIdleTimeout = 4 * time.Minute

// inboundPolicy returns the policy of what an opening forwards. Those of equal effect
// are equal, since different ones take up shards.
func (r *resolved) inboundPolicy(o *opening) *snat.Policy {
	p := snat.Policy{IdleTimeout: udpIdleTimeout, Timeouts: r.Timeouts}
	if covers(o.protocol, snat.TCP) {
		p.IdleTimeout, p.EnableTCPReset = cmp.Or(o.idle, defaultIdleTimeout), o.reset && (!o.haPorts || r.HAPortsTCPReset)
	}
	if p.IdleTimeout != udpIdleTimeout {
		p.Timeouts.UDP = cmp.Or(p.Timeouts.UDP, udpIdleTimeout)
	}
	return &p
}
