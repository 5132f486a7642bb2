package lb_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

// twoPods sends a SYN from a pod of each node and returns the addresses and ports
// that they leave with, or "drop".
func twoPods(now flow.Time, outbound func(flow.Time, []byte) flow.Verdict, port uint16) (sources []string) {
	for _, pod := range []string{"10.244.0.9", "10.244.1.7"} {
		pkt := syn(netip.AddrPortFrom(netip.MustParseAddr(pod), port), netip.MustParseAddrPort("203.0.113.80:443"))
		if outbound(now, pkt).Action != flow.Forward {
			sources = append(sources, "drop")
			continue
		}
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(pkt[12:16])), uint16(pkt[20])<<8|uint16(pkt[21]))
		sources = append(sources, src.String())
	}
	return sources
}

// What Azure Monitor would show of a load balancer whose first node runs out of
// ports while the second has plenty.
func ExampleLoadBalancer_Metrics() {
	c := twoNodes()
	c.OutboundRules[0].AllocatedOutboundPorts = 8
	l, err := lb.New(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	for i := range 10 {
		pkt := syn(netip.AddrPortFrom(netip.MustParseAddr("10.244.0.9"), uint16(41000+i)), netip.MustParseAddrPort("203.0.113.80:443"))
		l.Outbound(flow.At(0), pkt)
	}
	for _, s := range l.Metrics() {
		if s.Metric == monitor.SnatConnectionCount && s.Value > 0 || s.Metric == monitor.UsedSnatPorts && s.Protocol == snat.TCP {
			fmt.Println(s)
		}
	}
	for _, s := range l.Stranded() {
		fmt.Printf("%s refused %d flows while others had %d free ports\n", s.Name, s.Failed, s.FreeElsewhere)
	}
	// Output:
	// SnatConnectionCount FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.4 ConnectionState=successful 8
	// SnatConnectionCount FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.4 ConnectionState=failed 2
	// UsedSnatPorts FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.4 Protocol=TCP 8
	// UsedSnatPorts FrontendIPAddress=20.50.1.1 BackendIPAddress=10.224.0.5 Protocol=TCP 0
	// node0 refused 2 flows while others had 8 free ports
}

func ExampleSampler() {
	l, err := lb.New(twoNodes())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()

	sampler := monitor.NewSampler(l.Metrics, 0)
	sampler.Sample(flow.At(0))
	for minute := range 5 {
		now := flow.At(time.Duration(minute) * time.Minute)
		for range minute + 1 {
			twoPods(now, l.Outbound, uint16(41000+minute))
		}
		sampler.Sample(now)
	}
	for s, points := range sampler.Series(5 * time.Minute) {
		if s.Metric == monitor.AllocatedSnatPorts && s.Protocol == snat.TCP && s.BackendIPAddress == netip.MustParseAddr("10.224.0.4") {
			fmt.Printf("%v: average %v, sum of %d samples %v\n", s.BackendIPAddress, points[0].Average(), points[0].Count, points[0].Sum)
		}
		if s.Metric == monitor.SnatConnectionCount && s.ConnectionState == monitor.Successful {
			fmt.Println(s.BackendIPAddress, "made", points[0].Sum, "connections")
		}
	}
	// Output:
	// 10.224.0.4 made 5 connections
	// 10.224.0.4: average 1024, sum of 6 samples 6144
	// 10.224.0.5 made 5 connections
}

// A pool grows across a tier of automatic allocation: every node keeps the lower
// half of its ports, and the flows on it.
func ExampleLoadBalancer_Reconfigure() {
	c := twoNodes()
	grown := c
	for i := range 50 {
		name := fmt.Sprintf("new%d", i)
		grown.Backends = append(grown.Backends, lb.Backend{Name: name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 224, 1, byte(i)})}})
	}
	var names []string
	for _, b := range grown.Backends {
		names = append(names, b.Name)
	}
	grown.BackendAddressPools = []lb.BackendAddressPool{{Name: c.BackendAddressPools[0].Name, Backends: names}}

	l, err := lb.New(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	fmt.Println(twoPods(flow.At(0), l.Outbound, 41000))
	if _, err := l.Reconfigure(flow.At(time.Second), grown); err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range l.Allocations()[:3] {
		r := a.Ports[0]
		fmt.Printf("%s %d-%d\n", a.Instance, r.First, int(r.First)+r.Count-1)
	}
	fmt.Println("flows:", l.Stats().SessionsActive)
	// Output:
	// [20.50.1.1:1024 20.50.1.1:2048]
	// node0 1024-1535
	// node1 2048-2559
	// new0 1536-2047
	// flows: 2
}

