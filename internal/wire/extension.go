package wire

// The walk over IPv6 extension headers. Read RFC 8200 section 4, RFC 7112
// (first fragments), RFC 6946 (atomic fragments) and RFC 8504 section 5.3
// (limits) first. Where this walk decides what RFC 8200 leaves open:
//   - headers may come in any order and repeat, except that Hop-by-Hop must be
//     first and a second Fragment header is refused;
//   - an Authentication Header ends the walk as an unsupported upper layer,
//     because it does not survive an address change;
//   - Destination options are the destination's business and are not read.

import "encoding/binary"

// Types of the extension headers the walk steps over (IANA).
const (
	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extDestOpts = 60
	extMobility = 135
	extHIP      = 139
	extShim6    = 140
)

// Hop-by-Hop options that are known (IANA).
const (
	hopPad1        = 0
	hopPadN        = 1
	hopRouterAlert = 5
	hopJumbo       = 0xc2
)

// Limits on the work a packet can cause.
const (
	maxExtHeaders = 8   // extension headers in one packet
	maxExtBytes   = 512 // their total length
	maxHopOptions = 8   // options other than padding (RFC 8504 section 5.3)
	maxHopPadding = 7   // consecutive bytes of padding (RFC 8504 section 5.3)
)

// isExtension reports whether a header of type next is one to step over.
func isExtension(next uint8) bool {
	switch next {
	case extHopByHop, extRouting, extFragment, extDestOpts, extMobility, extHIP, extShim6:
		return true
	}
	return false
}

// walkExtensions moves p's L4 and Proto from the first extension header to the
// upper layer, or to the payload of a non-first fragment. On a problem they
// name the header it is about.
func (p *Packet) walkExtensions() Problem {
	b, at, fragment := p.B, ipv6HeaderLen, false
	for n := 0; isExtension(p.Proto); n++ {
		p.L4 = uint16(at)
		switch {
		case n == maxExtHeaders:
			return ExtLimit
		case p.Proto == extHopByHop && n > 0, p.Proto == extFragment && fragment:
			return ExtOrder
		}
		size := extensionLen(b[at:], p.Proto)
		switch {
		case size == 0 && p.Flags&Fragmented != 0:
			return FragTiny
		case size == 0:
			return ExtLength
		case at+size > ipv6HeaderLen+maxExtBytes:
			return ExtLimit
		}
		header := b[at : at+size]
		at += size
		switch p.Proto {
		case extHopByHop:
			if problem := checkHopOptions(header[2:]); problem != OK {
				return problem
			}
		case extRouting:
			if header[3] != 0 {
				return RoutingHeader
			}
		case extFragment:
			fragment = true
			if problem := p.enterFragment(Fragment(header), at); problem != OK || p.Flags&NonFirst != 0 {
				return problem
			}
		}
		p.Proto, p.L4 = header[0], uint16(at)
	}
	return OK
}

// enterFragment takes note of the Fragment header f, whose payload starts at
// offset at of the packet. An atomic fragment is a whole packet (RFC 6946).
func (p *Packet) enterFragment(f Fragment, at int) Problem {
	offset := f.Offset()
	if offset == 0 && !f.More() {
		return OK
	}
	p.Flags |= Fragmented
	// Once reassembled the datagram has no Fragment header, but all before it.
	rest := at - fragmentHeaderLen - ipv6HeaderLen
	if problem := checkFragment(len(p.B)-at, offset, rest, f.More()); problem != OK {
		return problem
	}
	if offset == 0 {
		return OK
	}
	p.Flags |= NonFirst
	p.Proto, p.L4 = f.NextHeader(), uint16(at)
	switch {
	case p.Proto == extHopByHop, p.Proto == extFragment:
		return ExtOrder
	case isExtension(p.Proto):
		return OK // the upper layer is known from the first fragment only
	}
	return p.checkNonFirst(offset)
}

// extensionLen returns the length of the extension header of type next that b
// starts with, or 0 if it does not fit in b.
func extensionLen(b []byte, next uint8) int {
	if len(b) < 8 {
		return 0
	}
	size := (int(b[1]) + 1) * 8
	if next == extFragment {
		size = fragmentHeaderLen
	}
	if size > len(b) {
		return 0
	}
	return size
}

// checkHopOptions walks the options of a Hop-by-Hop header.
func checkHopOptions(opts []byte) Problem {
	options, padding := 0, 0
	for len(opts) > 0 {
		kind, size := opts[0], 1
		if kind != hopPad1 {
			if len(opts) < 2 || 2+int(opts[1]) > len(opts) {
				return ExtLength
			}
			size = 2 + int(opts[1])
		}
		opts = opts[size:]
		if kind == hopPad1 || kind == hopPadN {
			if padding += size; padding > maxHopPadding {
				return ExtLimit
			}
			continue
		}
		padding = 0
		if options++; options > maxHopOptions {
			return ExtLimit
		}
		switch {
		case kind == hopJumbo:
			return Jumbo
		case kind != hopRouterAlert && kind>>6 != 0: // RFC 8200 section 4.2
			return HopOption
		}
	}
	return OK
}

// isJumbogram reports whether a packet with payload length 0 has the option
// that holds its real length (RFC 2675 section 2).
func isJumbogram(ip IPv6) bool {
	if ip.NextHeader() != extHopByHop {
		return false
	}
	header := ip.Payload()
	size := extensionLen(header, extHopByHop)
	return size > 0 && checkHopOptions(header[2:size]) == Jumbo
}

const fragmentHeaderLen = 8

// Fragment is a view of an IPv6 Fragment header and its payload (RFC 8200 section 4.5).
type Fragment []byte

// Fragment returns the Fragment header of an IPv6 packet that Parse accepted,
// atomic ones included. ok is false if it has none.
func (p *Packet) Fragment() (f Fragment, ok bool) {
	if p.Flags&V6 == 0 {
		return nil, false
	}
	next, at := p.B[6], ipv6HeaderLen
	for next != extFragment {
		if !isExtension(next) {
			return nil, false
		}
		next, at = p.B[at], at+(int(p.B[at+1])+1)*8
	}
	return Fragment(p.B[at:]), true
}

// NextHeader returns the type of the first header of the fragmented part.
func (f Fragment) NextHeader() uint8 { return f[0] }

// Offset returns the offset of the payload in the fragmented part, in bytes.
func (f Fragment) Offset() int {
	return int(binary.BigEndian.Uint16(f[2:]) &^ (fragmentUnit - 1))
}

// More reports whether more fragments follow.
func (f Fragment) More() bool { return f[3]&1 != 0 }

// ID returns the identification that the fragments of one datagram share.
func (f Fragment) ID() uint32 { return binary.BigEndian.Uint32(f[4:]) }

// SetNextHeader stores the type of the first header of the fragmented part.
func (f Fragment) SetNextHeader(proto uint8) { f[0] = proto }

// SetID stores the identification. No checksum covers it.
func (f Fragment) SetID(id uint32) { binary.BigEndian.PutUint32(f[4:], id) }
