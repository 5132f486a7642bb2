package snat_test

// Fragments that attack, and the limits that hold against them.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A flood of a million orphans, of many sources or of the very source that sends
// real datagrams, takes no more memory than allowed and delays neither whole
// packets nor fragments in order.
func TestNAT_U14a_FragmentFloodBounded(t *testing.T) {
	pkttest.OneGoroutine(t)
	orphans := 1_000_000
	if pkttest.Short() {
		orphans = 50_000
	}
	c := virtual(64)
	c.Fragments.MaxDatagrams, c.Fragments.MaxPerSource, c.Fragments.MaxQueuedBytes = 512, 64, 128<<10
	limit := 512*(256+128*16) + 128<<10*3/2 + 1<<20
	for _, spoofed := range []bool{false, true} {
		t.Run(fmt.Sprintf("spoofed=%v", spoofed), func(t *testing.T) {
			n, err := snat.New(c)
			require.NoError(t, err)
			defer n.Close()
			first := n.Outbound(0, pkttest.UDP(vmA+":5000", serverA+":53", "x"))
			require.True(t, first.New)
			before := n.Stats().Bytes
			orphan := pkttest.Fragments(pkttest.UDP(serverA+":53", frontend+":1024", strings.Repeat("x", 1000)), 320, 1)[1]
			whole := pkttest.UDP(serverA+":53", frontend+":1024", "x")
			frags := pkttest.Fragments(pkttest.UDP(serverA+":53", frontend+":1024", strings.Repeat("x", 60)), 32, 1)
			buf := make([]byte, 2048)
			in := func(now flow.Time, pkt []byte, id int) flow.Action {
				pkt = buf[:copy(buf, pkt)]
				wire.IPv4(pkt).SetID(uint16(id))
				wire.IPv4(pkt).ComputeChecksum()
				return n.Inbound(now, pkt).Action
			}
			for i := range orphans {
				now := flow.At(time.Duration(i) * time.Microsecond)
				pkt := buf[:copy(buf, orphan)]
				h := wire.IPv4(pkt)
				h.SetID(uint16(0x8000 | i))
				if spoofed {
					h.SetSrc(h.Src() + uint32(i))
				}
				h.ComputeChecksum()
				if v := n.Inbound(now, pkt); v.Action != flow.Queued && v.Reason != flow.ReasonFragLimit && v.Reason != flow.ReasonFragDuplicate {
					t.Fatalf("orphan %d: %v %v", i, v.Action, v.Reason)
				}
				if i%100 == 0 {
					for k, pkt := range append(frags, whole) {
						if a := in(now, pkt, i/100&0x7fff); a != flow.Forward {
							t.Fatalf("after %d orphans: packet %d: %v", i, k, a)
						}
					}
				}
				if i%10_000 == 0 {
					s := n.Stats()
					require.LessOrEqual(t, s.Bytes-before, limit)
					require.LessOrEqual(t, s.Fragments.QueuedBytes, 128<<10)
					require.LessOrEqual(t, s.Fragments.Datagrams, 512)
				}
			}
			n.Advance(flow.At(time.Minute), nil)
			s := n.Stats()
			assert.Zero(t, s.Fragments)
			assert.Equal(t, uint64(orphans), s.Inbound.Dropped, "each is accounted for")
			assert.NotZero(t, s.Inbound.Drops[flow.ReasonFragTimeout])
		})
	}
}

// Each limit refuses the fragment that exceeds it and leaves those before it
// alone.
func TestNAT_G3_EachLimit(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) { fragmentLimits(t, h) })
	}
}

