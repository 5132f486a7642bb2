package manifest_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// masqueraded is a ConfigMap of ip-masq-agent.
func masqueraded(name, key, lines string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: kube-system}\ndata:\n  " + key + ": |\n" + lines + "---\n"
}

// ConfigMaps of ip-masq-agent are added up.
func TestMasquerade(t *testing.T) {
	own := masqueraded("azure-ip-masq-agent-config", "ip-masq-agent", "    nonMasqueradeCIDRs:\n    - 10.30.0.0/16\n    - 10.244.0.0/16\n    masqLinkLocal: false\n")
	reconciled := masqueraded("azure-ip-masq-agent-config-reconciled", "ip-masq-agent-reconciled", "    nonMasqueradeCIDRs: [10.31.0.0/16, 10.30.0.0/16]\n    masqLinkLocal: LL\n")
	prefixes := func(all ...string) (p []netip.Prefix) {
		for _, text := range all {
			p = append(p, netip.MustParsePrefix(text))
		}
		return p
	}
	for name, tt := range map[string]struct {
		text string
		want overlay.Masquerade
	}{
		"own":           {own, overlay.Masquerade{NonMasqueradeCIDRs: prefixes("10.30.0.0/16", "10.244.0.0/16")}},
		"both":          {own + strings.Replace(reconciled, "LL", "true", 1), overlay.Masquerade{NonMasqueradeCIDRs: prefixes("10.30.0.0/16", "10.244.0.0/16", "10.31.0.0/16")}},
		"nobody wants":  {own + strings.Replace(reconciled, "LL", "false", 1), overlay.Masquerade{NonMasqueradeCIDRs: prefixes("10.30.0.0/16", "10.244.0.0/16", "10.31.0.0/16"), KeepLinkLocal: true}},
		"AKS's only":    {strings.Replace(reconciled, "LL", "true", 1), overlay.Masquerade{NonMasqueradeCIDRs: prefixes("10.31.0.0/16", "10.30.0.0/16")}},
		"another map":   {strings.Replace(own, "kube-system", "default", 1), overlay.Masquerade{}},
		"another name":  {strings.Replace(own, "azure-ip", "my-ip", 1), overlay.Masquerade{}},
		"said as JSON":  {`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "azure-ip-masq-agent-config", "namespace": "kube-system"}, "data": {"ip-masq-agent": "{\"nonMasqueradeCIDRs\": [\"10.30.0.0/16\"]}"}}`, overlay.Masquerade{NonMasqueradeCIDRs: prefixes("10.30.0.0/16")}},
		"cluster's own": {own + "apiVersion: natplane/v1\nkind: Cluster\nmasquerade: {nonMasqueradeCIDRs: [10.9.0.0/16]}\n", overlay.Masquerade{NonMasqueradeCIDRs: prefixes("10.9.0.0/16")}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := manifest.Read(file("f", tt.text))
			require.NoError(t, err)
			assert.Equal(t, tt.want, c.Config.Masquerade)
		})
	}

	_, r := start(t, file("f", own+deployment("x", 1, "")))
	pkt := pkttest.TCP("10.244.0.2:1", "10.30.0.1:2", pkttest.SYN)
	require.Equal(t, flow.Bypass, r.Outbound(0, pkt).Action)
	assert.Equal(t, []byte{10, 244, 0, 2}, pkt[12:16])

	t.Run("errors", func(t *testing.T) {
		_, err := manifest.Read(file("f", masqueraded("azure-ip-masq-agent-config", "ip-masq-agent", "    nonMasqueradeCIDRs:\n    - 10.30.0.0\n    - 10.30.0.1/16\n    masqLinkLocl: false\n")))
		assert.EqualError(t, err, `f:7: data.ip-masq-agent.nonMasqueradeCIDRs[0] "10.30.0.0": prefix is not valid, or its host bits are not zero: must be a prefix such as 10.0.0.0/16
f:8: data.ip-masq-agent.nonMasqueradeCIDRs[1] 10.30.0.1/16: prefix is not valid, or its host bits are not zero: has host bits set, write 10.30.0.0/16
f:9: data.ip-masq-agent.masqLinkLocl false: unknown name: did you mean masqLinkLocal?`)
		_, err = manifest.Read(file("f", masqueraded("azure-ip-masq-agent-config", "ip-masq-agent", "    nonMasqueradeCIDRs:\n    - 10.30.0.0/16\n    - 10.30.0.1/16\n")))
		assert.ErrorContains(t, err, `f:8: data.ip-masq-agent.nonMasqueradeCIDRs[1] 10.30.0.1/16: prefix is not valid`)
		_, err = manifest.Read(file("f", masqueraded("azure-ip-masq-agent-config", "ip-masq-agent", "    a: [1\n    b: 2\n")))
		assert.ErrorContains(t, err, `f:7: data.ip-masq-agent: cannot be read: is no YAML: `)
		c, err := manifest.Read(file("f", masqueraded("azure-ip-masq-agent-config", "config", "    a: 1\n")))
		require.NoError(t, err)
		assert.Equal(t, "f:5: data.config: the agent reads keys that begin with ip-masq", c.NotModelled[0].String())
	})
}

