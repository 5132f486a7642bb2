package snat_test

// Rows of the requirement sheet on which port a flow gets, and on what one
// subscriber may have.

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// carrier is a NAT of one instance with subscribers behind it, seen through one
// address family.
type carrier struct {
	*bed
	is6 bool
}

// carrierConfig has so many frontends of each family, with the same ports at each.
// Sockets are mapped for all destinations and share no port.
func carrierConfig(frontends int, ports ...snat.PortRange) snat.Config {
	one := snat.Behavior{Mapping: snat.EndpointIndependent, Share: snat.ShareNever}
	inst := snat.Instance{Name: "cgn", Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00::/64")}}
	for i := range frontends {
		for _, f := range []netip.Addr{addr("203.0.113.%d", 10+i), addr("2001:db8:f::%d", 10+i)} {
			for _, r := range ports {
				r.Frontend = f
				inst.Ports = append(inst.Ports, r)
			}
		}
	}
	return snat.Config{Dataplane: snat.Dataplane{Seed: 7, ICMP: snat.ICMP{Queries: true}}, Instances: []snat.Instance{inst}, Ports: &snat.Owned{TCP: one, UDP: one}}
}

// inBothFamilies runs a test for IPv4 and IPv6.
func inBothFamilies(t *testing.T, c snat.Config, test func(t *testing.T, w *carrier)) {
	t.Helper()
	for _, is6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "v4", true: "v6"}[is6], func(t *testing.T) { test(t, &carrier{newBed(t, c), is6}) })
	}
}

// host returns a socket of a subscriber.
func (w *carrier) host(i, port int) string {
	if w.is6 {
		return fmt.Sprintf("[fd00::%x]:%d", 4+i, port)
	}
	return fmt.Sprintf("10.0.%d.%d:%d", (4+i)>>8, (4+i)&255, port)
}

// remote returns a socket of a server.
func (w *carrier) remote(i int) string {
	if w.is6 {
		return fmt.Sprintf("[2001:db8:5::%x]:443", 1+i)
	}
	return fmt.Sprintf("198.51.100.%d:443", 1+i)
}

// asks sends an echo request and returns the source and identifier that it leaves
// with, or "drop" and the reason.
func (w *carrier) asks(i, id int) string {
	src, dst := netip.MustParseAddrPort(w.host(i, 1)).Addr(), netip.MustParseAddrPort(w.remote(0)).Addr()
	pkt := pkttest.ICMPEcho(src.String(), dst.String(), uint16(id), 1)
	v := w.Outbound(w.now, pkt)
	w.Check()
	if v.Action != flow.Forward {
		return "drop " + v.Reason.String()
	}
	at, l4 := pkt[12:16], 20
	if w.is6 {
		at, l4 = pkt[8:24], 40
	}
	a, _ := netip.AddrFromSlice(at)
	return netip.AddrPortFrom(a, uint16(pkt[l4+4])<<8|uint16(pkt[l4+5])).String()
}

// addrOf and portOf take an outside socket apart.
func addrOf(t *testing.T, s string) netip.Addr {
	t.Helper()
	return outsideOf(t, s).Addr()
}

func portOf(t *testing.T, s string) int {
	t.Helper()
	return int(outsideOf(t, s).Port())
}

func outsideOf(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	p, err := netip.ParseAddrPort(s)
	require.NoError(t, err, "no outside socket: %s", s)
	return p
}

// from is a range of ports at every frontend of a carrier.
func from(first uint16, count int) snat.PortRange { return snat.PortRange{First: first, Count: count} }

func TestNAT_U2_Pooling(t *testing.T) {
	t.Run("rfc", func(t *testing.T) {
		c := carrierConfig(2, from(1024, 512))
		ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Pooling: snat.Paired}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			seen := [2]map[netip.Addr]bool{{}, {}}
			for i := range 200 {
				for host := range seen {
					switch i % 3 {
					case 0:
						seen[host][addrOf(t, w.opens("udp", w.host(host, 5000+i), w.remote(i%7)))] = true
					case 1:
						seen[host][addrOf(t, w.opens("tcp", w.host(host, 5000+i), w.remote(i%7)))] = true
					default:
						seen[host][addrOf(t, w.asks(host, 5000+i))] = true
					}
				}
			}
			assert.Len(t, seen[0], 1)
			assert.Len(t, seen[1], 1)
			assert.NotEqual(t, seen[0], seen[1], "subscribers are spread")
		})
	})
	t.Run("azure", func(t *testing.T) {
		c := carrierConfig(2, from(1024, 8))
		ownedPorts(&c).TCP = snat.Behavior{}
		ownedPorts(&c).UDP = snat.Behavior{}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			first := addrOf(t, w.opens("tcp", w.host(0, 5000), w.remote(0)))
			for i := range 7 {
				require.Equal(t, first, addrOf(t, w.opens("tcp", w.host(0, 5001+i), w.remote(0))))
			}
			assert.NotEqual(t, first, addrOf(t, w.opens("tcp", w.host(0, 6000), w.remote(0))), "the next frontend, in the order of the ports")
		})
	})
}

func TestNAT_C2_SubscribersPairedEvenly(t *testing.T) {
	c := carrierConfig(3, from(1024, 64))
	ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Pooling: snat.Paired}
	t.Run("rfc", func(t *testing.T) {
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			home, count := map[int]netip.Addr{}, map[netip.Addr]int{}
			for round := range 4 {
				for host := range 12 {
					a := addrOf(t, []string{w.opens("udp", w.host(host, 700+round), w.remote(0)), w.opens("tcp", w.host(host, 700+round), w.remote(1)), w.asks(host, round)}[round%3])
					if round == 0 {
						home[host] = a
						count[a]++
					}
					assert.Equal(t, home[host], a)
				}
			}
			assert.Len(t, count, 3)
			for a, n := range count {
				assert.Equal(t, 4, n, "%v", a)
			}
			for _, row := range w.Subscribers() {
				assert.Contains(t, count, row.Frontend)
			}
			assert.Len(t, w.Subscribers(), 12)
			w.at(time.Hour)
			assert.Empty(t, w.Subscribers(), "nobody is remembered for nothing")
		})
	})
	t.Run("azure", func(t *testing.T) {
		ownedPorts(&c).Allocation = snat.Allocation{}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			assert.Equal(t, addrOf(t, w.opens("udp", w.host(0, 700), w.remote(0))), addrOf(t, w.opens("udp", w.host(1, 700), w.remote(0))), "the first frontend for all")
			assert.Empty(t, w.Subscribers())
		})
	})
}

