package snat_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A NAT with realms is as good as one NAT for each of them: whatever happens in one
// realm, the others do not notice.
func TestRealmsAreSeparate(t *testing.T) {
	pkttest.OneGoroutine(t)
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			config := twins(3, 0, 9)
			config.EnableTCPReset, config.PickUp = true, rng.IntN(2) == 0
			config.ResetUnknown, config.ResetSYN = snat.ResetInside, snat.ResetSender
			config.Shards = 1 + rng.IntN(3)
			all := newBed(t, config)
			all.seldom = true
			var alone []*bed
			for i := range config.Instances {
				c := config
				c.Instances = []snat.Instance{config.Instances[i]}
				c.Instances[0].Realm = 0
				alone = append(alone, newBed(t, c))
			}
			now := flow.Time(0)
			same := func(i int, got, want flow.Verdict, pkt, wanted []byte) {
				t.Helper()
				if want.Instance = uint32(i); want.Action == flow.Drop { // which need not name one
					want.Instance = got.Instance
				}
				require.Equal(t, want, got, "%v %s", want.Reason, pkttest.String(wanted))
				require.Equal(t, wanted, pkt)
			}
			for range 1500 {
				i := rng.IntN(len(alone))
				inside := socket([]string{vmA, "10.244.0.7", "10.244.0.8"}[rng.IntN(3)], 5000+rng.IntN(5))
				remote := socket([]string{serverA, "198.51.100.8", "10.0.0.9"}[rng.IntN(3)], 443+rng.IntN(2))
				flags := pkttest.TCPFlags([]string{"S", "S", "A", "A", "PA", "SA", "FA", "R"}[rng.IntN(8)])
				numbers := []pkttest.Field{flags, pkttest.Seq(uint32(1000 + rng.IntN(2))), pkttest.Ack(uint32(1000 + rng.IntN(2)))}
				var v [1]flow.Verdict
				switch rng.IntN(5) {
				case 0, 1:
					pkt := pkttest.TCP(inside, remote, numbers...)
					if rng.IntN(3) == 0 {
						pkt = pkttest.UDP(inside, remote, "x")
					}
					other := clone(pkt)
					want := alone[i].Outbound(now, other)
					if door := all.Realm(config.Instances[i].Realm); rng.IntN(2) == 0 {
						v[0] = door.Outbound(now, pkt)
					} else {
						door.OutboundBatch(now, [][]byte{pkt}, v[:])
					}
					same(i, v[0], want, pkt, other)
				case 2, 3:
					to := socket(frontend, 1024+8*i+rng.IntN(8))
					pkt := pkttest.TCP(remote, to, numbers...)
					if rng.IntN(3) == 0 {
						pkt = pkttest.UDP(remote, to, "x")
					}
					other := clone(pkt)
					want := alone[i].Inbound(now, other)
					all.InboundBatch(now, [][]byte{pkt}, v[:])
					same(i, v[0], want, pkt, other)
				case 4:
					now = now.Add(time.Duration(rng.IntN(40_000)) * time.Millisecond)
					var got, want []string
					all.Advance(now, func(e flow.Emission) {
						got = append(got, fmt.Sprint(e.At, e.To, pkttest.String(e.Packet)))
					})
					for _, b := range alone {
						b.Advance(now, func(e flow.Emission) {
							want = append(want, fmt.Sprint(e.At, e.To, pkttest.String(e.Packet)))
						})
					}
					slices.Sort(got)
					slices.Sort(want)
					require.Equal(t, want, got)
				}
			}
			all.Check()
			sum := 0
			for _, b := range alone {
				sum += b.Stats().SessionsActive
			}
			require.Equal(t, sum, all.Stats().SessionsActive)
			require.Positive(t, all.Stats().SessionsCreated)
		})
	}
}
