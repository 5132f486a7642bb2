// Package conntrack says how a node follows connections: by the timers and the rules of Linux's
// nf_conntrack, as package snat/preset's Linux has them.
//
// It refuses to know who masquerades, and what: nodes and the exits of static gateways have the same
// policy. There is no state.
package conntrack

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Policy returns how a node follows connections. Nobody is told when one ends.
func Policy() snat.Policy {
	p := snat.Policy{Timeouts: flow.ConntrackTimeouts(), EndRefused: true, PickUp: true, TCPRules: flow.ConntrackRules}
	p.IdleTimeout, p.Timeouts.TCPEstablished = p.Timeouts.TCPEstablished, 0
	return p
}
