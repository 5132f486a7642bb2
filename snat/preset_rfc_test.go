package snat_test

// The presets rfc and cgn, and the rows on carrier-grade NAT that are about a whole
// configuration.

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
	"github.com/seed-a61be3fe/natplane/snat/ipfix"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// access is a site of one instance with subscribers of both families behind
// so many frontends of each.
func access(frontends int) (s preset.Site) {
	s.Instances = []snat.Instance{{Name: "access", Inside: prefixes("10.0.0.0/16", "fd00::/64")}}
	for f4, f6 := netip.MustParseAddr(frontend), netip.MustParseAddr(frontend6); frontends > 0; frontends-- {
		s.Frontends = append(s.Frontends, f4, f6)
		f4, f6 = f4.Next(), f6.Next()
	}
	return s
}

// recommended runs a test on the presets rfc and cgn, for both families.
func recommended(t *testing.T, frontends int, f func(t *testing.T, b *bed, r realm)) {
	for _, name := range []string{"rfc", "cgn"} {
		t.Run(name, func(t *testing.T) {
			eachRealm(t, func(t *testing.T, r realm) {
				p, ok := preset.ByName(name)
				require.True(t, ok)
				b := configured(t, p.Configure, access(frontends))
				b.seldom = true // recounting 129,024 ports takes its time
				f(t, b, r)
			})
		})
	}
}

