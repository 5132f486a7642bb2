package snat

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat/internal/dataplane"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// hashKey is that of the table of what troubled returns.
const hashKey = 7

// troubled returns a NAT that counts its faults, with ten connections of ports 5000 and
// up to 198.51.100.7:443, of which that of 5003 is established, and what it tells of
// faults.
func troubled(t *testing.T, change func(*Config)) (*NAT, *[]string) {
	if dataplane.IsStrict() {
		Lenient(t)
	}
	var told []string
	c := Config{
		Instances: []Instance{{
			Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")}, Inside: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
			Ports: []PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 64}},
		}},
		Policy:    Policy{EnableTCPReset: true},
		Dataplane: Dataplane{HashKey: hashKey, Hooks: Hooks{Fault: func(at flow.Time, text string) { told = append(told, fmt.Sprint(at, ": ", text)) }}},
	}
	change(&c)
	n, err := New(c)
	require.NoError(t, err)
	t.Cleanup(n.Close)
	for i := range 10 {
		n.Outbound(0, pkttest.TCP(fmt.Sprint("10.1.0.9:", 5000+i), "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1000)))
	}
	n.Inbound(0, pkttest.TCP("198.51.100.7:443", "203.0.113.10:1027", pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1001)))
	n.Outbound(0, pkttest.TCP("10.1.0.9:5003", "198.51.100.7:443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(2)))
	return n, &told
}

// spoil calls do with the session of port 5003, and returns the state of its shard.
func (n *NAT) spoil(t *testing.T, do func(sh *ports.State, inst *ports.Instance, id flow.ID, s *flow.Session)) (of *ports.State) {
	n.plane.Instances(func(sh *ports.State, inst *ports.Instance, _ [2]uint64) {
		for _, id := range sh.IDs(make([]flow.ID, 0, sh.Len()), 0) {
			if s := sh.At(id); s.Key.SrcPort == 5003 {
				do(sh, inst, id, s)
				of = sh
			}
		}
	})
	require.NotNil(t, of, "no session")
	return of
}

// A hook that panics is a fault: what it was told of happens all the same.
func TestFaultOfHook(t *testing.T) {
	told := 0
	n, faults := troubled(t, func(c *Config) {
		c.Log.Sessions = true
		c.Hooks.SessionCreated = func(flow.Time, uint32, flow.Info) { told++; panic("created") }
		c.Hooks.SessionExpired = func(flow.Time, uint32, flow.Info) { told++; panic("expired") }
		c.Hooks.PortRefused = func(flow.Time, uint32, uint8, flow.Reason) { told++; panic("refused") }
		c.Hooks.SessionCut = func(flow.Time, uint32, flow.Info, CutCause) { told++; panic("cut") }
		c.Hooks.ResetSent = func(flow.Time, uint32, flow.Info) { told++; panic("reset") }
		c.Hooks.Event = func(Event) { told++; panic("event") }
		fault := c.Hooks.Fault
		c.Hooks.Fault = func(at flow.Time, text string) { fault(at, text); panic("fault") }
	})
	for i := range 60 {
		n.Outbound(0, pkttest.TCP(fmt.Sprint("10.1.0.9:", 5000+i), "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1000)))
	}
	n.Advance(flow.At(time.Hour), nil)
	n.Outbound(flow.At(time.Hour), pkttest.UDP("10.1.0.9:5000", "198.51.100.7:53", "query"))
	c := n.config.clone(&settings{})
	c.Ports, c.Instances[0].Ports = &n.config.Owned, nil
	_, err := n.Reconfigure(flow.At(time.Hour), c.Config)
	require.NoError(t, err)
	n.Outbound(flow.At(time.Hour), pkttest.UDP("10.1.0.9:5000", "198.51.100.7:53", "query"))
	stats := n.Stats()
	assert.Zero(t, stats.SessionsActive)
	assert.Equal(t, uint64(61), stats.SessionsCreated)
	assert.Len(t, *faults, told)
	assert.Equal(t, uint64(told), stats.Faults)
	for _, what := range []string{"created", "expired", "refused", "cut", "reset", "event"} {
		assert.Contains(t, fmt.Sprint(*faults), what)
	}
}

// In tests a fault panics.
func TestFaultsPanicInTests(t *testing.T) {
	was := dataplane.IsStrict()
	n, _ := troubled(t, func(*Config) {})
	sh := n.spoil(t, func(_ *ports.State, _ *ports.Instance, _ flow.ID, s *flow.Session) { s.OutsidePort = 9 })
	dataplane.Strict(was)
	assert.True(t, was)
	assert.Panics(t, func() { n.Advance(flow.At(time.Hour), nil) })
	sh.Unlock() // for Close
}
