package deterministic

import (
	"fmt"
	"iter"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Mapping answers what [Parameters] mean, in both directions. It is immutable, and safe
// for concurrent use. Look-ups do not allocate and cost O(log prefixes + reserved
// spans).
type Mapping struct {
	inside, outside addressList
	subscribers     int // I
	addresses       int // O
	ratio           int // C
	share           int
	spans           []flow.PortSpan // of ports that are not reserved, ascending
	shuffle, sorted []uint16        // KeyedRandom: a permutation of the fixed ports' numbers, and its inverse
	algorithm       Algorithm
}

// New returns the mapping of p, or an error that names every bad field; see
// [Parameters.Validate]. KeyedRandom takes a quarter of a megabyte, the others next to nothing.
func New(p Parameters) (*Mapping, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	m := compute(&p)
	if p.Algorithm == KeyedRandom {
		m.permute(p.Key)
	}
	return m, nil
}

// compute divides the ports of valid parameters; KeyedRandom needs its shuffle besides.
func compute(p *Parameters) *Mapping {
	m := &Mapping{inside: listOf(p.Inside, true), outside: listOf(p.Outside, false), algorithm: p.Algorithm}
	m.subscribers, m.addresses = m.inside.len(), m.outside.len()
	m.ratio = (m.subscribers + m.addresses - 1) / m.addresses
	next := flow.SystemPorts
	for _, r := range slices.SortedFunc(slices.Values(p.Reserved), func(a, b flow.PortSpan) int { return int(a.First) - int(b.First) }) {
		if int(r.First) > next {
			m.spans = append(m.spans, flow.PortSpan{First: uint16(next), Last: r.First - 1})
		}
		next = max(next, int(r.Last)+1)
	}
	if next <= 65535 {
		m.spans = append(m.spans, flow.PortSpan{First: uint16(next), Last: 65535})
	}
	m.share = m.usable() / (m.ratio + p.DynamicFactor)
	return m
}

// permute shuffles the numbers of the fixed ports of a full address (Fisher and
// Yates, with the numbers of ChaCha8).
func (m *Mapping) permute(key [32]byte) {
	random := rand.NewChaCha8(key)
	m.shuffle, m.sorted = make([]uint16, m.ratio*m.share), make([]uint16, m.ratio*m.share)
	for i := range m.shuffle {
		j, _ := bits.Mul64(random.Uint64(), uint64(i)+1)
		m.shuffle[i] = m.shuffle[j]
		m.shuffle[j] = uint16(i)
	}
	for i, x := range m.shuffle {
		m.sorted[x] = uint16(i)
	}
}

// Share returns the number of ports that every subscriber has.
func (m *Mapping) Share() int { return m.share }

// Is4 reports whether the addresses, inside and outside, are of IPv4.
func (m *Mapping) Is4() bool { return m.inside.is4() }

// Usable iterates over the ports of an outside address that are not reserved, from the
// lowest. They are the same of every address.
func (m *Mapping) Usable() iter.Seq[flow.PortSpan] { return slices.Values(m.spans) }

// Ports are the ports that belong to one subscriber, of each protocol.
type Ports struct {
	Outside netip.Addr // the public address

	of         *Mapping
	slot, peer int // which subscriber of the address this is, and how many it has
}

// Outside returns the public address and the ports of a subscriber, and whether
// inside is one.
func (m *Mapping) Outside(inside netip.Addr) (Ports, bool) {
	i, ok := m.inside.index(inside)
	if !ok {
		return Ports{}, false
	}
	return Ports{Outside: m.outside.at(i / m.ratio), of: m, slot: i % m.ratio, peer: m.peers(i / m.ratio)}, true
}

// Len returns the number of ports.
func (f Ports) Len() int {
	if f.of == nil {
		return 0
	}
	return f.of.share
}

// At returns the ith port. It panics unless 0 <= i < f.Len().
func (f Ports) At(i int) uint16 {
	if i < 0 || i >= f.Len() {
		panic(fmt.Sprintf("deterministic: port %d of %d fixed ones", i, f.Len()))
	}
	return f.of.port(f.of.number(f.slot, i, f.peer))
}

// All iterates over the ports, in the order of At.
func (f Ports) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for i := range f.Len() {
			if !yield(f.At(i)) {
				return
			}
		}
	}
}

// Spans iterates over the ports as runs of consecutive ones. Only with Sequential they
// are longer than a port.
func (f Ports) Spans() iter.Seq[flow.PortSpan] {
	return func(yield func(flow.PortSpan) bool) {
		if f.of == nil {
			return
		}
		if f.of.algorithm != Sequential {
			for p := range f.All() {
				if !yield(flow.PortSpan{First: p, Last: p}) {
					return
				}
			}
			return
		}
		x, end := f.slot*f.of.share, (f.slot+1)*f.of.share
		for _, s := range f.of.spans {
			n := int(s.Last-s.First) + 1
			if x < min(n, end) && !yield(flow.PortSpan{First: s.First + uint16(x), Last: s.First + uint16(min(n, end)-1)}) {
				return
			}
			x, end = max(x-n, 0), max(end-n, 0)
		}
	}
}

