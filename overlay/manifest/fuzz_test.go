package manifest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// seeds are all files of testdata that are read.
func seeds(f *testing.F, pattern string) (texts [][]byte) {
	f.Helper()
	for _, dir := range []string{"testdata", "testdata/guides"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(f, err)
		for _, name := range names {
			data, err := os.ReadFile(name)
			require.NoError(f, err)
			texts = append(texts, data)
		}
	}
	require.NotEmpty(f, texts)
	return texts
}

// few is so small that whatever a file says can be started in no time.
const fewPods = 200

// check reads files twice: both times the same comes out, either errors that name a file or a
// cluster that can be started.
func check(t *testing.T, files ...manifest.File) {
	t.Helper()
	c, err := manifest.Read(files...)
	again, err2 := manifest.Read(files...)
	if err != nil {
		require.EqualError(t, err2, err.Error())
		require.Nil(t, c)
		for _, line := range strings.Split(err.Error(), "\n") {
			assert.Regexp(t, `(?s)^(f|g).*`, line+" f", "every problem is told by its file")
		}
		return
	}
	require.NoError(t, err2)
	require.Equal(t, c.NotModelled, again.NotModelled)
	require.Equal(t, c.Config, again.Config)
	pods, nodes := 0, 0
	for _, w := range c.Workloads {
		pods += w.Replicas
	}
	for _, p := range c.Config.NodePools {
		nodes += p.Count
	}
	if pods > fewPods || nodes > fewPods {
		return
	}
	r, err := c.Start(0)
	require.NoError(t, err, "Read has looked at it")
	defer r.Close()
	r2, err := again.Start(0)
	require.NoError(t, err)
	defer r2.Close()
	require.Equal(t, tell(c, r), tell(again, r2))
}

// FuzzClusterFile reads any text as a cluster file.
func FuzzClusterFile(f *testing.F) {
	for _, s := range seeds(f, "*.cluster.yaml") {
		f.Add(string(s))
	}
	f.Add("apiVersion: natplane/v1\nkind: Cluster\nnodePools: [{name: a, count: 1, nodePublicIP: {enabled: true, prefixes: [20.0.0.0/28]}}]\noutboundType: userAssignedNATGateway\nnatGatewayProfile: {natGateway: {publicIPAddresses: [20.1.1.1]}}\n")
	f.Add("apiVersion: natplane/v1\nkind: Cluster\nsecurityGroups: {networkSecurityGroups: [{name: g, securityRules: [{name: r, priority: 100, access: Allow, protocol: Tcp, sourceAddressPrefixes: ['*'], destinationAddressPrefixes: ['*'], destinationPortRanges: ['80']}]}]}\ntcp: {share: ShareNever}\ntimeouts: {udp: 5m}\n")
	f.Fuzz(func(t *testing.T, text string) { check(t, file("f", text)) })
}

// FuzzManifests reads any text as manifests.
func FuzzManifests(f *testing.F) {
	for _, s := range seeds(f, "*.yaml") {
		f.Add(string(s))
	}
	f.Add(deployment("x", 3, "      hostNetwork: true\n"))
	f.Add(deployment("web", 2, "") + policy("p", "podSelector: {matchLabels: {app: web}}\n  ingress: [{from: [{namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: http}, {port: 1, endPort: 2}]}]"))
	f.Add(masqueraded("azure-ip-masq-agent-config", "ip-masq-agent", "    nonMasqueradeCIDRs: [10.30.0.0/16]\n    masqLinkLocal: true\n"))
	f.Add("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 5432}]}\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets: [{addresses: [{ip: 10.225.0.9}], ports: [{port: 6432}]}]\n")
	f.Add("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nports: [{port: 1}]\nendpoints: [{addresses: [10.9.9.9], conditions: {ready: true}}]\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n")
	f.Add("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {parallelism: 2, completions: 3, template: {spec: {containers: [{name: c}]}}}\n")
	f.Add("apiVersion: v1\nkind: Service\nmetadata: {name: i, annotations: {service.beta.kubernetes.io/azure-load-balancer-internal: \"true\"}}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\nstatus: {loadBalancer: {ingress: [{ip: 10.224.0.4}]}}\n")
	f.Fuzz(func(t *testing.T, text string) { check(t, file("f", text), file("g", twoPools)) })
}

// FuzzAzure reads any text as what az prints.
func FuzzAzure(f *testing.F) {
	for _, s := range seeds(f, "*.json") {
		f.Add(string(s))
	}
	f.Add(`{"agentPoolProfiles":[{"name":"a","count":1,"vnetSubnetId":"/virtualNetworks/v/subnets/s"}],"networkProfile":{"loadBalancerProfile":{"outboundIPs":{"publicIPs":[{"id":"x"}]}}}}`)
	for _, s := range []string{publicIPs, publicPrefix, natGateway, vnet, balancer, "[" + natGateway + "," + vnet + "," + balancer + "," + publicPrefix + "]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check(t, file("f", text), file("g", "apiVersion: natplane/v1\nkind: Cluster\naddresses: {x: 198.51.100.1, y: 198.51.100.16/28}\n"))
	})
}
