// The Services of a running cluster, and who serves them.

package overlay

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/overlay/internal/claims"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
	"github.com/seed-a61be3fe/natplane/overlay/internal/servicelb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// services are the Services of a cluster. mu is taken after Cluster.mu and before that of
// pods.
type services struct {
	mu     sync.Mutex
	byName map[string]*serviceEntry
	order  []string                                   // of creation
	serves map[Endpoint]int                           // how many Services an endpoint has
	probes atomic.Pointer[map[string]servicelb.Asked] // by name; what the load balancers' probes ask about
}

// serviceEntry is a Service with its defaults.
type serviceEntry struct {
	Service
	settings  annotations.Settings
	addrs     []netip.Addr // at the load balancer
	endpoints []Endpoint
}

func (s *services) init() {
	s.byName, s.serves = make(map[string]*serviceEntry), make(map[Endpoint]int)
	s.probes.Store(new(map[string]servicelb.Asked))
}

// all returns the Services in the order of their creation. s.mu must be held.
func (s *services) all() []*serviceEntry {
	entries := make([]*serviceEntry, len(s.order))
	for i, name := range s.order {
		entries[i] = s.byName[name]
	}
	return entries
}

// secured returns what security groups have rules for. s.mu must be held.
func (s *services) secured() (all []security.Service) {
	for _, e := range s.all() {
		if e.Type != LoadBalancer {
			continue
		}
		is := nsg.Service{
			Internal: e.settings.Internal, AllowedIPRanges: e.settings.AllowedIPRanges, AllowedServiceTags: e.settings.AllowedServiceTags,
			DenyAllExceptSourceRanges: e.settings.DenyAllExceptSourceRanges,
		}
		for _, r := range e.LoadBalancerSourceRanges {
			is.LoadBalancerSourceRanges = append(is.LoadBalancerSourceRanges, r.String())
		}
		for _, p := range e.Ports {
			if _, noRule, _ := e.settings.Of(p.Port); noRule {
				continue
			}
			protocol := nsg.TCP
			if p.Protocol == snat.UDP {
				protocol = nsg.UDP
			}
			is.Ports = append(is.Ports, nsg.ServicePort{Protocol: protocol, Port: p.Port, NodePort: p.NodePort})
		}
		for _, floats := range []bool{true, false} {
			is.DisableFloatingIP = !floats
			is.Frontends = slices.DeleteFunc(slices.Clone(e.addrs), func(a netip.Addr) bool { return servicelb.Floats(&e.settings, a) != floats })
			if len(is.Ports) > 0 && len(is.Frontends) > 0 {
				all = append(all, security.Service{Name: e.Name, Service: is})
			}
		}
	}
	return all
}

// clone returns a deep copy.
func (s Service) clone() Service {
	s.ClusterIPs, s.Ports = slices.Clone(s.ClusterIPs), slices.Clone(s.Ports)
	s.LoadBalancerSourceRanges, s.ExternalIPs = slices.Clone(s.LoadBalancerSourceRanges), slices.Clone(s.ExternalIPs)
	s.Annotations = maps.Clone(s.Annotations)
	return s
}

// AddService creates a Service while traffic flows, without endpoints, and returns it with
// all that has been chosen for it: cluster IPs, node ports, and the addresses of its load
// balancer. Those of type LoadBalancer get frontends of the cluster's load balancer,
// and rules and probes that all nodes are behind; its probes are made by Advance, and before the
// first one has succeeded no new flow reaches a node.
//
// The error joins every problem, naming field and value, and then nothing has changed.
// Cost: O(Services), for type LoadBalancer also that of [lb.Egress.Reconfigure]; packets
// go on meanwhile.
func (c *Cluster) AddService(now flow.Time, given Service) (ServiceStatus, error) {
	all, err := c.AddServices(now, given)
	if err != nil {
		return ServiceStatus{}, err
	}
	return all[0], nil
}

