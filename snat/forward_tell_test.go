package snat_test

// What senders are told about flows to forwards, and what is left of those before.

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A packet to a forward that may not be forwarded is answered as any other would be, also
// if it is the first one of its flow; one to a port without a forward is not.
func TestForwardUnfitIsAnswered(t *testing.T) {
	for _, f := range realms {
		c := backends(2)
		c.ICMP = snat.ICMP{Errors: true, TTL: snat.TTLRouter, MTU: 1400}
		b := newBed(t, c)
		client := socket(f.s, 5000)
		for _, x := range []struct {
			name   string
			pkt    []byte
			reason string
			told   int
		}{
			{"no hops left", pkttest.TCP(client, socket(f.f, 80), pkttest.SYN, pkttest.TTL(1)), "drop ttl", 1},
			{"too big", pkttest.UDP(client, socket(f.f, 80), string(make([]byte, 1400)), pkttest.DF(true)), "drop too_big", 1},
			{"no such port", pkttest.TCP(client, socket(f.f, 81), pkttest.SYN, pkttest.TTL(1)), "drop no_flow", 0},
		} {
			if f.is6() && x.name == "too big" {
				x.pkt = pkttest.UDP(client, socket(f.f, 80), string(make([]byte, 1400)))
			}
			assert.Equal(t, x.reason, b.in(x.pkt), "%s %s", f.name, x.name)
			b.at(b.now.Duration())
			require.Len(t, b.emitted, x.told, "%s %s", f.name, x.name)
			for _, e := range b.emitted {
				assert.Equal(t, flow.Outside, e.To)
				pkttest.Check(t, e.Packet, pkttest.ChecksumsOK(), pkttest.Src(f.f), pkttest.Dst(f.s))
			}
			b.emitted = nil
		}
		assert.Zero(t, b.Stats().SessionsActive)
	}
}

// An error of an inside client about what a forward's target has answered reaches the
// target.
func TestForwardErrorFromInside(t *testing.T) {
	for _, f := range realms {
		for _, batched := range []bool{false, true} {
			c := backends(2)
			c.ICMP.Errors = true
			client := snat.Instance{Name: "client", Addrs: []netip.Addr{addr("10.1.0.4"), addr("fd01::4")}}
			c.Instances = append(c.Instances, client)
			from := client.Addrs[0].String()
			if f.is6() {
				from = client.Addrs[1].String()
			}
			for i := range c.Forwards {
				c.Forwards[i].FromInside = true
			}
			b := newBed(t, c)
			asked := pkttest.UDP(socket(from, 5000), socket(f.f, 80), "x")
			v := b.Outbound(b.now, asked)
			require.Equal(t, flow.Forward, v.Action)
			target := destination(pkttest.String(asked))
			answer := pkttest.UDP(target, socket(from, 5000), "y")
			require.Equal(t, flow.Forward, b.Outbound(b.now, answer).Action)
			sent := pkttest.ICMP(from, f.f, f.unreachable, f.portCode, 0, answer)
			verdicts := []flow.Verdict{{}}
			if batched {
				b.OutboundBatch(b.now, [][]byte{sent}, verdicts)
			} else {
				verdicts[0] = b.Outbound(b.now, sent)
			}
			assert.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: v.Instance}, verdicts[0], f.name)
			pkttest.Check(t, sent, pkttest.ChecksumsOK(), pkttest.Src(from), pkttest.Dst(backend(int(v.Instance), f.is6())))
			// About nothing that was sent, it goes nowhere.
			other := pkttest.ICMP(from, f.f, f.unreachable, f.portCode, 0, pkttest.UDP(socket(f.f, 80), socket(from, 6000), "y"))
			assert.Equal(t, "drop icmp_no_flow", b.out(other))
		}
	}
}

// A SYN that is refused leaves what is remembered of the connection that was reset, from
// either side.
func TestRefusedSYNLeavesTombstone(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		c, refuses := oneVM(64), false
		c.EnableTCPReset = true
		c.Admit = func(snat.NewFlow) flow.Reason {
			if refuses {
				return flow.ReasonNSGOutbound
			}
			return flow.ReasonNone
		}
		b := newBed(t, c)
		inside, server := socket(h.a, 4000), socket(h.s, 443)
		out := b.dials(inside, server)
		b.at(4*time.Minute + time.Second)
		require.Len(t, b.sent(), 2)
		refuses = true
		assert.Equal(t, "drop nsg_outbound", b.locally(inside, server, "S", 9100, 0))
		assert.Equal(t, "drop flow_reset", b.locally(inside, server, "A", 1001, 2001))
		refuses = false
		assert.Equal(t, out, source(b.locally(inside, server, "S", 9100, 0)))
		b.Check()
	})
}
