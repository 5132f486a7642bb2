package snat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// fleet is a configuration of instances with 16 ports each on one frontend.
func fleet(instances int) snat.Config {
	c := snat.Config{Policy: snat.Policy{EnableTCPReset: true}}
	for i := range instances {
		c.Instances = append(c.Instances, snat.Instance{
			Name: fmt.Sprintf("vm%d", i), Addrs: []netip.Addr{addr("10.0.0.%d", 4+i)},
			Ports: []snat.PortRange{{Frontend: addr(frontend), First: uint16(1024 + 16*i), Count: 16}},
		})
	}
	return c
}

// customer is one instance's traffic, the same for the same instance: new flows,
// answers to what has come out, idle times and exhaustion.
type customer struct {
	instance int
	rng      *rand.Rand
	outsides []string
	log      []string // a line for each packet
}

func newCustomer(instance int) *customer {
	return &customer{instance: instance, rng: rand.New(rand.NewPCG(uint64(instance), 1))}
}

// step sends some packets.
func (c *customer) step(n *snat.NAT, now flow.Time) {
	for range c.rng.IntN(8) {
		src, dst := socket(fmt.Sprintf("10.0.0.%d", 4+c.instance), 5000+c.rng.IntN(40)), serverA+":443"
		var pkt []byte
		door := n.Outbound
		switch k := c.rng.IntN(6); {
		case k < 2:
			pkt = pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1000))
		case k == 2:
			pkt = pkttest.UDP(src, dst, "query")
		case k == 3:
			pkt = pkttest.TCP(src, dst, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))
		default:
			door = n.Inbound
			outside := socket(frontend, 1024+16*c.instance)
			if len(c.outsides) > 0 {
				outside = c.outsides[c.rng.IntN(len(c.outsides))]
			}
			pkt = pkttest.TCP(dst, outside, pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001))
		}
		v := door(now, pkt)
		line := verdict(v, pkt)
		if v.New {
			c.outsides = append(c.outsides, source(line))
		}
		c.log = append(c.log, fmt.Sprintf("%v %v", now, line))
	}
}

// What an instance gets does not depend on what goroutines do with others, even
// those that share its lock. Nobody calls Advance; time passes for all alike.
func TestConcurrentInstances(t *testing.T) {
	const instances, steps = 12, 200
	at := func(step int) flow.Time { return flow.At(time.Duration(step/2) * 3700 * time.Millisecond) }
	for _, shards := range []int{1, 5} {
		c := fleet(instances)
		c.Shards, c.IdleTimeout = shards, 20*time.Second
		n, err := snat.New(c)
		require.NoError(t, err)
		defer n.Close()
		var together []*customer
		for i := range instances {
			together = append(together, newCustomer(i))
		}
		for step := range steps {
			var wg sync.WaitGroup
			for _, x := range together {
				wg.Go(func() { x.step(n, at(step)) })
			}
			wg.Go(func() { // and somebody watches
				n.Stats()
				n.Frontends()
				n.TopPorts(3, snat.ByInside)
				n.NextDeadline()
				for _, inst := range n.Instances() {
					for _, p := range inst.Pools {
						assert.Equal(t, p.Allocated, p.Free+p.Used)
					}
				}
			})
			wg.Wait()
		}
		n.Check()
		assert.Positive(t, n.Stats().Outbound.Drops[flow.ReasonPorts], "the traffic is too little")
		assert.Positive(t, n.Stats().Resets, "the traffic is too fast")
		for i := range instances {
			alone, err := snat.New(c)
			require.NoError(t, err)
			x := newCustomer(i)
			for step := range steps {
				x.step(alone, at(step))
			}
			alone.Close()
			assert.Equal(t, x.log, together[i].log, "instance %d", i)
		}
	}
}

// Many goroutines on one instance, by both doors, with time advancing beside
// them: every flow gets a port of its own, and all ports come back.
func TestNAT_R12_ConcurrentSameInstance(t *testing.T) {
	const workers, each = 8, 100
	c := oneVM(1024)
	c.EnableTCPReset = true
	n, err := snat.New(c)
	require.NoError(t, err)
	defer n.Close()
	outsides := make([][]string, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			remote := serverA + ":443"
			for i := range each {
				src := socket(vmA, 5000+w*each+i)
				syn := pkttest.TCP(src, remote, pkttest.SYN, pkttest.Seq(1000))
				v := make([]flow.Verdict, 1)
				if w%2 == 0 {
					v[0] = n.Outbound(0, syn)
				} else {
					n.OutboundBatch(0, [][]byte{syn}, v)
				}
				outside := source(verdict(v[0], syn))
				outsides[w] = append(outsides[w], outside)
				reply := pkttest.TCP(remote, outside, pkttest.TCPFlags("SA"), pkttest.Seq(5000), pkttest.Ack(1001))
				n.InboundBatch(0, [][]byte{reply}, v)
				assert.Equal(t, src, destination(verdict(v[0], reply)))
				ack := pkttest.TCP(src, remote, pkttest.ACK, pkttest.Seq(1001), pkttest.Ack(5001))
				assert.Equal(t, outside, source(verdict(n.Outbound(0, ack), ack)))
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			n.Advance(0, nil)
		}
	})
	wg.Wait()
	all := slices.Concat(outsides...)
	slices.Sort(all)
	assert.Len(t, slices.Compact(all), workers*each, "ports are not shared for one remote")
	emitted := 0
	n.Advance(flow.At(4*time.Minute), func(flow.Emission) { emitted++ })
	assert.Equal(t, 2*workers*each, emitted)
	assert.Equal(t, 0, n.Stats().SessionsActive)
	n.Check()
}

// Batches that mix shards take several locks; they must not lock each other out.
func TestConcurrentMixedBatches(t *testing.T) {
	const instances = 12
	n, err := snat.New(fleet(instances))
	require.NoError(t, err)
	defer n.Close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 2))
			for range 50 {
				var pkts [][]byte
				for range 80 {
					src := socket(fmt.Sprintf("10.0.0.%d", 4+rng.IntN(instances)), 5000+w)
					pkts = append(pkts, pkttest.UDP(src, serverA+":53", "x"))
				}
				v := make([]flow.Verdict, len(pkts))
				n.OutboundBatch(0, pkts, v)
				for i := range v {
					assert.Equal(t, flow.Forward, v[i].Action)
				}
				n.AdvanceStep(0, nil)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 4*instances, n.Stats().SessionsActive)
	n.Check()
}
