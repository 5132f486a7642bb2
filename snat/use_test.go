package snat_test

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

// closes ends the connection of an inside socket by FIN from both sides, right
// after its handshake.
func (b *bed) closes(src, outside, dst string) {
	b.locally(src, dst, "FA", 1001, 5001)
	b.remotely(dst, outside, "FA", 5001, 1002)
	b.locally(src, dst, "A", 1002, 5002)
}

// Connections to one host, one after the other, use as many ports as there are,
// because each keeps its own from the host: that is what refuses the next one.
func TestHeldPortsAreUsed(t *testing.T) {
	b := newBed(t, oneVM(64))
	for i := range 64 {
		src := socket(vmA, 5000+i)
		b.closes(src, b.dials(src, "198.51.100.7:443"), "198.51.100.7:443")
	}
	require.Equal(t, "drop ports", b.opens("tcp", socket(vmA, 6000), "198.51.100.7:443"))
	uses := snat.PortUses{HeldFIN: 64}
	assert.Equal(t, snat.PoolStats{Protocol: snat.TCP, Allocated: 64, Used: 64, PortUses: uses, Peak: 64}, b.pool(false, snat.TCP))
	assert.Equal(t, snat.FrontendStats{Frontend: addr(frontend), Protocol: snat.TCP, Allocated: 64, Used: 64, PortUses: uses, Peak: 64}, b.Frontends()[0])
	assert.Equal(t, uses, shares(b.NAT, 0, snat.TCP)[0].PortUses)
	assert.Equal(t, uses, b.Stats().Ports)

	// A flow to another host makes a port active that is held as well, and it counts
	// once; one that a reset holds too counts for the longer hold.
	other := b.dials(socket(vmA, 6001), "198.51.100.8:443")
	assert.Equal(t, snat.PortUses{Active: 1, HeldFIN: 63}, b.Stats().Ports)
	b.remotely("198.51.100.8:443", other, "RA", 5001, 1001)
	assert.Equal(t, snat.PortUses{HeldFIN: 64}, b.Stats().Ports)
	b.at(4 * time.Minute)
	assert.Zero(t, b.Stats().Ports)
	assert.Equal(t, 64, b.pool(false, snat.TCP).Peak)
}

// What a port is used for is told apart.
func TestPortUses(t *testing.T) {
	c := oneVM(16)
	ownedPorts(&c).Allocation = snat.Allocation{
		Quarantine: snat.Quarantine{Hold: time.Minute},
		Exclude:    []snat.Exclusion{{Frontend: addr(frontend), Protocol: snat.All, First: 1039}},
	}
	b := newBed(t, c)
	assert.Equal(t, snat.PortUses{Excluded: 2}, b.Stats().Ports, "of TCP and of UDP")
	reset := b.dials(socket(vmA, 5000), "198.51.100.7:443")
	b.opens("udp", socket(vmA, 5001), "198.51.100.7:53")
	b.remotely("198.51.100.7:443", reset, "RA", 5001, 1001)
	assert.Equal(t, snat.PortUses{Active: 1, HeldRST: 1, Excluded: 2}, b.Stats().Ports)
	b.at(15 * time.Second)
	assert.Equal(t, snat.PortUses{Active: 1, Resting: 1, Excluded: 2}, b.Stats().Ports)
	b.at(4 * time.Minute)
	assert.Equal(t, snat.PortUses{Resting: 1, Excluded: 2}, b.Stats().Ports)
	p := b.pool(false, snat.UDP)
	assert.Equal(t, 2, p.Held())
	assert.Equal(t, snat.PoolStats{Protocol: snat.UDP, Allocated: 16, Free: 14, Used: 2, PortUses: snat.PortUses{Resting: 1, Excluded: 1}, Peak: 2}, p)

	_, err := b.Reconfigure(b.now, oneVM(16))
	require.NoError(t, err)
	b.Check()
	assert.Zero(t, b.Stats().Ports)
}