func TestNAT_C3_AnyPool(t *testing.T) {
	c := carrierConfig(0)
	pool := []netip.Addr{addr("203.0.113.10"), addr("203.0.113.17"), addr("192.0.2.200"), addr("2001:db8:f::1"), addr("2001:db8:f::8"), addr("2001:db8:aaaa::1")}
	for i, a := range pool {
		c.Instances[0].Ports = append(c.Instances[0].Ports, snat.PortRange{Frontend: a, First: uint16(1024 + 512*i), Count: 16})
	}
	for _, pooling := range []snat.Pooling{snat.InOrder, snat.Paired, snat.PairedSoft, snat.Arbitrary} {
		ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Pooling: pooling}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			seen := map[string]bool{}
			for i := range 48 {
				s := w.opens("udp", w.host(i%3, 5000+i), w.remote(0))
				outsideOf(t, s)
				seen[s] = true
			}
			assert.Len(t, seen, 48, "all ports of all addresses are used")
			assert.Equal(t, "drop ports", w.opens("udp", w.host(0, 6000), w.remote(0)))
		})
	}
}

func TestNAT_U3_WithPortPreservation(t *testing.T) {
	c := carrierConfig(1, from(4096, 4096))
	ownedPorts(&c).Allocation.Choice = snat.PreservePort
	for name, b := range map[string]snat.Behavior{"mapped by socket": ownedOf(c).TCP, "mapped by flow": {}} {
		ownedPorts(&c).TCP = b
		ownedPorts(&c).UDP = b
		t.Run(name, func(t *testing.T) {
			inBothFamilies(t, c, func(t *testing.T, w *carrier) {
				for _, proto := range []string{"tcp", "udp"} {
					a, b := w.opens(proto, w.host(0, 5000), w.remote(0)), w.opens(proto, w.host(1, 5000), w.remote(0))
					assert.Equal(t, 5000, portOf(t, a))
					require.NotEqual(t, a, b)
					for i, outside := range []string{a, b} {
						reply := pkttest.UDP(w.remote(0), outside, "answer")
						if proto == "tcp" {
							reply = pkttest.TCP(w.remote(0), outside, pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1001))
						}
						assert.Equal(t, w.host(i, 5000), destination(w.in(reply)))
					}
				}
			})
		})
	}
}

func TestNAT_U3a_RangeClass(t *testing.T) {
	t.Run("rfc", func(t *testing.T) {
		for _, choice := range []snat.PortChoice{snat.LowestPort, snat.RandomPort, snat.PreservePort} {
			for _, class := range []snat.PortClass{snat.PreferClass, snat.RequireClass} {
				c := carrierConfig(1, from(1016, 8), from(1024, 8), from(4096, 8))
				ownedPorts(&c).Allocation = snat.Allocation{Choice: choice, Class: class}
				inBothFamilies(t, c, func(t *testing.T, w *carrier) {
					seen := map[string]bool{}
					for i := range 8 {
						s := w.opens("udp", w.host(i, 700), w.remote(0))
						assert.Less(t, portOf(t, s), 1024)
						seen[s] = true
						s = w.opens("udp", w.host(i, 5000), w.remote(0))
						assert.GreaterOrEqual(t, portOf(t, s), 1024)
						seen[s] = true
					}
					next := w.opens("udp", w.host(8, 700), w.remote(0))
					if class == snat.RequireClass {
						assert.Equal(t, "drop ports", next)
						return
					}
					assert.GreaterOrEqual(t, portOf(t, next), 1024)
					seen[next] = true
					assert.Len(t, seen, 17, "never shared")
				})
			}
		}
	})
	t.Run("azure", func(t *testing.T) {
		inBothFamilies(t, carrierConfig(1, from(1024, 8)), func(t *testing.T, w *carrier) {
			assert.Equal(t, 1024, portOf(t, w.opens("udp", w.host(0, 700), w.remote(0))))
		})
	})
}

func TestNAT_U4_Parity(t *testing.T) {
	for _, choice := range []snat.PortChoice{snat.LowestPort, snat.RandomPort, snat.PreservePort} {
		c := carrierConfig(1, from(1024, 1200))
		ownedPorts(&c).Allocation = snat.Allocation{Choice: choice, Parity: true}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			w.seldom = true
			for i := range 1000 {
				proto := []string{"udp", "tcp"}[i/2%2]
				assert.Equal(t, i&1, portOf(t, w.opens(proto, w.host(i/10, 20000+i), w.remote(0)))&1, "flow %d", i)
			}
			w.Check()
		})
	}
	t.Run("then the other parity", func(t *testing.T) {
		c := carrierConfig(1, from(1024, 8))
		ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Parity: true}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			for i := range 8 {
				assert.Equal(t, i >= 4, portOf(t, w.opens("udp", w.host(i, 5000), w.remote(0)))&1 == 1)
			}
			assert.Equal(t, "drop ports", w.opens("udp", w.host(9, 5000), w.remote(0)))
		})
	})
}

func TestNAT_P4_AnchorFull(t *testing.T) {
	for _, pooling := range []snat.Pooling{snat.Paired, snat.PairedSoft} {
		c := carrierConfig(2, from(1024, 8))
		ownedPorts(&c).Allocation.Pooling = pooling
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			for _, proto := range []string{"udp", "tcp"} {
				home := addrOf(t, w.opens(proto, w.host(0, 5000), w.remote(0)))
				for i := range 7 {
					require.Equal(t, home, addrOf(t, w.opens(proto, w.host(0, 5001+i), w.remote(0))))
				}
				next := w.opens(proto, w.host(0, 6000), w.remote(0))
				if pooling == snat.Paired {
					assert.Equal(t, "drop ports", next)
				} else {
					assert.NotEqual(t, home, addrOf(t, next))
				}
				assert.NotEqual(t, home, addrOf(t, w.opens(proto, w.host(1, 5000), w.remote(0))), "another subscriber is at home elsewhere")
			}
		})
	}
}

