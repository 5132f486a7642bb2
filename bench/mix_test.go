package bench

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// BenchmarkMiss sends segments of strangers to ports in use, as a scan from the outside
// does: all are looked up, and dropped. Compare BenchmarkInbound, where all are found.
func BenchmarkMiss(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			b.Run(fmt.Sprintf("ip=%d/flows=%d/batch=%d", ip, flows, batch), func(b *testing.B) {
				w := newWorld(b, flows, ip == 6)
				f := newFloor(b, w.nat.Stats().Bytes)
				pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
				send := func() { w.nat.InboundBatch(w.now, pkts, verdicts) }
				measureAs(b, flow.Drop, w.scan(streamLen(flows)), f, pkts, verdicts, send, float64(w.nat.Stats().Bytes)/float64(flows))
			})
		}
	}
}

// sharedWorld is one world for several sub-benchmarks, made by the first that runs.
type sharedWorld struct{ w *world }

func (s *sharedWorld) get(b *testing.B, flows int) *world {
	if s.w == nil {
		s.w = newWorld(parent{b}, flows, false)
	}
	return s.w
}

func (s *sharedWorld) close() {
	if s.w != nil {
		s.w.nat.Close()
	}
}

// BenchmarkSkew sends segments of established flows: dist=uniform chooses each flow as
// often, dist=zipf few of them most of the time.
func BenchmarkSkew(b *testing.B) {
	for _, flows := range flowCounts(b) {
		var shared sharedWorld
		for _, dist := range []string{"uniform", "zipf"} {
			b.Run(fmt.Sprintf("dist=%s/flows=%d/batch=%d", dist, flows, batch), func(b *testing.B) {
				w := shared.get(b, flows)
				t := w.traffic(flow.Inside)
				if dist == "zipf" {
					t = w.zipf(flow.Inside)
				}
				run(b, w, t, newFloor(b, w.nat.Stats().Bytes), flow.Inside, batch)
			})
		}
		shared.close()
	}
}

// BenchmarkBatch hands over established segments in batches of other sizes.
func BenchmarkBatch(b *testing.B) {
	for _, flows := range flowCounts(b) {
		var shared sharedWorld
		for _, size := range numbers(b, *batchesFlag, 1, 256) {
			b.Run(fmt.Sprintf("flows=%d/batch=%d", flows, size), func(b *testing.B) {
				w := shared.get(b, flows)
				t := w.traffic(flow.Inside)
				pkts, verdicts := buffers(size), make([]flow.Verdict, size)
				b.ReportAllocs()
				for b.Loop() {
					t.copyIn(pkts)
					w.nat.OutboundBatch(w.now, pkts, verdicts)
				}
				forwarded(b, verdicts)
				sample(b, pkts)
				perPacket(b, b.N*size)
			})
		}
		shared.close()
	}
}

// BenchmarkSize sends established segments of other lengths, in bytes from the IP header
// on. The length is copied, but what a translator changes does not depend on it.
func BenchmarkSize(b *testing.B) {
	for _, flows := range flowCounts(b) {
		var shared sharedWorld
		for _, size := range numbers(b, *sizesFlag, 64, 1500) {
			b.Run(fmt.Sprintf("flows=%d/size=%d/batch=%d", flows, size, batch), func(b *testing.B) {
				w := shared.get(b, flows)
				t := w.traffic(flow.Inside)
				const n = 1024 // of the stream: 1.5 MB at most
				var stream [n][]byte
				for i := range stream {
					stream[i] = resized(t.pkts[i%t.n*64:], size)
				}
				pkts, verdicts := make([][]byte, batch), make([]flow.Verdict, batch)
				for i := range pkts {
					pkts[i] = make([]byte, size)
				}
				next := 0
				b.ReportAllocs()
				for b.Loop() {
					for i := range pkts {
						copy(pkts[i], stream[next+i])
					}
					next = (next + batch) % n
					w.nat.OutboundBatch(w.now, pkts, verdicts)
				}
				forwarded(b, verdicts)
				sample(b, pkts)
				perPacket(b, b.N*batch)
				b.ReportMetric(float64(b.N*batch*size)*8/float64(b.Elapsed()), "Gbit/s")
			})
		}
		shared.close()
	}
}

// resized returns an IPv4 TCP segment with as much data as its new length takes.
func resized(pkt []byte, size int) []byte {
	p := append(make([]byte, 0, size), pkt[:40]...)
	for i := 40; i < size; i++ {
		p = append(p, byte(i))
	}
	h := wire.IPv4(p)
	h.SetTotalLength(uint16(size))
	pkttest.FixChecksums(p)
	return p
}

