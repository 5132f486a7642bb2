package snat_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A carrier-grade NAT: each subscriber has one of two addresses and at most two
// UDP ports, which are random and rest for two minutes after use.
func ExampleAllocation() {
	n, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name:   "cgn",
			Inside: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")},
			Ports: []snat.PortRange{
				{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 64512},
				{Frontend: netip.MustParseAddr("203.0.113.11"), First: 1024, Count: 64512},
			},
		}},
		Ports: &snat.Owned{
			UDP: snat.Behavior{Share: snat.ShareNever},
			Allocation: snat.Allocation{
				Choice:     snat.RandomPort,
				Parity:     true,
				Pooling:    snat.Paired,
				Quarantine: snat.Quarantine{Hold: 2 * time.Minute},
			},
			Limits: snat.Limits{UDPPorts: 2},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	for _, src := range []string{"100.64.0.1:5000", "100.64.0.1:5001", "100.64.0.1:5002", "100.64.0.2:5000"} {
		pkt := pkttest.UDP(src, "198.51.100.7:53", "query")
		v := n.Outbound(flow.At(0), pkt)
		if v.Action != flow.Forward {
			fmt.Println(src, "refused:", v.Reason.Sentence())
			continue
		}
		port := int(pkt[20])<<8 | int(pkt[21])
		fmt.Println(src, "leaves from", netip.AddrFrom4([4]byte(pkt[12:16])), "with an even port:", port%2 == 0)
	}
	for _, s := range n.Subscribers() {
		fmt.Println(s.Addr, "is at", s.Frontend, "with", s.UDPPorts, "UDP ports")
	}
	// Output:
	// 100.64.0.1:5000 leaves from 203.0.113.10 with an even port: true
	// 100.64.0.1:5001 leaves from 203.0.113.10 with an even port: false
	// 100.64.0.1:5002 refused: The inside address has as many outside ports as its quota allows.
	// 100.64.0.2:5000 leaves from 203.0.113.11 with an even port: true
	// 100.64.0.1 is at 203.0.113.10 with 2 UDP ports
	// 100.64.0.2 is at 203.0.113.11 with 1 UDP ports
}
