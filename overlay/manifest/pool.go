// What of a node pool decides which pods its nodes run.

package manifest

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/seed-a61be3fe/natplane/overlay"
)

// pool is the labels and taints of a node pool.
type pool struct {
	Name    string
	labels  map[string]string // besides those that every node has
	taints  []corev1.Taint
	gateway bool // it runs no pods
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
	for _, text := range p.NodeTaints { // key=value:effect, the value may be missing
		key, effect, _ := strings.Cut(text, ":")
		key, value, _ := strings.Cut(key, "=")
		q.taints = append(q.taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return q
}

// follow takes over what the configuration says of the nodes.
func (p *pool) follow(c *overlay.NodePool) {
	if p.labels == nil {
		p.labels = make(map[string]string)
	}
	p.labels[corev1.LabelOSStable] = strings.ToLower(c.OSType.String())
	p.gateway = c.Mode == overlay.ModeGateway
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
	return ok && have == value
}
