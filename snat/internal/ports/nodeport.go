package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// Ports at a node. Sources behind an instance get its own address first, or in the
// end, so two of them that use the same port towards one remote need different ones
// there.
//
// The order in which ports are tried is that of walk: the source port itself, the
// eight that follow it, then ports at a fixed stride, which visits all. In strides
// the ports from 1,024 on stand in a circle, and the walk goes round it once. So the
// first free port is the next one on the circle, which the record of a crowded
// remote (package destinations) finds in one step; a remote that is not crowded
// needs none. A set bit means taken, a clear one free or not known, as with
// destinations, so what a record proposes is looked up once.
//
// A remote earns a record when a walk has met as many taken ports as crowded says,
// or when it has so many flows that a long walk would be possible. The latter is
// known by a sketch: counts of flows by a hash of node and remote.

// DataNodePort is where a session keeps its port at the instance's own address, an index
// of [flow.Session].Data; the port is 0 if it is not tracked.
const DataNodePort = 0

// Node ports are the range Linux uses for masquerading sources of 1024 and
// above.
const (
	nodePortFirst = 1024
	nodePortCount = 65536 - nodePortFirst
	nodePortStep  = 25_013 // prime, so that strides visit every port
	nodePortNext  = 8      // ports that are tried before strides begin

	// nodePortUnstep is the inverse of nodePortStep modulo nodePortCount.
	nodePortUnstep = 4_253
)

var _ = [1]struct{}{}[nodePortStep*nodePortUnstep%nodePortCount-1]

// crowded is how many taken ports a walk meets before the remote gets a record.
const crowded = 16

// strideOf returns where a port from nodePortFirst on stands on the circle.
func strideOf(port uint16) int { return (int(port) - nodePortFirst) * nodePortUnstep % nodePortCount }

// strode is the inverse of strideOf.
func strode(at int) uint16 { return uint16(nodePortFirst + at*nodePortStep%nodePortCount) }

// nodeScopeOf returns the scope of a tuple's remote for ports at an address of its
// instance.
func nodeScopeOf(inst *Instance, t *Tuple, own [2]uint64) destinations.Scope {
	s := destinations.Scope{Instance: inst.Index, Port: t.DestPort, Proto: t.Proto, Family: t.Family | destinations.AtNode, Addr: t.Remote}
	if own == inst.Public[t.Family] {
		s.Family |= destinations.AtPublic
	}
	return s
}

// NodePort finds a port at an address of the instance that is free towards the
// remote: the first one of the walk, if there is any, and memory to remember the
// taken ones. It is taken when the session that gets it is told to TakeNodePort.
func (sh *State) NodePort(inst *Instance, t *Tuple, own [2]uint64) (uint16, bool) {
	if t.InsidePort != 0 && !sh.nodeTaken(inst, t, own, t.InsidePort) {
		return t.InsidePort, true
	}
	var met [crowded]uint16 // taken ports
	base := max(int(t.InsidePort), nodePortFirst) - nodePortFirst
	for i := range nodePortNext {
		if met[i] = uint16(nodePortFirst + (base+i+1)%nodePortCount); !sh.nodeTaken(inst, t, own, met[i]) {
			return met[i], true
		}
	}
	s, at := nodeScopeOf(inst, t, own), strideOf(met[nodePortNext-1])
	dests := &sh.destinations
	d := dests.NodeRecord(&s, s.Hash(&sh.hasher))
	if d == nil {
		for i := nodePortNext; i < crowded; i++ {
			at = (at + 1) % nodePortCount
			if met[i] = strode(at); !sh.nodeTaken(inst, t, own, met[i]) {
				return met[i], true
			}
		}
		if d = dests.Enlist(&s, nodePortCount); d == nil {
			return 0, false
		}
		for _, port := range met {
			dests.Mark(d, nodePortCount, strideOf(port))
		}
	}
	for {
		var ok bool
		if at, ok = dests.UnmarkedFrom(d, nodePortCount, (at+1)%nodePortCount); !ok {
			return 0, false
		}
		if port := strode(at); !sh.nodeTaken(inst, t, own, port) {
			return port, true
		}
		if !dests.Mark(d, nodePortCount, at) {
			return 0, false
		}
	}
}

