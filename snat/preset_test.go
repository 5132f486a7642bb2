package snat_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// site has n virtual machines 10.0.x.y and so many frontends 203.0.113.x.
func site(n, frontends int) (s preset.Site) {
	for i := range n {
		s.Instances = append(s.Instances, snat.Instance{
			Name: fmt.Sprint("vm", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
		})
	}
	for i := range frontends {
		s.Frontends = append(s.Frontends, addr("203.0.113.%d", 10+i))
	}
	return s
}

// configured is a bed with a preset.
func configured(t *testing.T, configure func(preset.Site) (snat.Config, error), s preset.Site) *bed {
	t.Helper()
	c, err := configure(s)
	require.NoError(t, err)
	return newBed(t, c)
}

// fails returns the number of flows without a port so far.
func (b *bed) fails() uint64 { return b.Stats().ConnectionsFailed }

// Ports per instance are rounded up to a power of two.
func TestVendor_02_GCPPowersOfTwo(t *testing.T) {
	for min, want := range map[int]int{0: 64, 50: 64, 64: 64, 65: 128, 2: 8, 65536: 65536} {
		s := site(1, 2)
		s.PortsPerInstance = min
		assert.Equal(t, want, configured(t, preset.GCPCloudNAT, s).pool(false, snat.TCP).Allocated, "%d", min)
	}
	for _, bad := range []int{1, -8, 65537} {
		s := site(1, 2)
		s.PortsPerInstance = bad
		_, err := preset.GCPCloudNAT(s)
		assert.ErrorIs(t, err, flow.ErrOutOfRange)
	}
}

// An instance with 64 ports has 64 connections to one destination and protocol.
func TestVendor_03_GCPOneDestination(t *testing.T) {
	b := configured(t, preset.GCPCloudNAT, site(2, 1))
	for _, proto := range []string{"tcp", "udp"} {
		for i := range 64 {
			require.Contains(t, b.opens(proto, socket("10.0.0.0", 5000+i), "198.51.100.10:443"), "203.0.113.10:")
		}
		assert.Equal(t, "drop ports", b.opens(proto, "10.0.0.0:6000", "198.51.100.10:443"))
		assert.Contains(t, b.opens(proto, "10.0.0.0:6000", "198.51.100.10:80"), "203.0.113.10:")
		assert.Contains(t, b.opens(proto, "10.0.0.1:6000", "198.51.100.10:443"), "203.0.113.10:", "another instance")
	}
}

// Mapping is endpoint-dependent, and looks so: a socket that asks several STUN
// servers is told several ports, and so are two sockets of one host that ask two each.
func TestPresetGCPLooksEndpointDependent(t *testing.T) {
	s := site(1, 1)
	for _, proto := range []string{"udp", "tcp"} {
		for s.Seed = range uint64(4) {
			b := configured(t, preset.GCPCloudNAT, s)
			again := configured(t, preset.GCPCloudNAT, s)
			seen := map[string]bool{}
			for i := range 8 {
				src, dst := socket("10.0.0.0", 5000+i/4), fmt.Sprintf("198.51.100.%d:3478", 10+i%4)
				outside := b.opens(proto, src, dst)
				require.Contains(t, outside, "203.0.113.10:")
				assert.Equal(t, outside, again.opens(proto, src, dst), "the same seed, the same ports")
				seen[outside] = true
			}
			assert.Greater(t, len(seen), 4, "%s, seed %d", proto, s.Seed)
		}
	}
	b := configured(t, preset.GCPCloudNAT, s)
	outside := b.opens("udp", "10.0.0.0:5000", "198.51.100.10:53")
	assert.Equal(t, "10.0.0.0:5000", destination(b.in(pkttest.UDP("198.51.100.10:53", outside, "x"))))
	assert.Equal(t, "drop filtered", b.in(pkttest.UDP("198.51.100.10:54", outside, "x")))
}

// The ports of closed connections come back after 120 s; idle ones end silently.
func TestVendor_04_GCPTimeouts(t *testing.T) {
	b := configured(t, preset.GCPCloudNAT, site(1, 1))
	const dst = "198.51.100.10:443"
	for i := range 64 {
		src := socket("10.0.0.0", 5000+i)
		outside := b.dials(src, dst)
		if i%2 == 0 {
			b.locally(src, dst, "FA", 1001, 5001)
			b.remotely(dst, outside, "FA", 5001, 1002)
		} else {
			b.remotely(dst, outside, "R", 5001, 0)
		}
	}
	b.at(120*time.Second - time.Nanosecond)
	assert.Equal(t, "drop ports", b.opens("tcp", "10.0.0.0:6000", dst))
	b.at(120 * time.Second)
	assert.Contains(t, b.opens("tcp", "10.0.0.0:6000", dst), "203.0.113.10:")
	b.opens("udp", "10.0.0.0:6000", "198.51.100.10:53")
	b.dials("10.0.0.0:6001", "198.51.100.11:443")
	b.at(150*time.Second - time.Nanosecond)
	assert.Equal(t, 3, b.Stats().SessionsActive)
	b.at(150 * time.Second)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at((120+1200)*time.Second - time.Nanosecond)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at((120 + 1200) * time.Second)
	assert.Equal(t, 0, b.Stats().SessionsActive)
	assert.Equal(t, "drop no_flow", b.locally("10.0.0.0:6001", "198.51.100.11:443", "A", 1001, 5001))
	b.at(time.Hour)
	assert.Empty(t, b.sent(), "nothing is reset")
}

// 55,000 connections of an address to one destination.
func TestVendor_06_AWSOneDestination(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	syns := map[string][]byte{}
	for _, dst := range []string{"198.51.100.10:443", "198.51.100.10:80"} {
		syns[dst] = pkttest.TCP("10.0.0.0:5000", dst, pkttest.SYN)
	}
	open := func(b *bed, i int, dst string) flow.Reason {
		pkt := slices.Clone(syns[dst])
		pkt[15] = byte(i / 60_000)
		binary.BigEndian.PutUint16(pkt[20:], uint16(1024+i%60_000))
		pkttest.FixChecksums(pkt)
		return b.Outbound(0, pkt).Reason
	}
	b := configured(t, preset.AWSNATGateway, site(8, 1))
	for i := range 55_000 {
		require.Equal(t, flow.ReasonNone, open(b, i, "198.51.100.10:443"))
	}
	assert.Equal(t, flow.ReasonDestinationLimit, open(b, 55_000, "198.51.100.10:443"))
	assert.Equal(t, uint64(1), b.fails())
	assert.Equal(t, flow.ReasonNone, open(b, 55_000, "198.51.100.10:80"))
	b.Check()

	if !pkttest.Short() {
		b = configured(t, preset.AWSNATGateway, site(8, 8))
		for i := range 440_000 {
			require.Equal(t, flow.ReasonNone, open(b, i, "198.51.100.10:443"))
		}
		assert.Equal(t, flow.ReasonDestinationLimit, open(b, 440_000, "198.51.100.10:443"))
		for _, s := range b.SharedPorts()[:2] {
			if s.Protocol == snat.TCP {
				assert.Equal(t, 55_000, s.Used)
			}
		}
	}
	_, err := preset.AWSNATGateway(site(1, 9))
	assert.ErrorContains(t, err, "Frontends has 9 addresses")
}

// Silent at 350 s; a host on the inside that goes on gets one RST, the outside
// none.
func TestVendor_07_AWSIdle(t *testing.T) {
	b := configured(t, preset.AWSNATGateway, site(1, 1))
	outside := b.dials("10.0.0.0:5000", "198.51.100.10:443")
	b.at(350*time.Second - time.Nanosecond)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at(350 * time.Second)
	assert.Equal(t, uint64(1), b.Stats().Expired[flow.ClassTCPEstablished])
	assert.Empty(t, b.sent())
	b.locally("10.0.0.0:5000", "198.51.100.10:443", "PA", 1001, 5001)
	b.remotely("198.51.100.10:443", outside, "PA", 5001, 1001)
	b.at(351 * time.Second)
	assert.Equal(t, []string{"5m50s inside TCP 198.51.100.10:443 > 10.0.0.0:5000 R seq=5001 len=0"}, b.sent())
	s := site(1, 1)
	s.IdleTimeout = time.Minute
	_, err := preset.AWSNATGateway(s)
	assert.ErrorContains(t, err, "IdleTimeout 1m0s", "it is fixed")
}

// Linux keeps the source port if it can, else it takes one of the same class. (It
// would also offer B the port that it has towards another destination, which the
// engine does not.)
func TestVendor_09_LinuxPorts(t *testing.T) {
	class := func(port int) string {
		switch {
		case port < 512:
			return "1-511"
		case port >= 600 && port < 1024:
			return "600-1023"
		case port >= 1024:
			return "from 1024"
		}
		return "none"
	}
	for _, proto := range []string{"tcp", "udp"} {
		for _, tc := range []struct {
			port  int
			class string
		}{{40000, "from 1024"}, {1024, "from 1024"}, {700, "600-1023"}, {512, "600-1023"}, {300, "1-511"}, {1, "1-511"}} {
			b := configured(t, preset.LinuxMasquerade, site(200, 1))
			assert.Equal(t, socket("203.0.113.10", tc.port), b.opens(proto, socket("10.0.0.0", tc.port), "198.51.100.7:443"))
			seen := []int{tc.port}
			for i := 1; i < 200; i++ {
				p := int(netip.MustParseAddrPort(b.opens(proto, socket(fmt.Sprint("10.0.0.", i), tc.port), "198.51.100.7:443")).Port())
				require.Equal(t, tc.class, class(p))
				require.NotContains(t, seen, p)
				seen = append(seen, p)
			}
			assert.Equal(t, socket("203.0.113.10", tc.port), b.opens(proto, socket("10.0.0.0", tc.port), "198.51.100.8:443"), "free towards another destination")
		}
	}
	// The class 600-1023 has 424 ports, for those that cannot keep 512.
	b := configured(t, preset.LinuxMasquerade, site(430, 1))
	for i := range 425 {
		require.NotContains(t, b.opens("udp", socket(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), 512), "198.51.100.7:443"), "drop")
	}
	assert.Equal(t, "drop ports", b.opens("udp", "10.0.1.170:512", "198.51.100.7:443"))
	assert.Equal(t, "203.0.113.10:513", b.opens("udp", "10.0.1.170:513", "198.51.100.7:443"))
}

