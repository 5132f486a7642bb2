// Services: what of them overlay takes, and who serves them.

package manifest

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
)

// Service is a Service and the pods that serve it.
type Service struct {
	overlay.Service // named "namespace/name"

	Namespace string            // "default" if the file says none
	Selector  map[string]string // labels of the pods that serve it, in its namespace; none is nobody

	targets []string // by port: the name of the containers' port, or ""
	indexes []int    // by port: which of the file it is
	at      object

	balancerIP bool         // the annotation of its address is spec.loadBalancerIP
	status     []statusAddr // the annotations that are of its status
	servers    []server     // of a Service without selector
}

// Annotations that other fields of a Service stand for.
const (
	annotationIPv4 = "service.beta.kubernetes.io/azure-load-balancer-ipv4"
	annotationIPv6 = "service.beta.kubernetes.io/azure-load-balancer-ipv6"
)

// service takes over a Service.
func (r *reader) service(o object, s *corev1.Service) {
	spec := &s.Spec
	before := r.problems.Len()
	v := Service{Namespace: s.Namespace, Selector: spec.Selector, at: o}
	v.Name, v.Annotations = s.Namespace+"/"+s.Name, s.Annotations
	v.Headless, v.ExternalName = spec.ClusterIP == corev1.ClusterIPNone, spec.ExternalName
	v.Type = oneOf[overlay.ServiceType](r, o, string(spec.Type), "type")
	v.ExternalTrafficPolicy = oneOf[overlay.TrafficPolicy](r, o, string(spec.ExternalTrafficPolicy), "externalTrafficPolicy")
	if p := spec.InternalTrafficPolicy; p != nil {
		v.InternalTrafficPolicy = oneOf[overlay.TrafficPolicy](r, o, string(*p), "internalTrafficPolicy")
	}
	r.affinity(o, &v, spec)
	r.serviceAddresses(o, &v, spec)
	r.statusAddresses(o, &v, &s.Status)
	if p := spec.HealthCheckNodePort; p < 0 || p > 65535 {
		r.badAt(o.place("spec", "healthCheckNodePort"), p, flow.ErrOutOfRange, "30000..32767")
	} else {
		v.HealthCheckNodePort = uint16(p)
	}
	for i := range spec.Ports {
		r.servicePort(o, &v, spec.Ports[i], i)
	}
	if len(v.Ports) == 0 && len(spec.Ports) > 0 && r.problems.Len() == before {
		return // what was left out has been told
	}
	r.serviceOmissions(o, spec)
	if r.problems.Len() == before {
		r.cluster.Services = append(r.cluster.Services, v)
	}
}

// oneOf reads a constant of overlay by its name; "" is the first.
func oneOf[T interface {
	~uint8
	String() string
}](r *reader, o object, name, field string) T {
	if name == "" {
		return 0
	}
	names := decode.Names(reflect.TypeFor[T]())
	i := slices.Index(names, name)
	if i < 0 {
		r.badAt(o.place("spec", field), name, flow.ErrOutOfRange, "must be one of %s", strings.Join(names, ", "))
		return 0
	}
	return T(i)
}

// affinity reads the session affinity.
func (r *reader) affinity(o object, v *Service, spec *corev1.ServiceSpec) {
	switch spec.SessionAffinity {
	case "", corev1.ServiceAffinityNone:
	case corev1.ServiceAffinityClientIP:
		v.SessionAffinity = true
		if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			v.AffinityTimeout = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	default:
		r.badAt(o.place("spec", "sessionAffinity"), string(spec.SessionAffinity), flow.ErrOutOfRange, "None or ClientIP")
	}
}

