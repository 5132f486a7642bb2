package flow

// ConntrackData is Data for a connection that is followed by ConntrackRules: Update for
// the segments that nearly all are, ACK without SYN, FIN and RST, on an established
// connection, inside the window and with one of its own. It reports whether the segment
// is one, and then the idle timer restarts and need not be armed anew; otherwise it has
// changed nothing and Update must be called.
func (t *Track) ConntrackData(from Side, seq, ack, n uint32, window uint16) bool {
	const both = ackSeen * 0x11
	me, peer := from&1, ^from&1
	// Without a mark that says of something out of place, and not picked up in midstream.
	if t.State&^fromOutside != TCPEstablished|conntrack || t.Flags&both != both || t.Flags&(synSeen*0x11) == 0 || window == 0 {
		return false
	}
	end, next, known := seq+n, seq+n, t.End[me]
	offered, unacked := t.window(peer), int32(ack-t.End[peer])
	if int32(seq-t.Ack[peer]-offered) > 0 || int32(end-known+offered) < 0 ||
		unacked > 0 || unacked < -maxAckWindow && unacked+int32(t.window(me)) < 0 {
		return false
	}
	if int32(end-known) <= 0 {
		next = known
	}
	acked := t.Ack[me]
	if int32(ack-acked) <= 0 {
		ack = acked
	}
	window = max(window, t.Win[me])
	last := uint8(me) * repeatSide
	if n > 0 || seq != next {
		last |= repeatOld
	}
	repeats := t.Flags & repeatMask
	switch {
	case next != known || ack != acked || window != t.Win[me] ||
		t.Flags&(repeatSide|repeatOld) != last || int32(end-known) < -1:
		repeats = 0
	case repeats < repeatMax*repeatUnit:
		repeats += repeatUnit
	}
	class := ClassTCPEstablished
	if repeats == repeatMax*repeatUnit || ack != t.End[peer] || t.Ack[peer] != next {
		class = ClassTCPUnacknowledged
	}
	if class != t.Class && t.Class != ClassTCPUnacknowledged {
		return false // the timer must be armed anew
	}
	t.End[me], t.Ack[me], t.Win[me] = next, ack, window
	t.Flags, t.Class = t.Flags&^borrowed|last|repeats, class
	return true
}
