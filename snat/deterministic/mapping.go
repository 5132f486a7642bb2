package snat

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Deterministic mapping (RFC 7422): every inside address has
// ports of its own that follow from a few parameters, so that who used a port
// is computed instead of logged. What is left over is the dynamic range, of
// which ports are granted in blocks, and logged.
//
// The ports of an outside address that are not reserved are numbered from 0. Its
// subscribers own the numbers below subscribers*share, in the order that the
// algorithm gives; those from there on are its dynamic range.

// Deterministic is the parameters of a deterministic mapping, with the letters
// of RFC 7422. They mean the same ports for ever; whoever keeps them needs no
// log of the ports they assign.
type Deterministic struct {
	// Inside are the subscribers (I), all of one address family and 2^24 at
	// most, numbered in this order. Network and broadcast addresses of an IPv4
	// prefix are none, as in the RFC's example, unless it is a /31 or /32. The
	// RFC knows IPv6 only as inside of DS-Lite; that all addresses of an IPv6
	// prefix are subscribers of IPv6 outside addresses is our choice.
	Inside []netip.Prefix

	// Outside are the public addresses (O), every one of these prefixes, of the
	// family of Inside. As many subscribers as the compression ratio
	// C = subscribers / addresses, rounded up, share the first address, and so on.
	Outside []netip.Prefix

	// DynamicFactor is the number of shares (D) of each address that go to
	// nobody and make up its dynamic range; 0 leaves only the remainder of the
	// division. A share is what an address has of ports, divided by C + D.
	DynamicFactor int

	// MaxPorts is the most ports (M) a subscriber may have, dynamic ones
	// included. 0, our choice for the default, means no other limit than the
	// dynamic range. Less than a share is refused.
	MaxPorts int

	// Algorithm says which ports are a subscriber's (A).
	Algorithm Algorithm

	// Reserved are ports that are never used (R). The system ports, 0-1023,
	// always are, and need not be listed.
	Reserved []PortSpan

	// Key decides the order of KeyedRandom, and has to be kept with the other
	// parameters, but secret.
	Key [32]byte
}

// Algorithm is a way to assign ports to subscribers; the numbers are those of
// RFC 7422.
type Algorithm uint8

// The algorithms. Round robin and interlaced (2 and 3), which spread one
// subscriber over several addresses and so break paired pooling, and vendors'
// own (5) are not modelled.
const (
	Sequential  Algorithm = 0 // each subscriber has consecutive ports
	Staggered   Algorithm = 1 // each subscriber has every nth port, n being the subscribers of the address
	KeyedRandom Algorithm = 4 // ports in the order of a shuffle that Key decides, the same at all addresses (RFC 7422 by way of RFC 6431)
)

// PortSpan is the ports from First to Last, both included.
type PortSpan struct{ First, Last uint16 }

// maxDeterminate bounds the subscribers of a mapping, and its outside addresses.
const maxDeterminate = 1 << 24

// String formats s as "1024-5055".
func (s PortSpan) String() string { return fmt.Sprintf("%d-%d", s.First, s.Last) }

// Validate reports every problem of d in one error; see the fields for what is
// allowed. Every subscriber must get at least one port.
func (d Deterministic) Validate() error {
	var v validation
	v.deterministic("", &d)
	return v.err()
}

func (v *validation) deterministic(prefix string, d *Deterministic) {
	before := len(v.errs)
	v.addresses(prefix+"Inside", d.Inside)
	v.addresses(prefix+"Outside", d.Outside)
	if d.DynamicFactor < 0 || d.DynamicFactor > 65535-systemPorts {
		v.add("%sDynamicFactor %d: %w: 0..%d", prefix, d.DynamicFactor, ErrOutOfRange, 65535-systemPorts)
	}
	if d.MaxPorts < 0 || d.MaxPorts > 65536-systemPorts {
		v.add("%sMaxPorts %d: %w: 0..%d", prefix, d.MaxPorts, ErrOutOfRange, 65536-systemPorts)
	}
	if a := d.Algorithm; a != Sequential && a != Staggered && a != KeyedRandom {
		v.add("%sAlgorithm %d: %w: 0, 1 or 4", prefix, a, ErrOutOfRange)
	}
	for i, r := range d.Reserved {
		if r.First > r.Last {
			v.add("%sReserved[%d] %v: %w: First is above Last", prefix, i, r, ErrOutOfRange)
		}
	}
	if len(v.errs) > before {
		return
	}
	if d.Inside[0].Addr().Is4() != d.Outside[0].Addr().Is4() {
		v.add("%sOutside[0] %v: %w: not of the address family of Inside", prefix, d.Outside[0], ErrPrefix)
		return
	}
	m := newDeterministicMap(d)
	switch {
	case m.share < 1:
		v.add("%sInside: %w: %d subscribers and %d shares on each of %d addresses with %d ports leave none", prefix, ErrOutOfRange,
			m.subscribers, m.ratio+d.DynamicFactor, m.addresses, m.usable())
	case d.MaxPorts != 0 && d.MaxPorts < m.share:
		v.add("%sMaxPorts %d: %w: a share is %d", prefix, d.MaxPorts, ErrOutOfRange, m.share)
	}
}

