package manifest_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// nodesOf returns the short names of the nodes of the pods of a workload: "a0 a1".
func nodesOf(r *manifest.Running, prefix string) string {
	var nodes []string
	for _, p := range r.Pods {
		if strings.HasPrefix(p.Name, prefix) {
			name := strings.TrimPrefix(p.Node, "aks-")
			pool, number, _ := strings.Cut(name, "-vmss")
			nodes = append(nodes, pool+strings.TrimLeft(number[:5], "0")+number[5:])
		}
	}
	return strings.Join(nodes, " ")
}

const twoPools = `apiVersion: natplane/v1
kind: Cluster
nodePools: [{name: a, count: 2, maxPods: 10}, {name: b, count: 1, maxPods: 10}]
`

func TestPlacement(t *testing.T) {
	for name, tt := range map[string]struct{ text, pods, pending string }{
		"spread":            {deployment("x", 5, ""), "a0 a1 b0 a0 a1", ""},
		"fewest pods first": {deployment("z", 2, "") + deployment("x", 2, ""), "b0 a0", ""},
		"full": {deployment("x", 32, ""), strings.TrimSpace(strings.Repeat("a0 a1 b0 ", 10)),
			"default/x-30: nodes run their 10 pods, default/x-31: nodes run their 10 pods"},
		"pool":            {deployment("x", 2, "      nodeSelector: {agentpool: b}\n"), "b0 b0", ""},
		"AKS's label":     {deployment("x", 1, "      nodeSelector: {kubernetes.azure.com/agentpool: b, kubernetes.io/os: linux, kubernetes.io/arch: arm64}\n"), "b0", ""},
		"name of a node":  {deployment("x", 2, "      nodeSelector: {kubernetes.io/hostname: aks-a-12345678-vmss000001}\n"), "a1 a1", ""},
		"Windows":         {deployment("x", 1, "      nodeSelector: {beta.kubernetes.io/os: windows}\n"), "", "default/x-0: pool b has no label beta.kubernetes.io/os=windows"},
		"unknown label":   {deployment("x", 1, "      nodeSelector: {disk: fast}\n"), "", "default/x-0: pool b has no label disk=fast"},
		"node by name":    {deployment("x", 2, "      nodeName: aks-a-vmss000001\n"), "a1 a1", ""},
		"no such node":    {deployment("x", 1, "      nodeName: c\n"), "", "default/x-0: there is no node c"},
		"ports of a node": {strings.ReplaceAll(deployment("x", 4, ""), "image: i", "image: i, ports: [{containerPort: 80, hostPort: 8080}]"), "a0 a1 b0", "default/x-3: port 8080 of nodes is taken"},
		"host network": {strings.ReplaceAll(deployment("x", 4, "      hostNetwork: true\n"), "image: i", "image: i, ports: [{containerPort: 80}]"),
			"a0 a1 b0", "default/x-3: port 80 of nodes is taken"},
		"same port, other protocol": {strings.ReplaceAll(deployment("z", 3, ""), "image: i", "image: i, ports: [{containerPort: 80, hostPort: 8080, protocol: UDP}]") +
			strings.ReplaceAll(deployment("x", 3, ""), "image: i", "image: i, ports: [{containerPort: 80, hostPort: 8080}]"), "a0 a1 b0", ""},
		"daemon": {"apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: x}\nspec:\n  selector: {matchLabels: {app: x}}\n  template: {metadata: {labels: {app: x}}, spec: {nodeSelector: {agentpool: a}, containers: [{name: c}]}}\n", "a0 a1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := start(t, file("pods", tt.text), file("cluster", twoPools))
			assert.Equal(t, tt.pods, nodesOf(r, "default/x"))
			var pending []string
			for _, p := range r.Pending {
				pending = append(pending, p.Pod+": "+p.Reason)
			}
			assert.Equal(t, tt.pending, strings.Join(pending, ", "))
		})
	}
}

// Pools of az have taints and labels.
func TestTaints(t *testing.T) {
	for name, tt := range map[string]struct{ spec, taint, pods string }{
		"none of its tolerations": {"", "", "apps0 apps1 apps2 edge0"},
		"tolerates the key":       {"      tolerations: [{key: CriticalAddonsOnly, operator: Exists}]\n", "", "system0 system1 apps0 apps1"},
		"tolerates all":           {"      tolerations: [{operator: Exists}]\n", "", "system0 system1 apps0 apps1"},
		"tolerates the value":     {"      tolerations: [{key: CriticalAddonsOnly, value: \"true\", effect: NoSchedule}]\n", "", "system0 system1 apps0 apps1"},
		"another value":           {"      tolerations: [{key: CriticalAddonsOnly, value: \"false\"}]\n", "", "apps0 apps1 apps2 edge0"},
		"another effect":          {"      tolerations: [{key: CriticalAddonsOnly, operator: Exists, effect: NoExecute}]\n", "", "apps0 apps1 apps2 edge0"},
		"a wish only":             {"", "CriticalAddonsOnly=true:PreferNoSchedule", "system0 system1 apps0 apps1"},
		"label of the pool":       {"      nodeSelector: {tier: web}\n", "", "apps0 apps1 apps2 apps0"},
		"mode":                    {"      nodeSelector: {kubernetes.azure.com/mode: user}\n", "", "apps0 apps1 apps2 edge0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := load(t, "aks-show.json")[0]
			if tt.taint != "" {
				f = edited(t, "aks-show.json", "CriticalAddonsOnly=true:NoSchedule", tt.taint)
			}
			_, r := start(t, f, file("pods", deployment("x", 4, tt.spec)))
			assert.Equal(t, tt.pods, nodesOf(r, "default/x"))
		})
	}
}

