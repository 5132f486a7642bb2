package snat

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// routes is what the packet path knows of the configuration: which instance an
// inside source belongs to, who owns an outside port, and what happens to a new
// flow by destination. It is immutable; a change of configuration builds a new
// one and swaps the pointer.
type routes struct {
	inside4  prefixes4
	inside6  prefixes6
	outside4 map4
	outside6 map6
	policy   *prefixes.Table
	rules    []rule // by row of policy

	frontends []*frontend // in the order of their first use by an instance
	instances []*instance // by index; nil where none is

	countTraffic bool
	hairpin      bool
	special      bool // packets are not done with when they are translated: countTraffic, NAT.routed, or with an inventory

	until flow.Time // when the first port that awaits removal is gone

	// What is above is that of realm 0. The others have copies with inside
	// addresses of their own; see seal.
	id     uint32             // of the realm
	realms map[uint32]*routes // those with instances
	nobody *routes            // of all other realms
	whole  *routes            // that of realm 0
}

// frontend is one outside address and the owners of its ports.
type frontend struct {
	addr   netip.Addr
	packed [2]uint64                  // addr as tuples hold it
	use    *[ports.NumPools]portCount // shared by all frontends of this address, past and present
	owner  [ports.NumPools]*owners    // nil where nobody owns a port

	traffic []trafficRow // by shard, shared like use; nil unless traffic is counted
}

// owners names the owner of each block of eight ports: one read finds the shard
// of an inbound packet. 0 stands for nobody.
type owners struct {
	shard    [65536 / BlockSize]uint8  // shard + 1
	instance [65536 / BlockSize]uint32 // instance + 1
}

// What a value of outside4 and outside6 stands for: the index of a frontend, or
// with nodeFlag the index of an instance whose own address it is, or with
// publicFlag that of one whose public address it is; plus one.
const (
	nodeFlag   = 1 << 31
	publicFlag = 1 << 30
)

// isFrontend reports whether a value of outside4 or outside6 stands for an
// address that the Internet sees: a frontend or a public address.
func isFrontend(v uint32) bool { return v != 0 && (v-1)&nodeFlag == 0 }

// action returns what happens to a new flow towards its destination.
func (r *routes) action(t *ports.Tuple) RouteAction { return r.rule(t, int32(t.DestPort)).action }

// rule returns the row for a destination and a port, or one that begins none of
// the others if there is none. A port below 0 is not known and fits all rows.
func (r *routes) rule(t *ports.Tuple, port int32) *rule {
	addr := prefixes.Addr(t.Remote)
	if t.Family == 0 {
		addr = prefixes.V4(uint32(t.Remote[0]))
	}
	if i := r.policy.Match(t.Family == 1, addr, t.Proto, port); i >= 0 {
		return &r.rules[i]
	}
	return &translated
}

// RouteTo returns what rows, the destination table of a [Config], do with new flows
// of protocol p to a remote; with All, with those of either protocol. It is a pure
// function of O(n log n) for planning, and the table in force says the same.
func RouteTo(rows []Route, p Protocol, remote netip.AddrPort) RouteAction {
	var r routes
	r.setPolicy(rows)
	like, _ := (&Route{Protocol: p}).rule()
	t := ports.Tuple{Proto: like.Proto}
	switch a := remote.Addr().Unmap(); {
	case a.Is4():
		t.Remote[0] = uint64(flow.Addr4(a))
	case a.Is6():
		t.Family, t.Remote = 1, flow.Addr6(a)
	default:
		return Translate
	}
	return r.rule(&t, int32(remote.Port())).action
}

// setPolicy fills the destination table: of rows with the same prefix those that are
// more special come first. Cost: O(n log n).
func (r *routes) setPolicy(rows []Route) {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Route) int { return b.special() - a.special() })
	table := make([]prefixes.Row, len(rows))
	r.rules = make([]rule, len(rows))
	for i := range rows {
		table[i], r.rules[i] = rows[i].rule()
	}
	r.policy = prefixes.New(table)
}

func mask4(bits int) uint32 { return ^uint32(0) << (32 - bits) }

func mask6(bits int) [2]uint64 {
	if bits <= 64 {
		return [2]uint64{^uint64(0) << (64 - bits), 0}
	}
	return [2]uint64{^uint64(0), ^uint64(0) << (128 - bits)}
}

// map4 is a fixed open-addressing hash map from IPv4 addresses to values above
// 0, at most half full.
type map4 struct {
	slots []slot4
	shift uint8
	n     int
}

type slot4 struct{ key, val uint32 }

func (m *map4) get(key uint32) uint32 {
	if len(m.slots) == 0 {
		return 0
	}
	mask := uint32(len(m.slots) - 1)
	for i := key * 0x9e3779b1 >> m.shift; ; i++ {
		s := m.slots[i&mask]
		if s.key == key || s.val == 0 {
			return s.val
		}
	}
}

