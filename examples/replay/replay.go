// The way of every packet through the translator and back.

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/digest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// doors is what a replay needs of a translator.
type doors interface {
	flow.Translator
	Stats() snat.Stats
}

// replay is one run of a capture through a translator.
type replay struct {
	nat      *digest.Recorder
	stats    func() snat.Stats
	isInside func(netip.Addr) bool
	begin    time.Time // of the capture
	out      *capture.File
	routes   bool // the translator counts down TTLs

	tally
	translations
	datagrams
	identities
	left
	queue

	now      flow.Time
	deadline flow.Time // what the translator has to do next ..
	pending  bool      // .. if anything

	buffer []byte
	whole  []byte // a packet that is cut, with zeros
	cut    int    // bytes at the end of the packet that is being sent that the capture did not keep
}

// tally is what a replay counts.
type tally struct {
	packets, forwarded, bypassed, dropped int
	reasons                               [flow.NumReasons]int
	resets, errors                        int // packets made by the translator: RST, ICMP

	compared        int
	alike           [different]int // by likeness
	different       int
	firstDifference string
}

func newReplay(nat doors, o *options, c *snat.Config, begin time.Time, out *capture.File) *replay {
	return &replay{
		nat: digest.Record(nat), stats: nat.Stats, isInside: o.isInside, begin: begin, out: out, routes: c.ICMP.TTL == snat.TTLRouter,
		translations: newTranslations(o.frontends.values, c), identities: newIdentities(), left: make(left), queue: make(queue),
	}
}

// play sends all packets. Virtual time ends at the last of them: fragments that
// still wait then have waited in vain.
func (r *replay) play(ctx context.Context, packets []capture.Packet) error {
	r.datagrams = datagramsOf(packets)
	for i, p := range packets {
		const look = 4096 // packets between two looks at what is not virtual
		if i%look == 0 && ctx.Err() != nil {
			return command.ErrInterrupted
		}
		r.until(flow.At(p.At))
		r.send(i, &p)
		if r.out != nil && r.out.Err() != nil {
			return command.Failed(ctx, fmt.Errorf("-out %s: %w", r.out.Name(), r.out.Err()))
		}
	}
	r.until(r.now)
	r.settle()
	return nil
}

// until lets time pass, and happen what is due on the way.
func (r *replay) until(now flow.Time) {
	if r.nat.DeadlineMoved() {
		r.deadline, r.pending = r.nat.NextDeadline()
	}
	for r.pending && r.deadline <= now {
		r.now = max(r.now, r.deadline)
		r.nat.Advance(r.now, r.emitted)
		r.deadline, r.pending = r.nat.NextDeadline()
	}
	r.now = now
}

// emitted takes what the translator sends on its own: fragments that have waited,
// and packets that it has made.
func (r *replay) emitted(e flow.Emission) {
	f := locate(e.Packet)
	if e.To == flow.Outside {
		r.write(e.At, e.Packet)
	}
	switch w, ok := r.take(e.To, &f, e.Packet); {
	case ok:
		r.forwarded++
		if e.To == flow.Outside {
			r.undo(&f, w.src, w.packet, e.Packet, w.number)
		} else {
			r.left.note(&f, w.packet, e.Packet)
			r.compare(&f, w.packet, e.Packet, w.number)
		}
	case f.proto == protoTCP:
		r.resets++
	default:
		r.errors++
	}
}

// write adds a packet to the capture of the outside.
func (r *replay) write(at flow.Time, packet []byte) {
	if r.out != nil {
		_ = r.out.WriteCut(r.begin.Add(at.Duration()), packet, r.cut) // sticks: see play
	}
}

// send offers packet i of the capture to the translator.
func (r *replay) send(i int, p *capture.Packet) {
	packet := p.Data
	if r.cut = p.Cut(); r.cut > 0 {
		r.whole = p.AppendTo(r.whole[:0])
		packet = r.whole
	}
	defer func() { r.cut = 0 }()
	f := locate(packet)
	src, dst := f.endpoints(packet)
	r.buffer = append(r.buffer[:0], packet...)
	r.packets++
	switch {
	case r.isInside(src.Addr()):
		r.outbound(&f, src, dst, packet, r.buffer)
	case r.isInside(dst.Addr()):
		r.inbound(i, &f, src, dst, packet, r.buffer)
	default:
		r.write(r.now, packet[:f.length])
		r.count(r.nat.Inbound(r.now, r.buffer))
	}
}

