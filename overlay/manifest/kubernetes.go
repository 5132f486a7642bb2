// Objects of Kubernetes: which kinds there are, and what becomes of each.

package manifest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// object is an object of Kubernetes.
type object struct {
	doc
	kind string
}

// place returns where a field of the object stands: as far down its path as it goes.
func (o object) place(path ...any) decode.Place {
	at := decode.Place{File: o.file, Line: o.node.Line, Field: o.path}
	n := o.node
	for _, step := range path {
		switch s := step.(type) {
		case string:
			if at.Field = problems.Field(at.Field, s); n == nil {
				continue
			}
			next := (*document.Node)(nil)
			for _, f := range n.Fields {
				if f.Name == s {
					at.Line, next = f.Line, f.Value
				}
			}
			n = next
		case int:
			at.Field = problems.Index(at.Field, s)
			if n != nil && s < len(n.Items) {
				n = n.Items[s]
				at.Line = n.Line
			} else {
				n = nil
			}
		}
	}
	return at
}

// namespace returns the namespace of the object.
func (o object) namespace() string {
	if meta := o.node.Field("metadata"); meta != nil && meta.TextOf("namespace") != "" {
		return meta.TextOf("namespace")
	}
	return corev1.NamespaceDefault
}

// versions are the API versions of the kinds that are read.
var versions = map[string]string{
	"Service": "v1", "Pod": "v1", "List": "v1",
	"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "ReplicaSet": "apps/v1",
	"ReplicationController": "v1", "Job": "batch/v1", "CronJob": "batch/v1",
	"Namespace": "v1", "ConfigMap": "v1", "Endpoints": "v1", "EndpointSlice": "discovery.k8s.io/v1", "NetworkPolicy": "networking.k8s.io/v1",
	"StaticGatewayConfiguration": staticGatewayVersion,
}

// harmless are the kinds that change no packet, or only by what others make of them.
var harmless = strings.Fields(`Secret ServiceAccount Role RoleBinding ClusterRole ClusterRoleBinding
	PersistentVolume PersistentVolumeClaim StorageClass PodDisruptionBudget PriorityClass LimitRange ResourceQuota
	CustomResourceDefinition Event Lease Node ControllerRevision`)

// unmodelled are the kinds that would change packets, with the reason why they do not.
var unmodelled = map[string]string{
	"CronJob":                 "its pods come and go by the clock",
	"HorizontalPodAutoscaler": "the replicas are those that the files say",
	"Ingress":                 "ingress controllers are pods as others; what they decide by is above addresses and ports",
	"IngressClass":            "ingress controllers are pods as others; what they decide by is above addresses and ports",
	"Gateway":                 "gateways are pods as others; what they decide by is above addresses and ports",
	"HTTPRoute":               "gateways are pods as others; what they decide by is above addresses and ports",
}

// kubernetes puts an object, or those of a list, to the manifests.
func (r *reader) kubernetes(d doc) {
	version, kind := d.node.Field("apiVersion"), d.node.TextOf("kind")
	at := object{d, kind}
	switch {
	case version == nil || version.Text == "":
		r.badAt(at.place("apiVersion"), nil, flow.ErrMissing, "an object has apiVersion and kind")
		return
	case kind == "":
		r.badAt(at.place("kind"), nil, flow.ErrMissing, "an object has apiVersion and kind")
		return
	}
	element := strings.TrimSuffix(kind, "List") // a PodList has Pods that do not say so
	want, known := versions[kind]
	if kind != element && kind != "List" {
		want, known = versions[element]
	}
	if known && version.Text != want {
		r.badAt(at.place("apiVersion"), version.Text, flow.ErrOutOfRange, "%s has %s", kind, want)
		return
	}
	if kind == element {
		r.manifests = append(r.manifests, at)
		return
	}
	r.list(at, element)
}

// list reads the elements of a list of objects.
func (r *reader) list(o object, element string) {
	for _, f := range o.node.Fields {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata", "items"}, f.Name) {
			r.badAt(o.place(f.Name), problems.Raw(f.Value.String()), flow.ErrUnknownName, "a list has apiVersion, kind, metadata and items")
		}
	}
	items := o.node.Field("items")
	if items == nil || items.Kind != document.List {
		r.badAt(o.place("items"), nil, flow.ErrMissing, "a list has items")
		return
	}
	for i, item := range items.Items {
		d := doc{o.file, item, problems.Index(problems.Field(o.path, "items"), i)}
		switch {
		case item.Kind != document.Map:
			r.bad(d, flow.ErrSyntax, "must be an object")
		case element != "" && item.Field("kind") == nil:
			r.manifests = append(r.manifests, object{d, element})
		case strings.HasSuffix(item.TextOf("kind"), "List"):
			r.bad(d, flow.ErrConflict, "lists of lists are not read")
		default:
			r.kubernetes(d)
		}
	}
}

// object reads an object.
func (r *reader) object(o object) {
	switch o.kind {
	case "Service":
		read(r, o, r.service)
	case "Pod":
		read(r, o, r.pod)
	case "Deployment":
		read(r, o, r.deployment)
	case "StatefulSet":
		read(r, o, r.statefulSet)
	case "DaemonSet":
		read(r, o, r.daemonSet)
	case "ReplicaSet":
		read(r, o, r.replicaSet)
	case "ReplicationController":
		read(r, o, r.replicationController)
	case "Job":
		read(r, o, r.job)
	case "Namespace":
		read(r, o, r.namespace)
	case "ConfigMap":
		read(r, o, r.configMap)
	case "StaticGatewayConfiguration":
		read(r, o, r.staticGateway)
	case "NetworkPolicy":
		read(r, o, r.networkPolicy)
	case "Endpoints":
		read(r, o, r.endpoints)
	case "EndpointSlice":
		read(r, o, r.endpointSlice)
	default:
		if slices.Contains(harmless, o.kind) {
			return
		}
		why := unmodelled[o.kind]
		if why == "" {
			why = "no use is made of this kind"
		}
		r.omit(o.place("kind"), o.kind, "%s", why)
	}
}

