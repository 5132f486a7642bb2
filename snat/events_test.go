package snat_test

// RFC 8158: what the log is told of, with which fields, how often, and that it
// balances.

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
	"github.com/seed-a61be3fe/natplane/snat"
)

// journal keeps events.
type journal struct{ events []snat.Event }

// logging is carrying with a journal.
func (j *journal) logging(l snat.Log, change ...func(*snat.Config)) snat.Config {
	return carrying(append(change, func(c *snat.Config) {
		c.Log, c.Hooks.Event = l, func(e snat.Event) { j.events = append(j.events, e) }
	})...)
}

// kinds returns how many events of each kind there are.
func (j *journal) kinds() map[snat.EventKind]int {
	n := map[snat.EventKind]int{}
	for i := range j.events {
		n[j.events[i].Kind]++
	}
	return n
}

// lines takes the events, one line each: time, kind, protocol, inside, outside.
func (j *journal) lines() (lines []string) {
	for _, e := range j.events {
		line := fmt.Sprintf("%v (%d) %d %v > %v", e.At, uint8(e.Kind), e.Proto, e.Inside, e.Outside)
		if e.Remote.IsValid() {
			line += fmt.Sprint(" > ", e.Remote)
		}
		lines = append(lines, line)
	}
	j.events = nil
	return lines
}

func TestNAT_L1_Events(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		t.Run("sessions", func(t *testing.T) {
			var j journal
			b := newBed(t, j.logging(snat.Log{Sessions: true}))
			b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
			b.opens("tcp", socket(r.a, 1000), socket(r.s, 443))
			b.out(r.ping(r.a, r.s, 77, 1))
			b.at(30 * time.Second)
			b.at(60 * time.Second)
			b.at(240 * time.Second)
			a, f := socket(r.a, 1000), socket(r.f, firstPort)
			echo := fmt.Sprintf("%d %s > %s", r.icmpProto, socket(r.a, 77), f)
			assert.Equal(t, []string{
				"0s (4) 17 " + a + " > " + f, "0s (4) 6 " + a + " > " + f, "0s (4) " + echo,
				"30s (5) 6 " + a + " > " + f, "1m0s (5) " + echo, "4m0s (5) 17 " + a + " > " + f,
			}, j.lines())
		})
		t.Run("bindings", func(t *testing.T) {
			var j journal
			b := newBed(t, j.logging(snat.Log{Bindings: true}))
			a, f := socket(r.a, 1000), socket(r.f, firstPort)
			b.opens("udp", a, socket(r.s, 53))
			b.opens("udp", a, socket(r.q, 53))
			b.at(100 * time.Second)
			b.opens("udp", a, socket(r.q, 54))
			b.at(240 * time.Second)
			assert.Equal(t, []string{"0s (8) 17 " + a + " > " + f}, j.lines(), "one mapping for all destinations, while it has sessions")
			b.at(340 * time.Second)
			assert.Equal(t, []string{"5m40s (9) 17 " + a + " > " + f}, j.lines())
		})
		t.Run("ports", func(t *testing.T) {
			var j journal
			b := newBed(t, j.logging(snat.Log{}))
			for i := range 65 {
				b.opens("tcp", socket(r.a, 1000+i), socket(r.s, 443))
			}
			assert.Equal(t, []string{"0s (12) 6 invalid AddrPort > " + socket(r.f, 0)}, j.lines())
		})
		t.Run("addresses", func(t *testing.T) {
			var j journal
			b := newBed(t, j.logging(snat.Log{}, func(c *snat.Config) {
				c.Instances[0].Ports = []snat.PortRange{
					{Frontend: netip.MustParseAddr(r.f), First: firstPort, Count: 8},
					{Frontend: netip.MustParseAddr(r.f).Next(), First: firstPort, Count: 8},
				}
			}))
			for i := range 17 {
				b.opens("tcp", socket(r.a, 1000+i), socket(r.s, 443))
			}
			assert.Equal(t, []string{"0s (3) 6 invalid AddrPort > invalid AddrPort"}, j.lines())
		})
	})
	eachRealm(t, func(t *testing.T, r realm) {
		for name, tc := range map[string]struct {
			limits snat.Limits
			want   snat.Quota
			limit  uint32
		}{
			"quota of subscribers": {snat.Limits{Subscribers: 1}, snat.QuotaSubscribers, 1},
			"quota of ports":       {snat.Limits{UDPPorts: 1, Ports: 7}, snat.QuotaPerUser, 1},
			"quota of all ports":   {snat.Limits{UDPPorts: 7, Ports: 1}, snat.QuotaPerUser, 1},
			"rate":                 {snat.Limits{SessionRate: 3, SessionBurst: 1}, snat.QuotaPerUser, 3},
			"cap of sessions":      {snat.Limits{Sessions: 1, SessionsPerMapping: 5}, snat.QuotaPerUser, 1},
		} {
			t.Run(name, func(t *testing.T) {
				var j journal
				b := newBed(t, j.logging(snat.Log{}, func(c *snat.Config) { ownedPorts(c).Limits = tc.limits }))
				b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
				second := r.a
				if tc.want == snat.QuotaSubscribers {
					second = r.b
				}
				b.opens("udp", socket(second, 1001), socket(r.s, 53))
				assert.Equal(t, []snat.Event{{
					Kind: snat.EventQuotaExceeded, Inside: netip.AddrPortFrom(netip.MustParseAddr(second), 0), Quota: tc.want, Limit: tc.limit, Count: 1,
				}}, j.events)
			})
		}
	})
	t.Run("quota of sessions", func(t *testing.T) {
		var j journal
		b := newBed(t, snat.Config{
			Instances: []snat.Instance{{Name: "a", Inside: prefixes("10.0.0.0/24")}},
			Ports:     &snat.Shared{Frontends: []netip.Addr{addr(frontend)}, MaxFlows: 3},
			Dataplane: snat.Dataplane{Hooks: snat.Hooks{Event: func(e snat.Event) { j.events = append(j.events, e) }}},
		})
		for i := range 4 {
			b.opens("udp", socket(vmA, 1000+i), serverA+":53")
		}
		require.Len(t, j.events, 1)
		assert.Equal(t, snat.Event{Kind: snat.EventQuotaExceeded, Inside: netip.MustParseAddrPort(vmA + ":0"), Quota: snat.QuotaSessions, Limit: 3, Count: 1}, j.events[0])
	})
}

