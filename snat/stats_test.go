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

// The hooks tell the life of every flow, in order.
func TestHooks(t *testing.T) {
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	c := resetting(8)
	c.Instances[0].Ports = c.Instances[0].Ports[:1]
	c.Instances = append(c.Instances, snat.Instance{Name: "vm-b", Addrs: []netip.Addr{addr("10.0.0.5")}})
	c.Hooks = snat.Hooks{
		SessionCreated: func(now flow.Time, i uint32, s flow.Info) {
			note("%v created %d: %v %v %v %v", now, i, s.Inside, s.Outside, s.Remote, s.Class)
		},
		SessionExpired: func(at flow.Time, i uint32, s flow.Info) {
			note("%v expired %d: %v %v, idle %v", at, i, s.Outside, s.Class, s.Idle)
		},
		PortRefused: func(now flow.Time, i uint32, proto uint8, reason flow.Reason) {
			note("%v refused %d: %d %v", now, i, proto, reason)
		},
		ResetSent: func(at flow.Time, i uint32, s flow.Info) { note("%v reset %d: %v", at, i, s.Outside) },
	}
	b := newBed(t, c)
	b.dials(vmA+":5000", serverA+":443")
	b.opens("tcp", vmA+":5001", serverA+":443")
	b.opens("udp", "10.0.0.5:5000", serverA+":53")
	for i := range 7 {
		b.opens("udp", socket(vmA, 6000+i), serverA+":53")
	}
	require.Len(t, log, 10)
	log = append(log[:3], log[9:]...)
	b.opens("udp", socket(vmA, 6007), serverA+":53")
	b.opens("udp", socket(vmA, 6008), serverA+":53")
	b.at(time.Hour)
	require.Len(t, b.sent(), 2)
	require.Len(t, log, 17)
	assert.Equal(t, []string{
		"0s created 0: 10.0.0.4:5000 203.0.113.10:1024 198.51.100.7:443 tcp-opening",
		"0s created 0: 10.0.0.4:5001 203.0.113.10:1025 198.51.100.7:443 tcp-opening",
		"0s refused 1: 17 no_outbound",
		"0s created 0: 10.0.0.4:6006 203.0.113.10:1030 198.51.100.7:53 udp",
		"0s created 0: 10.0.0.4:6007 203.0.113.10:1031 198.51.100.7:53 udp",
		"0s refused 0: 17 ports",
		"30s expired 0: 203.0.113.10:1025 tcp-opening, idle 30s",
	}, log[:7])
	assert.Contains(t, log, "4m0s expired 0: 203.0.113.10:1024 tcp-established, idle 4m0s")
	assert.Contains(t, log, "4m0s reset 0: 203.0.113.10:1024")
	assert.Contains(t, log, "4m0s expired 0: 203.0.113.10:1031 udp, idle 4m0s")
}

// The biggest users of ports, by instance, by pod and by destination.
func TestTopPorts(t *testing.T) {
	c := fleet(3)
	c.Instances[2].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	b := newBed(t, c)
	for i, n := range []int{2, 3} {
		for k := range n {
			b.opens("tcp", socket(fmt.Sprintf("10.0.0.%d", 4+i), 5000+k), serverA+":443")
		}
	}
	for k := range 4 {
		b.opens("tcp", socket("10.244.0.1", 5000+k), "198.51.100.8:443")
	}
	b.opens("udp", "10.244.0.2:5000", "198.51.100.8:443")
	assert.Equal(t, []snat.PortUser{{Name: "vm2", Ports: 5}, {Name: "vm1", Ports: 3}, {Name: "vm0", Ports: 2}}, b.TopPorts(10, snat.ByInstance))
	assert.Equal(t, []snat.PortUser{{Name: "10.244.0.1", Ports: 4}, {Name: "10.0.0.5", Ports: 3}}, b.TopPorts(2, snat.ByInside))
	assert.Equal(t, []snat.PortUser{{Name: "198.51.100.7:443", Ports: 5}, {Name: "198.51.100.8:443", Ports: 5}}, b.TopPorts(10, snat.ByDestination), "ties by name")
	assert.Empty(t, b.TopPorts(0, snat.ByInside))
	assert.Panics(t, func() { b.TopPorts(1, snat.ByDestination+1) })
	b.at(time.Hour)
	assert.Empty(t, b.TopPorts(10, snat.ByInside))
}

