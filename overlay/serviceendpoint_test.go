package overlay

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// Hosts in the ranges of service endpoints are clients of public addresses as others are: what answers them
// goes back as it came, by the load balancer with floating IP or without, and by the public address of a node.
// What pods and nodes begin to the same hosts leaves with the private address.
func TestAzureServiceEndpoint_clients(t *testing.T) {
	for _, gateway := range []bool{false, true} {
		n := newNetwork(t, func(c *ClusterConfig) {
			publicPool(1, "8000/tcp,53/udp", public4, public6)(c)
			c.NodePools = append(c.NodePools, NodePool{Name: "plain", Count: 1})
			c.VNet.ServiceEndpoints = pfx("203.0.113.200/29", "2001:db8:eeee::/48")
			if gateway {
				c.OutboundType = OutboundManagedNATGatewayV2
			}
		})
		n.pod(n.Nodes()[1].Name, "web")
		for name, floats := range map[string]string{"floats": "false", "rewritten": "true"} {
			_, err := n.AddService(0, Service{Name: name, Type: LoadBalancer, IPFamilies: "ipv4,ipv6", ExternalTrafficPolicy: PolicyLocal, Ports: []ServicePort{{Port: 80}},
				Annotations: map[string]string{"service.beta.kubernetes.io/azure-disable-load-balancer-floating-ip": floats}})
			require.NoError(t, err)
			require.NoError(t, n.SetEndpoints(name, Endpoint{Pod: "web"}))
		}
		n.now = flow.At(30 * time.Second)
		n.Advance(n.now, nil)
		n.now = flow.At(60 * time.Second)
		n.Advance(n.now, nil)
		for f, client := range []string{"203.0.113.201", "2001:db8:eeee::1"} {
			pod, _ := n.Pod("web")
			for i, s := range n.Services() {
				frontend, at := endpoint(s.LoadBalancerIPs[f].String(), 80), endpoint(client, 1000+i)
				agrees(t, n.Cluster, n.now, syn(at, frontend), "forward none")
				answer := pkttest.TCP(endpoint(pod.Addrs[f].String(), 80), at, pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2))
				agrees(t, n.Cluster, n.now, answer, "forward none")
				pkttest.Check(t, answer, pkttest.Src(frontend), pkttest.Dst(at), pkttest.ChecksumsOK())
			}
			node := n.Nodes()[0]
			own, public := node.Addrs[f].String(), node.PublicAddrs[f].String()
			n.takes(syn(endpoint(client, 2000), endpoint(public, 8000)), endpoint(own, 8000))
			answer := pkttest.TCP(endpoint(own, 8000), endpoint(client, 2000), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2))
			agrees(t, n.Cluster, n.now, answer, "forward none")
			pkttest.Check(t, answer, pkttest.Src(endpoint(public, 8000)), pkttest.ChecksumsOK())
			n.takes(pkttest.UDP(endpoint(client, 2000), endpoint(public, 53), "q"), endpoint(own, 53))
			n.sends(pkttest.UDP(endpoint(own, 53), endpoint(client, 2000), "a"), public)

			agrees(t, n.Cluster, n.now, syn(endpoint(own, 8001), endpoint(client, 443)), "forward none")
			n.sends(pkttest.UDP(endpoint(own, 8001), endpoint(client, 53), "q"), own)
			n.sends(syn(endpoint(eachFamily[f].pod, 8002), endpoint(client, 443)), own)
			n.sends(syn(endpoint(eachFamily[f].other, 80), endpoint(client, 443)), eachFamily[f].node2)
		}
	}
}

// A service endpoint is a route: from the switch on pods and nodes reach the service with the node's
// private address, without an outbound port, whatever the outbound type is. A connection that was open is
// reset at both ends, and so is one with the private address when the service endpoint goes. A private endpoint
// is an address of the virtual network and needs no switch.
func TestAzureServiceEndpoint_switch(t *testing.T) {
	for _, kind := range []OutboundType{OutboundLoadBalancer, OutboundManagedNATGatewayV2, OutboundUserDefinedRouting, OutboundNone} {
		n := newNetwork(t, func(c *ClusterConfig) { c.OutboundType = kind })
		const storage, client = "203.0.113.9:443", "10.244.0.2:5000"
		opens := func(client, remote, source string) (outside string) {
			from, _ := ends(n.sends(syn(client, remote), source))
			n.takes(pkttest.TCP(remote, from.String(), pkttest.TCPFlags("SA"), pkttest.Seq(9), pkttest.Ack(2)), client)
			n.sends(pkttest.TCP(client, remote, pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(10)), source)
			return from.String()
		}
		told := func() (all []string) {
			n.Advance(n.now, func(e flow.Emission) { all = append(all, fmt.Sprint(e.To, " ", pkttest.String(e.Packet))) })
			return all
		}
		resets := func(client, outside, remote string) []string {
			return []string{fmt.Sprintf("inside TCP %s > %s R seq=10 len=0", remote, client), fmt.Sprintf("outside TCP %s > %s R seq=2 len=0", outside, remote)}
		}
		const client2, other = "10.244.0.2:5004", "203.0.114.9:443"
		var was, stays string
		if kind == OutboundLoadBalancer || kind == OutboundManagedNATGatewayV2 {
			was, stays = opens(client, storage, "20.50.1.1"), opens(client2, other, "20.50.1.1")
		}
		n.change(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = pfx("203.0.113.0/24") })
		if was != "" {
			require.ElementsMatch(t, resets(client, was, storage), told(), kind)
			n.takes(pkttest.TCP(other, stays, pkttest.TCPFlags("A"), pkttest.Seq(10), pkttest.Ack(2), pkttest.Payload("x")), client2)
			n.sends(pkttest.UDP(client2, other, "q"), "20.50.1.1")
		}
		n.change(func(c *ClusterConfig) {}) // which switches nothing
		require.Empty(t, told())
		before := n.Stats()
		n.sends(syn("10.244.0.2:5001", storage), "10.1.0.4")
		n.sends(syn("10.1.0.4:5002", storage), "10.1.0.4")
		n.sends(syn("10.244.0.2:5003", "10.1.77.1:443"), "10.1.0.4") // a private endpoint
		after := n.Stats()
		require.Equal(t, before.ConnectionsSuccessful, after.ConnectionsSuccessful, kind)
		require.LessOrEqual(t, after.Ports.Active, before.Ports.Active, kind)
		open := opens("10.244.0.2:5005", storage, "10.1.0.4")
		n.change(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = pfx("203.0.113.0/24", "203.0.113.0/28") })
		n.change(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = pfx("203.0.113.0/24") })
		require.Empty(t, told(), "a part of a range that stays changes no way")
		n.change(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = nil })
		require.ElementsMatch(t, resets("10.244.0.2:5005", open, storage), told(), kind)
	}
}
