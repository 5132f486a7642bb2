package snat_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A node masquerades what its pods begin towards the virtual network, and nothing else:
// what a host of the network begins is remembered, so the pod's answer keeps its address.
func ExampleRoute() {
	n, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name:   "node",
			Addrs:  []netip.Addr{netip.MustParseAddr("10.224.0.4")},
			Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
		}},
		Routes: []snat.Route{{Prefix: netip.MustParsePrefix("10.224.0.0/12"), Action: snat.NodeAddress, BothWays: true}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	for _, pkt := range [][]byte{
		pkttest.UDP("10.225.0.9:41000", "10.244.0.7:53", "query"),
		pkttest.UDP("10.244.0.7:53", "10.225.0.9:41000", "answer"),
		pkttest.UDP("10.244.0.7:5000", "10.225.0.9:53", "query"),
	} {
		door := n.Outbound
		if netip.AddrFrom4([4]byte(pkt[12:16])) == netip.MustParseAddr("10.225.0.9") {
			door = n.Inbound
		}
		door(0, pkt)
		fmt.Println(pkttest.String(pkt))
	}
	for s := range n.Sessions() {
		fmt.Println(s.Kind, s.Inside)
	}
	// Unordered output:
	// UDP 10.225.0.9:41000 > 10.244.0.7:53 len=5
	// UDP 10.244.0.7:53 > 10.225.0.9:41000 len=6
	// UDP 10.224.0.4:5000 > 10.225.0.9:53 len=5
	// tracked 10.244.0.7:53
	// node 10.244.0.7:5000
}

// Whoever decides which flows may begin sees both ends as the inside knows them.
func ExampleDataplane_admit() {
	c := snat.Config{Instances: []snat.Instance{{
		Name:  "vm",
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
		Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 8}},
	}}}
	c.Admit = func(f snat.NewFlow) flow.Reason {
		if f.From == flow.Inside && f.Remote.Port() == 25 {
			return flow.ReasonNSGOutbound
		}
		return flow.ReasonNone
	}
	n, err := snat.New(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	for _, to := range []string{"203.0.113.9:443", "203.0.113.9:25"} {
		v := n.Outbound(0, pkttest.TCP("10.0.0.4:5000", to, pkttest.SYN))
		fmt.Println(to, v.Action, v.Reason)
	}
	fmt.Println(flow.ReasonNSGOutbound.Sentence())
	// Output:
	// 203.0.113.9:443 forward none
	// 203.0.113.9:25 drop nsg_outbound
	// A network security group denies the outbound flow.
}
