package snat_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// The protocols of packets, as IANA numbers them.
const (
	protoTCP = 6
	protoUDP = 17
)

// packet is a packet as the model and the scripts see it: what matters for
// translation and nothing else. It becomes bytes only by way of pkttest, which
// shares no code with the translator.
type packet struct {
	proto    uint8
	src, dst netip.AddrPort
	flags    uint8 // TCP
	seq, ack uint32
	payload  string
	corrupt  bool // the transport checksum is wrong
	bare     bool // UDP over IPv4 without checksum
}

// bytes builds the packet.
func (p packet) bytes() []byte {
	src, dst := p.src.String(), p.dst.String()
	var fields []pkttest.Field
	switch {
	case p.corrupt:
		fields = append(fields, pkttest.BadChecksum())
	case p.bare:
		fields = append(fields, pkttest.NoChecksum())
	}
	if p.proto == protoUDP {
		return pkttest.UDP(src, dst, p.payload, fields...)
	}
	letters := ""
	for i, c := range "FSRPAU" {
		if p.flags>>i&1 != 0 {
			letters += string(c)
		}
	}
	fields = append(fields, pkttest.TCPFlags(inOrder(letters)), pkttest.Seq(p.seq), pkttest.Ack(p.ack), pkttest.Payload(p.payload))
	return pkttest.TCP(src, dst, fields...)
}

// inOrder puts the letters of TCP flags into the order that pkttest wants.
func inOrder(letters string) string {
	s := ""
	for _, c := range "SFRPAUEC" {
		for _, l := range letters {
			if l == c {
				s += string(c)
			}
		}
	}
	return s
}

// segment is what a tracker sees of the packet.
func (p packet) segment() flow.Segment {
	s := flow.Segment{
		Seq: p.seq, Ack: p.ack, Len: uint32(len(p.payload)), Window: 65535, Flags: p.flags, Scale: flow.NoScale,
	}
	for _, f := range []uint8{flow.SYN, flow.FIN} {
		if p.flags&f != 0 {
			s.Len++
		}
	}
	return s
}

// String describes the packet in a line.
func (p packet) String() string {
	s := pkttest.String(p.bytes())
	if p.corrupt {
		s += " corrupt"
	}
	return s
}

// checksumAt returns the offset of the transport checksum, for packets without
// IP options.
func checksumAt(b []byte, proto uint8) int {
	at := 20
	if b[0]>>4 == 6 {
		at = 40
	}
	if proto == protoTCP {
		return at + 16
	}
	return at + 6
}

// sameAs reports how got differs from what the translation of sent should be,
// "" if it does not. translated is sent with other addresses and ports. The
// checksum of a corrupt packet must be wrong by as much as it was.
func sameAs(got []byte, sent, translated packet) string {
	want := translated.bytes()
	if sent.corrupt && len(got) == len(want) {
		good, goodSent := translated, sent
		good.corrupt, goodSent.corrupt = false, false
		at := checksumAt(want, sent.proto)
		word := func(b []byte) uint32 { return uint32(binary.BigEndian.Uint16(b[at:])) }
		if (word(got)+word(goodSent.bytes()))%0xffff == (word(good.bytes())+word(sent.bytes()))%0xffff {
			copy(want[at:at+2], got[at:])
		}
	}
	if at := pkttest.Diff(got, want); len(at) > 0 {
		return fmt.Sprintf("bytes %v differ:\n got %x %s\nwant %x %s", at, got, pkttest.String(got), want, pkttest.String(want))
	}
	return ""
}
