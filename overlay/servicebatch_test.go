package overlay_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// answer makes the answer to a packet of TCP or UDP without options and extension headers.
func answer(b []byte) []byte {
	from, to := sockets(b)
	src, dst, proto := from.String(), to.String(), b[6]
	if b[0]>>4 == 4 {
		proto = b[9]
	}
	if proto == 6 {
		return pkttest.TCP(dst, src, pkttest.TCPFlags("SA"), pkttest.Ack(1))
	}
	return pkttest.UDP(dst, src, "answer")
}

// In batches, packets of all kinds of ways become what they become one by one, whatever
// is beside them.
func TestBatchesAreTheirPacketsOneByOne(t *testing.T) {
	for _, variant := range []struct {
		policy  overlay.TrafficPolicy
		outside bool // some endpoints are
		is6     bool
	}{
		{overlay.PolicyCluster, false, false}, {overlay.PolicyLocal, false, false}, {overlay.PolicyCluster, true, false}, {overlay.PolicyLocal, true, false},
		{overlay.PolicyCluster, false, true}, {overlay.PolicyLocal, false, true},
	} {
		policy, f, client, remote := variant.policy, 0, "198.51.100.%d", "203.0.113.9"
		if variant.is6 {
			f, client, remote = 1, "2001:db8:7::%d", "2001:db8:9::9"
		}
		socket := func(a string, port int) string {
			return netip.AddrPortFrom(netip.MustParseAddr(a), uint16(port)).String()
		}
		svc := overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: policy, Ports: []overlay.ServicePort{
			{Name: "http", Port: 80, TargetPort: 8080, NodePort: 30080},
		}}
		if variant.is6 {
			svc.IPFamilies = "ipv6"
		}
		one, many := newServing(t, svc, "a", "b"), newServing(t, svc, "a", "b")
		for _, s := range []*serving{one, many} {
			if variant.outside {
				require.NoError(t, s.SetEndpoints("web", overlay.Endpoint{Pod: "a"},
					overlay.Endpoint{Addr: netip.MustParseAddr("198.51.100.80")}, overlay.Endpoint{Addr: netip.MustParseAddr("10.224.9.80")}))
			}
		}
		const seed = 5
		rnd := rand.New(rand.NewPCG(seed, 1))
		public, cluster := one.web.LoadBalancerIPs[0].String(), one.web.ClusterIPs[0].String()
		nodes := one.Nodes()
		pod := func(name string) string {
			p, ok := one.Pod(name)
			require.True(t, ok)
			return p.Addrs[f].String()
		}
		services, rewritten := 0, [][]byte(nil)
		for range pkttest.Operations(30, 100, 1_000) {
			inbound := rnd.IntN(2) == 0
			var a, b [][]byte
			for range 1 + rnd.IntN(100) {
				port := 1024 + rnd.IntN(500)
				src := socket(fmt.Sprintf(client, 1+rnd.IntN(3)), port)
				if !inbound {
					src = socket([]string{pod("a"), pod("b"), pod("client"), nodes[2].Addrs[f].String()}[rnd.IntN(4)], port)
				}
				dst := []string{socket(public, 80), socket(cluster, 80), socket(nodes[rnd.IntN(3)].Addrs[f].String(), 30080), socket(remote, 443), socket(pod("b"), 8080), socket(public, 81)}[rnd.IntN(6)]
				pkt := pkttest.TCP(src, dst, pkttest.TCPFlags([]string{"S", "A", "FA"}[rnd.IntN(3)]), pkttest.Ack(uint32(rnd.IntN(2))))
				switch n := rnd.IntN(12); {
				case n == 0:
					pkt = pkttest.UDP(src, dst, "query")
				case n == 1:
					pkt = pkt[:rnd.IntN(len(pkt))]
				case n < 6 && !inbound && len(rewritten) > 0:
					pkt = answer(rewritten[rnd.IntN(len(rewritten))])
				}
				a, b = append(a, pkt), append(b, slices.Clone(pkt))
			}
			verdicts := make([]flow.Verdict, len(b))
			if inbound {
				many.InboundBatch(many.now, b, verdicts)
			} else {
				many.OutboundBatch(many.now, b, verdicts)
			}
			for i, pkt := range a {
				before, v := slices.Clone(pkt), flow.Verdict{}
				if inbound {
					v = one.Inbound(one.now, pkt)
				} else {
					v = one.Outbound(one.now, pkt)
				}
				if len(before) >= 40 {
					require.Equal(t, v, verdicts[i], "%v inbound %v: %s", policy, inbound, pkttest.String(before))
				}
				require.Equal(t, v, verdicts[i])
				if v.Action == flow.Forward || v.Action == flow.Bypass {
					require.Equal(t, pkt, b[i], "%v inbound %v: %s", policy, inbound, pkttest.String(before))
				}
				if v.Action == flow.Forward && v.To == flow.Inside && v.New {
					services++
					rewritten = append(rewritten, slices.Clone(pkt))
				}
			}
			one.now = one.now.Add(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			many.now = one.now
		}
		assert.Greater(t, services, 50)
		is, want := many.Stats(), one.Stats()
		assert.Equal(t, []any{want.Outbound, want.Inbound}, []any{is.Outbound, is.Inbound})
		assert.Equal(t, slices.Collect(one.ServiceSessions()), slices.Collect(many.ServiceSessions()))
	}
}