// addresses checks a list of prefixes that are enumerated.
func (v *validation) addresses(field string, list []netip.Prefix) {
	if len(list) == 0 {
		v.add("%s: %w: empty", field, ErrPrefix)
		return
	}
	total := 0
	for i, p := range list {
		switch {
		case !p.IsValid() || p.Masked() != p || p.Addr().Is4In6():
			v.add("%s[%d] %v: %w", field, i, p, ErrPrefix)
			return
		case p.Addr().Is4() != list[0].Addr().Is4():
			v.add("%s[%d] %v: %w: not of the address family of %s[0]", field, i, p, ErrPrefix, field)
			return
		case p.Addr().BitLen()-p.Bits() > bits.Len(maxDeterminate-1):
			v.add("%s[%d] %v: %w: %d addresses at most", field, i, p, ErrTooMany, maxDeterminate)
			return
		}
		total += 1 << (p.Addr().BitLen() - p.Bits())
	}
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Or(comparePrefixes(list[i], list[j]), cmp.Compare(i, j)) })
	for k, last := 1, order[0]; k < len(order); k++ { // last reaches furthest of those before
		i := order[k]
		if !list[last].Overlaps(list[i]) {
			last = i
			continue
		}
		v.add("%s[%d] %v: %w: overlaps %s[%d] %v", field, max(i, last), list[max(i, last)], ErrPrefix, field, min(i, last), list[min(i, last)])
	}
	if total > maxDeterminate {
		v.add("%s: %d addresses: %w: at most %d", field, total, ErrTooMany, maxDeterminate)
	}
}

// comparePrefixes orders prefixes by their addresses, and of those with the same one
// the shorter first: what lies in a prefix follows it, before what lies outside.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// same reports whether two mappings, or none, are the same.
func (d *Deterministic) same(o *Deterministic) bool {
	if d == nil || o == nil {
		return d == o
	}
	return slices.Equal(d.Inside, o.Inside) && slices.Equal(d.Outside, o.Outside) && d.DynamicFactor == o.DynamicFactor &&
		d.MaxPorts == o.MaxPorts && d.Algorithm == o.Algorithm && slices.Equal(d.Reserved, o.Reserved) && d.Key == o.Key
}

// clone returns a copy that shares no memory with d.
func (d *Deterministic) clone() *Deterministic {
	if d == nil {
		return nil
	}
	c := *d
	c.Inside, c.Outside, c.Reserved = slices.Clone(d.Inside), slices.Clone(d.Outside), slices.Clone(d.Reserved)
	return &c
}

// Record returns the parameters as the log entry that RFC 7422 wants whenever they
// change and once a day: time, I and O with their masks, D, M, A and R. The key is
// not part of it.
func (d Deterministic) Record(at flow.Time) string {
	reserved := []PortSpan{{0, systemPorts - 1}}
	return fmt.Sprintf("%v I=%s O=%s D=%d M=%d A=%d R=%s", at, commas(d.Inside), commas(d.Outside),
		d.DynamicFactor, d.MaxPorts, d.Algorithm, commas(append(reserved, d.Reserved...)))
}

// commas joins the texts of a list.
func commas[T fmt.Stringer](list []T) string {
	var texts []string
	for _, x := range list {
		texts = append(texts, x.String())
	}
	return strings.Join(texts, ",")
}

// DeterministicMap answers what the parameters of a [Deterministic] mean, in
// both directions. It is immutable, and safe for concurrent use. Look-ups do not
// allocate and cost O(log prefixes + reserved spans).
type DeterministicMap struct {
	inside, outside addressList
	subscribers     int // I
	addresses       int // O
	ratio           int // C
	share, maxPorts int
	spans           []PortSpan // of ports that are not reserved, ascending
	shuffle, sorted []uint16   // KeyedRandom: a permutation of the fixed ports' numbers, and its inverse
	algorithm       Algorithm
}

// NewDeterministicMap returns the map of d, or an error that names every bad
// field. KeyedRandom takes a quarter of a megabyte, the others next to nothing.
func NewDeterministicMap(d Deterministic) (*DeterministicMap, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	m := newDeterministicMap(&d)
	if d.Algorithm == KeyedRandom {
		m.permute(d.Key)
	}
	return m, nil
}