// serviceAddresses reads families, addresses and ranges.
func (r *reader) serviceAddresses(o object, v *Service, spec *corev1.ServiceSpec) {
	v.IPFamilies = r.families(o, spec)
	ips, field := spec.ClusterIPs, "clusterIPs"
	if len(ips) == 0 && spec.ClusterIP != "" {
		ips, field = []string{spec.ClusterIP}, "clusterIP"
	}
	for i, text := range ips {
		if text == corev1.ClusterIPNone && v.Headless {
			continue
		}
		if a, ok := r.addr(o.place("spec", field, i), text); ok {
			v.ClusterIPs = append(v.ClusterIPs, a)
		}
	}
	slices.SortStableFunc(v.ClusterIPs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	for i, text := range spec.ExternalIPs {
		if a, ok := r.addr(o.place("spec", "externalIPs", i), text); ok {
			v.ExternalIPs = append(v.ExternalIPs, a)
		}
	}
	for i, text := range spec.LoadBalancerSourceRanges {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			r.badAt(o.place("spec", "loadBalancerSourceRanges", i), text, flow.ErrPrefix, "must be a prefix such as 203.0.113.0/24")
			continue
		}
		v.LoadBalancerSourceRanges = append(v.LoadBalancerSourceRanges, p.Masked())
	}
	if spec.LoadBalancerIP == "" {
		return
	}
	a, ok := r.addr(o.place("spec", "loadBalancerIP"), spec.LoadBalancerIP)
	if !ok {
		return
	}
	annotation := annotationOf(a)
	if v.Annotations[annotation] == "" { // else that precedes the field
		v.annotate(annotation, a.String())
		v.balancerIP = true
	}
}

// annotationOf returns the annotation that asks for an address.
func annotationOf(a netip.Addr) string {
	if a.Is6() {
		return annotationIPv6
	}
	return annotationIPv4
}

// annotate gives a Service an annotation, but not the object that it was read from.
func (s *Service) annotate(key, value string) {
	if s.Annotations = maps.Clone(s.Annotations); s.Annotations == nil {
		s.Annotations = make(map[string]string)
	}
	s.Annotations[key] = value
}

// families returns the families of a Service as overlay has them.
func (r *reader) families(o object, spec *corev1.ServiceSpec) string {
	dual := r.cluster.Config.IPFamilies == "ipv4,ipv6"
	policy := corev1.IPFamilyPolicySingleStack
	if spec.IPFamilyPolicy != nil {
		policy = *spec.IPFamilyPolicy
	} else if len(spec.IPFamilies) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	has := [2]bool{}
	for i, f := range spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			has[0] = true
		case corev1.IPv6Protocol:
			has[1] = true
		default:
			r.badAt(o.place("spec", "ipFamilies", i), string(f), flow.ErrOutOfRange, "IPv4 or IPv6")
		}
	}
	switch policy {
	case corev1.IPFamilyPolicySingleStack:
		if len(spec.IPFamilies) > 1 {
			r.badAt(o.place("spec", "ipFamilies"), nil, flow.ErrConflict, "ipFamilyPolicy is SingleStack")
		}
	case corev1.IPFamilyPolicyRequireDualStack:
		return "ipv4,ipv6"
	case corev1.IPFamilyPolicyPreferDualStack:
		if dual {
			return "ipv4,ipv6"
		}
	default:
		r.badAt(o.place("spec", "ipFamilyPolicy"), string(policy), flow.ErrOutOfRange, "SingleStack, PreferDualStack or RequireDualStack")
	}
	switch has {
	case [2]bool{true, true}:
		return "ipv4,ipv6"
	case [2]bool{false, true}:
		return "ipv6"
	}
	return ""
}

// addr reads an address.
func (r *reader) addr(at decode.Place, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		r.badAt(at, text, flow.ErrAddress, "must be an address such as 10.0.0.1")
	}
	return a, err == nil
}

// servicePort reads a port.
func (r *reader) servicePort(o object, v *Service, p corev1.ServicePort, i int) {
	protocol, ok := protocolOf(p.Protocol)
	switch {
	case p.Protocol == corev1.ProtocolSCTP:
		r.omit(o.place("spec", "ports", i, "protocol"), string(p.Protocol), "SCTP is not modelled, and the load balancer has none: the port is left out")
		return
	case !ok:
		r.badAt(o.place("spec", "ports", i, "protocol"), string(p.Protocol), flow.ErrOutOfRange, "TCP, UDP or SCTP")
	}
	port := func(n int32, least int32, field string) uint16 {
		if n < least || n > 65535 {
			r.badAt(o.place("spec", "ports", i, field), n, flow.ErrOutOfRange, "1..65535")
			return 0
		}
		return uint16(n)
	}
	to := overlay.ServicePort{Name: p.Name, Protocol: protocol, Port: port(p.Port, 1, "port"), NodePort: port(p.NodePort, 0, "nodePort")}
	if p.AppProtocol != nil {
		switch name := strings.ToLower(*p.AppProtocol); name {
		case "http", "https":
			to.AppProtocol = name
		}
	}
	if v.targets = append(v.targets, p.TargetPort.StrVal); p.TargetPort.StrVal == "" {
		to.TargetPort = port(p.TargetPort.IntVal, 0, "targetPort")
	}
	v.Ports, v.indexes = append(v.Ports, to), append(v.indexes, i)
}