// Range returns the lowest and the highest port. With Sequential, and unless
// reserved ports are in between, those and all between them are the ports. The zero
// Ports have none, which is the zero flow.PortSpan. Cost: O(ports) with KeyedRandom.
func (f Ports) Range() flow.PortSpan {
	if f.of == nil {
		return flow.PortSpan{}
	}
	if f.of.algorithm != KeyedRandom {
		return flow.PortSpan{First: f.At(0), Last: f.At(f.Len() - 1)}
	}
	span := flow.PortSpan{First: 65535, Last: 0}
	for p := range f.All() {
		span.First, span.Last = min(span.First, p), max(span.Last, p)
	}
	return span
}

// Kind says what a port is in a deterministic mapping.
type Kind uint8

// The kinds of ports.
const (
	Foreign  Kind = iota // of an address that is not part of the mapping
	Reserved             // never used
	Fixed                // belongs to one subscriber
	Dynamic              // granted in blocks: consult the log
	numKinds
)

var kindNames = [...]string{"foreign", "reserved", "fixed", "dynamic, consult the log"}

var _ = [1]struct{}{}[len(kindNames)-int(numKinds)] // one name per kind

// String returns what k means: "fixed", or "dynamic, consult the log".
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return "kind(?)"
}

// Inside returns what an outside port is and, of a fixed one, the subscriber it
// belongs to.
func (m *Mapping) Inside(outside netip.AddrPort) (netip.Addr, Kind) {
	o, ok := m.outside.index(outside.Addr())
	if !ok {
		return netip.Addr{}, Foreign
	}
	x, ok := m.numberOf(outside.Port())
	if !ok {
		return netip.Addr{}, Reserved
	}
	slot, ok := m.slot(x, m.peers(o))
	if !ok {
		return netip.Addr{}, Dynamic
	}
	return m.inside.at(o*m.ratio + slot), Fixed
}

// Dynamic iterates over the dynamic range of an outside address, from the lowest
// port; reserved ports divide it.
func (m *Mapping) Dynamic(outside netip.Addr) iter.Seq[flow.PortSpan] {
	return func(yield func(flow.PortSpan) bool) {
		o, ok := m.outside.index(outside)
		if !ok {
			return
		}
		skip := m.peers(o) * m.share
		for _, s := range m.spans {
			n := int(s.Last-s.First) + 1
			if skip < n && !yield(flow.PortSpan{First: s.First + uint16(skip), Last: s.Last}) {
				return
			}
			skip = max(skip-n, 0)
		}
	}
}

// peers returns how many subscribers an outside address has.
func (m *Mapping) peers(outside int) int {
	return min(max(m.subscribers-outside*m.ratio, 0), m.ratio)
}

// number returns the number of the ith port of a subscriber.
func (m *Mapping) number(slot, i, peers int) int {
	switch m.algorithm {
	case Staggered:
		return i*peers + slot
	case KeyedRandom:
		// The last address may have fewer ports than were shuffled: walk on.
		x := int(m.shuffle[slot*m.share+i])
		for x >= peers*m.share {
			x = int(m.shuffle[x])
		}
		return x
	}
	return slot*m.share + i
}

// slot is the inverse of number: whose a port is, and whether it is a fixed one.
func (m *Mapping) slot(x, peers int) (int, bool) {
	if x >= peers*m.share {
		return 0, false
	}
	switch m.algorithm {
	case Staggered:
		return x % peers, true
	case KeyedRandom:
		for x = int(m.sorted[x]); x >= peers*m.share; {
			x = int(m.sorted[x])
		}
	}
	return x / m.share, true
}

// usable returns how many ports are not reserved.
func (m *Mapping) usable() (n int) {
	for _, s := range m.spans {
		n += int(s.Last-s.First) + 1
	}
	return n
}

// port returns the port with a number.
func (m *Mapping) port(x int) uint16 {
	for _, s := range m.spans {
		if n := int(s.Last-s.First) + 1; x < n {
			return s.First + uint16(x)
		} else {
			x -= n
		}
	}
	panic("deterministic: a fixed port beyond all ports")
}

// numberOf is the inverse of port; reserved ports have no number.
func (m *Mapping) numberOf(port uint16) (x int, ok bool) {
	for _, s := range m.spans {
		if port <= s.Last {
			return x + int(port-s.First), port >= s.First
		}
		x += int(s.Last-s.First) + 1
	}
	return 0, false
}