func TestNAT_L3_DestinationsOnlyWhenAsked(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		for _, l := range []snat.Log{{Sessions: true}, {Bindings: true}, {Sessions: true, Bindings: true, Destinations: true}} {
			var j journal
			b := newBed(t, j.logging(l))
			b.opens("tcp", socket(r.a, 1000), socket(r.s, 443))
			b.opens("udp", socket(r.a, 1000), socket(r.s, 53))
			b.at(time.Hour)
			require.NotEmpty(t, j.events)
			for _, e := range j.events {
				session := e.Kind == snat.EventSessionCreate || e.Kind == snat.EventSessionDelete
				assert.Equal(t, session && l.Destinations, e.Remote.IsValid(), "%+v", e)
			}
			want := map[snat.EventKind]int{}
			if l.Sessions {
				want[snat.EventSessionCreate], want[snat.EventSessionDelete] = 2, 2
			}
			if l.Bindings {
				want[snat.EventBindingCreate], want[snat.EventBindingDelete] = 2, 2
			}
			assert.Equal(t, want, j.kinds())
		}
	})
	c := oneVM(8)
	c.Log = snat.Log{Sessions: true, Bindings: true, AlarmInterval: -1}
	_, err := snat.New(c)
	assert.ErrorContains(t, err, "Log.Bindings true: out of range")
	assert.ErrorContains(t, err, "Log.AlarmInterval -1ns: out of range")
	b := newBed(t, oneVM(8))
	c.Log = snat.Log{Sessions: true}
	_, err = b.Reconfigure(0, c)
	assert.ErrorIs(t, err, snat.ErrFixed)
}

