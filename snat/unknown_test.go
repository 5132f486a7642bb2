package snat_test

// Rows of the requirement sheet on RSTs: what they look like, who gets them and
// how many. The first ones are in reset_test.go, the tracker's in package flow.

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// resettingSenders is oneVM whose NAT tells every sender that a connection does not exist.
func resettingSenders(ports int) snat.Config {
	c := oneVM(ports)
	c.ResetUnknown, c.ResetSYN = snat.ResetSender, snat.ResetSender
	return c
}

// answers advances the bed and returns the packets that were made.
func (b *bed) answers() (pkts [][]byte) {
	b.at(b.now.Duration())
	for _, e := range b.emitted {
		pkts = append(pkts, e.Packet)
	}
	b.emitted = nil
	return pkts
}

func TestNAT_X2_BareSegments(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, resetting(8))
		b.dials(socket(r.a, 5000), socket(r.s, 443))
		before := b.Stats()
		b.at(4 * time.Minute)
		require.Len(t, b.emitted, 2)
		for _, e := range b.emitted {
			assert.Len(t, e.Packet, r.header+20, "no options, no data")
			pkttest.Check(t, e.Packet, pkttest.TTL(64), pkttest.TOS(0), pkttest.TCPFlags("R"), pkttest.Window(0), pkttest.Ack(0),
				pkttest.Urgent(0), pkttest.ChecksumsOK())
			if r.name == "v4" {
				pkttest.Check(t, e.Packet, pkttest.DF(true), pkttest.ID(0))
			} else {
				pkttest.Check(t, e.Packet, pkttest.FlowLabel(0))
			}
		}
		after := b.Stats()
		assert.Equal(t, uint64(2), after.Resets)
		assert.Equal(t, before.Outbound, after.Outbound, "they are no packets of anybody")
		assert.Equal(t, before.Inbound, after.Inbound)
	})
}

func TestNAT_X4_ChallengesAreAnswered(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, resetting(8))
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		outside := b.dials(inside, server)
		b.at(4 * time.Minute)
		require.Len(t, b.sent(), 2)
		for i := range uint32(3) { // each with the number it asks for, not the old one, nor one of the window
			require.Equal(t, "drop flow_reset", b.locally(inside, server, "A", 1001, 5051+i))
			require.Equal(t, "drop flow_reset", b.remotely(server, outside, "A", 5051+i, 1001))
			b.at(4 * time.Minute)
			assert.Equal(t, []string{
				fmt.Sprintf("4m0s inside TCP %s > %s R seq=%d len=0", server, inside, 5051+i),
				fmt.Sprintf("4m0s outside TCP %s > %s R seq=1001 len=0", outside, server),
			}, b.sent())
		}
		require.Equal(t, "drop flow_reset", b.remotely(server, outside, "R", 5001, 0))
		b.at(4 * time.Minute)
		assert.Empty(t, b.sent(), "no war")
	})
}

func TestNAT_X5_InexactResetKeepsTheConnection(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, oneVM(8))
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		outside := b.dials(inside, server)
		b.at(100 * time.Second)
		require.Equal(t, inside, destination(b.remotely(server, outside, "R", 5001+100, 0)))
		require.Contains(t, sessions(b)[0], "established")
		require.Equal(t, outside, source(b.locally(inside, server, "A", 1001, 5001)), "the challenge passes")
		require.Equal(t, inside, destination(b.remotely(server, outside, "R", 5001, 0)))
		require.NotContains(t, sessions(b)[0], "established")
	})
}

