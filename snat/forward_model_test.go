package snat_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Forwards in the model. The distribution is taken as given; it has a twin of its own in
// package rendezvous.

// policyOf returns the position of the policy that a flow has.
func (m *model) policyOf(f *modelFlow) int {
	if f.forward > 0 {
		return len(m.config.Instances) + f.forward - 1
	}
	return f.instance
}

// forwardPorts returns the ports of a forward.
func forwardPorts(f *snat.Forward) (first, last uint16) {
	switch {
	case f.FirstPort == 0:
		return 1, 65535
	case f.LastPort == 0:
		return f.FirstPort, f.FirstPort
	}
	return f.FirstPort, f.LastPort
}

// forwardAt returns the number, plus one, of the forward of a frontend's port, or 0: one that
// has all ports only if no other has it.
func (m *model) forwardAt(at netip.AddrPort, proto uint8) int {
	find := func(ofAll bool) int {
		return 1 + slices.IndexFunc(m.config.Forwards, func(f snat.Forward) bool {
			first, last := forwardPorts(&f)
			return f.Frontend == at.Addr() && at.Port() >= first && at.Port() <= last && (f.Protocol == snat.All || f.Protocol == protocolOf(proto)) &&
				(f.FirstPort == 0) == ofAll
		})
	}
	return cmp.Or(find(false), find(true))
}

// forwardInBlock reports whether a port is forwarded of the eight that a port is one of.
func (m *model) forwardInBlock(at netip.AddrPort, proto uint8) bool {
	for i := range uint16(8) {
		if m.forwardAt(netip.AddrPortFrom(at.Addr(), at.Port()&^7+i), proto) > 0 {
			return true
		}
	}
	return false
}

// target returns the target of a forward that is an instance's, at an address if it does not
// float; nil if there is none.
func (m *model) target(f *snat.Forward, instance int, a netip.Addr) *snat.Target {
	for i := range f.Targets {
		if t := &f.Targets[i]; t.Instance == m.config.Instances[instance].Name && (f.Floating || t.Addr == a) {
			return t
		}
	}
	return nil
}

// openForwarded begins the flow of a packet to a forward, or says why not. fromInside says
// that an instance has sent it.
func (m *model) openForwarded(now flow.Time, p packet, fromInside bool) (*modelFlow, flow.Reason) {
	number := m.forwardAt(p.dst, p.proto)
	f := &m.config.Forwards[number-1]
	switch {
	case p.proto == protoTCP && p.flags&flow.RST != 0:
		return nil, flow.ReasonNoFlow
	case p.proto == protoTCP && p.corrupt:
		return nil, flow.ReasonL4Checksum
	case m.route(p.src, p.proto).Action == snat.Blackhole:
		return nil, flow.ReasonRoute
	}
	var names []uint64
	var eligible []bool
	for _, t := range f.Targets {
		names, eligible = append(names, rendezvous.Name(t.Instance+" "+t.Addr.String())), append(eligible, t.State == snat.TargetUp)
	}
	fields := rendezvous.Fields(f.Distribution)
	hash := uint64(0)
	if p.src.Addr().Is4() {
		hash = rendezvous.Hash4(m.config.DistributionKey, fields, &flow.Key{
			Src: flow.Addr4(p.src.Addr()), Dst: flow.Addr4(p.dst.Addr()), SrcPort: p.src.Port(), DstPort: p.dst.Port(), VNIProto: uint32(p.proto),
		})
	} else {
		hash = rendezvous.Hash6(m.config.DistributionKey, fields, &flow.Key6{
			Src: flow.Addr6(p.src.Addr()), Dst: flow.Addr6(p.dst.Addr()), SrcPort: p.src.Port(), DstPort: p.dst.Port(), VNIProto: uint32(p.proto),
		})
	}
	if fromInside {
		if reason := m.admits(flow.Inside, &modelFlow{instance: m.instanceOf(p.src.Addr()), proto: p.proto, inside: p.src, remote: p.dst}); reason != flow.ReasonNone {
			return nil, reason
		}
	}
	i := rendezvous.New(names, eligible).At(hash)
	if i < 0 {
		return nil, flow.ReasonNoTarget
	}
	t := f.Targets[i]
	if t.Addr == p.src.Addr() {
		return nil, flow.ReasonTargetLoop
	}
	g := &modelFlow{
		proto: p.proto, inside: netip.AddrPortFrom(t.Addr, p.dst.Port()), outside: p.dst, remote: p.src, atNode: true, forward: number,
		instance: slices.IndexFunc(m.config.Instances, func(inst snat.Instance) bool { return inst.Name == t.Instance }),
	}
	if t.Port != 0 {
		g.inside = netip.AddrPortFrom(t.Addr, t.Port)
	}
	if f.Floating {
		g.inside = p.dst
	}
	var old []*modelFlow
	for _, f := range m.flows {
		switch {
		case f.forward == 0 || f.proto != p.proto || f.remote != p.src:
		case f.outside == p.dst:
			old = append(old, f)
		case f.instance != g.instance || f.inside != g.inside:
		case p.proto == protoTCP && p.flags&(flow.SYN|flow.ACK) == flow.SYN && (f.held() || f.tombstone()):
			old = append(old, f)
		default:
			m.rivals++
			return nil, flow.ReasonMappingConflict
		}
	}
	if reason := m.admits(flow.Outside, g); reason != flow.ReasonNone {
		return nil, reason
	}
	for _, f := range old {
		m.endTarget(f)
	}
	m.begin(now, flow.Outside, g, p)
	return g, flow.ReasonNone
}

