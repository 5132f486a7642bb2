package snat_test

// Who decides which flows may begin.

import (
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

// Of what has no session a SYN is known to begin something, and of all else the flows that may
// begin are remembered: for four minutes after their last packet all that belongs to them passes,
// errors about them too, whatever would be said of it now.
func TestAdmitUnseen(t *testing.T) {
	eachRealm(t, func(t *testing.T, h realm) {
		publicAddr := map[string]string{"v4": public, "v6": public6}[h.name]
		another := map[string]string{"v4": "10.244.9.9", "v6": "fd00:244:0:9::9"}[h.name]
		a := &asker{}
		b := newBed(t, nodeInVNet(func(c *snat.Config) {
			c.Instances[0].PublicAddrs = []netip.Addr{addr(public), addr(public6)}
			c.Admit = a.admit
		}))
		type packets struct {
			name  string
			proto uint8
			ports bool
			id    int // of a query
			make  func(src string, from int, dst string, to int, asks bool) []byte
		}
		kinds := []packets{
			{"udp", 17, true, 0, func(src string, from int, dst string, to int, _ bool) []byte {
				return pkttest.UDP(socket(src, from), socket(dst, to), "x")
			}},
			{"fragments", 17, true, 0, func(src string, from int, dst string, to int, _ bool) []byte {
				return pkttest.Fragments(pkttest.UDP(socket(src, from), socket(dst, to), strings.Repeat("x", 2000)), 1280, 7)[0]
			}},
			{"esp", 50, false, 0, func(src string, _ int, dst string, _ int, _ bool) []byte {
				return pkttest.IP(src, dst, 50, []byte("x"))
			}},
			{"ping", h.icmpProto, false, 9, func(src string, _ int, dst string, _ int, asks bool) []byte {
				if asks {
					return h.ping(src, dst, 9, 1)
				}
				return h.pong(src, dst, 9, 1)
			}},
		}
		for _, c := range []struct {
			from           flow.Side
			src, dst       string
			inside, remote string
			translated     string // what the inside address is outside
		}{
			{flow.Inside, h.node, h.s, h.node, h.s, publicAddr},
			{flow.Outside, h.s, publicAddr, h.node, h.s, publicAddr},
			{flow.Inside, h.node, h.peer, h.node, h.peer, h.node},
			{flow.Outside, h.peer, h.node, h.node, h.peer, h.node},
			{flow.Inside, h.pod, another, h.pod, another, h.pod},
			{flow.Outside, another, h.pod, h.pod, another, h.pod},
		} {
			insidePort, remotePort := 1000, 2000
			if c.from == flow.Outside {
				insidePort, remotePort = 2000, 1000
			}
			want := func(proto uint8, insidePort, remotePort int) []snat.NewFlow {
				return []snat.NewFlow{{
					From: c.from, Protocol: proto, Inside: netip.MustParseAddrPort(socket(c.inside, insidePort)), Remote: netip.MustParseAddrPort(socket(c.remote, remotePort)),
				}}
			}
			a.answer = flow.ReasonNSGInbound
			b.drops(c.from, pkttest.TCP(socket(c.src, 1000), socket(c.dst, 2000), pkttest.SYN), flow.ReasonNSGInbound)
			assert.Equal(t, want(6, insidePort, remotePort), a.takes())
			later := func(d time.Duration) { b.at(time.Duration(b.now.Add(d))) }
			passes := func(from flow.Side, pkt []byte) {
				t.Helper()
				v := b.send(from, clone(pkt))
				require.NotEqual(t, flow.Drop, v.Action, "%s %v", pkttest.String(pkt), v.Reason)
			}
			passes(c.from, pkttest.TCP(socket(c.src, 1000), socket(c.dst, 2000), pkttest.TCPFlags("SA")))
			assert.Empty(t, a.takes())

			for _, k := range kinds {
				pkt := k.make(c.src, 1000, c.dst, 2000, true)
				asked := want(k.proto, 0, 0)
				if k.ports {
					asked = want(k.proto, insidePort, remotePort)
				} else if k.id > 0 {
					asked = want(k.proto, k.id, 0)
				}
				a.answer = flow.ReasonNSGInbound
				for range 2 {
					b.drops(c.from, clone(pkt), flow.ReasonNSGInbound)
					assert.Equal(t, asked, a.takes(), k.name)
				}
				a.answer = flow.ReasonNone
				passes(c.from, pkt)
				assert.Equal(t, asked, a.takes(), k.name)
				a.answer = flow.ReasonNSGOutbound
				later(3*time.Minute + 59*time.Second)
				passes(c.from, pkt)
				later(3*time.Minute + 59*time.Second)
				if c.from == flow.Inside {
					passes(flow.Outside, k.make(c.remote, remotePort, c.translated, insidePort, false))
				} else {
					passes(flow.Inside, k.make(c.inside, insidePort, c.remote, remotePort, false))
				}
				later(3*time.Minute + 59*time.Second)
				passes(c.from, pkt)
				if k.name != "fragments" { // of them errors are not translated
					delivered := k.make(c.remote, remotePort, c.inside, insidePort, c.from == flow.Outside)
					passes(flow.Inside, h.error(c.inside, c.remote, delivered))
					sent := k.make(c.translated, insidePort, c.remote, remotePort, c.from == flow.Inside)
					passes(flow.Outside, h.error(c.remote, c.translated, sent))
				}
				assert.Empty(t, a.takes(), k.name)
				later(4 * time.Minute)
				b.drops(c.from, clone(pkt), flow.ReasonNSGOutbound)
				assert.Equal(t, asked, a.takes(), k.name)
				if k.ports && k.name == "udp" {
					sent := k.make(c.translated, insidePort, c.remote, remotePort, true)
					b.drops(flow.Outside, h.error(c.remote, c.translated, sent), flow.ReasonNSGOutbound)
					assert.Len(t, a.takes(), 1, "an error about nothing that is remembered")
				}
			}
			sent := pkttest.TCP(socket(c.translated, insidePort), socket(c.remote, remotePort), pkttest.ACK)
			passes(flow.Outside, h.error(c.remote, c.translated, sent))
			assert.Empty(t, a.takes(), "one about TCP")
		}
		assert.Zero(t, b.Stats().SessionsCreated)
	})
}

// error returns an error of a host to another about a packet that it got.
func (r realm) error(src, dst string, about []byte) []byte {
	return pkttest.ICMP(src, dst, r.unreachable, r.portCode, 0, about)
}

// What is remembered without a session ends with its instance, and with its address.
func TestPermitsEndWithTheirInstance(t *testing.T) {
	a := &asker{}
	config := nodeInVNet(func(c *snat.Config) {
		c.Instances[0].PublicAddrs = []netip.Addr{addr(public)}
		c.Instances = append(c.Instances, snat.Instance{Name: "other", Addrs: []netip.Addr{addr("10.224.0.77")}, PublicAddrs: []netip.Addr{addr("20.99.0.77")}})
		c.Admit = a.admit
	})
	b := newBed(t, config)
	query := func(public string) []byte { return pkttest.UDP("203.0.113.53:53", public+":5000", "x") }
	begin := func() {
		a.answer = flow.ReasonNone
		for _, public := range []string{public, "20.99.0.77"} {
			require.Equal(t, flow.Forward, b.send(flow.Outside, query(public)).Action)
		}
		a.answer = flow.ReasonNSGInbound
	}
	begin()
	config.Instances = slices.Clone(config.Instances)
	other := config.Instances[1]
	for _, change := range []func(){
		func() { config.Instances = config.Instances[:1] },
		func() {
			other.Addrs = []netip.Addr{addr("10.224.0.78")}
			config.Instances = append(config.Instances, other)
		},
	} {
		change()
		b.becomes(config)
		assert.Equal(t, flow.Forward, b.send(flow.Outside, query(public)).Action, "of one that stays")
	}
	b.drops(flow.Outside, query("20.99.0.77"), flow.ReasonNSGInbound)
	begin()
	config.Instances = slices.Clone(config.Instances)
	config.Instances[1].Addrs = []netip.Addr{addr("10.224.0.79")}
	b.becomes(config)
	b.drops(flow.Outside, query("20.99.0.77"), flow.ReasonNSGInbound)
	assert.Equal(t, flow.Forward, b.send(flow.Outside, query(public)).Action)
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

// The connection that follows upon a closed one on its sockets is asked about, whoever closed it
// and begins the next, of a forward and of a translated flow. Refused, it changes nothing.
func TestAdmitReopened(t *testing.T) {
	for _, f := range realms {
		for _, end := range []string{"FA", "R"} {
			a := &asker{}
			c := backends(1)
			c.Admit = a.admit
			b := newBed(t, c)
			client, front, vm := socket(f.s, 5000), socket(f.f, 80), socket(backend(0, f.is6()), 8080)
			inside := socket(backend(0, f.is6()), 6000)
			b.remotely(client, front, "S", 1000, 0)
			b.locally(vm, client, "SA", 9000, 1001)
			b.remotely(client, front, "A", 1001, 9001)
			outside := source(b.locally(inside, client, "S", 1000, 0))
			b.remotely(client, outside, "SA", 9000, 1001)
			b.locally(inside, client, "A", 1001, 9001)
			b.remotely(client, front, end, 1001, 9001)
			b.locally(inside, client, end, 1001, 9001)
			if end == "FA" {
				b.locally(vm, client, "FA", 9001, 1002)
				b.remotely(client, outside, "FA", 9001, 1002)
			}
			assert.Len(t, a.takes(), 2)
			sessions, drops := b.Stats().SessionsActive, b.Stats().Inbound.Dropped
			a.answer = flow.ReasonNSGInbound
			for range 2 { // again, too
				assert.Equal(t, "drop nsg_inbound", b.remotely(client, front, "S", 700000, 0))
				assert.Equal(t, "drop nsg_inbound", b.locally(inside, client, "S", 700000, 0))
				assert.Equal(t, "drop nsg_inbound", b.remotely(client, outside, "S", 700000, 0))
			}
			socketOf := netip.MustParseAddrPort
			asked := []snat.NewFlow{
				{From: flow.Outside, Protocol: 6, Inside: socketOf(vm), Remote: socketOf(client)},
				{From: flow.Inside, Protocol: 6, Inside: socketOf(inside), Remote: socketOf(client)},
				{From: flow.Outside, Protocol: 6, Inside: socketOf(inside), Remote: socketOf(client)},
			}
			assert.Equal(t, slices.Concat(asked, asked), a.takes())
			assert.Equal(t, sessions, b.Stats().SessionsActive)
			assert.Equal(t, drops+4, b.Stats().Inbound.Dropped)
			a.answer = flow.ReasonNone
			assert.Equal(t, vm, destination(b.remotely(client, front, "S", 700000, 0)))
			assert.Equal(t, outside, source(b.locally(inside, client, "S", 700000, 0)))
			a.answer = flow.ReasonNSGInbound
			assert.Equal(t, front, source(b.locally(vm, client, "SA", 9000, 700001)), "answers are not asked about")
			assert.Equal(t, inside, destination(b.remotely(client, outside, "S", 9000, 0)), "nor is that of a simultaneous open")
			b.Check()
		}
	}
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
