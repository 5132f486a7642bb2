package snat_test

// Rows of the requirement sheet on mapping, filtering and refreshing (RFC 4787,
// RFC 5382, RFC 7857); hairpin_test.go has those on hairpinning.

import (
	"fmt"
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

// rfc is what the RFCs recommend, and the most that they let in.
var rfc = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}

// subscribers is a configuration of one instance of which all hosts inside are
// subscribers, with the timers of RFC 4787 and RFC 5382.
func subscribers(b snat.Behavior, ports int) snat.Config {
	return snat.Config{
		Ports: &snat.Owned{TCP: b, UDP: b},
		Policy: snat.Policy{IdleTimeout: 300 * time.Second, Timeouts: flow.Timeouts{
			TCPOpening: 240 * time.Second, TCPEstablished: 7440 * time.Second, TCPHalfClosed: 7440 * time.Second,
			TCPClosing: 240 * time.Second, TCPTimeWait: 240 * time.Second, TCPReset: 240 * time.Second,
		}},
		Instances: []snat.Instance{{
			Name: "subscribers", Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
			Ports: []snat.PortRange{{Frontend: addr(frontend), First: firstPort, Count: ports}, {Frontend: addr(frontend6), First: firstPort, Count: ports}},
		}},
	}
}

// knocks sends a datagram or a SYN from outside and describes what became of it.
func (b *bed) knocks(proto, src, dst string) string {
	if proto == "udp" {
		return b.in(pkttest.UDP(src, dst, "hello"))
	}
	return b.in(pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(5000)))
}

// filters are all of them, from the widest.
var filters = []snat.Filtering{
	snat.EndpointIndependentFiltering, snat.AddressDependentFiltering,
	snat.AddressAndPortDependentFiltering, snat.PerConnectionFiltering,
}

// mappings are all of them, from the widest.
var mappings = []snat.Mapping{snat.EndpointIndependent, snat.AddressDependent, snat.AddressAndPortDependent, snat.PerConnection}

func TestNAT_U1_MappingReuse(t *testing.T) { mappingReuse(t, "udp") }
func TestNAT_T1_MappingReuse(t *testing.T) { mappingReuse(t, "tcp") }

// mappingReuse compares the outside ports of one socket towards three destinations.
func mappingReuse(t *testing.T, proto string) {
	ports := func(b *bed, w realm) []bool {
		p := []string{
			b.opens(proto, socket(w.a, 1000), socket(w.s, 53)),
			b.opens(proto, socket(w.a, 1000), socket(w.s, 54)),
			b.opens(proto, socket(w.a, 1000), socket(w.q, 53)),
		}
		require.NotContains(t, fmt.Sprint(p), "drop")
		return []bool{p[0] == p[1], p[0] == p[2]}
	}
	t.Run("rfc", func(t *testing.T) {
		for mapping, same := range map[snat.Mapping][]bool{
			snat.EndpointIndependent:     {true, true},
			snat.AddressDependent:        {true, false},
			snat.AddressAndPortDependent: {false, false},
			snat.PerConnection:           {false, false},
		} {
			for name, w := range byFamily {
				t.Run(fmt.Sprintf("%v, %s", mapping, name), func(t *testing.T) {
					b := newBed(t, subscribers(snat.Behavior{Mapping: mapping, Share: snat.ShareNever}, 8))
					assert.Equal(t, same, ports(b, w))
				})
			}
		}
	})
	t.Run("azure", func(t *testing.T) {
		for name, w := range byFamily {
			t.Run(name, func(t *testing.T) {
				b := newBed(t, oneVM(8))
				if ports(b, w); proto == "udp" {
					assert.Len(t, slices.Compact(outsides(b)), 1, "one port for a socket")
					return
				}
				// Each connection is mapped for itself: other sockets get the same port
				// towards other destinations.
				assert.Equal(t, socket(w.f, firstPort), b.opens(proto, socket(w.a, 1001), socket(w.q, 54)))
				assert.Equal(t, socket(w.f, firstPort+1), b.opens(proto, socket(w.a, 1001), socket(w.s, 53)))
			})
		}
	})
}

// outsides lists the outside sockets of all sessions, sorted.
func outsides(b *bed) (all []string) {
	for s := range b.Sessions() {
		all = append(all, s.Outside.String())
	}
	slices.Sort(all)
	return all
}

func TestNAT_U3_NoOverloading(t *testing.T) { noOverloading(t, "udp") }
func TestNAT_T7_NoOverloading(t *testing.T) { noOverloading(t, "tcp") }

