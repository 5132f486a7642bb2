// Endpoints of Services without selector: who serves them stands in Endpoints and
// EndpointSlices. Those of Services with a selector are Kubernetes' own, and the pods say it here.

package manifest

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/snat"
)

// server is an endpoint that a file names.
type server struct {
	overlay.Endpoint // of a pod only if that runs
	at               decode.Place
}

// serving is the endpoints of a Service, as Endpoints or an EndpointSlice names them.
type serving struct {
	at      object
	servers []server
	ports   []servingPort
}

// servingPort is a port of endpoints.
type servingPort struct {
	name     string
	protocol snat.Protocol
	number   uint16
	at       decode.Place
}

// endpoints takes over Endpoints.
//
//lint:ignore SA1019 deprecated does not mean that nobody has them
func (r *reader) endpoints(o object, e *corev1.Endpoints) {
	for i := range e.Subsets {
		s := &e.Subsets[i]
		v := &serving{at: o}
		for j := range s.Addresses {
			a := &s.Addresses[j]
			r.server(v, o.place("subsets", i, "addresses", j), a.IP, a.TargetRef, false)
		}
		for j, p := range s.Ports {
			r.servingPort(v, o.place("subsets", i, "ports", j), p.Name, p.Protocol, p.Port)
		}
		r.serving(e.Namespace+"/"+e.Name, v)
	}
}

// endpointSlice takes over an EndpointSlice.
func (r *reader) endpointSlice(o object, e *discoveryv1.EndpointSlice) {
	switch e.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	case discoveryv1.AddressTypeFQDN:
		r.omit(o.place("addressType"), string(e.AddressType), "endpoints have addresses: the slice is left out")
		return
	default:
		r.badAt(o.place("addressType"), string(e.AddressType), flow.ErrOutOfRange, "IPv4, IPv6 or FQDN")
		return
	}
	name := e.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		r.omit(o.place("metadata", "labels"), "", "the slice is nobody's without the label %s", discoveryv1.LabelServiceName)
		return
	}
	v := &serving{at: o}
	for i := range e.Endpoints {
		p := &e.Endpoints[i]
		ready := p.Conditions.Ready == nil || *p.Conditions.Ready
		terminating := is(p.Conditions.Terminating) && is(p.Conditions.Serving)
		if len(p.Addresses) == 0 {
			r.badAt(o.place("endpoints", i, "addresses"), nil, flow.ErrMissing, "an endpoint has an address")
		} else if ready || terminating { // the first address stands for all (Kubernetes: they are fungible)
			r.server(v, o.place("endpoints", i, "addresses", 0), p.Addresses[0], p.TargetRef, !ready)
		}
	}
	for i, p := range e.Ports {
		var name string
		var protocol corev1.Protocol
		var number int32
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if p.Port != nil {
			number = *p.Port
		}
		r.servingPort(v, o.place("ports", i), name, protocol, number)
	}
	r.serving(e.Namespace+"/"+name, v)
}

// is reports whether a truth value is there and true.
func is(b *bool) bool { return b != nil && *b }

// serving notes the endpoints of a Service.
func (r *reader) serving(service string, v *serving) {
	if r.servings == nil {
		r.servings = make(map[string][]*serving)
	}
	r.servings[service] = append(r.servings[service], v)
}

// server adds an endpoint.
func (r *reader) server(v *serving, at decode.Place, address string, of *corev1.ObjectReference, terminating bool) {
	a, ok := r.addr(at, address)
	if !ok {
		return
	}
	e := overlay.Endpoint{Addr: a, Terminating: terminating}
	if of != nil && of.Kind == "Pod" {
		namespace := of.Namespace
		if namespace == "" {
			namespace = v.at.namespace()
		}
		e.Addr, e.Pod = netip.Addr{}, namespace+"/"+of.Name
	}
	v.servers = append(v.servers, server{e, at})
}

// servingPort adds a port.
func (r *reader) servingPort(v *serving, at decode.Place, name string, from corev1.Protocol, number int32) {
	protocol, ok := protocolOf(from)
	switch {
	case from == corev1.ProtocolSCTP:
		return // the Service's port of the name is told to be left out
	case !ok:
		r.badAt(at, string(from), flow.ErrOutOfRange, "TCP, UDP or SCTP")
	case number < 1 || number > 65535:
		r.badAt(at, number, flow.ErrOutOfRange, "1..65535")
	default:
		v.ports = append(v.ports, servingPort{name, protocol, uint16(number), at})
	}
}

// attend gives a Service without selector the endpoints that files name.
func (r *reader) attend(s *Service) {
	if len(s.Selector) > 0 || s.Type == overlay.ExternalName {
		return
	}
	known := make(map[overlay.Endpoint]bool)
	numbered := make([]bool, len(s.Ports))
	for _, v := range r.servings[s.Name] {
		for _, e := range v.servers {
			if !known[e.Endpoint] {
				known[e.Endpoint] = true
				s.servers = append(s.servers, e)
			}
		}
		for i := range s.Ports {
			p := &s.Ports[i]
			j := slices.IndexFunc(v.ports, func(q servingPort) bool { return q.name == p.Name && q.protocol == p.Protocol })
			switch {
			case j < 0:
				r.omit(v.at.place(), "", "has no port %q: that of the Service, %d, leads there all the same", p.Name, p.Port)
			case !numbered[i]:
				p.TargetPort, numbered[i], s.targets[i] = v.ports[j].number, true, ""
			case p.TargetPort != v.ports[j].number:
				r.omit(v.ports[j].at, "", "the port is %d at all endpoints", p.TargetPort)
			}
		}
	}
	if len(s.servers) == 0 {
		r.omit(s.at.place("spec"), "", "without a selector nobody serves it: no file has Endpoints or an EndpointSlice with its name")
	}
}

// unattended tells of endpoints whose Service is in no file.
func (r *reader) unattended() {
	known := make(map[string]bool)
	for i := range r.cluster.Services {
		known[r.cluster.Services[i].Name] = true
	}
	for _, service := range slices.Sorted(maps.Keys(r.servings)) {
		if known[service] {
			continue
		}
		for _, v := range r.servings[service] {
			r.omit(v.at.place(), "", "there is no Service %s in the files", strings.TrimPrefix(service, "default/"))
		}
	}
}

// outside returns the endpoints that are no pods.
func (s *Service) outside() (all []overlay.Endpoint) {
	for _, e := range s.servers {
		if e.Pod == "" {
			all = append(all, e.Endpoint)
		}
	}
	return all
}

// tryEndpoints gives a Service its endpoints outside of the cluster, each by itself.
func (s *Service) tryEndpoints(to findings, running *overlay.Cluster) {
	for _, e := range s.servers {
		if e.Pod == "" {
			relocate(to, unwrapped(running.SetEndpoints(s.Name, e.Endpoint)), func(string, string) decode.Place { return e.at })
		}
	}
}