func (m *map4) put(key, val uint32) {
	if 2*(m.n+1) > len(m.slots) {
		old := m.slots
		bits := 4
		for 1<<bits < 4*(m.n+1) {
			bits++
		}
		*m = map4{slots: make([]slot4, 1<<bits), shift: uint8(32 - bits)}
		for _, s := range old {
			if s.val != 0 {
				m.put(s.key, s.val)
			}
		}
	}
	mask := uint32(len(m.slots) - 1)
	i := key * 0x9e3779b1 >> m.shift & mask
	for m.slots[i].val != 0 && m.slots[i].key != key {
		i = (i + 1) & mask
	}
	if m.slots[i].val == 0 {
		m.n++
	}
	m.slots[i] = slot4{key, val}
}

// map6 is map4 for IPv6 addresses.
type map6 struct {
	slots []slot6
	shift uint8
	n     int
}

type slot6 struct {
	key [2]uint64
	val uint32
}

func hash6(key [2]uint64) uint64 {
	return (key[0]*0x9e3779b97f4a7c15 ^ key[1]) * 0xd6e8feb86659fd93
}

func (m *map6) get(key [2]uint64) uint32 {
	if len(m.slots) == 0 {
		return 0
	}
	mask := uint64(len(m.slots) - 1)
	for i := hash6(key) >> m.shift; ; i++ {
		s := &m.slots[i&mask]
		if s.key == key || s.val == 0 {
			return s.val
		}
	}
}

func (m *map6) put(key [2]uint64, val uint32) {
	if 2*(m.n+1) > len(m.slots) {
		old := m.slots
		bits := 4
		for 1<<bits < 4*(m.n+1) {
			bits++
		}
		*m = map6{slots: make([]slot6, 1<<bits), shift: uint8(64 - bits)}
		for _, s := range old {
			if s.val != 0 {
				m.put(s.key, s.val)
			}
		}
	}
	mask := uint64(len(m.slots) - 1)
	i := hash6(key) >> m.shift & mask
	for m.slots[i].val != 0 && m.slots[i].key != key {
		i = (i + 1) & mask
	}
	if m.slots[i].val == 0 {
		m.n++
	}
	m.slots[i] = slot6{key, val}
}

// What a value of inside4 and inside6 stands for: the index of an instance, plus
// one, and its shard in the highest byte. With directFlag, which makes it negative
// as int32, the packets of the source are translated 1:1 and the shard is not used.
const directFlag = 1 << 31

// hairpinFlag is negative too: the packets of the source are not translated 1:1,
// but their destination has to be looked at first.
const hairpinFlag = 1<<31 | 1<<30

// isDirect reports whether a packed value is that of a source that is translated
// 1:1.
func isDirect(packed uint32) bool { return packed&hairpinFlag == directFlag }

func pack(inst *instance) uint32 { return uint32(inst.shard)<<24 | (inst.index + 1) }

func unpack(v uint32) (instance uint32, shard uint8) { return v&(1<<24-1) - 1, uint8(v >> 24) }

// prefixes4 maps inside prefixes to packed instances: one hash map for each prefix
// length in use. Prefixes of different instances never overlap, so the order of
// look-ups does not matter, and the shortest, which covers most sources, is
// first.
type prefixes4 struct {
	first length4
	rest  []length4
}

type length4 struct {
	mask uint32
	m    map4
}

// get returns the packed instance of a source, or 0.
func (t *prefixes4) get(addr uint32) uint32 {
	if v := t.first.m.get(addr & t.first.mask); v != 0 {
		return v
	}
	return t.others(addr)
}

// others is get without the first length, which parseOutbound does itself
// because get is too large to be inlined.
func (t *prefixes4) others(addr uint32) uint32 {
	for i := range t.rest {
		l := &t.rest[i]
		if v := l.m.get(addr & l.mask); v != 0 {
			return v
		}
	}
	return 0
}

func (t *prefixes4) put(p netip.Prefix, val uint32) {
	t.length(mask4(p.Bits())).m.put(flow.Addr4(p.Masked().Addr()), val)
}

// length returns the map for a prefix length.
func (t *prefixes4) length(mask uint32) *length4 {
	if t.first.m.n == 0 {
		t.first.mask = mask
	}
	if t.first.mask == mask {
		return &t.first
	}
	for i := range t.rest {
		if t.rest[i].mask == mask {
			return &t.rest[i]
		}
	}
	t.rest = append(t.rest, length4{mask: mask})
	if l := &t.rest[len(t.rest)-1]; mask < t.first.mask {
		t.first, *l = *l, t.first
		return &t.first
	}
	return &t.rest[len(t.rest)-1]
}

// prefixes6 is prefixes4 for IPv6.
type prefixes6 struct{ lengths []length6 }

type length6 struct {
	bits int
	mask [2]uint64
	m    map6
}

func (t *prefixes6) get(addr [2]uint64) uint32 {
	for i := range t.lengths {
		l := &t.lengths[i]
		if v := l.m.get([2]uint64{addr[0] & l.mask[0], addr[1] & l.mask[1]}); v != 0 {
			return v
		}
	}
	return 0
}

func (t *prefixes6) put(p netip.Prefix, val uint32) {
	i, ok := slices.BinarySearchFunc(t.lengths, p.Bits(), func(l length6, bits int) int { return l.bits - bits })
	if !ok {
		t.lengths = slices.Insert(t.lengths, i, length6{bits: p.Bits(), mask: mask6(p.Bits())})
	}
	t.lengths[i].m.put(flow.Addr6(p.Masked().Addr()), val)
}
