package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// unreachable is an ICMP error from src to dst that quotes the first bytes of a
// packet.
func unreachable(src, dst string, quote []byte) []byte {
	typ, code := uint8(3), uint8(3)
	if netip.MustParseAddr(src).Is6() {
		typ, code = 1, 4
	}
	return pkttest.ICMP(src, dst, typ, code, 0, quote)
}

// ICMP is dropped, with a reason, by presets whose product drops it; with -icmp it
// is translated and comes back as it was: queries and their replies, and errors in
// both directions, whatever they quote and however much of it.
func TestICMPRoundTrip(t *testing.T) {
	for _, c := range []struct{ inside, remote, router, socket, server string }{
		{a, remote, "192.0.2.1", a + ":4000", remote + ":53"},
		{a6, remote6, "2001:db8:ffff::1", "[" + a6 + "]:4000", "[" + remote6 + "]:53"},
	} {
		request, reply := pkttest.ICMPEcho(c.inside, c.remote, 7, 1), pkttest.ICMPEchoReply(c.remote, c.inside, 7, 1)
		query, answer := query(c.socket, c.server), pkttest.UDP(c.server, c.socket, "an answer that is longer")
		unsummed := pkttest.UDP(c.socket, c.server, "query", pkttest.NoChecksum())
		tcp := handshake(c.socket, c.server)
		header := headerLen(request)
		long, longer := pieces(c.socket, c.server, 7), pieces(c.server, c.socket, 9)
		echoes := pkttest.Fragments(pkttest.ICMPEcho(c.inside, c.remote, 7, 1, pkttest.Payload(string(make([]byte, 500)))), 256, 3)
		for name, tt := range map[string]struct {
			packets [][]byte
			reasons map[string]int
		}{
			"echo":                        {[][]byte{request, reply}, nil},
			"unsolicited echo":            {[][]byte{pkttest.ICMPEcho(c.remote, c.inside, 7, 1)}, map[string]int{"no_flow": 1}},
			"reply without a request":     {[][]byte{reply}, map[string]int{"no_flow": 1}},
			"error about a query":         {[][]byte{query, unreachable(c.remote, c.inside, query)}, nil},
			"error of a router":           {[][]byte{query, unreachable(c.router, c.inside, query)}, nil},
			"error with an odd quote":     {[][]byte{query, unreachable(c.remote, c.inside, query[:header+13])}, nil},
			"error with a short quote":    {[][]byte{query, unreachable(c.remote, c.inside, query[:header+8])}, nil},
			"error with padding":          {[][]byte{query, unreachable(c.remote, c.inside, append(query[:len(query):len(query)], 1, 2, 3))}, nil},
			"error about a SYN":           {[][]byte{tcp[0], unreachable(c.router, c.inside, tcp[0])}, nil},
			"error about part of a SYN":   {[][]byte{tcp[0], unreachable(c.router, c.inside, tcp[0][:header+8])}, nil},
			"error about an echo":         {[][]byte{request, unreachable(c.router, c.inside, request)}, nil},
			"error of the inside":         {[][]byte{query, answer, unreachable(c.inside, c.remote, answer)}, nil},
			"error of the inside, short":  {[][]byte{query, answer, unreachable(c.inside, c.remote, answer[:header+8])}, nil},
			"error about a segment":       {[][]byte{tcp[0], tcp[1], unreachable(c.inside, c.remote, tcp[1])}, nil},
			"error about nothing":         {[][]byte{unreachable(c.remote, c.inside, query)}, map[string]int{"icmp_no_flow": 1}},
			"error with too short quote":  {[][]byte{query, unreachable(c.remote, c.inside, query[:header-1])}, map[string]int{"icmp_inner_short": 1}},
			"error for another host":      {[][]byte{query, unreachable(c.remote, neighbour(c.inside), query)}, map[string]int{"icmp_no_flow": 1}},
			"error about another host":    {[][]byte{query, unreachable(c.remote, c.inside, pkttest.UDP(c.server, c.socket, "x"))}, map[string]int{"icmp_no_flow": 1}},
			"echo in pieces":              {echoes, nil},
			"error about a first piece":   {append(long[:len(long):len(long)], unreachable(c.router, c.inside, long[0])), nil},
			"error about another piece":   {append(long[:len(long):len(long)], unreachable(c.router, c.inside, long[1])), nil},
			"inside, about a piece":       {append(append([][]byte{query}, longer...), unreachable(c.inside, c.remote, longer[1])), nil},
			"error about a lost piece":    {[][]byte{query, unreachable(c.router, c.inside, long[1])}, map[string]int{"icmp_inner_frag": 1}},
			"UDP without a checksum":      {[][]byte{query, unreachable(c.remote, c.inside, unsummed)}, nil},
			"error of which we know half": {[][]byte{query, unreachable(c.remote, c.inside, query)[:header+9]}, map[string]int{"bad_len": 1}},
		} {
			t.Run(c.inside+"/"+name, func(t *testing.T) {
				in := captureOf(t, tt.packets...)
				d := replayJSON(t, in, "-icmp", "-fragments")
				drops := 0
				for _, n := range tt.reasons {
					drops += n
				}
				if tt.reasons == nil {
					tt.reasons = map[string]int{}
				}
				assert.Equal(t, tt.reasons, d.Reasons)
				assert.Equal(t, len(tt.packets)-drops, d.Roundtrip.Compared)
				for _, r := range []string{"unsupported_proto", "bad_len", "fragment"} { // as an Azure load balancer
					drops -= replayJSON(t, in).Reasons[r]
				}
				assert.LessOrEqual(t, drops, 0)
			})
		}
	}
}

