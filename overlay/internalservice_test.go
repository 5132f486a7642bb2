package overlay_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// internal is a Service whose load balancer is an internal one.
func internal(more ...string) overlay.Service {
	return overlay.Service{Type: overlay.LoadBalancer, Annotations: annotated(append(more, "azure-load-balancer-internal", "true")...)}
}

const (
	vm      = "10.225.1.9:5000"  // in the virtual network, in no subnet of nodes
	onPrem  = "192.168.7.9:5000" // directly connected
	address = "10.224.255.254"   // the last address of the subnet that Azure does not keep
)

func TestInternalServicePolicyCluster(t *testing.T) {
	s := newServing(t, internal(), "b")
	require.Equal(t, []netip.Addr{netip.MustParseAddr(address)}, s.web.LoadBalancerIPs)
	s.inbound(pkttest.TCP(vm, s.public(), pkttest.SYN))
	x := s.session()
	assert.Equal(t, []string{vm, s.public(), s.node(x.Node), s.addr("b") + ":8080"},
		[]string{x.Client.String(), x.Frontend.String(), x.Seen.Addr().String(), x.Endpoint.String()})
	assert.Equal(t, s.public()+" > "+vm, s.answers())
	nodes := map[int]bool{}
	for port := range 64 {
		s.inbound(pkttest.TCP(fmt.Sprintf("10.225.1.9:%d", 6000+port), s.public(), pkttest.SYN))
	}
	for x := range s.ServiceSessions() {
		nodes[x.Node] = true
	}
	assert.Len(t, nodes, 3, "all nodes get connections")
	assert.Equal(t, "not_ours", s.inbound(pkttest.TCP(outsider, s.public(), pkttest.SYN)), "the Internet reaches no private address")
	assert.Equal(t, "no_flow", s.inbound(pkttest.TCP(vm, address+":81", pkttest.SYN)), "no such port")
}

func TestInternalServicePolicyLocal(t *testing.T) {
	svc := internal()
	svc.ExternalTrafficPolicy = overlay.PolicyLocal
	s := newServing(t, svc, "b")
	for port := range 32 {
		client := fmt.Sprintf("10.225.1.9:%d", 5000+port)
		require.Equal(t, client+" > "+s.addr("b")+":8080", s.inbound(pkttest.TCP(client, s.public(), pkttest.SYN)), "only node 1 is healthy")
		require.Equal(t, s.public()+" > "+client, s.outbound(pkttest.TCP(s.addr("b")+":8080", client, pkttest.TCPFlags("SA"), pkttest.Ack(1))))
	}
}

// Pods and nodes do not meet the load balancer: their own node has what they look for, and
// so none of them is refused for being its own target.
func TestInternalServiceFromInside(t *testing.T) {
	for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
		svc := internal()
		svc.ExternalTrafficPolicy = policy
		s := newServing(t, svc, "a", "b")
		for port := range 64 {
			for i, host := range []string{s.addr("client"), s.addr("a"), s.node(0)} {
				client := fmt.Sprintf("%s:%d", host, 5000+port)
				s.outbound(pkttest.TCP(client, s.public(), pkttest.SYN))
				sent := 0
				for x := range s.ServiceSessions() {
					if x.Client.String() != client {
						continue
					}
					sent++
					seen := x.Seen.Addr().String()
					switch {
					case i == 0 && policy == overlay.PolicyLocal, i == 1 && policy == overlay.PolicyLocal && x.Pod == "b":
						assert.Equal(t, host, seen)
					default:
						assert.Equal(t, s.node(0), seen)
					}
				}
				require.Equal(t, 1, sent, "%s, %v", client, policy)
			}
		}
		assert.Zero(t, s.Stats().Outbound.Drops[flow.ReasonTargetLoop])
	}
}

