package snat_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// vmB is a second virtual machine.
const vmB, vmB6 = "10.0.0.5", "fd00::5"

// ports is a range of the frontend for both protocols.
func ports(first, count int) snat.PortRange {
	return snat.PortRange{Frontend: addr(frontend), First: uint16(first), Count: count}
}

// vm is an instance with one address.
func vm(name, address string, ranges ...snat.PortRange) snat.Instance {
	return snat.Instance{Name: name, Addrs: []netip.Addr{netip.MustParseAddr(address)}, Ports: ranges}
}

// world is a configuration of some instances.
func world(instances ...snat.Instance) snat.Config { return snat.Config{Instances: instances} }

// becomes reconfigures the NAT, which must succeed, and returns what changed.
func (b *bed) becomes(c snat.Config) snat.Change {
	b.t.Helper()
	change, err := b.Reconfigure(b.now, c)
	require.NoError(b.t, err)
	b.Check()
	return change
}

// alive reports whether a dialled connection still passes packets both ways.
func (b *bed) alive(src, outside, dst string) bool {
	out := b.locally(src, dst, "A", 1001, 5001)
	in := b.remotely(dst, outside, "A", 5001, 1001)
	switch {
	case source(out) == outside && destination(in) == src:
		return true
	case out == "drop no_flow" && in == "drop no_flow":
		return false
	}
	b.t.Fatalf("half a connection: %s, %s", out, in)
	return false
}

// instance returns the statistics of an instance and its index.
func (b *bed) instance(name string) (int, snat.InstanceStats) {
	for i, s := range b.Instances() {
		if s.Name == name {
			return i, s
		}
	}
	b.t.Fatalf("no instance %q", name)
	return 0, snat.InstanceStats{}
}

// An instance that is added has ports at once, and the next free index.
func TestReconfigure_InstanceAdded(t *testing.T) {
	b := newBed(t, world(vm("a", vmA, ports(1024, 8))))
	a := b.dials(socket(vmA, 5000), "198.51.100.7:443")
	require.Equal(t, "drop spoof", b.opens("tcp", socket(vmB, 5000), "198.51.100.7:443"))
	change := b.becomes(world(vm("b", vmB, ports(1032, 8)), vm("a", vmA, ports(1024, 8))))
	assert.Equal(t, []snat.InstanceChange{{Name: "b", Added: true, Granted: 16}}, change.Instances, "8 for TCP, 8 for UDP")
	assert.Equal(t, socket(frontend, 1032), b.opens("tcp", socket(vmB, 5000), "198.51.100.7:443"))
	assert.True(t, b.alive(socket(vmA, 5000), a, "198.51.100.7:443"))
	i, _ := b.instance("b")
	assert.Equal(t, 1, i, "the index of a stays, although b is first")
	assert.Equal(t, 16, b.Frontends()[0].Allocated)
}

// A configuration that has been checked comes into force as it was then, whatever becomes of what it was
// made of and of what was in force.
func TestReconfigureChecked(t *testing.T) {
	fixed := vm("a", vmA, ports(1024, 8))
	b := newBed(t, world(fixed))
	granted := func() (n int) {
		for _, inst := range b.Instances() {
			for _, p := range inst.Pools {
				n += p.Allocated
			}
		}
		return n
	}
	next := world(fixed, vm("b", vmB, ports(1032, 8)))
	checked, err := b.CheckReconfigure(next)
	require.NoError(t, err)
	next.Instances[1].Ports[0].Count, next.Instances[1].Addrs[0] = 800, addr("10.9.9.9")
	assert.Equal(t, 16, granted(), "nothing has changed")
	b.becomes(world(vm("c", "10.0.0.6", ports(1024, 80))))
	_, err = b.ReconfigureChecked(b.now, checked)
	require.NoError(t, err)
	b.Check()
	assert.Equal(t, 32, granted())
	assert.Equal(t, socket(frontend, 1032), b.opens("tcp", socket(vmB, 5000), "198.51.100.7:443"))

	_, err = b.CheckReconfigure(world(fixed, vm("b", vmB, ports(1024, 8))))
	require.ErrorIs(t, err, snat.ErrOwned)
	checked, err = b.CheckReconfigure(world(fixed))
	require.NoError(t, err)
	b.Close()
	_, err = b.ReconfigureChecked(b.now, checked)
	require.ErrorIs(t, err, flow.ErrClosed)
	_, err = b.CheckReconfigure(world(fixed))
	require.ErrorIs(t, err, flow.ErrClosed)
}

