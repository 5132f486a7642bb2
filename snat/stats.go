package snat

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Stats is what a NAT has done so far.
type Stats struct {
	// Packets by the side they came from.
	Outbound, Inbound PacketStats

	SessionsCreated uint64 // since New
	SessionsActive  int    // tombstones of reset connections and held UDP ports not included
	SessionsEnded   uint64 // for whatever cause
	// Expired counts the sessions that reached their idle timeout by the class
	// they were in.
	Expired [flow.NumClasses]uint64

	// Cut counts the sessions that reconfigurations ended, by cause.
	Cut [NumCutCauses]uint64

	// Evicted counts the half-open sessions that gave way: see Limits.HalfOpen.
	Evicted uint64

	// Ports are the ports in use, of all frontends and protocols together.
	Ports PortUses

	// Connections counts new flows that needed an outside port: those that got
	// one, and packets refused for want of one (every retransmitted SYN counts).
	// Flows that leave with an address of their node or of their own take none.
	ConnectionsSuccessful, ConnectionsFailed uint64

	// Resets counts the RSTs made for idle connections, two or more for each, and in
	// answer to stragglers; ResetsSuppressed those not made because too many waited.
	Resets, ResetsSuppressed uint64

	// OutOfWindow counts TCP segments forwarded without effect on the session
	// because they do not fit it; BadChecksum those whose checksum is wrong and
	// which a session would have heeded otherwise: with SYN, FIN or RST, or of a
	// connection that has been reset.
	OutOfWindow, BadChecksum uint64

	// Fragments is what fragments hold. Packets count them where they leave or
	// are dropped, not while they are queued.
	Fragments FragmentStats

	// HeldSYNs counts unsolicited SYNs by what became of them; see [HoldSYN].
	HeldSYNs HeldSYNStats

	// ICMPErrors counts the ICMP errors made by the translator;
	// ICMPErrorsSuppressed those not made because of their rate, or because the
	// instance has no address to send them from.
	ICMPErrors, ICMPErrorsSuppressed uint64

	// OddMTU counts translated errors from the outside that tell an MTU below 68
	// (IPv4) or 1,280 bytes (IPv6). The receiver decides what they are worth.
	OddMTU uint64

	// Faults counts broken invariants of the translator itself, and hooks that have
	// panicked. Each has cost the session or the packet at hand, which was dropped
	// with [flow.ReasonFault]; [Hooks].Fault tells more. It must be 0.
	Faults uint64

	// Bytes is the memory in use by sessions, indexes, timers, ports and
	// fragments.
	Bytes int
}

// PacketStats counts the packets of one direction.
type PacketStats struct {
	Forwarded, Bypassed, Dropped uint64                  // by verdict; queued ones count when they leave
	OneToOne                     uint64                  // of Forwarded: to or from an instance's public address, without a session
	Drops                        [flow.NumReasons]uint64 // Dropped by reason
}

// Packets returns the number of packets.
func (p *PacketStats) Packets() uint64 { return p.Forwarded + p.Bypassed + p.Dropped }

// Stats returns the counters. Each shard is consistent in itself; shards are
// read one after the other. Cost: one lock per shard, and O(instances +
// frontends).
func (n *NAT) Stats() Stats {
	var s Stats
	// First, because they correct what is counted elsewhere before. Their locks are
	// taken before control.
	s.ICMPErrors, s.ICMPErrorsSuppressed = n.outbox.Errors()
	h := n.held.Stats()
	s.HeldSYNs = HeldSYNStats{Held: h.Held, Matched: h.Matched, Expired: h.Expired, Forgotten: h.Forgotten}
	s.Bytes += h.Bytes
	n.fragments.addTo(&s)
	sides := [2]*PacketStats{flow.Inside: &s.Outbound, flow.Outside: &s.Inbound}
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		c := &sh.counters
		for side, p := range sides {
			p.Forwarded += c.forwarded[side]
			p.Bypassed += c.bypassed[side]
			for r, k := range c.dropped[side] {
				p.Drops[r] += k
			}
		}
		for class, k := range c.expired {
			s.Expired[class] += k
		}
		for cause, k := range c.cut {
			s.Cut[cause] += k
		}
		s.Evicted += c.evicted
		s.SessionsCreated += c.created
		s.SessionsActive += sh.Len() - int(c.tombstones+c.holds)
		s.SessionsEnded += c.ended
		for _, k := range c.connections {
			s.ConnectionsSuccessful += k.ported
		}
		s.ConnectionsFailed += c.refused
		made, suppressed := sh.resets.Counts()
		s.Resets += made
		s.ResetsSuppressed += suppressed
		s.OutOfWindow += c.outOfWindow
		s.BadChecksum += c.badChecksum
		s.OddMTU += c.oddMTU
		s.Bytes += sh.Bytes() + sh.mem.Bytes() + sh.PortBytes()
		sh.Unlock()
	}
	s.Faults = n.faults.Load()
	n.control.RLock()
	defer n.control.RUnlock()
	for _, inst := range n.order {
		s.Bytes += inst.Bytes()
		inst.direct.addTo(&s)
	}
	for _, d := range n.departed {
		d.addTo(&s)
	}
	s.Bytes += n.ports.Bytes()
	for _, f := range n.routes.Load().frontends {
		for p := range ports.NumPools {
			s.Ports = s.Ports.Add(PortUses(f.Use(p).Uses))
		}
	}
	for side, p := range sides {
		for r := range n.early[side] {
			p.Drops[r] += n.early[side][r].Load()
		}
		for _, k := range p.Drops {
			p.Dropped += k
		}
	}
	return s
}