// Services without selector are served by whom Endpoints and EndpointSlices name.
func TestEndpoints(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: %}\nspec: {ports: [{name: sql, port: 5432, targetPort: 1}]}\n---\n"
	slice := func(name, of, rest string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name + ", labels: {kubernetes.io/service-name: " + of + "}}\naddressType: IPv4\n" + rest + "---\n"
	}
	text := strings.ReplaceAll(service, "%", "a") + strings.ReplaceAll(service, "%", "b") + strings.ReplaceAll(service, "%", "c") + deployment("db", 1, "") +
		"apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n- addresses: [{ip: 10.225.0.9}, {ip: 198.51.100.7}]\n  notReadyAddresses: [{ip: 10.225.0.10}]\n  ports: [{name: sql, port: 6432}]\n---\n" +
		slice("b-1", "b", "ports: [{name: sql, port: 7432}]\nendpoints:\n- {addresses: [10.225.0.11]}\n- {addresses: [10.225.0.12], conditions: {ready: false}}\n- {addresses: [10.225.0.13], conditions: {ready: false, serving: true, terminating: true}}\n- {addresses: [10.244.9.9], targetRef: {kind: Pod, name: db-0}}\n- {addresses: [10.244.9.9], targetRef: {kind: Pod, name: db-1}}\n") +
		slice("b-2", "b", "ports: [{name: sql, port: 7433}]\nendpoints: [{addresses: [10.225.0.11]}]\n") +
		slice("z-1", "z", "ports: []\nendpoints: []\n") +
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: ns}\naddressType: FQDN\nendpoints: [{addresses: [a.example]}]\nports: []\n"
	c, r := start(t, file("f", text))
	all := r.Services()
	require.Len(t, all, 3)
	at := func(text string) overlay.Endpoint { return overlay.Endpoint{Addr: netip.MustParseAddr(text)} }
	assert.Equal(t, []overlay.Endpoint{at("10.225.0.9"), at("198.51.100.7")}, all[0].Endpoints)
	assert.EqualValues(t, 6432, all[0].Ports[0].TargetPort)
	ending := at("10.225.0.13")
	ending.Terminating = true
	assert.ElementsMatch(t, []overlay.Endpoint{at("10.225.0.11"), ending, {Pod: "default/db-0"}}, all[1].Endpoints)
	assert.EqualValues(t, 7432, all[1].Ports[0].TargetPort)
	assert.Empty(t, all[2].Endpoints)
	assert.Equal(t, []string{
		"f:14: spec: without a selector nobody serves it: no file has Endpoints or an EndpointSlice with its name",
		"f:51: ports[0]: the port is 7432 at all endpoints",
		"f:54: there is no Service z in the files",
		"f:64: addressType FQDN: endpoints have addresses: the slice is left out",
	}, omissions(c))

	t.Run("errors", func(t *testing.T) {
		_, err := manifest.Read(file("f", "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n- addresses:\n  - {ip: x}\n  ports:\n  - {port: 0}\n  - {port: 1, protocol: ICMP}\n---\n"+
			slice("b-1", "b", "ports: [{name: sql, port: 70000}]\nendpoints:\n- {addresses: []}\n- {addresses: [1.2.3]}\n")+strings.Replace(slice("b", "b", ""), "IPv4", "IPv5", 1)))
		assert.EqualError(t, err, `f:6: subsets[0].addresses[0] "x": not the address of a single host: must be an address such as 10.0.0.1
f:8: subsets[0].ports[0] 0: out of range: 1..65535
f:9: subsets[0].ports[1] "ICMP": out of range: TCP, UDP or SCTP
f:15: ports[0] 70000: out of range: 1..65535
f:17: endpoints[0].addresses: missing: an endpoint has an address
f:18: endpoints[1].addresses[0] "1.2.3": not the address of a single host: must be an address such as 10.0.0.1
f:23: addressType "IPv5": out of range: IPv4, IPv6 or FQDN`)
		_, err = manifest.Read(file("f", strings.ReplaceAll(service, "%", "a")+"apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n- addresses:\n  - ip: 10.244.0.9\n  - ip: 10.225.0.9\n  - ip: 10.0.0.9\n  ports: [{name: sql, port: 1}]\n"))
		assert.EqualError(t, err, "f:11: subsets[0].addresses[0] 10.244.0.9: conflict: it is of the cluster: name the pod or the node\nf:13: subsets[0].addresses[2] 10.0.0.9: conflict: it is of a Service")
	})
}