// movesOn reports whether a packet from outside is none of a forwarded flow's own: a
// datagram whose target is not up, which ends the flow, or a SYN to which a tombstone gives
// way, or a closed connection whose target would not get the next one, if that may begin.
func (m *model) movesOn(f *modelFlow, p packet) bool {
	if f.forward == 0 {
		return false
	}
	t := m.target(&m.config.Forwards[f.forward-1], f.instance, f.inside.Addr())
	if p.proto == protoTCP {
		takes := t != nil && t.State == snat.TargetUp && f.inside.Port() == cmp.Or(t.Port, f.outside.Port()) &&
			m.route(p.src, p.proto).Action != snat.Blackhole
		return f.tombstone() && p.isSYN() && !p.corrupt || m.reopens(flow.Outside, f, p) && !takes
	}
	stays := t == nil || t.State == snat.TargetUp
	if !stays {
		m.endTarget(f)
	}
	return !stays
}

// endTarget ends a forwarded flow because of its target, or a tombstone.
func (m *model) endTarget(f *modelFlow) {
	if !f.tombstone() {
		m.stats.Cut[snat.CutTarget]++
		m.stats.SessionsEnded++
	}
	m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool { return g == f })
}

// leaveForwarded is leave for a packet to a forward, or one that answers a forwarded flow;
// ok says that it is one.
func (m *model) leaveForwarded(now flow.Time, instance int, p *packet) (v flow.Verdict, sent packet, ok bool) {
	if to := m.forwardAt(p.dst, p.proto); to > 0 && instance >= 0 && m.config.Forwards[to-1].FromInside {
		v, sent = m.enter(now, *p, true)
		return v, sent, true
	}
	i := slices.IndexFunc(m.flows, func(f *modelFlow) bool {
		return f.forward > 0 && f.proto == p.proto && f.inside == p.src && f.remote == p.dst && (instance >= 0) == (f.inside != f.outside)
	})
	if i < 0 {
		return v, sent, false
	}
	f := m.flows[i]
	if instance >= 0 && (f.tombstone() && p.isSYN() && !p.corrupt || m.reopens(flow.Inside, f, *p) && !m.lasts(f, false)) {
		m.giveWay(now, f)
		return v, sent, false
	}
	if reason := m.tracked(now, flow.Inside, f, *p); reason != flow.ReasonNone {
		return m.count(flow.Inside, flow.Verdict{Action: flow.Drop, Reason: reason}), *p, true
	}
	sent = *p
	sent.src = f.outside
	m.carried(flow.Inside, sent.src.Addr(), sent)
	return m.count(flow.Inside, flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: uint32(f.instance)}), sent, true
}

