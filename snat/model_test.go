package snat_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// model is the dull twin of NAT: one list of flows, which every question walks
// from end to end, and nothing that is kept up to date on the side. Time passes
// at once: before each packet all that is due ends. The TCP tracker is taken as
// given; it has a twin of its own in package flow.
type model struct {
	config   snat.Config // Instances by index
	tracks   bool        // a row of the destination table remembers, or has done
	floor    int64       // tick of the last reconfiguration: nothing ends before
	end      flow.Time   // of the next grace, or noEnd
	graces   int         // that have ended with flows
	permits  map[permitted]permit
	ended    uint64                 // by resetTo
	gaveWay  uint64                 // closed flows, to the next connection on their sockets
	turned   bool                   // what comes in has been sent from inside
	strays   uint64                 // datagrams from outside of flows that are passed on
	entries  uint64                 // packets that went back as they had come, although their row passes on
	rivals   uint64                 // packets to a forward whose sender's flow is another forward's
	lent     map[lentBlock]int      // blocks that await removal, and with whom
	held     []heldSYN              // the earliest first
	former   []netip.Addr           // frontends that are only ours because flows have used them
	timeouts []map[flow.Class]int64 // ticks, by instance, and then by forward
	resetsOn []bool                 // EnableTCPReset, likewise, as those below
	refresh  []snat.UDPRefresh

	endRefused []bool

	// endedAtOnce says that a session has ended at the moment of its last packet.
	endedAtOnce bool
	rules       []flow.TCPRules
	flows       []*modelFlow // in the order of their creation
	resets      []emission   // not yet drained
	apart       uint64       // mappings beside a socket's usual one, ever

	remembered [2]uint64 // flows without translation, by who began them

	// Counts of all that ever happened.
	stats    snat.Stats
	inst     []snat.InstanceStats // Created and Failed
	peak     map[poolKey]int
	portPeak map[frontendKey]int
	traffic  map[frontendKey]*[2]snat.TrafficCount

	chosen netip.AddrPort // with an inventory: the port that the NAT says a new flow got
}

// modelFlow is one 5-tuple.
type modelFlow struct {
	instance                int
	proto                   uint8
	inside, outside, remote netip.AddrPort
	nodePort                uint16
	atNode                  bool // translated to the instance's own or public address, or to nothing
	asIs                    bool // to nothing
	mapping                 *modelMapping
	forward                 int        // that has sent it on, plus one
	until                   flow.Time  // if its port awaits removal: when it is cut
	track                   flow.Track // of UDP only the class
	last                    int64      // tick of last activity
	heard                   [2]int64   // UDP: the same by direction
}

// emission is a flow.Emission that can be compared.
type emission struct {
	at       flow.Time
	to       flow.Side
	instance uint32
	packet   string
}

// String describes the emission in a line.
func (e emission) String() string {
	return fmt.Sprintf("%v to %v (%d): %s", e.at, e.to, e.instance, pkttest.String([]byte(e.packet)))
}

// poolKey names the ports of an instance, frontendKey those of a frontend.
type (
	poolKey struct {
		instance int
		is6      bool
		proto    uint8
	}
	frontendKey struct {
		addr  netip.Addr
		proto uint8
	}
)

// newModel returns a model of c, in which no timeout may be left to its default.
func newModel(c snat.Config) *model {
	m := &model{
		config: c, end: noEnd, inst: make([]snat.InstanceStats, len(c.Instances)),
		peak: map[poolKey]int{}, portPeak: map[frontendKey]int{}, traffic: map[frontendKey]*[2]snat.TrafficCount{},
	}
	m.setPolicies()
	return m
}

