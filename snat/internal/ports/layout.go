package ports

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// What a configuration grants before it is in force. rebook.go puts it into force.

// Layout is how a configuration lays ports out, before it is in force.
type Layout struct {
	Frontends []*Frontend // in the order of their first use
	Affected  []bool      // by index of those in force until then: whether its sessions have to be looked at
	Until     flow.Time   // when the first port that awaits removal is gone; Never if none does

	shared    bool        // all instances share the ports, and sessions are in the shards of their remotes
	instances []*Instance // by index; nil where none is
	order     []*Instance // of the configuration
	byAddr    map[netip.Addr]*Frontend

	// What is in force until then.
	before []*Frontend
	former []*Instance // by index

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
	return l.Affected[index] && (l.shared || l.former[index].Shard == shard)
}

// kept returns what an instance is until now, if nothing changes for its sessions, else
// nil.
func (l *Layout) kept(inst *Instance) *Instance {
	if o := l.Predecessor(inst); o != nil && !l.Affected[inst.Index] {
		return o
	}
	return nil
}

// frontend returns the frontend with an address. It is made if need be.
func (l *Layout) frontend(a netip.Addr) *Frontend {
	f := l.byAddr[a]
	if f == nil {
		f = newFrontend(a, len(l.Frontends))
		l.byAddr[a] = f
		l.Frontends = append(l.Frontends, f)
	}
	return f
}

// FrontendIndex returns the position of the frontend with an address among Frontends. It is made if
// need be.
func (l *Layout) FrontendIndex(a netip.Addr) uint32 { return l.frontend(a).index }

// Predecessor returns what an instance is until now, or nil if it is new.
func (l *Layout) Predecessor(inst *Instance) *Instance {
	if int(inst.Index) < len(l.former) {
		if o := l.former[inst.Index]; o != nil && o.Name == inst.Name {
			return o
		}
	}
	return nil
}
