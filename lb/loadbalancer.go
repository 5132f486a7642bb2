// The running load balancer: a translator whose ports the planner has dealt out.

package lb

import (
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The types of this package that carry packets have the same doors.
var (
	_ flow.Translator = (*LoadBalancer)(nil)
	_ flow.Translator = (*Gateway)(nil)
	_ flow.Translator = (*Egress)(nil)
)

// LoadBalancer carries packets between the backends of a [Config] and the
// Internet. It has the doors of [snat.NAT], which it wraps: instance i is
// Config.Backends[i] until backends are removed, and the frontends are those of
// the configuration. It is safe for concurrent use.
type LoadBalancer struct {
	nat *snat.NAT

	mu      sync.RWMutex // taken before any lock of nat; guards all below
	inForce inForce
	own     ownAddrs
}

// New returns the load balancer that c describes. The error joins every problem
// of c, as Config.Validate reports them, or is what snat.New says about the fields
// that are only passed on to it. New starts no goroutine; Close returns its memory.
func New(c Config) (*LoadBalancer, error) {
	inForce, translator, err := c.compile(nil)
	if err != nil {
		return nil, err
	}
	nat, err := snat.New(translator)
	if err != nil {
		return nil, fmt.Errorf("load balancer %q: %w", c.Name, err)
	}
	return &LoadBalancer{nat: nat, inForce: inForce, own: ownAddrsOf(c.Backends)}, nil
}

// Reconfigure replaces the configuration at now, while traffic flows, and reports
// what that changed. Backends are identified by name and frontends by address. Each
// backend gets as many ports as Plan says, and keeps those it has as far as possible,
// so Allocations may differ from Plan: only what is added or missing is laid out
// anew. Flows on ports that stay go on untouched; flows on ports that are lost end
// silently, and with ReclaimGrace not before its end, unless another backend needs
// the ports: those that nobody has had or whose grace is over are given away first.
// Growing across a tier of automatic allocation ends the flows on the upper half of
// each backend's ports; shrinking ends none, nor does a further frontend (outbound
// connections document; which half is our choice). See [snat.NAT.Reconfigure], also
// for what cannot change.
//
// The error joins every problem of c; then nothing has changed.
func (l *LoadBalancer) Reconfigure(now flow.Time, c Config) (snat.Change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	former := l.inForce
	former.now = now
	next, translator, err := c.compile(&former)
	if err != nil {
		return snat.Change{}, err
	}
	change, err := l.nat.Reconfigure(now, translator)
	if err != nil {
		return snat.Change{}, fmt.Errorf("load balancer %q: %w", c.Name, err)
	}
	l.inForce, l.own = next, ownAddrsOf(c.Backends)
	return change, nil
}

// Outbound takes a packet from a backend, or from behind one, and rewrites it in
// place. pkt starts at the IP header. No allocation.
func (l *LoadBalancer) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	return l.nat.Outbound(now, pkt)
}

// Inbound takes a packet from the Internet to a frontend and rewrites it in place.
// See Outbound.
func (l *LoadBalancer) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	return l.nat.Inbound(now, pkt)
}

// OutboundBatch is Outbound for many packets at once, and faster: verdicts[i] is
// that of pkts[i]. It panics if there are fewer verdicts than packets.
func (l *LoadBalancer) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	l.nat.OutboundBatch(now, pkts, verdicts)
}

// InboundBatch is Inbound for many packets at once. See OutboundBatch.
func (l *LoadBalancer) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	l.nat.InboundBatch(now, pkts, verdicts)
}

// Advance expires what is due at now; resets go to emit. See [snat.NAT.Advance].
func (l *LoadBalancer) Advance(now flow.Time, emit flow.Sink) { l.nat.Advance(now, emit) }

// AdvanceStep does a bounded piece of what Advance does, and reports whether all
// is done.
func (l *LoadBalancer) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	return l.nat.AdvanceStep(now, emit)
}

// NextDeadline returns when Advance is to be called next, and false if nothing is
// waiting to expire. See [snat.NAT.NextDeadline].
func (l *LoadBalancer) NextDeadline() (flow.Time, bool) { return l.nat.NextDeadline() }

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. See [snat.NAT.DeadlineMoved].
func (l *LoadBalancer) DeadlineMoved() bool { return l.nat.DeadlineMoved() }

// Stats is what a load balancer has done so far: the counters of its translator.
type Stats = snat.Stats

// Stats returns the counters. See [snat.NAT.Stats].
func (l *LoadBalancer) Stats() Stats { return l.nat.Stats() }

// Frontends returns the use of all frontends' ports. See [snat.NAT.Frontends].
func (l *LoadBalancer) Frontends() []snat.FrontendStats { return l.nat.Frontends() }

// Instances iterates over the use of all backends' ports, in the order of
// Config.Backends. See [snat.NAT.Instances].
func (l *LoadBalancer) Instances() iter.Seq2[int, snat.InstanceStats] { return l.nat.Instances() }

// Sessions iterates over copies of all sessions. See [snat.NAT.Sessions].
func (l *LoadBalancer) Sessions() iter.Seq[flow.Info] { return l.nat.Sessions() }

// TopPorts returns the k biggest users of ports, none for k of 0 or less. See
// [snat.NAT.TopPorts].
func (l *LoadBalancer) TopPorts(k int, by snat.By) []snat.PortUser { return l.nat.TopPorts(k, by) }

// Allocations returns what each backend got, in the order of Config.Backends. The
// caller may keep and change the result.
func (l *LoadBalancer) Allocations() []Allocation {
	l.mu.RLock()
	all := slices.Clone(l.inForce.plan)
	l.mu.RUnlock()
	for i := range all {
		all[i].Ports = slices.Clone(all[i].Ports)
	}
	return all
}

// Close returns the memory of the load balancer. It may be called at any time, and
// twice; afterwards all packets are dropped. See [snat.NAT.Close].
func (l *LoadBalancer) Close() { l.nat.Close() }
