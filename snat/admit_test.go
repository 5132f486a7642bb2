package snat_test

// Who decides which flows may begin.

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// asker remembers what it has been asked, and answers always the same.
type asker struct {
	asked  []snat.NewFlow
	answer flow.Reason
}

func (a *asker) admit(f snat.NewFlow) flow.Reason {
	f.Name = "" // which Instance says, too
	a.asked = append(a.asked, f)
	return a.answer
}

// takes returns what has been asked since the last call.
func (a *asker) takes() []snat.NewFlow {
	all := a.asked
	a.asked = nil
	return all
}

// Whatever begins a session asks once, in private addresses, and takes nothing if it may
// not begin; what belongs to a session asks no more.
func TestAdmitEverySession(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		proto := map[string]uint8{"v4": 1, "v6": 58}[h.name]
		server, outside := socket(h.s, 443), socket(h.f, firstPort)
		open := func(c *snat.Config) {
			ownedPorts(c).UDP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
			ownedPorts(c).TCP = ownedOf(*c).UDP
		}
		public := func(c *snat.Config) { c.Instances[0].PublicAddrs = []netip.Addr{addr(public), addr(public6)} }
		shared := func(c *snat.Config) {
			c.Instances[0].Ports = nil
			c.Ports = &snat.Shared{Frontends: []netip.Addr{netip.MustParseAddr(h.f)}}
		}
		for _, c := range []struct {
			name           string
			from           flow.Side
			proto          uint8
			inside, remote string
			change         func(*snat.Config)
			before         func(b *bed) // while all are admitted
			pkt            []byte
		}{
			{"a frontend's port", flow.Inside, 6, socket(h.pod, 5000), server, nil, nil, pkttest.TCP(socket(h.pod, 5000), server, pkttest.SYN)},
			{"a datagram", flow.Inside, 17, socket(h.node, 5000), server, nil, nil, pkttest.UDP(socket(h.node, 5000), server, "x")},
			{"one of shared ports", flow.Inside, 17, socket(h.pod, 5000), server, shared, nil, pkttest.UDP(socket(h.pod, 5000), server, "x")},
			{"a query", flow.Inside, proto, socket(h.pod, 7), socket(h.s, 0), nil, nil, h.ping(h.pod, h.s, 7, 1)},
			{"the node's address", flow.Inside, 6, socket(h.pod, 5000), socket(h.peer, 443), nil, nil, pkttest.TCP(socket(h.pod, 5000), socket(h.peer, 443), pkttest.SYN)},
			{"the node's public address", flow.Inside, 6, socket(h.pod, 5000), server, public, nil, pkttest.TCP(socket(h.pod, 5000), server, pkttest.SYN)},
			{"the node itself", flow.Inside, 6, socket(h.node, 5000), socket(h.peer, 443), nil, nil, pkttest.TCP(socket(h.node, 5000), socket(h.peer, 443), pkttest.SYN)},
			{"to the node", flow.Outside, 6, socket(h.node, 22), socket(h.peer, 5000), nil, nil, pkttest.TCP(socket(h.peer, 5000), socket(h.node, 22), pkttest.SYN)},
			{"to a pod", flow.Outside, 17, socket(h.pod, 53), socket(h.peer, 5000), nil, nil, pkttest.UDP(socket(h.peer, 5000), socket(h.pod, 53), "x")},
			{"a query to a pod", flow.Outside, proto, socket(h.pod, 7), socket(h.peer, 0), nil, nil, h.ping(h.peer, h.pod, 7, 1)},
			{"to a mapping", flow.Outside, 17, socket(h.pod, 5000), socket(h.q, 99), open, func(b *bed) {
				require.Equal(t, outside, b.opens("udp", socket(h.pod, 5000), server))
			}, pkttest.UDP(socket(h.q, 99), outside, "x")},
			{"to a target", flow.Outside, 6, socket(h.pod, 8080), socket(h.q, 99), func(c *snat.Config) {
				c.Forwards = []snat.Forward{{
					Frontend: netip.MustParseAddr(h.f), Protocol: snat.TCP, FirstPort: 80,
					Targets: []snat.Target{{Instance: "node", Addr: netip.MustParseAddr(h.pod), Port: 8080}},
				}}
			}, nil, pkttest.TCP(socket(h.q, 99), socket(h.f, 80), pkttest.SYN)},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := &asker{}
				b := newBed(t, nodeInVNet(func(k *snat.Config) {
					if c.change != nil {
						c.change(k)
					}
					k.Admit = a.admit
					k.HoldSYN.Max = 4
				}))
				if c.before != nil {
					c.before(b)
					a.takes()
				}
				want := []snat.NewFlow{{From: c.from, Protocol: c.proto, Inside: netip.MustParseAddrPort(c.inside), Remote: netip.MustParseAddrPort(c.remote)}}
				a.answer = flow.ReasonNSGOutbound
				before := b.Stats()
				for range 2 {
					b.drops(c.from, clone(c.pkt), flow.ReasonNSGOutbound)
					assert.Equal(t, want, a.takes())
				}
				after := b.Stats()
				assert.Equal(t, uint64(2), after.Outbound.Drops[flow.ReasonNSGOutbound]+after.Inbound.Drops[flow.ReasonNSGOutbound])
				assert.Equal(t, [3]int{before.SessionsActive, int(before.ConnectionsSuccessful), before.Ports.Total()}, [3]int{after.SessionsActive, int(after.ConnectionsSuccessful), after.Ports.Total()})
				assert.Zero(t, after.ConnectionsFailed+uint64(after.HeldSYNs.Held))
				a.answer = flow.ReasonNone
				for range 3 {
					v := b.send(c.from, clone(c.pkt))
					require.Equal(t, flow.Forward, v.Action)
				}
				assert.Equal(t, want, a.takes())
				assert.Equal(t, before.SessionsActive+1, b.Stats().SessionsActive)
			})
		}
	})
}