// keepForwarded returns for every forwarded flow why a new configuration, which is in force
// already, cuts it, or NumCutCauses, and gives it the number of its forward there. was is the
// forwards until then, and gone the instances that are removed.
func (m *model) keepForwarded(was []snat.Forward, gone []bool) map[*modelFlow]*snat.CutCause {
	causes := map[*modelFlow]*snat.CutCause{}
	before := map[*modelFlow]int{} // numbers until then
	for _, f := range m.flows {
		before[f] = f.forward
	}
	for _, f := range m.flows {
		if f.forward == 0 {
			continue
		}
		number := m.forwardAt(f.outside, f.proto)
		cause := snat.NumCutCauses
		switch {
		case gone[f.instance]:
			cause = snat.CutRemoved
		case number == 0 || m.config.Forwards[number-1].Floating != (f.inside == f.outside):
			cause = snat.CutForward
		case f.inside == f.outside:
		case m.instanceOf(f.inside.Addr()) != f.instance:
			cause = snat.CutReaddressed
		default:
			if !m.answers(f, number, was, before) {
				cause = snat.CutForward
			}
			// Of several ports each goes to the same port of a target.
			w := &m.config.Forwards[number-1]
			if first, last := forwardPorts(w); m.leadsTo(w, f) && first < last && f.inside.Port() != f.outside.Port() {
				cause = snat.CutForward
			}
		}
		if cause == snat.NumCutCauses {
			if t := m.target(&m.config.Forwards[number-1], f.instance, f.inside.Addr()); t != nil && t.State == snat.TargetGone {
				cause = snat.CutTarget
			}
		}
		f.forward = max(number, 1) // that of one that is cut is of no account
		causes[f] = &cause
	}
	return causes
}

// socketEntry is a forward whose answers are sought at a port, or at all: then port is 0.
type socketEntry struct {
	port   uint16
	number int
}

// entryOf returns the entry of the inside socket of a flow for a forward that has become that
// with a number.
func entryOf(w *snat.Forward, f *modelFlow, number int) socketEntry {
	if w.FirstPort == 0 {
		return socketEntry{0, number}
	}
	return socketEntry{f.inside.Port(), number}
}

// answers reports whether what the target of a flow sends is sought as answers for the forward
// with a number, where a new configuration is in force. was is the forwards until then, and
// before the numbers of flows there. Targets of now precede those that were, which are those of
// the frontend's port that they were for; of these the first forward does, and the others have
// to have its policy.
func (m *model) answers(f *modelFlow, number int, was []snat.Forward, before map[*modelFlow]int) bool {
	var entries []socketEntry
	find := func(port uint16) int {
		for _, at := range [...]uint16{port, 0} {
			if i := slices.IndexFunc(entries, func(e socketEntry) bool { return e.port == at }); i >= 0 {
				return entries[i].number
			}
		}
		return 0
	}
	for i := range m.config.Forwards {
		if w := &m.config.Forwards[i]; m.leadsTo(w, f) {
			entries = append(entries, entryOf(w, f, i+1))
		}
	}
	targets := len(entries)
	var departed []socketEntry
	inherit := func(front netip.AddrPort, port func(heir *snat.Forward) uint16) {
		if heir := m.forwardAt(front, f.proto); heir > 0 && !m.config.Forwards[heir-1].Floating {
			departed = append(departed, socketEntry{port(&m.config.Forwards[heir-1]), heir})
		}
	}
	own := func(*snat.Forward) uint16 { return f.inside.Port() }
	for i := range was {
		w := &was[i]
		if !m.leadsTo(w, f) {
			continue
		}
		front, last := forwardPorts(w)
		if front < last {
			front = f.inside.Port()
		}
		inherit(netip.AddrPortFrom(w.Frontend, front), func(heir *snat.Forward) uint16 {
			if w.FirstPort == 0 && heir.FirstPort == 0 {
				return 0
			}
			return f.inside.Port()
		})
	}
	for _, g := range m.flows {
		if before[g] > 0 && g.instance == f.instance && g.proto == f.proto && g.inside == f.inside && g.inside != g.outside {
			inherit(g.outside, own)
		}
	}
	slices.SortStableFunc(departed, func(a, b socketEntry) int { return cmp.Compare(a.number, b.number) })
	for _, e := range departed {
		same := func(o socketEntry) bool { // a target of another one at the same frontend
			return o.number != e.number && (o.port == e.port || o.port == 0) && m.config.Forwards[o.number-1].Frontend == m.config.Forwards[e.number-1].Frontend
		}
		if has := find(e.port); has == 0 || m.forwardPolicy(has) == m.forwardPolicy(e.number) && !slices.ContainsFunc(entries[:targets], same) {
			entries = append(entries, e)
		}
	}
	first := find(f.inside.Port())
	return first > 0 && m.forwardPolicy(first) == m.forwardPolicy(number) && slices.ContainsFunc(entries, func(e socketEntry) bool { return e.number == number })
}

