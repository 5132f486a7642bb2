package apiserver_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/apiserver"
	"github.com/seed-a61be3fe/natplane/snat"
)

const server = "203.0.113.80:443"

// story is a cluster, its traffic, and the time.
type story struct {
	*testing.T
	cluster *overlay.Cluster
	*apiserver.Traffic
	now  flow.Time
	seen []string // packets as they were delivered
	deaf bool     // what the cluster sends to the inside is not handed on
}

func newStory(t *testing.T, cluster func(*overlay.ClusterConfig), traffic func(*apiserver.Config)) *story {
	t.Helper()
	c := overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 2}}}
	if cluster != nil {
		cluster(&c)
	}
	s := &story{T: t}
	var err error
	s.cluster, err = overlay.New(c)
	require.NoError(t, err)
	t.Cleanup(s.cluster.Close)
	with := apiserver.Config{Cluster: s.cluster, Server: netip.MustParseAddrPort(server), Deliver: func(now flow.Time, to flow.Side, pkt []byte) {
		pkttest.Check(t, pkt, pkttest.ChecksumsOK())
		s.seen = append(s.seen, fmt.Sprint(now.Duration(), " ", to, " ", pkttest.String(pkt)))
	}}
	if traffic != nil {
		traffic(&with)
	}
	s.Traffic, err = apiserver.New(with)
	require.NoError(t, err)
	return s
}

// pod starts a pod on a node.
func (s *story) pod(node int, name string) {
	s.Helper()
	_, err := s.cluster.AddPod(s.cluster.Nodes()[node].Name, name)
	require.NoError(s, err)
}

// until lets time pass, event by event.
func (s *story) until(d time.Duration) {
	for end := flow.At(d); ; {
		s.now = end
		for _, next := range []func() (flow.Time, bool){s.NextDeadline, s.cluster.NextDeadline} {
			if at, ok := next(); ok {
				s.now = min(s.now, at)
			}
		}
		s.cluster.Advance(s.now, func(e flow.Emission) {
			if e.To == flow.Inside && !s.deaf {
				s.Receive(s.now, e.Packet)
			}
		})
		s.Advance(s.now)
		if s.now == end {
			return
		}
	}
}

// ports returns the ports in use by the name of the node.
func (s *story) ports() map[string]int {
	used := map[string]int{}
	for _, u := range s.cluster.TopPorts(100, snat.ByInstance) {
		used[u.Name] = u.Ports
	}
	return used
}

const first, second = "aks-nodepool1-vmss000000", "aks-nodepool1-vmss000001"

// Connections to the API server take ports of whatever the outbound type has, and go nowhere where it is no way out.
func TestAzureRow_11_4_apiServer_outboundTypes(t *testing.T) {
	byNode := map[string]int{first: 2, second: 1}
	for name, tt := range map[string]struct {
		edit    func(*overlay.ClusterConfig)
		outside string // of the first node; "": no way out
		ports   map[string]int
	}{
		"load balancer":  {nil, "20.50.1.1", byNode},
		"NAT gateway":    {func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundManagedNATGateway }, "20.50.1.1", byNode},
		"NAT gateway V2": {func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundManagedNATGatewayV2 }, "20.50.1.1", byNode},
		"node public IP": {func(c *overlay.ClusterConfig) { c.NodePools[0].NodePublicIP.Enabled = true }, "20.60.0.0", map[string]int{}},
		"user's route":   {func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundUserDefinedRouting }, "10.224.0.4", map[string]int{}},
		"none":           {func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundNone }, "", map[string]int{}},
		"block":          {func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundBlock }, "", map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, tt.edit, nil)
			s.pod(0, "kube-system/konnectivity")
			s.pod(0, "default/web")
			s.until(10 * time.Minute)
			all := s.Clients()
			require.Len(t, all, 3, "the kubelets and the system pod")
			require.Equal(t, tt.ports, s.ports())
			if tt.outside == "" {
				// Attempts at 0, 1, 3, 7, 15, 31 s, and from then on every 30 s.
				require.Equal(t, apiserver.Stats{Clients: 3, Failed: 3 * (6 + 18)}, s.Traffic.Stats())
				require.Equal(t, flow.ReasonNoOutbound, all[0].Reason)
				require.Equal(t, 24, all[0].Failures)
				return
			}
			require.Equal(t, apiserver.Stats{Clients: 3, Open: 3, Connected: 3, KeepAlives: 3 * 20}, s.Traffic.Stats())
			require.Equal(t, tt.outside, all[0].Outside.Addr().String())
			require.Equal(t, all[0].Outside.Addr(), all[2].Outside.Addr(), "the pod leaves as its node")
			s.Close(s.now)
			require.EqualValues(t, 3, s.Traffic.Stats().Closed)
			s.until(20 * time.Minute)
			require.Empty(t, s.ports())
		})
	}
}

