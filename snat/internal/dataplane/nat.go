package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/heldsyn"
	"github.com/seed-a61be3fe/natplane/snat/internal/permits"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Init makes n, which is zero, a translator, or fails if the system has no memory
// ([flow.ErrMemory]).
func (n *NAT) Init(f compiled.Fixed, c compiled.Config) error {
	if err := n.prepare(&f); err != nil {
		return err
	}
	n.apply(0, c, false, false)
	n.share(&f)
	return nil
}

// prepare does what comes before the first configuration.
func (n *NAT) prepare(f *compiled.Fixed) error {
	table, err := flow.NewTable(flow.Config{Shards: f.Shards, HashKey: f.HashKey, Notice: &n.notice})
	if err != nil {
		return err
	}
	n.table, n.seeded, n.shards = table, flow.NewHasher(f.Seed), make([]*shard, table.NumShards())
	n.ports = ports.NewSpace(len(n.shards), table.Hasher(), f.Seed, &n.notice)
	n.ports.CountHolders(f.Holders)
	n.permits.Key = table.Hasher().Hash(&flow.Key{})
	n.lenient, n.perConnection, n.hairpins = f.Lenient, f.PerConnection, f.Hairpin
	n.messages, n.shared, n.alarmInterval = f.Messages, f.Messages.Public(f.PublicICMP), f.AlarmInterval
	n.setFragments(f)
	if f.MaxSYNs > 0 {
		n.held = heldsyn.New(f.MaxSYNs, f.HoldSYN, &n.outbox, &n.notice)
	}
	n.setErrors(f)
	n.routes.Store(&routes{})
	n.made.Store(new([]*shard))
	if f.Shared != nil {
		n.makeShards(everyShard) // they own remotes
	}
	return nil
}

// share makes the ports those that all instances share, if they do.
func (n *NAT) share(f *compiled.Fixed) {
	if f.Shared != nil {
		n.ports.Share(*f.Shared)
		r := n.routes.Load()
		r.SetFrontends(n.ports.Frontends())
		r.Locates = true
		r.Meter(&routes{}, n.config.CountTraffic, len(n.shards))
		r.Seal()
	}
}

// setFragments prepares for fragments, those that come and those that an MTU makes.
func (n *NAT) setFragments(c *compiled.Fixed) {
	f := &n.fragments
	if !c.Fragments.Carried && c.Hop.MTU == 0 {
		return
	}
	f.ids = fragments.NewIDs(c.Seed)
	if !c.Fragments.Carried {
		return
	}
	f.udpOnly, f.forwardedOnly = c.Fragments.UDPOnly, c.Fragments.ForwardedOnly
	ties := n.pieceTies()
	ties.Limits, ties.Recall = c.Fragments.Limits, n.shared.Errors
	f.table = fragments.New(ties)
}

// pieceTies returns what ties the table of datagrams in pieces to n.
func (n *NAT) pieceTies() fragments.Config {
	return fragments.Config{
		Hasher: n.table.Hasher(), IDs: n.fragments.ids, Notice: &n.notice,
		Dropped: func(from flow.Side, reason flow.Reason, count int) { n.dropFragments(from, reason, count) },
		Carried: n.countFragment,
	}
}

// setErrors prepares the making of errors. It comes after held SYNs and the
// identifications of fragments.
func (n *NAT) setErrors(c *compiled.Fixed) {
	n.routed, n.routerAddrs = c.Routed, c.RouterAddrs
	n.outbox.Init(&n.notice, c.Silent, c.ErrorRate, c.ErrorBurst)
	n.router.Init(c.Hop, &n.outbox, n.held, n.fragments.ids)
}

// Close returns the memory of n to the system. It may be called at any time, and
// twice. Afterwards every packet is dropped ([flow.ReasonClosed]), Advance has nothing
// to do, and of what can be observed only counts are left. No hook is told of the
// sessions that end so.
func (n *NAT) Close() {
	n.changing.Lock()
	n.control.Lock()
	n.close()
	n.control.Unlock()
	n.changing.Unlock()
	n.fragments.table.Close()
}

// Closed reports whether n is closed.
func (n *NAT) Closed() bool { return n.closed.Load() }

// close puts a configuration without addresses in the place of the present one, and
// forgets all sessions. The caller holds changing and control.
func (n *NAT) close() {
	if n.closed.Swap(true) {
		return
	}
	none := &routes{Until: ports.Never, Plan: addresses.Plan{Destinations: addresses.NewDestinations(nil)}}
	none.Seal()
	for _, sh := range n.all() {
		sh.Lock()
	}
	n.routes.Store(none)
	n.steady.Store(none)
	n.order, n.instances = nil, nil
	n.ports.Close()
	n.records.Stop()
	for _, sh := range n.all() {
		sh.mem.Release()
		sh.Shard.Close()
		sh.State.Close()
		sh.resets.Close()
		sh.counters.Holds, sh.counters.Tombstones = 0, 0
	}
	n.permits.Revoke(func(*permits.Flow) bool { return true })
	for _, sh := range n.all() {
		sh.Unlock()
	}
}

// Outbound translates a packet from the inside, of realm 0. pkt starts at the IP header
// and is rewritten in place.
func (n *NAT) Outbound(now flow.Time, pkt []byte) (v flow.Verdict) {
	var l lane
	r := n.pass(flow.Inside, n.routes.Load(), now, &l, wire.Parse(pkt, &l.p), &v)
	if n.routed {
		n.hop(r, flow.Inside, now, pkt, &v)
	}
	return v
}

// OutboundOf is Outbound for a packet from any realm.
func (n *NAT) OutboundOf(realm uint32, now flow.Time, pkt []byte) (v flow.Verdict) {
	var l lane
	r := n.pass(flow.Inside, n.routes.Load().Realm(realm), now, &l, wire.Parse(pkt, &l.p), &v)
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
