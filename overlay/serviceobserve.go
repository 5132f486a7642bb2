// What can be seen of Services.

package overlay

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// ServiceStatus is a Service with all that has been chosen for it.
type ServiceStatus struct {
	Service                      // with its defaults
	LoadBalancerIPs []netip.Addr // of type LoadBalancer, by family and then those of annotations
	Endpoints       []Endpoint   // those that exist, as SetEndpoints has got them
}

// status returns a copy of a Service.
func (c *Cluster) status(e *serviceEntry) ServiceStatus {
	return ServiceStatus{e.clone(), slices.Clone(e.addrs), slices.Clone(e.endpoints)}
}

// Services returns all Services in the order of their creation.
func (c *Cluster) Services() []ServiceStatus {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	var all []ServiceStatus
	for _, e := range c.services.all() {
		all = append(all, c.status(e))
	}
	return all
}

// HealthCheck returns the status that a node answers at the health check node port of a
// Service: 200 if it has an endpoint, else 503. ok is false if there is no such node, or
// the Service has no such port.
func (c *Cluster) HealthCheck(service, node string) (status int, ok bool) {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	e, known := c.services.byName[service]
	i, exists := c.state.Load().byName[node]
	if !known || !exists || e.HealthCheckNodePort == 0 {
		return 0, false
	}
	if n, _ := c.proxy.LocalEndpoints(service, i); n == 0 {
		return 503, true
	}
	return 200, true
}

// ServiceSession is a connection through a Service on one node: four sockets.
type ServiceSession struct {
	Proto        uint8          // IP protocol: 6 TCP, 17 UDP
	Node         int            // Node.Index of the node that translates
	Service      string         // its name
	Port         string         // name of the ServicePort
	Client       netip.AddrPort // who has begun it
	Frontend     netip.AddrPort // what the client has addressed
	Seen         netip.AddrPort // what the endpoint sees in the client's place: itself, or the node
	Endpoint     netip.AddrPort // who serves it
	EndpointNode int            // Node.Index of the endpoint's node
	Pod          string         // the pod that has the endpoint's address now; "" if none
	State        string         // TCP state; empty for UDP
	Class        flow.Class     // idle class, by the timers of the node's conntrack
	Idle         time.Duration  // whole ticks, as in flow.Info
	Due          flow.Time      // when it ends if no packet comes, as in flow.Info
}

// ServiceSessions iterates over copies of the sessions of Services on all nodes. No lock is
// held while the loop body runs.
func (c *Cluster) ServiceSessions() iter.Seq[ServiceSession] {
	return func(yield func(ServiceSession) bool) {
		for s := range c.proxy.Sessions() {
			if !yield(ServiceSession{
				Proto: s.Proto, Node: s.Node, Service: s.Service, Port: s.Port,
				Client: s.Client, Frontend: s.Frontend, Seen: s.Seen, Endpoint: s.Endpoint,
				EndpointNode: s.EndpointNode, Pod: c.podAt(s.Endpoint.Addr()), State: s.State, Class: s.Class, Idle: s.Idle, Due: s.Due,
			}) {
				return
			}
		}
	}
}
