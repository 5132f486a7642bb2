package fragments

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
)

// piece is one fragment that has come.
type piece struct {
	next       uint32
	cell       uint32 // the packet if it is queued, else 0
	size       uint32 // of the packet in bytes
	start, end uint16
}

// cell is a part of a queued packet.
type cell struct {
	next uint32
	data [cellSize]byte
}

const cellSize = 252

var (
	_ [16]byte  = [unsafe.Sizeof(piece{})]byte{}
	_ [256]byte = [unsafe.Sizeof(cell{})]byte{}
)

// record notes that a fragment has come. It refuses a copy, and discards the
// datagram where fragments overlap or disagree about where it ends (RFC 5722,
// here for IPv4 too).
func (t *Table) record(now flow.Time, id uint32, e extent, stored uint32, size int) flow.Reason {
	d := t.datagrams.At(id)
	var after uint32
	if d.last != 0 && t.pieces.At(d.last).end <= e.start {
		after = d.last // in order
	} else {
		for at := d.pieces; at != 0; at = t.pieces.At(at).next {
			q := t.pieces.At(at)
			if q.start >= e.end {
				break
			}
			if q.start == e.start && q.end == e.end && e.more == (d.total != q.end) {
				return flow.ReasonFragDuplicate
			}
			if q.end > e.start {
				return t.discard(now, id, flow.ReasonFragOverlap)
			}
			after = at
		}
	}
	if d.total != 0 && (!e.more || e.end >= d.total) || !e.more && after != d.last {
		return t.discard(now, id, flow.ReasonFragOverlap)
	}
	if int(d.count) >= t.limits.MaxPerDatagram {
		return flow.ReasonFragLimit
	}
	if !e.more {
		d.total = e.end
	}
	at := t.pieces.Alloc()
	q := t.pieces.At(at)
	*q = piece{cell: stored, size: uint32(size), start: e.start, end: e.end}
	if after == 0 {
		q.next, d.pieces = d.pieces, at
	} else {
		prev := t.pieces.At(after)
		q.next, prev.next = prev.next, at
	}
	if q.next == 0 {
		d.last = at
	}
	d.count++
	d.received += e.end - e.start
	if stored != 0 {
		t.charge(d, cellsOf(size))
	}
	return flow.ReasonNone
}

// closeComplete moves an open datagram whose last missing fragment has come to the spent
// ones.
func (t *Table) closeComplete(now flow.Time, id uint32) {
	if d := t.datagrams.At(id); d.received == d.total {
		t.freePieces(id)
		t.spend(now, id)
	}
}

// discard drops what is queued of a datagram and all of it that is still to
// come, and returns the reason.
func (t *Table) discard(now flow.Time, id uint32, reason flow.Reason) flow.Reason {
	d := t.datagrams.At(id)
	if dropped := t.freePieces(id); dropped > 0 {
		t.dropped(d.from(), reason, dropped)
	}
	d.reason = reason
	t.spend(now, id)
	return reason
}

// spend moves a datagram to those that have nothing to lose.
func (t *Table) spend(now flow.Time, id uint32) {
	t.leave(id)
	t.datagrams.At(id).stage = spent
	t.enter(now, id)
}

// freePieces frees the pieces of a datagram, and reports how many were queued.
func (t *Table) freePieces(id uint32) (queued int) {
	d := t.datagrams.At(id)
	for at := d.pieces; at != 0; {
		q := *t.pieces.At(at)
		t.pieces.Free(at)
		if q.cell != 0 {
			t.free(q.cell)
			queued++
		}
		at = q.next
	}
	t.charge(d, -int(d.cells))
	d.pieces, d.last, d.count = 0, 0, 0
	t.queued -= queued
	return queued
}

// store copies a packet into cells, and returns 0 if there is no memory.
func (t *Table) store(b []byte) (head uint32) {
	link := &head
	for len(b) > 0 {
		if *link = t.cells.Alloc(); *link == 0 {
			t.free(head)
			return 0
		}
		c := t.cells.At(*link)
		b = b[copy(c.data[:], b):]
		link = &c.next
	}
	return head
}

// appendTo appends to b, which is empty, the packet of a piece that is queued.
func (t *Table) appendTo(b []byte, q *piece) []byte {
	for c := q.cell; c != 0; c = t.cells.At(c).next {
		b = append(b, t.cells.At(c).data[:min(cellSize, int(q.size)-len(b))]...)
	}
	return b
}

// free frees the cells of a packet.
func (t *Table) free(at uint32) {
	for at != 0 {
		next := t.cells.At(at).next
		t.cells.Free(at)
		at = next
	}
}
