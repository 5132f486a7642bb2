package snat

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Shorter idle timeouts of UDP sessions to well-known ports. Read RFC 4787 section
// 4.3 (REQ-5 and 5a) first.
//
// Each row has an idle class of its own, which a session gets when it begins and
// keeps for life. So a packet of such a session costs what any other does.

// MaxPortTimeouts is the number of rows of a PortTimeouts, one of the idle classes
// that package flow leaves to others each.
const MaxPortTimeouts = 8

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

// setUDPPorts gives the class of each row its timeout.
func (sh *shard) setUDPPorts() {
	for i, r := range sh.policy.UDPPorts {
		sh.SetClassTimeout(flow.FirstCustomClass+flow.Class(i), r.Timeout)
	}
}

// udpClass returns the class of a new UDP session to a remote port.
func (sh *shard) udpClass(port uint16) flow.Class {
	if port-1 < 1023 {
		for i := range sh.policy.UDPPorts {
			if sh.policy.UDPPorts[i].Port == port {
				return flow.FirstCustomClass + flow.Class(i)
			}
		}
	}
	return flow.ClassUDP
}

// reclassify gives a session the class that it has under the shard's policy,
// after that has changed. One that has lost its row begins like a new one.
func (sh *shard) reclassify(s *flow.Session) {
	switch c := s.Track.Class; {
	case s.Kind() == flow.KindForwarded:
	case c == flow.ClassUDP, c == flow.ClassUDPReplied:
		if row := sh.udpClass(s.Key.DstPort); row != flow.ClassUDP {
			s.Track.Class = row
		}
	case c >= flow.FirstCustomClass:
		s.Track.Class = sh.udpClass(s.Key.DstPort)
	}
}
