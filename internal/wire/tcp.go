package wire

// Read RFC 9293 section 3.1 (header) and RFC 7323 section 2 (window scale) first.

import "encoding/binary"

// TCP control bits, as TCP.Flags returns them.
const (
	FIN = 1 << iota // no more data from the sender
	SYN             // synchronize sequence numbers
	RST             // reset the connection
	PSH             // push
	ACK             // the acknowledgment field is meaningful
	URG             // the urgent pointer is meaningful
	ECE             // ECN echo (RFC 3168)
	CWR             // congestion window reduced (RFC 3168)
)

const tcpMinLen = 20

// TCP options that this package reads (RFC 9293 section 3.1, RFC 7323 section 2.2).
const (
	tcpOptEnd         = 0
	tcpOptNOP         = 1
	tcpOptWindowScale = 3
)

// MaxWindowScale is the largest shift a window scale option can ask for; larger
// ones mean this (RFC 7323 section 2.3).
const MaxWindowScale = 14

// legalFlags has a bit for each legal combination of the lower six control bits:
// SYN excludes FIN and RST, and without ACK there is nothing but a SYN or a RST.
const (
	legalWithACK uint64 = (1<<0 | 1<<FIN | 1<<SYN | 1<<RST | 1<<(RST|FIN)) * (1 + 1<<PSH)
	legalFlags          = 1<<SYN | 1<<RST | legalWithACK<<ACK | legalWithACK<<(ACK|URG)
)

// tcpFlagsLegal reports whether some stack sends these control bits together.
// ECE and CWR go with all of them.
func tcpFlagsLegal(flags uint8) bool { return legalFlags>>(flags&(URG<<1-1))&1 != 0 }

// checkTCP checks a segment; of one that is not whole, only its start is there.
func checkTCP(b []byte, whole bool) Problem {
	if len(b) < tcpMinLen {
		if whole {
			return TCPShort
		}
		return FragTiny
	}
	t := TCP(b)
	switch header := t.DataOffset(); {
	case header < tcpMinLen || header > len(b) && whole:
		return TCPOffset
	case header > len(b):
		return FragTiny
	case !tcpFlagsLegal(t.Flags()):
		return TCPFlags
	case t.SrcPort() == 0 || t.DstPort() == 0:
		return PortZero
	}
	return OK
}

// TCP is a view of a TCP header and its payload (RFC 9293).
type TCP []byte

// SrcPort returns the source port.
func (t TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(t) }

// DstPort returns the destination port.
func (t TCP) DstPort() uint16 { return binary.BigEndian.Uint16(t[2:]) }

// Seq returns the sequence number.
func (t TCP) Seq() uint32 { return binary.BigEndian.Uint32(t[4:]) }

// Ack returns the acknowledgment number, meaningful with the ACK bit.
func (t TCP) Ack() uint32 { return binary.BigEndian.Uint32(t[8:]) }

// DataOffset returns the header length in bytes, options included.
func (t TCP) DataOffset() int { return int(t[12]>>4) * 4 }

// Flags returns the eight control bits, FIN to CWR.
func (t TCP) Flags() uint8 { return t[13] }

// Window returns the window field, unscaled.
func (t TCP) Window() uint16 { return binary.BigEndian.Uint16(t[14:]) }

// Checksum returns the stored checksum.
func (t TCP) Checksum() uint16 { return binary.BigEndian.Uint16(t[16:]) }

// Urgent returns the urgent pointer, meaningful with the URG bit.
func (t TCP) Urgent() uint16 { return binary.BigEndian.Uint16(t[18:]) }

// Options returns the bytes between the fixed header and the payload.
func (t TCP) Options() []byte { return t[tcpMinLen:t.DataOffset()] }

// Payload returns the data, to the end of the view.
func (t TCP) Payload() []byte { return t[t.DataOffset():] }

// WindowScale returns the shift of the window scale option, at most
// MaxWindowScale. ok is false without that option, or if the option list is
// malformed before it: the walk stops there.
func (t TCP) WindowScale() (shift uint8, ok bool) {
	for opts := t.Options(); len(opts) > 0 && opts[0] != tcpOptEnd; {
		if opts[0] == tcpOptNOP {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return 0, false
		}
		if opts[0] == tcpOptWindowScale && opts[1] == 3 {
			return min(opts[2], MaxWindowScale), true
		}
		opts = opts[opts[1]:]
	}
	return 0, false
}

// SetSrcPort stores the source port.
func (t TCP) SetSrcPort(port uint16) { binary.BigEndian.PutUint16(t, port) }

// SetDstPort stores the destination port.
func (t TCP) SetDstPort(port uint16) { binary.BigEndian.PutUint16(t[2:], port) }

// SetSeq stores the sequence number.
func (t TCP) SetSeq(seq uint32) { binary.BigEndian.PutUint32(t[4:], seq) }

// SetAck stores the acknowledgment number.
func (t TCP) SetAck(ack uint32) { binary.BigEndian.PutUint32(t[8:], ack) }

// SetDataOffset stores the header length in bytes, a multiple of 4 from 20 to
// 60, and clears the reserved bits beside it.
func (t TCP) SetDataOffset(n int) { t[12] = uint8(n/4) << 4 }

// SetFlags stores the eight control bits.
func (t TCP) SetFlags(flags uint8) { t[13] = flags }

// SetWindow stores the window.
func (t TCP) SetWindow(window uint16) { binary.BigEndian.PutUint16(t[14:], window) }

// SetChecksum stores the checksum.
func (t TCP) SetChecksum(sum uint16) { binary.BigEndian.PutUint16(t[16:], sum) }

// Adjust applies d to the checksum. TCP stores a result of 0000 as it is.
func (t TCP) Adjust(d Delta) { t.SetChecksum(d.Apply(t.Checksum())) }

// RewriteSrcPort changes the source port and the checksum.
func (t TCP) RewriteSrcPort(port uint16) {
	t.Adjust(Delta16(t.SrcPort(), port))
	t.SetSrcPort(port)
}

// RewriteDstPort changes the destination port and the checksum.
func (t TCP) RewriteDstPort(port uint16) {
	t.Adjust(Delta16(t.DstPort(), port))
	t.SetDstPort(port)
}
