package lb

// What becomes of packets in the model of inbound_model_test.go.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// door sends one packet, alone or as a batch.
func (m *inboundModel) door(from flow.Side, p []byte) flow.Verdict {
	now := flow.At(m.now)
	if m.r.IntN(2) == 0 {
		var v [1]flow.Verdict
		if from == flow.Inside {
			m.l.OutboundBatch(now, [][]byte{p}, v[:])
		} else {
			m.l.InboundBatch(now, [][]byte{p}, v[:])
		}
		return v[0]
	}
	if from == flow.Inside {
		return m.l.Outbound(now, p)
	}
	return m.l.Inbound(now, p)
}

// fromClient sends a packet of a flow's client, which may be a machine itself.
func (m *inboundModel) fromClient(f inboundFlow, p []byte) flow.Verdict {
	side := flow.Outside
	if m.backendAt(f.client.Addr()) != "" {
		side = flow.Inside
	}
	return m.door(side, p)
}

// socket returns the frontend's socket of a flow.
func (m *inboundModel) socket(f inboundFlow) netip.AddrPort {
	return netip.AddrPortFrom(m.frontend(f.family()), f.port)
}

// query returns a packet from a client to a socket.
func query(f inboundFlow, to netip.AddrPort, flags string, seq, ack uint32) []byte {
	if !f.tcp {
		return pkttest.UDP(f.client.String(), to.String(), "query")
	}
	return pkttest.TCP(f.client.String(), to.String(), pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack))
}

// reply returns the other sense of query.
func reply(f inboundFlow, from netip.AddrPort, flags string, seq, ack uint32) []byte {
	if !f.tcp {
		return pkttest.UDP(from.String(), f.client.String(), "answer")
	}
	return pkttest.TCP(from.String(), f.client.String(), pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack))
}

// send sends a packet of a flow from its client, with flags of TCP, and checks what becomes
// of it. It reports whether the packet has got through.
func (m *inboundModel) send(f inboundFlow, flags string) bool {
	s := m.flows[f]
	next := inboundSession{client: uint32(m.r.IntN(1 << 16)), server: uint32(m.r.IntN(1 << 16))}
	from := &next
	if s != nil && flags != "S" {
		from = s
	} else if s != nil && s.phase == modelSyn {
		next.client = s.client - 1 // once more
	}
	p := query(f, m.socket(f), flags, from.client, from.server)
	return m.arrive(f, flags, &next, p, m.fromClient(f, p))
}

// arrive checks what has become of a packet from a client, and notes it. next is what the
// client knows if it begins something.
func (m *inboundModel) arrive(f inboundFlow, flags string, next *inboundSession, p []byte, v flow.Verdict) bool {
	s := m.flows[f]
	stays := s == nil || m.stateOf(f, s) == snat.TargetUp
	switch {
	case m.backendAt(f.client.Addr()) != "" && !m.exists(m.backendAt(f.client.Addr())): // nobody
		require.Equal(m.t, flow.Drop, v.Action)
		return false
	case s == nil:
		return m.begin(f, flags, next, p, v)
	case !f.tcp && !stays:
		delete(m.flows, f)
		m.seen["moved"]++
		return m.begin(f, flags, next, p, v)
	case flags == "S" && (s.phase == modelTomb || s.phase.over() && !m.takes(f, s)):
		if s.phase.over() && stays {
			m.seen["left"]++
		}
		return m.begin(f, flags, next, p, v) // which ends s if and only if it succeeds
	case flags == "S" && s.phase.over() && m.securityReason(f) != flow.ReasonNone: // it stays closed
		require.Equal(m.t, []any{flow.Drop, m.securityReason(f)}, []any{v.Action, v.Reason}, "%v %+v", m.now, f)
		m.seen["NSG again"]++
		return false
	case s.phase == modelTomb:
		require.Equal(m.t, flow.ReasonFlowReset, v.Reason, "%v %+v", m.now, f)
		m.answers++
		return false
	}
	require.False(m.t, v.New, "%v %+v", m.now, f)
	m.forwarded(f, s, p, v)
	if !f.tcp {
		s.last = m.now
		return true
	}
	m.heard(s, flags, next)
	return true
}

