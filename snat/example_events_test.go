package snat_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/ipfix"
)

// A log of sessions, as RFC 8158 describes it: for people, and as a data record of
// IPFIX. Where a flow went is not part of it unless one asks.
func ExampleEvent() {
	n, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name:   "subscribers",
			Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			Ports:  []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 1024}},
		}},
		Dataplane: snat.Dataplane{
			Log: snat.Log{Sessions: true},
			Hooks: snat.Hooks{Event: func(e snat.Event) {
				fmt.Println(e.At, e.Kind, e.Inside, "is", e.Outside)
				fmt.Printf("  %x\n", ipfix.AppendRecord(nil, &e))
			}},
		},
	})
	if err != nil {
		panic(err)
	}
	defer n.Close()
	n.Outbound(flow.At(time.Second), pkttest.UDP("10.0.0.4:4242", "198.51.100.7:53", "query"))
	n.Advance(flow.At(time.Hour), nil)
	// Output:
	// 1s session created 10.0.0.4:4242 is 203.0.113.10:1024
	//   00000000000003e8040a000004cb00710a11109204000100000000
	// 4m1s session deleted 10.0.0.4:4242 is 203.0.113.10:1024
	//   000000000003ad68050a000004cb00710a11109204000100000000
}
