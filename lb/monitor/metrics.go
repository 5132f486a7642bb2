// Package monitor has metrics with Azure Monitor's names, dimensions and aggregations:
// what they are of a running translator, and what a [Sampler] keeps of them over time.
// Read "Standard load balancer diagnostics" and "Azure NAT Gateway metrics" first.
//
// Terminology: a metric has series, which [Dimensions] tell apart; a [Sample] is the
// value of one series at the moment, and a [Point] what samples amount to in some time,
// which is whole grains of a minute. [LoadBalancer] and [NATGateway] read the samples
// of a [snat.NAT], and keep no state; package lb calls them for its types. They are safe
// for concurrent use, a Sampler is not. [WriteText] writes samples for Prometheus.
package monitor

import (
	"fmt"
	"iter"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Metric is the REST name of a metric in Azure Monitor.
type Metric string

// The metrics of a load balancer.
const (
	// SnatConnectionCount counts new outbound flows by FrontendIPAddress,
	// BackendIPAddress and ConnectionState. Failed above 0 is port exhaustion.
	// Every packet that is refused counts, so a SYN that is sent again does too.
	SnatConnectionCount Metric = "SnatConnectionCount"

	// AllocatedSnatPorts and UsedSnatPorts are the ports granted to a backend and
	// those of them that at least one new flow could not get, by FrontendIPAddress,
	// BackendIPAddress, Protocol and IsAwaitingRemoval. A port that is only held for
	// the destination of a closed connection is used, as in Azure's graphs.
	AllocatedSnatPorts Metric = "AllocatedSnatPorts"
	UsedSnatPorts      Metric = "UsedSnatPorts"

	// HeldSnatPorts are those of UsedSnatPorts that no flow is active on, by the same
	// dimensions and HeldAfter. Azure has no such metric. There is none for UDP, whose
	// ports a load balancer does not hold.
	HeldSnatPorts Metric = "HeldSnatPorts"

	// VipAvailability is 100 for a frontend port of a rule while new flows to it reach
	// a backend, and else 0, by FrontendIPAddress and FrontendPort: Azure's data path
	// availability. HA ports are FrontendPort 0.
	VipAvailability Metric = "VipAvailability"

	// DipAvailability is the share of the probes of the last minute that a backend of a
	// rule has answered well, in percent, by Protocol, BackendPort, FrontendIPAddress,
	// FrontendPort and BackendIPAddress: Azure's health probe status. An administrative
	// state makes it 100 or 0 (administrative state document).
	DipAvailability Metric = "DipAvailability"

	// SYNCount, ByteCount and PacketCount are the traffic through a frontend by
	// FrontendIPAddress, FrontendPort and Direction: SYNs without ACK, bytes of IP
	// packets, and packets, all as far as they are forwarded. FrontendPort is that of
	// a rule, or the first of a range; all ports of a frontend together, those of rules
	// included, are FrontendPort 0, which is our choice. They exist if
	// snat.Config.CountTraffic is set.
	SYNCount    Metric = "SYNCount"
	ByteCount   Metric = "ByteCount"
	PacketCount Metric = "PacketCount"
)

// The metrics of a NAT gateway, besides ByteCount and PacketCount, which it has by
// Protocol and Direction.
const (
	SNATConnectionCount  Metric = "SNATConnectionCount"  // new flows by Protocol and ConnectionState, attempted and failed
	TotalConnectionCount Metric = "TotalConnectionCount" // active flows by Protocol
	PacketDropCount      Metric = "PacketDropCount"      // packets that were dropped
	DatapathAvailability Metric = "DatapathAvailability" // 0..100
)

// Aggregation is the way in which Azure Monitor combines samples of a metric by
// default.
type Aggregation uint8

// The aggregations.
const (
	Total   Aggregation = iota // the sum of events, or of samples
	Average                    // a gauge; the mean of samples
	numAggregations
)

var aggregationNames = [...]string{"Total", "Average"}

var _ = [1]struct{}{}[len(aggregationNames)-int(numAggregations)] // one name per aggregation

// String returns "Total" or "Average".
func (a Aggregation) String() string { return enum.Name(a, aggregationNames[:]) }

// Aggregation returns Azure's aggregation of m.
func (m Metric) Aggregation() Aggregation {
	switch m {
	case AllocatedSnatPorts, UsedSnatPorts, HeldSnatPorts, HolderSnatPorts, DatapathAvailability, VipAvailability, DipAvailability:
		return Average
	}
	return Total
}

// counts reports whether samples of m are all events so far. All others are values of the moment, also
// TotalConnectionCount, of which Azure Monitor adds up the samples.
func (m Metric) counts() bool { return m.Aggregation() == Total && m != TotalConnectionCount }

// ConnectionState says what became of new flows.
type ConnectionState uint8

// The connection states. Azure lists pending without explaining it. Our choice is
// that it means a flow whose first packet waits for ports; as no port here is
// granted on demand, its count is always 0.
const (
	NoConnectionState ConnectionState = iota // the metric has no such dimension
	Successful
	Failed
	Pending
	Attempted // successful and failed together; NAT gateway only
	numConnectionStates
)

var connectionStateNames = [...]string{"", "successful", "failed", "pending", "attempted"}

var _ = [1]struct{}{}[len(connectionStateNames)-int(numConnectionStates)] // one name per state

// String returns Azure's name of the state, "" for none.
func (s ConnectionState) String() string {
	return enum.Name(s, connectionStateNames[:])
}

// Direction is that of packets.
type Direction uint8

// The directions.
const (
	NoDirection Direction = iota // the metric has no such dimension
	InboundPackets
	OutboundPackets
	numDirections
)

var directionNames = [...]string{"", "Inbound", "Outbound"}

var _ = [1]struct{}{}[len(directionNames)-int(numDirections)] // one name per direction

// String returns "Inbound", "Outbound" or "".
func (d Direction) String() string { return enum.Name(d, directionNames[:]) }

// Hold says how a connection ended that keeps its port from its destination.
type Hold uint8

// The holds.
const (
	NoHold   Hold = iota // the metric has no such dimension
	AfterFIN             // it was closed
	AfterRST             // it was reset
	numHolds
)

var holdNames = [...]string{"", "FIN", "RST"}

var _ = [1]struct{}{}[len(holdNames)-int(numHolds)] // one name per hold

// String returns "FIN", "RST" or "".
func (h Hold) String() string { return enum.Name(h, holdNames[:]) }

// Dimensions tell the series of a metric apart. A field at its zero value is a
// dimension that the metric does not have, or as its field says.
type Dimensions struct {
	FrontendIPAddress netip.Addr      // the zero Addr: a flow failed because its backend has no frontend
	BackendIPAddress  netip.Addr      // the backend's own address
	BackendPort       uint16          // that a rule leads to; 0: the frontend's
	FrontendPort      uint16          // 0: all ports together
	Protocol          snat.Protocol   // TCP or UDP; zero is both
	ConnectionState   ConnectionState // whether a new flow got a port
	Direction         Direction       // of packets and bytes
	HeldAfter         Hold            // what a port is held after; zero is every use

	InsideIPAddress netip.Addr // who holds ports behind the backend
	RemoteIPAddress netip.Addr // of a destination that ports are held towards
	RemotePort      uint16     // likewise

	// IsAwaitingRemoval marks ports that are reclaimed but still in use.
	IsAwaitingRemoval bool
}

// Sample is the value of one series: of a metric with aggregation Total all events
// so far, of one with Average, and of TotalConnectionCount, the value at the moment.
type Sample struct {
	Metric Metric // its name in Azure Monitor
	Dimensions
	Value float64 // see Sample for events and moments
}

// String returns the sample in one line.
func (s Sample) String() string {
	text := string(s.Metric)
	for d := range s.named() {
		text += " " + d.name + "=" + d.value
	}
	return fmt.Sprintf("%s %v", text, s.Value)
}

// dimension is a dimension that a series has.
type dimension struct{ name, value string }

// named iterates over the dimensions that d has.
func (d Dimensions) named() iter.Seq[dimension] {
	return func(yield func(dimension) bool) {
		for _, x := range []struct {
			name  string
			has   bool
			value any
		}{
			{"FrontendIPAddress", d.FrontendIPAddress.IsValid(), d.FrontendIPAddress},
			{"BackendIPAddress", d.BackendIPAddress.IsValid(), d.BackendIPAddress},
			{"InsideIPAddress", d.InsideIPAddress.IsValid(), d.InsideIPAddress},
			{"RemoteIPAddress", d.RemoteIPAddress.IsValid(), d.RemoteIPAddress},
			{"RemotePort", d.RemotePort != 0, d.RemotePort},
			{"FrontendPort", d.FrontendPort != 0, d.FrontendPort},
			{"BackendPort", d.BackendPort != 0, d.BackendPort},
			{"Protocol", d.Protocol != snat.All, d.Protocol},
			{"ConnectionState", d.ConnectionState != NoConnectionState, d.ConnectionState},
			{"Direction", d.Direction != NoDirection, d.Direction},
			{"HeldAfter", d.HeldAfter != NoHold, d.HeldAfter},
			{"IsAwaitingRemoval", d.IsAwaitingRemoval, true},
		} {
			if x.has && !yield(dimension{x.name, fmt.Sprint(x.value)}) {
				return
			}
		}
	}
}
