package icmp_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// Addresses of two hosts of each family, with and without a port.
var (
	hosts   = [2]string{"192.0.2.1", "2001:db8::1"}
	remotes = [2]string{"198.51.100.7", "2001:db8:5::7"}
	sockets = [2]string{"192.0.2.1:40000", "[2001:db8::1]:40000"}
	peers   = [2]string{"198.51.100.7:53", "[2001:db8:5::7]:53"}
)

// parse parses a packet that must be well-formed.
func parse(t testing.TB, b []byte) *wire.Packet {
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(b, &p))
	return &p
}

// What a message is depends on its type and, of queries, on the code 0; whether it is
// carried on the rules.
func TestClassify(t *testing.T) {
	all := icmp.Rules{Queries: true, Timestamps: true, Errors: true, SourceQuench: true}
	kinds := [2]map[uint8]icmp.Kind{
		{8: icmp.Request, 13: icmp.Request, 0: icmp.Reply, 14: icmp.Reply, 3: icmp.Error, 4: icmp.Error, 11: icmp.Error, 12: icmp.Error},
		{128: icmp.Request, 129: icmp.Reply, 1: icmp.Error, 2: icmp.Error, 3: icmp.Error, 4: icmp.Error},
	}
	for family, kinds := range kinds {
		for typ := range 256 {
			for code := range uint8(2) {
				kind := kinds[uint8(typ)]
				if code != 0 && kind != icmp.Error {
					kind = icmp.Other
				}
				p := parse(t, pkttest.ICMP(hosts[family], remotes[family], uint8(typ), code, 0xabcd0001, nil))
				require.Equal(t, icmp.Message{Kind: kind, Carried: kind != icmp.Other, ID: 0xabcd}, all.Classify(p), "family %d type %d code %d", family, typ, code)
				require.Equal(t, kind == icmp.Error, all.IsError(p))
				require.Equal(t, kind == icmp.Error, all.CarriesError(p))
			}
		}
	}
	message := func(typ uint8) *wire.Packet { return parse(t, pkttest.ICMP(hosts[0], remotes[0], typ, 0, 0, nil)) }
	queries, errors := icmp.Rules{Queries: true}, icmp.Rules{Errors: true}
	assert.True(t, queries.Classify(message(8)).Carried)
	assert.False(t, queries.Classify(message(13)).Carried)
	assert.False(t, queries.CarriesError(message(3)))
	assert.True(t, queries.IsError(message(3)), "carried or not")
	assert.False(t, errors.Classify(message(8)).Carried)
	assert.True(t, errors.CarriesError(message(3)))
	assert.Equal(t, icmp.Other, errors.Classify(message(4)).Kind)
	assert.True(t, queries.Any() && errors.Any())
	none := icmp.Rules{}
	assert.False(t, none.Any())
	assert.Equal(t, flow.ReasonNone, queries.Begins(message(8)))
	assert.Equal(t, flow.ReasonNoFlow, queries.Begins(message(0)))
	assert.Equal(t, flow.ReasonICMPType, queries.Begins(message(13)))
	assert.Equal(t, flow.ReasonUnsupportedProto, none.Begins(message(8)))
}

// Errors and redirects quote a packet; that of a redirect of IPv6 is an option. All types
// of ICMPv6 below 128 are errors (RFC 4443 section 2.1).
func TestQuotes(t *testing.T) {
	for typ := range 256 {
		message := func(family int) *wire.Packet {
			return parse(t, pkttest.ICMP(hosts[family], remotes[family], uint8(typ), 0, 0, nil))
		}
		assert.Equal(t, slices.Contains([]int{3, 4, 5, 11, 12}, typ), icmp.Quotes(message(0)), typ)
		assert.Equal(t, typ < 128, icmp.Quotes(message(1)), typ)
	}
	assert.False(t, icmp.Quotes(parse(t, pkttest.UDP(sockets[0], peers[0], "x"))))
}
