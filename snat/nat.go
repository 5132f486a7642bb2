package snat

import (
	"cmp"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

var _ flow.Translator = (*NAT)(nil)

// NAT translates the packets of a set of instances. See the package comment for
// the way of a packet. A NAT is safe for concurrent use.
type NAT struct {
	table  *flow.Table
	seeded flow.Hasher // of Config.Seed, for what can be seen; the table's is secret
	routes atomic.Pointer[routes]
	shards []shard

	inventory *inventory // nil if instances own ports; immutable

	// steady is routes, or nil while ports await removal. Whoever holds a lock
	// compares it with the routes that were used to find the lock.
	steady atomic.Pointer[routes]

	// control is held by Reconfigure, and for reading by observers of more than
	// one shard. It is taken before the locks of shards.
	control sync.RWMutex
	order   []*instance // of the configuration; guarded by control

	// Counts of removed instances with a public address, to which packets that
	// need no lock may still be adding. Guarded by control.
	departed []*direct

	// Written with the locks of all shards held, read with any of them.
	config    settings
	instances []*instance // by index; nil where none is

	picky   bool // ports are not just the lowest ones, or not for everybody
	enrolls bool // subscribers have records

	recordAt atomic.Int64 // when deterministic mappings are told next, see parameters.go

	fragments fragmentation
	held      *heldSYNs // nil if none are held

	behaviors [ports.NumPools]behavior // immutable

	lenient Leniency // immutable

	icmp     ICMP         // of every configuration, without RouterAddrs; immutable, as is what follows from it
	messages icmp.Rules   // which are carried; from icmp
	routed   bool         // we are a hop: packets are looked at before and after translation
	router   [2][2]uint64 // ICMP.RouterAddrs by family, as tuples hold them; or zero
	outbox   icmp.Outbox  // what we make ourselves, except resets

	notice flow.Notice // raised by whatever has deadlines; see DeadlineMoved

	closed atomic.Bool

	// Packets that are dropped before a shard is known.
	early [2][flow.NumReasons]atomic.Uint64 // by side they came from

	faults atomic.Uint64
}

// New returns a NAT for a configuration, or an error that names every bad field, or
// says that the system has no memory ([flow.ErrMemory]). It starts no goroutine. Close returns its memory.
func New(config Config) (*NAT, error) {
	c := config.settings()
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := new(NAT)
	table, err := flow.NewTable(flow.Config{Shards: max(cmp.Or(c.Shards, flow.DefaultShards), len(c.policies())), HashKey: c.HashKey, Notice: &n.notice})
	if err != nil {
		return nil, err
	}
	n.table, n.seeded, n.shards = table, flow.NewHasher(c.Seed), make([]shard, table.NumShards())
	n.behave(&c)
	n.lenient = c.Lenient
	n.setICMP(&c.Config)
	for i := range n.shards {
		n.shards[i].init(n, table.Shard(i))
	}
	n.routes.Store(&routes{})
	own := c.clone()
	own.Hooks = n.shielded(own.Hooks)
	n.apply(0, own, false)
	if own.shared != nil {
		n.newInventory(n.routes.Load(), own.shared)
		n.meter(n.routes.Load())
		n.routes.Load().seal()
	}
	n.setFragments(&c.Config)
	n.held = newHeldSYNs(n, c.HoldSYN)
	return n, nil
}

// addInstance builds an instance's state and its routes.
func (l *layout) addInstance(c *Instance, index uint32, shard int) {
	inst := &instance{index: index, shard: shard, realm: c.Realm, name: c.Name, masquerades: len(c.Inside) > 0, direct: new(direct), alarms: new(alarms)}
	r, in := l.routes, l.routes.begin(c.Realm)
	r.instances[index] = inst
	l.order = append(l.order, inst)
	for _, a := range c.Addrs {
		if a.Is4() {
			if inst.addr4 = flow.Addr4(a); c.Realm == 0 {
				r.outside4.Put(inst.addr4, (inst.index|nodeFlag)+1)
			}
		} else {
			if inst.addr6 = flow.Addr6(a); c.Realm == 0 {
				r.outside6.Put(inst.addr6, (inst.index|nodeFlag)+1)
			}
		}
		in.inside(netip.PrefixFrom(a, a.BitLen()), inst)
	}
	inst.publish(r, in, c.PublicAddrs)
	for _, p := range c.Inside {
		in.inside(p, inst)
	}
	for _, rng := range c.Ports {
		f := l.frontend(rng.Frontend)
		for _, proto := range rng.protocols() {
			inst.pools[flow.Family(rng.Frontend)][proto-TCP].grant(inst, f, int(proto-TCP), rng.First, rng.Count)
		}
		if l.queries && rng.Protocol != TCP {
			inst.pools[flow.Family(rng.Frontend)][ports.QueryIndex].grant(inst, f, ports.QueryIndex, rng.First, rng.Count)
		}
	}
	inst.house(l, c.Ports)
	if c.Deterministic != nil {
		inst.deterministic = c.Deterministic
		inst.mapping, _ = deterministic.New(*c.Deterministic) // which has been validated
	}
	for fam := range inst.pools {
		for proto := range inst.pools[fam] {
			p := &inst.pools[fam][proto]
			p.granted = p.end()
		}
	}
}

// frontend returns the frontend with an address. It is made if need be, with the
// counts of the one that is in force.
func (l *layout) frontend(a netip.Addr) *frontend {
	f := l.byAddr[a]
	if f != nil {
		return f
	}
	f = &frontend{addr: a, use: new([ports.NumPools]portCount)}
	if old := l.before[a]; old != nil {
		f.use, f.traffic = old.use, old.traffic
	}
	r := l.routes
	l.byAddr[a] = f
	r.frontends = append(r.frontends, f)
	if a.Is4() {
		f.packed[0] = uint64(flow.Addr4(a))
		r.outside4.Put(uint32(f.packed[0]), uint32(len(r.frontends)))
	} else {
		f.packed = flow.Addr6(a)
		r.outside6.Put(f.packed, uint32(len(r.frontends)))
	}
	return f
}

// inside routes an inside prefix to an instance.
func (r *routes) inside(p netip.Prefix, inst *instance) {
	if p.Addr().Is4() {
		r.inside4.Put(p, r.mark(inst))
	} else {
		r.inside6.Put(p, r.mark(inst))
	}
}

// grant makes the instance the owner of a range of ports, which come after those
// that it has.
func (p *pool) grant(inst *instance, f *frontend, protocol int, first uint16, count int) *ordinals {
	p.protocol = protocol
	p.ranges = append(p.ranges, ordinals{frontend: f, base: p.end(), count: count, first: first})
	if f.owner[protocol] == nil {
		f.owner[protocol] = new(owners)
	}
	for b := range count / BlockSize {
		block := int(first)/BlockSize + b
		f.owner[protocol].shard[block] = uint8(inst.shard + 1)
		f.owner[protocol].instance[block] = inst.index + 1
	}
	return &p.ranges[len(p.ranges)-1]
}

// Close returns the memory of n to the system. It may be called at any time, and
// twice. Afterwards every packet is dropped ([flow.ReasonClosed]), Advance has nothing
// to do, Reconfigure fails ([flow.ErrClosed]), and of what can be observed only the counts of
// Stats are left. No hook is told of the sessions that end so.
func (n *NAT) Close() {
	n.control.Lock()
	n.close()
	n.control.Unlock()
	n.fragments.table.Close()
}

// close puts a configuration without addresses in the place of the present one, and
// forgets all sessions. The caller holds control.
func (n *NAT) close() {
	if n.closed.Swap(true) {
		return
	}
	none := &routes{until: noEnd, policy: prefixes.New(nil)}
	none.seal()
	for i := range n.shards {
		n.shards[i].Lock()
	}
	n.routes.Store(none)
	n.steady.Store(none)
	n.order, n.instances = nil, nil
	n.recordAt.Store(int64(noEnd))
	for i := range n.shards {
		sh := &n.shards[i]
		sh.mem.Release()
		sh.Shard.Close()
		sh.subscribers.idle, sh.sleepers, sh.wakeAt, sh.resets.waiting = nil, nil, noEnd, nil
		sh.remotes, sh.destinations.nodes = nil, 0
		sh.mappings.apart, sh.counters.holds, sh.counters.tombstones = 0, 0, 0
	}
	for i := range n.shards {
		n.shards[i].Unlock()
	}
}

// Outbound translates a packet from the inside; those of realms other than 0 have
// doors of their own, see [NAT.Realm]. pkt starts at the IP header and
// is rewritten in place; bytes behind its IP length are left alone. No
// allocation. Cost: see BenchmarkOutbound in bench; batches are several times faster
// when there are more flows than the caches hold.
func (n *NAT) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	return n.packet(flow.Inside, n.routes.Load(), now, pkt)
}

// Inbound translates a packet from the outside. See Outbound.
func (n *NAT) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	return n.packet(flow.Outside, n.routes.Load(), now, pkt)
}

// packet is the door of one packet from a side, by the routes of its realm.
func (n *NAT) packet(from flow.Side, r *routes, now flow.Time, pkt []byte) (v flow.Verdict) {
	var l lane
	r = n.pass(from, r, now, &l, wire.Parse(pkt, &l.p), &v)
	if n.routed {
		n.hop(r, from, now, pkt, &v)
	}
	return v
}
