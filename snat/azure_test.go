package snat_test

// Worked examples of Azure's documentation.

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

// An instance with 1,024 ports has 1,024 TCP flows to one destination; the next
// fails, and one to another port of it succeeds on a port in use.
func TestAzure_27_PortsLimitFlowsToOneDestination(t *testing.T) {
	for _, f := range []struct{ name, vm, frontend, server string }{
		{"IPv4", vmA, frontend, "203.0.113.80"},
		{"IPv6", vmA6, frontend6, serverA6},
	} {
		t.Run(f.name, func(t *testing.T) {
			b := newBed(t, oneVM(1024))
			fill := func() {
				for i := range 1024 {
					require.Equal(t, socket(f.frontend, firstPort+i), b.opens("tcp", socket(f.vm, 5000+i), socket(f.server, 443)))
				}
			}
			fill()
			for range 3 {
				assert.Equal(t, "drop ports", b.opens("tcp", socket(f.vm, 6024), socket(f.server, 443)))
			}
			assert.Equal(t, socket(f.frontend, firstPort), b.opens("tcp", socket(f.vm, 6024), socket(f.server, 80)))
			s := b.Stats()
			assert.Equal(t, uint64(1025), s.ConnectionsSuccessful)
			assert.Equal(t, uint64(3), s.ConnectionsFailed, "each SYN counts")
			assert.Equal(t, uint64(3), s.Outbound.Drops[flow.ReasonPorts])
			assert.Equal(t, snat.PoolStats{Is6: f.name == "IPv6", Protocol: snat.TCP, Allocated: 1024, Used: 1024, PortUses: snat.PortUses{Active: 1024}, Peak: 1024}, b.pool(f.name == "IPv6", snat.TCP))

			b.at(time.Minute) // half-open flows last 30 s
			assert.Equal(t, 1024, b.pool(f.name == "IPv6", snat.TCP).Free)
			fill()
			assert.Equal(t, "drop ports", b.opens("tcp", socket(f.vm, 6024), socket(f.server, 443)))
		})
	}
}

// An instance with 50,000 ports consumes its frontends one after the other.
func TestAzure_27_ManyPortsOverSeveralFrontends(t *testing.T) {
	ports := 50_000
	if pkttest.Short() {
		ports = 5000
	}
	ranges := []snat.PortRange{
		{Frontend: addr("203.0.113.12"), First: 1024, Count: ports / 5 * 2},
		{Frontend: addr("203.0.113.10"), First: 40_000, Count: ports / 5},
		{Frontend: addr("203.0.113.11"), First: 1024, Count: ports/5*2 - 8},
		{Frontend: addr("203.0.113.10"), First: 8, Count: 8},
	}
	var want []netip.AddrPort
	for _, r := range ranges {
		for i := range r.Count {
			want = append(want, netip.AddrPortFrom(r.Frontend, r.First+uint16(i)))
		}
	}
	require.Len(t, want, ports)
	c := oneVM(8)
	c.Instances[0].Ports = ranges
	b := newBed(t, c)
	template := pkttest.UDP(vmA+":1", serverA+":53", "query", pkttest.NoChecksum())
	open := func(i int) flow.Verdict {
		pkt := append([]byte(nil), template...)
		pkt[20], pkt[21] = byte((i+1000)>>8), byte(i+1000)
		v := b.Outbound(b.now, pkt)
		if v.Action == flow.Forward {
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(pkt[12:16])), uint16(pkt[20])<<8|uint16(pkt[21]))
			require.Equal(t, want[i], src, "flow %d", i)
		}
		return v
	}
	for round := range 2 {
		for i := range want {
			require.Equal(t, flow.Forward, open(i).Action)
		}
		require.Equal(t, flow.ReasonPorts, open(len(want)).Reason)
		assert.Equal(t, ports, b.pool(false, snat.UDP).Used)
		allocated := map[string]int{"203.0.113.12": ports / 5 * 2, "203.0.113.10": ports/5 + 8, "203.0.113.11": ports/5*2 - 8}
		for _, f := range b.Frontends() {
			n := allocated[f.Frontend.String()]
			used := map[snat.Protocol]int{snat.TCP: 0, snat.UDP: n}[f.Protocol]
			assert.Equal(t, snat.FrontendStats{Frontend: f.Frontend, Protocol: f.Protocol, Allocated: n, Used: used, PortUses: snat.PortUses{Active: used}, Peak: used}, f)
		}
		b.at(time.Duration(round+1) * 4 * time.Minute)
		assert.Equal(t, ports, b.pool(false, snat.UDP).Free)
	}
}