// The transport rows' core under both presets; each row has a test of its own.
func TestNAT_C1_TransportRequirements(t *testing.T) {
	port := func(t *testing.T, s string) uint16 {
		ap, err := netip.ParseAddrPort(s)
		require.NoError(t, err, s)
		return ap.Port()
	}
	for name, row := range map[string]func(t *testing.T, b *bed, r realm){
		"one mapping for all destinations": func(t *testing.T, b *bed, r realm) {
			for _, proto := range []string{"udp", "tcp"} {
				outside := b.opens(proto, socket(r.a, 5000), socket(r.s, 53))
				for _, dst := range []string{socket(r.s, 54), socket(r.q, 53)} {
					assert.Equal(t, outside, b.opens(proto, socket(r.a, 5000), dst), "%s to %s", proto, dst)
				}
			}
		},
		"one frontend for all protocols": func(t *testing.T, b *bed, r realm) {
			seen := map[string]bool{}
			for i := range 60 {
				seen[netip.MustParseAddrPort(b.opens("udp", socket(r.a, 2000+i), socket(r.s, 53))).Addr().String()] = true
				seen[netip.MustParseAddrPort(b.opens("tcp", socket(r.a, 2000+i), socket(r.q, 443))).Addr().String()] = true
				echo := strings.Fields(b.out(r.ping(r.a, r.s, uint16(i), 1)))[1]
				seen[strings.Trim(strings.Split(echo, "#")[0], "[]")] = true
			}
			assert.Len(t, seen, 1, "%v", seen)
		},
		"no port has two owners": func(t *testing.T, b *bed, r realm) {
			owner := map[string]string{}
			for i := range 20 {
				for _, host := range []string{r.a, r.b} {
					src := socket(host, 3000+i)
					outside := b.opens("udp", src, socket(r.s, 53))
					assert.Empty(t, owner[outside])
					owner[outside] = src
				}
			}
			for outside, src := range owner {
				assert.Equal(t, src, destination(b.in(pkttest.UDP(socket(r.s, 53), outside, "x"))))
			}
		},
		"parity": func(t *testing.T, b *bed, r realm) {
			for i := range 40 {
				assert.Equal(t, uint16(i&1), port(t, b.opens("udp", socket(r.a, 4000+i), socket(r.s, 53)))&1)
			}
		},
		"who knows the port gets in": func(t *testing.T, b *bed, r realm) {
			outside := b.opens("udp", socket(r.a, 5000), socket(r.s, 53))
			for _, src := range []string{socket(r.s, 53), socket(r.s, 99), socket(r.q, 53)} {
				assert.Equal(t, socket(r.a, 5000), destination(b.in(pkttest.UDP(src, outside, "x"))))
			}
			outside = b.opens("tcp", socket(r.a, 5000), socket(r.s, 443))
			assert.Equal(t, socket(r.a, 5000), destination(b.in(pkttest.TCP(socket(r.q, 9), outside, pkttest.SYN))))
			other := strings.Replace(outside, fmt.Sprint(":", port(t, outside)), ":65535", 1)
			if other != outside {
				assert.Contains(t, b.in(pkttest.UDP(socket(r.q, 9), other, "x")), "drop", "a mapping of TCP lets no datagram in")
			}
		},
		"hosts meet at their outside addresses": func(t *testing.T, b *bed, r realm) {
			caller, called := b.opens("udp", socket(r.a, 5000), socket(r.s, 53)), b.opens("udp", socket(r.b, 6000), socket(r.s, 53))
			arrived := b.out(pkttest.UDP(socket(r.a, 5000), called, "x"))
			assert.Equal(t, caller, source(arrived))
			assert.Equal(t, socket(r.b, 6000), destination(arrived))
		},
		"UDP idles for 300 s, and sending refreshes": func(t *testing.T, b *bed, r realm) {
			outside := b.opens("udp", socket(r.a, 5000), socket(r.s, 53))
			for _, at := range []time.Duration{290, 580} {
				b.at(at * time.Second)
				b.opens("udp", socket(r.a, 5000), socket(r.s, 53))
			}
			b.at(880*time.Second - time.Millisecond)
			assert.Len(t, sessions(b), 1)
			b.at(880 * time.Second)
			assert.Empty(t, sessions(b))
			assert.Contains(t, b.in(pkttest.UDP(socket(r.s, 53), outside, "x")), "drop")
		},
		"TCP idles for 7,440 s": func(t *testing.T, b *bed, r realm) {
			outside := b.dials(socket(r.a, 5000), socket(r.s, 443))
			b.lazily(7439 * time.Second)
			assert.Equal(t, socket(r.a, 5000), destination(b.remotely(socket(r.s, 443), outside, "A", 5001, 1001)))
			b.at(2*7439*time.Second + time.Second)
			assert.Empty(t, sessions(b))
			assert.Empty(t, b.sent(), "silently")
		},
		"opening lasts 240 s, and so does what RST and FIN leave": func(t *testing.T, b *bed, r realm) {
			b.opens("tcp", socket(r.a, 5000), socket(r.s, 443))
			outside := b.dials(socket(r.a, 5001), socket(r.s, 443))
			b.remotely(socket(r.s, 443), outside, "R", 5001, 0)
			outside = b.dials(socket(r.a, 5002), socket(r.s, 443))
			b.remotely(socket(r.s, 443), outside, "FA", 5001, 1001)
			b.locally(socket(r.a, 5002), socket(r.s, 443), "FA", 1001, 5002)
			b.at(240*time.Second - time.Millisecond)
			assert.Len(t, sessions(b), 3)
			b.at(240 * time.Second)
			assert.Empty(t, sessions(b))
		},
		"pings for 60 s": func(t *testing.T, b *bed, r realm) {
			b.out(r.ping(r.a, r.s, 7, 1))
			b.at(60*time.Second - time.Millisecond)
			assert.Len(t, sessions(b), 1)
			b.at(60 * time.Second)
			assert.Empty(t, sessions(b))
		},
		"no ICMP error ends a session": func(t *testing.T, b *bed, r realm) {
			before := b.dials(socket(r.a, 5000), socket(r.s, 443))
			sent := pkttest.TCP(before, socket(r.s, 443), pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))
			outside := netip.MustParseAddrPort(before).Addr().String()
			told := b.in(pkttest.ICMP(r.rx, outside, r.unreachable, r.portCode, 0, sent))
			assert.Equal(t, r.a, destination(told), told)
			assert.Equal(t, socket(r.a, 5000), destination(b.remotely(socket(r.s, 443), before, "A", 5001, 1001)))
		},
		"an unsolicited SYN waits": func(t *testing.T, b *bed, r realm) {
			b.in(pkttest.TCP(socket(r.s, 9), socket(r.f, 40000), pkttest.SYN))
			b.at(6*time.Second - time.Millisecond)
			assert.Empty(t, b.sent())
			b.at(6 * time.Second)
			assert.Len(t, b.sent(), 1)
		},
		"routers count": func(t *testing.T, b *bed, r realm) {
			pkt := pkttest.UDP(socket(r.a, 5000), socket(r.s, 53), "x", pkttest.TTL(1))
			assert.Equal(t, "drop ttl", b.out(pkt))
			b.at(0)
			assert.Len(t, b.sent(), 1)
		},
	} {
		t.Run(name, func(t *testing.T) { recommended(t, 2, row) })
	}
}