// The API server of a private cluster has a local address, and needs no port.
func TestAzureRow_11_4_apiServer_private(t *testing.T) {
	s := newStory(t, func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundBlock },
		func(c *apiserver.Config) { c.Server = netip.MustParseAddrPort("10.224.9.9:443") })
	s.pod(1, "kube-system/proxy")
	s.until(time.Minute)
	require.Equal(t, apiserver.Stats{Clients: 3, Open: 3, Connected: 3, KeepAlives: 6}, s.Traffic.Stats())
	require.Empty(t, s.ports())
	require.Equal(t, "10.224.0.5", s.Clients()[2].Outside.Addr().String())
}

// The packets of one connection, from its SYN to its last ACK, as their receivers get them.
func TestAzureRow_11_4_apiServer_packets(t *testing.T) {
	for name, tt := range map[string]struct{ server, inside, outside string }{
		"IPv4":         {"203.0.113.80:443", "10.224.0.4:32768", "20.50.1.1:1024"},
		"IPv6":         {"[2001:db8:f::80]:6443", "[fd12:3456:789b::4]:32768", "[2001:db8:50:1::1]:1024"},
		"default port": {"203.0.113.80:0", "10.224.0.4:32768", "20.50.1.1:1024"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, func(c *overlay.ClusterConfig) { c.IPFamilies, c.NodePools[0].Count = "ipv4,ipv6", 1 },
				func(c *apiserver.Config) { c.Server = netip.MustParseAddrPort(tt.server) })
			at := strings.TrimSuffix(tt.server, ":0")
			if at != tt.server {
				at += ":443"
			}
			out, in := fmt.Sprint(" outside TCP ", tt.outside, " > ", at), fmt.Sprint(" inside TCP ", at, " > ", tt.inside)
			want := []string{
				"0s" + out + " S seq=0 len=0",
				"0s" + in + " SA seq=4294967295 ack=1 len=0",
				"0s" + out + " A seq=1 ack=0 len=0",
				"30s" + out + " A seq=0 ack=0 len=0",
				"30s" + in + " A seq=0 ack=1 len=0",
				"30s" + out + " FA seq=1 ack=0 len=0",
				"30s" + in + " FA seq=0 ack=2 len=0",
				"30s" + out + " A seq=2 ack=1 len=0",
			}
			s.until(30 * time.Second)
			s.Close(s.now)
			require.Equal(t, want, s.seen)
			_, ok := s.NextDeadline()
			require.False(t, ok)
			s.Advance(flow.At(time.Hour))
			s.Follow(flow.At(time.Hour))
			require.NoError(t, s.Start(flow.At(time.Hour), first))
			require.Len(t, s.seen, len(want), "nothing after the end")
		})
	}
}

