package overlay_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
)

// annotated returns annotations of Azure.
func annotated(namesAndValues ...string) map[string]string {
	all := make(map[string]string)
	for i := 0; i < len(namesAndValues); i += 2 {
		all[annotations.Prefix+namesAndValues[i]] = namesAndValues[i+1]
	}
	return all
}

// reconfigure changes the configuration of the cluster, or says why not.
func (s *serving) reconfigure(change func(*overlay.ClusterConfig)) error {
	c := s.Config()
	change(&c)
	_, err := s.Reconfigure(s.now, c)
	return err
}

// from returns what becomes of a SYN from outside to the Service.
func (s *serving) from(client string) string {
	return s.inbound(pkttest.TCP(client, s.public(), pkttest.SYN))
}

// Without ranges and tags the tag Internet may send to the frontend, and the rule goes with the
// Service.
func TestAzureService_groupAllowsTheInternet(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	group, ok := s.ClusterSecurityGroup()
	require.True(t, ok)
	require.Len(t, group.NetworkSecurityGroups, 1)
	rules := group.NetworkSecurityGroups[0].SecurityRules
	require.Len(t, rules, 1)
	assert.Equal(t, 500, rules[0].Priority)
	assert.Equal(t, []string{nsg.TagInternet}, rules[0].SourceAddressPrefixes)
	assert.Equal(t, []string{s.web.LoadBalancerIPs[0].String()}, rules[0].DestinationAddressPrefixes, "floating IP: the frontend")
	assert.Equal(t, []string{"80"}, rules[0].DestinationPortRanges)
	assert.Len(t, group.NetworkInterfaces, 3)
	assert.Contains(t, s.from(outsider), s.addr("b"))

	other, err := s.AddService(s.now, overlay.Service{Name: "other", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	group, _ = s.ClusterSecurityGroup()
	require.Len(t, group.NetworkSecurityGroups[0].SecurityRules, 1, "what allows the same is one rule")
	assert.Contains(t, group.NetworkSecurityGroups[0].SecurityRules[0].DestinationAddressPrefixes, other.LoadBalancerIPs[0].String())
	require.NoError(t, s.RemoveService(s.now, "other"))
	require.NoError(t, s.RemoveService(s.now, "web"))
	_, ok = s.ClusterSecurityGroup()
	assert.False(t, ok, "nothing needs the group")
}

// The group is that of the nodes from the beginning, so what it decides about hosts outside of the virtual
// network that reach nodes by other ways than Services does not depend on what has been called before.
func TestGroupDoesNotDependOnHistory(t *testing.T) {
	const azure, onPrem, other = "203.0.113.9:5000", "192.168.7.9:5000", "172.31.9.9:5000"
	for _, routed := range []bool{false, true} {
		s := newServing(t, overlay.Service{Type: overlay.ClusterIP}, "b")
		require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
			if c.VNet.ServiceEndpoints = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}; routed {
				c.OutboundType, c.VNet.ServiceEndpoints = overlay.OutboundUserDefinedRouting, nil
			}
			c.VNet.PeeredPrefixes = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
			c.Masquerade.NonMasqueradeCIDRs = []netip.Prefix{netip.MustParsePrefix("172.31.0.0/16")}
		}))
		node := s.Nodes()[1].Addrs[0].String() + ":22"
		check := func(when string) {
			for client, want := range map[string]string{azure: "nsg_inbound", other: "nsg_inbound", onPrem: onPrem + " > " + node, vm: vm + " > " + node} {
				assert.Equal(t, want, s.inbound(pkttest.TCP(client, node, pkttest.SYN)), "%s, %s, %t", client, when, routed)
				at := s.addr("b") + ":22"
				if want != "nsg_inbound" {
					want = client + " > " + at
				}
				assert.Equal(t, want, s.inbound(pkttest.UDP(client, at, "x")), "%s, %s, %t", client, when, routed)
			}
		}
		check("at first")
		_, err := s.AddService(s.now, overlay.Service{Name: "public", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
		require.NoError(t, err)
		check("with a Service")
		require.NoError(t, s.reconfigure(func(*overlay.ClusterConfig) {}))
		check("after a change of nothing")
		require.NoError(t, s.RemoveService(s.now, "public"))
		check("without it again")
	}
}