// What a carrier-grade NAT is asked about can be read off: counters, and
// snapshots that agree with them.
func TestNAT_C10_Manageable(t *testing.T) {
	recommended(t, 1, func(t *testing.T, b *bed, r realm) {
		for i := range 5 {
			b.opens("udp", socket(r.a, 5000+i), socket(r.s, 53))
			b.opens("tcp", socket(r.b, 5000+i), socket(r.s, 443))
		}
		b.out(r.ping(r.a, r.s, 1, 1))
		b.in(pkttest.UDP(socket(r.s, 53), socket(r.f, 1), "x"))
		s := b.Stats()
		assert.Equal(t, 11, s.SessionsActive)
		assert.Len(t, sessions(b), 11)
		assert.Equal(t, uint64(11), s.Outbound.Forwarded)
		assert.Equal(t, uint64(1), s.Inbound.Dropped)
		active := 0
		for _, c := range b.Connections() {
			active += c.Active
		}
		assert.Equal(t, 11, active)
		ports := 0
		rows := b.Subscribers()
		for _, row := range rows {
			ports += row.TCPPorts + row.UDPPorts + row.QueryIDs
			assert.Equal(t, r.f, row.Frontend.String())
		}
		assert.Len(t, rows, 2)
		assert.Equal(t, 11, ports)
		used := 0
		for _, inst := range b.Instances() {
			for _, p := range inst.Pools {
				used += p.Used
				assert.Equal(t, p.Allocated, p.Free+p.Used)
			}
		}
		assert.Equal(t, 11, used)
		busy := 0
		for _, block := range b.Blocks() {
			busy += block.Busy
		}
		if len(b.Blocks()) > 0 {
			assert.Equal(t, 11, busy)
		}
	})
}

// Of who talked to whom, the log of cgn says nothing, whatever happens.
func TestNAT_C12_DestinationsAreNotLogged(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, l := range []snat.Log{{}, {Sessions: true}, {Bindings: true}, {Sessions: true, Destinations: true}} {
			c, err := preset.CGN(access(2))
			require.NoError(t, err)
			var j journal
			c.Log, c.Hooks.Event = l, func(e snat.Event) { j.events = append(j.events, e) }
			b := newBed(t, c)
			b.opens("udp", socket(r.a, 5000), socket(r.s, 53))
			b.opens("tcp", socket(r.a, 5000), socket(r.s, 443))
			b.at(3 * time.Hour)
			remote := netip.MustParseAddr(r.s).AsSlice()
			told := 0
			require.NotEmpty(t, j.events)
			for _, e := range j.events {
				if strings.Contains(string(ipfix.AppendRecord(nil, &e)), string(remote)) {
					told++
				}
			}
			want := 0
			if l.Destinations {
				want = 4
			}
			assert.Equal(t, want, told, "%+v", l)
		}
	})
}

// cgn's subscribers: blocks, limits, and what those who exceed them are told.
func TestPresetCGN(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		c, err := preset.CGN(access(1))
		require.NoError(t, err)
		c.Hooks.Event = func(e snat.Event) { j.events = append(j.events, e) }
		ownedPorts(&c).Limits.SessionRate = 0
		b := newBed(t, c)
		b.seldom = true
		for i := range 8 * 256 {
			if s := b.opens("udp", socket(r.a, 2000+i), socket(r.s, 53)); strings.Contains(s, "drop") {
				t.Fatalf("port %d: %s", i, s)
			}
		}
		assert.Len(t, j.only(snat.EventBlockCreate), 8)
		assert.Equal(t, "drop quota", b.opens("udp", socket(r.a, 1999), socket(r.s, 53)))
		b.at(0)
		require.Len(t, b.emitted, 1)
		assert.Equal(t, r.a, destination(pkttest.String(b.emitted[0].Packet)))
		code := b.emitted[0].Packet[r.header : r.header+2]
		assert.Equal(t, []byte{r.unreachable, map[string]byte{"v4": 1, "v6": 3}[r.name]}, code)
		assert.NotContains(t, b.opens("udp", socket(r.b, 1999), socket(r.s, 53)), "drop")
	})
}