// The flows of an instance that is removed end silently, and its ports and its
// index are free.
func TestReconfigure_InstanceRemoved(t *testing.T) {
	var causes []string
	c := world(vm("a", vmA, ports(1024, 8)), vm("b", vmB, ports(1032, 8)))
	c.Hooks.SessionCut = func(at flow.Time, instance uint32, s flow.Info, cause snat.CutCause) {
		causes = append(causes, fmt.Sprint(at, instance, s.Inside, cause))
	}
	c.EnableTCPReset = true
	b := newBed(t, c)
	outside := b.dials(socket(vmA, 5000), "198.51.100.7:443")
	b.opens("udp", socket(vmA, 5001), "198.51.100.7:53")
	kept := b.dials(socket(vmB, 5000), "198.51.100.7:443")
	b.at(time.Second)
	c.Instances = []snat.Instance{c.Instances[1], vm("c", "10.0.0.6", ports(1024, 8))}
	c.ReclaimGrace = time.Minute // which a removed instance has no use for
	change := b.becomes(c)
	total := change.Total()
	assert.Equal(t, [snat.NumCutCauses]int{snat.CutRemoved: 2}, total.Cut)
	assert.True(t, change.Instances[len(change.Instances)-1].Removed)
	slices.Sort(causes)
	assert.Equal(t, []string{"1s 0 10.0.0.4:5000 removed", "1s 0 10.0.0.4:5001 removed"}, causes)
	b.at(time.Second)
	assert.Empty(t, b.sent(), "no RST")
	assert.Equal(t, "drop spoof", b.locally(socket(vmA, 5000), "198.51.100.7:443", "A", 1001, 5001))
	assert.Equal(t, "drop no_flow", b.remotely("198.51.100.7:443", outside, "A", 5001, 1001))
	assert.True(t, b.alive(socket(vmB, 5000), kept, "198.51.100.7:443"))
	assert.Equal(t, outside, b.opens("tcp", "10.0.0.6:5000", "198.51.100.7:443"), "the port serves its next owner")
	i, _ := b.instance("c")
	assert.Zero(t, i)
	s := b.Stats()
	assert.Equal(t, uint64(2), s.SessionsEnded)
	assert.Equal(t, uint64(2), s.Cut[snat.CutRemoved])
}

// Flows on ports that stay keep port, timer and state; flows on reclaimed ones end
// without a RST.
func TestReconfigure_PortsReclaimed(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 16)))
	c.EnableTCPReset = true
	b := newBed(t, c)
	var outside []string
	for i := range 16 {
		outside = append(outside, b.dials(socket(vmA, 5000+i), "198.51.100.7:443"))
	}
	b.at(time.Minute)
	c.Instances[0].Ports = []snat.PortRange{ports(1024, 8)}
	change := b.becomes(c)
	assert.Equal(t, []snat.InstanceChange{{
		Name: "a", Reclaimed: 16, Cut: [snat.NumCutCauses]int{snat.CutReclaimed: 8},
	}}, change.Instances)
	assert.Equal(t, snat.PoolStats{Protocol: snat.TCP, Allocated: 8, Used: 8, PortUses: snat.PortUses{Active: 8}, Peak: 16}, b.pool(false, snat.TCP), "the peak survives")
	assert.Equal(t, "drop ports", b.opens("tcp", socket(vmA, 6000), "198.51.100.7:443"))
	for i := range 8 {
		assert.False(t, b.alive(socket(vmA, 5008+i), outside[8+i], "198.51.100.7:443"))
	}
	assert.Empty(t, b.sent())
	b.at(4*time.Minute - time.Millisecond)
	assert.Equal(t, 8, b.Stats().SessionsActive, "the idle timer is that of the last packet")
	b.at(4 * time.Minute)
	assert.Zero(t, b.Stats().SessionsActive)
	assert.Len(t, b.sent(), 16, "both ends of eight connections")
}

// New ports are used as soon as they are there, and in the order of the ranges.
func TestReconfigure_PortsGranted(t *testing.T) {
	b := newBed(t, world(vm("a", vmA, ports(1024, 8))))
	var outside []string
	for i := range 8 {
		outside = append(outside, b.dials(socket(vmA, 5000+i), "198.51.100.7:443"))
	}
	require.Equal(t, "drop ports", b.opens("tcp", socket(vmA, 6000), "198.51.100.7:443"))
	change := b.becomes(world(vm("a", vmA, ports(2048, 8), ports(1024, 8))))
	assert.Equal(t, []snat.InstanceChange{{Name: "a", Granted: 16}}, change.Instances)
	for i := range 8 {
		assert.Equal(t, socket(frontend, 2048+i), b.opens("tcp", socket(vmA, 6000+i), "198.51.100.7:443"))
		assert.True(t, b.alive(socket(vmA, 5000+i), outside[i], "198.51.100.7:443"))
	}
	assert.Equal(t, "drop ports", b.opens("tcp", socket(vmA, 7000), "198.51.100.7:443"))
	assert.Equal(t, snat.PoolStats{Protocol: snat.TCP, Allocated: 16, Used: 16, PortUses: snat.PortUses{Active: 16}, Peak: 16}, b.pool(false, snat.TCP))
}

// The order of ranges changes the order of consumption, and nothing else: closed
// connections still hold their port, mappings keep theirs.
func TestReconfigure_OrdinalsMove(t *testing.T) {
	b := newBed(t, world(vm("a", vmA, ports(1024, 8), ports(2048, 8))))
	closed := b.dials(socket(vmA, 5000), "198.51.100.7:443")
	b.locally(socket(vmA, 5000), "198.51.100.7:443", "RA", 1001, 5001)
	udp := b.opens("udp", socket(vmA, 5000), "198.51.100.7:53")
	var flows []string
	for i := range 9 { // enough for a destination record
		flows = append(flows, b.dials(socket(vmA, 5001+i), "198.51.100.7:443"))
	}
	require.Equal(t, socket(frontend, 2049), flows[8])
	b.becomes(world(vm("a", vmA, ports(4096, 8), ports(2048, 8), ports(1024, 8))))
	assert.Equal(t, udp, b.opens("udp", socket(vmA, 5000), "198.51.100.8:53"), "one socket, one port")
	assert.NotEqual(t, udp, b.opens("udp", socket(vmA, 5001), "198.51.100.7:53"))
	p := b.pool(false, snat.TCP)
	assert.Equal(t, 1, p.Held())
	assert.Equal(t, 9, p.Active)
	got := map[string]bool{}
	for i := range 14 {
		got[b.opens("tcp", socket(vmA, 7000+i), "198.51.100.7:443")] = true
	}
	assert.Len(t, got, 14)
	assert.NotContains(t, got, closed)
	assert.Equal(t, "drop ports", b.opens("tcp", socket(vmA, 8000), "198.51.100.7:443"))
	b.at(15 * time.Second) // after RST
	assert.Equal(t, closed, b.opens("tcp", socket(vmA, 8000), "198.51.100.7:443"))
}

