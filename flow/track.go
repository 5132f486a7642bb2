package flow

// The TCP tracker. Read RFC 7857 section 2 (states and timers), RFC 5382
// section 5 (what counts as established and closing) and section 9 (why a flag
// must fall into the window before it may change anything), RFC 5961 (RST) and
// RFC 7323 section 2 (window scale) first. This file is the record and the
// path of an ordinary segment; track_table.go is the state machine.

import "unsafe"

// TCP flag bits, as in the header's 14th byte (RFC 9293 section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// NoScale in Segment.Scale says that a SYN carries no window scale option.
const NoScale = 0xff

// maxScale is the largest shift; a larger offer counts as this one (RFC 7323
// section 2.3).
const maxScale = 14

// Segment is what the tracker needs to know of one TCP segment.
//
// The caller must have verified the checksum of a segment with SYN, FIN or RST
// set, and must forward a corrupt one without showing it to the tracker: it
// proves nothing about the connection. Impossible flag combinations (none at
// all, SYN with FIN or RST, FIN or PSH or URG without ACK) must not get here.
//
// Of a fragmented segment the caller shows the first fragment, with a Len that
// covers the whole: 65535 if unknown. With less, the acknowledgment of the rest
// would seem to acknowledge what was never sent.
type Segment struct {
	Seq    uint32 // sequence number
	Ack    uint32 // acknowledgment number, meaningful with the ACK flag
	Len    uint32 // sequence numbers it occupies: payload bytes, plus 1 for SYN, plus 1 for FIN
	Window uint16 // window field as on the wire, not scaled
	Flags  uint8  // the flag byte of the header
	Scale  uint8  // shift of a SYN's window scale option, or NoScale; ignored without SYN
}

// Track is the TCP state of one session: 24 bytes without pointers, embedded in
// the session's record. The record's owner serialises access; nothing here
// locks, allocates or knows the time. Arrays are indexed by Side: Inside is the
// values of the inside host, Outside those of the remote one, whatever
// direction a segment takes and whoever opened the connection.
//
// Sequence numbers are compared modulo 2^32.
type Track struct {
	// Ack is the highest acknowledgment number this side has sent. Until it
	// has sent one, it is the one that acknowledges the other side's SYN, or
	// in midstream the other side's first known sequence number.
	Ack [2]uint32
	// End is the highest sequence number this side has sent, plus one: the
	// end of its data, SYN and FIN included.
	End [2]uint32
	// Win is the largest window this side has offered, to be shifted left by
	// its scale. A SYN's window is never scaled (RFC 7323 section 2.2), so it
	// is shifted down, rounding up, once the scale is agreed.
	Win [2]uint16
	// Scale holds the shifts of both sides, Inside in the low nibble. Between
	// the first SYN and the other side's, a nibble may be 15: not offered.
	Scale uint8
	// State has flags in its high bits; Phase is the state alone.
	State TCPState
	// Flags remembers what each side has sent: see the seen constants; Inside
	// in the low nibble.
	Flags uint8
	// Class is the idle class that State implies; expiry reads only this.
	Class Class
}

var _ [24]byte = [unsafe.Sizeof(Track{})]byte{} // does not compile if Track grows

// What Track.Flags remembers of a side, shifted left by 4 for Outside.
const (
	synSeen  = 1 << iota
	ackSeen  // a segment with ACK that was valid
	finSeen  // a valid FIN
	finAcked // the other side has acknowledged it
)

// TCPState is a state of the tracker. In Track.State the high bits say which
// side opened and which one has sent a SYN that does not fit: use Track.Phase
// to compare.
type TCPState uint8

// The states. I is the side that opened the connection, R the other one.
const (
	TCPNone         TCPState = iota // not tracked: the zero Track
	TCPSynSent                      // SYN from I
	TCPSynBoth                      // a plain SYN from each side, simultaneous open
	TCPSynReceived                  // SYN-ACK from R
	TCPMidstream                    // picked up without a SYN
	TCPEstablished                  // ACK from both sides
	TCPFinInitiator                 // then FIN from I
	TCPFinResponder                 // or FIN from R
	TCPFinBoth                      // FIN from both
	TCPTimeWait                     // both FINs acknowledged
	TCPReset                        // RST that belongs to the connection
	TCPResetSent                    // we sent RSTs to both sides
	TCPSynAgain                     // a SYN after TCPFinBoth, TCPTimeWait or TCPReset; class still that of the old state
	TCPCloseWait                    // by ConntrackRules: an ACK after the first FIN
	numTCPStates

	phaseMask   TCPState = 0x0f
	conntrack   TCPState = 0x10 // followed by ConntrackRules
	synNoted    TCPState = 0x20 // shifted left by the side that has sent a SYN out of place
	fromOutside TCPState = 0x80 // the outside opened the connection
)

var tcpStateNames = [...]string{
	TCPNone: "none", TCPSynSent: "syn-sent", TCPSynBoth: "syn-both", TCPSynReceived: "syn-received",
	TCPMidstream: "midstream", TCPEstablished: "established", TCPFinInitiator: "fin-initiator",
	TCPFinResponder: "fin-responder", TCPFinBoth: "fin-both", TCPTimeWait: "time-wait",
	TCPReset: "reset", TCPResetSent: "reset-sent", TCPSynAgain: "syn-again", TCPCloseWait: "close-wait",
}

var _ = [1]struct{}{}[len(tcpStateNames)-int(numTCPStates)] // one name per state

