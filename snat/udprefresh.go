package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Which datagrams keep a UDP session alive. Read RFC 4787 section 4.3 (REQ-6)
// first.

// UDPRefresh says which packets restart the idle timer of a UDP session.
type UDPRefresh uint8

// The ways of refreshing.
const (
	// RefreshEither is by packets of either direction; the default, Azure load
	// balancers.
	RefreshEither UDPRefresh = iota
	// RefreshPerDirection is each direction on its own: the session ends as soon
	// as one of them has been silent for the idle timeout, the inbound one from
	// the beginning if nothing comes back. Where the first reply makes the timeout
	// shorter, that begins for both. Azure NAT gateways.
	RefreshPerDirection
	// RefreshOutbound is by packets of the inside only (RFC 4787 REQ-6a). A
	// session that begins outside keeps its mapping no longer than that lives
	// without it, unless the inside sends on it. Where the first reply makes the
	// timeout shorter, that begins with the reply.
	RefreshOutbound
	numUDPRefreshes
)

// lags returns, for the packets of each side, the mask of touchUDP: all ones where
// the other side's last packet counts instead, if it is older.
func (r UDPRefresh) lags() (masks [2]uint32) {
	switch r {
	case RefreshPerDirection:
		return [2]uint32{^uint32(0), ^uint32(0)}
	case RefreshOutbound:
		masks[flow.Outside] = ^uint32(0)
	}
	return masks
}

// age makes the last activity of a session what the shard's policy says it is,
// where it has lived by another policy until now, and moves its timer.
func (sh *shard) age(id flow.ID, s *flow.Session) {
	if s.Proto() == wire.ProtoUDP {
		last, older := s.Track.Ack[flow.Inside], s.Track.Ack[flow.Outside]
		if sh.Before(last, older) {
			last, older = older, last
		}
		switch sh.policy.UDPRefresh {
		case RefreshPerDirection:
			last = older
		case RefreshOutbound:
			last = s.Track.Ack[flow.Inside]
		}
		s.TouchTick(last)
	}
	sh.Rearm(id, s)
}

// touchUDP restarts the idle timer of a UDP session: by the present tick, or
// where sh.lags says so by that of the other direction's last packet. The ticks
// are in a part of the session's tracker that UDP does not need.
func (sh *shard) touchUDP(s *flow.Session, from flow.Side, tick uint32) {
	s.Track.Ack[from&1] = tick
	s.TouchTick(tick - (tick-s.Track.Ack[^from&1])&sh.lags[from&1])
}