// forwardPolicy returns the policy of the forward with a number.
func (m *model) forwardPolicy(number int) snat.Policy {
	if p := m.config.Forwards[number-1].Policy; p != nil {
		return *p
	}
	return m.config.Policy
}

// leadsTo reports whether a target of a forward has the inside socket of a flow.
func (m *model) leadsTo(w *snat.Forward, f *modelFlow) bool {
	if w.Floating || w.Protocol != snat.All && w.Protocol != protocolOf(f.proto) {
		return false
	}
	t := m.target(w, f.instance, f.inside.Addr())
	if t == nil {
		return false
	}
	first, last := forwardPorts(w)
	if t.Port != 0 {
		first, last = t.Port, t.Port
	}
	return f.inside.Port() >= first && f.inside.Port() <= last
}

// setTargets changes the states of targets.
func (m *model) setTargets(now flow.Time, changes []snat.TargetChange) {
	m.config.Forwards = slices.Clone(m.config.Forwards)
	gone := false
	for _, c := range changes {
		f := &m.config.Forwards[c.Forward]
		f.Targets = slices.Clone(f.Targets)
		f.Targets[c.Target].State = c.State
		gone = gone || c.State == snat.TargetGone
	}
	if !gone {
		return
	}
	m.expire(now)
	for _, f := range slices.Clone(m.flows) {
		if f.forward > 0 {
			if t := m.target(&m.config.Forwards[f.forward-1], f.instance, f.inside.Addr()); t != nil && t.State == snat.TargetGone {
				m.endTarget(f)
			}
		}
	}
}

// forwardAddrs are the frontends that forwards of scripts have, with and without ports of
// instances.
var forwardAddrs = []netip.Addr{addr("203.0.113.10"), addr("203.0.113.12"), addr("2001:db8:f::10"), addr("2001:db8:f::12")}

// forward makes up a forward, which need not be valid.
func (s *script) forward(c *snat.Config) snat.Forward {
	f := snat.Forward{
		Frontend: pick(s, forwardAddrs...), Protocol: pick(s, snat.All, snat.All, snat.TCP, snat.UDP),
		Distribution: pick(s, snat.FiveTuple, snat.FiveTuple, snat.SourceIP, snat.SourceIPProtocol),
		Floating:     s.next(3) == 0, FromInside: s.next(3) == 0,
	}
	s.span(&f)
	if s.next(3) == 0 {
		p := s.policy()
		f.Policy = &p
	}
	s.retarget(c, &f)
	return f
}

// span gives a forward other ports.
func (s *script) span(f *snat.Forward) {
	f.FirstPort, f.LastPort = pick[uint16](s, 79, 80, 443, 1016, 1024, 0), 0
	if f.FirstPort != 0 && s.next(3) == 0 {
		f.LastPort = f.FirstPort + uint16(s.next(3))
	}
}