// String returns the name of the state, without the flags.
func (s TCPState) String() string {
	if s &= phaseMask; s < numTCPStates {
		return tcpStateNames[s]
	}
	return "tcp-state(?)"
}

// Effect tells the owner of a Track what a segment means for the record and
// the packet. The zero Effect is: forward, change nothing.
type Effect uint8

// The effects, as bits. Without Discard the segment is forwarded.
const (
	// Touch restarts the idle timer.
	Touch Effect = 1 << iota
	// Rearm says that Class changed, perhaps to a shorter one, so the timer
	// must be armed anew. It comes with Touch.
	Rearm
	// OutOfWindow marks a segment that does not fit the connection; it
	// changed nothing. Count it. Old duplicates and challenge ACKs look so.
	OutOfWindow
	// Beyond marks an OutOfWindow segment that no correct host sends: above
	// the offered window, or acknowledging data never sent. A strict
	// translator drops it.
	Beyond
	// Reopened says that another connection has begun on the same 5-tuple. It
	// keeps the session and its mapping.
	Reopened
	// Answer asks for a RST to the sender with sequence number SEG.ACK, rate
	// limited (RFC 5961 section 9.1); the connection was reset by us.
	Answer
	// Discard says that the segment must not be forwarded.
	Discard
)

// Open begins to track a session with its first segment, whatever t held.
// A SYN without ACK opens a connection. Any other segment is a midstream
// pick-up, for callers that allow it; a RST never opens a session, and Open
// panics on one. Class is set; the owner arms the timer.
func (t *Track) Open(from Side, s *Segment) {
	switch {
	case s.Flags&RST != 0:
		panic("flow: Track.Open with a RST")
	case s.Flags&(SYN|ACK) == SYN:
		*t = Track{}
		t.begin(from, s)
		t.enter(TCPSynSent)
	default:
		t.pickUp(from, s)
	}
}

// Update follows one further segment of the session that from has sent, and
// returns what it means. Update panics on a Track that was never opened.
func (t *Track) Update(from Side, s *Segment) Effect {
	if s.Flags&(SYN|FIN|RST|ACK) == ACK && t.Data(from, s.Seq, s.Ack, s.Len, s.Window) {
		return Touch
	}
	return t.step(from&1, s)
}

// Data is Update for the segments that nearly all are: ACK without SYN, FIN and
// RST, on an established connection, inside the window. It reports whether the
// segment is one, and then the idle timer restarts; otherwise it has changed
// nothing and Update must be called.
func (t *Track) Data(from Side, seq, ack, n uint32, window uint16) bool {
	me, peer := from&1, ^from&1
	if t.State&^fromOutside != TCPEstablished || !t.seqInWindow(peer, seq) || int32(ack-t.End[peer]) > 0 {
		return false
	}
	if end := seq + n; int32(end-t.End[me]) > 0 {
		t.End[me] = end
	}
	if int32(ack-t.Ack[me]) > 0 {
		t.Ack[me] = ack
	}
	if window > t.Win[me] {
		t.Win[me] = window
	}
	return true
}

// seqInWindow reports whether peer may be sent sequence number seq: from one
// below the highest it has acknowledged (a keepalive) up to the end of the
// largest window it has offered.
func (t *Track) seqInWindow(peer Side, seq uint32) bool {
	return seq-t.Ack[peer]+1 <= t.window(peer)+1
}

// window returns the largest window side has offered, scaled: below 2^30.
func (t *Track) window(side Side) uint32 {
	return uint32(t.Win[side&1]) << (t.Scale >> (side & 1 * 4) & 15)
}

// MarkReset turns t into the tombstone of a connection that the translator has
// reset: see Resets. It answers segments that carry an ACK, until it expires or
// the opener sends a new SYN. The owner must re-arm the timer.
func (t *Track) MarkReset() { t.enter(TCPResetSent) }

// Resets returns the sequence numbers that RSTs to side to must carry so that
// a real stack accepts one: seqs[:n], to be sent in this order. The first is
// what to has acknowledged last; if its peer has sent more, the end of that is
// the second, for then an acknowledgment may be under way or lost. A RST goes
// out with no other flag and with acknowledgment number, window and urgent
// pointer zero. n is 0 when the connection must not be reset: only an
// established one is, never half-open or closing ones.
func (t *Track) Resets(to Side) (seqs [2]uint32, n int) {
	if !t.Established() {
		return seqs, 0
	}
	seqs = [2]uint32{t.Ack[to&1], t.End[^to&1]}
	if seqs[0] == seqs[1] {
		return seqs, 1
	}
	return seqs, 2
}

// Phase returns the state without the flags of Track.State.
func (t *Track) Phase() TCPState { return t.State & phaseMask }

// Initiator returns the side that opened the connection. In midstream it is the
// side that was heard first, or the receiver of a SYN-ACK.
func (t *Track) Initiator() Side { return Side(t.State >> 7) }

// SetInitiator says which side began a session of a protocol without connections.
func (t *Track) SetInitiator(side Side) { t.State = TCPState(side) << 7 }

// Established reports whether both sides have sent an ACK and neither a FIN nor
// a RST (RFC 5382 section 5).
func (t *Track) Established() bool { return t.Phase() == TCPEstablished }

// Closing reports whether the connection is over and the session only guards
// against stragglers: both FINs or a RST seen, or reset by the translator.
func (t *Track) Closing() bool {
	switch t.Phase() {
	case TCPFinBoth, TCPTimeWait, TCPReset, TCPResetSent, TCPSynAgain:
		return true
	}
	return false
}