// noOverloading fills a pool with sockets of the same port towards one destination.
func noOverloading(t *testing.T, proto string) {
	for name, w := range byFamily {
		for _, mapping := range mappings {
			for _, share := range []snat.PortShare{snat.SharePerAddress, snat.SharePerDestination, snat.ShareNever} {
				t.Run(fmt.Sprintf("%s/%v, %v", name, mapping, share), func(t *testing.T) {
					b := newBed(t, subscribers(snat.Behavior{Mapping: mapping, Share: share}, 8))
					hosts := map[string]string{}
					for i := range 8 {
						host := socket(strings.TrimRight(w.a, "4")+fmt.Sprint(10+i), 5000)
						f := b.opens(proto, host, socket(w.s, 53))
						require.NotContains(t, f, "drop")
						require.Empty(t, hosts[f], "shared with %s", hosts[f])
						hosts[f] = host
					}
					assert.Equal(t, "drop ports", b.opens(proto, socket(w.a, 5000), socket(w.s, 53)))
					for f, host := range hosts { // the replies reach the right host
						if proto == "udp" {
							assert.Equal(t, host, destination(b.knocks(proto, socket(w.s, 53), f)))
						} else {
							assert.Equal(t, host, destination(b.remotely(socket(w.s, 53), f, "SA", 5000, 1001)))
						}
					}
				})
			}
		}
	}
}

func TestNAT_U6_OutboundRefreshes(t *testing.T) {
	for name, w := range byFamily {
		for _, refresh := range []snat.UDPRefresh{snat.RefreshEither, snat.RefreshOutbound} {
			t.Run(fmt.Sprintf("%s/refresh=%d", name, refresh), func(t *testing.T) {
				c := subscribers(rfc, 8)
				c.UDPRefresh = refresh
				b := newBed(t, c)
				for _, at := range []time.Duration{0, 290, 580} {
					b.at(at * time.Second)
					require.Equal(t, socket(w.f, firstPort), b.opens("udp", socket(w.a, 1000), socket(w.s, 53)))
				}
				b.at(870 * time.Second)
				assert.Equal(t, socket(w.a, 1000), destination(b.knocks("udp", socket(w.s, 53), socket(w.f, firstPort))))
			})
		}
	}
}

func TestNAT_U6a_InboundRefreshIsASwitch(t *testing.T) {
	for name, w := range byFamily {
		for _, refresh := range []snat.UDPRefresh{snat.RefreshEither, snat.RefreshOutbound} {
			for _, filtering := range []snat.Filtering{snat.AddressAndPortDependentFiltering, snat.EndpointIndependentFiltering} {
				t.Run(fmt.Sprintf("%s/refresh=%d, %v", name, refresh, filtering), func(t *testing.T) {
					behavior := rfc
					behavior.Filtering = filtering
					c := subscribers(behavior, 8)
					c.UDPRefresh = refresh
					b := newBed(t, c)
					f := b.opens("udp", socket(w.a, 1000), socket(w.s, 53))
					for at := 100 * time.Second; at < 300*time.Second; at += 100 * time.Second {
						b.at(at)
						require.Equal(t, socket(w.a, 1000), destination(b.knocks("udp", socket(w.s, 53), f)))
					}
					b.lazily(300*time.Second - flow.Tick)
					require.Equal(t, socket(w.a, 1000), destination(b.knocks("udp", socket(w.s, 53), f)))
					b.lazily(300 * time.Second)
					want := socket(w.a, 1000)
					if refresh == snat.RefreshOutbound {
						want = "drop no_flow"
					}
					assert.Equal(t, want, destination(b.knocks("udp", socket(w.s, 53), f)))
				})
			}
		}
	}
}

// Nor do packets of remotes that have never been asked, though each of them has a
// session of its own: they add nothing to the life of the mapping.
func TestNAT_U6a_StrangersDoNotRefresh(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			c := subscribers(rfc, 8)
			c.UDPRefresh = snat.RefreshOutbound
			b := newBed(t, c)
			f := b.opens("udp", socket(w.a, 1000), socket(w.s, 53))
			for at := 50 * time.Second; at < 300*time.Second; at += 50 * time.Second {
				b.at(at)
				require.Equal(t, socket(w.a, 1000), destination(b.knocks("udp", socket(w.q, int(at/time.Second)), f)))
			}
			// What the inside answers is another matter.
			require.Equal(t, f, b.opens("udp", socket(w.a, 1000), socket(w.q, 250)))
			b.at(300 * time.Second)
			require.EqualValues(t, 1, b.Stats().SessionsActive)
			b.at(540 * time.Second)
			require.Equal(t, socket(w.a, 1000), destination(b.knocks("udp", socket(w.q, 1), f)), "the first stranger since, for one idle timeout")
			b.at(550 * time.Second)
			require.Equal(t, socket(w.a, 1000), destination(b.knocks("udp", socket(w.q, 2), f)))
			for at := 560 * time.Second; at < 840*time.Second; at += 40 * time.Second {
				b.at(at)
				b.knocks("udp", socket(w.q, 3), f)
			}
			b.at(840 * time.Second)
			assert.Equal(t, "drop no_flow", b.knocks("udp", socket(w.q, 3), f))
		})
	}
}

