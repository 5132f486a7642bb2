// Package traffic counts what has been translated at frontends.
//
// Traffic is counted after a packet has its verdict, under the same lock, in rows that
// belong to one shard each. A translator that does not count traffic has no rows and asks
// once per call, not per packet of a batch. Fragments other than the first, which need no
// shard, have a row of their own, the last one of a frontend, under a lock of its own.
//
// It refuses to know which frontend a packet belongs to, and who asks.
package traffic

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Count is an amount of traffic.
type Count struct {
	Packets uint64 // fragments each count as one
	Bytes   uint64 // from the IP header to the end of its payload
	SYNs    uint64 // TCP segments with SYN and without ACK
}

// Add adds d to c.
func (c *Count) Add(d *Count) {
	c.Packets += d.Packets
	c.Bytes += d.Bytes
	c.SYNs += d.SYNs
}

// Row is the traffic of one frontend in one shard, by protocol and the side that packets
// came from. Whoever counts or reads holds its lock.
type Row struct {
	Counts [ports.NumPools][2]Count
	_      [48]byte // three cache lines
}

// Add adds what another row counts.
func (r *Row) Add(o *Row) {
	for p := range r.Counts {
		for side := range r.Counts[p] {
			r.Counts[p][side].Add(&o.Counts[p][side])
		}
	}
}

// indexes is ports.PoolIndex without a branch, for what packets carry that are
// translated in sessions; 0 is that of TCP.
var indexes = [256]uint8{wire.ProtoUDP: ports.UDPIndex, wire.ProtoICMP: ports.QueryIndex, wire.ProtoICMPv6: ports.QueryIndex}

// Packet counts a packet from a side.
func (r *Row) Packet(from flow.Side, p *wire.Packet) { r.Counts[indexes[p.Proto]][from].Packet(p) }

// Packet counts a packet.
func (c *Count) Packet(p *wire.Packet) {
	c.Packets++
	c.Bytes += uint64(len(p.B))
	if p.Proto == wire.ProtoTCP && p.TCPHeader()[13]&(flow.SYN|flow.ACK) == flow.SYN {
		c.SYNs++
	}
}

// Piece counts a fragment of size bytes from a side, of which only the protocol is known.
func (r *Row) Piece(from flow.Side, proto uint8, size int) {
	c := &r.Counts[indexes[proto]][from]
	c.Packets++
	c.Bytes += uint64(size)
}

// Rows are the rows of frontends by index, of so many for each; nil if nothing is counted.
type Rows [][]Row

// Keep returns rows by the index of their frontend, n for each: frontends that were there
// before keep theirs, and others get new ones, if traffic is counted. was and rows are those
// before. There may be nil among the frontends.
func Keep(frontends, was []*ports.Frontend, rows Rows, n int, counted bool) Rows {
	if !counted && rows == nil {
		return nil
	}
	all := make(Rows, len(frontends))
	for i, f := range frontends {
		if f == nil {
			continue
		}
		if i < len(rows) && was[i] != nil && was[i].Addr == f.Addr {
			all[i] = rows[i]
		}
		if counted && all[i] == nil {
			all[i] = make([]Row, n)
		}
	}
	return all
}
