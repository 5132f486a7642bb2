package flow

// The state machine of the TCP tracker: a segment is first judged against the
// sequence numbers, which makes it an event; the table then says what the event
// does. Nothing else changes a state.

// event is a segment after judgement.
type event uint8

const (
	evSyn     event = iota // SYN without ACK: the side's first, or the same one repeated
	evSynNew               // SYN without ACK and with another sequence number
	evSynAck               // SYN-ACK to the SYN that opened, or to a noted one
	evSeg                  // no SYN (or a repeated SYN-ACK), no RST, inside the window
	evRst                  // RST that its receiver will accept; RST-ACK that refuses a SYN
	evRstNear              // RST inside the window that will only provoke a challenge ACK
	evStray                // anything else
	numEvents
)

// action is what an event does to the record besides the change of state.
type action uint8

const (
	doPass    action = iota // nothing
	doCount                 // nothing; it is out of the window
	doLearn                 // take the numbers, restart the timer
	doAbsorb                // take the numbers
	doRepeat                // the initiator's SYN again; restart the timer
	doRestart               // everything begins anew with this SYN
	doAttempt               // the same, but nobody has agreed yet: the class stays
	doAccept                // the second SYN: the numbers of both sides are known
	doNote                  // a SYN out of place; count it, and keep in mind who sent it
	doAdopt                 // the SYN-ACK to that: everything begins anew, with the numbers it tells
	doDiscard               // do not forward
	doAnswer                // do not forward, answer with a RST

	// By ConntrackRules only; see conntrackStep.
	doAgain   // the initiator's SYN again, or a later one; the timer goes on
	doFinish  // the first FIN: the state depends on who sent it
	doLastAck // learn and go to TCPTimeWait, unless the segment challenges a noted SYN
	doDoubt   // a RST that its receiver may not accept: the state stays, with the timeout of one that is
	doReopen  // restart, or note
	doIgnore  // nothing, but something has come back
)

// move is one cell of the table. A zero to means stay.
type move struct {
	to TCPState
	do action
}

// tcpLive, as a target, is the state that the flags stand for: see Track.live.
const tcpLive = numTCPStates