// A RST in an established connection leaves 10 s, a UDP reply 120 s.
func TestVendor_10_LinuxTimeouts(t *testing.T) {
	b := configured(t, preset.LinuxMasquerade, site(1, 1))
	outside := b.dials("10.0.0.0:5000", "198.51.100.7:443")
	b.remotely("198.51.100.7:443", outside, "R", 5001, 0)
	b.at(10*time.Second - time.Nanosecond)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at(10 * time.Second)
	assert.Equal(t, 0, b.Stats().SessionsActive)

	outside = b.opens("tcp", "10.0.0.0:5001", "198.51.100.7:443")
	assert.Equal(t, "10.0.0.0:5001", destination(b.remotely("198.51.100.7:443", outside, "RA", 0, 1001)))
	assert.Equal(t, "drop no_flow", b.remotely("198.51.100.7:443", outside, "RA", 0, 1001), "refused, and gone")
	assert.Equal(t, outside, b.opens("tcp", "10.0.0.0:5001", "198.51.100.7:443"), "the port is free at once")
	b.remotely("198.51.100.7:443", outside, "RA", 0, 1001)
	b.at(10 * time.Second)
	assert.Equal(t, 0, b.Stats().SessionsActive)

	b.opens("udp", "10.0.0.0:5000", "198.51.100.7:53")
	b.at(40*time.Second - time.Nanosecond)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at(40 * time.Second)
	assert.Equal(t, 0, b.Stats().SessionsActive)
	outside = b.opens("udp", "10.0.0.0:5000", "198.51.100.7:53")
	b.at(41 * time.Second)
	b.in(pkttest.UDP("198.51.100.7:53", outside, "x"))
	b.at(43 * time.Second)
	b.opens("udp", "10.0.0.0:5000", "198.51.100.7:53")
	b.at(163*time.Second - time.Nanosecond)
	assert.Equal(t, 1, b.Stats().SessionsActive)
	b.at(163 * time.Second)
	assert.Equal(t, 0, b.Stats().SessionsActive)
}

