package flow

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ConntrackData takes a segment only if Update does the same with it, and takes nearly all
// segments of a conversation.
func TestConntrackDataIsUpdate(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, 1))
	taken, plain := 0, 0
	for range 2_000 {
		var tr Track
		iss := [2]uint32{rnd.Uint32(), rnd.Uint32()}
		opener := Side(rnd.IntN(2))
		scale := func() uint8 { return uint8(rnd.IntN(3)) }
		win := func() uint16 { return uint16(rnd.IntN(4) * 500) }
		if rnd.IntN(4) > 0 {
			tr.OpenBy(ConntrackRules, opener, &Segment{Seq: iss[opener], Len: 1, Flags: SYN, Window: 1000, Scale: scale()})
			tr.Update(opener^1, &Segment{Seq: iss[opener^1], Ack: iss[opener] + 1, Len: 1, Flags: SYN | ACK, Window: 1000, Scale: scale()})
		} else {
			tr.OpenBy(ConntrackRules, opener, &Segment{Seq: iss[opener] + 1, Ack: iss[opener^1] + 1, Flags: ACK, Window: 1000, Scale: NoScale})
		}
		next := [2]uint32{iss[0] + 1, iss[1] + 1}
		for range 60 {
			me := Side(rnd.IntN(2))
			s := Segment{Seq: next[me], Ack: next[me^1], Flags: ACK, Window: 1000, Scale: NoScale}
			switch rnd.IntN(12) {
			case 0:
				s.Window = win()
			case 1:
				s.Seq += uint32(rnd.IntN(5)) - 2
			case 2:
				s.Ack += uint32(rnd.IntN(5)) - 2
			case 3:
				s.Seq += rnd.Uint32N(140_000) - 70_000
			case 4:
				s.Ack += rnd.Uint32N(140_000) - 70_000
			case 5, 6, 7:
				s.Len = uint32(rnd.IntN(3))
				next[me] += s.Len
			case 8:
				if rnd.IntN(6) == 0 {
					s.Flags |= []uint8{SYN, FIN, RST}[rnd.IntN(3)]
				}
			}
			fast, slow := tr, tr
			effect := slow.Update(me, &s)
			if s.Flags != ACK {
				tr = slow
				continue
			}
			plain++
			if fast.ConntrackData(me, s.Seq, s.Ack, s.Len, s.Window) {
				taken++
				require.Equal(t, slow, fast, "%+v upon %+v", s, tr)
				require.Equal(t, Touch, effect)
			} else {
				require.Equal(t, tr, fast, "what is not taken changes nothing")
			}
			tr = slow
		}
	}
	assert.Greater(t, taken, plain/4, "of %d", plain)
	t.Logf("%d of %d segments", taken, plain)
}

// The rules of the RFCs are no business of ConntrackData.
func TestConntrackDataLeavesOtherRulesAlone(t *testing.T) {
	var tr Track
	tr.Open(Inside, &Segment{Seq: 1, Len: 1, Flags: SYN, Window: 1000, Scale: NoScale})
	tr.Update(Outside, &Segment{Seq: 1, Ack: 2, Len: 1, Flags: SYN | ACK, Window: 1000, Scale: NoScale})
	tr.Update(Inside, &Segment{Seq: 2, Ack: 2, Flags: ACK, Window: 1000, Scale: NoScale})
	require.True(t, tr.Established())
	assert.False(t, tr.ConntrackData(Inside, 2, 2, 0, 1000))
}