// Identifiers that hosts share are told apart outside, and errors about them too.
func TestEchoOfManyHosts(t *testing.T) {
	var packets [][]byte
	for i := range 50 {
		host := fmt.Sprintf("10.0.0.%d", i+1)
		request := pkttest.ICMPEcho(host, remote, 7, uint16(i))
		packets = append(packets, request, pkttest.ICMPEchoReply(remote, host, 7, uint16(i)), unreachable("192.0.2.1", host, request))
	}
	d := replayJSON(t, captureOf(t, packets...), "-icmp")
	assert.Equal(t, 150, d.Roundtrip.Identical)
	assert.Equal(t, 50, d.Flows)
}

// A translator that is a router counts down TTLs; what comes back has them as they
// were, and the outside has seen one more, or one less.
func TestRouterCountsDown(t *testing.T) {
	ttl := func(b []byte, n uint8) []byte {
		f := locate(b)
		for f.hopLimit(b) != n {
			f.addHop(b)
		}
		return b
	}
	for _, ends := range [][2]string{{a + ":4000", remote + ":53"}, {"[fd00::4]:4000", "[2001:db8:5::7]:53"}} {
		o, err := parseOptions([]string{"-in", "x", "-inside", insides, "-frontend", frontIPs}, nil)
		require.NoError(t, err)
		packets := []capture.Packet{
			{Data: ttl(query(ends[0], ends[1]), 2)}, {Data: ttl(query(ends[1], ends[0]), 1)},
			{Data: ttl(query(ends[1], ends[0]), 255)}, {Data: ttl(query(ends[0], ends[1]), 1)},
		}
		hosts, err := o.hosts(&capture.Capture{Packets: packets})
		require.NoError(t, err)
		config, err := o.translator(hosts)
		require.NoError(t, err)
		config.ICMP.TTL = snat.TTLRouter
		nat, err := snat.New(config)
		require.NoError(t, err)
		defer nat.Close()
		r := newReplay(nat, &o, &config, time.Time{}, nil)
		require.NoError(t, r.play(t.Context(), packets))
		assert.Equal(t, 3, r.alike[identical], "%s", r.firstDifference)
		assert.Equal(t, 1, r.dropped, "the last one ends here")
		assert.Equal(t, 1, r.errors, "and its sender is told")
	}
}

// neighbour returns the address behind another one.
func neighbour(host string) string { return netip.MustParseAddr(host).Next().String() }
