package overlay

// What bounds the flows of a node besides outbound ports, with the numbers of Azure's documents.

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
)

const gibibyte = 1 << 30

// fills sends UDP from a pod of the first node to ever other sockets of the network until one
// is refused, which must be the one after limit, for the reason. Another node still sends.
func fills(t *testing.T, l ceilings.Limits, limit int, reason flow.Reason) {
	t.Helper()
	n := bounded(t, l, nil)
	for i := 0; ; i++ {
		to := fmt.Sprintf("192.168.%d.%d:53", i/10_000, i%250+1)
		if v := n.Outbound(n.now, pkttest.UDP(endpoint("10.244.0.2", 10_000+i%10_000), to, "q")); v.Action != flow.Forward {
			require.Equal(t, reason, v.Reason)
			require.Equal(t, limit, i)
			break
		}
		require.Less(t, i, limit)
	}
	n.sends(pkttest.UDP("10.244.1.2:9", "192.168.0.1:53", "q"), "10.1.0.5")
}

func TestAzureRow_11_2_connections(t *testing.T) {
	l := ceilings.Azure(64 * gibibyte)
	require.Equal(t, 500_000, l.VMConnections)
	limit := l.VMConnections
	if pkttest.Short() {
		limit = 1000
	}
	fills(t, ceilings.Limits{VMConnections: limit}, limit, flow.ReasonVMConnections)
}

func TestAzureRow_11_2_conntrack(t *testing.T) {
	for memory, want := range map[int64]int{1: 131_072, 2: 131_072, 4: 262_144, 8: 524_288, 32: 2_097_152, 64: 2_097_152} {
		require.Equal(t, want, ceilings.Azure(memory*gibibyte).Conntrack, "%d GiB", memory)
	}
	fills(t, ceilings.Limits{Conntrack: ceilings.ConntrackMax(gibibyte)}, 131_072, flow.ReasonConntrack)
}

func TestAzureRow_11_2_ephemeralPorts(t *testing.T) {
	n := bounded(t, ceilings.Limits{EphemeralPorts: ceilings.Azure(gibibyte).EphemeralPorts}, nil)
	for _, to := range []string{"192.168.3.4:53", "192.168.3.4:54"} {
		for port := 32768; port <= 60999; port++ {
			require.Equal(t, flow.Forward, n.Outbound(n.now, pkttest.UDP(endpoint("10.1.0.4", port), to, "q")).Action, "%d", port)
		}
		n.drops(n.Outbound(n.now, pkttest.UDP("10.1.0.4:61000", to, "q")), flow.ReasonEphemeralPorts)
	}
}

func TestAzureRow_11_1_dnsLimits(t *testing.T) {
	n := bounded(t, ceilings.Azure(gibibyte), nil)
	query := func(i int) []byte {
		return pkttest.UDP(endpoint("10.244.0.2", 10_000+i), "168.63.129.16:53", string([]byte{byte(i >> 8), byte(i), 1, 0}))
	}
	for i := range 1000 {
		if i%200 == 0 && i > 0 { // all that wait have their answers
			n.drops(n.Outbound(n.now, query(i)), flow.ReasonDNSPending)
			for j := i - 200; j < i; j++ {
				n.takes(pkttest.UDP("168.63.129.16:53", endpoint("10.1.0.4", 10_000+j), string([]byte{byte(j >> 8), byte(j), 129, 0})), "10.244.0.2")
			}
		}
		n.sends(query(i), "10.1.0.4")
	}
	n.takes(pkttest.UDP("168.63.129.16:53", endpoint("10.1.0.4", 10_999), string([]byte{999 >> 8, 999 & 255, 129, 0})), "10.244.0.2")
	n.drops(n.Outbound(n.now, query(1000)), flow.ReasonDNSQueries)
}
