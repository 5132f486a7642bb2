package ports

import (
	"net/netip"

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
	return (l.shared || old.Shard == shard) && !l.GoesOn(old)
}

// frontend returns the frontend with an address. It is made if need be, at the index that it
// has, or one that is not in use.
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
	f = newFrontend(a, int(at))
	l.byAddr[a], l.Frontends[at] = f, f
	l.Order = append(l.Order, f)
	return f
}

// FrontendIndex returns the index of the frontend with an address. It is made if
// need be.
func (l *Layout) FrontendIndex(a netip.Addr) uint32 { return l.frontend(a).Index }

// Predecessor returns what an instance is until now, or nil if it is new.
func (l *Layout) Predecessor(inst *Instance) *Instance {
	if int(inst.Index) < len(l.former) {
		if o := l.former[inst.Index]; o != nil && o.Name == inst.Name {
			return o
		}
	}
	return nil
}
