package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// slowTrack is the dull twin of Track: plain fields, actual window sizes, one
// branch per sentence of the rules.
type slowTrack struct {
	state  TCPState
	opener Side
	class  Class
	noted  [2]bool
	side   [2]struct {
		syn, acked, fin, finAcked bool // acked: has sent a valid ACK
		ack, end                  uint32
		win                       uint32 // bytes, as far as the scale is known
		scale                     int    // offered with the SYN, -1 not
	}
	scaled bool // both offered
}

// after reports whether a lies after b in sequence space.
func after(a, b uint32) bool { return a != b && a-b <= 1<<31-1 }

// before reports whether a does not reach b. Half way round, neither lies after
// the other and each is before the other.
func before(a, b uint32) bool { return a != b && !after(a, b) }

func (m *slowTrack) open(from Side, s Segment) {
	*m = slowTrack{opener: from}
	if s.Flags&SYN != 0 && s.Flags&ACK == 0 {
		m.become(TCPSynSent)
		m.firstSyn(from, s)
		return
	}
	if s.Flags&SYN != 0 {
		m.opener = 1 - from
	}
	m.become(TCPMidstream)
	m.scaled = true
	x, y := &m.side[from], &m.side[1-from]
	x.scale, y.scale = 14, 14
	x.end, x.ack, x.win = s.Seq+s.Len, s.Ack, uint32(s.Window)<<14
	y.end, y.ack, y.win = s.Ack, s.Seq, 0xffff<<14
	x.acked = s.Flags&ACK != 0
	x.fin = s.Flags&FIN != 0
}

// become changes the state and its class, and reports whether the class is new.
func (m *slowTrack) become(state TCPState) bool {
	m.state, m.noted = state, [2]bool{}
	old := m.class
	switch state {
	case TCPSynSent, TCPSynBoth, TCPSynReceived, TCPMidstream:
		m.class = ClassTCPOpening
	case TCPEstablished:
		m.class = ClassTCPEstablished
	case TCPFinInitiator, TCPFinResponder:
		m.class = ClassTCPHalfClosed
	case TCPFinBoth:
		m.class = ClassTCPClosing
	case TCPTimeWait:
		m.class = ClassTCPTimeWait
	case TCPReset:
		m.class = ClassTCPReset
	case TCPResetSent:
		m.class = ClassTCPResetSent
	case TCPSynAgain: // keeps its class
	default:
		panic(fmt.Sprint("no class for ", state))
	}
	return m.class != old
}

func offer(s Segment) int {
	if s.Scale == NoScale {
		return -1
	}
	return min(int(s.Scale), 14)
}

func (m *slowTrack) firstSyn(from Side, s Segment) {
	m.opener = from
	clear(m.side[:])
	m.scaled = false
	x, y := &m.side[from], &m.side[1-from]
	x.syn, x.end, x.win, x.scale = true, s.Seq+s.Len, uint32(s.Window), offer(s)
	y.ack, y.scale = s.Seq+1, -1
}

// secondSyn completes the numbers.
func (m *slowTrack) secondSyn(from Side, s Segment) {
	x, y := &m.side[from], &m.side[1-from]
	x.syn, x.end, x.win, x.scale = true, s.Seq+s.Len, uint32(s.Window), offer(s)
	y.ack = s.Seq + 1
	if s.Flags&ACK != 0 {
		x.acked, x.ack = true, s.Ack
	}
	if m.scaled = x.scale >= 0 && y.scale >= 0; m.scaled {
		x.win, y.win = roundUp(x.win, x.scale), roundUp(y.win, y.scale)
	}
}

func roundUp(win uint32, scale int) uint32 {
	unit := uint32(1) << scale
	return (win + unit - 1) / unit * unit
}

