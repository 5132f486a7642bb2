package claims_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/claims"
	"github.com/seed-a61be3fe/natplane/snat"
)

func TestPortsAreGivenOnceForEachProtocol(t *testing.T) {
	var c claims.Claims
	c.AddPort(claims.Port{Protocol: snat.TCP, Number: 30001}, `Service "a"`)
	c.AddPort(claims.Port{Protocol: snat.TCP}, "nobody")
	var l problems.List
	c.Claim(&l, "Ports[0].NodePort", claims.Port{Protocol: snat.UDP, Number: 30001}, `Service "b"`)
	require.NoError(t, l.Err())
	c.Claim(&l, "Ports[1].NodePort", claims.Port{Protocol: snat.TCP, Number: 30001}, `Service "b"`)
	assert.ErrorIs(t, l.Err(), flow.ErrOverlap)
	for _, text := range []string{"Ports[1].NodePort", "30001", `Service "a" has it`} {
		assert.ErrorContains(t, l.Err(), text)
	}
	first, err := new(claims.Claims).NextPort(snat.TCP, "c")
	require.NoError(t, err)
	assert.EqualValues(t, 30086, first, "the ports before are for Services that name theirs")
	seen := map[uint16]bool{30001: true}
	for range claims.LastNodePort - claims.FirstNodePort {
		n, err := c.NextPort(snat.TCP, "c")
		require.NoError(t, err)
		require.False(t, seen[n])
		seen[n] = true
	}
	_, err = c.NextPort(snat.TCP, "c")
	assert.ErrorIs(t, err, flow.ErrTooMany)
}

// All of a small range but the first two and the last, the upper half first.
func TestAddressesOfASmallRange(t *testing.T) {
	var c claims.Claims
	p, kept := netip.MustParsePrefix("10.0.0.0/28"), netip.MustParseAddr("10.0.0.10")
	for _, want := range []int{8, 9, 11, 12, 13, 14, 2, 3, 4, 5, 6, 7} {
		a, err := c.NextAddr(p, kept)
		require.NoError(t, err)
		require.Equal(t, byte(want), a.As4()[3])
		c.AddAddrs(a)
	}
	_, err := c.NextAddr(p, kept)
	assert.ErrorIs(t, err, flow.ErrTooMany)
}

func TestAddressesAreOfTheUpperHalf(t *testing.T) {
	for cidr, want := range map[string]string{"10.0.0.0/16": "10.0.128.2", "fd00::/108": "fd00::8:2", "10.0.0.0/8": "10.8.0.2"} {
		p := netip.MustParsePrefix(cidr)
		var c claims.Claims
		first, err := c.NextAddr(p, netip.Addr{})
		require.NoError(t, err)
		c.AddAddrs(first)
		got, err := c.NextAddr(p, first.Next())
		require.NoError(t, err)
		assert.Equal(t, want, got.String())
	}
	var c claims.Claims
	p := netip.MustParsePrefix("10.0.0.0/30")
	c.AddAddrs(netip.MustParseAddr("10.0.0.2"))
	_, err := c.NextAddr(p, netip.Addr{})
	assert.ErrorIs(t, err, flow.ErrTooMany)
	assert.ErrorContains(t, err, "10.0.0.0/30")
}