// A hundred thousand refusals are a handful of events, and all are counted.
func TestNAT_L4_AlarmsAreFew(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		b := newBed(t, j.logging(snat.Log{AlarmInterval: 30 * time.Second}, func(c *snat.Config) {
			c.Timeouts.TCPOpening = time.Hour
			c.Instances[0].Ports = []snat.PortRange{{Frontend: netip.MustParseAddr(r.f), First: firstPort, Count: 8}}
		}))
		b.seldom = true
		for i := range 8 {
			b.opens("tcp", socket(r.a, 1000+i), socket(r.s, 443))
		}
		syn := pkttest.TCP(socket(r.a, 5000), socket(r.s, 443), pkttest.SYN)
		const refusals = 100_000
		for i := range refusals {
			b.now = flow.At(time.Duration(i) * time.Millisecond)
			if v := b.Outbound(b.now, append([]byte(nil), syn...)); v.Reason != flow.ReasonPorts {
				t.Fatalf("packet %d: %v", i, v.Reason)
			}
		}
		require.Len(t, j.events, 4, "at 0, 30, 60 and 90 s")
		var total uint64
		for i, e := range j.events {
			assert.Equal(t, snat.EventPortsExhausted, e.Kind)
			assert.Equal(t, flow.At(time.Duration(i)*30*time.Second), e.At)
			total += e.Count
		}
		assert.Equal(t, uint64(90_001), total, "those up to the last event")
		assert.Equal(t, uint64(refusals), b.Stats().ConnectionsFailed)
		assert.Equal(t, uint64(refusals), b.Stats().Outbound.Drops[flow.ReasonPorts])
	})
}

// Whatever happens, every begin has its end, and no two owners of a port overlap:
// two sessions that have a port at the same time have different remotes.
func TestNAT_L5_Balance(t *testing.T) {
	const seed = 8158
	t.Logf("seed %d", seed)
	eachRealm(t, func(t *testing.T, r realm) {
		type use struct {
			proto           uint8
			outside, remote netip.AddrPort
		}
		owners := map[use]netip.AddrPort{}
		bound := map[use]netip.AddrPort{} // UDP bindings, which are never shared here
		last := flow.Time(0)
		var j journal
		c := j.logging(snat.Log{Sessions: true, Bindings: true, Destinations: true}, func(c *snat.Config) {
			c.EnableTCPReset, c.Timeouts.UDP, c.Timeouts.TCPOpening = true, 40*time.Second, 20*time.Second
			ownedPorts(c).UDP.Share = snat.ShareNever
		})
		c.Hooks.Event = func(e snat.Event) {
			j.events = append(j.events, e)
			if e.At > last {
				last = e.At
			}
			u, in := use{e.Proto, e.Outside, e.Remote}, owners
			if e.Kind == snat.EventBindingCreate || e.Kind == snat.EventBindingDelete {
				if in = bound; e.Proto != 17 {
					return
				}
			}
			switch owner, taken := in[u]; e.Kind {
			case snat.EventSessionCreate, snat.EventBindingCreate:
				require.False(t, taken, "%+v is already of %v", e, owner)
				in[u] = e.Inside
			case snat.EventSessionDelete, snat.EventBindingDelete:
				require.Equal(t, owner, e.Inside, "%+v", e)
				delete(in, u)
			}
		}
		b := newBed(t, c)
		b.seldom = true
		random := rand.New(rand.NewPCG(seed, 1))
		hosts, servers := []string{r.a, r.b}, []string{r.s, r.q}
		for i := range 3000 {
			src, dst := socket(hosts[random.IntN(2)], 1000+random.IntN(40)), socket(servers[random.IntN(2)], 440+random.IntN(3))
			switch random.IntN(5) {
			case 0:
				b.opens("udp", src, dst)
			case 1:
				b.opens("tcp", src, dst)
			case 2:
				if outside := b.opens("tcp", src, dst); !strings.Contains(outside, "drop") {
					b.remotely(dst, outside, "SA", 5000, 1001)
					b.locally(src, dst, "A", 1001, 5001)
					if random.IntN(2) == 0 {
						b.remotely(dst, outside, "R", 5001, 0)
					}
				}
			case 3:
				b.out(r.ping(hosts[random.IntN(2)], servers[random.IntN(2)], uint16(random.IntN(30)), 1))
			case 4:
				b.at(time.Duration(i) * 100 * time.Millisecond)
			}
			if i == 2000 {
				less := c
				less.Instances = append([]snat.Instance(nil), c.Instances...)
				less.Instances[0].Ports = less.Instances[0].Ports[:0:0]
				_, err := b.Reconfigure(b.now, less)
				require.NoError(t, err)
				assert.Empty(t, owners, "all sessions were cut")
				_, err = b.Reconfigure(b.now, c)
				require.NoError(t, err)
			}
		}
		b.at(2 * time.Hour)
		n := j.kinds()
		assert.Positive(t, n[snat.EventSessionCreate])
		assert.Less(t, b.Stats().SessionsCreated, uint64(n[snat.EventSessionCreate]), "some were reopened on their sockets")
		assert.Equal(t, n[snat.EventSessionCreate], n[snat.EventSessionDelete])
		assert.Positive(t, n[snat.EventBindingCreate])
		assert.Equal(t, n[snat.EventBindingCreate], n[snat.EventBindingDelete])
		assert.Empty(t, owners)
		assert.Empty(t, bound)
		assert.LessOrEqual(t, last, b.now, "times are those of the simulation")
	})
}

