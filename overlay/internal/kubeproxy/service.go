// Services and endpoints, and what is wrong with them.

package kubeproxy

import (
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Protocols of ports.
const (
	TCP = wire.ProtoTCP
	UDP = wire.ProtoUDP
)

// MaxAffinity is the longest time that a client may keep its endpoint, a day
// (Kubernetes API, ClientIPConfig).
const MaxAffinity = 86400 * time.Second

// Service is what kube-proxy knows of a Service, apart from its endpoints.
type Service struct {
	Name string // unique, not empty

	ClusterIPs      []netip.Addr // at most one per family
	LoadBalancerIPs []netip.Addr // of its load balancer
	OfNode          bool         // LoadBalancerIPs are a node's own, whose other ports are no Service's
	Ports           []Port       // at least one

	// ExternalLocal is externalTrafficPolicy Local: what comes from outside keeps its
	// source and stays on the node. InternalLocal is internalTrafficPolicy Local.
	ExternalLocal, InternalLocal bool

	// Affinity is how long a client that begins no connection keeps its endpoint
	// (sessionAffinity ClientIP), whole milliseconds up to MaxAffinity; 0 is none.
	Affinity time.Duration

	// SourceRanges are who may send to LoadBalancerIPs, of the family of the packet; none of
	// a family means all of it.
	SourceRanges []netip.Prefix

	// HealthCheckNodePort is where nodes tell whether they have endpoints, with
	// ExternalLocal; 0 is nowhere.
	HealthCheckNodePort uint16
}

// Port is a port of a Service.
type Port struct {
	Name     string
	Protocol uint8  // TCP or UDP
	Port     uint16 // at cluster IP and load balancer, not 0
	NodePort uint16 // at node addresses; 0 is none
}

// Endpoint serves a Service.
type Endpoint struct {
	Addr  netip.Addr
	Node  int      // index of its node; -1 is none of the cluster's
	Ports []uint16 // by port of the Service; 0 does not serve that one

	// HostNetwork marks an address that is not out of the pod CIDR: pods of other
	// nodes reach it with the address of theirs, as any host outside of the pod network.
	HostNetwork bool

	// Terminating marks one that still serves what it has. It gets new connections only
	// where there is no endpoint without the mark: over all nodes, or with a policy Local
	// on its node.
	Terminating bool
}

// validate finds what is wrong with s by itself.
func (s *Service) validate(l *problems.List) {
	if s.Name == "" {
		l.Add("Name", s.Name, flow.ErrMissing, "a Service needs a name")
	}
	if len(s.Ports) == 0 {
		l.Add("Ports", problems.None, flow.ErrMissing, "a Service needs a port")
	}
	var have [flow.NumFamilies]bool
	for i, a := range s.ClusterIPs {
		at := problems.Index("ClusterIPs", i)
		if !flow.IsHost(a) {
			l.Add(at, a, flow.ErrAddress, "")
			continue
		}
		if have[flow.Family(a)] {
			l.Add(at, a, flow.ErrConflict, "at most one per family")
		}
		have[flow.Family(a)] = true
	}
	for i, a := range s.LoadBalancerIPs {
		if !flow.IsHost(a) {
			l.Add(problems.Index("LoadBalancerIPs", i), a, flow.ErrAddress, "")
		}
	}
	if s.Affinity < 0 || s.Affinity > MaxAffinity || s.Affinity%flow.Tick != 0 {
		l.Add("Affinity", s.Affinity, flow.ErrOutOfRange, "whole milliseconds up to %v", MaxAffinity)
	}
	for i, p := range s.SourceRanges {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			l.Add(problems.Index("SourceRanges", i), p, flow.ErrPrefix, "")
		}
	}
	if s.HealthCheckNodePort != 0 && !s.ExternalLocal {
		l.Add("HealthCheckNodePort", s.HealthCheckNodePort, flow.ErrConflict, "only with ExternalLocal")
	}
	s.validatePorts(l)
}

// validatePorts finds what is wrong with the ports of s.
func (s *Service) validatePorts(l *problems.List) {
	type open struct {
		protocol uint8
		port     uint16
	}
	ports, nodePorts, names := map[open]int{}, map[open]int{}, map[string]int{}
	for i, p := range s.Ports {
		at := problems.Index("Ports", i)
		if p.Protocol != TCP && p.Protocol != UDP {
			l.Add(at+".Protocol", p.Protocol, flow.ErrOutOfRange, "TCP (6) or UDP (17); others are not modelled")
		}
		if p.Port == 0 {
			l.Add(at+".Port", p.Port, flow.ErrOutOfRange, "1..65535")
		}
		if j, ok := ports[open{p.Protocol, p.Port}]; ok {
			l.Add(at+".Port", p.Port, flow.ErrOverlap, "Ports[%d] has it", j)
		}
		ports[open{p.Protocol, p.Port}] = i
		if j, ok := nodePorts[open{p.Protocol, p.NodePort}]; ok && p.NodePort != 0 {
			l.Add(at+".NodePort", p.NodePort, flow.ErrOverlap, "Ports[%d] has it", j)
		}
		nodePorts[open{p.Protocol, p.NodePort}] = i
		if j, ok := names[p.Name]; ok {
			l.Add(at+".Name", p.Name, flow.ErrDuplicateName, "Ports[%d] has it", j)
		}
		names[p.Name] = i
	}
}

// validateEndpoints finds what is wrong with endpoints of s.
func (s *Service) validateEndpoints(l *problems.List, endpoints []Endpoint, nodes int) {
	seen := make(map[netip.Addr]int, len(endpoints))
	for i, e := range endpoints {
		at := problems.Index("Endpoints", i)
		if !flow.IsHost(e.Addr) {
			l.Add(at+".Addr", e.Addr, flow.ErrAddress, "")
		}
		if j, ok := seen[e.Addr]; ok {
			l.Add(at+".Addr", e.Addr, flow.ErrOverlap, "Endpoints[%d] has it", j)
		}
		seen[e.Addr] = i
		if e.Node < -1 || e.Node >= nodes {
			l.Add(at+".Node", e.Node, flow.ErrOutOfRange, "-1..%d", nodes-1)
		}
		if len(e.Ports) != len(s.Ports) {
			l.Add(at+".Ports", e.Ports, flow.ErrConflict, "must have one for each of the Service's %d ports", len(s.Ports))
		}
	}
}