// The answers to segments without flow: to one with ACK its own number, to a SYN
// what acknowledges it.
func TestNAT_X6_AnswersToSegmentsWithoutFlow(t *testing.T) {
	const golden = "450000280000400040060692c63364070a00000401bb9c40000000001122334550140000992f0000"
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, resettingSenders(8))
		inside, server := socket(r.a, 40000), socket(r.s, 443)
		for i := range 8 {
			b.opens("tcp", socket(r.a, 50000+i), server)
		}
		b.answers()
		syn := func(fields ...pkttest.Field) []byte {
			return pkttest.TCP(inside, server, append([]pkttest.Field{pkttest.SYN, pkttest.Seq(0x11223344)}, fields...)...)
		}
		require.Equal(t, "drop ports", b.out(syn()))
		want := pkttest.TCP(server, inside, pkttest.TCPFlags("RA"), pkttest.Ack(0x11223345), pkttest.Window(0))
		if r.name == "v4" {
			assert.Equal(t, golden, hex.EncodeToString(want))
		}
		assert.Equal(t, [][]byte{want}, b.answers())

		// Data counts, the DSCP is the segment's own, ECN is not.
		require.Equal(t, "drop ports", b.out(syn(pkttest.Payload("fast open"), pkttest.TOS(46<<2|1))))
		assert.Equal(t, [][]byte{pkttest.TCP(server, inside, pkttest.TCPFlags("RA"), pkttest.Ack(0x11223345+9), pkttest.Window(0), pkttest.TOS(46<<2))}, b.answers())

		// From outside, to the sender only.
		frontend := socket(r.f, 1027)
		require.Equal(t, "drop filtered", b.in(pkttest.TCP(socket(r.q, 9), frontend, pkttest.SYN, pkttest.Seq(1<<32-1))))
		require.Equal(t, "drop no_flow", b.in(pkttest.TCP(socket(r.q, 9), frontend, pkttest.ACK, pkttest.Seq(7), pkttest.Ack(0x55667788))))
		require.Equal(t, "drop no_flow", b.out(pkttest.TCP(inside, socket(r.q, 9), pkttest.TCPFlags("FA"), pkttest.Seq(7), pkttest.Ack(0x55667788))))
		assert.Equal(t, [][]byte{
			pkttest.TCP(frontend, socket(r.q, 9), pkttest.TCPFlags("RA"), pkttest.Ack(0), pkttest.Window(0)),
			pkttest.TCP(frontend, socket(r.q, 9), pkttest.TCPFlags("R"), pkttest.Seq(0x55667788), pkttest.Window(0)),
			pkttest.TCP(socket(r.q, 9), inside, pkttest.TCPFlags("R"), pkttest.Seq(0x55667788), pkttest.Window(0)),
		}, b.answers())

		// Nothing for anything else.
		martian := "224.0.0.1"
		if r.name == "v6" {
			martian = "ff02::1"
		}
		for what, drop := range map[string]string{
			"RST":            b.in(pkttest.TCP(socket(r.q, 9), frontend, pkttest.RST, pkttest.Seq(7))),
			"RST-ACK":        b.out(pkttest.TCP(inside, socket(r.q, 9), pkttest.TCPFlags("RA"), pkttest.Ack(7))),
			"corrupt SYN":    b.in(pkttest.TCP(socket(r.q, 9), frontend, pkttest.SYN, pkttest.BadChecksum())),
			"corrupt ACK":    b.out(pkttest.TCP(inside, socket(r.q, 9), pkttest.ACK, pkttest.BadChecksum())),
			"corrupt inside": b.out(syn(pkttest.BadChecksum())),
			"multicast":      b.out(pkttest.TCP(inside, socket(martian, 9), pkttest.SYN)),
			"martian":        b.in(pkttest.TCP(socket(martian, 9), frontend, pkttest.SYN)),
			"our own":        b.in(pkttest.TCP(socket(r.f, 9), frontend, pkttest.SYN)),
			"to nobody":      b.in(pkttest.TCP(server, socket(r.f, 9000), pkttest.SYN)),
			"UDP":            b.in(pkttest.UDP(server, frontend, "x")),
		} {
			assert.Contains(t, drop, "drop", what)
		}
		assert.Empty(t, b.answers())
	})
	t.Run("fragments", func(t *testing.T) {
		eachRealm(t, func(t *testing.T, r realm) {
			c := resettingSenders(8)
			c.Fragments.Mode = snat.FragmentsVirtual
			b := newBed(t, c)
			for _, field := range []pkttest.Field{pkttest.SYN, pkttest.ACK} {
				pkt := pkttest.TCP(socket(r.s, 443), socket(r.f, 1027), field, pkttest.Payload(fmt.Sprintf("%080d", 0)))
				for _, frag := range pkttest.Fragments(pkt, 40, 7) {
					assert.Equal(t, "drop no_flow", b.in(frag))
				}
			}
			assert.Empty(t, b.answers())
		})
	})
	// Who is told, by policy and by what there is to tell; also by batches.
	for _, tc := range []struct {
		unknown, syn snat.ResetUnknown
		want         []string // of ACK out, ACK in, SYN in
	}{
		{snat.ResetNone, snat.ResetNone, nil},
		{snat.ResetInside, snat.ResetNone, []string{"ACK out"}},
		{snat.ResetSender, snat.ResetInside, []string{"ACK out", "ACK in"}},
		{snat.ResetNone, snat.ResetSender, []string{"SYN in"}},
	} {
		t.Run(fmt.Sprintf("unknown=%d,syn=%d", tc.unknown, tc.syn), func(t *testing.T) {
			c := oneVM(8)
			c.ResetUnknown, c.ResetSYN = tc.unknown, tc.syn
			b := newBed(t, c)
			v := make([]flow.Verdict, 2)
			b.OutboundBatch(0, [][]byte{pkttest.TCP(vmA+":1", serverA+":1", pkttest.ACK, pkttest.Ack(1))}, v)
			b.InboundBatch(0, [][]byte{
				pkttest.TCP(serverA+":1", frontend+":1024", pkttest.ACK, pkttest.Ack(2)),
				pkttest.TCP(serverA+":1", frontend+":1024", pkttest.SYN, pkttest.Seq(2)),
			}, v)
			names := map[string]string{
				"TCP 198.51.100.7:1 > 10.0.0.4:1 R seq=1 len=0":               "ACK out",
				"TCP 203.0.113.10:1024 > 198.51.100.7:1 R seq=2 len=0":        "ACK in",
				"TCP 203.0.113.10:1024 > 198.51.100.7:1 RA seq=0 ack=3 len=0": "SYN in",
			}
			var got []string
			for _, pkt := range b.answers() {
				got = append(got, names[pkttest.String(pkt)])
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// A SYN that is refused gets one answer, the RST.
func TestResetSYNInsteadOfICMP(t *testing.T) {
	c := resettingSenders(8)
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("198.51.100.8/32"), Action: snat.Blackhole}}
	c.ICMP.Refusals = snat.RefuseHostUnreachable
	b := newBed(t, c)
	assert.Equal(t, "drop route", b.out(pkttest.TCP(vmA+":1", "198.51.100.8:80", pkttest.SYN, pkttest.Seq(7))))
	assert.Equal(t, "drop route", b.out(pkttest.UDP(vmA+":1", "198.51.100.8:80", "x")))
	got := b.answers()
	require.Len(t, got, 2)
	assert.Equal(t, "TCP 198.51.100.8:80 > 10.0.0.4:1 RA seq=0 ack=8 len=0", pkttest.String(got[0]))
	assert.Contains(t, pkttest.String(got[1]), "ICMP 203.0.113.10 > 10.0.0.4 type=3 code=1")
}

func TestNAT_T5n_SegmentsOfForgottenConnections(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		for _, tc := range []struct {
			name      string
			configure func(*snat.Config)
			atIdle    int // RSTs
			late      []string
			told      int
		}{
			{"silence", func(*snat.Config) {}, 0, []string{"drop no_flow", "drop no_flow"}, 0},
			{"RST at idle", func(c *snat.Config) { c.EnableTCPReset = true }, 2, []string{"drop no_flow", "drop no_flow"}, 0},
			{"RST to who goes on", func(c *snat.Config) { c.ResetUnknown = snat.ResetSender }, 0, []string{"drop no_flow", "drop no_flow"}, 2},
		} {
			t.Run(tc.name, func(t *testing.T) {
				c := oneVM(8)
				tc.configure(&c)
				b := newBed(t, c)
				outside := b.dials(inside, server)
				b.at(4 * time.Minute)
				assert.Len(t, b.sent(), tc.atIdle)
				b.at(time.Hour)
				assert.Equal(t, tc.late, []string{b.locally(inside, server, "A", 1001, 5001), b.remotely(server, outside, "A", 5001, 1001)})
				assert.Len(t, b.answers(), tc.told)
			})
		}
	})
}

