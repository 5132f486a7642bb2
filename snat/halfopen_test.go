package snat_test

// Half-open sessions that strangers have begun.

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// A scan of a mapping's port takes 128 sessions and no more, and what is established,
// or has begun inside, or is another host's, goes on.
func TestScansAreBounded(t *testing.T) {
	syns := 1_000_000
	if pkttest.Short() {
		syns = 20_000
	}
	for _, name := range []string{"rfc", "cgn"} {
		t.Run(name, func(t *testing.T) {
			syns, gap := syns, 10*time.Microsecond
			if name == "cgn" {
				syns, gap = 20_000, 5*time.Millisecond // within its rate of new sessions
			}
			p, _ := preset.ByName(name)
			b := configured(t, p.Configure, access(1))
			b.seldom = true
			victim, other := vmA+":5000", "10.0.0.9:5000"
			outside := b.dials(victim, serverA+":443")
			outside2 := b.dials(other, serverA+":443")
			opening := b.opens("tcp", victim, "198.51.100.9:443")
			require.Equal(t, outside, opening, "the same mapping")
			guest := "192.0.2.7:999" // a stranger whose connection is accepted
			require.Equal(t, victim, destination(b.remotely(guest, outside, "S", 1, 0)))
			require.Equal(t, outside, source(b.locally(victim, guest, "SA", 100, 2)))
			require.Equal(t, victim, destination(b.remotely(guest, outside, "A", 2, 101)))
			guest2 := "192.0.2.8:999" // another host's, which is half-open
			require.Equal(t, other, destination(b.remotely(guest2, outside2, "S", 1, 0)))

			syn := pkttest.TCP("48.0.0.1:999", outside, pkttest.SYN, pkttest.Seq(1))
			buf, most, before := make([]byte, len(syn)), 0, b.Stats()
			for i := range syns {
				copy(buf, syn)
				buf[13], buf[14], buf[15] = byte(i>>16), byte(i>>8), byte(i)
				pkttest.FixChecksums(buf)
				v := b.Inbound(b.now, buf)
				require.True(t, v.Action == flow.Forward && v.New, "SYN %d: %v", i, v.Reason)
				if i%10_000 == 0 {
					most = max(most, b.Stats().SessionsActive)
				}
				b.now = b.now.Add(gap)
			}
			s := b.Stats()
			b.Check()
			assert.LessOrEqual(t, most, before.SessionsActive+128)
			assert.Equal(t, before.SessionsActive+128, s.SessionsActive)
			assert.Equal(t, uint64(syns-128), s.Evicted-before.Evicted)
			assert.Equal(t, s.SessionsCreated, s.SessionsEnded+uint64(s.SessionsActive))
			for _, end := range []string{serverA + ":443", guest} {
				assert.NotContains(t, b.remotely(end, outside, "A", 5001, 1001), "drop", end)
			}
			assert.Equal(t, victim, destination(b.remotely("198.51.100.9:443", outside, "SA", 1, 1001)))
			assert.Equal(t, outside2, source(b.locally(other, guest2, "SA", 1, 2)))
			b.at(b.now.Duration() + 5*time.Minute)
			b.Check()
		})
	}
}

// The oldest gives way, only to those of its own host; whose handshake is over, by
// whatever end, counts no more; and so it is after the configuration has changed.
func TestHalfOpenSessionsGiveWay(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := carrying(func(c *snat.Config) {
			ownedPorts(c).TCP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
			ownedPorts(c).Limits.HalfOpen = 3
		})
		b := newBed(t, c)
		hosts := []string{socket(r.a, 5000), socket(r.b, 5000)}
		var outside []string
		for _, h := range hosts {
			outside = append(outside, b.opens("tcp", h, socket(r.s, 443)))
		}
		knock := func(host, port int) {
			t.Helper()
			require.Equal(t, hosts[host], destination(b.remotely(socket(r.q, port), outside[host], "S", 1, 0)))
		}
		alive := func(host int) (ports []int) {
			for port := range 40 {
				if port > 0 && b.locally(hosts[host], socket(r.q, port), "A", 9, 9) != "drop no_flow" {
					ports = append(ports, port)
				}
			}
			return ports
		}
		knock(1, 1)
		for port := 1; port <= 3; port++ {
			knock(0, port)
		}
		assert.Equal(t, []int{1, 2, 3}, alive(0))
		knock(0, 4)
		assert.Equal(t, []int{2, 3, 4}, alive(0), "1 gave way")
		b.locally(hosts[0], socket(r.q, 2), "SA", 100, 2)
		b.remotely(socket(r.q, 2), outside[0], "A", 2, 101) // 2 is established
		knock(0, 5)
		assert.Equal(t, []int{2, 3, 4, 5}, alive(0), "there is room")
		b.locally(hosts[0], socket(r.q, 4), "RA", 0, 2) // 4 is refused
		knock(0, 6)
		assert.Contains(t, fmt.Sprint(alive(0)), "3", "there is room")
		knock(0, 7)
		assert.NotContains(t, alive(0), 3)
		assert.Equal(t, []int{1}, alive(1), "another host's")
		assert.Equal(t, uint64(2), b.Stats().Evicted)

		ownedPorts(&c).Limits.HalfOpen = 2 // who has more keeps it
		_, err := b.Reconfigure(b.now, c)
		require.NoError(t, err)
		assert.Subset(t, alive(0), []int{5, 6, 7})
		knock(0, 8)
		assert.Subset(t, alive(0), []int{6, 7, 8})
		assert.Equal(t, uint64(3), b.Stats().Evicted)
		ownedPorts(&c).Limits.HalfOpen = 0
		_, err = b.Reconfigure(b.now, c)
		require.NoError(t, err)
		for port := 10; port < 20; port++ {
			knock(0, port)
		}
		assert.Equal(t, uint64(3), b.Stats().Evicted)
		ownedPorts(&c).Limits.HalfOpen = 1
		_, err = b.Reconfigure(b.now, c)
		require.NoError(t, err)
		b.at(time.Hour)
		assert.Zero(t, b.Stats().SessionsActive)
		assert.Zero(t, b.Stats().Evicted-3)
	})
}
