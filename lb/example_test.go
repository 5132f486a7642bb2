package lb_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// twoNodes is a load balancer as AKS makes it, with two nodes and one outbound IP.
func twoNodes() lb.Config {
	return lb.Config{
		Name: "kubernetes",
		FrontendIPConfigurations: []lb.FrontendIPConfiguration{
			{Name: "outbound", PublicIPAddress: netip.MustParseAddr("20.50.1.1")},
		},
		Backends: []lb.Backend{
			{Name: "node0", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.4")}, Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}},
			{Name: "node1", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.5")}, Inside: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}},
		},
		BackendAddressPools: []lb.BackendAddressPool{
			{Name: "aksOutboundBackendPool", Backends: []string{"node0", "node1"}},
		},
		OutboundRules: []lb.OutboundRule{{
			Name:                     "aksOutboundRule",
			FrontendIPConfigurations: []string{"outbound"},
			BackendAddressPool:       "aksOutboundBackendPool",
			IdleTimeout:              30 * time.Minute,
			EnableTCPReset:           true,
		}},
	}
}

// syn returns an IPv4 packet with a TCP SYN.
func syn(src, dst netip.AddrPort) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), SYN: true, Window: 65535}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		panic(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func ExampleLoadBalancer() {
	l, err := lb.New(twoNodes())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()

	for _, pod := range []string{"10.244.0.9:41000", "10.244.1.7:41000"} {
		pkt := syn(netip.MustParseAddrPort(pod), netip.MustParseAddrPort("203.0.113.80:443"))
		verdict := l.Outbound(flow.At(0), pkt)
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(pkt[12:16])), binary.BigEndian.Uint16(pkt[20:]))
		fmt.Println(pod, verdict.Action, "as", src)
	}
	// Output:
	// 10.244.0.9:41000 forward as 20.50.1.1:1024
	// 10.244.1.7:41000 forward as 20.50.1.1:2048
}

func ExampleConfig_Plan() {
	plan, err := twoNodes().Plan()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range plan {
		for _, r := range a.Ports {
			fmt.Printf("%s %v:%d-%d\n", a.Instance, r.Frontend, r.First, int(r.First)+r.Count-1)
		}
	}
	// Output:
	// node0 20.50.1.1:1024-2047
	// node1 20.50.1.1:2048-3071
}

func ExampleConfig_Validate() {
	c := twoNodes()
	c.OutboundRules[0].AllocatedOutboundPorts = 12
	c.OutboundRules[0].IdleTimeout = 3 * time.Minute
	fmt.Println(c.Validate())
	// Output:
	// OutboundRules[0].AllocatedOutboundPorts 12: not a multiple of 8: valid are 0 (automatic) and 8..64000 in steps of 8
	// OutboundRules[0].IdleTimeout 3m0s: out of range: valid are whole minutes 4..120, or 0 for the default
}

func ExampleCapacity() {
	nodes, err := lb.TotalNodes(
		lb.PoolSize{Count: 3},                                // system pool, surge of 1 node
		lb.PoolSize{Count: 5, MaxCount: 10, MaxSurge: "33%"}, // user pool with autoscaler
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	c := lb.Capacity{Nodes: nodes, Ports: 4000, Frontends: 1}
	fmt.Println(c.Check())
	fmt.Println("IPs needed:", c.MinFrontends())
	fmt.Println("or at most", c.MaxNodes(), "nodes, or", c.MaxPorts(), "ports per node")
	// Output:
	// InvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): 4000 allocated ports for a total node count of 18 require 72000 ports, but only 64000 are available on 1 outbound public IPs
	// IPs needed: 2
	// or at most 16 nodes, or 3552 ports per node
}

func ExampleAutomaticPorts() {
	for _, nodes := range []int{50, 51, 1000} {
		fmt.Println(nodes, lb.AutomaticPorts(nodes))
	}
	// Output:
	// 50 1024
	// 51 512
	// 1000 32
}

func ExampleChooseSNAT() {
	nic := lb.NIC{LoadBalancers: []lb.Membership{{
		OutboundRules: []lb.OutboundRule{{Name: "aksOutboundRule", FrontendIPConfigurations: []string{"outbound"}}},
	}}}
	d := lb.ChooseSNAT(nic, snat.TCP)
	fmt.Printf("%v via %v. %s\n", d.Option, d.Frontends, d.Reason)

	nic.PublicIPAddress = netip.MustParseAddr("203.0.113.5")
	d = lb.ChooseSNAT(nic, snat.TCP)
	fmt.Printf("%v. %s\n", d.Option, d.Reason)
	// Output:
	// outbound rule via [outbound]. Outbound rule "aksOutboundRule" serves the pool.
	// instance public IP. The interface has the public IP 203.0.113.5.
}
