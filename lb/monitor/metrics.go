// Metrics with Azure Monitor's names, dimensions and aggregations. Read
// "Standard load balancer diagnostics" and "Azure NAT Gateway metrics" first.

package lb

import (
	"fmt"
	"net/netip"

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
	// those of them that some new flow cannot have, by FrontendIPAddress,
	// BackendIPAddress, Protocol and IsAwaitingRemoval. A port that is only held for
	// the destination of a closed connection is used, as in Azure's graphs.
	AllocatedSnatPorts Metric = "AllocatedSnatPorts"
	UsedSnatPorts      Metric = "UsedSnatPorts"

	// HeldSnatPorts are those of UsedSnatPorts that no flow is active on, by the same
	// dimensions and HeldAfter. Azure has no such metric. There is none for UDP, whose
	// ports a load balancer does not hold.
	HeldSnatPorts Metric = "HeldSnatPorts"

	// SYNCount, ByteCount and PacketCount are the traffic through a frontend by
	// FrontendIPAddress, FrontendPort and Direction: SYNs without ACK, bytes of IP
	// packets, and packets, all as far as they are forwarded. All SNAT ports of a
	// frontend together are FrontendPort 0, which is our choice. They exist if
	// Config.CountTraffic is set.
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
	Total   Aggregation = iota // a count of events; samples add up
	Average                    // a gauge; the mean of samples
	numAggregations
)

var aggregationNames = [...]string{"Total", "Average"}

var _ = [1]struct{}{}[len(aggregationNames)-int(numAggregations)] // one name per aggregation

// String returns "Total" or "Average".
func (a Aggregation) String() string { return enumString(a, aggregationNames[:]) }

// Aggregation returns Azure's aggregation of m.
func (m Metric) Aggregation() Aggregation {
	switch m {
	case AllocatedSnatPorts, UsedSnatPorts, HeldSnatPorts, DatapathAvailability:
		return Average
	}
	return Total
}

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
	return enumString(s, connectionStateNames[:])
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
func (d Direction) String() string { return enumString(d, directionNames[:]) }

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
func (h Hold) String() string { return enumString(h, holdNames[:]) }

// Dimensions tell the series of a metric apart. A field at its zero value is a
// dimension that the metric does not have, or as its field says.
type Dimensions struct {
	FrontendIPAddress netip.Addr // the zero Addr: a flow failed because its backend has no frontend
	BackendIPAddress  netip.Addr
	FrontendPort      uint16 // 0: all SNAT ports together
	Protocol          snat.Protocol
	ConnectionState   ConnectionState
	Direction         Direction
	HeldAfter         Hold

	// IsAwaitingRemoval marks ports that are reclaimed but still in use.
	IsAwaitingRemoval bool
}

// Sample is the value of one series: of a metric with aggregation Total all events
// so far, of one with Average the value at the moment.
type Sample struct {
	Metric Metric
	Dimensions
	Value float64
}

// String returns the sample in one line.
func (s Sample) String() string {
	text := string(s.Metric)
	add := func(name string, value any) { text += fmt.Sprintf(" %s=%v", name, value) }
	if s.FrontendIPAddress.IsValid() {
		add("FrontendIPAddress", s.FrontendIPAddress)
	}
	if s.BackendIPAddress.IsValid() {
		add("BackendIPAddress", s.BackendIPAddress)
	}
	if s.Protocol != snat.All {
		add("Protocol", s.Protocol)
	}
	if s.ConnectionState != NoConnectionState {
		add("ConnectionState", s.ConnectionState)
	}
	if s.Direction != NoDirection {
		add("Direction", s.Direction)
	}
	if s.HeldAfter != NoHold {
		add("HeldAfter", s.HeldAfter)
	}
	if s.IsAwaitingRemoval {
		add("IsAwaitingRemoval", true)
	}
	return fmt.Sprintf("%s %v", text, s.Value)
}

// Metrics returns a sample of every series of the load balancer: for each backend
// and frontend the connections, allocated, used and held ports, then for each frontend
// the traffic. The order is that of the configuration. It may be called at any
// moment; traffic waits for one shard at a time, and no flow is looked at. Cost:
// O(backends x frontends of each).
func (l *LoadBalancer) Metrics() []Sample {
	l.mu.RLock()
	own := l.own
	l.mu.RUnlock()
	return appendTraffic(appendPorts(nil, l.nat, own), l.nat)
}

