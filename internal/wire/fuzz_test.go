package wire

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// addSeeds gives f one packet of each kind, good and bad.
func addSeeds(f *testing.F) {
	for _, ends := range [][2]string{{src4, dst4}, {src6, dst6}} {
		src, dst := ends[0], ends[1]
		for _, b := range [][]byte{
			pkttest.TCP(src, dst, pkttest.SYN, pkttest.MSS(1460), pkttest.WScale(7)),
			pkttest.TCP(src, dst, pkttest.RST, pkttest.BadChecksum()),
			withOptions(src, dst, 3, 0, 7, 0),
			pkttest.UDP(src, dst, "hello"),
			pkttest.UDP(src, dst, "hello", pkttest.NoChecksum()),
			pkttest.UDP(src, dst, "hello", pkttest.TTL(0)),
			pkttest.TCP(src, dst, pkttest.SYN, pkttest.TTL(1)),
			pkttest.ICMPEcho(src, dst, 1, 2),
			fragment(src, dst, ProtoTCP, 0, true, segment()),
			fragment(src, dst, ProtoUDP, 64, false, []byte("x")),
			pkttest.IP(src, dst, 47, make([]byte, 8)),
		} {
			f.Add(b)
			f.Add(append(b, 0, 0))
			f.Add(b[:len(b)-1])
		}
	}
	f.Add(pkttest.UDP(src4, dst4, "hello", pkttest.IPOptions(148, 4, 0, 0)))
	f.Add(pkttest.UDP(src4, dst4, "hello", pkttest.IPOptions(131, 3, 4)))
	f.Add(udp6(destOpts, ext(44, 0, 0, 0, 0, 0, 1), ext(43, 0, 0), hopOpts))
	f.Add(append(pkttest.TCP(src6, dst6, pkttest.SYN, hopOpts), 0, 0))
	f.Add(udp6(ext(0, 0xc2, 4, 0, 1, 0, 0), pkttest.Patch(4, 0, 0)))
}

// Nothing panics or reads past the packet, the fast path agrees with the complete
// parser, and after OK no accessor panics.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = slices.Clip(b)
		if len(b) >= 20 && b[0]>>4 == 4 && int(b[0]&15) >= 5 && int(b[0]&15)*4 <= len(b) {
			c := slices.Clone(b)
			IPv4(c).ComputeChecksum() // or hardly any input gets past the checksum
			check(t, c)
		}
		check(t, b)
	})
}

func check(t *testing.T, b []byte) {
	var p, q Packet
	problem := Parse(b, &p)
	if again := parseAny(b, &q); again != problem || !bytes.Equal(p.B, q.B) || p.L4 != q.L4 || p.Proto != q.Proto || p.Flags != q.Flags {
		t.Fatalf("fast %v %+v, complete %v %+v", problem, p, again, q)
	}
	if problem >= NumProblems {
		t.Fatalf("unknown problem %d", problem)
	}
	if len(p.B) > len(b) || int(p.L4) > len(p.B) {
		t.Fatalf("%+v of a packet of %d bytes", p, len(b))
	}
	want := ParseHopless(b, &q)
	if want == OK || want == UnsupportedProto || want == UDP6Zero {
		hops := q.B[8]
		if q.Flags&V6 != 0 {
			hops = q.B[7]
		}
		if hops == 0 {
			want = NoHops
		}
	}
	if problem != want {
		t.Fatalf("%v, want %v", problem, want)
	}
	if problem != OK {
		return
	}
	p.Fragment()
	if p.Flags&V6 == 0 {
		p.IPv4().Payload()
	} else {
		p.IPv6().Payload()
	}
	if p.Flags&NonFirst != 0 {
		return
	}
	whole := p.Flags&Fragmented == 0
	good := whole && VerifyL4(&p)
	switch p.Proto {
	case ProtoTCP:
		p.TCP().Payload()
		p.TCP().Options()
		p.TCP().WindowScale()
	case ProtoUDP:
		p.UDP().Payload()
	case ProtoICMP:
		p.ICMPv4().Payload()
	case ProtoICMPv6:
		p.ICMPv6().Payload()
	default:
		t.Fatalf("protocol %d is OK", p.Proto)
	}
	was, c := p, slices.Clone(p.B)
	p.B = c
	translate(&p, f4, f6, 1024)
	// An ICMP message of zeros and a checksum of 0 instead of FFFF is wrong only
	// in the sign of its zero, which no incremental update can keep.
	zeros := p.Proto == ProtoICMP && len(bytes.Trim(was.B[p.L4:], "\x00")) == 0
	if whole && !zeros && VerifyL4(&p) != good {
		t.Fatalf("upper-layer checksum right: %v, after a rewrite: %v", good, !good)
	}
	var after Packet
	if problem := Parse(c, &after); problem != OK {
		t.Fatalf("after a rewrite: %v", problem)
	}
}

