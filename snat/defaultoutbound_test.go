package snat_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Default outbound access carries TCP and UDP, 1,024 flows of each to one
// destination, and nothing else; idle flows end after 4 minutes, silently.
func TestDefaultOutboundAccess(t *testing.T) {
	for _, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			var c snat.Config
			c.IdleTimeout, c.EnableTCPReset = 30*time.Minute, true // of others
			c.Instances = []snat.Instance{{
				Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr(f.a)},
				Ports: snat.DefaultOutbound(netip.MustParseAddr(f.public)), Policy: &snat.Policy{},
			}}
			b := newBed(t, c)
			for _, proto := range []string{"tcp", "udp"} {
				for i := range 1024 {
					require.Equal(t, socket(f.public, 1024+i), b.opens(proto, socket(f.a, 5000+i), socket(f.s, 443)))
				}
				assert.Equal(t, "drop ports", b.opens(proto, socket(f.a, 7000), socket(f.s, 443)))
			}
			b.dials(socket(f.a, 5000), socket(f.s, 80))
			assert.Equal(t, "drop unsupported_proto", b.out(pkttest.ICMPEcho(f.a, f.s, 1, 1)))
			assert.Equal(t, "drop unsupported_proto", b.out(pkttest.IP(f.a, f.s, 50, []byte("secret"))))
			for _, frag := range pkttest.Fragments(pkttest.UDP(socket(f.a, 1), socket(f.s, 2), strings.Repeat("x", 64)), 24, 7) {
				assert.Equal(t, "drop fragment", b.out(frag))
			}
			b.at(4*time.Minute - time.Nanosecond)
			assert.Equal(t, 1025, b.Stats().SessionsActive, "half-open connections have ended")
			b.at(4 * time.Minute)
			assert.Zero(t, b.Stats().SessionsActive)
			assert.Empty(t, b.sent())
		})
	}
}
