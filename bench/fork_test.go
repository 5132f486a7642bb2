package bench

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat"
)

// BenchmarkFork copies a NAT with established flows, and closes the copy while the clock is
// stopped. ns/op is the least time that one copy has taken, x-floor its ratio to the least time of
// a memmove of as many bytes, between memory that is resident; x-fresh to that into memory which
// the system has yet to give, as the first copy needs it, whose time is first-ms. hold-ms is the
// longest time that a packet waits for a copy, the least of three copies: it needs a core of its own.
func BenchmarkFork(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			b.Run(fmt.Sprintf("ip=%d/flows=%d", ip, flows), func(b *testing.B) {
				w := newWorld(b, flows, ip == 6)
				bytes := w.nat.Stats().Bytes
				from, warm := newChunks(b, bytes), newChunks(b, bytes)
				least := [3]time.Duration{1 << 62, 1 << 62, 1 << 62}
				first := time.Duration(1 << 62)
				w.fork(b, &first)
				for range b.N {
					for i, do := range [...]func(){
						func() { w.fork(b, &least[0]) },
						func() { from.moveTo(warm) },
						func() {
							var fresh chunks
							fresh.take(len(from.all))
							begin := time.Now()
							from.moveTo(&fresh)
							least[2] = min(least[2], time.Since(begin))
							fresh.mem.Release()
						},
					} {
						begin := time.Now()
						if do(); i == 1 {
							least[1] = min(least[1], time.Since(begin))
						}
					}
				}
				b.ReportMetric(float64(least[0]), "ns/op")
				b.ReportMetric(float64(least[0])/float64(least[1]), "x-floor")
				b.ReportMetric(float64(least[0])/float64(least[2]), "x-fresh")
				b.ReportMetric(first.Seconds()*1e3, "first-ms")
				b.ReportMetric(w.holdUp(b).Seconds()*1e3, "hold-ms")
				b.ReportMetric(float64(bytes)/1e6, "MB")
			})
		}
	}
}

// fork copies the NAT of a world, and notes how long that takes.
func (w *world) fork(b *testing.B, least *time.Duration) {
	begin := time.Now()
	n, err := w.nat.Fork(snat.Ties{})
	*least = min(*least, time.Since(begin))
	if err != nil {
		b.Fatal(err)
	}
	if n.Stats().SessionsActive != w.flows {
		b.Fatal("flows are missing in a copy")
	}
	n.Close()
}

// holdUp returns the longest time that a packet has waited for a copy, the least of three.
func (w *world) holdUp(b *testing.B) time.Duration {
	least := time.Duration(1 << 62)
	for range 3 {
		var done atomic.Bool
		longest := make(chan time.Duration)
		go func() {
			var most time.Duration
			pkt := buffers(1)[0]
			for i := 0; !done.Load(); i++ {
				pkt = w.packet(pkt, i%w.flows, flow.Inside, flow.ACK)
				begin := time.Now()
				w.nat.Outbound(w.now, pkt)
				most = max(most, time.Since(begin))
			}
			longest <- most
		}()
		time.Sleep(time.Millisecond)
		var took time.Duration
		w.fork(b, &took)
		done.Store(true)
		least = min(least, <-longest)
	}
	return least
}

// chunks is memory of the sort that tables have.
type chunks struct {
	mem slab.Memory
	all []*[slab.ChunkSize]byte
}

// newChunks returns memory of so many bytes that is resident.
func newChunks(b *testing.B, bytes int) *chunks {
	c := new(chunks)
	b.Cleanup(c.mem.Release)
	c.take((bytes + slab.ChunkSize - 1) / slab.ChunkSize)
	for _, p := range c.all {
		for i := 0; i < len(p); i += 4096 {
			p[i] = 1
		}
	}
	return c
}

func (c *chunks) take(n int) {
	for range n {
		c.all = append(c.all, (*[slab.ChunkSize]byte)(c.mem.Chunk(slab.ChunkSize)))
	}
}

func (c *chunks) moveTo(to *chunks) {
	for i, p := range c.all {
		*to.all[i] = *p
	}
}