// tcpNext is the whole TCP tracker: state, direction (from the initiator I,
// from the responder R), event.
//
//	          SYN R              ACK from both             FIN              other FIN         both acked
//	SYN_SENT ──────► SYN_BOTH ─┬───────────────► ESTABLISHED ──► FIN_I/FIN_R ────────► FIN_BOTH ────────► TIME_WAIT
//	│ │  SYN-ACK R             │                     │ ▲              │ ▲                   │                 │
//	│ └────────────► SYN_RCVD ─┤                 RST │ │ any      RST │ │ any               │ SYN             │ SYN
//	│               MIDSTREAM ─┘                     ▼ │ other        ▼ │ other             │                 │
//	└─────────────────────────────────────────────► RST (one state) ─────────────┐         │                 │
//	  RST-ACK R                                                              SYN ▼         ▼                 ▼
//	                                                                         SYN_AGAIN (one state)
//	          SYN I                                                          │ SYN-ACK R: SYN_RCVD
//	RST_SENT ───────► SYN_SENT                                               └ SYN R: SYN_BOTH, RST-ACK R: RST
//
// SYN_AGAIN is SYN_SENT with the class of the state it came from. MarkReset
// leads to RST_SENT.
//
// It follows RFC 7857 section 2 and RFC 5382 section 5, except:
//   - ESTABLISHED needs an ACK from both ends (RFC 5382), not just both SYNs
//     (RFC 6146).
//   - A RST counts if its receiver will accept it (RFC 5961 section 3): any
//     RST in the window would let a challenge ACK find no state. With a FIN
//     seen, being in the window is enough: hosts then reset with a number from
//     before their FIN. After both FINs a RST changes nothing (RFC 1337).
//   - After a RST that evidently did not land, the connection returns to the
//     state its FINs stand for, not always to ESTABLISHED.
//   - A SYN reopens a closed connection as soon as the other side agrees, with
//     full timers. RFC 7857 leaves the old clock running, which then ends the
//     new connection.
//   - A SYN changes nothing before the connection is closed, but it is noted
//     until the next segment that fits. A SYN-ACK comes first only if both ends
//     have forgotten the old connection: the new one takes over.
//   - SYN_HELD, the 6 seconds of RFC 5382 REQ-4, is not here: an unsolicited
//     SYN has no session.
//
// The rows are the same for both directions where only one is given.
var tcpNext = [numTCPStates][2][numEvents]move{
	TCPSynSent: {
		{evSyn: {do: doRepeat}, evSynNew: {TCPSynSent, doRestart}, evStray: {do: doCount}},
		{evSyn: {TCPSynBoth, doAccept}, evSynAck: {TCPSynReceived, doAccept}, evRst: {to: TCPReset}, evStray: {do: doCount}},
	},
	TCPSynAgain: {
		{evSyn: {do: doRepeat}, evSynNew: {TCPSynAgain, doAttempt}, evStray: {do: doCount}},
		{evSyn: {TCPSynBoth, doAccept}, evSynAck: {TCPSynReceived, doAccept}, evRst: {to: TCPReset}, evStray: {do: doCount}},
	},
	TCPSynBoth:     bothWays(openingRow),
	TCPSynReceived: bothWays(openingRow),
	TCPMidstream: bothWays([numEvents]move{
		evSyn: {TCPSynSent, doRestart}, evSynNew: {TCPSynSent, doRestart}, // better evidence than a stray segment
		evSeg: {tcpLive, doLearn}, evRst: {to: TCPReset}, evStray: {do: doCount},
	}),
	TCPEstablished: bothWays([numEvents]move{
		evSynNew: {do: doNote}, evSynAck: {TCPSynReceived, doAdopt},
		evSeg: {tcpLive, doLearn}, evRst: {to: TCPReset}, evStray: {do: doCount},
	}),
	TCPFinInitiator: bothWays(halfClosedRow),
	TCPFinResponder: bothWays(halfClosedRow),
	TCPFinBoth:      bothWays(closedRow),
	TCPTimeWait:     bothWays(closedRow),
	TCPReset: {
		{evSyn: {TCPSynAgain, doAttempt}, evSynNew: {TCPSynAgain, doAttempt}, evSeg: {tcpLive, doLearn}, evStray: {do: doCount}},
		{evSyn: {TCPSynAgain, doAttempt}, evSynNew: {TCPSynAgain, doAttempt}, evSynAck: {TCPSynReceived, doAccept},
			evSeg: {tcpLive, doLearn}, evStray: {do: doCount}},
	},
	TCPResetSent: {
		{evSynNew: {TCPSynSent, doRestart}, evSeg: {do: doAnswer}, evStray: {do: doDiscard}},
		{evSynNew: {do: doDiscard}, evSeg: {do: doAnswer}, evStray: {do: doDiscard}},
	},
}

// Rows that several states and both directions share.
var (
	openingRow = [numEvents]move{
		evSyn: {do: doRepeat}, evSynNew: {do: doNote}, evSynAck: {TCPSynReceived, doAdopt},
		evSeg: {tcpLive, doLearn}, evRst: {to: TCPReset}, evStray: {do: doCount},
	}
	halfClosedRow = [numEvents]move{
		evSynNew: {do: doNote}, evSynAck: {TCPSynReceived, doAdopt},
		evSeg: {tcpLive, doLearn}, evRst: {to: TCPReset}, evRstNear: {to: TCPReset}, evStray: {do: doCount},
	}
	closedRow = [numEvents]move{
		evSyn: {TCPSynAgain, doAttempt}, evSynNew: {TCPSynAgain, doAttempt},
		evSeg: {tcpLive, doAbsorb}, evStray: {do: doCount},
	}
)

func bothWays(row [numEvents]move) [2][numEvents]move { return [2][numEvents]move{row, row} }

