package snat

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// The doors of a driver. Package dataplane is behind them.

// Outbound translates a packet from the inside; those of realms other than 0 have
// doors of their own, see [NAT.Realm]. pkt starts at the IP header and
// is rewritten in place; bytes behind its IP length are left alone. No
// allocation. Cost: see BenchmarkOutbound in bench; batches are several times faster
// when there are more flows than the caches hold.
func (n *NAT) Outbound(now flow.Time, pkt []byte) flow.Verdict { return n.plane.Outbound(now, pkt) }

// Inbound translates a packet from the outside. See Outbound.
func (n *NAT) Inbound(now flow.Time, pkt []byte) flow.Verdict { return n.plane.Inbound(now, pkt) }

// OutboundBatch is Outbound for many packets at once: verdicts[i] is that of
// pkts[i]. It panics if there are fewer verdicts than packets. Packets of one
// flow keep their order. Goroutines that work on different instances seldom
// wait for each other, if their batches do not mix shards.
func (n *NAT) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	n.plane.Batch(flow.Inside, 0, now, pkts, verdicts)
}

// InboundBatch is Inbound for many packets at once. See OutboundBatch.
func (n *NAT) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	n.plane.Batch(flow.Outside, 0, now, pkts, verdicts)
}

// Advance brings the translator to now: sessions that have reached their idle
// timeout end, their ports become free, and with EnableTCPReset both ends of an
// established connection are sent a RST. Resets and answers that packets have
// caused since the last call come out as well, then the fragments whose first one
// they have waited for, then ICMP errors, those for held SYNs too, and what exceeded
// the MTU in parts. emit may be nil, which discards all these.
//
// Ends are processed in the order of their deadlines within a shard, and shard
// by shard. The lock is released after every 64 of them, so that packets never
// wait for long. now must not lie before that of an earlier call.
//
// Packets need no Advance to be judged correctly: a session that is over is
// never used, whether or not its timer has been processed. A packet that finds one,
// or begins a flow, first ends all that is due in its shard, and so does one that
// comes more than 12 days after the last that did. What packets become does not
// depend on how often Advance is called. How long such a packet takes does, and so
// does which of the connections that end in the same millisecond are reset, where
// Policy.ResetRate does not permit all. A packet may come a little out of order; a
// time that lies more than 12 days before the latest counts as 12 days before.
func (n *NAT) Advance(now flow.Time, emit flow.Sink) { n.plane.Advance(now, emit) }

// ResetTo ends at now every TCP connection that the inside has begun with a host in remotes, as if it
// had reached its idle timeout ([Hooks].SessionExpired), and returns how many; closed ones that only
// keep their port are among them, and free it. An established one is reset at both ends, whatever
// Policy.EnableTCPReset says: the resets come out of Advance. Connections that come by forwards, and
// what goes one to one, do not end. A time that lies more than 12 days before the latest counts as 12
// days before. It may be called at any time. Cost: O(sessions × remotes), in steps of 512 sessions of
// a shard; changes of the configuration wait meanwhile.
func (n *NAT) ResetTo(now flow.Time, remotes []netip.Prefix) (ended int) {
	if len(remotes) == 0 {
		return 0
	}
	return n.plane.ResetTo(now, func(a netip.Addr) bool {
		return slices.ContainsFunc(remotes, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// AdvanceStep is Advance for drivers that must not be away for long: it does a
// bounded piece of the work in each shard, 64 ends, 1,024 timers, 4,096 ports that
// have rested and 256 resets at most, or else 64 fragments, 2,048 that wait no longer,
// or 4 MiB of ICMP errors and parts of packets, and reports whether all is done. Only
// when a [Dataplane].ReclaimGrace ends is a piece as large as a [NAT.Reconfigure], and
// the parameters of deterministic mappings are told for a whole day.
func (n *NAT) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	return n.plane.AdvanceStep(now, emit)
}

// NextDeadline returns the earliest time at which Advance may have work to do,
// and whether there is any: never later than the first deadline. It is exact for a
// session that ends less than 256 ms after the last call of Advance, and for all that
// is no session; else it may be earlier, and calling Advance then brings the answer
// closer. See [flow.Shard.NextDeadline]. Cost: one lock per shard; [NAT.DeadlineMoved]
// says cheaply after which packets it is worth that.
func (n *NAT) NextDeadline() (at flow.Time, ok bool) { return n.plane.NextDeadline() }

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. It is true at times when the answer is the same, never
// false when it is earlier. It becomes true when a timer is armed earlier than all that
// its shard had when last asked, and when something begins to wait for Advance: a reset,
// an ICMP error, a held SYN, a fragment, or a port in quarantine. Cost: one read, no
// lock.
func (n *NAT) DeadlineMoved() bool { return n.plane.DeadlineMoved() }

// HoldFree puts every port that has no session into quarantine, as if it had been
// freed at now: what a translator that has lost its state does before it carries
// traffic, because it does not know which ports were in use (RFC 6888 REQ-8). It
// respects MaxPorts, and does nothing without a Quarantine. now must not lie
// before that of an earlier call. Cost: O(ports), with one shard locked at a time.
func (n *NAT) HoldFree(now flow.Time) { n.plane.HoldFree(now) }
