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
)

// troubled returns a NAT that counts its faults, with ten connections of ports 5000 and
// up to 198.51.100.7:443, of which that of 5003 is established, and what it tells of
// faults.
func troubled(t *testing.T, change func(*Config)) (*NAT, *[]string) {
	if strict {
		Lenient(t)
	}
	var told []string
	c := Config{
		Instances: []Instance{{
			Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")}, Inside: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
			Ports: []PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 64}},
		}},
		Policy: Policy{EnableTCPReset: true},
		Hooks:  Hooks{Fault: func(at flow.Time, text string) { told = append(told, fmt.Sprint(at, ": ", text)) }},
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

// broken returns the session of port 5003.
func (n *NAT) broken(t *testing.T) (*shard, flow.ID, *flow.Session) {
	sh := &n.shards[n.instances[0].shard]
	for _, id := range sh.all() {
		if s := sh.At(id); s.Key.SrcPort == 5003 {
			return sh, id, s
		}
	}
	t.Fatal("no session")
	return nil, 0, nil
}

// A broken session costs itself, is counted and told of; all others go on, and no
// lock stays taken.
func TestFaults(t *testing.T) {
	syn := func(i int) []byte {
		return pkttest.TCP(fmt.Sprint("10.1.0.9:", 5000+i), "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1000))
	}
	for _, c := range []struct {
		name    string
		change  func(*Config)
		spoil   func(n *NAT, sh *shard, id flow.ID, s *flow.Session)
		packet  []byte // that meets the fault, else Advance does
		verdict flow.Reason
		text    string
	}{
		{
			name:  "not indexed by its outside end",
			spoil: func(n *NAT, sh *shard, id flow.ID, s *flow.Session) { sh.UnindexExtra(n.hashOutside(s), id) },
			text:  "is not indexed",
		}, {
			name: "not indexed at its node",
			spoil: func(n *NAT, sh *shard, id flow.ID, s *flow.Session) {
				sh.UnindexExtra(sh.nodeHash(id, s, n.instances[0]), id)
			},
			text: "is not indexed",
		}, {
			name:  "a port of nobody",
			spoil: func(n *NAT, sh *shard, id flow.ID, s *flow.Session) { s.OutsidePort = 9 },
			text:  "a port that its instance does not own",
		}, {
			name:  "a frontend of nobody",
			spoil: func(n *NAT, sh *shard, id flow.ID, s *flow.Session) { s.Outside = 9 },
			text:  "index out of range",
		}, {
			name:    "a port of nobody, and a reset",
			spoil:   func(n *NAT, sh *shard, id flow.ID, s *flow.Session) { s.OutsidePort = 9 },
			packet:  pkttest.TCP("10.1.0.9:5003", "198.51.100.7:443", pkttest.TCPFlags("R"), pkttest.Seq(1001)),
			verdict: flow.ReasonFault,
			text:    "a port that its instance does not own",
		}, {
			name: "a subscriber of nobody",
			change: func(c *Config) {
				c.Limits.Sessions = 100
			},
			spoil: func(n *NAT, sh *shard, id flow.ID, s *flow.Session) { n.instances[0].pools[0][tcpIndex].uses = nil },
			// A new flow cannot get a port any more.
			packet:  syn(50),
			verdict: flow.ReasonFault,
			text:    "index out of range",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*Config) {}
			}
			n, told := troubled(t, c.change)
			sh, id, s := n.broken(t)
			c.spoil(n, sh, id, s)
			if c.packet != nil {
				v := n.Outbound(flow.At(time.Second), append([]byte(nil), c.packet...))
				require.Equal(t, c.verdict, v.Reason)
				require.Equal(t, uint64(1), n.Stats().Outbound.Drops[flow.ReasonFault])
				require.Equal(t, uint64(1), n.Stats().Faults)
			}
			n.Advance(flow.At(time.Hour), nil)
			stats := n.Stats()
			require.NotZero(t, stats.Faults)
			require.Len(t, *told, int(stats.Faults))
			assert.Contains(t, (*told)[0], c.text)
			assert.NotPanics(t, func() { // nothing is locked, and all goes on
				for i := range 3 {
					n.Outbound(flow.At(time.Hour), pkttest.UDP(fmt.Sprint("10.1.0.9:", 6000+i), "198.51.100.7:53", "query"))
				}
			})
			require.Equal(t, uint64(11), n.Stats().Outbound.Forwarded-3)
		})
	}
}

// hashOutside returns the hash of an IPv4 session's outside key.
func (n *NAT) hashOutside(s *flow.Session) uint64 {
	k := s.KeyOutside()
	return n.table.Hasher().Hash(&k)
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
	c := n.config.clone()
	c.Instances[0].Ports = nil
	_, err := n.Reconfigure(flow.At(time.Hour), c)
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
	was := strict
	n, _ := troubled(t, func(*Config) {})
	_, _, s := n.broken(t)
	s.OutsidePort = 9
	strict = was
	assert.True(t, strict)
	assert.Panics(t, func() { n.Advance(flow.At(time.Hour), nil) })
	n.shards[n.instances[0].shard].Unlock() // for Close
}