// Nodes and pods come and go: each has its connection from the next look on, and none once it is gone. Who is ended before
// that says so to the API server, and its port is soon free.
func TestAzureRow_11_4_apiServer_comeAndGo(t *testing.T) {
	s := newStory(t, nil, nil)
	s.until(5 * time.Second)
	names, _, err := s.cluster.AddNodes(s.now, "nodepool1", 1)
	require.NoError(t, err)
	third := names[0]
	s.pod(2, "kube-system/proxy")
	s.until(10 * time.Second)
	require.Equal(t, map[string]int{first: 1, second: 1, third: 2}, s.ports())

	require.NoError(t, s.End(s.now, third))
	require.Equal(t, apiserver.Stats{Clients: 4, Open: 2, Connected: 4, Closed: 2}, s.Traffic.Stats())
	_, err = s.cluster.RemoveNodes(s.now, third)
	require.NoError(t, err)
	_, err = s.cluster.RemoveNodes(s.now, second)
	require.NoError(t, err)
	s.until(2 * time.Minute)
	require.Equal(t, apiserver.Stats{Clients: 1, Open: 1, Connected: 4, KeepAlives: 4, Closed: 2, Vanished: 1}, s.Traffic.Stats())

	// Another pod of the same name is another client, also if it has come between two looks.
	s.pod(0, "kube-system/proxy")
	s.Follow(s.now)
	require.NoError(t, s.cluster.RemovePod("kube-system/proxy"))
	s.pod(0, "kube-system/proxy")
	s.until(3 * time.Minute)
	require.Equal(t, 2, s.Traffic.Stats().Open)
	require.EqualValues(t, 2, s.Traffic.Stats().Vanished)
	require.Equal(t, "10.244.0.3", s.Clients()[1].Inside.Addr().String())
}

// A keep-alive that is due before the next look sends nothing for who is gone.
func TestGoneBeforeLook(t *testing.T) {
	s := newStory(t, nil, func(c *apiserver.Config) { c.FollowInterval = time.Hour })
	s.until(time.Second)
	_, err := s.cluster.RemoveNodes(s.now, second)
	require.NoError(t, err)
	s.until(time.Minute)
	require.Equal(t, apiserver.Stats{Clients: 1, Open: 1, Connected: 2, KeepAlives: 2, Vanished: 1}, s.Traffic.Stats())
}

// The load balancer resets what is idle; a client that hears of it connects again, from
// another port, and one that does not learns it by its next keep-alive.
func TestIdleTimeout(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprint("deaf ", deaf), func(t *testing.T) {
			s := newStory(t, nil, func(c *apiserver.Config) { c.KeepAlive = 40 * time.Minute })
			s.deaf = deaf
			s.until(time.Second)
			before := s.Clients()
			s.until(31 * time.Minute)
			if deaf {
				require.Zero(t, s.Traffic.Stats().Cut)
				s.until(41 * time.Minute)
			}
			require.Equal(t, apiserver.Stats{Clients: 2, Open: 2, Connected: 4, Cut: 2}, s.Traffic.Stats())
			for i, c := range s.Clients() {
				require.Equal(t, before[i].Inside.Port()+1, c.Inside.Port())
			}
		})
	}
}

// Only a RST of the connection, in sequence, cuts it.
func TestReceive(t *testing.T) {
	s := newStory(t, nil, nil)
	s.until(time.Second)
	c := s.Clients()[0]
	rst := func(from, to string, seq uint32) []byte {
		return pkttest.TCP(from, to, pkttest.TCPFlags("R"), pkttest.Seq(seq))
	}
	elsewhere := netip.AddrPortFrom(c.Inside.Addr(), c.Inside.Port()+1).String()
	for name, tt := range map[string]struct {
		pkt  []byte
		ours bool
	}{
		"no packet":         {nil, false},
		"a datagram":        {pkttest.UDP(server, c.Inside.String(), "x"), false},
		"another server":    {rst("203.0.113.80:444", c.Inside.String(), 0), false},
		"another port":      {rst(server, elsewhere, 0), false},
		"a stranger":        {rst(server, "10.224.0.99:1", 0), false},
		"another number":    {rst(server, c.Inside.String(), 1), true},
		"an acknowledgment": {pkttest.TCP(server, c.Inside.String(), pkttest.TCPFlags("A"), pkttest.Seq(0), pkttest.Ack(1)), true},
	} {
		require.Equal(t, tt.ours, s.Receive(s.now, tt.pkt), name)
		require.Equal(t, 2, s.Traffic.Stats().Open, name)
	}
	require.True(t, s.Receive(s.now, rst(server, c.Inside.String(), 0)))
	require.Equal(t, apiserver.Waiting, s.Clients()[0].State)
	require.False(t, s.Receive(s.now, rst(server, c.Inside.String(), 0)), "once")
	s.until(61 * time.Second)
	require.Equal(t, apiserver.Stats{Clients: 2, Open: 2, Connected: 3, KeepAlives: 2 + 1, Cut: 1}, s.Traffic.Stats(), "again after 2 s, and alive after 32 s")
}