// tcpClass is the idle class each state implies. TCPSynAgain keeps the class
// it finds: the old connection may be the one that survives.
var tcpClass = [numTCPStates]Class{
	TCPSynSent: ClassTCPOpening, TCPSynBoth: ClassTCPOpening, TCPSynReceived: ClassTCPOpening, TCPMidstream: ClassTCPOpening,
	TCPEstablished: ClassTCPEstablished, TCPFinInitiator: ClassTCPHalfClosed, TCPFinResponder: ClassTCPHalfClosed,
	TCPFinBoth: ClassTCPClosing, TCPTimeWait: ClassTCPTimeWait, TCPReset: ClassTCPReset, TCPResetSent: ClassTCPResetSent,
}

// step follows a segment that is not the ordinary one of an established
// connection.
func (t *Track) step(me Side, s *Segment) (e Effect) {
	was := t.Phase()
	if was == TCPNone {
		panic("flow: Track.Update before Open")
	}
	if t.State&conntrack != 0 && was != TCPResetSent {
		return t.conntrackStep(me, s)
	}
	m := tcpNext[was][me^t.Initiator()][t.judge(me, s)]
	switch m.do {
	case doCount:
		e = OutOfWindow
		if t.beyond(me, s) {
			e |= Beyond
		}
	case doLearn:
		t.learn(me, s)
		e = Touch
	case doAbsorb:
		t.learn(me, s)
	case doRepeat:
		t.repeat(me, s)
		e = Touch
	case doRestart:
		t.begin(me, s)
		e = Touch | Reopened
	case doAttempt:
		t.begin(me, s)
		e = Touch
	case doAccept:
		t.accept(me, s)
		e = Touch
		if was == TCPSynAgain {
			e |= Reopened
		}
	case doNote:
		t.State |= synNoted << me
		e = OutOfWindow
	case doAdopt:
		t.adopt(me, s)
		e = Touch | Reopened
	case doDiscard:
		e = Discard
	case doAnswer:
		e = Discard | Answer
	}
	switch m.to {
	case TCPNone:
	case tcpLive:
		e |= t.enter(t.live())
	default:
		e |= t.enter(m.to)
	}
	if t.Phase() == TCPSynAgain && me == Outside {
		e &^= Touch // anyone can forge a SYN from outside, and would hold the port with it
	}
	return e
}

// enter changes the state and the class with it.
func (t *Track) enter(to TCPState) Effect {
	t.State = t.State&(fromOutside|conntrack) | to
	if c := tcpClass[to]; c != ClassNone && c != t.Class {
		t.Class = c
		return Touch | Rearm
	}
	return 0
}

// live returns the state that the flags stand for: after an ACK from both
// sides by the FINs, before that the opening state.
func (t *Track) live() TCPState {
	const acks, fins, acked = ackSeen * 0x11, finSeen * 0x11, finAcked * 0x11
	if t.Flags&acks != acks {
		switch was := t.Phase(); {
		case was != TCPReset:
			return was
		case t.Flags&(synSeen*0x11) == 0:
			return TCPMidstream
		}
		return TCPSynReceived
	}
	switch {
	case t.Flags&fins == 0:
		return TCPEstablished
	case t.Flags&fins == fins && t.Flags&acked == acked:
		return TCPTimeWait
	case t.Flags&fins == fins:
		return TCPFinBoth
	case t.has(finSeen, t.Initiator()):
		return TCPFinInitiator
	}
	return TCPFinResponder
}