// A port that moves to another instance is free for it at once, even while ports
// that nobody gets await removal.
func TestReconfigure_PortsMove(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 16)), vm("b", vmB, ports(2048, 8)))
	c.ReclaimGrace = time.Minute
	b := newBed(t, c)
	var outside []string
	for i := range 16 {
		outside = append(outside, b.dials(socket(vmA, 5000+i), "198.51.100.7:443"))
	}
	c.Instances = []snat.Instance{vm("a", vmA, ports(2048, 8)), vm("b", vmB, ports(1024, 8))}
	change := b.becomes(c)
	assert.Equal(t, []snat.InstanceChange{
		{Name: "a", Granted: 16, Reclaimed: 32, AwaitingRemoval: 8, Cut: [snat.NumCutCauses]int{snat.CutReclaimed: 8}},
		{Name: "b", Granted: 16, Reclaimed: 16},
	}, change.Instances)
	assert.Equal(t, outside[0], b.opens("tcp", socket(vmB, 5000), "198.51.100.7:443"))
	assert.Equal(t, "drop no_flow", b.locally(socket(vmA, 5000), "198.51.100.7:443", "A", 1001, 5001))
	assert.True(t, b.alive(socket(vmA, 5008), outside[8], "198.51.100.7:443"))
}

// With a grace, flows on reclaimed ports go on until it ends, to the nanosecond,
// whether or not anybody calls Advance.
func TestReconfigure_AwaitingRemoval(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 16)))
	c.ReclaimGrace = time.Minute
	c.EnableTCPReset = true
	b := newBed(t, c)
	var outside []string
	for i := range 12 {
		outside = append(outside, b.dials(socket(vmA, 5000+i), "198.51.100.7:443"))
	}
	udp := ""
	for i := range 9 {
		udp = b.opens("udp", socket(vmA, 5000+i), "198.51.100.7:53")
	}
	b.lazily(10 * time.Second)
	c.Instances[0].Ports = []snat.PortRange{ports(1024, 8)}
	change := b.becomes(c)
	assert.Equal(t, []snat.InstanceChange{{Name: "a", Reclaimed: 16, AwaitingRemoval: 5}}, change.Instances)
	assert.Equal(t, snat.PoolStats{Protocol: snat.TCP, Allocated: 12, Used: 12, PortUses: snat.PortUses{Active: 12}, Peak: 12, AwaitingRemoval: 4}, b.pool(false, snat.TCP))
	assert.Equal(t, 12, b.Frontends()[0].Allocated)
	assert.Equal(t, 4, b.Frontends()[0].AwaitingRemoval)
	at, ok := b.NextDeadline()
	assert.True(t, ok)
	assert.LessOrEqual(t, at, flow.At(70*time.Second))

	assert.Equal(t, "drop ports", b.opens("tcp", socket(vmA, 6000), "198.51.100.7:443"), "no new connection")
	assert.Equal(t, udp, b.opens("udp", socket(vmA, 5008), "198.51.100.8:53"), "a socket keeps its mapping")
	b.locally(socket(vmA, 5011), "198.51.100.7:443", "RA", 1001, 5001)
	assert.Equal(t, 1, b.pool(false, snat.TCP).Held())
	b.at(25 * time.Second) // after RST the port is gone for good
	assert.Equal(t, snat.PoolStats{Protocol: snat.TCP, Allocated: 11, Used: 11, PortUses: snat.PortUses{Active: 11}, Peak: 12, AwaitingRemoval: 3}, b.pool(false, snat.TCP))
	assert.Equal(t, 3, b.Frontends()[0].AwaitingRemoval)

	b.now = flow.At(70*time.Second) - 1
	assert.True(t, b.alive(socket(vmA, 5008), outside[8], "198.51.100.7:443"))
	b.now++
	assert.False(t, b.alive(socket(vmA, 5008), outside[8], "198.51.100.7:443"))
	assert.True(t, b.alive(socket(vmA, 5000), outside[0], "198.51.100.7:443"))
	assert.Equal(t, snat.PoolStats{Protocol: snat.TCP, Allocated: 8, Used: 8, PortUses: snat.PortUses{Active: 8}, Peak: 12}, b.pool(false, snat.TCP))
	assert.Equal(t, uint64(5), b.Stats().Cut[snat.CutReclaimed], "three connections, two datagram flows")
	b.at(70 * time.Second)
	assert.Empty(t, b.sent(), "the end is silent")
}

// A port that its instance gets back in time is as before.
func TestReconfigure_GrantedAgain(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 16)))
	c.ReclaimGrace = time.Minute
	b := newBed(t, c)
	var outside []string
	for i := range 12 {
		outside = append(outside, b.dials(socket(vmA, 5000+i), "198.51.100.7:443"))
	}
	less := c
	less.Instances = []snat.Instance{vm("a", vmA, ports(1024, 8))}
	b.becomes(less)
	b.at(time.Second)
	change := b.becomes(c)
	assert.Equal(t, []snat.InstanceChange{{Name: "a", Granted: 16}}, change.Instances)
	b.at(2 * time.Minute)
	for i, o := range outside {
		assert.True(t, b.alive(socket(vmA, 5000+i), o, "198.51.100.7:443"))
	}
	b.becomes(less)
	less.ReclaimGrace = 0
	change = b.becomes(less)
	assert.Equal(t, 4, change.Instances[0].Cut[snat.CutReclaimed], "a shorter grace ends those that run")
}