// A node whose TCP ports are used up still has all its UDP ports.
func TestAzure_28_SeparateInventories(t *testing.T) {
	b := newBed(t, oneVM(1024))
	for i := range 1024 {
		b.opens("tcp", socket(vmA, 5000+i), "203.0.113.80:443")
	}
	require.Equal(t, "drop ports", b.opens("tcp", vmA+":9000", "203.0.113.80:443"))
	assert.Equal(t, frontend+":1024", b.opens("udp", vmA+":5000", "203.0.113.80:443"))
	assert.Equal(t, 1, b.pool(false, snat.UDP).Used)
	assert.Equal(t, socket(frontend6, 1024), b.opens("tcp", socket(vmA6, 9000), socket(serverA6, 443)), "and IPv6 is apart from IPv4")
}

// UDP sockets share ports if their destination addresses differ, whatever the
// destination port; the options are Azure's older rule and TCP's.
func TestAzure_29_UDPSharing(t *testing.T) {
	for _, tc := range []struct {
		name                 string
		share                snat.PortShare
		otherPort, otherHost string // what the 1,025th socket gets
	}{
		{"the default is that of 2022: per address", snat.DefaultShare, "drop ports", frontend + ":1024"},
		{"per address", snat.SharePerAddress, "drop ports", frontend + ":1024"},
		{"per destination", snat.SharePerDestination, frontend + ":1024", frontend + ":1024"},
		{"never", snat.ShareNever, "drop ports", "drop ports"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := oneVM(1024)
			ownedPorts(&c).UDP.Share = tc.share
			b := newBed(t, c)
			for i := range 1024 {
				dst := 443
				if tc.share != snat.SharePerDestination {
					dst = 1000 + i // does not matter
				}
				require.Equal(t, socket(frontend, firstPort+i), b.opens("udp", socket(vmA, 5000+i), socket("203.0.113.80", dst)))
			}
			assert.Equal(t, frontend+":1024", b.opens("udp", vmA+":5000", "203.0.113.81:443"), "a socket keeps its port for all destinations")
			assert.Equal(t, frontend+":1024", b.opens("udp", vmA+":5000", "203.0.113.80:9"), "and for all their ports")
			assert.Equal(t, tc.otherPort, b.opens("udp", vmA+":9000", "203.0.113.80:80"))
			assert.Equal(t, tc.otherHost, b.opens("udp", vmA+":9001", "203.0.113.82:443"))
		})
	}
}

// Two flows to different destinations both get the lowest port; released ports
// are the lowest again.
func TestAzure_30_LowestPortFirst(t *testing.T) {
	b := newBed(t, oneVM(64))
	assert.Equal(t, frontend+":1024", b.opens("tcp", vmA+":5000", "198.51.100.7:443"))
	assert.Equal(t, frontend+":1024", b.opens("tcp", vmA+":5001", "198.51.100.8:443"))
	assert.Equal(t, frontend+":1024", b.opens("tcp", vmA+":5000", "198.51.100.7:80"))
	assert.Equal(t, 1, b.pool(false, snat.TCP).Used)
	for i := 1; i < 20; i++ {
		require.Equal(t, socket(frontend, firstPort+i), b.opens("tcp", socket(vmA, 6000+i), "198.51.100.7:443"))
	}
	// Refused by the server, three of them end; their ports come back lowest first.
	for _, i := range []int{17, 3, 11} {
		b.remotely("198.51.100.7:443", socket(frontend, firstPort+i), "RA", 0, 1001)
	}
	assert.Equal(t, frontend+":1044", b.opens("tcp", vmA+":7000", "198.51.100.7:443"), "held after the RST")
	b.at(15 * time.Second)
	for _, i := range []int{3, 11, 17, 21} {
		assert.Equal(t, socket(frontend, firstPort+i), b.opens("tcp", socket(vmA, 7000+i), "198.51.100.7:443"))
	}
}

