package snat

import (
	"cmp"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

var _ flow.Translator = (*NAT)(nil)

// NAT translates the packets of a set of instances. See the package comment for
// the way of a packet. A NAT is safe for concurrent use.
type NAT struct {
	table  *flow.Table
	seeded flow.Hasher // of Dataplane.Seed, for what can be seen; the table's is secret
	routes atomic.Pointer[routes]
	shards []shard

	ports *ports.Space // who has which port

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

	recordAt atomic.Int64 // when deterministic mappings are told next, see parameters.go

	fragments fragmentation
	held      *heldSYNs // nil if none are held

	lenient       Leniency // immutable
	perConnection bool     // only the inside may open a closed connection again: TCP's filter; immutable

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
	n.ports = ports.NewSpace(len(n.shards), table.Hasher(), c.Seed, &n.notice)
	n.lenient = c.Lenient
	n.perConnection = c.TCP.Filtering == PerConnectionFiltering
	n.setICMP(&c.Config)
	for i := range n.shards {
		n.shards[i].init(n, i)
	}
	n.routes.Store(&routes{})
	own := c.clone()
	own.Hooks = n.shielded(own.Hooks)
	n.apply(0, own, false)
	if own.shared != nil {
		n.ports.Share(own.shared.compiled(n.icmp.Queries))
		r := n.routes.Load()
		r.setFrontends(n.ports.Frontends())
		n.meter(r, &routes{})
		r.seal()
	}
	n.setFragments(&c.Config)
	n.held = newHeldSYNs(n, c.HoldSYN)
	return n, nil
}

// addInstance builds an instance's state and its routes.
func (l *layout) addInstance(c *Instance, index uint32, shard int) {
	inst := &instance{direct: new(direct), alarms: new(alarms)}
	inst.Index, inst.Shard, inst.Realm, inst.Name, inst.Masquerades = index, shard, c.Realm, c.Name, len(c.Inside) > 0
	r, in := l.routes, l.routes.begin(c.Realm)
	r.instances[index] = inst
	l.order = append(l.order, inst)
	l.ports.Add(&inst.Instance)
	for _, a := range c.Addrs {
		if a.Is4() {
			if inst.Addr4 = flow.Addr4(a); c.Realm == 0 {
				r.outside4.Put(inst.Addr4, (inst.Index|nodeFlag)+1)
			}
		} else {
			if inst.Addr6 = flow.Addr6(a); c.Realm == 0 {
				r.outside6.Put(inst.Addr6, (inst.Index|nodeFlag)+1)
			}
		}
		in.inside(netip.PrefixFrom(a, a.BitLen()), inst)
	}
	inst.publish(r, in, c.PublicAddrs)
	for _, p := range c.Inside {
		in.inside(p, inst)
	}
	for _, rng := range c.Ports {
		for _, proto := range rng.protocols() {
			l.ports.Grant(&inst.Instance, rng.Frontend, int(proto-TCP), rng.First, rng.Count)
		}
		if l.queries && rng.Protocol != TCP {
			l.ports.Grant(&inst.Instance, rng.Frontend, ports.QueryIndex, rng.First, rng.Count)
		}
	}
	if c.Deterministic != nil {
		inst.Fix(c.Deterministic)
	}
}

// inside routes an inside prefix to an instance.
func (r *routes) inside(p netip.Prefix, inst *instance) {
	if p.Addr().Is4() {
		r.inside4.Put(p, r.mark(inst))
	} else {
		r.inside6.Put(p, r.mark(inst))
	}
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
	none := &routes{until: ports.Never, table: prefixes.New(nil)}
	none.seal()
	for i := range n.shards {
		n.shards[i].Lock()
	}
	n.routes.Store(none)
	n.steady.Store(none)
	n.order, n.instances = nil, nil
	n.ports.Close()
	n.recordAt.Store(int64(ports.Never))
	for i := range n.shards {
		sh := &n.shards[i]
		sh.mem.Release()
		sh.Shard.Close()
		sh.State.Close()
		sh.resets.waiting, sh.counters.holds, sh.counters.tombstones = nil, 0, 0
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
func (n *NAT) Outbound(now flow.Time, pkt []byte) (v flow.Verdict) {
	var l lane
	r := n.pass(flow.Inside, n.routes.Load(), now, &l, wire.Parse(pkt, &l.p), &v)
	if n.routed {
		n.hop(r, flow.Inside, now, pkt, &v)
	}
	return v
}

// Inbound translates a packet from the outside. See Outbound.
func (n *NAT) Inbound(now flow.Time, pkt []byte) (v flow.Verdict) {
	var l lane
	r := n.pass(flow.Outside, n.routes.Load(), now, &l, wire.Parse(pkt, &l.p), &v)
	if n.routed {
		n.hop(r, flow.Outside, now, pkt, &v)
	}
	return v
}
