// Conversations, and the course of TCP connections: RFC 9293 sections 3.5, 3.6 and 3.10.

package whatif

import (
	"math"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/internal/agenda"
)

// state is what a conversation waits for.
type state uint8

const (
	opening   state = iota // to send its first packet, or that again
	answering              // for the SYN-ACK, or a UDP answer
	asking                 // for the answer to a request
	resting                // for the time of its next request or probe, or the end of its time in the pool
	probing                // for the answer to a probe
	hanging                // for the first FIN of its peer
	closing                // for the FIN of its peer that answers its own
	closed                 // for the acknowledgment of its own FIN
	streaming              // for the time of its next datagram
)

// conversation is a TCP connection or UDP socket of a host. It has no pointers. next chains those of
// a pool, and records that are free.
type conversation struct {
	outside      [2]uint64 // address that the peer answers to
	ticket, life uint32    // of the entry of the agenda that counts; of the record: packets of earlier lives do not
	next         uint32
	stream, host uint32
	peer, slot   uint32 // index of its stream's peers; of its pool or its answer in the cache
	seq, ack     uint32 // next sequence numbers of client and peer
	left         uint32 // requests, or datagrams
	since        int64  // step of its first packet, or since when it rests
	port         uint16 // of the host
	outsidePort  uint16
	tries        uint16 // first packets sent
	retries      uint16 // conversations before it
	state        state
	v6, udp      bool
	inPool       bool // it is in the list of its pool
	refused      bool // it has been
	unanswered   bool // its peer will not answer
}

// socket names a conversation by host, protocol and port.
type socket uint64

func socketOf(host uint32, port uint16, udp bool) socket {
	s := socket(host)<<17 | socket(port)
	if udp {
		s |= 1 << 16
	}
	return s
}

// socket returns that of a conversation that has a port.
func (c *conversation) socket() socket { return socketOf(c.host, c.port, c.udp) }

// The ephemeral ports of Linux: net.ipv4.ip_local_port_range.
const (
	firstEphemeral = 32768
	ephemerals     = 60999 - firstEphemeral + 1

	// spread is how far apart hosts begin: the golden section of all, so that those of a node, whose
	// packets leave from one address, seldom have the same. Linux begins at random.
	spread = 17_449
)

// later enters when a conversation is due; what it was due for before is void.
func (s *Simulation) later(i uint32, steps int64) {
	c := &s.conversations[i]
	c.ticket++
	s.agenda.Put(s.step+steps, agenda.Entry{Owner: i, Ticket: c.ticket})
}

// add makes a conversation of the h-th host of a stream with one of its peers, which does nothing
// yet.
func (s *Simulation) add(st *stream, h, to, slot int) (i uint32) {
	if i = s.unused; i == none {
		i = uint32(len(s.conversations))
		s.conversations = append(s.conversations, conversation{})
	} else {
		s.unused = s.conversations[i].next
	}
	c := &s.conversations[i]
	*c = conversation{
		ticket: c.ticket, life: c.life, next: none, stream: st.index, host: st.hosts[h], peer: uint32(to), slot: uint32(slot),
		v6: st.peers[to].v6, udp: st.Kind == Lookup || st.Kind == Media,
	}
	if st.recorded != nil {
		c.udp = st.recorded[slot].UDP
	}
	return i
}

// start takes a port and sends the first packet of a conversation, new or tried again.
func (s *Simulation) start(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	if !s.hosts[c.host].has[family(c.v6)] { // it has none just now; see Move
		s.release(i)
		return
	}
	st.counts.Conversations++
	c.tries, c.since, c.refused, c.outsidePort = 0, s.step, false, 0
	if !s.bind(i) {
		st.counts.NoPort++
		s.failed(i)
		return
	}
	numbers := st.chance.Uint64()
	c.seq, c.ack = uint32(numbers), uint32(numbers>>32)
	c.unanswered = st.Unanswered > 0 && float64(st.chance.Uint64()>>11)/(1<<53) < st.Unanswered
	c.left = uint32(s.exchanges(c, st))
	if c.kind(st) == Media {
		s.stream(i)
		return
	}
	s.open(i)
}

// open sends the first packet, or sends it again.
func (s *Simulation) open(i uint32) {
	c := &s.conversations[i]
	c.state = opening
	c.tries++
	if c.udp {
		s.udp(i, false, c.requestBytes(&s.streams[c.stream]), true)
	} else {
		s.tcp(i, false, wire.SYN, c.seq, 0, 0)
	}
}