// serviceOmissions tells what of a Service is left out.
func (r *reader) serviceOmissions(o object, spec *corev1.ServiceSpec) {
	if a := spec.AllocateLoadBalancerNodePorts; a != nil && !*a {
		r.omit(o.place("spec", "allocateLoadBalancerNodePorts"), "false", "the ports have node ports all the same")
	}
	if c := spec.LoadBalancerClass; c != nil {
		r.omit(o.place("spec", "loadBalancerClass"), *c, "the load balancer is the cluster's")
	}
	if d := spec.TrafficDistribution; d != nil {
		r.omit(o.place("spec", "trafficDistribution"), *d, "endpoints are drawn from all, near and far")
	}
}

// resolve finds the numbers of ports that a Service names, by the pods that serve it: the
// first that has a port of the name decides.
func (r *reader) resolve(s *Service) {
	for i, name := range s.targets {
		if name == "" {
			continue
		}
		to := &s.Ports[i]
		at := s.at.place("spec", "ports", s.indexes[i], "targetPort")
		var lacking, differing []string
		for j := range r.cluster.Workloads {
			w := &r.cluster.Workloads[j]
			if w.Namespace != s.Namespace || !matches(s.Selector, w.Labels) {
				continue
			}
			k := slices.IndexFunc(w.Ports, func(p ContainerPort) bool { return p.Name == name && p.Protocol == to.Protocol })
			switch {
			case k < 0:
				lacking = append(lacking, w.String())
			case to.TargetPort == 0:
				to.TargetPort = w.Ports[k].Port
			case to.TargetPort != w.Ports[k].Port:
				differing = append(differing, w.String())
			}
		}
		switch {
		case to.TargetPort == 0:
			to.TargetPort = to.Port
			r.omit(at, name, "no pod that serves it has a port of the name: it is that of the Service, %d", to.Port)
		case len(lacking) > 0 || len(differing) > 0:
			r.omit(at, name, "it is %d everywhere, though not of %s", to.TargetPort, strings.Join(append(lacking, differing...), ", "))
		}
	}
}

// written returns a path of overlay.Service as the file of a Service has it. Of annotations
// without a key it is the one with the value.
func (s *Service) written(golang, value string) []any {
	if key, ok := strings.CutPrefix(golang, "Annotations"); ok {
		key = strings.TrimSuffix(strings.TrimPrefix(key, "["), "]")
		if key == "" {
			key = s.annotationWith(value)
		}
		if key == "" {
			return []any{"metadata", "annotations"}
		}
		for _, of := range s.status {
			if key == of.annotation {
				return []any{"status", "loadBalancer", "ingress", of.index, "ip"}
			}
		}
		if s.balancerIP && (key == annotationIPv4 || key == annotationIPv6) {
			return []any{"spec", "loadBalancerIP"}
		}
		return []any{"metadata", "annotations", key}
	}
	steps := []any{"spec"}
	if golang == "Name" {
		steps[0] = "metadata"
	}
	for _, part := range strings.Split(golang, ".") {
		name, index, indexed := strings.Cut(part, "[")
		switch name {
		case "ClusterIPs":
			if s.at.node.Field("spec").Field("clusterIPs") == nil {
				return append(steps, "clusterIP")
			}
		case "Headless":
			return append(steps, "clusterIP")
		case "AffinityTimeout":
			return append(steps, "sessionAffinityConfig", "clientIP", "timeoutSeconds")
		}
		steps = append(steps, decode.LowerCamel(name))
		if n, err := strconv.Atoi(strings.TrimSuffix(index, "]")); indexed && err == nil {
			if name == "Ports" && n < len(s.indexes) {
				n = s.indexes[n]
			}
			steps = append(steps, n)
		}
	}
	return steps
}

// annotationWith returns the key of the first annotation that has a value, alone or in a list; "" if there is none.
func (s *Service) annotationWith(value string) string {
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		for _, part := range strings.Split(s.Annotations[key], ",") {
			if strings.TrimSpace(part) == value {
				return key
			}
		}
	}
	return ""
}
