package ports

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// What a subscriber gets and loses, as it is told to the translator.

// EventKind is what an Event tells.
type EventKind uint8

// Event tells what a subscriber has got or lost.
type Event struct {
	At       flow.Time
	Kind     EventKind
	Instance *Instance
	Inside   netip.Addr    // the subscriber
	Frontend netip.Addr    // of the block, or the home
	Ports    flow.PortSpan // of the block, for every protocol
}

// The kinds of events.
const (
	BlockGranted  EventKind = iota // a subscriber has got a block of ports
	BlockReturned                  // it has given it back
	HomeGiven                      // a subscriber has got a frontend that it is paired with
	HomeLeft                       // it has none any more
)