// Resets are limited in virtual time; what goes beyond ends silently, without
// tombstone, and is counted.
func TestNAT_X8_TokenBucket(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := resetting(64)
		c.Shards, c.ResetUnknown, c.ResetRate, c.ResetBurst = 1, snat.ResetSender, 10, 20
		b := newBed(t, c)
		for i := range 50 { // with two RSTs each
			b.dials(socket(r.a, 5000+i), socket(r.s, 443))
		}
		b.at(4 * time.Minute)
		assert.Len(t, b.sent(), 20)
		s := b.Stats()
		assert.Equal(t, uint64(20), s.Resets)
		assert.Equal(t, uint64(80), s.ResetsSuppressed)
		assert.Equal(t, uint64(50), s.SessionsEnded)
		assert.Len(t, sessions(b), 10, "tombstones of those that were reset")

		strays := func(n int) int {
			for range n {
				b.in(pkttest.TCP(socket(r.q, 80), socket(r.f, 1030), pkttest.ACK, pkttest.Ack(1)))
			}
			return len(b.answers())
		}
		assert.Zero(t, strays(5), "answers are of the same bucket")
		b.at(4*time.Minute + 99*time.Millisecond)
		assert.Zero(t, strays(5))
		b.at(4*time.Minute + 100*time.Millisecond)
		assert.Equal(t, 1, strays(5))
		b.at(4*time.Minute + time.Second)
		assert.Equal(t, 9, strays(30))
		b.at(time.Hour)
		assert.Equal(t, 20, strays(30))
		// Half of a pair is never sent.
		b.dials(socket(r.a, 5000), socket(r.s, 443))
		b.at(2 * time.Hour)
		require.Len(t, b.sent(), 2)
	})
	t.Run("a policy change fills it", func(t *testing.T) {
		c := resettingSenders(8)
		c.ResetRate = 1
		b := newBed(t, c)
		ask := func() int {
			for range 10 {
				b.in(pkttest.TCP(serverA+":80", frontend+":1024", pkttest.SYN))
			}
			return len(b.answers())
		}
		assert.Equal(t, 1, ask())
		c.ResetBurst = 3
		b.becomes(c)
		assert.Equal(t, 3, ask())
		c.ResetRate = 0
		b.becomes(c)
		assert.Equal(t, 10, ask())
	})
}