// TakeNodePort counts the node port of a session that has just got it.
func (sh *State) TakeNodePort(id flow.ID, s *flow.Session, inst *Instance) {
	k, d, dests := &sh.remotes, nodeScopeAt(id, s, inst), &sh.destinations
	hash := d.Hash(&sh.hasher)
	k.Add(hash)
	record := dests.NodeRecord(&d, hash)
	if port := s.Data[DataNodePort]; port >= nodePortFirst {
		if record == nil && k.Heavy(hash) {
			record = dests.Enlist(&d, nodePortCount)
		}
		if record != nil {
			dests.Mark(record, nodePortCount, strideOf(port))
		}
	}
}

// ReleaseNodePort is the inverse of TakeNodePort.
func (sh *State) ReleaseNodePort(id flow.ID, s *flow.Session, inst *Instance) {
	k, d := &sh.remotes, nodeScopeAt(id, s, inst)
	hash := d.Hash(&sh.hasher)
	k.Drop(hash)
	if port := s.Data[DataNodePort]; port >= nodePortFirst && sh.destinations.AtNodes() > 0 {
		sh.destinations.Free(&d, nodePortCount, strideOf(port))
	}
}

// nodeScopeAt is nodeScopeOf for a session.
func nodeScopeAt(id flow.ID, s *flow.Session, inst *Instance) destinations.Scope {
	t, outside := TupleOf(id, s), [2]uint64{uint64(s.Outside)}
	if id.Is6() {
		outside = s.Addrs6().Outside
	}
	return nodeScopeOf(inst, &t, outside)
}

// NodePortTaken reports whether somebody of the instance uses the inside port of a tuple,
// at the inside address, which is the instance's own, towards the tuple's remote.
func (sh *State) NodePortTaken(inst *Instance, t *Tuple) bool {
	return sh.nodeTaken(inst, t, t.Inside, t.InsidePort)
}

// nodeTaken reports whether a session of the instance uses a port at its own
// address towards the remote.
func (sh *State) nodeTaken(inst *Instance, t *Tuple, own [2]uint64, port uint16) bool {
	h := &sh.hasher
	var c flow.Candidates
	if t.Family == 0 {
		c = sh.Candidates(h.Hash(&flow.Key{
			Src: uint32(t.Remote[0]), Dst: uint32(own[0]),
			SrcPort: t.DestPort, DstPort: port, VNIProto: uint32(t.Proto),
		}))
	} else {
		c = sh.Candidates(h.Hash6(&flow.Key6{
			Src: t.Remote, Dst: own, SrcPort: t.DestPort, DstPort: port, VNIProto: uint32(t.Proto),
		}))
	}
	for id := c.Next(); id != 0; id = c.Next() {
		s := sh.At(id)
		if s.Data[DataNodePort] != port || s.Key.VNI() != inst.Index || s.Proto() != t.Proto ||
			s.Key.DstPort != t.DestPort || id.Is6() != (t.Family == 1) {
			continue
		}
		if t.Family == 0 && s.Key.Dst == uint32(t.Remote[0]) || t.Family == 1 && s.Addrs6().Remote == t.Remote {
			return true
		}
	}
	return false
}

// NodeHash returns the hash under which a translated session is also indexed
// when its instance masquerades: what the remote would send to the node port.
func (sh *State) NodeHash(id flow.ID, s *flow.Session, inst *Instance) uint64 {
	h := &sh.hasher
	if id.Is6() {
		k := flow.Key6{
			Src: s.Addrs6().Remote, Dst: inst.Addr6,
			SrcPort: s.Key.DstPort, DstPort: s.Data[DataNodePort], VNIProto: uint32(s.Proto()),
		}
		return h.Hash6(&k)
	}
	k := flow.Key{
		Src: s.Key.Dst, Dst: inst.Addr4,
		SrcPort: s.Key.DstPort, DstPort: s.Data[DataNodePort], VNIProto: uint32(s.Proto()),
	}
	return h.Hash(&k)
}
