package dataplane

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// setFrontends makes r know frontends, by index and in order, those that it knows already
// among them.
func (r *routes) setFrontends(all, order []*ports.Frontend) {
	r.frontends, r.frontendOrder = all, order
	for i, f := range all {
		switch {
		case f == nil:
		case f.Addr.Is4():
			r.Outside4.Put(uint32(f.Packed[0]), uint32(i+1))
		default:
			r.Outside6.Put(f.Packed, uint32(i+1))
		}
	}
}

// isTargeted reports whether an instance is a target that answers from its own socket, or
// has been one.
func (r *routes) isTargeted(inst *instance) bool {
	return r.targeted[inst.Index/64]>>(inst.Index%64)&1 != 0
}

// setTable fills the destination table. Cost: O(n log n).
func (r *routes) setTable(rows []addresses.Row) {
	r.Destinations = addresses.NewDestinations(rows)
	r.tracks = r.tracks || slices.ContainsFunc(rows, func(row addresses.Row) bool { return row.BothWays && row.Action != addresses.PassThrough })
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
		r.realms[id] = &routes{}
	}
	return r.realms[id]
}

// seal completes r and gives every realm its copy. It comes after all changes
// to r, and again after those for shared ports.
func (r *routes) seal() {
	r.whole, r.nobody = r, new(routes)
	give := func(in *routes, id uint32) {
		inside4, inside6 := in.Inside4, in.Inside6
		*in = *r
		in.Inside4, in.Inside6, in.id = inside4, inside6, id
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

// mark returns the packed value of an instance for its inside sources that are not
// translated 1:1.
func (r *routes) mark(inst *instance) uint32 {
	if r.hairpin || r.looks || r.isTargeted(inst) {
		return addresses.Pack(inst.Index, inst.Shard) | addresses.LookFlag
	}
	return addresses.Pack(inst.Index, inst.Shard)
}

// meter prepares r for counting traffic, if it is to be counted, over so many shards and
// for fragments: frontends that was knew keep their counts. The locks of all shards must
// be held.
func (r *routes) meter(was *routes, counted bool, shards int) {
	r.countTraffic = counted
	r.traffic = traffic.Keep(r.frontends, was.frontends, was.traffic, shards+1, counted)
}
