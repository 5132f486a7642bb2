package snat

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// SubscriberStats is what one inside address has of its instance.
type SubscriberStats struct {
	Instance int        // index of the instance
	Name     string     // of the instance
	Addr     netip.Addr // the inside address

	// Frontend is where a subscriber is paired with one, else the zero Addr.
	Frontend netip.Addr

	// TCPPorts, UDPPorts and QueryIDs are what counts for Limits: mappings, and
	// sessions that are mapped on their own, closed ones included as long as
	// they hold their port.
	TCPPorts, UDPPorts, QueryIDs int

	Sessions int // on ports of the instance, closed ones that hold their port included
}

// Subscribers returns what each inside address with sessions has, in no
// particular order: instances shard by shard. There are none unless
// Owned.Limits or a paired Pooling needs to know. Cost: O(subscribers), under
// the lock of one shard at a time.
func (n *NAT) Subscribers() []SubscriberStats {
	var all []SubscriberStats
	n.plane.Shards(func(of *ports.State) {
		for _, s := range of.Subscribers(nil) {
			all = append(all, SubscriberStats{
				Instance: int(s.Instance.Index), Name: s.Instance.Name, Addr: s.Addr, Frontend: s.Frontend, Sessions: s.Sessions,
				TCPPorts: s.Ports[ports.TCPIndex], UDPPorts: s.Ports[ports.UDPIndex], QueryIDs: s.Ports[ports.QueryIndex],
			})
		}
	})
	return all
}

// BlockStats is one block that a subscriber has been granted.
type BlockStats struct {
	Instance int           // index of the instance
	Name     string        // of the instance
	Addr     netip.Addr    // the subscriber
	Frontend netip.Addr    // whose ports they are
	Ports    flow.PortSpan // of every protocol
	Busy     int           // ports of all protocols in use, held or in quarantine
}

// Blocks returns the blocks that subscribers have, in the order of the instances
// and their ports, IPv4 first. Cost: O(ports / PortBlocks.Size), under the lock of
// one shard at a time.
func (n *NAT) Blocks() []BlockStats {
	var all []BlockStats
	n.plane.Instances(func(of *ports.State, inst *ports.Instance, _ [2]uint64) {
		for _, b := range of.Blocks(nil, inst) {
			all = append(all, BlockStats{int(inst.Index), inst.Name, b.Inside, b.Frontend, b.Ports, b.Busy})
		}
	})
	return all
}
