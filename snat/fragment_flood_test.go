package snat_test

// Floods of fragments share the table with everybody else, and lose their own.

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// quarrel is an instance that floods and one that does not, who admit all remotes and
// share a frontend of each family. The first comes first in every order.
func quarrel(limits snat.Fragments) snat.Config {
	c := virtual(8)
	c.Fragments = limits
	c.Fragments.Mode = snat.FragmentsVirtual
	open := snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
	ownedPorts(&c).TCP = open
	ownedPorts(&c).UDP = open
	for i, name := range []string{"evil", "good"} {
		inside := []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i+1)), netip.MustParsePrefix(fmt.Sprintf("fd0%d::/64", i+1))}
		inst := snat.Instance{Name: name, Inside: inside}
		for _, f := range []string{frontend, frontend6} {
			inst.Ports = append(inst.Ports, snat.PortRange{Frontend: netip.MustParseAddr(f), First: uint16(1024 + 1024*i), Count: 1024})
		}
		c.Instances = append(c.Instances[:i], inst)
	}
	return c
}

// floods are fragments that never make a whole datagram; i numbers them.
var floods = map[string]func(h realm, i int) (from flow.Side, pkt []byte){
	"first, inside, few sources": func(h realm, i int) (flow.Side, []byte) {
		return flow.Inside, piece(h, evil(h, i%16), h.s, 5000, uint32(i), 0)
	},
	"first, inside, spoofed": func(h realm, i int) (flow.Side, []byte) {
		return flow.Inside, piece(h, evil(h, i%50_000), h.s, 5000, uint32(i), 0)
	},
	"first, outside, spoofed": func(h realm, i int) (flow.Side, []byte) {
		return flow.Outside, piece(h, anybody(h, i), h.f, 1024, uint32(i), 0)
	},
	"first, outside, as the server": func(h realm, i int) (flow.Side, []byte) {
		return flow.Outside, piece(h, h.s, h.f, 1024, uint32(i), 0)
	},
	"later, inside": func(h realm, i int) (flow.Side, []byte) {
		return flow.Inside, piece(h, evil(h, i%50_000), h.s, 5000, uint32(i|0x4000), 32)
	},
	"later, outside, spoofed": func(h realm, i int) (flow.Side, []byte) {
		return flow.Outside, piece(h, anybody(h, i), h.f, 1024, uint32(i|0x4000), 32)
	},
	"later, outside, as the server": func(h realm, i int) (flow.Side, []byte) {
		return flow.Outside, piece(h, h.s, h.f, 1024, uint32(i|0x4000), 32)
	},
}

// piece is a fragment with an offset of a long datagram to a port.
func piece(h realm, src, dst string, port uint16, id uint32, at int) []byte {
	data := datagramOf(h, 96)
	binary.BigEndian.PutUint16(data[2:], port)
	return cut(realm{a: src, s: dst}, id, data, at, at+32, true)
}

// evil is a host of the instance that floods, anybody one of the Internet.
func evil(h realm, i int) string { return numbered(h, "10.1", "fd01::", i) }

func anybody(h realm, i int) string { return numbered(h, "48.0", "2001:db8:48::", i&0xffff) }

func numbered(h realm, v4, v6 string, i int) string {
	if strings.Contains(h.a, ":") {
		return fmt.Sprintf("%s%x", v6, i+1)
	}
	return fmt.Sprintf("%s.%d.%d", v4, i>>8, i&255)
}

// A thousand fragments a second that belong together with nothing, from whichever
// side and under whatever address: of another instance's host and of those that talk
// to it all fragments in order pass.
func TestNAT_U14a_FloodsHurtNobodyElse(t *testing.T) {
	pkttest.OneGoroutine(t)
	seconds := 12
	if pkttest.Short() {
		seconds = 6
	}
	for family, h := range byFamily {
		for name, flood := range floods {
			t.Run(name+" "+family, func(t *testing.T) {
				b := newBed(t, quarrel(snat.Fragments{}))
				b.seldom = true
				good := numbered(h, "10.2", "fd02::", 7)
				require.Equal(t, socket(h.f, 1024), b.opens("udp", socket(evil(h, 0), 5000), socket(h.s, 53)))
				require.Equal(t, socket(h.f, 2048), b.opens("udp", socket(good, 5000), socket(h.s, 53)))
				body := strings.Repeat("0123456789", 10)
				there := pkttest.Fragments(pkttest.UDP(socket(good, 5000), socket(h.s, 53), body), 40, 0)
				back := pkttest.Fragments(pkttest.UDP(socket(h.s, 53), socket(h.f, 2048), body), 40, 0)
				for ms := range seconds * 1000 {
					b.lazily(time.Duration(ms) * time.Millisecond)
					from, pkt := flood(h, ms)
					b.send(from, pkt)
					if ms%100 != 50 {
						continue
					}
					for side, frags := range [][][]byte{flow.Inside: there, flow.Outside: back} {
						for k, f := range frags {
							f = clone(f)
							setID(f, uint32(0x8000|ms/100))
							v := b.send(flow.Side(side), f)
							require.Equal(t, flow.Forward, v.Action, "after %d ms, fragment %d from %v: %v", ms, k, flow.Side(side), v.Reason)
						}
					}
				}
				b.Check()
				b.at(time.Hour)
				assert.Zero(t, b.Stats().Fragments)
			})
		}
	}
}