// Peers and what is on premises reach it as the virtual network does, and floating IP is no
// matter to clients.
func TestInternalServiceFromConnectedNetworks(t *testing.T) {
	for _, floating := range []string{"false", "true"} {
		c, err := overlay.New(overlay.ClusterConfig{
			NodePools: []overlay.NodePool{{Name: "p", Count: 2}}, Dataplane: snat.Dataplane{Seed: 1, HashKey: 1},
			VNet: overlay.VNet{
				AddressSpaces:  []netip.Prefix{netip.MustParsePrefix("10.224.0.0/12")},
				Subnets:        []overlay.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/16")}}, {Name: "lb", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.230.0.0/24")}}},
				PeeredPrefixes: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")},
			},
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		s := &serving{T: t, Cluster: c}
		_, err = c.AddPod(c.Nodes()[1].Name, "b")
		require.NoError(t, err)
		svc := internal("azure-load-balancer-internal-subnet", "lb", "azure-disable-load-balancer-floating-ip", floating)
		svc.Name, svc.Ports = "web", []overlay.ServicePort{{Port: 80, TargetPort: 8080}}
		s.web, err = c.AddService(0, svc)
		require.NoError(t, err)
		assert.Equal(t, "10.230.0.254:80", s.public())
		s.endpoints("b")
		s.inbound(pkttest.TCP(onPrem, s.public(), pkttest.SYN))
		x := s.session()
		if floating == "true" {
			assert.Equal(t, fmt.Sprintf("%s:%d", s.node(x.Node), s.web.Ports[0].NodePort), x.Frontend.String())
		}
		assert.Equal(t, s.public()+" > "+onPrem, s.answers())
		direct := fmt.Sprintf("%s:%d", s.node(0), s.web.Ports[0].NodePort)
		s.inbound(pkttest.TCP("192.168.7.9:5001", direct, pkttest.SYN))
		for x := range s.ServiceSessions() {
			if x.Client.String() == "192.168.7.9:5001" {
				assert.Equal(t, direct+" > 192.168.7.9:5001",
					s.outbound(pkttest.TCP(x.Endpoint.String(), x.Seen.String(), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1))), "who comes by the node port is answered by it")
			}
		}
	}
}

// With two families it has an address of each; that of IPv6 is for the node port.
func TestInternalServiceOfTwoFamilies(t *testing.T) {
	svc := internal("azure-load-balancer-ipv4", "10.224.9.9")
	svc.IPFamilies = "ipv4,ipv6"
	s := newServing(t, svc, "b")
	require.Equal(t, []netip.Addr{netip.MustParseAddr("10.224.9.9"), netip.MustParseAddr("fd12:3456:789b::fffe")}, s.web.LoadBalancerIPs)
	client, frontend := "[fd12:3456:789b:7::9]:5000", "[fd12:3456:789b::fffe]:80"
	s.inbound(pkttest.TCP(client, frontend, pkttest.SYN))
	x := s.session()
	assert.Equal(t, netip.AddrPortFrom(s.Nodes()[x.Node].Addrs[1], s.web.Ports[0].NodePort), x.Frontend)
	assert.Equal(t, frontend+" > "+client, s.answers())
	s.inbound(pkttest.TCP(vm, "10.224.9.9:80", pkttest.SYN))
	for x := range s.ServiceSessions() {
		assert.Contains(t, []string{client, vm}, x.Client.String())
	}
}

// A public and an internal Service go side by side, and each load balancer has its own.
func TestInternalServiceBesideAPublicOne(t *testing.T) {
	s := newServing(t, internal(), "b")
	public, err := s.AddService(s.now, overlay.Service{Name: "shop", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80, TargetPort: 8080}}})
	require.NoError(t, err)
	require.NoError(t, s.SetEndpoints("shop", overlay.Endpoint{Pod: "a"}))
	s.probes()
	s.inbound(pkttest.TCP(vm, s.public(), pkttest.SYN))
	s.inbound(pkttest.TCP(outsider, public.LoadBalancerIPs[0].String()+":80", pkttest.SYN))
	found := map[string]string{}
	for x := range s.ServiceSessions() {
		found[x.Client.String()] = x.Service + " " + x.Pod
	}
	assert.Equal(t, map[string]string{vm: "web b", outsider: "shop a"}, found)
	config := s.EgressConfig()
	require.Len(t, config.InternalLoadBalancers, 1)
	assert.Equal(t, overlay.InternalLoadBalancerName, config.InternalLoadBalancers[0].Name)
	available := map[string]float64{}
	for _, m := range s.Metrics() {
		if m.Metric == monitor.VipAvailability {
			available[fmt.Sprintf("%v:%d", m.FrontendIPAddress, m.FrontendPort)] = m.Value
		}
	}
	assert.Equal(t, map[string]float64{s.public(): 100, public.LoadBalancerIPs[0].String() + ":80": 100}, available)

	require.NoError(t, s.RemoveService(s.now, "web"))
	assert.Empty(t, s.EgressConfig().InternalLoadBalancers)
	assert.Equal(t, "not_ours", s.inbound(pkttest.TCP("10.225.1.9:5001", address+":80", pkttest.SYN)))
}

