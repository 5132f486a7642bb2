package snat

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// The log: what RFC 8158 wants a NAT to tell, as values handed to [Hooks].Event. tell.go
// tells.

// EventKind is what an event tells. The numbers are those of natEvent (RFC 8158),
// whose kinds for NAT64 do not occur. It has none for IPv6 to IPv6; that those of
// NAT44 are used, with IPv6 addresses, is our choice.
type EventKind uint8

// The kinds of events.
const (
	EventAddressesExhausted   EventKind = 3  // no frontend of a pool of several had a port for a flow
	EventSessionCreate        EventKind = 4  // a session began
	EventSessionDelete        EventKind = 5  // it is over, and its port given back
	EventBindingCreate        EventKind = 8  // an inside socket got an outside port: RFC 8158's BIB entry
	EventBindingDelete        EventKind = 9  // it gave it back
	EventPortsExhausted       EventKind = 12 // the only frontend that could serve a flow had no port for it
	EventQuotaExceeded        EventKind = 13 // a limit was reached; Quota tells which
	EventAddressBindingCreate EventKind = 14 // a subscriber was paired with a frontend
	EventAddressBindingDelete EventKind = 15 // it is no longer
	EventBlockCreate          EventKind = 16 // a subscriber was granted a block of ports
	EventBlockDelete          EventKind = 17 // it gave it back

	// EventParameters is not of RFC 8158: the parameters of a deterministic
	// mapping, in force from now on, or once a day (RFC 7422).
	EventParameters EventKind = 255
)

var eventText = map[EventKind]string{
	EventAddressesExhausted: "addresses exhausted", EventSessionCreate: "session created", EventSessionDelete: "session deleted",
	EventBindingCreate: "binding created", EventBindingDelete: "binding deleted", EventPortsExhausted: "ports exhausted",
	EventQuotaExceeded: "quota exceeded", EventAddressBindingCreate: "address binding created", EventAddressBindingDelete: "address binding deleted",
	EventBlockCreate: "port block allocated", EventBlockDelete: "port block de-allocated", EventParameters: "deterministic parameters",
}

// String returns what k tells, such as "session created".
func (k EventKind) String() string { return cmp.Or(eventText[k], "event(?)") }

// Quota is the limit that an EventQuotaExceeded is about, with the numbers of
// natQuotaExceededEvent (RFC 8158).
type Quota uint32

// The quotas.
const (
	QuotaSessions    Quota = 1 // sessions of the translator
	QuotaBindings    Quota = 2 // bindings of the translator
	QuotaPerUser     Quota = 3 // what one subscriber may have: ports, sessions, blocks, or new ones per second
	QuotaSubscribers Quota = 4 // subscribers at the same time
)

// Event is one entry of the log. Fields that its kind does not have are zero:
// every kind has At and Instance; sessions and bindings Proto, Inside and Outside;
// address bindings and blocks the addresses of both, blocks Ports as well; ports
// exhausted Proto and the address of Outside, addresses exhausted Proto;
// quotas Inside's address, whose flow was refused, Quota and Limit.
type Event struct {
	At       flow.Time // when it happened
	Kind     EventKind // which decides what other fields are set
	Proto    uint8     // IP protocol: 6 TCP, 17 UDP, 1 and 58 ICMP queries
	Instance uint32    // index, as in a verdict; also names the pool
	Realm    uint32    // of the instance: the address space of Inside; see Instance.Realm

	// Origin is the side that began a session. Bindings begin inside.
	Origin flow.Side

	Inside  netip.AddrPort // the subscriber; of queries the identifier is the port
	Outside netip.AddrPort // the frontend's address and port; of queries the identifier
	Remote  netip.AddrPort // zero unless Log.Destinations is set

	Ports flow.PortSpan // of a block, for every protocol

	Quota Quota // of EventQuotaExceeded only

	// Limit is what the quota allows: sessions or subscribers. Of QuotaPerUser it is
	// the limit of Limits that was reached, in its own unit, or the ports of all the
	// blocks that a subscriber may have, its fixed ones included.
	Limit uint32

	// Count is how many refused packets this event stands for: itself, and
	// those since the last of its kind that were not told of (exhaustion,
	// quotas). The counters in Stats always are exact.
	Count uint64

	Parameters string // of EventParameters: as [deterministic.Parameters.Record] returns them
}

// Log says which events are told, besides those of exhaustion, quotas, blocks,
// address bindings and parameters, which always are where there is a
// [Hooks].Event.
type Log struct {
	// Sessions tells of every translated session's begin and end, Bindings of every
	// binding's. Both together repeat themselves unless destinations are
	// logged, and are refused then (RFC 8158). A flow of a protocol
	// whose mapping is not shared by flows has a binding of its own.
	Sessions, Bindings bool

	// Destinations adds the remote to sessions. RFC 6888 REQ-12 says not to
	// unless required to.
	Destinations bool

	// AlarmInterval is the least time between two events about exhausted ports
	// of an instance, and between two about its quotas; those in between are
	// counted. RFC 8158 wants them limited and gives no number: 0 means a
	// minute, our choice. At most 24 days.
	AlarmInterval time.Duration
}

// alarmInterval is our choice for Log.AlarmInterval.
const alarmInterval = time.Minute

func (v *validation) log(l *Log) {
	if l.Sessions && l.Bindings && !l.Destinations {
		v.Add("Log.Bindings", l.Bindings, flow.ErrOutOfRange, "not with Sessions, unless Destinations is set")
	}
	problems.Between(&v.List, "Log.AlarmInterval", l.AlarmInterval, 0, flow.MaxTimeout)
}