// Parity is off unless asked for. There are no explicit requests for a port.
func TestNAT_P8_ParityIsOff(t *testing.T) {
	inBothFamilies(t, carrierConfig(1, from(1024, 8)), func(t *testing.T, w *carrier) {
		assert.Equal(t, 1024, portOf(t, w.opens("udp", w.host(0, 5001), w.remote(0))))
		assert.Equal(t, 1025, portOf(t, w.opens("udp", w.host(0, 5003), w.remote(0))))
	})
}

// ranks lets flows of different hosts from one source port fill a pool, and
// returns where each port stood among those that were free and allowed before, as
// a fraction.
func ranks(t *testing.T, w *carrier, proto string, flows, sourcePort int, allowed func(port int) bool) (ranks []float64, ports []int) {
	t.Helper()
	var free []int
	for p := 1024; p < 1024+flows; p++ {
		if allowed(p) {
			free = append(free, p)
		}
	}
	for i := range len(free) {
		p := portOf(t, w.opens(proto, w.host(i, sourcePort), w.remote(0)))
		at, found := slices.BinarySearch(free, p)
		require.True(t, found, "port %d was not free or not allowed", p)
		ranks, ports = append(ranks, (float64(at)+0.5)/float64(len(free))), append(ports, p)
		free = slices.Delete(free, at, at+1)
	}
	return ranks, ports
}

// uniform demands that values from 0 to 1 are spread evenly.
func uniform(t *testing.T, values []float64, what string) {
	t.Helper()
	var buckets [16]float64
	for _, v := range values {
		buckets[int(v*16)]++
	}
	chi2, want := 0.0, float64(len(values))/16
	for _, n := range buckets {
		chi2 += (n - want) * (n - want) / want
	}
	assert.Less(t, chi2, 15+5*math.Sqrt(2*15), "%s: 15 degrees of freedom, five sigma", what)
}

// steps returns the fraction of ports that follow their predecessor by one.
func steps(ports []int) float64 {
	n := 0
	for i := 1; i < len(ports); i++ {
		if d := ports[i] - ports[i-1]; d == 1 || d == -1 {
			n++
		}
	}
	return float64(n) / float64(len(ports))
}

func TestNAT_P9_RandomWhereItMustChange(t *testing.T) {
	const ports = 4096
	for name, a := range map[string]snat.Allocation{
		"preserving": {Choice: snat.PreservePort},
		"parity":     {Choice: snat.RandomPort, Parity: true},
		"both":       {Choice: snat.PreservePort, Parity: true},
	} {
		c := carrierConfig(1, from(1024, ports))
		ownedPorts(&c).Allocation = a
		t.Run(name, func(t *testing.T) {
			inBothFamilies(t, c, func(t *testing.T, w *carrier) {
				w.seldom = true
				if a.Choice == snat.PreservePort { // the port that all want is taken first
					require.Equal(t, 3000, portOf(t, w.opens("udp", w.host(ports, 3000), w.remote(0))))
				}
				r, p := ranks(t, w, "udp", ports, 3000, func(p int) bool {
					return (!a.Parity || p&1 == 0) && (a.Choice != snat.PreservePort || p != 3000)
				})
				uniform(t, r, name)
				assert.Less(t, steps(p), 0.01)
			})
		})
	}
}

func TestNAT_C4_Quota(t *testing.T) {
	t.Run("rfc", func(t *testing.T) {
		for name, tc := range map[string]struct {
			limits snat.Limits
			protos []string
		}{
			"all":  {snat.Limits{Ports: 10}, []string{"udp", "tcp", "icmp"}},
			"TCP":  {snat.Limits{TCPPorts: 10}, []string{"tcp"}},
			"UDP":  {snat.Limits{UDPPorts: 10}, []string{"udp"}},
			"ICMP": {snat.Limits{QueryIDs: 10}, []string{"icmp"}},
		} {
			c := carrierConfig(1, from(1024, 64))
			ownedPorts(&c).Limits = tc.limits
			refusals := 0
			c.Hooks.PortRefused = func(_ flow.Time, _ uint32, _ uint8, reason flow.Reason) {
				assert.Equal(t, flow.ReasonQuota, reason)
				refusals++
			}
			t.Run(name, func(t *testing.T) {
				inBothFamilies(t, c, func(t *testing.T, w *carrier) {
					opens := func(host, i int) string {
						if proto := tc.protos[i%len(tc.protos)]; proto != "icmp" {
							return w.opens(proto, w.host(host, 5000+i), w.remote(0))
						}
						return w.asks(host, 5000+i)
					}
					for i := range 10 {
						outsideOf(t, opens(0, i))
					}
					refusals = 0
					assert.Equal(t, "drop quota", opens(0, 10))
					assert.Equal(t, 1, refusals, "the hook tells of it")
					outsideOf(t, opens(1, 0)) // another subscriber
					outsideOf(t, opens(0, 0)) // what there is goes on
					if tc.protos[0] == "udp" {
						outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(1))) // no further port
					}
					w.at(time.Hour)
					outsideOf(t, opens(0, 10))
				})
			})
		}
	})
	t.Run("rfc, rate", func(t *testing.T) {
		c := carrierConfig(1, from(1024, 64))
		ownedPorts(&c).Limits.SessionRate = 5
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			for i := range 5 {
				outsideOf(t, w.opens("udp", w.host(0, 5000+i), w.remote(0)))
			}
			assert.Equal(t, "drop rate", w.opens("udp", w.host(0, 5005), w.remote(0)))
			outsideOf(t, w.opens("udp", w.host(1, 5000), w.remote(0)))
			w.at(199 * time.Millisecond)
			assert.Equal(t, "drop rate", w.opens("tcp", w.host(0, 5005), w.remote(0)))
			w.at(200 * time.Millisecond)
			outsideOf(t, w.opens("tcp", w.host(0, 5005), w.remote(0)))
			assert.Equal(t, "drop rate", w.opens("udp", w.host(0, 5006), w.remote(0)))
			w.at(5 * time.Second)
			for i := range 5 {
				outsideOf(t, w.opens("udp", w.host(0, 6000+i), w.remote(0)))
			}
			assert.Equal(t, "drop rate", w.opens("udp", w.host(0, 6005), w.remote(0)), "no more than the burst is saved up")
		})
	})
	t.Run("azure", func(t *testing.T) {
		inBothFamilies(t, carrierConfig(1, from(1024, 64)), func(t *testing.T, w *carrier) {
			for i := range 64 {
				outsideOf(t, w.opens("udp", w.host(0, 5000+i), w.remote(0)))
			}
			assert.Equal(t, "drop ports", w.opens("udp", w.host(1, 5000), w.remote(0)), "one takes all")
		})
	})
}