// FrontendStats is the use of one frontend's ports of one protocol.
type FrontendStats struct {
	Frontend  netip.Addr // whose ports they are
	Protocol  Protocol   // TCP, UDP or Query
	Allocated int        // ports granted to instances, those that await removal too, or shared by all
	Used      int        // ports that some new flow cannot have
	PortUses             // Used by what for
	Peak      int        // highest Used so far

	// AwaitingRemoval is how many of Allocated are no longer granted and only
	// carry flows that began before; see [Dataplane].ReclaimGrace.
	AwaitingRemoval int
}

// Frontends returns the use of all frontends, in the order in which instances
// or Shared name them, TCP before UDP before queries. What a Peak depends on
// has ended first, so that it matters neither how many shards there are nor how
// often Advance is called; Used may count flows that are over until then. Cost:
// O(frontends), and what is left to end.
func (n *NAT) Frontends() []FrontendStats {
	n.control.RLock()
	defer n.control.RUnlock()
	n.expireForPeaks()
	var all []FrontendStats
	for _, f := range n.routes.Load().frontends {
		for p := range ports.NumPools {
			if u := f.Use(p); u.Allocated > 0 {
				all = append(all, FrontendStats{
					Frontend: f.Addr, Protocol: Protocol(p) + TCP,
					Allocated: u.Allocated, Used: u.Used, PortUses: PortUses(u.Uses), Peak: u.Peak,
					AwaitingRemoval: u.AwaitingRemoval,
				})
			}
		}
	}
	return all
}

// expireForPeaks ends what was over when peaks rose. The caller holds control.
func (n *NAT) expireForPeaks() {
	until, any := n.ports.PeaksUntil()
	for i := 0; any && i < len(n.shards); i++ {
		sh := &n.shards[i]
		sh.Lock()
		sh.expireAll(until)
		sh.Unlock()
	}
}

// InstanceStats is the use of one instance's ports.
type InstanceStats struct {
	Name    string      // of the instance
	Pools   []PoolStats // none with Shared ports; TopPorts tells what each instance uses then
	Created uint64      // sessions
	Failed  uint64      // flows refused for want of a port

	// Packets between the instance's own and its public addresses.
	OutboundOneToOne, InboundOneToOne uint64
}

// PoolStats is the use of an instance's ports of one address family and
// protocol. Allocated = Free + Used and Used = PortUses.Total() always.
type PoolStats struct {
	Is6       bool     // the address family
	Protocol  Protocol // TCP, UDP or Query
	Allocated int      // ports granted, those that await removal too
	Free      int      // ports that any new flow can have
	Used      int      // ports that some new flow cannot have
	PortUses           // Used by what for
	Peak      int      // highest Used so far

	// AwaitingRemoval is how many of Allocated are no longer granted and only
	// carry flows that began before; see [Dataplane].ReclaimGrace.
	AwaitingRemoval int
}

// Instances iterates over the use of all instances' ports, in the order of the
// configuration in force when the loop begins. The key is the instance's index,
// as in [flow.Verdict]: its place in the first configuration it was part of,
// unless [NAT.Reconfigure] has changed the set of instances. Each is read under
// its shard's lock, and no lock is held while the loop body runs.
func (n *NAT) Instances() iter.Seq2[int, InstanceStats] {
	return func(yield func(int, InstanceStats) bool) {
		n.control.RLock()
		order, all := n.order, make([]InstanceStats, 0, len(n.order))
		for _, inst := range order {
			sh := &n.shards[inst.Shard]
			sh.Lock()
			s := InstanceStats{
				Name:             inst.Name,
				OutboundOneToOne: inst.direct.forwarded[flow.Inside].Load(),
				InboundOneToOne:  inst.direct.forwarded[flow.Outside].Load(),
			}
			s.Created, s.Failed = sh.Flows(&inst.Instance)
			for f := range 2 {
				for p := range ports.NumPools {
					if u := inst.Use(f, p); u.Allocated > 0 {
						s.Pools = append(s.Pools, PoolStats{
							Is6: f == 1, Protocol: Protocol(p) + TCP,
							Allocated: u.Allocated, Free: u.Allocated - u.Used,
							Used: u.Used, PortUses: PortUses(u.Uses), Peak: u.Peak,
							AwaitingRemoval: u.AwaitingRemoval,
						})
					}
				}
			}
			sh.Unlock()
			all = append(all, s)
		}
		n.control.RUnlock()
		for i, inst := range order {
			if !yield(int(inst.Index), all[i]) {
				return
			}
		}
	}
}