// Flows whose inside address or node no longer belongs to the instance end; others
// keep the decision that was made for them.
func TestReconfigure_AddressesChange(t *testing.T) {
	node := func(own string, pods ...string) snat.Instance {
		inst := vm("node", own, ports(1024, 8))
		for _, p := range pods {
			inst.Inside = append(inst.Inside, netip.MustParsePrefix(p))
		}
		return inst
	}
	const web = "198.51.100.7:443"
	c := world(node(vmA, "10.244.0.0/24", "10.244.1.0/24"))
	b := newBed(t, c)
	first, second, own := b.dials("10.244.0.1:5000", web), b.dials("10.244.1.1:5000", web), b.dials(socket(vmA, 5000), web)

	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Action: snat.Blackhole}}
	assert.Empty(t, b.becomes(c).Instances, "routes are for new flows")
	assert.True(t, b.alive("10.244.0.1:5000", first, web))
	assert.Equal(t, "drop route", b.opens("tcp", "10.244.0.1:5001", web))
	c.Routes = nil

	c.Instances[0] = node(vmA, "10.244.0.0/24")
	change := b.becomes(c)
	assert.Equal(t, 1, change.Instances[0].Cut[snat.CutReaddressed])
	assert.Equal(t, "drop spoof", b.locally("10.244.1.1:5000", web, "A", 1001, 5001))
	assert.Equal(t, "drop no_flow", b.remotely(web, second, "A", 5001, 1001))
	assert.True(t, b.alive("10.244.0.1:5000", first, web))
	assert.True(t, b.alive(socket(vmA, 5000), own, web))

	c.Instances[0] = node(vmB, "10.244.0.0/24")
	change = b.becomes(c)
	assert.Equal(t, 2, change.Instances[0].Cut[snat.CutReaddressed], "the pod was translated to the old node first")
	assert.Zero(t, b.Stats().SessionsActive)
}

// Pods that come to an instance do not get the node ports of its own flows.
func TestReconfigure_PodsCome(t *testing.T) {
	const web = "198.51.100.7:443"
	c := world(vm("node", vmA, ports(1024, 8)))
	b := newBed(t, c)
	own := b.dials(socket(vmA, 5000), web)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	b.becomes(c)
	assert.True(t, b.alive(socket(vmA, 5000), own, web))
	b.opens("tcp", "10.244.0.1:5000", web)
	nodePorts := map[uint16]bool{}
	for s := range b.Sessions() {
		nodePorts[s.Data[0]] = true
	}
	assert.Equal(t, map[uint16]bool{5000: true, 5001: true}, nodePorts)
}

// A shorter idle timeout ends what it no longer allows, a longer one lets it live.
func TestReconfigure_PolicyChanges(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 8)))
	b := newBed(t, c)
	b.dials(socket(vmA, 5000), "198.51.100.7:443")
	b.at(time.Minute)
	b.dials(socket(vmA, 5001), "198.51.100.7:443")
	b.at(2 * time.Minute)
	c.IdleTimeout, c.EnableTCPReset = 90*time.Second, true
	b.becomes(c)
	s := b.Stats()
	assert.Equal(t, 1, s.SessionsActive)
	assert.Equal(t, uint64(1), s.Expired[flow.ClassTCPEstablished])
	b.at(2 * time.Minute)
	assert.Len(t, b.sent(), 2, "it ends as the new policy says")
	b.at(150*time.Second - time.Millisecond)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at(150 * time.Second)
	assert.Equal(t, 0, b.Stats().SessionsActive)

	b.dials(socket(vmA, 5002), "198.51.100.7:443")
	c.IdleTimeout = time.Hour
	b.becomes(c)
	b.at(time.Hour)
	assert.Equal(t, 1, b.Stats().SessionsActive)
}

// An instance gets a policy of its own, and loses it again: its flows, its held
// ports, its mappings and its tombstones remain.
func TestReconfigure_PolicyOfOneInstance(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 16)), vm("b", vmB, ports(2048, 16)))
	c.Shards, c.EnableTCPReset, c.IdleTimeout = 2, true, time.Minute
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	c.Timeouts.TCPResetSent = time.Hour
	b := newBed(t, c)
	const web, reset = "198.51.100.7:443", "198.51.100.9:443"
	b.dials(socket(vmA, 4999), reset)
	b.at(60 * time.Second) // a tombstone
	require.Len(t, b.sent(), 2)
	closed := b.dials("10.244.0.1:4998", web)
	b.locally("10.244.0.1:4998", web, "RA", 1001, 5001)
	pod, other := b.dials("10.244.0.1:5000", web), b.dials(socket(vmB, 5000), web)
	udp := b.opens("udp", "10.244.0.1:5000", "198.51.100.7:53")
	b.at(65 * time.Second)
	own := c.Policy
	own.IdleTimeout = 2 * time.Minute
	for _, p := range []*snat.Policy{&own, nil, &own} {
		c.Instances[0].Policy = p
		b.becomes(c)
		assert.Equal(t, 4, b.Stats().SessionsActive)
		assert.Equal(t, 1, b.pool(false, snat.TCP).Held())
	}
	assert.Equal(t, "drop flow_reset", b.locally(socket(vmA, 4999), reset, "A", 1001, 5001), "the tombstone answers")
	b.at(65 * time.Second)
	require.Len(t, b.sent(), 1)
	assert.True(t, b.alive("10.244.0.1:5000", pod, web))
	assert.True(t, b.alive(socket(vmB, 5000), other, web))
	assert.Equal(t, udp, b.opens("udp", "10.244.0.1:5000", "198.51.100.8:53"))
	b.at(80 * time.Second)
	assert.Equal(t, 0, b.pool(false, snat.TCP).Held(), "15 s are over")
	assert.Equal(t, closed, b.opens("tcp", "10.244.0.1:6000", web))
	b.at(130 * time.Second)
	assert.True(t, b.alive("10.244.0.1:5000", pod, web))
	assert.Equal(t, "drop flow_reset", b.locally(socket(vmB, 5000), web, "A", 1001, 5001))
}

