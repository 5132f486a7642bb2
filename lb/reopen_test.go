package lb

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What follows upon a closed connection on its sockets takes the way that new flows take since:
// by a gateway that has been attached, back again when it is detached, or nowhere by a route
// (new flows switch at once).
func TestReopenedConnectionsSwitchAtOnce(t *testing.T) {
	c := EgressConfig{LoadBalancer: publicPool(1, 1, 64)}
	frontend := netip.MustParseAddr("20.50.1.1")
	for _, end := range []string{"R", "FA"} {
		e := newEgress(t, c)
		const src, dst = "10.224.0.4:5000", "203.0.113.9:80"
		out := func(flags string, seq, ack uint32) netip.AddrPort {
			p := pkttest.TCP(src, dst, pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack))
			if v := e.Outbound(0, p); v.Action != flow.Forward {
				return netip.AddrPort{}
			}
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p[20:]))
		}
		in := func(at netip.AddrPort, flags string, seq, ack uint32) {
			t.Helper()
			p := pkttest.TCP(dst, at.String(), pkttest.TCPFlags(flags), pkttest.Seq(seq), pkttest.Ack(ack))
			assert.Equal(t, flow.Forward, e.Inbound(0, p).Action)
			pkttest.Check(t, p, pkttest.Dst(src))
		}
		connects := func(by netip.Addr, seq uint32) {
			t.Helper()
			at := out("S", seq, 0)
			assert.Equal(t, by, at.Addr())
			in(at, "SA", 5000, seq+1)
			assert.Equal(t, at, out("A", seq+1, 5001))
			assert.Equal(t, at, out(end, seq+1, 5001))
			if end == "FA" {
				in(at, end, 5001, seq+2)
				assert.Equal(t, at, out("A", seq+2, 5002))
			}
		}
		connects(frontend, 1000)
		update(t, e, 0, withGateway(c))
		connects(gatewayIP, 700_000)
		update(t, e, 0, c)
		connects(frontend, 800_000)
		dropped := c
		dropped.LoadBalancer.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Action: snat.Blackhole}}
		update(t, e, 0, dropped)
		assert.False(t, out("S", 900_000, 0).IsValid())
		assert.EqualValues(t, 1, e.Stats().Outbound.Drops[flow.ReasonRoute])
		update(t, e, 0, withGateway(dropped))
		assert.False(t, out("S", 900_000, 0).IsValid())
		update(t, e, 0, withGateway(c))
		connects(gatewayIP, 1_000_000)
	}
}
