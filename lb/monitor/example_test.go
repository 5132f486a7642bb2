package monitor_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

// newNAT returns a translator with 8 ports, and a name for the address of its only machine.
func newNAT() (n *snat.NAT, address func(string, bool) netip.Addr, err error) {
	node := netip.MustParseAddr("10.224.0.4")
	n, err = snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "node0", Addrs: []netip.Addr{node}, Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), First: 1024, Count: 8}},
		}},
		Dataplane: snat.Dataplane{CountHolders: snat.CountHolders{On: true}},
	})
	return n, func(string, bool) netip.Addr { return node }, err
}

// connect has two pods begin connections: the first takes all ports but one.
func connect(n *snat.NAT) {
	for i := range 10 {
		pod := "10.244.0.9"
		if i >= 7 {
			pod = "10.244.0.11"
		}
		n.Outbound(0, pkttest.TCP(fmt.Sprintf("%s:%d", pod, 41000+i), "203.0.113.80:443", pkttest.SYN))
	}
}

// Who holds most ports of a node, and who made its refusals.
func ExampleHolders() {
	n, address, err := newNAT()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	connect(n)
	for _, s := range monitor.Holders(n, flow.At(0), 2, address) {
		if s.Metric != monitor.HolderConnectionCount && s.InsideIPAddress.IsValid() {
			fmt.Println(s)
		}
	}
	// Output:
	// HolderSnatPorts BackendIPAddress=10.224.0.4 InsideIPAddress=10.244.0.9 7
	// HolderBlamedCount BackendIPAddress=10.224.0.4 InsideIPAddress=10.244.0.9 2
	// HolderSnatPorts BackendIPAddress=10.224.0.4 InsideIPAddress=10.244.0.11 1
	// HolderBlamedCount BackendIPAddress=10.224.0.4 InsideIPAddress=10.244.0.11 0
}

// What Prometheus scrapes: who holds most ports of a load balancer. Samples of [monitor.LoadBalancer] may go along.
func ExampleWriteText() {
	n, address, err := newNAT()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	connect(n)
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", monitor.TextContentType)
		if err := monitor.WriteText(w, monitor.Holders(n, flow.At(0), 1, address)); err != nil {
			fmt.Println(err)
		}
	})
	answer := httptest.NewRecorder()
	metrics.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	fmt.Print(answer.Body)
	// Output:
	// # HELP natplane_HolderSnatPorts Pairs of outside port and remote that an inside address holds, or that are held towards a destination.
	// # TYPE natplane_HolderSnatPorts gauge
	// natplane_HolderSnatPorts{BackendIPAddress="10.224.0.4",InsideIPAddress="10.244.0.9"} 7
	// natplane_HolderSnatPorts{RemoteIPAddress="203.0.113.80",RemotePort="443",Protocol="TCP"} 8
	// # HELP natplane_HolderBlamedCount_total Refusals because of the ports that an inside address held.
	// # TYPE natplane_HolderBlamedCount_total counter
	// natplane_HolderBlamedCount_total{BackendIPAddress="10.224.0.4",InsideIPAddress="10.244.0.9"} 2
	// # HELP natplane_HolderConnectionCount_total New flows of an inside address, or to a destination.
	// # TYPE natplane_HolderConnectionCount_total counter
	// natplane_HolderConnectionCount_total{BackendIPAddress="10.224.0.4",InsideIPAddress="10.244.0.9",ConnectionState="successful"} 7
	// natplane_HolderConnectionCount_total{BackendIPAddress="10.224.0.4",InsideIPAddress="10.244.0.9",ConnectionState="failed"} 0
	// natplane_HolderConnectionCount_total{RemoteIPAddress="203.0.113.80",RemotePort="443",Protocol="TCP",ConnectionState="successful"} 8
	// natplane_HolderConnectionCount_total{RemoteIPAddress="203.0.113.80",RemotePort="443",Protocol="TCP",ConnectionState="failed"} 2
}
