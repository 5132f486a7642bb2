// The packets of a session that exists, in both directions.

package kubeproxy

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// streamAge is how old a UDP session must be for an answer to make it a stream (nf_conntrack).
const streamAge = uint32(2 * time.Second / flow.Tick)

// forward takes a packet that the client of a session has sent. again reports that the
// session is over and the packet begins another one.
func (sh *shard) forward(node int, pkt *wire.Packet, k *tuple, id flow.ID, s *flow.Session) (r Result, again bool) {
	if sh.track(flow.Outside, pkt, id, s)&flow.Reopened != 0 {
		sh.remove(id, s) // as Linux does with a SYN in TIME_WAIT
		return Result{}, true
	}
	node32 := sh.proxy.slots.at(slotOf(s)).node
	return sh.apply(node, pkt, k, sh.proxy.delivered(id, s), Result{Action: Forward, Node: node32}), false
}

// reply takes a packet that the endpoint of a session has sent.
func (sh *shard) reply(node int, pkt *wire.Packet, k *tuple, id flow.ID, s *flow.Session) Result {
	sh.track(flow.Inside, pkt, id, s)
	back := sent(id, s)
	return sh.apply(node, pkt, k, back.reverse(), Result{Action: Reply, Node: sh.proxy.slots.at(slotOf(s)).node})
}

// track follows a packet of a session.
func (sh *shard) track(from flow.Side, pkt *wire.Packet, id flow.ID, s *flow.Session) flow.Effect {
	if s.Proto() != TCP {
		tick := flow.TickOf(sh.now)
		s.TouchTick(tick)
		if from == flow.Inside {
			s.Track.Flags |= answeredFlag
		}
		if s.Track.Class == flow.ClassUDP && s.Track.Flags&answeredFlag != 0 && tick-s.Track.Ack[flow.Inside] >= streamAge {
			s.Track.Class = flow.ClassUDPReplied
		}
		return 0
	}
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
func (sh *shard) apply(node int, pkt *wire.Packet, was *tuple, is tuple, r Result) Result {
	if pkt.Flags&wire.Fragmented != 0 {
		if !sh.firstPiece(pkt, was, &is, node, r) {
			return sh.drop(flow.ReasonFragLimit)
		}
	}
	rewrite(pkt, was, &is)
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
