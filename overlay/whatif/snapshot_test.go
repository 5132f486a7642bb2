package whatif_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A simulation goes on in a world that is restored from a snapshot, packet by packet as it would have
// in its own.
func TestGoesOnInARestoredWorld(t *testing.T) {
	pkttest.OneGoroutine(t)
	inside := netip.MustParseAddr("10.0.0.4")
	config := snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{inside},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("198.51.100.1"), First: 1024, Count: 128}},
		}},
		Policy: snat.Policy{EnableTCPReset: true},
	}
	n, err := snat.New(config)
	require.NoError(t, err)
	t.Cleanup(n.Close)
	c := newCluster(t, small(), 8)
	for name, tt := range map[string]struct {
		world   whatif.World
		hosts   []whatif.Host
		restore func() (whatif.World, error)
	}{
		"NAT": {n, []whatif.Host{{Name: "vm", Addrs: []netip.Addr{inside}}}, func() (whatif.World, error) {
			var file bytes.Buffer
			require.NoError(t, n.Snapshot(&file))
			return snat.Restore(config, &file)
		}},
		"cluster": {c, whatif.Pods(c), func() (whatif.World, error) {
			var file bytes.Buffer
			require.NoError(t, c.Snapshot(&file))
			return overlay.Restore(c.Config(), &file)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := everything(3)
			for i := range w.Traffic {
				w.Traffic[i].From = whatif.Selector{}
				w.Traffic[i].To = []whatif.Destination{internet, {Addr: internet.Addr, Addresses: 3}}
			}
			var tapes [2][]string
			tape := func(i int) func(flow.Time, flow.Side, []byte) {
				return func(at flow.Time, side flow.Side, pkt []byte) {
					tapes[i] = append(tapes[i], at.String()+side.String()+string(pkt))
				}
			}
			s := newSimulation(t, whatif.Config{World: tt.world, Hosts: tt.hosts, Workload: w, Packets: tape(0)})
			s.Advance(4 * time.Minute)
			tapes[0] = nil
			world, err := tt.restore()
			require.NoError(t, err)
			t.Cleanup(world.(interface{ Close() }).Close)
			f := s.Fork(world, tape(1))
			require.Equal(t, s.Result(), f.Result())
			s.Advance(10 * time.Minute)
			f.Advance(7 * time.Minute)
			f.Advance(10 * time.Minute)
			require.NotEmpty(t, tapes[0])
			require.Equal(t, tapes[0], tapes[1])
			require.Equal(t, s.Result(), f.Result())
			require.NotZero(t, f.Result().Total.Refused)
		})
	}
}
