// Package routing has a configuration as packets read it: whose an inside source is, who owns
// an outside port, what becomes of a new flow by its destination, and who may begin one. It
// refuses to know sessions' locks, counters of shards, and how a packet is translated.
//
// [Routes] is immutable once it is in force, but for the counts of traffic and of forwards that
// hang from it, which are guarded as their rooms say. Whoever changes the configuration fills a
// new one, seals it, and swaps a pointer; so a packet sees one configuration, whole.
//
//	filled   [Routes.SetTable], [Routes.Add], [Routes.SetFrontends], [Routes.Meter]
//	sealed   [Routes.Seal] gives every realm its copy
//	read     [Routes.Realm], then the plan of addresses and the questions in questions.go
package routing

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/instances"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// MaxInstances is the number of instances that flow keys and routes can tell
// apart: their index plus two fits the VNI. See NoInstance and FloatingSender.
const MaxInstances = flow.MaxVNI - 1

// NoInstance stands in the key of a floating target's answer, which does not tell its
// instance. No instance has this index.
const NoInstance = flow.MaxVNI

// FloatingSender stands for the instances of floating targets, which the addresses of their
// answers do not tell: they have what waits together. No instance has this index.
const FloatingSender = MaxInstances

// An Admitter says whether a flow that a side begins may do so: ReasonNone, or why not.
type Admitter func(from flow.Side, inst *ports.Instance, t ports.Tuple) flow.Reason

// Routes is what the packet path knows of the configuration: which instance an
// inside source belongs to, who owns an outside port, and what happens to a new
// flow by destination. It is immutable; a change of configuration builds a new
// one and swaps the pointer.
type Routes struct {
	addresses.Plan               // whose addresses are, and what destinations mean
	Forwards       *forwards.Set // nil if there are none

	Frontends     []*ports.Frontend     // by index; nil where none is
	FrontendOrder []*ports.Frontend     // in the order of their first use by an instance
	Traffic       traffic.Rows          // by frontend and shard; nil unless traffic is counted
	Instances     []*instances.Instance // by index; nil where none is
	targeted      []uint64              // a bit for each; see IsTargeted

	Admit        Admitter // may be nil
	Entries      bool     // what public addresses carry is remembered
	Timed        bool     // permits are looked at: lanes need the time
	CountTraffic bool
	Hairpin      bool
	Looks        bool // packets of the inside may be for a forward
	Locates      bool // what parsing has found is not the whole truth; see NAT.locate in package dataplane
	Tracks       bool // packets to inside addresses may belong to sessions: a row remembers them, or has done

	Until flow.Time // when the first port that awaits removal is gone

	// What is above is that of realm 0. The others have copies with inside
	// addresses of their own; see Seal.
	ID     uint32             // of the realm
	Whole  *Routes            // that of realm 0
	realms map[uint32]*Routes // those with instances
	nobody *Routes            // of all other realms
}

// Resize makes room for instances of indexes less than count.
func (r *Routes) Resize(count int) {
	r.Instances, r.targeted = make([]*instances.Instance, count), make([]uint64, (count+63)/64)
}

