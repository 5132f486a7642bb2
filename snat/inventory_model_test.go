package snat_test

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The model with a shared inventory. Which port a flow gets is random, so here
// the translator goes first, and the model says whether it may have that one.

// assignShared gives a new flow the port that the translator has chosen, if it
// is one of those that it may choose.
func (m *model) assignShared(f *modelFlow) flow.Reason {
	inv := sharedOf(m.config)
	free, legal, reason := m.candidates(f)
	if reason != flow.ReasonNone {
		return reason
	}
	f.outside = m.chosen
	want := legal
	if inv.Choice == snat.RandomPort && len(free) > 0 {
		want = free
	}
	if !slices.Contains(want, m.chosen) {
		f.outside = want[0] // which the packet contradicts
	}
	m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool {
		return g.tombstone() && g.proto == f.proto && g.outside == f.outside && g.remote == f.remote
	})
	return flow.ReasonNone
}

// candidates returns the ports that have no flow at all, and those that have
// none to the destination of f, or why there are none of these.
func (m *model) candidates(f *modelFlow) (free, legal []netip.AddrPort, reason flow.Reason) {
	inv := sharedOf(m.config)
	perDestination, total := cmp.Or(inv.FlowsPerDestination, 50_000), cmp.Or(inv.MaxFlows, 2_000_000)
	active := 0
	for _, g := range m.flows {
		if !g.atNode && !g.tombstone() && !g.held() {
			active++
		}
	}
	reason = flow.ReasonNoOutbound
	for _, a := range inv.Frontends {
		if a.Is6() != f.remote.Addr().Is6() {
			continue
		}
		if reason == flow.ReasonNoOutbound {
			reason = flow.ReasonPorts
		}
		lo, hi := int(inv.FirstPort), int(inv.LastPort)
		if own := int(f.inside.Port()); inv.Choice == snat.PreservePort {
			f.outside = netip.AddrPortFrom(a, f.inside.Port())
			switch _, toRemote := m.shared(f); {
			case own >= lo && own <= hi && toRemote == 0:
				lo, hi = own, own
			case own < 512:
				hi = min(hi, 511)
			case own < 1024:
				lo, hi = max(lo, 600), min(hi, 1023)
			default:
				lo = max(lo, 1024)
			}
		}
		flows := 0
		var freeHere, legalHere []netip.AddrPort
		for port := int(inv.FirstPort); port <= int(inv.LastPort); port++ {
			f.outside = netip.AddrPortFrom(a, uint16(port))
			all, toRemote := m.shared(f)
			flows += toRemote
			if port < lo || port > hi {
				continue
			}
			if all == 0 {
				freeHere = append(freeHere, f.outside)
			}
			if toRemote == 0 {
				legalHere = append(legalHere, f.outside)
			}
		}
		if flows < perDestination {
			free, legal = append(free, freeHere...), append(legal, legalHere...)
		} else if len(legalHere) > 0 || inv.Choice == snat.PreservePort {
			reason = flow.ReasonDestinationLimit
		}
	}
	switch {
	case reason == flow.ReasonNoOutbound:
		return nil, nil, reason
	case active >= total:
		return nil, nil, flow.ReasonFlowLimit
	case len(legal) == 0:
		return nil, nil, reason
	}
	return free, legal, flow.ReasonNone
}

// shared counts the flows on f's port, and those of them to f's remote.
func (m *model) shared(f *modelFlow) (all, toRemote int) {
	for _, g := range m.flows {
		if !g.tombstone() && !g.atNode && g.proto == f.proto && g.outside == f.outside {
			all++
			if g.remote == f.remote {
				toRemote++
			}
		}
	}
	return all, toRemote
}

// packetShared sends a packet through all subjects, which must do the same, and
// then shows the model what they did.
func (r *runner) packetShared(from flow.Side, p packet) {
	var first []byte
	var verdicts [1]flow.Verdict
	for i, x := range r.subjects {
		b := p.bytes()
		if x.eager {
			x.nat.Advance(r.now, func(e flow.Emission) {
				x.early = append(x.early, emission{e.At, e.To, e.Instance, string(e.Packet)})
			})
		}
		switch {
		case x.batched && from == flow.Inside:
			x.nat.OutboundBatch(r.now, [][]byte{b}, verdicts[:])
		case x.batched:
			x.nat.InboundBatch(r.now, [][]byte{b}, verdicts[:])
		case from == flow.Inside:
			verdicts[0] = x.nat.Outbound(r.now, b)
		default:
			verdicts[0] = x.nat.Inbound(r.now, b)
		}
		if i == 0 {
			first = b
			var want expectation
			want.sent = p
			if from == flow.Inside {
				if verdicts[0].Action == flow.Forward {
					r.model.chosen = netip.MustParseAddrPort(source(pkttest.String(b)))
				}
				if want.verdict, want.translated = r.model.outbound(r.now, p); want.verdict.New {
					r.past = append(r.past, r.model.flows[len(r.model.flows)-1])
				}
			} else {
				want.verdict, want.translated = r.model.inbound(r.now, p)
			}
			r.compare(x, verdicts[0], b, want)
		} else if len(pkttest.Diff(first, b)) > 0 {
			r.t.Errorf("%s: %v became %s, with %s %s", x.name, p, pkttest.String(b), r.subjects[0].name, pkttest.String(first))
		}
		x.nat.Check()
		if r.op%16 == 0 {
			requireHolders(r.t, x.nat, r.now, true)
		}
		r.counters(x, false)
	}
}

