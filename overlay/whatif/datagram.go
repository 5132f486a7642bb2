// Conversations over UDP: lookups and media.

package whatif

import "time"

// What a resolver does with a question that is not answered; resolv.conf(5).
const (
	lookupTimeout  = 5 * time.Second
	lookupAttempts = 2
)

// answered ends a lookup.
func (s *Simulation) answered(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	st.counts.Established++
	st.counts.Exchanges++
	if st.answers != nil {
		st.answers[c.slot] = s.now.Add(st.CacheTTL)
	}
	s.complete(i)
}

// stream sends a datagram of Media each way; the peer's begin with the first that has reached it.
func (s *Simulation) stream(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	if c.left == 0 {
		s.complete(i)
		return
	}
	c.left--
	both := c.state == streaming && c.outsidePort != 0 && s.step-c.since >= st.rtt
	if !both && c.outsidePort == 0 {
		c.state = opening
	}
	s.later(i, c.rest(st))
	if both {
		s.udp(i, true, c.answerBytes(st), false)
	}
	s.udp(i, false, s.conversations[i].requestBytes(st), true)
}
