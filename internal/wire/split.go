package wire

// Splitting packets that exceed an MTU. Read RFC 791 section 3.2 (fragmentation
// procedure) and section 3.1 (options) first.

import "iter"

// Split cuts a packet, or a fragment, that may be fragmented into fragments of mtu
// bytes at most and yields them in the order of their offsets, each in a slice of its
// own. All have the identification id. h must be cut to its total length; mtu is 68 or
// more (RFC 791 section 3.2).
func (h IPv4) Split(mtu int, id uint16) iter.Seq[IPv4] {
	return func(yield func(IPv4) bool) {
		offset, more := h.FragmentOffset(), h.Flags()&IPv4MF != 0
		header, rest := h[:h.HeaderLen()], h[h.HeaderLen():]
		for len(rest) > 0 {
			size, flags := len(rest), uint8(0)
			if more {
				flags = IPv4MF
			}
			if room := mtu - len(header); size > room {
				size, flags = room&^(fragmentUnit-1), IPv4MF
			}
			b := append(append(make(IPv4, 0, len(header)+size), header...), rest[:size]...)
			b.SetTotalLength(uint16(len(b)))
			b.SetID(id)
			b.SetFragment(flags, offset)
			b.ComputeChecksum()
			if !yield(b) {
				return
			}
			if offset == 0 {
				header = laterHeader(header)
			}
			offset, rest = offset+size, rest[size:]
		}
	}
}

// laterHeader returns the header of all fragments but the first: it has only those
// options that say that they are to be copied (RFC 791 section 3.1).
func laterHeader(first IPv4) IPv4 {
	const copied = 0x80
	b := append(make(IPv4, 0, len(first)), first[:ipv4MinLen]...)
	for opts := first[ipv4MinLen:]; len(opts) > 0 && opts[0] != 0; {
		size := 1
		if opts[0] != 1 { // all but a no-operation has a length, which the parser has checked
			size = int(opts[1])
		}
		if opts[0]&copied != 0 {
			b = append(b, opts[:size]...)
		}
		opts = opts[size:]
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b.SetVersionAndHeaderLen(len(b))
	return b
}