func TestNAT_C5_SessionCap(t *testing.T) {
	c := carrierConfig(1, from(1024, 64))
	ownedPorts(&c).UDP.Filtering = snat.EndpointIndependentFiltering
	ownedPorts(&c).Limits.SessionsPerMapping = 4
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		outside := w.opens("udp", w.host(0, 5000), w.remote(0))
		for i := range 2 {
			require.Equal(t, outside, w.opens("udp", w.host(0, 5000), w.remote(1+i)))
		}
		in := func(i int) string { return destination(w.in(pkttest.UDP(w.remote(i), outside, "hello"))) }
		assert.Equal(t, w.host(0, 5000), in(100), "a session from outside counts too")
		assert.Equal(t, "drop session_cap", w.opens("udp", w.host(0, 5000), w.remote(4)))
		assert.Equal(t, "drop session_cap", in(101))
		assert.Equal(t, w.host(0, 5000), in(100))
		outsideOf(t, w.opens("udp", w.host(0, 5001), w.remote(4)))
	})
	ownedPorts(&c).Limits = snat.Limits{Sessions: 4}
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		outside := w.opens("udp", w.host(0, 5000), w.remote(0))
		outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(1)))
		outsideOf(t, w.opens("tcp", w.host(0, 5000), w.remote(1)))
		outsideOf(t, w.asks(0, 9))
		assert.Equal(t, "drop session_cap", w.opens("udp", w.host(0, 5000), w.remote(2)))
		assert.Equal(t, "drop session_cap", w.asks(0, 10))
		assert.Equal(t, "drop session_cap", destination(w.in(pkttest.UDP(w.remote(100), outside, "hello"))))
		outsideOf(t, w.opens("udp", w.host(1, 5000), w.remote(2)))
		assert.Equal(t, 2, len(w.Subscribers()))
		w.at(time.Hour)
		outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(2)))
	})
	ownedPorts(&c).Limits = snat.Limits{Subscribers: 2}
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(0)))
		outsideOf(t, w.opens("udp", w.host(1, 5000), w.remote(0)))
		assert.Equal(t, "drop subscribers", w.opens("udp", w.host(2, 5000), w.remote(0)))
		outsideOf(t, w.opens("udp", w.host(1, 5001), w.remote(0)))
		w.at(time.Hour)
		outsideOf(t, w.opens("udp", w.host(2, 5000), w.remote(0)))
	})
}

// onlyOnePort excludes all but the first of eight ports at each frontend.
func onlyOnePort(c snat.Config) snat.Config {
	for _, r := range c.Instances[0].Ports {
		for _, proto := range []snat.Protocol{snat.All, snat.Query} {
			ownedPorts(&c).Allocation.Exclude = append(ownedOf(c).Allocation.Exclude, snat.Exclusion{Frontend: r.Frontend, Protocol: proto, First: r.First + 1, Last: r.First + 7})
		}
	}
	return c
}

func TestNAT_C8_Quarantine(t *testing.T) {
	t.Run("rfc", func(t *testing.T) {
		c := onlyOnePort(carrierConfig(1, from(1024, 8)))
		ownedPorts(&c).Allocation.Quarantine.Hold = 120 * time.Second
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(0)))
			end := 240 * time.Second
			w.at(end)
			for _, host := range []int{0, 1} {
				w.lazily(end + 120*time.Second - time.Millisecond)
				assert.Equal(t, "drop ports", w.opens("udp", w.host(host, 5000), w.remote(1)), "to nobody, wherever to")
			}
			next, ok := w.NextDeadline()
			assert.True(t, ok && next <= flow.At(end+120*time.Second))
			w.lazily(end + 120*time.Second)
			outsideOf(t, w.opens("udp", w.host(1, 5000), w.remote(1)))
		})
	})
	t.Run("rfc, most ports held", func(t *testing.T) {
		c := carrierConfig(1, from(1024, 8))
		ownedPorts(&c).Allocation.Quarantine = snat.Quarantine{Hold: 120 * time.Second, MaxPorts: 3}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			for i := range 8 {
				w.at(time.Duration(i) * time.Second)
				outsideOf(t, w.opens("udp", w.host(i, 5000), w.remote(0)))
			}
			w.at(240*time.Second + 2*time.Second)
			assert.Equal(t, "drop ports", w.opens("udp", w.host(9, 5000), w.remote(0)), "three have ended and are held")
			w.at(240*time.Second + 3*time.Second)
			assert.Equal(t, 1024, portOf(t, w.opens("udp", w.host(9, 5000), w.remote(0))), "a fourth sets the first one free")
			assert.Equal(t, 3, w.pool(w.is6, snat.UDP).Held())
		})
	})
	t.Run("rfc, state lost", func(t *testing.T) {
		c := carrierConfig(1, from(1024, 8))
		ownedPorts(&c).Allocation.Quarantine.Hold = 120 * time.Second
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			w.HoldFree(flow.At(time.Second))
			w.Check()
			w.at(120 * time.Second)
			assert.Equal(t, "drop ports", w.opens("udp", w.host(0, 5000), w.remote(0)))
			assert.Equal(t, 8, w.pool(w.is6, snat.TCP).Held())
			w.at(121 * time.Second)
			outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(0)))
		})
	})
	t.Run("rfc, tracked TCP exempt", func(t *testing.T) {
		c := onlyOnePort(carrierConfig(1, from(1024, 8)))
		ownedPorts(&c).Allocation.Quarantine = snat.Quarantine{Hold: 120 * time.Second, ExemptTCP: true}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			outsideOf(t, w.opens("tcp", w.host(0, 5000), w.remote(0)))
			outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(0)))
			w.at(240 * time.Second)
			outsideOf(t, w.opens("tcp", w.host(1, 5000), w.remote(0)))
			assert.Equal(t, "drop ports", w.opens("udp", w.host(1, 5000), w.remote(0)))
		})
	})
	t.Run("azure", func(t *testing.T) {
		inBothFamilies(t, onlyOnePort(carrierConfig(1, from(1024, 8))), func(t *testing.T, w *carrier) {
			outsideOf(t, w.opens("udp", w.host(0, 5000), w.remote(0)))
			w.at(240 * time.Second)
			outsideOf(t, w.opens("udp", w.host(1, 5000), w.remote(0)))
		})
	})
}

