package snat

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/heldsyn"
	"github.com/seed-a61be3fe/natplane/snat/internal/hop"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
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
	n.lenient = headers.Leniency(c.Lenient)
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
		r.locates = true
		r.meter(&routes{}, n.config.CountTraffic, len(n.shards))
		r.seal()
	}
	return n, nil
}

// setFragments prepares for fragments, those that come and those that an MTU makes.
func (n *NAT) setFragments(c *Config) {
	f := &n.fragments
	if c.Fragments.Mode == FragmentsDropped && c.ICMP.MTU == 0 {
		return
	}
	f.ids = fragments.NewIDs(c.Seed)
	if c.Fragments.Mode == FragmentsDropped {
		return
	}
	limits := c.Fragments.filled()
	f.udpOnly = limits.Mode == FragmentsUDP
	f.table = fragments.New(fragments.Config{
		Limits: fragments.Limits{
			Lifetime: flow.Time(limits.Lifetime), MaxDatagrams: limits.MaxDatagrams, MaxPerSource: limits.MaxPerSource,
			MaxPerDatagram: limits.MaxPerDatagram, MaxQueuedBytes: limits.MaxQueuedBytes,
		},
		Hasher: n.table.Hasher(), IDs: f.ids, Recall: n.messages.Errors, Notice: &n.notice,
		Dropped: func(from flow.Side, reason flow.Reason, count int) { n.dropFragments(from, reason, count) },
		Carried: n.countFragment,
	})
}

// holdSYNs makes the table of held SYNs, if any are to be held.
func (n *NAT) holdSYNs(h HoldSYN) {
	if h.Max > 0 {
		n.held = heldsyn.New(h.Max, cmp.Or(h.Wait, minHoldSYN), &n.outbox, &n.notice)
	}
}

// setICMP prepares the making of errors, which never changes. It comes after held SYNs and the identifications of fragments.
func (n *NAT) setICMP(config *Config) {
	c := &config.ICMP
	n.routed = c.TTL != TTLTransparent || c.MTU > 0 || c.Problems || c.ProtocolUnreachable || fragmentsQuoted(config)
	silent := [2]bool{flow.Inside: c.SilentInside, flow.Outside: c.SilentOutside}
	n.outbox.Init(&n.notice, silent, cmp.Or(c.ErrorRate, defaultErrorRate), cmp.Or(c.ErrorBurst, defaultErrorRate))
	n.router.Init(hop.Config{
		CountsDown: c.TTL == TTLRouter, MTU: c.MTU, Problems: c.Problems, ProtocolUnreachable: c.ProtocolUnreachable,
		Refusal: [numRefusals]*icmp.Report{RefuseHostUnreachable: &icmp.HostUnreachable, RefuseProhibited: &icmp.Prohibited}[c.Refusals],
	}, &n.outbox, n.held, n.fragments.ids)
	for _, a := range c.RouterAddrs {
		n.routerAddrs[flow.Family(a)] = ports.Packed(a)
	}
}

// fragmentsQuoted reports whether quotes of fragments can be translated.
func fragmentsQuoted(c *Config) bool { return c.ICMP.Errors && c.Fragments.Mode != FragmentsDropped }

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
	none := &routes{until: ports.Never, Plan: addresses.Plan{Destinations: addresses.NewDestinations(nil)}}
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