// What kubectl prints has pods and their owners: the pods stand for them.
func TestPodsOfOwners(t *testing.T) {
	owned := func(name, kind, owner, node string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: ns, uid: u, labels: {app: x}, ownerReferences: [{apiVersion: apps/v1, kind: %s, name: %s, uid: v, controller: true}]}\nspec: {nodeName: %s, containers: [{name: c}]}\nstatus: {phase: Running, podIP: 10.244.0.9}\n---\n", name, kind, owner, node)
	}
	text := strings.ReplaceAll(deployment("x", 3, "")+deployment("z", 1, ""), "metadata: {name: ", "metadata: {namespace: ns, name: ") +
		"apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: x-66f, namespace: ns, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: x, uid: v, controller: true}]}\nspec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c}]}}}\n---\n" +
		owned("x-66f-abcde", "ReplicaSet", "x-66f", "aks-a-12345678-vmss000001") + owned("x-66f-fghij", "ReplicaSet", "x-66f", "aks-b-12345678-vmss000000") +
		"apiVersion: v1\nkind: Pod\nmetadata: {name: done, namespace: ns}\nspec: {containers: [{name: c}]}\nstatus: {phase: Succeeded}\n---\n" +
		"apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: ns}\nspec: {ports: [{port: 80}], selector: {app: x}}\n"
	_, r := start(t, file("all", text), file("cluster", twoPools))
	assert.Equal(t, "a1 b0", nodesOf(r, "ns/x"))
	assert.Len(t, r.Pods, 3)
	assert.Equal(t, "ns/z-0", r.Pods[0].Name)
	assert.Len(t, r.Services()[0].Endpoints, 2)

	t.Run("without the ReplicaSet", func(t *testing.T) {
		without := strings.Split(text, "---\n")
		_, r := start(t, file("all", strings.Join(append(without[:2:2], without[3:]...), "---\n")), file("cluster", twoPools))
		assert.Equal(t, "a1 b0", nodesOf(r, "ns/x"))
	})
}

// Workloads of one name have pods of different names.
func TestNames(t *testing.T) {
	set := strings.ReplaceAll(deployment("x", 2, ""), "kind: Deployment", "kind: StatefulSet")
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: z-0}\nspec: {containers: [{name: c}]}\n---\n"
	_, r := start(t, file("f", set+deployment("x", 1, "")+pod+deployment("z", 1, "")))
	var names []string
	for _, p := range r.Pods {
		names = append(names, p.Name)
	}
	assert.Equal(t, []string{"default/x-0", "default/x-1", "default/x-deployment-0", "default/z-0", "default/z-deployment-0"}, names)

	_, r = start(t, file("f", strings.ReplaceAll(pod, "z-0", "z-15")+strings.ReplaceAll(pod, "z-0", "z-deployment-3")+deployment("z", 16, "")+deployment("z-deployment", 1, "")))
	assert.Equal(t, "default/z-deployment-deployment-0", r.Pods[2].Name)
	assert.Equal(t, "default/z-deployment-0", r.Pods[18].Name)
}

// A visitor reaches a pod through the load balancer of a Service of a manifest, and a pod
// another one through its cluster IP.
func TestServicesCarryPackets(t *testing.T) {
	_, r := start(t, load(t, "guides/vote.yaml")...)
	now := flow.At(time.Minute)
	r.Advance(flow.At(0), nil)
	r.Advance(now, nil)
	front, store := r.Services()[1], r.Services()[0]
	syn := pkttest.TCP("203.0.113.9:1000", netip.AddrPortFrom(front.LoadBalancerIPs[0], 80).String(), pkttest.SYN)
	v := r.Inbound(now, syn)
	require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
	pod, ok := r.PodByAddr(netip.AddrFrom4([4]byte(syn[16:20])))
	require.True(t, ok)
	assert.True(t, strings.HasPrefix(pod.Name, "default/front-"))

	ask := pkttest.TCP(netip.AddrPortFrom(pod.Addrs[0], 5000).String(), netip.AddrPortFrom(store.ClusterIPs[0], 6379).String(), pkttest.SYN)
	v = r.Outbound(now, ask)
	require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
	pod, ok = r.PodByAddr(netip.AddrFrom4([4]byte(ask[16:20])))
	require.True(t, ok)
	assert.Equal(t, "default/store-0", pod.Name)
}

