// From the packets of a capture to conversations: who talks to whom, who began,
// and in which direction every packet goes.

package story

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// recording is a capture understood as conversations.
type recording struct {
	packets       []packet // in the order of time
	conversations []conversation
	hosts         []netip.Addr     // the clients' addresses, in order of appearance
	destinations  []netip.AddrPort // what they talk to, likewise
	frames        int              // in the capture file
	cut           int              // frames of which it kept a part only
	repairs       capture.Repairs
	skipped       map[string]int // frames without an IP packet, by what they are
	inside        []netip.Prefix // of the clients; none tells them by who begins
	elsewhere     int            // packets that concern no host of inside, which are left out
	otherFamily   int            // packets of IPv6, which a cluster of IPv4 has not
	carried       carried        // what makes conversations besides TCP and UDP
	damage        error          // of the capture file, if there is any: the rest is here
}

// carried is what the cluster carries besides whole packets of TCP and UDP.
type carried struct {
	icmp      bool // echo
	fragments bool
}

// packet is one packet of a recording.
type packet struct {
	at           time.Duration // since the first packet of the capture
	data         []byte        // starts at the IP header, may be damaged, is never empty
	cut          int           // bytes after data that the capture did not keep; zeros stand for them
	conversation int
	reply        bool // from the server to the client
	shape
}

// shape is where an IP packet keeps what changes on its way.
type shape struct {
	v4, v6    bool  // neither: the packet is too damaged to have addresses
	transport int   // offset of the transport header; 0 if there is none to rely on
	proto     uint8 // of the transport header
	echo      echo  // what is translated by its identifier, if it is carried
	piece     bool  // a fragment, if they are carried
}

// echo is what an ICMP message is.
type echo uint8

const (
	noEcho echo = iota
	asks
	answers
)

// conversation is all packets of one 5-tuple. A packet without ports, or one that
// the parser refuses, is a conversation of its own.
type conversation struct {
	client, server netip.AddrPort
	proto          uint8
	host           int // index in recording.hosts
	destination    int // index in recording.destinations
	last           int // index of the last packet in recording.packets
	isn            uint32
	quic           bool     // has long headers of QUIC
	cidLen         [2]uint8 // the last known length of the connection IDs of client and server
}

// tuple identifies a conversation; a is the smaller endpoint. An echo has its identifier
// in the place of the port of who asks.
type tuple struct {
	a, b  netip.AddrPort
	proto uint8
}

// datagram identifies a packet in fragments.
type datagram struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
}

// newRecording sorts the packets of a capture into conversations. With inside, these
// are the clients, whoever begins, and packets of others are left out.
func newRecording(c *capture.Capture, carried carried, inside ...netip.Prefix) *recording {
	r := &recording{inside: inside, carried: carried, frames: c.Frames, cut: c.Cut, skipped: c.Skipped, packets: make([]packet, 0, len(c.Packets))}
	open, pieces := make(map[tuple]int), make(map[datagram]int)
	var whole []byte
	for i := range c.Packets {
		whole = c.Packets[i].AppendTo(whole[:0])
		r.add(open, pieces, &c.Packets[i], whole)
	}
	r.orient()
	return r
}

// add appends a packet to its conversation, or to a new one. whole is the packet with
// zeros for what is cut. pieces are the first fragments, as indexes of packets; one that
// comes before its first is a conversation of its own.
func (r *recording) add(open map[tuple]int, pieces map[datagram]int, c *capture.Packet, whole []byte) {
	var parsed wire.Packet
	problem := wire.Parse(whole, &parsed)
	trusted := problem == wire.OK || problem == wire.UnsupportedProto || problem == wire.UDP6Zero || problem == wire.NoHops
	p := packet{at: c.At, data: c.Data, cut: c.Cut(), shape: shapeOf(c.Data, &parsed, trusted)}
	if trusted {
		p.extend(r.carried, &parsed)
	}
	if trusted && p.cut == 0 {
		p.data = p.data[:len(parsed.B)] // without Ethernet padding
	}
	src, dst := p.endpoints(p.data)
	fromInside, toInside := r.isInside(src.Addr()), r.isInside(dst.Addr())
	if len(r.inside) > 0 && !fromInside && !toInside {
		r.elsewhere++
		return
	}
	index, at := len(r.conversations), len(r.packets)

	first := -1 // fragment of this one's datagram
	if p.transport != 0 && (p.piece || parsed.Flags&wire.Fragmented == 0) && (p.proto == wire.ProtoTCP || p.proto == wire.ProtoUDP || p.echo != noEcho) {
		key := tuple{src, dst, p.proto}
		if src.Compare(dst) > 0 {
			key.a, key.b = dst, src
		}
		known, ok := open[key]
		if ok && !startsAnew(&r.conversations[known], p) {
			index = known
		}
		open[key] = index
		if p.piece {
			pieces[datagramOf(&parsed, src, dst)] = at
		}
	} else if p.piece {
		if k, ok := pieces[datagramOf(&parsed, src, dst)]; ok {
			first, index = k, r.packets[k].conversation
		}
	}
	if index == len(r.conversations) {
		conv := conversation{client: src, server: dst, proto: p.proto}
		if toInside && !fromInside || toInside == fromInside && answersFirst(p, src, dst) {
			conv.client, conv.server = dst, src
		}
		if p.isTCP() {
			conv.isn = wire.TCP(p.data[p.transport:]).Seq()
		}
		r.conversations = append(r.conversations, conv)
	}
	conv := &r.conversations[index]
	if p.conversation, p.reply = index, src == conv.server && src != conv.client; first >= 0 {
		p.reply = r.packets[first].reply
	}
	conv.last = at
	conv.learn(&p)
	r.packets = append(r.packets, p)
}

