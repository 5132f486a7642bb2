package flow

// The TCP tracker by the rules of Linux's connection tracking (nf_conntrack, kernel
// 6.x), for those who want its timers rather than the RFCs'. Read the comment on
// conntrackNext first. It keeps the same record, in the same states, and the sequence
// numbers mean the same; Track.Data never takes a segment of such a connection.

// TCPRules says by whose rules connections are followed: which segments change the
// state, and how long a state may idle.
type TCPRules uint8

// The rules.
const (
	RFCRules       TCPRules = iota // RFC 7857, RFC 5382 and RFC 5961; the default
	ConntrackRules                 // nf_conntrack of Linux, with nf_conntrack_tcp_loose and without nf_conntrack_tcp_be_liberal
	numTCPRules
)

var tcpRulesNames = [...]string{RFCRules: "RFCRules", ConntrackRules: "ConntrackRules"}

var _ = [1]struct{}{}[len(tcpRulesNames)-int(numTCPRules)] // one name per set of rules

// String returns the name of the rules.
func (r TCPRules) String() string {
	if r < numTCPRules {
		return tcpRulesNames[r]
	}
	return "TCPRules(?)"
}

// Valid reports whether r is one of the rules.
func (r TCPRules) Valid() bool { return r < numTCPRules }

// OpenBy is Open by the given rules, which the connection then keeps.
func (t *Track) OpenBy(rules TCPRules, from Side, s *Segment) {
	t.Open(from, s)
	if rules == ConntrackRules {
		t.State |= conntrack
		t.Class = conntrackClass[t.Phase()]
	}
}

// Unanswered reports whether nothing that belongs to the connection has come back to
// its opener. One that was picked up in midstream counts by ConntrackRules only.
func (t *Track) Unanswered() bool {
	if t.State&conntrack == 0 {
		return t.Phase() == TCPSynSent
	}
	peer := t.Initiator() ^ 1
	return t.Phase() != TCPReset && !t.has(synSeen|ackSeen, peer) && !t.interrupted()
}

// segmentKind is what a segment is to these rules, if it fits.
type segmentKind uint8

const (
	kindSyn segmentKind = iota
	kindSynAck
	kindFin
	kindAck
	kindRst
	kindRstNear // in an established connection, inside the window but not at its edge
	kindInvalid // what does not fit
	numKinds
)

