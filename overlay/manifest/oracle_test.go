package manifest

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// kinds are what objects are decoded into.
var kinds = map[string]func() any{
	"Service": func() any { return new(corev1.Service) }, "Pod": func() any { return new(corev1.Pod) },
	"Deployment": func() any { return new(appsv1.Deployment) }, "StatefulSet": func() any { return new(appsv1.StatefulSet) },
	"DaemonSet": func() any { return new(appsv1.DaemonSet) }, "ReplicaSet": func() any { return new(appsv1.ReplicaSet) },
	"Job": func() any { return new(batchv1.Job) }, "ReplicationController": func() any { return new(corev1.ReplicationController) },
	"Namespace": func() any { return new(corev1.Namespace) }, "ConfigMap": func() any { return new(corev1.ConfigMap) },
	//lint:ignore SA1019 see reader.endpoints
	"Endpoints":     func() any { return new(corev1.Endpoints) },
	"EndpointSlice": func() any { return new(discoveryv1.EndpointSlice) },
	"NetworkPolicy": func() any { return new(networkingv1.NetworkPolicy) },
}

// compare decodes a document as Kubernetes does, by sigs.k8s.io/yaml, and as we do: what we
// accept is what Kubernetes makes of it.
func compare(t *testing.T, text []byte) (compared bool) {
	docs, err := document.Parse(text)
	if err != nil || len(docs) != 1 || docs[0].Kind != document.Map || kinds[docs[0].TextOf("kind")] == nil {
		return false
	}
	var l problems.List
	got, want := kinds[docs[0].TextOf("kind")](), kinds[docs[0].TextOf("kind")]()
	(&decode.Reader{Style: decode.Kubernetes, File: "f", Problems: &l}).Value(docs[0], got, "")
	if l.Err() != nil {
		return false
	}
	if bytes.Contains(text, []byte("<<")) { // a key may replace one that is merged, which is no repetition as kubectl reads it
		var err error
		text, err = yaml.YAMLToJSON(text)
		require.NoError(t, err)
	}
	if err := yaml.UnmarshalStrict(text, want); err != nil {
		t.Fatalf("Kubernetes refuses what we accept: %v\n%s", err, text)
	}
	// Empty maps and lists are as good as none.
	a, err := yaml.Marshal(got)
	require.NoError(t, err)
	b, err := yaml.Marshal(want)
	require.NoError(t, err)
	require.Equal(t, string(b), string(a), "%s", text)
	return true
}

// split returns the documents of a text, those of lists one by one.
func split(text []byte) [][]byte {
	var all [][]byte
	for _, part := range bytes.Split(text, []byte("\n---\n")) {
		var list struct{ Items []map[string]any }
		if bytes.Contains(part, []byte("kind: List")) && yaml.Unmarshal(part, &list) == nil {
			for _, item := range list.Items {
				b, _ := yaml.Marshal(item) // of what was read a moment ago
				all = append(all, b)
			}
			continue
		}
		all = append(all, part)
	}
	return all
}

func TestObjectsAreWhatKubernetesReads(t *testing.T) {
	names, err := filepath.Glob("testdata/guides/*.yaml")
	require.NoError(t, err)
	compared := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, d := range split(text) {
			if compare(t, d) {
				compared++
			}
		}
	}
	require.Greater(t, compared, 20)
}

// Every type of Kubernetes that we decode has fields that we can decode.
func TestEveryTypeOfKubernetesCanBeDecoded(t *testing.T) {
	for _, kind := range kinds {
		var l problems.List
		x := kind()
		n := everything(reflect.TypeOf(x).Elem(), 4)
		(&decode.Reader{Style: decode.Kubernetes, File: "f", Problems: &l}).Value(n, x, "")
		if err := l.Err(); err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				require.NotContains(t, line, "unknown name")
			}
		}
	}
}

// everything returns a map with all fields of a struct, each of them a number, down to a depth.
func everything(t reflect.Type, depth int) *document.Node {
	n := &document.Node{Kind: document.Map, Line: 1}
	for i := range t.NumField() {
		g := t.Field(i)
		name, options, _ := strings.Cut(g.Tag.Get("json"), ",")
		if name == "" || name == "-" || strings.Contains(options, "inline") {
			continue
		}
		inner := g.Type
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		value := &document.Node{Kind: document.Number, Text: "1", Line: 1}
		if inner.Kind() == reflect.Struct && depth > 0 {
			value = everything(inner, depth-1)
		}
		if inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct && depth > 0 {
			value = &document.Node{Kind: document.List, Items: []*document.Node{everything(inner.Elem(), depth-1)}, Line: 1}
		}
		n.Fields = append(n.Fields, document.Field{Name: name, Line: 1, Value: value})
	}
	return n
}

