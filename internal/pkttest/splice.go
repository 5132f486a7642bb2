package pkttest

// Bytes put into finished packets: IPv4 options, IPv6 extension headers, and the
// cutting into fragments.

import (
	"encoding/binary"
	"slices"
)

// insertIPOptions puts opts, whole words, behind the IPv4 header.
func insertIPOptions(b, opts []byte) []byte {
	b = slices.Insert(b, int(b[0]&15)*4, opts...)
	b[0] += uint8(len(opts) / 4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	fixIPv4(b)
	return b
}

// insertExtension puts header behind the fixed IPv6 header.
func insertExtension(b []byte, kind uint8, header []byte) []byte {
	b = slices.Insert(b, 40, header...)
	b[40], b[6] = b[6], kind
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// Fragments cuts the packet b into fragments with size bytes of payload, a
// multiple of 8, under the given identification, of which IPv4 uses the lower 16
// bits. DF is cleared. A packet that fits yields one whole packet.
func Fragments(b []byte, size int, id uint32) [][]byte {
	p, err := decode(b)
	if err != nil {
		panic("pkttest: " + err.Error())
	}
	if size <= 0 || size%8 != 0 {
		panic("pkttest: fragments need a size that is a positive multiple of 8")
	}
	head := 40
	if !p.v6() {
		head = len(p.ip4.Contents)
	}
	payload := b[head:]
	if len(payload) <= size {
		return [][]byte{b}
	}
	var cut [][]byte
	for offset := 0; offset < len(payload); offset += size {
		end := min(offset+size, len(payload))
		cut = append(cut, Fragment(append(slices.Clone(b[:head]), payload[offset:end]...), offset, end < len(payload), id))
	}
	return cut
}

// Fragment returns b, a packet whose payload is a part of that of a larger one, as a
// fragment at an offset, a multiple of 8, with more behind it or not. Of the
// identification IPv4 uses the lower 16 bits. DF is cleared; b may be overwritten.
func Fragment(b []byte, offset int, more bool, id uint32) []byte {
	word := uint16(offset)
	if b[0]>>4 == 6 {
		if more {
			word |= 1
		}
		header := binary.BigEndian.AppendUint32([]byte{0, 0, byte(word >> 8), byte(word)}, id)
		return insertExtension(b, fragmentHeader, header)
	}
	word /= 8
	if more {
		word |= 1 << 13
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[4:], uint16(id))
	binary.BigEndian.PutUint16(b[6:], word)
	fixIPv4(b)
	return b
}
