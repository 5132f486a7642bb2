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