// What gopacket and Parse both accept, both read alike. Known differences, where
// only one of the two accepts:
//   - Parse refuses what no dataplane should carry (wrong header checksums,
//     source routes, ports of 0, odd TCP flags, lengths that disagree);
//   - gopacket refuses malformed IPv4 and TCP options that Parse passes on
//     unread, and IPv6 extension headers in an order it does not know. It does
//     not look into fragments. Packets without any of these it must accept.
//
// Where both accept, gopacket errs once: it takes as much of what follows the
// packet for payload as its Hop-by-Hop header is long. Such packets it gets bare.
func FuzzParseAgainstGopacket(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 20 && b[0]>>4 == 4 && int(b[0]&15) >= 5 && int(b[0]&15)*4 <= len(b) {
			b = slices.Clone(b)
			IPv4(b).ComputeChecksum()
		}
		var p Packet
		if Parse(b, &p) != OK || p.Flags&Fragmented != 0 {
			return
		}
		first, plain := layers.LayerTypeIPv4, p.L4 == 20
		if p.Flags&V6 != 0 {
			first, plain = layers.LayerTypeIPv6, p.L4 == 40
		}
		if p.Proto == ProtoTCP && p.TCP().DataOffset() != 20 {
			plain = false
		}
		if p.Flags&V6 != 0 && p.B[6] == extHopByHop {
			b = p.B
		}
		g := gopacket.NewPacket(slices.Clone(b), first, gopacket.DecodeOptions{NoCopy: true})
		offset, proto := 0, uint8(0)
		for _, l := range g.Layers() {
			switch l := l.(type) {
			case *layers.IPv4:
				proto = uint8(l.Protocol)
				if h := p.IPv4(); h.TTL() != l.TTL || h.TOS() != l.TOS || h.ID() != l.Id || h.Checksum() != l.Checksum ||
					h.Flags() != uint8(l.Flags) || h.HeaderLen() != int(l.IHL)*4 {
					t.Fatalf("IPv4 header: %+v", l)
				}
			case *layers.IPv6:
				proto = uint8(l.NextHeader)
				if h := p.IPv6(); h.HopLimit() != l.HopLimit || h.TrafficClass() != l.TrafficClass || h.FlowLabel() != l.FlowLabel {
					t.Fatalf("IPv6 header: %+v", l)
				}
			case *layers.IPv6HopByHop:
				proto = uint8(l.NextHeader)
			case *layers.IPv6Routing:
				proto = uint8(l.NextHeader)
			case *layers.IPv6Destination:
				proto = uint8(l.NextHeader)
			case *layers.TCP:
				sameUpper(t, &p, proto, offset)
				if s := p.TCP(); s.SrcPort() != uint16(l.SrcPort) || s.DstPort() != uint16(l.DstPort) || s.Seq() != l.Seq || s.Ack() != l.Ack ||
					s.Window() != l.Window || s.Checksum() != l.Checksum || s.Urgent() != l.Urgent || !bytes.Equal(s.Payload(), l.Payload) {
					t.Fatalf("TCP: %+v", l)
				}
				tcpVerdict(t, &p, g, l)
				return
			case *layers.UDP:
				sameUpper(t, &p, proto, offset)
				if u := p.UDP(); u.SrcPort() != uint16(l.SrcPort) || u.DstPort() != uint16(l.DstPort) || u.Length() != l.Length ||
					u.Checksum() != l.Checksum || !bytes.Equal(u[8:u.Length()], l.Payload) {
					t.Fatalf("UDP: %+v", l)
				}
				if l.Checksum != 0 {
					udpVerdict(t, &p, g, l)
				}
				return
			case *layers.ICMPv4:
				sameUpper(t, &p, proto, offset)
				if m := p.ICMPv4(); m.Type() != l.TypeCode.Type() || m.Code() != l.TypeCode.Code() || m.ID() != l.Id || m.Seq() != l.Seq || m.Checksum() != l.Checksum {
					t.Fatalf("ICMP: %+v", l)
				}
				return
			case *layers.ICMPv6:
				sameUpper(t, &p, proto, offset)
				if m := p.ICMPv6(); m.Type() != l.TypeCode.Type() || m.Code() != l.TypeCode.Code() || m.Checksum() != l.Checksum {
					t.Fatalf("ICMPv6: %+v", l)
				}
				return
			}
			offset += len(l.LayerContents())
		}
		if plain {
			t.Fatalf("gopacket refuses %s: %v", pkttest.String(p.B), g.ErrorLayer())
		}
	})
}

func sameUpper(t *testing.T, p *Packet, proto uint8, offset int) {
	if p.Proto != proto || int(p.L4) != offset {
		t.Fatalf("protocol %d at %d, gopacket says %d at %d", p.Proto, p.L4, proto, offset)
	}
}

// tcpVerdict demands that VerifyL4 judges the checksum as gopacket does.
func tcpVerdict(t *testing.T, p *Packet, g gopacket.Packet, l *layers.TCP) {
	if err := l.SetNetworkLayerForChecksum(g.NetworkLayer()); err != nil {
		t.Fatal(err)
	}
	sum, err := l.ComputeChecksum() // over the stored checksum too: 0 if it is right
	if err != nil {
		t.Fatal(err)
	}
	if VerifyL4(p) != (sum == 0) {
		t.Fatalf("checksum right: %v, gopacket computes %04x", VerifyL4(p), sum)
	}
}

// udpVerdict is tcpVerdict for UDP, which gopacket only sums when it serializes.
func udpVerdict(t *testing.T, p *Packet, g gopacket.Packet, l *layers.UDP) {
	if err := l.SetNetworkLayerForChecksum(g.NetworkLayer()); err != nil {
		t.Fatal(err)
	}
	stored, buf, payload := l.Checksum, gopacket.NewSerializeBuffer(), gopacket.Payload(l.Payload)
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, l, payload); err != nil {
		t.Fatal(err)
	}
	if right := stored%0xffff == l.Checksum%0xffff; VerifyL4(p) != right {
		t.Fatalf("checksum right: %v, stored %04x, gopacket computes %04x", VerifyL4(p), stored, l.Checksum)
	}
}