// setPolicies reads the policies of all instances, and whether a row remembers.
func (m *model) setPolicies() {
	m.tracks = m.tracks || slices.ContainsFunc(m.config.Routes, func(r snat.Route) bool { return r.BothWays && r.Action != snat.PassThrough })
	m.timeouts, m.resetsOn, m.refresh, m.endRefused, m.rules = nil, nil, nil, nil, nil
	policies := make([]snat.Policy, 0, len(m.config.Instances)+len(m.config.Forwards))
	for _, inst := range m.config.Instances {
		policies = append(policies, policyOf(&m.config, &inst))
	}
	for _, f := range m.config.Forwards {
		policies = append(policies, *cmp.Or(f.Policy, &m.config.Policy))
	}
	for _, p := range policies {
		ticks := map[flow.Class]int64{}
		for class, d := range map[flow.Class]time.Duration{
			flow.ClassTCPOpening: p.Timeouts.TCPOpening, flow.ClassTCPEstablished: p.Timeouts.TCPEstablished,
			flow.ClassTCPHalfClosed: p.Timeouts.TCPHalfClosed, flow.ClassTCPClosing: p.Timeouts.TCPClosing,
			flow.ClassTCPTimeWait: p.Timeouts.TCPTimeWait, flow.ClassTCPReset: p.Timeouts.TCPReset,
			flow.ClassTCPResetSent: p.Timeouts.TCPResetSent, flow.ClassTCPSynReceived: p.Timeouts.TCPSynReceived,
			flow.ClassTCPCloseWait: p.Timeouts.TCPCloseWait, flow.ClassTCPUnacknowledged: min(p.Timeouts.TCPUnacknowledged, p.Timeouts.TCPEstablished),
			flow.ClassUDP: p.Timeouts.UDP, flow.ClassUDPReplied: p.Timeouts.UDPReplied,
			flow.ClassUDPHeld: p.Timeouts.UDPHeld,
		} {
			ticks[class] = int64(d / flow.Tick)
		}
		for i, r := range p.UDPPorts {
			ticks[flow.FirstCustomClass+flow.Class(i)] = int64(r.Timeout / flow.Tick)
		}
		m.timeouts = append(m.timeouts, ticks)
		m.resetsOn = append(m.resetsOn, p.EnableTCPReset)
		m.refresh = append(m.refresh, p.UDPRefresh)
		m.endRefused = append(m.endRefused, p.EndRefused)
		m.rules = append(m.rules, p.TCPRules)
	}
}

func tick(t flow.Time) int64 { return int64(t) / int64(flow.Tick) }

func (f *modelFlow) tombstone() bool { return f.track.Class == flow.ClassTCPResetSent }

// held reports whether the connection is over and only keeps its port.
func (f *modelFlow) held() bool {
	c := f.track.Class
	return c == flow.ClassTCPClosing || c == flow.ClassTCPTimeWait || c == flow.ClassTCPReset || f.over()
}

// over reports whether this is the hold of a UDP flow that has ended.
func (f *modelFlow) over() bool { return f.track.Class == flow.ClassUDPHeld }

func (m *model) deadline(f *modelFlow) int64 {
	return max(f.last+m.timeouts[m.policyOf(f)][f.track.Class], m.floor)
}

// nextDeadline returns the earliest time at which something ends.
func (m *model) nextDeadline() (at flow.Time, ok bool) {
	if m.end != noEnd {
		at, ok = m.end, true
	}
	for _, f := range m.flows {
		if d := flow.At(time.Duration(m.deadline(f)) * flow.Tick); !ok || d < at {
			at, ok = d, true
		}
	}
	return at, ok
}

// expire ends what is due at now, the earliest first.
func (m *model) expire(now flow.Time) {
	m.tellHeld(now)
	for {
		at, ok := m.nextDeadline()
		if !ok || at > now {
			return
		}
		i := slices.IndexFunc(m.flows, func(f *modelFlow) bool { return m.deadline(f) == tick(at) })
		if i < 0 {
			m.endGrace(at)
			continue
		}
		f := m.flows[i]
		if f.tombstone() || f.over() {
			m.flows = slices.Delete(m.flows, i, i+1)
			continue
		}
		m.finish(f, at, m.resetsOn[m.policyOf(f)])
	}
}

// finish ends a flow that is not over, and with resets tells both ends if it is established.
func (m *model) finish(f *modelFlow, at flow.Time, resets bool) {
	m.stats.Expired[f.track.Class]++
	m.stats.SessionsEnded++
	if m.config.Timeouts.UDPHeld > 0 && f.proto == protoUDP && !f.atNode {
		f.track.Class, f.last, f.nodePort = flow.ClassUDPHeld, tick(at), 0
		return
	}
	idle := f.track.Class == flow.ClassTCPEstablished || f.track.Class == flow.ClassTCPUnacknowledged
	if !idle || !f.track.Established() || !resets {
		m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool { return g == f })
		return
	}
	for _, to := range []flow.Side{flow.Inside, flow.Outside} {
		if to == flow.Outside && ownedOf(m.config).Hairpin && m.isFrontend(f.remote.Addr()) {
			continue
		}
		seqs, n := f.track.Resets(to)
		for _, seq := range seqs[:n] {
			m.reset(f, at, to, seq)
		}
	}
	f.track.MarkReset()
	f.last = tick(at)
}

// resetTo ends the TCP connections that the inside has begun with hosts in remotes.
func (m *model) resetTo(now flow.Time, remotes netip.Prefix) (ended int) {
	m.expire(now)
	for _, f := range slices.Clone(m.flows) {
		if f.proto == protoTCP && f.forward == 0 && !f.tombstone() && f.track.Initiator() == flow.Inside && remotes.Contains(f.remote.Addr()) {
			m.finish(f, now, true)
			ended++
		}
	}
	m.ended += uint64(ended)
	return ended
}