func (m *slowTrack) update(from Side, s Segment) Effect {
	x, y := &m.side[from], &m.side[1-from]
	has := func(f uint8) bool { return s.Flags&f != 0 }
	plainSyn := has(SYN) && !has(ACK)
	change := func(to TCPState, e Effect) Effect {
		if m.become(to) {
			e |= Touch | Rearm
		}
		return e
	}

	// The tombstone of our own reset.
	if m.state == TCPResetSent {
		switch {
		case has(RST):
			return Discard
		case plainSyn && from == m.opener:
			m.firstSyn(from, s)
			return change(TCPSynSent, Touch|Reopened)
		case has(ACK):
			return Discard | Answer
		}
		return Discard
	}

	// A handshake of which one SYN is known.
	if x.syn != y.syn && m.state != TCPReset {
		again := m.state == TCPSynAgain
		touch := Touch
		if again && from == Outside {
			touch = 0
		}
		if from == m.opener {
			if !plainSyn {
				return OutOfWindow
			}
			if s.Seq+1 != y.ack {
				m.firstSyn(from, s)
				if again {
					return touch
				}
				return Touch | Reopened
			}
			if after(s.Seq+s.Len, x.end) {
				x.end = s.Seq + s.Len
			}
			x.win = max(x.win, uint32(s.Window))
			if offer(s) >= 0 {
				x.scale = offer(s)
			}
			return touch
		}
		e := Effect(Touch)
		if again {
			e |= Reopened
		}
		if plainSyn {
			m.secondSyn(from, s)
			return change(TCPSynBoth, e)
		}
		if !has(ACK) || before(s.Ack, x.ack) || after(s.Ack, y.end) {
			return OutOfWindow
		}
		if has(RST) {
			return change(TCPReset, 0)
		}
		if has(SYN) {
			m.secondSyn(from, s)
			return change(TCPSynReceived, e)
		}
		return OutOfWindow
	}

	// A refused handshake.
	if x.syn != y.syn && !plainSyn {
		fits := from != m.opener && has(ACK) && !before(s.Ack, x.ack) && !after(s.Ack, y.end)
		switch {
		case fits && has(RST):
			return 0
		case fits && has(SYN):
			m.secondSyn(from, s)
			return change(TCPSynReceived, Touch)
		}
		return OutOfWindow
	}

	if plainSyn {
		switch m.state {
		case TCPMidstream:
			m.firstSyn(from, s)
			return change(TCPSynSent, Touch|Reopened)
		case TCPFinBoth, TCPTimeWait, TCPReset:
			m.firstSyn(from, s)
			m.become(TCPSynAgain)
			if from == Inside {
				return Touch
			}
			return 0
		}
		if s.Seq+1 != y.ack && s.Seq+s.Len != x.end {
			m.noted[from] = true
			return OutOfWindow
		}
		if m.state != TCPSynBoth && m.state != TCPSynReceived {
			return 0
		}
		if after(s.Seq+s.Len, x.end) {
			x.end = s.Seq + s.Len
		}
		return Touch
	}

	below := after(y.ack-1, s.Seq)
	above := after(s.Seq, y.ack+y.win)
	stray := OutOfWindow
	known := m.state != TCPSynBoth && m.state != TCPSynReceived && m.state != TCPMidstream
	if known && (above || has(ACK) && !has(RST) && after(s.Ack, y.end)) {
		stray |= Beyond
	}
	if has(RST) {
		exact := s.Seq == y.ack || s.Seq == x.end
		fin := m.state == TCPFinInitiator || m.state == TCPFinResponder
		switch {
		case m.state == TCPFinBoth || m.state == TCPTimeWait || m.state == TCPReset:
			if exact || !below && !above {
				return 0
			}
		case exact || fin && !below && !above:
			return change(TCPReset, 0)
		case !below && !above:
			return 0
		}
		return stray
	}
	badAck := has(ACK) && m.state != TCPMidstream && (after(s.Ack, y.end) || !x.acked && before(s.Ack, x.ack))
	if below || above || badAck {
		if has(SYN) && m.noted[1-from] {
			m.firstSyn(1-from, Segment{Seq: s.Ack - 1, Len: 1, Window: 0xffff, Scale: 14})
			m.secondSyn(from, s)
			m.side[1-from].win = 0xffff
			if m.scaled {
				m.side[1-from].win <<= 14
			}
			return change(TCPSynReceived, Touch|Reopened)
		}
		return stray
	}

	// It fits.
	if after(s.Seq+s.Len, x.end) {
		x.end = s.Seq + s.Len
	}
	if has(ACK) {
		if !x.acked || after(s.Ack, x.ack) {
			x.ack = s.Ack
		}
		if m.state == TCPMidstream && after(s.Ack, y.end) {
			y.end = s.Ack
		}
		x.acked = true
	}
	x.fin = x.fin || has(FIN)
	if y.fin && x.acked && x.ack == y.end {
		y.finAcked = true
	}
	win := uint32(s.Window)
	if m.scaled && has(SYN) {
		win = roundUp(win, x.scale)
	} else if m.scaled {
		win <<= x.scale
	}
	x.win = max(x.win, win)
	e := Effect(Touch)
	if m.state == TCPFinBoth || m.state == TCPTimeWait {
		e = 0
	}
	switch {
	case !x.acked || !y.acked:
		if m.state == TCPReset && !x.syn && !y.syn {
			return change(TCPMidstream, e)
		}
		if m.state == TCPReset {
			return change(TCPSynReceived, e)
		}
		m.noted = [2]bool{}
		return e
	case x.fin && y.fin && x.finAcked && y.finAcked:
		return change(TCPTimeWait, e)
	case x.fin && y.fin:
		return change(TCPFinBoth, e)
	case m.side[m.opener].fin:
		return change(TCPFinInitiator, e)
	case m.side[1-m.opener].fin:
		return change(TCPFinResponder, e)
	}
	return change(TCPEstablished, e)
}

