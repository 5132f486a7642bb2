package snat

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

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
		r.tracks = r.tracks || rows[i].BothWays && rows[i].Action != PassThrough
	}
	r.table = prefixes.New(table)
}

// What a value of inside4 and inside6 stands for: the index of an instance, plus
// one, and its shard in the highest byte. With directFlag, which makes it negative
// as int32, the packets of the source are translated 1:1 and the shard is not used.
const directFlag = 1 << 31

// lookFlag is negative too: the packets of the source are not translated 1:1, but have to
// be looked at first, because of hairpins or of forwards.
const lookFlag = 1<<31 | 1<<30

// isDirect reports whether a packed value is that of a source that is translated
// 1:1.
func isDirect(packed uint32) bool { return packed&lookFlag == directFlag }

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

// begin returns what takes the inside addresses of a realm until seal.
func (r *routes) begin(id uint32) *routes {
	if id == 0 {
		return r
	}
	if r.realms == nil {
		r.realms = map[uint32]*routes{}
	}
	if r.realms[id] == nil {
		r.realms[id] = &routes{hairpin: r.hairpin, looks: r.looks}
	}
	return r.realms[id]
}

// seal completes r and gives every realm its copy. It comes after all changes
// to r, and again after those for Shared ports.
func (r *routes) seal() {
	r.whole, r.nobody = r, new(routes)
	give := func(in *routes, id uint32) {
		inside4, inside6 := in.inside4, in.inside6
		*in = *r
		in.inside4, in.inside6, in.id = inside4, inside6, id
	}
	for id, in := range r.realms {
		give(in, id)
	}
	give(r.nobody, 0)
}

// realm returns the routes of a realm.
func (r *routes) realm(id uint32) *routes {
	if id == 0 {
		return r
	}
	if in := r.realms[id]; in != nil {
		return in
	}
	return r.nobody
}

// translated is the effect for destinations without a row.
var translated = effect{action: Translate}

// row returns what the row is for, and what it means.
func (r *Route) row() (prefixes.Row, effect) {
	row := prefixes.Row{Prefix: r.Prefix, First: r.FirstPort, Last: r.LastPort}
	switch {
	case r.FirstPort == 0:
		row.Last = 65535
	case r.LastPort == 0:
		row.Last = r.FirstPort
	}
	switch r.Protocol {
	case TCP:
		row.Proto = wire.ProtoTCP
	case UDP:
		row.Proto = wire.ProtoUDP
	}
	return row, effect{action: r.Action, bothWays: r.BothWays, anyPort: r.FirstPort == 0}
}

// precedence orders rows with the same prefix: the higher comes first.
func (r *Route) precedence() (n int) {
	if r.FirstPort != 0 {
		n += 2
	}
	if r.Protocol != All {
		n++
	}
	return n
}

// mark returns the packed value of an instance for its inside sources that are not
// translated 1:1.
func (r *routes) mark(inst *instance) uint32 {
	if r.hairpin || r.looks || inst.targeted {
		return pack(inst) | lookFlag
	}
	return pack(inst)
}

// meter prepares r for counting traffic, if it is to be counted, over so many shards and
// for fragments: frontends that was knew keep their counts. The locks of all shards must
// be held.
func (r *routes) meter(was *routes, counted bool, shards int) {
	r.countTraffic = counted
	r.traffic = traffic.Keep(r.frontends, was.frontends, was.traffic, shards+1, counted)
}
