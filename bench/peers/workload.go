package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

const (
	size             = 64     // bytes of a packet, from the IP header on
	batch            = 64     // packets that are handed over at once
	flowsPerSource   = 1024   // flows of one inside address
	flowsPerRemote   = 32_768 // flows to one destination: fewer than one address has ports
	portsPerFrontend = 62 * flowsPerSource
	orderLen         = 1 << 18
)

// workload is the packets of flows, 64 bytes each, and a random order of them.
type workload struct {
	flows   int
	packets []byte
	order   []uint32
}

// inside is the source of a flow.
func inside(i int) netip.AddrPort {
	n := i / flowsPerSource
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), uint16(20_000+i%flowsPerSource))
}

// remote is the destination of a flow.
func remote(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i / flowsPerRemote), 1}), 443)
}

func newWorkload(flows int) (*workload, error) {
	w := &workload{flows: flows, packets: make([]byte, flows*size), order: make([]uint32, orderLen)}
	buf := gopacket.NewSerializeBuffer()
	for i := range flows {
		p, err := datagram(buf, inside(i), remote(i), payload(i))
		if err != nil {
			return nil, err
		}
		copy(w.packets[i*size:], p)
	}
	rng := rand.New(rand.NewPCG(1, uint64(flows)))
	for i := range w.order {
		w.order[i] = uint32(rng.IntN(flows))
	}
	return w, nil
}

// payload is what a flow says: its number, so that what comes out is known by it.
func payload(i int) []byte {
	p := make([]byte, size-28)
	binary.BigEndian.PutUint32(p, uint32(i))
	return p
}

// packet copies the packet of a flow into buf.
func (w *workload) packet(buf []byte, i int) { copy(buf[:size], w.packets[i*size:]) }

// datagram builds an IPv4 UDP packet. It is valid until buf is used again.
func datagram(buf gopacket.SerializeBuffer, src, dst netip.AddrPort, data []byte) ([]byte, error) {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, ip, udp, gopacket.Payload(data)); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// decode reads an IPv4 UDP packet with gopacket and proves its checksums.
func decode(p []byte) (src, dst netip.AddrPort, data []byte, err error) {
	d := gopacket.NewPacket(p, layers.LayerTypeIPv4, gopacket.Default)
	ip, _ := d.NetworkLayer().(*layers.IPv4)
	udp, _ := d.TransportLayer().(*layers.UDP)
	if d.ErrorLayer() != nil || ip == nil || udp == nil {
		return src, dst, nil, fmt.Errorf("no IPv4 UDP packet: %x", p)
	}
	a, _ := netip.AddrFromSlice(ip.SrcIP)
	b, _ := netip.AddrFromSlice(ip.DstIP)
	src, dst = netip.AddrPortFrom(a, uint16(udp.SrcPort)), netip.AddrPortFrom(b, uint16(udp.DstPort))
	if got := sum(p[:20], 0); got != 0xffff {
		return src, dst, nil, fmt.Errorf("IP header sums to %04x", got)
	}
	pseudo := uint32(17) + uint32(udp.Length)
	for i := 12; i < 20; i += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	if got := sum(p[20:], pseudo); udp.Checksum != 0 && got != 0xffff {
		return src, dst, nil, fmt.Errorf("datagram sums to %04x", got)
	}
	return src, dst, udp.Payload, nil
}

// sum is the ones' complement sum of RFC 1071, word by word.
func sum(b []byte, s uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