// When very many connections end in one tick, each step of the driver is short,
// and what does not fit is counted.
func TestNAT_X8_MassExpiry(t *testing.T) {
	if pkttest.Short() {
		t.Skip("makes a million connections")
	}
	const ports, remotes = 62_504, 16
	c := resetting(ports)
	c.Shards = 1
	b := newBed(t, c)
	syn := pkttest.TCP(vmA+":1", "198.51.0.1:443", pkttest.SYN, pkttest.Seq(1000), pkttest.Window(0))
	synAck := pkttest.TCP("198.51.0.1:443", frontend+":1", pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001))
	ack := pkttest.TCP(vmA+":1", "198.51.0.1:443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))
	buf := make([]byte, len(syn))
	send := func(door func(flow.Time, []byte) flow.Verdict, template []byte, rewrite func(wire.TCP, uint16), port, host int) {
		copy(buf, template)
		rewrite(buf[20:], uint16(port))
		if v := door(0, buf); v.Action != flow.Forward {
			t.Fatalf("port %d, host %d: %v", port, host, v)
		}
	}
	for host := range remotes {
		syn[18], synAck[14], ack[18] = byte(host), byte(host), byte(host)
		for _, pkt := range [][]byte{syn, synAck, ack} {
			pkttest.FixChecksums(pkt)
		}
		for i := range ports {
			send(b.Outbound, syn, wire.TCP.RewriteSrcPort, 1024+i, host)
			send(b.Inbound, synAck, wire.TCP.RewriteDstPort, 1024+i, host)
			send(b.Outbound, ack, wire.TCP.RewriteSrcPort, 1024+i, host)
		}
	}
	require.Equal(t, ports*remotes, b.Stats().SessionsActive)
	// Another connection is younger, and goes on between the steps.
	b.now = flow.At(time.Minute)
	younger := b.dials(vmA+":700", "198.51.99.1:443")
	b.now = flow.At(4 * time.Minute)
	emitted, most, left := 0, 0, ports*remotes+1
	for done := false; !done; {
		done = b.AdvanceStep(b.now, func(flow.Emission) { emitted++ })
		now := b.Stats().SessionsActive
		most, left = max(most, left-now), now
		if v := b.Inbound(b.now, pkttest.TCP("198.51.99.1:443", younger, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001))); v.Action != flow.Forward {
			t.Fatal(v)
		}
	}
	assert.Equal(t, 1, left)
	assert.LessOrEqual(t, most, 64, "ends in one step")
	s := b.Stats()
	assert.Equal(t, emitted, int(s.Resets))
	assert.Equal(t, 2*ports*remotes, int(s.Resets+s.ResetsSuppressed))
}

