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
	inside4  prefixes.Disjoint4 // prefixes of different instances never overlap
	inside6  prefixes.Disjoint6
	outside4 prefixes.Addrs4
	outside6 prefixes.Addrs6
	table    *prefixes.Table // the destination table
	effects  []effect        // of its rows

	frontends []*ports.Frontend // in the order of their first use by an instance
	traffic   [][]trafficRow    // by frontend and shard; nil unless traffic is counted
	instances []*instance       // by index; nil where none is

	countTraffic bool
	hairpin      bool

	until flow.Time // when the first port that awaits removal is gone

	// What is above is that of realm 0. The others have copies with inside
	// addresses of their own; see seal.
	id     uint32             // of the realm
	realms map[uint32]*routes // those with instances
	nobody *routes            // of all other realms
	whole  *routes            // that of realm 0
}

// setFrontends makes r know frontends, those that it knows already among them.
func (r *routes) setFrontends(all []*ports.Frontend) {
	r.frontends = all
	for i, f := range all {
		if f.Addr.Is4() {
			r.outside4.Put(uint32(f.Packed[0]), uint32(i+1))
		} else {
			r.outside6.Put(f.Packed, uint32(i+1))
		}
	}
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
func (r *routes) action(t *ports.Tuple) RouteAction { return r.effect(t, int32(t.DestPort)).action }

// effect returns what the row for a destination and a port means; without a row the
// flow is translated. A port below 0 is not known and fits all rows.
func (r *routes) effect(t *ports.Tuple, port int32) *effect {
	addr := prefixes.Addr(t.Remote)
	if t.Family == 0 {
		addr = prefixes.V4(uint32(t.Remote[0]))
	}
	if i := r.table.Match(t.Family == 1, addr, t.Proto, port); i >= 0 {
		return &r.effects[i]
	}
	return &translated
}

// RouteTo returns what rows, the destination table of a [Config], do with new flows
// of protocol p to a remote; with All, with those of either protocol. It is a pure
// function of O(n log n) for planning, and the table in force says the same.
func RouteTo(rows []Route, p Protocol, remote netip.AddrPort) RouteAction {
	var r routes
	r.setTable(rows)
	like, _ := (&Route{Protocol: p}).row()
	t := ports.Tuple{Proto: like.Proto}
	switch a := remote.Addr().Unmap(); {
	case a.Is4():
		t.Remote[0] = uint64(flow.Addr4(a))
	case a.Is6():
		t.Family, t.Remote = 1, flow.Addr6(a)
	default:
		return Translate
	}
	return r.effect(&t, int32(remote.Port())).action
}

// setTable fills the destination table: of rows with the same prefix those that are
// narrower come first. Cost: O(n log n).
func (r *routes) setTable(rows []Route) {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Route) int { return b.precedence() - a.precedence() })
	table := make([]prefixes.Row, len(rows))
	r.effects = make([]effect, len(rows))
	for i := range rows {
		table[i], r.effects[i] = rows[i].row()
	}
	r.table = prefixes.New(table)
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

func pack(inst *instance) uint32 { return uint32(inst.Shard)<<24 | (inst.Index + 1) }

func unpack(v uint32) (instance uint32, shard uint8) { return v&(1<<24-1) - 1, uint8(v >> 24) }

// homeOf returns the instance and shard of a tuple's inside address, packed, or 0.
func (r *routes) homeOf(t *ports.Tuple) uint32 {
	if t.Family == 0 {
		return r.inside4.Get(uint32(t.Inside[0]))
	}
	return r.inside6.Get(t.Inside)
}

// targetOf returns what a tuple's inside address is to the outside.
func (r *routes) targetOf(t *ports.Tuple) uint32 {
	if t.Family == 0 {
		return r.outside4.Get(uint32(t.Inside[0]))
	}
	return r.outside6.Get(t.Inside)
}
