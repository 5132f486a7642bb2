package overlay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// A service endpoint is a route: from the switch on pods and nodes reach the service with the node's
// private address, without an outbound port, whatever the outbound type is. A connection that was open goes on
// with that address, which its server does not know: it resets it, and the pod hears of that. A private endpoint is
// an address of the virtual network and needs no switch.
func TestAzureServiceEndpoint_switch(t *testing.T) {
	for _, kind := range []OutboundType{OutboundLoadBalancer, OutboundManagedNATGatewayV2, OutboundUserDefinedRouting, OutboundNone} {
		n := newNetwork(t, func(c *ClusterConfig) { c.OutboundType = kind })
		const storage, client = "203.0.113.9:443", "10.244.0.2:5000"
		if kind == OutboundLoadBalancer || kind == OutboundManagedNATGatewayV2 {
			n.sends(syn(client, storage), "20.50.1.1")
		}
		before := n.Stats()
		n.change(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = pfx("203.0.113.0/24") })
		data := n.sends(pkttest.TCP(client, storage, pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(2)), "10.1.0.4")
		from, _ := ends(data)
		n.takes(pkttest.TCP(storage, from.String(), pkttest.TCPFlags("R"), pkttest.Seq(2)), client)
		n.sends(syn("10.244.0.2:5001", storage), "10.1.0.4")
		n.sends(syn("10.1.0.4:5002", storage), "10.1.0.4")
		n.sends(syn("10.244.0.2:5003", "10.1.77.1:443"), "10.1.0.4") // a private endpoint
		after := n.Stats()
		require.Equal(t, before.ConnectionsSuccessful, after.ConnectionsSuccessful, kind)
		require.LessOrEqual(t, after.Ports.Active, before.Ports.Active, kind)
	}
}
