package lb

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

func sixteenIPs() NATGateway {
	return NATGateway{Name: "egress", PublicIPPrefixes: []netip.Prefix{netip.MustParsePrefix("20.60.0.0/28")}}
}

func TestAzure_38_gateway_of_16_addresses(t *testing.T) {
	g := sixteenIPs()
	require.NoError(t, g.Validate())
	assert.Len(t, g.Addrs(), 16)
	assert.Equal(t, 1_032_192, g.Ports(false))

	g.PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.61.0.1")}
	assert.ErrorIs(t, g.Validate(), flow.ErrTooMany)
	assert.EqualError(t, g.Validate(), "PublicIPAddresses has 17 IPv4 addresses, those of PublicIPPrefixes included: too many: at most 16")

	mixed := NATGateway{PublicIPAddresses: g.PublicIPAddresses, PublicIPPrefixes: []netip.Prefix{netip.MustParsePrefix("20.60.0.0/29")}}
	require.NoError(t, mixed.Validate())
	assert.Equal(t, 9*64_512, mixed.Ports(false))
	mixed.Generation = preset.NATGateway2020
	assert.Equal(t, 9*64_000, mixed.Ports(false))
}

func TestNATGatewayValidateReportsEveryField(t *testing.T) {
	for _, tt := range []struct {
		name     string
		damage   func(*NATGateway)
		sentinel error
		want     string
	}{
		{"SKU", func(g *NATGateway) { g.SKU = 2 }, flow.ErrOutOfRange, "SKU 2: out of range"},
		{"generation", func(g *NATGateway) { g.Generation = 3 }, flow.ErrOutOfRange, "Generation 3: out of range"},
		{"idle timeout too short", func(g *NATGateway) { g.IdleTimeout = 3 * time.Minute }, flow.ErrOutOfRange, "IdleTimeout 3m0s: out of range: valid are whole minutes 4..120"},
		{"idle timeout too long", func(g *NATGateway) { g.IdleTimeout = 121 * time.Minute }, flow.ErrOutOfRange, "IdleTimeout 2h1m0s"},
		{"no address", func(g *NATGateway) { g.PublicIPPrefixes = nil }, flow.ErrMissing, "PublicIPAddresses []: missing: give 1..16"},
		{"zero address", func(g *NATGateway) { g.PublicIPAddresses = make([]netip.Addr, 1) }, flow.ErrAddress, "PublicIPAddresses[0] invalid IP"},
		{"zero prefix", func(g *NATGateway) { g.PublicIPPrefixes[0] = netip.Prefix{} }, flow.ErrPrefix, "PublicIPPrefixes[0] invalid Prefix"},
		{"link-local", func(g *NATGateway) { g.PublicIPAddresses = []netip.Addr{netip.MustParseAddr("169.254.1.1")} }, flow.ErrAddress, "PublicIPAddresses[0] 169.254.1.1"},
		{"multicast", func(g *NATGateway) { g.PublicIPAddresses = []netip.Addr{netip.MustParseAddr("224.0.0.1")} }, flow.ErrAddress, "PublicIPAddresses[0] 224.0.0.1"},
		{"host bits", func(g *NATGateway) { g.PublicIPPrefixes[0] = netip.MustParsePrefix("20.60.0.1/28") }, flow.ErrPrefix, "did you mean 20.60.0.0/28?"},
		{"prefix too large", func(g *NATGateway) { g.PublicIPPrefixes[0] = netip.MustParsePrefix("20.60.0.0/27") }, flow.ErrOutOfRange, "PublicIPPrefixes[0] 20.60.0.0/27: out of range: valid are /28../31"},
		{"IPv6 on Standard", func(g *NATGateway) { g.PublicIPPrefixes[0] = netip.MustParsePrefix("2001:db8::/124") }, ErrUnsupported, "PublicIPPrefixes[0] 2001:db8::/124: not supported: SKU Standard has IPv4 only"},
		{"IPv6 prefix too large", func(g *NATGateway) {
			g.SKU, g.PublicIPPrefixes[0] = GatewayStandardV2, netip.MustParsePrefix("2001:db8::/123")
		}, flow.ErrOutOfRange, "valid are /124../127"},
		{"address twice", func(g *NATGateway) { g.PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.60.0.3")} }, flow.ErrOverlap, "PublicIPPrefixes[0] 20.60.0.0/28: overlap: with 20.60.0.3/32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := sixteenIPs()
			tt.damage(&g)
			assert.ErrorIs(t, g.Validate(), tt.sentinel)
			assert.ErrorContains(t, g.Validate(), tt.want)
		})
	}
}

func TestNATGatewayStandardV2HasBothFamilies(t *testing.T) {
	g := sixteenIPs()
	g.SKU = GatewayStandardV2
	g.PublicIPPrefixes = append(g.PublicIPPrefixes, netip.MustParsePrefix("2001:db8::/124"))
	require.NoError(t, g.Validate(), "16 of each family")
	assert.Equal(t, 1_032_192, g.Ports(true))
	g.IdleTimeout = 120 * time.Minute
	require.NoError(t, g.Validate())
}
