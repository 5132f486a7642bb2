package snat_test

// What the model knows of segments without flow, of held SYNs, of timers by port and
// of no-NAT rules.

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// policyOf returns the policy of an instance.
func policyOf(c *snat.Config, inst *snat.Instance) snat.Policy {
	if inst.Policy != nil {
		return *inst.Policy
	}
	return c.Policy
}

// route returns the row of the destination table for a remote.
func (m *model) route(remote netip.AddrPort, proto uint8) snat.Route {
	best, merit := snat.Route{Action: snat.Translate}, -1
	for _, r := range m.config.Routes {
		k := 4 * r.Prefix.Bits()
		if r.FirstPort > 0 {
			k += 2
		}
		if r.Protocol != snat.All {
			k++
		}
		fits := r.Prefix.Contains(remote.Addr()) && (r.Protocol == snat.All || r.Protocol == protocolOf(proto)) &&
			(r.FirstPort == 0 || remote.Port() >= r.FirstPort && remote.Port() <= max(r.FirstPort, r.LastPort))
		if fits && k > merit {
			best, merit = r, k
		}
	}
	return best
}

// entry returns the verdict on an inbound packet without a session that a row lets in
// unasked, or would; and whether one does.
func (m *model) entry(now flow.Time, p packet) (v flow.Verdict, ok bool) {
	instance, row := m.instanceOf(p.dst.Addr()), m.route(p.src, p.proto)
	if !row.BothWays || instance < 0 || p.src.Addr() == p.dst.Addr() {
		return flow.Verdict{}, false
	}
	own := m.own(instance, p.dst.Addr()) == p.dst.Addr()
	direct := own && m.public(instance, p.dst.Addr()).IsValid()
	own = own && row.Action == snat.NodeAddress
	v = flow.Verdict{Action: flow.Bypass, To: flow.Inside, Instance: uint32(instance)}
	if row.Action == snat.PassThrough || own && direct {
		if v.Reason = m.admitsUnseen(now, flow.Outside, instance, p, p.dst.Addr()); v.Reason != flow.ReasonNone {
			v.Action = flow.Drop
		}
		return v, true
	}
	if direct {
		return flow.Verdict{}, false
	}
	if v.Reason = m.begins(instance, p); v.Reason != flow.ReasonNone {
		v.Action = flow.Drop
		if own {
			if v.Reason = m.admitsUnseen(now, flow.Outside, instance, p, p.dst.Addr()); v.Reason == flow.ReasonNone {
				v.Action = flow.Bypass
			}
		}
		return v, true
	}
	v.Action, v.New = flow.Forward, true
	if _, v.Reason = m.remember(now, flow.Outside, instance, p, nil); v.Reason != flow.ReasonNone {
		v.Action, v.New = flow.Drop, false
	}
	return v, true
}

// begins says why a packet may not begin a flow that is not translated, if so.
func (m *model) begins(instance int, p packet) flow.Reason {
	flags := p.flags & (flow.SYN | flow.ACK | flow.RST | flow.FIN)
	pickUp := policyOf(&m.config, &m.config.Instances[instance]).PickUp && flags == flow.ACK
	switch {
	case p.proto == protoUDP:
		return flow.ReasonNone
	case flags != flow.SYN && !pickUp:
		return flow.ReasonNoFlow
	case p.corrupt:
		return flow.ReasonL4Checksum
	}
	return flow.ReasonNone
}

// remember begins a flow that is not translated, unless its sockets have another than gone, which
// gives way.
func (m *model) remember(now flow.Time, from flow.Side, instance int, p packet, gone *modelFlow) (*modelFlow, flow.Reason) {
	f := &modelFlow{instance: instance, proto: p.proto, inside: p.src, remote: p.dst, atNode: true, asIs: true}
	if from == flow.Outside {
		f.inside, f.remote = p.dst, p.src
	}
	f.outside = f.inside
	if i := slices.IndexFunc(m.flows, func(g *modelFlow) bool {
		return g.proto == f.proto && g.inside == f.inside && g.remote == f.remote && !g.over() && g.forward == 0
	}); i >= 0 {
		if !m.flows[i].tombstone() && m.flows[i] != gone {
			return nil, flow.ReasonMappingConflict
		}
		gone = m.flows[i]
	}
	if reason := m.admits(from, f); reason != flow.ReasonNone {
		return nil, reason
	}
	m.giveWay(now, gone)
	if len(m.config.Instances[instance].Inside) > 0 && m.own(instance, f.inside.Addr()) == f.inside.Addr() {
		if f.nodePort = m.nodePort(f); f.nodePort != f.inside.Port() {
			return nil, flow.ReasonMappingConflict
		}
	}
	m.begin(now, from, f, p)
	m.remembered[from]++
	return f, flow.ReasonNone
}

