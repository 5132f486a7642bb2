// ConfigMaps of ip-masq-agent: which destinations pods reach with their own address.

package manifest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// ConfigMaps that the agent of AKS reads, in kube-system: the user's own, and what AKS reconciles. Their
// keys begin with masqueradeKey (README of ip-masq-agent-v2).
const (
	masqueradeMap        = "azure-ip-masq-agent-config"
	masqueradeReconciled = "azure-ip-masq-agent-config-reconciled"
	masqueradeKey        = "ip-masq"
)

// masquerade is a configuration of ip-masq-agent-v2, as its README has it.
type masquerade struct {
	NonMasqueradeCIDRs []netip.Prefix `json:"nonMasqueradeCIDRs"`
	MasqLinkLocal      bool           `json:"masqLinkLocal"`
	MasqLinkLocalIPv6  bool           `json:"masqLinkLocalIPv6"` // here nothing of fe80::/10 leaves a node
	ResyncInterval     string         `json:"resyncInterval"`    // of the agent before v2
}

// configMap takes over the configuration of ip-masq-agent. What several say is added up: their
// lists, and link-local addresses are masqueraded if any says so (our choice). AKS's own map, if it is in
// no file, says so. A cluster file has the last word.
func (r *reader) configMap(o object, m *corev1.ConfigMap) {
	if m.Namespace != "kube-system" || m.Name != masqueradeMap && m.Name != masqueradeReconciled {
		return
	}
	if _, ok := r.places["Masquerade"]; ok {
		r.omit(o.place("data"), "", "the cluster file says what is masqueraded")
		return
	}
	r.reconciled = r.reconciled || m.Name == masqueradeReconciled
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		if !strings.HasPrefix(key, masqueradeKey) {
			r.omit(o.place("data", key), "", "the agent reads keys that begin with %s", masqueradeKey)
			continue
		}
		r.masquerade(o, key)
	}
	r.cluster.Config.Masquerade.KeepLinkLocal = r.reconciled && !r.masqLinkLocal
}

// masquerade takes over a configuration that is the text of a key.
func (r *reader) masquerade(o object, key string) {
	at := o.place("data", key)
	docs, err := document.ParseText(o.node.Field("data").Field(key))
	for _, broken := range document.Errors(err) {
		r.problems.Include(decode.Place{File: at.File, Line: broken.Line, Field: at.Field}.String(), fmt.Errorf("%w: %w", flow.ErrSyntax, broken))
	}
	c := &r.cluster.Config
	for _, n := range docs {
		var m masquerade
		x := r.decoder(decode.Kubernetes, o.file)
		x.Places = make(map[string]decode.Place)
		x.Value(n, &m, at.Field)
		r.masqLinkLocal = r.masqLinkLocal || m.MasqLinkLocal
		for i, p := range m.NonMasqueradeCIDRs {
			if !p.IsValid() || slices.Contains(c.PodCIDRs, p) || slices.Contains(c.Masquerade.NonMasqueradeCIDRs, p) {
				continue // pods reach each other with their own address anyway
			}
			r.places[problems.Index("Masquerade.NonMasqueradeCIDRs", len(c.Masquerade.NonMasqueradeCIDRs))] = x.Places[problems.Index("NonMasqueradeCIDRs", i)]
			c.Masquerade.NonMasqueradeCIDRs = append(c.Masquerade.NonMasqueradeCIDRs, p)
		}
	}
}
