package pkttest

// Checks: what a packet is, compared with what it should be.

import (
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"
)

// Check reports to t every field that the packet b does not have, and a packet
// that cannot be decoded.
func Check(t testing.TB, b []byte, fields ...Field) {
	t.Helper()
	p, err := decode(b)
	if err != nil {
		t.Errorf("% x: %v", b, err)
		return
	}
	for _, f := range fields {
		if bad := f.check(p); bad != "" {
			t.Errorf("%s: %s", String(b), bad)
		}
	}
}

// Diff returns the offsets at which a and b differ, in order. Bytes that only
// one of them has count as different.
func Diff(a, b []byte) []int {
	var at []int
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			at = append(at, i)
		}
	}
	return at
}

// String describes a packet in one line:
//
//	TCP 10.0.0.4:40000 > 198.51.100.7:443 S seq=1 len=0
//	UDP [fd00::4]:4242 > [2001:db8:5::7]:53 len=5
//	ICMP 10.0.0.4 > 198.51.100.7 type=8 code=0 id=1 seq=2 len=0
//	UDP 10.0.0.4 > 198.51.100.7 frag id=7 off=1480 more len=16
func String(b []byte) string {
	p, err := decode(b)
	if err != nil {
		return fmt.Sprintf("malformed (%v): % x", err, b)
	}
	head := fmt.Sprintf("%s %v > %v", p.upperName(), p.src.Addr(), p.dst.Addr())
	if f := p.fragment; f != nil {
		more := ""
		if f.more {
			more = " more"
		}
		return fmt.Sprintf("%s frag id=%d off=%d%s len=%d", head, f.id, f.offset, more, len(b)-p.at)
	}
	switch p.upper {
	case layers.IPProtocolTCP:
		flags, ack := flagString(&p.tcp), ""
		if flags == "" {
			flags = "none"
		}
		if p.tcp.ACK {
			ack = fmt.Sprintf(" ack=%d", p.tcp.Ack)
		}
		return fmt.Sprintf("TCP %v > %v %s seq=%d%s len=%d", p.src, p.dst, flags, p.tcp.Seq, ack, len(p.payload))
	case layers.IPProtocolUDP:
		return fmt.Sprintf("UDP %v > %v len=%d", p.src, p.dst, len(p.payload))
	case layers.IPProtocolICMPv4, layers.IPProtocolICMPv6:
		head = fmt.Sprintf("%s type=%d code=%d", head, p.icmp[0], p.icmp[1])
		if p.isEcho() {
			head = fmt.Sprintf("%s id=%d seq=%d", head,
				uint16(p.icmp[4])<<8|uint16(p.icmp[5]), uint16(p.icmp[6])<<8|uint16(p.icmp[7]))
		}
	}
	return fmt.Sprintf("%s len=%d", head, len(p.payload))
}

func (p *packet) upperName() string {
	switch p.upper {
	case layers.IPProtocolICMPv4:
		return "ICMP"
	case layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv6:
		return p.upper.String()
	}
	return fmt.Sprintf("proto-%d", uint8(p.upper))
}

func (p *packet) isICMP() bool {
	return p.upper == layers.IPProtocolICMPv4 || p.upper == layers.IPProtocolICMPv6
}

func (p *packet) isEcho() bool {
	switch p.icmp[0] {
	case 0, 8:
		return p.upper == layers.IPProtocolICMPv4
	case 128, 129:
		return p.upper == layers.IPProtocolICMPv6
	}
	return false
}
