package snat

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/dataplane"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Stats is what a NAT has done so far.
type Stats struct {
	// Packets by the side they came from.
	Outbound, Inbound PacketStats

	SessionsCreated uint64 // since New
	SessionsActive  int    // tombstones of reset connections and held UDP ports not included
	SessionsEnded   uint64 // for whatever cause
	// Expired counts the sessions that reached their idle timeout, were ended by [NAT.ResetTo]
	// or gave way, closed, to the next connection on their sockets, which went elsewhere, by
	// the class they were in.
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

	// Resets counts the RSTs made for connections that were idle or ended by [NAT.ResetTo], two
	// or more for each, and in answer to stragglers; ResetsSuppressed those not made because too many waited.
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
	Drops                        [flow.NumReasons]uint64 // Dropped, by flow.Reason; see flow.Reasons
}

// Packets returns the number of packets.
func (p *PacketStats) Packets() uint64 { return p.Forwarded + p.Bypassed + p.Dropped }

// Stats returns the counters. Each shard is consistent in itself; shards are
// read one after the other. Cost: one lock per shard and instance, and O(frontends).
func (n *NAT) Stats() Stats {
	d := n.plane.Stats()
	s := Stats{
		Outbound: packetStats(&d, flow.Inside), Inbound: packetStats(&d, flow.Outside),
		SessionsCreated: d.Created, SessionsActive: d.Active, SessionsEnded: d.Ended, Expired: d.Expired, Cut: d.Cut, Evicted: d.Evicted,
		Ports: PortUses(d.Ports), ConnectionsFailed: d.Refused, Resets: d.Resets, ResetsSuppressed: d.ResetsSuppressed,
		OutOfWindow: d.OutOfWindow, BadChecksum: d.BadChecksum, OddMTU: d.OddMTU,
		Fragments:  FragmentStats{Datagrams: d.Fragments.Datagrams, Queued: d.Fragments.Queued, QueuedBytes: d.Fragments.QueuedBytes},
		HeldSYNs:   HeldSYNStats{Held: d.HeldSYNs.Held, Matched: d.HeldSYNs.Matched, Expired: d.HeldSYNs.Expired, Forgotten: d.HeldSYNs.Forgotten},
		ICMPErrors: d.ICMPErrors, ICMPErrorsSuppressed: d.ICMPErrorsSuppressed, Faults: d.Faults, Bytes: d.Bytes,
	}
	for _, k := range d.Connections {
		s.ConnectionsSuccessful += k.Ported
	}
	return s
}

// packetStats returns what d counts of packets from a side.
func packetStats(d *dataplane.Stats, side flow.Side) PacketStats {
	p := PacketStats{Forwarded: d.Forwarded[side], Bypassed: d.Bypassed[side], OneToOne: d.OneToOne[side], Drops: d.Dropped[side]}
	for _, k := range p.Drops {
		p.Dropped += k
	}
	return p
}

// FrontendStats is the use of one frontend's ports of one protocol.
type FrontendStats struct {
	Frontend  netip.Addr // whose ports they are
	Protocol  Protocol   // TCP, UDP or Query
	Allocated int        // ports granted to instances, those that await removal too, or shared by all
	Used      int        // ports that at least one new flow could not get
	PortUses             // Used, by purpose
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
	var all []FrontendStats
	n.plane.Frontends(func(f *ports.Frontend) {
		for p := range ports.NumPools {
			if u := f.Use(p); u.Allocated > 0 {
				all = append(all, FrontendStats{
					Frontend: f.Addr, Protocol: Protocol(p) + TCP,
					Allocated: u.Allocated, Used: u.Used, PortUses: PortUses(u.Uses), Peak: u.Peak,
					AwaitingRemoval: u.AwaitingRemoval,
				})
			}
		}
	})
	return all
}

// IsFrontend reports whether packets to an address are translated: whether it is a frontend, or the
// public address of an instance. Unlike Frontends it ends nothing. Cost: a look-up.
func (n *NAT) IsFrontend(a netip.Addr) bool {
	t := ports.Tuple{Inside: ports.Packed(a)}
	if a.Is6() {
		t.Family = 1
	}
	return n.plane.IsFrontend(&t)
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
	Used      int      // ports that at least one new flow could not get
	PortUses           // Used, by purpose
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
		var indexes []int
		var all []InstanceStats
		n.plane.Instances(func(of *ports.State, inst *ports.Instance, oneToOne [2]uint64) {
			s := InstanceStats{Name: inst.Name, OutboundOneToOne: oneToOne[flow.Inside], InboundOneToOne: oneToOne[flow.Outside]}
			s.Created, s.Failed = of.Flows(inst)
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
			indexes, all = append(indexes, int(inst.Index)), append(all, s)
		})
		for i, index := range indexes {
			if !yield(index, all[i]) {
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
func (n *NAT) Sessions() iter.Seq[flow.Info] { return n.plane.Sessions() }

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
	users := []PortUser{}
	n.plane.Named(func(name func(instance uint32) string) {
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
		for g, c := range count {
			u := PortUser{Ports: c}
			switch by {
			case ByInstance:
				u.Name = name(g.instance)
			case ByInside:
				u.Name = g.addr.Addr().String()
			case ByDestination:
				u.Name = g.addr.String()
			}
			users = append(users, u)
		}
	})
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
