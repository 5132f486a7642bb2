package snat_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// allPorts is one instance with all ports of a frontend from 1,024 on.
func allPorts(a snat.Allocation) snat.Config {
	c := oneVM(8)
	c.Instances[0].Ports = []snat.PortRange{{Frontend: addr(frontend), First: 1024, Count: 64_512}}
	ownedPorts(&c).Allocation = a
	return c
}

// Ports that are shut for everybody are no knowledge about a destination, which
// takes memory by its flows. A flow to each of many destinations needs no more where
// nearly all ports are shut than where none is.
func TestDestinationsCostMemoryByTheirFlows(t *testing.T) {
	pkttest.OneGoroutine(t)
	const flows = 5000
	excluded := []snat.Exclusion{{Frontend: addr(frontend), First: 1024, Last: 65_500}}
	for name, row := range map[string]struct {
		a    snat.Allocation
		hold bool // all free ports rest
	}{
		"lowest of a parity":           {snat.Allocation{Parity: true}, false},
		"lowest of few":                {snat.Allocation{Exclude: excluded}, false},
		"random":                       {snat.Allocation{Choice: snat.RandomPort}, false},
		"random of few":                {snat.Allocation{Choice: snat.RandomPort, Exclude: excluded}, false},
		"preserved of few":             {snat.Allocation{Choice: snat.PreservePort, Exclude: excluded}, false},
		"random while nearly all rest": {snat.Allocation{Choice: snat.RandomPort, Quarantine: snat.Quarantine{Hold: time.Hour, MaxPorts: 64_500}}, true},
		"lowest of few of a parity":    {snat.Allocation{Parity: true, Exclude: excluded}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, allPorts(row.a))
			b.seldom = true
			if row.hold {
				b.HoldFree(b.now)
			}
			for i := range 4 { // what grows in steps has grown
				b.opens("tcp", vmA+":5000", fmt.Sprintf("198.18.0.%d:443", i))
			}
			before := b.Stats().Bytes
			for i := range flows {
				dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 443)
				require.NotContains(t, b.opens("tcp", vmA+":5000", dst.String()), "drop")
			}
			assert.Less(t, float64(b.Stats().Bytes-before)/flows, 200.0, "bytes a flow")
			assert.Zero(t, b.Census().DestinationRecords)
		})
	}
}

// A destination that uses many ports has a record of a few bytes for each of them,
// a list or a bitmap, and none in the end.
func TestDestinationRecordsGrowWithTheirFlows(t *testing.T) {
	for name, a := range map[string]snat.Allocation{
		"lowest": {Parity: true},
		"of few": {Exclude: []snat.Exclusion{{Frontend: addr(frontend), First: 1024, Last: 60_000}}},
		"random": {Choice: snat.RandomPort, Exclude: []snat.Exclusion{{Frontend: addr(frontend), First: 1024, Last: 63_000}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, allPorts(a))
			b.seldom = true
			used := map[string]bool{}
			for i := range 2200 {
				got := b.opens("tcp", socket(vmA, 5000+2*i), "198.51.100.7:443")
				require.False(t, used[got], "%s twice", got)
				used[got] = true
				require.LessOrEqual(t, b.Census().DestinationWords, 16+8*i, "words of 64 bits for %d flows, in powers of two", i)
			}
			require.Equal(t, 1, b.Census().DestinationRecords)
			b.at(29 * time.Second)
			for i := range 1100 { // the first half lives on
				b.dials(socket(vmA, 5000+2*i), "198.51.100.7:443")
			}
			b.at(31 * time.Second)
			for i := range 100 {
				got := b.opens("tcp", socket(vmA, 20_000+2*i), "198.51.100.7:443")
				require.NotContains(t, got, "drop")
			}
			b.at(time.Hour)
			assert.Zero(t, b.Census().DestinationRecords)
		})
	}
}

// A destination whose few ports of a class are all taken needs no bitmap of all.
func TestFewPortsOfAnInventoryNeedNoBitmap(t *testing.T) {
	c := gateway(510, 64_000)
	sharedPorts(&c).Choice = snat.PreservePort
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	b := newBed(t, c)
	for host := range 4 {
		for i := range 200 {
			got := b.opens("udp", fmt.Sprintf("10.244.0.%d:400", 4+host), fmt.Sprintf("198.51.100.%d:53", i))
			assert.Equal(t, host > 1, got == "drop ports", "only 510 and 511 are of the class: %s", got)
		}
	}
	assert.Zero(t, b.Census().DestinationWords)
}
