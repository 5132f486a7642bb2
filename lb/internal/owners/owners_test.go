package owners

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/internal/problems"
)

func TestCheck(t *testing.T) {
	own := func(owner, prefix string) Owned {
		return Owned{netip.MustParsePrefix(prefix), Owner{Path: owner}, prefix, -1}
	}
	for want, all := range map[string][]Owned{
		"": {own("a", "10.0.0.0/24"), own("b", "10.0.1.0/24"), own("a", "10.0.0.7/32"), own("c", "fd00::/64")},
		"b.10.0.0.9/32 10.0.0.9/32: overlap: with a.10.0.0.0/24 10.0.0.0/24": {own("b", "10.0.0.9/32"), own("a", "10.0.0.7/32"), own("a", "10.0.0.0/24")},
		"b.10.0.0.7/32 10.0.0.7/32: overlap: with a.10.0.0.7/32 10.0.0.7/32": {own("a", "10.0.0.7/32"), own("b", "10.0.0.7/32")},
		"b.10.0.0.0/24 10.0.0.0/24: overlap: with a.10.0.0.0/16 10.0.0.0/16": {own("a", "10.0.0.0/16"), own("a", "10.0.0.0/30"), own("b", "10.0.0.0/24")},
	} {
		var l problems.List
		Check(&l, all)
		if want == "" {
			assert.NoError(t, l.Err())
			continue
		}
		assert.EqualError(t, l.Err(), want)
	}
	b := Owner{Path: "LoadBalancer", List: "Backends", Index: 3}
	for want, o := range map[string]Owned{
		"LoadBalancer.Backends[3].Addrs[1]":             {Owner: b, Field: "Addrs", Index: 1},
		"LoadBalancer.Backends[3].PublicIPAddresses[0]": {Owner: Owner{Path: b.Path, List: b.List, Index: 3, Part: "PublicIPAddresses"}},
		"Backends[2].Inside":                            {Owner: Owner{List: "Backends", Index: 2}, Field: "Inside", Index: -1},
	} {
		assert.Equal(t, want, o.path())
	}
	assert.Equal(t, netip.MustParsePrefix("10.0.0.7/32"), Host(netip.MustParseAddr("10.0.0.7")))
	assert.False(t, Host(netip.Addr{}).IsValid())
}
