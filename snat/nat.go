package snat

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

var _ flow.Translator = (*NAT)(nil)

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
	n.messages = c.ICMP.rules()
	n.setFragments(&c.Config)
	n.holdSYNs(c.HoldSYN)
	n.setICMP(&c.Config)
	for i := range n.shards {
		n.shards[i].init(n, i)
	}
	n.routes.Store(&routes{})
	own := c.clone()
	own.Hooks = n.shielded(own.Hooks)
	n.apply(0, own, false)
	if own.shared != nil {
		n.ports.Share(own.shared.compiled(n.messages.Queries))
		r := n.routes.Load()
		r.setFrontends(n.ports.Frontends())
		n.meter(r, &routes{})
		r.seal()
	}
	return n, nil
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
		sh.resets.Close()
		sh.counters.holds, sh.counters.tombstones = 0, 0
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