// conntrackNext is the state machine: state, direction (from the initiator I, from
// the responder R), kind. Every segment that fits restarts the timer, with that of
// the state it leads to, except a SYN from I that is sent again before anything has
// come back. The columns are the same for I and R where one is given:
//
//	                        SYN of I   SYN-ACK of R  FIN       ACK          RST
//	SYN_SENT                again      SYN_RCVD      -         -            RST
//	SYN_BOTH                stay       SYN_RCVD      -         -            RST   (SYN-ACK of either)
//	SYN_RCVD                noted      -             FIN_I/R   ESTABLISHED  RST   (with an ACK of both)
//	MIDSTREAM, ESTABLISHED  noted      -             FIN_I/R   ESTABLISHED  RST   (at the edge; else stay, for as long as RST)
//	FIN_I/R                 noted      -             FIN_BOTH  CLOSE_WAIT   RST
//	CLOSE_WAIT              noted      -             FIN_BOTH  stay         RST
//	FIN_BOTH                noted      -             stay      TIME_WAIT    RST
//	TIME_WAIT               SYN_SENT   -             stay      stay         RST
//	RST                     SYN_SENT   -             stay      stay         RST   (after a FIN or a RST of I; else noted)
//
// A noted SYN changes nothing, but a SYN-ACK that follows begins everything anew. To
// Linux MIDSTREAM is ESTABLISHED without a reply, FIN_I/R is FIN_WAIT, whoever sent
// the FIN, FIN_BOTH is LAST_ACK and RST is CLOSE. It lets a second FIN of one side
// stand for the other's, and any ACK for the one that is due.
//
// In ESTABLISHED and MIDSTREAM the class is ClassTCPUnacknowledged while data is
// unacknowledged, after the fourth equal segment in a row, after a window of 0, and
// as long as nothing has come back.
//
// It deviates from Linux where the record is too small. Segments count as equal that
// end where the sender's data does, or one before, and tell nothing new. Of a noted
// SYN only who sent it is kept, so the SYN-ACK is not compared with it. A connection
// picked up in midstream has no window, but one that begins anew in its place has;
// and a RST that answers an ACK which was out of place is judged like others.
var conntrackNext = func() (next [numTCPStates][2][numKinds]move) {
	for _, row := range []struct {
		state         TCPState
		syn, fin, ack move
	}{
		{TCPSynReceived, move{do: doNote}, move{do: doFinish}, move{tcpLive, doLearn}},
		{TCPMidstream, move{do: doNote}, move{do: doFinish}, move{tcpLive, doLearn}},
		{TCPEstablished, move{do: doNote}, move{do: doFinish}, move{tcpLive, doLearn}},
		{TCPFinInitiator, move{do: doNote}, move{TCPFinBoth, doLearn}, move{TCPCloseWait, doLearn}},
		{TCPFinResponder, move{do: doNote}, move{TCPFinBoth, doLearn}, move{TCPCloseWait, doLearn}},
		{TCPCloseWait, move{do: doNote}, move{TCPFinBoth, doLearn}, move{TCPCloseWait, doLearn}},
		{TCPFinBoth, move{do: doNote}, move{TCPFinBoth, doLearn}, move{do: doLastAck}},
		{TCPTimeWait, move{TCPSynSent, doRestart}, move{TCPTimeWait, doLearn}, move{TCPTimeWait, doLearn}},
		{TCPReset, move{do: doReopen}, move{TCPReset, doLearn}, move{TCPReset, doLearn}},
	} {
		rst := move{TCPReset, doLearn}
		next[row.state] = [2][numKinds]move{
			{kindSyn: row.syn, kindSynAck: {do: doCount}, kindFin: row.fin, kindAck: row.ack, kindRst: rst, kindRstNear: {do: doDoubt}, kindInvalid: {do: doCount}},
			{kindSyn: {do: doCount}, kindSynAck: {do: doAdopt}, kindFin: row.fin, kindAck: row.ack, kindRst: rst, kindRstNear: {do: doDoubt}, kindInvalid: {do: doCount}},
		}
	}
	next[TCPSynReceived][0][kindSynAck] = move{TCPSynReceived, doLearn} // of a simultaneous open
	opening := [numKinds]move{
		kindSyn: {do: doRepeat}, kindSynAck: {TCPSynReceived, doLearn}, kindFin: {do: doCount}, kindAck: {do: doCount},
		kindRst: {TCPReset, doLearn}, kindInvalid: {do: doCount},
	}
	next[TCPSynBoth] = [2][numKinds]move{opening, opening}
	next[TCPSynSent] = [2][numKinds]move{opening, opening}
	next[TCPSynSent][0][kindSyn], next[TCPSynSent][0][kindSynAck] = move{do: doAgain}, move{do: doCount}
	next[TCPSynSent][1][kindAck] = move{do: doIgnore} // the responder may think of an earlier connection
	next[TCPSynSent][1][kindSyn], next[TCPSynSent][1][kindSynAck] = move{TCPSynBoth, doAccept}, move{TCPSynReceived, doAccept}
	return next
}()

// conntrackClass is the idle class each state implies.
var conntrackClass = [numTCPStates]Class{
	TCPSynSent: ClassTCPOpening, TCPSynBoth: ClassTCPOpening, TCPSynReceived: ClassTCPSynReceived,
	TCPMidstream: ClassTCPUnacknowledged, TCPEstablished: ClassTCPEstablished,
	TCPFinInitiator: ClassTCPHalfClosed, TCPFinResponder: ClassTCPHalfClosed, TCPCloseWait: ClassTCPCloseWait,
	TCPFinBoth: ClassTCPClosing, TCPTimeWait: ClassTCPTimeWait, TCPReset: ClassTCPReset,
}

// What Track.Flags remembers by these rules instead of FINs and their
// acknowledgments. While there has been no FIN and no RST, the four bits describe the
// segment before: how often it was repeated, who sent it, and whether it had data or
// began before the end of what its sender has sent, as keepalives do. Later they say
// who has sent a FIN, and whose RST the last segment was.
const (
	repeatMask = finSeen | finAcked
	repeatUnit = finSeen
	repeatMax  = 3                 // nf_conntrack_tcp_max_retrans
	repeatSide = finSeen << 4      // set: Outside
	repeatOld  = finAcked << 4     // set: data, or before the end
	lastReset  = finAcked          // shifted left by 4 for Outside
	closeInit  = finSeen * 0x11    // a FIN of either
	borrowed   = repeatMask * 0x11 // all four bits
)

