// The packets of a session that exists, in both directions.

package kubeproxy

import (
	"encoding/binary"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// streamAge is how old a UDP session must be for an answer to make it a stream (nf_conntrack).
const streamAge = uint32(2 * time.Second / flow.Tick)

// forward takes a packet that the client of a session has sent. again reports that the
// session is over and the packet begins another one.
func (sh *shard) forward(node int, pkt *wire.Packet, id flow.ID, s *flow.Session) (r Result, again bool) {
	if sh.track(flow.Outside, pkt, s) {
		if sh.follow(flow.Outside, pkt, id, s)&flow.Reopened != 0 {
			sh.remove(id, s) // as Linux does with a SYN in TIME_WAIT
			return Result{}, true
		}
	}
	r = Result{Action: Forward, Node: sh.proxy.slots.nodeOf(slotOf(s))}
	if pkt.Flags != 0 {
		k, d := tupleOf(pkt), sh.proxy.delivered(id, s)
		return sh.apply(node, pkt, &k, &d, r), false
	}
	rewrite4(pkt, sh.proxy.seenAddr4(s), s.Key.Src, uint32(s.Data[dataSeenPort])<<16|uint32(s.Key.SrcPort))
	sh.counts.Packets++
	return r, false
}

// reply takes a packet that the endpoint of a session has sent.
func (sh *shard) reply(node int, pkt *wire.Packet, id flow.ID, s *flow.Session) Result {
	if sh.track(flow.Inside, pkt, s) {
		sh.follow(flow.Inside, pkt, id, s)
	}
	r := Result{Action: Reply, Node: sh.proxy.slots.nodeOf(slotOf(s))}
	if pkt.Flags != 0 {
		k, d := tupleOf(pkt), sent(id, s)
		d = d.reverse()
		return sh.apply(node, pkt, &k, &d, r)
	}
	rewrite4(pkt, s.Outside, s.Key.Dst, uint32(s.OutsidePort)<<16|uint32(s.Key.DstPort))
	sh.counts.Packets++
	return r
}

// track lets a session take a packet of one of its ends, if it is such as nearly all are:
// it reports what follow is to take instead.
func (sh *shard) track(from flow.Side, pkt *wire.Packet, s *flow.Session) (unusual bool) {
	if pkt.Proto != TCP {
		sh.touch(from, s)
		return false
	}
	return pkt.Flags&wire.Fragmented != 0 || !sh.follows(from, pkt, s)
}

// follows lets a connection take a whole segment, if it is data or an acknowledgment where that is
// expected; else it reports false and has changed nothing.
func (sh *shard) follows(from flow.Side, pkt *wire.Packet, s *flow.Session) bool {
	t := pkt.TCPHeader()
	n := uint32(len(pkt.B) - int(pkt.L4) - int(t[12]>>4)*4)
	if t[13]&(flow.SYN|flow.FIN|flow.RST|flow.ACK) != flow.ACK ||
		!s.Track.ConntrackData(from, binary.BigEndian.Uint32(t[4:]), binary.BigEndian.Uint32(t[8:]), n, binary.BigEndian.Uint16(t[14:])) {
		return false
	}
	s.TouchTick(sh.tick)
	return true
}

// touch is track for UDP.
func (sh *shard) touch(from flow.Side, s *flow.Session) {
	s.TouchTick(sh.tick)
	if from == flow.Inside {
		s.Track.Flags |= answeredFlag
	}
	if s.Track.Class == flow.ClassUDP && s.Track.Flags&answeredFlag != 0 && sh.tick-s.Track.Ack[flow.Inside] >= streamAge {
		s.Track.Class = flow.ClassUDPReplied
	}
}

// follow shows any segment to the tracker of a session.
func (sh *shard) follow(from flow.Side, pkt *wire.Packet, id flow.ID, s *flow.Session) flow.Effect {
	var seg flow.Segment
	segment(pkt, &seg)
	if seg.Flags&(flow.SYN|flow.FIN|flow.RST) != 0 && pkt.Flags&wire.Fragmented == 0 && !wire.VerifyL4(pkt) {
		return 0 // what is damaged proves nothing, and stays damaged
	}
	effect := s.Track.Update(from, &seg)
	if effect&flow.Touch != 0 {
		s.Touch(sh.now)
	}
	if effect&flow.Rearm != 0 {
		sh.sessions.Rearm(id, s)
	}
	return effect
}

// apply rewrites a packet and remembers what its fragments need.
func (sh *shard) apply(node int, pkt *wire.Packet, was, is *tuple, r Result) Result {
	if pkt.Flags&wire.Fragmented != 0 {
		if !sh.firstPiece(pkt, was, is, node, r) {
			return sh.drop(flow.ReasonFragLimit)
		}
	}
	rewrite(pkt, was, is)
	sh.counts.Packets++
	return r
}

// drop counts a packet that is dropped.
func (sh *shard) drop(reason flow.Reason) Result {
	sh.counts.Drops[reason]++
	return Result{Action: Drop, Reason: reason, Node: -1}
}

// segment reads what the tracker wants to know of a TCP segment, or of its first fragment.
func segment(pkt *wire.Packet, seg *flow.Segment) {
	t := pkt.TCP()
	*seg = flow.Segment{
		Seq: t.Seq(), Ack: t.Ack(), Len: uint32(len(t.Payload())),
		Window: t.Window(), Flags: t.Flags(), Scale: flow.NoScale,
	}
	if pkt.Flags&wire.Fragmented != 0 {
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
