// What AKS refuses together, of what az prints and a configuration has no field for: kinds of node
// pools, sizes of machines, addons and versions. Read the Azure documents "Azure CNI Overlay
// networking" and "Use dual-stack networking in AKS" first.

package manifest

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
)

// asked is something that az prints, which AKS refuses with some clusters and which is
// not modelled with others.
type asked struct {
	at      decode.Place
	value   string
	refused func(*overlay.ClusterConfig) (rule string) // "" if it is not
	without string                                     // what stands in its place; "" if nothing is left out
}

// judge refuses what has been asked for and the cluster cannot have, and tells the rest, once
// every file that describes the cluster has been read.
func (r *reader) judge() {
	for _, a := range r.asked {
		if rule := a.refused(&r.cluster.Config); rule != "" {
			r.badAt(a.at, a.value, flow.ErrConflict, "%s", rule)
		} else if a.without != "" {
			r.omit(a.at, a.value, "%s", a.without)
		}
	}
}

// never is for what AKS refuses with no cluster.
func never(*overlay.ClusterConfig) string { return "" }

// notWithOverlay refuses what does not go with Azure CNI Overlay.
func notWithOverlay(what string) func(*overlay.ClusterConfig) string {
	return func(c *overlay.ClusterConfig) string {
		if c.NetworkPlugin != cni.Overlay {
			return ""
		}
		return what + " not with networkPluginMode overlay"
	}
}

// ask notes what is to be judged, at a field of the object under way.
func (r *azureReader) ask(golang, value string, refused func(*overlay.ClusterConfig) string, without string) {
	r.asked = append(r.asked, asked{r.place(golang, ""), value, refused, without})
}

// confidential are the machines of the DCsv2 series.
var confidential = regexp.MustCompile(`(?i)^standard_dc\d+s?_v2$`)

// askedOfPool notes what a node pool asks for, which is at a Go path of the object.
func (r *azureReader) askedOfPool(p *azurePool, from string) {
	for _, kind := range [][2]string{{"Type", p.Type}, {"TypePropertiesType", p.TypePropertiesType}} {
		if strings.EqualFold(kind[1], "AvailabilitySet") {
			r.ask(problems.Field(from, kind[0]), kind[1], notWithOverlay("nodes are in scale sets: availability sets go"), "its nodes are taken for those of a scale set")
		}
	}
	if confidential.MatchString(p.VMSize) {
		r.ask(problems.Field(from, "VMSize"), p.VMSize, notWithOverlay("machines of the DCsv2 series go"), "")
	}
	r.stopped(problems.Field(from, "PowerState.Code"), p.PowerState)
}

// stopped tells that what is stopped runs here.
func (r *azureReader) stopped(golang string, s azurePowerState) {
	if strings.EqualFold(s.Code, "Stopped") {
		r.ask(golang, s.Code, never, "its nodes are taken for running ones")
	}
}

// askedOfCluster notes what a cluster asks for.
func (r *azureReader) askedOfCluster(m *azureCluster) {
	for _, name := range slices.Sorted(maps.Keys(m.AddonProfiles)) {
		if !m.AddonProfiles[name].Enabled {
			continue
		}
		at := "AddonProfiles[" + name + "]"
		switch {
		case strings.HasPrefix(strings.ToLower(name), "aciconnector"): // aciConnectorLinux
			r.ask(at, name, func(c *overlay.ClusterConfig) string {
				if rule := notWithOverlay("virtual nodes go")(c); rule != "" || c.IPFamilies != "ipv4,ipv6" {
					return rule
				}
				return "virtual nodes go not with two families"
			}, "no virtual node is there, and pods for one are pending")
		case strings.EqualFold(name, "ingressApplicationGateway"):
			r.ask(at, name, never, applicationGateway)
		}
	}
	if m.IngressProfile.ApplicationLoadBalancer.Enabled {
		r.ask("IngressProfile.ApplicationLoadBalancer", "", never, applicationGateway)
	}
	if strings.EqualFold(m.NetworkProfile.NetworkDataplane, "cilium") {
		r.ask("NetworkProfile.NetworkDataplane", m.NetworkProfile.NetworkDataplane, func(c *overlay.ClusterConfig) string {
			if slices.ContainsFunc(c.NodePools, func(p overlay.NodePool) bool { return p.OSType == overlay.Windows }) {
				return "is for Linux nodes only"
			}
			return ""
		}, "nodes balance Services as kube-proxy does")
	}
	r.stopped("PowerState.Code", m.PowerState)
	version, at := m.CurrentKubernetesVersion, "CurrentKubernetesVersion"
	if version == "" {
		version, at = m.KubernetesVersion, "KubernetesVersion"
	}
	if before(version, 1, 27, 0) {
		r.ask(at, version, func(c *overlay.ClusterConfig) string {
			if c.NetworkPlugin == cni.Overlay && c.IPFamilies == "ipv4,ipv6" && before(version, 1, 26, 3) {
				return "two families with networkPluginMode overlay need 1.26.3"
			}
			return ""
		}, "before 1.27 a Service of two families has a public address of the first only; here it has both")
	}
}

// applicationGateway says what an ingress by Application Gateway is here.
const applicationGateway = "an Application Gateway is a host of the virtual network, which files do not describe; versions of AKS have refused it with networkPluginMode overlay"

// before reports whether a version of Kubernetes, such as 1.26 or 1.26.3, is older than another one. One
// without its last number is the latest of its kind, and none is older than what cannot be read.
func before(version string, than ...int) bool {
	parts := strings.Split(version, ".")
	for i, n := range than {
		if i >= len(parts) {
			return false
		}
		m, err := strconv.Atoi(parts[i])
		if err != nil || m > n {
			return false
		}
		if m < n {
			return true
		}
	}
	return false
}

// linkLocal takes over whether pods reach the instance metadata service.
func (r *azureReader) linkLocal(n *azureNetwork) {
	switch strings.ToLower(n.PodLinkLocalAccess) {
	case "", "imds":
	case "none":
		r.cluster.Config.RestrictIMDS = true
		r.moved("RestrictIMDS", "NetworkProfile.PodLinkLocalAccess")
	default:
		r.badAt(r.place("NetworkProfile.PodLinkLocalAccess", ""), n.PodLinkLocalAccess, flow.ErrOutOfRange, "IMDS or None")
	}
}