// Scalars are what YAML 1.1 makes of them, as Kubernetes reads it, and not what 1.2 does.
func TestScalarsAreWhatKubernetesReads(t *testing.T) {
	values := strings.Fields(`1_000 0o17 017 0b101 0x1F 0X1 0B1 0O17 -0x1f -0b1 -0o7 +0x1 1e3 1E3 1.0e3 12e03 -2E+05 100e-2 1e-3 1e10 3.0 3.5 1_0.0 685_230.15 6.8523015e+5
		+5 -5 -0 0.0 -0.0 00 08 0123456789 0777 0_1 _1 1_ 1__0 0x 0xg 0b 0o 1e e1 . 0. .5 1. 1:30 190:20:30.15 .inf -.inf +.inf .NaN 1e400 1,000 0x1.8p1
		9223372036854775807 9223372036854775808 18446744073709551615 18446744073709551616 0xFFFFFFFFFFFFFFFF 2147483648 4_000_000_000
		2001-01-01 2001-01-01T00:00:00Z null ~ Null NULL nUll true True TRUE tRue yes y on off no n No OFF '5' "5" "\u00e9" 'it''s' [] {} [1] {a:1} = @x`)
	values = append(values, "", "|\n        5", "5\n        6", "&a 5", "5 # five", "!!str 5")
	fields := map[string]string{ // with those where we are to accept what Kubernetes accepts
		"int":      "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: %\n",
		"ints":     "apiVersion: v1\nkind: Pod\nspec:\n  securityContext:\n    supplementalGroups:\n    - %\n",
		"bool":     "apiVersion: v1\nkind: Pod\nspec:\n  hostNetwork: %\n",
		"port":     "apiVersion: v1\nkind: Service\nspec:\n  ports:\n  - targetPort: %\n",
		"quantity": "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - resources:\n      limits:\n        cpu: %\n",
		"time":     "apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: %\n",
		"struct":   "apiVersion: v1\nkind: Service\nspec: %\n",
		"map":      "apiVersion: v1\nkind: Service\nspec:\n  selector: %\n",
		"string":   "apiVersion: v1\nkind: Service\nspec:\n  loadBalancerIP: %\n",
		"strings":  "apiVersion: v1\nkind: Service\nspec:\n  clusterIPs:\n  - %\n",
		"label":    "apiVersion: v1\nkind: Service\nmetadata:\n  labels:\n    a: %\n",
		"key":      "apiVersion: v1\nkind: Service\nmetadata:\n  labels:\n    %: a\n",
	}
	accepted := 0
	for field, text := range fields {
		lenient := strings.HasPrefix(field, "str") && field != "struct" || field == "label" || field == "key" // the oracle makes strings of numbers, as Kubernetes does not
		for _, v := range values {
			if field == "quantity" && (v == "1e400" || v == "e1") {
				continue // the oracle writes out the digits of the one, and the other has none
			}
			one := []byte(strings.ReplaceAll(text, "%", v))
			if compare(t, one) {
				accepted++
				continue
			}
			want := kinds[kindOf(text)]()
			if !lenient && !strings.Contains(v, "'") && !strings.HasPrefix(v, "!!") {
				require.Error(t, yaml.UnmarshalStrict(one, want), "Kubernetes accepts what we refuse: %s", one)
			}
		}
	}
	require.Greater(t, accepted, 300)
}

// kindOf returns the kind that a manifest says.
func kindOf(text string) string {
	_, rest, _ := strings.Cut(text, "kind: ")
	kind, _, _ := strings.Cut(rest, "\n")
	return kind
}

// Keys that are merged, repeated, or differ by case.
func TestKeysAreWhatKubernetesReads(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata:\n"
	for text, accepted := range map[string]bool{
		"  labels: &l {a: b, c: d}\n  annotations: {<<: *l, c: e}\n":                               true,
		"  labels: &l {a: b}\n  annotations: {c: e, <<: *l}\n":                                     true,
		"  labels: &l {a: b}\n  annotations: &m {a: c, e: f}\nspec:\n  selector: {<<: [*l, *m]}\n": true,
		"  labels: {a: b, a: c}\n":           false,
		"  labels: {a: b, A: c}\n":           true,
		"  name: a\n  Name: b\n":             false,
		"  Name: b\n":                        false,
		"  labels: {a: b}\n  labels: null\n": false,
		"  labels: {1: b}\n":                 true,
		"  labels: {? a : b}\n":              true,
		"  labels: {? [a] : b}\n":            false,
		"  labels: null\n":                   true,
		"  labels: {a: null}\n":              true,
		"  finalizers: [null, a]\n":          true,
		"  finalizers:\n  - a\n  -\n":        true,
	} {
		require.Equal(t, accepted, compare(t, []byte(service+text)), "%s", text)
	}
}

func FuzzObjects(f *testing.F) {
	names, err := filepath.Glob("testdata/guides/*.yaml")
	require.NoError(f, err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(f, err)
		for _, d := range split(text) {
			f.Add(d)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) { compare(t, text) })
}