// The last packet at t=0 ends a flow at the idle timeout, neither earlier nor
// later.
func TestAzure_31_IdleTimeout(t *testing.T) {
	for _, idle := range []time.Duration{0, 30 * time.Minute, 120 * time.Minute} {
		t.Run(idle.String(), func(t *testing.T) {
			c := oneVM(8)
			c.IdleTimeout = idle
			if idle == 0 {
				idle = 240 * time.Second
			}
			b := newBed(t, c)
			tcp := b.dials(vmA+":5000", serverA+":443")
			udp := b.opens("udp", vmA+":5000", serverA+":53")
			replied := b.opens("udp", vmA+":5001", serverA+":53")
			b.in(pkttest.UDP(serverA+":53", replied, "answer"))
			b.at(idle - time.Nanosecond)
			assert.Equal(t, 3, b.Stats().SessionsActive)
			b.at(idle)
			assert.Equal(t, 0, b.Stats().SessionsActive)
			assert.Equal(t, "drop no_flow", b.remotely(serverA+":443", tcp, "A", 5001, 1001))
			assert.Equal(t, "drop no_flow", b.locally(vmA+":5000", serverA+":443", "A", 1001, 5001))
			assert.Equal(t, "drop no_flow", b.in(pkttest.UDP(serverA+":53", udp, "late")))
			assert.Empty(t, b.sent(), "no resets unless asked for")
		})
	}
}

// Keepalives of one side are enough, whichever it is.
func TestAzure_32_KeepaliveOfOneSide(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			b := newBed(t, oneVM(8))
			outside := b.dials(vmA+":5000", serverA+":443")
			for i := range 50 {
				b.at(time.Duration(i+1) * 200 * time.Second)
				if side == "server" {
					require.Equal(t, vmA+":5000", destination(b.remotely(serverA+":443", outside, "A", 5000, 1001)))
				} else {
					require.Equal(t, outside, source(b.locally(vmA+":5000", serverA+":443", "A", 1000, 5001)))
				}
			}
			assert.Equal(t, 1, b.Stats().SessionsActive)
			b.at((50*200 + 240) * time.Second)
			assert.Equal(t, 0, b.Stats().SessionsActive)
		})
	}
}

// On idle an established connection costs one RST per side, a half-open one or
// a UDP flow none.
func TestAzure_33_ResetOnIdle(t *testing.T) {
	c := oneVM(8)
	c.EnableTCPReset = true
	b := newBed(t, c)
	b.dials(vmA+":5000", serverA+":443")
	b.opens("tcp", vmA+":5001", serverA+":443")
	b.opens("udp", vmA+":5000", serverA+":53")
	b.at(30 * time.Second)
	assert.Empty(t, b.sent())
	assert.Equal(t, 2, b.Stats().SessionsActive)
	b.at(240*time.Second - time.Nanosecond)
	assert.Empty(t, b.sent())
	b.at(time.Hour)
	assert.Equal(t, []string{
		"4m0s inside TCP 198.51.100.7:443 > 10.0.0.4:5000 R seq=5001 len=0",
		"4m0s outside TCP 203.0.113.10:1024 > 198.51.100.7:443 R seq=1001 len=0",
	}, b.sent())
	assert.Equal(t, uint64(2), b.Stats().Resets)
}

