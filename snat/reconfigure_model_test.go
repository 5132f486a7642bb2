package snat_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// noEnd is the end of the last grace when no port awaits removal.
const noEnd flow.Time = math.MaxInt64

// owner returns the instance that a port is granted to, -1 if none.
func (m *model) owner(port netip.AddrPort, proto uint8) int {
	for i := range m.config.Instances {
		if slices.Contains(m.ports(poolKey{i, port.Addr().Is6(), proto}), port) {
			return i
		}
	}
	return -1
}

// isPublic reports whether an address is the public address of an instance.
func (m *model) isPublic(a netip.Addr) bool {
	return slices.ContainsFunc(m.config.Instances, func(i snat.Instance) bool { return slices.Contains(i.PublicAddrs, a) })
}

// awaiting lists the ports of a pool that are no longer granted and have flows.
func (m *model) awaiting(k poolKey) (ports []netip.AddrPort) {
	for _, f := range m.flows {
		if f.instance == k.instance && f.proto == k.proto && f.inside.Addr().Is6() == k.is6 && !f.atNode && !f.tombstone() &&
			m.owner(f.outside, f.proto) != k.instance && !slices.Contains(ports, f.outside) {
			ports = append(ports, f.outside)
		}
	}
	return ports
}

// cut ends flows for which a cause is given, and tombstones silently.
func (m *model) cut(cause func(f *modelFlow) (snat.CutCause, bool)) {
	m.flows = slices.DeleteFunc(m.flows, func(f *modelFlow) bool {
		c, end := cause(f)
		if end && !f.tombstone() {
			m.stats.Cut[c]++
			m.stats.SessionsEnded++
		}
		return end
	})
	m.end, m.lent = noEnd, map[lentBlock]int{}
	for _, f := range m.flows {
		if f.until != 0 && !f.tombstone() {
			m.lent[lentBlock{f.outside.Addr(), f.proto, f.outside.Port() / snat.BlockSize}] = f.instance
			m.end = min(m.end, f.until)
		}
	}
}

// endGrace ends the flows whose grace is over.
func (m *model) endGrace(at flow.Time) {
	if slices.ContainsFunc(m.flows, func(f *modelFlow) bool { return f.until == at && !f.tombstone() }) {
		m.graces++
	}
	m.cut(func(f *modelFlow) (snat.CutCause, bool) {
		return snat.CutReclaimed, f.until != 0 && (f.until <= at || f.tombstone())
	})
}