// AddServices creates Services as AddService does one after the other, but puts all of them
// into the load balancer in one step, so that many cost little more than one. The error joins
// those of all Services, in their order, and then there is none of them.
func (c *Cluster) AddServices(now flow.Time, given ...Service) ([]ServiceStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	var added []*serviceEntry
	var errs []error
	balanced := false
	for _, s := range given {
		e, err := c.enter(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("Service %q: %w", s.Name, err))
			continue
		}
		added = append(added, e)
		balanced = balanced || e.Type == LoadBalancer
	}
	if balanced && len(errs) == 0 {
		if err := c.rebalance(now); err != nil {
			who := "Services"
			if len(added) == 1 {
				who = fmt.Sprintf("Service %q", added[0].Name)
			}
			errs = append(errs, fmt.Errorf("%s: %w", who, err))
		}
	}
	switch len(errs) {
	case 0:
		all := make([]ServiceStatus, len(added))
		for i, e := range added {
			all[i] = c.status(e)
		}
		return all, nil
	case 1:
		c.forget(added...)
		return nil, errs[0]
	}
	c.forget(added...)
	return nil, errors.Join(errs...)
}

// enter checks a Service and puts it into the tables, but not into the load balancer. c.mu and
// c.services.mu must be held.
func (c *Cluster) enter(given Service) (*serviceEntry, error) {
	if c.closed.Load() {
		return nil, flow.ErrClosed
	}
	e := &serviceEntry{Service: given.withDefaults()}
	if err := c.complete(e); err != nil {
		return nil, err
	}
	if e.hasFrontends() {
		if err := c.proxy.SetService(e.proxied()); err != nil {
			return nil, err
		}
	}
	c.services.byName[e.Name] = e
	c.services.order = append(c.services.order, e.Name)
	return e, nil
}

// RemoveService deletes a Service while traffic flows. Its frontends close, which ends the
// load balancer's flows of it; TCP sessions of nodes go on until they expire, those of UDP
// end. The error wraps [flow.ErrUnknownName] if there is none of the name.
func (c *Cluster) RemoveService(now flow.Time, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	e, ok := c.services.byName[name]
	if !ok {
		return fmt.Errorf("Service %q: %w", name, flow.ErrUnknownName)
	}
	c.forget(e)
	if e.Type != LoadBalancer || c.closed.Load() {
		return nil
	}
	return c.rebalance(now)
}

// forget takes Services out of the tables. c.services.mu must be held.
func (c *Cluster) forget(entries ...*serviceEntry) {
	for _, e := range entries {
		c.services.setServing(e, nil)
		c.proxy.RemoveService(e.Name)
		delete(c.services.byName, e.Name)
		c.services.order = slices.DeleteFunc(c.services.order, func(n string) bool { return n == e.Name })
	}
}

// rebalance puts the Services into the load balancer. c.mu and c.services.mu must be held.
func (c *Cluster) rebalance(now flow.Time) error {
	was := c.state.Load()
	admitted, err := newAdmission(&was.config, was.Nodes, c.services.secured())
	if err != nil {
		return err
	}
	egress := was.config.compile(was.Nodes, admitted)
	asked := balance(&egress, &was.config, c.services.all(), probe.ProberFunc(c.probe))
	before := c.services.probes.Swap(&asked)
	if _, err := c.egress.Reconfigure(now, egress); err != nil {
		c.services.probes.Store(before)
		return err
	}
	next := *was
	next.admitted = admitted
	next.setEgress(egress)
	c.setState(&next)
	return nil
}

// complete checks a Service with its defaults and chooses what it leaves open. c.services.mu
// must be held.
func (c *Cluster) complete(e *serviceEntry) error {
	var l problems.List
	s := c.state.Load()
	config := &s.config
	e.settings = e.validate(config, &l)
	if _, ok := c.services.byName[e.Name]; ok {
		l.Add("Name", e.Name, flow.ErrDuplicateName, "there is a Service of the name")
	}
	if err := l.Err(); err != nil {
		return err
	}
	all := c.claims()
	if err := e.choose(config, all); err != nil {
		return err
	}
	if e.Type != LoadBalancer {
		return nil
	}
	var err error
	if e.addrs, err = s.addresses(e, all.Addrs); err != nil || !e.settings.Internal {
		return err
	}
	v := validation{ClusterConfig: *config, extra: s.extra}
	v.checkPrivateAddresses("Annotations", append(c.services.privateAddrs(), e.addrs...))
	return v.Err()
}

