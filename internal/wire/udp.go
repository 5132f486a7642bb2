package wire

// Read RFC 768 (header, and what a checksum of zero means) and RFC 8200 section
// 8.1 (no zero checksum over IPv6) first.

import "encoding/binary"

const udpHeaderLen = 8

// checkUDP checks a datagram; of one that is not whole, only its start is there.
func checkUDP(b []byte, whole, v6 bool) Problem {
	if len(b) < udpHeaderLen {
		if whole {
			return UDPShort
		}
		return FragTiny
	}
	u := UDP(b)
	switch length := int(u.Length()); {
	case length < udpHeaderLen || length > len(b) && whole:
		return UDPLength
	case u.SrcPort() == 0 || u.DstPort() == 0:
		return PortZero
	case v6 && u.Checksum() == 0:
		return UDP6Zero
	}
	return OK
}

// UDP is a view of a UDP header and what follows it (RFC 768). The IP payload
// may be longer than Length: the surplus is passed on but not summed.
type UDP []byte

// SrcPort returns the source port.
func (u UDP) SrcPort() uint16 { return binary.BigEndian.Uint16(u) }

// DstPort returns the destination port.
func (u UDP) DstPort() uint16 { return binary.BigEndian.Uint16(u[2:]) }

// Length returns the length of header and payload in bytes.
func (u UDP) Length() uint16 { return binary.BigEndian.Uint16(u[4:]) }

// Checksum returns the stored checksum; 0 means that the sender computed none.
func (u UDP) Checksum() uint16 { return binary.BigEndian.Uint16(u[6:]) }

// Payload returns the bytes after the header, to the end of the view.
func (u UDP) Payload() []byte { return u[udpHeaderLen:] }

// SetSrcPort stores the source port.
func (u UDP) SetSrcPort(port uint16) { binary.BigEndian.PutUint16(u, port) }

// SetDstPort stores the destination port.
func (u UDP) SetDstPort(port uint16) { binary.BigEndian.PutUint16(u[2:], port) }

// SetChecksum stores the checksum.
func (u UDP) SetChecksum(sum uint16) { binary.BigEndian.PutUint16(u[6:], sum) }

// Adjust applies d to the checksum. No checksum stays none, and a result of
// 0000 is stored as FFFF (RFC 768).
func (u UDP) Adjust(d Delta) { u.SetChecksum(d.ApplyUDP(u.Checksum())) }

// RewriteSrcPort changes the source port and the checksum.
func (u UDP) RewriteSrcPort(port uint16) {
	u.Adjust(Delta16(u.SrcPort(), port))
	u.SetSrcPort(port)
}

// RewriteDstPort changes the destination port and the checksum.
func (u UDP) RewriteDstPort(port uint16) {
	u.Adjust(Delta16(u.DstPort(), port))
	u.SetDstPort(port)
}
