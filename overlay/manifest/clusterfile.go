// Cluster files: every field of a configuration by its own name.

package manifest

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// What a cluster file says it is.
const (
	clusterVersion = "natplane/v1"
	clusterKind    = "Cluster"
)

// clusterFile is a cluster file.
type clusterFile struct {
	APIVersion string
	Kind       string

	overlay.ClusterConfig

	// Addresses are those of public IPs and prefixes that az names only, by name or id.
	Addresses map[string]string
}

// readAddresses reads the addresses of resources before anything needs them.
func (r *reader) readAddresses() {
	r.addresses = make(map[string]string)
	for _, d := range r.described {
		known := d.node.Field("addresses")
		if known == nil || known.Kind != document.Map {
			continue // what is wrong with it will be told
		}
		for _, f := range known.Fields {
			at := decode.Place{File: d.file, Line: f.Line, Field: "addresses[" + f.Name + "]"}
			_, isAddr := parseAddress(f.Value.Text)
			p, err := netip.ParsePrefix(f.Value.Text)
			if !isAddr && (err != nil || p != p.Masked()) {
				r.badAt(at, f.Value.Text, flow.ErrAddress, "must be an address or a prefix")
				continue
			}
			r.addresses[strings.ToLower(f.Name)] = f.Value.Text
		}
	}
}

// fromClusterFile reads a cluster file over what is known by then. Node pools are those of the same name.
func (r *reader) fromClusterFile(d doc) {
	if v := d.node.TextOf("apiVersion"); v != clusterVersion {
		r.bad(doc{d.file, d.node.Field("apiVersion"), "apiVersion"}, flow.ErrOutOfRange, "must be %s", clusterVersion)
	}
	if kind := d.node.Field("kind"); kind == nil {
		r.bad(d, flow.ErrMissing, "kind must be %s", clusterKind)
	} else if kind.Text != clusterKind {
		r.bad(doc{d.file, kind, "kind"}, flow.ErrOutOfRange, "must be %s", clusterKind)
	}
	file := clusterFile{ClusterConfig: r.cluster.Config}
	x := r.decoder(decode.GoNames, d.file)
	x.Places = r.places
	x.Extend = map[reflect.Type]func(reflect.Value, *document.Node) int{reflect.TypeFor[overlay.NodePool](): poolOf}
	x.Value(d.node, &file, "")
	r.cluster.Config = file.ClusterConfig
	if _, ok := r.places["NetworkPolicyEngine"]; ok {
		r.cluster.policies.stated = true
	}
}

// poolOf returns which of the pools that are known an element of nodePools is about.
func poolOf(list reflect.Value, item *document.Node) int {
	name := item.TextOf("name")
	return slices.IndexFunc(list.Interface().([]overlay.NodePool), func(p overlay.NodePool) bool { return name != "" && p.Name == name })
}
