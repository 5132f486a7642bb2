// Sessions: how the four sockets fit into a record, and how they are found.
//
// A record of package flow has three sockets: Inside is the endpoint, Outside the frontend,
// Remote the client. Its inside key is what the endpoint sends if it sees the client itself,
// its outside key what the client sends. The fourth socket, what the endpoint sees in the
// client's place, is an address, the client's or by KindNode the node's, and the port
// in Data. If it is not the client's own socket, a further entry of the index leads from
// what the endpoint sends then. The VNI of a record is its node.

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

// createdTick and answeredFlag are what a UDP session keeps in its Track.
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
	f := 0
	if id.Is6() {
		f = 1
	}
	return p.tables.Load().nodes[s.Key.VNI()][f]
}

// sent returns what the client of a session sends.
func sent(id flow.ID, s *flow.Session) tuple {
	return tuple{clientAddr(id, s), frontendAddr(id, s), s.Key.DstPort, s.OutsidePort, s.Proto(), id.Is6()}
}

// delivered returns what the endpoint of a session is sent.
func (p *Proxy) delivered(id flow.ID, s *flow.Session) tuple {
	return tuple{p.seenAddr(id, s), endpointAddr(id, s), s.Data[dataSeenPort], s.Key.SrcPort, s.Proto(), id.Is6()}
}

// original returns the session that a client sends k on, and removes one that is over.
func (sh *shard) original(now flow.Time, k *tuple, node int) (flow.ID, *flow.Session) {
	if !k.is6 { // as good as always the first session that fits is of the node
		key := flow.Key{Src: uint32(k.src[0]), Dst: uint32(k.dst[0]), SrcPort: k.sport, DstPort: k.dport, VNIProto: uint32(k.proto)}
		id := sh.sessions.LookupOutside(&key, sh.proxy.hasher.Hash(&key))
		if id == 0 {
			return 0, nil
		}
		if s := sh.sessions.At(id); s.Key.VNI() == uint32(node) {
			return sh.alive(now, id, s)
		}
	}
	for c := sh.sessions.Candidates(sh.proxy.hash(k, 0)); ; {
		id := c.Next()
		if id == 0 {
			return 0, nil
		}
		if id.Is6() != k.is6 {
			continue
		}
		s := sh.sessions.At(id)
		if s.Key.VNI() == uint32(node) && sent(id, s) == *k {
			return sh.alive(now, id, s)
		}
	}
}

// answered returns the session that an endpoint sends k on, likewise.
func (sh *shard) answered(now flow.Time, k *tuple, node int) (flow.ID, *flow.Session) {
	back := k.reverse()
	for c := sh.sessions.Candidates(sh.proxy.hash(k, uint32(node))); ; {
		id := c.Next()
		if id == 0 {
			return 0, nil
		}
		if id.Is6() != k.is6 {
			continue
		}
		s := sh.sessions.At(id)
		if s.Key.SrcPort == k.sport && s.Data[dataSeenPort] == k.dport && s.Key.VNI() == uint32(node) && sh.proxy.delivered(id, s) == back {
			return sh.alive(now, id, s)
		}
	}
}

// alive returns a session, unless it is over: idle for too long, or UDP to an endpoint
// that is gone. Then it is removed.
func (sh *shard) alive(now flow.Time, id flow.ID, s *flow.Session) (flow.ID, *flow.Session) {
	if sh.sessions.Expired(s, flow.TickOf(now)) || s.Proto() == UDP && !sh.proxy.slots.at(slotOf(s)).live.Load() {
		sh.remove(id, s)
		return 0, nil
	}
	return id, s
}

// translatesSource reports whether the endpoint sees another socket than the client's.
func translatesSource(s *flow.Session) bool {
	return s.Kind() == flow.KindNode || s.Data[dataSeenPort] != s.Key.DstPort
}

// extraHash returns the hash of the further entry of a session that translatesSource.
func (sh *shard) extraHash(id flow.ID, s *flow.Session) uint64 {
	d := sh.proxy.delivered(id, s)
	back := d.reverse()
	return sh.proxy.hash(&back, s.Key.VNI())
}

// remove ends a session.
func (sh *shard) remove(id flow.ID, s *flow.Session) {
	if translatesSource(s) {
		sh.sessions.UnindexExtra(sh.extraHash(id, s), id)
	}
	sh.proxy.slots.at(slotOf(s)).refs.Add(-1)
	sh.sessions.Remove(id, s)
}

// taken reports whether the node has a session whose endpoint is sent d.
func (sh *shard) taken(now flow.Time, d *tuple, node int) bool {
	back := d.reverse()
	id, _ := sh.answered(now, &back, node)
	return id != 0
}

// create records a session, or returns 0 if there is no memory for it.
func (sh *shard) create(now flow.Time, node int, k *tuple, slot uint32, e *endpoint, seen socket, seg *flow.Segment) flow.ID {
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
		s.Track.Ack[flow.Inside] = flow.TickOf(now) // when it began
		s.Track.Ack[flow.Outside] = flow.TickOf(now)
	}
	if !sh.sessions.Insert(id, s, now) {
		sh.sessions.Discard(id)
		return 0
	}
	if translatesSource(s) && !sh.sessions.IndexExtra(sh.extraHash(id, s), id) {
		sh.sessions.Remove(id, s)
		return 0
	}
	e.refs.Add(1)
	return id
}
