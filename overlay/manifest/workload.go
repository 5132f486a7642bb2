// Workloads: what runs pods, and what of a pod matters to packets.

package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Workload is a number of equal pods: a Deployment, StatefulSet, DaemonSet, ReplicaSet,
// ReplicationController or Job, or a Pod.
type Workload struct {
	Kind      string // of the object: "Deployment", ..
	Namespace string // "default" if the file says none
	Name      string // of the object
	Replicas  int    // pods; 0 with EveryNode
	EveryNode bool   // one pod on every node that it tolerates and selects

	Labels      map[string]string // of the pods
	HostNetwork bool              // pods have the address of their node
	Ports       []ContainerPort   // of all containers

	// HostPortAnnotation is the value of [overlay.HostPortAnnotation].
	HostPortAnnotation string

	// StaticGateway is the value of [overlay.StaticGatewayAnnotation].
	StaticGateway string

	NodeName     string              // runs there, whatever else is said; "" is for the scheduler
	NodeSelector map[string]string   // labels of the nodes that it runs on
	Tolerations  []corev1.Toleration // taints of nodes that it may run on all the same

	first  int    // ordinal of the first pod of a StatefulSet
	prefix string // of the names of its pods
	at     object // where it stands
	pod    []any  // path of its pod specification
}

// ContainerPort is a port of a container.
type ContainerPort struct {
	Name string // may be empty
	overlay.ContainerPort
}

// Where objects have the specification of a pod.
var (
	specPath     = []any{"spec"}
	templatePath = []any{"spec", "template", "spec"}
)

// workload takes over a workload with a template; nil if it cannot.
func (r *reader) workload(o object, meta *metav1.ObjectMeta, selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, replicas int) *Workload {
	before := r.problems.Len()
	s, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case selector == nil:
		r.badAt(o.place("spec", "selector"), nil, flow.ErrMissing, "it says which pods are of this %s", o.kind)
	case err != nil:
		r.badAt(o.place("spec", "selector"), nil, flow.ErrSyntax, "%v", err)
	case !s.Matches(labelSet(template.Labels)):
		r.badAt(o.place("spec", "selector"), s.String(), flow.ErrConflict, "the labels of spec.template do not fit")
	}
	if replicas < 0 || replicas > overlay.MaxPodsPerCluster {
		r.badAt(o.place("spec", "replicas"), replicas, flow.ErrOutOfRange, "0..%d", overlay.MaxPodsPerCluster)
	}
	w := r.podSpec(o, &template.ObjectMeta, &template.Spec, templatePath)
	w.Namespace, w.Name, w.Replicas = meta.Namespace, meta.Name, replicas
	if r.problems.Len() > before {
		return nil
	}
	r.cluster.Workloads = append(r.cluster.Workloads, w)
	return &r.cluster.Workloads[len(r.cluster.Workloads)-1]
}

// labelSet are labels as a selector of Kubernetes asks for them.
type labelSet map[string]string

// Has reports whether there is a label.
func (l labelSet) Has(label string) bool { _, ok := l[label]; return ok }

// Get returns the value of a label, "" if there is none.
func (l labelSet) Get(label string) string { return l[label] }

// Lookup returns the value of a label and whether there is one.
func (l labelSet) Lookup(label string) (string, bool) { v, ok := l[label]; return v, ok }

// pod takes over a Pod. One that a workload has made stands for it.
func (r *reader) pod(o object, p *corev1.Pod) {
	if phase := p.Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		return
	}
	before := r.problems.Len()
	w := r.podSpec(o, &p.ObjectMeta, &p.Spec, specPath)
	w.Namespace, w.Name, w.Replicas = p.Namespace, p.Name, 1
	if r.problems.Len() > before {
		return
	}
	if kind, name := ownerOf(&p.ObjectMeta); kind != "" {
		if r.owned == nil {
			r.owned = make(map[string]bool)
		}
		r.owned[kind+" "+w.Namespace+"/"+name] = true
	}
	r.cluster.Workloads = append(r.cluster.Workloads, w)
}

// dropOwned takes out the workloads whose pods are in the files themselves.
func (r *reader) dropOwned() {
	for of := range r.owned {
		if name, ok := r.rolledOut[strings.TrimPrefix(of, "ReplicaSet ")]; ok {
			namespace, _, _ := strings.Cut(strings.TrimPrefix(of, "ReplicaSet "), "/")
			r.owned["Deployment "+namespace+"/"+name] = true
		} else if owner, ok := strings.CutPrefix(of, "ReplicaSet "); ok && strings.Contains(owner, "-") {
			r.owned["Deployment "+owner[:strings.LastIndexByte(owner, '-')]] = true // its name and a hash
		}
	}
	kept := r.cluster.Workloads[:0]
	for _, w := range r.cluster.Workloads {
		if w.Kind == "Pod" || !r.owned[w.Kind+" "+w.Namespace+"/"+w.Name] {
			kept = append(kept, w)
		}
	}
	r.cluster.Workloads = kept
	total := 0
	for _, w := range kept {
		if total += w.Replicas; total > overlay.MaxPodsPerCluster {
			r.badAt(w.at.place("spec", "replicas"), w.Replicas, overlay.ErrTooManyPods, "the files have more than %d pods together", overlay.MaxPodsPerCluster)
			return
		}
	}
}