// Ranges and tags say who may send; kube-proxy knows the ranges of the Service only.
func TestAzureRow_4_6_allowedSources(t *testing.T) {
	ranges := func(text ...string) (all []netip.Prefix) {
		for _, r := range text {
			all = append(all, netip.MustParsePrefix(r))
		}
		return all
	}
	tags := &nsg.Config{ServiceTags: []nsg.ServiceTag{{Name: "AzureFrontDoor", Prefixes: ranges("203.0.113.0/24")}}}
	for _, tt := range []struct {
		name       string
		svc        overlay.Service
		here, door string // what becomes of clients 198.51.100.9 and 203.0.113.1; "" is taken
	}{
		{"ranges", overlay.Service{LoadBalancerSourceRanges: ranges("198.51.100.0/24")}, "", "nsg_inbound"},
		{"ranges of the annotation", overlay.Service{Annotations: annotated("azure-allowed-ip-ranges", "198.51.100.0/24")}, "", "nsg_inbound"},
		{"a tag", overlay.Service{Annotations: annotated("azure-allowed-service-tags", "AzureFrontDoor")}, "nsg_inbound", ""},
		{"ranges of the annotation and a tag", overlay.Service{Annotations: annotated("azure-allowed-service-tags", "AzureFrontDoor", "azure-allowed-ip-ranges", "198.51.100.0/24")}, "", ""},
		{"ranges and a tag: kube-proxy drops", overlay.Service{
			LoadBalancerSourceRanges: ranges("198.51.100.0/24"), Annotations: annotated("azure-allowed-service-tags", "AzureFrontDoor"),
		}, "", "source_range"},
		{"everybody by a range", overlay.Service{LoadBalancerSourceRanges: ranges("0.0.0.0/0")}, "", ""},
		{"without floating IP", overlay.Service{Annotations: annotated("azure-disable-load-balancer-floating-ip", "true", "azure-allowed-ip-ranges", "198.51.100.0/24")}, "", "nsg_inbound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServing(t, overlay.Service{Name: "first"}, "b")
			require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.SecurityGroups = tags }))
			tt.svc.Name, tt.svc.Type, tt.svc.Ports = "web", overlay.LoadBalancer, []overlay.ServicePort{{Name: "http", Port: 80, TargetPort: 8080}}
			var err error
			s.web, err = s.AddService(s.now, tt.svc)
			require.NoError(t, err)
			s.endpoints("a", "b")
			for client, want := range map[string]string{"198.51.100.9:5000": tt.here, "203.0.113.1:5000": tt.door} {
				if got := s.from(client); want == "" {
					assert.Contains(t, got, ":8080", client)
				} else {
					assert.Equal(t, want, got, client)
				}
			}
		})
	}
}

// What the annotations name has to exist, and then nothing has changed.
func TestServiceRulesThatAreRefused(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	for _, tt := range []struct {
		svc   overlay.Service
		kind  error
		texts []string
	}{
		{overlay.Service{Annotations: annotated("azure-allowed-service-tags", "Nobody")}, flow.ErrUnknownName, []string{"Nobody"}},
		{overlay.Service{
			Annotations:              annotated("azure-allowed-ip-ranges", "10.0.0.0/8"),
			LoadBalancerSourceRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		}, flow.ErrConflict, []string{"azure-allowed-ip-ranges", "10.0.0.0/8"}},
	} {
		tt.svc.Name, tt.svc.Type, tt.svc.Ports = "bad", overlay.LoadBalancer, []overlay.ServicePort{{Port: 81}}
		_, err := s.AddService(s.now, tt.svc)
		require.ErrorIs(t, err, tt.kind)
		for _, text := range tt.texts {
			assert.ErrorContains(t, err, text)
		}
		assert.Len(t, s.Services(), 1)
		group, _ := s.ClusterSecurityGroup()
		assert.Len(t, group.NetworkSecurityGroups[0].SecurityRules, 1)
		assert.Contains(t, s.from(outsider), s.addr("b"))
	}
	// A tag that a Service names may not go.
	tags := &nsg.Config{ServiceTags: []nsg.ServiceTag{{Name: "Mine", Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}}}
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.SecurityGroups = tags }))
	_, err := s.AddService(s.now, overlay.Service{
		Name: "tagged", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 81}}, Annotations: annotated("azure-allowed-service-tags", "Mine"),
	})
	require.NoError(t, err)
	err = s.reconfigure(func(c *overlay.ClusterConfig) { c.SecurityGroups = nil })
	require.ErrorIs(t, err, flow.ErrUnknownName)
	assert.ErrorContains(t, err, "Mine")
	assert.NotNil(t, s.Config().SecurityGroups)
}