// admits asks whether a flow may begin.
func (m *model) admits(from flow.Side, f *modelFlow) flow.Reason {
	if m.config.Admit == nil {
		return flow.ReasonNone
	}
	return m.config.Admit(snat.NewFlow{From: from, Instance: uint32(f.instance), Protocol: f.proto, Inside: f.inside, Remote: f.remote})
}

// admitsAgain asks whether the next connection of a flow may begin, which is closed. Who sends to a
// forward from inside is asked about, too.
func (m *model) admitsAgain(from flow.Side, f *modelFlow, p packet) flow.Reason {
	if sender := m.instanceOf(p.src.Addr()); from == flow.Outside && f.forward > 0 && m.turned && sender >= 0 {
		if reason := m.admits(flow.Inside, &modelFlow{instance: sender, proto: p.proto, inside: p.src, remote: p.dst}); reason != flow.ReasonNone {
			return reason
		}
	}
	return m.admits(from, f)
}

// permitLife is for how long a flow without a session is remembered after its last packet.
const permitLife = 4 * time.Minute

// permitted is a flow without a session.
type permitted struct {
	instance       int
	proto          uint8
	inside, remote netip.AddrPort
}

// permit is what is remembered of such a flow: when its last packet has passed, and which side has
// begun it, or that it is passed on.
type permit struct {
	last flow.Time
	by   int // a flow.Side, or passedOn
}

const passedOn = 2

// unseen returns the flow of a packet without a session, of an instance with an inside address,
// and what is remembered of it, if anything is.
func (m *model) unseen(now flow.Time, from flow.Side, instance int, p packet, inside netip.Addr) (k permitted, by int, ok bool) {
	k = permitted{instance, p.proto, p.src, p.dst}
	if from == flow.Outside {
		k.inside, k.remote = p.dst, p.src
	}
	k.inside = netip.AddrPortFrom(inside, k.inside.Port())
	was, ok := m.permits[k]
	return k, was.by, ok && now < was.last.Add(permitLife)
}

// permit remembers a flow at now.
func (m *model) permit(now flow.Time, k permitted, by int) {
	if m.permits == nil {
		m.permits = map[permitted]permit{}
	}
	if was := m.permits[k]; was.by == by {
		now = max(now, was.last)
	}
	m.permits[k] = permit{now, by}
}

// isSYN reports whether a packet opens a connection.
func (p packet) isSYN() bool {
	return p.proto == protoTCP && p.flags&(flow.SYN|flow.ACK) == flow.SYN
}

// admitsUnseen asks about a packet that begins no session, if it opens a connection, or if it
// is a datagram of a flow that is not remembered. What comes from outside of one that is passed on
// begins nothing.
func (m *model) admitsUnseen(now flow.Time, from flow.Side, instance int, p packet, inside netip.Addr) flow.Reason {
	if m.config.Admit == nil {
		return flow.ReasonNone
	}
	return m.admitsAndNotes(now, from, instance, p, inside, false)
}

// admitsPublic is admitsUnseen for what a public address carries one to one.
func (m *model) admitsPublic(now flow.Time, from flow.Side, instance int, p packet, inside netip.Addr) flow.Reason {
	if !m.config.RememberEntries {
		return m.admitsUnseen(now, from, instance, p, inside)
	}
	return m.admitsAndNotes(now, from, instance, p, inside, true)
}