// reset queues a RST to one end of a flow.
func (m *model) reset(f *modelFlow, at flow.Time, to flow.Side, seq uint32) {
	src, dst := f.remote, f.inside
	if to == flow.Outside {
		src, dst = f.outside, f.remote
	}
	b := pkttest.TCP(src.String(), dst.String(), pkttest.RST, pkttest.Seq(seq), pkttest.Window(0))
	m.resets = append(m.resets, emission{at, to, uint32(f.instance), string(b)})
	m.stats.Resets++
}

// count counts a packet's verdict.
func (m *model) count(from flow.Side, v flow.Verdict) flow.Verdict {
	p := &m.stats.Outbound
	if from == flow.Outside {
		p = &m.stats.Inbound
	}
	switch v.Action {
	case flow.Forward:
		p.Forwarded++
	case flow.Bypass:
		p.Bypassed++
	default:
		p.Dropped++
		p.Drops[v.Reason]++
	}
	m.notePeaks()
	return v
}

// carried counts the traffic of a frontend, if the address is one.
func (m *model) carried(from flow.Side, a netip.Addr, p packet) {
	if !m.hasPorts(a) {
		return
	}
	k := frontendKey{a, p.proto}
	if m.traffic[k] == nil {
		m.traffic[k] = new([2]snat.TrafficCount)
	}
	c := &m.traffic[k][from]
	c.Packets++
	c.Bytes += uint64(len(p.bytes()))
	if p.proto == protoTCP && p.flags&(flow.SYN|flow.ACK) == flow.SYN {
		c.SYNs++
	}
}

// hasPorts reports whether an address is a frontend, other than a public address of
// one instance.
func (m *model) hasPorts(a netip.Addr) bool {
	if slices.ContainsFunc(m.config.Forwards, func(f snat.Forward) bool { return f.Frontend == a }) {
		return true
	}
	if inv := sharedOf(m.config); inv != nil && slices.Contains(inv.Frontends, a) {
		return true
	}
	for _, inst := range m.config.Instances {
		if slices.ContainsFunc(inst.Ports, func(r snat.PortRange) bool { return r.Frontend == a }) {
			return true
		}
	}
	return slices.Contains(m.former, a)
}

// instanceOf returns the instance behind which an address is, -1 if none.
func (m *model) instanceOf(a netip.Addr) int {
	best, bits := -1, -1
	for i, inst := range m.config.Instances {
		if slices.Contains(inst.Addrs, a) {
			return i
		}
		for _, p := range inst.Inside {
			if p.Contains(a) && p.Bits() > bits {
				best, bits = i, p.Bits()
			}
		}
	}
	return best
}

// own returns the instance's own address of a's family; invalid if it has none.
func (m *model) own(instance int, a netip.Addr) netip.Addr {
	for _, own := range m.config.Instances[instance].Addrs {
		if own.Is4() == a.Is4() {
			return own
		}
	}
	return netip.Addr{}
}

// public returns the instance's public address of a's family; invalid if it has none.
func (m *model) public(instance int, a netip.Addr) netip.Addr {
	for _, public := range m.config.Instances[instance].PublicAddrs {
		if public.Is4() == a.Is4() {
			return public
		}
	}
	return netip.Addr{}
}

// isFrontend reports whether the Internet sees an address: a frontend or a
// public address.
func (m *model) isFrontend(a netip.Addr) bool {
	if slices.ContainsFunc(m.config.Forwards, func(f snat.Forward) bool { return f.Frontend == a }) {
		return true
	}
	if inv := sharedOf(m.config); inv != nil && slices.Contains(inv.Frontends, a) {
		return true
	}
	for _, inst := range m.config.Instances {
		if slices.Contains(inst.PublicAddrs, a) {
			return true
		}
		if slices.ContainsFunc(inst.Ports, func(r snat.PortRange) bool { return r.Frontend == a }) {
			return true
		}
	}
	return slices.Contains(m.former, a)
}

func (m *model) isNode(a netip.Addr) bool {
	return slices.ContainsFunc(m.config.Instances, func(i snat.Instance) bool { return slices.Contains(i.Addrs, a) })
}

// martian reports whether an address cannot be that of a single host.
func martian(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return b[0] == 0 || b[0] == 127 || b[0] >= 224
	}
	return a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4In6()
}

// touch restarts the idle timer.
func (f *modelFlow) touch(now flow.Time) { f.last = tick(now) }