// Of what nothing remembers only a SYN is known to begin something.
func TestAdmitUnseen(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		publicAddr := map[string]string{"v4": public, "v6": public6}[h.name]
		another := map[string]string{"v4": "10.244.9.9", "v6": "fd00:244:0:9::9"}[h.name]
		a := &asker{answer: flow.ReasonNSGInbound}
		b := newBed(t, nodeInVNet(func(c *snat.Config) {
			c.Instances[0].PublicAddrs = []netip.Addr{addr(public), addr(public6)}
			c.Admit = a.admit
		}))
		for _, c := range []struct {
			from                       flow.Side
			src, dst                   string
			inside, remote, translated string
		}{
			{flow.Inside, h.node, h.s, h.node, h.s, publicAddr},
			{flow.Outside, h.s, publicAddr, h.node, h.s, h.node},
			{flow.Inside, h.node, h.peer, h.node, h.peer, ""},
			{flow.Outside, h.peer, h.node, h.node, h.peer, ""},
			{flow.Inside, h.pod, another, h.pod, another, ""},
			{flow.Outside, another, h.pod, h.pod, another, ""},
		} {
			syn := pkttest.TCP(socket(c.src, 1000), socket(c.dst, 2000), pkttest.SYN)
			port := map[flow.Side]int{flow.Inside: 1000, flow.Outside: 2000}[c.from]
			want := []snat.NewFlow{{From: c.from, Protocol: 6, Inside: netip.MustParseAddrPort(socket(c.inside, port)), Remote: netip.MustParseAddrPort(socket(c.remote, 3000-port))}}
			b.drops(c.from, syn, flow.ReasonNSGInbound)
			assert.Equal(t, want, a.takes())
			for _, pkt := range [][]byte{
				pkttest.TCP(socket(c.src, 1000), socket(c.dst, 2000), pkttest.TCPFlags("SA")),
				pkttest.UDP(socket(c.src, 1000), socket(c.dst, 2000), "x"),
				pkttest.IP(c.src, c.dst, 50, []byte("x")),
				h.ping(c.src, c.dst, 1, 1),
			} {
				v := b.send(c.from, pkt)
				require.NotEqual(t, flow.Drop, v.Action, "%s %v", pkttest.String(pkt), v.Reason)
			}
			assert.Empty(t, a.takes())
		}
		assert.Zero(t, b.Stats().SessionsCreated)
	})
}

// A changed decision is for new flows; a reset connection that is refused leaves its
// tombstone.
func TestAdmitChanges(t *testing.T) {
	a := &asker{}
	config := nodeInVNet(func(c *snat.Config) { c.Admit, c.EnableTCPReset = a.admit, true })
	b := newBed(t, config)
	pod, host := "10.244.1.7:8080", "10.225.0.9:41000"
	b.connects(host, pod)
	closed := func(snat.NewFlow) flow.Reason { return flow.ReasonNSGInbound }
	config.Admit = closed
	b.becomes(config)
	b.same(flow.Inside, pkttest.TCP(pod, host, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))
	b.drops(flow.Outside, pkttest.TCP("10.225.0.9:41001", pod, pkttest.SYN), flow.ReasonNSGInbound)
	b.at(4*time.Minute + time.Second)
	b.drops(flow.Outside, pkttest.TCP(host, pod, pkttest.SYN), flow.ReasonNSGInbound)
	b.drops(flow.Inside, pkttest.TCP(pod, host, pkttest.ACK), flow.ReasonFlowReset)
	config.Admit = nil
	b.becomes(config)
	b.connects(host, pod)
}

// A hairpin is asked about in both directions, each as that side sees it.
func TestAdmitHairpin(t *testing.T) {
	a := &asker{}
	c := oneVM(64)
	c.Instances[0].Inside = prefixes("10.244.0.0/24")
	ownedPorts(&c).Hairpin = true
	ownedPorts(&c).UDP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
	ownedPorts(&c).TCP = ownedOf(c).UDP
	c.Admit = a.admit
	b := newBed(t, c)
	outside := b.opens("udp", "10.244.0.1:53", socket(serverA, 53))
	a.takes()
	require.NotContains(t, b.out(pkttest.UDP("10.244.0.2:5000", outside, "x")), "drop")
	assert.Equal(t, []snat.NewFlow{
		{From: flow.Inside, Protocol: 17, Inside: netip.MustParseAddrPort("10.244.0.2:5000"), Remote: netip.MustParseAddrPort(outside)},
		{From: flow.Outside, Protocol: 17, Inside: netip.MustParseAddrPort("10.244.0.1:53"), Remote: netip.MustParseAddrPort(socket(frontend, firstPort+1))},
	}, a.takes())
}

// Asking allocates nothing.
func TestAdmitNoAllocations(t *testing.T) {
	c := oneVM(64)
	c.Admit = hard
	b := newBed(t, c)
	b.seldom = true
	pkt, buf, now := pkttest.UDP(socket(vmA, 5001), socket(serverA, 53), "x"), make([]byte, 128), b.now
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		now = now.Add(5 * time.Minute)
		require.True(t, b.Outbound(now, buf[:copy(buf, pkt)]).New)
	}))
}
