package snat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Two pods share a node's address. Whichever port is the last one free there for
// a remote is found, and only when there is none a flow is refused.
func TestNodePortLastOneFree(t *testing.T) {
	c := oneVM(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress}}
	const remote = "10.1.0.9:53"
	for _, last := range []int{5000, 5001, 5008, 5009, 1024, 65535, 44507, 19494, 58993, 33980, 8967, 48466, 23453} {
		b := newBed(t, c)
		template := pkttest.UDP("10.244.0.1:1", remote, "x", pkttest.NoChecksum())
		for port := 1024; port <= 65535; port++ {
			if port == last {
				continue
			}
			pkt := append([]byte(nil), template...)
			pkt[20], pkt[21] = byte(port>>8), byte(port)
			if v := b.Outbound(0, pkt); v.Action != flow.Forward || int(pkt[20])<<8|int(pkt[21]) != port {
				t.Fatalf("port %d: %+v (%v)", port, v, v.Reason)
			}
		}
		require.Equal(t, socket(vmA, last), b.opens("udp", "10.244.0.2:5000", remote))
		assert.Equal(t, "drop ports", b.opens("udp", "10.244.0.3:5000", remote))
		assert.Equal(t, socket(vmA, 5000), b.opens("udp", "10.244.0.3:5000", "10.1.0.9:54"), "another remote, other ports")
		assert.Equal(t, uint64(1), b.Stats().ConnectionsFailed)
	}
}