func TestNAT_C11_NobodyIsEvicted(t *testing.T) {
	for name, full := range map[string]struct {
		limits snat.Limits
		reason flow.Reason
	}{
		"ports": {snat.Limits{}, flow.ReasonPorts}, "quota": {snat.Limits{Ports: 16}, flow.ReasonQuota}, "sessions": {snat.Limits{Sessions: 16}, flow.ReasonSessionCap},
	} {
		c := carrierConfig(1, from(1024, 16))
		ownedPorts(&c).Allocation.Choice = snat.RandomPort
		ownedPorts(&c).Limits = full.limits
		c.ICMP.Refusals = snat.RefuseHostUnreachable
		told := 0
		c.Hooks.PortRefused = func(_ flow.Time, _ uint32, _ uint8, reason flow.Reason) {
			assert.Equal(t, full.reason, reason)
			told++
		}
		t.Run(name, func(t *testing.T) {
			inBothFamilies(t, c, func(t *testing.T, w *carrier) {
				outside := map[int]string{}
				for i := range 16 {
					outside[i] = w.opens("tcp", w.host(0, 5000+i), w.remote(0))
					outsideOf(t, outside[i])
				}
				told = 0
				for i := range 100 {
					assert.Equal(t, "drop "+full.reason.String(), w.opens("tcp", w.host(0, 6000+i), w.remote(1)))
				}
				assert.Equal(t, 100, told)
				w.at(time.Millisecond)
				if answers := w.sent(); assert.NotEmpty(t, answers) {
					assert.Contains(t, answers[0], map[bool]string{false: "type=3 code=1", true: "type=1 code=3"}[w.is6])
				}
				for i := range 16 {
					assert.Equal(t, w.host(0, 5000+i), destination(w.remotely(w.remote(0), outside[i], "SA", 5000, 1001)))
				}
			})
		})
	}
}

// A port is refused if and only if none is left that the flow may have, for every
// way to choose among many ports.
func TestNAT_C13_Exact(t *testing.T) {
	pkttest.OneGoroutine(t)
	const ports = 2048
	for _, a := range []snat.Allocation{
		{Choice: snat.LowestPort, Pooling: snat.Arbitrary},
		{Choice: snat.RandomPort},
		{Choice: snat.RandomPort, Parity: true, Class: snat.PreferClass, Pooling: snat.Arbitrary},
		{Choice: snat.PreservePort, Parity: true},
		{Choice: snat.RandomPort, Pooling: snat.PairedSoft},
	} {
		for name, b := range map[string]snat.Behavior{"mapped by socket": ownedOf(carrierConfig(1)).UDP, "mapped by flow": {Mapping: snat.AddressAndPortDependent, Share: snat.SharePerDestination}} {
			c := carrierConfig(2, from(1016, 8), from(2048, ports/2-8))
			ownedPorts(&c).Allocation = a
			ownedPorts(&c).TCP = b
			ownedPorts(&c).UDP = b
			t.Run(fmt.Sprintf("%+v, %s", a, name), func(t *testing.T) {
				inBothFamilies(t, c, func(t *testing.T, w *carrier) {
					w.seldom = true
					seen := map[string]bool{}
					for i := range ports {
						s := w.opens("tcp", w.host(i%200, 1+i*31), w.remote(0))
						outsideOf(t, s)
						seen[s] = true
					}
					assert.Len(t, seen, ports)
					for i := range 50 {
						require.Equal(t, "drop ports", w.opens("tcp", w.host(i, 65000), w.remote(0)))
					}
					w.Check()
					// One is released: that one is found.
					var freed string
					for s := range seen {
						freed = s
						break
					}
					w.remotely(w.remote(0), freed, "RA", 1, 1001)
					w.at(16 * time.Second)
					assert.Equal(t, freed, w.opens("tcp", w.host(0, 65001), w.remote(0)))
				})
			})
		}
	}
}

func TestNAT_R1_Obfuscated(t *testing.T) {
	c := carrierConfig(1, from(1024, 4096))
	ownedPorts(&c).Allocation.Choice = snat.PreservePort
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		changed := map[int]bool{}
		for i := range 20 {
			p := portOf(t, w.opens("udp", w.host(i, 2000), w.remote(0)))
			assert.Equal(t, i == 0, p == 2000, "it changes only if it must")
			changed[p] = true
		}
		lo, hi := 65535, 0
		for p := range changed {
			lo, hi = min(lo, p), max(hi, p)
		}
		assert.Greater(t, hi-lo, 1024, "and not to a neighbor: %v", changed)
	})
	t.Run("azure", func(t *testing.T) {
		inBothFamilies(t, carrierConfig(1, from(1024, 4096)), func(t *testing.T, w *carrier) {
			for i := range 20 {
				assert.Equal(t, 1024+i, portOf(t, w.opens("udp", w.host(i, 2000), w.remote(0))), "the lowest, which is no secret")
			}
		})
	})
}

// Everything from 1,024 to 65,535 serves, except what is really used.
func TestNAT_R2_WidestRange(t *testing.T) {
	pkttest.OneGoroutine(t)
	c := carrierConfig(1, from(1024, 64512))
	for _, f := range []netip.Addr{addr("203.0.113.10"), addr("2001:db8:f::10")} {
		ownedPorts(&c).Allocation.Exclude = append(ownedOf(c).Allocation.Exclude, snat.Exclusion{Frontend: f, First: 8080}, snat.Exclusion{Frontend: f, First: 65535}, snat.Exclusion{Frontend: f, Protocol: snat.TCP, First: 30000, Last: 30009})
	}
	ownedPorts(&c).Allocation.Choice = snat.RandomPort
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		w.seldom = true
		seen := make([]bool, 65536)
		for i := range 64510 {
			seen[portOf(t, w.opens("udp", w.host(i%1000, 1+i/1000), w.remote(0)))] = true
		}
		n := 0
		for p, is := range seen {
			if is {
				n++
			}
			assert.Equal(t, p >= 1024 && p != 8080 && p != 65535, is, "port %d", p)
		}
		assert.Equal(t, 64510, n)
		assert.Equal(t, "drop ports", w.opens("udp", w.host(0, 10_000), w.remote(0)))
		for i := range 20_000 {
			if p := portOf(t, w.opens("tcp", w.host(i%1000, 1+i/1000), w.remote(0))); p >= 30000 && p < 30010 {
				t.Fatalf("port %d is excluded for TCP", p)
			}
		}
	})
}

