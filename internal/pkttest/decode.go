package pkttest

// Decoding with gopacket, and the plain checksum that everything is judged by.

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

const fragmentHeader = 44 // IPv6 extension header type

// decode reads the packet b. Its parts alias b.
func decode(b []byte) (*packet, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("empty packet")
	}
	p := &packet{}
	if b[0]>>4 == 6 {
		if err := p.decodeIPv6(b); err != nil {
			return nil, err
		}
	} else if err := p.decodeIPv4(b); err != nil {
		return nil, err
	}
	if p.fragment == nil || p.fragment.offset == 0 {
		if err := p.decodeUpper(); err != nil {
			return nil, err
		}
	}
	if p.fragment != nil {
		p.segment = nil // no checksum can be told from a part
	}
	return p, nil
}

func (p *packet) decodeIPv4(b []byte) error {
	if err := p.ip4.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return err
	}
	p.setAddrs(p.ip4.SrcIP, p.ip4.DstIP)
	p.upper, p.at, p.segment = p.ip4.Protocol, len(p.ip4.Contents), p.ip4.Payload
	offset, more := int(p.ip4.FragOffset)*8, p.ip4.Flags&layers.IPv4MoreFragments != 0
	if offset != 0 || more {
		p.fragment = &fragment{uint32(p.ip4.Id), offset, more}
	}
	p.payload = p.segment
	return nil
}

func (p *packet) decodeIPv6(b []byte) error {
	// gopacket reads the fixed header; the chain is walked here, because it
	// stops at the first fragment.
	if len(b) < 40 || len(b) < 40+int(binary.BigEndian.Uint16(b[4:])) {
		return fmt.Errorf("IPv6 packet cut to %d bytes", len(b))
	}
	next, at, end := b[6], 40, 40+int(binary.BigEndian.Uint16(b[4:]))
	for next == 0 || next == 43 || next == 60 || next == fragmentHeader {
		if at+8 > end {
			return fmt.Errorf("IPv6 extension header %d cut", next)
		}
		size := 8
		if next == fragmentHeader {
			word := binary.BigEndian.Uint16(b[at+2:])
			p.fragment = &fragment{binary.BigEndian.Uint32(b[at+4:]), int(word &^ 7), word&1 != 0}
		} else {
			size += int(b[at+1]) * 8
		}
		next, at = b[at], at+size
		if p.fragment != nil && p.fragment.offset != 0 {
			break
		}
	}
	if at > end || end < 48 {
		return fmt.Errorf("IPv6 headers end at %d of %d bytes", at, end)
	}
	fixed := append([]byte(nil), b[:48]...)
	fixed[4], fixed[5], fixed[6] = 0, 8, 59 // what follows is not for gopacket
	if err := p.ip6.DecodeFromBytes(fixed, gopacket.NilDecodeFeedback); err != nil {
		return err
	}
	p.setAddrs(p.ip6.SrcIP, p.ip6.DstIP)
	p.upper, p.at, p.segment, p.payload = layers.IPProtocol(next), at, b[at:end], b[at:end]
	return nil
}

func (p *packet) setAddrs(src, dst []byte) {
	s, _ := netip.AddrFromSlice(src)
	d, _ := netip.AddrFromSlice(dst)
	p.src, p.dst = netip.AddrPortFrom(s, 0), netip.AddrPortFrom(d, 0)
}

// decodeUpper reads the header at the start of p.segment.
func (p *packet) decodeUpper() error {
	switch p.upper {
	case layers.IPProtocolTCP:
		if err := p.tcp.DecodeFromBytes(p.segment, gopacket.NilDecodeFeedback); err != nil {
			return err
		}
		p.setPorts(uint16(p.tcp.SrcPort), uint16(p.tcp.DstPort))
		p.payload = p.tcp.Payload
	case layers.IPProtocolUDP:
		if err := p.udp.DecodeFromBytes(p.segment, gopacket.NilDecodeFeedback); err != nil {
			return err
		}
		p.setPorts(uint16(p.udp.SrcPort), uint16(p.udp.DstPort))
		p.payload = p.udp.Payload
		p.segment = p.segment[:8+len(p.payload)] // the checksum ends with the UDP length
	case layers.IPProtocolICMPv4, layers.IPProtocolICMPv6:
		if len(p.segment) < 8 {
			return fmt.Errorf("ICMP message of %d bytes", len(p.segment))
		}
		p.icmp, p.payload = [8]byte(p.segment), p.segment[8:]
	}
	return nil
}

func (p *packet) setPorts(src, dst uint16) {
	p.src, p.dst = netip.AddrPortFrom(p.src.Addr(), src), netip.AddrPortFrom(p.dst.Addr(), dst)
}

// checksum returns the two checksum bytes of the upper-layer header, nil if it has none.
func (p *packet) checksum() []byte {
	at, ok := map[layers.IPProtocol]int{
		layers.IPProtocolTCP:    16,
		layers.IPProtocolUDP:    6,
		layers.IPProtocolICMPv4: 2,
		layers.IPProtocolICMPv6: 2,
	}[p.upper]
	if !ok || len(p.segment) < at+2 {
		return nil
	}
	return p.segment[at : at+2]
}

// verifyIPv4 says what is wrong with the header checksum.
func (p *packet) verifyIPv4() string {
	if sum := onesSum(p.ip4.Contents); !p.v6() && sum != 0xffff {
		return fmt.Sprintf("IPv4 header checksum is wrong (sum %04x)", sum)
	}
	return ""
}

// verifyUpper says what is wrong with the upper-layer checksum.
func (p *packet) verifyUpper() string {
	switch sum := p.checksum(); {
	case sum == nil:
		return ""
	case p.upper == layers.IPProtocolUDP && sum[0]|sum[1] == 0:
		if p.v6() {
			return "UDP has no checksum over IPv6"
		}
		return ""
	}
	if sum := onesSum(p.pseudoHeader(), p.segment); sum != 0xffff {
		return fmt.Sprintf("%s checksum is wrong (sum %04x)", p.upperName(), sum)
	}
	return ""
}

func (p *packet) pseudoHeader() []byte {
	if p.upper == layers.IPProtocolICMPv4 {
		return nil
	}
	b := append(p.src.Addr().AsSlice(), p.dst.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.segment)))
	return binary.BigEndian.AppendUint32(b, uint32(p.upper))
}

// onesSum returns the ones'-complement sum of the pieces, word by word; only the
// last may have an odd length.
func onesSum(pieces ...[]byte) uint16 {
	sum := 0
	for _, b := range pieces {
		for i, c := range b {
			if i%2 == 0 {
				sum += int(c) << 8
			} else {
				sum += int(c)
			}
			sum = sum&0xffff + sum>>16
		}
	}
	return uint16(sum)
}

// FixChecksums makes the checksums of the packet b true again, in place. A
// checksum of a fragment's upper layer stays. It panics if b cannot be decoded.
func FixChecksums(b []byte) {
	fixIPv4(b)
	p, err := decode(b)
	if err != nil {
		panic("pkttest: " + err.Error())
	}
	if sum := p.checksum(); sum != nil {
		sum[0], sum[1] = 0, 0
		v := ^onesSum(p.pseudoHeader(), p.segment)
		if v == 0 && p.upper == layers.IPProtocolUDP {
			v = 0xffff // RFC 768
		}
		binary.BigEndian.PutUint16(sum, v)
	}
}

// fixIPv4 makes the header checksum true if b is IPv4.
func fixIPv4(b []byte) {
	if b[0]>>4 != 4 {
		return
	}
	header := b[:int(b[0]&15)*4]
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^onesSum(header))
}