func TestNAT_U8_Filtering(t *testing.T) { filtering(t, "udp") }
func TestNAT_T3_Filtering(t *testing.T) {
	filtering(t, "tcp")
	t.Run("apart from UDP", func(t *testing.T) {
		c := subscribers(rfc, 8)
		ownedPorts(&c).TCP = snat.Behavior{}
		for _, w := range byFamily {
			b := newBed(t, c)
			b.opens("tcp", socket(w.a, 1000), socket(w.s, 53))
			b.opens("udp", socket(w.a, 1000), socket(w.s, 53))
			assert.Equal(t, "drop filtered", b.knocks("tcp", socket(w.q, 53), socket(w.f, firstPort)))
			assert.Equal(t, socket(w.a, 1000), destination(b.knocks("udp", socket(w.q, 53), socket(w.f, firstPort))))
		}
	})
}

// admitted is how many of three remotes a filter lets in: the one that was asked,
// another port of its address, another address.
var admitted = map[snat.Filtering]int{
	snat.EndpointIndependentFiltering: 3, snat.AddressDependentFiltering: 2,
	snat.AddressAndPortDependentFiltering: 1, snat.PerConnectionFiltering: 1,
}

func filtering(t *testing.T, proto string) {
	row := func(t *testing.T, what string, c snat.Config, admits int) {
		for name, w := range byFamily {
			t.Run(what+name, func(t *testing.T) { filterRow(t, newBed(t, c), w, proto, admits) })
		}
	}
	t.Run("rfc", func(t *testing.T) {
		for _, f := range filters {
			row(t, f.String()+", ", subscribers(snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: f, Share: snat.ShareNever}, 8), admitted[f])
		}
		row(t, "AddressDependentFiltering, shared ports, ", subscribers(snat.Behavior{
			Mapping: snat.EndpointIndependent, Filtering: snat.AddressDependentFiltering, Share: snat.SharePerAddress,
		}, 8), 2)
	})
	t.Run("azure", func(t *testing.T) { row(t, "", oneVM(8), 1) })
}

// filterRow sends from three remotes to a mapping that has a session with the
// first of them, and demands that the filter admits so many.
func filterRow(t *testing.T, b *bed, w realm, proto string, admits int) {
	t.Helper()
	f := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
	for i, remote := range []string{socket(w.s, 53), socket(w.s, 99), socket(w.q, 53)} {
		before, got := b.Stats(), ""
		if i == 0 && proto == "tcp" {
			got = b.remotely(remote, f, "SA", 5000, 1001)
		} else {
			got = b.knocks(proto, remote, f)
		}
		if i >= admits {
			require.Equal(t, "drop filtered", got)
			before.Inbound.Dropped++
			before.Inbound.Drops[flow.ReasonFiltered]++
			require.Equal(t, before, b.Stats(), "nothing else has changed")
			continue
		}
		require.Equal(t, remote, source(got))
		require.Equal(t, socket(w.a, 1000), destination(got))
		// And the inside answers it by the same port.
		if proto == "udp" {
			got = b.opens("udp", socket(w.a, 1000), remote)
		} else if i > 0 {
			got = source(b.locally(socket(w.a, 1000), remote, "SA", 1000, 5001))
			b.remotely(remote, f, "A", 5001, 1001)
		} else {
			got = source(b.locally(socket(w.a, 1000), remote, "A", 1001, 5001))
		}
		require.Equal(t, f, got)
		if proto == "tcp" {
			require.Equal(t, "established", stateOf(b, remote))
		}
	}
	assert.Equal(t, uint64(admits), b.Stats().SessionsCreated)
}

// stateOf returns the state of the only session with a remote.
func stateOf(b *bed, remote string) string {
	for s := range b.Sessions() {
		if s.Remote.String() == remote {
			return s.State
		}
	}
	return "none"
}

