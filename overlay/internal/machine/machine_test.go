package machine_test

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/overlay/internal/machine"
	"github.com/seed-a61be3fe/natplane/snat"
)

var (
	host = netip.MustParseAddr("10.1.0.4")
	pod  = netip.MustParseAddr("10.244.0.2")
)

func set(l machine.Limits) (*machine.Set, *machine.Machine) {
	s, m := machine.NewSet(func(a netip.Addr) (node int, own, ok bool) { return 2, a == host, a == host || a == pod }), new(machine.Machine)
	s.Add(2, m, l)
	return s, m
}

// What is admitted is what a count of the sessions that there are allows.
func TestAdmitsWhatThereIsRoomFor(t *testing.T) {
	const seed = 4
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	l := machine.Limits{Limits: ceilings.Limits{VMConnections: 9, Conntrack: 8, EphemeralPorts: 2}, PodPorts: 3}
	s, m := set(l)
	refused := map[flow.Reason]int{}
	var all []flow.Info
	for range 20_000 {
		if len(all) > 0 && rng.IntN(5) < 2 {
			i := rng.IntN(len(all))
			s.Count(&all[i], -1)
			all = append(all[:i], all[i+1:]...)
			continue
		}
		i := flow.Info{
			Proto: []uint8{6, 17}[rng.IntN(2)], Inside: netip.AddrPortFrom([]netip.Addr{host, pod}[rng.IntN(2)], uint16(rng.IntN(9))),
			Outside: netip.AddrPortFrom(host, uint16(rng.IntN(9))), Remote: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.9"), uint16(rng.IntN(2))),
		}
		f := snat.NewFlow{Protocol: i.Proto, Inside: i.Inside, Remote: i.Remote}
		if rng.IntN(4) == 0 {
			f.From, i.Outside = flow.Outside, i.Inside // nobody translates what comes in
		}
		own, to := i.Inside.Addr() == host, 0
		for _, o := range all {
			if o.Proto == i.Proto && o.Remote == i.Remote && (o.Inside.Addr() == host) == own && (own || o.Inside != o.Outside) {
				to++
			}
		}
		want := flow.ReasonNone
		switch {
		case len(all) >= l.Conntrack:
			want = flow.ReasonConntrack
		case f.From == flow.Outside:
		case own && to >= l.EphemeralPorts:
			want = flow.ReasonEphemeralPorts
		case !own && to >= l.PodPorts:
			want = flow.ReasonNodePorts
		}
		require.Equal(t, want, s.Admit(f), "%+v of %v", f, all)
		if refused[want]++; want == flow.ReasonNone {
			s.Count(&i, 1)
			all = append(all, i)
		}
		require.EqualValues(t, len(all), m.Connections())
	}
	assert.Len(t, refused, 4, "%v", refused)
}

// Who is of no node is not bounded, and what had not been counted does not end below nothing.
func TestBoundsNobodyElse(t *testing.T) {
	s, m := set(machine.Limits{Limits: ceilings.Limits{VMConnections: 1}})
	stranger := flow.Info{Inside: netip.MustParseAddrPort("10.9.9.9:1")}
	s.Count(&stranger, 1)
	s.Count(&flow.Info{Inside: netip.AddrPortFrom(pod, 1)}, -1)
	assert.Zero(t, m.Connections())
	assert.Equal(t, flow.ReasonNone, s.Admit(snat.NewFlow{Inside: stranger.Inside}))
	assert.Nil(t, s.Of(0))
	assert.Nil(t, s.Of(9))
	var none *machine.Set
	assert.Equal(t, flow.ReasonNone, none.Admit(snat.NewFlow{Inside: stranger.Inside}))
	none.Count(&stranger, 1)
	assert.Equal(t, flow.ReasonNone, none.Asks(0, pkttest.UDP("10.1.0.4:1", "168.63.129.16:53", "abc")))
	none.Answered(pkttest.UDP("168.63.129.16:53", "10.1.0.4:1", "abc"))
}

// Any number of goroutines may count and ask.
func TestCountsFromManyGoroutines(t *testing.T) {
	s, m := set(machine.Limits{Limits: ceilings.Limits{EphemeralPorts: 9, DNSQueries: 5, DNSPending: 5}})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			i := flow.Info{Proto: 17, Inside: netip.AddrPortFrom(host, 1), Remote: netip.MustParseAddrPort("198.51.100.9:53")}
			for k := range 1000 {
				s.Count(&i, 1)
				s.Admit(snat.NewFlow{Protocol: 17, Inside: i.Inside, Remote: i.Remote})
				s.Asks(flow.Time(k), pkttest.UDP("10.1.0.4:1", "168.63.129.16:53", "abc"))
				s.Count(&i, -1)
			}
		})
	}
	all.Wait()
	assert.Zero(t, m.Connections())
}

// Only whole UDP datagrams to and from port 53 of Azure DNS are queries and answers.
func TestWhatAQueryIs(t *testing.T) {
	s, _ := set(machine.Limits{Limits: ceilings.Limits{DNSPending: 1}})
	for _, pkt := range [][]byte{
		pkttest.UDP("10.1.0.4:1", "168.63.129.17:53", "abc"), pkttest.UDP("10.1.0.4:1", "168.63.129.16:54", "abc"),
		pkttest.UDP("10.1.0.4:1", "168.63.129.16:53", "a"), pkttest.TCP("10.1.0.4:1", "168.63.129.16:53", pkttest.SYN),
		pkttest.UDP("10.9.0.4:1", "168.63.129.16:53", "abc"), pkttest.UDP("[fd00::1]:1", "[fd00::2]:53", "abc"), nil, make([]byte, 40),
	} {
		assert.Equal(t, flow.ReasonNone, s.Asks(0, pkt))
	}
	assert.Equal(t, flow.ReasonNone, s.Asks(0, pkttest.UDP("10.1.0.4:1", "168.63.129.16:53", "abc")))
	assert.Equal(t, flow.ReasonDNSPending, s.Asks(0, pkttest.UDP("10.1.0.4:2", "168.63.129.16:53", "abc")))
	s.Answered(pkttest.UDP("168.63.129.16:53", "10.1.0.4:1", "xbc")) // of another one
	assert.Equal(t, flow.ReasonDNSPending, s.Asks(0, pkttest.UDP("10.1.0.4:2", "168.63.129.16:53", "abc")))
	s.Answered(pkttest.UDP("168.63.129.16:53", "10.1.0.4:1", "abc"))
	assert.Equal(t, flow.ReasonNone, s.Asks(0, pkttest.UDP("10.1.0.4:2", "168.63.129.16:53", "abc")))
}
