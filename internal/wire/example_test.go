package wire_test

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// A source NAT in small: parse, rewrite address and port, keep checksums true.
func ExampleParse() {
	b := pkttest.UDP("10.0.0.4:4242", "198.51.100.7:53", "hello")
	var p wire.Packet
	if problem := wire.Parse(b, &p); problem != wire.OK {
		fmt.Println("dropped:", problem)
		return
	}
	udp := p.UDP()
	udp.Adjust(p.IPv4().RewriteSrc(0xcb00710a)) // the pseudo-header's share
	udp.RewriteSrcPort(1024)
	fmt.Println(pkttest.String(b), wire.VerifyL4(&p))

	b[9] = 47
	fmt.Println("dropped:", wire.Parse(b, &p))
	// Output:
	// UDP 203.0.113.10:1024 > 198.51.100.7:53 len=5 true
	// dropped: ip_csum
}

// What a session stores is a Delta per direction; what a packet costs is Apply.
func ExampleDelta() {
	out := wire.Delta32(0x0a000004, 0xcb00710a).Add(wire.Delta16(4242, 1024))
	fmt.Printf("%04x\n", out.ApplyUDP(0x76fc))
	fmt.Printf("%04x\n", out.Reverse().ApplyUDP(0x5187))
	// Output:
	// 5187
	// 76fc
}