// conntrackStep is step by these rules.
func (t *Track) conntrackStep(me Side, s *Segment) (e Effect) {
	peer := me ^ 1
	kind := t.conntrackKind(me, s)
	m := conntrackNext[t.Phase()][me^t.Initiator()][kind]
	switch m.do {
	case doCount:
		e = OutOfWindow
		if t.beyond(me, s) {
			e |= Beyond
		}
		return e
	case doNote:
		t.note()
		return OutOfWindow
	case doAgain:
		if int32(s.Seq+s.Len-t.End[me]) > 0 {
			t.begin(me, s)
		} else {
			t.repeat(me, s)
		}
		if t.interrupted() {
			return Touch
		}
		return 0
	case doIgnore:
		t.interrupt()
		return OutOfWindow
	case doRepeat:
		t.repeat(me, s)
		return Touch
	case doDoubt:
		t.learnNumbers(me, s)
		e = Touch | t.reclass(ClassTCPReset)
		t.interrupt()
		return e
	case doReopen:
		if t.Flags&(closeInit|lastReset<<(4*me)) == 0 {
			t.note()
			return OutOfWindow
		}
		m = move{TCPSynSent, doRestart}
	case doAdopt:
		if t.State&(synNoted<<peer) == 0 {
			if t.Phase() == TCPReset {
				t.Flags &^= lastReset * 0x11
			}
			t.interrupt()
			return OutOfWindow
		}
		m.to = TCPSynReceived
	case doLastAck:
		if me != t.Initiator() && t.State&(synNoted<<peer) != 0 && !t.interrupted() { // it challenges that SYN
			t.interrupt() // but the next one does not
			return OutOfWindow
		}
		m = move{TCPTimeWait, doLearn}
	case doFinish:
		m = move{TCPFinResponder, doLearn}
		if me == t.Initiator() {
			m.to = TCPFinInitiator
		}
	}
	return t.conntrackMove(me, s, kind, m)
}

// conntrackMove takes what segment s says, and enters the state it leads to.
func (t *Track) conntrackMove(me Side, s *Segment, kind segmentKind, m move) Effect {
	e := Touch
	switch m.do {
	case doLearn:
		t.conntrackLearn(me, s, kind)
	case doAccept:
		t.accept(me, s)
	case doRestart:
		t.begin(me, s)
		e |= Reopened
	case doAdopt:
		t.adopt(me, s)
		e |= Reopened
	}
	if m.to == tcpLive {
		if m.to = t.Phase(); t.Flags&(ackSeen*0x11) == ackSeen*0x11 {
			m.to = TCPEstablished
		}
	}
	e |= t.conntrackEnter(m.to, s)
	if s.Window == 0 && m.to == TCPEstablished {
		t.interrupt() // the same with a window is not the same
	}
	return e
}

// note keeps in mind that the initiator has sent a SYN out of place.
func (t *Track) note() {
	t.State |= synNoted << t.Initiator()
	if t.Phase() < TCPFinInitiator {
		t.interrupt()
	} else {
		t.State &^= synNoted << (t.Initiator() ^ 1)
	}
}

// interrupt keeps in mind that there has been a segment which no other one repeats or
// follows, until the next that fits. A SYN of the responder is never noted, so its
// mark says that.
func (t *Track) interrupt() { t.State |= synNoted << (t.Initiator() ^ 1) }

// interrupted reports whether interrupt was called after the last segment that fitted.
func (t *Track) interrupted() bool { return t.State&(synNoted<<(t.Initiator()^1)) != 0 }

// conntrackEnter changes the state after segment s, and the class with it.
func (t *Track) conntrackEnter(to TCPState, s *Segment) Effect {
	first := t.Phase() == TCPMidstream // the first that comes back changes nothing yet
	t.State = t.State&(fromOutside|conntrack) | to
	if to == TCPEstablished && (first || s.Window == 0 || t.Ack[Inside] != t.End[Outside] || t.Ack[Outside] != t.End[Inside]) {
		return t.reclass(ClassTCPUnacknowledged)
	}
	return t.reclass(conntrackClass[to])
}

// reclass changes the class, if what is repeated does not ask for another one.
func (t *Track) reclass(class Class) Effect {
	if t.Phase() == TCPEstablished && t.Flags&repeatMask == repeatMax*repeatUnit {
		class = ClassTCPUnacknowledged
	}
	was := t.Class
	t.Class = class
	switch {
	case class == was:
		return 0
	case was == ClassTCPUnacknowledged && class == ClassTCPEstablished:
		return Touch // the timer that is armed for the shorter timeout will look again
	}
	return Touch | Rearm
}

