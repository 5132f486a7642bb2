// Package machine counts what the flows of each node take of its machine, and refuses what is
// beyond a limit.
//
//   - Machine: the counts of one node, as long as it exists.
//   - Limits: those of the user ([ceilings.Limits]), and the ports by which a Windows node
//     translates its pods.
//   - Set: the machines of all nodes of a configuration, which does not change.
//
// Any number of goroutines may ask and count at once: connections are counted without a lock,
// destinations and queries under the one of their node. A nil Set bounds nothing. What counts to begin with is the
// owner's to say, and that it tells of every session which begins and ends.
//
// It refuses to know translators, and what becomes of packets.
package machine

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Limits are those of one node. Zero fields are none.
type Limits struct {
	ceilings.Limits
	PodPorts int // of each of its addresses, for flows of pods to one destination
}

// counts reports whether anything is counted for l besides connections.
func (l *Limits) counts(own bool) bool { return own && l.EphemeralPorts > 0 || !own && l.PodPorts > 0 }

// Machine is what the flows of a node take.
type Machine struct {
	connections atomic.Int64

	mu  sync.Mutex
	to  map[destination]int // flows; guarded by mu
	dns questions           // guarded by mu
}

// destination is where flows go, of the node itself or of its pods.
type destination struct {
	own      bool
	protocol uint8
	remote   netip.AddrPort
}

// Connections returns how many there are.
func (m *Machine) Connections() int64 { return m.connections.Load() }

// count adds connections; what had not been counted does not end below nothing.
func (m *Machine) count(by int) {
	if n := m.connections.Add(int64(by)); n < 0 {
		m.connections.Add(-n)
	}
}

// Place says at which node an address is, and whether it is the node's own.
type Place func(a netip.Addr) (node int, own, ok bool)

// Set is the machines of all nodes, by index.
type Set struct {
	place Place
	nodes []member
}

type member struct {
	*Machine // nil if there is no such node
	limits   Limits
}

// NewSet returns machines of no nodes.
func NewSet(place Place) *Set { return &Set{place: place} }

// Add adds a node's machine.
func (s *Set) Add(node int, m *Machine, l Limits) {
	for node >= len(s.nodes) {
		s.nodes = append(s.nodes, member{})
	}
	s.nodes[node] = member{m, l}
}

// Of returns the machine of a node, or nil.
func (s *Set) Of(node int) *Machine {
	if s == nil || node < 0 || node >= len(s.nodes) {
		return nil
	}
	return s.nodes[node].Machine
}

// at returns the machine of who has an address, and whether it is the node's own.
func (s *Set) at(a netip.Addr) (m *member, own bool) {
	if s == nil {
		return nil, false
	}
	node, own, ok := s.place(a)
	if !ok || s.Of(node) == nil {
		return nil, false
	}
	return &s.nodes[node], own
}

// room returns why there is no room for one more connection.
func (m *member) room() flow.Reason {
	switch l, n := &m.limits, m.connections.Load(); {
	case l.Conntrack > 0 && n >= int64(l.Conntrack):
		return flow.ReasonConntrack
	case l.VMConnections > 0 && n >= int64(l.VMConnections):
		return flow.ReasonVMConnections
	}
	return flow.ReasonNone
}

// AdmitExit decides about a flow that somebody else's pod begins through a tunnel to a node: it is one of
// the node's connections, and takes no port of its own sockets.
func (s *Set) AdmitExit(node int) flow.Reason {
	if s.Of(node) == nil {
		return flow.ReasonNone
	}
	return s.nodes[node].room()
}

// CountExit notes that a node has so many such flows more, or fewer.
func (s *Set) CountExit(node, by int) {
	if m := s.Of(node); m != nil {
		m.count(by)
	}
}

// Admit decides about a flow that everything else lets begin.
func (s *Set) Admit(f snat.NewFlow) flow.Reason {
	m, own := s.at(f.Inside.Addr())
	if m == nil {
		return flow.ReasonNone
	}
	l := &m.limits
	if reason := m.room(); reason != flow.ReasonNone || f.From == flow.Outside || !l.counts(own) {
		return reason
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch k := m.to[destination{own, f.Protocol, f.Remote}]; {
	case own && k >= l.EphemeralPorts:
		return flow.ReasonEphemeralPorts
	case !own && k >= l.PodPorts:
		return flow.ReasonNodePorts
	}
	return flow.ReasonNone
}

// Count notes that a session has begun (by 1) or ended (by -1).
func (s *Set) Count(i *flow.Info, by int) {
	m, own := s.at(i.Inside.Addr())
	if m == nil {
		return
	}
	m.count(by)
	if !m.limits.counts(own) || !own && i.Outside == i.Inside {
		return // the latter nobody translates
	}
	to := destination{own, i.Proto, i.Remote}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.to[to] + by; n <= 0 {
		delete(m.to, to)
	} else if m.to == nil {
		m.to = map[destination]int{to: n}
	} else {
		m.to[to] = n
	}
}

// Asks decides about a packet that a node sends to the network, which may be a query of Azure DNS.
func (s *Set) Asks(now flow.Time, pkt []byte) flow.Reason {
	q, node, ok := s.query(pkt, true)
	if !ok {
		return flow.ReasonNone
	}
	m, _ := s.at(node)
	if m == nil {
		return flow.ReasonNone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dns.ask(now, &m.limits.Limits, q)
}

// Answered notes a packet for a node's own address that may be an answer of Azure DNS.
func (s *Set) Answered(pkt []byte) {
	q, node, ok := s.query(pkt, false)
	if !ok {
		return
	}
	if m, _ := s.at(node); m != nil {
		m.mu.Lock()
		m.dns.answer(q)
		m.mu.Unlock()
	}
}

// query reads a packet to or from Azure DNS, and returns the node's address in it.
func (s *Set) query(pkt []byte, out bool) (q question, node netip.Addr, ok bool) {
	const at, from = 16, 12 // destination and source in the header
	dns, host := at, from
	if !out {
		dns, host = from, at
	}
	if s == nil || len(pkt) < 20 || [4]byte(pkt[dns:]) != azureDNS {
		return q, node, false
	}
	var p wire.Packet
	if wire.Parse(pkt, &p) != wire.OK || p.Proto != wire.ProtoUDP || p.Flags&wire.Fragmented != 0 {
		return q, node, false
	}
	ports, payload := p.Ports(), p.UDP()[8:]
	port, local := uint16(ports), uint16(ports>>16)
	if !out {
		port, local = local, port
	}
	if port != dnsPort || len(payload) < 2 {
		return q, node, false
	}
	return question{port: local, id: uint16(payload[0])<<8 | uint16(payload[1])}, netip.AddrFrom4([4]byte(pkt[host:])), true
}
