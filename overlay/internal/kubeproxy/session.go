// Sessions: how the four sockets fit into a record, and how they are found.
//
// A record of package flow has three sockets: Inside is the endpoint, Outside the frontend,
// Remote the client. The fourth socket, what the endpoint sees in the
// client's place, is an address, the client's or by KindNode the node's, and the port
// in Data. The index has each session twice, see keys: under what the client sends, in VNI 0,
// and under what the endpoint sends to whom it sees, in the VNI of the node, which is that
// of the record. So masquerade costs no third entry.

package kubeproxy

import (
	"github.com/seed-a61be3fe/natplane/flow"
)

// What Session.Data has.
const (
	dataSlotHigh = iota // the endpoint's slot
	dataSlotLow
	dataSeenPort // the port that the endpoint sees
)

// answeredFlag is what a UDP session keeps in its Track.
const answeredFlag = 1

func slotOf(s *flow.Session) uint32 {
	return uint32(s.Data[dataSlotHigh])<<16 | uint32(s.Data[dataSlotLow])
}

// hash returns the hash of a packet's tuple in a realm.
func (p *Proxy) hash(k *tuple, vni uint32) uint64 {
	vniProto := vni<<8 | uint32(k.proto)
	if k.is6 {
		return p.hasher.Hash6(&flow.Key6{Src: k.src, Dst: k.dst, SrcPort: k.sport, DstPort: k.dport, VNIProto: vniProto})
	}
	return p.hasher.HashParts(uint32(k.src[0]), uint32(k.dst[0]), uint32(k.sport)<<16|uint32(k.dport), vniProto)
}

// endpointAddr, clientAddr and frontendAddr return addresses of a session.
func endpointAddr(id flow.ID, s *flow.Session) address {
	if id.Is6() {
		return s.Addrs6().Inside
	}
	return address{uint64(s.Key.Src)}
}

func clientAddr(id flow.ID, s *flow.Session) address {
	if id.Is6() {
		return s.Addrs6().Remote
	}
	return address{uint64(s.Key.Dst)}
}

func frontendAddr(id flow.ID, s *flow.Session) address {
	if id.Is6() {
		return s.Addrs6().Outside
	}
	return address{uint64(s.Outside)}
}

// seenAddr returns the address that the endpoint sees.
func (p *Proxy) seenAddr(id flow.ID, s *flow.Session) address {
	if s.Kind() != flow.KindNode {
		return clientAddr(id, s)
	}
	return p.tables.Load().nodes[s.Key.VNI()][family(id.Is6())]
}

// seenAddr4 is seenAddr of an IPv4 session.
func (p *Proxy) seenAddr4(s *flow.Session) uint32 {
	if s.Kind() != flow.KindNode {
		return s.Key.Dst
	}
	return p.tables.Load().nodes4[s.Key.VNIProto>>8]
}

// seen6 is seenAddr of an IPv6 session. The address is not to be changed.
func (p *Proxy) seen6(s *flow.Session) *address {
	if s.Kind() != flow.KindNode {
		return (*address)(&s.Addrs6().Remote)
	}
	return &p.tables.Load().nodes[s.Key.VNIProto>>8][1]
}

// sent returns what the client of a session sends.
func sent(id flow.ID, s *flow.Session) tuple {
	return tuple{clientAddr(id, s), frontendAddr(id, s), s.Key.DstPort, s.OutsidePort, s.Proto(), id.Is6()}
}

// delivered returns what the endpoint of a session is sent.
func (p *Proxy) delivered(id flow.ID, s *flow.Session) tuple {
	return tuple{p.seenAddr(id, s), endpointAddr(id, s), s.Data[dataSeenPort], s.Key.SrcPort, s.Proto(), id.Is6()}
}

// guess is a session that a packet probably belongs to; see flow.Guesses. The zero guess
// is none.
type guess struct {
	id flow.ID
	s  *flow.Session
}

// original returns the session that a client sends k on, and removes one that is over.
func (sh *shard) original(k *tuple, node int, g guess) (flow.ID, *flow.Session) {
	if g.id != 0 && sh.isSent(g.id, g.s, k, node) {
		return sh.alive(g.id, g.s)
	}
	hash := sh.proxy.hash(k, 0)
	if sh.sessions.Absent(hash) {
		return 0, nil
	}
	for c := sh.sessions.Candidates(hash); ; {
		id := c.Next()
		if id == 0 {
			return 0, nil
		}
		if s := sh.sessions.At(id); sh.isSent(id, s, k, node) {
			return sh.alive(id, s)
		}
	}
}

// isSent reports whether k is what the client of a session sends.
func (sh *shard) isSent(id flow.ID, s *flow.Session, k *tuple, node int) bool {
	if id.Is6() != k.is6 || s.Key.DstPort != k.sport || s.OutsidePort != k.dport || s.Key.VNIProto != uint32(node)<<8|uint32(k.proto) {
		return false
	}
	if k.is6 {
		a := s.Addrs6()
		return a.Remote == k.src && a.Outside == k.dst
	}
	return s.Key.Dst == uint32(k.src[0]) && s.Outside == uint32(k.dst[0])
}