// A closed connection keeps its port from its destination: 240 s after FIN, 15 s
// after RST.
func TestAzure_35_HoldAfterClose(t *testing.T) {
	for _, tc := range []struct {
		name  string
		close func(b *bed, outside string)
		hold  time.Duration
		held  int // ports that are held, not used, meanwhile
	}{
		{"FIN from the instance", func(b *bed, outside string) {
			b.locally(vmA+":5000", serverA+":443", "FA", 1001, 5001)
		}, 240 * time.Second, 0},
		{"FIN from the server", func(b *bed, outside string) {
			b.remotely(serverA+":443", outside, "FA", 5001, 1001)
		}, 240 * time.Second, 0},
		{"FIN from both", func(b *bed, outside string) {
			b.locally(vmA+":5000", serverA+":443", "FA", 1001, 5001)
			b.remotely(serverA+":443", outside, "FA", 5001, 1002)
			b.locally(vmA+":5000", serverA+":443", "A", 1002, 5002)
		}, 240 * time.Second, 1},
		{"RST from the instance", func(b *bed, outside string) {
			b.locally(vmA+":5000", serverA+":443", "R", 1001, 0)
		}, 15 * time.Second, 1},
		{"RST from the server", func(b *bed, outside string) {
			b.remotely(serverA+":443", outside, "R", 5001, 0)
		}, 15 * time.Second, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBed(t, oneVM(8))
			outside := b.dials(vmA+":5000", serverA+":443")
			tc.close(b, outside)
			p := b.pool(false, snat.TCP)
			assert.Equal(t, tc.held, p.Held())
			assert.Equal(t, 1-tc.held, p.Active)
			assert.Equal(t, 1, p.Used)
			assert.Equal(t, frontend+":1024", b.opens("tcp", vmA+":6000", serverA+":80"), "another destination may have it")
			b.at(tc.hold - time.Nanosecond)
			assert.Equal(t, frontend+":1025", b.opens("tcp", vmA+":6001", serverA+":443"))
			b.at(tc.hold)
			assert.Equal(t, frontend+":1024", b.opens("tcp", vmA+":6002", serverA+":443"))
		})
	}
}

// Fragments do not pass outbound rules.
func TestAzure_44_FragmentsDropped(t *testing.T) {
	b := newBed(t, oneVM(8))
	for _, f := range []struct{ vm, frontend, server string }{{vmA, frontend, serverA}, {vmA6, frontend6, serverA6}} {
		outside := b.opens("udp", socket(f.vm, 5000), socket(f.server, 53))
		require.Equal(t, socket(f.frontend, 1024), outside)
		data := fmt.Sprintf("%064d", 0)
		for _, frag := range pkttest.Fragments(pkttest.UDP(socket(f.vm, 5000), socket(f.server, 53), data), 24, 7) {
			assert.Equal(t, "drop fragment", b.out(frag))
		}
		for _, frag := range pkttest.Fragments(pkttest.UDP(socket(f.server, 53), outside, data), 24, 7) {
			assert.Equal(t, "drop fragment", b.in(frag))
		}
	}
}

// A pod appears as its node inside the virtual network, and as the node's
// frontend on the Internet.
func TestAzure_45_PodBehindNode(t *testing.T) {
	c := oneVM(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress}}
	b := newBed(t, c)
	assert.Equal(t, vmA+":40000", b.opens("tcp", "10.244.1.7:40000", "10.1.0.9:443"), "the node's address, the pod's port")
	assert.Equal(t, vmA+":40001", b.opens("tcp", "10.244.1.8:40000", "10.1.0.9:443"), "the next port if two pods collide")
	assert.Equal(t, "10.244.1.8:40000", destination(b.remotely("10.1.0.9:443", vmA+":40001", "SA", 5000, 1001)))
	assert.Equal(t, "bypass TCP 10.0.0.4:40000 > 10.1.0.9:443 S seq=0 len=0", b.out(pkttest.TCP(vmA+":40000", "10.1.0.9:443", pkttest.SYN)), "the node is itself")

	assert.Equal(t, frontend+":1024", b.opens("tcp", "10.244.1.7:40000", "203.0.113.80:443"))
	assert.Equal(t, frontend+":1025", b.opens("tcp", "10.244.1.8:40000", "203.0.113.80:443"))
	assert.Equal(t, frontend+":1026", b.opens("tcp", vmA+":40000", "203.0.113.80:443"))
	nodePorts := map[string]uint16{}
	for s := range b.Sessions() {
		if s.Remote.String() == "203.0.113.80:443" {
			nodePorts[s.Inside.String()] = s.Data[0]
		}
	}
	assert.Equal(t, map[string]uint16{"10.244.1.7:40000": 40000, "10.244.1.8:40000": 40001, vmA + ":40000": 40002}, nodePorts, "ports at the node are its own too")
}
