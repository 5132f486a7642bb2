package kubeproxy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
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

// places says at which nodes addresses of a world are.
type places struct{ *world }

func (w places) at(a netip.Addr) (node int, host bool) {
	for i, addrs := range w.m.nodes {
		if slices.Contains(addrs, a) {
			return i, true
		}
		if netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)).Contains(a) || netip.MustParsePrefix(fmt.Sprintf("fd00:2:%d::/48", i)).Contains(a) {
			return i, false
		}
	}
	return -1, false
}

func (w places) At4(a uint32) (int, bool)         { return w.at(flow.NetAddr4(a)) }
func (w places) At6(high, low uint64) (int, bool) { return w.at(flow.NetAddr6([2]uint64{high, low})) }

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
		done, left, batch := map[uint8]int{}, map[uint8]int{}, new(kubeproxy.Batch) // packets that are not passed, and that Leave takes, by IP version
		for range pkttest.Operations(100, 300, 3_000) {
			one.m.sessions = nil // that probes are of
			for s := range one.p.Sessions() {
				one.m.sessions = append(one.m.sessions, &modelSession{Session: s})
			}
			var alone [][]byte
			var asked []kubeproxy.Item
			var leaves []bool           // from where the cluster has it
			var verdicts []flow.Verdict // of those that arrive and have been checked
			for range 1 + one.rnd.IntN(kubeproxy.BatchSize/2) {
				p := one.randomProbe()
				ask := kubeproxy.Item{Node: int32(p.node), Then: int32(one.rnd.IntN(4)) - 1, From: one.originOf(p)}
				from, host := places{one}.at(p.src.Addr())
				leave := from >= 0 && one.rnd.IntN(4) > 0
				if leave {
					to, _ := places{one}.at(p.dst.Addr())
					ask = kubeproxy.Item{Node: int32(from), Then: -1, From: kubeproxy.FromPod}
					if to != from {
						ask.Then = int32(to)
					}
					if host {
						ask.From = kubeproxy.FromHost
					}
				} else if one.rnd.IntN(9) == 0 {
					ask.Node = -1
				}
				v := flow.Verdict{Action: flow.Bypass}
				if !leave && ask.From == kubeproxy.FromWire && ask.Node >= 0 {
					v = flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: uint32(ask.Node)}
					ask.Then = -1
				}
				for _, b := range one.anyPacket(p) {
					alone, asked, verdicts, leaves = append(alone, b), append(asked, ask), append(verdicts, v), append(leaves, leave)
				}
			}
			batch.Begin(many.p)
			together := make([][]byte, len(alone))
			for i, b := range alone {
				together[i] = slices.Clone(b)
			}
			for i := batch.Arrive(0, together, verdicts); i < len(alone); i = batch.Arrive(i+1, together, verdicts) {
				concern := many.p.Concerns(together[i])
				if leaves[i] {
					next, c := batch.Leave(i, together[:i+1], places{many})
					if next > i {
						left[alone[i][0]>>4]++
						continue
					}
					require.Equal(t, concern, c)
				}
				it := batch.Next()
				*it = asked[i]
				it.Concern, it.At = concern, uint8(i)
				require.Equal(t, wire.OK, wire.Parse(together[i], &it.Packet))
				batch.Add()
			}
			batch.Run(many.now)
			items := batch.Items()
			for i := range alone {
				was, r := asked[i], kubeproxy.Result{Action: kubeproxy.Pass, Node: -1}
				var pkt wire.Packet
				require.Equal(t, wire.OK, wire.Parse(alone[i], &pkt))
				if was.Node >= 0 {
					r = one.p.Translate(one.now, int(was.Node), was.From, &pkt)
				}
				if r.Action == kubeproxy.Pass && was.Then >= 0 {
					r = one.p.Answer(one.now, int(was.Then), &pkt)
				}
				got := kubeproxy.Result{Action: kubeproxy.Pass, Node: -1} // of what is of no concern
				if len(items) > 0 && int(items[0].At) == i {
					got = items[0].Result
					require.Equal(t, alone[i], items[0].Packet.B)
					items = items[1:]
				}
				require.Equal(t, r, got, "packet %d: %s", i, pkttest.String(alone[i]))
				require.Equal(t, alone[i], together[i])
				if r.Action != kubeproxy.Pass {
					done[alone[i][0]>>4]++
				}
			}
			require.Empty(t, items)
			one.now += 100_000_000
			many.now = one.now
		}
		assert.Greater(t, left[4], 200)
		assert.Greater(t, left[6], 200)
		assert.Greater(t, done[4], 400)
		assert.Greater(t, done[6], 400)
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
	if n := testing.AllocsPerRun(100, run); n >= 1 && !pkttest.Race {
		t.Errorf("%v allocations a batch, want 0", n)
	}
}
