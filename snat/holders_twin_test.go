package snat_test

// Who holds ports, against a walk over all sessions.

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// heldBy is a row without what it counts.
type heldBy struct {
	instance string
	inside   netip.Addr
	remote   netip.AddrPort
	protocol snat.Protocol
}

// walkHolders recounts the rows that hold ports.
func walkHolders(n *snat.NAT, by snat.HoldersBy) map[heldBy]snat.PortUses {
	names, rows := map[uint32]string{}, map[heldBy]snat.PortUses{}
	for i, inst := range n.Instances() {
		names[uint32(i)] = inst.Name
	}
	for s := range n.Sessions() {
		if s.Class == flow.ClassTCPResetSent || !s.Kind.HoldsPort() {
			continue
		}
		k := heldBy{instance: names[s.VNI]}
		if by == snat.HoldersByInside || by == snat.HoldersByInsideDestination {
			k.inside = s.Inside.Addr()
		}
		if by >= snat.HoldersByDestination {
			k.remote, k.protocol = s.Remote, cmp.Or(snat.ProtocolOf(s.Proto), snat.Query)
		}
		if by == snat.HoldersByDestination {
			k.instance = ""
		}
		u := rows[k]
		switch s.Class {
		case flow.ClassTCPClosing, flow.ClassTCPTimeWait:
			u.HeldFIN++
		case flow.ClassTCPReset:
			u.HeldRST++
		case flow.ClassUDPHeld:
			u.HeldUDP++
		default:
			u.Active++
		}
		rows[k] = u
	}
	return rows
}

// requireHolders compares what is counted with a walk.
func requireHolders(t testing.TB, n *snat.NAT, now flow.Time, shared bool) {
	t.Helper()
	for _, by := range []snat.HoldersBy{
		snat.HoldersByInstance, snat.HoldersByInside, snat.HoldersByDestination, snat.HoldersByInstanceDestination, snat.HoldersByInsideDestination,
	} {
		walked, want, all := walkHolders(n, by), map[heldBy]snat.PortUses{}, 0
		for k, u := range walked {
			all += u.Total()
			if shared && by == snat.HoldersByInstanceDestination {
				k.instance = ""
			}
			want[k] = want[k].Add(u)
		}
		h := n.Holders(now, by)
		uncounted, seen := 0, map[heldBy]bool{}
		if by >= snat.HoldersByDestination {
			uncounted = h.Uncounted
		}
		for _, r := range h.Rows {
			k := heldBy{r.Instance, r.Inside, r.Remote, r.Protocol}
			require.False(t, seen[k], "two rows of %v", k)
			seen[k] = true
			require.Equal(t, r.Ports, r.PortUses.Total())
			switch u := want[k]; {
			case uncounted == 0:
				require.Equal(t, u, r.PortUses, "by %d %v", by, k)
			default:
				require.LessOrEqual(t, r.Ports, u.Total(), "by %d %v", by, k)
			}
			all -= r.Ports
		}
		for k, u := range want {
			require.True(t, seen[k] || uncounted >= u.Total(), "by %d %v holds %v and has no row", by, k, u)
		}
		require.Equal(t, uncounted, all, "by %d", by)
	}
}

// holdersWorld drives packets through a NAT whose holders are counted.
type holdersWorld struct {
	*snat.NAT
	t      *testing.T
	rng    *rand.Rand
	now    flow.Time
	shared bool
	window time.Duration

	instances                 []snat.Instance
	created, suffered, blamed map[netip.Addr]uint64
	begun                     map[netip.Addr][]flow.Time
	seen                      map[string]int
}

// reconfigured notes the instances that there are now. Of one that is gone nothing is known any more.
func (w *holdersWorld) reconfigured(all []snat.Instance) {
	for i, was := range w.instances {
		if i < len(all) && all[i].Name == was.Name {
			continue
		}
		gone := func(a netip.Addr) bool { return was.Inside[0].Contains(a) || was.Inside[1].Contains(a) }
		for _, m := range []map[netip.Addr]uint64{w.created, w.suffered, w.blamed} {
			maps.DeleteFunc(m, func(a netip.Addr, _ uint64) bool { return gone(a) })
		}
		maps.DeleteFunc(w.begun, func(a netip.Addr, _ []flow.Time) bool { return gone(a) })
		w.seen["removed"]++
	}
	w.instances = all
}

