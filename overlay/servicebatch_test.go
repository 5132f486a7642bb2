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

// answer makes the answer to a packet of TCP or UDP over IPv4 without options.
func answer(b []byte) []byte {
	at := func(addr, port int) string {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[addr:addr+4])), uint16(b[port])<<8|uint16(b[port+1])).String()
	}
	src, dst := at(12, 20), at(16, 22)
	if b[9] == 6 {
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
	}{{overlay.PolicyCluster, false}, {overlay.PolicyLocal, false}, {overlay.PolicyCluster, true}, {overlay.PolicyLocal, true}} {
		policy := variant.policy
		svc := overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: policy, Ports: []overlay.ServicePort{
			{Name: "http", Port: 80, TargetPort: 8080, NodePort: 30080},
		}}
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
		services, rewritten := 0, [][]byte(nil)
		for range pkttest.Operations(30, 100, 1_000) {
			inbound := rnd.IntN(2) == 0
			var a, b [][]byte
			for range 1 + rnd.IntN(100) {
				port := 1024 + rnd.IntN(500)
				src := fmt.Sprintf("198.51.100.%d:%d", 1+rnd.IntN(3), port)
				if !inbound {
					src = fmt.Sprintf("%s:%d", []string{one.addr("a"), one.addr("b"), one.addr("client"), nodes[2].Addrs[0].String()}[rnd.IntN(4)], port)
				}
				dst := []string{public + ":80", cluster + ":80", nodes[rnd.IntN(3)].Addrs[0].String() + ":30080", "203.0.113.9:443", one.addr("b") + ":8080", public + ":81"}[rnd.IntN(6)]
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