func TestNAT_R3_ExcludedPorts(t *testing.T) {
	for _, choice := range []snat.PortChoice{snat.LowestPort, snat.RandomPort, snat.PreservePort} {
		c := carrierConfig(2, from(1024, 8))
		ownedPorts(&c).Allocation.Choice = choice
		free := c
		ownedPorts(&c).Allocation.Exclude = []snat.Exclusion{
			{Frontend: addr("203.0.113.10"), Protocol: snat.UDP, First: 1027}, {Frontend: addr("2001:db8:f::10"), Protocol: snat.UDP, First: 1027},
			{Frontend: addr("192.0.2.1"), First: 1}, // nobody's
		}
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			fill := func(proto string, n int) map[string]bool {
				seen := map[string]bool{}
				for i := range n {
					s := w.opens(proto, w.host(i, 1027), w.remote(0))
					outsideOf(t, s)
					seen[s] = true
				}
				assert.Equal(t, "drop ports", w.opens(proto, w.host(99, 1027), w.remote(0)))
				return seen
			}
			excluded := netip.AddrPortFrom(map[bool]netip.Addr{false: addr("203.0.113.10"), true: addr("2001:db8:f::10")}[w.is6], 1027).String()
			assert.NotContains(t, fill("udp", 15), excluded)
			assert.Contains(t, fill("tcp", 16), excluded, "the claim is on UDP")
			assert.Equal(t, snat.PoolStats{Is6: w.is6, Protocol: snat.UDP, Allocated: 16, Used: 16, PortUses: snat.PortUses{Active: 15, Excluded: 1}, Peak: 16}, w.pool(w.is6, snat.UDP))

			_, err := w.Reconfigure(w.now, free)
			require.NoError(t, err)
			w.Check()
			assert.Equal(t, excluded, w.opens("udp", w.host(50, 5000), w.remote(0)), "the claim is released")

			_, err = w.Reconfigure(w.now, c)
			require.NoError(t, err)
			w.Check()
			assert.Equal(t, excluded, w.opens("udp", w.host(50, 5000), w.remote(1)), "what is there goes on")
			w.at(time.Hour)
			assert.NotContains(t, fill("udp", 15), excluded)
		})
	}
}

// Ports are drawn evenly from those that are free, whatever is taken; the seed
// decides them, and one instance learns nothing from its ports about others.
func TestNAT_C15_Unpredictable(t *testing.T) {
	pkttest.OneGoroutine(t)
	const ports = 10_000
	c := carrierConfig(1, from(1024, ports))
	ownedPorts(&c).Allocation.Choice = snat.RandomPort
	ownedPorts(&c).TCP = snat.Behavior{}
	other := snat.Instance{Name: "other", Inside: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, Ports: []snat.PortRange{{Frontend: addr("203.0.113.99"), First: 1024, Count: ports}}}
	c.Instances = append(c.Instances, other)
	for _, proto := range []string{"udp", "tcp"} {
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			w.seldom = true
			r, p := ranks(t, w, proto, ports, 5000, func(int) bool { return true })
			for _, fill := range []int{10, 50, 75, 100} {
				uniform(t, r[(fill-10)*ports/100:fill*ports/100], fmt.Sprintf("up to %d %%", fill))
			}
			assert.Less(t, steps(p[:ports/2]), 0.01)

			again := &carrier{newBed(t, c), w.is6}
			again.seldom = true
			for i := range 1000 {
				if i%3 == 0 {
					again.opens(proto, fmt.Sprintf("10.9.0.1:%d", 5000+i), "198.51.100.1:443")
				}
				require.Equal(t, p[i], portOf(t, again.opens(proto, again.host(i, 5000), again.remote(0))), "the other instance draws from its own")
			}
			reseeded := c
			reseeded.Seed++
			different := &carrier{newBed(t, reseeded), w.is6}
			same := 0
			for i := range 100 {
				if p[i] == portOf(t, different.opens(proto, different.host(i, 5000), different.remote(0))) {
					same++
				}
			}
			assert.Less(t, same, 5, "another seed")
		})
	}
}

// How far one subscriber's ports lie apart does not tell how many others have got
// in between, as a counter that all share would; and the key, which is the seed,
// decides all of it.
func TestNAT_R5_NothingOfOthers(t *testing.T) {
	const ports, draws = 8192, 300
	c := carrierConfig(1, from(1024, ports))
	ownedPorts(&c).Allocation.Choice = snat.RandomPort
	for _, proto := range []string{"udp", "tcp"} {
		inBothFamilies(t, c, func(t *testing.T, w *carrier) {
			draw := func(c snat.Config, others int) (p []int) {
				b := &carrier{newBed(t, c), w.is6}
				b.seldom = true
				for i := range draws {
					p = append(p, portOf(t, b.opens(proto, b.host(0, 5000+i), b.remote(0))))
					for k := range others {
						b.opens(proto, b.host(1+k, 5000+i), b.remote(0))
					}
				}
				return p
			}
			for _, others := range []int{0, 1, 5} {
				apart, most := map[int]int{}, 0
				p := draw(c, others)
				for i := range p[1:] {
					d := (p[i+1] - p[i] + ports) % ports
					apart[d]++
					most = max(most, apart[d])
				}
				assert.Less(t, most, draws/50, "%d others", others)
			}
			other := c
			other.Seed++
			assert.Equal(t, draw(c, 1), draw(c, 1))
			assert.NotEqual(t, draw(c, 1), draw(other, 1))
		})
	}
}

// Parity and class hold together; that RTCP follows RTP by one is not required.
func TestNAT_R8_ParityAndClass(t *testing.T) {
	c := carrierConfig(1, from(512, 512), from(1024, 512))
	ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Parity: true, Class: snat.PreferClass}
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		apart := 0
		for i := range 100 {
			var p [2]int
			for k := range p {
				port := 600 + k
				if i&1 != 0 {
					port += 4400
				}
				p[k] = portOf(t, w.opens("udp", w.host(i, port), w.remote(0)))
				assert.Equal(t, port&1, p[k]&1)
				assert.Equal(t, port < 1024, p[k] < 1024)
			}
			if p[1] != p[0]+1 {
				apart++
			}
		}
		assert.NotZero(t, apart)
	})
}

