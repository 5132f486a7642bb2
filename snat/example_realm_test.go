package snat_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Two tenants have the same addresses. Each sends by the door of its realm; the
// answers come by one door and tell whose they are.
func ExampleNAT_Realm() {
	var c snat.Config
	for i, tenant := range []string{"red", "blue"} {
		c.Instances = append(c.Instances, snat.Instance{
			Name: tenant, Realm: uint32(i + 1), Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: uint16(1024 + 8*i), Count: 8}},
		})
	}
	n, err := snat.New(c)
	if err != nil {
		panic(err)
	}
	defer n.Close()
	for realm := uint32(1); realm <= 2; realm++ {
		query := pkttest.UDP("10.0.0.4:5000", "198.51.100.7:53", "who?")
		n.Realm(realm).Outbound(0, query)
		fmt.Println(pkttest.String(query))
	}
	for port := 1024; port <= 1032; port += 8 {
		answer := pkttest.UDP("198.51.100.7:53", fmt.Sprint("203.0.113.10:", port), "me")
		if v := n.Inbound(0, answer); v.Action == flow.Forward {
			realm, _ := n.RealmOf(v.Instance)
			fmt.Println("realm", realm, pkttest.String(answer))
		}
	}
	// Output:
	// UDP 203.0.113.10:1024 > 198.51.100.7:53 len=4
	// UDP 203.0.113.10:1032 > 198.51.100.7:53 len=4
	// realm 1 UDP 198.51.100.7:53 > 10.0.0.4:5000 len=2
	// realm 2 UDP 198.51.100.7:53 > 10.0.0.4:5000 len=2
}
