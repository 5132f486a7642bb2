// Package conntrack says how a node follows connections: by the timers and the rules of Linux's
// nf_conntrack, as package snat/preset's Linux has them.
//
// It refuses to know who masquerades, and what: nodes and the exits of static gateways have the same
// policy. There is no state.
//
// Source: nf_conntrack-sysctl.rst of the Linux kernel.
package conntrack

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Established is how long an established TCP connection is remembered without a packet.
const Established = 432_000 * time.Second

// timeouts are the other timers.
var timeouts = flow.Timeouts{
	TCPOpening: 120 * time.Second, TCPHalfClosed: 120 * time.Second, TCPClosing: 30 * time.Second, TCPTimeWait: 120 * time.Second,
	TCPReset: 10 * time.Second, UDP: 30 * time.Second, UDPReplied: 120 * time.Second, ICMP: 30 * time.Second,
	TCPSynReceived: 60 * time.Second, TCPCloseWait: 60 * time.Second, TCPUnacknowledged: 300 * time.Second,
}

// Policy returns how a node follows connections. Nobody is told when one ends.
func Policy() snat.Policy {
	return snat.Policy{
		IdleTimeout: Established, Timeouts: timeouts,
		EndRefused: true, PickUp: true, TCPRules: flow.ConntrackRules,
	}
}