// Nodes do not get the addresses of internal Services, and neither do Services those of nodes.
func TestInternalServiceAndNodesShareASubnet(t *testing.T) {
	config := overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Name: "p", Count: 3}},
		VNet: overlay.VNet{
			AddressSpaces: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/16")},
			Subnets:       []overlay.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/28")}}},
		},
	}
	c, err := overlay.New(config)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	add := func(name string, more ...string) error {
		svc := internal(more...)
		svc.Name, svc.Ports = name, []overlay.ServicePort{{Port: 80}}
		_, err := c.AddService(0, svc)
		return err
	}
	for line, want := range map[[2]string]string{
		{"azure-load-balancer-ipv4", "10.224.0.4"}:        "node aks-p-vmss000000 has it",
		{"azure-load-balancer-ipv4", "10.224.0.3"}:        "Azure keeps the first four",
		{"azure-load-balancer-ipv4", "10.224.0.15"}:       "and the last",
		{"azure-load-balancer-ipv4", "10.224.1.9"}:        "must be in 10.224.0.0/28",
		{"azure-load-balancer-internal-subnet", "other"}:  "no such subnet",
		{"azure-additional-public-ips", "20.50.9.9"}:      "not with azure-load-balancer-internal",
		{"azure-load-balancer-ipv6", "fd12:3456:789b::9"}: `IPFamilies is "ipv4"`,
		{"azure-pls-create", "true"}:                      "not modelled",
	} {
		assert.ErrorContains(t, add("bad", line[0], line[1]), want, "%v", line)
	}
	require.NoError(t, add("next", "azure-load-balancer-ipv4", "10.224.0.7"))
	assert.ErrorContains(t, add("again", "azure-load-balancer-ipv4", "10.224.0.7"), "has it")
	require.NoError(t, add("last"))
	assert.Equal(t, "10.224.0.14", c.Services()[1].LoadBalancerIPs[0].String())

	config.NodePools[0].Count = 9
	_, err = c.Reconfigure(0, config)
	require.NoError(t, err)
	assert.Equal(t, "10.224.0.8", c.Nodes()[3].Addrs[0].String(), "10.224.0.7 is a Service's")
	config.NodePools[0].Count = 10
	_, err = c.Reconfigure(0, config)
	assert.ErrorIs(t, err, overlay.ErrTooManyNodes)
	assert.ErrorContains(t, err, "VNet.Subnets[0].AddressPrefixes 10.224.0.0/28")
	assert.ErrorIs(t, add("full"), flow.ErrTooMany)
	config.NodePools[0].Count = 2
	config.VNet.Subnets[0].AddressPrefixes[0] = netip.MustParsePrefix("10.224.1.0/28")
	_, err = c.Reconfigure(0, config)
	assert.Error(t, err, "its subnet is gone")
}

// Who may use it: the virtual network, unless the deny annotation asks for the ranges.
func TestInternalServiceSourceRanges(t *testing.T) {
	for _, deny := range []string{"false", "true"} {
		svc := internal("azure-deny-all-except-load-balancer-source-ranges", deny)
		svc.LoadBalancerSourceRanges = []netip.Prefix{netip.MustParsePrefix("10.225.1.0/24")}
		s := newServing(t, svc, "b")
		s.inbound(pkttest.TCP(vm, s.public(), pkttest.SYN))
		assert.Equal(t, s.public()+" > "+vm, s.answers())
		want := map[string]string{"false": "source_range", "true": "nsg_inbound"}[deny]
		assert.Equal(t, want, s.inbound(pkttest.TCP("10.225.2.9:5000", s.public(), pkttest.SYN)), "deny all: %s", deny)
	}
}

// Nodes come and go beside the addresses of an internal Service, whatever families it has.
func TestInternalServiceWhileNodesComeAndGo(t *testing.T) {
	for _, families := range []string{"ipv4", "ipv6", "ipv4,ipv6"} {
		c, err := overlay.New(overlay.ClusterConfig{IPFamilies: "ipv4,ipv6", NodePools: []overlay.NodePool{{Name: "a", Count: 2}}})
		require.NoError(t, err)
		svc := internal()
		svc.Name, svc.IPFamilies, svc.Ports = "web", families, []overlay.ServicePort{{Port: 80}}
		status, err := c.AddService(0, svc)
		require.NoError(t, err, families)
		names, _, err := c.AddNodes(0, "a", 2)
		require.NoError(t, err, families)
		for _, n := range c.Nodes() {
			for _, a := range n.Addrs {
				require.NotContains(t, status.LoadBalancerIPs, a, families)
			}
		}
		_, err = c.RemoveNodes(0, names...)
		require.NoError(t, err, families)
		_, err = c.Reconfigure(0, c.Config())
		require.NoError(t, err, families)
		c.Close()
	}
}