func TestNAT_U8a_EveryMappingWithEveryFilter(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		for _, m := range mappings {
			for _, f := range filters {
				t.Run(fmt.Sprintf("%v, %v", m, f), func(t *testing.T) {
					filterRow(t, newBed(t, subscribers(snat.Behavior{Mapping: m, Filtering: f, Share: snat.ShareNever}, 8)), w, proto, admitted[f])
				})
			}
		}
	})
}

// What comes in on a mapping belongs to it, whatever remote the mapping is for.
func TestBehavior_sessionsFromOutsideKeepTheirMapping(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		for _, m := range mappings {
			t.Run(m.String(), func(t *testing.T) {
				b := newBed(t, subscribers(snat.Behavior{Mapping: m, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}, 8))
				f := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
				require.Equal(t, socket(w.a, 1000), destination(b.knocks(proto, socket(w.q, 99), f)))
				reply := func() string {
					if proto == "udp" {
						return b.opens(proto, socket(w.a, 1000), socket(w.q, 99))
					}
					return source(b.locally(socket(w.a, 1000), socket(w.q, 99), "SA", 1000, 5001))
				}
				require.Equal(t, f, reply())
				// The session that made the mapping ends; the other one does not.
				b.at(200 * time.Second)
				require.Equal(t, f, reply())
				b.at(310 * time.Second)
				require.EqualValues(t, 1, b.Stats().SessionsActive)
				require.Equal(t, f, reply())
				again := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
				if m == snat.PerConnection {
					assert.NotEqual(t, f, again, "another connection, another mapping")
				} else {
					assert.Equal(t, f, again, "the mapping lives")
				}
				b.at(2000 * time.Second)
				assert.Equal(t, "drop no_flow", b.knocks(proto, socket(w.q, 99), f))
				for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
					assert.Equal(t, 8, b.pool(w.is6(), p).Free)
				}
			})
		}
	})
}

// A socket that already reaches a remote by one port is not reached by it through
// another one: its answers would leave by the wrong port.
func TestBehavior_oneSessionForSocketAndRemote(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		b := newBed(t, subscribers(snat.Behavior{Mapping: snat.AddressDependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}, 8))
		f := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
		require.NotEqual(t, f, b.opens(proto, socket(w.a, 1000), socket(w.q, 53)))
		assert.Equal(t, "drop mapping_conflict", b.knocks(proto, socket(w.q, 53), f))
		assert.Equal(t, socket(w.a, 1000), destination(b.knocks(proto, socket(w.q, 54), f)))
	})
}

// Only PerConnectionFiltering keeps the remote from opening a connection again.
func TestBehavior_reopenedByTheRemote(t *testing.T) {
	for name, w := range byFamily {
		for f, want := range map[snat.Filtering]string{snat.AddressAndPortDependentFiltering: socket(w.a, 1000), snat.PerConnectionFiltering: "drop filtered"} {
			t.Run(fmt.Sprintf("%s/%v", name, f), func(t *testing.T) {
				c := oneVM(8)
				ownedPorts(&c).TCP.Filtering = f
				b := newBed(t, c)
				a, s := socket(w.a, 1000), socket(w.s, 443)
				outside := b.dials(a, s)
				b.locally(a, s, "FA", 1001, 5001)
				b.remotely(s, outside, "FA", 5001, 1002)
				b.locally(a, s, "A", 1002, 5002)
				require.Equal(t, "time-wait", stateOf(b, s))
				assert.Equal(t, want, destination(b.remotely(s, outside, "S", 900_000, 0)))
				assert.Equal(t, outside, source(b.locally(a, s, "S", 800_000, 0)), "the inside may")
			})
		}
	}
}