// tracked shows a packet to a flow's tracker and says why it may not pass, if so.
func (m *model) tracked(now flow.Time, from flow.Side, f *modelFlow, p packet) flow.Reason {
	if p.proto == protoUDP {
		if initiator := f.track.Initiator(); from != initiator && f.forward == 0 && (from == flow.Outside || f.asIs) {
			if t := m.timeouts[m.policyOf(f)]; f.track.Class == flow.ClassUDP && t[flow.ClassUDPReplied] < t[flow.ClassUDP] {
				f.heard = [2]int64{tick(now), tick(now)}
			}
			if f.track.Class == flow.ClassUDP {
				f.track.Class = flow.ClassUDPReplied
			}
		}
		f.touch(now)
		switch f.heard[from] = f.last; m.refresh[m.policyOf(f)] {
		case snat.RefreshPerDirection:
			f.last = min(f.heard[flow.Inside], f.heard[flow.Outside])
		case snat.RefreshOutbound:
			f.last = f.heard[flow.Inside]
		}
		return flow.ReasonNone
	}
	if p.corrupt && (p.flags&(flow.SYN|flow.FIN|flow.RST) != 0 || f.tombstone() && p.flags&flow.ACK != 0) {
		m.stats.BadChecksum++
		if f.tombstone() {
			return flow.ReasonFlowReset
		}
		return flow.ReasonNone
	}
	if f.tombstone() && p.flags&(flow.SYN|flow.ACK) == flow.SYN {
		return flow.ReasonFlowReset // what may begin anew has been seen to
	}
	if from == flow.Outside && !f.asIs && f.forward == 0 && f.held() && p.flags&(flow.SYN|flow.ACK) == flow.SYN && m.behavior(protoTCP).Filtering == snat.PerConnectionFiltering {
		return flow.ReasonFiltered
	}
	if m.reopens(from, f, p) {
		if from == flow.Outside && m.route(p.src, p.proto).Action == snat.Blackhole {
			return flow.ReasonRoute
		}
		if reason := m.admitsAgain(from, f, p); reason != flow.ReasonNone {
			return reason
		}
	}
	seg := p.segment()
	opening := f.track.Unanswered()
	fromOutside := opening && f.track.Initiator() == flow.Outside
	effect := f.track.Update(from, &seg)
	if effect&flow.OutOfWindow != 0 {
		m.stats.OutOfWindow++
	}
	if effect&flow.Touch != 0 && !(fromOutside && from == flow.Outside) {
		f.touch(now)
	}
	if opening && (m.endRefused[m.policyOf(f)] || fromOutside) && f.track.Class == flow.ClassTCPReset {
		f.last = tick(now) - m.timeouts[m.policyOf(f)][flow.ClassTCPReset]
		m.endedAtOnce = true
	}
	if effect&flow.Answer != 0 {
		m.reset(f, now, from, p.ack)
	}
	if effect&flow.Discard != 0 {
		return flow.ReasonFlowReset
	}
	return flow.ReasonNone
}

// outbound returns the verdict on a packet from the inside, and the packet as it
// leaves if it is forwarded.
func (m *model) outbound(now flow.Time, p packet) (flow.Verdict, packet) {
	if !m.hairpins(p) {
		return m.leave(now, p, false)
	}
	out, p := m.leave(now, p, true)
	if out.Action != flow.Forward {
		return out, p
	}
	in, p := m.enter(now, p, true)
	in.New = in.Action == flow.Forward && (in.New || out.New)
	return in, p
}