func fragmentLimits(t *testing.T, h realm) {
	data := datagramOf(h, 2000)
	set := func(edit func(*snat.Fragments)) *bed {
		c := virtual(8)
		edit(&c.Fragments)
		return newBed(t, c)
	}
	t.Run("MaxPerSource", func(t *testing.T) {
		b := set(func(f *snat.Fragments) { f.MaxPerSource = 2 })
		for id := range uint32(3) {
			assert.Equal(t, "queued", b.out(cut(h, id, data, 32, 64, false)))
		}
		assert.Equal(t, uint64(1), b.Stats().Outbound.Drops[flow.ReasonFragLimit], "of 0, in whose place 2 is")
		for id := range uint32(3) {
			assert.Contains(t, b.out(cut(h, 10+id, data, 0, 32, true)), "UDP", "those that have their first count apart")
		}
		assert.Equal(t, "queued", b.out(cut(h, 10, data, 32, 64, false)), "12 is in its place, and this one in that of 1")
		assert.Len(t, b.through(flow.Inside, cut(h, 11, data, 32, 64, false), cut(h, 2, data, 0, 32, true)), 3, "complete ones do not count")
		assert.Equal(t, uint64(2), b.Stats().Outbound.Drops[flow.ReasonFragLimit])
	})
	t.Run("MaxDatagrams", func(t *testing.T) {
		b := set(func(f *snat.Fragments) { f.MaxDatagrams = 2 })
		assert.Equal(t, "queued", b.out(cut(h, 1, data, 32, 64, false)))
		assert.Equal(t, "queued", b.out(cut(h, 2, data, 32, 64, false)))
		assert.Equal(t, "queued", b.out(cut(h, 3, data, 32, 64, false)), "in place of 1")
		assert.Contains(t, b.out(cut(h, 4, data, 0, 32, true)), "UDP", "in place of 2")
		assert.Equal(t, uint64(2), b.Stats().Outbound.Drops[flow.ReasonFragLimit])
		assert.Contains(t, b.out(cut(h, 5, data, 0, 32, true)), "UDP", "in place of 3")
		assert.Equal(t, "drop frag_limit", b.out(cut(h, 6, data, 32, 64, false)), "4 and 5 have their first")
		assert.Contains(t, b.out(cut(h, 6, data, 0, 32, true)), "UDP", "in place of 4, which is not complete")
		assert.Contains(t, b.out(cut(h, 5, data, 32, 64, false)), "UDP")
		assert.Contains(t, b.out(cut(h, 6, data, 32, 64, false)), "UDP")
		assert.Equal(t, "queued", b.out(cut(h, 7, data, 32, 64, false)), "in place of 5, which is complete")
	})
	t.Run("MaxPerDatagram", func(t *testing.T) {
		b := set(func(f *snat.Fragments) { f.MaxPerDatagram = 3 })
		for i, want := range []string{"queued", "queued", "queued", "drop frag_limit"} {
			assert.Equal(t, want, b.out(cut(h, 1, data, 32+8*i, 40+8*i, true)))
		}
	})
	t.Run("MaxQueuedBytes", func(t *testing.T) {
		b := set(func(f *snat.Fragments) { f.MaxQueuedBytes = 64 << 10 })
		for id := range 64 {
			assert.Equal(t, "queued", b.out(cut(h, uint32(id), data, 32, 32+960, false)), "4 cells")
		}
		assert.Equal(t, 64<<10, b.Stats().Fragments.QueuedBytes)
		assert.Equal(t, "queued", b.out(cut(h, 64, data, 32, 64, false)), "in place of 0")
		assert.Equal(t, 64<<10-4*256+256, b.Stats().Fragments.QueuedBytes)
		for id := range uint32(64) {
			assert.Contains(t, b.out(cut(h, 1+id, data, 0, 32, true)), "UDP")
		}
		assert.Equal(t, "drop frag_limit", b.out(cut(h, 65, data, 32, 32+960, false)), "they have not left yet")
		b.at(0)
		assert.Equal(t, "queued", b.out(cut(h, 65, data, 32, 32+960, false)))
	})
	t.Run("longest datagram", func(t *testing.T) {
		b := set(func(*snat.Fragments) {})
		all := datagramOf(h, 65504)
		for at := 1480; at < len(all); at += 1480 {
			end := min(at+1480, len(all))
			require.Equal(t, "queued", b.out(cut(h, 1, all, at, end, end < len(all))))
		}
		assert.Len(t, b.through(flow.Inside, cut(h, 1, all, 0, 1480, true)), 45)
	})
}

// Fragments wait for their lifetime and not longer, whether or not somebody calls
// Advance.
func TestNAT_G1_Lifetime(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) { fragmentLifetime(t, h) })
	}
}

func fragmentLifetime(t *testing.T, h realm) {
	data := datagramOf(h, 96)
	for _, lazy := range []bool{false, true} {
		for _, late := range []time.Duration{-1, 0} {
			b := newBed(t, virtual(8))
			require.Equal(t, "queued", b.out(cut(h, 1, data, 32, 96, false)))
			at, ok := b.NextDeadline()
			require.True(t, ok)
			assert.Equal(t, flow.At(5*time.Second), at)
			if b.at(0); lazy {
				b.lazily(5*time.Second + late)
			} else {
				b.at(5*time.Second + late)
			}
			left := b.through(flow.Inside, cut(h, 1, data, 0, 32, true))
			assert.Len(t, left, 1-int(late), "%v %v", lazy, late)
			assert.Equal(t, uint64(1+late), b.Stats().Outbound.Drops[flow.ReasonFragTimeout])
		}
	}
}