// claims returns who has which addresses and node ports: Services, those for health checks included,
// and pods their host ports. s.mu must be held.
func (c *Cluster) claims() *claims.Claims {
	var all claims.Claims
	for _, e := range c.services.byName {
		all.AddAddrs(e.ClusterIPs...)
		all.AddAddrs(e.addrs...)
		for _, p := range e.nodePorts() {
			all.AddPort(p.nodePort, fmt.Sprintf("Service %q", e.Name))
		}
	}
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	for pod, host := range c.pods.hostPorts.Bindings() {
		all.AddPort(nodePort{Protocol: snat.ProtocolOf(host.Protocol), Number: host.Number}, fmt.Sprintf("pod %q, as a host port,", pod))
	}
	return &all
}

// nodePort is a port of all nodes.
type nodePort = claims.Port

// namedPort is a node port with its field; 0 is none.
type namedPort struct {
	nodePort
	path string
}

// nodePorts returns the node ports of a Service.
func (s *Service) nodePorts() []namedPort {
	all := []namedPort{{nodePort{Protocol: snat.TCP, Number: s.HealthCheckNodePort}, "HealthCheckNodePort"}}
	for i, p := range s.Ports {
		all = append(all, namedPort{nodePort{Protocol: p.Protocol, Number: p.NodePort}, problems.Index("Ports", i) + ".NodePort"})
	}
	return all
}

// choose claims the node ports that a Service names, and gives it the next free cluster IPs
// and node ports where it has none. The address of the cluster's DNS is for who asks for it.
func (e *serviceEntry) choose(c *ClusterConfig, all *claims.Claims) (err error) {
	var l problems.List
	who := fmt.Sprintf("Service %q", e.Name)
	for _, p := range e.nodePorts() {
		if p.Number != 0 {
			all.Claim(&l, p.path, p.nodePort, who)
		}
	}
	for i, a := range e.ClusterIPs {
		if all.Addrs[a] {
			l.Add(problems.Index("ClusterIPs", i), a, flow.ErrOverlap, "another Service has it")
		}
	}
	if err := l.Err(); err != nil {
		return err
	}
	if len(e.ClusterIPs) == 0 && e.hasFrontends() {
		for _, f := range e.families() {
			a, err := all.NextAddr(c.ServiceCIDRs[f], c.DNSServiceIP)
			if err != nil {
				return err
			}
			e.ClusterIPs = append(e.ClusterIPs, a)
		}
	}
	if !e.hasNodePorts() {
		return nil
	}
	for i := range e.Ports {
		if p := &e.Ports[i]; p.NodePort == 0 {
			if p.NodePort, err = all.NextPort(p.Protocol, who); err != nil {
				return err
			}
		}
	}
	if e.Type == LoadBalancer && e.ExternalTrafficPolicy == PolicyLocal && e.HealthCheckNodePort == 0 {
		e.HealthCheckNodePort, err = all.NextPort(snat.TCP, who)
	}
	return err
}

// proxied returns what the nodes know of a Service.
func (e *serviceEntry) proxied() kubeproxy.Service {
	s := kubeproxy.Service{
		Name: e.Name, ClusterIPs: e.ClusterIPs, LoadBalancerIPs: e.addrs,
		ExternalLocal: e.ExternalTrafficPolicy == PolicyLocal, InternalLocal: e.InternalTrafficPolicy == PolicyLocal,
		Affinity: e.AffinityTimeout, SourceRanges: e.LoadBalancerSourceRanges, HealthCheckNodePort: e.HealthCheckNodePort,
	}
	for _, p := range e.Ports {
		s.Ports = append(s.Ports, kubeproxy.Port{Name: p.Name, Protocol: p.Protocol.Number(), Port: p.Port, NodePort: p.NodePort})
	}
	return s
}