// differs describes the first difference between the twins, or is empty.
func (m *slowTrack) differs(t *Track) string {
	switch {
	case t.Phase() != m.state, t.Initiator() != m.opener, t.Class != m.class:
		return fmt.Sprintf("state %v opened %v class %v, want %v %v %v", t.State, t.Initiator(), t.Class, m.state, m.opener, m.class)
	}
	for i := range m.side {
		x := &m.side[i]
		var flags uint8
		for bit, set := range []bool{x.syn, x.acked, x.fin, x.finAcked} {
			if set {
				flags |= 1 << bit
			}
		}
		switch got := t.Flags >> (4 * i) & 15; {
		case got != flags:
			return fmt.Sprintf("%v: flags %04b, want %04b", Side(i), got, flags)
		case t.Ack[i] != x.ack || t.End[i] != x.end:
			return fmt.Sprintf("%v: ack %d end %d, want %d %d", Side(i), t.Ack[i], t.End[i], x.ack, x.end)
		case t.State&(synNoted<<i) != 0 != m.noted[i]:
			return fmt.Sprintf("%v: noted, want %v", Side(i), m.noted[i])
		case t.Flags&(synSeen*0x11) != synSeen<<0 && t.Flags&(synSeen*0x11) != synSeen<<4 && t.window(Side(i)) != x.win:
			return fmt.Sprintf("%v: window %d, want %d", Side(i), t.window(Side(i)), x.win)
		}
	}
	return ""
}

// scriptFlags are the flag bytes that the scripts draw from.
var scriptFlags = [16]uint8{ACK, ACK, ACK | PSH, ACK, SYN, SYN | ACK, FIN | ACK, FIN | ACK | PSH, RST, RST | ACK, SYN, SYN | ACK, ACK | URG, SYN | PSH | ACK, FIN | ACK, 0xc0 | SYN}

// stepBytes is the length of one script step: side and flags, sequence number,
// acknowledgment number, payload, window, scale.
const stepBytes = 6

