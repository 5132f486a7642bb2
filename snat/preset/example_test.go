package preset_test

import (
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// A NAT gateway: a flow takes a random port, idles out silently, and the first
// segment after that is answered with a RST.
func ExampleAzureNATGateway() {
	c, err := preset.AzureNATGateway(preset.Site{
		Instances: []snat.Instance{{Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")}}},
		Frontends: []netip.Addr{netip.MustParseAddr("203.0.113.10")},
		Seed:      7,
	}, preset.NATGateway2023)
	if err != nil {
		log.Fatal(err)
	}
	n, err := snat.New(c)
	if err != nil {
		log.Fatal(err)
	}
	defer n.Close()

	// The handshake.
	syn := pkttest.TCP("10.0.0.4:40000", "198.51.100.7:443", pkttest.SYN, pkttest.Seq(1000))
	n.Outbound(0, syn)
	fmt.Println(pkttest.String(syn))
	outside := netip.AddrPortFrom(netip.AddrFrom4([4]byte(syn[12:16])), uint16(syn[20])<<8|uint16(syn[21]))
	n.Inbound(0, pkttest.TCP("198.51.100.7:443", outside.String(), pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001)))
	n.Outbound(0, pkttest.TCP("10.0.0.4:40000", "198.51.100.7:443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))

	// Four minutes later.
	now := flow.At(4 * time.Minute)
	v := n.Outbound(now, pkttest.TCP("10.0.0.4:40000", "198.51.100.7:443", pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001)))
	fmt.Println(v.Action, v.Reason)
	n.Advance(now, func(e flow.Emission) { fmt.Println("to the", e.To, pkttest.String(e.Packet)) })
	for _, s := range n.SharedPorts() {
		fmt.Println(s.Frontend, s.Allocated, "ports,", s.Free, "free")
	}
	// Output:
	// TCP 203.0.113.10:58966 > 198.51.100.7:443 S seq=1000 len=0
	// drop no_flow
	// to the inside TCP 198.51.100.7:443 > 10.0.0.4:40000 R seq=5001 len=0
	// 203.0.113.10 64512 ports, 64512 free
	// 203.0.113.10 64512 ports, 64512 free
}

// A preset by name, as a command line has them.
func ExampleByName() {
	p, ok := preset.ByName("gcp-cloudnat")
	fmt.Println(p.Summary, ok)
	c, err := p.Configure(preset.Site{
		Instances:        []snat.Instance{{Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.4")}}},
		Frontends:        []netip.Addr{netip.MustParseAddr("203.0.113.10")},
		PortsPerInstance: 50,
	})
	fmt.Println(c.Instances[0].Ports[0].Count, err)
	_, err = p.Configure(preset.Site{PortsPerInstance: 50})
	fmt.Println(err)
	// Output:
	// GCP Cloud NAT, static port allocation true
	// 64 <nil>
	// preset: gcp-cloudnat: Frontends has 0 addresses: out of range: 1..65536 of each family
}
