// Package udp knows when UDP sessions end: which class of idle timeout each has, and
// which of its packets restart its timer.
//
// A session to a well-known port that has a timeout of its own gets a class of its own
// when it begins, and keeps it for life. Which packets refresh is a mask. So a packet of
// an established session takes no branch for either.
//
// The ticks of the last packets of both directions stand in a part of the session's
// tracker that UDP does not need. All is guarded by the lock of the shard that has the
// [Timers]. The package refuses to know ports as a resource, and what is done with a
// session that is over.
//
// Read RFC 4787 section 4.3 (REQ-5, 5a and 6) first.
package udp

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Refresh says which packets restart the idle timer.
type Refresh uint8

// The ways of refreshing.
const (
	Either       Refresh = iota // those of either direction
	PerDirection                // each direction has a timer, and the first that is over ends the session
	Outbound                    // those of the inside only
)

// Port is the idle timeout of the sessions to a remote port. Port 0 is none.
type Port struct {
	Port    uint16
	Timeout time.Duration
}

// MaxPorts is the number of ports that may have timeouts of their own, one of the idle
// classes that package flow leaves to others each.
const MaxPorts = 8

// Rules say when sessions end. With RepliedSooner the first reply makes the timeout
// shorter.
type Rules struct {
	Refresh       Refresh
	RepliedSooner bool
	Ports         [MaxPorts]Port
}

// Timers are the rules of one shard, as its packets need them.
type Timers struct {
	rules Rules
	lags  [2]uint32 // all ones for packets of a side where the other side's last packet counts instead, if it is older
}

// Follow replaces the rules, and gives the class of each port its timeout in sh.
func (t *Timers) Follow(r Rules, sh *flow.Shard) {
	t.rules, t.lags = r, [2]uint32{}
	switch r.Refresh {
	case PerDirection:
		t.lags = [2]uint32{^uint32(0), ^uint32(0)}
	case Outbound:
		t.lags[flow.Outside] = ^uint32(0)
	}
	for i, p := range r.Ports {
		sh.SetClassTimeout(flow.FirstCustomClass+flow.Class(i), p.Timeout)
	}
}

// Touch restarts the idle timer of a session for a packet from a side: by the present
// tick, or where the rules say so by that of the other direction's last packet.
func (t *Timers) Touch(s *flow.Session, from flow.Side, tick uint32) {
	s.Track.Ack[from&1] = tick
	s.TouchTick(tick - (tick-s.Track.Ack[^from&1])&t.lags[from&1])
}

// Replied makes the class of a session that of one that has been replied to, where it is
// not. Where the timeout gets shorter, that begins for both directions.
func (t *Timers) Replied(sh *flow.Shard, id flow.ID, s *flow.Session, tick uint32) {
	s.Track.Class = flow.ClassUDPReplied
	if t.rules.RepliedSooner {
		s.Track.Ack[flow.Inside], s.Track.Ack[flow.Outside] = tick, tick
		s.TouchTick(tick)
		sh.Rearm(id, s)
	}
}

// Begin gives a new session to a port, which a side has begun, its class and its ticks.
// What comes from outside is a reply to what the inside has sent by its mapping, unless the
// session is one that has none.
func (t *Timers) Begin(s *flow.Session, port uint16, from flow.Side, tick uint32) {
	s.Track.Class = t.class(port)
	if from == flow.Outside && s.Kind() != flow.KindTracked && s.Track.Class == flow.ClassUDP {
		s.Track.Class = flow.ClassUDPReplied
	}
	s.Track.SetInitiator(from)
	s.Track.Ack[flow.Inside], s.Track.Ack[flow.Outside] = tick, tick
}

// InboundRefreshes reports whether a packet from outside keeps a session by itself.
func (t *Timers) InboundRefreshes() bool { return t.lags[flow.Outside] == 0 }

// class returns the class of a new session to a remote port.
func (t *Timers) class(port uint16) flow.Class {
	if port-1 < 1023 {
		for i := range t.rules.Ports {
			if t.rules.Ports[i].Port == port {
				return flow.FirstCustomClass + flow.Class(i)
			}
		}
	}
	return flow.ClassUDP
}

// Reclassify gives a session the class that it has by the rules, after they have
// changed. One that has lost its port's begins like a new one. Forwarded ones have no
// ports.
func (t *Timers) Reclassify(s *flow.Session) {
	switch c := s.Track.Class; {
	case s.Kind() == flow.KindForwarded:
	case c == flow.ClassUDP, c == flow.ClassUDPReplied:
		if row := t.class(s.Key.DstPort); row != flow.ClassUDP {
			s.Track.Class = row
		}
	case c >= flow.FirstCustomClass:
		s.Track.Class = t.class(s.Key.DstPort)
	}
}

// Age makes the last activity of a session in sh, of whatever protocol, what the rules
// say it is, where it has lived by others until now, and moves its timer.
func (t *Timers) Age(sh *flow.Shard, id flow.ID, s *flow.Session) {
	if s.Proto() == wire.ProtoUDP {
		last, older := s.Track.Ack[flow.Inside], s.Track.Ack[flow.Outside]
		if sh.Before(last, older) {
			last, older = older, last
		}
		switch t.rules.Refresh {
		case PerDirection:
			last = older
		case Outbound:
			last = s.Track.Ack[flow.Inside]
		}
		s.TouchTick(last)
	}
	sh.Rearm(id, s)
}