// Sessions iterates over copies of all sessions, tombstones of reset connections
// included, and UDP sessions that are over and hold their port. Info.VNI is the
// index of the instance, Info.Data[0] the port at the instance's own address; it is 0
// if the instance has none of that family, or the session is over. See
// [flow.Table.Sessions].
func (n *NAT) Sessions() iter.Seq[flow.Info] {
	return func(yield func(flow.Info) bool) {
		for s := range n.table.Sessions() {
			s.Proto = ports.Normal(s.Proto)
			n.routes.Load().complete(&s)
			if !yield(s) {
				return
			}
		}
	}
}

// By names what TopPorts groups by.
type By uint8

// The groupings.
const (
	ByInstance    By = iota // instance name
	ByInside                // inside address: the pod
	ByDestination           // remote address and port
	numBys
)

// PortUser is a row of TopPorts.
type PortUser struct {
	Name  string // as By says: of an instance, an address, or an address and port
	Ports int    // pairs of outside port and remote in use, over all protocols
}

// TopPorts returns the k biggest users of outside ports, biggest first, ties by
// name; none if k is 0 or less. Flows that take none, which leave with an address of
// their node or of their own, do not count. It walks all sessions, without stopping traffic; a
// [NAT.Reconfigure] waits for it. It panics unless by is one of the constants.
func (n *NAT) TopPorts(k int, by By) []PortUser {
	if by >= numBys {
		panic("snat: unknown By")
	}
	if k <= 0 {
		return nil
	}
	type group struct {
		addr     netip.AddrPort
		instance uint32
	}
	n.control.RLock() // an index means the same instance until the end
	defer n.control.RUnlock()
	r := n.routes.Load()
	instances := r.instances
	count := map[group]int{}
	for s := range n.Sessions() {
		if s.Class == flow.ClassTCPResetSent || !s.Kind.HoldsPort() {
			continue // a tombstone holds no port
		}
		var g group
		switch by {
		case ByInstance:
			g.instance = s.VNI
		case ByInside:
			g.addr = netip.AddrPortFrom(s.Inside.Addr(), 0)
		case ByDestination:
			g.addr = s.Remote
		}
		count[g]++
	}
	users := make([]PortUser, 0, len(count))
	for g, c := range count {
		u := PortUser{Ports: c}
		switch by {
		case ByInstance:
			u.Name = instances[g.instance].Name
		case ByInside:
			u.Name = g.addr.Addr().String()
		case ByDestination:
			u.Name = g.addr.String()
		}
		users = append(users, u)
	}
	slices.SortFunc(users, func(a, b PortUser) int {
		if a.Ports != b.Ports {
			return b.Ports - a.Ports
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return users[:min(k, len(users))]
}

// FragmentStats is what fragments hold at the moment.
type FragmentStats struct {
	Datagrams   int // known, complete and discarded ones included
	Queued      int // fragments that wait for their first, or for Advance to emit them
	QueuedBytes int // memory of the queued fragments; at most MaxQueuedBytes
}

// addTo adds what fragments have done to the statistics.
func (f *fragmentation) addTo(s *Stats) {
	t := f.table.Stats()
	for side, p := range []*PacketStats{flow.Inside: &s.Outbound, flow.Outside: &s.Inbound} {
		p.Forwarded += t.Forwarded[side]
		p.Bypassed += t.Bypassed[side]
		reconsidered := f.reconsidered[side].Load()
		p.Forwarded += reconsidered
		p.Drops[flow.ReasonICMPInnerFragment] -= reconsidered
		p.Forwarded -= f.lost[side].Load()
	}
	s.Fragments = FragmentStats{Datagrams: t.Datagrams, Queued: t.Queued, QueuedBytes: t.QueuedBytes}
	s.Bytes += t.Bytes
}

// addTo adds the counts to those of all instances.
func (d *direct) addTo(s *Stats) {
	for side, p := range [2]*PacketStats{flow.Inside: &s.Outbound, flow.Outside: &s.Inbound} {
		k := d.forwarded[side].Load()
		p.Forwarded += k
		p.OneToOne += k
		p.Bypassed += d.bypassed[side].Load()
	}
}
