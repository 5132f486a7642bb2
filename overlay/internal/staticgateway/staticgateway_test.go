package staticgateway

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

func config(nodes ...string) Config {
	return Config{Pods: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Gateways: []Gateway{
		{Name: "g", Prefix: netip.MustParsePrefix("20.61.0.0/30"), Exclude: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Nodes: nodes},
	}}
}

func apply(t *testing.T, s *Set, c Config) {
	t.Helper()
	p, err := s.Plan(c)
	require.NoError(t, err)
	s.Apply(p)
}

func pod(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, byte(i / 250), byte(2 + i%250)}) }

func source(pkt []byte) netip.Addr { return netip.AddrFrom4([4]byte(pkt[12:16])) }

// A user's flows leave with the address of its exit, in TCP, UDP and ICMP, keep their port, and
// come back; nobody else's do, and nothing comes in unasked.
func TestUsersLeaveByTheirExit(t *testing.T) {
	var s Set
	t.Cleanup(s.Close)
	apply(t, &s, config("n0", "n1"))
	assert.False(t, s.Use(pod(0), "none"))
	require.True(t, s.Use(pod(0), "g"))
	name, _, public := s.Of(pod(0))
	assert.Equal(t, "g", name)
	client := netip.AddrPortFrom(pod(0), 5000).String()
	for _, x := range [][2][]byte{
		{pkttest.TCP(client, "198.51.100.9:443", pkttest.SYN), pkttest.TCP("198.51.100.9:443", fmt.Sprintf("%v:5000", public), pkttest.TCPFlags("SA"), pkttest.Ack(1))},
		{pkttest.UDP(client, "198.51.100.9:53", "q"), pkttest.UDP("198.51.100.9:53", fmt.Sprintf("%v:5000", public), "a")},
		{pkttest.ICMPEcho(pod(0).String(), "198.51.100.9", 7, 1), pkttest.ICMPEchoReply("198.51.100.9", public.String(), 7, 1)},
	} {
		require.True(t, s.Takes(x[0]))
		require.Equal(t, flow.Forward, s.Outbound(0, x[0]).Action)
		pkttest.Check(t, x[0], pkttest.ChecksumsOK())
		assert.Equal(t, public, source(x[0]))
		require.True(t, s.Owns(x[1]))
		require.Equal(t, flow.Forward, s.Inbound(0, x[1]).Action)
		assert.Equal(t, pod(0), netip.AddrFrom4([4]byte(x[1][16:20])))
	}
	assert.Equal(t, flow.Drop, s.Inbound(0, pkttest.TCP("198.51.100.9:443", fmt.Sprintf("%v:22", public), pkttest.SYN)).Action)
	assert.False(t, s.Takes(pkttest.UDP(client, "203.0.113.9:53", "q")), "excluded")
	assert.False(t, s.Takes(pkttest.UDP("10.244.0.9:5000", "198.51.100.9:53", "q")), "no user")
	assert.False(t, s.Owns(pkttest.UDP("198.51.100.9:53", "20.61.0.3:53", "q")), "no node has it")
	st := s.AddTo(snat.Stats{})
	assert.EqualValues(t, 3, st.Outbound.Forwarded)
	at, ok := s.NextDeadline()
	require.True(t, ok)
	s.Advance(at, nil)
	s.Advance(flow.At(5*time.Minute), nil)
	assert.Zero(t, s.Exits("g")[0].Sessions+s.Exits("g")[1].Sessions)
	s.Release(pod(0))
	assert.False(t, s.Takes(pkttest.UDP(client, "198.51.100.9:53", "q")))
}

// A node that comes or goes moves only the users that it gets or has; exits keep their addresses,
// and flows of those that stay go on.
func TestNodesComeAndGo(t *testing.T) {
	var s Set
	t.Cleanup(s.Close)
	apply(t, &s, config("n0", "n1", "n2"))
	const users = 300
	at := func() (all [users]netip.Addr) {
		for i := range users {
			_, _, all[i] = s.Of(pod(i))
		}
		return all
	}
	for i := range users {
		require.True(t, s.Use(pod(i), "g"))
		require.Equal(t, flow.Forward, s.Outbound(0, pkttest.UDP(netip.AddrPortFrom(pod(i), 5000).String(), "198.51.100.9:53", "q")).Action)
	}
	three := at()
	n := map[netip.Addr]int{}
	for _, a := range three {
		n[a]++
	}
	require.Len(t, n, 3)
	for a, k := range n {
		assert.InDelta(t, users/3, k, 50, a)
	}
	apply(t, &s, config("n0", "n2"))
	two := at()
	for i := range users {
		if three[i] != netip.MustParseAddr("20.61.0.1") {
			require.Equal(t, three[i], two[i])
		}
	}
	exits := s.Exits("g")
	require.Len(t, exits, 2)
	assert.Equal(t, netip.MustParseAddr("20.61.0.2"), exits[1].Addr, "n2 keeps its own")
	assert.Equal(t, n[exits[0].Addr], exits[0].Sessions, "its flows went on")
	assert.Equal(t, users, exits[0].Users+exits[1].Users)
	apply(t, &s, config("n0", "n2", "n9"))
	assert.Equal(t, netip.MustParseAddr("20.61.0.1"), s.Exits("g")[2].Addr, "the lowest that is free")

	apply(t, &s, Config{Pods: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}) // the gateway goes
	pkt := pkttest.UDP(netip.AddrPortFrom(pod(1), 5000).String(), "198.51.100.9:53", "q")
	require.True(t, s.Takes(pkt))
	assert.Equal(t, flow.ReasonNoOutbound, s.Outbound(0, pkt).Reason)
	assert.EqualValues(t, 1, s.AddTo(snat.Stats{}).Outbound.Drops[flow.ReasonNoOutbound])
	apply(t, &s, config("n0"))
	_, _, a := s.Of(pod(1))
	assert.Equal(t, netip.MustParseAddr("20.61.0.0"), a, "and comes again")
	s.ReleaseAll([]netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")})
	name, _, _ := s.Of(pod(1))
	assert.Empty(t, name)
}

func TestNoAllocations(t *testing.T) {
	var s Set
	t.Cleanup(s.Close)
	apply(t, &s, config("n0"))
	require.True(t, s.Use(pod(0), "g"))
	pkt := pkttest.UDP(netip.AddrPortFrom(pod(0), 5000).String(), "198.51.100.9:53", "q")
	out := append([]byte(nil), pkt...)
	s.Outbound(0, out)
	answer := pkttest.UDP("198.51.100.9:53", "20.61.0.0:5000", "a")
	in := append([]byte(nil), answer...)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		copy(out, pkt)
		copy(in, answer)
		if !s.Takes(out) || s.Outbound(0, out).Action != flow.Forward || !s.Owns(in) || s.Inbound(0, in).Action != flow.Forward {
			t.Fatal("dropped")
		}
		if _, ok := s.NextDeadline(); !ok || s.DeadlineMoved() {
			t.Fatal("a flow has a deadline, which nothing has moved")
		}
	}))
}

