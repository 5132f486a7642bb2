package snat

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What a TCP segment does to the session that it belongs to, other than nearly all
// segments, which processOutbound and processInbound deal with themselves.

// plain reports whether a segment is whole and has ACK, but not SYN, FIN or RST:
// what nearly all are, and what Track.Data can follow without more ado. A
// fragment does not tell the segment's length: the SYN bit stands in for it.
func (l *lane) plain(t *[20]byte) bool {
	return (t[13]|uint8(l.p.Flags&wire.Fragmented)/uint8(wire.Fragmented)*flow.SYN)&(flow.SYN|flow.FIN|flow.RST|flow.ACK) == flow.ACK
}

// dataLen returns the number of bytes of data of a segment with header t.
func (l *lane) dataLen(t *[20]byte) uint32 {
	return uint32(len(l.p.B) - int(l.p.L4) - int(t[12]>>4)*4)
}

func seqOf(t *[20]byte) uint32    { return binary.BigEndian.Uint32(t[4:]) }
func ackOf(t *[20]byte) uint32    { return binary.BigEndian.Uint32(t[8:]) }
func windowOf(t *[20]byte) uint16 { return binary.BigEndian.Uint16(t[14:]) }

// track shows a TCP segment to the session's tracker. The verdict is made only if the
// answer is faulty.
func (sh *shard) track(m *moment, from flow.Side, l *lane, id flow.ID, s *flow.Session, v *flow.Verdict) (does tracked) {
	does = faulty
	defer sh.spare(m, from, id, v)
	var seg flow.Segment
	segment(&l.p, &seg)
	if seg.Flags&(flow.SYN|flow.FIN|flow.RST) != 0 && corrupt(&l.p) {
		// The receiver will ignore it, so it proves nothing (it is forwarded,
		// still wrong, unless the connection has been reset and holds no port).
		sh.counters.badChecksum++
		if s.Track.Class == flow.ClassTCPResetSent {
			return discard
		}
		return pass
	}
	before := s.Track
	class, unasked := before.Class, s.Kind() == flow.KindTracked || s.Kind() == flow.KindForwarded // what the outside may begin
	if class == flow.ClassTCPResetSent && seg.Flags&(flow.SYN|flow.ACK) == flow.SYN {
		if from == flow.Inside || unasked || sh.nat.ports.Behavior(wire.ProtoTCP).Opens {
			return replace
		}
		return discard // even if the remote had opened the connection: the port is gone
	}
	if from == flow.Outside && ports.Held(class) && seg.Flags&(flow.SYN|flow.ACK) == flow.SYN && sh.nat.perConnection && !unasked {
		return refuse
	}
	opening := s.Track.Unanswered()
	effect := s.Track.Update(from, &seg)
	if effect&flow.Answer != 0 && !wire.VerifyL4(&l.p) {
		sh.counters.badChecksum++
		return discard
	}
	fromOutside := opening && s.Track.Initiator() == flow.Outside
	if fromOutside && from == flow.Outside {
		effect &^= flow.Touch // until the inside agrees, the first SYN is all that counts
	}
	what := sh.react(m.now, from, id, s, &seg, &before, effect)
	if opening && s.Track.Class == flow.ClassTCPReset && (sh.policy.EndRefused || fromOutside) {
		sh.endNow(m, id, s)
	}
	return what
}

// react carries out what a segment means. before is the session's track until now.
func (sh *shard) react(now flow.Time, from flow.Side, id flow.ID, s *flow.Session, seg *flow.Segment, before *flow.Track, effect flow.Effect) tracked {
	if effect&flow.OutOfWindow != 0 {
		sh.counters.outOfWindow++
	}
	if effect&flow.Touch != 0 {
		s.Touch(now)
	}
	if effect&flow.Rearm != 0 {
		sh.Rearm(id, s)
		inst := sh.nat.instances[s.Key.VNI()]
		if s.Track.Class != before.Class && s.Kind().HoldsPort() {
			sh.Completes(&inst.Instance, id, s, before.Class)
		}
		if is := s.Track.Class; (ports.Held(is) || ports.Held(before.Class)) && s.Kind().HoldsPort() {
			sh.Exchange(id, s, &inst.Instance, before.Class, is)
		}
		if reopened(before, &s.Track) { // another connection on the same sockets
			sh.logSession(now, id, s, inst, before.Initiator(), EventSessionDelete, EventBindingDelete)
			sh.logBegin(now, id, s, inst)
		}
	}
	if effect&flow.Answer != 0 {
		sh.answer(id, s, now, from, seg.Ack)
	}
	if effect&flow.Discard != 0 {
		return discard
	}
	return pass
}

// reopened reports whether a closed connection has given way to another one on its
// sockets.
func reopened(before, after *flow.Track) bool {
	return ports.Held(before.Class) && !ports.Held(after.Class) && (before.Phase() == flow.TCPSynAgain || after.Phase() == flow.TCPSynSent)
}

// first reports why a packet may not begin a flow, if so, and reads its segment.
func (sh *shard) first(p *wire.Packet, seg *flow.Segment) flow.Reason {
	switch p.Proto {
	case wire.ProtoTCP:
		segment(p, seg)
		begins := seg.Flags & (flow.SYN | flow.ACK | flow.RST | flow.FIN)
		if begins != flow.SYN && !(sh.policy.PickUp && begins == flow.ACK) {
			return flow.ReasonNoFlow
		}
		if corrupt(p) {
			return flow.ReasonL4Checksum
		}
	case wire.ProtoUDP:
	default:
		return sh.nat.messages.Begins(p)
	}
	return flow.ReasonNone
}

// segment reads what the tracker wants to know of a TCP segment.
func segment(p *wire.Packet, seg *flow.Segment) {
	t := p.TCP()
	*seg = flow.Segment{
		Seq: t.Seq(), Ack: t.Ack(), Len: uint32(len(t.Payload())),
		Window: t.Window(), Flags: t.Flags(), Scale: flow.NoScale,
	}
	if p.Flags&wire.Fragmented != 0 {
		seg.Len = 65535 // the rest is in other fragments
	}
	if seg.Flags&flow.FIN != 0 {
		seg.Len++
	}
	if seg.Flags&flow.SYN != 0 {
		seg.Len++
		if shift, ok := t.WindowScale(); ok {
			seg.Scale = shift
		}
	}
}

// corrupt reports whether a segment's checksum is known to be wrong. That of a
// fragment is not known.
func corrupt(p *wire.Packet) bool { return p.Flags&wire.Fragmented == 0 && !wire.VerifyL4(p) }
