// The status of Services: the addresses that their load balancer has given them.

package manifest

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// Annotations about the addresses of a Service.
const (
	annotationInternal = "service.beta.kubernetes.io/azure-load-balancer-internal"
	annotationPIP      = "service.beta.kubernetes.io/azure-pip-" // and more
)

// statusAddr is an address that a Service has of its status.
type statusAddr struct {
	annotation string
	index      int // in status.loadBalancer.ingress
}

// statusAddresses gives a Service the addresses that kubectl prints, unless the file asks for others.
func (r *reader) statusAddresses(o object, v *Service, status *corev1.ServiceStatus) {
	if v.Type != overlay.LoadBalancer {
		return
	}
	for key := range v.Annotations {
		if strings.HasPrefix(key, annotationPIP) {
			return
		}
	}
	for i, in := range status.LoadBalancer.Ingress {
		if in.IP == "" {
			continue
		}
		a, ok := r.addr(o.place("status", "loadBalancer", "ingress", i, "ip"), in.IP)
		annotation := annotationOf(a)
		if ok && v.Annotations[annotation] == "" {
			v.annotate(annotation, a.String())
			v.status = append(v.status, statusAddr{annotation, i})
		}
	}
}

// keepStatusAddresses takes from internal Services the addresses of their status that they cannot have in a cluster of
// the configuration, nil for none that runs yet: those out of the subnets, and those of nodes, whose addresses
// here are the first ones of their subnet.
func (r *reader) keepStatusAddresses(running *overlay.Cluster) {
	var internal []*Service
	for i := range r.cluster.Services {
		s := &r.cluster.Services[i]
		if len(s.status) > 0 && strings.EqualFold(s.Annotations[annotationInternal], "true") {
			internal = append(internal, s)
		}
	}
	if len(internal) == 0 {
		return
	}
	if running == nil {
		own, err := overlay.New(r.cluster.Config)
		if err != nil {
			return // which will be told
		}
		defer own.Close()
		running = own
	}
	for _, s := range internal {
		kept := s.status[:0]
		for _, of := range s.status {
			a := s.Annotations[of.annotation]
			trial := overlay.Service{Name: s.Name, Type: overlay.LoadBalancer, IPFamilies: familyOf(a), Ports: []overlay.ServicePort{{Port: 80}}, Annotations: map[string]string{of.annotation: a}}
			for _, key := range []string{annotationInternal, annotationInternal + "-subnet"} {
				if v, ok := s.Annotations[key]; ok {
					trial.Annotations[key] = v
				}
			}
			if _, err := running.AddService(flow.At(0), trial); err != nil {
				_, rest := splitPath(unwrapped(err).Error())
				r.omit(s.at.place("status", "loadBalancer", "ingress", of.index, "ip"), "", "the Service gets another address: %s", rest)
				delete(s.Annotations, of.annotation)
				continue
			}
			_ = running.RemoveService(flow.At(0), s.Name) // it has been added a moment ago
			kept = append(kept, of)
		}
		s.status = kept
	}
}

// familyOf returns the family of an address, as overlay names it.
func familyOf(address string) string {
	if strings.Contains(address, ":") {
		return "ipv6"
	}
	return "ipv4"
}