// leave is outbound for one translation.
func (m *model) leave(now flow.Time, p packet, hairpin bool) (flow.Verdict, packet) {
	m.expire(now)
	drop := func(r flow.Reason) (flow.Verdict, packet) {
		return m.count(flow.Inside, flow.Verdict{Action: flow.Drop, Reason: r}), p
	}
	instance := m.instanceOf(p.src.Addr())
	if v, sent, ok := m.leaveForwarded(now, instance, &p); ok {
		return v, sent
	}
	if instance < 0 {
		switch {
		case m.isFrontend(p.src.Addr()):
			return drop(flow.ReasonSpoofFrontend)
		case martian(p.src.Addr()):
			return drop(flow.ReasonMartianSource)
		}
		return drop(flow.ReasonSpoof)
	}
	forward := func(f *modelFlow, isNew bool) (flow.Verdict, packet) {
		p.src = f.outside
		m.carried(flow.Inside, p.src.Addr(), p)
		return m.count(flow.Inside, flow.Verdict{Action: flow.Forward, To: flow.Outside, New: isNew, Instance: uint32(instance)}), p
	}
	var tombstone *modelFlow // or a closed flow, which a new one takes the place of
	i := slices.IndexFunc(m.flows, func(f *modelFlow) bool {
		return f.proto == p.proto && f.inside == p.src && f.remote == p.dst && !f.over() && f.forward == 0
	})
	if i >= 0 {
		f := m.flows[i]
		if f.tombstone() && p.isSYN() && !p.corrupt || m.reopens(flow.Inside, f, p) && !m.lasts(f, hairpin) {
			tombstone = f
		} else if reason := m.tracked(now, flow.Inside, f, p); reason != flow.ReasonNone {
			return drop(reason)
		} else {
			return forward(f, false)
		}
	}
	if p.src.Addr() == p.dst.Addr() {
		return drop(flow.ReasonLand)
	}
	row := m.route(p.dst, p.proto)
	action := row.Action
	own, public := m.own(instance, p.src.Addr()), m.public(instance, p.src.Addr())
	direct := public.IsValid() && own == p.src.Addr()
	if action == snat.NodeAddress && own == p.src.Addr() {
		action = snat.PassThrough
		switch {
		case !row.BothWays || direct || m.begins(instance, p) != flow.ReasonNone || m.refusesTo(p.dst.Addr(), row.Action, hairpin):
		case m.elsewhere(instance, p, tombstone):
			action = snat.NodeAddress // as what is behind the instance
		default:
			f, reason := m.remember(now, flow.Inside, instance, p, tombstone)
			if reason != flow.ReasonNone {
				if reason == flow.ReasonMappingConflict {
					m.answerRefused(now, instance, p)
				}
				return drop(reason)
			}
			return forward(f, true)
		}
	}
	if direct && row.PassOn && m.answersEntry(now, instance, p) {
		action = snat.Translate
	}
	switch action {
	case snat.PassThrough:
		if row.PassOn { // nobody is asked
		} else if reason := m.admitsUnseen(now, flow.Inside, instance, p, p.src.Addr()); reason != flow.ReasonNone {
			return drop(reason)
		}
		m.giveWay(now, tombstone)
		return m.count(flow.Inside, flow.Verdict{Action: flow.Bypass, Instance: uint32(instance)}), p
	case snat.Blackhole:
		if !direct {
			m.answerRefused(now, instance, p)
		}
		return drop(flow.ReasonRoute)
	}
	pickUp := policyOf(&m.config, &m.config.Instances[instance]).PickUp && p.flags&(flow.SYN|flow.ACK|flow.RST|flow.FIN) == flow.ACK
	if !direct && p.proto == protoTCP && p.flags&(flow.SYN|flow.ACK|flow.RST|flow.FIN) != flow.SYN && !pickUp {
		m.answerUnknown(now, flow.Inside, instance, p)
		return drop(flow.ReasonNoFlow)
	}
	if !direct && p.proto == protoTCP && p.corrupt {
		return drop(flow.ReasonL4Checksum)
	}
	dst := p.dst.Addr()
	switch {
	case martian(dst):
		return drop(flow.ReasonMartianDestination)
	case dst.IsLinkLocalUnicast() && (dst.Is6() || action != snat.NodeAddress):
		return drop(flow.ReasonLinkLocal)
	case m.isFrontend(dst) && !hairpin:
		return drop(flow.ReasonHairpin)
	}
	if direct {
		if reason := m.admitsPublic(now, flow.Inside, instance, p, p.src.Addr()); reason != flow.ReasonNone {
			return drop(reason)
		}
		m.stats.Outbound.OneToOne++
		m.inst[instance].OutboundOneToOne++
		return forward(&modelFlow{outside: netip.AddrPortFrom(public, p.src.Port())}, false)
	}
	if public.IsValid() && action == snat.Translate {
		own, action = public, snat.NodeAddress
	}
	f := &modelFlow{instance: instance, proto: p.proto, inside: p.src, remote: p.dst, atNode: action == snat.NodeAddress}
	if reason := m.admits(flow.Inside, f); reason != flow.ReasonNone {
		return drop(reason)
	}
	m.giveWay(now, tombstone)
	if reason := m.assign(f, own); reason == flow.ReasonHairpinLoop {
		return drop(reason)
	} else if reason != flow.ReasonNone {
		m.stats.ConnectionsFailed++
		m.inst[instance].Failed++
		m.answerRefused(now, instance, p)
		return drop(reason)
	}
	m.begin(now, flow.Inside, f, p)
	return forward(f, true)
}

// begin begins a flow with a packet.
func (m *model) begin(now flow.Time, from flow.Side, f *modelFlow, p packet) {
	f.track.Class = m.udpClass(f)
	if f.forward > 0 {
		f.track.Class = flow.ClassUDP
	} else if from == flow.Outside && !f.asIs && f.track.Class == flow.ClassUDP {
		f.track.Class = flow.ClassUDPReplied
	}
	f.track.SetInitiator(from)
	if p.proto == protoTCP {
		seg := p.segment()
		f.track.OpenBy(m.rules[m.policyOf(f)], from, &seg)
		m.match(f)
	}
	f.touch(now)
	f.heard = [2]int64{f.last, f.last}
	m.flows = append(m.flows, f)
	m.anchor(from, f)
	m.stats.SessionsCreated++
	if !f.atNode {
		m.stats.ConnectionsSuccessful++
	}
	if f.forward == 0 {
		m.inst[f.instance].Created++
	}
}

