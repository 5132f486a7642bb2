package snat_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A translator for peer-to-peer traffic: one outside socket for all that a UDP
// socket does, open to everybody, and to the neighbours as well.
func ExampleBehavior() {
	nat, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name:   "homes",
			Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			Ports:  []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 64}},
		}},
		Ports: &snat.Owned{
			TCP:     snat.Behavior{Share: snat.ShareNever},
			UDP:     snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever},
			Hairpin: true,
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()

	show := func(_ flow.Verdict, pkt []byte) { fmt.Println(pkttest.String(pkt)) }

	hello := pkttest.UDP("10.0.0.4:5000", "198.51.100.7:3478", "who am I?") // makes the mapping
	show(nat.Outbound(0, hello), hello)

	stranger := pkttest.UDP("192.0.2.9:9999", "203.0.113.10:1024", "hello") // from one who was never asked
	show(nat.Inbound(0, stranger), stranger)

	neighbour := pkttest.UDP("10.0.0.5:5000", "203.0.113.10:1024", "hello") // by the outside socket
	show(nat.Outbound(0, neighbour), neighbour)

	// Output:
	// UDP 203.0.113.10:1024 > 198.51.100.7:3478 len=9
	// UDP 192.0.2.9:9999 > 10.0.0.4:5000 len=5
	// UDP 203.0.113.10:1025 > 10.0.0.4:5000 len=5
}