// A caller may leave the iterations early, and look at the NAT meanwhile.
func TestIterationsMayStop(t *testing.T) {
	b := newBed(t, fleet(3))
	for i := range 3 {
		b.opens("tcp", socket(fmt.Sprintf("10.0.0.%d", 4+i), 5000), serverA+":443")
	}
	n := 0
	for i, inst := range b.Instances() {
		assert.Equal(t, fmt.Sprintf("vm%d", i), inst.Name)
		assert.Equal(t, uint64(1), inst.Created)
		assert.Equal(t, 3, b.Stats().SessionsActive)
		if n++; n == 2 {
			break
		}
	}
	for range b.Sessions() {
		b.Stats()
		n++
		break
	}
	assert.Equal(t, 3, n)
}

// Instances with a policy of their own differ in timeouts and resets, whatever
// the number of shards.
func TestPolicyOfInstance(t *testing.T) {
	for _, shards := range []int{0, 1, 3} {
		c := fleet(4)
		c.Shards = shards
		c.Instances[1].Policy = &snat.Policy{IdleTimeout: time.Minute}
		c.Instances[2].Policy = &snat.Policy{IdleTimeout: 2 * time.Minute, EnableTCPReset: true}
		b := newBed(t, c)
		for i := range 4 {
			b.dials(socket(fmt.Sprintf("10.0.0.%d", 4+i), 5000), serverA+":443")
		}
		for _, step := range []struct {
			at      time.Duration
			active  int
			emitted int
		}{{time.Minute - 1, 4, 0}, {time.Minute, 3, 0}, {2*time.Minute - 1, 3, 0}, {2 * time.Minute, 2, 2}, {4*time.Minute - 1, 2, 0}, {4 * time.Minute, 0, 4}} {
			b.at(step.at)
			assert.Equal(t, step.active, b.Stats().SessionsActive, "%v", step.at)
			assert.Len(t, b.sent(), step.emitted, "%v", step.at)
		}
	}
}

// NextDeadline leads a driver to the moment something ends, in few steps.
func TestNextDeadlineConverges(t *testing.T) {
	b := newBed(t, oneVM(8))
	_, ok := b.NextDeadline()
	require.False(t, ok)
	b.dials(vmA+":5000", serverA+":443")
	steps := 0
	for at, ok := b.NextDeadline(); ok; at, ok = b.NextDeadline() {
		require.LessOrEqual(t, at, flow.At(4*time.Minute))
		if steps++; steps > 10 {
			t.Fatal("no end in sight")
		}
		b.at(at.Duration())
		assert.Equal(t, at == flow.At(4*time.Minute), b.Stats().SessionsActive == 0)
	}
	assert.Equal(t, flow.At(4*time.Minute), b.now)
}

// An answer shortens the idle timeout of UDP if it is configured so, also for
// who only advances.
func TestShorterTimeoutOnceReplied(t *testing.T) {
	c := oneVM(8)
	c.Timeouts = flow.Timeouts{UDP: time.Minute, UDPReplied: 10 * time.Second}
	b := newBed(t, c)
	outside := b.opens("udp", vmA+":5000", serverA+":53")
	b.at(time.Second)
	b.in(pkttest.UDP(serverA+":53", outside, "answer"))
	b.at(11*time.Second - 1)
	assert.Equal(t, 1, b.pool(false, snat.UDP).Used)
	b.at(11 * time.Second)
	assert.Equal(t, 0, b.pool(false, snat.UDP).Used)
}