// takes reports whether a new flow like f may reach the backend of a session of f, at its port.
func (m *inboundModel) takes(f inboundFlow, s *inboundSession) bool {
	return slices.Contains(m.eligible(f), s.backend) && s.inside == m.target(s.backend, f)
}

// forwarded checks a packet that a flow's client has got through.
func (m *inboundModel) forwarded(f inboundFlow, s *inboundSession, p []byte, v flow.Verdict) {
	require.Equal(m.t, flow.Forward, v.Action, "%v %+v %+v: %v", m.now, f, s, v.Reason)
	require.Equal(m.t, flow.Inside, v.To)
	require.Equal(m.t, s.backend, m.nameOf(v), "%v %+v", m.now, f)
	pkttest.Check(m.t, p, pkttest.Src(f.client.String()), pkttest.Dst(s.inside.String()), pkttest.ChecksumsOK())
}

// heard notes what a segment of the client means for a connection.
func (m *inboundModel) heard(s *inboundSession, flags string, next *inboundSession) {
	touch := true
	switch {
	case flags == "S" && s.phase == modelSyn:
		touch = false
	case flags == "S": // after the end
		s.was, s.phase, s.client, touch = s.phase, modelSynAgain, next.client+1, false
		m.seen["opened again"]++
	case flags == "R":
		if touch = s.phase == modelOpen || s.phase == modelFin || s.phase == modelFinBack || s.phase == modelSynAck; touch {
			s.was, s.phase = s.phase, modelReset
		}
	case flags == "FA":
		s.client++
		s.was, s.phase = s.phase, map[modelPhase]modelPhase{modelOpen: modelFin, modelFinBack: modelClosed}[s.phase]
		m.seen["closed"]++
	case s.phase == modelSynAck:
		s.phase = modelOpen
	case s.phase == modelClosed: // the last FIN is acknowledged
		s.phase = modelTimeWait
	case s.phase == modelTimeWait:
		touch = false
	case s.phase == modelReset: // which has not arrived
		s.phase = s.was
	}
	if touch {
		s.last = m.now
	}
}

// securityReason returns why the groups let no flow begin like f, if so.
func (m *inboundModel) securityReason(f inboundFlow) flow.Reason {
	switch {
	case m.backendAt(f.client.Addr()) != "" && m.denied[m.frontend(f.family())]:
		return flow.ReasonNSGOutbound
	case m.blocked[f.client.Addr()] && !m.floats(f): // the groups see where it is sent, which floats
		return flow.ReasonNSGInbound
	}
	return flow.ReasonNone
}

// begin checks what has become of the first packet of a flow.
func (m *inboundModel) begin(f inboundFlow, flags string, next *inboundSession, p []byte, v flow.Verdict) bool {
	names, sender := m.eligible(f), m.backendAt(f.client.Addr())
	want := flow.ReasonNone
	switch security := m.securityReason(f); {
	case security == flow.ReasonNSGOutbound:
		want = security
		m.seen["NSG out"]++
	case len(names) == 0:
		want = flow.ReasonNoTarget
		m.seen["no target"]++
	case sender != "" && v.Reason == flow.ReasonTargetLoop:
		m.learn(f, names, sender)
		m.seen["loop"]++
		return false
	case security != flow.ReasonNone:
		want = security
		m.seen["NSG in"]++
	}
	require.Equal(m.t, want, v.Reason, "%v %+v %s: %v", m.now, f, flags, names)
	if want != flow.ReasonNone {
		require.Equal(m.t, flow.Drop, v.Action)
		return false
	}
	require.True(m.t, v.New, "%v %+v", m.now, f)
	s := &inboundSession{backend: m.nameOf(v), last: m.now, client: next.client, server: next.server}
	require.NotEqual(m.t, sender, s.backend)
	m.learn(f, names, s.backend)
	s.inside = m.target(s.backend, f)
	switch {
	case flags == "S":
		s.phase = modelSyn
		s.client++
	case f.tcp:
		s.phase = modelMid
		m.seen["picked up"]++
	}
	m.flows[f] = s
	m.forwarded(f, s, p, v)
	return true
}

