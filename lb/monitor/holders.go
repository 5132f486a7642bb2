// Metrics of who holds ports, which Azure has not.

package monitor

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The metrics of who holds ports. Azure has none of these. Each has two kinds of series: of inside addresses,
// by BackendIPAddress and InsideIPAddress, and of destinations, by RemoteIPAddress, RemotePort and
// Protocol.
const (
	// HolderSnatPorts are the pairs of outside port and remote that are held.
	HolderSnatPorts Metric = "HolderSnatPorts"

	// HolderConnectionCount counts new flows, by ConnectionState: Failed are packets refused for want of a
	// port or because of a limit.
	HolderConnectionCount Metric = "HolderConnectionCount"

	// HolderBlamedCount counts the refusals that an inside address has made: see [snat.Holder].Blamed.
	HolderBlamedCount Metric = "HolderBlamedCount"
)

// Holders returns samples of the k inside addresses and the k destinations that hold most ports at now, none
// if k is 0 or less or nothing is counted; see [snat.NAT.Holders]. from is a [snat.NAT], or what has its door;
// address is as for [LoadBalancer]. A [Sampler] keeps a series of all that have ever been among these.
// Cost: that of two calls of Holders.
func Holders(from interface {
	Holders(now flow.Time, by snat.HoldersBy) snat.Holders
}, now flow.Time, k int, address func(backend string, is6 bool) netip.Addr) (samples []Sample) {
	for _, by := range []snat.HoldersBy{snat.HoldersByInside, snat.HoldersByDestination} {
		rows := from.Holders(now, by).Rows
		for _, h := range rows[:max(0, min(k, len(rows)))] {
			d := Dimensions{InsideIPAddress: h.Inside, RemoteIPAddress: h.Remote.Addr(), RemotePort: h.Remote.Port(), Protocol: h.Protocol}
			if by == snat.HoldersByInside {
				d.BackendIPAddress = address(h.Instance, h.Inside.Is6())
			}
			samples = append(samples, Sample{HolderSnatPorts, d, float64(h.Ports)})
			if by == snat.HoldersByInside {
				samples = append(samples, Sample{HolderBlamedCount, d, float64(h.Blamed)})
			}
			d.ConnectionState = Successful
			samples = append(samples, Sample{HolderConnectionCount, d, float64(h.Created)})
			d.ConnectionState = Failed
			samples = append(samples, Sample{HolderConnectionCount, d, float64(h.Suffered)})
		}
	}
	return samples
}