// judge makes an event of a segment. Until both SYNs are known there is no
// window: only an acknowledgment of the SYN proves that a segment belongs here.
func (t *Track) judge(me Side, s *Segment) event {
	peer := me ^ 1
	syn, ack, rst := s.Flags&(SYN|ACK) == SYN, s.Flags&ACK != 0, s.Flags&RST != 0
	switch {
	case t.Phase() == TCPResetSent:
		switch {
		case rst:
			return evStray
		case syn:
			return evSynNew
		case ack:
			return evSeg
		}
	case t.halfOpen():
		acks := ack && int32(s.Ack-t.Ack[me]) >= 0 && int32(s.Ack-t.End[peer]) <= 0
		switch fromOpener := t.has(synSeen, me); {
		case syn && fromOpener && s.Seq+1 != t.Ack[peer]:
			return evSynNew
		case syn:
			return evSyn
		case fromOpener || !acks:
		case rst:
			return evRst
		case s.Flags&SYN != 0:
			return evSynAck
		}
	case syn:
		if s.Seq+1 == t.Ack[peer] || s.Seq+s.Len == t.End[me] {
			return evSyn
		}
		return evSynNew
	case rst:
		switch {
		case s.Seq == t.Ack[peer] || s.Seq == t.End[me]:
			return evRst
		case t.seqInWindow(peer, s.Seq):
			return evRstNear
		}
	case t.seqInWindow(peer, s.Seq) && (!ack || t.ackFits(me, s.Ack)):
		return evSeg
	case s.Flags&SYN != 0 && t.State&(synNoted<<peer) != 0:
		return evSynAck
	}
	return evStray
}

// halfOpen reports whether exactly one side's SYN is known.
func (t *Track) halfOpen() bool { return t.has(synSeen, Inside) != t.has(synSeen, Outside) }

// has reports whether what (one of the seen constants) was seen of side.
func (t *Track) has(what uint8, side Side) bool { return t.Flags>>(4*side)&what != 0 }

// ackFits reports whether me may acknowledge ack: nothing the peer has not
// sent, and the peer's SYN at least. In midstream we do not know what was sent.
func (t *Track) ackFits(me Side, ack uint32) bool {
	return t.Phase() == TCPMidstream ||
		int32(ack-t.End[me^1]) <= 0 && (t.has(ackSeen, me) || int32(ack-t.Ack[me]) >= 0)
}

// beyond reports whether a stray segment lies above the window or acknowledges
// what was never sent, on a connection whose numbers are known. A SYN is judged
// by its receiver alone, and so is the acknowledgment number of a RST.
func (t *Track) beyond(me Side, s *Segment) bool {
	peer := me ^ 1
	switch t.Phase() {
	case TCPEstablished, TCPFinInitiator, TCPFinResponder, TCPCloseWait, TCPFinBoth, TCPTimeWait, TCPReset:
	default:
		return false
	}
	if t.halfOpen() || s.Flags&(SYN|ACK) == SYN {
		return false
	}
	return int32(s.Seq-t.Ack[peer]-t.window(peer)) > 0 ||
		s.Flags&(ACK|RST) == ACK && int32(s.Ack-t.End[peer]) > 0
}

// learn takes the numbers of a segment that fits, and FINs and their
// acknowledgments.
func (t *Track) learn(me Side, s *Segment) {
	peer := me ^ 1
	t.learnNumbers(me, s)
	if s.Flags&FIN != 0 {
		t.Flags |= finSeen << (4 * me)
	}
	if t.has(finSeen, peer) && t.has(ackSeen, me) && t.Ack[me] == t.End[peer] {
		t.Flags |= finAcked << (4 * peer)
	}
}

// learnNumbers takes the numbers of a segment that fits.
func (t *Track) learnNumbers(me Side, s *Segment) {
	peer := me ^ 1
	if end := s.Seq + s.Len; int32(end-t.End[me]) > 0 {
		t.End[me] = end
	}
	if s.Flags&ACK != 0 {
		if !t.has(ackSeen, me) || int32(s.Ack-t.Ack[me]) > 0 {
			t.Ack[me] = s.Ack
		}
		if t.Phase() == TCPMidstream && int32(s.Ack-t.End[peer]) > 0 {
			t.End[peer] = s.Ack
		}
		t.Flags |= ackSeen << (4 * me)
	}
	win := s.Window
	if s.Flags&SYN != 0 {
		win = shiftUp(win, t.Scale>>(4*me)&15)
	}
	t.Win[me] = max(t.Win[me], win)
}

