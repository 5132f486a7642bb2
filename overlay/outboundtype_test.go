package overlay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
)

// What does not go together is refused, with field and value.
func TestValidate_outboundTypes(t *testing.T) {
	gateway := &lb.NATGateway{PublicIPAddresses: []netip.Addr{netip.MustParseAddr("20.60.0.1")}}
	for name, tt := range map[string]struct {
		cfg  ClusterConfig
		kind error
		want string
	}{
		"no such type": {single(func(c *ClusterConfig) { c.OutboundType = 99 }), flow.ErrOutOfRange, "OutboundType"},
		"two families behind a Standard gateway": {dual(func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGateway }),
			flow.ErrConflict, `OutboundType managedNATGateway: conflict: a NAT gateway of SKU Standard does not serve a cluster of two families, IPFamilies is "ipv4,ipv6"`},
		"outbound IPs beside a gateway": {single(func(c *ClusterConfig) {
			c.OutboundType, c.LoadBalancerProfile.ManagedOutboundIPCount = OutboundManagedNATGateway, 2
		}), flow.ErrConflict, "LoadBalancerProfile"},
		"idle timeout of a rule without one": {single(func(c *ClusterConfig) {
			c.OutboundType, c.LoadBalancerProfile.IdleTimeout = OutboundNone, time.Hour
		}), flow.ErrConflict, "LoadBalancerProfile"},
		"too many addresses": {single(func(c *ClusterConfig) {
			c.OutboundType, c.NATGatewayProfile.ManagedOutboundIPCount = OutboundManagedNATGateway, 17
		}), flow.ErrOutOfRange, "NATGatewayProfile.ManagedOutboundIPCount 17"},
		"IPv6 at a Standard gateway": {single(func(c *ClusterConfig) {
			c.OutboundType, c.NATGatewayProfile.ManagedOutboundIPCountIPv6 = OutboundManagedNATGateway, 1
		}), ErrFamily, "NATGatewayProfile.ManagedOutboundIPCountIPv6 1"},
		"a range without room": {single(func(c *ClusterConfig) {
			c.OutboundType, c.NATGatewayProfile.ManagedOutboundIPCount = OutboundManagedNATGateway, 8
			c.LoadBalancerProfile.ManagedOutboundIPRanges = pfx("20.55.0.0/30")
		}), flow.ErrOutOfRange, "LoadBalancerProfile.ManagedOutboundIPRanges 20.55.0.0/30: out of range: is too small for 8 managed outbound IPs"},
		"idle timeout of a gateway": {single(func(c *ClusterConfig) {
			c.OutboundType, c.NATGatewayProfile.IdleTimeout = OutboundManagedNATGateway, time.Second
		}), flow.ErrOutOfRange, "IdleTimeout 1s"},
		"no gateway":            {single(func(c *ClusterConfig) { c.OutboundType = OutboundUserAssignedNATGateway }), flow.ErrMissing, "NATGatewayProfile.NATGateway"},
		"a gateway for nothing": {single(func(c *ClusterConfig) { c.NATGatewayProfile.NATGateway = gateway }), flow.ErrConflict, "NATGatewayProfile.NATGateway"},
		"a profile for nothing": {single(func(c *ClusterConfig) { c.NATGatewayProfile.ManagedOutboundIPCount = 2 }), flow.ErrConflict, "NATGatewayProfile"},
		"a gateway in the VNet": {single(func(c *ClusterConfig) {
			c.OutboundType = OutboundUserAssignedNATGateway
			c.NATGatewayProfile.NATGateway = &lb.NATGateway{PublicIPAddresses: []netip.Addr{netip.MustParseAddr("10.224.3.3")}}
		}), flow.ErrOverlap, "NATGatewayProfile.NATGateway 10.224.3.3"},
		"a next hop without route": {single(func(c *ClusterConfig) {
			c.NextHop = func(flow.Time, []byte) flow.Verdict { return flow.Verdict{} }
		}), flow.ErrConflict, "NextHop"},
		"host bits": {single(func(c *ClusterConfig) {
			c.Masquerade.NonMasqueradeCIDRs = []netip.Prefix{netip.MustParsePrefix("192.168.1.1/16")}
		}), flow.ErrPrefix, "Masquerade.NonMasqueradeCIDRs[0] 192.168.1.1/16"},
		"everything":       {single(func(c *ClusterConfig) { c.Masquerade.NonMasqueradeCIDRs = pfx("0.0.0.0/0") }), flow.ErrPrefix, "must not be everything"},
		"the other family": {single(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = pfx("2001:db8::/32") }), ErrFamily, "VNet.ServiceEndpoints[0] 2001:db8::/32"},
		"no prefix":        {single(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = []netip.Prefix{{}} }), flow.ErrPrefix, "VNet.ServiceEndpoints[0]"},
		"services":         {single(func(c *ClusterConfig) { c.Masquerade.NonMasqueradeCIDRs = pfx("10.0.5.0/24") }), flow.ErrOverlap, "with ServiceCIDRs[0]"},
		"too many": {single(func(c *ClusterConfig) {
			for i := range 65 {
				c.Masquerade.NonMasqueradeCIDRs = append(c.Masquerade.NonMasqueradeCIDRs, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i), 0, 0}), 16))
			}
		}), flow.ErrTooMany, "Masquerade.NonMasqueradeCIDRs has 65 elements"},
		"groups": {single(func(c *ClusterConfig) {
			c.SecurityGroups = &nsg.Config{Subnets: []nsg.Subnet{{Name: "nodes", AddressPrefixes: pfx("10.224.0.0/16"), NetworkSecurityGroup: "nobody"}}}
		}), flow.ErrUnknownName, "SecurityGroups"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.cfg.Validate()
			require.ErrorIs(t, err, tt.kind)
			require.ErrorContains(t, err, tt.want)
		})
	}
	for _, typ := range []OutboundType{OutboundManagedNATGatewayV2, OutboundUserDefinedRouting, OutboundNone, OutboundBlock} {
		require.NoError(t, dual(func(c *ClusterConfig) { c.OutboundType = typ }).Validate(), typ)
	}
	require.Equal(t, "userAssignedNATGateway", OutboundUserAssignedNATGateway.String())
	require.Equal(t, "overlay.OutboundType(99)", OutboundType(99).String())
}