// Linux's timers of TCP, at the doors: what restarts them, and how long each state is.
func TestPresetLinuxTimers(t *testing.T) {
	const inside, server, outside = "10.0.0.0:5000", "198.51.100.7:443", "203.0.113.10:5000"
	established := func(b *bed) { require.Equal(t, outside, b.dials(inside, server)) }
	for name, c := range map[string]struct {
		talk func(b *bed)
		left time.Duration // from the last segment, or from where the talk says
	}{
		"SYN-ACK":    {func(b *bed) { b.opens("tcp", inside, server); b.remotely(server, outside, "SA", 5000, 1001) }, 60 * time.Second},
		"connection": {established, 432_000 * time.Second},
		"data without acknowledgment": {func(b *bed) {
			established(b)
			b.in(pkttest.TCP(server, outside, pkttest.TCPFlags("PA"), pkttest.Seq(5001), pkttest.Ack(1001), pkttest.Payload("data")))
		}, 300 * time.Second},
		"data with acknowledgment": {func(b *bed) {
			established(b)
			b.in(pkttest.TCP(server, outside, pkttest.TCPFlags("PA"), pkttest.Seq(5001), pkttest.Ack(1001), pkttest.Payload("data")))
			b.locally(inside, server, "A", 1001, 5005)
		}, 432_000 * time.Second},
		"four keepalives without answer": {func(b *bed) {
			established(b)
			for range 4 {
				b.locally(inside, server, "A", 1000, 5001)
			}
		}, 300 * time.Second},
		"FIN": {func(b *bed) { established(b); b.locally(inside, server, "FA", 1001, 5001) }, 120 * time.Second},
		"FIN, ACK": {func(b *bed) {
			established(b)
			b.locally(inside, server, "FA", 1001, 5001)
			b.remotely(server, outside, "A", 5001, 1002)
		}, 60 * time.Second},
		"the FIN again": {func(b *bed) {
			established(b)
			b.locally(inside, server, "FA", 1001, 5001)
			b.locally(inside, server, "FA", 1001, 5001)
		}, 30 * time.Second},
		"RST, then what fits": {func(b *bed) {
			established(b)
			b.remotely(server, outside, "R", 5001, 0)
			b.at(9 * time.Second)
			b.locally(inside, server, "A", 1001, 5001)
		}, 10 * time.Second},
		"RST of the client, then its SYN": {func(b *bed) {
			established(b)
			b.locally(inside, server, "RA", 1001, 5001)
			b.locally(inside, server, "S", 90_000, 0)
		}, 120 * time.Second},
		"SYN, RST": {func(b *bed) { b.opens("tcp", inside, server); b.locally(inside, server, "R", 1001, 0) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := configured(t, preset.LinuxMasquerade, site(1, 1))
			c.talk(b)
			now := time.Duration(b.now)
			if c.left > 0 {
				b.at(now + c.left - flow.Tick)
				assert.Equal(t, 1, b.Stats().SessionsActive)
			}
			b.at(now + c.left)
			assert.Equal(t, 0, b.Stats().SessionsActive)
		})
	}
	b := configured(t, preset.LinuxMasquerade, site(1, 1))
	for i := range 300 { // of which every 120 s one begins a session
		b.at(time.Duration(i) * time.Second)
		b.opens("tcp", inside, server)
	}
	assert.Equal(t, uint64(3), b.Stats().SessionsCreated)

	c, err := preset.LinuxMasquerade(site(1, 1))
	require.NoError(t, err)
	c.EnableTCPReset, c.IdleTimeout = true, time.Hour
	b = newBed(t, c)
	established(b)
	b.in(pkttest.TCP(server, outside, pkttest.TCPFlags("PA"), pkttest.Seq(5001), pkttest.Ack(1001), pkttest.Payload("data")))
	b.at(300 * time.Second)
	assert.Len(t, b.sent(), 3, "two to the inside, which may not have got the data")
	c.TCPRules = 9
	assert.ErrorContains(t, c.Validate(), "TCPRules 9: out of range")
}

