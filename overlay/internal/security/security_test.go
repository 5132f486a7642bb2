package security_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
)

func TestGroupsAreThereIfAnythingNeedsThem(t *testing.T) {
	node := security.Node{Name: "n", Pool: "p", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.4")}}
	public := node
	public.Public = true
	web := security.Service{Name: "web", Service: nsg.Service{Frontends: []netip.Addr{netip.MustParseAddr("20.50.1.9")}, Ports: []nsg.ServicePort{{Protocol: nsg.TCP, Port: 80, NodePort: 30080}}}}
	byNodePort := web
	byNodePort.DisableFloatingIP = true
	bad := web
	bad.AllowedIPRanges, bad.LoadBalancerSourceRanges = []string{"10.0.0.0/8"}, []string{"10.0.0.0/8"}
	pools := []security.Pool{{Name: "p", AllowedHostPorts: "80/tcp"}}
	for name, tt := range map[string]struct {
		c     security.Cluster
		ok    bool
		rules int
		err   error
	}{
		"nobody":                       {security.Cluster{Nodes: []security.Node{node}, Pools: pools}, false, 0, nil},
		"the user":                     {security.Cluster{User: &nsg.Config{}, Nodes: []security.Node{node}, Pools: pools}, true, 0, nil},
		"a node with a public address": {security.Cluster{Nodes: []security.Node{public}, Pools: pools}, true, 1, nil},
		"service endpoints":            {security.Cluster{Nodes: []security.Node{node}, Beyond: true}, true, 0, nil},
		"a Service":                    {security.Cluster{Nodes: []security.Node{node}, Services: []security.Service{web}}, true, 1, nil},
		"Services of both kinds":       {security.Cluster{Nodes: []security.Node{node}, Services: []security.Service{web, byNodePort}}, true, 2, nil},
		"a Service with a mistake":     {security.Cluster{Nodes: []security.Node{node}, Services: []security.Service{bad}}, true, 0, flow.ErrConflict},
	} {
		config, ok, err := tt.c.Groups()
		assert.Equal(t, tt.ok, ok, name)
		if tt.err != nil {
			assert.ErrorIs(t, err, tt.err, name)
			assert.ErrorContains(t, err, `Service "web"`)
			continue
		}
		require.NoError(t, err, name)
		own, _, err := tt.c.ClusterGroup()
		require.NoError(t, err, name)
		if !ok {
			assert.Empty(t, config.NetworkSecurityGroups, name)
			continue
		}
		require.Len(t, own.NetworkSecurityGroups, 1, name)
		assert.Len(t, own.NetworkSecurityGroups[0].SecurityRules, tt.rules, name)
		assert.Equal(t, []nsg.NetworkInterface{{Name: "n", Addrs: node.Addrs, NetworkSecurityGroup: security.GroupName}}, config.NetworkInterfaces, name)
	}
	c := security.Cluster{Nodes: []security.Node{node}, Services: []security.Service{byNodePort}}
	config, _, _ := c.Groups()
	r := config.NetworkSecurityGroups[0].SecurityRules[0]
	assert.Equal(t, [][]string{{"10.224.0.4"}, {"30080"}}, [][]string{r.DestinationAddressPrefixes, r.DestinationPortRanges}, "without floating IP the node is the destination")
}

// A Service opens node ports at addresses of its own family: one of two families may float over IPv4 only.
func TestNodePortsAreOpenToTheFamilyOfTheFrontend(t *testing.T) {
	node := security.Node{Name: "n", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.4"), netip.MustParseAddr("fd00:1::4")}}
	for frontend, want := range map[string]string{"fd00:1::ffff": "fd00:1::4", "10.224.0.9": "10.224.0.4"} {
		c := security.Cluster{Nodes: []security.Node{node}, Services: []security.Service{{Name: "web", Service: nsg.Service{
			DisableFloatingIP: true, Internal: true, LoadBalancerSourceRanges: []string{"198.51.100.0/24", "2001:db8::/64"},
			Frontends: []netip.Addr{netip.MustParseAddr(frontend)}, Ports: []nsg.ServicePort{{Protocol: nsg.UDP, Port: 53, NodePort: 30087}},
		}}}}
		config, _, err := c.Groups()
		require.NoError(t, err)
		rules := config.NetworkSecurityGroups[0].SecurityRules
		require.Len(t, rules, 1, frontend)
		assert.Equal(t, []string{want}, rules[0].DestinationAddressPrefixes)
	}
}
