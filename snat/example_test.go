package snat_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A virtual machine with 1,024 SNAT ports opens a connection, and the answer
// finds its way back.
func Example() {
	nat, err := snat.New(snat.Config{Instances: []snat.Instance{{
		Name:  "vm-a",
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
		Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 1024}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()

	pkt := pkttest.TCP("10.0.0.4:41000", "203.0.113.80:443", pkttest.SYN, pkttest.Seq(1000))
	v := nat.Outbound(0, pkt)
	fmt.Println(v.Action, v.To, pkttest.String(pkt))

	pkt = pkttest.TCP("203.0.113.80:443", "20.50.1.1:1024", pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001))
	v = nat.Inbound(0, pkt)
	fmt.Println(v.Action, v.To, pkttest.String(pkt))

	pkt = pkttest.TCP("203.0.113.80:443", "20.50.1.1:1025", pkttest.ACK)
	v = nat.Inbound(0, pkt)
	fmt.Println(v.Action, v.Reason)
	// Output:
	// forward outside TCP 20.50.1.1:1024 > 203.0.113.80:443 S seq=1000 len=0
	// forward inside TCP 203.0.113.80:443 > 10.0.0.4:41000 SA seq=5000 ack=1001 len=0
	// drop no_flow
}

// An event-driven simulator asks when there is work to do next and advances to
// that moment. An idle connection is reset at both ends.
func ExampleNAT_Advance() {
	nat, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name:  "vm-a",
			Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 8}},
		}},
		Policy: snat.Policy{IdleTimeout: 30 * time.Minute, EnableTCPReset: true},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()
	nat.Outbound(0, pkttest.TCP("10.0.0.4:41000", "203.0.113.80:443", pkttest.SYN, pkttest.Seq(1000)))
	nat.Inbound(0, pkttest.TCP("203.0.113.80:443", "20.50.1.1:1024", pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001)))
	nat.Outbound(0, pkttest.TCP("10.0.0.4:41000", "203.0.113.80:443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))

	for now, ok := nat.NextDeadline(); ok; now, ok = nat.NextDeadline() {
		nat.Advance(now, func(e flow.Emission) {
			fmt.Println(e.At, e.To, pkttest.String(e.Packet))
		})
	}
	fmt.Println(nat.Stats().SessionsActive, "sessions")
	// Output:
	// 30m0s inside TCP 203.0.113.80:443 > 10.0.0.4:41000 R seq=5001 len=0
	// 30m0s outside TCP 20.50.1.1:1024 > 203.0.113.80:443 R seq=1001 len=0
	// 0 sessions
}

// Batches are for dataplanes: one verdict for each packet, in order. Eight ports
// serve eight flows to one destination; the ninth is refused, but not one to
// another destination.
func ExampleNAT_OutboundBatch() {
	nat, err := snat.New(snat.Config{Instances: []snat.Instance{{
		Name:  "vm-a",
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
		Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 8}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()
	var pkts [][]byte
	for port := 41000; port < 41009; port++ {
		pkts = append(pkts, pkttest.TCP(fmt.Sprintf("10.0.0.4:%d", port), "203.0.113.80:443", pkttest.SYN))
	}
	pkts = append(pkts, pkttest.TCP("10.0.0.4:41009", "203.0.113.81:443", pkttest.SYN))
	verdicts := make([]flow.Verdict, len(pkts))
	nat.OutboundBatch(0, pkts, verdicts)
	for i, v := range verdicts[7:] {
		fmt.Println(v.Action, v.Reason, pkttest.String(pkts[7+i]))
	}
	for _, inst := range nat.Instances() {
		p := inst.Pools[0]
		fmt.Printf("%s: %d of %d TCP ports used, %d flows refused\n", inst.Name, p.Used, p.Allocated, inst.Failed)
	}
	// Output:
	// forward none TCP 20.50.1.1:1031 > 203.0.113.80:443 S seq=0 len=0
	// drop ports TCP 10.0.0.4:41008 > 203.0.113.80:443 S seq=0 len=0
	// forward none TCP 20.50.1.1:1024 > 203.0.113.81:443 S seq=0 len=0
	// vm-a: 8 of 8 TCP ports used, 1 flows refused
}

// All problems of a configuration come in one error.
func ExampleConfig_Validate() {
	err := snat.Config{
		Instances: []snat.Instance{{
			Name:  "vm-a",
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 12}},
		}},
		Policy: snat.Policy{IdleTimeout: -time.Minute},
	}.Validate()
	fmt.Println(err)
	// Output:
	// IdleTimeout -1m0s: timeout is not a whole number of milliseconds from 1 ms to 24 days
	// Instances[0].Ports[0] 1024+12: ports are not whole blocks of 8 within 8..65535
}

// Fragments in the wrong order: the second waits for the first, which has the
// ports, and leaves behind it by the sink of Advance.
func ExampleFragments() {
	nat, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name:  "vm-a",
			Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 8}},
		}},
		Dataplane: snat.Dataplane{Fragments: snat.Fragments{Mode: snat.FragmentsVirtual}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()
	frags := pkttest.Fragments(pkttest.UDP("10.0.0.4:41000", "203.0.113.80:53", "a datagram in two fragments"), 24, 7)
	for _, pkt := range [][]byte{frags[1], frags[0]} {
		v := nat.Outbound(0, pkt)
		fmt.Println(v.Action)
	}
	now, _ := nat.NextDeadline()
	nat.Advance(now, func(e flow.Emission) {
		src, _ := netip.AddrFromSlice(e.Packet[12:16])
		fmt.Println("emitted", e.To, src, len(e.Packet))
	})
	// Output:
	// queued
	// forward
	// emitted outside 20.50.1.1 31
}

// A simulator asks what would become of a flow, without its NAT noticing: in a copy, an
// hour passes, while nothing happens in the original.
func ExampleNAT_Fork() {
	nat, err := snat.New(snat.Config{Instances: []snat.Instance{{
		Name:  "vm-a",
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")},
		Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 8}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nat.Close()
	nat.Outbound(0, pkttest.UDP("10.0.0.4:41000", "203.0.113.80:53", "query"))

	what, err := nat.Fork(snat.Ties{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer what.Close()
	what.Advance(flow.At(time.Hour), nil)
	for name, n := range map[string]*snat.NAT{"original": nat, "copy": what} {
		fmt.Println(name, n.Stats().SessionsActive)
	}
	// Unordered output:
	// original 1
	// copy 0
}