// read decodes an object and hands it on, if it is whole and new.
func read[T any](r *reader, o object, take func(object, *T)) {
	var x T
	before := r.problems.Len()
	if r.objectDecoder == nil {
		r.objectDecoder = r.decoder(decode.Kubernetes, "")
	}
	r.objectDecoder.File = o.file
	r.objectDecoder.Value(o.node, &x, o.path)
	if r.problems.Len() > before {
		return
	}
	meta := metaOf(&x)
	if meta.Name == "" {
		r.badAt(o.place("metadata", "name"), nil, flow.ErrMissing, "an object has a name")
		return
	}
	if meta.Namespace == "" {
		meta.Namespace = corev1.NamespaceDefault
	}
	key := o.kind + " " + meta.Namespace + "/" + meta.Name
	if first, ok := r.objects[key]; ok {
		r.badAt(o.place("metadata", "name"), meta.Name, flow.ErrDuplicateName, "there is such a %s in %s:%d already", o.kind, first.File, first.Line)
		return
	}
	r.objects[key] = o.place()
	take(o, &x)
}

// metaOf returns the metadata of an object.
func metaOf(x any) *metav1.ObjectMeta {
	return reflect.ValueOf(x).Elem().FieldByName("ObjectMeta").Addr().Interface().(*metav1.ObjectMeta)
}

// ownerOf returns the kind and name of what an object belongs to; "" if it is nobody's.
func ownerOf(m *metav1.ObjectMeta) (kind, name string) {
	if o := metav1.GetControllerOfNoCopy(m); o != nil {
		return o.Kind, o.Name
	}
	return "", ""
}

func (r *reader) deployment(o object, d *appsv1.Deployment) {
	r.workload(o, &d.ObjectMeta, d.Spec.Selector, &d.Spec.Template, replicas(d.Spec.Replicas))
}

func (r *reader) statefulSet(o object, s *appsv1.StatefulSet) {
	w := r.workload(o, &s.ObjectMeta, s.Spec.Selector, &s.Spec.Template, replicas(s.Spec.Replicas))
	if ordinals := s.Spec.Ordinals; w != nil && ordinals != nil {
		w.first = int(ordinals.Start)
	}
}

func (r *reader) replicaSet(o object, s *appsv1.ReplicaSet) {
	if kind, name := ownerOf(&s.ObjectMeta); kind == "Deployment" {
		if r.rolledOut == nil {
			r.rolledOut = make(map[string]string)
		}
		r.rolledOut[s.Namespace+"/"+s.Name] = name
		return // the Deployment says how many pods there are, or its pods do
	}
	r.workload(o, &s.ObjectMeta, s.Spec.Selector, &s.Spec.Template, replicas(s.Spec.Replicas))
}

func (r *reader) daemonSet(o object, s *appsv1.DaemonSet) {
	if w := r.workload(o, &s.ObjectMeta, s.Spec.Selector, &s.Spec.Template, 0); w != nil {
		w.EveryNode = true
	}
}

func (r *reader) replicationController(o object, c *corev1.ReplicationController) {
	if c.Spec.Template == nil {
		r.badAt(o.place("spec", "template"), nil, flow.ErrMissing, "it says what the pods are")
		return
	}
	selector := c.Spec.Selector
	if len(selector) == 0 {
		selector = c.Spec.Template.Labels
	}
	r.workload(o, &c.ObjectMeta, &metav1.LabelSelector{MatchLabels: selector}, c.Spec.Template, replicas(c.Spec.Replicas))
}

// job takes over a Job as it is while it runs: its pods are there, and do not end. One that is done or suspended has none.
func (r *reader) job(o object, j *batchv1.Job) {
	n := replicas(j.Spec.Parallelism)
	if c := j.Spec.Completions; c != nil {
		n = min(n, int(*c))
	}
	if n < 0 {
		r.badAt(o.place("spec", "parallelism"), n, flow.ErrOutOfRange, "0..%d", overlay.MaxPodsPerCluster)
		return
	}
	done := slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed)
	})
	if done || is(j.Spec.Suspend) {
		return
	}
	template := &j.Spec.Template
	if template.Labels = maps.Clone(template.Labels); template.Labels == nil {
		template.Labels = make(map[string]string)
	}
	template.Labels[batchv1.JobNameLabel], template.Labels["job-name"] = j.Name, j.Name
	selector := j.Spec.Selector
	if selector == nil || !is(j.Spec.ManualSelector) { // Kubernetes has made it
		selector = &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.JobNameLabel: j.Name}}
	}
	r.workload(o, &j.ObjectMeta, selector, template, n)
}

// replicas returns how many pods there are to be: 1 unless it is said.
func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// matches reports whether labels are what a selector wants.
func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return len(selector) > 0
}

// path returns a Go path such as NodePools[3].Subnet.
func path(list string, i int, field string) string { return fmt.Sprintf("%s[%d].%s", list, i, field) }
