package snat_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A host looks for the way to a server as traceroute does: the translator is the
// first hop, and the answer of a router behind it is translated back.
func ExampleICMP() {
	n, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name:  "vm",
			Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 8}},
		}},
		Dataplane: snat.Dataplane{ICMP: snat.ICMP{
			Queries: true, Errors: true, TTL: snat.TTLRouter,
			RouterAddrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		}},
	})
	if err != nil {
		panic(err)
	}
	defer n.Close()
	for ttl := range uint8(3) {
		ping := pkttest.ICMPEcho("10.0.0.4", "198.51.100.7", 7, uint16(ttl), pkttest.TTL(ttl+1))
		if v := n.Outbound(0, ping); v.Action == flow.Drop {
			fmt.Println("dropped:", v.Reason.Sentence())
			n.Advance(0, func(e flow.Emission) { fmt.Println(pkttest.String(e.Packet)) })
			continue
		}
		fmt.Println(pkttest.String(ping))
		if ttl == 1 {
			exceeded := pkttest.ICMP("192.0.2.1", "203.0.113.10", 11, 0, 0, ping)
			n.Inbound(0, exceeded)
			fmt.Println(pkttest.String(exceeded))
		}
	}
	// Output:
	// dropped: The TTL or hop limit was 0, or ran out here.
	// ICMP 10.0.0.1 > 10.0.0.4 type=11 code=0 len=28
	// ICMP 203.0.113.10 > 198.51.100.7 type=8 code=0 id=1024 seq=1 len=0
	// ICMP 192.0.2.1 > 10.0.0.4 type=11 code=0 len=28
	// ICMP 203.0.113.10 > 198.51.100.7 type=8 code=0 id=1024 seq=2 len=0
}