// isInside reports whether an address is of the hosts that were given as clients.
func (r *recording) isInside(a netip.Addr) bool {
	return slices.ContainsFunc(r.inside, func(p netip.Prefix) bool { return p.Contains(a) })
}

// shapeOf describes the packet b, of which parsed is valid if it is trusted.
func shapeOf(b []byte, parsed *wire.Packet, trusted bool) shape {
	s := shape{v4: len(b) >= 20 && b[0]>>4 == 4, v6: len(b) >= 40 && b[0]>>4 == 6}
	if trusted && parsed.Flags&wire.NonFirst == 0 {
		s.proto = parsed.Proto
		switch s.proto {
		case wire.ProtoTCP, wire.ProtoUDP, wire.ProtoICMPv6:
			s.transport = int(parsed.L4)
		}
	}
	return s
}

// extend adds to a shape what it is of packets that are carried only if asked for.
func (s *shape) extend(c carried, parsed *wire.Packet) {
	s.piece = c.fragments && parsed.Flags&wire.Fragmented != 0
	if !c.icmp || !wire.IsICMP(parsed.Proto) || parsed.Flags&wire.NonFirst != 0 {
		return
	}
	switch b := parsed.B[parsed.L4:]; {
	case b[0] == wire.ICMPv4EchoRequest && s.v4 || b[0] == wire.ICMPv6EchoRequest && s.v6:
		s.echo = asks
	case b[0] == wire.ICMPv4EchoReply && s.v4 || b[0] == wire.ICMPv6EchoReply && s.v6:
		s.echo = answers
	default:
		return
	}
	s.transport = int(parsed.L4)
}

// datagramOf returns what a fragment is a piece of.
func datagramOf(p *wire.Packet, src, dst netip.AddrPort) datagram {
	d := datagram{src: src.Addr(), dst: dst.Addr(), proto: p.Proto}
	if f, ok := p.Fragment(); ok {
		d.id = f.ID()
	} else {
		d.id = uint32(p.IPv4().ID())
	}
	return d
}

func (p *packet) isTCP() bool { return p.transport != 0 && p.proto == wire.ProtoTCP }

// startsAnew reports whether p is the SYN of a new connection between the two
// endpoints of c, and not that of c sent again.
func startsAnew(c *conversation, p packet) bool {
	if !p.isTCP() {
		return false
	}
	t := wire.TCP(p.data[p.transport:])
	return t.Flags()&(wire.SYN|wire.ACK) == wire.SYN && t.Seq() != c.isn
}

// answersFirst reports whether p, the first packet of a conversation, comes from
// the server, because the capture began in the middle of it.
func answersFirst(p packet, src, dst netip.AddrPort) bool {
	if p.echo != noEcho {
		return p.echo == answers
	}
	const wellKnown = 1024
	if p.isTCP() {
		switch wire.TCP(p.data[p.transport:]).Flags() & (wire.SYN | wire.ACK) {
		case wire.SYN:
			return false
		case wire.SYN | wire.ACK:
			return true
		}
	}
	return 0 < src.Port() && src.Port() < wellKnown && dst.Port() >= wellKnown
}

// orient turns packets without ports that are addressed to a client around, so
// that they come in, and numbers hosts and destinations.
func (r *recording) orient() {
	clients := make(map[netip.Addr]bool)
	for i := range r.conversations {
		if c := &r.conversations[i]; c.client.Port() != 0 {
			clients[c.client.Addr()] = true
		}
	}
	hosts, destinations := make(map[netip.Addr]int), make(map[netip.AddrPort]int)
	for i := range r.conversations {
		c := &r.conversations[i]
		if len(r.inside) == 0 && c.client.Port() == 0 && !clients[c.client.Addr()] && clients[c.server.Addr()] {
			c.client, c.server = c.server, c.client
			r.packets[c.last].reply = true
		}
		c.host = number(hosts, &r.hosts, c.client.Addr())
		c.destination = number(destinations, &r.destinations, c.server)
	}
}

// number returns the index of v in list, to which it is added if it is new.
func number[T comparable](known map[T]int, list *[]T, v T) int {
	i, ok := known[v]
	if !ok {
		i = len(*list)
		known[v] = i
		*list = append(*list, v)
	}
	return i
}

// length returns the time from the beginning of the capture to the last packet.
func (r *recording) length() time.Duration {
	return r.packets[len(r.packets)-1].at
}