// Rules of the user's in AKS's group stay and precede by their priority; what they take
// is left to them.
func TestAzureService_groupKeepsTheUsersRules(t *testing.T) {
	deny := nsg.SecurityRule{
		Name: "no-neighbour", Priority: 500, Access: nsg.Deny, Protocol: nsg.Any, SourceAddressPrefixes: []string{"198.51.100.9"},
		SourcePortRanges: []string{"*"}, DestinationAddressPrefixes: []string{"*"}, DestinationPortRanges: []string{"*"},
	}
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		c.SecurityGroups = &nsg.Config{NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: overlay.ClusterSecurityGroupName, SecurityRules: []nsg.SecurityRule{deny}}}}
	}))
	assert.Equal(t, "nsg_inbound", s.from(outsider))
	assert.Contains(t, s.from("198.51.100.10:5000"), ":8080")
	group, _ := s.ClusterSecurityGroup()
	rules := group.NetworkSecurityGroups[0].SecurityRules
	require.Len(t, rules, 2)
	assert.Equal(t, deny, rules[0])
	assert.Equal(t, 501, rules[1].Priority)
	require.NoError(t, s.RemoveService(s.now, "web"))
	group, _ = s.ClusterSecurityGroup()
	assert.Equal(t, []nsg.SecurityRule{deny}, group.NetworkSecurityGroups[0].SecurityRules)

	// An interface of the user's own has the user's group instead.
	node := s.Nodes()[0]
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		c.SecurityGroups = &nsg.Config{
			NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "mine"}},
			NetworkInterfaces:     []nsg.NetworkInterface{{Name: "nic", Addrs: node.Addrs, NetworkSecurityGroup: "mine"}},
		}
	}))
	group, _ = s.ClusterSecurityGroup()
	assert.Len(t, group.NetworkInterfaces, 2)
}

// Deny-all keeps the virtual network out, which the default rules would let in, and it is the
// node that is denied without floating IP.
func TestAzureRow_4_6_denyAll(t *testing.T) {
	s := newServing(t, overlay.Service{
		Type: overlay.LoadBalancer, LoadBalancerSourceRanges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		Annotations: annotated("azure-deny-all-except-load-balancer-source-ranges", "true", "azure-disable-load-balancer-floating-ip", "true"),
	}, "b")
	group, _ := s.ClusterSecurityGroup()
	rules := group.NetworkSecurityGroups[0].SecurityRules
	require.Len(t, rules, 2, "for IPv4, which it has")
	assert.Equal(t, 4095, rules[1].Priority)
	assert.Equal(t, nsg.Deny, rules[1].Access)
	assert.Contains(t, s.from(outsider), s.addr("b"))
	at := s.node(0) + ":22"
	assert.Equal(t, "nsg_inbound", s.inbound(pkttest.TCP("10.224.9.9:5000", at, pkttest.SYN)), "a deny rule for the node")
	require.NoError(t, s.RemoveService(s.now, "web"))
	assert.Equal(t, "10.224.9.9:5001 > "+at, s.inbound(pkttest.TCP("10.224.9.9:5001", at, pkttest.SYN)), "gone with the Service")
}