// outbound sends b, a copy of packet, from the inside, and undoes what has become
// of it.
func (r *replay) outbound(f *form, src, dst netip.AddrPort, packet, b []byte) {
	if f.quoted != nil && f.quoted.isTail() && !r.isInside(dst.Addr()) { // the inside quotes what it has got
		if l, ok := r.left[f.quoted.datagram(packet[f.quote:])]; ok {
			f.inQuote(b, func(q *form, quote []byte) { q.setID(quote, l.id) })
		}
	}
	v := r.nat.Outbound(r.now, b)
	r.count(v)
	switch {
	case v.Action == flow.Bypass:
		r.compare(f, packet, b, r.packets)
	case v.Action == flow.Queued:
		r.wait(flow.Outside, f, waiting{slices.Clone(packet[:f.length]), src, r.packets})
	case v.Action == flow.Forward && v.To == flow.Outside:
		r.write(r.now, b[:f.length])
		if outside, _ := f.endpoints(b); f.quoted == nil && r.frontends[outside.Addr()] {
			r.learn(f.proto, src, dst, outside)
		}
		r.undo(f, src, packet, b, r.packets)
	}
}

// undo makes b, what packet was translated to on its way out, come from src again,
// as it must have, and compares both.
func (r *replay) undo(f *form, src netip.AddrPort, packet, b []byte, number int) {
	if outside, _ := f.endpoints(b); !r.frontends[outside.Addr()] {
		r.differs(f, packet, number, "from a source that is no frontend")
		return
	}
	r.left.note(f, packet, b)
	f.setSource(b, src)
	if f.quoted != nil { // a packet that had come in
		_, receiver := f.quoted.endpoints(packet[f.quote:])
		f.inQuote(b, func(q *form, quote []byte) {
			q.setDestination(quote, receiver)
			if q.isTail() {
				q.setID(quote, q.datagram(packet[f.quote:]).id)
			}
		})
	}
	if r.routes {
		f.addHop(b)
	}
	r.compare(f, packet, b, number)
}

// inbound sends b, a copy of packet i, from the outside as the outside would have.
func (r *replay) inbound(i int, f *form, src, dst netip.AddrPort, packet, b []byte) {
	// An error is for the sender of what it quotes, and a fragment goes where the
	// first of its datagram does.
	proto, local, remote := f.proto, dst, src
	if f.quoted != nil {
		proto = f.quoted.proto
		local, remote = f.quoted.endpoints(packet[f.quote:])
	} else if head, ok := r.headOf(i, f, packet); ok {
		proto, local, remote = head.proto, head.dst, head.src
	}
	to, ok := r.outsideOf(proto, local, remote)
	switch {
	case local.Addr() != dst.Addr(): // an error for somebody else
		ok = false
	case f.quoted != nil && f.quoted.isTail():
		if l, known := r.left[f.quoted.datagram(packet[f.quote:])]; known {
			to, ok = netip.AddrPortFrom(l.src, 0), true
			f.inQuote(b, func(q *form, quote []byte) {
				q.setSource(quote, to)
				q.setID(quote, l.id)
			})
		}
	case ok && f.quoted != nil:
		f.inQuote(b, func(q *form, quote []byte) { q.setSource(quote, to) })
	}
	if !ok {
		to = r.nowhere(proto, flow.Family(dst.Addr()))
	}
	if to.IsValid() { // there is a frontend of this family
		f.setDestination(b, to)
		if f.id != 0 {
			f.setID(b, r.identities.of(f.datagram(packet), to.Addr()))
		}
	}
	// The last router has counted down what the inside saw, but from no more than 255.
	const most = 255
	routed := r.routes && f.hopLimit(b) < most
	if routed {
		f.addHop(b)
	}
	r.write(r.now, b[:f.length])
	v := r.nat.Inbound(r.now, b)
	r.count(v)
	switch v.Action {
	case flow.Forward:
		if r.routes && !routed {
			f.addHop(b)
		}
		r.left.note(f, packet, b)
		r.compare(f, packet, b, r.packets)
	case flow.Queued:
		r.wait(flow.Inside, f, waiting{slices.Clone(packet[:f.length]), src, r.packets})
	}
}

// count adds a verdict to the tally. What becomes of queued packets is counted later.
func (r *replay) count(v flow.Verdict) {
	switch v.Action {
	case flow.Forward:
		r.forwarded++
	case flow.Bypass:
		r.bypassed++
	case flow.Drop:
		r.dropped++
		r.reasons[v.Reason]++
	}
}

// compare compares a packet of the capture, by its number, with what came back of it.
func (r *replay) compare(f *form, packet, back []byte, number int) {
	if like := f.compare(packet, back); like != different {
		r.compared++
		r.alike[like]++
		return
	}
	at := 0
	for packet[at] == back[at] {
		at++
	}
	r.differs(f, packet, number, fmt.Sprintf("from byte %d on", at))
}

// differs notes that a packet came back different.
func (r *replay) differs(f *form, packet []byte, number int, how string) {
	r.compared++
	if r.different++; r.different == 1 {
		src, dst := f.endpoints(packet)
		r.firstDifference = fmt.Sprintf("packet %d of the capture, %v > %v, %s", number, src, dst, how)
	}
}