// In a batch a fragment does not overtake the packet that opens its flow.
func TestFragmentsKeepTheirPlaceInBatches(t *testing.T) {
	b := newBed(t, virtual(8))
	data := strings.Repeat("x", 60)
	pkts := [][]byte{pkttest.UDP(vmA+":5000", serverA+":53", "x"), pkttest.TCP(vmA+":5000", serverA+":443", pkttest.SYN, pkttest.Seq(1000))}
	pkts = append(pkts, pkttest.Fragments(pkttest.UDP(vmA+":5000", serverA+":53", data), 32, 1)...)
	pkts = append(pkts, pkttest.Fragments(pkttest.TCP(vmA+":5000", serverA+":443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(1), pkttest.Payload(data)), 32, 2)...)
	pkts = append(pkts, pkttest.UDP(vmA+":5000", serverA+":53", "x"))
	v := make([]flow.Verdict, len(pkts))
	b.OutboundBatch(0, pkts, v)
	for i := range v {
		assert.Equal(t, flow.Forward, v[i].Action, "packet %d: %v", i, v[i].Reason)
		assert.Equal(t, i < 2, v[i].New, "packet %d", i)
	}
	assert.Equal(t, uint64(len(pkts)), b.Stats().Outbound.Forwarded)
}

// Fragments of datagrams whose first one has come allocate nothing, nor do
// orphans once the table has grown.
func TestNoAllocationsOfFragments(t *testing.T) {
	for name, h := range byFamily {
		b := newBed(t, virtual(8))
		data, buf, id, now := datagramOf(h, 1024), make([]byte, 2048), uint32(0), flow.Time(0)
		pkts := [][]byte{cut(h, 0, data, 0, 512, true), cut(h, 0, data, 512, 1024, false), cut(h, 1<<15, data, 512, 1024, false)}
		once := func() {
			id++
			now = now.Add(100 * time.Millisecond)
			for i, pkt := range pkts {
				pkt = buf[:copy(buf, pkt)]
				if pkt[0]>>4 == 6 {
					wire.Fragment(pkt[40:]).SetID(id + uint32(i/2)<<15)
				} else {
					wire.IPv4(pkt).SetID(uint16(id + uint32(i/2)<<15))
					wire.IPv4(pkt).ComputeChecksum()
				}
				if v := b.Outbound(now, pkt); v.Action == flow.Drop {
					t.Fatalf("%s: packet %d: %v", name, i, v.Reason)
				}
			}
		}
		assert.Zero(t, testing.AllocsPerRun(200, once), name)
	}
}

func TestFragmentsConfig(t *testing.T) {
	c := oneVM(8)
	c.Fragments = snat.Fragments{Mode: 7, Lifetime: time.Second, MaxDatagrams: -1, MaxPerSource: 5, MaxPerDatagram: 1, MaxQueuedBytes: 100}
	_, err := snat.New(c)
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	for _, want := range []string{
		"Fragments.Mode 7: out of range: 0..3", "Fragments.Lifetime 1s: out of range: 2s..2m",
		"Fragments.MaxDatagrams -1: out of range: 1..1048576", "Fragments.MaxPerDatagram 1: out of range: 2..8192",
		"Fragments.MaxQueuedBytes 100: out of range: 65536..1073741824",
	} {
		assert.ErrorContains(t, err, want)
	}
}

// Traffic can be read while first fragments find that a grace has ended.
func TestTrafficWhileGracesEnd(t *testing.T) {
	config := func(first uint16) snat.Config {
		c := virtual(8)
		c.CountTraffic, c.ReclaimGrace = true, time.Second
		for k := range c.Instances[0].Ports {
			c.Instances[0].Ports[k].First = first
		}
		return c
	}
	b := newBed(t, config(1024))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				b.Traffic()
			}
		}
	}()
	for i := range uint32(300) {
		now := flow.At(time.Duration(i) * time.Minute)
		_, err := b.Reconfigure(now, config(1024+8*uint16(i%2)))
		require.NoError(t, err)
		for k, at := range []flow.Time{now, now.Add(2 * time.Second)} {
			first := pkttest.Fragments(pkttest.UDP(vmA+":5000", serverA+":53", strings.Repeat("x", 60)), 32, 2*i+uint32(k))[0]
			require.Equal(t, flow.Forward, b.Outbound(at, first).Action)
		}
	}
	close(stop)
	<-stopped
}
