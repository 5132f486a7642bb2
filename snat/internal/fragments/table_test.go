package fragments

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// inBothFamilies runs a test with a table of some limits for each family.
func inBothFamilies(t *testing.T, limits Limits, test func(t *testing.T, b *bed)) {
	for name, e := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, e, limits)
			test(t, b)
			b.Check()
		})
	}
}

// piece returns one of three parts of the datagram with an identification of host 7.
func (b *bed) piece(id uint32, part int) []byte {
	return b.cut(b.host(7), b.ends.remote, 5000, 53, id, part*344, min(part*344+344, 1024), part < 2)
}

// The translator is asked once for each datagram, whatever comes first, and the rest
// gets what it says.
func TestOneQuestionForEachDatagram(t *testing.T) {
	inBothFamilies(t, some(), func(t *testing.T, b *bed) {
		for id, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			b.left = nil
			for _, part := range order {
				pkt := b.piece(uint32(id), part)
				if v := b.send(flow.Inside, good, pkt); v.Action == flow.Forward {
					require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: good}, v)
					b.left = append(b.left, pkt)
				} else {
					require.Equal(t, flow.Verdict{Action: flow.Queued}, v)
				}
				b.advance(b.now)
			}
			require.Len(t, b.left, 3)
			for _, pkt := range b.left {
				var p wire.Packet
				require.Equal(t, wire.OK, wire.Parse(pkt, &p))
				src, _ := p.Addrs()
				require.Equal(t, words(b.ends.frontend), src)
				require.Equal(t, idOf(b.left[0]), idOf(pkt))
			}
		}
		assert.Equal(t, [2]uint64{6, 0}, b.first)
		assert.Equal(t, [2]uint64{12, 0}, b.Stats().Forwarded)
		assert.Equal(t, [2]uint64{12, 0}, b.carried)
		assert.Zero(t, b.drops())
	})
}

// What the translator refuses is refused as a whole; it counts the first itself.
func TestRefusedAsAWhole(t *testing.T) {
	inBothFamilies(t, some(), func(t *testing.T, b *bed) {
		require.Equal(t, flow.Queued, b.send(flow.Inside, good, b.piece(1, 1)).Action)
		b.refuse = flow.ReasonPorts
		refused := flow.Verdict{Action: flow.Drop, Reason: flow.ReasonPorts}
		for _, part := range []int{0, 2, 0} {
			assert.Equal(t, refused, b.send(flow.Inside, good, b.piece(1, part)))
		}
		b.advance(b.now)
		assert.Empty(t, b.left)
		assert.Equal(t, map[flow.Reason]int{flow.ReasonPorts: 3}, b.dropped[flow.Inside], "the queued one, and two after the first")
	})
}

// A deadline is told for what waits and for what may leave, and nothing else.
func TestDeadlines(t *testing.T) {
	var none *Table
	_, ok := none.NextDeadline()
	assert.False(t, ok)
	assert.True(t, none.Advance(0, 1, nil))
	assert.Zero(t, none.Stats())
	inBothFamilies(t, some(), func(t *testing.T, b *bed) {
		_, ok := b.NextDeadline()
		require.False(t, ok)
		b.now = flow.At(time.Second)
		b.send(flow.Inside, good, b.piece(1, 1))
		at, _ := b.NextDeadline()
		require.Equal(t, flow.At(6*time.Second), at, "the datagram is given up")
		b.now = flow.At(2 * time.Second)
		b.send(flow.Inside, good, b.piece(1, 0))
		at, _ = b.NextDeadline()
		require.Equal(t, b.now, at, "what has waited leaves")
		b.advance(b.now)
		require.Len(t, b.left, 1)
		at, _ = b.NextDeadline()
		require.Equal(t, flow.At(7*time.Second), at)
		b.advance(at)
		_, ok = b.NextDeadline()
		require.False(t, ok)
	})
}