// opened follows a first packet that has been forwarded.
func (s *Simulation) opened(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	switch {
	case c.kind(st) == Media:
		if c.state == opening {
			st.counts.Established++
			c.state = streaming
		}
	case c.unanswered:
		s.again(i)
	case c.udp:
		c.state = answering
		s.later(i, st.rtt+st.think)
	default:
		c.state = answering
		s.later(i, st.rtt)
	}
}

// refused follows a first packet that has been dropped.
func (s *Simulation) refused(i uint32, why flow.Reason) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	st.counts.refuse(s.now.Sub(s.begin))
	s.refusals.add(s.now.Sub(s.begin), why)
	if !c.refused {
		c.refused = true
		st.counts.Refused++
	}
	if c.kind(st) != Media { // which go on
		s.again(i)
	}
}

// again waits until the first packet is to be sent once more, or the client gives up.
func (s *Simulation) again(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	c.state = opening
	next, limit := s.steps(min(time.Second<<min(c.tries, 30)-time.Second, maxDuration)), st.timeout
	if c.udp {
		next, limit = s.steps(time.Duration(c.tries)*lookupTimeout), s.steps(lookupAttempts*lookupTimeout)
	}
	s.later(i, max(1, c.since+min(next, limit)-s.step))
}

// bind takes the next ephemeral port that no open conversation of the host has.
func (s *Simulation) bind(i uint32) bool {
	c := &s.conversations[i]
	h, protocol := &s.hosts[c.host], c.protocol()
	if h.open[protocol] == ephemerals {
		return false
	}
	for {
		c.port = firstEphemeral + h.next[protocol]
		h.next[protocol] = (h.next[protocol] + 1) % ephemerals
		if s.byPort.add(s.conversations, i) {
			h.open[protocol]++
			return true
		}
	}
}

// between returns the conversation of a host's socket with a peer, and false if there is none that is
// open: the host may have abandoned it, and have the port for another one.
func (s *Simulation) between(inside addr, port uint16, udp bool, with peer) (i uint32, ok bool) {
	h, ok := s.byAddr[inside]
	if !ok {
		return 0, false
	}
	if i, ok = s.byPort.get(s.conversations, socketOf(h, port, udp)); !ok {
		return 0, false
	}
	c := &s.conversations[i]
	return i, s.streams[c.stream].peers[c.peer] == with
}

// protocol returns the index of what a host has for each protocol.
func (c *conversation) protocol() int {
	if c.udp {
		return 1
	}
	return 0
}

// due does what a conversation has waited for.
func (s *Simulation) due(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	switch c.state {
	case opening:
		limit := st.timeout
		if c.udp {
			limit = s.steps(lookupAttempts * lookupTimeout)
		}
		switch {
		case c.port == 0:
			s.start(i)
		case c.kind(st) == Media:
			s.stream(i)
		case s.step-c.since >= limit:
			s.failed(i)
		default:
			s.open(i)
		}
	case answering:
		if c.udp {
			s.udp(i, true, c.answerBytes(st), false)
		} else {
			s.tcp(i, true, wire.SYN|wire.ACK, c.ack, c.seq+1, 0)
		}
	case asking:
		flags := uint8(wire.PSH | wire.ACK)
		if c.lastAnswer(st) {
			flags |= wire.FIN
		}
		s.tcp(i, true, flags, c.ack, c.seq, c.answerBytes(st))
	case resting:
		switch {
		case s.step-c.since < c.rest(st):
			c.state = probing
			s.tcp(i, false, wire.ACK, c.seq-1, c.ack, 0)
			s.later(i, st.rtt)
		case c.inPool:
			s.leave(i)
			s.close(i)
		default:
			s.ask(i)
		}
	case hanging, closing:
		s.tcp(i, true, wire.FIN|wire.ACK, c.ack, c.seq, 0)
	case probing, closed:
		s.tcp(i, true, wire.ACK, c.ack, c.seq, 0)
	case streaming:
		s.stream(i)
	}
}

// lastAnswer reports whether the peer ends the connection with its next answer.
func (c *conversation) lastAnswer(st *stream) bool {
	return st.Kind == PerRequest && st.End == ServerCloses && c.left == 1
}

// ask sends a request.
func (s *Simulation) ask(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	seq := c.seq
	c.state = asking
	c.seq += uint32(c.requestBytes(st))
	s.later(i, st.rtt+st.think)
	s.tcp(i, false, wire.PSH|wire.ACK, seq, c.ack, c.requestBytes(st))
}

