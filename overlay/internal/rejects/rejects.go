// Package rejects makes and keeps what nodes answer to packets for a Service that has no
// endpoints: ICMP port unreachable, whatever the protocol, as the target REJECT of
// kube-proxy's iptables rules and the statement reject of its nftables rules do without further
// words.
//
// An [Outbox] keeps the answers until the driver asks for them. It has a lock of its own,
// which is taken after all others. It refuses to know Services and ways: the caller says
// which packet a node rejects and to which side the answer goes.
//
// Sources: kube-proxy's iptables and nftables proxiers; nf_reject_ipv4 and icmp_send of Linux, whose
// limit for all receivers (icmp_msgs_per_sec, icmp_msgs_burst) is kept per node. That for one
// receiver (icmp_ratelimit) is not, which is our choice: who tries again is told again.
package rejects

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Limits of answers: of a node (ip-sysctl.rst: icmp_msgs_per_sec, icmp_msgs_burst), of what
// waits, which is our choice, and of bytes (RFC 1812 section 4.3.2.3; RFC 4443 section 2.4 c).
const (
	interval   = time.Second / 1000
	burst      = 50
	maxWaiting = 65_536
	maxBytes4  = 576
	maxBytes6  = 1280
)

// Outbox are the answers of all nodes that wait. Its zero value is ready; it is safe for
// concurrent use.
type Outbox struct {
	Notice *flow.Notice // raised when an answer is the first that waits; nil is nobody's

	mu         sync.Mutex // guards all below
	queue      []flow.Emission
	next       map[uint32]flow.Time // by node: when it may send again, if the burst were 0
	made       uint64
	suppressed uint64
}

// Add queues the answer of a node, by its index and its address of the packet's family, to
// the source of a packet, whole or a first fragment, that it rejects at now. Beyond
// the limits it counts the answer as suppressed.
func (o *Outbox) Add(now flow.Time, node uint32, addr netip.Addr, to flow.Side, pkt *wire.Packet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) >= maxWaiting || !o.may(now, node) {
		o.suppressed++
		return
	}
	if len(o.queue) == 0 {
		o.Notice.Raise()
	}
	o.made++
	o.queue = append(o.queue, flow.Emission{At: now, To: to, Instance: node, Packet: answer(pkt, addr)})
}

// may takes one of what a node may send. o.mu must be held.
func (o *Outbox) may(now flow.Time, node uint32) bool {
	if o.next == nil {
		o.next = make(map[uint32]flow.Time)
	}
	next, ok := o.next[node]
	if least := now.Add(-burst * interval); !ok || next < least {
		next = least
	}
	if next = next.Add(interval); next > now {
		return false
	}
	o.next[node] = next
	return true
}

// answer makes the ICMP error of a packet.
func answer(pkt *wire.Packet, from netip.Addr) []byte {
	var src [2]uint64
	e, most := wire.ICMPError{Type: wire.ICMPv4Unreachable, Code: 3}, maxBytes4
	if from.Is6() {
		b := from.As16()
		src = [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
		e, most = wire.ICMPError{Type: wire.ICMPv6Unreachable, Code: 4}, maxBytes6
	} else {
		b := from.As4()
		src[0] = uint64(binary.BigEndian.Uint32(b[:]))
	}
	e.Header = wire.Answer(pkt, src)
	return e.AppendTo(nil, pkt.B[:min(len(pkt.B), e.QuoteRoom(most))])
}

// Advance emits all answers in the order in which they were made; nil discards them. No
// lock is held while emit runs.
func (o *Outbox) Advance(emit flow.Sink) {
	o.mu.Lock()
	queue := o.queue
	o.queue = nil
	o.mu.Unlock()
	if emit != nil {
		for _, e := range queue {
			emit(e)
		}
	}
}

// NextDeadline returns when the first answer that waits was made, if any does.
func (o *Outbox) NextDeadline() (at flow.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return 0, false
	}
	return o.queue[0].At, true
}

// Counts returns how many answers were made, and how many suppressed.
func (o *Outbox) Counts() (made, suppressed uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.made, o.suppressed
}