func newDeterministicMap(d *Deterministic) *DeterministicMap {
	m := &DeterministicMap{inside: listOf(d.Inside, true), outside: listOf(d.Outside, false), maxPorts: d.MaxPorts, algorithm: d.Algorithm}
	m.subscribers, m.addresses = m.inside.len(), m.outside.len()
	m.ratio = (m.subscribers + m.addresses - 1) / m.addresses
	next := systemPorts
	for _, r := range slices.SortedFunc(slices.Values(d.Reserved), func(a, b PortSpan) int { return int(a.First) - int(b.First) }) {
		if int(r.First) > next {
			m.spans = append(m.spans, PortSpan{uint16(next), r.First - 1})
		}
		next = max(next, int(r.Last)+1)
	}
	if next <= 65535 {
		m.spans = append(m.spans, PortSpan{uint16(next), 65535})
	}
	m.share = m.usable() / (m.ratio + d.DynamicFactor)
	return m
}

// permute shuffles the numbers of the fixed ports of a full address (Fisher and
// Yates, with the numbers of ChaCha8).
func (m *DeterministicMap) permute(key [32]byte) {
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
func (m *DeterministicMap) Share() int { return m.share }

// FixedPorts are the ports that belong to one subscriber, of each protocol.
type FixedPorts struct {
	Outside netip.Addr // the public address

	of         *DeterministicMap
	slot, peer int // which subscriber of the address this is, and how many it has
}

// Outside returns the public address and the ports of a subscriber, and whether
// inside is one.
func (m *DeterministicMap) Outside(inside netip.Addr) (FixedPorts, bool) {
	i, ok := m.inside.index(inside)
	if !ok {
		return FixedPorts{}, false
	}
	return FixedPorts{Outside: m.outside.at(i / m.ratio), of: m, slot: i % m.ratio, peer: m.peers(i / m.ratio)}, true
}

// Len returns the number of ports.
func (f FixedPorts) Len() int {
	if f.of == nil {
		return 0
	}
	return f.of.share
}

// At returns the ith port. It panics unless 0 <= i < f.Len().
func (f FixedPorts) At(i int) uint16 {
	if i < 0 || i >= f.Len() {
		panic(fmt.Sprintf("snat: port %d of %d fixed ones", i, f.Len()))
	}
	return f.of.port(f.of.number(f.slot, i, f.peer))
}

// All iterates over the ports, in the order of At.
func (f FixedPorts) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for i := range f.Len() {
			if !yield(f.At(i)) {
				return
			}
		}
	}
}

// spans iterates over runs of consecutive ports, of a Sequential mapping.
func (f FixedPorts) spans() iter.Seq[PortSpan] {
	return func(yield func(PortSpan) bool) {
		x, end := f.slot*f.of.share, (f.slot+1)*f.of.share
		for _, s := range f.of.spans {
			n := int(s.Last-s.First) + 1
			if x < min(n, end) && !yield(PortSpan{s.First + uint16(x), s.First + uint16(min(n, end)-1)}) {
				return
			}
			x, end = max(x-n, 0), max(end-n, 0)
		}
	}
}

// Range returns the lowest and the highest port. With Sequential, and unless
// reserved ports are in between, those and all between them are the ports. The zero
// FixedPorts have none, which is the zero PortSpan. Cost: O(ports) with KeyedRandom.
func (f FixedPorts) Range() PortSpan {
	if f.of == nil {
		return PortSpan{}
	}
	if f.of.algorithm != KeyedRandom {
		return PortSpan{f.At(0), f.At(f.Len() - 1)}
	}
	span := PortSpan{65535, 0}
	for p := range f.All() {
		span.First, span.Last = min(span.First, p), max(span.Last, p)
	}
	return span
}

// PortKind says what a port is in a deterministic mapping.
type PortKind uint8

// The kinds of ports.
const (
	PortForeign  PortKind = iota // of an address that is not part of the mapping
	PortReserved                 // never used
	PortFixed                    // belongs to one subscriber
	PortDynamic                  // granted in blocks: consult the log
	numPortKinds
)

var portKindNames = [...]string{"foreign", "reserved", "fixed", "dynamic, consult the log"}

var _ = [1]struct{}{}[len(portKindNames)-int(numPortKinds)] // one name per kind

// String returns what k means: "fixed", or "dynamic, consult the log".
func (k PortKind) String() string {
	if k < numPortKinds {
		return portKindNames[k]
	}
	return "kind(?)"
}