// BenchmarkMixed is a translator in full use: of 100 packets, as many as -mix says belong
// to established flows, open one, and close one. Half of the ports are for flows that
// stay, and half for those that come and go, within ten virtual minutes each. Expiry is
// part of the figure, making the packets is not. The floor is two lines a packet, two more for one that
// opens a flow, and four for the end of one.
func BenchmarkMixed(b *testing.B) {
	shares := mix(b)
	for _, flows := range flowCounts(b) {
		b.Run(fmt.Sprintf("mix=%d-%d-%d/flows=%d/batch=%d", shares[0], shares[1], shares[2], flows, batch), func(b *testing.B) {
			m := newMixed(b, flows, shares)
			f, t, bufs := newFloor(b, m.w.nat.Stats().Bytes), m.w.traffic(flow.Inside), buffers(batch)
			var elapsed, floorTime, longest time.Duration
			done := 0
			for done < b.N {
				start := time.Now()
				f.mixed(t, bufs, shares)
				floorTime += time.Since(start)
				m.fill()
				start = time.Now()
				m.w.nat.OutboundBatch(m.w.now, m.pkts, m.verdicts)
				m.w.nat.Advance(m.w.now, nil)
				took := time.Since(start)
				elapsed, longest = elapsed+took, max(longest, took)
				forwarded(b, m.verdicts)
				done += batch
			}
			m.prove(b)
			ns := float64(elapsed) / float64(done)
			b.ReportMetric(ns, "ns/op")
			b.ReportMetric(1e3/ns, "Mpps")
			b.ReportMetric(float64(elapsed)/float64(floorTime), "x-floor")
			b.ReportMetric(float64(longest)/1e3, "longest-batch-µs")
			s := m.w.nat.Stats()
			b.ReportMetric(float64(s.Bytes)/float64(s.SessionsActive), "B/flow")
		})
	}
}

// mixed makes the packets of BenchmarkMixed.
type mixed struct {
	w            *world
	stay         *traffic
	shares       [3]int
	spare        int // flows that come and go, those with the upper half of an instance's numbers
	opened, shut int // of them, counted on and on
	pkts         [][]byte
	verdicts     []flow.Verdict
	step         time.Duration // virtual time of a batch
	turn         int
}

func newMixed(b testing.TB, flows int, shares [3]int) *mixed {
	w := newPartial(b, flows, false, portsPerInstance/2, time.Hour)
	m := &mixed{w: w, shares: shares, spare: len(w.hosts) * portsPerInstance / 2, pkts: buffers(batch), verdicts: make([]flow.Verdict, batch)}
	// Every flow in turn, so that none gets idle, in an order without locality.
	step := coprime(m.spare)
	m.stay = stream(streamLen(flows), func(buf []byte, i int) {
		n := i * step % m.spare
		w.packet(buf, n/(portsPerInstance/2)*portsPerInstance+n%(portsPerInstance/2), flow.Inside, flow.ACK|flow.PSH)
	})
	if share := max(shares[1], 1); m.spare > 0 {
		m.step = 10 * time.Minute * batch * time.Duration(share) / time.Duration(100*m.spare)
	}
	return m
}

// number returns the n-th flow that comes and goes, in instance after instance.
func (m *mixed) number(n int) int {
	n %= m.spare
	return n%len(m.w.hosts)*portsPerInstance + portsPerInstance/2 + n/len(m.w.hosts)
}

// fill makes the next batch.
func (m *mixed) fill() {
	m.stay.copyIn(m.pkts)
	for i := range m.pkts {
		// 37 shares no factor with 100, so that kinds alternate.
		switch at := m.turn * 37 % 100; {
		case at < m.shares[0]:
		case at < m.shares[0]+m.shares[1] || m.shut >= m.opened:
			m.pkts[i] = m.w.packet(m.pkts[i], m.number(m.opened), flow.Inside, flow.SYN)
			m.opened++
		default:
			m.pkts[i] = m.w.packet(m.pkts[i], m.number(m.shut), flow.Inside, flow.RST|flow.ACK)
			m.shut++
		}
		m.turn++
	}
	m.w.now = m.w.now.Add(m.step)
}

// prove demands that every flow was opened anew and none ended that should not have.
func (m *mixed) prove(b testing.TB) {
	sample(b, m.pkts)
	s, stay := m.w.nat.Stats(), len(m.w.hosts)*portsPerInstance/2
	if int(s.SessionsCreated) != stay+m.opened || s.SessionsActive < stay+m.opened-m.shut {
		b.Fatalf("%d sessions created and %d active, of %d opened, %d closed and %d that stay", s.SessionsCreated, s.SessionsActive, m.opened, m.shut, stay)
	}
}

// BenchmarkSmall sends packets through many translators of one instance and 100 flows
// each, in turns, as a simulator of many sites does. B/NAT is what New allocates for one and
// ns/NAT how long it takes, where many are made in a row; B/flow is what flows take then.
func BenchmarkSmall(b *testing.B) {
	const flows = 100
	count := 1000
	if testing.Short() {
		count = 50
	}
	b.Run(fmt.Sprintf("nats=%d/flows=%d/batch=%d", count, flows, batch), func(b *testing.B) {
		worlds := make([]*world, count)
		c, hosts := config(flows, false)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for i := range worlds {
			worlds[i] = build(b, c, hosts, flows, false)
		}
		made := time.Since(began)
		runtime.ReadMemStats(&after)
		allocated, bytes := after.TotalAlloc-before.TotalAlloc, 0
		for _, w := range worlds {
			w.establish(b)
			bytes += w.nat.Stats().Bytes
		}
		t := worlds[0].traffic(flow.Inside)
		pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
		next := 0
		b.ReportAllocs()
		for b.Loop() {
			t.copyIn(pkts)
			worlds[next].nat.OutboundBatch(0, pkts, verdicts)
			next = (next + 7) % count
		}
		forwarded(b, verdicts)
		sample(b, pkts)
		perPacket(b, b.N*batch)
		b.ReportMetric(float64(bytes)/float64(flows*count), "B/flow")
		b.ReportMetric(float64(allocated)/float64(count), "B/NAT")
		b.ReportMetric(float64(made)/float64(count), "ns/NAT")
	})
}

