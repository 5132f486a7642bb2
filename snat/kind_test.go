package snat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Every session says what becomes of its packets, to observers and to hooks, and goes on
// saying so when it is reset and while it holds its port.
func TestSessionKind(t *testing.T) {
	for _, c := range []struct {
		name     string
		public   bool
		from, to string
		ping     bool
		want     flow.Kind
	}{
		{"to a frontend's port", false, podA, serverA, false, flow.KindTranslated},
		{"by the instance itself", false, vmA, serverA, false, flow.KindTranslated},
		{"a query to a frontend's identifier", false, podA, serverA, true, flow.KindQuery},
		{"within the virtual network", false, podA, "10.0.0.9", false, flow.KindNode},
		{"a query within the virtual network", false, podA, "10.0.0.9", true, flow.KindNode},
		{"to the node's public address", true, podA, serverA, false, flow.KindPublic},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := publicNode()
			if !c.public {
				config.Instances[0].PublicAddrs = nil
			}
			config.ICMP = snat.ICMP{Queries: true}
			var created, expired []flow.Kind
			config.Hooks.SessionCreated = func(_ flow.Time, _ uint32, s flow.Info) { created = append(created, s.Kind) }
			config.Hooks.SessionExpired = func(_ flow.Time, _ uint32, s flow.Info) { expired = append(expired, s.Kind) }
			b := newBed(t, config)
			if c.ping {
				require.NotContains(t, b.out(pkttest.ICMPEcho(c.from, c.to, 7, 1)), "drop")
			} else {
				require.NotContains(t, b.opens("udp", socket(c.from, 5000), socket(c.to, 443)), "drop")
			}
			for s := range b.Sessions() {
				assert.Equal(t, c.want, s.Kind)
			}
			b.at(time.Hour)
			assert.Equal(t, []flow.Kind{c.want}, created)
			assert.Equal(t, []flow.Kind{c.want}, expired)
		})
	}
	t.Run("of a tombstone", func(t *testing.T) {
		config := oneVM(8)
		config.EnableTCPReset = true
		b := newBed(t, config)
		b.dials(socket(vmA, 5000), socket(serverA, 443))
		b.at(4*time.Minute + 10*time.Second)
		n := 0
		for s := range b.Sessions() {
			assert.Equal(t, flow.ClassTCPResetSent, s.Class)
			assert.Equal(t, flow.KindTranslated, s.Kind)
			n++
		}
		assert.Equal(t, 1, n)
	})
	t.Run("of one that holds its port", func(t *testing.T) {
		config := gateway(1024, 8)
		config.Timeouts.UDPHeld = time.Minute
		b := newBed(t, config)
		b.opens("udp", socket(gatewayA, 5000), socket(serverA, 443))
		b.at(4*time.Minute + 30*time.Second)
		n := 0
		for s := range b.Sessions() {
			assert.Equal(t, flow.ClassUDPHeld, s.Class)
			assert.Equal(t, flow.KindTranslated, s.Kind)
			n++
		}
		assert.Equal(t, 1, n)
	})
}