// SetEndpoints says who serves a Service from now on: pods by name, which exist, nodes by
// name for processes that have no address of their own, and hosts outside of the cluster by address: what
// is for those goes on as what the node, or its pod, sends to them. Whoever was there before
// and is not now gets no new connections; its TCP connections go on, its UDP sessions
// end. A pod that is removed is no endpoint any more without further ado.
//
// Errors wrap [flow.ErrUnknownName], [flow.ErrMissing], [flow.ErrDuplicateName], [flow.ErrAddress],
// [flow.ErrConflict], [ErrFamily] or [flow.ErrClosed], and then nothing has changed. Cost: O(endpoints of the Service).
func (c *Cluster) SetEndpoints(service string, endpoints ...Endpoint) error {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	if c.closed.Load() {
		return fmt.Errorf("Service %q: %w", service, flow.ErrClosed)
	}
	e, ok := c.services.byName[service]
	if !ok {
		return fmt.Errorf("Service %q: %w", service, flow.ErrUnknownName)
	}
	var l problems.List
	seen := make(map[Endpoint]bool, len(endpoints))
	for i, ep := range endpoints {
		at := problems.Index("Endpoints", i)
		if c.checkEndpoint(e, ep, at, &l); seen[ep.who()] {
			l.Add(at, problems.Raw(fmt.Sprintf("%+v", ep)), flow.ErrDuplicateName, "")
		}
		seen[ep.who()] = true
	}
	if err := l.Err(); err != nil {
		return fmt.Errorf("Service %q: %w", service, err)
	}
	c.services.setServing(e, slices.Clone(endpoints))
	return c.serve(e)
}

// setServing notes who serves a Service. s.mu must be held.
func (s *services) setServing(e *serviceEntry, endpoints []Endpoint) {
	for _, ep := range e.endpoints {
		if s.serves[ep.who()]--; s.serves[ep.who()] == 0 {
			delete(s.serves, ep.who())
		}
	}
	e.endpoints = endpoints
	for _, ep := range endpoints {
		s.serves[ep.who()]++
	}
}

// exists reports whether an endpoint's pod or node exists.
func (c *Cluster) exists(ep Endpoint) bool {
	if ep.Pod != "" {
		_, ok := c.Pod(ep.Pod)
		return ok
	}
	if ep.Addr.IsValid() {
		return true
	}
	_, ok := c.state.Load().byName[ep.Node]
	return ok
}

// serve tells the nodes who serves a Service, as far as they exist. c.services.mu must be held.
func (c *Cluster) serve(e *serviceEntry) error {
	c.services.setServing(e, slices.DeleteFunc(slices.Clone(e.endpoints), func(ep Endpoint) bool { return !c.exists(ep) }))
	if !e.hasFrontends() {
		return nil
	}
	s := c.state.Load()
	ports := make([]uint16, len(e.Ports))
	for i, p := range e.Ports {
		ports[i] = p.TargetPort
	}
	var all []kubeproxy.Endpoint
	for _, ep := range e.endpoints {
		addrs, node, ok := c.addrsOf(s, ep)
		if !ok {
			continue // it has just gone
		}
		for _, a := range addrs {
			if slices.Contains(e.families(), familyOf(a)) {
				all = append(all, kubeproxy.Endpoint{Addr: a, Node: node, Ports: ports, HostNetwork: ep.Node != "", Terminating: ep.Terminating})
			}
		}
	}
	return c.proxy.SetEndpoints(e.Name, all)
}

// withdraw takes endpoints that exist no longer out of all Services. gone are those that it
// is about; none says any.
func (c *Cluster) withdraw(gone ...Endpoint) {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	if len(gone) > 0 && !slices.ContainsFunc(gone, func(ep Endpoint) bool { return c.services.serves[ep] > 0 }) {
		return
	}
	for _, name := range c.services.order {
		e := c.services.byName[name]
		if slices.ContainsFunc(e.endpoints, func(ep Endpoint) bool { return !c.exists(ep) }) {
			if err := c.serve(e); err != nil && !c.closed.Load() {
				panic(fmt.Sprintf("overlay: fewer endpoints are refused: %v", err))
			}
		}
	}
}