func holdersConfig(rng *rand.Rand, shared bool) snat.Config {
	c := snat.Config{
		Policy: snat.Policy{EnableTCPReset: rng.IntN(2) == 0, Timeouts: flow.Timeouts{TCPEstablished: 4 * time.Minute, UDP: time.Minute}},
		Dataplane: snat.Dataplane{
			Shards: 2 + rng.IntN(3), Seed: rng.Uint64(), ReclaimGrace: time.Duration(rng.IntN(2)) * time.Minute,
			CountHolders: snat.CountHolders{On: true, Window: 30 * time.Second},
		},
	}
	if shared {
		c.Ports = &snat.Shared{Frontends: []netip.Addr{addr("203.0.113.9")}, FirstPort: 65528}
	}
	return c
}

func holdersInstances(rng *rand.Rand, shared bool) (all []snat.Instance) {
	for i := range 3 + rng.IntN(2) {
		inst := snat.Instance{
			Name: fmt.Sprint("node-", i), Addrs: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.0.%d.4", i)), netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::4", i))},
			Inside: prefixes(fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:%d::/64", i)),
		}
		if i == 3 && rng.IntN(2) == 0 {
			inst.Name = "late" // at the index of node-3, if that has been there
		}
		if !shared && rng.IntN(2) == 0 { // another policy is in another shard
			inst.Policy = &snat.Policy{Timeouts: flow.Timeouts{TCPEstablished: 5 * time.Minute, UDP: time.Minute}}
		}
		if !shared {
			inst.Ports = []snat.PortRange{
				{Frontend: addr("203.0.113.9"), First: uint16(1024 + 64*i), Count: 8 + 8*rng.IntN(2)},
				{Frontend: addr("2001:db8:ffff::9"), First: uint16(1024 + 64*i), Count: 8},
			}
		}
		all = append(all, inst)
	}
	return all
}

// refusedFor are the reasons for which a flow got no port.
func refusedFor(r flow.Reason) bool {
	switch r {
	case flow.ReasonPorts, flow.ReasonNoOutbound, flow.ReasonFlowLimit, flow.ReasonQuota, flow.ReasonSessionCap, flow.ReasonRate, flow.ReasonSubscribers, flow.ReasonMemory:
		return true
	}
	return false
}

// culprit returns whom a walk blames for a refusal; the zero Addr is nobody.
func (w *holdersWorld) culprit(instance string, remote netip.AddrPort, protocol snat.Protocol) (who netip.Addr) {
	for _, towards := range []bool{true, false} {
		held := map[netip.Addr]int{}
		for k, u := range walkHolders(w.NAT, snat.HoldersByInsideDestination) {
			of := k.instance == instance && k.protocol == protocol && k.inside.Is4() == remote.Addr().Is4()
			if towards && k.remote == remote && k.protocol == protocol && (of || w.shared) || !towards && of && !w.shared {
				held[k.inside] += u.Total()
			}
		}
		most := 0
		for _, a := range slices.SortedFunc(maps.Keys(held), netip.Addr.Compare) {
			if held[a] > most {
				most, who = held[a], a
			}
		}
		if who.IsValid() {
			return who
		}
	}
	return who
}

// send sends the first packet of a flow of a pod.
func (w *holdersWorld) send(node int, v6 bool) {
	inside, remote := netip.MustParseAddr(fmt.Sprintf("10.244.%d.%d", node, 1+w.rng.IntN(3))), netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", 1+w.rng.IntN(2)))
	if v6 {
		inside, remote = netip.MustParseAddr(fmt.Sprintf("fd00:%d::%d", node, 1+w.rng.IntN(3))), netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%d", 1+w.rng.IntN(2)))
	}
	to := netip.AddrPortFrom(remote, uint16(80+w.rng.IntN(2)))
	from := netip.AddrPortFrom(inside, uint16(40000+w.rng.IntN(400)))
	protocol, pkt := snat.TCP, pkttest.TCP(from.String(), to.String(), pkttest.SYN, pkttest.Seq(w.rng.Uint32()))
	if w.rng.IntN(4) == 0 {
		protocol, pkt = snat.UDP, pkttest.UDP(from.String(), to.String(), "query")
	}
	culprit := w.culprit(w.instances[node].Name, to, protocol)
	switch v := w.Outbound(w.now, pkt); {
	case v.New:
		w.created[inside]++
		w.begun[inside] = append(w.begun[inside], w.now)
		w.seen["created"]++
	case v.Action == flow.Drop && refusedFor(v.Reason):
		w.suffered[inside]++
		w.seen["refused"]++
		if v.Reason == flow.ReasonNoOutbound {
			culprit = netip.Addr{}
		}
		if culprit.IsValid() {
			w.blamed[culprit]++
		}
		if culprit.IsValid() && culprit != inside {
			w.seen["another's doing"]++
		}
	}
}

