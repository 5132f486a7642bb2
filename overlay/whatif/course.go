// The course of a conversation: what its class says, or the flow of a trace.

package whatif

import "github.com/seed-a61be3fe/natplane/overlay/whatif/trace"

// exchanges returns how many requests a conversation has, or datagrams each way.
func (s *Simulation) exchanges(c *conversation, st *stream) int64 {
	switch {
	case st.recorded != nil:
		return int64(st.recorded[c.slot].exchanges)
	case st.Kind == PerRequest:
		return int64(st.Requests)
	case st.Kind == Media:
		return (s.steps(st.Duration) + st.interval - 1) / st.interval
	}
	return 1
}

// kind returns what a conversation is.
func (c *conversation) kind(st *stream) Kind {
	switch {
	case st.recorded == nil || !c.udp:
		return st.Kind
	case st.recorded[c.slot].exchanges == 1:
		return Lookup
	}
	return Media
}

// end returns how a connection ends.
func (c *conversation) end(st *stream) End {
	if st.recorded != nil {
		return [...]End{trace.Closed: ClientCloses, trace.Reset: ClientResets, trace.Open: Abandoned}[st.recorded[c.slot].End]
	}
	return st.End
}

// requestBytes returns the size of a message of the client.
func (c *conversation) requestBytes(st *stream) int {
	if st.recorded != nil {
		return int(st.recorded[c.slot].message)
	}
	return st.RequestBytes
}

// answerBytes returns the size of a message of the peer.
func (c *conversation) answerBytes(st *stream) int {
	if st.recorded != nil {
		return int(st.recorded[c.slot].message)
	}
	return st.AnswerBytes
}

// rest returns how long a connection rests, or the time between two datagrams, in steps.
func (c *conversation) rest(st *stream) int64 {
	switch {
	case st.recorded != nil:
		return st.recorded[c.slot].pause
	case c.inPool:
		return st.idle
	case st.Kind == Media:
		return st.interval
	}
	return st.pause
}