func TestNAT_R9_LastFreedLastUsed(t *testing.T) {
	c := carrierConfig(1, from(1024, 8))
	ownedPorts(&c).Allocation.Quarantine.Hold = 120 * time.Second
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		order := []int{3, 1, 7, 0, 2, 6, 4, 5} // port 1024+i is freed as number order[i]
		for i := range order {
			require.Equal(t, 1024+i, portOf(t, w.opens("udp", w.host(i, 5000), w.remote(0))))
		}
		for k := range 8 {
			w.lazily(time.Duration(k) * time.Second)
			w.opens("udp", w.host(slices.Index(order, k), 5000), w.remote(0))
		}
		w.lazily(260 * time.Second) // nobody has looked since
		assert.Equal(t, "drop ports", w.opens("udp", w.host(99, 5000), w.remote(0)))
		assert.Equal(t, 8, w.pool(w.is6, snat.UDP).Held(), "held ports are not free")
		for k := range 8 {
			w.lazily(time.Duration(240+120+k) * time.Second)
			assert.Equal(t, 1024+slices.Index(order, k), portOf(t, w.opens("udp", w.host(200+k, 5000), w.remote(0))))
			assert.Equal(t, "drop ports", w.opens("udp", w.host(300+k, 5000), w.remote(0)))
		}
	})
}

// A port that has served its hold after FIN, RST or idleness rests from then on.
func TestNAT_R9_HoldByCause(t *testing.T) {
	for name, tc := range map[string]struct {
		close func(w *carrier, outside string)
		held  time.Duration
	}{
		"RST": {func(w *carrier, outside string) { w.remotely(w.remote(0), outside, "RA", 5001, 1001) }, 15 * time.Second},
		"FIN": {func(w *carrier, outside string) {
			w.locally(w.host(0, 5000), w.remote(0), "FA", 1001, 5001)
			w.remotely(w.remote(0), outside, "FA", 5001, 1002)
			w.locally(w.host(0, 5000), w.remote(0), "A", 1002, 5002)
		}, 60 * time.Second},
		"idle": {func(*carrier, string) {}, 240 * time.Second},
	} {
		c := onlyOnePort(carrierConfig(1, from(1024, 8)))
		ownedPorts(&c).Allocation.Quarantine.Hold = 30 * time.Second
		c.Timeouts.TCPTimeWait, c.Timeouts.TCPClosing = 60*time.Second, 60*time.Second
		t.Run(name, func(t *testing.T) {
			inBothFamilies(t, c, func(t *testing.T, w *carrier) {
				tc.close(w, w.dials(w.host(0, 5000), w.remote(0)))
				w.lazily(tc.held + 30*time.Second - time.Millisecond)
				assert.Equal(t, "drop ports", w.opens("tcp", w.host(1, 5000), w.remote(1)))
				w.lazily(tc.held + 30*time.Second)
				outsideOf(t, w.opens("tcp", w.host(1, 5000), w.remote(1)))
			})
		})
	}
}

func TestNAT_R11_QuotaFairness(t *testing.T) {
	c := carrierConfig(1, from(1024, 64))
	ownedPorts(&c).Allocation.Choice = snat.RandomPort
	ownedPorts(&c).Limits.UDPPorts = 16
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		outside := map[string]string{}
		for i := range 1000 { // one wants all
			if s := w.opens("udp", w.host(0, 5000+i), w.remote(0)); i < 16 {
				outsideOf(t, s)
				outside[w.host(0, 5000+i)] = s
			} else {
				require.Equal(t, "drop quota", s)
			}
		}
		for host := 1; host < 4; host++ {
			for i := range 16 {
				s := w.opens("udp", w.host(host, 5000+i), w.remote(0))
				outsideOf(t, s)
				outside[w.host(host, 5000+i)] = s
			}
		}
		assert.Equal(t, "drop ports", w.opens("udp", w.host(4, 5000), w.remote(0)))
		for inside, s := range outside {
			assert.Equal(t, inside, destination(w.in(pkttest.UDP(w.remote(0), s, "answer"))), "nobody has lost anything")
		}
	})
}

func TestNAT_R14_IndependentSpaces(t *testing.T) {
	c := carrierConfig(1, from(8, 8))
	ownedPorts(&c).Allocation.Choice = snat.PreservePort
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		seen := map[string]map[int]bool{"tcp": {}, "udp": {}, "icmp": {}}
		for i := range 8 {
			for _, proto := range []string{"tcp", "udp"} {
				seen[proto][portOf(t, w.opens(proto, w.host(0, 10+i), w.remote(0)))] = true
			}
			seen["icmp"][portOf(t, w.asks(0, i))] = true // identifier 0 is legal, but not among the ports
		}
		for proto, ports := range seen {
			assert.Len(t, ports, 8, proto)
			assert.NotContains(t, ports, 0, proto)
		}
		assert.Equal(t, "drop ports", w.opens("udp", w.host(1, 10), w.remote(0)))
		assert.Equal(t, "drop ports", w.asks(1, 10))
	})
}

func TestNAT_M72_SYNFlood(t *testing.T) {
	c := carrierConfig(1, from(1024, 1024))
	ownedPorts(&c).Limits = snat.Limits{TCPPorts: 100, SessionRate: 50}
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		w.seldom = true
		outside := w.dials(w.host(1, 5000), w.remote(0))
		drops := map[string]int{}
		for i := range 10_000 {
			w.lazily(time.Duration(i) * time.Millisecond)
			drops[source(w.out(pkttest.TCP(w.host(0, 1+i), w.remote(0), pkttest.SYN)))[:5]]++
		}
		s := w.Stats().Outbound
		assert.NotZero(t, s.Drops[flow.ReasonRate])
		assert.NotZero(t, s.Drops[flow.ReasonQuota])
		assert.Equal(t, uint64(drops["drop "]), s.Dropped)
		assert.Equal(t, s.Dropped, s.Drops[flow.ReasonRate]+s.Drops[flow.ReasonQuota])
		assert.LessOrEqual(t, 10_000-drops["drop "], 100, "no more than the quota")
		for i := range 50 {
			outsideOf(t, w.opens("tcp", w.host(1, 6000+i), w.remote(0)))
		}
		assert.Equal(t, w.host(1, 5000), destination(w.remotely(w.remote(0), outside, "A", 5001, 1001)))
		w.Check()
	})
}