// answer sends an answer out of a flow.
func (m *inboundModel) answer(f inboundFlow, flags string) {
	s := m.flows[f]
	p := reply(f, s.inside, flags, s.server, s.client)
	v := m.door(flow.Inside, p)
	require.Equal(m.t, flow.Forward, v.Action, "%v %+v %+v: %v", m.now, f, s, v.Reason)
	require.Equal(m.t, flow.Outside, v.To)
	pkttest.Check(m.t, p, pkttest.Src(m.socket(f).String()), pkttest.Dst(f.client.String()), pkttest.ChecksumsOK())
	touch := true
	switch {
	case flags == "SA":
		s.phase = modelSynAck
		s.server++
	case strings.Contains(flags, "R"):
		switch s.phase {
		case modelSyn:
			delete(m.flows, f) // refused
		case modelClosed, modelTimeWait:
			touch = false
		case modelSynAgain:
			touch = s.was != modelReset // its time goes on
			s.phase, s.was = modelReset, modelSyn
		default:
			s.was, s.phase = s.phase, modelReset
		}
	case flags == "FA":
		s.server++
		s.was, s.phase = s.phase, map[modelPhase]modelPhase{modelOpen: modelFinBack, modelFin: modelClosed}[s.phase]
		m.seen["closed"]++
	case s.phase == modelMid:
		s.phase = modelOpen
	case s.phase == modelClosed:
		s.phase = modelTimeWait
	case s.phase == modelTimeWait:
		touch = false
	case s.phase == modelReset:
		s.phase = s.was
	}
	if touch {
		s.last = m.now
	}
}

// randomFlow returns a flow that may exist.
func (m *inboundModel) randomFlow() inboundFlow {
	f := inboundFlow{is6: m.r.IntN(2) == 0, tcp: true}
	clients := modelClients[f.family()]
	if m.isInternal() && m.r.IntN(3) == 0 {
		clients = modelSubnet[f.family()] // of which the first is nobody's
	}
	f.client = netip.AddrPortFrom(modelAddr(clients, 4+m.r.IntN(5)), uint16(40_000+m.r.IntN(5)))
	switch m.r.IntN(8) {
	case 0, 1:
		f.port = modelHTTP
	case 2:
		f.port = modelHTTPS
	case 3:
		f.port = modelNAT + uint16(m.r.IntN(8))
	case 4:
		f.port, f.tcp = modelOne, m.r.IntN(2) == 0
	case 5:
		f.port, f.tcp = modelBoth, m.r.IntN(2) == 0
	default:
		f.port, f.tcp = modelDNS, false
	}
	return f
}

// inboundOp does something with a flow of a rule.
func (m *inboundModel) inboundOp() {
	f := m.randomFlow()
	s := m.flows[f]
	switch {
	case m.rule(f) == nil && m.natRule(f) == nil:
	case !f.tcp && s != nil && m.r.IntN(3) == 0:
		m.answer(f, "")
	case !f.tcp:
		m.send(f, "")
	case s != nil:
		m.connectionOp(f, s)
	case m.r.IntN(12) == 0: // of a connection that is forgotten
		m.send(f, "A")
	case m.send(f, "S") && m.r.IntN(6) > 0:
		m.answer(f, "SA")
		if m.r.IntN(6) > 0 && m.clientLives(f) {
			m.send(f, "A")
		}
	}
}

// clientLives reports whether a flow's client is no machine that has been removed.
func (m *inboundModel) clientLives(f inboundFlow) bool {
	name := m.backendAt(f.client.Addr())
	return name == "" || m.exists(name)
}

