package snat_test

// Rows of the requirements about much that happens at once, and about a pool that
// changes meanwhile.

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
)

// The first packets of many sockets are sent by several goroutines at once, each
// of all sockets: one makes the flow, and all leave with its port.
func TestNAT_R12_CopiesOfFirstPackets(t *testing.T) {
	const workers, sockets = 6, 50
	eachRealm(t, func(t *testing.T, r realm) {
		for proto, packet := range r.conversations() {
			b := newBed(t, carrying())
			var wg sync.WaitGroup
			var left [workers][sockets]string
			var began [workers]int
			for w := range workers {
				wg.Go(func() {
					pkts, verdicts := make([][]byte, sockets), make([]flow.Verdict, sockets)
					for i := range pkts {
						pkts[i] = packet(r.a, 5000+i, r.s)
					}
					if w%2 == 0 {
						b.OutboundBatch(0, pkts, verdicts)
					} else {
						for i := range pkts {
							verdicts[i] = b.Outbound(0, pkts[i])
						}
					}
					for i, v := range verdicts {
						left[w][i] = fmt.Sprintf("%v %x", v.Action, pkts[i])
						if v.New {
							began[w]++
						}
					}
				})
			}
			wg.Wait()
			b.Check()
			all, different := 0, map[string]bool{}
			for w := range workers {
				all += began[w]
				assert.Equal(t, left[0], left[w], proto)
			}
			for _, l := range left[0] {
				different[l] = true
			}
			assert.Equal(t, sockets, all)
			assert.Len(t, different, sockets)
			assert.Equal(t, sockets, b.Stats().SessionsActive)
		}
	})
}

// A pool shrinks to nothing and grows again while flows live, in each family, TCP
// and UDP: nothing new begins without ports, what was there drains or is cut.
func TestNAT_R13_PoolToNothingAndBack(t *testing.T) {
	for name, h := range byFamily {
		for _, proto := range []string{"tcp", "udp"} {
			for _, grace := range []time.Duration{0, time.Minute} {
				t.Run(fmt.Sprintf("%s %s, grace %v", name, proto, grace), func(t *testing.T) {
					full := oneVM(8)
					full.ReclaimGrace = grace
					none := full
					none.Instances = []snat.Instance{full.Instances[0]}
					none.Instances[0].Ports = nil
					b := newBed(t, full)
					inside, remote := socket(h.a, 5000), socket(h.s, 443)
					outside := b.opens(proto, inside, remote)
					require.Equal(t, socket(h.f, firstPort), outside)
					b.becomes(none)
					for i := range 3 {
						assert.Equal(t, "drop no_outbound", b.opens(proto, socket(h.a, 6000+i), remote))
					}
					lives := map[bool]string{true: outside, false: "drop no_outbound"}[grace > 0]
					assert.Equal(t, lives, b.opens(proto, inside, remote))
					b.at(grace)
					assert.Equal(t, "drop no_outbound", b.opens(proto, inside, remote))
					assert.Zero(t, b.Stats().SessionsActive)
					b.becomes(full)
					assert.Equal(t, outside, b.opens(proto, inside, remote))
				})
			}
		}
	}
}

// Of a flood of SYNs from one instance another one feels nothing: not its ports,
// not its flows, not their time.
func TestNAT_K15_FloodBesideAnother(t *testing.T) {
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			c := oneVM(64)
			b := netip.MustParseAddr(neighbor(h, 5))
			c.Instances = append(c.Instances, snat.Instance{
				Name: "vm-b", Addrs: []netip.Addr{b},
				Ports: []snat.PortRange{{Frontend: netip.MustParseAddr(h.f), First: 2048, Count: 8}},
			})
			c.Shards = 1 // even under the same lock
			x := newBed(t, c)
			x.seldom = true
			remote := socket(h.s, 443)
			outside := x.dials(socket(b.String(), 5000), remote)
			for i := range 5000 {
				x.Outbound(0, pkttest.TCP(socket(h.a, 1+i), remote, pkttest.SYN))
			}
			x.Check()
			for i := range 7 {
				require.Equal(t, socket(h.f, 2049+i), x.opens("tcp", socket(b.String(), 5001+i), remote))
			}
			assert.Equal(t, socket(b.String(), 5000), destination(x.remotely(remote, outside, "A", 5001, 1001)))
			x.at(4*time.Minute - flow.Tick)
			assert.Equal(t, 1, x.Stats().SessionsActive)
		})
	}
}