func (m *model) admitsAndNotes(now flow.Time, from flow.Side, instance int, p packet, inside netip.Addr, connections bool) flow.Reason {
	k, by, ok := m.unseen(now, from, instance, p, inside)
	ok = ok && by != passedOn
	if p.isSYN() || p.proto != protoTCP && !ok {
		if reason := m.admits(from, &modelFlow{instance: instance, proto: p.proto, inside: k.inside, remote: k.remote}); reason != flow.ReasonNone {
			return reason
		}
	}
	stray := by == passedOn && from == flow.Outside && now < m.permits[k].last.Add(permitLife)
	if stray && p.proto == protoUDP {
		m.strays++
	}
	switch {
	case p.proto != protoTCP && !ok && !stray, p.isSYN() && connections && (from == flow.Outside || ok && by == int(flow.Outside)):
		m.permit(now, k, int(from))
	case ok && (p.proto != protoTCP || connections && !p.isSYN()):
		m.permit(now, k, by)
	}
	return flow.ReasonNone
}

// answersEntry reports whether a packet of an instance goes back by its public address, as what it
// belongs to has come there, although its row passes it on; and notes what is passed on.
func (m *model) answersEntry(now flow.Time, instance int, p packet) bool {
	k, by, ok := m.unseen(now, flow.Inside, instance, p, p.src.Addr())
	switch entered := ok && by == int(flow.Outside); {
	case entered && p.isSYN(): // it begins another connection
		m.permit(now, k, int(flow.Inside))
	case entered:
		m.permit(now, k, by)
		m.entries++
		return true
	case p.proto == protoUDP && (!ok || by == passedOn):
		m.permit(now, k, passedOn)
	}
	return false
}

// keepPermits forgets the flows without a session of instances that are removed, and of
// addresses that are somebody else's in a new configuration, which is in force already, or have lost
// the public one that they had. was is the instances until then.
func (m *model) keepPermits(was []snat.Instance, gone []bool) {
	for k := range m.permits {
		now := m.config.Instances[k.instance]
		lost := slices.ContainsFunc(was[k.instance].PublicAddrs, func(a netip.Addr) bool {
			return a.Is4() == k.inside.Addr().Is4() && !slices.Contains(now.PublicAddrs, a)
		})
		if gone[k.instance] || lost || m.instanceOf(k.inside.Addr()) != k.instance {
			delete(m.permits, k)
		}
	}
}

// hard refuses a fifth of all flows, by their ports and who begins.
func hard(f snat.NewFlow) flow.Reason {
	if (int(f.Inside.Port())+int(f.Remote.Port())+int(f.Protocol)+int(f.From))%5 != 0 {
		return flow.ReasonNone
	}
	if f.From == flow.Inside {
		return flow.ReasonNSGOutbound
	}
	return flow.ReasonNSGInbound
}

// udpClass returns the idle class of a new UDP flow.
func (m *model) udpClass(f *modelFlow) flow.Class {
	p := policyOf(&m.config, &m.config.Instances[f.instance])
	i := slices.IndexFunc(p.UDPPorts[:], func(r snat.PortTimeout) bool { return r.Port == f.remote.Port() })
	if i < 0 {
		return flow.ClassUDP
	}
	return flow.FirstCustomClass + flow.Class(i)
}

// reclassify gives UDP flows the classes of new policies.
func (m *model) reclassify() {
	for _, f := range m.flows {
		if f.proto != protoUDP || f.over() || f.forward > 0 {
			continue
		}
		if c := m.udpClass(f); c != flow.ClassUDP || f.track.Class >= flow.FirstCustomClass {
			f.track.Class = c
		}
	}
}

// answerRefused answers a SYN that begins no flow for want of a port or by a route.
func (m *model) answerRefused(now flow.Time, instance int, p packet) {
	if p.flags&flow.ACK == 0 {
		m.answerUnknown(now, flow.Inside, instance, p)
	}
}