// retarget gives a forward other targets.
func (s *script) retarget(c *snat.Config, f *snat.Forward) {
	f.Targets = nil
	for i := range c.Instances {
		inst := &c.Instances[i]
		addrs := slices.Clone(inst.Addrs)
		for _, p := range inst.Inside {
			addrs = append(addrs, p.Addr().Next())
		}
		for _, a := range addrs {
			if a.Is4() != f.Frontend.Is4() || s.next(3) == 0 {
				continue
			}
			t := snat.Target{Instance: inst.Name, Addr: a, State: pick(s, snat.TargetUp, snat.TargetUp, snat.TargetUp, snat.TargetDown, snat.TargetGone)}
			if first, last := forwardPorts(f); first == last && !f.Floating && s.next(2) == 0 {
				t.Port = pick[uint16](s, 5000, 8080)
			}
			f.Targets = append(f.Targets, t)
		}
	}
}

// addForwards adds a forward, if that leaves the configuration valid.
func (s *script) addForwards(c snat.Config, n int) snat.Config {
	for range n {
		next := c
		next.Forwards = append(slices.Clone(c.Forwards), s.forward(&c))
		if next.Validate() == nil {
			c = next
		}
	}
	return c
}

// mutateForwards changes the forwards of a configuration, and perhaps the rest.
func (s *script) mutateForwards(c snat.Config) snat.Config {
	if s.next(2) == 0 {
		c = s.mutate(c)
		ownedPorts(&c).Hairpin = false
	}
	c.Forwards = slices.Clone(c.Forwards)
	for range 1 + s.next(3) {
		k := len(c.Forwards)
		if op := s.next(6); op == 0 || k == 0 {
			c.Forwards = append(c.Forwards, s.forward(&c))
			continue
		} else if i := s.next(k); op == 1 {
			c.Forwards = slices.Delete(c.Forwards, i, i+1)
		} else if f := &c.Forwards[i]; op == 2 {
			p := s.policy()
			f.Policy = pick(s, nil, &p)
		} else if op == 3 {
			s.retarget(&c, f)
		} else if op == 4 {
			s.span(f)
			s.retarget(&c, f)
		} else {
			f.Distribution = pick(s, snat.FiveTuple, snat.SourceIP)
			slices.Reverse(c.Forwards)
		}
	}
	return c
}

// forwardStep sends something to a forward, or something that could be an answer.
func (r *runner) forwardStep(s *script) {
	m := r.model
	proto := pick[uint8](s, protoTCP, protoUDP)
	p := packet{proto: proto, payload: pick(s, "", "x", "query")}
	if proto == protoTCP {
		p.flags, p.seq, p.corrupt = pick[uint8](s, flow.SYN, flow.SYN, flow.ACK, flow.RST, flow.FIN|flow.ACK), 5000, s.next(16) == 0
	}
	if len(m.config.Forwards) == 0 || s.next(16) == 0 {
		p.dst = netip.AddrPortFrom(pick(s, forwardAddrs...), 80)
	} else {
		f := &m.config.Forwards[s.next(len(m.config.Forwards))]
		first, last := forwardPorts(f)
		p.dst = netip.AddrPortFrom(f.Frontend, first+uint16(s.next(4))%(last-first+1))
		if last == 65535 {
			p.dst = netip.AddrPortFrom(f.Frontend, uint16(5000+s.next(4)))
		}
	}
	p.src = s.remote(p.dst.Addr().Is6())
	if len(m.flows) > 0 && s.next(8) == 0 { // a remote that may have a flow with the same target by another forward
		if f := m.flows[s.next(len(m.flows))]; f.forward != 0 && f.proto == proto && f.remote.Addr().Is6() == p.src.Addr().Is6() {
			p.src = f.remote
		}
	}
	if from := pick(s, r.world.insides...); s.next(4) == 0 && from.Is6() == p.dst.Addr().Is6() {
		p.src = netip.AddrPortFrom(from, uint16(5000+s.next(3)))
		r.packet(flow.Inside, p)
		return
	}
	if s.next(8) == 0 && len(m.flows) > 0 { // what could be an answer, but for its port or its remote
		f := m.flows[s.next(len(m.flows))]
		p.proto, p.src, p.dst = f.proto, f.inside, f.remote
		if p.proto == protoUDP {
			p.flags, p.seq, p.corrupt = 0, 0, false
		} else if p.flags == 0 {
			p.flags, p.seq = flow.SYN, 1000
		}
		if s.next(2) == 0 {
			p.dst = s.remote(p.src.Addr().Is6())
		}
		r.packet(flow.Inside, p)
		return
	}
	for range 1 + s.next(4) {
		r.packet(flow.Outside, p)
		p.src = netip.AddrPortFrom(p.src.Addr(), p.src.Port()+1)
	}
}