// rfc divides all ports from 8 on among the instances, each half by itself.
func TestPresetRFCPorts(t *testing.T) {
	s := site(3, 2)
	c, err := preset.RFC(s)
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	for i, inst := range c.Instances {
		low, high := uint16(8+i*336), uint16(1024+i*21504)
		f0, f1 := s.Frontends[0], s.Frontends[1]
		assert.Equal(t, []snat.PortRange{
			{Frontend: f0, First: low, Count: 336}, {Frontend: f1, First: low, Count: 336},
			{Frontend: f0, First: high, Count: 21504}, {Frontend: f1, First: high, Count: 21504},
		}, inst.Ports)
	}
	b := newBed(t, c)
	for i := range 30 {
		assert.Less(t, netip.MustParseAddrPort(b.opens("udp", socket("10.0.0.1", 100+i), serverA+":53")).Port(), uint16(1024))
		assert.GreaterOrEqual(t, netip.MustParseAddrPort(b.opens("udp", socket("10.0.0.1", 5000+i), serverA+":53")).Port(), uint16(1024))
	}
	c, err = preset.CGN(s)
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	assert.Equal(t, snat.PortRange{Frontend: s.Frontends[0], First: 1024 + 21504, Count: 21504}, c.Instances[1].Ports[0])

	s.PortsPerInstance = 512
	c, err = preset.CGN(s)
	require.NoError(t, err)
	assert.Equal(t, []snat.PortRange{{Frontend: s.Frontends[0], First: 1024 + 2*512, Count: 512}}, c.Instances[2].Ports)
	s.PortsPerInstance = 8
	_, err = preset.CGN(s)
	assert.ErrorContains(t, err, "PortsPerInstance 8: out of range: multiples of 256")
	_, err = preset.CGN(site(253, 1))
	assert.ErrorIs(t, err, flow.ErrTooMany)
	s = site(1, 1)
	s.IdleTimeout = 7439 * time.Second
	_, err = preset.RFC(s)
	assert.ErrorContains(t, err, "IdleTimeout 2h3m59s")
	s.IdleTimeout = 3 * time.Hour
	c, err = preset.RFC(s)
	require.NoError(t, err)
	assert.Equal(t, 3*time.Hour, c.IdleTimeout)
	c.Timeouts.UDP = 119 * time.Second
	assert.ErrorContains(t, c.Validate(), "Timeouts.UDP 1m59s")
}

// An instance has as many frontends as the longest bitmap has ports for, uses them
// all, and is told when there are more.
func TestNAT_C3_OneInstanceManyFrontends(t *testing.T) {
	for _, c := range []struct {
		configure func(preset.Site) (snat.Config, error)
		frontends int
		ports     int
	}{
		{preset.RFC, 5, 327_640}, {preset.RFC, 7, 458_696}, {preset.RFC, 8, 524_224},
		{preset.CGN, 5, 322_560}, {preset.CGN, 8, 516_096}, {preset.CGN, 9, 580_608},
	} {
		config, err := c.configure(access(c.frontends))
		require.NoError(t, err)
		if err := config.Validate(); c.ports > 516_096 {
			require.ErrorIs(t, err, flow.ErrTooMany)
			require.ErrorContains(t, err, fmt.Sprintf("Instances[0].Ports has %d ports", c.ports))
			continue
		}
		b := newBed(t, config)
		b.seldom = true
		for i := range 3 * c.frontends {
			b.opens("udp", socket(fmt.Sprintf("10.0.0.%d", i+1), 5000), serverA+":53")
			b.opens("tcp", socket(fmt.Sprintf("10.0.0.%d", i+1), 5000), serverA+":80")
		}
		used := map[netip.Addr]int{}
		for s := range b.Sessions() {
			used[s.Outside.Addr()]++
		}
		require.Len(t, used, c.frontends)
		for f, n := range used {
			assert.Equal(t, 6, n, "%v of %d", f, c.frontends)
		}
	}
}

// Every port of an instance with more than 262,144 is found, in order and at random.
func TestNAT_C13_EveryPortOfManyFrontends(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	choices := []snat.PortChoice{snat.LowestPort, snat.RandomPort}
	if pkttest.Short() {
		choices = choices[:1]
	}
	for _, choice := range choices {
		c := oneVM(8)
		c.Instances[0].Ports = nil
		ownedPorts(&c).Allocation.Choice = choice
		for f, n := netip.MustParseAddr(frontend), 0; n < 5; f, n = f.Next(), n+1 {
			c.Instances[0].Ports = append(c.Instances[0].Ports, snat.PortRange{Frontend: f, First: firstPort, Count: 64_512})
		}
		c.Instances[0].Addrs, c.Instances[0].Inside = nil, prefixes("10.0.0.0/16")
		n, err := snat.New(c)
		require.NoError(t, err)
		seen := make(map[[6]byte]bool, 5*64_512)
		for i := range 5*64_512 + 1 {
			p := pkttest.TCP(fmt.Sprintf("10.0.%d.%d:%d", 1+i/40_000, 1, 1024+i%40_000), serverA+":443", pkttest.TCPFlags("S"))
			v := n.Outbound(flow.At(0), p)
			if i == 5*64_512 {
				require.Equal(t, flow.ReasonPorts, v.Reason, "choice %v", choice)
				break
			}
			require.Equal(t, flow.Forward, v.Action, "choice %v: flow %d: %v", choice, i, v.Reason)
			src := [6]byte(slices.Concat(p[12:16], p[20:22])) // outside address and port
			require.False(t, seen[src], "choice %v: flow %d: %v twice", choice, i, src)
			seen[src] = true
		}
		n.Close()
	}
}
