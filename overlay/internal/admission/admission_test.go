package admission_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
	"github.com/seed-a61be3fe/natplane/snat"
)

func rules(t *testing.T, edit func(*admission.Config)) *admission.Rules {
	c := admission.Config{Unmasked: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Security: &security.Cluster{
		VirtualNetwork: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/12"), netip.MustParsePrefix("10.244.0.0/16")},
	}}
	for i, name := range []string{"n0", "n1", "n2"} {
		addr := netip.AddrFrom4([4]byte{10, 224, 0, byte(4 + i)})
		c.Nodes = append(c.Nodes, admission.Node{
			Name: name, Addrs: []netip.Addr{addr}, PodBlocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24)},
		})
		c.Security.Nodes = append(c.Security.Nodes, security.Node{Name: name, Addrs: []netip.Addr{addr}})
	}
	edit(&c)
	r, err := admission.New(c)
	require.NoError(t, err)
	return r
}

func socket(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func TestRulesInTheirOrder(t *testing.T) {
	r := rules(t, func(c *admission.Config) {
		c.RestrictIMDS = true
		c.NetworkPolicy = func(f snat.NewFlow) bool { return f.Remote.Port() != 25 }
		c.Admit = func(f snat.NewFlow) flow.Reason { return flow.ReasonRoute }
		c.Security.User = &nsg.Config{NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: security.GroupName, SecurityRules: []nsg.SecurityRule{{
			Name: "no", Priority: 100, Direction: nsg.Inbound, Access: nsg.Deny, SourceAddressPrefixes: []string{"10.244.0.0/16"}, SourcePortRanges: []string{"*"},
			DestinationAddressPrefixes: []string{"*"}, DestinationPortRanges: []string{"22"},
		}}}}}
	})
	for _, tt := range []struct {
		from, to string
		who      string
		want     flow.Reason
	}{
		{"10.244.0.2:1", "169.254.169.254:25", "the node", flow.ReasonIMDS},
		{"10.244.0.2:1", "168.63.129.16:80", "the node", flow.ReasonPlatform},
		{"10.224.0.4:1", "168.63.129.16:25", "the network policy", flow.ReasonNetworkPolicy},
		{"10.244.0.2:1", "10.244.1.2:22", "the network security group", flow.ReasonNSGInbound}, // at the receiver
		{"10.244.0.2:1", "10.224.0.5:22", "Admit", flow.ReasonRoute},                           // who sees the node
		{"10.244.0.2:1", "10.244.0.3:22", "Admit", flow.ReasonRoute},                           // on the node
	} {
		reason, who := r.Decide(snat.NewFlow{From: flow.Inside, Name: "n0", Protocol: 6, Inside: socket(tt.from), Remote: socket(tt.to)})
		assert.Equal(t, tt.want, reason, tt.to)
		assert.Equal(t, tt.who, who, tt.to)
	}
	assert.Equal(t, flow.ReasonSpoof, r.Admit(snat.NewFlow{Name: "nobody"}))
	assert.True(t, r.LimitsLegs() && r.LimitsEgress())

	leg := admission.Leg{Node: "n0", Protocol: 17, Client: socket("10.244.0.2:1"), Seen: socket("10.244.0.2:1"), Endpoint: socket("10.244.1.2:22")}
	assert.Equal(t, flow.ReasonNSGInbound, r.DecideLeg(&leg))
	leg.Seen = socket("10.224.0.4:1")
	assert.Equal(t, flow.ReasonNone, r.DecideLeg(&leg), "masqueraded it is the node's")
	leg.Endpoint = socket("198.51.100.9:22")
	assert.Equal(t, flow.ReasonNone, r.DecideLeg(&leg), "translators are asked about what leaves the cluster")
}

// What leaves through a tunnel is the pod's to the policy and the user, and the exit's to groups and machines.
func TestTunnels(t *testing.T) {
	r := rules(t, func(c *admission.Config) {
		c.NetworkPolicy = func(f snat.NewFlow) bool { return f.Name == "n0" && f.Remote.Port() != 25 }
		c.Admit = func(f snat.NewFlow) flow.Reason {
			if f.Inside == socket("10.244.0.2:1") && f.Remote.Port() == 80 {
				return flow.ReasonRoute
			}
			return flow.ReasonNone
		}
		c.Machine = func(snat.NewFlow) flow.Reason { return flow.ReasonConntrack }
		c.Exit = func(node string) flow.Reason {
			return map[bool]flow.Reason{true: flow.ReasonVMConnections}[node == "n2"]
		}
		deny := func(priority int, from string, port string) nsg.SecurityRule {
			return nsg.SecurityRule{
				Name: fmt.Sprint("no", priority), Priority: priority, Direction: nsg.Outbound, Access: nsg.Deny, SourceAddressPrefixes: []string{from}, SourcePortRanges: []string{"*"},
				DestinationAddressPrefixes: []string{"*"}, DestinationPortRanges: []string{port},
			}
		}
		c.Security.User = &nsg.Config{NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: security.GroupName, SecurityRules: []nsg.SecurityRule{
			deny(100, "10.244.0.0/16", "*"), deny(101, "10.224.0.4", "*"), deny(102, "10.224.0.5", "22"),
		}}}}
	})
	for _, tt := range []struct {
		exit, to, who string
		want          flow.Reason
	}{
		{"n1", "198.51.100.9:443", "the machine of the gateway's node", flow.ReasonNone},
		{"n2", "198.51.100.9:443", "the machine of the gateway's node", flow.ReasonVMConnections},
		{"n2", "198.51.100.9:80", "Admit", flow.ReasonRoute},
		{"n1", "198.51.100.9:25", "the network policy", flow.ReasonNetworkPolicy},
		{"n1", "198.51.100.9:22", "the network security group", flow.ReasonNSGOutbound},
		{"n1", "198.51.100.9:80", "Admit", flow.ReasonRoute},
		{"n0", "198.51.100.9:443", "the network security group", flow.ReasonNSGOutbound},
		{"n9", "198.51.100.9:443", "no node of this name", flow.ReasonSpoof},
	} {
		reason, who := r.DecideTunnel(snat.NewFlow{From: flow.Inside, Name: "n0", Protocol: 6, Inside: socket("10.244.0.2:1"), Remote: socket(tt.to)}, tt.exit)
		assert.Equal(t, []any{tt.want, tt.who}, []any{reason, who}, "%s by %s", tt.to, tt.exit)
	}
}

func TestWithoutRulesNothingIsLimited(t *testing.T) {
	r := rules(t, func(*admission.Config) {})
	assert.False(t, r.LimitsLegs() || r.LimitsEgress())
	assert.Equal(t, flow.ReasonNone, r.Admit(snat.NewFlow{From: flow.Outside, Name: "n1", Protocol: 6, Inside: socket("10.244.1.2:80"), Remote: socket("198.51.100.9:1")}))
}
