package snat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
)

// What Config returns is what is in force, makes the same again, and belongs to the caller.
func TestConfigInForce(t *testing.T) {
	owned := snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{addr("10.0.0.4")}, Inside: prefixes("10.244.0.0/24"), Policy: &snat.Policy{IdleTimeout: time.Minute},
			Ports: []snat.PortRange{{Frontend: addr("203.0.113.9"), First: 1024, Count: 64}},
		}},
		Routes:   []snat.Route{{Prefix: netip.MustParsePrefix("192.168.0.0/16")}},
		Forwards: []snat.Forward{{Frontend: addr("203.0.113.9"), Protocol: snat.TCP, FirstPort: 80, Targets: []snat.Target{{Instance: "vm", Addr: addr("10.0.0.4")}}}},
		Ports:    &snat.Owned{Allocation: snat.Allocation{Exclude: []snat.Exclusion{{Frontend: addr("203.0.113.9"), First: 1030, Last: 1030}}}},
	}
	shared := snat.Config{
		Instances: []snat.Instance{{Name: "vm", Addrs: []netip.Addr{addr("10.0.0.4")}}},
		Ports:     &snat.Shared{Frontends: []netip.Addr{addr("203.0.113.9")}, FirstPort: 2048},
	}
	for name, given := range map[string]snat.Config{"owned": owned, "shared": shared} {
		t.Run(name, func(t *testing.T) {
			n, err := snat.New(given)
			require.NoError(t, err)
			defer n.Close()
			require.Equal(t, given, n.Config())

			if len(given.Forwards) > 0 {
				require.NoError(t, n.SetTargets(0, snat.TargetChange{State: snat.TargetDown}))
				assert.Equal(t, snat.TargetDown, n.Config().Forwards[0].Targets[0].State)
				assert.Equal(t, snat.TargetUp, given.Forwards[0].Targets[0].State)
				require.NoError(t, n.SetTargets(0, snat.TargetChange{State: snat.TargetUp}))
			}
			next := n.Config()
			next.ReclaimGrace = 7 * time.Minute
			_, err = n.Reconfigure(0, next)
			require.NoError(t, err)
			assert.Equal(t, next, n.Config())

			mine := n.Config() // is changed wherever it points to
			mine.Instances[0].Addrs[0], mine.Instances[0].Name = addr("10.9.9.9"), "another"
			switch p := mine.Ports.(type) {
			case *snat.Owned:
				p.Allocation.Exclude[0].Last = 1031
				mine.Instances[0].Ports[0].Count, mine.Instances[0].Policy.IdleTimeout = 8, time.Hour
				mine.Forwards[0].Targets[0].Instance, mine.Routes[0].Prefix = "another", netip.MustParsePrefix("10.0.0.0/8")
			case *snat.Shared:
				p.Frontends[0], p.FirstPort = addr("203.0.113.1"), 4096
			}
			assert.Equal(t, next, n.Config())
		})
	}
	n, err := snat.New(snat.Config{Instances: shared.Instances})
	require.NoError(t, err)
	n.Close()
	assert.Equal(t, &snat.Owned{}, n.Config().Ports)
}
