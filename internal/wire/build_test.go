package wire

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// ipLayer returns the header as gopacket has it.
func ipLayer(h *Header, proto layers.IPProtocol) gopacket.SerializableLayer {
	addr := func(a [2]uint64) net.IP {
		if !h.V6 {
			return binary.BigEndian.AppendUint32(nil, uint32(a[0]))
		}
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, a[0]), a[1])
	}
	if h.V6 {
		return &layers.IPv6{Version: 6, TrafficClass: h.Class, NextHeader: proto, HopLimit: 64, SrcIP: addr(h.Src), DstIP: addr(h.Dst)}
	}
	return &layers.IPv4{Version: 4, TOS: h.Class, TTL: 64, Protocol: proto, Flags: layers.IPv4DontFragment, SrcIP: addr(h.Src), DstIP: addr(h.Dst)}
}

// serialize builds a packet with gopacket.
func serialize(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	network := all[0].(gopacket.NetworkLayer)
	for _, l := range all {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			require.NoError(t, l.SetNetworkLayerForChecksum(network))
		}
	}
	buf := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...))
	return buf.Bytes()
}

// built compares what AppendTo gives with what gopacket has built, behind bytes that
// are there already.
func built(t *testing.T, appendTo func([]byte) []byte, want []byte) {
	got := appendTo([]byte{1, 2, 3})
	if !bytes.Equal(got, append([]byte{1, 2, 3}, want...)) {
		t.Fatalf("built  %x\nwant 010203%x", got, want)
	}
	var p Packet
	if problem := Parse(got[3:], &p); problem == OK && !VerifyL4(&p) {
		t.Fatal("its checksum is wrong")
	}
}

// A Segment is what gopacket builds of the same fields.
func FuzzSegment(f *testing.F) {
	f.Add(false, []byte{10, 0, 0, 4, 192, 0, 2, 1}, uint16(443), uint16(1024), uint32(7), uint32(0), uint8(SYN), uint16(8192), []byte(nil))
	f.Add(true, bytes.Repeat([]byte{0xff, 0x20, 1}, 11), uint16(1), uint16(0xffff), uint32(1<<31), uint32(1<<32-1), uint8(ACK|PSH), uint16(1), []byte("odd"))
	f.Fuzz(func(t *testing.T, v6 bool, addrs []byte, srcPort, dstPort uint16, seq, ack uint32, flags uint8, window uint16, data []byte) {
		data = data[:min(len(data), 1200)]
		s := Segment{Header: someHeader(v6, addrs, 0), SrcPort: srcPort, DstPort: dstPort, Seq: seq, Ack: ack, Flags: flags, Window: window}
		built(t, func(b []byte) []byte { return s.AppendTo(b, data) }, serialize(t, ipLayer(&s.Header, layers.IPProtocolTCP), &layers.TCP{
			SrcPort: layers.TCPPort(srcPort), DstPort: layers.TCPPort(dstPort), Seq: seq, Ack: ack, Window: window,
			FIN: flags&FIN != 0, SYN: flags&SYN != 0, RST: flags&RST != 0, PSH: flags&PSH != 0,
			ACK: flags&ACK != 0, URG: flags&URG != 0, ECE: flags&ECE != 0, CWR: flags&CWR != 0,
		}, gopacket.Payload(data)))
	})
}

// A Reset is what gopacket builds of the same fields.
func FuzzReset(f *testing.F) {
	f.Add(false, []byte{10, 0, 0, 4, 192, 0, 2, 1}, uint8(0xb8), uint16(443), uint16(1024), uint32(7), uint32(0), uint8(0))
	f.Add(true, bytes.Repeat([]byte{0xff, 0x20, 1}, 11), uint8(0), uint16(1), uint16(0xffff), uint32(1<<31), uint32(1<<32-1), uint8(ACK))
	f.Fuzz(func(t *testing.T, v6 bool, addrs []byte, class uint8, srcPort, dstPort uint16, seq, ack uint32, flags uint8) {
		r := Reset{Header: someHeader(v6, addrs, class), SrcPort: srcPort, DstPort: dstPort, Seq: seq, Ack: ack, Flags: flags}
		flags |= RST
		built(t, r.AppendTo, serialize(t, ipLayer(&r.Header, layers.IPProtocolTCP), &layers.TCP{
			SrcPort: layers.TCPPort(srcPort), DstPort: layers.TCPPort(dstPort), Seq: seq, Ack: ack,
			FIN: flags&FIN != 0, SYN: flags&SYN != 0, RST: flags&RST != 0, PSH: flags&PSH != 0,
			ACK: flags&ACK != 0, URG: flags&URG != 0, ECE: flags&ECE != 0, CWR: flags&CWR != 0,
		}))
		if n := len(r.AppendTo(nil)); n > MaxResetLen || v6 && n != MaxResetLen {
			t.Fatalf("%d bytes", n)
		}
	})
}