// What cannot change, and what is wrong, is refused in one error, and nothing has
// changed then.
func TestReconfigure_Refused(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 8)), vm("b", vmB, ports(1032, 8)))
	c.Shards = 2
	b := newBed(t, c)
	outside := b.dials(socket(vmA, 5000), "198.51.100.7:443")
	b.opens("udp", socket(vmB, 5000), "198.51.100.7:53")
	picture := func() string {
		var lines []string
		for s := range b.Sessions() {
			lines = append(lines, fmt.Sprint(s))
		}
		for i, s := range b.Instances() {
			lines = append(lines, fmt.Sprint(i, s))
		}
		at, ok := b.NextDeadline()
		return fmt.Sprint(lines, b.Frontends(), b.Stats(), at, ok)
	}
	before := picture()
	bad := world(vm("a", vmA, ports(1024, 8)), vm("a", vmB, ports(1024, 9)))
	bad.Shards, bad.Seed, bad.HashKey, bad.ReclaimGrace = 3, 7, 8, -time.Second
	ownedPorts(&bad).UDP.Share = snat.ShareNever
	for i := range 3 {
		bad.Instances = append(bad.Instances, snat.Instance{Name: fmt.Sprint(i), Policy: &snat.Policy{IdleTimeout: time.Duration(i+1) * time.Minute}})
	}
	change, err := b.Reconfigure(b.now, bad)
	require.Error(t, err)
	assert.Empty(t, change.Instances)
	for _, what := range []string{"Instances[1].Name", "Instances[1].Ports[0]", "ReclaimGrace", "Shards 3", "Seed 7", "HashKey 8", "UDP {", "4 different policies"} {
		assert.ErrorContains(t, err, what)
	}
	for _, sentinel := range []error{flow.ErrDuplicateName, snat.ErrPorts, snat.ErrFixed, flow.ErrTooMany, flow.ErrTimeout} {
		assert.ErrorIs(t, err, sentinel)
	}
	assert.Equal(t, before, picture())
	assert.True(t, b.alive(socket(vmA, 5000), outside, "198.51.100.7:443"))
}

// Who has the ports cannot change, nor how instances share them.
func TestReconfigure_Shared(t *testing.T) {
	own := world(vm("a", vmA, ports(1024, 8)))
	shared := world(vm("a", vmA))
	shared.Ports = &snat.Shared{Frontends: []netip.Addr{addr(frontend)}}
	more := shared
	more.Ports = &snat.Shared{Frontends: []netip.Addr{addr(frontend)}, FirstPort: 2000}
	for _, tt := range []struct{ from, to snat.Config }{{own, shared}, {shared, own}, {shared, more}} {
		b := newBed(t, tt.from)
		_, err := b.Reconfigure(0, tt.to)
		assert.ErrorIs(t, err, snat.ErrFixed)
		assert.ErrorContains(t, err, "Ports: cannot be changed")
		assert.NotContains(t, b.opens("tcp", socket(vmA, 5000), "198.51.100.7:443"), "drop", "it goes on")
	}
	b := newBed(t, shared)
	slower := shared
	slower.Policy.IdleTimeout = time.Hour
	_, err := b.Reconfigure(0, slower)
	assert.ErrorIs(t, err, snat.ErrFixed)
	assert.ErrorContains(t, err, "Policy")
}

// Instances that share ports come and go: the flows of the others go on, on ports that nobody
// else gets towards the same remote, and those of one that is gone are over.
func TestReconfigure_InstancesThatShare(t *testing.T) {
	const remote = "198.51.100.7:443"
	with := func(all ...snat.Instance) snat.Config {
		c := world(all...)
		c.Ports = &snat.Shared{Frontends: []netip.Addr{addr(frontend)}, FirstPort: 1024, LastPort: 1031}
		return c
	}
	a, other := vm("a", vmA), vm("b", vmB)
	b := newBed(t, with(a, other))
	var ofA, ofB []string
	for i := range 4 {
		ofA = append(ofA, b.opens("tcp", socket(vmA, 5000+i), remote))
		ofB = append(ofB, b.opens("tcp", socket(vmB, 5000+i), remote))
	}
	b.opens("udp", socket(vmA, 6000), remote)
	b.opens("udp", socket(vmB, 6000), remote)
	assert.Contains(t, b.opens("tcp", socket(vmA, 5009), remote), "drop", "all ports are taken")

	change := b.becomes(with(vm("c", "10.0.0.77"), a))
	assert.Equal(t, 5, change.Total().Cut[snat.CutRemoved])
	assert.Equal(t, 5, b.Stats().SessionsActive)
	for i := range 4 {
		assert.True(t, b.alive(socket(vmA, 5000+i), ofA[i], remote))
		assert.Equal(t, "drop no_flow", b.remotely(remote, ofB[i], "A", 5001, 1001))
	}
	got := map[string]bool{}
	for i := range 4 {
		got[b.opens("tcp", socket("10.0.0.77", 5000+i), remote)] = true
	}
	for _, port := range ofB {
		assert.True(t, got[port], "%s is free again", port)
	}
	assert.Contains(t, b.opens("tcp", socket("10.0.0.77", 5009), remote), "drop", "and no others")
	for _, inst := range b.Instances() {
		assert.Contains(t, []string{"a", "c"}, inst.Name)
	}

	moved := a
	moved.Addrs = []netip.Addr{addr("10.0.0.78")}
	change = b.becomes(with(moved))
	assert.Equal(t, 5, change.Total().Cut[snat.CutReaddressed])
	assert.Zero(t, b.Stats().SessionsActive)
	for _, u := range b.SharedPorts() {
		assert.Equal(t, u.Allocated, u.Free, "%v", u.Protocol)
	}
}

