package fragments

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// model says what becomes of fragments, by plain lists, as long as no
// limit is reached.
type model struct {
	lifetime  flow.Time
	datagrams map[uint32]*modelDatagram
}

type modelDatagram struct {
	since  flow.Time
	first  bool
	ports  uint32
	reason string // why all is dropped
	done   bool
	pieces []modelPiece
	end    int // -1 until known
}

type modelPiece struct {
	start, end int
	more       bool
}

// send returns what becomes of a fragment, and the offsets of what is released.
func (m *model) send(now flow.Time, id, ports uint32, f modelPiece) (verdict string, released []int) {
	d := m.datagrams[id]
	if d != nil && d.since+m.lifetime <= now {
		d = nil
	}
	if d != nil && d.done && f.start == 0 && (ports != d.ports || f.end != d.pieces[0].end) {
		d = nil
	}
	if d == nil {
		d = &modelDatagram{since: now, end: -1}
		m.datagrams[id] = d
	}
	discard := func(reason string) (string, []int) {
		*d = modelDatagram{since: now, reason: reason}
		return reason, nil
	}
	switch {
	case d.reason != "":
		return d.reason, nil
	case d.done:
		return "frag_duplicate", nil
	case f.start == 0 && d.first && ports != d.ports:
		return discard("frag_conflict")
	case slices.Contains(d.pieces, f):
		return "frag_duplicate", nil
	}
	highest := 0
	for _, p := range d.pieces {
		if f.start < p.end && p.start < f.end {
			return discard("frag_overlap")
		}
		highest = max(highest, p.end)
	}
	if d.end >= 0 && (!f.more || f.end >= d.end) || !f.more && f.end < highest {
		return discard("frag_overlap")
	}
	if !f.more {
		d.end = f.end
	}
	d.pieces = append(d.pieces, f)
	slices.SortFunc(d.pieces, func(a, b modelPiece) int { return a.start - b.start })
	verdict = "forward"
	switch {
	case f.start == 0:
		d.first, d.ports, d.since = true, ports, now
		for _, p := range d.pieces[1:] {
			released = append(released, p.start)
		}
	case !d.first:
		return "queued", nil
	}
	at := 0
	for _, p := range d.pieces {
		if p.start == at {
			at = p.end
		}
	}
	if at == d.end {
		d.done, d.since = true, now
	}
	return verdict, released
}

// The instance that is looked at, and another that sends and gets what never makes a
// datagram.
const (
	good = 2
	evil = 1
)

// flood sends one fragment of a kind, the i-th of all, that belongs together with nothing.
func (b *bed) flood(kind uint8, i int) {
	switch stranger := b.host(uint32(i % 200)); kind {
	case 1:
		b.send(flow.Inside, evil, b.cut(stranger, b.ends.remote, 5000, 53, uint32(i), 0, 32, true))
	case 2:
		b.send(flow.Outside, 0, b.cut(stranger, b.ends.frontend, 53, evil, uint32(i), 0, 32, true))
	case 3:
		b.send(flow.Outside, 0, b.cut(stranger, b.ends.frontend, 53, evil, uint32(i|0x4000), 32, 64, true))
	}
}

// FuzzFragments sends fragments by a script of four bytes each and compares what
// becomes of them with the model, and what leaves with what was sent.
func FuzzFragments(f *testing.F) {
	f.Add([]byte{0x00, 8, 4, 0, 0x00, 0, 8, 0, 0x00, 4, 4, 0})
	f.Add([]byte{0x80, 0, 4, 0, 0x80, 4, 2, 0, 0x80, 4, 2, 0, 0x80, 3, 3, 0, 0x80, 0, 4, 0})
	f.Add([]byte{0x01, 4, 4, 40, 0x21, 0, 4, 60, 0x01, 8, 4, 60, 0x41, 0, 4, 1, 0x51, 0, 4, 1})
	f.Add([]byte{0x10, 0, 4, 0, 0x20, 4, 4, 0, 0x00, 0, 4, 0, 0x10, 4, 4, 0, 0x20, 0, 5, 250})
	f.Add([]byte{0x04, 4, 4, 90, 0x08, 4, 4, 90, 0x05, 8, 4, 60, 0x8c, 0, 4, 99, 0x01, 0, 4, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		for name, e := range byFamily {
			b := newBed(t, e, some())
			flooded, others := false, 0
			m := &model{lifetime: b.limits.Lifetime, datagrams: map[uint32]*modelDatagram{}}
			ids := map[uint32]uint32{} // outside to inside
			for ops := slices.Clone(script); len(ops) >= 4; ops = ops[4:] {
				id, ports, more := uint32(ops[0]&3), uint32(ops[0]>>4&3), ops[0]&0x80 != 0
				start, size := int(ops[1]%64)*8, int(ops[2]%32+1)*8
				if start > 0 && !more {
					size -= int(ops[2] >> 5)
				}
				now := b.now.Add(time.Duration(ops[3]) * 20 * time.Millisecond)
				if start == 0 && !more {
					continue // a whole packet
				}
				if ops[0]&0x40 != 0 {
					b.advance(now)
				}
				b.now = now
				if kind := ops[0] >> 2 & 3; kind > 0 { // what others do to the table is nothing to this host
					flooded = true
					for range ops[3] / 4 {
						others++
						b.flood(kind, others)
					}
				}
				if d := m.datagrams[id]; flooded && d != nil && d.since+m.lifetime > now && (d.done || d.reason != "") {
					continue // what is complete or discarded is forgotten first, and then it would be a new one
				}
				pkt := b.cut(b.host(7), e.remote, uint16(5000+ports), 53, id, start, start+size, more)
				sent := slices.Clone(pkt)
				v := b.send(flow.Inside, good, pkt)
				got := v.Action.String()
				if v.Action == flow.Drop {
					got = v.Reason.String()
				}
				want, released := m.send(now, id, 5000+ports, modelPiece{start, start + size, more})
				require.Equal(t, want, got, "%s: fragment %d %d+%d more=%v", name, id, start, size, more)
				var out [][]byte
				if v.Action == flow.Forward {
					out = append(out, pkt)
					require.Equal(t, len(sent), len(pkt))
				}
				b.left = nil
				b.advance(now)
				var offsets []int
				for _, p := range b.left {
					out, offsets = append(out, p), append(offsets, offsetOf(p))
				}
				require.Equal(t, released, offsets, "%s: released", name)
				for _, p := range out {
					if prior, ok := ids[idOf(p)]; ok {
						require.Equal(t, prior, id, "an identification of two datagrams")
					}
					ids[idOf(p)] = id
					pkttest.Check(t, p, pkttest.Src(e.frontend))
				}
			}
			b.advance(b.now.Add(time.Minute))
			s := b.Stats()
			require.Zero(t, [...]int{s.Datagrams, s.Queued, s.QueuedBytes})
			require.Equal(t, s.Forwarded, b.carried, "what is forwarded is told")
		}
	})
}
