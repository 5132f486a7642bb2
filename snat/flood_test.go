package snat_test

// What floods from either side cost in memory, where something bounds it.

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A host that sends SYNs or datagrams to ever new remotes has as much memory as its
// limit allows, and when the flood comes again after its sessions have ended, it
// costs no more than the first time.
func TestFloodFromInsideIsBounded(t *testing.T) {
	pkttest.OneGoroutine(t)
	const limit, packets = 1000, 5000
	limited := oneVM(64)
	ownedPorts(&limited).Limits.Sessions = limit
	shared := snat.Config{
		Instances: []snat.Instance{{Name: "a", Inside: prefixes("10.0.0.0/24", "fd00::/64")}},
		Ports:     &snat.Shared{Frontends: []netip.Addr{addr(frontend), addr(frontend6)}, MaxFlows: limit},
	}
	for name, c := range map[string]snat.Config{"Limits.Sessions": limited, "Shared.MaxFlows": shared} {
		eachRealm(t, func(t *testing.T, r realm) {
			for _, proto := range []string{"tcp", "udp"} {
				b := newBed(t, c)
				b.seldom = true
				before := b.Stats().Bytes
				var peaks []int
				for round := range 3 {
					opened := 0
					for i := range packets {
						remote := addr("198.51.%d.%d", i>>8, i&255)
						if r.name == "v6" {
							remote = addr("2001:db8:5::%x:%x", i>>8, i&255)
						}
						src, dst := socket(r.a, 1000), netip.AddrPortFrom(remote, 443).String()
						pkt := pkttest.UDP(src, dst, "x")
						if proto == "tcp" {
							pkt = pkttest.TCP(src, dst, pkttest.SYN)
						}
						if b.Outbound(b.now, pkt).Action == flow.Forward {
							opened++
						}
					}
					s := b.Stats()
					require.Equal(t, limit, opened, "%s, %s", name, proto)
					require.Equal(t, limit, s.SessionsActive)
					peaks = append(peaks, s.Bytes-before)
					b.at(b.now.Duration() + time.Duration(round+1)*time.Hour)
					require.Zero(t, b.Stats().SessionsActive)
				}
				assert.LessOrEqual(t, peaks[0], limit*1024+8<<20, "%s, %s: %v", name, proto, peaks)
				assert.LessOrEqual(t, peaks[2], peaks[1], "%s, %s: %v", name, proto, peaks)
			}
		})
	}
}

// SYNs from outside leave nothing behind, whoever they claim to be from, nor do
// stray segments of other kinds.
func TestFloodFromOutsideIsBounded(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, oneVM(64))
		b.seldom = true
		b.dials(socket(r.a, 5000), socket(r.s, 443))
		before := b.Stats().Bytes
		for i := range 5000 {
			src := fmt.Sprintf("198.51.%d.%d:9", i>>8, i&255)
			if r.name == "v6" {
				src = fmt.Sprintf("[2001:db8:5::%x]:9", i)
			}
			for _, flags := range []string{"S", "SA", "R", "A"} {
				require.Equal(t, flow.Drop, b.Inbound(0, pkttest.TCP(src, socket(r.f, firstPort+i%64), pkttest.TCPFlags(flags))).Action)
			}
		}
		s := b.Stats()
		assert.Equal(t, before, s.Bytes)
		assert.Equal(t, 1, s.SessionsActive)
	})
}
