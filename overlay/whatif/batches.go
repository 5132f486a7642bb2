// Packets under way: batches to the doors of the world, and what becomes of them.

package whatif

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/internal/segments"
)

const (
	batchLen = 128
	perEvent = 2 // packets to a side, at most, that one event makes: an arrival, an answer, or what is due
	roomLen  = batchLen - 1 + perEvent

	// A buffer is an odd number of cache lines, so that headers do not meet in the same sets of a
	// cache.
	stride = 25 * 64
)

var _ [stride - segments.BufferLen]struct{}

// batch is packets of one direction, in buffers that are used again.
type batch struct {
	room     []byte
	packets  [][]byte // those that wait
	of       []sent
	verdicts []flow.Verdict
}

// sent is whose a packet is.
type sent struct {
	conversation, life uint32
	opens              bool // it is a first packet
}

func newBatch() batch {
	return batch{
		room: make([]byte, roomLen*stride), packets: make([][]byte, 0, roomLen), of: make([]sent, 0, roomLen),
		verdicts: make([]flow.Verdict, roomLen),
	}
}

// buffer returns where the next packet is made.
func (b *batch) buffer() []byte {
	at := len(b.packets) * stride
	return b.room[at : at+segments.BufferLen]
}

// tcp sends a segment of the client, or if answer is set of its peer.
func (s *Simulation) tcp(i uint32, answer bool, flags uint8, seq, ack uint32, payload int) {
	c := &s.conversations[i]
	e, b := s.ends(c, answer)
	b.packets = append(b.packets, segments.TCP(b.buffer(), &e, segments.Segment{Seq: seq, Ack: ack, Flags: flags, Payload: payload}))
	b.of = append(b.of, sent{i, c.life, flags == wire.SYN})
}

// udp sends a datagram likewise.
func (s *Simulation) udp(i uint32, answer bool, payload int, opens bool) {
	c := &s.conversations[i]
	e, b := s.ends(c, answer)
	b.packets = append(b.packets, segments.UDP(b.buffer(), &e, payload))
	b.of = append(b.of, sent{i, c.life, opens})
}

// ends returns the sockets of a packet of a conversation, and where it waits.
func (s *Simulation) ends(c *conversation, answer bool) (segments.Ends, *batch) {
	p := &s.streams[c.stream].peers[c.peer]
	if answer {
		return segments.Ends{Src: p.words, SrcPort: p.port, Dst: c.outside, DstPort: c.outsidePort, V6: p.v6}, &s.in
	}
	h := &s.hosts[c.host].addrs[family(p.v6)]
	return segments.Ends{Src: h.words, SrcPort: c.port, Dst: p.words, DstPort: p.port, V6: p.v6}, &s.out
}

func family(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// full reports whether a batch is to be sent before the next event. It is never sent within one, so
// that what becomes of packets is followed only when whoever has made them is done.
func (b *batch) full() bool { return len(b.of) >= batchLen }

// tell shows packets to the caller.
func (s *Simulation) tell(b *batch, side flow.Side, before bool) {
	for i, p := range b.packets {
		if before || b.verdicts[i].Action != flow.Drop {
			s.packets(s.now, side, p)
		}
	}
}

// through lets the world carry a batch from a side, and returns how many packets it has.
func (s *Simulation) through(b *batch, from flow.Side) (n int) {
	if n = len(b.packets); n == 0 {
		return 0
	}
	if s.packets != nil {
		s.tell(b, from, true)
	}
	if from == flow.Inside {
		s.world.OutboundBatch(s.now, b.packets, b.verdicts)
	} else {
		s.world.InboundBatch(s.now, b.packets, b.verdicts)
	}
	if s.packets != nil {
		s.tell(b, 1-from, false)
	}
	s.carried[from][0] += uint64(n)
	for i := range n {
		if b.verdicts[i].Action == flow.Drop {
			s.carried[from][1]++
		}
	}
	return n
}

// send sends what hosts have sent, and follows the verdicts.
func (s *Simulation) send() {
	b := &s.out
	for i := range s.through(b, flow.Inside) {
		of, v := &b.of[i], &b.verdicts[i]
		c := &s.conversations[of.conversation]
		if c.life != of.life {
			continue
		}
		switch {
		case of.opens && v.Action == flow.Drop:
			s.refused(of.conversation, v.Reason)
		case of.opens:
			c.outside, c.outsidePort = source(b.packets[i], c.v6)
			s.opened(of.conversation)
		case v.Action == flow.Drop:
			s.broken(of.conversation)
		}
	}
	b.packets, b.of = b.packets[:0], b.of[:0]
}

// source returns the source of a packet without options and extension headers.
func source(pkt []byte, v6 bool) (words [2]uint64, port uint16) {
	if v6 {
		h := wire.IPv6(pkt)
		words[0], words[1] = h.SrcWords()
		return words, wire.UDP(h.Payload()).SrcPort()
	}
	h := wire.IPv4(pkt)
	words[0] = uint64(h.Src())
	return words, wire.UDP(h.Payload()).SrcPort()
}

// receive brings answers to hosts, whose packets then wait to be sent, or are sent.
func (s *Simulation) receive() {
	b := &s.in
	for i := range s.through(b, flow.Outside) {
		of, v := &b.of[i], &b.verdicts[i]
		switch c := &s.conversations[of.conversation]; {
		case c.life != of.life:
		case v.Action == flow.Drop:
			s.broken(of.conversation)
		default:
			s.received(of.conversation)
			if s.out.full() {
				s.send()
			}
		}
	}
	b.packets, b.of = b.packets[:0], b.of[:0]
}

// emitted takes what the world sends by itself: resets of idle connections end conversations.
func (s *Simulation) emitted(e flow.Emission) {
	if s.packets != nil {
		s.packets(e.At, e.To, e.Packet)
	}
	var p wire.Packet
	if e.To != flow.Inside || wire.Parse(e.Packet, &p) != wire.OK || p.Proto != wire.ProtoTCP || p.Flags&wire.Fragmented != 0 || p.TCP().Flags()&wire.RST == 0 {
		return
	}
	src, dst := p.Addrs()
	v6, ports := p.Flags&wire.V6 != 0, p.Ports()
	if _, ours := s.byAddr[addr{dst, v6}]; !ours {
		return
	}
	s.resets++
	if i, ok := s.between(addr{dst, v6}, uint16(ports), false, peer{addr{src, v6}, uint16(ports >> 16)}); ok {
		s.reset(i)
	}
}