// follow sends another packet of a session: an answer, a FIN or a RST.
func (w *holdersWorld) follow() {
	all := slices.Collect(w.Sessions())
	if len(all) == 0 {
		return
	}
	s := all[w.rng.IntN(len(all))]
	if s.Proto != 6 {
		return
	}
	flags := []string{"SA", "A", "FA", "R", "FA", "RA"}[w.rng.IntN(6)]
	if w.rng.IntN(2) == 0 {
		w.Inbound(w.now, pkttest.TCP(s.Remote.String(), s.Outside.String(), pkttest.TCPFlags(flags), pkttest.Seq(5000)))
	} else {
		w.Outbound(w.now, pkttest.TCP(s.Inside.String(), s.Remote.String(), pkttest.TCPFlags(flags), pkttest.Seq(1000)))
	}
	w.seen[flags]++
}

// check compares all rows with the walk and with what was sent.
func (w *holdersWorld) check() {
	requireHolders(w.t, w.NAT, w.now, w.shared)
	since := max(0, w.now-w.now%flow.Time(w.window)-flow.Time(w.window))
	created, suffered, blamed := map[netip.Addr]uint64{}, map[netip.Addr]uint64{}, map[netip.Addr]uint64{}
	for _, r := range w.Holders(w.now, snat.HoldersByInside).Rows {
		created[r.Inside], suffered[r.Inside], blamed[r.Inside] = r.Created, r.Suffered, r.Blamed
		recent := 0
		for _, at := range w.begun[r.Inside] {
			if at >= since {
				recent++
			}
		}
		rate := 0.0
		if span := w.now.Sub(since).Seconds(); span > 0 {
			rate = float64(recent) / span
		}
		require.InDelta(w.t, rate, r.PerSecond, 1e-9, "%v", r.Inside)
	}
	for what, m := range map[string]struct{ want, got map[netip.Addr]uint64 }{
		"created": {w.created, created}, "suffered": {w.suffered, suffered}, "blamed": {w.blamed, blamed},
	} {
		for _, all := range []map[netip.Addr]uint64{m.want, m.got} {
			for a := range all {
				require.Equal(w.t, m.want[a], m.got[a], "%s: %v", what, a)
			}
		}
	}
}

// Whatever happens, what is counted is what a walk over the sessions finds, and refusals count for
// who holds most at that moment.
func TestHoldersAgainstWalk(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(pkttest.Operations(6, 12, 120)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		shared := seed%3 == 2
		c := holdersConfig(rng, shared)
		c.Instances = holdersInstances(rng, shared)
		n, err := snat.New(c)
		require.NoError(t, err)
		inForce := c
		w := &holdersWorld{
			NAT: n, t: t, rng: rng, shared: shared, window: c.CountHolders.Window, created: map[netip.Addr]uint64{},
			suffered: map[netip.Addr]uint64{}, blamed: map[netip.Addr]uint64{}, begun: map[netip.Addr][]flow.Time{}, seen: seen,
			instances: c.Instances,
		}
		for step := range 1200 {
			w.now = w.now.Add(time.Duration(rng.IntN(1500)) * time.Millisecond)
			w.Advance(w.now, nil)
			switch k := rng.IntN(61); {
			case k < 40:
				w.send(rng.IntN(len(w.instances)), rng.IntN(4) == 0)
			case k < 57:
				w.follow()
			case k == 57:
				w.now = w.now.Add(time.Duration(rng.IntN(120)) * time.Second)
				w.Advance(w.now, nil)
			case k == 58 && !shared:
				c.Instances = holdersInstances(rng, shared)
				_, err = w.Reconfigure(w.now, c)
				require.NoError(t, err)
				w.reconfigured(c.Instances)
				inForce = c
				seen["reconfigured"]++
			case k == 59:
				copied, err := w.Fork(snat.Ties{})
				require.NoError(t, err)
				w.check()
				w.Close()
				w.NAT = copied
				seen["forked"]++
			case k == 60:
				other := inForce
				if rng.IntN(2) == 0 {
					other.Shards = 2 + rng.IntN(3)
				}
				restored, err := snat.Restore(other, bytes.NewReader(snapshotOf(t, w.NAT)))
				require.NoError(t, err)
				restored.Check()
				if other.Shards == inForce.Shards {
					require.Empty(t, likeness.Compare(w.NAT, restored, restoreDiffers))
				}
				w.Close()
				w.NAT, inForce, c.Shards = restored, other, other.Shards
				seen["restored"]++
			}
			if step%7 == 0 {
				w.check()
			}
		}
		w.check()
		w.Close()
	}
	t.Log(seen)
	for _, what := range []string{"created", "refused", "another's doing", "reconfigured", "removed", "forked", "restored", "FA", "R"} {
		assert.NotZero(t, seen[what], "nothing was %s", what)
	}
}
