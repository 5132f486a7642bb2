// Network security groups: where configurations name them, and which of them a flow of a
// backend meets.

package lb

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// checkSecurity compiles the network security groups of a configuration, and returns nil
// if it has none. d is its dataplane.
func checkSecurity(l *problems.List, c *nsg.Config, d *snat.Dataplane) *nsg.Compiled {
	const field = "NetworkSecurity"
	if c == nil {
		return nil
	}
	groups, err := nsg.Compile(*c)
	l.Include(field, err)
	if d.Admit != nil {
		l.Include("", problems.New("Admit", "func", flow.ErrConflict, "%s decides which flows begin; give one of them", field))
	}
	return groups
}

// checkWithoutGroup checks that by groups, which are in the configuration at path, interfaces
// without group are what the SKU makes of them, as far as there is a load balancer (SKU
// document).
func (r *resolved) checkWithoutGroup(groups *nsg.Config, path string, p *problems.List) {
	if groups == nil || len(r.FrontendIPConfigurations) == 0 {
		return
	}
	want := nsg.Closed
	if r.SKU == Basic {
		want = nsg.Open
	}
	if is := groups.WithoutGroup; is != want && is <= nsg.Open { // else it is reported already
		p.Add(path+"NetworkSecurity.WithoutGroup", is, flow.ErrConflict, "SKU %v is %v", r.SKU, want)
	}
}

// admission returns what [snat.Dataplane].Admit has to be for groups to decide about the
// flows of backends. The groups asked are those of the backend's own address, also where a
// flow is for a pod behind it or, by floating IP, for a frontend.
func admission(groups *nsg.Compiled, backends []Backend) func(snat.NewFlow) flow.Reason {
	own := ownAddrsOf(backends)
	return func(f snat.NewFlow) flow.Reason {
		direction := nsg.Outbound
		if f.From == flow.Outside {
			direction = nsg.Inbound
		}
		return groups.Admit(direction, f.Protocol, f.Inside, f.Remote, own.of(f.Name, f.Inside.Addr().Is6()))
	}
}

// SecurityGroups returns the network security groups in force, or nil if there are none.
// Their Explain says which rule decides about a flow.
func (l *LoadBalancer) SecurityGroups() *nsg.Compiled {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.inForce.security
}

// SecurityGroups returns the network security groups in force, or nil if there are none.
// Their Explain says which rule decides about a flow.
func (e *Egress) SecurityGroups() *nsg.Compiled {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.state.inForce.security
}