// An ICMPError is what gopacket builds of the same fields.
func FuzzICMPError(f *testing.F) {
	f.Add(false, []byte{10, 0, 0, 4, 192, 0, 2, 1}, uint8(0xb8), uint8(3), uint8(4), uint32(1280), pkttest.UDP(src4, dst4, "hello"))
	f.Add(true, bytes.Repeat([]byte{0xff, 0x20, 1}, 11), uint8(0), uint8(2), uint8(0), uint32(1<<32-1), pkttest.UDP(src6, dst6, "odd"))
	f.Add(false, []byte(nil), uint8(0), uint8(0), uint8(0), uint32(0), []byte(nil))
	f.Fuzz(func(t *testing.T, v6 bool, addrs []byte, class, typ, code uint8, rest uint32, quoted []byte) {
		e := ICMPError{Header: someHeader(v6, addrs, class), Type: typ, Code: code, Rest: rest}
		quoted = quoted[:min(len(quoted), e.QuoteRoom(1280))]
		appendTo := func(b []byte) []byte { return e.AppendTo(b, quoted) }
		if n := e.QuoteRoom(len(appendTo(nil))); n != len(quoted) {
			t.Fatalf("room for %d bytes, %d quoted", n, len(quoted))
		}
		if v6 {
			built(t, appendTo, serialize(t, ipLayer(&e.Header, layers.IPProtocolICMPv6),
				&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}, gopacket.Payload(append(binary.BigEndian.AppendUint32(nil, rest), quoted...))))
			return
		}
		built(t, appendTo, serialize(t, ipLayer(&e.Header, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code), Id: uint16(rest >> 16), Seq: uint16(rest)}, gopacket.Payload(quoted)))
	})
}

// someHeader returns a header whose addresses are made of any bytes.
func someHeader(v6 bool, addrs []byte, class uint8) Header {
	var b [32]byte
	copy(b[:], addrs)
	h := Header{V6: v6, Class: class}
	if v6 {
		h.Src = [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
		h.Dst = [2]uint64{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])}
	} else {
		h.Src[0], h.Dst[0] = uint64(binary.BigEndian.Uint32(b[:])), uint64(binary.BigEndian.Uint32(b[4:]))
	}
	return h
}

// A segment to a connection that nobody knows is answered as RFC 9293 section 3.10.7.1
// has it, with its DSCP.
func TestResetOf(t *testing.T) {
	for _, ends := range [][2]string{{src4, dst4}, {src6, dst6}} {
		src, dst := ends[0], ends[1]
		for _, c := range []struct {
			name, flags, data string
			want              []byte
		}{
			{"segment", "PA", "data", pkttest.TCP(dst, src, pkttest.RST, pkttest.Seq(77), pkttest.TOS(0xb8))},
			{"SYN", "S", "", pkttest.TCP(dst, src, pkttest.TCPFlags("RA"), pkttest.Seq(0), pkttest.Ack(1001), pkttest.TOS(0xb8))},
			{"SYN with data", "S", "data", pkttest.TCP(dst, src, pkttest.TCPFlags("RA"), pkttest.Seq(0), pkttest.Ack(1005), pkttest.TOS(0xb8))},
			{"FIN without ACK", "F", "", pkttest.TCP(dst, src, pkttest.TCPFlags("RA"), pkttest.Seq(0), pkttest.Ack(1001), pkttest.TOS(0xb8))},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := pkttest.TCP(src, dst, pkttest.TCPFlags(c.flags), pkttest.Seq(1000), pkttest.Ack(77), pkttest.Payload(c.data), pkttest.TOS(0xbb))
				var p Packet
				if problem := Parse(b, &p); problem != OK && problem != TCPFlags {
					t.Fatal(problem)
				}
				r := ResetOf(&p)
				assert.Equal(t, pkttest.String(c.want), pkttest.String(r.AppendTo(nil)))
			})
		}
	}
}