// reconfigure puts a valid configuration into force.
func (m *model) reconfigure(now flow.Time, c snat.Config) {
	m.expire(now)
	old, forwards := m.config.Instances, m.config.Forwards
	m.config = c
	m.floor = tick(now)

	// Instances keep their index; new ones get the lowest one free.
	place := make([]snat.Instance, len(old))
	gone := make([]bool, len(old))
	var added []snat.Instance
	for _, inst := range c.Instances {
		if i := slices.IndexFunc(old, func(o snat.Instance) bool { return o.Name == inst.Name }); i >= 0 {
			place[i] = inst
		} else {
			added = append(added, inst)
		}
	}
	for i := range place {
		gone[i] = place[i].Name == ""
	}
	for _, inst := range added {
		i := slices.IndexFunc(place, func(o snat.Instance) bool { return o.Name == "" })
		if i < 0 {
			i = len(place)
			place, m.inst = append(place, snat.Instance{}), append(m.inst, snat.InstanceStats{})
		}
		place[i], m.inst[i] = inst, snat.InstanceStats{}
		for k := range m.peak {
			if k.instance == i {
				delete(m.peak, k)
			}
		}
	}
	m.config.Instances = place
	m.keepPermits(old, gone)
	kept := m.keepForwarded(forwards, gone)
	m.setPolicies()
	m.reclassify()
	m.former = nil

	// moved reports whether the addresses of a flow's node have changed.
	moved := func(f *modelFlow) bool {
		ofFamily := func(addrs []netip.Addr) (some []netip.Addr) {
			for _, a := range addrs {
				if a.Is4() == f.inside.Addr().Is4() {
					some = append(some, a)
				}
			}
			return some
		}
		before, now := old[f.instance], place[f.instance]
		return !slices.Equal(ofFamily(before.Addrs), ofFamily(now.Addrs)) || !slices.Equal(ofFamily(before.PublicAddrs), ofFamily(now.PublicAddrs))
	}
	m.cut(func(f *modelFlow) (snat.CutCause, bool) {
		if f.forward > 0 || kept[f] != nil {
			return *kept[f], *kept[f] < snat.NumCutCauses
		}
		owner := m.owner(f.outside, f.proto)
		switch {
		case gone[f.instance]:
			return snat.CutRemoved, true
		case m.instanceOf(f.inside.Addr()) != f.instance:
			return snat.CutReaddressed, true
		case f.inside.Addr() == m.own(f.instance, f.inside.Addr()) && m.public(f.instance, f.inside.Addr()).IsValid():
			return snat.CutReaddressed, true
		case f.nodePort != 0 && moved(f):
			return snat.CutReaddressed, true
		case f.atNode:
			return 0, false
		case owner == f.instance:
			f.until = 0
			return 0, false
		case owner >= 0 || m.isNode(f.outside.Addr()) || m.isPublic(f.outside.Addr()) || m.forwardInBlock(f.outside, f.proto) || f.tombstone() || c.ReclaimGrace == 0:
			return snat.CutReclaimed, true
		}
		until := now.Add(c.ReclaimGrace)
		if f.until != 0 {
			until = min(until, f.until)
		}
		f.until = until
		return snat.CutReclaimed, until <= now
	})
	for _, f := range m.flows {
		if f.proto == protoUDP { // what its policy has not counted may count now, and the reverse
			switch in, out := f.heard[flow.Inside], f.heard[flow.Outside]; m.refresh[m.policyOf(f)] {
			case snat.RefreshEither:
				f.last = max(in, out)
			case snat.RefreshPerDirection:
				f.last = min(in, out)
			case snat.RefreshOutbound:
				f.last = in
			}
		}
		if f.forward == 0 && f.nodePort == 0 && len(place[f.instance].Inside) > 0 && m.own(f.instance, f.inside.Addr()) == f.inside.Addr() {
			f.nodePort = m.nodePort(f)
		}
		if f.until != 0 && !m.isFrontend(f.outside.Addr()) {
			m.former = append(m.former, f.outside.Addr())
		}
	}
	for k := range m.traffic {
		if !m.hasPorts(k.addr) {
			delete(m.traffic, k)
		}
	}
	for k := range m.portPeak {
		if !m.isFrontend(k.addr) {
			delete(m.portPeak, k)
		}
	}
	m.expire(now)
}

