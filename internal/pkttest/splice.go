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
		f := append(slices.Clone(b[:head]), payload[offset:end]...)
		word := uint16(offset)
		if p.v6() {
			if end < len(payload) {
				word |= 1
			}
			header := binary.BigEndian.AppendUint32([]byte{0, 0, byte(word >> 8), byte(word)}, id)
			f = insertExtension(f, fragmentHeader, header)
		} else {
			word /= 8
			if end < len(payload) {
				word |= 1 << 13
			}
			binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
			binary.BigEndian.PutUint16(f[4:], uint16(id))
			binary.BigEndian.PutUint16(f[6:], word)
			fixIPv4(f)
		}
		cut = append(cut, f)
	}
	return cut
}