// A connection that is opened again on the sockets of a closed one is another: the log
// ends that and begins this.
func TestReopenedConnectionIsAnotherSession(t *testing.T) {
	eachRealm(t, func(t *testing.T, r realm) {
		var j journal
		b := newBed(t, j.logging(snat.Log{Sessions: true, Bindings: true, Destinations: true}))
		src, dst := socket(r.a, 1000), socket(r.s, 443)
		f := b.dials(src, dst)
		b.closes(src, f, dst)
		b.at(10 * time.Second)
		j.events = nil
		b.locally(src, dst, "S", 90_000, 0)
		assert.Empty(t, j.events, "until the other side agrees")
		b.remotely(dst, f, "SA", 70_000, 90_001)
		session, binding := src+" > "+f+" > "+dst, src+" > "+f
		assert.Equal(t, []string{"10s (5) 6 " + session, "10s (9) 6 " + binding, "10s (8) 6 " + binding, "10s (4) 6 " + session}, j.lines())
		b.at(10*time.Second + 4*time.Hour)
		assert.Equal(t, map[snat.EventKind]int{snat.EventSessionDelete: 1, snat.EventBindingDelete: 1}, j.kinds())
	})
}

// Sessions and bindings say in which address space their inside socket is, and
// sessions which side began them.
func TestEventsTellRealmAndOrigin(t *testing.T) {
	var j journal
	c := oneVM(8)
	ownedPorts(&c).UDP = snat.Behavior{Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
	c.Instances[0].Realm, c.Instances[0].Addrs = 7, nil
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	c.Log = snat.Log{Sessions: true, Bindings: true, Destinations: true}
	c.Hooks.Event = func(e snat.Event) { j.events = append(j.events, e) }
	b := newBed(t, c)
	require.Equal(t, flow.Forward, b.Realm(7).Outbound(0, pkttest.UDP(vmA+":1000", "198.51.100.7:53", "query")).Action)
	require.NotContains(t, b.in(pkttest.UDP("198.51.100.8:53", socket(frontend, firstPort), "answer")), "drop")
	b.at(time.Hour)
	var lines []string
	for _, e := range j.events {
		lines = append(lines, fmt.Sprintf("%v realm %d from %v", e.Kind, e.Realm, e.Origin))
	}
	assert.ElementsMatch(t, []string{
		"binding created realm 7 from inside", "session created realm 7 from inside", "session created realm 7 from outside",
		"session deleted realm 7 from inside", "session deleted realm 7 from outside", "binding deleted realm 7 from inside",
	}, lines)
}

func TestEventsDoNotAllocate(t *testing.T) {
	n := 0
	c := carrying(func(c *snat.Config) {
		c.Log = snat.Log{Sessions: true, Bindings: true, Destinations: true}
		c.Hooks.Event = func(snat.Event) { n++ }
		c.Timeouts.UDP = time.Second
	})
	b := newBed(t, c)
	pkt := pkttest.UDP(vmA+":1000", serverA+":53", "x")
	buffer := make([]byte, len(pkt))
	now := flow.Time(0)
	one := func() {
		copy(buffer, pkt)
		b.Outbound(now, buffer)
		now = now.Add(2 * time.Second)
		b.Advance(now, nil)
	}
	one()
	assert.Zero(t, testing.AllocsPerRun(100, one))
	assert.GreaterOrEqual(t, n, 400)
}
