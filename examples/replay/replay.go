// The way of every packet through the translator and back.

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// doors is what a replay needs of a translator.
type doors interface {
	Outbound(now flow.Time, pkt []byte) flow.Verdict
	Inbound(now flow.Time, pkt []byte) flow.Verdict
	Advance(now flow.Time, emit flow.Sink)
	NextDeadline() (flow.Time, bool)
}

// replay is one run of a capture through a translator.
type replay struct {
	nat      doors
	isInside func(netip.Addr) bool
	begin    time.Time // of the capture
	out      *capture.File
	unknown  [2]netip.Addr // by family: where the outside sends what it has no address for

	tally
	translations

	now    flow.Time
	buffer []byte
}

// tally is what a replay counts.
type tally struct {
	packets, forwarded, bypassed, dropped int
	reasons                               [flow.NumReasons]int
	resets                                [2]int // made by the translator, by flow.Side

	compared        int
	alike           [different]int // by likeness
	different       int
	firstDifference string
}

func newReplay(nat doors, o *options, begin time.Time, out *capture.File) *replay {
	r := &replay{nat: nat, isInside: o.isInside, begin: begin, out: out, translations: newTranslations()}
	for _, a := range o.frontends.values {
		r.frontends[a] = true
		if at := &r.unknown[family(a)]; !at.IsValid() {
			*at = a
		}
	}
	return r
}

// family returns 0 for IPv4, 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// play sends all packets. Virtual time ends at the last of them.
func (r *replay) play(ctx context.Context, packets []capture.Packet) error {
	for i, p := range packets {
		const look = 4096 // packets between two looks at what is not virtual
		if i%look == 0 && ctx.Err() != nil {
			return errors.New("interrupted")
		}
		r.until(flow.At(p.At))
		r.send(p.Data)
		if r.out != nil && r.out.Err() != nil {
			return fmt.Errorf("-out %s: %w", r.out.Name(), r.out.Err())
		}
	}
	r.until(r.now)
	return nil
}

// until lets time pass, and happen what is due on the way.
func (r *replay) until(now flow.Time) {
	for at, ok := r.nat.NextDeadline(); ok && at <= now; at, ok = r.nat.NextDeadline() {
		r.now = max(r.now, at)
		r.nat.Advance(r.now, r.emitted)
	}
	// Timers must not be left alone for 24 days.
	if now.Sub(r.now) >= 24*time.Hour {
		r.nat.Advance(now, r.emitted)
	}
	r.now = now
}

// emitted takes what the translator sends on its own.
func (r *replay) emitted(e flow.Emission) {
	r.resets[e.To]++
	if e.To == flow.Outside {
		r.write(e.At, e.Packet)
	}
}

// write adds a packet to the capture of the outside.
func (r *replay) write(at flow.Time, packet []byte) {
	if r.out != nil {
		_ = r.out.Write(r.begin.Add(at.Duration()), packet) // sticks: see play
	}
}

// send offers a packet of the capture to the translator.
func (r *replay) send(packet []byte) {
	f := locate(packet)
	src, dst := f.endpoints(packet)
	r.buffer = append(r.buffer[:0], packet...)
	r.packets++
	switch {
	case r.isInside(src.Addr()):
		r.outbound(&f, src, dst, packet, r.buffer)
	case r.isInside(dst.Addr()):
		r.inbound(&f, src, dst, packet, r.buffer)
	default:
		r.write(r.now, packet[:f.length])
		r.count(r.nat.Inbound(r.now, r.buffer))
	}
}

// outbound sends b, a copy of packet, from the inside, and undoes what has become
// of it.
func (r *replay) outbound(f *form, src, dst netip.AddrPort, packet, b []byte) {
	v := r.nat.Outbound(r.now, b)
	r.count(v)
	switch {
	case v.Action == flow.Bypass:
		r.compare(f, packet, b)
	case v.Action == flow.Forward && v.To == flow.Outside:
		r.write(r.now, b[:f.length])
		outside, _ := f.endpoints(b)
		if !r.frontends[outside.Addr()] {
			r.differs(f, packet, "from a source that is no frontend")
			return
		}
		r.learn(f.proto, src, dst, outside)
		f.setSource(b, src)
		r.compare(f, packet, b)
	}
}

// inbound sends b, a copy of packet, from the outside as the outside would have.
func (r *replay) inbound(f *form, src, dst netip.AddrPort, packet, b []byte) {
	to, ok := r.outsideOf(f.proto, dst, src)
	if !ok {
		const unowned = 1 // ports below the first that a frontend grants belong to nobody
		to = netip.AddrPortFrom(r.unknown[family(dst.Addr())], unowned)
	}
	if to.IsValid() { // there is a frontend of this family
		f.setDestination(b, to)
	}
	r.write(r.now, b[:f.length])
	v := r.nat.Inbound(r.now, b)
	r.count(v)
	if v.Action == flow.Forward {
		r.compare(f, packet, b)
	}
}

// count adds a verdict to the tally.
func (r *replay) count(v flow.Verdict) {
	switch v.Action {
	case flow.Forward:
		r.forwarded++
	case flow.Bypass:
		r.bypassed++
	default:
		r.dropped++
		r.reasons[v.Reason]++
	}
}

// compare compares the packet that was just counted with what came back of it.
func (r *replay) compare(f *form, packet, back []byte) {
	if like := f.compare(packet, back); like != different {
		r.compared++
		r.alike[like]++
		return
	}
	at := 0
	for packet[at] == back[at] {
		at++
	}
	r.differs(f, packet, fmt.Sprintf("from byte %d on", at))
}

// differs notes that a packet came back different.
func (r *replay) differs(f *form, packet []byte, how string) {
	r.compared++
	if r.different++; r.different == 1 {
		src, dst := f.endpoints(packet)
		r.firstDifference = fmt.Sprintf("packet %d of the capture, %v > %v, %s", r.packets, src, dst, how)
	}
}

// translations is what the outside has seen of the inside so far.
type translations struct {
	frontends map[netip.Addr]bool
	flows     map[conversation]netip.AddrPort // inside and remote: outside
	owners    map[conversation]netip.AddrPort // outside and remote: inside
	sockets   map[conversation]netip.AddrPort // inside alone: outside, of whatever remote was last
}

// conversation is the local end and the remote of packets of one protocol.
type conversation struct {
	proto         uint8
	local, remote netip.AddrPort
}

func newTranslations() translations {
	return translations{
		frontends: make(map[netip.Addr]bool),
		flows:     make(map[conversation]netip.AddrPort),
		owners:    make(map[conversation]netip.AddrPort),
		sockets:   make(map[conversation]netip.AddrPort),
	}
}

// learn notes that remote sees inside as outside. Protocol and ports are 0 where
// a packet tells none.
func (t *translations) learn(proto uint8, inside, remote, outside netip.AddrPort) {
	t.flows[conversation{proto, inside, remote}] = outside
	t.owners[conversation{proto, outside, remote}] = inside
	t.sockets[conversation{proto: proto, local: inside}] = outside
}

// outsideOf returns how remote sees inside, or would see it if mappings serve all
// remotes. It does not know what has since been given to others.
func (t *translations) outsideOf(proto uint8, inside, remote netip.AddrPort) (outside netip.AddrPort, ok bool) {
	outside, ok = t.flows[conversation{proto, inside, remote}]
	if !ok {
		outside, ok = t.sockets[conversation{proto: proto, local: inside}]
	}
	if owner, taken := t.owners[conversation{proto, outside, remote}]; taken && owner != inside {
		return netip.AddrPort{}, false
	}
	return outside, ok
}
