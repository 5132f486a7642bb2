// Egress at run time: the SNAT that is in force while resources come and go. Read
// the outbound connections document's scenarios and the AKS documents on Basic
// load balancers first.

package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Egress carries packets between a group of virtual machines and the Internet, by
// the option that Azure's order of precedence gives each machine ([ChooseSNAT]).
// It has the doors of [snat.NAT], and [Egress.Reconfigure] changes the resources while
// traffic flows. It is safe for concurrent use.
//
// Default outbound access is one IPv4 address for the whole group, drawn with
// Config.Seed each time it comes into force, and again by [Egress.Redeploy]. Every
// machine has 1,024 ports of it, fewer from 51 machines on ([AutomaticPorts]), and
// its flows idle out after 4 minutes without reset. That the group shares an
// address, and that there is none for IPv6, is our choice.
//
// A NAT gateway is a translator of its own, [Egress.Gateway]. In verdicts, emissions and hooks
// a backend has the same index wherever its packets are carried. An Egress shows everything but
// its gateway, which shows its own part; only Sessions covers both. Packets that were
// passed on to the gateway count as bypassed.
type Egress struct {
	observation                          // of everything but the gateway
	gateway     atomic.Pointer[attached] // never nil; another one after each Reconfigure
	fragments   bool                     // are carried; immutable
	health      health.Keeper

	mu      sync.RWMutex // taken before any lock of health and of a translator
	state   egressState
	retired []*Gateway // detached, but perhaps still in some caller's hands
	closed  bool
}

// NewEgress returns the egress that c describes. The error joins every problem of
// c. No goroutine stays; Close returns its memory.
func NewEgress(c EgressConfig) (*Egress, error) {
	state, t, err := (&egressState{}).next(0, c, nil)
	if err != nil {
		return nil, err
	}
	nat, err := snat.New(t)
	if err != nil {
		return nil, ofTranslator(err)
	}
	e := &Egress{observation: observation{nat}, state: state, fragments: c.LoadBalancer.Fragments.Mode != snat.FragmentsDropped}
	e.gateway.Store(&attached{})
	g, err := e.attach(0, state.config, state.admit)
	if err != nil {
		nat.Close()
		return nil, err
	}
	e.gateway.Store(g)
	e.health.Adopt(0, state.inForce.health)
	return e, nil
}

// ofTranslator returns what the translator says of its configuration in the words of EgressConfig.
func ofTranslator(err error) error {
	var p problems.List
	p.Include("LoadBalancer", err)
	return fmt.Errorf("egress: %w", p.Err())
}

// Reconfigure replaces the resources at now and reports what that changed. Flows whose
// address and port their machine keeps go on; the others end silently, for their
// address has been given back: when the first Service of a Basic cluster comes, the
// flows of default outbound access end. An error joins every problem of c, and
// then nothing has changed. Of LoadBalancer.Dataplane only ReclaimGrace, CountTraffic,
// DistributionKey, Hooks and Admit can change, and TCP and UDP cannot. A NAT gateway of which
// more changes than its backends and these is made anew; the flows that it ends by that, or
// because there is none any more, count as [snat.CutRemoved] of their backends. See
// [snat.NAT.Reconfigure].
func (e *Egress) Reconfigure(now flow.Time, c EgressConfig) (snat.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.replace(now, c, e.state)
}

// Redeploy gives the group another address of default outbound access, as Azure
// may when machines are deallocated or deployed again. All flows of the old one
// end. Without default outbound access it changes nothing.
func (e *Egress) Redeploy(now flow.Time) (snat.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.state.address.IsValid() {
		return snat.Change{}, nil
	}
	from := e.state
	from.address = netip.Addr{}
	config := e.state.config
	if len(e.state.rules) > 0 {
		config.LoadBalancer.BasicFrontend = SeededRule // as it was, before these rules were drawn
	}
	return e.replace(now, config, from)
}

// replace puts c into force, coming from a state. e.mu must be held.
func (e *Egress) replace(now flow.Time, c EgressConfig, from egressState) (snat.Change, error) {
	if e.closed {
		return snat.Change{}, fmt.Errorf("egress: %w", flow.ErrClosed)
	}
	e.health.Lock()
	defer e.health.Unlock()
	e.health.Settle(now, e.nat)
	state, t, err := from.next(now, c, e.health.Known)
	if err != nil {
		return snat.Change{}, err
	}
	checked, err := e.nat.CheckReconfigure(t) // before a gateway that goes on hears of anything
	if err != nil {
		return snat.Change{}, ofTranslator(err)
	}
	was := e.gateway.Load()
	g, err := e.attach(now, state.config, state.admit)
	if err != nil {
		return snat.Change{}, err
	}
	if g.Gateway != nil {
		e.gateway.Store(g) // before packets are passed on to it
	}
	beyond := g.adopt(now, was)
	change, err := e.nat.ReconfigureChecked(now, checked)
	if err != nil {
		panic(fmt.Sprintf("lb: the translator refuses what it has accepted: %v", err))
	}
	addCuts(&change, beyond)
	g.admitBy(state.admit)
	e.gateway.Store(g)
	addCuts(&change, was.end(now, g))
	e.retire(was, g)
	e.health.Adopt(now, state.inForce.health)
	e.state = state
	return change, nil
}

// PortMappings returns the frontend ports of the inbound NAT rules of
// EgressConfig.LoadBalancer in force. See [LoadBalancer.PortMappings].
func (e *Egress) PortMappings() []PortMapping {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Clone(e.state.inForce.balancers[0].ports)
}

// Stranded returns the backends that have refused flows while others have free ports on
// the same frontends. See [snat.NAT.Stranded].
func (e *Egress) Stranded() []snat.StrandedPorts { return e.nat.Stranded() }

// Metrics returns a sample of every series of everything but the gateway and the internal load
// balancers, which have [Egress.InternalMetrics], as [LoadBalancer.Metrics] does. The backends
// are those in force.
func (e *Egress) Metrics() []monitor.Sample {
	e.mu.RLock()
	defer e.mu.RUnlock()
	own := ownAddrsOf(e.state.config.LoadBalancer.Backends)
	return metrics(&e.health, e.nat, own, e.state.inForce.forwards, 0)
}

// Close returns the memory of the egress and of its gateways. It may be called at any
// time, and twice; afterwards all packets are dropped, and Reconfigure and Redeploy fail ([flow.ErrClosed]). See
// [snat.NAT.Close].
func (e *Egress) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.nat.Close()
	if g := e.Gateway(); g != nil {
		g.Close()
	}
	for _, g := range e.retired {
		g.Close()
	}
}