// Prefixes of any length release their own addresses, and those only.
func TestReleaseAll(t *testing.T) {
	for _, prefixes := range []string{"10.244.1.8/30", "10.244.1.9/32", "10.244.0.0/23", "10.244.2.0/24", "10.244.2.0/25 10.244.0.128/25", "fd00::/64"} {
		var s Set
		t.Cleanup(s.Close)
		apply(t, &s, config("n0"))
		var gone []netip.Prefix
		for _, p := range strings.Fields(prefixes) {
			gone = append(gone, netip.MustParsePrefix(p))
		}
		for i := range 750 {
			require.True(t, s.Use(pod(i), "g"))
		}
		s.ReleaseAll(gone)
		for i := range 750 {
			name, _, _ := s.Of(pod(i))
			within := slices.ContainsFunc(gone, func(p netip.Prefix) bool { return p.Contains(pod(i)) })
			require.Equal(t, within, name == "", "%v of %s", pod(i), prefixes)
		}
	}
}

// Packets of a user go on while others come and go and exits change, and find it at every moment.
func TestUsersComeAndGoUnderTraffic(t *testing.T) {
	var s Set
	t.Cleanup(s.Close)
	apply(t, &s, config("n0", "n1"))
	require.True(t, s.Use(pod(0), "g"))
	sent := pkttest.UDP(netip.AddrPortFrom(pod(0), 5000).String(), "198.51.100.9:53", "q")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 600 {
			assert.True(t, s.Use(pod(1+i), "g"))
			if i%100 == 50 {
				p, err := s.Plan(config("n0", "n1", "n2"))
				if i%200 == 50 && err == nil {
					p.Discard()
					p, err = s.Plan(config("n0", "n1"))
				}
				if assert.NoError(t, err) {
					s.Apply(p)
				}
			}
		}
		s.ReleaseAll([]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")})
		for i := range 249 {
			s.Release(pod(1 + i))
		}
	}()
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
		}
		pkt := append([]byte(nil), sent...)
		require.True(t, s.Takes(pkt))
		v := s.Outbound(0, pkt)
		require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
		_, _, public := s.Of(pod(0))
		require.True(t, public.IsValid())
	}
	users := 0
	for _, e := range s.Exits("g") {
		users += e.Users
	}
	assert.Equal(t, 601-250-249, users)
}

// Who is asked hears of the pod and of the exit's node, once for a flow.
func TestWhatUsersBeginIsAskedAbout(t *testing.T) {
	var s Set
	t.Cleanup(s.Close)
	c, asked := config("n0"), 0
	c.Admit = func(f snat.NewFlow) flow.Reason {
		asked++
		assert.Equal(t, []any{flow.Inside, "n0", pod(0)}, []any{f.From, f.Name, f.Inside.Addr()})
		if f.Remote.Port() == 53 {
			return flow.ReasonNone
		}
		return flow.ReasonNetworkPolicy
	}
	apply(t, &s, c)
	require.True(t, s.Use(pod(0), "g"))
	client := netip.AddrPortFrom(pod(0), 5000).String()
	for range 2 {
		assert.Equal(t, flow.Forward, s.Outbound(0, pkttest.UDP(client, "198.51.100.9:53", "q")).Action)
	}
	assert.Equal(t, 1, asked)
	v := s.Outbound(0, pkttest.UDP(client, "198.51.100.9:54", "q"))
	assert.Equal(t, []any{flow.Drop, flow.ReasonNetworkPolicy}, []any{v.Action, v.Reason})
	assert.EqualValues(t, 1, s.AddTo(snat.Stats{}).Outbound.Drops[flow.ReasonNetworkPolicy])
}
