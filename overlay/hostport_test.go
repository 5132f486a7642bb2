package overlay

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// echoPorts are those of the example of the document.
var echoPorts = []ContainerPort{{snat.TCP, 8080, 0}, {snat.TCP, 8443, 0}}

const echoAnnotation = "8080/tcp,8443/tcp"

func (n *network) pod(node, name string) Pod {
	n.Helper()
	pod, err := n.AddPod(node, name)
	require.NoError(n, err)
	return pod
}

func TestAzure_57_hostPortsOfReplicas(t *testing.T) {
	n := newNetwork(t, nil)
	seen := make(map[uint16]bool)
	for i := range 3 {
		pod := n.pod(n.Nodes()[i%2].Name, fmt.Sprint("echo-", i))
		all, err := n.OpenHostPorts(pod.Name, "echoserver-hostport", echoPorts, echoAnnotation)
		require.NoError(t, err)
		require.Equal(t, all, n.HostPorts(pod.Name))
		require.Equal(t, "echoserver-hostport_PORT_8080_TCP_HOSTPORT", all[0].Variable)
		require.Equal(t, "echoserver-hostport_PORT_8443_TCP_HOSTPORT", all[1].Variable)
		for _, h := range all {
			require.True(t, h.Automatic && 40000 <= h.HostPort && h.HostPort <= 59999)
			seen[h.HostPort] = true
		}
	}
	require.Len(t, seen, 6)
	require.Equal(t, 20_000-6, n.HostPortsFree())
	require.NoError(t, n.RemovePod("echo-0"))
	_, err := n.Drain(n.Nodes()[1].Name)
	require.NoError(t, err)
	require.Equal(t, 20_000-2, n.HostPortsFree())
	n.change(func(c *ClusterConfig) { c.NodePools = []NodePool{{Name: "other", Count: 1}} })
	require.Equal(t, 20_000, n.HostPortsFree())
	require.Empty(t, n.HostPorts("echo-2"))
}

// From the Internet by the node's public address, and from the network by its own, to the
// pod and back, in both families and protocols.
func TestAzureRow_6_automatic(t *testing.T) {
	n := newNetwork(t, publicPool(2, "40000-60000/tcp,40000-60000/udp,80/tcp", public4, public6))
	nodes := n.Nodes()
	pod := n.pod(nodes[0].Name, "echo")
	n.drops(n.Inbound(0, syn(client4, "203.0.113.16:22")), flow.ReasonNSGInbound)
	all, err := n.OpenHostPorts("echo", "echo", []ContainerPort{{snat.TCP, 8080, 0}, {snat.UDP, 53, 0}, {snat.TCP, 8000, 80}}, "8080/tcp,53/udp")
	require.NoError(t, err)
	require.Len(t, all, 3)
	for f, remotes := range [][]string{{"198.51.100.9", "10.1.77.1"}, {"2001:db8:ffff::9", "fd00:1::99"}} {
		for _, remote := range remotes {
			at := nodes[0].PublicAddrs[f].String()
			if remote == "10.1.77.1" || remote == "fd00:1::99" {
				at = nodes[0].Addrs[f].String()
			}
			client, own := endpoint(remote, 5000), pod.Addrs[f].String()
			for _, h := range all {
				there, to := endpoint(at, int(h.HostPort)), endpoint(own, int(h.Port))
				request, answer := syn(client, there), pkttest.TCP(to, client, pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2))
				if h.Protocol == snat.UDP {
					request, answer = pkttest.UDP(client, there, "q"), pkttest.UDP(to, client, "a")
				}
				pkttest.Check(t, n.takes(request, to), pkttest.Src(client))
				pkttest.Check(t, n.sends(answer, there), pkttest.Dst(client))
			}
		}
	}
	n.takes(syn("10.1.77.1:6000", "10.1.0.4:22"), "10.1.0.4:22")
	n.takes(syn("10.1.77.1:6000", "10.1.0.5:80"), "10.1.0.5:80") // another node
	n.sends(syn("10.244.0.2:8080", "198.51.100.77:443"), "203.0.113.16")
	require.NoError(t, n.RemovePod("echo"))
	n.takes(syn("10.1.77.1:7000", "10.1.0.4:80"), "10.1.0.4:80") // a process of the node may have it
}

func TestOpenHostPorts_refuses(t *testing.T) {
	n := newNetwork(t, nil)
	node, other := n.Nodes()[0].Name, n.Nodes()[1].Name
	web := []ContainerPort{{snat.TCP, 8080, 80}}
	n.pod(node, "a")
	n.pod(node, "b")
	n.pod(other, "c")
	_, err := n.OpenHostPorts("a", "", web, "")
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		pod, annotation string
		ports           []ContainerPort
		is              error
	}{
		"no such pod":              {"x", "", web, flow.ErrUnknownName},
		"twice":                    {"a", "", web, flow.ErrDuplicateName},
		"taken on the node":        {"b", "8080/tcp", web, flow.ErrConflict},
		"no such port":             {"b", "8081/tcp", web, flow.ErrUnknownName},
		"a range":                  {"b", "8080-8081/tcp", web, flow.ErrSyntax},
		"port 0":                   {"b", "", []ContainerPort{{snat.TCP, 0, 80}}, flow.ErrOutOfRange},
		"both protocols":           {"b", "", []ContainerPort{{snat.All, 80, 80}}, flow.ErrOutOfRange},
		"one host port, two ports": {"b", "", []ContainerPort{{snat.TCP, 80, 81}, {snat.TCP, 90, 81}}, flow.ErrDuplicateName},
	} {
		_, err := n.OpenHostPorts(tt.pod, "d", tt.ports, tt.annotation)
		require.ErrorIs(t, err, tt.is, name)
		require.Equal(t, 20_000, n.HostPortsFree(), "%s: nothing is taken", name)
		require.Empty(t, n.HostPorts("b"), name)
	}
	_, err = n.OpenHostPorts("c", "", web, "")
	require.NoError(t, err, "another node")
	require.NoError(t, n.RemovePod("a"))
	_, err = n.OpenHostPorts("b", "", web, "")
	require.NoError(t, err, "it is free again")
}

// A host port takes nothing else away from its node: datagrams in pieces for other ports
// pass, and those for the host port reach the pod.
func TestHostPort_fragments(t *testing.T) {
	n := newNetwork(t, nil)
	pod := n.pod(n.Nodes()[0].Name, "dns")
	pieces := func(port int) [][]byte {
		return pkttest.Fragments(pkttest.UDP("10.1.77.1:5000", endpoint("10.1.0.4", port), string(make([]byte, 100))), 48, uint32(port))
	}
	_, err := n.OpenHostPorts("dns", "", []ContainerPort{{snat.UDP, 5353, 53}}, "")
	require.NoError(t, err)
	for _, piece := range pieces(123) {
		n.takes(piece, "10.1.0.4")
	}
	for _, piece := range pieces(53) {
		n.takes(piece, pod.Addrs[ipv4].String())
	}
}
