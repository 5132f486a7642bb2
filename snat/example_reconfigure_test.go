package snat_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A pool grows and an instance gives half of its ports to a new one. A flow on
// the half that stays goes on; of those on the other half, which nobody else gets
// at once may go on for a minute.
func ExampleNAT_Reconfigure() {
	public := netip.MustParseAddr("203.0.113.10")
	c := snat.Config{
		Instances: []snat.Instance{{
			Name: "node0", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
			Ports: []snat.PortRange{{Frontend: public, First: 1024, Count: 32}},
		}},
		Dataplane: snat.Dataplane{ReclaimGrace: time.Minute},
	}
	n, err := snat.New(c)
	if err != nil {
		panic(err)
	}
	defer n.Close()
	for i := range 32 {
		n.Outbound(0, pkttest.TCP(fmt.Sprintf("10.0.0.4:%d", 5000+i), "198.51.100.7:443", pkttest.SYN))
	}

	c.Instances = []snat.Instance{
		{Name: "node0", Addrs: c.Instances[0].Addrs, Ports: []snat.PortRange{{Frontend: public, First: 1024, Count: 16}}},
		{Name: "node1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, Ports: []snat.PortRange{{Frontend: public, First: 1040, Count: 8}}},
	}
	change, err := n.Reconfigure(flow.At(time.Second), c)
	if err != nil {
		panic(err)
	}
	for _, i := range change.Instances {
		fmt.Printf("%s: %d ports granted, %d reclaimed, %d of them still in use, %d flows cut\n",
			i.Name, i.Granted, i.Reclaimed, i.AwaitingRemoval, i.Cut[snat.CutReclaimed])
	}

	c.Seed = 1
	_, err = n.Reconfigure(flow.At(time.Second), c)
	fmt.Println(err)
	// Output:
	// node0: 0 ports granted, 32 reclaimed, 8 of them still in use, 8 flows cut
	// node1: 16 ports granted, 0 reclaimed, 0 of them still in use, 0 flows cut
	// Seed 1: cannot be changed by Reconfigure: it is 0
}