// A cluster with SKU Basic: without Service an address that Azure picks, then that
// of the first Service, whatever comes later.
func ExampleEgress() {
	cluster := func(services ...string) lb.EgressConfig {
		c := twoNodes()
		c.SKU, c.FrontendIPConfigurations, c.OutboundRules = lb.Basic, nil, nil
		for _, ip := range services {
			c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, lb.FrontendIPConfiguration{Name: ip, PublicIPAddress: netip.MustParseAddr(ip)})
			c.LoadBalancingRules = append(c.LoadBalancingRules, lb.LoadBalancingRule{
				Name: ip, FrontendIPConfiguration: ip, BackendAddressPool: c.BackendAddressPools[0].Name,
				Protocol: snat.TCP, FrontendPort: 80, BackendPort: 80, EnableFloatingIP: true,
			})
		}
		return lb.EgressConfig{LoadBalancer: c}
	}
	e, err := lb.NewEgress(cluster())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
	for i, services := range [][]string{nil, {"20.50.1.1"}, {"20.50.1.1", "20.50.1.2"}, {"20.50.1.2"}, nil} {
		if _, err := e.Reconfigure(flow.At(time.Duration(i)*time.Minute), cluster(services...)); err != nil {
			fmt.Println(err)
			return
		}
		d, _ := e.Decide("node0", snat.TCP, false)
		if d.Option == lb.DefaultOutboundAccess {
			fmt.Println(services, d.Option, lb.DefaultOutboundRange.Contains(d.Addrs[0]))
		} else {
			fmt.Println(services, d.Option, d.Addrs[0])
		}
	}
	// Output:
	// [] default outbound access true
	// [20.50.1.1] load-balancing rule 20.50.1.1
	// [20.50.1.1 20.50.1.2] load-balancing rule 20.50.1.1
	// [20.50.1.2] load-balancing rule 20.50.1.2
	// [] default outbound access true
}

func ExampleNATGateway() {
	g := lb.NATGateway{
		PublicIPAddresses: []netip.Addr{netip.MustParseAddr("20.61.0.1")},
		PublicIPPrefixes:  []netip.Prefix{netip.MustParsePrefix("20.60.0.0/28")},
	}
	fmt.Println(g.Validate())
	g.PublicIPAddresses = nil
	fmt.Println(g.Validate(), g.Ports(false))
	// Output:
	// PublicIPAddresses has 17 IPv4 addresses, those of PublicIPPrefixes included: too many: at most 16
	// <nil> 1032192
}

// Who holds the ports of a node that runs out of them, and who suffers from that: one pod has seven
// connections, and its neighbour gets the last port only.
func ExampleLoadBalancer_Holders() {
	c := twoNodes()
	c.OutboundRules[0].AllocatedOutboundPorts = 8
	c.CountHolders.On = true
	l, err := lb.New(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	send := func(pod string, connections int) {
		for i := range connections {
			l.Outbound(flow.At(0), syn(netip.AddrPortFrom(netip.MustParseAddr(pod), uint16(41000+i)), netip.MustParseAddrPort("203.0.113.80:443")))
		}
	}
	send("10.244.0.9", 7)
	send("10.244.0.11", 3)
	for _, h := range l.Holders(flow.At(0), snat.HoldersByInside).Rows {
		fmt.Printf("%v on %s: %d ports, %d refused, to blame for %d refusals\n", h.Inside, h.Instance, h.Ports, h.Suffered, h.Blamed)
	}
	for _, h := range l.Holders(flow.At(0), snat.HoldersByDestination).Rows {
		fmt.Printf("%v: %d ports, %d refused\n", h.Remote, h.Ports, h.Suffered)
	}
	// Output:
	// 10.244.0.9 on node0: 7 ports, 0 refused, to blame for 2 refusals
	// 10.244.0.11 on node0: 1 ports, 2 refused, to blame for 0 refusals
	// 203.0.113.80:443: 8 ports, 2 refused
}
