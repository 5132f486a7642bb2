// StaticGatewayConfigurations, the custom resource of static egress gateways. Read "Configure static egress
// gateway in AKS" first.

package manifest

import (
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// staticGatewayVersion is the API version of the resource.
const staticGatewayVersion = "egressgateway.kubernetes.azure.com/v1alpha1"

// staticGatewayConfiguration is the resource.
type staticGatewayConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		GatewayNodepoolName string         `json:"gatewayNodepoolName"`
		ExcludeCIDRs        []netip.Prefix `json:"excludeCidrs"`
		PublicIPPrefixID    string         `json:"publicIpPrefixId"`
		ProvisionPublicIPs  *bool          `json:"provisionPublicIps"`
	} `json:"spec"`
	Status any `json:"status"`
}

// staticGateway takes over a configuration.
func (r *reader) staticGateway(o object, g *staticGatewayConfiguration) {
	c := &r.cluster.Config
	if p := g.Spec.ProvisionPublicIPs; p != nil && !*p {
		r.omit(o.place("spec", "provisionPublicIps"), "false", "the gateway has public addresses all the same")
	}
	to := overlay.StaticGatewayConfiguration{Name: g.Namespace + "/" + g.Name, GatewayNodepoolName: g.Spec.GatewayNodepoolName, ExcludeCIDRs: g.Spec.ExcludeCIDRs}
	path := problems.Index("StaticGatewayConfigurations", len(c.StaticGatewayConfigurations))
	for field, steps := range map[string][]any{
		"": nil, ".Name": {"metadata", "name"}, ".GatewayNodepoolName": {"spec", "gatewayNodepoolName"}, ".PublicIPPrefix": {"spec", "publicIpPrefixId"}, ".ExcludeCIDRs": {"spec", "excludeCidrs"},
	} {
		r.places[path+field] = o.place(steps...)
	}
	for i := range to.ExcludeCIDRs {
		r.places[problems.Index(path+".ExcludeCIDRs", i)] = o.place("spec", "excludeCidrs", i)
	}
	if id := g.Spec.PublicIPPrefixID; id != "" {
		text, _ := r.resource(id)
		prefix, ok := asPrefix(text)
		if to.PublicIPPrefix = prefix; !ok {
			r.omit(o.place("spec", "publicIpPrefixId"), lastOf(id), "the range of the prefix is in no file, such as az network public-ip prefix list prints; one of 20.61.0.0/16 stands for it")
		}
	}
	c.StaticGatewayConfigurations = append(c.StaticGatewayConfigurations, to)
}

// checkStaticGateways tells of pods whose static gateway is in no file.
func (r *reader) checkStaticGateways() {
	for i := range r.cluster.Workloads {
		w := &r.cluster.Workloads[i]
		if w.StaticGateway != "" && !slices.ContainsFunc(r.cluster.Config.StaticGatewayConfigurations, func(g overlay.StaticGatewayConfiguration) bool {
			return g.Name == w.Namespace+"/"+w.StaticGateway
		}) {
			r.badAt(w.annotation(overlay.StaticGatewayAnnotation), w.StaticGateway, flow.ErrUnknownName, "no file has a StaticGatewayConfiguration %s/%s", w.Namespace, w.StaticGateway)
		}
	}
}
