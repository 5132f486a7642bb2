package snat_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/snat"
)

// named returns what %v makes of 0, 1 and so on, as far as the values have names.
func named[T ~uint8](t *testing.T) (names []string) {
	for i := range 16 {
		s := fmt.Sprint(T(i))
		if s == fmt.Sprintf("%s(%d)", fmt.Sprintf("%T", T(0))[len("snat."):], i) {
			break
		}
		assert.NotContains(t, names, s)
		names = append(names, s)
	}
	return names
}

// Every constant prints as its name, the last one of each type too, and what is no
// constant as its number.
func TestNames(t *testing.T) {
	assert.Equal(t, "Query", fmt.Sprint(snat.Query))
	assert.Len(t, named[snat.Protocol](t), int(snat.Query)+1)
	assert.Equal(t, "Blackhole", fmt.Sprint(snat.Blackhole))
	assert.Len(t, named[snat.RouteAction](t), int(snat.Blackhole)+1)
	assert.Equal(t, "PerConnection", fmt.Sprint(snat.PerConnection))
	assert.Len(t, named[snat.Mapping](t), int(snat.PerConnection)+1)
	assert.Equal(t, "PerConnectionFiltering", fmt.Sprint(snat.PerConnectionFiltering))
	assert.Len(t, named[snat.Filtering](t), int(snat.PerConnectionFiltering)+1)
	assert.Equal(t, "ShareNever", fmt.Sprint(snat.ShareNever))
	assert.Len(t, named[snat.PortShare](t), int(snat.ShareNever)+1)
	assert.Equal(t, "PreservePort", fmt.Sprint(snat.PreservePort))
	assert.Len(t, named[snat.PortChoice](t), int(snat.PreservePort)+1)
	assert.Equal(t, "RequireClass", fmt.Sprint(snat.RequireClass))
	assert.Len(t, named[snat.PortClass](t), int(snat.RequireClass)+1)
	assert.Equal(t, "Arbitrary", fmt.Sprint(snat.Arbitrary))
	assert.Len(t, named[snat.Pooling](t), int(snat.Arbitrary)+1)
	assert.Equal(t, "FragmentsForwarded", fmt.Sprint(snat.FragmentsForwarded))
	assert.Len(t, named[snat.FragmentMode](t), int(snat.FragmentsForwarded)+1)
	assert.Equal(t, "TTLRouter", fmt.Sprint(snat.TTLRouter))
	assert.Len(t, named[snat.TTLMode](t), int(snat.TTLRouter)+1)
	assert.Equal(t, "RefuseProhibited", fmt.Sprint(snat.RefuseProhibited))
	assert.Len(t, named[snat.Refusal](t), int(snat.RefuseProhibited)+1)
	assert.Equal(t, "ResetSender", fmt.Sprint(snat.ResetSender))
	assert.Len(t, named[snat.ResetUnknown](t), int(snat.ResetSender)+1)
	assert.Equal(t, "RefreshOutbound", fmt.Sprint(snat.RefreshOutbound))
	assert.Len(t, named[snat.UDPRefresh](t), int(snat.RefreshOutbound)+1)
}

// Protocols of ports have numbers, and numbers are one of them or of none.
func TestProtocolNumbers(t *testing.T) {
	for number := range 256 {
		want := map[int]snat.Protocol{6: snat.TCP, 17: snat.UDP}[number]
		assert.Equal(t, want, snat.ProtocolOf(uint8(number)), number)
		if want != snat.All {
			assert.EqualValues(t, number, want.Number())
		}
	}
	assert.Zero(t, snat.All.Number())
	assert.Zero(t, snat.Query.Number())
}