// Pods of the host's network serve as nodes, each node once.
func TestHostNetworkServes(t *testing.T) {
	_, r := start(t, file("f", deployment("x", 5, "      hostNetwork: true\n")+"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 80}], selector: {app: x}}\n"), file("cluster", twoPools))
	var nodes []string
	for _, e := range r.Services()[0].Endpoints {
		nodes = append(nodes, e.Pod+e.Node)
	}
	assert.Equal(t, []string{"aks-a-vmss000000", "aks-a-vmss000001", "aks-b-vmss000000"}, nodes)
}

// A cluster of the largest size is started in bearable time; what it takes is told, not judged.
func TestLargeCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("5,000 nodes")
	}
	const services = 99 // with 4,995 nodes each, and these once more in the outbound rule, 499,500 of Azure's 500,000 IP configurations
	text := "apiVersion: natplane/v1\nkind: Cluster\npodCIDRs: [10.0.0.0/11]\nserviceCIDRs: [10.32.0.0/16]\nvnet: {addressSpaces: [172.16.0.0/13], subnets: [{name: s, addressPrefixes: [172.16.0.0/16]}]}\nloadBalancerProfile: {managedOutboundIPCount: 100}\nnodePools:\n"
	for i := range 5 {
		text += fmt.Sprintf("- {name: p%d, count: 999, maxPods: 250}\n", i)
	}
	var pods strings.Builder
	for i := range services {
		pods.WriteString(deployment(fmt.Sprintf("w%d", i), 1000, ""))
		fmt.Fprintf(&pods, "apiVersion: v1\nkind: Service\nmetadata: {name: w%d}\nspec: {type: LoadBalancer, ports: [{port: 80}], selector: {app: w%[1]d}}\n---\n", i)
	}
	begin := time.Now()
	c, err := manifest.Read(file("cluster", text), file("pods", pods.String()))
	require.NoError(t, err)
	read := time.Since(begin)
	r, err := c.Start(0)
	require.NoError(t, err)
	defer r.Close()
	t.Logf("read in %v, started in %v", read, time.Since(begin)-read)
	assert.Len(t, r.Pods, services*1000)
	assert.Empty(t, r.Pending)
	assert.Len(t, r.Services(), services)
}

// What depends on how many nodes there are is told by file and line, too: by Read, or of a large
// cluster by Start.
func TestAddressesOfNodes(t *testing.T) {
	service := func(name, annotation string) string {
		return "apiVersion: v1\nkind: Service\nmetadata:\n  name: " + name + "\n  annotations:\n    service.beta.kubernetes.io/azure-load-balancer-internal: \"true\"\n    service.beta.kubernetes.io/azure-load-balancer-ipv4: " + annotation + "\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n---\n"
	}
	services := file("f", service("a", "10.224.0.6")+service("b", "10.224.0.9")+service("c", "10.224.0.5"))
	want := "f:7: metadata.annotations.service.beta.kubernetes.io/azure-load-balancer-ipv4 10.224.0.6: overlap: node aks-p0-vmss000002 has it\n" +
		"f:25: metadata.annotations.service.beta.kubernetes.io/azure-load-balancer-ipv4 10.224.0.5: overlap: node aks-p0-vmss000001 has it"
	_, err := manifest.Read(services, file("c", "apiVersion: natplane/v1\nkind: Cluster\nnodePools: [{name: p0, count: 3}]\n"))
	assert.EqualError(t, err, want)

	large := "apiVersion: natplane/v1\nkind: Cluster\npodCIDRs: [10.16.0.0/12]\nloadBalancerProfile: {managedOutboundIPCount: 5}\nnodePools:\n"
	for i := range 4 {
		large += fmt.Sprintf("- {name: p%d, count: 999}\n", i)
	}
	services = file("f", service("a", "10.224.0.106")+service("b", "10.224.0.109")+service("c", "10.224.0.105")+service("d", "10.224.20.1")+service("e", "10.224.20.2"))
	c, err := manifest.Read(services, file("c", large))
	require.NoError(t, err)
	_, err = c.Start(0)
	require.Error(t, err)
	assert.Equal(t, []string{"f:7", "f:16", "f:25"}, starts(err))
	assert.ErrorIs(t, err, flow.ErrOverlap)
}

// starts returns the places of the lines of an error.
func starts(err error) (places []string) {
	for _, line := range strings.Split(err.Error(), "\n") {
		file, rest, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(rest, ":")
		places = append(places, file+":"+number)
	}
	return places
}

// A configuration that has been changed since is told by its fields, with the file that it came from.
func TestStartWithAnotherConfig(t *testing.T) {
	c, err := manifest.Read(file("c", twoPools))
	require.NoError(t, err)
	c.Config.NodePools[1].MaxPods = 300
	c.Config.LoadBalancerProfile.IdleTimeout = time.Second
	_, err = c.Start(0)
	assert.ErrorContains(t, err, "c:3: nodePools[1].maxPods 300: out of range")
	assert.ErrorContains(t, err, "c:1: loadBalancerProfile.idleTimeout 1s: out of range")
	_, err = (&manifest.Cluster{}).Start(0)
	assert.ErrorContains(t, err, "nodePools")
}
