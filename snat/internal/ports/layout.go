package ports

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// What a configuration grants before it is in force. rebook.go puts it into force.

// Layout is how a configuration lays ports out, before it is in force.
type Layout struct {
	Frontends []*Frontend // by index, which those in force keep; nil where none is
	Order     []*Frontend // in the order of their first use
	Until     flow.Time   // when the first port that awaits removal is gone; Never if none does

	shared    bool        // all instances share the ports, and sessions are in the shards of their remotes
	instances []*Instance // by index; nil where none is
	fresh     []*Instance // those that were not in force as they are now, in the order of the configuration
	byAddr    map[netip.Addr]*Frontend
	next      uint32 // no index below is free for another frontend
	settled   bool   // all ports have their owners
	used      int    // position in Order of the frontend that was used last

	// What is in force until then.
	before   []*Frontend           // by index; nil where none is
	index    map[netip.Addr]uint32 // of these
	former   []*Instance           // by index
	affected []*Instance           // of these, those whose sessions have to be looked at

	awaiting map[awaiting]flow.Time         // blocks that keep their flows, until when
	lost     []Event                        // the ends of the blocks that subscribers of affected instances had
	homes    map[subscribers.Name][2]uint64 // of subscribers whose sessions are booked anew
}

// awaiting names a block of ports that awaits removal.
type awaiting struct {
	instance uint32
	protocol int
	addr     netip.Addr
	block    uint16
}

// here reports whether the sessions of a former instance have to be looked at in a shard.
func (l *Layout) here(shard int, index uint32) bool {
	old := l.former[index]
	return (l.shared || old.Shard == shard) && !l.goesOn(old)
}

// frontend returns the frontend with an address: that in force, which nobody changes, or one that
// is made if need be, at an index that is not in use, or its own if it has been in use.
func (l *Layout) frontend(a netip.Addr) *Frontend {
	f := l.byAddr[a]
	if f != nil {
		return f
	}
	at, known := l.index[a]
	if !known {
		for at = l.next; int(at) < len(l.Frontends) && (l.Frontends[at] != nil || int(at) < len(l.before) && l.before[at] != nil); {
			at++
		}
		l.next = at + 1
	}
	if int(at) == len(l.Frontends) {
		l.Frontends = append(l.Frontends, nil)
	}
	if known && !l.settled {
		f = l.before[at]
	} else {
		f = newFrontend(a, int(at))
	}
	l.byAddr[a], l.Frontends[at] = f, f
	l.Order = append(l.Order, f)
	return f
}

// inForce reports whether a frontend of the layout is one in force.
func (l *Layout) inForce(f *Frontend) bool {
	return int(f.Index) < len(l.before) && l.before[f.Index] == f
}

// own makes somebody, or nobody, the owner of ports of the frontend with an index, if the layout
// has it. It is another one than that in force from then on.
func (l *Layout) own(frontend uint32, protocol int, first uint16, count int, who owner) {
	f := l.Frontends[frontend]
	if f == nil {
		return
	}
	if l.inForce(f) {
		was := f
		f = newFrontend(was.Addr, int(was.Index))
		for p := range f.Owner {
			f.Owner[p].blocks = slices.Clone(was.Owner[p].blocks)
			f.counts[p].Allocated.Store(was.counts[p].Allocated.Load())
		}
		l.byAddr[f.Addr], l.Frontends[frontend] = f, f
		if l.settled { // then Order is
			l.Order[slices.Index(l.Order, was)] = f
		}
	}
	f.Owner[protocol].own(first, count, who)
}

// settleOwners gives the ports of frontends their new owners, and Order the frontends that they
// have become.
func (l *Layout) settleOwners() {
	l.settled = true
	for _, old := range l.affected {
		old.eachRange(func(p *pool, r *ordinals) {
			l.own(p.shares[r.share].frontend, int(p.protocol), r.first, r.count, 0)
		})
	}
	for _, inst := range l.fresh {
		inst.eachRange(func(p *pool, r *ordinals) {
			l.own(p.shares[r.share].frontend, int(p.protocol), r.first, r.count, newOwner(inst.Index, inst.Shard))
		})
	}
	for i, f := range l.Order {
		if f = l.Frontends[f.Index]; l.inForce(f) {
			l.Order[i] = f
			continue
		}
		for p := range f.Owner {
			f.counts[p].Allocated.Store(int64(f.Owner[p].trim()))
		}
		if k, known := l.index[f.Addr]; known && f.Owner.equal(&l.before[k].Owner) {
			f = l.before[k]
			l.Frontends[k], l.byAddr[f.Addr] = f, f
		}
		l.Order[i] = f
	}
}

// FrontendIndex returns the index of the frontend with an address. It is made if
// need be.
func (l *Layout) FrontendIndex(a netip.Addr) uint32 { return l.frontend(a).Index }

// predecessor returns what an instance is until now, or nil if it is new.
func (l *Layout) predecessor(inst *Instance) *Instance {
	if int(inst.Index) < len(l.former) {
		if o := l.former[inst.Index]; o != nil && o.Name == inst.Name {
			return o
		}
	}
	return nil
}