// A pod may get the address that another one of its name had, after all others; they are two clients.
func TestSameAddress(t *testing.T) {
	s := newStory(t, nil, nil)
	s.pod(0, "kube-system/x")
	s.until(time.Second)
	was := s.Clients()[2].Inside
	require.NoError(t, s.cluster.RemovePod("kube-system/x"))
	s.Follow(s.now)
	require.False(t, s.Receive(s.now, pkttest.TCP(server, was.String(), pkttest.TCPFlags("R"), pkttest.Seq(0))), "nobody is there")
	for i := range 252 {
		s.pod(0, fmt.Sprint(i))
		require.NoError(t, s.cluster.RemovePod(fmt.Sprint(i)))
	}
	s.pod(0, "kube-system/x")
	s.Follow(s.now)
	require.Equal(t, was.Addr(), s.Clients()[2].Inside.Addr())
	s.until(62 * time.Second)
	require.Equal(t, apiserver.Stats{Clients: 3, Open: 3, Connected: 4, KeepAlives: 3 * 2, Vanished: 1}, s.Traffic.Stats())
}

// eightPorts is what each node gets.
func eightPorts(c *overlay.ClusterConfig) {
	c.LoadBalancerProfile.ManagedOutboundIPCount, c.LoadBalancerProfile.AllocatedOutboundPorts = 1, 8
}

// With 8 ports per node the ninth client of a node waits until one is free, and others do not notice.
func TestNoPort(t *testing.T) {
	s := newStory(t, eightPorts, nil)
	for i := range 8 {
		s.pod(0, fmt.Sprint("kube-system/", i))
	}
	s.until(20 * time.Second)
	require.Equal(t, 9, s.Traffic.Stats().Open)
	last := s.Clients()[9]
	require.Equal(t, "kube-system/7 waiting ports 5 31s", fmt.Sprint(last.Name, " ", last.State, " ", last.Reason, " ", last.Failures, " ", last.Next.Duration()))
	require.NoError(t, s.End(s.now, "kube-system/0"))
	s.until(10 * time.Minute)
	require.Equal(t, apiserver.Connected, s.Clients()[9].State)
	require.Zero(t, s.Clients()[9].Failures)
	require.Equal(t, apiserver.Ended, s.Clients()[2].State)

	require.NoError(t, s.Start(s.now, "kube-system/0", "kube-system/1"))
	require.Equal(t, apiserver.Waiting, s.Clients()[2].State)
	require.Equal(t, apiserver.Connected, s.Clients()[3].State)
}

// Where the outbound type changes, flows end; the API server sees another address, and clients are connected again.
func TestOutboundTypeChanges(t *testing.T) {
	s := newStory(t, nil, nil)
	s.until(time.Minute)
	for i, to := range []overlay.OutboundType{overlay.OutboundUserDefinedRouting, overlay.OutboundManagedNATGateway, overlay.OutboundBlock, overlay.OutboundLoadBalancer} {
		cfg := s.cluster.Config()
		cfg.OutboundType = to
		_, err := s.cluster.Reconfigure(s.now, cfg)
		require.NoError(t, err)
		s.until(time.Duration(i+2) * 5 * time.Minute)
		open := 2
		if to == overlay.OutboundBlock {
			open = 0
		}
		require.Equal(t, open, s.Traffic.Stats().Open, to)
		require.Equal(t, open == 2 && to != overlay.OutboundUserDefinedRouting, len(s.ports()) == 2, to)
	}
	require.EqualValues(t, 6, s.Traffic.Stats().Cut)
	require.True(t, slices.Contains(s.seen, "1m30s inside TCP 203.0.113.80:443 > 10.224.0.4:32768 R seq=0 len=0"), "who comes from another address is reset")
}