// assign gives a new flow its node port and its outside port.
func (m *model) assign(f *modelFlow, own netip.Addr) flow.Reason {
	behind := len(m.config.Instances[f.instance].Inside) > 0
	if own.IsValid() && (behind || f.atNode) {
		if f.nodePort = m.nodePort(f); f.nodePort == 0 {
			return flow.ReasonPorts
		}
	}
	if f.atNode {
		f.outside = netip.AddrPortFrom(own, f.nodePort)
		if !own.IsValid() {
			return flow.ReasonNoOutbound
		}
		return flow.ReasonNone
	}
	if sharedOf(m.config) != nil {
		return m.assignShared(f)
	}
	ports := m.ports(poolKey{f.instance, f.inside.Addr().Is6(), f.proto})
	if len(ports) == 0 {
		return flow.ReasonNoOutbound
	}
	b := m.behavior(f.proto)
	want := modelMapping{inside: f.inside, peer: b.peer(f.remote)}
	apart := modelMapping{inside: f.inside, peer: b.scope(f.remote), apart: true}
	for _, k := range []modelMapping{apart, want} { // a remote keeps seeing the port that it has seen
		g := m.mapped(f.proto, k)
		if b.Mapping == snat.PerConnection || g == nil {
			continue
		}
		f.mapping, f.outside, f.until = g.mapping, g.outside, g.until
		if f.outside == f.remote {
			return flow.ReasonHairpinLoop
		}
		if m.taken(f) {
			want, f.until = apart, 0
			break
		}
		m.clear(f)
		return flow.ReasonNone
	}
	f.mapping = &want
	for _, port := range ports {
		if f.outside = port; !m.taken(f) {
			if f.outside == f.remote {
				return flow.ReasonHairpinLoop
			}
			if want.apart {
				m.apart++
			}
			m.clear(f)
			return flow.ReasonNone
		}
	}
	return flow.ReasonPorts
}

// clear removes the tombstone on f's 5-tuple.
func (m *model) clear(f *modelFlow) {
	m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool {
		return g.tombstone() && g.proto == f.proto && g.outside == f.outside && g.remote == f.remote
	})
}

// taken reports whether f may not use its outside port because another mapping
// does that it must not share it with.
func (m *model) taken(f *modelFlow) bool {
	return slices.ContainsFunc(m.flows, func(g *modelFlow) bool {
		if g.proto != f.proto || g.outside != f.outside || g.tombstone() || g.mapping == f.mapping {
			return false
		}
		switch m.behavior(f.proto).Share {
		case snat.SharePerAddress:
			return g.remote.Addr() == f.remote.Addr()
		case snat.SharePerDestination:
			return g.remote == f.remote
		}
		return true
	})
}

// nodePort returns the port that f gets at its instance's own address: its own
// if nobody else behind the instance talks from it to the same remote, else one
// of the next eight, else one that a fixed stride leads to. 0 means none.
func (m *model) nodePort(f *modelFlow) uint16 {
	taken := map[uint16]bool{}
	for _, g := range m.flows {
		if g.instance == f.instance && g.proto == f.proto && g.remote == f.remote {
			taken[g.nodePort] = true
		}
	}
	const first, count, stride = 1024, 65536 - 1024, 25_013
	own := f.inside.Port()
	if !taken[own] {
		return own
	}
	base := max(int(own), first) - first
	for i := 1; i < 2*count; i++ {
		offset := base + i
		if i > 8 {
			offset = base + 8 + (i-8)*stride
		}
		if port := uint16(first + offset%count); !taken[port] {
			return port
		}
	}
	return 0
}

// elsewhere reports whether what is behind an instance has the port that the instance's own address
// sends from, towards the same remote; a flow that gives way has none.
func (m *model) elsewhere(instance int, p packet, gone *modelFlow) bool {
	return len(m.config.Instances[instance].Inside) > 0 && slices.ContainsFunc(m.flows, func(g *modelFlow) bool {
		return g != gone && g.instance == instance && g.proto == p.proto && g.remote == p.dst && g.nodePort == p.src.Port()
	})
}

// ports lists a pool in the order of consumption.
func (m *model) ports(k poolKey) (ports []netip.AddrPort) {
	for _, r := range m.config.Instances[k.instance].Ports {
		if r.Frontend.Is6() != k.is6 || r.Protocol == snat.TCP && k.proto != protoTCP || r.Protocol == snat.UDP && k.proto != protoUDP {
			continue
		}
		for i := range r.Count {
			ports = append(ports, netip.AddrPortFrom(r.Frontend, r.First+uint16(i)))
		}
	}
	return ports
}

