// Packets as they are on the host that sends them, before its network card has done
// the rest.

package pkttest

import (
	"encoding/binary"
	"slices"
)

// Offload returns a whole TCP or UDP packet without extension headers as it is captured
// on its sender: its checksum is the sum of the pseudo-header alone.
func Offload(packet []byte) []byte {
	b := slices.Clone(packet)
	at, proto, addresses := int(b[0]&15)*4, b[9], b[12:20]
	if b[0]>>4 == 6 {
		at, proto, addresses = 40, b[6], b[8:40]
	}
	sum := uint32(proto) + uint32(len(b)-at)
	for i := 0; i < len(addresses); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(addresses[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	const tcp, tcpSum, udpSum = 6, 16, 6
	if proto == tcp {
		at += tcpSum
	} else {
		at += udpSum
	}
	binary.BigEndian.PutUint16(b[at:], uint16(sum))
	return b
}
