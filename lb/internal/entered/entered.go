// Package entered remembers flows that have come in from the Internet to the public address of a
// machine whose own flows leave by something else, a NAT gateway, so that what answers them leaves by the
// address that they came to, one to one.
//
// A [Table] is safe for concurrent use: its locks, one for each of its stripes, are held for one look-up each,
// and no other lock is taken under them. It refuses to know who may enter, and what becomes of other packets.
//
// Source: "Azure NAT Gateway resource", the section on instance-level public IPs: the gateway takes
// what begins inside, and what begins outside keeps its public IP.
package entered

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Lifetime is how long a flow is remembered after its last packet: the idle timeout of an
// instance-level public IP ("Public IP addresses").
const Lifetime = 4 * time.Minute

const (
	stripes      = 16
	maxPerStripe = 1 << 16 // flows beyond that are not remembered
	sweepFrom    = 64      // flows of a stripe
)

// Pair is a machine's own address and the public one that stands for it.
type Pair struct{ Own, Public netip.Addr }

// Table remembers flows. The zero Table has none, and no addresses.
type Table struct {
	public  atomic.Pointer[map[[2]uint64]address] // by own address in words
	left    atomic.Uint64
	stripes [stripes]stripe
}

// address is a public address.
type address struct {
	words [2]uint64
	delta wire.Delta // of checksums, from the own address to it
}

// stripe is the part of a table with some flows.
type stripe struct {
	mu      sync.Mutex
	last    map[key]flow.Time // when a packet has last passed; guarded by mu, as is sweepAt
	sweepAt int
}

// key is a flow: an own and a remote socket. Queries have their identifier as both ports.
type key struct {
	own, remote         [2]uint64
	ownPort, remotePort uint16
	proto               uint8
	is6                 bool
}

// SetAddrs says whose flows are remembered from now on; none is nobody's.
func (t *Table) SetAddrs(pairs []Pair) {
	all := make(map[[2]uint64]address, len(pairs))
	for _, p := range pairs {
		a := address{words: words(p.Public)}
		if p.Own.Is4() {
			a.delta = wire.Delta32(flow.Addr4(p.Own), flow.Addr4(p.Public))
		} else {
			own, public := p.Own.As16(), p.Public.As16()
			a.delta = wire.DeltaAddr6(&own, &public)
		}
		all[words(p.Own)] = a
	}
	t.public.Store(&all)
}

// words returns an address in host byte order, as [wire.Packet.Addrs] does.
func words(a netip.Addr) (w [2]uint64) {
	if a.Is4() {
		return [2]uint64{uint64(flow.Addr4(a)), 0}
	}
	b := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addrs returns the addresses whose flows are remembered, nil if there are none.
func (t *Table) addrs() map[[2]uint64]address {
	if all := t.public.Load(); all != nil {
		return *all
	}
	return nil
}

// Enter notes a packet from the outside that goes on to a machine, by its verdict, and has its destination
// exchanged for the machine's own address already. What it cannot read, and pieces of datagrams after the
// first, it leaves alone.
func (t *Table) Enter(now flow.Time, pkt []byte, v flow.Verdict) {
	all := t.addrs()
	if len(all) == 0 || v.Action != flow.Forward || v.To != flow.Inside {
		return
	}
	var p wire.Packet
	k, ok := read(pkt, &p, flow.Outside)
	if _, ours := all[k.own]; !ok || !ours {
		return
	}
	s := t.of(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last, s.sweepAt = make(map[key]flow.Time), sweepFrom
	}
	if len(s.last) >= s.sweepAt {
		for k, last := range s.last {
			if over(last, now) {
				delete(s.last, k)
			}
		}
		s.sweepAt = min(max(sweepFrom, 2*len(s.last)), maxPerStripe)
	}
	if _, known := s.last[k]; known || len(s.last) < maxPerStripe {
		s.last[k] = max(now, s.last[k])
	}
}

// Leave exchanges the source of a packet from inside for the public address, if it answers a flow that
// is remembered, and reports whether it has done so; then the packet's verdict is to forward it.
func (t *Table) Leave(now flow.Time, pkt []byte, v *flow.Verdict) bool {
	if len(t.addrs()) == 0 {
		return false
	}
	var p wire.Packet
	k, ok := read(pkt, &p, flow.Inside)
	if !ok {
		return false
	}
	public, ok := t.answers(now, &k, true)
	if !ok {
		return false
	}
	p.Readdress(srcAt4, srcAt6, public.words, public.delta)
	t.left.Add(1)
	v.Action, v.To = flow.Forward, flow.Outside
	return true
}

// Answers reports whether Leave would take a packet of a protocol from a machine's own socket to a
// remote one, and changes nothing. Queries have their identifier as both ports.
func (t *Table) Answers(now flow.Time, proto uint8, own, remote netip.AddrPort) bool {
	k := key{words(own.Addr()), words(remote.Addr()), own.Port(), remote.Port(), proto, own.Addr().Is6()}
	_, ok := t.answers(now, &k, false)
	return ok
}

// Left returns how many packets have left.
func (t *Table) Left() uint64 { return t.left.Load() }

// answers returns the public address that an answer of a flow leaves with.
func (t *Table) answers(now flow.Time, k *key, prolong bool) (address, bool) {
	a, ok := t.addrs()[k.own]
	if !ok {
		return a, false
	}
	s := t.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	last, known := s.last[*k]
	if !known || over(last, now) {
		return a, false
	}
	if prolong && now > last {
		s.last[*k] = now
	}
	return a, true
}

// over reports whether what was last seen at a time is forgotten by now.
func over(last, now flow.Time) bool { return now >= last.Add(Lifetime) }

// of returns the stripe of a flow.
func (t *Table) of(k *key) *stripe {
	h := (k.remote[0] ^ k.remote[1] ^ uint64(k.remotePort)<<40 ^ k.own[0] ^ k.own[1]) * 0x9e3779b97f4a7c15
	return &t.stripes[h>>60]
}

// Where source addresses are in the headers.
const srcAt4, srcAt6 = 12, 8

// read parses a packet that comes from a side, and names its flow.
func read(pkt []byte, p *wire.Packet, from flow.Side) (k key, ok bool) {
	if wire.Parse(pkt, p) != wire.OK || p.Flags&wire.NonFirst != 0 {
		return k, false
	}
	k.own, k.remote = p.Addrs()
	switch p.Proto {
	case wire.ProtoTCP, wire.ProtoUDP:
		both := p.Ports()
		k.ownPort, k.remotePort = uint16(both>>16), uint16(both)
	default: // ICMP: only queries and what answers them
		m := p.B[p.L4:]
		if !isQuery(p.Proto, m[0]) {
			return k, false
		}
		k.ownPort = binary.BigEndian.Uint16(m[4:])
		k.remotePort = k.ownPort
	}
	if from == flow.Outside {
		k.own, k.remote = k.remote, k.own
		k.ownPort, k.remotePort = k.remotePort, k.ownPort
	}
	k.proto, k.is6 = p.Proto, p.Flags&wire.V6 != 0
	return k, true
}

// isQuery reports whether a type of ICMP is an echo or its reply.
func isQuery(proto, kind uint8) bool {
	if proto == wire.ProtoICMPv6 {
		return kind == 128 || kind == 129
	}
	return kind == 0 || kind == 8
}
