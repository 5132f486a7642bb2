// A flow table without a translator.

package flow

// Observe tracks one packet of an untranslated flow: it finds the session in
// either direction or creates it, restarts its idle timer and advances its TCP
// state. from is Inside for packets of the side that sent the first one. seg is
// the TCP segment, nil for other protocols. A TCP session begins with whatever
// segment is seen first; its state remains "none" until one comes that is not a
// RST. A flow that there is no memory for is not tracked: its Info is zero. A session
// that is over is removed, and with it all others of its shard if the last call of
// Expire is more than MaxLag ago.
//
// Observe is the door for programs that want a flow table and no translator.
func (t *Table) Observe(now Time, k Key, seg *Segment) (in Info, from Side, created bool) {
	r := k.Reverse()
	hash := t.hasher.Hash(&k)
	sh := t.shardOf(t.seeded.Hash(&k), t.seeded.Hash(&r))
	sh.Lock()
	defer sh.Unlock()
	now = sh.approach(now)
	id := sh.LookupInside(&k, hash)
	if id == 0 {
		from = Outside
		id = sh.LookupInside(&r, t.hasher.Hash(&r))
	}
	if sh.follow(id, now, from, seg) {
		return sh.Info(id), from, false
	}
	id, s := sh.New(false)
	if id == 0 {
		return Info{}, Inside, false
	}
	s.Key, s.Outside, s.OutsidePort = k, k.Src, k.SrcPort
	return sh.begin(id, s, now, seg)
}

// Observe6 is Observe for IPv6.
func (t *Table) Observe6(now Time, k Key6, seg *Segment) (in Info, from Side, created bool) {
	r := k.Reverse()
	hash := t.hasher.Hash6(&k)
	sh := t.shardOf(t.seeded.Hash6(&k), t.seeded.Hash6(&r))
	sh.Lock()
	defer sh.Unlock()
	now = sh.approach(now)
	id := sh.LookupInside6(&k, hash)
	if id == 0 {
		from = Outside
		id = sh.LookupInside6(&r, t.hasher.Hash6(&r))
	}
	if sh.follow(id, now, from, seg) {
		return sh.Info(id), from, false
	}
	id, s := sh.New(true)
	if id == 0 {
		return Info{}, Inside, false
	}
	s.Key = Key{SrcPort: k.SrcPort, DstPort: k.DstPort, VNIProto: k.VNIProto}
	s.OutsidePort = k.SrcPort
	*s.Addrs6() = Addrs6{Inside: k.Src, Remote: k.Dst, Outside: k.Src}
	return sh.begin(id, s, now, seg)
}

// begin is the end of Observe for a new session, whose addresses and ports are set.
func (sh *Shard) begin(id ID, s *Session, now Time, seg *Segment) (in Info, from Side, created bool) {
	switch s.Proto() {
	case protoTCP:
		s.Track.Class = ClassTCPOpening
		s.open(Inside, seg)
	case protoICMP, protoICMPv6:
		s.Track.Class = ClassICMP
	default:
		s.Track.Class = ClassUDP
	}
	if !sh.Insert(id, s, now) {
		sh.Discard(id)
		return Info{}, Inside, false
	}
	return sh.Info(id), Inside, true
}

// approach brings the shard near to now, or now near to the shard; see Near.
func (sh *Shard) approach(now Time) Time {
	if sh.Near(now) {
		return now
	}
	for more := true; more; {
		var ids []ID
		ids, _, more = sh.Expire(now)
		for _, id := range ids {
			sh.Remove(id, sh.At(id))
		}
	}
	return max(now, sh.Reached().Add(-MaxLag))
}

// shardOf picks the shard of an untranslated flow, the same one for both
// directions, by the seeded hashes of both keys.
func (t *Table) shardOf(hash, reverse uint64) *Shard {
	return t.Shard(int(uint32(hash^reverse) % uint32(len(t.shards))))
}

// open shows the tracker of an observed session its first segment, if there is
// one that can open a connection.
func (s *Session) open(from Side, seg *Segment) {
	if seg != nil && seg.Flags&RST == 0 {
		s.Track.Open(from, seg)
	}
}

// follow advances an observed session, and reports whether there is one: none is 0,
// and one that is over is removed.
func (sh *Shard) follow(id ID, now Time, from Side, seg *Segment) bool {
	if id == 0 {
		return false
	}
	s := sh.At(id)
	if sh.Expired(s, TickOf(now)) {
		sh.Remove(id, s)
		return false
	}
	switch proto := s.Proto(); {
	case proto == protoTCP && s.Track.Phase() == TCPNone:
		s.open(from, seg) // the class stays
	case proto == protoTCP && seg != nil:
		effect := s.Track.Update(from, seg)
		if effect&Touch != 0 {
			s.Touch(now)
		}
		if effect&Rearm != 0 {
			sh.Rearm(id, s)
		}
		return true
	case from == Outside && s.Track.Class == ClassUDP:
		s.Track.Class = ClassUDPReplied
		s.Touch(now)
		sh.Rearm(id, s) // the new timeout may be the shorter one
		return true
	}
	s.Touch(now)
	return true
}