// A signed connection (TCP-MD5) is followed like any other; that its ends ignore
// the RST harms nobody.
func TestNAT_X9_SignedSegments(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		b := newBed(t, resetting(8))
		inside, server := socket(r.a, 5000), socket(r.s, 179)
		signature := pkttest.TCPOption(19, make([]byte, 16)...)
		out := func(flags string, seq, ack uint32) string {
			pkt := pkttest.TCP(inside, server, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack), signature)
			defer func() { pkttest.Check(t, pkt, signature) }()
			return b.out(pkt)
		}
		outside := source(out("S", 1000, 0))
		require.Equal(t, inside, destination(b.in(pkttest.TCP(server, outside, pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001), signature))))
		out("A", 1001, 5001)
		b.at(4 * time.Minute)
		require.Len(t, b.answers(), 2)
		require.Equal(t, "drop flow_reset", out("PA", 1001, 5001), "its end goes on")
		require.Len(t, b.answers(), 1)
		assert.Contains(t, out("S", 9000, 0), outside, "until it gives up and begins anew")
	})
}

// The resets have no timestamp, whatever the connection has agreed.
func TestNAT_X11_NoTimestamp(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		c := resetting(8)
		c.ResetUnknown = snat.ResetSender
		b := newBed(t, c)
		inside, server := socket(r.a, 5000), socket(r.s, 443)
		stamp := pkttest.TCPOption(8, 0, 0, 0, 1, 0, 0, 0, 0)
		outside := source(b.out(pkttest.TCP(inside, server, pkttest.SYN, pkttest.Seq(1000), stamp)))
		b.in(pkttest.TCP(server, outside, pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001), stamp))
		b.out(pkttest.TCP(inside, server, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001), stamp))
		b.at(4 * time.Minute)
		b.in(pkttest.TCP(server, outside, pkttest.ACK, pkttest.Seq(5001), pkttest.Ack(1001), stamp))
		b.out(pkttest.TCP(inside, socket(r.q, 443), pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001), stamp))
		got := b.answers()
		require.Len(t, got, 4)
		for _, pkt := range got {
			assert.Len(t, pkt, r.header+20)
		}
		// A RST of an end counts without one, too.
		b.dials(inside, server)
		b.remotely(server, outside, "R", 5001, 0)
		assert.NotContains(t, sessions(b)[0], "established")
	})
}

