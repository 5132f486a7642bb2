package snat

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// PortChoice says which of the ports that are free for its destination a new
// flow gets. A flow is refused only if there is none.
type PortChoice uint8

// The choices.
const (
	// DefaultPort stands for LowestPort where instances own ports, and for
	// RandomPort where they share them: what Azure's load balancers and NAT gateways do.
	DefaultPort PortChoice = iota

	// LowestPort takes the first free port in the order of Instance.Ports. Shared
	// ports do not offer it.
	LowestPort

	// RandomPort takes any free port, each with the same chance (RFC 6056 section
	// 3). Numbers come from Dataplane.Seed; each instance has a sequence of its own,
	// from which nothing can be told about others. Of Shared ports it takes one
	// without flows, over all frontends (Azure documents a random port; that the
	// frontend is random as well is our choice), and if all have flows, any that
	// has none to the destination. Cost: independent of how many ports are taken.
	RandomPort

	// PreservePort keeps the source port if it is free, as Linux does, else it
	// takes a random one. Of Shared ports that is one of the source port's class:
	// 1-511, 600-1023 (for 512-1023), or from 1024. The frontend there depends on
	// source and destination address only, and a port of another class, or of
	// another frontend, is never used; where instances own ports, Allocation.Class
	// and Allocation.Pooling decide on both.
	PreservePort
	numPortChoices
)

// The defaults of Shared: Azure NAT gateway, NAT gateway resource.
const (
	DefaultFirstPort           = 1024
	DefaultLastPort            = 65535
	DefaultFlowsPerDestination = 50_000
	DefaultMaxFlows            = 2_000_000
)

// shardTo returns the shard of the flow of a packet from a side.
func (n *NAT) shardTo(from flow.Side, l *lane) uint8 {
	switch {
	case from == flow.Inside && l.is6:
		return n.ports.ShardOf(prefixes.Hash6(l.key6.Dst), l.key6.DstPort, l.p.Proto)
	case from == flow.Inside:
		return n.ports.ShardOf(uint64(l.key.Dst), l.key.DstPort, l.p.Proto)
	case l.is6:
		return n.ports.ShardOf(prefixes.Hash6(l.key6.Src), l.key6.SrcPort, l.p.Proto)
	}
	return n.ports.ShardOf(uint64(l.key.Src), l.key.SrcPort, l.p.Proto)
}

// holdUDP turns a UDP session that ended at at into the record that holds its
// port from its remote, or ends it if there is no memory for that.
func (sh *shard) holdUDP(id flow.ID, s *flow.Session, at flow.Time) {
	inst := sh.nat.instances[s.Key.VNI()]
	if s.Data[ports.DataNodePort] != 0 {
		sh.LeaveNode(id, s, &inst.Instance)
		sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
	}
	sh.Exchange(id, s, &inst.Instance, s.Track.Class, flow.ClassUDPHeld)
	was, addrs := *s, flow.Addrs6{}
	if id.Is6() {
		addrs = *s.Addrs6()
	}
	is6 := id.Is6()
	sh.Remove(id, s)
	id, s = sh.New(is6)
	s.Key, s.Outside, s.OutsidePort = was.Key, was.Outside, was.OutsidePort
	s.Key.VNIProto = s.Key.VNI()<<8 | ports.ProtoHeld
	s.SetKind(was.Kind())
	s.Track.Class = flow.ClassUDPHeld
	if is6 {
		*s.Addrs6() = addrs
	}
	if sh.enter(at, id, s, inst, false) {
		sh.counters.holds++
	}
	sh.counters.ended++
	sh.counters.connections[ports.UDPIndex].ended++
}

// SharedPortStats is the use of one frontend's ports of one protocol.
// Allocated = Free + Used and Used = PortUses.Total() always.
type SharedPortStats struct {
	Frontend  netip.Addr // whose ports they are
	Protocol  Protocol   // TCP, UDP or Query
	Allocated int        // all ports of the frontend that are handed out
	Free      int        // ports without any flow
	Used      int        // ports that some new flow cannot have
	PortUses             // Used by what for
	Peak      int        // highest Used so far
}

// SharedPorts returns the use of the ports that all instances share, in the order of their
// frontends, TCP before UDP before, if they are carried, Query; nil if instances own them. It is consistent in itself. Cost:
// O(frontends), under the inventory's lock.
func (n *NAT) SharedPorts() []SharedPortStats {
	var all []SharedPortStats
	for _, u := range n.ports.SharedUses() {
		all = append(all, SharedPortStats{
			Frontend: u.Frontend, Protocol: Protocol(u.Protocol) + TCP,
			Allocated: u.Allocated, Free: u.Free, Used: u.Used, PortUses: PortUses(u.Uses), Peak: u.Peak,
		})
	}
	return all
}