func TestNAT_U11_BehaviorNeverChanges(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		for _, m := range mappings {
			for _, f := range []snat.Filtering{snat.EndpointIndependentFiltering, snat.AddressDependentFiltering, snat.AddressAndPortDependentFiltering} {
				t.Run(fmt.Sprintf("%v, %v", m, f), func(t *testing.T) {
					const ports = 64
					b := newBed(t, subscribers(snat.Behavior{Mapping: m, Filtering: f, Share: snat.ShareNever}, ports))
					used := 0
					fill := func(to int) {
						for ; used < to; used++ {
							require.NotContains(t, b.opens(proto, socket(w.c, 20_000+used), socket(w.q, 80)), "drop")
						}
					}
					class := func(host string, port int) string { // which of the sessions have the same port, and who gets in
						p := []string{b.opens(proto, socket(host, port), socket(w.s, 53))}
						if strings.HasPrefix(p[0], "drop") {
							return p[0]
						}
						used++
						for _, remote := range []string{socket(w.s, 54), socket(w.q, 53)} {
							o := b.opens(proto, socket(host, port), remote)
							if strings.HasPrefix(o, "drop") {
								return o
							}
							if !slices.Contains(p, o) {
								used++
							}
							p = append(p, o)
						}
						got := fmt.Sprint(p[0] == p[1], p[0] == p[2], p[1] == p[2])
						for _, remote := range []string{socket(w.s, 99), socket("198.51.100.99", 53)} {
							if w.is6() {
								remote = strings.Replace(remote, "198.51.100.99:53", "[2001:db8:5::99]:53", 1)
							}
							s := b.knocks(proto, remote, p[0])
							if !strings.HasPrefix(s, "drop") {
								require.Equal(t, socket(host, port), destination(s))
								s = "passes"
							}
							got += " " + s
						}
						return got
					}
					want := class(w.a, 1000)
					require.NotContains(t, want, "ports")
					for i, host := range []string{w.b, w.c} { // the same source port
						assert.Equal(t, want, class(host, 1000), i)
					}
					fill(ports / 2)
					assert.Equal(t, want, class(w.a, 2000))
					fill(ports - 3)
					assert.Equal(t, want, class(w.a, 3000))
					fill(ports)
					assert.Equal(t, "drop ports", class(w.a, 4000))
				})
			}
		}
	})
}

func TestNAT_T2_LegalSequences(t *testing.T) {
	type segment struct {
		opener   bool
		flags    string
		seq, ack uint32 // of the opener from 1000, of the other from 5000
		payload  string
		fields   []pkttest.Field
		state    string // afterwards; empty: as before
	}
	me, peer := true, false
	handshake := []segment{{me, "S", 1000, 0, "", nil, "syn-sent"}, {peer, "SA", 5000, 1001, "", nil, "syn-received"}, {me, "A", 1001, 5001, "", nil, "established"}}
	after := func(more ...segment) []segment { return append(slices.Clone(handshake), more...) }
	for name, sequence := range map[string][]segment{
		"handshake":        handshake,
		"data with SYN":    {{me, "S", 1000, 0, "hello", nil, "syn-sent"}, {peer, "SA", 5000, 1006, "", nil, "syn-received"}, {me, "A", 1006, 5001, "", nil, "established"}},
		"SYN repeated":     {{me, "S", 1000, 0, "", nil, ""}, {me, "S", 1000, 0, "", nil, "syn-sent"}, {peer, "SA", 5000, 1001, "", nil, ""}, {peer, "SA", 5000, 1001, "", nil, "syn-received"}, {me, "A", 1001, 5001, "", nil, "established"}},
		"ECN-setup SYN":    {{me, "SEC", 1000, 0, "", nil, "syn-sent"}, {peer, "SAE", 5000, 1001, "", nil, "syn-received"}, {me, "A", 1001, 5001, "", nil, "established"}},
		"half-close, data": after(segment{me, "FA", 1001, 5001, "", nil, "fin-initiator"}, segment{peer, "PA", 5001, 1002, "data", nil, ""}, segment{me, "A", 1002, 5005, "", nil, "fin-initiator"}),
		"close by the other": after(segment{peer, "FA", 5001, 1001, "", nil, "fin-responder"}, segment{me, "PA", 1001, 5002, "data", nil, ""},
			segment{peer, "A", 5002, 1005, "", nil, "fin-responder"}),
		"crossed FINs": after(segment{me, "FA", 1001, 5001, "", nil, ""}, segment{peer, "FA", 5001, 1001, "", nil, "fin-both"},
			segment{me, "A", 1002, 5002, "", nil, ""}, segment{peer, "A", 5002, 1002, "", nil, "time-wait"}),
		"FIN with data":     after(segment{me, "FPA", 1001, 5001, "bye", nil, "fin-initiator"}, segment{peer, "FA", 5001, 1005, "", nil, "fin-both"}, segment{me, "A", 1005, 5002, "", nil, "time-wait"}),
		"FIN repeated":      after(segment{me, "FA", 1001, 5001, "", nil, ""}, segment{me, "FA", 1001, 5001, "", nil, "fin-initiator"}),
		"RST":               after(segment{me, "R", 1001, 0, "", nil, "reset"}),
		"RST by the other":  after(segment{peer, "R", 5001, 0, "", nil, "reset"}),
		"keepalive":         after(segment{me, "A", 1000, 5001, "", nil, "established"}, segment{peer, "A", 5001, 1001, "", nil, "established"}, segment{peer, "A", 5000, 1001, "x", nil, "established"}, segment{me, "A", 1001, 5001, "", nil, "established"}),
		"zero window probe": after(segment{peer, "A", 5001, 1001, "", []pkttest.Field{pkttest.Window(0)}, ""}, segment{me, "A", 1001, 5001, "x", nil, "established"}, segment{peer, "A", 5001, 1001, "", []pkttest.Field{pkttest.Window(0)}, "established"}),
		"urgent":            after(segment{me, "AU", 1001, 5001, "!", []pkttest.Field{pkttest.Urgent(1)}, "established"}, segment{peer, "A", 5001, 1002, "", nil, "established"}),
	} {
		for family, w := range byFamily {
			for _, inside := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/opened inside=%v", name, family, inside), func(t *testing.T) {
					b := newBed(t, subscribers(rfc, 8))
					a, s := socket(w.a, 1000), socket(w.s, 443)
					f := socket(w.f, firstPort)
					if !inside {
						b.opens("tcp", a, socket(w.q, 80)) // that makes the mapping
					}
					for i, x := range sequence {
						fields := append([]pkttest.Field{pkttest.TCPFlags(x.flags), pkttest.Seq(x.seq), pkttest.Ack(x.ack), pkttest.Payload(x.payload)}, x.fields...)
						if x.opener == inside {
							pkt := pkttest.TCP(a, s, fields...)
							require.Equal(t, f, source(b.out(pkt)), "segment %d", i)
							pkttest.Check(t, pkt, append(fields, pkttest.Src(f), pkttest.Dst(s), pkttest.ChecksumsOK())...)
						} else {
							pkt := pkttest.TCP(s, f, fields...)
							require.Equal(t, a, destination(b.in(pkt)), "segment %d", i)
							pkttest.Check(t, pkt, append(fields, pkttest.Src(s), pkttest.Dst(a), pkttest.ChecksumsOK())...)
						}
						if x.state != "" {
							require.Equal(t, x.state, stateOf(b, s), "segment %d", i)
						}
					}
				})
			}
		}
	}
}

