package bench

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/snat"
)

// BenchmarkSnapshot writes a NAT with established flows into memory, and reads it, with as many shards and with one less. ns/op is
// the least time that one of these has taken, for one flow, and MB/s that of the snapshot, whose bytes a flow are B/flow.
func BenchmarkSnapshot(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			c, hosts := config(flows, ip == 6)
			w := build(b, c, hosts, flows, ip == 6)
			w.establish(b)
			var file bytes.Buffer
			write := func(b *testing.B) {
				file.Reset()
				if err := w.nat.Snapshot(&file); err != nil {
					b.Fatal(err)
				}
			}
			write(b)
			read := func(b *testing.B, c snat.Config) {
				n, err := snat.Restore(c, bytes.NewReader(file.Bytes()))
				if err != nil {
					b.Fatal(err)
				}
				if b.StopTimer(); n.Stats().SessionsActive != flows {
					b.Fatal("flows are missing in what is restored")
				}
				n.Close()
				b.StartTimer()
			}
			apart := c
			apart.Shards = max(2, c.Shards) - 1
			for _, of := range []struct {
				way string
				do  func(b *testing.B)
			}{
				{"write", write},
				{"read", func(b *testing.B) { read(b, c) }},
				{"read-apart", func(b *testing.B) { read(b, apart) }},
			} {
				b.Run(fmt.Sprintf("ip=%d/flows=%d/way=%s", ip, flows, of.way), func(b *testing.B) {
					least := time.Duration(1 << 62)
					for range b.N {
						begin := b.Elapsed()
						of.do(b)
						least = min(least, b.Elapsed()-begin)
					}
					b.ReportMetric(float64(least)/float64(flows), "ns/op")
					b.ReportMetric(float64(file.Len())/1e6/least.Seconds(), "MB/s")
					b.ReportMetric(float64(file.Len())/float64(flows), "B/flow")
				})
			}
		}
	}
}
