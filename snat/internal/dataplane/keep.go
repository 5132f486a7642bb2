package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Keeping: what becomes of the sessions that a reconfiguration does not end, but whose
// instance has other ports, addresses or another shard now.

// attach books a session anew, in the shard where its instance is now, and returns
// where that is. A session that there is no memory for is cut.
func (k kept) attach(now flow.Time, l *layout) (at kept, ok bool) {
	sh, id := k.sh, k.id
	s := sh.At(id)
	inst := sh.nat.instances[s.Key.VNI()]
	tombstone, ported := s.Track.Phase() == flow.TCPResetSent, s.Kind().HoldsPort()
	indexed := s.Data[ports.DataNodePort] != 0 && ported
	if to := sh.nat.shards[inst.Shard]; to != sh {
		if s.Data[ports.DataNodePort] != 0 {
			sh.ReleaseNodePort(id, s, &inst.Instance)
		}
		if indexed {
			sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
		}
		to.udp.Reclassify(s)
		moved := sh.Move(id, to.Shard, now)
		if moved == 0 {
			return k, sh.cutUnbooked(now, l, id, false)
		}
		id, s = moved, to.At(moved)
		to.udp.Age(to.Shard, id, s)
		if tombstone {
			sh.counters.Tombstones--
			to.counters.Tombstones++
		}
		if sh = to; indexed && !sh.IndexExtra(sh.NodeHash(id, s, &inst.Instance), id) {
			return k, sh.cutUnbooked(now, l, id, false)
		}
		if s.Data[ports.DataNodePort] != 0 {
			sh.TakeNodePort(id, s, &inst.Instance)
		}
	}
	k.sh, k.id = sh, id
	if tombstone || !ported {
		return k, true
	}
	if !sh.Attach(now, id, &k.booking) {
		return k, sh.cutUnbooked(now, l, id, true)
	}
	return k, true
}

// addNodePort gives a session of the instance's own address a port there, as every
// session has from its beginning where there are sources behind the instance.
func (sh *shard) addNodePort(id flow.ID) {
	s := sh.At(id)
	inst, t := sh.nat.instances[s.Key.VNI()], ports.TupleOf(id, s)
	if s.Data[ports.DataNodePort] != 0 || !inst.Masquerades || !inst.Owns(t.Family, t.Inside) {
		return
	}
	if s.Kind() == flow.KindTracked { // of which nobody has the port, for there was nobody
		if s.Data[ports.DataNodePort] = t.InsidePort; t.InsidePort != 0 {
			sh.TakeNodePort(id, s, &inst.Instance)
		}
		return
	}
	if port, ok := sh.NodePort(&inst.Instance, &t, t.Inside); ok {
		s.Data[ports.DataNodePort] = port
		if !sh.IndexExtra(sh.NodeHash(id, s, &inst.Instance), id) {
			s.Data[ports.DataNodePort] = 0
			return
		}
		sh.TakeNodePort(id, s, &inst.Instance)
	}
}
