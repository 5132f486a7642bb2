package bench

import (
	"fmt"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
)

// BenchmarkCountTraffic is what counting traffic by frontend costs each packet:
// the same established flows with and without.
func BenchmarkCountTraffic(b *testing.B) {
	for _, flows := range flowCounts(b)[:1] {
		for _, count := range []bool{false, true} {
			c, hosts := config(flows, false)
			c.CountTraffic = count
			w := build(parent{b}, c, hosts, flows, false)
			w.establish(b)
			t := w.traffic(flow.Inside)
			f := newFloor(parent{b}, w.nat.Stats().Bytes)
			for _, size := range []int{1, batch} {
				b.Run(fmt.Sprintf("count=%v/flows=%d/batch=%d", count, flows, size), func(b *testing.B) {
					run(b, w, t, f, flow.Inside, size)
				})
			}
			w.nat.Close()
			f.mem.Release()
		}
	}
}
