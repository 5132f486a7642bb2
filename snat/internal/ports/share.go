package ports

import (
	"net/netip"
)

// share returns the pool's share of a frontend, which it makes if there is none.
func (p *pool) share(frontend netip.Addr, awaiting bool) *share {
	for _, s := range p.shares {
		if s.frontend == frontend && s.awaiting == awaiting {
			return s
		}
	}
	s := &share{frontend: frontend, awaiting: awaiting}
	p.shares = append(p.shares, s)
	return s
}

// divide gives every range its share. A port that awaits removal counts only while
// it has sessions, so none does yet.
func (p *pool) divide() {
	for i := range p.ranges {
		r := &p.ranges[i]
		r.share = p.share(r.frontend.Addr, r.until != 0)
		if r.until == 0 {
			r.share.allocated += r.count
		}
	}
}

// inherit takes over the counts of what the pool has been until now, and with same
// also its sessions, because the ports are the same.
func (p *pool) inherit(was *pool, same bool) {
	p.failed = was.failed
	for _, o := range was.shares {
		if !same && o.created == 0 && o.failed == 0 {
			continue
		}
		s := p.share(o.frontend, o.awaiting)
		s.created, s.failed = o.created, o.failed
		if same {
			s.portCounts = o.portCounts
		}
	}
}

// fail counts a packet that is refused for want of a port.
func (p *pool) fail() {
	if p.granted > 0 {
		p.rangeOf(p.granted-1).share.failed++
	} else {
		p.failed++
	}
}