// SetFrontends makes r know frontends, by index and in order, those that it knows already
// among them.
func (r *Routes) SetFrontends(all, order []*ports.Frontend) {
	r.Frontends, r.FrontendOrder = all, order
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

// SetTable fills the destination table. Cost: O(n log n).
func (r *Routes) SetTable(rows []addresses.Row) {
	r.Destinations = addresses.NewDestinations(rows)
	r.Tracks = r.Tracks || slices.ContainsFunc(rows, func(row addresses.Row) bool { return row.BothWays && row.Action != addresses.PassThrough })
}

// Add routes to an instance, which is in r.Instances already, in its realm. targeted says that it is the target
// of a forward and answers from its own socket, or has done so and still has such sessions.
func (r *Routes) Add(c *compiled.Instance, inst *instances.Instance, targeted bool) {
	in := r.begin(c.Realm)
	if targeted {
		r.targeted[inst.Index/64] |= 1 << (inst.Index % 64)
	}
	mark := r.Mark(inst)
	for _, a := range c.Addrs {
		switch {
		case c.Realm != 0:
		case a.Is4():
			r.Outside4.Put(inst.Addr4, (inst.Index|addresses.NodeFlag)+1)
		default:
			r.Outside6.Put(inst.Addr6, (inst.Index|addresses.NodeFlag)+1)
		}
		in.inside(netip.PrefixFrom(a, a.BitLen()), mark)
	}
	for _, a := range c.PublicAddrs {
		source := addresses.Pack(inst.Index, inst.Shard) | addresses.DirectFlag
		if front := (inst.Index | addresses.PublicFlag) + 1; a.Is4() {
			r.Outside4.Put(flow.Addr4(a), front)
			in.inside(netip.PrefixFrom(flow.NetAddr4(inst.Addr4), 32), source)
		} else {
			r.Outside6.Put(flow.Addr6(a), front)
			in.inside(netip.PrefixFrom(flow.NetAddr6(inst.Addr6), 128), source)
		}
	}
	for _, p := range c.Inside {
		in.inside(p, mark)
	}
}

// inside gives an inside prefix a source.
func (r *Routes) inside(p netip.Prefix, source uint32) {
	if p.Addr().Is4() {
		r.Inside4.Put(p, source)
	} else {
		r.Inside6.Put(p, source)
	}
}

// Mark returns the packed value of an instance for its inside sources that are not
// translated 1:1.
func (r *Routes) Mark(inst *instances.Instance) uint32 {
	if r.Hairpin || r.Looks || r.IsTargeted(inst) {
		return addresses.Pack(inst.Index, inst.Shard) | addresses.LookFlag
	}
	return addresses.Pack(inst.Index, inst.Shard)
}

// begin returns what takes the inside addresses of a realm until Seal.
func (r *Routes) begin(id uint32) *Routes {
	if id == 0 {
		return r
	}
	if r.realms == nil {
		r.realms = map[uint32]*Routes{}
	}
	if r.realms[id] == nil {
		r.realms[id] = &Routes{}
	}
	return r.realms[id]
}

// Meter prepares r for counting traffic, if it is to be counted, over so many shards and
// for fragments: frontends that was knew keep their counts. The locks of all shards must
// be held.
func (r *Routes) Meter(was *Routes, counted bool, shards int) {
	r.CountTraffic = counted
	r.Traffic = traffic.Keep(r.Frontends, was.Frontends, was.Traffic, shards+1, counted)
}

// Seal completes r and gives every realm its copy. It comes after all changes
// to r, and again after those for shared ports.
func (r *Routes) Seal() {
	r.Whole, r.nobody = r, new(Routes)
	give := func(in *Routes, id uint32) {
		inside4, inside6 := in.Inside4, in.Inside6
		*in = *r
		in.Inside4, in.Inside6, in.ID = inside4, inside6, id
	}
	for id, in := range r.realms {
		give(in, id)
	}
	give(r.nobody, 0)
}

// Realm returns the routes of a realm.
func (r *Routes) Realm(id uint32) *Routes {
	if id == 0 {
		return r
	}
	if in := r.realms[id]; in != nil {
		return in
	}
	return r.nobody
}

// Fork returns a copy of r, sealed, for a translator that has the instances and the ports, and asks admit. The
// locks of traffic must be held.
func (r *Routes) Fork(all []*instances.Instance, sp *ports.Space, admit Admitter) *Routes {
	to := *r
	to.Instances, to.Admit, to.Forwards, to.Traffic, to.realms = all, admit, r.Forwards.Fork(), r.Traffic.Fork(), nil
	to.Frontends, to.FrontendOrder = sp.Frontends()
	for id, in := range r.realms {
		was := to.begin(id)
		was.Plan = addresses.Plan{Inside4: in.Inside4, Inside6: in.Inside6}
	}
	to.Seal()
	return &to
}
