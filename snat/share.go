package snat

import (
	"iter"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// ShareStats is what one instance uses of one frontend's ports of one protocol.
// Allocated = Free + Used and Used = PortUses.Total() always.
type ShareStats struct {
	Instance int        // index of the instance
	Name     string     // of the instance
	Frontend netip.Addr // the zero Addr stands for none; see Failed
	Is6      bool       // the address family, also where there is no frontend
	Protocol Protocol   // TCP, UDP or Query

	// AwaitingRemoval marks a row of ports that are no longer granted and only
	// carry flows that began before; see [Dataplane].ReclaimGrace.
	AwaitingRemoval bool

	Allocated int // ports granted to the instance, or awaiting removal
	Free      int // ports that any new flow can have
	Used      int // ports that at least one new flow could not get
	PortUses      // Used, by purpose

	// Created counts the flows that got a port here.
	Created uint64

	// Failed counts the packets of flows that were refused for want of a port. It
	// is our choice to count them at the frontend that is consumed last, where the
	// search ended. An instance without any port of a family and protocol has the
	// zero Addr as its frontend, and nothing but failures there.
	Failed uint64
}

// Shares iterates over the use of ports by instance and frontend: instances in the
// order of the configuration in force when the loop begins, IPv4 before IPv6, TCP
// before UDP before queries, frontends in the order of consumption, then those that
// only have counts of the past. While no instance is removed, the failures of all
// rows add up to Stats.ConnectionsFailed, and what is created to
// Stats.ConnectionsSuccessful.
// With Shared ports, which belong to no instance, there are no rows. An
// instance is read under its shard's lock, and no lock is held while the loop body
// runs. Cost: O(instances x frontends of each), however many sessions there are.
func (n *NAT) Shares() iter.Seq[ShareStats] {
	return func(yield func(ShareStats) bool) {
		for _, row := range n.appendShares(nil) {
			if !yield(row) {
				return
			}
		}
	}
}

// appendShares appends the rows of all instances.
func (n *NAT) appendShares(rows []ShareStats) []ShareStats {
	n.plane.Instances(func(_ *ports.State, inst *ports.Instance, _ [2]uint64) {
		for f := range 2 {
			for p := range ports.NumPools {
				for _, u := range inst.Shares(nil, f, p) {
					rows = append(rows, ShareStats{
						Instance: int(inst.Index), Name: inst.Name, Frontend: u.Frontend, Is6: f == 1, Protocol: Protocol(p) + TCP,
						AwaitingRemoval: u.Awaiting, Allocated: u.Allocated, Free: u.Allocated - u.Used, Used: u.Used,
						PortUses: PortUses(u.Uses), Created: u.Created, Failed: u.Failed,
					})
				}
			}
		}
	})
	return rows
}

// StrandedPorts tells of an instance that has refused flows for want of a port
// while other instances have free ones on the same frontends.
type StrandedPorts struct {
	Instance int      `json:"instance"` // index of the instance
	Name     string   `json:"name"`     // of the instance
	Is6      bool     `json:"is6"`      // the address family of the ports
	Protocol Protocol `json:"protocol"` // TCP, UDP or Query
	Failed   uint64   `json:"failed"`   // packets refused so far

	// Free counts the instance's own free ports, which could serve other
	// destinations only. FreeElsewhere counts those of all other instances on the
	// same frontends; they could serve any, but a port belongs to one instance
	// only.
	Free          int `json:"free"`
	FreeElsewhere int `json:"freeElsewhere"` // see Free
}

// Stranded returns the instances, families and protocols that have refused flows so
// far while there are free ports in the blocks of others, in the order of Shares.
// That is the price of preallocated ports: a node's limit is its own allocation,
// and more ports for each, a pool with fewer members or shared ports would
// have served the flows. Failures are counted from the beginning and free ports as
// of now, so a caller who wants the present compares two answers. Cost: that of
// Shares.
func (n *NAT) Stranded() []StrandedPorts {
	type frontend struct {
		frontend netip.Addr
		protocol Protocol
	}
	free := map[frontend]int{}
	shares := n.appendShares(nil)
	for _, s := range shares {
		free[frontend{s.Frontend, s.Protocol}] += s.Free
	}
	var all []StrandedPorts
	for _, s := range shares {
		k := len(all) - 1
		if k < 0 || all[k].Instance != s.Instance || all[k].Is6 != s.Is6 || all[k].Protocol != s.Protocol {
			all = append(all, StrandedPorts{Instance: s.Instance, Name: s.Name, Is6: s.Is6, Protocol: s.Protocol})
			k++
		}
		all[k].Failed += s.Failed
		all[k].Free += s.Free
		all[k].FreeElsewhere += max(0, free[frontend{s.Frontend, s.Protocol}]-s.Free)
	}
	stranded := all[:0]
	for _, s := range all {
		if s.Failed > 0 && s.FreeElsewhere > 0 {
			stranded = append(stranded, s)
		}
	}
	return stranded
}

// SharedPortStats is the use of one frontend's ports of one protocol.
// Allocated = Free + Used and Used = PortUses.Total() always.
type SharedPortStats struct {
	Frontend  netip.Addr // whose ports they are
	Protocol  Protocol   // TCP, UDP or Query
	Allocated int        // all ports of the frontend that are handed out
	Free      int        // ports without any flow
	Used      int        // ports that at least one new flow could not get
	PortUses             // Used, by purpose
	Peak      int        // highest Used so far
}

// SharedPorts returns the use of the ports that all instances share, in the order of their
// frontends, TCP before UDP, and Query last if queries are carried; nil if instances own
// them. It is consistent in itself. Cost: O(frontends), under the lock of shared ports.
func (n *NAT) SharedPorts() []SharedPortStats {
	var all []SharedPortStats
	for _, u := range n.plane.SharedUses() {
		all = append(all, SharedPortStats{
			Frontend: u.Frontend, Protocol: Protocol(u.Protocol) + TCP,
			Allocated: u.Allocated, Free: u.Free, Used: u.Used, PortUses: PortUses(u.Uses), Peak: u.Peak,
		})
	}
	return all
}
