package snat_test

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A NAT is written, and what is restored of it, with other shards, goes on: an answer to a flow that was open finds its
// way, and the next flow gets the next port. Another configuration is refused by name.
func ExampleRestore() {
	config := snat.Config{Instances: []snat.Instance{{
		Name:  "vm-a",
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
		Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 1024}},
	}}}
	nat, err := snat.New(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	nat.Outbound(0, pkttest.UDP("10.0.0.4:41000", "203.0.113.53:53", "query"))
	var file bytes.Buffer
	if err := nat.Snapshot(&file); err != nil {
		fmt.Println(err)
		return
	}
	nat.Close()

	other := config
	other.Seed = 7
	_, err = snat.Restore(other, bytes.NewReader(file.Bytes()))
	fmt.Println(err)

	config.Shards = 1
	if nat, err = snat.Restore(config, &file); err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()
	pkt := pkttest.UDP("203.0.113.53:53", "20.50.1.1:1024", "answer")
	fmt.Println(nat.Inbound(0, pkt).Action, pkttest.String(pkt))
	pkt = pkttest.UDP("10.0.0.4:41001", "203.0.113.53:53", "query")
	fmt.Println(nat.Outbound(0, pkt).Action, pkttest.String(pkt))
	// Output:
	// the snapshot is of another configuration: Seed is another one, not 7
	// forward UDP 203.0.113.53:53 > 10.0.0.4:41000 len=6
	// forward UDP 20.50.1.1:1025 > 203.0.113.53:53 len=5
}
