package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
)

// Realms: inside address spaces that may overlap. Read RFC 4787 section 4.4 (REQ-7:
// internal and external addresses may overlap) first.
//
// A session is keyed by its instance, so only the look-up of an inside source has
// to know the realm. Realm 0 has the tables that packets read anyway; each other
// one has a copy of all routes in which just the inside addresses differ.

// Realm is the door of the packets from one inside address space; see [NAT.Realm].
// It is small and may be copied, and is as safe for concurrent use as its NAT.
type Realm struct {
	nat *NAT
	id  uint32
}

// Realm returns the door for the packets of the instances with a [Instance].Realm.
// It does not matter whether there are any yet: a packet from a source that belongs
// to no instance of the realm is dropped as spoof. Realm 0 is that of NAT's own
// doors. There is one Inbound for all: an outside port tells its instance, and
// [NAT.RealmOf] the realm of that.
func (n *NAT) Realm(id uint32) Realm { return Realm{n, id} }

// RealmOf returns the realm of an instance, which is that of verdicts and emissions
// to the inside that name it, and whether there is such an instance. Cost: no lock.
func (n *NAT) RealmOf(instance uint32) (id uint32, ok bool) { return n.plane.RealmOf(instance) }

// Outbound is [NAT.Outbound] for a packet from the realm. Batches are faster.
func (r Realm) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	return r.nat.plane.OutboundOf(r.id, now, pkt)
}

// OutboundBatch is [NAT.OutboundBatch] for packets from the realm.
func (r Realm) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	r.nat.plane.Batch(flow.Inside, r.id, now, pkts, verdicts)
}
