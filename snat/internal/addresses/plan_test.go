package addresses_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// words returns an address as tuples hold it.
func words(s string) [2]uint64 {
	a := netip.MustParseAddr(s)
	if a.Is4() {
		return [2]uint64{uint64(flow.Addr4(a))}
	}
	return flow.Addr6(a)
}

// tuple returns that of a TCP flow.
func tuple(inside, remote string, port uint16) *ports.Tuple {
	t := &ports.Tuple{Proto: wire.ProtoTCP, Inside: words(inside), Remote: words(remote), DestPort: port}
	if netip.MustParseAddr(inside).Is6() {
		t.Family = 1
	}
	return t
}

// plan is one of both families: instance 3 in shard 2, whose own addresses are .1 and
// whose pods are behind, and frontend 0.
func plan() *addresses.Plan {
	p := &addresses.Plan{Destinations: addresses.NewDestinations([]addresses.Row{
		{Row: prefixes.Row{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, Action: addresses.NodeAddress, BothWays: true},
		{Row: prefixes.Row{Prefix: netip.MustParsePrefix("10.0.0.0/8"), First: 25}, Action: addresses.Blackhole},
		{Row: prefixes.Row{Prefix: netip.MustParsePrefix("169.254.0.0/16")}, Action: addresses.NodeAddress},
	})}
	source := addresses.Pack(3, 2)
	p.Inside4.Put(netip.MustParsePrefix("192.168.0.0/24"), source)
	p.Inside6.Put(netip.MustParsePrefix("fd00::/64"), source)
	p.Outside4.Put(uint32(words("20.50.1.1")[0]), 1)
	p.Outside6.Put(words("2001:db8:50::1"), 1)
	p.Outside4.Put(uint32(words("192.168.0.1")[0]), (3|addresses.NodeFlag)+1)
	return p
}

func TestSourcesAndFronts(t *testing.T) {
	p := plan()
	for _, inside := range []string{"192.168.0.7", "fd00::7"} {
		source := p.Source(tuple(inside, inside, 0))
		instance, shard := addresses.Unpack(source)
		assert.Equal(t, []any{uint32(3), uint8(2)}, []any{instance, shard}, inside)
		assert.False(t, addresses.IsDirect(source))
		assert.True(t, addresses.IsDirect(source|addresses.DirectFlag))
		assert.False(t, addresses.IsDirect(source|addresses.LookFlag))
	}
	assert.True(t, addresses.IsFrontend(p.Front(tuple("20.50.1.1", "20.50.1.1", 0))))
	assert.False(t, addresses.IsFrontend(p.Front(tuple("192.168.0.1", "20.50.1.1", 0))), "an own address")
	assert.False(t, addresses.IsFrontend(p.Front(tuple("192.168.0.9", "20.50.1.1", 0))), "none of ours")
}

func TestNarrowRowsComeFirst(t *testing.T) {
	p := plan()
	assert.Equal(t, addresses.Effect{Action: addresses.NodeAddress, BothWays: true, AnyPort: true}, *p.Effect(tuple("192.168.0.7", "10.1.1.1", 443), 443))
	assert.Equal(t, addresses.Effect{Action: addresses.Blackhole}, *p.Effect(tuple("192.168.0.7", "10.1.1.1", 25), 25))
	assert.Equal(t, addresses.Translate, p.ToRemote(wire.ProtoUDP, netip.MustParseAddrPort("203.0.113.9:53")))
	assert.Equal(t, addresses.Blackhole, p.ToRemote(wire.ProtoUDP, netip.MustParseAddrPort("10.1.1.1:25")))
	assert.Equal(t, addresses.Translate, p.ToRemote(wire.ProtoUDP, netip.AddrPort{}), "no address")
}

func TestAddressesThatMayNotBeginAFlow(t *testing.T) {
	p := plan()
	for _, tt := range []struct {
		inside, remote string
		want           flow.Reason
	}{
		{"192.168.0.7", "203.0.113.9", flow.ReasonNone}, {"fd00::7", "2001:db8::9", flow.ReasonNone},
		{"192.168.0.7", "192.168.0.7", flow.ReasonLand}, {"fd00::7", "fd00::7", flow.ReasonLand},
		{"127.0.0.1", "203.0.113.9", flow.ReasonMartianSource}, {"::1", "2001:db8::9", flow.ReasonMartianSource},
		{"192.168.0.7", "224.0.0.1", flow.ReasonMartianDestination}, {"fd00::7", "ff02::1", flow.ReasonMartianDestination},
		{"192.168.0.7", "169.254.1.1", flow.ReasonNone}, {"fd00::7", "fe80::1", flow.ReasonLinkLocal},
		{"192.168.0.7", "20.50.1.1", flow.ReasonHairpin}, {"fd00::7", "2001:db8:50::1", flow.ReasonHairpin},
	} {
		assert.Equal(t, tt.want, p.Refuses(tuple(tt.inside, tt.remote, 443)), "%s > %s", tt.inside, tt.remote)
	}
	for _, tt := range []struct {
		src, dst string
		want     flow.Reason
	}{
		{"203.0.113.9", "20.50.1.1", flow.ReasonNoFlow}, {"2001:db8::9", "2001:db8:50::1", flow.ReasonNoFlow},
		{"20.50.1.1", "20.50.1.1", flow.ReasonLand}, {"20.50.1.1", "192.168.0.1", flow.ReasonSpoofFrontend},
		{"192.168.0.7", "20.50.1.1", flow.ReasonMartianSource}, {"192.168.0.7", "192.168.0.1", flow.ReasonNoFlow},
		{"169.254.1.1", "20.50.1.1", flow.ReasonLinkLocal}, {"fe80::1", "2001:db8:50::1", flow.ReasonLinkLocal},
		{"::1", "2001:db8:50::1", flow.ReasonMartianSource},
	} {
		got := p.Unsolicited(uint32(words(tt.src)[0]), uint32(words(tt.dst)[0]))
		if netip.MustParseAddr(tt.src).Is6() {
			got = p.Unsolicited6(words(tt.src), words(tt.dst))
		}
		assert.Equal(t, tt.want, got, "%s > %s", tt.src, tt.dst)
	}
	assert.Equal(t, flow.ReasonSpoofFrontend, p.Stranger(tuple("20.50.1.1", "203.0.113.9", 1)))
	assert.Equal(t, flow.ReasonSpoof, p.Stranger(tuple("192.168.9.9", "203.0.113.9", 1)))
	assert.Equal(t, flow.ReasonMartianSource, p.Stranger(tuple("::1", "2001:db8::9", 1)))
}