// Fragments that come before their first find room as well, among those of others:
// in the table and for their bytes.
func TestFloodsHurtNobodyOutOfOrder(t *testing.T) {
	for family, h := range byFamily {
		for name, flood := range floods {
			if strings.Contains(name, "later, outside") {
				continue // nobody can tell these from those of others before their first has come
			}
			t.Run(name+" "+family, func(t *testing.T) {
				b := newBed(t, quarrel(snat.Fragments{MaxDatagrams: 300, MaxQueuedBytes: 64 << 10}))
				b.seldom = true
				good := numbered(h, "10.2", "fd02::", 7)
				b.opens("udp", socket(evil(h, 0), 5000), socket(h.s, 53))
				frags := pkttest.Fragments(pkttest.UDP(socket(good, 5000), socket(h.s, 53), strings.Repeat("x", 100)), 40, 0)
				for i := range pkttest.Operations(600, 3000, 30_000) {
					from, pkt := flood(h, i)
					b.send(from, pkt)
					if i%10 == 0 {
						var order [][]byte
						for _, k := range []int{2, 1, 0} {
							order = append(order, clone(frags[k]))
							setID(order[len(order)-1], uint32(i))
						}
						require.Len(t, b.through(flow.Inside, order...), 3, "after %d", i)
					}
				}
				b.Check()
			})
		}
	}
}

// What becomes of fragments is the same whether or not somebody forgets those that
// are over: of a flood of many owners and small limits, at whatever times.
func TestFragmentsDoNotDependOnAdvance(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	for seed := range uint64(pkttest.Operations(10, 60, 600)) {
		rng := rand.New(rand.NewPCG(seed, 7))
		h := byFamily[[]string{"v4", "v6"}[seed%2]]
		c := quarrel(snat.Fragments{MaxDatagrams: 4 + rng.IntN(60), MaxPerSource: 1 + rng.IntN(4), MaxQueuedBytes: 64 << 10, MaxPerDatagram: 4, Lifetime: 2 * time.Second})
		often, never, sometimes := newBed(t, c), newBed(t, c), newBed(t, c)
		beds := []*bed{often, never, sometimes}
		kinds := make([]string, 0, len(floods))
		for name := range floods {
			kinds = append(kinds, name)
		}
		slices.Sort(kinds)
		for _, b := range beds {
			b.opens("udp", socket(evil(h, 0), 5000), socket(h.s, 53))
		}
		now := time.Duration(0)
		for range 1500 {
			if rng.IntN(3) == 0 {
				now += time.Duration(rng.IntN(400)) * time.Millisecond
			}
			from, pkt := floods[kinds[rng.IntN(len(kinds))]](h, rng.IntN(40))
			if rng.IntN(8) == 0 { // a long one, for the bytes
				body := strings.Repeat("x", 3000)
				from, pkt = flow.Inside, pkttest.Fragments(pkttest.UDP(socket(evil(h, rng.IntN(20)), 5000), socket(h.s, 53), body), 1400, 0x4000|rng.Uint32N(40))[1+rng.IntN(2)]
			}
			var want string
			for i, b := range beds {
				if b.lazily(now); i == 0 {
					b.Advance(b.now, nil)
				} else if i == 2 && rng.IntN(50) == 0 {
					b.AdvanceStep(b.now, nil)
				}
				p := clone(pkt)
				got := fmt.Sprintf("%v %x", b.send(from, p), p)
				if i == 0 {
					want = got
				}
				require.Equal(t, want, got, "seed %d at %v: bed %d", seed, now, i)
			}
		}
		for _, b := range beds {
			b.at(now + time.Hour)
			require.Equal(t, often.Stats().Outbound, b.Stats().Outbound, "seed %d", seed)
			require.Equal(t, often.Stats().Inbound, b.Stats().Inbound, "seed %d", seed)
		}
	}
}

// However many datagrams are over at once, a step of Advance and a fragment at the
// door forget a bounded number of them.
func TestFragmentsExpireInSteps(t *testing.T) {
	pkttest.OneGoroutine(t)
	const datagrams = 20_000
	h := byFamily["v4"]
	fill := func() *bed {
		b := newBed(t, quarrel(snat.Fragments{MaxDatagrams: 1 << 20, MaxPerSource: 1 << 20, MaxQueuedBytes: 1 << 30}))
		b.seldom = true
		for i := range datagrams {
			require.Equal(t, flow.Queued, b.send(flow.Inside, piece(h, evil(h, i%100), h.s, 5000, uint32(i), 32)).Action)
		}
		require.Equal(t, datagrams, b.Stats().Fragments.Datagrams)
		return b
	}
	left := func(b *bed) int { return b.Stats().Fragments.Datagrams }

	b := fill()
	steps := 0
	for before := datagrams; !b.AdvanceStep(flow.At(time.Minute), nil); before = left(b) {
		require.LessOrEqual(t, before-left(b), 2048, "one step")
		steps++
	}
	require.Zero(t, b.Stats().Fragments)
	require.GreaterOrEqual(t, steps, 4)

	b = fill()
	b.lazily(time.Minute)
	for i := range 10 {
		before := left(b)
		require.Equal(t, flow.Queued, b.send(flow.Inside, piece(h, evil(h, 200), h.s, 5000, uint32(i), 32)).Action)
		require.LessOrEqual(t, before-left(b), 9, "one fragment")
	}
	b.at(time.Minute)
	assert.Equal(t, 10, left(b))
}
