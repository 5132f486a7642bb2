// A packet of a batch that follows upon others of its session: compared with that, followed and
// rewritten in one step.

package kubeproxy

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// forward is shard.forward for a guessed session, if it is right and all is as nearly
// always: else it reports false, and has changed nothing.
func (l *lane) forward(sh *shard, it *Item, id flow.ID, s *flow.Session) bool {
	pkt := &it.Packet
	if s.Key.VNIProto != uint32(it.Node)<<8|uint32(pkt.Proto) || uint32(s.Key.DstPort)<<16|uint32(s.OutsidePort) != l.ports {
		return false
	}
	ports := uint32(s.Data[dataSeenPort])<<16 | uint32(s.Key.SrcPort)
	if is6 := id.Is6(); pkt.Flags == 0 && !is6 {
		seen := s.Key.Dst
		if s.Outside != l.dst || seen != l.src || !sh.takes(flow.Outside, pkt, s) {
			return false
		}
		if s.Kind() == flow.KindNode {
			seen = sh.proxy.tables.Load().nodes4[it.Node]
		}
		rewrite4(pkt, seen, s.Key.Src, ports)
	} else if pkt.Flags == wire.V6 && is6 {
		a := s.Addrs6()
		if !between6(pkt.B, &a.Remote, &a.Outside) || !sh.takes(flow.Outside, pkt, s) {
			return false
		}
		rewrite6(pkt, sh.proxy.seen6(s), (*address)(&a.Inside), ports)
	} else {
		return false
	}
	sh.counts.Packets++
	it.Action, it.Reason, it.New, it.Result.Node = Forward, flow.ReasonNone, false, sh.proxy.slots.nodeOf(slotOf(s))
	return true
}

// reply is shard.reply likewise, at a node.
func (l *lane) reply(sh *shard, it *Item, node int32, id flow.ID, s *flow.Session) bool {
	pkt := &it.Packet
	if s.Key.VNIProto != uint32(node)<<8|uint32(pkt.Proto) || uint32(s.Key.SrcPort)<<16|uint32(s.Data[dataSeenPort]) != l.ports {
		return false
	}
	ports := uint32(s.OutsidePort)<<16 | uint32(s.Key.DstPort)
	if is6 := id.Is6(); pkt.Flags == 0 && !is6 {
		if s.Key.Src != l.src || sh.proxy.seenAddr4(s) != l.dst || !sh.takes(flow.Inside, pkt, s) {
			return false
		}
		rewrite4(pkt, s.Outside, s.Key.Dst, ports)
	} else if pkt.Flags == wire.V6 && is6 {
		a := s.Addrs6()
		if !between6(pkt.B, &a.Inside, (*[2]uint64)(sh.proxy.seen6(s))) || !sh.takes(flow.Inside, pkt, s) {
			return false
		}
		rewrite6(pkt, (*address)(&a.Outside), (*address)(&a.Remote), ports)
	} else {
		return false
	}
	sh.counts.Packets++
	it.Action, it.Reason, it.New, it.Result.Node = Reply, flow.ReasonNone, false, sh.proxy.slots.nodeOf(slotOf(s))
	return true
}

// takes lets a session take a packet, if it is not over and the packet such as nearly all are.
// Else it reports false and has changed nothing.
func (sh *shard) takes(from flow.Side, pkt *wire.Packet, s *flow.Session) bool {
	switch {
	case sh.sessions.Expired(s, sh.tick):
		return false
	case pkt.Proto == TCP:
		return sh.follows(from, pkt, s)
	case !sh.served(s):
		return false
	}
	sh.touch(from, s)
	return true
}

// between6 reports whether a packet of IPv6 is from one address to another.
func between6(b []byte, src, dst *[2]uint64) bool {
	h := b[:ip6Dst+16]
	return binary.BigEndian.Uint64(h[ip6Src+8:]) == src[1] && binary.BigEndian.Uint64(h[ip6Dst+8:]) == dst[1] &&
		binary.BigEndian.Uint64(h[ip6Src:]) == src[0] && binary.BigEndian.Uint64(h[ip6Dst:]) == dst[0]
}