// The behavior of mappings and filters does not change with the load, for random
// ports as for the lowest.
func TestNAT_U11_UnderLoad(t *testing.T) {
	c := carrierConfig(1, from(1024, 200))
	ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Parity: true, Class: snat.PreferClass}
	ownedPorts(&c).UDP.Filtering = snat.EndpointIndependentFiltering
	inBothFamilies(t, c, func(t *testing.T, w *carrier) {
		for used := range 200 {
			s := w.opens("udp", w.host(used, 5000), w.remote(0))
			if used != 0 && used != 100 && used < 198 {
				outsideOf(t, s)
				continue
			}
			assert.Equal(t, s, w.opens("udp", w.host(used, 5000), w.remote(1)), "mapping at %d ports", used)
			assert.Equal(t, w.host(used, 5000), destination(w.in(pkttest.UDP(w.remote(2), s, "hello"))), "filter at %d ports", used)
		}
		assert.Equal(t, "drop ports", w.opens("udp", w.host(200, 5000), w.remote(0)), "the only thing that may change")
	})
}

func TestAllocationConfiguration(t *testing.T) {
	c := carrierConfig(1, from(1024, 8))
	ownedPorts(&c).Allocation = snat.Allocation{
		Choice: 9, Class: 9, Pooling: 9, Quarantine: snat.Quarantine{Hold: -1, MaxPorts: -1},
		Exclude: []snat.Exclusion{{Frontend: addr("127.0.0.1"), Protocol: 9}, {Frontend: addr("192.0.2.1"), First: 9, Last: 8}},
	}
	ownedPorts(&c).Limits = snat.Limits{Ports: -1, TCPPorts: -1, UDPPorts: -1, QueryIDs: -1, Sessions: -1, SessionsPerMapping: -1, HalfOpen: 1025, SessionRate: 1_000_001, SessionBurst: -1, Subscribers: -1}
	err := c.Validate()
	require.Error(t, err)
	for _, want := range []string{
		"Allocation.Choice 9", "Allocation.Class 9", "Allocation.Pooling 9", "Allocation.Quarantine.Hold -1ns", "Allocation.Quarantine.MaxPorts -1",
		"Allocation.Exclude[0].Frontend 127.0.0.1", "Allocation.Exclude[0].Protocol 9", "Allocation.Exclude[0] 0..0", "Allocation.Exclude[1] 9..8",
		"Limits.Ports -1", "Limits.TCPPorts -1", "Limits.UDPPorts -1", "Limits.QueryIDs -1", "Limits.Sessions -1", "Limits.SessionsPerMapping -1", "Limits.HalfOpen 1025: out of range: 0..1024",
		"Limits.SessionRate 1000001", "Limits.SessionBurst -1", "Limits.Subscribers -1",
	} {
		assert.ErrorContains(t, err, want)
	}
	ownedPorts(&c).Allocation = snat.Allocation{Quarantine: snat.Quarantine{MaxPorts: 1}}
	ownedPorts(&c).Limits = snat.Limits{SessionBurst: 1}
	assert.ErrorContains(t, c.Validate(), "Allocation.Quarantine.MaxPorts 1")
	assert.ErrorContains(t, c.Validate(), "Limits.SessionBurst 1")

	shared := gateway(1024, 8)
	sharedPorts(&shared).Choice = snat.LowestPort
	assert.ErrorContains(t, shared.Validate(), "Ports.Choice 1")
}

// New flows cost no allocation, however ports are chosen and subscribers counted.
func TestPickingAllocatesNothing(t *testing.T) {
	c := carrierConfig(2, from(1024, 4096))
	ownedPorts(&c).Allocation = snat.Allocation{Choice: snat.RandomPort, Parity: true, Class: snat.PreferClass, Pooling: snat.PairedSoft}
	ownedPorts(&c).Limits = snat.Limits{Ports: 100_000, SessionRate: 1_000_000, Sessions: 100_000}
	w := &carrier{newBed(t, c), false}
	var pkts [][]byte
	for i := range 4200 {
		pkts = append(pkts, pkttest.UDP(w.host(i%16, 1+i), w.remote(0), "x"))
	}
	for _, p := range pkts[:200] {
		w.Outbound(0, p)
	}
	i := 200
	assert.Zero(t, testing.AllocsPerRun(3900, func() {
		w.Outbound(0, pkts[i])
		i++
	}))
}

// The choice is a random port, then a random one of those that a bitmap shows to
// be free: a port that follows a run of used ones is no likelier than others, as it
// is where a search goes upwards (RFC 6056 algorithm 1), and ports that remain are
// found, as tries alone may not (algorithm 2).
func TestNAT_R5_NoPortIsLikelier(t *testing.T) {
	c := carrierConfig(1, from(1024, 4096))
	ownedPorts(&c).Allocation.Choice = snat.RandomPort
	ownedPorts(&c).TCP = snat.Behavior{}
	for _, f := range []netip.Addr{addr("203.0.113.10"), addr("2001:db8:f::10")} {
		ownedPorts(&c).Allocation.Exclude = append(ownedOf(c).Allocation.Exclude, snat.Exclusion{Frontend: f, First: 1024, Last: 5119 - 64})
	}
	inBothFamilies(t, c, func(t *testing.T, w *carrier) { // where 98 % are used, both ways are taken
		w.seldom = true
		var count [64]float64
		const draws = 6400
		for i := range draws {
			to := netip.AddrPortFrom(netip.MustParseAddrPort(w.remote(0)).Addr(), uint16(1+i)).String()
			count[portOf(t, w.opens("tcp", w.host(0, 5000), to))-(5120-64)]++
		}
		chi2 := 0.0
		for _, n := range count {
			chi2 += (n - draws/64) * (n - draws/64) / (draws / 64)
		}
		assert.Less(t, chi2, 63+5*math.Sqrt(2*63), "63 degrees of freedom, five sigma")
		assert.InDelta(t, draws/64, count[0], 50, "the port behind the run, five sigma")
	})
}