// received follows an answer that has come to the host.
func (s *Simulation) received(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	switch c.state {
	case answering:
		if c.udp {
			s.answered(i)
			return
		}
		c.seq++
		c.ack++
		st.counts.Established++
		s.tcp(i, false, wire.ACK, c.seq, c.ack, 0)
		s.ask(i)
	case asking:
		s.exchanged(i)
	case probing:
		c.state = resting
		s.sleep(i)
	case hanging:
		c.ack++
		s.finTo(i, closed)
	case closing:
		c.ack++
		s.tcp(i, false, wire.ACK, c.seq, c.ack, 0)
		s.complete(i)
	case closed:
		s.complete(i)
	}
}

// exchanged follows the answer to a request.
func (s *Simulation) exchanged(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	st.counts.Exchanges++
	last := c.lastAnswer(st)
	c.ack += uint32(c.answerBytes(st))
	c.left--
	if last {
		c.ack++
		s.finTo(i, closed)
		return
	}
	s.tcp(i, false, wire.ACK, c.seq, c.ack, 0)
	switch {
	case c.left > 0:
		c.state, c.since = resting, s.step
		s.sleep(i)
	case st.Kind == Pool:
		s.join(i)
	default:
		s.close(i)
	}
}

// sleep enters when a connection that rests is due: with a probe, or the end of its rest.
func (s *Simulation) sleep(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	wait := c.rest(st) - (s.step - c.since)
	if st.keepAlive > 0 {
		wait = min(wait, st.keepAlive)
	}
	s.later(i, max(1, wait))
}

// finTo sends a FIN, and waits for what answers it.
func (s *Simulation) finTo(i uint32, next state) {
	c := &s.conversations[i]
	seq := c.seq
	c.seq++
	c.state = next
	s.later(i, s.streams[c.stream].rtt)
	s.tcp(i, false, wire.FIN|wire.ACK, seq, c.ack, 0)
}

// close ends a connection that has no more requests.
func (s *Simulation) close(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	switch c.end(st) {
	case ClientCloses:
		s.finTo(i, closing)
	case ServerCloses: // of a pool
		c.state = hanging
		s.later(i, 1)
	case ClientResets:
		s.tcp(i, false, wire.RST|wire.ACK, c.seq, c.ack, 0)
		s.complete(i)
	case Abandoned:
		st.counts.Abandoned++
		s.release(i)
	}
}

// complete ends a conversation that has done what it began for.
func (s *Simulation) complete(i uint32) {
	s.streams[s.conversations[i].stream].counts.Completed++
	s.release(i)
}

// failed ends a conversation that has not been answered in time, or has no port to begin with.
func (s *Simulation) failed(i uint32) {
	s.streams[s.conversations[i].stream].counts.Failed++
	s.lost(i)
}

// broken follows a packet that the world has dropped in the middle of a conversation.
func (s *Simulation) broken(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	switch c.kind(st) {
	case Media: // goes on
	case Lookup:
		s.again(i)
	default:
		st.counts.Broken++
		s.lost(i)
	}
}

// reset follows a RST to the host.
func (s *Simulation) reset(i uint32) {
	c := &s.conversations[i]
	if st := &s.streams[c.stream]; c.state == opening || c.state == answering {
		st.counts.Failed++
	} else {
		st.counts.Cut++
	}
	s.lost(i)
}

// lost lets the client of a conversation that has gone wrong try again, if it does so. Who waits
// in a pool has nothing to try.
func (s *Simulation) lost(i uint32) {
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	idle := c.inPool
	if idle {
		s.leave(i)
	}
	if idle || int(c.retries) >= st.Retry.Attempts {
		s.release(i)
		return
	}
	s.unbind(i)
	backoff := float64(st.Retry.Backoff) * math.Pow(st.Retry.Factor, float64(c.retries))
	c.retries++
	c.state = opening
	st.counts.Retries++
	s.later(i, s.steps(time.Duration(min(backoff, float64(maxDuration)))))
}

// unbind gives the port back. Packets under way do not count any more.
func (s *Simulation) unbind(i uint32) {
	c := &s.conversations[i]
	if c.port != 0 {
		s.byPort.remove(s.conversations, i)
		s.hosts[c.host].open[c.protocol()]--
		c.port = 0
	}
	c.ticket++
	c.life++
}

// release ends a conversation. If requests wait for its pool another one begins.
func (s *Simulation) release(i uint32) {
	s.unbind(i)
	c := &s.conversations[i]
	st := &s.streams[c.stream]
	if st.Kind == Pool {
		p := &st.pools[c.slot]
		if p.waiting > 0 { // with the record of this one
			p.waiting--
			c.retries, c.state = 0, opening
			s.later(i, 1)
			return
		}
		p.open--
	}
	c.next, s.unused = s.unused, i
}
