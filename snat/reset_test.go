package snat_test

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// resetting is oneVM with resets on idle.
func resetting(ports int) snat.Config {
	c := oneVM(ports)
	c.EnableTCPReset = true
	return c
}

// The resets byte for byte, as worked out by hand and accepted by real stacks.
func TestNAT_X1_GoldenPackets(t *testing.T) {
	for _, tc := range []struct {
		name, vm, frontend, server string
		inside, outside            string
	}{
		{"IPv4", vmA, frontend, serverA,
			"450000280000400040060692c63364070a00000401bb9c4055667788000000005004000010b80000",
			"45000028000040004006d48acb00710ac6336407040101bb112233990000000050040000ff230000"},
		{"IPv6", vmA6, frontend6, serverA6,
			"600000000014064020010db8000500000000000000000007fd00000000000000000000000000000401bb9c405566778800000000500400001a2d0000",
			"600000000014064020010db8000f0000000000000000001020010db8000500000000000000000007040101bb11223399000000005004000009cd0000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBed(t, resetting(8))
			b.opens("tcp", socket(tc.vm, 39999), socket(tc.server, 443)) // has port 1024
			src, dst := socket(tc.vm, 40000), socket(tc.server, 443)
			require.Equal(t, socket(tc.frontend, 1025), source(b.out(pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(0x11223344)))))
			b.in(pkttest.TCP(dst, socket(tc.frontend, 1025), pkttest.TCPFlags("SA"), pkttest.Seq(0x55667787), pkttest.Ack(0x11223345)))
			b.out(pkttest.TCP(src, dst, pkttest.ACK, pkttest.Seq(0x11223345), pkttest.Ack(0x55667788), pkttest.Payload(string(make([]byte, 0x54)))))
			b.in(pkttest.TCP(dst, socket(tc.frontend, 1025), pkttest.ACK, pkttest.Seq(0x55667788), pkttest.Ack(0x11223399)))
			b.at(4 * time.Minute)
			require.Len(t, b.emitted, 2)
			assert.Equal(t, tc.inside, hex.EncodeToString(b.emitted[0].Packet))
			assert.Equal(t, tc.outside, hex.EncodeToString(b.emitted[1].Packet))
			assert.Equal(t, []flow.Side{flow.Inside, flow.Outside}, []flow.Side{b.emitted[0].To, b.emitted[1].To})
			for _, e := range b.emitted {
				pkttest.Check(t, e.Packet, pkttest.ChecksumsOK(), pkttest.DF(true), pkttest.TTL(64), pkttest.TCPFlags("R"))
			}
		})
	}
}

// Where data is not acknowledged, its receiver may stand at either end of it.
func TestNAT_X3_TwiceWhenUnacknowledged(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, resetting(8))
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		outside := b.dials(inside, server)
		b.in(pkttest.TCP(server, outside, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001), pkttest.Payload("0123456789")))
		b.at(4 * time.Minute)
		assert.Equal(t, []string{
			"4m0s inside TCP " + server + " > " + inside + " R seq=5001 len=0",
			"4m0s inside TCP " + server + " > " + inside + " R seq=5011 len=0",
			"4m0s outside TCP " + outside + " > " + server + " R seq=1001 len=0",
		}, b.sent())
	})
}

// Only established connections are reset.
func TestNAT_X7_OnlyEstablished(t *testing.T) {
	eachRealm(t, onlyEstablished)
}