// A datagram is recalled by what it left as, from either side, while it is known.
func TestRecall(t *testing.T) {
	inBothFamilies(t, some(), func(t *testing.T, b *bed) {
		for from, pkt := range [][]byte{
			flow.Inside:  b.piece(77, 0),
			flow.Outside: b.cut(b.ends.remote, b.ends.frontend, 53, good, 77, 0, 344, true),
		} {
			left := slices.Clone(pkt)
			require.Equal(t, flow.Forward, b.send(flow.Side(from), good, left).Action)
			var was, is wire.Packet
			wire.Parse(pkt, &was)
			wire.Parse(left, &is)
			l := Left{From: flow.Side(from)}
			l.Src, l.Dst = is.Addrs()
			if l.ID = idOf(left); is.Flags&wire.V6 == 0 {
				l.Proto = wire.ProtoUDP
			}
			var want Name
			want.Src, want.Dst = was.Addrs()
			want.ID = 77
			came, instance, ok := b.Recall(b.now, &l)
			require.True(t, ok)
			assert.Equal(t, want, came)
			assert.Equal(t, uint32(good), instance)
			l.ID++
			_, _, ok = b.Recall(b.now, &l)
			assert.False(t, ok)
			l.ID--
			_, _, ok = b.Recall(b.now.Add(5*time.Second), &l)
			assert.False(t, ok, "over")
		}
	})
}

// Identifications return after all others have been used, and two tables with one seed
// hand out the same.
func TestIDs(t *testing.T) {
	g, h := NewIDs(3), NewIDs(3)
	seen := make([]bool, 1<<16)
	for range seen {
		id := g.Next4(1, 2, 17)
		require.False(t, seen[id])
		seen[id] = true
		require.Equal(t, id, h.Next4(1, 2, 17))
	}
	six := map[uint32]bool{}
	for range 1 << 16 {
		id := g.Next6()
		require.False(t, six[id])
		six[id] = true
		require.Equal(t, id, h.Next6())
	}
	assert.NotEqual(t, NewIDs(4).Next6(), NewIDs(5).Next6())
}

// From outside the receiver is whoever the translator says, and the counts are apart.
func TestFromOutside(t *testing.T) {
	inBothFamilies(t, some(), func(t *testing.T, b *bed) {
		for part := range 3 {
			pkt := b.cut(b.ends.remote, b.ends.frontend, 53, good, 9, part*344, min(part*344+344, 1024), part < 2)
			require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: good}, b.send(flow.Outside, 0, pkt))
			var p wire.Packet
			require.Equal(t, wire.OK, wire.Parse(pkt, &p))
			_, dst := p.Addrs()
			assert.Equal(t, words(b.host(good)), dst)
		}
		assert.Equal(t, [2]uint64{0, 2}, b.Stats().Forwarded)
		assert.Equal(t, [2]uint64{0, 2}, b.carried)
	})
}

// After all of a datagram has come, a copy of its first fragment is one, and a first
// fragment of another length begins another datagram.
func TestIdentificationReused(t *testing.T) {
	inBothFamilies(t, some(), func(t *testing.T, b *bed) {
		for part := range 3 {
			require.Equal(t, flow.Forward, b.send(flow.Inside, good, b.piece(1, part)).Action)
		}
		require.Equal(t, flow.ReasonFragDuplicate, b.send(flow.Inside, good, b.piece(1, 0)).Reason)
		shorter := b.cut(b.host(7), b.ends.remote, 5000, 53, 1, 0, 336, true)
		require.Equal(t, flow.Forward, b.send(flow.Inside, good, shorter).Action)
		assert.Equal(t, [2]uint64{2, 0}, b.first)
	})
}

// A datagram that is refused takes no place from one that waits.
func TestRefusedTakesNoPlace(t *testing.T) {
	limits := some()
	limits.MaxDatagrams, limits.MaxPerSource = 1, 1
	inBothFamilies(t, limits, func(t *testing.T, b *bed) {
		require.Equal(t, flow.Queued, b.send(flow.Inside, good, b.piece(1, 1)).Action)
		b.refuse = flow.ReasonPorts
		require.Equal(t, flow.ReasonPorts, b.send(flow.Inside, evil, b.piece(2, 0)).Reason)
		assert.Equal(t, 1, b.Stats().Datagrams)
		b.refuse = flow.ReasonNone
		require.Equal(t, flow.Forward, b.send(flow.Inside, good, b.piece(1, 0)).Action)
		b.advance(b.now)
		assert.Len(t, b.left, 1)
	})
}