// connectionOp does something with a connection that has a session.
func (m *inboundModel) connectionOp(f inboundFlow, s *inboundSession) {
	type do struct {
		back  bool
		flags string
	}
	may := map[modelPhase][]do{
		modelSyn:      {{false, "S"}, {true, "SA"}, {true, "RA"}},
		modelSynAck:   {{false, "A"}, {false, "A"}, {false, "R"}},
		modelMid:      {{true, "A"}, {true, "R"}},
		modelOpen:     {{false, "A"}, {true, "A"}, {false, "A"}, {true, "A"}, {false, "A"}, {true, "A"}, {false, "FA"}, {true, "FA"}, {false, "R"}, {true, "R"}},
		modelFin:      {{false, "A"}, {true, "A"}, {true, "FA"}, {true, "FA"}, {false, "R"}},
		modelFinBack:  {{false, "A"}, {true, "A"}, {false, "FA"}, {false, "FA"}, {true, "R"}},
		modelClosed:   {{true, "R"}, {false, "S"}},
		modelTimeWait: {{false, "A"}, {true, "A"}, {false, "S"}, {false, "R"}},
		modelReset:    {{false, "S"}},
		modelSynAgain: {{true, "SA"}, {true, "SA"}, {true, "RA"}},
		modelTomb:     {{false, "A"}, {false, "S"}},
	}[s.phase]
	if s.phase == modelReset && (s.was == modelOpen || s.was == modelFin || s.was == modelFinBack) {
		may = append(may, do{false, "A"}, do{true, "A"})
	}
	if s.phase == modelClosed {
		may = append(may, do{s.was == modelFinBack, "A"}) // who has got the last FIN
	}
	if x := may[m.r.IntN(len(may))]; x.back {
		m.answer(f, x.flags)
	} else {
		m.send(f, x.flags)
	}
	if now := m.flows[f]; now == s && s.phase.over() && m.clientLives(f) && m.r.IntN(3) == 0 {
		m.send(f, "S")
	}
}

// errorOp lets a router, or a host, tell of a packet that has not arrived.
func (m *inboundModel) errorOp() {
	f := m.randomFlow()
	s, family := m.flows[f], f.family()
	if s != nil && s.phase == modelTomb || m.rule(f) == nil && m.natRule(f) == nil {
		return
	}
	kind, code, quoted := uint8(3), uint8(1), 28
	if f.is6 {
		kind, code, quoted = 1, 0, 48
	}
	sender := m.backendAt(f.client.Addr())
	if m.r.IntN(2) == 0 { // of an answer
		p := pkttest.ICMP(modelRouter[family].String(), m.frontend(family).String(), kind, code, 0, reply(f, m.socket(f), "A", 1, 1)[:quoted])
		side := flow.Outside
		if sender != "" {
			p = pkttest.ICMP(f.client.Addr().String(), m.frontend(family).String(), kind, code, 0, reply(f, m.socket(f), "A", 1, 1)[:quoted])
			side = flow.Inside
		}
		v := m.door(side, p)
		if s == nil || !m.c.ICMP.Errors || !m.clientLives(f) {
			require.Equal(m.t, flow.Drop, v.Action, "%v %+v: %v", m.now, f, v.Reason)
			return
		}
		require.Equal(m.t, flow.Forward, v.Action, "%v %+v %+v: %v", m.now, f, s, v.Reason)
		require.Equal(m.t, flow.Inside, v.To)
		require.Equal(m.t, s.backend, m.nameOf(v))
		pkttest.Check(m.t, p, pkttest.Dst(s.inside.Addr().String()), pkttest.ChecksumsOK())
		m.seen["error in"]++
		return
	}
	if s == nil {
		return
	}
	p := pkttest.ICMP(m.own(s.backend, f.is6).String(), f.client.Addr().String(), kind, code, 0, query(f, s.inside, "A", 1, 1)[:quoted])
	v := m.door(flow.Inside, p)
	if !m.c.ICMP.Errors {
		require.Equal(m.t, flow.Drop, v.Action, "%v %+v: %v", m.now, f, v.Reason)
		return
	}
	require.Equal(m.t, flow.Forward, v.Action, "%v %+v %+v: %v", m.now, f, s, v.Reason)
	pkttest.Check(m.t, p, pkttest.Src(m.frontend(family).String()), pkttest.ChecksumsOK())
	m.seen["error out"]++
}

// carriesPieces reports whether pieces of datagrams of a flow come in.
func (m *inboundModel) carriesPieces(f inboundFlow) bool {
	l := m.rule(f)
	return l != nil && l.isHAPorts() && !m.c.DropHAPortsFragments
}

