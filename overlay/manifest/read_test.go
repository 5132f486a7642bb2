package manifest_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// file is a file of a text.
func file(name, text string) manifest.File { return manifest.File{Name: name, Data: []byte(text)} }

// deployment is a manifest of one container.
func deployment(name string, replicas int, podSpec string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers: [{name: c, image: i}]
%[3]s---
`, name, replicas, podSpec)
}

// edited returns a file of testdata with a text in the place of another one.
func edited(t *testing.T, name, old, new string) manifest.File {
	t.Helper()
	f := load(t, name)[0]
	text := string(f.Data)
	require.Equal(t, 1, strings.Count(text, old), old)
	return file(name, strings.Replace(text, old, new, 1))
}

// What is wrong is told by file, line, field, value and rule, all of it at once.
func TestErrors(t *testing.T) {
	const shop = "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n"
	for name, tt := range map[string]struct {
		text, want string
		kind       error
	}{
		"nothing":           {"# only words\n", "f: missing: there is nothing in the file", flow.ErrMissing},
		"no YAML":           {"a: [1\nb: c\n", "f:2: cannot be read: is no YAML: did not find expected ',' or ']'", flow.ErrSyntax},
		"a word":            {"word\n", `f:1 "word": cannot be read: must be a map or a list`, flow.ErrSyntax},
		"empty list":        {"[]\n", "f:1 [0 elements]: missing: an empty list does not tell what it is of", flow.ErrMissing},
		"list of words":     {"[\na]\n", `f:2: [0] "a": cannot be read: must be a map of fields, as az prints it`, flow.ErrSyntax},
		"unknown map":       {"\na: 1\n", "f:2 {1 fields}: cannot be read: is neither a Kubernetes object (apiVersion and kind), nor a cluster file (apiVersion: natplane/v1), nor what az aks or az network print of a cluster (-o json)", flow.ErrSyntax},
		"other Azure":       {`{"type": "Microsoft.Network/routeTables"}`, "f:1 {1 fields}: not modelled: no use is made of this type of object", manifest.ErrNotModelled},
		"no kind":           {"apiVersion: v1\n", "f:1: kind: missing: an object has apiVersion and kind", flow.ErrMissing},
		"no version":        {"kind: Service\n", "f:1: apiVersion: missing: an object has apiVersion and kind", flow.ErrMissing},
		"old version":       {"apiVersion: extensions/v1beta1\nkind: Deployment\n", `f:1: apiVersion "extensions/v1beta1": out of range: Deployment has apps/v1`, flow.ErrOutOfRange},
		"headless":          {shop + "  clusterIP: None\n  type: LoadBalancer\n  ports: [{port: 80}]\n", "f:5: spec.clusterIP true: conflict: Type is LoadBalancer", flow.ErrConflict},
		"no name":           {"apiVersion: v1\nkind: Service\nmetadata: {}\n", "f:3: metadata.name: missing: an object has a name", flow.ErrMissing},
		"twice":             {shop + "  ports: [{port: 80}]\n---\n" + shop + "  ports: [{port: 81}]\n", `f:9: metadata.name "shop": duplicate name: there is such a Service in f:1 already`, flow.ErrDuplicateName},
		"list of lists":     {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List, items: []}\n", "f:4: items[0] {3 fields}: conflict: lists of lists are not read", flow.ErrConflict},
		"list of words, k":  {"apiVersion: v1\nkind: List\nitems: [a]\nitem: 1\n", "f:3: items[0] \"a\": cannot be read: must be an object\nf:4: item 1: unknown name: a list has apiVersion, kind, metadata and items", flow.ErrSyntax},
		"list of nothing":   {"apiVersion: v1\nkind: PodList\n", "f:1: items: missing: a list has items", flow.ErrMissing},
		"element":           {"apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n  spec: {prots: []}\n", "f:5: items[0].spec.prots [0 elements]: unknown name: did you mean ports?", flow.ErrUnknownName},
		"unknown field":     {shop + "  ports:\n  - port: 80\n    targetport: 8080\n", "f:7: spec.ports[0].targetport 8080: unknown name: did you mean targetPort?", flow.ErrUnknownName},
		"text for a number": {shop + "  ports: [{port: \"80\"}]\n", `f:5: spec.ports[0].port "80": cannot be read: must be a whole number`, flow.ErrSyntax},
		"number for a text": {shop + "  ports: [{port: 80}]\n  selector: {app: 1}\n", "f:6: spec.selector[app] 1: cannot be read: must be a string: put it in quotes", flow.ErrSyntax},
		"constants": {shop + "  type: Balancer\n  externalTrafficPolicy: Far\n  internalTrafficPolicy: Near\n  sessionAffinity: Cookie\n  ipFamilyPolicy: Many\n  ipFamilies: [IPv5]\n  ports: [{port: 80, protocol: ICMP}]\n",
			`f:5: spec.type "Balancer": out of range: must be one of ClusterIP, NodePort, LoadBalancer, ExternalName
f:6: spec.externalTrafficPolicy "Far": out of range: must be one of Cluster, Local
f:7: spec.internalTrafficPolicy "Near": out of range: must be one of Cluster, Local
f:8: spec.sessionAffinity "Cookie": out of range: None or ClientIP
f:9: spec.ipFamilyPolicy "Many": out of range: SingleStack, PreferDualStack or RequireDualStack
f:10: spec.ipFamilies[0] "IPv5": out of range: IPv4 or IPv6
f:11: spec.ports[0].protocol "ICMP": out of range: TCP, UDP or SCTP`, flow.ErrOutOfRange},
		"addresses": {shop + "  clusterIPs: [a]\n  externalIPs: [b]\n  loadBalancerIP: c\n  loadBalancerSourceRanges: [1.2.3.4]\n  healthCheckNodePort: -1\n  ports: [{port: 0, nodePort: 70000, targetPort: 70000}]\n  ipFamilyPolicy: SingleStack\n  ipFamilies:\n  - IPv4\n  - IPv6\n",
			`f:5: spec.clusterIPs[0] "a": not the address of a single host: must be an address such as 10.0.0.1
f:6: spec.externalIPs[0] "b": not the address of a single host: must be an address such as 10.0.0.1
f:7: spec.loadBalancerIP "c": not the address of a single host: must be an address such as 10.0.0.1
f:8: spec.loadBalancerSourceRanges[0] "1.2.3.4": prefix is not valid, or its host bits are not zero: must be a prefix such as 203.0.113.0/24
f:9: spec.healthCheckNodePort -1: out of range: 30000..32767
f:10: spec.ports[0].nodePort 70000: out of range: 1..65535
f:10: spec.ports[0].port 0: out of range: 1..65535
f:10: spec.ports[0].targetPort 70000: out of range: 1..65535
f:12: spec.ipFamilies: conflict: ipFamilyPolicy is SingleStack`, flow.ErrAddress},
		"what overlay refuses": {"apiVersion: v1\nkind: Service\nmetadata:\n  name: shop\n  annotations:\n    service.beta.kubernetes.io/azure-load-balancer-mode: __auto__\n    service.beta.kubernetes.io/azure-typo: x\nspec:\n  type: LoadBalancer\n  clusterIP: 10.9.0.1\n  externalIPs:\n  - 198.51.100.1\n  ports:\n  - {name: a, port: 80, nodePort: 80}\n  - {name: s, port: 1, protocol: SCTP}\n  - {name: b, port: 81,\n     nodePort: 81}\n",
			`f:6: metadata.annotations.service.beta.kubernetes.io/azure-load-balancer-mode "__auto__": not supported: chooses among load balancers of SKU Basic, LoadBalancerSKU is Standard
f:7: metadata.annotations.service.beta.kubernetes.io/azure-typo "x": unknown name: is no annotation of a Service on Azure
f:10: spec.clusterIP 10.9.0.1: out of range: must be in ServiceCIDRs [10.0.0.0/16]
f:11: spec.externalIPs [198.51.100.1]: not supported: AKS refuses external IPs; use Type LoadBalancer
f:14: spec.ports[0].nodePort 80: out of range: 30000..32767
f:17: spec.ports[2].nodePort 81: out of range: 30000..32767`, flow.ErrOutOfRange},
		"old address": {shop + "  type: LoadBalancer\n  loadBalancerIP: 168.63.129.16\n  ports: [{port: 80}]\n", "f:6: spec.loadBalancerIP 168.63.129.16: reserved", overlay.ErrReserved},
		"workload": {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: -1\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: b}}\n    spec: {containers: []}\n",
			`f:5: spec.replicas -1: out of range: 0..200000
f:6: spec.selector "app=a": conflict: the labels of spec.template do not fit
f:9: spec.template.spec.containers: missing: a pod has a container`, flow.ErrConflict},
		"selector": {"apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: d}\nspec:\n  template: {spec: {containers: [{name: a}]}}\n", "f:4: spec.selector: missing: it says which pods are of this DaemonSet", flow.ErrMissing},
		"ports of pods": {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  hostNetwork: true\n  containers:\n  - name: a\n    ports:\n    - {containerPort: 0}\n    - {containerPort: 80, hostPort: 70000}\n    - {containerPort: 80, hostPort: 81}\n    - {containerPort: 80, protocol: X}\n",
			`f:9: spec.containers[0].ports[0].containerPort 0: out of range: 1..65535
f:10: spec.containers[0].ports[1].hostPort 70000: out of range: 1..65535
f:11: spec.containers[0].ports[2].hostPort 81: conflict: with hostNetwork it is the containerPort, 80
f:12: spec.containers[0].ports[3].protocol "X": out of range: TCP, UDP or SCTP`, flow.ErrOutOfRange},
		"host ports": {"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    kubernetes.azure.com/assign-hostports-for-containerports: 80/tcp,90/tcp,x\nspec: {containers: [{name: a, ports: [{containerPort: 80}]}]}\n",
			"f:6: metadata.annotations.kubernetes.azure.com/assign-hostports-for-containerports", flow.ErrSyntax},
		"endless quantity": {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: a\n    resources: {limits: {cpu: \"1e-100000000\", memory: 1Gi}}\n",
			`f:7: spec.containers[0].resources.limits[cpu] "1e-100000000": cannot be read: is no Quantity of at most 60 digits and a factor of at most three`, flow.ErrSyntax},
		"too many pods": {deployment("a", 150_000, "") + deployment("b", 50_001, ""), "f:16: spec.replicas 50001: too many pods: the files have more than 200000 pods together", overlay.ErrTooManyPods},
		"cluster file": {"apiVersion: natplane/v2\nkind: Clutser\nname: x\nnodePool: []\nnodePools:\n- count: 3\n  maxPods: 300\n- {count: 2, maxPod: 3}\nnextHop: x\nhooks: {}\nicmp: {ttl: TTLRooter}\naddresses: {a: b}\n",
			`f:1: apiVersion "natplane/v2": out of range: must be natplane/v1
f:2: kind "Clutser": out of range: must be Cluster
f:4: nodePool [0 elements]: unknown name: did you mean nodePools?
f:7: nodePools[0].maxPods 300: out of range: 10..250
f:8: nodePools[1].maxPod 3: unknown name: did you mean maxPods?
f:9: nextHop "x": unknown name: takes a function, which a file cannot give
f:10: hooks {0 fields}: unknown name: takes a function, which a file cannot give
f:11: icmp.ttl "TTLRooter": out of range: must be one of TTLTransparent, TTLRouter
f:12: addresses[a] "b": not the address of a single host: must be an address or a prefix`, flow.ErrUnknownName},
		"what a cluster cannot be": {"apiVersion: natplane/v1\nkind: Cluster\npodCIDRs: [10.0.0.0/16]\nnodePools:\n- {name: a, count: 1}\n- name: b\n  maxPods: 300\n  nodePublicIP:\n    enabled: true\n    allowedHostPorts: 80\nloadBalancerProfile:\n  allocatedOutboundPorts: 12\n  idleTimeout: 3m\nfragments: {lifetime: 1s}\n",
			`f:3: podCIDRs[0] 10.0.0.0/16: overlap`, flow.ErrOutOfRange},
		"two cluster files": {"apiVersion: natplane/v1\nkind: Cluster\n---\napiVersion: natplane/v1\nkind: Cluster\n", "f:4 {2 fields}: duplicate name: there is a cluster file in f:1 already", flow.ErrDuplicateName},
		"kind is missing":   {"apiVersion: natplane/v1\n", "f:1 {1 fields}: missing: kind must be Cluster", flow.ErrMissing},
		"pool of nothing":   {"apiVersion: natplane/v1\nkind: Cluster\nnodePools: [{name: a}]\n", "f:3: nodePools", flow.ErrMissing},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := manifest.Read(file("f", tt.text))
			require.Error(t, err)
			assert.Nil(t, c)
			assert.ErrorIs(t, err, tt.kind)
			if got := err.Error(); !strings.HasPrefix(got, tt.want) {
				assert.Equal(t, tt.want, got)
			}
		})
	}
}

// The problems of several files come together, by file and line.
func TestErrorsOfAllFiles(t *testing.T) {
	_, err := manifest.Read(
		file("b.yaml", "apiVersion: natplane/v1\nkind: Cluster\nnodePools: 3\n"),
		file("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: 1}\n"),
		file("c.json", "{"),
	)
	assert.EqualError(t, err, `a.yaml:4: spec.port 1: unknown name: did you mean ports?
b.yaml:3: nodePools 3: cannot be read: must be a list
c.json:1: cannot be read: is no JSON: unexpected end of JSON input`)
}

// Whatever kind of problem a file has, those of other kinds come with it: in it and in other files, as far
// as they do not depend on what could not be read.
func TestErrorsOfAllKindsComeTogether(t *testing.T) {
	const (
		broken  = "a: [1\nb: 2\n"
		service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  type: LoadBalancer\n"
		cluster = "apiVersion: natplane/v1\nkind: Cluster\n"
	)
	for name, tt := range map[string]struct {
		files []string
		want  string
	}{
		"syntax, values and what cannot be": {
			[]string{cluster + "podCIDRs: [x]\nnodePools: [{name: a, count: many}]\nloadBalancerProfile: {idleTimeout: 200m}\n", service + "  prots: []\n", broken},
			`a:3: podCIDRs[0] "x": prefix is not valid, or its host bits are not zero: must be a prefix such as 10.0.0.0/16
a:4: nodePools[0].count "many": cannot be read: must be a whole number
a:5: loadBalancerProfile.idleTimeout 3h20m0s: out of range: must be 4 to 120 whole minutes
b:7: spec.prots [0 elements]: unknown name: did you mean ports?
c:2: cannot be read: is no YAML: did not find expected ',' or ']'`,
		},
		"a broken file and a Service that cannot be": {
			[]string{broken, service + "  ports: [{port: 80, nodePort: 80}]\n  clusterIP: 10.9.0.1\n", service + "  prots: []\n"},
			`a:2: cannot be read: is no YAML: did not find expected ',' or ']'
b:7: spec.ports[0].nodePort 80: out of range: 30000..32767
c:7: spec.prots [0 elements]: unknown name: did you mean ports?`,
		},
		"a cluster that cannot be and a Service that cannot be": {
			[]string{cluster + "serviceCIDRs: [10.0.0.0/11]\n", service + "  ports: [{port: 80, nodePort: 80}]\n  clusterIP: 10.9.0.1\n", service + "  prots: []\n"},
			`a:3: serviceCIDRs[0] 10.0.0.0/11: out of range: must be /13 or smaller
b:7: spec.ports[0].nodePort 80: out of range: 30000..32767
c:7: spec.prots [0 elements]: unknown name: did you mean ports?`,
		},
		"a Service that cannot be beside one that cannot be read": {
			[]string{cluster + "serviceCIDRs: [10.9.0.0/16]\n", service + "  ports: [{port: 80}]\n  clusterIP: 10.0.0.9\n", service + "  prots: []\n"},
			`b:8: spec.clusterIP 10.0.0.9: out of range: must be in ServiceCIDRs [10.9.0.0/16]
c:7: spec.prots [0 elements]: unknown name: did you mean ports?`,
		},
		"documents of one file": {
			[]string{service + "  prots: []\n---\n" + broken + "--- # next\nc: 1\nc: 2\n---\n" + strings.Replace(service, "name: a", "name: b", 1) + "  ports: [{port: 80, nodePort: 80}]\n"},
			`a:7: spec.prots [0 elements]: unknown name: did you mean ports?
a:9: cannot be read: is no YAML: did not find expected ',' or ']'
a:13: cannot be read: has the key "c" twice, first in line 12
a:21: spec.ports[0].nodePort 80: out of range: 30000..32767`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var files []manifest.File
			for i, text := range tt.files {
				files = append(files, file(string(rune('a'+i)), text))
			}
			c, err := manifest.Read(files...)
			assert.EqualError(t, err, tt.want)
			assert.Nil(t, c)
		})
	}
}

// What a cluster cannot be is told by where the files say it, each field at its line.
func TestProblemsOfOverlayAreLocated(t *testing.T) {
	_, err := manifest.Read(file("f", "apiVersion: natplane/v1\nkind: Cluster\npodCIDRs: [10.0.0.0/16]\nnodePools:\n- {name: a, count: 1}\n- name: b\n  maxPods: 300\n  nodePublicIP:\n    enabled: true\n    allowedHostPorts: 80\nloadBalancerProfile:\n  allocatedOutboundPorts: 12\n  idleTimeout: 3m\nfragments: {lifetime: 1s}\n"))
	require.Error(t, err)
	for _, line := range []string{
		"f:3: podCIDRs[0] 10.0.0.0/16: overlap", "f:7: nodePools[1].maxPods 300: out of range", "f:10: nodePools[1].nodePublicIP.allowedHostPorts[0] \"80\": ",
		"f:12: loadBalancerProfile.allocatedOutboundPorts 12: ", "f:13: loadBalancerProfile.idleTimeout 3m0s: ", "f:14: fragments.lifetime 1s: ",
	} {
		assert.Contains(t, "\n"+err.Error(), "\n"+line)
	}
}

func TestAzure(t *testing.T) {
	c, r := start(t, load(t, "aks-show.json", "nodepool-list.json", "outbound-rule-list.json")...)
	assert.Equal(t, overlay.ClusterConfig{
		Name: "shop", IPFamilies: "ipv4",
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}, DNSServiceIP: netip.MustParseAddr("10.0.0.10"),
		NodePools: []overlay.NodePool{
			{Name: "system", Count: 2, MaxSurge: "10%", MaxPods: 250},
			{Name: "apps", Count: 3, MinCount: 2, MaxCount: 6, MaxSurge: "10%", MaxPods: 250},
			{Name: "edge", Count: 1, MaxSurge: "10%", MaxPods: 250, NodePublicIP: overlay.NodePublicIP{Enabled: true, Tags: []string{"RoutingPreference=Internet"}, AllowedHostPorts: "40000-59999/tcp,53/udp"}},
		},
		LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 4000, IdleTimeout: 10 * time.Minute},
	}, c.Config)
	require.Len(t, c.NotModelled, 1)
	assert.Contains(t, c.NotModelled[0].String(), "aks-show.json:256: networkProfile.loadBalancerProfile.effectiveOutboundIPs: the addresses of the outbound IPs are in no file")
	assert.Len(t, r.Nodes(), 6)

	t.Run("gateway pool", func(t *testing.T) {
		pool := `[{"type": "Microsoft.ContainerService/managedClusters/agentPools", "name": "gw", "count": %d, "mode": "Gateway", "gatewayProfile": {"publicIpPrefixSize": 30}}]`
		c, err := manifest.Read(manifest.File{Name: "f", Data: fmt.Appendf(nil, pool, 4)})
		require.NoError(t, err)
		assert.Equal(t, []overlay.NodePool{{Name: "gw", Count: 4, Mode: overlay.ModeGateway, GatewayPublicIPPrefixSize: 30}}, c.Config.NodePools)
		_, err = manifest.Read(manifest.File{Name: "f", Data: fmt.Appendf(nil, pool, 5)})
		require.ErrorIs(t, err, overlay.ErrTooManyNodes)
		assert.ErrorContains(t, err, "f:1: [0].count 5: too many nodes")

		c, err = manifest.Read(edited(t, "aks-show.json", `"staticEgressGatewayProfile": null`, `"staticEgressGatewayProfile": {"enabled": true}`))
		require.NoError(t, err)
		assert.NotContains(t, fmt.Sprint(omissions(c)), "staticEgressGatewayProfile", "it is modelled: pools and StaticGatewayConfigurations say all of it")
	})

	t.Run("Basic", func(t *testing.T) {
		shown := `{"type": "Microsoft.ContainerService/ManagedClusters", "name": "old", "networkProfile": {"networkPlugin": "azure", "networkPluginMode": "overlay",
			"loadBalancerSku": "Basic", "outboundType": "loadBalancer"}, "agentPoolProfiles": [{"name": "p", "count": 1}]}`
		c, err := manifest.Read(manifest.File{Name: "f", Data: []byte(shown)})
		require.NoError(t, err)
		assert.Equal(t, lb.Basic, c.Config.LoadBalancerSKU)
		require.NoError(t, c.Config.Validate())
	})

	t.Run("one probe for all Services", func(t *testing.T) {
		for mode, omitted := range map[string]int{"ServiceNodePort": 1, "Shared": 1, "Other": 2} {
			files := load(t, "aks-show.json")
			files[0].Data = bytes.Replace(files[0].Data, []byte(`"backendPoolType":`), []byte(`"clusterServiceLoadBalancerHealthProbeMode": "`+mode+`", "backendPoolType":`), 1)
			c, err := manifest.Read(files...)
			require.NoError(t, err)
			require.Len(t, c.NotModelled, omitted)
			assert.Equal(t, mode == "Shared", c.Config.LoadBalancerProfile.ClusterServiceLoadBalancerHealthProbeMode == overlay.HealthProbeShared)
			if omitted > 1 {
				assert.Contains(t, c.NotModelled[0].String(), "aks-show.json:255: networkProfile.loadBalancerProfile.clusterServiceLoadBalancerHealthProbeMode Other: ServiceNodePort or Shared")
			}
		}
	})

	t.Run("without the cluster", func(t *testing.T) {
		parts, err := manifest.Read(load(t, "nodepool-list.json", "outbound-rule-list.json")...)
		require.NoError(t, err)
		assert.Equal(t, c.Config.NodePools, parts.Config.NodePools)
		assert.Equal(t, c.Config.LoadBalancerProfile, parts.Config.LoadBalancerProfile)
	})
	t.Run("distribution", func(t *testing.T) {
		for sku, want := range map[string]overlay.OSSKU{"AzureLinux": overlay.AzureLinux, "AzureLinux3": overlay.AzureLinux, "CBLMariner": overlay.AzureLinux, "Ubuntu2404": overlay.Ubuntu} {
			f := load(t, "aks-show.json")[0]
			f.Data = []byte(strings.ReplaceAll(string(f.Data), `"osSku": "Ubuntu"`, `"osSku": "`+sku+`"`))
			c, err := manifest.Read(f)
			require.NoError(t, err)
			assert.Equal(t, want, c.Config.NodePools[0].OSSKU, sku)
		}
	})
	t.Run("addresses", func(t *testing.T) {
		c, err := manifest.Read(load(t, "aks-show.json")[0], file("c", "apiVersion: natplane/v1\nkind: Cluster\naddresses: {11111111-2222-3333-4444-555555555555: 198.51.100.9}\n"))
		require.NoError(t, err)
		assert.Empty(t, c.NotModelled)
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("198.51.100.9")}, c.Config.LoadBalancerProfile.OutboundIPs)
	})
	t.Run("cluster file on top", func(t *testing.T) {
		c, err := manifest.Read(file("c", "apiVersion: natplane/v1\nkind: Cluster\nnodePools: [{name: apps, count: 5}, {name: more, count: 1}]\nloadBalancerProfile: {allocatedOutboundPorts: 2000}\n"), load(t, "aks-show.json")[0])
		require.NoError(t, err)
		require.Len(t, c.Config.NodePools, 4)
		assert.Equal(t, overlay.NodePool{Name: "apps", Count: 5, MinCount: 2, MaxCount: 6, MaxSurge: "10%", MaxPods: 250}, c.Config.NodePools[1])
		assert.Equal(t, 2000, c.Config.LoadBalancerProfile.AllocatedOutboundPorts)
		assert.Equal(t, 10*time.Minute, c.Config.LoadBalancerProfile.IdleTimeout)
	})
	t.Run("own addresses and subnets", func(t *testing.T) {
		own := edited(t, "aks-show.json", `"outboundIPs": null`, `"outboundIPs": {"publicIPs": [{"id": "/x/publicIPAddresses/a"}, {"id": "/x/publicIPAddresses/b"}]}`)
		own.Data = []byte(strings.NewReplacer(`"outboundIpPrefixes": null`, `"outboundIpPrefixes": {"publicIpPrefixes": [{"id": "/x/publicIPPrefixes/p"}]}`,
			`"vnetSubnetId": null`, `"vnetSubnetId": "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/nodes"`,
			`"enableNodePublicIp": false`, `"enableNodePublicIp": true`, `"nodePublicIpPrefixId": null`, `"nodePublicIpPrefixId": "/x/publicIPPrefixes/nodes"`).Replace(string(own.Data)))
		c, err := manifest.Read(own, file("c", "apiVersion: natplane/v1\nkind: Cluster\naddresses: {B: 198.51.100.9, nodes: 198.51.100.32/28}\n"))
		require.NoError(t, err)
		p := c.Config.LoadBalancerProfile
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("20.51.0.1"), netip.MustParseAddr("198.51.100.9")}, p.OutboundIPs)
		assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("20.52.0.0/28")}, p.OutboundIPPrefixes)
		assert.Zero(t, p.ManagedOutboundIPCount)
		assert.Equal(t, "hub", c.Config.VNet.Name)
		assert.Equal(t, "net", c.Config.VNet.ResourceGroup)
		assert.Equal(t, []overlay.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/16")}}}, c.Config.VNet.Subnets)
		assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("198.51.100.32/28")}, c.Config.NodePools[2].NodePublicIP.Prefixes)
		assert.Len(t, c.NotModelled, 3, "%v", c.NotModelled) // a, p, and the subnet
	})
}

func TestAzureErrors(t *testing.T) {
	for name, tt := range map[string]struct{ file, old, new, want string }{
		"plugin":      {"aks-show.json", `"networkPlugin": "azure"`, `"networkPlugin": "none"`, `aks-show.json:275: networkProfile.networkPlugin "none": not modelled: azure and kubenet are`},
		"mode":        {"aks-show.json", `"networkPluginMode": "overlay"`, `"networkPluginMode": "chained"`, `aks-show.json:276: networkProfile.networkPluginMode "chained": not modelled: overlay is, and none`},
		"kubenet":     {"aks-show.json", `"networkPlugin": "azure"`, `"networkPlugin": "kubenet"`, `aks-show.json:276: networkProfile.networkPluginMode "overlay": not modelled: kubenet has no mode`},
		"node subnet": {"aks-show.json", `"networkPluginMode": "overlay"`, `"networkPluginMode": null`, `aks-show.json:280: networkProfile.podCidrs [10.244.0.0/16]: conflict: with NetworkPlugin nodeSubnet`},
		"policy":      {"aks-show.json", `"networkPolicy": "none"`, `"networkPolicy": "weave"`, `aks-show.json:277: networkProfile.networkPolicy "weave": out of range: must be one of none, azure, calico, cilium`},
		"sku":         {"aks-show.json", `"loadBalancerSku": "standard"`, `"loadBalancerSku": "gateway"`, `aks-show.json:271: networkProfile.loadBalancerSku "gateway": not modelled: standard and basic are`},
		"type":        {"aks-show.json", `"outboundType": "loadBalancer"`, `"outboundType": "internet"`, `aks-show.json:278: networkProfile.outboundType "internet": out of range: must be one of loadBalancer, managedNATGateway`},
		"field":       {"aks-show.json", `"ipFamilies"`, `"ipFamilees"`, `aks-show.json:250: networkProfile.ipFamilees [1 elements]: unknown name: did you mean ipFamilies?`},
		"range":       {"aks-show.json", `"podCidr": "10.244.0.0/16"`, `"podCidr": "10.244.0.0"`, `aks-show.json:279: networkProfile.podCidr "10.244.0.0": prefix is not valid`},
		"ports":       {"aks-show.json", `"allocatedOutboundPorts": 4000`, `"allocatedOutboundPorts": 4001`, `aks-show.json:254: networkProfile.loadBalancerProfile.allocatedOutboundPorts 4001: not a multiple of 8`},
		"rule":        {"outbound-rule-list.json", `"allocatedOutboundPorts": 4000`, `"allocatedOutboundPorts": 8000`, `outbound-rule-list.json:3: [0].allocatedOutboundPorts 8000: conflict: aks-show.json:254: networkProfile.loadBalancerProfile.allocatedOutboundPorts says 4000`},
		"rule, idle":  {"outbound-rule-list.json", `"idleTimeoutInMinutes": 10`, `"idleTimeoutInMinutes": 30`, `outbound-rule-list.json:17: [0].idleTimeoutInMinutes 30: conflict: aks-show.json:263: networkProfile.loadBalancerProfile.idleTimeoutInMinutes says 10`},
		"protocol":    {"outbound-rule-list.json", `"protocol": "All"`, `"protocol": "Tcp"`, `outbound-rule-list.json:19: [0].protocol "Tcp": not modelled: the outbound rule of a cluster is for All`},
		"pool":        {"nodepool-list.json", `"count": 3`, `"count": 4`, `nodepool-list.json:90: [1].name "apps": conflict: aks-show.json:67: agentPoolProfiles[1] says something else of this pool`},
	} {
		t.Run(name, func(t *testing.T) {
			files := []manifest.File{edited(t, tt.file, tt.old, tt.new)}
			for _, f := range load(t, "aks-show.json", "nodepool-list.json", "outbound-rule-list.json") {
				if f.Name != tt.file && (f.Name == "aks-show.json" || tt.file == "aks-show.json") {
					files = append(files, f)
				}
			}
			if tt.file == "aks-show.json" {
				files = files[:1]
			}
			_, err := manifest.Read(files...)
			require.Error(t, err)
			if got := err.Error(); !strings.HasPrefix(got, tt.want) {
				assert.Equal(t, tt.want, got)
			}
		})
	}
}

// az says which network plugin there is, and which pools are of Windows.
func TestPluginsOfAzure(t *testing.T) {
	az := func(changes ...string) manifest.File {
		f := load(t, "aks-show.json")[0]
		f.Data = []byte(strings.NewReplacer(changes...).Replace(string(f.Data)))
		return f
	}
	c, r := start(t, az(`"networkPlugin": "azure"`, `"networkPlugin": "kubenet"`, `"networkPluginMode": "overlay"`, `"networkPluginMode": null`), file("f", deployment("x", 1, "")))
	assert.Equal(t, cni.Kubenet, c.Config.NetworkPlugin)
	p, _ := r.Pod("default/x-0")
	assert.Equal(t, "10.244.2.2", p.Addrs[0].String())

	c, r = start(t, az(`"networkPluginMode": "overlay"`, `"networkPluginMode": null`, `"podCidr": "10.244.0.0/16"`, `"podCidr": null`, "\"podCidrs\": [\n      \"10.244.0.0/16\"\n    ]", `"podCidrs": null`, `"maxPods": 250`, `"maxPods": 30`), file("f", deployment("x", 1, "")))
	assert.Equal(t, cni.NodeSubnet, c.Config.NetworkPlugin)
	p, _ = r.Pod("default/x-0")
	assert.True(t, netip.MustParsePrefix("10.224.0.0/16").Contains(p.Addrs[0]), "%v", p.Addrs)

	t.Run("Windows", func(t *testing.T) {
		text := "apiVersion: natplane/v1\nkind: Cluster\nnodePools: [{name: a, count: 1}, {name: win, count: 2, osType: Windows, maxPods: 110}]\n"
		pods := deployment("x", 2, "      nodeSelector: {kubernetes.io/os: windows}\n") + deployment("z", 1, "      nodeSelector: {kubernetes.io/os: linux}\n")
		_, r := start(t, file("c", text), file("f", pods))
		assert.Equal(t, "win0 win1", nodesOf(r, "default/x"))
		assert.Equal(t, "a0", nodesOf(r, "default/z"))

		pool := `{"type": "Microsoft.ContainerService/managedClusters/agentPools", "name": "%", "count": 1, `
		c, err := manifest.Read(file("pools", "["+strings.Replace(pool, "%", "a", 1)+`"osType": "Linux"},`+strings.Replace(pool, "%", "win", 1)+`"maxPods": 110, "osType": "Windows", "osSku": "Windows2022", "windowsProfile": {"disableOutboundNat": true}}]`),
			file("c", "apiVersion: natplane/v1\nkind: Cluster\noutboundType: userDefinedRouting\n"))
		require.NoError(t, err)
		assert.Equal(t, overlay.NodePool{Name: "win", Count: 1, MaxPods: 110, OSType: overlay.Windows, DisableOutboundNAT: true}, c.Config.NodePools[1])
		_, err = manifest.Read(file("pool", strings.Replace(pool, "%", "win", 1)+`"osType": "Windows"}`))
		assert.ErrorContains(t, err, "pool:1: osType Windows: conflict: the first pool")
	})
}

// Pods with the annotation leave by the static gateway of the custom resource.
func TestStaticGateways(t *testing.T) {
	const pools = "apiVersion: natplane/v1\nkind: Cluster\nnodePools: [{name: gw, count: 2, mode: Gateway, gatewayPublicIPPrefixSize: 30}, {name: apps, count: 2}]\n"
	gateway := func(spec string) string {
		return "apiVersion: egressgateway.kubernetes.azure.com/v1alpha1\nkind: StaticGatewayConfiguration\nmetadata: {name: bank}\nspec:\n  gatewayNodepoolName: gw\n" + spec + "---\n"
	}
	pods := strings.Replace(deployment("x", 2, ""), "metadata: {labels", "metadata: {annotations: {kubernetes.azure.com/static-gateway-configuration: bank}, labels", 1) + deployment("z", 1, "")
	_, r := start(t, file("c", pools), file("f", gateway("  publicIpPrefixId: /x/publicIPPrefixes/block\n  excludeCidrs: [203.0.113.128/25]\n")+pods), file("p", publicPrefix))
	assert.Equal(t, "apps0 apps1", nodesOf(r, "default/x"))
	require.Len(t, r.StaticGateways(), 1)
	assert.Equal(t, netip.MustParsePrefix("198.51.100.16/30"), r.StaticGateways()[0].PublicIPPrefix)
	users := 0
	for _, n := range r.StaticGateways()[0].Nodes {
		users += n.Pods
	}
	assert.Equal(t, 2, users)

	c, _ := start(t, file("c", pools), file("f", gateway("  publicIpPrefixId: /x/publicIPPrefixes/block\n  provisionPublicIps: false\n")))
	assert.Equal(t, []string{"f:6: spec.publicIpPrefixId block: the range of the prefix is in no file, such as az network public-ip prefix list prints; one of 20.61.0.0/16 stands for it",
		"f:7: spec.provisionPublicIps false: the gateway has public addresses all the same"}, omissions(c))

	_, err := manifest.Read(file("f", pods))
	assert.ErrorContains(t, err, `f:8: spec.template.metadata.annotations.kubernetes.azure.com/static-gateway-configuration "bank": unknown name: no file has a StaticGatewayConfiguration default/bank`)
	_, err = manifest.Read(file("f", gateway("  excludeCidrs: [10.0.0.1/8]\n")))
	assert.ErrorContains(t, err, "f:5: spec.gatewayNodepoolName \"gw\": unknown name")
	assert.ErrorContains(t, err, "f:6: spec.excludeCidrs[0] 10.0.0.1/8: prefix is not valid")
}