// answerUnknown queues the RST for a segment without flow, if it deserves one.
func (m *model) answerUnknown(now flow.Time, from flow.Side, instance int, p packet) {
	policy := m.config.Policy
	if from == flow.Inside {
		policy = policyOf(&m.config, &m.config.Instances[instance])
	} else if inv := sharedOf(m.config); inv != nil {
		first, last := cmp.Or(inv.FirstPort, 1024), cmp.Or(inv.LastPort, 65535)
		if !slices.Contains(inv.Frontends, p.dst.Addr()) || p.dst.Port() < first || p.dst.Port() > last {
			return
		}
	} else {
		owner := m.owner(p.dst, p.proto)
		if owner < 0 {
			return
		}
		policy = policyOf(&m.config, &m.config.Instances[owner])
	}
	who, flags, seq, ack := policy.ResetUnknown, "R", p.ack, uint32(0)
	if p.flags&flow.ACK == 0 {
		who, flags, seq, ack = policy.ResetSYN, "RA", 0, p.seq+1+uint32(len(p.payload))
	}
	if p.proto != protoTCP || p.corrupt || p.flags&flow.RST != 0 ||
		who == snat.ResetNone || who == snat.ResetInside && from == flow.Outside {
		return
	}
	if dst := p.dst.Addr(); from == flow.Inside && (p.src.Addr() == dst || martian(dst) || m.isFrontend(dst) && !m.hairpins(p) ||
		dst.IsLinkLocalUnicast() && (dst.Is6() || m.route(p.dst, p.proto).Action != snat.NodeAddress)) {
		return
	}
	b := pkttest.TCP(p.dst.String(), p.src.String(), pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack), pkttest.Window(0))
	m.resets = append(m.resets, emission{now, from, uint32(instance), string(b)})
	m.stats.Resets++
}

// lentBlock is a port block that is no longer granted, but whose flows have had a
// grace, which goes on.
type lentBlock struct {
	addr  netip.Addr
	proto uint8
	block uint16
}

// holdSYNs makes a configuration hold SYNs, perhaps, and tell all their senders.
func (s *script) holdSYNs(c *snat.Config) {
	if c.HoldSYN.Max = pick(s, 0, 1, 3); c.HoldSYN.Max == 0 {
		return
	}
	c.ICMP.ErrorRate, c.ICMP.ErrorBurst = 1_000_000, 1_000_000
	quiet := func(p *snat.Policy) { p.ResetSYN = min(p.ResetSYN, snat.ResetInside) }
	quiet(&c.Policy)
	for i := range c.Instances {
		if p := c.Instances[i].Policy; p != nil {
			quiet(p)
		}
	}
}

// heldSYN is an unsolicited SYN.
type heldSYN struct {
	remote, outside netip.AddrPort
	due             flow.Time
	packet          []byte
}

// hold holds an inbound packet if it is a SYN to a port that somebody owns.
func (m *model) hold(now flow.Time, p packet) {
	if m.config.HoldSYN.Max == 0 || p.proto != protoTCP || p.corrupt || p.flags != flow.SYN || m.owner(p.dst, p.proto) < 0 ||
		slices.ContainsFunc(m.held, func(h heldSYN) bool { return h.remote == p.src && h.outside == p.dst }) {
		return
	}
	if len(m.held) == m.config.HoldSYN.Max {
		m.stats.HeldSYNs.Forgotten++
		return
	}
	m.held = append(m.held, heldSYN{p.src, p.dst, now.Add(6 * time.Second), p.bytes()})
}

// match forgets the SYN that is held of a connection.
func (m *model) match(f *modelFlow) {
	all := len(m.held)
	m.held = slices.DeleteFunc(m.held, func(h heldSYN) bool { return h.remote == f.remote && h.outside == f.outside })
	m.stats.HeldSYNs.Matched += uint64(all - len(m.held))
}

// tellHeld tells the senders of held SYNs that nobody has wanted in time.
func (m *model) tellHeld(now flow.Time) {
	for len(m.held) > 0 && m.held[0].due <= now {
		h := m.held[0]
		m.held = m.held[1:]
		typ, code := uint8(3), uint8(3)
		if h.remote.Addr().Is6() {
			typ, code = 1, 4
		}
		b := pkttest.ICMP(h.outside.Addr().String(), h.remote.Addr().String(), typ, code, 0, h.packet)
		m.resets = append(m.resets, emission{h.due, flow.Outside, 0, string(b)})
		m.stats.ICMPErrors++
		m.stats.HeldSYNs.Expired++
	}
}

// nextOfAll is nextDeadline with those of held SYNs.
func (m *model) nextOfAll() (at flow.Time, ok bool) {
	if at, ok = m.nextDeadline(); len(m.held) > 0 && (!ok || m.held[0].due < at) {
		at, ok = m.held[0].due, true
	}
	return at, ok
}