// podSpec reads what matters to packets of a pod, at a path of its object.
func (r *reader) podSpec(o object, meta *metav1.ObjectMeta, s *corev1.PodSpec, path []any) Workload {
	w := Workload{
		Kind: o.kind, Labels: meta.Labels, HostNetwork: s.HostNetwork, HostPortAnnotation: meta.Annotations[overlay.HostPortAnnotation], StaticGateway: meta.Annotations[overlay.StaticGatewayAnnotation],
		NodeName: nodeName(s.NodeName), NodeSelector: s.NodeSelector, Tolerations: s.Tolerations, at: o, pod: path,
	}
	at := func(steps ...any) decode.Place { return o.place(append(append([]any(nil), path...), steps...)...) }
	if len(s.Containers) == 0 {
		r.badAt(at("containers"), nil, flow.ErrMissing, "a pod has a container")
	}
	for i := range s.InitContainers {
		if c := &s.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			r.ports(&w, c.Ports, func(steps ...any) decode.Place { return at(append([]any{"initContainers", i, "ports"}, steps...)...) })
		}
	}
	for i := range s.Containers {
		r.ports(&w, s.Containers[i].Ports, func(steps ...any) decode.Place { return at(append([]any{"containers", i, "ports"}, steps...)...) })
	}
	if w.HostNetwork && w.HostPortAnnotation != "" {
		r.omit(w.annotation(overlay.HostPortAnnotation), fmt.Sprintf("%q", w.HostPortAnnotation), "with hostNetwork every port is one of the node")
	}
	if w.HostNetwork && w.StaticGateway != "" {
		r.omit(w.annotation(overlay.StaticGatewayAnnotation), fmt.Sprintf("%q", w.StaticGateway), "with hostNetwork pods leave as their node does")
		w.StaticGateway = ""
	}
	if a := s.Affinity; a != nil && (a.NodeAffinity != nil || a.PodAffinity != nil || a.PodAntiAffinity != nil) {
		r.omit(at("affinity"), "", "pods are placed without it, see Cluster.Start")
	}
	if len(s.TopologySpreadConstraints) > 0 {
		r.omit(at("topologySpreadConstraints"), "", "pods are spread over nodes, not over other domains, see Cluster.Start")
	}
	return w
}

// ports adds the ports of a container.
func (r *reader) ports(w *Workload, ports []corev1.ContainerPort, at func(...any) decode.Place) {
	for i, p := range ports {
		protocol, ok := protocolOf(p.Protocol)
		switch {
		case p.Protocol == corev1.ProtocolSCTP:
			r.omit(at(i, "protocol"), string(p.Protocol), "SCTP is not modelled, and the load balancer has none: the port is left out")
			continue
		case !ok:
			r.badAt(at(i, "protocol"), string(p.Protocol), flow.ErrOutOfRange, "TCP, UDP or SCTP")
			continue
		case p.ContainerPort < 1 || p.ContainerPort > 65535:
			r.badAt(at(i, "containerPort"), p.ContainerPort, flow.ErrOutOfRange, "1..65535")
			continue
		case p.HostPort < 0 || p.HostPort > 65535:
			r.badAt(at(i, "hostPort"), p.HostPort, flow.ErrOutOfRange, "1..65535")
			continue
		case w.HostNetwork && p.HostPort != 0 && p.HostPort != p.ContainerPort:
			r.badAt(at(i, "hostPort"), p.HostPort, flow.ErrConflict, "with hostNetwork it is the containerPort, %d", p.ContainerPort)
			continue
		case p.HostIP != "" && p.HostIP != "0.0.0.0" && p.HostIP != "::":
			r.omit(at(i, "hostIP"), p.HostIP, "the port is open at all addresses of the node")
		}
		w.Ports = append(w.Ports, ContainerPort{p.Name, overlay.ContainerPort{Protocol: protocol, Port: uint16(p.ContainerPort), HostPort: uint16(p.HostPort)}})
	}
}

// protocolOf returns a protocol of overlay.
func protocolOf(p corev1.Protocol) (snat.Protocol, bool) {
	switch p {
	case "", corev1.ProtocolTCP:
		return snat.TCP, true
	case corev1.ProtocolUDP:
		return snat.UDP, true
	}
	return 0, false
}

// aksName is the name of a node of AKS, with the hash of its cluster.
var aksName = regexp.MustCompile(`^aks-(.+)-[0-9]{8}-vmss([0-9a-z]{6})$`)

// nodeName returns the name that overlay has for a node.
func nodeName(name string) string { return aksName.ReplaceAllString(name, "aks-$1-vmss$2") }

// nameWorkloads decides how the pods of workloads are called: as the workload with a number
// behind it; where that is the name of a Pod or of another workload's pod, with its kind in between.
func (r *reader) nameWorkloads() {
	taken := make(map[string]bool)     // prefixes of workloads
	numbered := make(map[string][]int) // Pods whose names end in a number, by what is before it
	for i := range r.cluster.Workloads {
		w := &r.cluster.Workloads[i]
		w.prefix = w.Namespace + "/" + w.Name
		if at := strings.LastIndexByte(w.prefix, '-'); w.Kind == "Pod" && at >= 0 {
			if n, err := strconv.Atoi(w.prefix[at+1:]); err == nil {
				numbered[w.prefix[:at]] = append(numbered[w.prefix[:at]], n)
			}
		}
	}
	for i := range r.cluster.Workloads {
		w := &r.cluster.Workloads[i]
		if w.Kind == "Pod" {
			continue
		}
		inTheWay := func(n int) bool { return w.first <= n && n < w.first+w.Replicas }
		for taken[w.prefix] || slices.ContainsFunc(numbered[w.prefix], inTheWay) {
			w.prefix += "-" + strings.ToLower(w.Kind)
		}
		taken[w.prefix] = true
	}
}

// podName returns the name of the n-th pod.
func (w *Workload) podName(n int) string {
	if w.Kind == "Pod" {
		return w.prefix
	}
	return fmt.Sprintf("%s-%d", w.prefix, w.first+n)
}

// String returns "Deployment default/web".
func (w *Workload) String() string { return w.Kind + " " + w.Namespace + "/" + w.Name }
