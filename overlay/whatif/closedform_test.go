package whatif_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// newNAT returns a translator of one instance with ports from 1024 on, and the instance as a host.
func newNAT(t testing.TB, ports int, p snat.Policy) (*snat.NAT, []whatif.Host) {
	t.Helper()
	inside := netip.MustParseAddr("10.0.0.4")
	n, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{inside},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("198.51.100.1"), First: 1024, Count: ports}},
		}},
		Policy: p,
	})
	require.NoError(t, err)
	t.Cleanup(n.Close)
	return n, []whatif.Host{{Name: "vm", Addrs: []netip.Addr{inside}}}
}

// What ports sustain and when they run out is by simulation what the closed forms say, within 2
// per cent: with FIN held for 65 s and 240 s, and with connections that leak until their idle
// timeout.
func TestClosedForms(t *testing.T) {
	pkttest.OneGoroutine(t)
	assert.InDelta(t, 15.75, whatif.Sustained(1024, 0, 65*time.Second), 0.01)
	assert.InDelta(t, 0.57, whatif.Sustained(1024, 0, 30*time.Minute), 0.005)
	for _, x := range []struct {
		name           string
		policy         snat.Policy
		class          whatif.Class
		duration, hold time.Duration
	}{
		{"65 s", snat.Policy{Timeouts: flow.Timeouts{TCPTimeWait: 65 * time.Second, TCPClosing: 65 * time.Second}}, whatif.Class{}, 60 * time.Millisecond, 65 * time.Second},
		{"240 s and 10 s long", snat.Policy{}, whatif.Class{Think: 10 * time.Second}, 10*time.Second + 60*time.Millisecond, 240 * time.Second},
		{"leaked", snat.Policy{IdleTimeout: 30 * time.Minute}, whatif.Class{End: whatif.Abandoned}, 40 * time.Millisecond, 30 * time.Minute},
	} {
		t.Run(x.name, func(t *testing.T) {
			sustained := whatif.Sustained(1024, x.duration, x.hold)
			n, hosts := newNAT(t, 1024, x.policy)
			rate := 2 * sustained
			class := x.class
			class.ConnectTimeout = 500 * time.Millisecond
			s, err := whatif.New(whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
				Name: "load", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: rate, Even: true}, Class: class,
			}}}})
			require.NoError(t, err)
			hold := x.duration + x.hold
			s.Advance(4 * hold)
			before := s.Result().Total
			exhausted, ok := whatif.Exhaustion(1024, rate, x.duration, x.hold)
			require.True(t, ok)
			assert.InEpsilon(t, exhausted.Seconds(), before.FirstRefused.Seconds(), 0.02)
			s.Advance(14 * hold) // whole cycles
			r := s.Result()
			assert.InEpsilon(t, sustained, float64(r.Total.Established-before.Established)/(10*hold).Seconds(), 0.02)
			assert.InDelta(t, 0.5, r.Total.RefusedShare(), 0.05)
			assert.Equal(t, 1024, r.Nodes[0].Peak)

			// A rate that is 2 per cent less is sustained for ever.
			n, hosts = newNAT(t, 1024, x.policy)
			s, err = whatif.New(whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
				Name: "load", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 0.98 * sustained, Even: true}, Class: class,
			}}}})
			require.NoError(t, err)
			s.Advance(4 * hold)
			r = s.Result()
			assert.Zero(t, r.Total.Refused)
			assert.InEpsilon(t, 0.98*1024, float64(r.Nodes[0].Peak), 0.02)
		})
	}
	for _, bad := range []float64{whatif.Sustained(0, 0, time.Second), whatif.Sustained(8, 0, 0)} {
		assert.Zero(t, bad)
	}
	_, ok := whatif.Exhaustion(1024, 15.7, 0, 65*time.Second)
	assert.False(t, ok)
}