func TestNAT_P3_PortOfTwoHosts(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		c := subscribers(snat.Behavior{Mapping: snat.AddressAndPortDependent, Share: snat.SharePerDestination}, 8)
		b := newBed(t, c)
		for i := range 7 { // all but one port are taken for both destinations
			b.opens(proto, socket(w.c, 100+i), socket(w.s, 53))
			b.opens(proto, socket(w.c, 200+i), socket(w.q, 53))
		}
		f := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
		assert.Equal(t, socket(w.f, firstPort+7), f)
		assert.Equal(t, f, b.opens(proto, socket(w.b, 1000), socket(w.q, 53)))
		assert.Equal(t, "drop ports", b.opens(proto, socket(w.b, 1000), socket(w.s, 53)))
		reply := func(remote string) string {
			if proto == "udp" {
				return destination(b.knocks(proto, remote, f))
			}
			return destination(b.remotely(remote, f, "SA", 5000, 1001))
		}
		assert.Equal(t, socket(w.a, 1000), reply(socket(w.s, 53)))
		assert.Equal(t, socket(w.b, 1000), reply(socket(w.q, 53)))
	})
}

func TestNAT_P5_MappingPerProtocol(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, subscribers(rfc, 8))
			b.opens("udp", socket(w.c, 1), socket(w.s, 53))
			assert.Equal(t, socket(w.f, firstPort+1), b.opens("udp", socket(w.a, 1000), socket(w.s, 53)))
			assert.Equal(t, socket(w.f, firstPort), b.opens("tcp", socket(w.a, 1000), socket(w.s, 53)), "ports of its own")
			b.at(300 * time.Second)
			assert.Equal(t, socket(w.f, firstPort), b.opens("udp", socket(w.a, 1000), socket(w.s, 53)), "and a life of its own")
		})
	}
}

func TestNAT_P6_FilterPerProtocol(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, subscribers(rfc, 8))
			f := b.opens("tcp", socket(w.a, 1000), socket(w.s, 53))
			assert.Equal(t, "drop no_flow", b.knocks("udp", socket(w.s, 53), f))
			assert.Equal(t, socket(w.a, 1000), destination(b.knocks("tcp", socket(w.q, 53), f)))
		})
	}
}