// conntrackLearn takes the numbers of a segment that fits, and keeps account of what
// the borrowed flags stand for.
func (t *Track) conntrackLearn(me Side, s *Segment, kind segmentKind) {
	end, ack, win, flags := t.End[me], t.Ack[me], t.Win[me], t.Flags
	phase := t.Phase()
	if kind < kindRst || phase < TCPFinInitiator {
		t.learnNumbers(me, s)
	}
	if kind == kindRst || phase == TCPReset {
		if phase < TCPFinInitiator {
			t.Flags &^= borrowed
		}
		if t.Flags &^= lastReset * 0x11; kind == kindRst {
			t.Flags |= lastReset << (4 * me)
		}
		return
	}
	switch {
	case kind == kindFin:
		if phase < TCPFinInitiator {
			t.Flags &^= borrowed
		}
		t.Flags |= finSeen << (4 * me)
	case kind == kindAck && phase < TCPFinInitiator:
		last := uint8(me) * repeatSide
		if s.Len > 0 || s.Seq != t.End[me] {
			last |= repeatOld
		}
		n := t.Flags & repeatMask
		switch {
		case t.interrupted():
			n = 0
		case end != t.End[me] || ack != t.Ack[me] || win != t.Win[me] || flags&(ackSeen<<(4*me)) == 0,
			flags&(repeatSide|repeatOld) != last, int32(s.Seq+s.Len-end) < -1:
			n = 0
		case n < repeatMax*repeatUnit:
			n += repeatUnit
		}
		t.Flags = t.Flags&^borrowed | last | n
	}
}

// maxAckWindow is how far behind the end of the data an acknowledgment may lie, if
// the window is not larger.
const maxAckWindow = 66_000

// fits reports whether a segment lies in the window.
func (t *Track) fits(me Side, s *Segment) bool {
	peer := me ^ 1
	if t.Flags&(synSeen*0x11) == 0 { // picked up: what the windows are is not known
		return true
	}
	upper := t.Ack[peer]
	if t.has(ackSeen, peer) {
		upper += t.window(peer)
	}
	return int32(s.Seq-upper) <= 0 &&
		int32(s.Seq+s.Len-t.End[me]+t.window(peer)) >= 0 &&
		(s.Flags&ACK == 0 || int32(s.Ack-t.End[peer]) <= 0 && int32(s.Ack-t.End[peer]+max(t.window(me), maxAckWindow)) >= 0)
}

// conntrackKind judges a segment.
func (t *Track) conntrackKind(me Side, s *Segment) segmentKind {
	peer := me ^ 1
	phase := t.Phase()
	acks := s.Flags&ACK == 0 || int32(s.Ack-t.Ack[me]) >= 0 && int32(s.Ack-t.End[peer]) <= 0
	switch {
	case s.Flags&RST != 0 && phase == TCPSynSent:
		if me == t.Initiator() && int32(s.Seq-t.End[me]) <= 0 || me != t.Initiator() && (acks || s.Ack == 0) {
			return kindRst
		}
	case s.Flags&RST != 0 && phase >= TCPFinInitiator:
		return kindRst // Linux believes any, for the ends may be in another connection already
	case s.Flags&RST != 0:
		if t.has(ackSeen, peer) && int32(s.Seq-t.Ack[peer]) < 0 || !t.fits(me, s) && !(s.Flags&ACK != 0 && s.Ack == 0) {
			return kindInvalid
		}
		// At the edge is also what follows its sender's last segment, if there was none since.
		mine := t.Flags&repeatSide == uint8(me)*repeatSide && !t.interrupted()
		noted := t.State&(synNoted<<t.Initiator()) != 0
		if phase == TCPEstablished && s.Seq != t.Ack[peer] && !(s.Seq == t.End[me] && mine) && !noted {
			return kindRstNear
		}
		return kindRst
	case s.Flags&(SYN|ACK) == SYN:
		return kindSyn
	case s.Flags&SYN != 0:
		if phase == TCPSynSent && !acks || phase == TCPSynBoth && !t.fits(me, s) {
			return kindInvalid
		}
		return kindSynAck
	case phase == TCPSynSent && (me == t.Initiator() || s.Flags&FIN != 0):
	case phase != TCPSynSent && !t.fits(me, s):
	case s.Flags&FIN != 0:
		return kindFin
	default:
		return kindAck
	}
	return kindInvalid
}
