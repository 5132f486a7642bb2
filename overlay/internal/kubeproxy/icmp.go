// ICMP errors about packets of sessions. Read nf_nat_icmp_reply_translation of Linux and
// RFC 5508 section 4 first: what a host is told must be about the packet that it sent.

package kubeproxy

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// quote is the packet inside an error, which it aliases.
type quote struct {
	b   []byte // from its IP header
	l4  int    // offset of the transport header in b
	sum int    // offset of the transport checksum; 0 if it is not there
	k   tuple
}

// quoteOf reads what an error quotes, as far as it tells a session.
func quoteOf(pkt *wire.Packet) (q quote, ok bool) {
	if q.k.is6 = pkt.Flags&wire.V6 != 0; q.k.is6 {
		if !pkt.ICMPv6().IsError() {
			return q, false
		}
		q.b = pkt.ICMPv6().Payload()
		if q.l4 = 40; len(q.b) < q.l4+8 || q.b[0]>>4 != 6 {
			return q, false
		}
		q.k.proto = q.b[6]
		q.k.src, q.k.dst = words(q.b[ip6Src:]), words(q.b[ip6Dst:])
	} else {
		if !pkt.ICMPv4().IsError() {
			return q, false
		}
		q.b = pkt.ICMPv4().Payload()
		if len(q.b) < 28 || q.b[0]>>4 != 4 || q.b[0]&15 < 5 {
			return q, false
		}
		q.l4 = int(q.b[0]&15) * 4
		if len(q.b) < q.l4+8 || (uint16(q.b[6])<<8|uint16(q.b[7]))&0x1fff != 0 {
			return q, false
		}
		q.k.proto = q.b[9]
		q.k.src = address{uint64(binary.BigEndian.Uint32(q.b[ip4Src:]))}
		q.k.dst = address{uint64(binary.BigEndian.Uint32(q.b[ip4Dst:]))}
	}
	switch q.k.proto {
	case UDP:
		q.sum = q.l4 + 6
	case TCP:
		if len(q.b) >= q.l4+18 {
			q.sum = q.l4 + 16
		}
	default:
		return q, false
	}
	q.k.sport, q.k.dport = binary.BigEndian.Uint16(q.b[q.l4:]), binary.BigEndian.Uint16(q.b[q.l4+2:])
	return q, true
}

// words reads an IPv6 address.
func words(b []byte) address {
	return address{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// icmpError takes an ICMP packet: an error about a session is translated for the one who
// sent the packet that it quotes.
func (p *Proxy) icmpError(now flow.Time, node int, pkt *wire.Packet) Result {
	if pkt.Flags&wire.Fragmented != 0 {
		return passed
	}
	q, ok := quoteOf(pkt)
	if !ok {
		return passed
	}
	src, dst := pkt.Addrs()
	if address(dst) != q.k.src {
		return passed // not for the sender of what it quotes
	}
	sh := p.shardOf(node)
	sh.lock(now)
	defer sh.sessions.Unlock()
	back := q.k.reverse()
	outer := tuple{src: src, dst: dst}
	var is, outerIs tuple
	r := Result{}
	if id, s := sh.answered(&back, node, guess{}); id != 0 { // about what the client sent
		is = sent(id, s)
		outerIs = tuple{src: is.dst, dst: is.src}
		r = Result{Action: Reply, Node: p.slots.at(slotOf(s)).node}
	} else if id, s := sh.original(&back, node, guess{}); id != 0 { // about what the endpoint sent
		d := p.delivered(id, s)
		is = d.reverse()
		outerIs = tuple{src: src, dst: is.src}
		if translatesSource(s) {
			outerIs.src = is.dst
		}
		r = Result{Action: Forward, Node: p.slots.at(slotOf(s)).node}
	} else {
		return passed
	}
	if !wire.VerifyL4(pkt) {
		return sh.drop(flow.ReasonICMPChecksum)
	}
	translateError(pkt, &q, &is, &outer, &outerIs)
	sh.counts.Packets++
	return r
}

// translateError puts other sockets into a quote and other addresses around it.
func translateError(pkt *wire.Packet, q *quote, is, outer, outerIs *tuple) {
	change := wire.Delta(0xffff)
	store := func(at int, v uint16) wire.Delta {
		d := wire.Delta16(binary.BigEndian.Uint16(q.b[at:]), v)
		binary.BigEndian.PutUint16(q.b[at:], v)
		change = change.Add(d)
		return d
	}
	addrs := q.store(store, is)
	if !q.k.is6 {
		store(10, addrs.ApplyIPv4(binary.BigEndian.Uint16(q.b[10:])))
	}
	all := addrs.Add(store(q.l4, is.sport)).Add(store(q.l4+2, is.dport))
	if q.sum != 0 {
		sum := binary.BigEndian.Uint16(q.b[q.sum:])
		if q.k.proto == UDP {
			sum = all.ApplyUDP(sum)
		} else {
			sum = all.Apply(sum)
		}
		store(q.sum, sum)
	}
	if q.k.is6 {
		pkt.ICMPv6().Adjust(change)
	} else {
		pkt.ICMPv4().Adjust(change)
	}
	if outer.src != outerIs.src {
		pkt.Readdress(ip4Src, ip6Src, outerIs.src, delta(outer.src, outerIs.src))
	}
	if outer.dst != outerIs.dst {
		pkt.Readdress(ip4Dst, ip6Dst, outerIs.dst, delta(outer.dst, outerIs.dst))
	}
}

// store writes the addresses of is word by word, and returns their change.
func (q *quote) store(store func(at int, v uint16) wire.Delta, is *tuple) wire.Delta {
	d := wire.Delta(0xffff)
	if !q.k.is6 {
		for i := range 2 {
			d = d.Add(store(ip4Src+2*i, uint16(is.src[0]>>(16-16*i))))
			d = d.Add(store(ip4Dst+2*i, uint16(is.dst[0]>>(16-16*i))))
		}
		return d
	}
	for i := range 8 {
		shift := 48 - i%4*16
		d = d.Add(store(ip6Src+2*i, uint16(is.src[i/4]>>shift)))
		d = d.Add(store(ip6Dst+2*i, uint16(is.dst[i/4]>>shift)))
	}
	return d
}
