package ports

// share returns the index of the pool's share of an outside address, which it makes if
// there is none.
func (p *pool) share(outside [2]uint64, awaiting bool) uint32 {
	for i := range p.shares {
		if s := &p.shares[i]; s.outside == outside && s.awaiting == awaiting {
			return uint32(i)
		}
	}
	p.shares = append(p.shares, share{outside: outside, awaiting: awaiting})
	return uint32(len(p.shares) - 1)
}

// shareOf returns the share that an ordinal counts in.
func (p *pool) shareOf(ordinal int) *share { return &p.shares[p.rangeOf(ordinal).share] }

// inherit takes over the counts of what the pool has been until now, and with same
// also its sessions, because the ports are the same.
func (p *pool) inherit(was *pool, same bool) {
	p.failed = was.failed
	for i := range was.shares {
		o := &was.shares[i]
		if !same && o.created == 0 && o.failed == 0 {
			continue
		}
		s := &p.shares[p.share(o.outside, o.awaiting)]
		s.created, s.failed = o.created, o.failed
		if same {
			s.portCounts = o.portCounts
		}
	}
}

// fail counts a packet that is refused for want of a port.
func (p *pool) fail() {
	if p.granted > 0 {
		p.shareOf(p.granted-1).failed++
	} else {
		p.failed++
	}
}
