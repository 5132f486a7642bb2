package bench

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// trackedWorld is the world of BenchmarkTracked: connections that the remote has opened
// to hosts behind instances, and that are not translated.
func trackedWorld(b testing.TB, flows int, is6 bool) *world {
	c, hosts := config(flows, is6)
	server := remote(is6).Addr()
	c.Routes = []snat.Route{{Prefix: netip.PrefixFrom(server, server.BitLen()), Action: snat.NodeAddress, BothWays: true}}
	for i := range hosts {
		h, inst := &hosts[i], &c.Instances[i]
		h.frontend, h.untranslated = h.inside, true // what the remote sees
		inst.Inside, inst.Addrs, inst.Ports = []netip.Prefix{netip.PrefixFrom(h.inside, h.inside.BitLen())}, nil, nil
	}
	w := build(b, c, hosts, flows, is6)
	w.span(b, 0, flows, flow.Outside, flow.SYN)
	w.span(b, 0, flows, flow.Inside, flow.SYN|flow.ACK)
	w.span(b, 0, flows, flow.Outside, flow.ACK)
	return w
}

// BenchmarkTracked sends segments of random established connections that are remembered
// and not translated.
func BenchmarkTracked(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			var w *world
			var f *floor
			for _, from := range []flow.Side{flow.Inside, flow.Outside} {
				var t *traffic
				b.Run(fmt.Sprintf("ip=%d/from=%v/flows=%d/batch=%d", ip, from, flows, batch), func(b *testing.B) {
					if w == nil {
						w = trackedWorld(parent{b}, flows, ip == 6)
						f = newFloor(parent{b}, w.nat.Stats().Bytes)
					}
					if t == nil {
						t = w.traffic(from)
					}
					run(b, w, t, f, from, batch)
				})
			}
			if w != nil {
				w.nat.Close()
				f.mem.Release()
			}
		}
	}
}