// The peak of a frontend counts ports that were in use at one time, however many
// shards its instances are in, and however late somebody notices what is over.
func TestPeakOfFrontendIsOfOneTime(t *testing.T) {
	for _, shards := range []int{1, 2, 8} {
		for _, drive := range []diligence{never, always} {
			t.Run(fmt.Sprintf("%d shards, %d", shards, drive), func(t *testing.T) {
				c := snat.Config{Dataplane: snat.Dataplane{Shards: shards}}
				for i := range 4 {
					c.Instances = append(c.Instances, snat.Instance{
						Name: fmt.Sprint("vm", i), Addrs: []netip.Addr{addr("10.0.0.%d", 4+i)},
						Ports: []snat.PortRange{{Frontend: addr(frontend), First: uint16(1024 + 8*i), Count: 8}},
					})
				}
				b := newBed(t, c)
				for hour := range 4 { // two at a time, then one
					if b.lazily(time.Duration(hour) * time.Hour); drive == always {
						b.at(time.Duration(hour) * time.Hour)
					}
					b.opens("udp", socket(fmt.Sprintf("10.0.0.%d", 4+hour), 5000), "198.51.100.7:53")
					if hour == 1 {
						b.opens("udp", socket(vmA, 5001), "198.51.100.7:53")
					}
				}
				f := b.Frontends()[1]
				assert.Equal(t, 2, f.Peak)
				if drive == always {
					assert.Equal(t, 1, f.Used)
				}
				b.lazily(3*time.Hour + 4*time.Minute)
				b.opens("udp", socket(vmA, 5001), "198.51.100.7:53")
				assert.Equal(t, 2, b.Frontends()[1].Peak)
			})
		}
	}
}

// Flows that take no outside port are nobody's ports and no SNAT connections.
func TestFlowsWithoutPortsAreNotCounted(t *testing.T) {
	c := oneVM(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.224.0.0/12"), Action: snat.NodeAddress}}
	b := newBed(t, c)
	for i := range 5 {
		require.NotContains(t, b.opens("udp", socket("10.244.0.1", 5000+i), "10.224.0.200:53"), "drop")
	}
	b.opens("udp", "10.244.0.2:5000", "198.51.100.7:53")
	for by, name := range map[snat.By]string{snat.ByInstance: "vm-a", snat.ByInside: "10.244.0.2", snat.ByDestination: "198.51.100.7:53"} {
		assert.Equal(t, []snat.PortUser{{Name: name, Ports: 1}}, b.TopPorts(9, by))
	}
	s := b.Stats()
	assert.Equal(t, uint64(1), s.ConnectionsSuccessful)
	assert.Equal(t, uint64(6), s.SessionsCreated)
	assert.Equal(t, snat.ConnectionStats{Protocol: snat.UDP, Successful: 1, Active: 6}, b.Connections()[1])
	created := uint64(0)
	for row := range b.Shares() {
		created += row.Created
	}
	assert.Equal(t, s.ConnectionsSuccessful, created)
}

// A session says which port it has at its instance's own address, shared or not.
func TestPortAtOwnAddress(t *testing.T) {
	for _, behind := range []bool{false, true} {
		c := oneVM(8)
		if behind {
			c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
		}
		var created []uint16
		c.Hooks.SessionCreated = func(_ flow.Time, _ uint32, s flow.Info) { created = append(created, s.Data[0]) }
		b := newBed(t, c)
		b.opens("udp", socket(vmA, 5000), "198.51.100.7:53")
		for s := range b.Sessions() {
			assert.Equal(t, uint16(5000), s.Data[0])
		}
		assert.Equal(t, []uint16{5000}, created)
	}
}

// A segment to a port that is not of the inventory is nobody's, and not answered.
func TestOnlyPortsOfTheInventoryAnswer(t *testing.T) {
	c := gateway(1024, 64)
	c.ResetUnknown = snat.ResetSender
	b := newBed(t, c)
	for port, answers := range map[int]int{80: 0, 1023: 0, 1024: 1, 1087: 1, 1088: 0} {
		b.in(pkttest.TCP(serverA+":443", socket(gatewayIP, port), pkttest.ACK, pkttest.Seq(1), pkttest.Ack(2)))
		b.at(0)
		assert.Len(t, b.sent(), answers, "port %d", port)
	}
}

// Peaks stay within what is possible, whoever counts and reads at the same time.
func TestPeakOfFrontendAmongGoroutines(t *testing.T) {
	c := sharedFrontends(4)
	c.Shards = 4
	b := newBed(t, c)
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for k := range 2000 {
				src := socket(fmt.Sprintf("10.0.0.%d", 4+i), 5000+k%20)
				b.Outbound(flow.At(time.Duration(k)*time.Second), pkttest.UDP(src, "198.51.100.7:53", "query"))
				if k%100 == 0 {
					b.Frontends()
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
	for _, f := range b.Frontends() {
		assert.LessOrEqual(t, f.Used, f.Peak)
		assert.LessOrEqual(t, f.Peak, f.Allocated)
	}
}
