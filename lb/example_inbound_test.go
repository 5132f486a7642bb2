package lb_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A web site on two backends. One of them stops to answer its probes: then all new
// connections reach the other.
func ExampleLoadBalancingRule() {
	down := map[string]bool{}
	c := lb.Config{
		FrontendIPConfigurations: []lb.FrontendIPConfiguration{{Name: "site", PublicIPAddress: netip.MustParseAddr("20.50.1.9")}},
		Backends: []lb.Backend{
			{Name: "vm0", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")}},
			{Name: "vm1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.5")}},
		},
		BackendAddressPools: []lb.BackendAddressPool{{Name: "web", Backends: []string{"vm0", "vm1"}}},
		Probes:              []probe.Probe{{Name: "tcp", Port: 8080, Interval: 5 * time.Second}},
		Prober: probe.ProberFunc(func(_ flow.Time, b probe.Backend, _ *probe.Probe) probe.Result {
			if down[b.Name] {
				return probe.Failure
			}
			return probe.Success
		}),
		LoadBalancingRules: []lb.LoadBalancingRule{{
			Name: "http", FrontendIPConfiguration: "site", BackendAddressPool: "web", Protocol: snat.TCP,
			FrontendPort: 80, BackendPort: 8080, Probe: "tcp", DisableOutboundSNAT: true,
		}},
	}
	l, err := lb.New(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	visit := func(at time.Duration) {
		l.Advance(flow.At(at), nil) // makes the probes that are due
		visits := map[uint32]int{}
		for port := range uint16(100) {
			pkt := syn(netip.AddrPortFrom(netip.MustParseAddr("203.0.113.7"), 1024+port), netip.MustParseAddrPort("20.50.1.9:80"))
			if v := l.Inbound(flow.At(at), pkt); v.Action == flow.Forward {
				visits[v.Instance]++ // and pkt is for port 8080 of that backend
			}
		}
		fmt.Println(len(visits), "backends,", visits[0]+visits[1], "connections")
	}
	l.Advance(0, nil)
	visit(5 * time.Second)
	down["vm1"] = true
	visit(60 * time.Second)
	// Output:
	// 2 backends, 100 connections
	// 1 backends, 100 connections
}

// Every member of a pool has an ssh port of the frontend, and keeps it.
func ExampleLoadBalancer_PortMappings() {
	c := twoNodes()
	c.InboundNATRules = []lb.InboundNATRule{{
		Name: "ssh", FrontendIPConfiguration: c.FrontendIPConfigurations[0].Name, Protocol: snat.TCP, BackendAddressPool: c.BackendAddressPools[0].Name,
		FrontendPortRangeStart: 50_000, FrontendPortRangeEnd: 50_099, BackendPort: 22,
	}}
	l, err := lb.New(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	fmt.Println(l.PortMappings())
	c.BackendAddressPools[0].Backends = []string{"node1"}
	if _, err := l.Reconfigure(flow.At(time.Minute), c); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.PortMappings())
	// Output:
	// [{ssh node0 50000} {ssh node1 50001}]
	// [{ssh node1 50001}]
}
