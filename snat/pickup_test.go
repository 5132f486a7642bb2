package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// A connection that is older than the translator is picked up by a segment from
// the inside, is half-open until both ends have been heard, and then like any other.
func TestPickUp(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		inside, server, outside := socket(r.a, 5000), socket(r.s, 443), socket(r.f, firstPort)
		c := resetting(8)
		c.PickUp = true
		c.Timeouts.TCPOpening = 30 * time.Second

		b := newBed(t, c)
		require.Equal(t, outside, source(b.locally(inside, server, "PA", 1001, 5001)))
		require.Contains(t, sessions(b)[0], "midstream")
		b.at(20 * time.Second)
		require.Equal(t, outside, source(b.locally(inside, server, "A", 1001, 5001)))
		b.at(50*time.Second - 1)
		require.Equal(t, 1, b.Stats().SessionsActive)
		b.at(50 * time.Second)
		assert.Empty(t, sessions(b))
		assert.Empty(t, b.sent(), "nobody knows what the remote expects")

		require.Equal(t, outside, source(b.locally(inside, server, "PA", 1001, 5001)))
		require.Equal(t, inside, destination(b.remotely(server, outside, "PA", 5001, 1001)))
		require.Contains(t, sessions(b)[0], "established")
		b.at(50*time.Second + 4*time.Minute)
		assert.Equal(t, []string{
			"4m50s inside TCP " + server + " > " + inside + " R seq=5001 len=0",
			"4m50s outside TCP " + outside + " > " + server + " R seq=1001 len=0",
		}, b.sent())

		// A SYN is better evidence: then everything begins anew.
		b.at(time.Hour)
		b.locally(inside, server, "A", 1001, 5001)
		b.locally(inside, server, "S", 9000, 0)
		assert.Contains(t, sessions(b)[0], "syn-sent")
	})
	t.Run("by nothing else", func(t *testing.T) {
		c := oneVM(8)
		c.PickUp = true
		b := newBed(t, c)
		for _, flags := range []string{"SA", "FA", "R", "RA"} {
			assert.Equal(t, "drop no_flow", b.locally(vmA+":5000", serverA+":443", flags, 1001, 5001), flags)
		}
		assert.Equal(t, "drop l4_csum", b.out(pkttest.TCP(vmA+":5000", serverA+":443", pkttest.ACK, pkttest.BadChecksum())))
		assert.Equal(t, "drop no_flow", b.remotely(serverA+":443", frontend+":1024", "A", 5001, 1001), "it has no port")
		assert.Equal(t, "drop hairpin", b.locally(vmA+":5000", frontend+":443", "A", 1001, 5001))
		assert.Empty(t, sessions(b))
		for i := range 8 {
			require.NotContains(t, b.locally(socket(vmA, 5000+i), serverA+":443", "A", 1001, 5001), "drop")
		}
		assert.Equal(t, "drop ports", b.locally(vmA+":6000", serverA+":443", "A", 1001, 5001))
	})
	t.Run("not by default", func(t *testing.T) {
		assert.Equal(t, "drop no_flow", newBed(t, oneVM(8)).locally(vmA+":5000", serverA+":443", "A", 1001, 5001))
	})
	// What is answered is what picks nothing up.
	t.Run("with ResetUnknown", func(t *testing.T) {
		c := resettingSenders(8)
		c.PickUp = true
		b := newBed(t, c)
		b.locally(vmA+":5000", serverA+":443", "A", 1001, 5001)
		assert.Empty(t, b.answers())
		b.locally(vmA+":5001", serverA+":443", "FA", 1001, 5001)
		assert.Len(t, b.answers(), 1)
	})
	t.Run("linux", func(t *testing.T) {
		b := configured(t, preset.LinuxMasquerade, site(1, 1))
		inside, server := "10.0.0.0:5000", serverA+":443"
		outside := source(b.locally(inside, server, "A", 1001, 5001))
		require.NotContains(t, outside, "drop")
		b.remotely(server, outside, "A", 5001, 1001)
		b.locally(inside, server, "A", 1001, 5001) // the first reply by itself is worth 300 s
		b.at(5*24*time.Hour - 1)
		assert.Equal(t, 1, b.Stats().SessionsActive)
	})
}