// A next hop that translates gets the answers first.
func TestNextHop(t *testing.T) {
	node, firewall := flow.Addr4(netip.MustParseAddr("10.224.0.4")), flow.Addr4(netip.MustParseAddr("198.51.100.1"))
	readdress := func(pkt []byte, at int, from, to uint32) {
		var p wire.Packet
		require.Equal(t, wire.OK, wire.Parse(pkt, &p))
		require.Equal(t, from, binary.BigEndian.Uint32(pkt[at:]))
		p.Readdress(at, 0, [2]uint64{uint64(to)}, wire.Delta32(from, to))
	}
	hop := func(c *overlay.ClusterConfig) {
		c.OutboundType, c.NodePools[0].Count = overlay.OutboundUserDefinedRouting, 1
		c.NextHop = func(_ flow.Time, pkt []byte) flow.Verdict {
			readdress(pkt, 12, node, firewall)
			return flow.Verdict{Action: flow.Forward, To: flow.Outside}
		}
	}
	s := newStory(t, hop, nil)
	s.until(time.Second)
	require.Equal(t, apiserver.Stats{Clients: 1, Failed: 2}, s.Traffic.Stats(), "its answers do not go to the node by themselves")

	s = newStory(t, hop, func(c *apiserver.Config) {
		c.Inbound = func(now flow.Time, pkt []byte) flow.Verdict {
			readdress(pkt, 16, firewall, node)
			return c.Cluster.Inbound(now, pkt)
		}
	})
	s.until(time.Minute)
	require.Equal(t, apiserver.Stats{Clients: 1, Open: 1, Connected: 1, KeepAlives: 2}, s.Traffic.Stats())
	require.Equal(t, "198.51.100.1:32768", s.Clients()[0].Outside.String())
}

// The same calls make the same packets.
func TestRepeatable(t *testing.T) {
	run := func() []string {
		s := newStory(t, eightPorts, nil)
		for i := range 12 {
			s.pod(i%2, fmt.Sprint("kube-system/", i))
		}
		s.until(5 * time.Minute)
		s.Close(s.now)
		return s.seen
	}
	require.Equal(t, run(), run())
}

// A late call does what was due once; the end of time is no loop.
func TestLate(t *testing.T) {
	s := newStory(t, nil, nil)
	s.Advance(-5)
	s.Advance(flow.At(3 * time.Minute))
	require.EqualValues(t, 2, s.Traffic.Stats().KeepAlives)
	const last = 1<<63 - 1
	s.Advance(last)
	require.Equal(t, 2, s.Traffic.Stats().Clients)
}

func TestNew_problems(t *testing.T) {
	_, err := apiserver.New(apiserver.Config{})
	require.EqualError(t, err, "Cluster: missing: the cluster whose nodes are clients\nServer: missing: address and port of the API server")
	c, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}})
	require.NoError(t, err)
	defer c.Close()
	_, err = apiserver.New(apiserver.Config{
		Cluster: c, Server: netip.MustParseAddrPort("[2001:db8::1]:0"),
		KeepAlive: -1, Backoff: 2 * time.Second, BackoffMax: time.Second, FollowInterval: 25 * time.Hour,
	})
	require.ErrorIs(t, err, overlay.ErrFamily)
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	require.EqualError(t, err, "BackoffMax 1s: out of range: 2s to 24h0m0s\nFollowInterval 25h0m0s: out of range: 1ms to 24h0m0s\n"+
		"KeepAlive -1ns: out of range: 1ms to 24h0m0s\nServer [2001:db8::1]:0: wrong address family: the cluster has IPv4 only")
	_, err = apiserver.New(apiserver.Config{Cluster: c, Server: netip.MustParseAddrPort("224.0.0.1:443"), Backoff: 48 * time.Hour})
	require.ErrorIs(t, err, flow.ErrAddress)
	require.EqualError(t, err, "Backoff 48h0m0s: out of range: 1ms to 24h0m0s\nServer 224.0.0.1:443: not the address of a single host")

	s := newStory(t, nil, nil)
	s.until(time.Second)
	for _, do := range []func(flow.Time, ...string) error{s.End, s.Start} {
		err = do(s.now, first, "nobody", "kube-system/none")
		require.ErrorIs(t, err, flow.ErrUnknownName)
		require.EqualError(t, err, "names[1] \"nobody\": unknown name: no node or system pod that has been seen\n"+
			"names[2] \"kube-system/none\": unknown name: no node or system pod that has been seen")
	}
	require.Equal(t, 2, s.Traffic.Stats().Open, "nothing has happened")
}
