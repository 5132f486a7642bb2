package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// publicWorld is the world of BenchmarkPublic: connections that the remote has opened to
// instances with public addresses of their own, which are remembered or not.
func publicWorld(b testing.TB, flows int, is6, entries bool) *world {
	c, hosts := config(flows, is6)
	c.RememberEntries = entries
	for i := range hosts {
		h, inst := &hosts[i], &c.Instances[i]
		h.frontend, h.untranslated = netip.AddrFrom4([4]byte{20, 60, byte(i >> 8), byte(i)}), true
		if is6 {
			h.frontend = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0xe, 14: byte(i >> 8), 15: byte(i)})
		}
		inst.PublicAddrs, inst.Ports = []netip.Addr{h.frontend}, nil
	}
	w := build(b, c, hosts, flows, is6)
	w.span(b, 0, flows, flow.Outside, flow.SYN)
	w.span(b, 0, flows, flow.Inside, flow.SYN|flow.ACK)
	w.span(b, 0, flows, flow.Outside, flow.ACK)
	return w
}

// sendPublic sends a batch, a nanosecond after the one before, so that what is remembered of its
// flows is brought up to date.
func (w *world) sendPublic(from flow.Side, pkts [][]byte, verdicts []flow.Verdict) {
	w.now = w.now.Add(time.Nanosecond)
	w.send(from, batch, pkts, verdicts)
}

// BenchmarkPublic sends segments of random connections that public addresses of instances carry
// one to one, with RememberEntries; in turns with it run as many without: x-snat is the ratio.
func BenchmarkPublic(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			if flows > 1_032_192 {
				continue // more than are remembered
			}
			var w, plain *world
			var f *floor
			for _, from := range []flow.Side{flow.Inside, flow.Outside} {
				b.Run(fmt.Sprintf("ip=%d/from=%v/flows=%d/batch=%d", ip, from, flows, batch), func(b *testing.B) {
					if w == nil {
						w, plain = publicWorld(parent{b}, flows, ip == 6, true), publicWorld(parent{b}, flows, ip == 6, false)
						f = newFloor(parent{b}, w.nat.Stats().Bytes)
					}
					pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
					send := func() { w.sendPublic(from, pkts, verdicts) }
					measureBeside(b, flow.Forward, w.traffic(from), f, plain.beside(from), pkts, verdicts, send, float64(w.nat.Stats().Bytes)/float64(flows))
				})
			}
			if w != nil {
				w.nat.Close()
				plain.nat.Close()
				f.mem.Release()
			}
		}
	}
}
