package manifest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// policy is a NetworkPolicy.
func policy(name, spec string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name + "}\nspec:\n  " + spec + "\n---\n"
}

const twoTiers = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 80, targetPort: sql}], selector: {app: db}}\n---\n"

// verdict is what becomes of a SYN from a pod to a socket.
func verdict(t *testing.T, r *manifest.Running, from, to string) flow.Verdict {
	t.Helper()
	pod, ok := r.Pod("default/" + from)
	require.True(t, ok)
	if name, port, found := strings.Cut(to, "/"); found {
		if p, ok := r.Pod("default/" + name); ok {
			to = p.Addrs[0].String() + ":" + port
		}
	}
	return r.Outbound(0, pkttest.TCP(pod.Addrs[0].String()+":5000", to, pkttest.SYN))
}

func TestNetworkPolicies(t *testing.T) {
	pods := strings.ReplaceAll(deployment("db", 1, ""), "image: i", "image: i, ports: [{name: sql, containerPort: 5432}]") + deployment("web", 1, "") + deployment("spy", 1, "") + twoTiers
	guard := policy("db", "podSelector: {matchLabels: {app: db}}\n  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}]") +
		policy("web", "podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress: [{to: [{podSelector: {}}]}, {to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}}], ports: [{port: 400, endPort: 500}]}]")
	service := func(r *manifest.Running) string { return r.Services()[0].ClusterIPs[0].String() + ":80" }

	_, r := start(t, file("pods", pods), file("policies", guard))
	for _, tt := range []struct {
		from, to string
		want     flow.Reason
	}{
		{"web-0", "db-0/5432", flow.ReasonNone}, {"spy-0", "db-0/5432", flow.ReasonNetworkPolicy}, {"web-0", "db-0/80", flow.ReasonNetworkPolicy},
		{"web-0", service(r), flow.ReasonNone}, {"spy-0", service(r), flow.ReasonNetworkPolicy},
		{"web-0", "203.0.113.9:443", flow.ReasonNone}, {"web-0", "203.0.113.9:80", flow.ReasonNetworkPolicy}, {"web-0", "203.0.113.200:443", flow.ReasonNetworkPolicy},
		{"db-0", "203.0.113.200:80", flow.ReasonNone}, {"spy-0", "203.0.113.200:80", flow.ReasonNone},
	} {
		assert.Equal(t, tt.want, verdict(t, r, tt.from, tt.to).Reason, "%s > %s", tt.from, tt.to)
	}

	t.Run("by namespace", func(t *testing.T) {
		text := pods + strings.ReplaceAll(deployment("far", 1, ""), "metadata: {name", "metadata: {namespace: ops, name") +
			"apiVersion: v1\nkind: Namespace\nmetadata: {name: ops, labels: {team: ops}}\n---\n"
		for selector, want := range map[string]flow.Reason{"{matchLabels: {team: ops}}": flow.ReasonNone, "{matchLabels: {kubernetes.io/metadata.name: ops}}": flow.ReasonNone, "{matchLabels: {team: dev}}": flow.ReasonNetworkPolicy, "{}": flow.ReasonNone} {
			_, r := start(t, file("f", policy("p", "podSelector: {matchLabels: {app: db}}\n  ingress: [{from: [{namespaceSelector: "+selector+"}]}]")+text))
			from, _ := r.Pod("ops/far-0")
			db, _ := r.Pod("default/db-0")
			v := r.Outbound(0, pkttest.TCP(from.Addrs[0].String()+":1", db.Addrs[0].String()+":2", pkttest.SYN))
			assert.Equal(t, want, v.Reason, selector)
		}
	})
	t.Run("engines", func(t *testing.T) {
		blocked := policy("db", "podSelector: {matchLabels: {app: db}}\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")
		for engine, want := range map[string]flow.Reason{"none": flow.ReasonNone, "calico": flow.ReasonNone, "azure": flow.ReasonNone, "cilium": flow.ReasonNetworkPolicy} {
			c, r := start(t, file("f", pods+blocked), file("c", "apiVersion: natplane/v1\nkind: Cluster\nnetworkPolicyEngine: "+engine+"\n"))
			assert.Equal(t, want, verdict(t, r, "web-0", "db-0/5432").Reason, engine)
			assert.Len(t, c.NotModelled, map[bool]int{true: 1}[engine == "none"])
		}
		_, err := manifest.Read(file("c", "apiVersion: natplane/v1\nkind: Cluster\nnetworkPolicyEngine: kube-router\n"))
		assert.EqualError(t, err, `c:3: networkPolicyEngine "kube-router": out of range: must be one of none, azure, calico, cilium`)

		c, r := start(t, file("f", guard+pods), load(t, "aks-show.json")[0])
		assert.Equal(t, flow.ReasonNone, verdict(t, r, "spy-0", "db-0/5432").Reason)
		require.Len(t, c.NotModelled, 3)
		assert.Contains(t, c.NotModelled[0].String(), "f:2: kind db: has no effect: the cluster has no engine of network policies")
		_, r = start(t, file("f", pods+guard), edited(t, "aks-show.json", `"networkPolicy": "none"`, `"networkPolicy": "azure"`))
		assert.Equal(t, flow.ReasonNetworkPolicy, verdict(t, r, "spy-0", "db-0/5432").Reason)
	})
}

func TestNetworkPolicyErrors(t *testing.T) {
	text := `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {matchExpressions: [{key: a, operator: Is}]}
  policyTypes: [Ingress, Sideways]
  ingress:
  - from:
    - {}
    - ipBlock: {cidr: 10.0.0.0}
    - ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8, 10.0.0.0/8]}
    - podSelector: {}
      ipBlock: {cidr: 10.0.0.0/8}
    ports:
    - {port: 0}
    - port: 5
      endPort: 4
    - {protocol: ICMP}
    - {port: ""}
    - {endPort: 4}
    - {port: x, endPort: 4}
`
	_, err := manifest.Read(file("f", text))
	assert.EqualError(t, err, `f:5: spec.podSelector: cannot be read: "Is" is not a valid label selector operator
f:6: spec.policyTypes[1] "Sideways": out of range: Ingress or Egress
f:9: spec.ingress[0].from[0]: missing: a peer has podSelector, namespaceSelector or ipBlock
f:10: spec.ingress[0].from[1].ipBlock.cidr "10.0.0.0": prefix is not valid, or its host bits are not zero: must be a prefix such as 203.0.113.0/24
f:11: spec.ingress[0].from[2].ipBlock.except[0] "11.0.0.0/8": out of range: must be a part of 10.0.0.0/8
f:11: spec.ingress[0].from[2].ipBlock.except[1] "10.0.0.0/8": out of range: must be a part of 10.0.0.0/8
f:13: spec.ingress[0].from[3].ipBlock "10.0.0.0/8": conflict: a peer is a block or selectors
f:15: spec.ingress[0].ports[0].port 0: out of range: 1..65535
f:17: spec.ingress[0].ports[1].endPort 4: out of range: 5..65535
f:18: spec.ingress[0].ports[2].protocol "ICMP": out of range: TCP, UDP or SCTP
f:19: spec.ingress[0].ports[3].port: missing: a number or the name of a port
f:20: spec.ingress[0].ports[4].endPort 4: conflict: needs a port
f:21: spec.ingress[0].ports[5].endPort 4: conflict: needs a port that is a number`)

	_, err = manifest.Read(file("f", text+"    - {prot: x}\n"))
	assert.EqualError(t, err, `f:22: spec.ingress[0].ports[6].prot "x": unknown name: did you mean port?`)
}