// A segment to a port that is granted to nobody is neither answered nor held, and
// neither is one to an instance's own address, whoever has sent it: what is inside
// the network answers for itself.
func TestOnlyGrantedPortsAnswer(t *testing.T) {
	grants := func(p snat.PortRange) (c snat.Config) {
		c = oneVM(8)
		c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd01::/64")}
		for i, f := range []string{frontend, frontend6} {
			p.Frontend = netip.MustParseAddr(f)
			c.Instances[0].Ports[i] = p
		}
		c.ResetUnknown, c.ICMP.ErrorBurst = snat.ResetSender, 1000
		return c
	}
	whole := grants(snat.PortRange{First: 1024, Count: 8})
	udp := grants(snat.PortRange{First: 1024, Count: 8, Protocol: snat.UDP})
	inventory := whole
	inventory.Instances = []snat.Instance{whole.Instances[0]}
	inventory.Instances[0].Ports = nil
	inventory.Ports = &snat.Shared{Frontends: []netip.Addr{addr(frontend), addr(frontend6)}, FirstPort: 1026, LastPort: 1029}
	for name, tc := range map[string]struct {
		c      snat.Config
		answer []int // ports
	}{
		"owned":     {whole, []int{1024, 1025, 1026, 1027, 1028, 1029, 1030, 1031}},
		"UDP alone": {udp, nil},
		"inventory": {inventory, []int{1026, 1027, 1028, 1029}},
	} {
		for i, f := range realms {
			t.Run(name+" "+f.name, func(t *testing.T) {
				linkLocal := []string{"169.254.1.9", "fe80::9"}[i]
				for _, flags := range []string{"A", "S"} {
					c := tc.c
					if flags == "S" {
						c.HoldSYN.Max = 1024
					}
					b := newBed(t, c)
					var answered []int
					for port := 1016; port < 1040; port++ {
						for _, sender := range []string{f.s, linkLocal} {
							b.remotely(socket(sender, 443), socket(f.a, port), flags, 1, 1)
							require.Contains(t, b.remotely(socket(linkLocal, 443), socket(f.f, port), flags, 1, 1), "drop")
							b.at(b.now.Duration() + 7*time.Second)
							require.Empty(t, b.sent(), "own address, port %d, from %s", port, sender)
						}
						require.Contains(t, b.remotely(socket(f.s, 443), socket(f.f, port), flags, 1, 1), "drop")
						b.at(b.now.Duration() + 7*time.Second)
						if sent := b.sent(); len(sent) > 0 {
							require.Len(t, sent, 1)
							answered = append(answered, port)
						}
					}
					require.Equal(t, tc.answer, answered, "%s", flags)
				}
			})
		}
	}
}

// A port that awaits removal is granted to nobody any more: its flows go on, and
// strangers get no answer.
func TestPortsThatAwaitRemovalDoNotAnswer(t *testing.T) {
	c := oneVM(8)
	c.ResetUnknown, c.ReclaimGrace = snat.ResetSender, time.Minute
	b := newBed(t, c)
	require.Equal(t, frontend+":1024", b.dials(vmA+":5000", serverA+":443"))
	c.Instances = []snat.Instance{c.Instances[0]}
	c.Instances[0].Ports = nil
	_, err := b.Reconfigure(b.now, c)
	require.NoError(t, err)
	require.NotContains(t, b.remotely(serverA+":443", frontend+":1024", "A", 5001, 1001), "drop")
	require.Equal(t, "drop no_flow", b.remotely(serverA+":444", frontend+":1024", "A", 1, 1))
	b.at(time.Second)
	require.Empty(t, b.sent())
}
