package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Resets on idle. Read RFC 5961 section 3 (which RST a stack accepts) and
// section 9 (RST/ACK wars) first.
//
// They carry no options: RFC 7323 section 3.2 wants no timestamp on a RST. A
// connection that signs its segments (TCP-MD5, RFC 2385; TCP-AO, RFC 5925)
// ignores them, and ends by its own timers. Those for idle connections have DSCP
// and flow label 0, since sessions keep neither (our choice).

// reset is one RST to be sent: made under the shard's lock, emitted outside it.
type reset struct {
	at               flow.Time
	to               flow.Side
	family           uint8
	instance         uint32
	src, dst         [2]uint64
	srcPort, dstPort uint16
	seq, ack         uint32
	flags, tos       uint8 // besides RST; traffic class
}

// maxResets bounds the resets that wait in a shard for Advance. Beyond it flows
// end silently and are counted: mass expiry must not stall forwarding.
const maxResets = 1 << 16

// queueResets queues the RSTs for both ends of an established connection, and
// reports whether it did.
func (sh *shard) queueResets(id flow.ID, s *flow.Session, at flow.Time) bool {
	inside, n := s.Track.Resets(flow.Inside)
	outside, m := s.Track.Resets(flow.Outside)
	if n == 0 || m == 0 {
		return false
	}
	if sh.hairpinned(id, s) {
		m = 0 // the other host is told by its own session
	}
	if !sh.mayReset(at, n+m) {
		sh.counters.resetsSuppressed += uint64(n + m)
		return false
	}
	for _, seq := range inside[:n] {
		sh.queueReset(id, s, at, flow.Inside, seq)
	}
	for _, seq := range outside[:m] {
		sh.queueReset(id, s, at, flow.Outside, seq)
	}
	if h := sh.nat.config.Hooks.ResetSent; h != nil {
		h(at, s.Key.VNI(), sh.Info(id))
	}
	return true
}

// queueReset queues a RST to one end, with the addresses that end knows.
func (sh *shard) queueReset(id flow.ID, s *flow.Session, at flow.Time, to flow.Side, seq uint32) {
	r := reset{at: at, to: to, instance: s.Key.VNI(), seq: seq}
	var inside, outside, remote [2]uint64
	if id.Is6() {
		a := s.Addrs6()
		r.family, inside, outside, remote = 1, a.Inside, a.Outside, a.Remote
	} else {
		inside[0], outside[0], remote[0] = uint64(s.Key.Src), uint64(s.Outside), uint64(s.Key.Dst)
	}
	if to == flow.Inside {
		r.src, r.srcPort, r.dst, r.dstPort = remote, s.Key.DstPort, inside, s.Key.SrcPort
	} else {
		r.src, r.srcPort, r.dst, r.dstPort = outside, s.OutsidePort, remote, s.Key.DstPort
	}
	sh.resets = append(sh.resets, r)
	sh.counters.resets++
}

// answer queues the RST with which a tombstone answers a segment (RFC 5961
// section 9.1: its sequence number is SEG.ACK).
func (sh *shard) answer(id flow.ID, s *flow.Session, at flow.Time, from flow.Side, ack uint32) {
	if !sh.mayAnswer(at) {
		sh.counters.resetsSuppressed++
		return
	}
	sh.queueReset(id, s, at, from, ack)
}

// resetTTL is the TTL or hop limit of packets we make.
const resetTTL = 64

// emit builds the packet and hands it to the sink.
func (r *reset) emit(emit flow.Sink) {
	const (
		ip4, ip6, tcp = 20, 40, 20
	)
	var buf [ip6 + tcp]byte
	pkt := buf[:ip4+tcp]
	var pseudo uint64
	if r.family == 0 {
		h := wire.IPv4(pkt)
		h.SetVersionAndHeaderLen(ip4)
		h.SetTOS(r.tos)
		h.SetTotalLength(ip4 + tcp)
		h.SetFragment(wire.IPv4DF, 0)
		h.SetTTL(resetTTL)
		h.SetProtocol(wire.ProtoTCP)
		h.SetSrc(uint32(r.src[0]))
		h.SetDst(uint32(r.dst[0]))
		h.ComputeChecksum()
		pseudo = wire.PseudoHeader4(uint32(r.src[0]), uint32(r.dst[0]), wire.ProtoTCP, tcp)
	} else {
		pkt = buf[:]
		src, dst := flow.NetAddr6(r.src).As16(), flow.NetAddr6(r.dst).As16()
		h := wire.IPv6(pkt)
		h.SetVersionClassLabel(r.tos, 0)
		h.SetPayloadLength(tcp)
		h.SetNextHeader(wire.ProtoTCP)
		h.SetHopLimit(resetTTL)
		h.SetSrc(src)
		h.SetDst(dst)
		pseudo = wire.PseudoHeader6(src, dst, wire.ProtoTCP, tcp)
	}
	t := wire.TCP(pkt[len(pkt)-tcp:])
	t.SetSrcPort(r.srcPort)
	t.SetDstPort(r.dstPort)
	t.SetSeq(r.seq)
	t.SetAck(r.ack)
	t.SetDataOffset(tcp)
	t.SetFlags(flow.RST | r.flags)
	t.SetChecksum(wire.Checksum(t, pseudo))
	emit(flow.Emission{At: r.at, To: r.to, Instance: r.instance, Packet: pkt})
}
