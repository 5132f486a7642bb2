package deterministic_test

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// The example of RFC 7422: fourteen subscribers share an address, and two shares
// of its ports are the dynamic range. An abuse report names a public address and
// a port; the first one needs no log, the second one does.
func ExampleMapping() {
	d := deterministic.Parameters{
		Inside:        []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28")},
		Outside:       []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")},
		DynamicFactor: 2,
		MaxPorts:      5040,
	}
	m, err := deterministic.New(d)
	if err != nil {
		panic(err)
	}
	fmt.Println(d.Record(flow.At(0)))
	f, _ := m.Outside(netip.MustParseAddr("198.51.100.2"))
	fmt.Println("198.51.100.2 has", f.Len(), "ports of", f.Outside, f.Range())
	for _, report := range []string{"192.0.2.1:2001", "192.0.2.1:58204"} {
		host, kind := m.Inside(netip.MustParseAddrPort(report))
		fmt.Println(report, "is", kind, host)
	}
	// Output:
	// 0s I=198.51.100.0/28 O=192.0.2.1/32 D=2 M=5040 A=0 R=0-1023
	// 198.51.100.2 has 4032 ports of 192.0.2.1 5056-9087
	// 192.0.2.1:2001 is fixed 198.51.100.1
	// 192.0.2.1:58204 is dynamic, consult the log invalid IP
}
