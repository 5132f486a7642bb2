package snat

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/udp"
)

// When UDP sessions end, as it is configured: shorter idle timeouts to well-known ports,
// and which datagrams refresh. Package udp carries it out. Read RFC 4787 section 4.3
// (REQ-5, 5a and 6) first.

// MaxPortTimeouts is the number of rows of a PortTimeouts, one of the idle classes
// that package flow leaves to others each.
const MaxPortTimeouts = udp.MaxPorts

// PortTimeout is the idle timeout of the UDP sessions to one remote port, whether
// or not anything has come back on them. The port is a well-known one, 1..1023
// (RFC 4787 REQ-5a permits no other); the timeout whole milliseconds from 1 ms to
// 24 days.
type PortTimeout struct {
	Port    uint16        // 1..1023; 0 is no row
	Timeout time.Duration // 1 ms to 24 days, whole milliseconds
}

// PortTimeouts are rows for different ports; rows that are zero do not count.
// Sessions in row i have class flow.FirstCustomClass+i, "custom-i". With an
// EndpointIndependent mapping the socket keeps its port as long as any session has
// it.
type PortTimeouts [MaxPortTimeouts]PortTimeout

// udpPorts checks rows.
func (v *validation) udpPorts(prefix string, rows *PortTimeouts) {
	seen := map[uint16]int{}
	for i, r := range rows {
		if r == (PortTimeout{}) {
			continue
		}
		if r.Port < 1 || r.Port > 1023 {
			v.Add(fmt.Sprintf("%sUDPPorts[%d].Port", prefix, i), r.Port, flow.ErrOutOfRange, "1..1023")
		} else if j, ok := seen[r.Port]; ok {
			v.Add(fmt.Sprintf("%sUDPPorts[%d].Port", prefix, i), r.Port, ErrOwned, "UDPPorts[%d] has it", j)
		}
		seen[r.Port] = i
		if r.Timeout <= 0 || r.Timeout > flow.MaxTimeout || r.Timeout%flow.Tick != 0 {
			v.Add(fmt.Sprintf("%sUDPPorts[%d].Timeout", prefix, i), r.Timeout, flow.ErrTimeout, "")
		}
	}
}

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