// appendPorts appends connections and ports by frontend and backend.
func appendPorts(samples []Sample, nat *snat.NAT, own map[string]ownAddrs) []Sample {
	type series struct{ frontend, backend netip.Addr }
	var rows []snat.ShareStats
	flush := func() {
		// Connections are not told apart by protocol, so those of TCP and UDP go
		// together: one row for each frontend, in the order of appearance.
		var order []series
		created, failed := map[series]uint64{}, map[series]uint64{}
		for _, r := range rows {
			k := series{r.Frontend, own[r.Name].of(r.Is6)}
			if _, seen := created[k]; !seen {
				order = append(order, k)
			}
			created[k] += r.Created
			failed[k] += r.Failed
		}
		for _, k := range order {
			d := Dimensions{FrontendIPAddress: k.frontend, BackendIPAddress: k.backend, ConnectionState: Successful}
			samples = append(samples, Sample{SnatConnectionCount, d, float64(created[k])})
			d.ConnectionState = Failed
			samples = append(samples, Sample{SnatConnectionCount, d, float64(failed[k])})
			d.ConnectionState = Pending
			samples = append(samples, Sample{SnatConnectionCount, d, 0})
		}
		for _, r := range rows {
			if r.Allocated == 0 {
				continue
			}
			d := Dimensions{FrontendIPAddress: r.Frontend, BackendIPAddress: own[r.Name].of(r.Is6), Protocol: r.Protocol, IsAwaitingRemoval: r.AwaitingRemoval}
			samples = append(samples,
				Sample{AllocatedSnatPorts, d, float64(r.Allocated)}, Sample{UsedSnatPorts, d, float64(r.Used)})
			if r.Protocol == snat.TCP {
				d.HeldAfter = AfterFIN
				samples = append(samples, Sample{HeldSnatPorts, d, float64(r.HeldFIN)})
				d.HeldAfter = AfterRST
				samples = append(samples, Sample{HeldSnatPorts, d, float64(r.HeldRST)})
			}
		}
		rows = rows[:0]
	}
	for row := range nat.Shares() {
		if len(rows) > 0 && rows[0].Instance != row.Instance {
			flush()
		}
		rows = append(rows, row)
	}
	flush()
	return samples
}

// appendTraffic appends the traffic by frontend and direction.
func appendTraffic(samples []Sample, nat *snat.NAT) []Sample {
	traffic := nat.Traffic() // TCP and UDP of a frontend follow each other
	for i := 0; i+1 < len(traffic); i += 2 {
		tcp, udp := &traffic[i], &traffic[i+1]
		add := func(direction Direction, t, u *snat.TrafficCount) {
			d := Dimensions{FrontendIPAddress: tcp.Frontend, Direction: direction}
			samples = append(samples,
				Sample{SYNCount, d, float64(t.SYNs)},
				Sample{ByteCount, d, float64(t.Bytes + u.Bytes)},
				Sample{PacketCount, d, float64(t.Packets + u.Packets)})
		}
		add(InboundPackets, &tcp.Inbound, &udp.Inbound)
		add(OutboundPackets, &tcp.Outbound, &udp.Outbound)
	}
	return samples
}

// Stranded returns the backends that have refused flows while others have free
// ports on the same frontends. See [snat.NAT.Stranded].
func (l *LoadBalancer) Stranded() []snat.StrandedPorts { return l.nat.Stranded() }

// ownAddrs are the own addresses of a backend by family, IPv4 first; the zero Addr
// where it has none.
type ownAddrs [2]netip.Addr

// ownAddrsOf returns those of backends by name.
func ownAddrsOf(backends []Backend) map[string]ownAddrs {
	all := make(map[string]ownAddrs, len(backends))
	for _, b := range backends {
		var own ownAddrs
		for _, a := range b.Addrs {
			own[familyIndex(a.Is6())] = a
		}
		all[b.Name] = own
	}
	return all
}

// of returns the address of a family.
func (o ownAddrs) of(is6 bool) netip.Addr { return o[familyIndex(is6)] }

func familyIndex(is6 bool) int {
	if is6 {
		return 1
	}
	return 0
}
