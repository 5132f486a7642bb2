// Packets, of Hubble or of a capture: flows are made of them.

package trace

import (
	"iter"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// quiet is how long a UDP flow is without packets until it is over; our choice, longer than any
// idle timeout that matters.
const quiet = time.Hour

// segment is what a packet says about a TCP connection.
type segment struct{ begins, fin, reset bool }

// packet adds a packet to its flow, which is named as the host of the inside sees it.
func (r *reader) packet(line int, k key, host string, at time.Duration, s segment, size int) {
	if i, ok := r.under[k]; ok {
		f := &r.trace.Flows[i]
		if k.udp && at-f.Start-f.Duration > quiet || s.begins && f.End != Open {
			delete(r.under, k)
		}
	}
	f := r.see(line, k, host, at)
	if f == nil {
		return
	}
	f.Bytes += uint64(size)
	switch { // what comes after the end still belongs to it, as acknowledgments do
	case s.reset:
		f.End = Reset
	case s.fin && f.End == Open:
		f.End = Closed
	case k.udp:
		f.End = Closed
	}
}

// Packets makes a trace out of IP packets, with times since some moment, that do not decrease.
// inside reports whether an address is of the inside; packets between two of the inside, or none,
// are left out, and so are conversations whose first packet comes from outside. Cost: O(packets).
// The error is about more than MaxFlows flows.
func Packets(packets iter.Seq2[time.Duration, []byte], inside func(netip.Addr) bool) (*Trace, error) {
	r := newReader("packets")
	n := 0
	for at, pkt := range packets {
		n++
		r.capture(n, at, pkt, inside)
	}
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	return r.finish(), nil
}

// capture adds a packet of a capture.
func (r *reader) capture(n int, at time.Duration, pkt []byte, inside func(netip.Addr) bool) {
	var p wire.Packet
	if problem := wire.Parse(pkt, &p); problem != wire.OK {
		r.skip("not a whole packet")
		return
	}
	if p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP || p.Flags&wire.Fragmented != 0 {
		r.skip("no packet of TCP or UDP")
		return
	}
	src, dst := addrs(&p)
	from, to := p.Ports()>>16, p.Ports()&0xffff
	k := key{netip.AddrPortFrom(src, uint16(from)), netip.AddrPortFrom(dst, uint16(to)), p.Proto == wire.ProtoUDP}
	var s segment
	if !k.udp {
		flags := p.TCP().Flags()
		s = segment{flags&(wire.SYN|wire.ACK) == wire.SYN, flags&wire.FIN != 0, flags&wire.RST != 0}
	}
	back := key{k.dst, k.src, k.udp}
	_, answers := r.under[back]
	switch {
	case inside(src) == inside(dst):
		r.skip("within one side")
	case inside(src) && r.foreign[k] && !s.begins:
		r.skip("not begun inside")
	case inside(src) && !flow.IsHost(dst):
		r.skip(toMany)
	case inside(src):
		r.packet(n, k, "", at, s, len(p.B))
	case answers:
		r.packet(n, back, "", at, segment{fin: s.fin, reset: s.reset}, len(p.B))
	default:
		r.foreign[back] = true
		r.skip("not begun inside")
	}
}

// addrs returns the addresses of a packet.
func addrs(p *wire.Packet) (src, dst netip.Addr) {
	if p.Flags&wire.V6 != 0 {
		return netip.AddrFrom16(p.IPv6().Src()), netip.AddrFrom16(p.IPv6().Dst())
	}
	return netip.AddrFrom4([4]byte(p.B[12:16])), netip.AddrFrom4([4]byte(p.B[16:20]))
}
