package snat_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// closers are configurations that between them have all kinds of state.
func closers(t *testing.T) map[string]snat.Config {
	configs := map[string]snat.Config{}
	for _, p := range preset.All() {
		c, err := p.Configure(site(3, 1))
		require.NoError(t, err)
		configs[p.Name] = c
	}
	c := configs["rfc"]
	c.ICMP.TTL, c.ICMP.MTU = snat.TTLRouter, 1280
	configs["a router with hairpins"] = c
	c = oneVM(64)
	c.CountTraffic = true
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}
	c.Fragments.Mode = snat.FragmentsVirtual
	configs["counted traffic and fragments"] = c
	return configs
}

// flood sends packets of many kinds from both sides, singly or in batches.
func flood(n *snat.NAT, now flow.Time, batch bool) (verdicts []flow.Verdict) {
	var out, in [][]byte
	for i := range 40 {
		src, dst := fmt.Sprintf("10.0.0.%d:%d", i%6, 2000+i), fmt.Sprintf("198.51.100.%d:443", i%9)
		parts := halves(pkttest.UDP(src, dst, fmt.Sprintf("%64d", i), pkttest.ID(uint16(i))))
		out = append(out, pkttest.TCP(src, dst, pkttest.TCPFlags("S")), pkttest.UDP(src, dst, ""), parts[0], parts[1],
			pkttest.TCP(fmt.Sprintf("192.168.0.%d:5", i+1), dst, pkttest.TCPFlags("S")),
			pkttest.ICMPEcho(src[:8], dst[:12], uint16(i), 1))
		in = append(in, pkttest.TCP(dst, fmt.Sprint("203.0.113.10:", 1024+i), pkttest.TCPFlags("S")),
			pkttest.UDP(dst, fmt.Sprint("203.0.113.10:", 1024+i), ""), pkttest.UDP(dst, src, ""))
	}
	if batch {
		verdicts = make([]flow.Verdict, len(out)+len(in))
		n.OutboundBatch(now, out, verdicts[:len(out)])
		n.InboundBatch(now, in, verdicts[len(out):])
		return verdicts
	}
	for _, pkt := range out {
		verdicts = append(verdicts, n.Outbound(now, pkt))
	}
	for _, pkt := range in {
		verdicts = append(verdicts, n.Inbound(now, pkt))
	}
	return verdicts
}

// observe calls all doors that only look.
func observe(n *snat.NAT) {
	for range n.Sessions() {
	}
	for range n.Instances() {
	}
	for range n.Shares() {
	}
	n.Stats()
	n.Frontends()
	n.IsFrontend(addr("20.0.0.1"))
	n.Blocks()
	n.Subscribers()
	n.Connections()
	n.Traffic()
	n.Stranded()
	n.SharedPorts()
	n.TopPorts(9, snat.ByInside)
	n.NextDeadline()
}

// Every door of a closed translator is harmless: packets are dropped and counted.
func TestClosed(t *testing.T) {
	for name, c := range closers(t) {
		t.Run(name, func(t *testing.T) {
			n, err := snat.New(c)
			require.NoError(t, err)
			flood(n, 0, false)
			before := n.Stats()
			require.Positive(t, before.SessionsActive)
			n.Close()
			n.Close()
			n.Check()
			observe(n)
			dropped := uint64(0)
			for _, batch := range []bool{false, true} {
				for _, v := range flood(n, 1, batch) {
					require.Equal(t, flow.Verdict{Action: flow.Drop, Reason: flow.ReasonClosed}, v)
					dropped++
				}
			}
			n.HoldFree(flow.At(time.Second))
			n.Advance(flow.At(time.Hour), func(flow.Emission) { t.Error("a closed translator emits") })
			assert.True(t, n.AdvanceStep(flow.At(2*time.Hour), nil))
			_, err = n.Reconfigure(flow.At(3*time.Hour), c)
			assert.ErrorIs(t, err, flow.ErrClosed)
			_, pending := n.NextDeadline()
			assert.False(t, pending)
			s := n.Stats()
			assert.Zero(t, s.SessionsActive)
			assert.Equal(t, before.SessionsCreated, s.SessionsCreated)
			assert.Equal(t, dropped, s.Outbound.Drops[flow.ReasonClosed]+s.Inbound.Drops[flow.ReasonClosed])
			assert.Equal(t, before.Outbound.Forwarded, s.Outbound.Forwarded)
			observe(n)
		})
	}
}

// Close may come at any time, from several goroutines.
func TestCloseMeanwhile(t *testing.T) {
	for name, c := range closers(t) {
		t.Run(name, func(t *testing.T) {
			for round := range 3 {
				n, err := snat.New(c)
				require.NoError(t, err)
				var all sync.WaitGroup
				for k := range 3 {
					all.Go(func() {
						for i := range 4 {
							flood(n, flow.At(time.Duration(i)*time.Minute), k%2 == 0)
						}
					})
				}
				all.Go(func() {
					for i := range 10 {
						n.Advance(flow.At(time.Duration(i)*time.Minute), nil)
						observe(n)
					}
				})
				if sharedOf(c) == nil {
					all.Go(func() {
						for range 4 {
							if _, err := n.Reconfigure(flow.At(9*time.Minute), c); err != nil {
								assert.ErrorIs(t, err, flow.ErrClosed)
							}
						}
					})
				}
				for range 2 {
					all.Go(func() {
						time.Sleep(time.Duration(round) * time.Millisecond)
						n.Close()
					})
				}
				all.Wait()
				for _, v := range flood(n, flow.At(time.Hour), true) {
					require.Equal(t, flow.ReasonClosed, v.Reason)
				}
			}
		})
	}
}