// stateShared compares the use of the inventory; nothing may be due.
func (r *runner) stateShared(x *subject) {
	inv := sharedOf(r.model.config)
	stats := x.nat.SharedPorts()
	if len(stats) != 2*len(inv.Frontends) {
		r.t.Fatalf("%s: %d rows of %d frontends", x.name, len(stats), len(inv.Frontends))
	}
	for i, got := range stats {
		want := snat.SharedPortStats{
			Frontend: inv.Frontends[i/2], Protocol: snat.TCP + snat.Protocol(i%2),
			Allocated: int(inv.LastPort) - int(inv.FirstPort) + 1, Peak: got.Peak,
		}
		for port := inv.FirstPort; port <= inv.LastPort; port++ {
			want.PortUses = want.Add(r.model.useOf(netip.AddrPortFrom(want.Frontend, port), []uint8{protoTCP, protoUDP}[i%2]))
		}
		want.Used = want.Total()
		want.Free = want.Allocated - want.Used
		if got != want || got.Peak < got.Used {
			r.t.Errorf("%s: inventory\n got %+v\nwant %+v", x.name, got, want)
		}
	}
	created, failed := uint64(0), uint64(0)
	for i, got := range x.nat.Instances() {
		if want := r.model.inst[i]; got.Created != want.Created || got.Failed != want.Failed || len(got.Pools) > 0 {
			r.t.Errorf("%s: instance %+v, want %+v", x.name, got, want)
		}
		created, failed = created+got.Created, failed+got.Failed
	}
}

// buildShared reads the beginning of a script: instances that share one to three
// frontends of a few ports.
func (s *script) buildShared() (w *scenery) {
	w = s.build()
	c := &w.config
	inv := &snat.Shared{FirstPort: 1018, Choice: pick(s, snat.RandomPort, snat.RandomPort, snat.PreservePort)}
	inv.LastPort = inv.FirstPort + uint16(pick(s, 0, 1, 3, 11, 39))
	inv.Frontends = append(inv.Frontends, addr("203.0.113.10"))
	if s.next(2) > 0 {
		inv.Frontends = append(inv.Frontends, addr("2001:db8:f::10"))
	}
	if inv.Choice == snat.RandomPort && s.next(2) > 0 {
		inv.Frontends = append(inv.Frontends, addr("203.0.113.11"))
	}
	inv.FlowsPerDestination, inv.MaxFlows = pick(s, 0, 0, 3), pick(s, 0, 0, 12)
	for i := range c.Instances {
		c.Instances[i].Ports, c.Instances[i].Policy = nil, nil
	}
	c.Ports = inv
	c.ResetUnknown = pick(s, snat.ResetNone, snat.ResetInside, snat.ResetSender)
	c.EndRefused = s.next(2) == 0
	c.UDPRefresh = pick(s, snat.RefreshEither, snat.RefreshPerDirection)
	c.Timeouts.UDPHeld = pick(s, 0, 2*time.Second)
	return w
}

// runShared plays a script on the model and on translators with packets and with
// batches, with one shard and with many, advanced seldom and always, which must agree
// in every byte.
func (s *script) runShared(t testing.TB) *model {
	w := s.buildShared()
	r := &runner{t: t, model: newModel(w.config), world: w}
	for _, c := range []struct {
		name                  string
		shards                int
		batched, steps, eager bool
	}{
		{"packets", 1, false, false, false}, {"batches, 2 shards", 2, true, true, false}, {"packets, 8 shards", 8, false, true, false},
		{"packets, advanced", 1, false, false, true}, {"batches, 8 shards, advanced", 8, true, false, true},
	} {
		w.config.Shards = c.shards
		w.config.CountHolders = snat.CountHolders{On: true, Limit: 64 * (w.config.Shards & 1)}
		n, err := snat.New(w.config)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		r.subjects = append(r.subjects, &subject{name: c.name, nat: n, batched: c.batched, steps: c.steps, eager: c.eager})
	}
	r.play(s)
	return r.model
}

// An inventory does what its model allows, whatever the script.
func TestInventoryAgainstModel(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	scripts, length := pkttest.Operations(40, 80, 1000), 2000
	seen := map[string]uint64{}
	for seed := range uint64(scripts) {
		s := &script{randomScript(seed+1<<32, length)}
		m := s.runShared(t)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		seen["new flows"] += m.stats.SessionsCreated
		seen["resets"] += m.stats.Resets
		for reason := range flow.Reasons() {
			seen["out "+reason.String()] += m.stats.Outbound.Drops[reason]
			seen["in "+reason.String()] += m.stats.Inbound.Drops[reason]
		}
		for class, n := range m.stats.Expired {
			seen["expired "+flow.Class(class).String()] += n
		}
	}
	for _, what := range []string{
		"new flows", "resets", "out ports", "out destination_limit", "out flow_limit", "out no_outbound", "out no_flow",
		"in no_flow", "expired tcp-opening", "expired tcp-established", "expired tcp-time-wait", "expired tcp-reset",
		"expired udp", "expired udp-replied",
	} {
		if seen[what] == 0 {
			t.Errorf("no script reached: %s", what)
		}
	}
}

// FuzzInventory looks for a script on which an inventory does what its model does
// not allow.
func FuzzInventory(f *testing.F) {
	fuzzScripts(f, 150, func(t *testing.T, s *script) { s.runShared(t) })
}
