package snat_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Eight ports of a node are all in use towards one destination: one pod holds seven of them, and is to
// blame for what the other one is refused.
func ExampleNAT_Holders() {
	nat, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "node-1", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.4")},
			Inside: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
			Ports:  []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 8}},
		}},
		Dataplane: snat.Dataplane{CountHolders: snat.CountHolders{On: true}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()
	for i := range 7 {
		nat.Outbound(0, pkttest.TCP(fmt.Sprintf("10.244.1.7:%d", 40000+i), "198.51.100.9:443", pkttest.SYN))
	}
	for i := range 3 {
		nat.Outbound(0, pkttest.TCP(fmt.Sprintf("10.244.1.8:%d", 40000+i), "198.51.100.9:443", pkttest.SYN))
	}
	for _, h := range nat.Holders(0, snat.HoldersByInside).Rows {
		fmt.Printf("%v on %s: %d ports, refused %d times, to blame for %d\n", h.Inside, h.Instance, h.Ports, h.Suffered, h.Blamed)
	}
	for _, h := range nat.Holders(0, snat.HoldersByInstanceDestination).Rows {
		fmt.Printf("%s towards %v: %d ports, %d active\n", h.Instance, h.Remote, h.Ports, h.Active)
	}
	// Output:
	// 10.244.1.7 on node-1: 7 ports, refused 0 times, to blame for 2
	// 10.244.1.8 on node-1: 1 ports, refused 2 times, to blame for 0
	// node-1 towards 198.51.100.9:443: 8 ports, 8 active
}