// begin takes the numbers of a SYN that opens, or may open, a connection, and
// forgets all others. State and class are for the caller to set.
func (t *Track) begin(me Side, s *Segment) {
	peer := me ^ 1
	*t = Track{State: TCPState(me)<<7 | t.State&(conntrack|phaseMask), Class: t.Class}
	t.Ack[peer] = s.Seq + 1
	t.End[me] = s.Seq + s.Len
	t.Win[me] = s.Window
	t.Scale = s.shift()<<(4*me) | notOffered<<(4*peer)
	t.Flags = synSeen << (4 * me)
}

// repeat takes what a repeated SYN adds: more data, a larger window, or a scale
// that an earlier one, possibly the one that gets answered, did not offer.
func (t *Track) repeat(me Side, s *Segment) {
	if end := s.Seq + s.Len; int32(end-t.End[me]) > 0 {
		t.End[me] = end
	}
	if !t.halfOpen() {
		return
	}
	t.Win[me] = max(t.Win[me], s.Window)
	if shift := s.shift(); shift != notOffered {
		t.Scale = t.Scale&(0xf0>>(4*me)) | shift<<(4*me)
	}
}

// accept takes the numbers of the second SYN and settles the scales: they are
// in force only if both sides offered one (RFC 7323 section 2.2).
func (t *Track) accept(me Side, s *Segment) {
	peer := me ^ 1
	t.Ack[peer] = s.Seq + 1
	t.End[me] = s.Seq + s.Len
	t.Win[me] = s.Window
	t.Flags |= synSeen << (4 * me)
	if s.Flags&ACK != 0 {
		t.Ack[me] = s.Ack
		t.Flags |= ackSeen << (4 * me)
	}
	mine, theirs := s.shift(), t.Scale>>(4*peer)&15
	if mine == notOffered || theirs == notOffered {
		t.Scale = 0
		return
	}
	t.Scale = mine<<(4*me) | theirs<<(4*peer)
	t.Win[me], t.Win[peer] = shiftUp(t.Win[me], mine), shiftUp(t.Win[peer], theirs)
}

// adopt begins anew with a SYN-ACK to a SYN whose numbers were not kept. They
// follow from it, but for the opener's window and scale: assume the largest.
func (t *Track) adopt(me Side, s *Segment) {
	peer := me ^ 1
	*t = Track{State: TCPState(peer)<<7 | t.State&(conntrack|phaseMask), Class: t.Class, Flags: synSeen*0x11 | ackSeen<<(4*me)}
	t.Ack[peer], t.End[me] = s.Seq+1, s.Seq+s.Len
	t.Ack[me], t.End[peer] = s.Ack, s.Ack
	t.Win[me], t.Win[peer] = s.Window, 0xffff
	if mine := s.shift(); mine != notOffered {
		t.Scale = mine<<(4*me) | maxScale<<(4*peer)
		t.Win[me] = shiftUp(s.Window, mine)
	}
}

// pickUp begins in midstream with a segment that is no SYN. Nothing is known of
// the peer but what the segment says: it may have sent more, its window may be
// the largest there is, and so may the scales.
func (t *Track) pickUp(me Side, s *Segment) {
	peer, opener := me^1, me
	if s.Flags&SYN != 0 {
		opener = peer
	}
	*t = Track{State: TCPState(opener) << 7, Scale: maxScale * 0x11}
	t.End[me], t.Ack[peer] = s.Seq+s.Len, s.Seq
	t.End[peer], t.Ack[me] = s.Ack, s.Ack
	t.Win[me], t.Win[peer] = s.Window, 0xffff
	if s.Flags&ACK != 0 {
		t.Flags |= ackSeen << (4 * me)
	}
	if s.Flags&FIN != 0 {
		t.Flags |= finSeen << (4 * me)
	}
	t.enter(TCPMidstream)
}

// notOffered is the nibble of Track.Scale for a SYN without the option.
const notOffered = 15

// shift returns the window scale a SYN offers, as a nibble of Track.Scale.
func (s *Segment) shift() uint8 {
	if s.Scale == NoScale {
		return notOffered
	}
	return min(s.Scale, maxScale)
}

// shiftUp shifts an unscaled window down, rounding up.
func shiftUp(win uint16, shift uint8) uint16 {
	return uint16((uint32(win) + 1<<shift - 1) >> shift)
}
