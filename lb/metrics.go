// Metrics of a running load balancer.

package lb

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Metrics returns a sample of every series of the load balancer; see
// [monitor.LoadBalancer].
func (l *LoadBalancer) Metrics() []monitor.Sample {
	l.mu.RLock()
	own := l.own
	l.mu.RUnlock()
	return monitor.LoadBalancer(l.nat, own.of)
}

// Stranded returns the backends that have refused flows while others have free
// ports on the same frontends. See [snat.NAT.Stranded].
func (l *LoadBalancer) Stranded() []snat.StrandedPorts { return l.nat.Stranded() }

// ownAddrs are the own addresses of backends, by name and by family, IPv4 first; the
// zero Addr where one has none.
type ownAddrs map[string][flow.NumFamilies]netip.Addr

// ownAddrsOf returns those of backends.
func ownAddrsOf(backends []Backend) ownAddrs {
	all := make(ownAddrs, len(backends))
	for _, b := range backends {
		var own [flow.NumFamilies]netip.Addr
		for _, a := range b.Addrs {
			own[flow.Family(a)] = a
		}
		all[b.Name] = own
	}
	return all
}

// of returns the address of a backend in a family.
func (o ownAddrs) of(backend string, is6 bool) netip.Addr {
	if is6 {
		return o[backend][1]
	}
	return o[backend][0]
}
