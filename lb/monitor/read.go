// What the metrics of a translator are.

package monitor

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// LoadBalancer returns a sample of every series of a load balancer: for each backend
// and frontend the connections, allocated, used and held ports, then for each frontend
// the traffic. The order is that of the configuration. address tells the own address of
// a backend, by its name and family, or the zero Addr if it has none. Queries, which a
// load balancer does not carry, are left out, and with shared ports there is the traffic
// only. It may be called at any moment; traffic waits for one shard at a time, and no
// flow is looked at. Cost: O(backends x frontends of each).
func LoadBalancer(nat *snat.NAT, address func(backend string, is6 bool) netip.Addr) []Sample {
	return appendTraffic(appendPorts(nil, nat, address), nat)
}

// appendPorts appends connections and ports by frontend and backend.
func appendPorts(samples []Sample, nat *snat.NAT, address func(backend string, is6 bool) netip.Addr) []Sample {
	type series struct{ frontend, backend netip.Addr }
	var rows []snat.ShareStats
	flush := func() {
		// Connections are not told apart by protocol, so those of TCP and UDP go
		// together: one row for each frontend, in the order of appearance.
		var order []series
		created, failed := map[series]uint64{}, map[series]uint64{}
		for _, r := range rows {
			k := series{r.Frontend, address(r.Name, r.Is6)}
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
			d := Dimensions{FrontendIPAddress: r.Frontend, BackendIPAddress: address(r.Name, r.Is6), Protocol: r.Protocol, IsAwaitingRemoval: r.AwaitingRemoval}
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
		if row.Protocol == snat.Query {
			continue
		}
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
	// Without queries TCP and UDP of a frontend follow each other.
	traffic := slices.DeleteFunc(nat.Traffic(), func(t snat.FrontendTraffic) bool { return t.Protocol == snat.Query })
	for i := 0; i+1 < len(traffic); i += 2 {
		tcp, udp := traffic[i], &traffic[i+1]
		tcp.Inbound.Add(&udp.Inbound)
		tcp.Outbound.Add(&udp.Outbound)
		samples = AppendTraffic(samples, tcp.Frontend, 0, &tcp.Inbound, &tcp.Outbound)
	}
	return samples
}

// AppendTraffic appends the traffic of a port of a frontend, of all for port 0, by direction.
func AppendTraffic(samples []Sample, frontend netip.Addr, port uint16, inbound, outbound *snat.TrafficCount) []Sample {
	for i, t := range []*snat.TrafficCount{inbound, outbound} {
		d := Dimensions{FrontendIPAddress: frontend, FrontendPort: port, Direction: InboundPackets + Direction(i)}
		samples = append(samples,
			Sample{SYNCount, d, float64(t.SYNs)},
			Sample{ByteCount, d, float64(t.Bytes)},
			Sample{PacketCount, d, float64(t.Packets)})
	}
	return samples
}

// NATGateway returns a sample of every series of a NAT gateway, with the names of Azure
// Monitor's NAT gateway metrics: traffic by protocol and direction, connections by
// protocol and state, active flows by protocol, and drops. Echo is in the drops only,
// for the dimension Protocol has TCP and UDP. DatapathAvailability is always 100, for
// nothing here fails. See [LoadBalancer].
func NATGateway(nat *snat.NAT) []Sample {
	var samples []Sample
	add := func(m Metric, d Dimensions, v uint64) { samples = append(samples, Sample{m, d, float64(v)}) }
	var traffic [2][2]snat.TrafficCount // by protocol and direction
	rows := nat.Traffic()
	for i := range rows {
		if rows[i].Protocol == snat.Query {
			continue
		}
		t := &traffic[rows[i].Protocol-snat.TCP]
		for k, c := range []*snat.TrafficCount{&rows[i].Inbound, &rows[i].Outbound} {
			t[k].Packets += c.Packets
			t[k].Bytes += c.Bytes
		}
	}
	for p := range traffic {
		for k, direction := range []Direction{InboundPackets, OutboundPackets} {
			if rows != nil {
				d := Dimensions{Protocol: snat.TCP + snat.Protocol(p), Direction: direction}
				add(ByteCount, d, traffic[p][k].Bytes)
				add(PacketCount, d, traffic[p][k].Packets)
			}
		}
	}
	for _, c := range nat.Connections() {
		if c.Protocol == snat.Query {
			continue
		}
		add(SNATConnectionCount, Dimensions{Protocol: c.Protocol, ConnectionState: Attempted}, c.Successful+c.Failed)
		add(SNATConnectionCount, Dimensions{Protocol: c.Protocol, ConnectionState: Failed}, c.Failed)
		add(TotalConnectionCount, Dimensions{Protocol: c.Protocol}, uint64(c.Active))
	}
	s := nat.Stats()
	add(PacketDropCount, Dimensions{}, s.Outbound.Dropped+s.Inbound.Dropped)
	add(DatapathAvailability, Dimensions{}, 100)
	return samples
}