// answered returns the session that an endpoint sends k on, likewise.
func (sh *shard) answered(k *tuple, node int, g guess) (flow.ID, *flow.Session) {
	if g.id != 0 && sh.isAnswer(g.id, g.s, k, node) {
		return sh.alive(g.id, g.s)
	}
	hash := sh.proxy.hash(k, uint32(node))
	if sh.sessions.Absent(hash) {
		return 0, nil
	}
	for c := sh.sessions.Candidates(hash); ; {
		id := c.Next()
		if id == 0 {
			return 0, nil
		}
		if s := sh.sessions.At(id); sh.isAnswer(id, s, k, node) {
			return sh.alive(id, s)
		}
	}
}

// isAnswer reports whether k is what the endpoint of a session sends.
func (sh *shard) isAnswer(id flow.ID, s *flow.Session, k *tuple, node int) bool {
	return id.Is6() == k.is6 && s.Key.SrcPort == k.sport && s.Data[dataSeenPort] == k.dport &&
		s.Key.VNIProto == uint32(node)<<8|uint32(k.proto) &&
		endpointAddr(id, s) == k.src && sh.proxy.seenAddr(id, s) == k.dst
}

// alive returns a session unless it is over; then it is removed.
func (sh *shard) alive(id flow.ID, s *flow.Session) (flow.ID, *flow.Session) {
	if !sh.lives(s) {
		sh.remove(id, s)
		return 0, nil
	}
	return id, s
}

// lives reports whether a session is not over: idle for too long, or UDP to an endpoint
// that is gone.
func (sh *shard) lives(s *flow.Session) bool {
	return !sh.sessions.Expired(s, sh.tick) && (s.Proto() != UDP || sh.served(s))
}

// served reports whether the endpoint of a session is still there.
func (sh *shard) served(s *flow.Session) bool { return sh.proxy.slots.at(slotOf(s)).live.Load() }

// translatesSource reports whether the endpoint sees another socket than the client's.
func translatesSource(s *flow.Session) bool {
	return s.Kind() == flow.KindNode || s.Data[dataSeenPort] != s.Key.DstPort
}

// keys are the two hashes under which a session is found; see flow.Config. The inside one
// is of what the endpoint sends to whom it sees.
func (p *Proxy) keys(id flow.ID, s *flow.Session) (inside, outside uint64) {
	d, k := p.delivered(id, s), sent(id, s)
	back := d.reverse()
	return p.hash(&back, s.Key.VNI()), p.hash(&k, 0)
}

// remove ends a session.
func (sh *shard) remove(id flow.ID, s *flow.Session) {
	sh.proxy.slots.at(slotOf(s)).refs.Add(-1)
	sh.sessions.Remove(id, s)
}

// taken reports whether the node has a session whose endpoint is sent d.
func (sh *shard) taken(d *tuple, node int) bool {
	back := d.reverse()
	id, _ := sh.answered(&back, node, guess{})
	return id != 0
}

// create records a session, or returns 0 if there is no memory for it.
func (sh *shard) create(node int, k *tuple, slot uint32, e *endpoint, seen socket, seg *flow.Segment) flow.ID {
	id, s := sh.sessions.New(k.is6)
	if id == 0 {
		return 0
	}
	s.Key = flow.Key{SrcPort: e.socket.port, DstPort: k.sport, VNIProto: uint32(node)<<8 | uint32(k.proto)}
	s.OutsidePort = k.dport
	if k.is6 {
		*s.Addrs6() = flow.Addrs6{Inside: e.socket.addr, Remote: k.src, Outside: k.dst}
	} else {
		s.Key.Src, s.Key.Dst, s.Outside = uint32(e.socket.addr[0]), uint32(k.src[0]), uint32(k.dst[0])
	}
	s.Data = [3]uint16{uint16(slot >> 16), uint16(slot), seen.port}
	s.SetKind(flow.KindForwarded)
	if seen.addr != k.src {
		s.SetKind(flow.KindNode)
	}
	if k.proto == TCP {
		s.Track.OpenBy(flow.ConntrackRules, flow.Outside, seg)
	} else {
		s.Track.Class = flow.ClassUDP
		s.Track.Ack[flow.Inside] = sh.tick // when it began
		s.Track.Ack[flow.Outside] = sh.tick
	}
	if !sh.sessions.Insert(id, s, sh.now) {
		sh.sessions.Discard(id)
		return 0
	}
	e.refs.Add(1)
	return id
}

// directRoom is for how many clients the filter of those is made that endpoints see as they
// are. With more, it only tells less.
const directRoom = 1 << 14

// noteDirect notes a client on another machine whom an endpoint is about to see as it is.
func (p *Proxy) noteDirect(client address) {
	f := p.direct.Load()
	if f == nil {
		made := newFilter(directRoom)
		p.direct.CompareAndSwap(nil, &made)
		f = p.direct.Load()
	}
	f.add(mix(client, 0))
}

// sees reports whether an endpoint may have a session with another machine's address as it is,
// as against the address of the endpoint's node in its place. Only with such a session does a
// node know what its endpoint sends to another node.
func (p *Proxy) sees(high, low uint64) bool {
	f := p.direct.Load()
	return f != nil && f.has(mixWords(high, low, 0))
}
