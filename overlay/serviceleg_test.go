package overlay_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Network policy sees what a Service's clients reach, and who reaches its endpoints.
func TestAzureService_networkPolicyOnTheWayToTheEndpoint(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.NodePort}, "b")
	var asked []snat.NewFlow
	refuse := false
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		c.NetworkPolicy = func(f snat.NewFlow) bool {
			asked = append(asked, f)
			return !refuse || f.Inside.Port() != 8080 && f.Remote.Port() != 8080
		}
	}))
	client, b := netip.MustParseAddrPort(s.addr("client")+":5000"), netip.MustParseAddrPort(s.addr("b")+":8080")
	to := s.web.ClusterIPs[0].String() + ":80"
	s.outbound(pkttest.TCP(client.String(), to, pkttest.SYN))
	require.Len(t, asked, 1)
	assert.Equal(t, []any{flow.Inside, client, b}, []any{asked[0].From, asked[0].Inside, asked[0].Remote}, "what the pod begins is about the endpoint")
	s.outbound(pkttest.TCP(client.String(), to, pkttest.TCPFlags("A"), pkttest.Seq(1)))
	assert.Len(t, asked, 1, "once for a connection")

	asked = nil
	s.inbound(pkttest.TCP("10.224.9.9:5000", fmt.Sprintf("%s:%d", s.node(0), s.web.Ports[0].NodePort), pkttest.SYN))
	require.Len(t, asked, 2, "the node's translator, and the leg")
	assert.Equal(t, []any{flow.Outside, b, s.Nodes()[1].Name}, []any{asked[1].From, asked[1].Inside, asked[1].Name})
	assert.Equal(t, s.node(0), asked[1].Remote.Addr().String(), "the endpoint sees the node")

	refuse = true
	assert.Equal(t, "network_policy", s.outbound(pkttest.TCP(s.addr("client")+":5001", to, pkttest.SYN)))
	assert.NotZero(t, s.Stats().Outbound.Drops[flow.ReasonNetworkPolicy])
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.NetworkPolicy = nil }))
	assert.Contains(t, s.outbound(pkttest.TCP(s.addr("client")+":5001", to, pkttest.SYN)), b.String())
}

// Groups see a leg where it leaves a node and where it arrives, with the addresses it has there.
func TestAzureService_groupsOnTheWayToTheEndpoint(t *testing.T) {
	rule := func(d nsg.Direction, source, destination string) *nsg.Config {
		return &nsg.Config{NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: overlay.ClusterSecurityGroupName, SecurityRules: []nsg.SecurityRule{{
			Name: "no", Priority: 100, Direction: d, Access: nsg.Deny, SourceAddressPrefixes: []string{source}, SourcePortRanges: []string{"*"},
			DestinationAddressPrefixes: []string{destination}, DestinationPortRanges: []string{"8080"},
		}}}}}
	}
	for _, tt := range []struct {
		name    string
		groups  func(s *serving) *nsg.Config
		pod, vm string // what becomes of a pod's packet to the cluster IP, and of a VM's to the node port of node 0; "" is taken
	}{
		{"pods may not leave", func(s *serving) *nsg.Config { return rule(nsg.Outbound, "10.244.0.0/16", "10.244.0.0/16") }, "nsg_outbound", ""},
		{"pods may not come", func(s *serving) *nsg.Config { return rule(nsg.Inbound, "10.244.0.0/16", "10.244.0.0/16") }, "nsg_inbound", ""},
		{"nodes may not leave for pods", func(s *serving) *nsg.Config { return rule(nsg.Outbound, s.node(0)+"/32", "10.244.0.0/16") }, "", "nsg_outbound"},
		{"nodes may not come to pods", func(s *serving) *nsg.Config { return rule(nsg.Inbound, s.node(0)+"/32", "10.244.0.0/16") }, "", "nsg_inbound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServing(t, overlay.Service{Type: overlay.NodePort}, "b")
			require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.SecurityGroups = tt.groups(s) }))
			check := func(want, got string) {
				t.Helper()
				if want == "" {
					assert.Contains(t, got, s.addr("b")+":8080")
				} else {
					assert.Equal(t, want, got)
				}
			}
			check(tt.pod, s.outbound(pkttest.TCP(s.addr("client")+":5000", s.web.ClusterIPs[0].String()+":80", pkttest.SYN)))
			check(tt.vm, s.inbound(pkttest.TCP("10.224.9.9:5000", fmt.Sprintf("%s:%d", s.node(0), s.web.Ports[0].NodePort), pkttest.SYN)))
			check(tt.pod, s.outbound(pkttest.TCP(s.addr("client")+":5000", s.addr("b")+":8080", pkttest.SYN)))
			s.endpoints("a") // on node 0: nothing leaves it
			assert.Contains(t, s.outbound(pkttest.TCP(s.addr("client")+":6000", s.web.ClusterIPs[0].String()+":80", pkttest.SYN)), s.addr("a"))
		})
	}
}

// A host port is no node port, whoever comes first.
func TestHostPortsAreNoNodePorts(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.NodePort, Ports: []overlay.ServicePort{{Port: 80, NodePort: 30100}}})
	host := func(port uint16, p snat.Protocol) error {
		_, err := s.OpenHostPorts("a", "", []overlay.ContainerPort{{Protocol: p, Port: 8080, HostPort: port}}, "")
		return err
	}
	err := host(30100, snat.TCP)
	require.ErrorIs(t, err, flow.ErrConflict)
	for _, text := range []string{"Ports[0].HostPort", "30100", `node port of Service "web"`} {
		assert.ErrorContains(t, err, text)
	}
	require.NoError(t, host(30086, snat.TCP))
	_, err = s.AddService(s.now, overlay.Service{Name: "next", Type: overlay.NodePort, Ports: []overlay.ServicePort{{Port: 80, NodePort: 30086}}})
	require.ErrorIs(t, err, flow.ErrOverlap)
	for _, text := range []string{"Ports[0].NodePort", "30086", `pod "a"`} {
		assert.ErrorContains(t, err, text)
	}
	next, err := s.AddService(s.now, overlay.Service{Name: "next", Type: overlay.NodePort, Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	assert.EqualValues(t, 30087, next.Ports[0].NodePort, "the first that nobody has or should name")
	require.NoError(t, s.RemovePod("a"))
	_, err = s.AddService(s.now, overlay.Service{Name: "last", Type: overlay.NodePort, Ports: []overlay.ServicePort{{Port: 80, NodePort: 30086}}})
	require.NoError(t, err)
}