func TestNAT_P7_RefusedDoNotRefresh(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		for _, f := range []snat.Filtering{snat.AddressDependentFiltering, snat.AddressAndPortDependentFiltering} {
			b := newBed(t, subscribers(snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: f, Share: snat.ShareNever}, 8))
			outside := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
			end := 300 * time.Second
			if proto == "tcp" {
				end = 240 * time.Second
			}
			for at := 100 * time.Second; at < end; at += 100 * time.Second {
				b.at(at)
				require.Equal(t, "drop filtered", b.knocks(proto, socket(w.q, 53), outside))
			}
			b.at(end - flow.Tick)
			require.EqualValues(t, 1, b.Stats().SessionsActive)
			b.at(end)
			assert.Zero(t, b.Stats().SessionsActive)
			assert.Equal(t, "drop no_flow", b.knocks(proto, socket(w.q, 53), outside))
		}
	})
}

func TestNAT_P7a_RefusalsDoNotRefresh(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name+"/RST of an established connection", func(t *testing.T) {
			b := newBed(t, subscribers(rfc, 8))
			a, s := socket(w.a, 1000), socket(w.s, 443)
			f := b.dials(a, s)
			for at := 1000 * time.Second; at < 7440*time.Second; at += 1000 * time.Second { // in answer to what does not fit
				b.at(at)
				b.remotely(s, f, "A", 3_000_000_000, 1001)
				require.Equal(t, f, source(b.locally(a, s, "R", 3_000_000_000, 0)))
			}
			b.at(7440*time.Second - flow.Tick)
			require.EqualValues(t, 1, b.Stats().SessionsActive)
			b.at(7440 * time.Second)
			assert.Zero(t, b.Stats().SessionsActive)
		})
		t.Run(name+"/RST to a connection from outside", func(t *testing.T) {
			b := newBed(t, subscribers(rfc, 8))
			a, s := socket(w.a, 1000), socket(w.s, 443)
			f := b.opens("tcp", a, s)
			for at := 100 * time.Second; at < 240*time.Second; at += 100 * time.Second {
				b.at(at)
				require.Equal(t, a, destination(b.knocks("tcp", socket(w.q, 99), f)))
				require.Equal(t, f, source(b.locally(a, socket(w.q, 99), "RA", 0, 5001)))
				b.at(at)
				require.EqualValues(t, 1, b.Stats().SessionsActive, "the refused one is gone")
			}
			b.at(240 * time.Second)
			assert.Equal(t, "drop no_flow", b.knocks("tcp", socket(w.q, 99), f))
		})
		t.Run(name+"/SYN that nobody answers", func(t *testing.T) {
			b := newBed(t, subscribers(rfc, 8))
			f := b.opens("tcp", socket(w.a, 1000), socket(w.s, 443))
			for at := time.Duration(0); at < 240*time.Second; at += 40 * time.Second {
				b.at(at)
				require.Equal(t, socket(w.a, 1000), destination(b.knocks("tcp", socket(w.q, 99), f)))
				require.Equal(t, socket(w.a, 1000), destination(b.knocks("tcp", socket(w.q, 100+int(at/time.Second)), f)))
			}
			b.at(240 * time.Second)
			assert.Zero(t, b.Stats().SessionsActive)
		})
		t.Run(name+"/ICMP error", func(t *testing.T) {
			c := subscribers(rfc, 8)
			c.ICMP.Errors, c.UDPRefresh = true, snat.RefreshOutbound
			b := newBed(t, c)
			a, s := socket(w.a, 1000), socket(w.s, 53)
			f := b.opens("udp", a, s)
			for at := 100 * time.Second; at < 300*time.Second; at += 100 * time.Second {
				b.at(at)
				delivered := pkttest.UDP(s, f, "hello")
				require.Equal(t, a, destination(b.in(delivered)))
				require.NotContains(t, b.out(pkttest.ICMP(w.a, w.s, unreachableType(w), 3, 0, delivered)), "drop")
			}
			b.at(300*time.Second - flow.Tick)
			require.EqualValues(t, 1, b.Stats().SessionsActive)
			b.at(300 * time.Second)
			assert.Zero(t, b.Stats().SessionsActive)
		})
	}
}

// unreachableType is the type of Destination Unreachable.
func unreachableType(w realm) uint8 {
	if w.is6() {
		return 1
	}
	return 3
}