// Jobs and ReplicationControllers run pods, too.
func TestOtherWorkloads(t *testing.T) {
	job := func(name, spec string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: " + name + "}\nspec: {" + spec + "template: {spec: {restartPolicy: Never, containers: [{name: c}]}}}\n"
	}
	_, r := start(t, file("f", job("one", "")+"---\n"+job("three", "parallelism: 3, completions: 9, ")+"---\n"+job("few", "parallelism: 3, completions: 2, ")+"---\n"+
		job("later", "suspend: true, ")+"---\n"+job("done", "")+"status: {conditions: [{type: Complete, status: \"True\"}]}\n---\n"+
		job("printed", "selector: {matchLabels: {batch.kubernetes.io/controller-uid: u}}, ")+"---\n"+
		"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: old}\nspec: {replicas: 2, template: {metadata: {labels: {app: old}}, spec: {containers: [{name: c}]}}}\n---\n"+
		"apiVersion: v1\nkind: Service\nmetadata: {name: three}\nspec: {ports: [{port: 80}], selector: {job-name: three}}\n"))
	var names []string
	for _, p := range r.Pods {
		names = append(names, strings.TrimPrefix(p.Name, "default/"))
	}
	assert.Equal(t, "one-0 three-0 three-1 three-2 few-0 few-1 printed-0 old-0 old-1", strings.Join(names, " "))
	assert.Len(t, r.Services()[0].Endpoints, 3)

	_, err := manifest.Read(file("f", "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: old}\nspec: {replicas: 2}\n---\n"+job("x", "parallelism: -1, ")))
	assert.EqualError(t, err, "f:4: spec.template: missing: it says what the pods are\nf:9: spec.parallelism -1: out of range: 0..200000")
}

// The addresses that kubectl prints of Services are theirs, where they can have them.
func TestStatusOfServices(t *testing.T) {
	service := func(name, annotations, addr string) string {
		return "apiVersion: v1\nkind: Service\nmetadata:\n  name: " + name + "\n  annotations: {" + annotations + "}\nspec: {type: LoadBalancer, ports: [{port: 80}], selector: {app: x}}\nstatus:\n  loadBalancer:\n    ingress:\n    - {ip: " + addr + "}\n---\n"
	}
	const internal = `service.beta.kubernetes.io/azure-load-balancer-internal: "true"`
	c, r := start(t, file("f", deployment("x", 1, "")+service("a", "", "20.77.0.1")+service("b", internal, "10.224.0.200")+service("c", internal, "10.224.0.5")+service("d", internal, "10.9.0.5")+
		service("e", "service.beta.kubernetes.io/azure-load-balancer-ipv4: 20.77.0.2", "20.77.0.3")))
	var addrs []string
	for _, s := range r.Services() {
		addrs = append(addrs, s.LoadBalancerIPs[0].String())
	}
	assert.Equal(t, []string{"20.77.0.1", "10.224.0.200", "10.224.255.254", "10.224.255.253", "20.77.0.2"}, addrs)
	require.Len(t, c.NotModelled, 2)
	assert.Equal(t, "f:43: status.loadBalancer.ingress[0].ip: the Service gets another address: 10.224.0.5: overlap: node aks-nodepool1-vmss000001 has it", c.NotModelled[0].String())
	assert.Contains(t, c.NotModelled[1].String(), "10.9.0.5: out of range: must be in 10.224.0.0/16")

	_, err := manifest.Read(file("f", service("a", "", "x")))
	assert.ErrorContains(t, err, `f:10: status.loadBalancer.ingress[0].ip "x": not the address`)
	_, err = manifest.Read(file("f", service("a", "", "168.63.129.16")))
	assert.ErrorContains(t, err, `f:10: status.loadBalancer.ingress[0].ip 168.63.129.16: reserved`)
}