// answerInPieces sends a backend's answer in pieces.
func (m *inboundModel) answerInPieces(f inboundFlow, s *inboundSession) {
	m.datagram++
	carried := m.carriesPieces(f) || m.c.Fragments.Mode == snat.FragmentsVirtual
	for _, p := range pkttest.Fragments(pkttest.UDP(s.inside.String(), f.client.String(), strings.Repeat("y", 100)), 40, m.datagram) {
		v := m.door(flow.Inside, p)
		if !carried {
			require.Equal(m.t, []any{flow.Drop, flow.ReasonFragment}, []any{v.Action, v.Reason}, "%v %+v", m.now, f)
			continue
		}
		require.Equal(m.t, []any{flow.Forward, flow.Outside}, []any{v.Action, v.To}, "%v %+v: %v", m.now, f, v.Reason)
		at, frontend := map[bool]int{false: 12, true: 8}[f.is6], m.frontend(f.family()).AsSlice()
		require.Equal(m.t, frontend, p[at:at+len(frontend)])
		s.last = m.now
		m.seen["pieces out"]++
	}
}

// ownPieces sends what a machine begins, in pieces.
func (m *inboundModel) ownPieces() {
	if m.c.Fragments.Mode == snat.FragmentsVirtual {
		return
	}
	m.datagram++
	family := m.r.IntN(2)
	from := netip.AddrPortFrom(modelAddr(modelSubnet[family], 4+m.r.IntN(5)), uint16(6000+m.r.IntN(12)))
	to := netip.AddrPortFrom(modelAddr(modelRemotes[family], 1+m.r.IntN(2)), 53)
	waits := false // for the first one, which may be of an answer
	for _, p := range reversed(m.r, pkttest.Fragments(pkttest.UDP(from.String(), to.String(), strings.Repeat("z", 60)), 40, m.datagram)) {
		v := m.door(flow.Inside, p)
		if v.Action == flow.Queued {
			waits = true
			continue
		}
		require.Equal(m.t, flow.Drop, v.Action, "%v %v", m.now, from)
		require.False(m.t, waits && v.Reason != flow.ReasonFragment, "%v", v.Reason)
	}
	require.False(m.t, waits && m.c.DropHAPortsFragments)
}

// reversed returns pieces in order, or in the other one.
func reversed(r *rand.Rand, pieces [][]byte) [][]byte {
	if r.IntN(2) == 0 {
		slices.Reverse(pieces)
	}
	return pieces
}

// fragmentOp sends a datagram in pieces.
func (m *inboundModel) fragmentOp() {
	f := m.randomFlow()
	f.tcp = false
	if m.r.IntN(4) == 0 {
		m.ownPieces()
		return
	}
	if m.rule(f) == nil && m.natRule(f) == nil || m.backendAt(f.client.Addr()) != "" {
		return
	}
	if s := m.flows[f]; s != nil && m.r.IntN(2) == 0 {
		m.answerInPieces(f, s)
		return
	}
	m.datagram++
	pieces := pkttest.Fragments(pkttest.UDP(f.client.String(), m.socket(f).String(), strings.Repeat("x", 100)), 40, m.datagram)
	if !m.carriesPieces(f) {
		for _, p := range pieces {
			v := m.door(flow.Outside, p)
			require.Equal(m.t, []any{flow.Drop, flow.ReasonFragment}, []any{v.Action, v.Reason})
		}
		return
	}
	through := false
	for i, p := range pieces {
		was := slices.Clone(p)
		v := m.door(flow.Outside, p)
		switch {
		case i == 0:
			whole := query(f, m.socket(f), "", 0, 0) // stands for the piece, which cannot be decoded
			if v.Action == flow.Forward {
				whole = query(f, m.target(m.nameOf(v), f), "", 0, 0)
			}
			through = m.arrive(f, "", &inboundSession{}, whole, v)
		case through:
			require.Equal(m.t, flow.Forward, v.Action, "%v %+v: %v", m.now, f, v.Reason)
			require.Equal(m.t, m.flows[f].backend, m.nameOf(v))
		default:
			require.Equal(m.t, flow.Drop, v.Action, "%v %+v", m.now, f)
		}
		if through {
			m.seen["pieces"]++
			to := m.flows[f].inside.Addr().AsSlice()
			at := map[bool]int{false: 16, true: 24}[f.is6]
			require.Equal(m.t, to, p[at:at+len(to)])
			require.Equal(m.t, was[12:16], p[12:16])
		}
	}
}

