package kubeproxy_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
)

// anyPacket makes a packet of a probe, whole or in two fragments, or an error about it, or
// of a protocol that no Service has.
func (w *world) anyPacket(p *probe) [][]byte {
	b := p.packet(p.src, p.dst)
	switch w.rnd.IntN(10) {
	case 0:
		if p.proto == kubeproxy.UDP && p.src.Addr().Is4() {
			return pkttest.Fragments(pkttest.UDP(p.src.String(), p.dst.String(), string(make([]byte, 100))), 64, uint32(w.rnd.IntN(9)))
		}
	case 1:
		typ := uint8(3)
		if p.src.Addr().Is6() {
			typ = 1
		}
		return [][]byte{pkttest.ICMP(p.dst.Addr().String(), p.src.Addr().String(), typ, 3, 0, b)}
	case 2:
		return [][]byte{pkttest.ICMPEcho(p.src.Addr().String(), p.dst.Addr().String(), 1, 1)}
	}
	return [][]byte{b}
}

// A batch is its packets one by one, of whatever kind they are: same bytes, same results.
func TestABatchIsItsPacketsOneByOne(t *testing.T) {
	for seed := range uint64(3) {
		one, many := newWorld(t, seed), newWorld(t, seed)
		for i := range 4 {
			one.setService(i)
			many.setService(i)
			one.setEndpoints(one.m.services[[]string{"svc0", "svc1", "svc2", "svc3"}[i]])
			many.setEndpoints(many.m.services[[]string{"svc0", "svc1", "svc2", "svc3"}[i]])
		}
		done, batch := 0, new(kubeproxy.Batch)
		for range pkttest.Operations(100, 300, 3_000) {
			one.m.sessions = nil // that probes are of
			for s := range one.p.Sessions() {
				one.m.sessions = append(one.m.sessions, &modelSession{Session: s})
			}
			batch.Begin(many.p)
			var alone [][]byte
			for range 1 + one.rnd.IntN(kubeproxy.BatchSize/2) {
				p := one.randomProbe()
				node, then := int32(p.node), int32(one.rnd.IntN(4))-1
				if one.rnd.IntN(9) == 0 {
					node = -1
				}
				for _, b := range one.anyPacket(p) {
					it := batch.Next()
					*it = kubeproxy.Item{Node: node, Then: then, From: p.from, Concern: many.p.Concerns(b)}
					require.Equal(t, wire.OK, wire.Parse(slices.Clone(b), &it.Packet))
					batch.Add()
					alone = append(alone, b)
				}
			}
			batch.Run(many.now)
			items := batch.Items()
			require.Len(t, items, len(alone))
			for i := range items {
				it, r := &items[i], kubeproxy.Result{Action: kubeproxy.Pass, Node: -1}
				var pkt wire.Packet
				require.Equal(t, wire.OK, wire.Parse(alone[i], &pkt))
				if it.Node >= 0 {
					r = one.p.Translate(one.now, int(it.Node), it.From, &pkt)
				}
				if r.Action == kubeproxy.Pass && it.Then >= 0 {
					r = one.p.Answer(one.now, int(it.Then), &pkt)
				}
				require.Equal(t, r, it.Result, "packet %d: %s", i, pkttest.String(alone[i]))
				require.Equal(t, alone[i], it.Packet.B)
				if r.Action != kubeproxy.Pass {
					done++
				}
			}
			one.now += 100_000_000
			many.now = one.now
		}
		assert.Greater(t, done, 1000)
		assert.Equal(t, one.p.Counts(), many.p.Counts())
		assert.Equal(t, slices.Collect(one.p.Sessions()), slices.Collect(many.p.Sessions()))
	}
}

func TestABatchAllocatesNothing(t *testing.T) {
	w := newWorld(t, 1)
	w.setService(0)
	w.setEndpoints(w.m.services["svc0"])
	var bufs [][]byte
	for range kubeproxy.BatchSize {
		p := w.randomProbe()
		bufs = append(bufs, p.packet(p.src, p.dst))
	}
	batch := new(kubeproxy.Batch)
	run := func() {
		batch.Begin(w.p)
		for i, b := range bufs {
			it := batch.Next()
			*it = kubeproxy.Item{Node: int32(i % 3), Then: int32((i + 1) % 3), Concern: w.p.Concerns(b)}
			wire.Parse(b, &it.Packet)
			batch.Add()
		}
		batch.Run(w.now)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n >= 1 && !raceEnabled {
		t.Errorf("%v allocations a batch, want 0", n)
	}
}
