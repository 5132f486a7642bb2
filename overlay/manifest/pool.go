// What of a node pool decides which pods its nodes run.

package manifest

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// pool is the labels and taints of a node pool.
type pool struct {
	Name   string
	labels map[string]string // besides those that every node has
	taints []corev1.Taint
}

// newPool reads what az says of a pool.
func newPool(p *azurePool) pool {
	q := pool{Name: p.Name, labels: maps.Clone(p.NodeLabels)}
	if q.labels == nil {
		q.labels = make(map[string]string)
	}
	if p.Mode != "" {
		q.labels["kubernetes.azure.com/mode"] = strings.ToLower(p.Mode)
	}
	if p.OSType != "" {
		q.labels[corev1.LabelOSStable] = strings.ToLower(p.OSType)
	}
	for _, text := range p.NodeTaints { // key=value:effect, the value may be missing
		key, effect, _ := strings.Cut(text, ":")
		key, value, _ := strings.Cut(key, "=")
		q.taints = append(q.taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return q
}

// hasLabel reports whether a node has a label: one of its pool, or one that AKS gives every
// node. What hardware a node has is not known, so that labels of that kind fit.
func (p *place) hasLabel(key, value string) bool {
	switch key {
	case "agentpool", "kubernetes.azure.com/agentpool":
		return value == p.Pool
	case corev1.LabelHostname:
		return nodeName(value) == p.Name
	case corev1.LabelArchStable, "beta.kubernetes.io/arch", corev1.LabelInstanceTypeStable, corev1.LabelTopologyZone, corev1.LabelTopologyRegion:
		return true
	case "beta.kubernetes.io/os":
		key = corev1.LabelOSStable
	}
	have, ok := p.pool.labels[key]
	if !ok && key == corev1.LabelOSStable {
		have, ok = "linux", true
	}
	return ok && have == value
}