// The caller's configuration is copied.
func TestReconfigure_Copies(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 8)))
	c.ReclaimGrace = time.Second
	b := newBed(t, c)
	c.Instances[0].Ports[0].First, c.Instances[0].Name = 8, "z"
	d := world(vm("a", vmA, ports(2048, 8)), vm("b", vmB, ports(4096, 8)))
	d.ReclaimGrace = time.Second
	b.opens("tcp", socket(vmA, 5000), "198.51.100.7:443")
	b.becomes(d)
	d.Instances[0].Ports[0].First, d.Instances[0].Name = 8, "z"
	b.at(2 * time.Second) // the end of the grace lays the configuration out again
	assert.Equal(t, socket(frontend, 2048), b.opens("tcp", socket(vmA, 5001), "198.51.100.7:443"))
}

// An empty configuration is one: everything ends, nothing panics, and it can be
// filled again (R13).
func TestNAT_R13_EmptyAndBack(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 8)))
	b := newBed(t, c)
	b.dials(socket(vmA, 5000), "198.51.100.7:443")
	b.becomes(snat.Config{})
	assert.Equal(t, "drop spoof", b.opens("tcp", socket(vmA, 5001), "198.51.100.7:443"))
	assert.Equal(t, "drop not_ours", b.remotely("198.51.100.7:443", socket(frontend, 1024), "A", 5001, 1001))
	assert.Empty(t, b.Frontends())
	b.becomes(world(vm("a", vmA)))
	assert.Equal(t, "drop no_outbound", b.opens("tcp", socket(vmA, 5001), "198.51.100.7:443"))
	b.becomes(c)
	assert.Equal(t, socket(frontend, 1024), b.opens("tcp", socket(vmA, 5001), "198.51.100.7:443"))
}

// An address that leaves the pool gives no new ports, and its flows drain or are
// cut (R13).
func TestNAT_R13_AddressRemoved(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Minute} {
		t.Run(grace.String(), func(t *testing.T) {
			c := oneVM(8)
			c.ReclaimGrace = grace
			b := newBed(t, c)
			outside := b.dials(socket(vmA, 5000), "198.51.100.7:443")
			c.Instances[0].Ports = []snat.PortRange{{Frontend: addr("203.0.113.99"), First: 1024, Count: 8}}
			b.becomes(c)
			assert.Equal(t, "203.0.113.99:1024", b.opens("tcp", socket(vmA, 5001), "198.51.100.7:443"))
			if grace > 0 {
				assert.True(t, b.alive(socket(vmA, 5000), outside, "198.51.100.7:443"))
				assert.Equal(t, "drop hairpin", b.opens("tcp", socket(vmA, 5002), socket(frontend, 443)), "it is still ours")
				b.at(grace)
				assert.Equal(t, "drop no_flow", b.remotely("198.51.100.7:443", outside, "A", 5001, 1001))
				b.becomes(c)
			}
			assert.Equal(t, "drop not_ours", b.remotely("198.51.100.7:443", outside, "A", 5001, 1001))
		})
	}
}

// nodes is a pool of nodes with so many ports each: 1,024 for up to 50 nodes, 512
// for up to 100. The first 48 begin every 1,024 ports; the others have the upper
// halves.
func nodes(count, each int) (c snat.Config) {
	for i := range count {
		inst := vm(fmt.Sprintf("node%d", i), fmt.Sprintf("10.224.0.%d", 4+i))
		first := 1024 + 1024*i
		if i >= 48 {
			first = 1024 + 1024*(i-48) + 512
		}
		inst.Ports = []snat.PortRange{ports(first, each)}
		c.Instances = append(c.Instances, inst)
	}
	return c
}

// From 48 to 52 nodes each has 512 ports instead of 1,024: flows on the reclaimed
// half die, the others do not notice.
func TestAzure_05_GrowAcrossATier(t *testing.T) {
	b := newBed(t, nodes(48, 1024))
	b.seldom = true
	const web = "198.51.100.7:443"
	var outside []string
	for i := range 1024 {
		outside = append(outside, b.dials(socket("10.224.0.4", 5000+i), web))
	}
	few := b.dials("10.224.0.5:5000", web)
	change := b.becomes(nodes(52, 512))
	total := change.Total()
	assert.Equal(t, 48*2*512, total.Reclaimed)
	assert.Equal(t, 4*2*512, total.Granted)
	assert.Equal(t, [snat.NumCutCauses]int{snat.CutReclaimed: 512}, total.Cut)
	for i, o := range outside {
		require.Equal(t, i < 512, b.alive(socket("10.224.0.4", 5000+i), o, web), o)
	}
	assert.True(t, b.alive("10.224.0.5:5000", few, web))
	assert.Equal(t, "drop ports", b.opens("tcp", "10.224.0.4:7000", web), "a flow must be made again when there is room")
	assert.Equal(t, socket(frontend, 1025+1024), b.opens("tcp", "10.224.0.5:7000", web), "and at once where there is")
	assert.Equal(t, outside[512], b.opens("tcp", "10.224.0.52:5000", web), "node48 has the upper half of node0")
}