// inbound returns the verdict on a packet from the outside, and the packet as it
// arrives if it is forwarded.
func (m *model) inbound(now flow.Time, p packet) (flow.Verdict, packet) {
	return m.enter(now, p, false)
}

// enter is inbound for a packet that may have come from the inside.
func (m *model) enter(now flow.Time, p packet, hairpin bool) (flow.Verdict, packet) {
	m.turned = hairpin
	m.expire(now)
	drop := func(r flow.Reason) (flow.Verdict, packet) {
		return m.count(flow.Outside, flow.Verdict{Action: flow.Drop, Reason: r}), p
	}
	admitted := func(f *modelFlow) (flow.Verdict, packet) {
		m.carried(flow.Outside, p.dst.Addr(), p)
		p.dst = f.inside
		return m.count(flow.Outside, flow.Verdict{Action: flow.Forward, To: flow.Inside, New: true, Instance: uint32(f.instance)}), p
	}
	src, dst := p.src.Addr(), p.dst.Addr()
	inside := !m.isFrontend(dst) && !m.isNode(dst) // or nobody's
	if inside && (!m.tracks || m.instanceOf(dst) < 0) {
		if v, ok := m.entry(now, p); ok {
			return m.count(flow.Outside, v), p
		}
		return drop(flow.ReasonNotOurs)
	}
	i := slices.IndexFunc(m.flows, func(f *modelFlow) bool {
		return f.proto == p.proto && f.outside == p.dst && f.remote == p.src && !f.over()
	})
	var gone *modelFlow
	if i >= 0 {
		if f := m.flows[i]; m.movesOn(f, p) || m.entersAnew(f, p) {
			gone, i = f, -1
		}
	}
	if i < 0 {
		switch {
		case hairpin:
		case src == dst:
			return drop(flow.ReasonLand)
		case m.isFrontend(src):
			return drop(flow.ReasonSpoofFrontend)
		case martian(src) || m.isFrontend(dst) && m.instanceOf(src) >= 0:
			return drop(flow.ReasonMartianSource)
		case m.isFrontend(dst) && src.IsLinkLocalUnicast():
			return drop(flow.ReasonLinkLocal)
		}
		if m.forwardAt(p.dst, p.proto) > 0 {
			f, reason := m.openForwarded(now, p, hairpin)
			if reason != flow.ReasonNone {
				return drop(reason)
			}
			return admitted(f)
		}
		for i := range m.config.Instances {
			if m.public(i, dst) == dst {
				if reason := m.admitsPublic(now, flow.Outside, i, p, m.own(i, dst)); reason != flow.ReasonNone {
					return drop(reason)
				}
				m.stats.Inbound.OneToOne++
				m.inst[i].InboundOneToOne++
				p.dst = netip.AddrPortFrom(m.own(i, dst), p.dst.Port())
				return m.count(flow.Outside, flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: uint32(i)}), p
			}
		}
		if v, ok := m.entry(now, p); ok {
			if v.Action == flow.Bypass {
				m.giveWay(now, gone)
			}
			return m.count(flow.Outside, v), p
		}
		if inside {
			return drop(flow.ReasonNotOurs)
		}
		g, reason := m.openInbound(now, p)
		if reason == flow.ReasonNone {
			return admitted(g)
		}
		if !hairpin && reason != flow.ReasonNSGInbound {
			m.hold(now, p)
			m.answerUnknown(now, flow.Outside, 0, p)
		}
		return drop(reason)
	}
	f := m.flows[i]
	if f.tombstone() && !p.corrupt && p.flags&(flow.SYN|flow.ACK) == flow.SYN {
		if g, reason := m.openInbound(now, p); reason == flow.ReasonNone {
			return admitted(g)
		} else if reason == flow.ReasonNSGInbound {
			return drop(reason)
		}
	}
	if reason := m.tracked(now, flow.Outside, f, p); reason != flow.ReasonNone {
		return drop(reason)
	}
	m.carried(flow.Outside, p.dst.Addr(), p)
	p.dst = f.inside
	return m.count(flow.Outside, flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: uint32(f.instance)}), p
}

// pool counts the use of an instance's ports now.
func (m *model) pool(k poolKey) snat.PoolStats {
	ports, awaiting := m.ports(k), m.awaiting(k)
	ports = append(ports, awaiting...)
	s := snat.PoolStats{Is6: k.is6, Protocol: protocolOf(k.proto), Allocated: len(ports), Peak: m.peak[k], AwaitingRemoval: len(awaiting)}
	for _, port := range ports {
		s.PortUses = s.Add(m.useOf(port, k.proto))
	}
	s.Used = s.Total()
	s.Free = s.Allocated - s.Used
	return s
}

