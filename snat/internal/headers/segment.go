package headers

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// What the tracker wants to know of a TCP segment.

// Plain reports whether a segment is whole and has ACK, but not SYN, FIN or RST:
// what nearly all are, and what Track.Data can follow without more ado. A
// fragment does not tell the segment's length: the SYN bit stands in for it.
func Plain(p *wire.Packet, t *[20]byte) bool {
	return (t[13]|uint8(p.Flags&wire.Fragmented)/uint8(wire.Fragmented)*flow.SYN)&(flow.SYN|flow.FIN|flow.RST|flow.ACK) == flow.ACK
}

// DataLen returns the number of bytes of data of a segment with header t.
func DataLen(p *wire.Packet, t *[20]byte) uint32 {
	return uint32(len(p.B) - int(p.L4) - int(t[12]>>4)*4)
}

// SeqOf returns the sequence number of a segment with header t.
func SeqOf(t *[20]byte) uint32 { return binary.BigEndian.Uint32(t[4:]) }

// AckOf returns its acknowledgment number.
func AckOf(t *[20]byte) uint32 { return binary.BigEndian.Uint32(t[8:]) }

// WindowOf returns its window, unscaled.
func WindowOf(t *[20]byte) uint16 { return binary.BigEndian.Uint16(t[14:]) }

// Segment reads what the tracker wants to know of a TCP segment.
func Segment(p *wire.Packet, seg *flow.Segment) {
	t := p.TCPHeader()
	// Field by field: a literal would be built elsewhere and copied in wider pieces.
	seg.Seq, seg.Ack, seg.Len = SeqOf(t), AckOf(t), DataLen(p, t)
	seg.Window, seg.Flags, seg.Scale = WindowOf(t), t[13], flow.NoScale
	if p.Flags&wire.Fragmented != 0 {
		seg.Len = 65535 // the rest is in other fragments
	}
	if seg.Flags&flow.FIN != 0 {
		seg.Len++
	}
	if seg.Flags&flow.SYN != 0 {
		seg.Len++
		if t[12]>>4*4 == uint8(len(t)) {
			return // no options
		}
		if shift, ok := p.TCP().WindowScale(); ok {
			seg.Scale = shift
		}
	}
}

// Corrupt reports whether a segment's checksum is known to be wrong. That of a
// fragment is not known.
func Corrupt(p *wire.Packet) bool { return p.Flags&wire.Fragmented == 0 && !wire.VerifyL4(p) }

// First reads a TCP segment of the inside, and reports why it may not begin a flow, if so. With
// pickUp it may be one of a connection that is known to nobody.
func First(p *wire.Packet, s *flow.Segment, pickUp bool) flow.Reason {
	Segment(p, s)
	begins := s.Flags & (flow.SYN | flow.ACK | flow.RST | flow.FIN)
	if begins != flow.SYN && !(pickUp && begins == flow.ACK) {
		return flow.ReasonNoFlow
	}
	if Corrupt(p) {
		return flow.ReasonL4Checksum
	}
	return flow.ReasonNone
}
