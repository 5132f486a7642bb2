// Metrics of a running load balancer.

package lb

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Metrics returns a sample of every series of the load balancer: those of
// [monitor.LoadBalancer], then the health of its rules.
func (l *LoadBalancer) Metrics() []monitor.Sample {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return metrics(&l.health, l.nat, l.own, l.inForce.forwards, 0)
}

// metrics returns a sample of every series of a load balancer, by its number among those in
// force. What no rule of another one is about is number 0's. The owner's lock must be held,
// so that forwards are those in force.
func metrics(h *health.Keeper, nat *snat.NAT, own ownAddrs, forwards []forwarded, balancer int) []monitor.Sample {
	of := map[netip.Addr]int{} // load balancers by frontend
	for i := range forwards {
		of[forwards[i].frontend] = forwards[i].balancer
	}
	samples := appendPortTraffic(monitor.LoadBalancer(nat, own.of), nat, forwards)
	return slices.DeleteFunc(appendMetrics(h, samples, forwards), func(s monitor.Sample) bool {
		return of[s.FrontendIPAddress] != balancer
	})
}

// appendPortTraffic appends the traffic of the ports of rules. forwards must be those in
// force. A port of both protocols is one series, as in Azure, where the metric has no
// dimension for them.
func appendPortTraffic(samples []monitor.Sample, nat *snat.NAT, forwards []forwarded) []monitor.Sample {
	var order []frontendPort
	sums := map[frontendPort]*snat.ForwardTraffic{}
	for i, t := range nat.ForwardTraffic() {
		f := &forwards[i]
		if f.first == 0 || f.opening.natRule != "" && len(f.backends) == 0 {
			continue // HA ports are all of the frontend; or it is nobody's
		}
		p := frontendPort{f.frontend, f.first}
		if sums[p] == nil {
			order, sums[p] = append(order, p), &snat.ForwardTraffic{}
		}
		sums[p].Inbound.Add(&t.Inbound)
		sums[p].Outbound.Add(&t.Outbound)
	}
	for _, p := range order {
		samples = monitor.AppendTraffic(samples, p.frontend, p.port, &sums[p].Inbound, &sums[p].Outbound)
	}
	return samples
}

// frontendPort is what a client sends to.
type frontendPort struct {
	frontend netip.Addr
	port     uint16
}

// appendMetrics appends the availability of the frontend ports of forwards, then of
// backends by rule. The owner's lock must be held, so that forwards are those in force.
func appendMetrics(h *health.Keeper, samples []monitor.Sample, forwards []forwarded) []monitor.Sample {
	h.Lock()
	defer h.Unlock()
	takes := make([]bool, len(forwards)) // new flows
	for i, f := range forwards {
		takes[i] = len(f.backends) > 0
	}
	for _, rule := range h.Rules() {
		takes[rule.Forward] = slices.Contains(rule.States, snat.TargetUp)
	}
	var order []frontendPort
	up, rules := map[frontendPort]int{}, map[frontendPort]int{} // for TCP and for UDP there may be one each
	for i, f := range forwards {
		if f.opening.natRule != "" && len(f.backends) == 0 {
			continue // nobody's
		}
		p := frontendPort{f.frontend, f.first}
		if rules[p] == 0 {
			order = append(order, p)
		}
		rules[p]++
		if takes[i] {
			up[p]++
		}
	}
	for _, p := range order {
		d := monitor.Dimensions{FrontendIPAddress: p.frontend, FrontendPort: p.port}
		samples = append(samples, monitor.Sample{Metric: monitor.VipAvailability, Dimensions: d, Value: 100 * float64(up[p]) / float64(rules[p])})
	}
	return appendProbes(h, samples, forwards)
}

// appendProbes appends the availability of the backends of rules with a probe. h must be
// locked.
func appendProbes(h *health.Keeper, samples []monitor.Sample, forwards []forwarded) []monitor.Sample {
	availability := h.Availability()
	rules := h.Rules()
	for i := range rules {
		rule := &rules[i]
		f := &forwards[rule.Forward]
		for j, b := range rule.Backends {
			value := availability(rule, j)
			switch admin := rule.Members[j].Admin; {
			case admin == probe.AdminDown:
				value = 0
			case admin == probe.AdminUp, !h.Probes():
				value = 100
			}
			samples = append(samples, monitor.Sample{Metric: monitor.DipAvailability, Value: value, Dimensions: monitor.Dimensions{
				FrontendIPAddress: f.frontend, FrontendPort: f.first, BackendIPAddress: b.Addr, BackendPort: f.backendPort, Protocol: f.opening.protocol,
			}})
		}
	}
	return samples
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
