package snat_test

// Fragments of many owners, and attacks with fragments that have names.

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// Instances in several shards share a frontend, and all send and receive datagrams
// in pieces at once, under the same identification where they may. A later
// fragment does not tell whose it is; it finds out.
func TestNAT_G9_ManyInstances(t *testing.T) {
	const instances = 12
	for name, h := range byFamily {
		t.Run(name, func(t *testing.T) {
			c := virtual(8)
			c.Instances, c.Shards = nil, 5
			vm := func(i int) string { return neighbor(h, 40+i) }
			for i := range instances {
				c.Instances = append(c.Instances, snat.Instance{
					Name: vm(i), Addrs: []netip.Addr{netip.MustParseAddr(vm(i))},
					Ports: []snat.PortRange{{Frontend: netip.MustParseAddr(h.f), First: uint16(1024 + 8*i), Count: 8}},
				})
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for round := range 20 {
				b := newBed(t, c)
				var out, in [][]byte
				for i := range instances {
					body := strings.Repeat(string(rune('a'+i)), 100)
					src, remote := socket(vm(i), 5000), socket(h.s, 53)
					require.Equal(t, socket(h.f, 1024+8*i), b.opens("udp", src, remote))
					out = append(out, pkttest.Fragments(pkttest.UDP(src, remote, body), 32, 7)...)
					in = append(in, pkttest.Fragments(pkttest.UDP(remote, socket(h.f, 1024+8*i), body), 32, uint32(i))...)
				}
				for from, pkts := range [][][]byte{out, in} {
					rng.Shuffle(len(pkts), func(i, j int) { pkts[i], pkts[j] = pkts[j], pkts[i] })
					datagrams := map[string][][]byte{}
					for _, f := range b.through(flow.Side(from), pkts...) {
						of := fmt.Sprint(idOf(f)) // all from one frontend: told apart by nothing else
						if from == int(flow.Outside) {
							of = fmt.Sprint(destinationOf(f))
						}
						datagrams[of] = append(datagrams[of], f)
					}
					require.Len(t, datagrams, instances, "round %d", round)
					for i := range instances {
						body := strings.Repeat(string(rune('a'+i)), 100)
						want := pkttest.UDP(socket(h.f, 1024+8*i), socket(h.s, 53), body)
						if from == int(flow.Outside) {
							want = pkttest.UDP(socket(h.s, 53), socket(vm(i), 5000), body)
						}
						found := false
						for _, frags := range datagrams {
							found = found || string(assemble(t, frags)) == string(anonymous(want))
						}
						require.True(t, found, "round %d from %v: datagram of instance %d", round, flow.Side(from), i)
					}
				}
				require.Equal(t, uint64(len(in)), b.Stats().Inbound.Forwarded)
			}
		})
	}
}

// neighbor is an inside host near that of h, such as 10.0.0.40 or fd00::40.
func neighbor(h realm, last int) string { return fmt.Sprint(strings.TrimSuffix(h.a, "4"), last) }

// destinationOf reads the destination address of a packet.
func destinationOf(b []byte) netip.Addr {
	at, size := 16, 4
	if b[0]>>4 == 6 {
		at, size = 24, 16
	}
	a, _ := netip.AddrFromSlice(b[at : at+size])
	return a
}

// Attacks by fragments, from hosts of the inside and at a rate, while one host
// talks in whole packets and in fragments: it loses nothing, memory stays within
// its limits, and when it is over nothing is left.
func TestNAT_G11_NamedAttacks(t *testing.T) {
	rounds := 3000
	if pkttest.Short() {
		rounds = 300
	}
	attacks := map[string]func(h realm, data []byte, i int) []byte{
		"orphans": func(h realm, data []byte, i int) []byte { return cut(h, uint32(i), data, 32, 64, true) },
		"colliding IDs": func(h realm, data []byte, i int) []byte {
			data[1] = byte(i)
			return cut(h, uint32(i&3), data, 0, 32, true)
		},
		"8 bytes apart": func(h realm, data []byte, i int) []byte {
			return cut(h, uint32(i/100), data, i%100*8, i%100*8+64, true)
		},
		"rose": func(h realm, data []byte, i int) []byte {
			return cut(h, uint32(i/2), data, i%2*65408, i%2*65408+32, i%2 == 0)
		},
		"teardrop":      func(h realm, data []byte, i int) []byte { return cut(h, uint32(i/2), data, i%2*24, i%2*8+40, i%2 == 0) },
		"ping of death": func(h realm, data []byte, i int) []byte { return cut(h, uint32(i), data, 65400, 65480, true) },
		"beyond the end": func(h realm, _ []byte, i int) []byte {
			return cut(h, uint32(i), make([]byte, 65600), 65528, 65560, false)
		},
		"tiny": func(h realm, data []byte, i int) []byte { return cut(h, uint32(i), data, 0, 8, true) },
		"churn": func(h realm, data []byte, i int) []byte {
			return cut(h, uint32(i/2), data, i%2*32, i%2*32+32, i%2 == 0)
		},
	}
	for name, h := range byFamily {
		for attack, packet := range attacks {
			t.Run(attack+" "+name, func(t *testing.T) {
				c := carrying()
				c.Fragments = snat.Fragments{Mode: snat.FragmentsVirtual, MaxDatagrams: 128, MaxPerSource: 16, MaxQueuedBytes: 64 << 10}
				b := newBed(t, c)
				b.seldom = true
				inside, remote := socket(h.a, 5000), socket(h.s, 53)
				b.opens("udp", inside, remote)
				before := b.Stats().Bytes
				whole := pkttest.UDP(inside, remote, "whole")
				victim := pkttest.Fragments(pkttest.UDP(inside, remote, strings.Repeat("v", 100)), 32, 1)
				data, attacker := datagramOf(h, 65504), h
				for i := range rounds {
					b.lazily(time.Duration(i) * 10 * time.Microsecond)
					attacker.a = neighbor(h, 50+i/7%4)
					if v := b.send(flow.Inside, packet(attacker, data, i)); v.Action == flow.Drop && v.Reason == flow.ReasonNone {
						t.Fatal("dropped for no reason")
					}
					if i%50 != 0 {
						continue
					}
					require.Equal(t, flow.Forward, b.send(flow.Inside, clone(whole)).Action)
					for k, f := range victim {
						f = clone(f)
						setID(f, uint32(0x8000+i))
						require.Equal(t, flow.Forward, b.send(flow.Inside, f).Action, "fragment %d after %d of the attack", k, i)
					}
					s := b.Stats()
					require.LessOrEqual(t, s.Fragments.Datagrams, 128)
					require.LessOrEqual(t, s.Fragments.QueuedBytes, 64<<10)
					require.LessOrEqual(t, s.Bytes-before, 128*(256+128*16)+64<<10*3/2+1<<20)
				}
				b.Check()
				b.at(time.Minute)
				s := b.Stats()
				assert.Zero(t, s.Fragments)
				n := uint64(rounds + 1 + (rounds+49)/50*(1+len(victim)))
				assert.Equal(t, n, s.Outbound.Forwarded+s.Outbound.Dropped, "each is accounted for")
			})
		}
	}
}

// setID gives a fragment another identification.
func setID(f []byte, id uint32) {
	if f[0]>>4 == 6 {
		wire.Fragment(f[40:]).SetID(id)
		return
	}
	wire.IPv4(f).SetID(uint16(id))
	wire.IPv4(f).ComputeChecksum()
}

// What a load balancer of Azure drops, whatever the order, another translator
// carries.
func TestNAT_U14_ByProduct(t *testing.T) {
	azure, err := preset.AzureLB(preset.Site{Instances: []snat.Instance{{Name: "vm-a", Addrs: []netip.Addr{addr(vmA), addr(vmA6)}}}, Frontends: []netip.Addr{addr(frontend), addr(frontend6)}})
	require.NoError(t, err)
	for name, c := range map[string]snat.Config{"rfc": virtual(8), "azure": azure} {
		for family, h := range byFamily {
			t.Run(name+"/"+family, func(t *testing.T) {
				frags := pkttest.Fragments(pkttest.UDP(socket(h.a, 5000), socket(h.s, 53), strings.Repeat("x", 60)), 32, 1)
				permutations(3, func(order []int) {
					b := newBed(t, c)
					left := b.through(flow.Inside, frags[order[0]], frags[order[1]], frags[order[2]])
					if name == "rfc" {
						require.Len(t, left, 3)
						return
					}
					require.Empty(t, left)
					require.Equal(t, uint64(3), b.Stats().Outbound.Drops[flow.ReasonFragment])
				})
			})
		}
	}
}