// BenchmarkParallel sends established segments from one and from two goroutines, each of
// its own instances.
func BenchmarkParallel(b *testing.B) {
	for _, flows := range flowCounts(b) {
		var shared sharedWorld
		for _, workers := range []int{1, 2} {
			if flows < workers*portsPerInstance {
				continue // one instance
			}
			b.Run(fmt.Sprintf("goroutines=%d/flows=%d/batch=%d", workers, flows, batch), func(b *testing.B) {
				w := shared.get(b, flows)
				var streams []*traffic
				for k := range workers {
					rng := w.random(uint64(6 + k))
					part := max(flows/workers, 1)
					streams = append(streams, stream(streamLen(part), func(buf []byte, _ int) {
						w.packet(buf, k*part+rng.IntN(part), flow.Inside, flow.ACK|flow.PSH)
					}))
				}
				b.ResetTimer()
				var all sync.WaitGroup
				for _, t := range streams {
					all.Go(func() { pump(b, w.nat, t, (b.N+workers-1)/workers) })
				}
				all.Wait()
				perPacket(b, b.N*batch)
			})
		}
		shared.close()
	}
}

// pump sends batches of a stream.
func pump(b *testing.B, nat *snat.NAT, t *traffic, batches int) {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	for range batches {
		t.copyIn(pkts)
		nat.OutboundBatch(0, pkts, verdicts)
	}
	for i, v := range verdicts {
		if v.Action != flow.Forward {
			b.Errorf("packet %d: %v %v", i, v.Action, v.Reason)
		}
	}
	sample(b, pkts)
}

// BenchmarkTeardown closes connections by FINs from both sides: three packets a flow, of which each
// has the floor of an established one.
func BenchmarkTeardown(b *testing.B) {
	for _, flows := range flowCounts(b) {
		b.Run(fmt.Sprintf("ip=4/flows=%d", flows), func(b *testing.B) {
			c, hosts := config(flows, false)
			w := build(b, c, hosts, flows, false)
			w.establish(b)
			f, t, pkts := newFloor(b, w.nat.Stats().Bytes), w.traffic(flow.Inside), buffers(batch)
			var elapsed, floorTime time.Duration
			done := 0
			for ; done < b.N; done += flows {
				if done > 0 {
					w.establish(b)
				}
				floorTime += took(3*flows, func() { f.batch(t, pkts) })
				elapsed += w.timedSpan(b, flow.Inside, flow.FIN|flow.ACK)
				elapsed += w.timedSpan(b, flow.Outside, flow.FIN|flow.ACK)
				elapsed += w.timedSpan(b, flow.Inside, flow.ACK)
				w.now = w.now.Add(c.IdleTimeout)
				w.nat.Advance(w.now, nil)
			}
			if n := w.nat.Stats().SessionsActive; n != 0 {
				b.Fatalf("%d sessions left", n)
			}
			perFlow(b, elapsed, done)
			b.ReportMetric(float64(elapsed)/float64(floorTime), "x-floor")
		})
	}
}

// timedSpan sends one segment on each flow, and returns how long the translator took.
func (w *world) timedSpan(b testing.TB, from flow.Side, flags uint8) (elapsed time.Duration) {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	for first := 0; first < w.flows; first += batch {
		n := min(batch, w.flows-first)
		for i := range n {
			pkts[i] = w.packet(pkts[i], first+i, from, flags)
		}
		start := time.Now()
		w.send(from, batch, pkts[:n], verdicts[:n])
		elapsed += time.Since(start)
		forwarded(b, verdicts[:n])
	}
	sample(b, pkts)
	return elapsed
}

// forwarded demands that all packets have passed.
func forwarded(b testing.TB, verdicts []flow.Verdict) {
	for i, v := range verdicts {
		if v.Action != flow.Forward {
			b.Fatalf("packet %d: %v %v", i, v.Action, v.Reason)
		}
	}
}

// sample decodes some packets with gopacket and proves their checksums.
func sample(b testing.TB, pkts [][]byte) {
	for i := 0; i < len(pkts); i += max(len(pkts)/4, 1) {
		p := pkts[i]
		if p[0]>>4 == 4 {
			p = p[:binary.BigEndian.Uint16(p[2:])]
		}
		pkttest.Check(b, p, pkttest.ChecksumsOK())
	}
}

// perPacket reports the time of so many packets.
func perPacket(b *testing.B, packets int) {
	ns := float64(b.Elapsed()) / float64(packets)
	b.ReportMetric(ns, "ns/op")
	b.ReportMetric(1e3/ns, "Mpps")
}