// Every preset carries a conversation.
func TestPresets(t *testing.T) {
	for _, p := range preset.All() {
		b := configured(t, p.Configure, site(2, 1))
		outside := b.dials("10.0.0.1:5000", serverA+":443")
		assert.Equal(t, "10.0.0.1:5000", destination(b.remotely(serverA+":443", outside, "A", 5001, 1001)), p.Name)
		assert.Contains(t, b.opens("udp", "10.0.0.1:5000", serverA+":53"), "203.0.113.10:", p.Name)
	}
}

func TestPresetAzure2019SharesNoUDPPorts(t *testing.T) {
	s := site(1, 1)
	s.PortsPerInstance = 8
	for _, tc := range []struct {
		configure func(preset.Site) (snat.Config, error)
		want      string
	}{{preset.AzureLB, "203.0.113.10:1024"}, {preset.AzureLB2019, "drop ports"}} {
		b := configured(t, tc.configure, s)
		for i := range 8 {
			require.NotContains(t, b.opens("udp", socket("10.0.0.0", 5000+i), "198.51.100.7:53"), "drop")
		}
		assert.Equal(t, tc.want, b.opens("udp", "10.0.0.0:6000", "198.51.100.8:53"))
	}
}

// What is wrong with Shared ports and what must not stand beside them, all at once.
func TestSharedValidate(t *testing.T) {
	c := oneVM(8)
	c.Instances[0].Policy = &snat.Policy{ResetUnknown: 9, UDPRefresh: 9}
	c.Instances[0].Deterministic = &deterministic.Parameters{}
	c.Ports = &snat.Shared{
		Frontends: []netip.Addr{{}, addr(vmA), addr("203.0.113.1"), addr("203.0.113.1")}, FirstPort: 2000, LastPort: 1999,
		Choice: 8, FlowsPerDestination: -1, MaxFlows: -1,
	}
	err := c.Validate()
	for _, want := range []string{
		"Instances[0].Ports has 2 ranges", "Instances[0].Policy", "Instances[0].Policy.ResetUnknown 9", "Instances[0].Policy.UDPRefresh 9",
		"Instances[0].Deterministic: does not go together", "Ports.Frontends[0]", "Ports.Frontends[1] 10.0.0.4: overlap", "Ports.Frontends[3] 203.0.113.1",
		"Ports.FirstPort 2000", "Ports.Choice 8", "Ports.FlowsPerDestination -1", "Ports.MaxFlows -1",
	} {
		assert.ErrorContains(t, err, want)
	}
	c = oneVM(8)
	c.Timeouts.UDPHeld = time.Second
	assert.ErrorContains(t, c.Validate(), "Timeouts.UDPHeld 1s")
	c = gateway(1024, 8)
	sharedPorts(&c).Frontends = nil
	assert.ErrorContains(t, c.Validate(), "Ports.Frontends has 0 addresses")
}