// portUses says what all outside ports are used for.
func (m *model) portUses() (u snat.PortUses) {
	type port struct {
		netip.AddrPort
		proto uint8
	}
	seen := map[port]bool{}
	for _, f := range m.flows {
		if at := (port{f.outside, f.proto}); !f.atNode && !seen[at] {
			seen[at] = true
			u = u.Add(m.useOf(f.outside, f.proto))
		}
	}
	return u
}

// useOf says what an outside port is used for: one port of one kind, or none.
func (m *model) useOf(port netip.AddrPort, proto uint8) (u snat.PortUses) {
	for _, f := range m.flows {
		if f.proto != proto || f.atNode || f.outside != port || f.tombstone() {
			continue
		}
		switch f.track.Class {
		case flow.ClassTCPClosing, flow.ClassTCPTimeWait:
			u.HeldFIN = 1
		case flow.ClassTCPReset:
			u.HeldRST = 1
		case flow.ClassUDPHeld:
			u.HeldUDP = 1
		default:
			u.Active = 1
		}
	}
	switch {
	case u.Active > 0:
		return snat.PortUses{Active: 1}
	case u.HeldFIN > 0:
		return snat.PortUses{HeldFIN: 1}
	}
	return u
}

func protocolOf(proto uint8) snat.Protocol {
	if proto == protoTCP {
		return snat.TCP
	}
	return snat.UDP
}

// notePeaks remembers the highest use of every pool and frontend.
func (m *model) notePeaks() {
	pools, frontends := map[poolKey]map[netip.AddrPort]bool{}, map[frontendKey]map[netip.AddrPort]bool{}
	for _, f := range m.flows {
		if f.atNode || f.tombstone() {
			continue
		}
		k, a := poolKey{f.instance, f.inside.Addr().Is6(), f.proto}, frontendKey{f.outside.Addr(), f.proto}
		if pools[k] == nil {
			pools[k] = map[netip.AddrPort]bool{}
		}
		if frontends[a] == nil {
			frontends[a] = map[netip.AddrPort]bool{}
		}
		pools[k][f.outside], frontends[a][f.outside] = true, true
	}
	for k, ports := range pools {
		m.peak[k] = max(m.peak[k], len(ports))
	}
	for k, ports := range frontends {
		m.portPeak[k] = max(m.portPeak[k], len(ports))
	}
}

// instances returns the use of all instances.
func (m *model) instances() []snat.InstanceStats {
	all := slices.Clone(m.inst)
	for i := range all {
		all[i].Name = m.config.Instances[i].Name
		for _, is6 := range []bool{false, true} {
			for _, proto := range []uint8{protoTCP, protoUDP} {
				if s := m.pool(poolKey{i, is6, proto}); s.Allocated > 0 {
					all[i].Pools = append(all[i].Pools, s)
				}
			}
		}
	}
	return all
}

// frontends returns the use of all frontends.
func (m *model) frontends() (all []snat.FrontendStats) {
	var addrs []netip.Addr
	for _, inst := range m.config.Instances {
		for _, r := range inst.Ports {
			if !slices.Contains(addrs, r.Frontend) {
				addrs = append(addrs, r.Frontend)
			}
		}
	}
	for _, f := range m.config.Forwards { // ports there may await removal
		if !slices.Contains(addrs, f.Frontend) {
			addrs = append(addrs, f.Frontend)
		}
	}
	addrs = append(addrs, m.former...)
	for _, a := range addrs {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			s := snat.FrontendStats{Frontend: a, Protocol: protocolOf(proto), Peak: m.portPeak[frontendKey{a, proto}]}
			for i := range m.config.Instances {
				k := poolKey{i, a.Is6(), proto}
				granted, awaiting := m.ports(k), m.awaiting(k)
				for j, port := range append(granted, awaiting...) {
					if port.Addr() == a {
						s.Allocated++
						if j >= len(granted) {
							s.AwaitingRemoval++
						}
						s.PortUses = s.Add(m.useOf(port, proto))
					}
				}
			}
			if s.Used = s.Total(); s.Allocated > 0 {
				all = append(all, s)
			}
		}
	}
	return all
}

// sessions lists all flows, tombstones included, sorted.
func (m *model) sessions() (lines []string) {
	for _, f := range m.flows {
		port := f.nodePort
		if port == 0 && !f.over() && m.own(f.instance, f.inside.Addr()) == f.inside.Addr() {
			port = f.inside.Port() // which it shares with nobody
		}
		lines = append(lines, fmt.Sprintf("%d %d %v %v %v %v %d", f.instance, f.proto, f.inside, f.outside, f.remote, f.track.Class, port))
	}
	slices.Sort(lines)
	return lines
}

// active counts the flows without tombstones.
func (m *model) active() (n int) {
	for _, f := range m.flows {
		if !f.tombstone() && !f.over() {
			n++
		}
	}
	return n
}
