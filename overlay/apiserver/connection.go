// One connection: its packets and what becomes of them. Read RFC 9293 sections 3.5, 3.6 and
// 3.10.7 first.

package apiserver

import (
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// window is what both ends offer.
const window = 0xffff

// isnTick is how fast initial sequence numbers grow (RFC 9293 section 3.4.1).
const isnTick = 4 * time.Microsecond

// attempt is the handshake of a new connection. If it fails, the client waits longer each time.
func (t *Traffic) attempt(now flow.Time, c *client) {
	c.nextPort()
	isn := uint32(now.Duration() / isnTick)
	c.ours, c.theirs = isn, ^isn
	if !t.handshake(now, c) {
		t.stats.Failed++
		c.Failures++
		t.wait(now, c)
		return
	}
	c.State, c.Failures = Connected, 0
	t.stats.Connected++
	t.schedule(c, now.Add(t.with.KeepAlive))
}

// handshake reports whether all three packets have arrived.
func (t *Traffic) handshake(now flow.Time, c *client) bool {
	seen, ok := t.out(now, c, c.ours, 0, wire.SYN)
	if !ok {
		return false
	}
	c.ours++
	if !t.in(now, c, seen, c.theirs, c.ours, wire.SYN|wire.ACK) {
		return false
	}
	c.theirs++
	c.Outside = seen
	return t.says(now, c, c.ours, wire.ACK)
}

// keepAlive is a probe, whose sequence number is one that has been acknowledged, and the
// answer that it must have (RFC 1122 section 4.2.3.6).
func (t *Traffic) keepAlive(now flow.Time, c *client) {
	if !t.says(now, c, c.ours-1, wire.ACK) || !t.in(now, c, c.Outside, c.theirs, c.ours, wire.ACK) {
		t.cut(now, c)
		return
	}
	t.stats.KeepAlives++
	t.schedule(c, now.Add(t.with.KeepAlive))
}

// finish ends the connection of a client from its end, and reports whether all three packets
// have arrived.
func (t *Traffic) finish(now flow.Time, c *client) bool {
	if !t.says(now, c, c.ours, wire.FIN|wire.ACK) {
		return false
	}
	c.ours++
	if !t.in(now, c, c.Outside, c.theirs, c.ours, wire.FIN|wire.ACK) {
		return false
	}
	c.theirs++
	return t.says(now, c, c.ours, wire.ACK)
}

// says sends a segment of a connection that the API server knows, and reports whether it has
// arrived. With another source than that of the connection it belongs to none, and the API server
// answers with a RST.
func (t *Traffic) says(now flow.Time, c *client, seq uint32, flags uint8) bool {
	seen, ok := t.out(now, c, seq, c.theirs, flags)
	if ok && seen != c.Outside {
		t.in(now, c, seen, c.theirs, 0, wire.RST)
		ok = false
	}
	return ok
}

// out carries a segment to the API server, and tells which source it has there.
func (t *Traffic) out(now flow.Time, c *client, seq, ack uint32, flags uint8) (seen netip.AddrPort, ok bool) {
	pkt := t.segment(c.Inside, t.with.Server, seq, ack, flags)
	v := t.with.Cluster.Outbound(now, pkt)
	if !c.passed(v) {
		return netip.AddrPort{}, false
	}
	src, dst, ok := ends(pkt, new(wire.Packet))
	if !ok || dst != t.with.Server {
		return netip.AddrPort{}, false
	}
	t.deliver(now, flow.Outside, pkt)
	return src, true
}

// in carries a segment of the API server to an address that it has seen, and reports
// whether the client has got it.
func (t *Traffic) in(now flow.Time, c *client, to netip.AddrPort, seq, ack uint32, flags uint8) bool {
	pkt := t.segment(t.with.Server, to, seq, ack, flags)
	v := t.with.Inbound(now, pkt)
	if !c.passed(v) {
		return false
	}
	if src, dst, ok := ends(pkt, new(wire.Packet)); !ok || src != t.with.Server || dst != c.Inside {
		return false
	}
	t.deliver(now, flow.Inside, pkt)
	return true
}

// passed reports whether a packet goes on, and remembers why not.
func (c *client) passed(v flow.Verdict) bool {
	c.Reason = v.Reason
	return v.Action == flow.Bypass || v.Action == flow.Forward
}

func (t *Traffic) deliver(now flow.Time, to flow.Side, pkt []byte) {
	if t.with.Deliver != nil {
		t.with.Deliver(now, to, pkt)
	}
}

// segment builds a packet, which is valid until the next call.
func (t *Traffic) segment(from, to netip.AddrPort, seq, ack uint32, flags uint8) []byte {
	s := wire.Segment{
		Header:  wire.Header{Src: words(from.Addr()), Dst: words(to.Addr()), V6: from.Addr().Is6()},
		SrcPort: from.Port(), DstPort: to.Port(),
		Seq: seq, Ack: ack, Flags: flags, Window: window,
	}
	if flags&wire.RST != 0 {
		s.Window = 0
	}
	t.buf = s.AppendTo(t.buf[:0], nil)
	return t.buf
}

// words returns an address as package wire has it.
func words(a netip.Addr) [2]uint64 {
	if a.Is4() {
		return [2]uint64{uint64(flow.Addr4(a))}
	}
	return flow.Addr6(a)
}

// ends returns the source and destination of a TCP segment; not ok if pkt is none. p learns the rest.
func ends(pkt []byte, p *wire.Packet) (src, dst netip.AddrPort, ok bool) {
	if wire.Parse(pkt, p) != wire.OK || p.Proto != wire.ProtoTCP || p.Flags&wire.NonFirst != 0 {
		return src, dst, false
	}
	from, to := p.Addrs()
	a, b := flow.NetAddr6(from), flow.NetAddr6(to)
	if p.Flags&wire.V6 == 0 {
		a, b = flow.NetAddr4(uint32(from[0])), flow.NetAddr4(uint32(to[0]))
	}
	tcp := p.TCP()
	return netip.AddrPortFrom(a, tcp.SrcPort()), netip.AddrPortFrom(b, tcp.DstPort()), true
}
