package snat_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// hopOfAll is a translator that does all that ICMP can ask for.
func hopOfAll() snat.Config {
	return inPieces(func(c *snat.Config) {
		c.ICMP.TTL, c.ICMP.MTU, c.ICMP.Refusals = snat.TTLRouter, 1280, snat.RefuseProhibited
		c.ICMP.Problems, c.ICMP.ProtocolUnreachable = true, true
		c.ICMP.ErrorRate, c.ICMP.ErrorBurst = 1_000_000, 1_000_000
	})
}

// Several goroutines make the translator answer and split, while another collects:
// everything is counted once.
func TestICMPMadeConcurrently(t *testing.T) {
	const goroutines, rounds = 4, 200
	b := newBed(t, hopOfAll())
	var emitted [2]int
	collect := func() {
		b.Advance(0, func(e flow.Emission) { emitted[e.To]++ })
		_ = b.Stats()
	}
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for range rounds {
				for _, r := range realms {
					b.Outbound(0, pkttest.UDP(socket(r.a, 1000+g), socket(r.s, 53), "x", pkttest.TTL(1)))
					b.Outbound(0, pkttest.IP(r.a, r.s, 47, []byte("payload of it")))
				}
				b.Outbound(0, pkttest.UDP(socket(vmA, 1000+g), socket(serverA, 53), strings.Repeat("x", 2000), pkttest.DF(false)))
				b.Outbound(0, piece6(vmA6, serverA6, 6, 0, true, 16))
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			time.Sleep(time.Millisecond)
		}
		collect()
	}
	b.Check()
	s := b.Stats()
	assert.Equal(t, uint64(5*goroutines*rounds), s.ICMPErrors)
	assert.Equal(t, int(s.ICMPErrors), emitted[flow.Inside])
	lost := int(s.Outbound.Drops[flow.ReasonFragLimit])
	assert.Equal(t, 2*(goroutines*rounds-lost), emitted[flow.Outside])
	assert.Equal(t, uint64(goroutines*rounds-lost), s.Outbound.Forwarded)
}

// Whatever comes, what the translator makes of its own is well formed, says no more
// than one thing about a packet, and never answers an ICMP error.
func FuzzICMPMade(f *testing.F) {
	for _, p := range problems {
		f.Add(true, p.make(vmA6, serverA6))
		f.Add(false, p.make(serverA6, frontend6))
	}
	for _, r := range realms {
		f.Add(true, pkttest.UDP(socket(r.a, 9), socket(r.s, 9), strings.Repeat("x", 1500), pkttest.DF(false)))
		f.Add(true, pkttest.UDP(socket(r.a, 9), socket(r.s, 9), "x", pkttest.TTL(1)))
		f.Add(true, pkttest.IP(r.a, r.s, 47, []byte("payload of it")))
		f.Add(true, r.bigPing(r.echo, r.a, r.s, 9))
		f.Add(false, pkttest.ICMP(r.rx, r.f, r.exceeded, 0, 0, make([]byte, 60), pkttest.TTL(1)))
	}
	f.Fuzz(func(t *testing.T, inside bool, pkt []byte) {
		if len(pkt) > 4000 {
			t.Skip("long packets find nothing that short ones do not")
		}
		if len(pkt) > 20 && pkt[0] == 0x45 {
			fixHeader(pkt) // else hardly any would pass
		}
		c := hopOfAll()
		c.Shards = 1
		b := newBed(t, c)
		from := flow.Outside
		if inside {
			from = flow.Inside
		}
		came := clone(pkt)
		v := b.send(from, pkt)
		b.at(0)
		if v.Action != flow.Queued {
			require.LessOrEqual(t, len(b.emitted), 1)
		}
		for _, e := range b.emitted {
			var p, about wire.Packet
			require.Equal(t, wire.OK, wire.Parse(e.Packet, &p), "%x", e.Packet)
			require.Len(t, p.B, len(e.Packet))
			if p.Flags&wire.Fragmented != 0 {
				require.LessOrEqual(t, len(e.Packet), 1280)
				continue
			}
			require.Equal(t, flow.Drop, v.Action)
			require.Equal(t, from, e.To)
			require.True(t, wire.VerifyL4(&p))
			require.Equal(t, came[:len(p.ICMPv4().Payload())], []byte(p.ICMPv4().Payload()), "what it sent")
			if problem := wire.Parse(came, &about); problem == wire.OK && about.Flags&wire.Fragmented == 0 && (about.Proto == wire.ProtoICMP || about.Proto == wire.ProtoICMPv6) {
				require.Contains(t, []uint8{8, 13, 0, 14, 128, 129}, about.ICMPv4().Type())
			}
		}
	})
}