// mutate changes a configuration here and there. The result need not be valid.
func (s *script) mutate(c snat.Config) snat.Config {
	c.Instances = slices.Clone(c.Instances)
	for i := range c.Instances {
		inst := &c.Instances[i]
		inst.Ports, inst.Addrs, inst.Inside = slices.Clone(inst.Ports), slices.Clone(inst.Addrs), slices.Clone(inst.Inside)
	}
	somewhere := func() snat.PortRange {
		return snat.PortRange{
			Frontend: pick(s, addr("203.0.113.10"), addr("203.0.113.11"), addr("2001:db8:f::10")),
			Protocol: pick(s, snat.All, snat.All, snat.TCP, snat.UDP),
			First:    uint16(1024 + 8*s.next(24)), Count: 8 * pick(s, 1, 1, 2, 3),
		}
	}
	for range 1 + s.next(4) {
		if len(c.Instances) == 0 {
			break
		}
		inst := &c.Instances[s.next(len(c.Instances))]
		switch s.next(14) {
		case 13:
			s.reroute(&c)
		case 12: // public addresses for some of the own ones, or none
			inst.PublicAddrs = nil
			for _, own := range inst.Addrs {
				if s.next(3) == 0 {
					inst.PublicAddrs = append(inst.PublicAddrs, publicOf(own))
				}
			}
		case 0: // a new instance, or one that has been here before
			i := s.next(6)
			c.Instances = append(c.Instances, snat.Instance{
				Name: fmt.Sprintf("vm%d", i), Addrs: []netip.Addr{addr("10.0.0.%d", 4+i), addr("fd00::%d", 4+i)},
				Ports: []snat.PortRange{somewhere()},
			})
		case 1: // gone
			if len(c.Instances) > 2 || s.next(8) == 0 {
				i := s.next(len(c.Instances))
				c.Instances = slices.Delete(c.Instances, i, i+1)
			}
		case 2, 3: // more ports
			inst.Ports = append(inst.Ports, somewhere())
		case 4: // in another order
			slices.Reverse(inst.Ports)
		case 5: // the upper half, or a whole range, goes
			if k := len(inst.Ports); k > 0 {
				j := s.next(k)
				if r := &inst.Ports[j]; r.Count > 8 && s.next(2) == 0 {
					r.Count -= 8 * (r.Count / 16)
				} else {
					inst.Ports = slices.Delete(inst.Ports, j, j+1)
				}
			}
		case 6: // a range moves to another instance
			if k := len(inst.Ports); k > 0 {
				j := s.next(k)
				r := inst.Ports[j]
				inst.Ports = slices.Delete(inst.Ports, j, j+1)
				to := &c.Instances[s.next(len(c.Instances))]
				to.Ports = slices.Insert(to.Ports, 0, r)
			}
		case 7: // other addresses
			i := s.next(6)
			inst.Addrs = pick(s, []netip.Addr{addr("10.0.0.%d", 4+i)}, []netip.Addr{addr("fd00::%d", 4+i)}, []netip.Addr{addr("10.0.0.%d", 4+i), addr("fd00::%d", 4+i)}, nil)
			inst.PublicAddrs = nil
		case 8: // other pods
			i := s.next(6)
			inst.Inside = pick(s, nil, []netip.Prefix{netip.PrefixFrom(addr("10.244.%d.0", i), 24)},
				[]netip.Prefix{netip.PrefixFrom(addr("10.244.%d.0", i), 24), netip.PrefixFrom(addr("fd00:244:%d::", i), 64)})
		case 9:
			c.Policy = s.policy()
		case 10:
			p := s.policy()
			inst.Policy = pick(s, nil, &p)
		case 11:
			c.Admit = pick(s, nil, nil, hard)
			c.ReclaimGrace = pick(s, 0, time.Second, 3*time.Second, 2500*time.Millisecond)
			switch n := s.next(4); {
			case n == 1:
				c.Routes = c.Routes[:max(0, len(c.Routes)-1)]
				c.RememberEntries = !c.RememberEntries
			case n > 1 && !slices.ContainsFunc(c.Routes, func(r snat.Route) bool { return r.PassOn }):
				c.Routes = append(slices.Clone(c.Routes), passedOnRows...)
			case n > 1:
				c.Routes = slices.DeleteFunc(slices.Clone(c.Routes), func(r snat.Route) bool { return r.PassOn })
			}
		}
	}
	if s.next(4) == 0 {
		slices.Reverse(c.Instances)
	}
	if s.next(32) == 0 {
		c.Seed++
	}
	return c
}

// runReconfigured plays a script of packets and reconfigurations on the model and
// on every subject. It returns how many packets and reconfigurations there were in
// all, and how many of the latter were done and refused.
func (s *script) runReconfigured(t testing.TB) (m *model, ops, done, refused int) {
	w := s.build()
	ownedPorts(&w.config).TCP = s.behavior()
	ownedPorts(&w.config).UDP = s.behavior()
	if ownedOf(w.config).Hairpin {
		ownedPorts(&w.config).TCP.Share = snat.ShareNever
		ownedPorts(&w.config).UDP.Share = snat.ShareNever
	}
	w.insides = []netip.Addr{addr("10.0.0.99"), addr("fd00::99")}
	for i := range 6 {
		w.insides = append(w.insides, addr("10.0.0.%d", 4+i), addr("fd00::%d", 4+i), addr("10.244.%d.1", i), addr("10.244.%d.2", i), addr("fd00:244:%d::1", i))
	}
	m = newModel(w.config)
	r := &runner{t: t, model: m, world: w, now: w.start}
	for _, x := range []struct {
		shards         int
		batched, steps bool
	}{{8, false, true}, {11, true, false}} {
		w.config.Shards = x.shards
		w.config.CountHolders = snat.CountHolders{On: true, Limit: 64 * (w.config.Shards & 1)}
		n, err := snat.New(w.config)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		r.subjects = append(r.subjects, &subject{name: fmt.Sprintf("%d shards", x.shards), nat: n, batched: x.batched, steps: x.steps})
	}
	for at := flow.Time(0); at < w.start; at = min(w.start, at.Add(20*24*time.Hour)) {
		r.advance(at)
	}
	config := w.config
	for r.op = 0; !s.done(); r.op++ {
		if k := s.next(24); k > 1 {
			r.step(s)
		} else if k == 1 {
			r.burst(s)
		} else {
			r.refuse(s)
			if next := s.mutate(config); r.reconfigure(next) {
				config = next
				done++
				r.reopen(s)
			} else {
				refused++
			}
		}
		if t.Failed() {
			t.Fatalf("op %d at %v: %s", r.op, r.now, r.what)
		}
	}
	r.advance(r.now)
	r.now = r.now.Add(time.Hour)
	r.advance(r.now)
	if n := len(m.flows); n > 0 {
		t.Errorf("%d flows are left in the model", n)
	}
	packets := m.stats.Outbound.Packets() + m.stats.Inbound.Packets()
	return m, (int(packets) + done + refused) * len(r.subjects), done, refused
}