func onlyEstablished(t *testing.T, r realm) {
	inside, server := socket(r.a, 5000), socket(r.s, 443)
	c := resetting(8)
	c.PickUp = true
	for _, tc := range []struct {
		name string
		open func(b *bed)
	}{
		{"SYN sent", func(b *bed) { b.opens("tcp", inside, server) }},
		{"SYN received", func(b *bed) {
			b.remotely(server, b.opens("tcp", inside, server), "SA", 5000, 1001)
		}},
		{"half closed", func(b *bed) {
			b.dials(inside, server)
			b.locally(inside, server, "FA", 1001, 5001)
		}},
		{"closing", func(b *bed) {
			outside := b.dials(inside, server)
			b.locally(inside, server, "FA", 1001, 5001)
			b.remotely(server, outside, "FA", 5001, 1001)
		}},
		{"reset by an end", func(b *bed) {
			b.remotely(server, b.dials(inside, server), "R", 5001, 0)
		}},
		{"picked up, one ACK", func(b *bed) { b.locally(inside, server, "A", 1001, 5001) }},
		{"UDP", func(b *bed) {
			outside := b.opens("udp", inside, server)
			b.in(pkttest.UDP(server, outside, "answer"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBed(t, c)
			tc.open(b)
			require.Equal(t, 1, b.Stats().SessionsActive)
			b.at(24 * time.Hour)
			assert.Equal(t, 0, b.Stats().SessionsActive)
			assert.Empty(t, b.sent())
			assert.Zero(t, b.Stats().Resets)
		})
	}
}

// After the reset the record answers stragglers, with the sequence number they
// want to see; whether or not anybody has advanced the time makes no difference.
func TestTombstone(t *testing.T) {
	for name, wait := range map[string]func(*bed, time.Duration){"advanced": (*bed).at, "lazy": (*bed).lazily} {
		t.Run(name, func(t *testing.T) {
			c := resetting(8)
			c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")} // node ports too
			b := newBed(t, c)
			const pod, server = "10.244.1.7:5000", serverA + ":443"
			outside := b.dials(pod, server)
			wait(b, 241*time.Second)

			// A challenge ACK from either end is answered and goes no further.
			assert.Equal(t, "drop flow_reset", b.locally(pod, server, "A", 1001, 5099))
			assert.Equal(t, "drop flow_reset", b.remotely(server, outside, "A", 5001, 1099))
			// A RST, a foreign SYN and what is corrupt get no answer.
			assert.Equal(t, "drop flow_reset", b.remotely(server, outside, "R", 5001, 0))
			assert.Equal(t, "drop flow_reset", b.remotely(server, outside, "S", 9000, 0))
			assert.Equal(t, "drop flow_reset", b.out(pkttest.TCP(pod, server, pkttest.SYN, pkttest.BadChecksum())))
			assert.Equal(t, "drop flow_reset", b.out(pkttest.TCP(pod, server, pkttest.ACK, pkttest.Ack(5099), pkttest.BadChecksum())))
			b.at(241 * time.Second)
			assert.ElementsMatch(t, []string{
				"4m0s inside TCP 198.51.100.7:443 > 10.244.1.7:5000 R seq=5001 len=0",
				"4m0s outside TCP 203.0.113.10:1024 > 198.51.100.7:443 R seq=1001 len=0",
				"4m1s inside TCP 198.51.100.7:443 > 10.244.1.7:5000 R seq=5099 len=0",
				"4m1s outside TCP 203.0.113.10:1024 > 198.51.100.7:443 R seq=1099 len=0",
			}, b.sent())
			s := b.Stats()
			assert.Equal(t, 0, s.SessionsActive)
			assert.Equal(t, uint64(1), s.SessionsEnded)
			assert.Equal(t, uint64(4), s.Resets)
			assert.Equal(t, uint64(2), s.BadChecksum)
			assert.Equal(t, snat.PoolStats{Protocol: snat.TCP, Allocated: 8, Free: 8, Peak: 1}, b.pool(false, snat.TCP), "it holds no port")
			assert.Empty(t, b.TopPorts(9, snat.ByInstance), "nor does TopPorts say so")

			wait(b, 255*time.Second-1)
			assert.Equal(t, "drop flow_reset", b.locally(pod, server, "A", 1001, 5099))
			wait(b, 255*time.Second)
			assert.Equal(t, "drop no_flow", b.locally(pod, server, "A", 1001, 5099))
			b.at(255 * time.Second)
			assert.Empty(t, sessions(b))
		})
	}
}

// A SYN after the reset opens a new flow at once, and may reuse the port.
func TestTombstoneGivesWay(t *testing.T) {
	for name, wait := range map[string]func(*bed, time.Duration){"advanced": (*bed).at, "lazy": (*bed).lazily} {
		t.Run(name, func(t *testing.T) {
			c := resetting(8)
			c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
			b := newBed(t, c)
			const pod, server = "10.244.1.7:5000", serverA + ":443"
			short := b.opens("tcp", vmA+":4000", server) // half open, keeps the lowest port at first
			require.Equal(t, frontend+":1024", short)
			require.Equal(t, frontend+":1025", b.dials(pod, server))
			wait(b, 241*time.Second)
			assert.Equal(t, frontend+":1024", b.opens("tcp", pod, server), "the lowest port, not the old one")
			b.at(241 * time.Second)
			assert.Equal(t, []string{"10.244.1.7:5000 203.0.113.10:1024 198.51.100.7:443 node 5000 syn-sent"}, sessions(b), "nothing is left of the old flow")
			assert.Equal(t, "drop no_flow", b.remotely(server, frontend+":1025", "A", 5001, 1001))

			// Another socket may take the port of a tombstone for the same remote.
			b.dials(vmA+":4001", server)
			b.at(10 * time.Minute)
			assert.Equal(t, frontend+":1024", b.opens("tcp", vmA+":4002", server))
			assert.Equal(t, frontend+":1025", b.opens("tcp", vmA+":4003", server))
			b.at(10 * time.Minute)
			assert.Len(t, sessions(b), 2)
		})
	}
}

// A connection whose remote opened it, on a port that was held, leaves a
// tombstone like any other: the remote cannot revive it, for the port is gone.
func TestTombstoneOfInboundReopening(t *testing.T) {
	b := newBed(t, resetting(8))
	outside := b.dials(vmA+":5000", serverA+":443")
	b.locally(vmA+":5000", serverA+":443", "R", 1001, 0)
	require.Equal(t, vmA+":5000", destination(b.remotely(serverA+":443", outside, "S", 70_000, 0)))
	b.locally(vmA+":5000", serverA+":443", "SA", 80_000, 70_001)
	b.remotely(serverA+":443", outside, "A", 70_001, 80_001)
	require.Equal(t, []string{"10.0.0.4:5000 203.0.113.10:1024 198.51.100.7:443 node 5000 established"}, sessions(b))
	b.at(241 * time.Second)
	require.Len(t, b.sent(), 2)
	assert.Equal(t, "drop flow_reset", b.remotely(serverA+":443", outside, "S", 90_000, 0))
	assert.Equal(t, frontend+":1024", b.opens("tcp", vmA+":5001", serverA+":443"))
	b.at(time.Hour)
	assert.Equal(t, 0, b.pool(false, snat.TCP).Used)
	assert.Equal(t, 0, b.Stats().SessionsActive)
}

// sessions lists the sessions in any order.
func sessions(b *bed) (lines []string) {
	for s := range b.Sessions() {
		lines = append(lines, s.Inside.String()+" "+s.Outside.String()+" "+s.Remote.String()+" node "+
			netip.AddrPortFrom(netip.IPv4Unspecified(), s.Data[0]).String()[8:]+" "+s.State)
	}
	return lines
}

// What packets find expired before Advance does is emitted by Advance, with the
// time at which it was due.
func TestResetsOfLazyExpiryWaitForAdvance(t *testing.T) {
	b := newBed(t, resetting(8))
	outside := b.dials(vmA+":5000", serverA+":443")
	b.lazily(time.Hour)
	assert.Equal(t, "drop no_flow", b.remotely(serverA+":443", outside, "A", 5001, 1001))
	at, ok := b.NextDeadline()
	assert.True(t, ok)
	assert.LessOrEqual(t, at, flow.At(time.Hour), "there is work to do")
	b.at(time.Hour)
	assert.Equal(t, []string{
		"4m0s inside TCP 198.51.100.7:443 > 10.0.0.4:5000 R seq=5001 len=0",
		"4m0s outside TCP 203.0.113.10:1024 > 198.51.100.7:443 R seq=1001 len=0",
	}, b.sent())
	_, ok = b.NextDeadline()
	assert.False(t, ok)
}

// A sink may use the NAT it serves.
func TestSinkMayCallBack(t *testing.T) {
	b := newBed(t, resetting(8))
	for i := range 3 {
		b.dials(socket(vmA, 5000+i), serverA+":443")
	}
	emissions, answers := 0, 0
	var sink flow.Sink
	sink = func(e flow.Emission) {
		if emissions++; emissions > 100 {
			t.Fatal("answers are answered without end")
		}
		// The end that is reset says something once more, and time moves on.
		if emissions == 1 {
			pkt := pkttest.TCP(vmA+":5000", serverA+":443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(7777))
			v := b.Outbound(e.At, pkt)
			assert.Equal(t, flow.ReasonFlowReset, v.Reason)
			b.Advance(e.At, sink)
			b.Stats()
		}
		if string(e.Packet) == string(pkttest.TCP(serverA+":443", vmA+":5000", pkttest.RST, pkttest.Seq(7777), pkttest.Window(0))) {
			answers++
		}
	}
	b.Advance(flow.At(4*time.Minute), sink)
	assert.Equal(t, 7, emissions, "two for each connection and one answer")
	assert.Equal(t, 1, answers)
}

// Mass expiry makes a bounded number of resets; the rest of the flows end
// silently, and are counted.
func TestResetsAreBounded(t *testing.T) {
	if pkttest.Short() {
		t.Skip("makes many connections")
	}
	c := resetting(40_000)
	c.Shards = 1
	n, err := snat.New(c)
	require.NoError(t, err)
	defer n.Close()
	const flows = snat.MaxResets/2 + 100
	syn := pkttest.TCP(vmA+":1", serverA+":443", pkttest.SYN, pkttest.Seq(1000))
	synAck := pkttest.TCP(serverA+":443", frontend+":1024", pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001))
	ack := pkttest.TCP(vmA+":1", serverA+":443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))
	send := func(door func(flow.Time, []byte) flow.Verdict, template []byte, at int, port uint16) {
		pkt := append([]byte(nil), template...)
		pkt[at], pkt[at+1] = byte(port>>8), byte(port)
		pkttest.FixChecksums(pkt)
		require.Equal(t, flow.Forward, door(0, pkt).Action)
	}
	for i := range flows {
		send(n.Outbound, syn, 20, uint16(1024+i))
		send(n.Inbound, synAck, 22, uint16(1024+i))
		send(n.Outbound, ack, 20, uint16(1024+i))
	}
	// Nobody advances: the first new flow ends them all.
	require.Equal(t, flow.Forward, n.Outbound(flow.At(time.Hour), append([]byte(nil), syn...)).Action)
	s := n.Stats()
	assert.Equal(t, uint64(snat.MaxResets), s.Resets)
	assert.Equal(t, uint64(2*100), s.ResetsSuppressed, "both ends")
	assert.Equal(t, uint64(flows), s.SessionsEnded)
	emitted := 0
	n.Advance(flow.At(time.Hour), func(flow.Emission) { emitted++ })
	assert.Equal(t, snat.MaxResets, emitted)
	n.Advance(flow.At(2*time.Hour), nil)
	assert.Equal(t, 0, n.Stats().SessionsActive)
}

// When a port may be used again after a reset of ours. Azure says that a SYN opens a
// new flow at once and may reuse the port, so a tombstone holds none; else the port
// can rest for as long as after a RST of an end.
func TestNAT_X10_PortAfterReset(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		t.Run("azure", func(t *testing.T) {
			b := newBed(t, resetting(8))
			server := socket(r.s, 443)
			for i := range 8 {
				b.dials(socket(r.a, 5000+i), server)
			}
			require.Equal(t, "drop ports", b.opens("tcp", socket(r.a, 6000), server))
			b.at(4 * time.Minute)
			require.Len(t, sessions(b), 8, "tombstones")
			for i := range 8 {
				require.Equal(t, socket(r.f, firstPort+i), b.opens("tcp", socket(r.a, 6000+i), server))
			}
			assert.Len(t, sessions(b), 8, "they have given way")
		})
		t.Run("rfc", func(t *testing.T) {
			c := underRFC(8)
			c.EnableTCPReset = true
			ownedPorts(&c).Allocation.Quarantine.Hold = c.Timeouts.TCPReset
			b := newBed(t, c)
			server := socket(r.s, 443)
			outside := b.dials(socket(r.a, 5000), server)
			b.at(time.Hour)
			for i := range 7 {
				b.dials(socket(r.a, 5001+i), server)
			}
			b.at(7440 * time.Second)
			require.Len(t, b.sent(), 2)
			b.at((7440+240)*time.Second - time.Nanosecond)
			require.Equal(t, "drop ports", b.opens("tcp", socket(r.a, 6000), server))
			b.at((7440 + 240) * time.Second)
			require.Equal(t, outside, b.opens("tcp", socket(r.a, 6000), server))
		})
	})
}