// From 52 to 48 nodes each has 1,024 ports instead of 512, and those that stay
// lose no flow.
func TestAzure_06_ShrinkAcrossATier(t *testing.T) {
	b := newBed(t, nodes(52, 512))
	b.seldom = true
	const web = "198.51.100.7:443"
	var outside []string
	for node := range 48 {
		for i := range 20 {
			outside = append(outside, b.dials(socket(fmt.Sprintf("10.224.0.%d", 4+node), 5000+i), web))
		}
	}
	change := b.becomes(nodes(48, 1024))
	total := change.Total()
	assert.Equal(t, [snat.NumCutCauses]int{}, total.Cut)
	assert.Equal(t, 48*2*512, total.Granted)
	for k, o := range outside {
		require.True(t, b.alive(socket(fmt.Sprintf("10.224.0.%d", 4+k/20), 5000+k%20), o, web), o)
	}
	for i := range 1004 {
		require.NotContains(t, b.opens("tcp", socket("10.224.0.4", 6000+i), web), "drop")
	}
	assert.Equal(t, "drop ports", b.opens("tcp", "10.224.0.4:8000", web))
}

// Traffic goes on in several goroutines while another reconfigures: whoever is
// never touched by a change loses no packet, and everything adds up in the end.
func TestReconfigure_Concurrently(t *testing.T) {
	small := world(vm("steady", vmA, ports(1024, 64)), vm("moving", vmB, ports(2048, 64)), vm("guest", "10.0.0.6", ports(4096, 8)))
	small.ReclaimGrace = 3 * time.Millisecond
	large := small
	large.Instances = []snat.Instance{vm("moving", vmB, ports(4096, 64)), vm("steady", vmA, ports(8192, 8), ports(1024, 64))}
	large.Instances[1].Policy = &snat.Policy{IdleTimeout: time.Hour}
	n, err := snat.New(small)
	require.NoError(t, err)
	defer n.Close()
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	done := make(chan struct{})
	var clock sync.Mutex
	now := flow.Time(0)
	tick := func() flow.Time {
		clock.Lock()
		defer clock.Unlock()
		now += flow.Time(20 * time.Microsecond)
		return now
	}
	var wg sync.WaitGroup
	var batches atomic.Int64
	// What is established on ports that stay must go on without a gap.
	send := func(src, dst string) flow.Verdict { return n.Outbound(tick(), pkttest.UDP(src, dst, "x")) }
	for i := range 40 {
		require.Equal(t, flow.Forward, send(socket(vmA, 5000+i), serverA+":53").Action)
	}
	for g := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if v := send(socket(vmA, 5000+(i*2+g)%40), serverA+":53"); v.Action != flow.Forward || v.New {
					t.Errorf("a flow that nothing concerns: %+v %v", v, v.Reason)
					return
				}
			}
		})
	}
	wg.Go(func() {
		var pkts [][]byte
		verdicts := make([]flow.Verdict, 100)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			pkts = pkts[:0]
			for k := range 100 {
				src := []string{vmA, vmB, "10.0.0.6"}[k%3]
				pkts = append(pkts, pkttest.TCP(socket(src, 7000+(i+k)%500), serverA+":443", pkttest.SYN))
			}
			n.OutboundBatch(tick(), pkts, verdicts)
			for k := range pkts {
				pkts[k] = pkttest.TCP(serverA+":443", socket(frontend, []int{1024, 2048, 4096}[k%3]+i%64), pkttest.TCPFlags("SA"))
			}
			n.InboundBatch(tick(), pkts, verdicts)
			batches.Add(1)
		}
	})
	wg.Go(func() {
		for range n.Sessions() {
		}
		for {
			select {
			case <-done:
				return
			default:
			}
			n.Advance(tick(), func(flow.Emission) {})
			n.Stats()
			n.NextDeadline()
			n.TopPorts(3, snat.ByInstance)
			for _, s := range n.Instances() {
				for _, p := range s.Pools {
					if p.Allocated != p.Free+p.Used || p.Free < 0 || p.AwaitingRemoval > p.Allocated {
						t.Errorf("%s: %+v does not add up", s.Name, p)
					}
				}
			}
			for _, f := range n.Frontends() {
				if f.Used > f.Allocated || f.AwaitingRemoval < 0 {
					t.Errorf("%+v does not add up", f)
				}
			}
		}
	})
	for i := range rounds {
		c := small
		if i%2 == 0 {
			c = large
		}
		if _, err := n.Reconfigure(tick(), c); err != nil {
			t.Error(err)
		}
		for k := batches.Load(); batches.Load() == k; { // something happens in between
			runtime.Gosched()
		}
	}
	close(done)
	wg.Wait()
	n.Check()
	if c := n.Stats().Cut; c[snat.CutRemoved] == 0 || c[snat.CutReclaimed] == 0 {
		t.Errorf("nothing was at stake: %v", c)
	}
}

