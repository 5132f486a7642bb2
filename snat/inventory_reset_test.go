package snat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/snat"
)

// What has been reset holds no port of an inventory, though nobody is reset for being idle; whoever gets
// that port takes its place, so that no two flows have one socket.
func TestInventoryAfterResets(t *testing.T) {
	b := newBed(t, snat.Config{
		Instances: []snat.Instance{{Name: "vm", Inside: prefixes("10.0.0.0/24")}},
		Ports:     &snat.Shared{Frontends: []netip.Addr{addr(frontend)}, FirstPort: 1024, LastPort: 1025, Choice: snat.PreservePort},
	})
	const remote = "198.51.100.9:443"
	require.Equal(t, socket(frontend, 1024), b.dials("10.0.0.4:1024", remote))
	require.Equal(t, 1, b.ResetTo(b.now, prefixes("198.51.100.0/24")))
	b.at(0)
	require.Len(t, b.sent(), 2)
	assert.Equal(t, socket(frontend, 1024), b.opens("tcp", "10.0.0.5:1024", remote))
	assert.Equal(t, socket(frontend, 1025), b.opens("tcp", "10.0.0.6:1024", remote))
	assert.Equal(t, "drop ports", b.opens("tcp", "10.0.0.7:1024", remote))
}

// Of what there is, the connections that the inside has begun with these remotes end; no port is theirs then.
func TestResetTo(t *testing.T) {
	for i, f := range realms {
		t.Run(f.name, func(t *testing.T) {
			b := newBed(t, oneVM(8))
			remote := netip.MustParseAddr(f.s)
			here, there := []netip.Prefix{netip.PrefixFrom(remote, remote.BitLen())}, socket(realms[i].q, 443)
			outside := b.dials(socket(f.a, 5000), socket(f.s, 443))
			b.dials(socket(f.a, 5001), there)
			b.opens("tcp", socket(f.a, 5002), socket(f.s, 443))
			b.opens("udp", socket(f.a, 5003), socket(f.s, 443))
			assert.Zero(t, b.ResetTo(b.now, nil))
			assert.Equal(t, 2, b.ResetTo(b.now, here))
			_, due := b.NextDeadline()
			assert.True(t, due)
			b.at(0)
			assert.ElementsMatch(t, []string{
				"0s inside TCP " + socket(f.s, 443) + " > " + socket(f.a, 5000) + " R seq=5001 len=0",
				"0s outside TCP " + outside + " > " + socket(f.s, 443) + " R seq=1001 len=0",
			}, b.sent())
			assert.Equal(t, 2, b.Stats().SessionsActive)
			assert.Zero(t, b.ResetTo(b.now, here))
			b.Close()
			assert.Zero(t, b.ResetTo(b.now, here))
		})
	}
}

// A connection that is reset at a time long before the latest is over like one that is reset in time.
func TestResetToLongAgo(t *testing.T) {
	const day, remote = 24 * time.Hour, "198.51.100.9:443"
	for _, ago := range []time.Duration{0, 13 * day, 45 * day} {
		b := newBed(t, oneVM(8))
		b.at(46 * day)
		b.dials(socket(vmA, 5000), remote)
		assert.Equal(t, 1, b.ResetTo(b.now.Add(-ago), prefixes("198.51.100.0/24")))
		b.at(46*day + time.Hour)
		assert.Equal(t, "drop no_flow", b.locally(socket(vmA, 5000), remote, "A", 1001, 5001), "%v ago", ago)
	}
}