// setTargets changes the states of some targets.
func (r *runner) setTargets(s *script) {
	var changes []snat.TargetChange
	for range 1 + s.next(4) {
		if k := len(r.model.config.Forwards); k > 0 {
			i := s.next(k)
			if n := len(r.model.config.Forwards[i].Targets); n > 0 {
				changes = append(changes, snat.TargetChange{Forward: i, Target: s.next(n), State: pick(s, snat.TargetUp, snat.TargetUp, snat.TargetDown, snat.TargetDown, snat.TargetGone)})
			}
		}
	}
	r.what = fmt.Sprintf("targets %+v", changes)
	r.model.setTargets(r.now, changes)
	for _, x := range r.subjects {
		r.flush(x)
		if err := x.nat.SetTargets(r.now, changes...); err != nil {
			r.t.Errorf("%s: %v", x.name, err)
		}
		x.nat.Check()
		requireHolders(r.t, x.nat, r.now, false)
	}
}

// runForwards plays a script of packets, reconfigurations and changes of states on the model
// and on every subject.
func (s *script) runForwards(t testing.TB) (m *model, ops int) {
	w := s.build()
	ownedPorts(&w.config).Hairpin = false
	w.insides = []netip.Addr{addr("10.0.0.99"), addr("fd00::99"), addr("203.0.113.12"), addr("2001:db8:f::12")}
	for i := range 6 {
		w.insides = append(w.insides, addr("10.0.0.%d", 4+i), addr("fd00::%d", 4+i), addr("10.244.%d.1", i), addr("fd00:244:%d::1", i))
	}
	w.config.DistributionKey = uint64(s.next(256))
	w.config = s.addForwards(w.config, 4)
	m = newModel(w.config)
	r := &runner{t: t, model: m, world: w, now: w.start}
	for _, x := range []struct {
		shards         int
		batched, steps bool
	}{{9, false, true}, {16, true, false}} {
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
		switch k := s.next(24); {
		case k == 0:
			r.refuse(s)
			config.Forwards = m.config.Forwards
			if next := s.mutateForwards(config); r.reconfigure(next) {
				config = next
				r.reopen(s)
			}
		case k == 1:
			r.setTargets(s)
			r.reopen(s)
		case k < 10:
			r.forwardStep(s)
		default:
			r.step(s)
		}
		ops++
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
	return m, ops
}

// A NAT with forwards does what its model does.
func TestForwardsAgainstModel(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	operations, length := pkttest.Operations(30_000, 100_000, 500_000), 4000
	seen := map[string]uint64{}
	for seed := uint64(0); operations > 0; seed++ {
		m, ops := (&script{randomScript(seed, length)}).runForwards(t)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		operations -= ops
		for cause, k := range m.stats.Cut {
			seen[snat.CutCause(cause).String()] += k
		}
		seen["no target"] += m.stats.Inbound.Drops[flow.ReasonNoTarget]
		seen["loops"] += m.stats.Inbound.Drops[flow.ReasonTargetLoop]
		seen["sessions"] += m.stats.SessionsCreated - m.stats.ConnectionsSuccessful
		seen["resets"] += m.stats.Resets
		seen["rivals"] += m.rivals
	}
	t.Log(seen)
	for _, what := range []string{"forward", "target", "removed", "readdressed", "no target", "loops", "sessions", "resets", "rivals"} {
		if seen[what] == 0 {
			t.Errorf("no script reached: %s", what)
		}
	}
}

// FuzzForwards looks for a script on which NAT and model disagree about forwards.
func FuzzForwards(f *testing.F) {
	fuzzScripts(f, 150, func(t *testing.T, s *script) { s.runForwards(t) })
}