// scriptSegment turns one step into a segment whose numbers lie near those that
// matter in the current state.
func scriptSegment(t *Track, op []byte) (from Side, s Segment) {
	from = Side(op[0] & 1)
	peer := from ^ 1
	s.Flags = scriptFlags[op[0]>>4]
	seqs := [8]uint32{t.End[from], t.Ack[peer], t.End[from], t.Ack[peer] - 1, t.Ack[peer] + t.window(peer), t.End[from] - 1, uint32(op[1]) << 24, t.End[from] + 1<<31}
	acks := [8]uint32{t.End[peer], t.End[peer], t.End[peer], t.Ack[from], t.End[peer] - 1, t.End[peer] + 1<<31, uint32(op[2]) << 24, 0}
	s.Seq = seqs[op[1]&7] + uint32([8]int32{0, 0, 0, 0, 0, -1, 1, 2}[op[1]>>3&7])
	s.Ack = acks[op[2]&7] + uint32([8]int32{0, 0, 0, 0, 0, -1, 1, 2}[op[2]>>3&7])
	if op[3] > 100 {
		s.Len = uint32(op[3]) << (op[3] & 7)
	}
	if s.Flags&SYN != 0 {
		s.Len++
	}
	if s.Flags&FIN != 0 {
		s.Len++
	}
	s.Window = uint16(op[4]) * 257
	if s.Scale = op[5] & 15; op[5] > 200 {
		s.Scale = NoScale
	}
	return from, s
}

// runScript drives both twins through script and fails at the first
// difference. It returns the states it has been in.
func runScript(t *testing.T, script []byte) (visited [numTCPStates]int) {
	var got Track
	var want slowTrack
	for n := 0; len(script) >= stepBytes; n++ {
		op := script[:stepBytes]
		script = script[stepBytes:]
		from, s := scriptSegment(&got, op)
		var g, w Effect
		switch {
		case got.Phase() == TCPNone || op[0]&0xe == 0xe && op[1]&op[2] > 200:
			s.Flags &^= RST
			got.Open(from, &s)
			want.open(from, s)
		case op[0]&0xe == 0xc && op[1] > 250:
			got.MarkReset()
			want.become(TCPResetSent)
		default:
			g, w = got.Update(from, &s), want.update(from, s)
		}
		if g != w {
			t.Fatalf("step %d, %v %+v: effect %08b, want %08b (state %v)", n, from, s, g, w, got.State)
		}
		if d := want.differs(&got); d != "" {
			t.Fatalf("step %d, %v %+v: %s", n, from, s, d)
		}
		visited[got.Phase()]++
	}
	return visited
}

func FuzzTrack(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		script := make([]byte, 40*stepBytes)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	// A whole connection: SYN, SYN-ACK, ACK, data, FIN, FIN, ACK.
	f.Add([]byte{
		0x40, 0, 0, 0, 9, 7, 0x51, 0, 0, 0, 9, 7, 0x00, 0, 0, 0, 9, 7, 0x20, 0, 0, 120, 9, 7,
		0x01, 0, 0, 0, 9, 7, 0x60, 0, 0, 0, 9, 7, 0x61, 0, 0, 0, 9, 7, 0x00, 0, 0, 0, 9, 7,
	})
	f.Fuzz(func(t *testing.T, script []byte) { runScript(t, script) })
}

// TestTrackModel runs random conversations through both twins, and makes sure
// that they come through every state.
func TestTrackModel(t *testing.T) {
	const seed = 20260101
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var visited [numTCPStates]int
	script := make([]byte, 60*stepBytes)
	for range 5000 {
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		for state, n := range runScript(t, script) {
			visited[state] += n
		}
	}
	for state := TCPSynSent; state < TCPCloseWait; state++ {
		if visited[state] < 1000 {
			t.Errorf("%v: reached %d times", state, visited[state])
		}
	}
	t.Log(visited)
}