// strayOp sends a datagram to a frontend's port that has neither a rule nor a flow.
func (m *inboundModel) strayOp() {
	f := inboundFlow{is6: m.r.IntN(2) == 0, port: uint16(1 + m.r.IntN(65_535))}
	f.client = netip.AddrPortFrom(modelAddr(modelClients[f.family()], 200), 7)
	if m.rule(f) == nil && m.natRule(f) == nil {
		v := m.fromClient(f, query(f, m.socket(f), "", 0, 0))
		require.Equal(m.t, flow.Drop, v.Action, "%+v", f)
		require.Contains(m.t, []flow.Reason{flow.ReasonNotOurs, flow.ReasonNoFlow, flow.ReasonFiltered}, v.Reason, "%+v", f)
	}
}

// outboundOp lets a backend send to a remote, and the remote answer.
func (m *inboundModel) outboundOp() {
	family := m.r.IntN(2)
	k := outboundKey{
		inside: netip.AddrPortFrom(modelAddr(modelSubnet[family], 4+m.r.IntN(5)), uint16(6000+m.r.IntN(12))),
		remote: netip.AddrPortFrom(modelAddr(modelRemotes[family], 1+m.r.IntN(2)), 53),
	}
	p := pkttest.UDP(k.inside.String(), k.remote.String(), "query")
	v := m.door(flow.Inside, p)
	name := m.backendAt(k.inside.Addr())
	f := m.outbound[k]
	if f == nil {
		switch {
		case !m.exists(name):
			require.Equal(m.t, flow.Drop, v.Action)
			return
		case m.denied[k.remote.Addr()]:
			require.Equal(m.t, []any{flow.Drop, flow.ReasonNSGOutbound}, []any{v.Action, v.Reason}, "%v %+v", m.now, k)
			m.seen["NSG out"]++
			return
		case !m.hasPorts(name, family):
			require.Equal(m.t, flow.Drop, v.Action, "%v %+v", m.now, k)
			return
		}
	}
	require.Equal(m.t, flow.Forward, v.Action, "%v %+v: %v", m.now, k, v.Reason)
	outside := source(p)
	if f == nil {
		require.True(m.t, v.New)
		f = &outboundFlow{outside: outside}
		m.outbound[k] = f
	}
	require.Equal(m.t, f.outside, outside)
	require.Equal(m.t, m.frontend(family), outside.Addr())
	for port := range uint16(snat.BlockSize) {
		at := inboundFlow{is6: family == 1, port: outside.Port()&^7 + port}
		require.True(m.t, m.rule(at) == nil && m.natRule(at) == nil, "%v lies in a rule's block", outside)
	}
	f.last = m.now
	if m.r.IntN(2) == 0 {
		p = pkttest.UDP(k.remote.String(), outside.String(), "answer")
		require.Equal(m.t, flow.Forward, m.door(flow.Outside, p).Action)
		pkttest.Check(m.t, p, pkttest.Dst(k.inside.String()), pkttest.ChecksumsOK())
	}
}

// source reads the source socket of a UDP packet.
func source(p []byte) netip.AddrPort {
	text, _, _ := strings.Cut(strings.TrimPrefix(pkttest.String(p), "UDP "), " ")
	return netip.MustParseAddrPort(text)
}

// hasPorts reports whether a machine has SNAT ports of a family.
func (m *inboundModel) hasPorts(name string, family int) bool {
	return slices.ContainsFunc(m.l.Allocations(), func(a Allocation) bool {
		return a.Instance == name && a.Total(snat.UDP, family == 1) > 0
	})
}

// ports returns who has which SNAT ports, as text.
func (m *inboundModel) ports() map[string]bool {
	all := map[string]bool{}
	for _, a := range m.l.Allocations() {
		for _, r := range a.Ports {
			for i := range r.Count {
				all[fmt.Sprint(a.Instance, " ", netip.AddrPortFrom(r.Frontend, r.First+uint16(i)))] = true
			}
		}
	}
	return all
}
