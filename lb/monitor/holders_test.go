package monitor

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Who holds most has series with names of their own, and no more than are asked for.
func TestHolders(t *testing.T) {
	backend := netip.MustParseAddr("10.0.0.4")
	nat, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{backend}, Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("203.0.113.10"), First: 1024, Count: 8}},
		}},
		Dataplane: snat.Dataplane{CountHolders: snat.CountHolders{On: true}},
	})
	require.NoError(t, err)
	defer nat.Close()
	for i := range 9 {
		nat.Outbound(0, pkttest.TCP(fmt.Sprintf("10.244.0.%d:4%d", 1+i/6, i), "198.51.100.7:443", pkttest.SYN))
	}
	address := func(string, bool) netip.Addr { return backend }
	lines := func(k int) (text []string) {
		for _, s := range Holders(nat, 0, k, address) {
			text = append(text, s.String())
		}
		return text
	}
	assert.Empty(t, lines(0))
	assert.Equal(t, []string{
		"HolderSnatPorts BackendIPAddress=10.0.0.4 InsideIPAddress=10.244.0.1 6",
		"HolderBlamedCount BackendIPAddress=10.0.0.4 InsideIPAddress=10.244.0.1 1",
		"HolderConnectionCount BackendIPAddress=10.0.0.4 InsideIPAddress=10.244.0.1 ConnectionState=successful 6",
		"HolderConnectionCount BackendIPAddress=10.0.0.4 InsideIPAddress=10.244.0.1 ConnectionState=failed 0",
		"HolderSnatPorts RemoteIPAddress=198.51.100.7 RemotePort=443 Protocol=TCP 8",
		"HolderConnectionCount RemoteIPAddress=198.51.100.7 RemotePort=443 Protocol=TCP ConnectionState=successful 8",
		"HolderConnectionCount RemoteIPAddress=198.51.100.7 RemotePort=443 Protocol=TCP ConnectionState=failed 1",
	}, lines(1))
	assert.Len(t, lines(9), 11)
	assert.Equal(t, Average, HolderSnatPorts.Aggregation())
	assert.Equal(t, Total, HolderBlamedCount.Aggregation())
}