// A stale look at the routes costs no allocation either.
func TestReconfigure_NoAllocations(t *testing.T) {
	c := world(vm("a", vmA, ports(1024, 16)))
	c.ReclaimGrace = time.Hour
	b := newBed(t, c)
	for i := range 9 {
		b.dials(socket(vmA, 5000+i), "198.51.100.7:443")
	}
	pkt := pkttest.TCP(socket(vmA, 5000), "198.51.100.7:443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))
	work := make([]byte, len(pkt))
	send := func() {
		copy(work, pkt)
		if v := b.Outbound(b.now, work); v.Action != flow.Forward {
			t.Fatal(v)
		}
	}
	assert.Zero(t, testing.AllocsPerRun(100, send))
	c.Instances[0].Ports = []snat.PortRange{ports(1024, 8)}
	b.becomes(c)
	require.Equal(t, 1, b.pool(false, snat.TCP).AwaitingRemoval)
	assert.Zero(t, testing.AllocsPerRun(100, send), "while ports await removal")
}

// Whatever shards the policies of instances take them to, all they have comes
// along: connections, closed ones, mappings, tombstones, ports at the node. There
// may be as many policies as shards.
func TestReconfigure_Shards(t *testing.T) {
	const web, reset, dns = "198.51.100.7:443", "198.51.100.9:443", "198.51.100.7:53"
	c := snat.Config{Dataplane: snat.Dataplane{Shards: 3}, Policy: snat.Policy{IdleTimeout: time.Minute, EnableTCPReset: true}}
	c.Timeouts.TCPResetSent = 24 * time.Hour
	const instances = 6
	for i := range instances {
		inst := vm(fmt.Sprint("vm", i), fmt.Sprintf("10.0.0.%d", 4+i), ports(1024+8*i, 8))
		inst.Inside = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i))}
		c.Instances = append(c.Instances, inst)
	}
	pod := func(i, port int) string { return socket(fmt.Sprintf("10.244.%d.1", i), port) }
	b := newBed(t, c)
	for i := range instances {
		b.dials(pod(i, 4000), reset)
	}
	b.at(time.Minute)
	b.emitted = nil
	var outside, mapped []string
	for i := range instances {
		b.dials(pod(i, 4001), web)
		b.locally(pod(i, 4001), web, "RA", 1001, 5001)
		outside = append(outside, b.dials(pod(i, 5000), web))
		mapped = append(mapped, b.opens("udp", pod(i, 5000), dns))
	}
	long := func(hours int) *snat.Policy {
		p := c.Policy
		p.IdleTimeout = time.Duration(hours) * time.Hour
		return &p
	}
	for _, policies := range [][]*snat.Policy{
		{long(1)},
		{long(1), nil, nil, long(2)},
		{long(1), long(1), long(1), long(1), long(1), long(1)},
		{nil, nil, nil, nil, long(2), long(1)},
		{long(2), long(1), long(2), long(1), long(2), long(1)},
		{},
	} {
		for i := range c.Instances {
			c.Instances[i].Policy = nil
			if i < len(policies) {
				c.Instances[i].Policy = policies[i]
			}
		}
		assert.Empty(t, b.becomes(c).Instances, "nothing that a report would mention")
		for i := range instances {
			assert.True(t, b.alive(pod(i, 5000), outside[i], web), i)
			assert.Equal(t, mapped[i], b.opens("udp", pod(i, 5000), dns))
			assert.Equal(t, "drop flow_reset", b.locally(pod(i, 4000), reset, "A", 1001, 5001))
		}
		for _, s := range b.Instances() {
			assert.Equal(t, 1, s.Pools[0].Held())
		}
	}
	for i := range instances {
		neighbour := fmt.Sprintf("10.244.%d.2:5000", i)
		b.opens("tcp", neighbour, web)
		for s := range b.Sessions() {
			if s.Inside.String() == neighbour {
				assert.Equal(t, uint16(5001), s.Data[0], "the node knows that 5000 is taken")
			}
		}
	}
	c.Policy = *long(3)
	b.becomes(c)
	b.at(2 * time.Hour)
	assert.Equal(t, 2*instances, b.Stats().SessionsActive, "connections and mappings")
}

// An instance that gets a public address is translated 1:1 from now on: its own
// flows and those of what is behind it, which leave another way now, end. What it
// has counted stays counted when it is removed.
func TestReconfigure_PublicAddress(t *testing.T) {
	const web, public = "198.51.100.7:443", "20.50.1.4"
	inst := vm("node", vmA, ports(1024, 8))
	inst.Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	c := world(inst, vm("other", vmB, ports(1032, 8)))
	b := newBed(t, c)
	b.dials(socket(vmA, 5000), web)
	b.dials("10.244.0.1:5000", web)
	other := b.dials(socket(vmB, 5000), web)
	c.Instances[0].PublicAddrs = []netip.Addr{addr(public)}
	change := b.becomes(c)
	assert.Equal(t, [snat.NumCutCauses]int{snat.CutReaddressed: 2}, change.Total().Cut)
	assert.Equal(t, socket(public, 5000), source(b.locally(socket(vmA, 5000), web, "A", 1001, 5001)))
	pod := b.dials("10.244.0.1:5000", web)
	assert.Equal(t, socket(public, 5000), pod)

	c.Instances[0].Ports = nil
	assert.Equal(t, 16, b.becomes(c).Total().Reclaimed)
	assert.True(t, b.alive("10.244.0.1:5000", pod, web), "it uses none of the ports")
	c.Instances = c.Instances[1:]
	b.becomes(c)
	assert.Equal(t, "drop not_ours", b.remotely(web, socket(public, 22), "S", 1, 0))
	assert.Equal(t, uint64(1), b.Stats().Outbound.OneToOne)
	assert.True(t, b.alive(socket(vmB, 5000), other, web))
}