// burst begins a dozen flows of one host with one remote.
func (r *runner) burst(s *script) {
	host := pick(s, r.world.insides...)
	p := packet{proto: pick[uint8](s, protoTCP, protoUDP), dst: s.remote(host.Is6())}
	if p.proto == protoTCP {
		p.flags, p.seq = flow.SYN, 1000
	}
	for i := range 12 {
		p.src = netip.AddrPortFrom(host, uint16(5000+i))
		r.packet(flow.Inside, p)
	}
}

// reconfigure changes the model and all subjects, if the configuration is valid.
func (r *runner) reconfigure(c snat.Config) bool {
	r.what = fmt.Sprintf("reconfigure %+v", c)
	valid := c.Validate() == nil && c.Seed == r.model.config.Seed
	before := r.model.stats.Cut
	if valid {
		r.model.reconfigure(r.now, c)
	}
	for _, x := range r.subjects {
		r.flush(x)
		c.Shards = x.nat.NumShards()
		c.CountHolders = snat.CountHolders{On: true, Limit: 64 * (c.Shards & 1)}
		change, err := x.nat.Reconfigure(r.now, c)
		if (err == nil) != valid {
			r.t.Errorf("%s: error %v, valid %v", x.name, err, valid)
		}
		x.nat.Check()
		requireHolders(r.t, x.nat, r.now, false)
		if valid {
			r.counters(x, true)
			total := change.Total()
			for cause, k := range total.Cut {
				// The model ends graces in the same call, the report only counts its own.
				if got := uint64(k); got > r.model.stats.Cut[cause]-before[cause] || cause != int(snat.CutReclaimed) && got != r.model.stats.Cut[cause]-before[cause] {
					r.t.Errorf("%s: the report says %d flows cut, counted %d", x.name, got, r.model.stats.Cut[cause]-before[cause])
				}
			}
			awaiting := 0
			for _, inst := range r.model.instances() {
				for _, p := range inst.Pools {
					awaiting += p.AwaitingRemoval
				}
			}
			if total.AwaitingRemoval != awaiting {
				r.t.Errorf("%s: the report says %d ports await removal, want %d", x.name, total.AwaitingRemoval, awaiting)
			}
		}
		r.unique(x)
	}
	if len(c.Instances)%2 == 0 { // else nobody calls Advance for a while
		r.advance(r.now)
	}
	return valid
}

// unique complains about two connections that look the same from outside.
func (r *runner) unique(x *subject) {
	seen := map[string]bool{}
	for s := range x.nat.Sessions() {
		k := fmt.Sprint(s.Proto, s.Outside, s.Remote)
		if seen[k] {
			r.t.Errorf("%s: two sessions are %s", x.name, k)
		}
		seen[k] = true
	}
}

// A NAT that is reconfigured while flows go on does what its model does, and
// refuses what is wrong without a trace.
func TestReconfigureAgainstModel(t *testing.T) {
	t.Parallel()
	operations, length := pkttest.Operations(30_000, 150_000, 300_000), 6000
	seen := map[string]uint64{}
	for seed := uint64(0); operations > 0; seed++ {
		m, ops, done, refused := (&script{randomScript(seed, length)}).runReconfigured(t)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		operations -= ops
		seen["reconfigurations"] += uint64(done)
		seen["refusals"] += uint64(refused)
		for cause, k := range m.stats.Cut {
			seen[snat.CutCause(cause).String()] += k
		}
		seen["graces that ended with flows"] += uint64(m.graces)
		seen["answers by public addresses"] += m.entries
		seen["strays"] += m.strays
		seen["closed ones that gave way"] += m.gaveWay
	}
	t.Log(seen)
	for _, what := range []string{"reconfigurations", "refusals", "reclaimed", "removed", "readdressed", "graces that ended with flows", "answers by public addresses", "strays", "closed ones that gave way"} {
		if seen[what] == 0 {
			t.Errorf("no script reached: %s", what)
		}
	}
}

// FuzzReconfigure looks for a script on which NAT and model disagree after a
// change of configuration.
func FuzzReconfigure(f *testing.F) {
	fuzzScripts(f, 150, func(t *testing.T, s *script) { s.runReconfigured(t) })
}
