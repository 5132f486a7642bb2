// What hosts choose anew for every conversation: initial sequence numbers and
// timestamps of TCP, identifiers of DNS queries, connection IDs of QUIC. Copies of a
// recording differ in them, or whoever looks at all of them together would take one
// for the retransmission of another. The first copy is the recording to the byte.
//
// Read RFC 9293 section 3.1, RFC 7323 section 3, RFC 2018 section 3, RFC 1035 section
// 4.1.1 and RFC 8999 section 5 first. A QUIC connection can be decrypted by its
// connection ID at first, so only in the first copy.

package story

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// variation is how one copy of a conversation differs from the recording. Arrays are
// by who sends: 0 the client, 1 the server.
type variation struct {
	seq, stamp [2]uint32 // added to sequence numbers and to timestamps
	id         uint16    // added to identifiers of DNS
	piece      uint32    // added to identifications of fragments, the same in all conversations of a copy
	cid        uint64    // combined with connection IDs, again and again, by exclusive or
}

// vary returns the variation of a conversation in a copy, which are numbered from 0.
func vary(seed uint64, number, conversation int) (v variation) {
	if number == 0 {
		return v
	}
	var g rand.PCG
	g.Seed(seed^uint64(number), uint64(conversation))
	for i := range v.seq {
		r := g.Uint64()
		v.seq[i], v.stamp[i] = uint32(r), uint32(r>>32)
	}
	v.id, v.cid = uint16(g.Uint64()), g.Uint64()
	g.Seed(seed^uint64(number), math.MaxUint64)
	v.piece = uint32(g.Uint64())
	return v
}

const (
	maxCID     = 20 // of version 1 (RFC 9000 section 17.2)
	longHeader = 7 + 2*maxCID
)

// apply changes b, a packet of a conversation, in what its sender chooses anew, and the
// checksum with it.
func (v *variation) apply(p *packet, conv *conversation, b []byte) {
	if *v == (variation{}) {
		return
	}
	if p.piece {
		v.fragment(b)
	}
	if p.transport == 0 {
		return
	}
	sender := 0
	if p.reply {
		sender = 1
	}
	transport := b[p.transport:]
	switch {
	case p.proto == wire.ProtoTCP:
		wire.TCP(transport).Adjust(v.tcp(sender, transport[:wire.TCP(transport).DataOffset()]))
	case p.proto == wire.ProtoUDP && conv.server.Port() == dnsPort && len(transport) >= 8+2:
		id := transport[8:10]
		was := binary.BigEndian.Uint16(id)
		binary.BigEndian.PutUint16(id, was+v.id)
		wire.UDP(transport).Adjust(wire.Delta16(was, was+v.id))
	case p.proto == wire.ProtoUDP && conv.quic:
		payload := transport[8:]
		header := payload[:min(len(payload), longHeader)]
		var was [longHeader]byte
		copy(was[:], header)
		v.quic(conv.cidLen[1-sender], header)
		wire.UDP(transport).Adjust(difference(was[:len(header)], header))
	}
}

// fragment changes the identification of a fragment.
func (v *variation) fragment(b []byte) {
	var p wire.Packet
	if wire.Parse(b, &p); p.Flags&wire.V6 == 0 {
		p.IPv4().RewriteID(p.IPv4().ID() + uint16(v.piece))
	} else if f, ok := p.Fragment(); ok {
		f.SetID(f.ID() + v.piece)
	}
}

// tcp changes a TCP header, and returns what that does to the checksum.
func (v *variation) tcp(sender int, h []byte) (d wire.Delta) {
	add := func(at int, n uint32) {
		was := binary.BigEndian.Uint32(h[at:])
		binary.BigEndian.PutUint32(h[at:], was+n)
		change := wire.Delta32(was, was+n)
		if at%2 != 0 { // the checksum has the bytes the other way round (RFC 1071 section 2)
			change = wire.Delta(bits.ReverseBytes16(uint16(change)))
		}
		d = d.Add(change)
	}
	t := wire.TCP(h)
	if t.Flags()&wire.RST == 0 || t.Seq() != 0 { // a RST for what was never there begins at 0
		add(4, v.seq[sender])
	}
	acknowledges := t.Flags()&wire.ACK != 0
	if acknowledges {
		add(8, v.seq[1-sender])
	}
	const end, nop, sack, timestamps = 0, 1, 5, 8
	for o := 20; o+1 < len(h) && h[o] != end; {
		if h[o] == nop {
			o++
			continue
		}
		kind, next := h[o], o+int(h[o+1])
		if next < o+2 || next > len(h) {
			break
		}
		switch {
		case kind == sack:
			for at := o + 2; at+4 <= next; at += 4 {
				add(at, v.seq[1-sender])
			}
		case kind == timestamps && next == o+10:
			add(o+2, v.stamp[sender])
			if acknowledges {
				add(o+6, v.stamp[1-sender])
			}
		}
		o = next
	}
	return d
}

// quic changes the connection IDs of a QUIC packet whose receiver has one of n bytes.
func (v *variation) quic(n uint8, h []byte) {
	change := func(id []byte) {
		for i := range id {
			id[i] ^= byte(v.cid >> (i % 8 * 8))
		}
	}
	if destination, source, long := connectionIDs(h); long {
		change(destination)
		change(source)
	} else if len(h) > int(n) {
		change(h[1 : 1+n])
	}
}

// connectionIDs returns the connection IDs of a packet with a long header of QUIC, and
// whether it is one.
func connectionIDs(b []byte) (destination, source []byte, long bool) {
	const form, fixed = 0x80, 0x40
	if len(b) < 7 || b[0]&(form|fixed) != form|fixed || binary.BigEndian.Uint32(b[1:]) == 0 {
		return nil, nil, false
	}
	n := int(b[5])
	if n > maxCID || len(b) < 7+n {
		return nil, nil, false
	}
	m := int(b[6+n])
	if m > maxCID || len(b) < 7+n+m {
		return nil, nil, false
	}
	return b[6 : 6+n], b[7+n : 7+n+m], true
}

// difference returns what the change of a header, which begins at an even offset of what
// a checksum covers, does to that.
func difference(was, is []byte) (d wire.Delta) {
	for i := 0; i < len(is); i += 2 {
		var a, b [2]byte
		copy(a[:], was[i:])
		copy(b[:], is[i:])
		if a != b {
			d = d.Add(wire.Delta16(binary.BigEndian.Uint16(a[:]), binary.BigEndian.Uint16(b[:])))
		}
	}
	return d
}

// Servers of what is varied listen here.
const (
	dnsPort  = 53
	quicPort = 443
)

// learn notes what a packet of a conversation tells about connection IDs.
func (c *conversation) learn(p *packet) {
	if p.proto != wire.ProtoUDP || p.transport == 0 || c.server.Port() != quicPort || len(p.data) < p.transport+8 {
		return
	}
	if _, source, long := connectionIDs(p.data[p.transport+8:]); long {
		c.quic = true
		sender := 0
		if p.reply {
			sender = 1
		}
		c.cidLen[sender] = uint8(len(source))
	}
}