func TestNAT_R7_NeverTheSameTuple(t *testing.T) {
	for i, m := range mappings {
		for j, f := range filters {
			for _, share := range []snat.PortShare{snat.SharePerAddress, snat.SharePerDestination, snat.ShareNever} {
				behavior := snat.Behavior{Mapping: m, Filtering: f, Share: share}
				c := subscribers(behavior, 16)
				if c.Validate() != nil {
					continue
				}
				b := newBed(t, c)
				b.seldom = true
				s := &script{randomScript(uint64(100*i+10*j)+uint64(share), 6000)}
				for !s.done() {
					w := byFamily[pick(s, "v4", "v6")]
					proto := pick(s, "udp", "tcp")
					inside := socket(pick(s, w.a, w.b, w.c), 1000+s.next(4))
					remote := socket(pick(s, w.s, w.q), 50+s.next(4))
					if s.next(2) == 0 {
						b.opens(proto, inside, remote)
					} else {
						b.knocks(proto, remote, socket(w.f, firstPort+s.next(16)))
					}
					if s.next(16) == 0 {
						b.at(b.now.Duration() + time.Duration(s.next(200))*time.Second)
					}
				}
				seen, sockets := map[string]bool{}, map[string]string{}
				for s := range b.Sessions() {
					k := fmt.Sprint(s.Proto, s.Outside, s.Remote)
					require.False(t, seen[k], "%+v: two sessions are %s", behavior, k)
					seen[k] = true
					if owner := fmt.Sprint(s.Proto, s.Outside); share == snat.ShareNever {
						require.Contains(t, []string{"", s.Inside.String()}, sockets[owner], "%+v", behavior)
						sockets[owner] = s.Inside.String()
					}
				}
				require.NotEmpty(t, seen)
			}
		}
	}
}

// The mapping of an ICMP identifier goes with its last session.
func TestNAT_P11_QueryMappingEnds(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			c := subscribers(rfc, 8)
			c.ICMP.Queries = true
			b := newBed(t, c)
			b.out(pkttest.ICMPEcho(w.a, w.s, 7, 1))
			b.at(30 * time.Second)
			b.out(pkttest.ICMPEcho(w.a, w.q, 7, 1))
			require.Equal(t, 7, b.pool(w.is6(), snat.Query).Free)
			b.at(60 * time.Second)
			require.Equal(t, 7, b.pool(w.is6(), snat.Query).Free, "the second session keeps it")
			b.at(90 * time.Second)
			assert.Equal(t, 8, b.pool(w.is6(), snat.Query).Free)
			pkt := pkttest.ICMPEcho(w.b, w.s, 9, 1)
			b.out(pkt)
			pkttest.Check(t, pkt, pkttest.EchoID(firstPort))
		})
	}
}

// A changed rule of refreshing applies to running sessions: what it has not
// counted so far may have been the last packet for long.
func TestBehavior_refreshingChanges(t *testing.T) {
	for name, w := range byFamily {
		t.Run(name, func(t *testing.T) {
			c := subscribers(rfc, 8)
			b := newBed(t, c)
			f := b.opens("udp", socket(w.a, 1000), socket(w.s, 53))
			b.at(200 * time.Second)
			b.knocks("udp", socket(w.s, 53), f)
			c.UDPRefresh = snat.RefreshOutbound
			_, err := b.Reconfigure(b.now, c)
			require.NoError(t, err)
			b.at(300*time.Second - flow.Tick)
			require.EqualValues(t, 1, b.Stats().SessionsActive)
			b.at(300 * time.Second)
			assert.Zero(t, b.Stats().SessionsActive)
		})
	}
}

// Sessions that begin outside, and packets that the filter refuses, cost no
// allocation once there is memory for them.
func TestBehavior_noAllocations(t *testing.T) {
	everywhere(t, func(t *testing.T, w realm, proto string) {
		for _, f := range filters {
			b := newBed(t, subscribers(snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: f, Share: snat.ShareNever}, 8))
			outside := b.opens(proto, socket(w.a, 1000), socket(w.s, 53))
			sent := pkttest.UDP(socket(w.s, 99), outside, "hello")
			if proto == "tcp" {
				sent = pkttest.TCP(socket(w.s, 99), outside, pkttest.SYN)
			}
			keep := pkttest.UDP(socket(w.a, 1000), socket(w.s, 53), "hello")
			if proto == "tcp" {
				keep = pkttest.TCP(socket(w.a, 1000), socket(w.s, 53), pkttest.SYN, pkttest.Seq(1000))
			}
			pkt, again, now := make([]byte, len(sent)), make([]byte, len(keep)), flow.Time(0)
			n := testing.AllocsPerRun(100, func() {
				now = now.Add(150 * time.Second) // so that the session from outside is over by the next but one
				copy(again, keep)
				b.Outbound(now, again)
				copy(pkt, sent)
				b.Inbound(now, pkt)
			})
			if n != 0 {
				t.Errorf("%v: %v allocations per packet", f, n)
			}
		}
	})
}
