// Pools of connections that are kept open.

package whatif

// pool is the connections of a host to a peer.
type pool struct {
	first         uint32 // that rests, the one that was used last, or none
	open, waiting uint32 // connections, also those that begin; requests that wait for one
}

// request sends a request of the h-th host by a connection of its pool.
func (s *Simulation) request(st *stream, h, to int) {
	slot := h*len(st.peers) + to
	p := &st.pools[slot]
	switch {
	case p.first != none:
		i := p.first
		s.leave(i)
		s.conversations[i].left = 1
		s.ask(i)
	case int(p.open) < st.PoolSize:
		p.open++
		s.start(s.add(st, h, to, slot))
	default:
		p.waiting++
		st.counts.Waited++
	}
}

// join puts a connection into its pool, or gives it the next request.
func (s *Simulation) join(i uint32) {
	c := &s.conversations[i]
	p := &s.streams[c.stream].pools[c.slot]
	if p.waiting > 0 {
		p.waiting--
		c.left = 1
		s.ask(i)
		return
	}
	c.inPool, c.next, p.first = true, p.first, i
	c.state, c.since, c.retries = resting, s.step, 0
	s.sleep(i)
}

// leave takes a connection out of its pool.
func (s *Simulation) leave(i uint32) {
	c := &s.conversations[i]
	c.inPool = false
	at := &s.streams[c.stream].pools[c.slot].first
	for *at != i {
		at = &s.conversations[*at].next
	}
	*at = c.next
}