// Inside returns what an outside port is and, of a fixed one, the subscriber it
// belongs to.
func (m *DeterministicMap) Inside(outside netip.AddrPort) (netip.Addr, PortKind) {
	o, ok := m.outside.index(outside.Addr())
	if !ok {
		return netip.Addr{}, PortForeign
	}
	x, ok := m.numberOf(outside.Port())
	if !ok {
		return netip.Addr{}, PortReserved
	}
	slot, ok := m.slot(x, m.peers(o))
	if !ok {
		return netip.Addr{}, PortDynamic
	}
	return m.inside.at(o*m.ratio + slot), PortFixed
}

// Dynamic iterates over the dynamic range of an outside address, from the lowest
// port; reserved ports divide it.
func (m *DeterministicMap) Dynamic(outside netip.Addr) iter.Seq[PortSpan] {
	return func(yield func(PortSpan) bool) {
		o, ok := m.outside.index(outside)
		if !ok {
			return
		}
		skip := m.peers(o) * m.share
		for _, s := range m.spans {
			n := int(s.Last-s.First) + 1
			if skip < n && !yield(PortSpan{s.First + uint16(skip), s.Last}) {
				return
			}
			skip = max(skip-n, 0)
		}
	}
}

// peers returns how many subscribers an outside address has.
func (m *DeterministicMap) peers(outside int) int {
	return min(max(m.subscribers-outside*m.ratio, 0), m.ratio)
}

// number returns the number of the ith port of a subscriber.
func (m *DeterministicMap) number(slot, i, peers int) int {
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
func (m *DeterministicMap) slot(x, peers int) (int, bool) {
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
func (m *DeterministicMap) usable() (n int) {
	for _, s := range m.spans {
		n += int(s.Last-s.First) + 1
	}
	return n
}

// port returns the port with a number.
func (m *DeterministicMap) port(x int) uint16 {
	for _, s := range m.spans {
		if n := int(s.Last-s.First) + 1; x < n {
			return s.First + uint16(x)
		} else {
			x -= n
		}
	}
	panic("snat: a fixed port beyond all ports")
}

// numberOf is the inverse of port; reserved ports have no number.
func (m *DeterministicMap) numberOf(port uint16) (x int, ok bool) {
	for _, s := range m.spans {
		if port <= s.Last {
			return x + int(port-s.First), port >= s.First
		}
		x += int(s.Last-s.First) + 1
	}
	return 0, false
}

// addressList numbers the addresses of prefixes, which do not overlap.
type addressList struct {
	runs   []addressRun // in the order of their numbers
	byAddr []int32      // indexes of runs, in the order of their addresses
}

// addressRun is consecutive addresses with consecutive numbers.
type addressRun struct {
	first, last netip.Addr
	base        int // the number of first
}

// listOf returns the list of the addresses of prefixes, or of their hosts.
func listOf(prefixes []netip.Prefix, hosts bool) (l addressList) {
	base := 0
	for i, p := range prefixes {
		first, n := p.Addr(), 1<<(p.Addr().BitLen()-p.Bits())
		if hosts && first.Is4() && n > 2 {
			first, n = first.Next(), n-2
		}
		l.runs = append(l.runs, addressRun{first, plus(first, n-1), base})
		l.byAddr = append(l.byAddr, int32(i))
		base += n
	}
	slices.SortFunc(l.byAddr, func(a, b int32) int { return l.runs[a].first.Compare(l.runs[b].first) })
	return l
}

func (l *addressList) len() int {
	r := &l.runs[len(l.runs)-1]
	return r.base + distance(r.first, r.last) + 1
}

// is4 reports whether the addresses are of IPv4.
func (l *addressList) is4() bool { return l.runs[0].first.Is4() }

// at returns the address with a number.
func (l *addressList) at(i int) netip.Addr {
	k, found := slices.BinarySearchFunc(l.runs, i, func(r addressRun, i int) int { return cmp.Compare(r.base, i) })
	if !found {
		k--
	}
	return plus(l.runs[k].first, i-l.runs[k].base)
}

// index is the inverse of at.
func (l *addressList) index(a netip.Addr) (int, bool) {
	k, found := slices.BinarySearchFunc(l.byAddr, a, func(i int32, a netip.Addr) int { return l.runs[i].first.Compare(a) })
	if !found {
		k--
	}
	if k < 0 {
		return 0, false
	}
	r := &l.runs[l.byAddr[k]]
	if r.last.Compare(a) < 0 {
		return 0, false
	}
	return r.base + distance(r.first, a), true
}

// plus returns the address n after a, in a prefix whose host part is below 2^32.
func plus(a netip.Addr, n int) netip.Addr {
	if a.Is4() {
		return flow.NetAddr4(flow.Addr4(a) + uint32(n))
	}
	b := a.As16()
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+uint32(n))
	return netip.AddrFrom16(b)
}

// distance is the inverse of plus.
func distance(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	return int(binary.BigEndian.Uint32(y[12:]) - binary.BigEndian.Uint32(x[12:]))
}
