package snat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Many instances, with whom batches look ahead, get the same from batches as from packets
// that come one by one: full ones, those without ports, what ends in between.
func TestBatchesThatLookAhead(t *testing.T) {
	const instances, seed = 300, 3
	t.Logf("seed %d", seed)
	var c snat.Config
	for i := range aheadInstances {
		inst := snat.Instance{Name: fmt.Sprint(i), Inside: prefixes(fmt.Sprintf("10.1.%d.%d/32", i>>8, i&255), fmt.Sprintf("fd00::%x/128", i+1))}
		for _, f := range []string{frontend, frontend6} {
			if i%16 != 15 {
				inst.Ports = append(inst.Ports, snat.PortRange{Frontend: netip.MustParseAddr(f), First: uint16(1024 + 64*i), Count: 8 << (i % 4)})
			}
		}
		c.Instances = append(c.Instances, inst)
	}
	lookAhead(t, c, flow.ReasonPorts)
}

// So they do where all share ports, however few these are, with limits and without.
func TestBatchesThatLookAheadAtSharedPorts(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, tc := range []struct {
		name   string
		shared snat.Shared
		shards int
		reason flow.Reason
	}{
		{"few ports", snat.Shared{LastPort: firstPort + 39}, 8, flow.ReasonPorts},
		{"a limit per destination", snat.Shared{LastPort: firstPort + 299, FlowsPerDestination: 90}, 3, flow.ReasonDestinationLimit},
		{"a limit in all", snat.Shared{LastPort: firstPort + 499, MaxFlows: 800}, 8, flow.ReasonFlowLimit},
		{"preserved", snat.Shared{LastPort: firstPort + 39, Choice: snat.PreservePort}, 8, flow.ReasonPorts},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := snat.Config{Ports: &tc.shared, Dataplane: snat.Dataplane{Shards: tc.shards}}
			tc.shared.FirstPort, tc.shared.Frontends = firstPort, []netip.Addr{addr(frontend), addr("65.52.1.2"), addr(frontend6), addr("2001:db8:f::7")}
			for i := range aheadInstances {
				c.Instances = append(c.Instances, snat.Instance{Name: fmt.Sprint(i), Inside: prefixes(fmt.Sprintf("10.1.%d.%d/32", i>>8, i&255), fmt.Sprintf("fd00::%x/128", i+1))})
			}
			lookAhead(t, c, tc.reason)
		})
	}
}

// aheadInstances are more than as many as it takes for batches to look ahead.
const aheadInstances = 300

// lookAhead sends the same packets to two translators, one by one and in batches, so that flows are
// refused for a reason.
func lookAhead(t *testing.T, c snat.Config, reason flow.Reason) {
	const seed = 3
	t.Logf("seed %d", seed)
	alone, batched := newBed(t, c), newBed(t, c)
	rng := rand.New(rand.NewPCG(seed, 0))
	began, refused := 0, 0
	for round := range 120 {
		now := flow.At(time.Duration(round) * 7 * time.Second)
		var one, many [][]byte
		for range 40 + rng.IntN(60) {
			i, dest, port := rng.IntN(aheadInstances), rng.IntN(3), 5000+rng.IntN(200)
			if round%2 == 0 {
				i, dest = i%4, 0 // many flows of few, until they have no port left
			}
			src, dst := fmt.Sprintf("10.1.%d.%d", i>>8, i&255), fmt.Sprintf("198.51.100.%d", dest+1)
			if rng.IntN(2) == 0 {
				src, dst = fmt.Sprintf("fd00::%x", i+1), fmt.Sprintf("2001:db8:1::%d", dest+1)
			}
			build := func() []byte { return pkttest.UDP(socket(src, port), socket(dst, 53), "x") }
			if rng.IntN(3) > 0 {
				flag := pkttest.SYN
				if rng.IntN(8) == 0 {
					flag = pkttest.RST // which ends one, and its port is held
				}
				build = func() []byte { return pkttest.TCP(socket(src, port), socket(dst, 443), flag) }
			}
			one, many = append(one, build()), append(many, build())
		}
		verdicts := make([]flow.Verdict, len(many))
		batched.OutboundBatch(now, many, verdicts)
		for i := range one {
			v := alone.Outbound(now, one[i])
			require.Equal(t, v, verdicts[i], "round %d, packet %d", round, i)
			require.Equal(t, one[i], many[i], "round %d, packet %d", round, i)
			if v.New {
				began++
			} else if v.Reason == reason {
				refused++
			}
		}
		if round%5 == 0 {
			alone.Advance(now, nil)
			batched.Advance(now, nil)
		}
	}
	assert.Greater(t, began, 1000)
	assert.Greater(t, refused, 50)
	batched.Check()
	a, b := alone.Stats(), batched.Stats()
	a.Bytes, b.Bytes = 0, 0
	assert.Equal(t, a, b)
}
