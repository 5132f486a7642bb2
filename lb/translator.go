// What the running types of this package share: the doors and the observation of the
// translator that carries out their resources.

package lb

import (
	"iter"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The types of this package that carry packets have the same doors.
var (
	_ flow.Translator = (*LoadBalancer)(nil)
	_ flow.Translator = (*Gateway)(nil)
	_ flow.Translator = (*Egress)(nil)
)

// Stats is what a translator has done so far: its counters.
type Stats = snat.Stats

// observation is what can be seen of the translator that carries out resources. An
// instance of it is a backend, in the order of the backends.
type observation struct {
	nat *snat.NAT
}

// Stats returns the counters. See [snat.NAT.Stats].
func (o *observation) Stats() Stats { return o.nat.Stats() }

// Connections returns what became of new flows, by protocol. See
// [snat.NAT.Connections].
func (o *observation) Connections() []snat.ConnectionStats { return o.nat.Connections() }

// Frontends returns the use of all frontends' ports. See [snat.NAT.Frontends].
func (o *observation) Frontends() []snat.FrontendStats { return o.nat.Frontends() }

// IsFrontend reports whether packets to an address are translated. See [snat.NAT.IsFrontend].
func (o *observation) IsFrontend(a netip.Addr) bool { return o.nat.IsFrontend(a) }

// Traffic returns what has been translated to and from each frontend, if the
// configuration says CountTraffic. See [snat.NAT.Traffic].
func (o *observation) Traffic() []snat.FrontendTraffic { return o.nat.Traffic() }

// Instances iterates over the use of all backends' ports, in the order of the backends.
// See [snat.NAT.Instances].
func (o *observation) Instances() iter.Seq2[int, snat.InstanceStats] { return o.nat.Instances() }

// Sessions iterates over copies of all sessions. See [snat.NAT.Sessions].
func (o *observation) Sessions() iter.Seq[flow.Info] { return o.nat.Sessions() }

// Remembers reports whether at now what belongs to a flow passes unasked that has no session. See [snat.NAT.Remembers].
func (o *observation) Remembers(now flow.Time, f snat.NewFlow) bool { return o.nat.Remembers(now, f) }

// TopPorts returns the k biggest users of ports, none for k of 0 or less. See [snat.NAT.TopPorts].
func (o *observation) TopPorts(k int, by snat.By) []snat.PortUser { return o.nat.TopPorts(k, by) }

// Holders returns who holds ports, and who is refused them because of whom. See [snat.NAT.Holders].
func (o *observation) Holders(now flow.Time, by snat.HoldersBy) snat.Holders {
	return o.nat.Holders(now, by)
}

// translator is a translator with all its doors open.
type translator struct {
	observation
}

// ResetTo ends connections that backends have begun with hosts in remotes. See [snat.NAT.ResetTo].
func (t *translator) ResetTo(now flow.Time, remotes []netip.Prefix) (ended int) {
	return t.nat.ResetTo(now, remotes)
}

// Outbound takes a packet from a backend, or from behind one, and rewrites it in
// place. pkt starts at the IP header. No allocation.
func (t *translator) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	return t.nat.Outbound(now, pkt)
}

// Inbound takes a packet from the Internet to a frontend and rewrites it in place.
// See Outbound.
func (t *translator) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	return t.nat.Inbound(now, pkt)
}

// OutboundBatch is Outbound for many packets at once, and faster: verdicts[i] is
// that of pkts[i]. It panics if there are fewer verdicts than packets.
func (t *translator) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	t.nat.OutboundBatch(now, pkts, verdicts)
}

// InboundBatch is Inbound for many packets at once. See OutboundBatch.
func (t *translator) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	t.nat.InboundBatch(now, pkts, verdicts)
}

// Advance expires what is due at now; resets go to emit. See [snat.NAT.Advance].
func (t *translator) Advance(now flow.Time, emit flow.Sink) { t.nat.Advance(now, emit) }

// AdvanceStep does a bounded piece of what Advance does, and reports whether all
// is done.
func (t *translator) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	return t.nat.AdvanceStep(now, emit)
}

// NextDeadline returns when Advance is to be called next, and false if nothing is
// waiting to expire. See [snat.NAT.NextDeadline].
func (t *translator) NextDeadline() (flow.Time, bool) { return t.nat.NextDeadline() }

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. See [snat.NAT.DeadlineMoved].
func (t *translator) DeadlineMoved() bool { return t.nat.DeadlineMoved() }

// Close returns the memory. It may be called at any time, and twice; afterwards all
// packets are dropped, and nothing can be reconfigured ([flow.ErrClosed]). See
// [snat.NAT.Close].
func (t *translator) Close() { t.nat.Close() }
