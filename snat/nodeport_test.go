package snat_test

import (
	"fmt"
	"iter"
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

// Two pods share a node's address. Whichever port is the last one free there for
// a remote is found, and only when there is none a flow is refused.
func TestNodePortLastOneFree(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	c := oneVM(8)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress}}
	const remote = "10.1.0.9:53"
	lasts := []int{5001, 1024, 65535, 5000, 5008, 5009, 44507, 19494, 58993, 33980, 8967, 48466, 23453}
	for _, last := range lasts[:pkttest.Operations(3, len(lasts), len(lasts))] {
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

// pods is an instance with pods and so many ports, and VNet hosts in 10.1.0.0/16.
func pods(ports int) snat.Config {
	c := oneVM(ports)
	c.Instances[0].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.NodeAddress}}
	return c
}

// walkOf is the order in which ports at a node are tried, as it is documented.
func walkOf(own int) iter.Seq[int] {
	return func(yield func(int) bool) {
		base := max(own, 1024) - 1024
		for i := range 64512 + 8 {
			offset := base + i
			if i > 8 {
				offset = base + 8 + (i-8)*25013
			}
			port := 1024 + offset%64512
			if i == 0 {
				port = own
			}
			if !yield(port) {
				return
			}
		}
	}
}

// Whatever ports pods have used before, the next one is the first of the walk that
// is free, with a record of the remote and without, while it grows and shrinks.
func TestNodePortIsTheFirstOfTheWalk(t *testing.T) {
	c := pods(8)
	c.IdleTimeout = time.Minute
	for seed := range uint64(3) {
		b := newBed(t, c)
		b.seldom = true
		random := rand.New(rand.NewPCG(seed, 1))
		var used [65536]time.Duration // when a port was last used, plus one
		const rounds = 40
		for round := range time.Duration(rounds) {
			now := round * 10 * time.Second
			b.at(now)
			for p := range used {
				if used[p] != 0 && used[p]-1+time.Minute <= now {
					used[p] = 0
				}
			}
			own := 1000 + random.IntN(64000)
			for i := range 60 {
				pod := fmt.Sprintf("10.244.%d.%d:%d", round, 1+i, own)
				want := 0
				for p := range walkOf(own) {
					if used[p] == 0 {
						want = p
						break
					}
				}
				used[want] = now + 1
				require.Equal(t, socket(vmA, want), b.opens("udp", pod, "10.1.0.9:53"), "round %d, pod %d", round, i)
				if i%16 == 0 {
					own = 1000 + random.IntN(500)*random.IntN(2)
				}
			}
		}
		assert.Positive(t, b.Census().NodeRecords)
		b.at(time.Hour)
		assert.Zero(t, b.Census().NodeRecords)
	}
}

// A crowded remote costs no more than an idle one: beyond the own port and the next
// eight, a walk looks up what the record of the remote does not know, and only once.
func TestNodePortsOfCrowdedRemotesAreFoundAtOnce(t *testing.T) {
	pkttest.OneGoroutine(t)
	for name, crowd := range map[string]func(i int) (pod, port int){
		"250 pods with the same 256 ports": func(i int) (int, int) { return i / 256, 5000 + i%256 },
		"one pod with all ports":           func(i int) (int, int) { return 0, 1024 + i },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, pods(8))
			b.seldom = true
			sends := func(pod, port int) flow.Verdict {
				src := fmt.Sprintf("10.244.%d.%d:%d", pod>>8, pod&255, port)
				return b.Outbound(0, pkttest.UDP(src, "10.1.0.9:53", "x", pkttest.NoChecksum()))
			}
			for i := range 64_000 {
				require.Equal(t, flow.Forward, sends(crowd(i)).Action)
			}
			assert.LessOrEqual(t, b.Census().NodePortsUnknown, 256)
			require.Equal(t, flow.Forward, sends(300, 5000).Action)
			for i := range 511 {
				require.Equal(t, flow.Forward, sends(301+i, 5000).Action)
			}
			require.Equal(t, flow.ReasonPorts, sends(900, 5000).Reason)
			assert.Zero(t, b.Census().NodePortsUnknown, "none is left, and the next refusal needs no search")
			require.Equal(t, flow.ReasonPorts, sends(901, 5000).Reason)
			b.Check()
		})
	}
}

// Remotes with a few flows each, as most are, have no records.
func TestNodePortsOfQuietRemotesNeedNoRecords(t *testing.T) {
	b := newBed(t, pods(1024))
	b.seldom = true
	for i := range 2000 {
		for pod := range 4 {
			src := fmt.Sprintf("10.244.0.%d:5000", 1+pod)
			require.NotContains(t, b.opens("udp", src, fmt.Sprintf("198.51.%d.%d:53", i>>8, i&255)), "drop")
		}
	}
	assert.Zero(t, b.Census().NodeRecords)
}

// A flow that gets a node port, but no outside port, takes nothing.
func TestNodePortOfARefusedFlowStaysFree(t *testing.T) {
	b := newBed(t, pods(8))
	const remote = "198.51.100.7:443"
	for i := range 8 {
		require.NotContains(t, b.opens("tcp", fmt.Sprintf("10.244.0.%d:5000", i), remote), "drop")
	}
	for i := range 40 {
		require.Equal(t, "drop ports", b.opens("tcp", fmt.Sprintf("10.244.1.%d:5000", i), remote))
	}
	b.at(31 * time.Second)
	require.Equal(t, outside(1024), b.opens("tcp", "10.244.0.9:5000", remote))
	for s := range b.Sessions() {
		assert.EqualValues(t, 5000, s.Data[0])
	}
}

// Crowded remotes stay consistent when the instance gets other ports, another shard
// or none of its sources.
func TestNodePortsOfCrowdedRemotesSurviveReconfiguration(t *testing.T) {
	c := pods(1024)
	c.Shards, c.EnableTCPReset = 2, true
	c.Instances = append(c.Instances, snat.Instance{Name: "vm-b", Inside: []netip.Prefix{netip.MustParsePrefix("10.245.0.0/16")}})
	b := newBed(t, c)
	b.seldom = true
	opens := func(pod, n int) {
		for i := range n {
			for _, remote := range []string{"10.1.0.9:53", "198.51.100.7:53"} {
				b.opens("udp", fmt.Sprintf("10.244.%d.%d:5000", pod, 1+i), remote)
				b.opens("tcp", fmt.Sprintf("10.244.%d.%d:5000", pod, 1+i), remote)
			}
		}
		b.Check()
	}
	opens(1, 60)
	require.Equal(t, 4, b.Census().NodeRecords)
	reconfigure := func(change func(c *snat.Config)) {
		change(&c)
		_, err := b.Reconfigure(b.now, c)
		require.NoError(t, err)
		b.Check()
	}
	reconfigure(func(c *snat.Config) { c.Instances[0].Ports[0].First = 2048 }) // what was on ports is cut
	opens(2, 60)
	b.at(10 * time.Second)
	reconfigure(func(c *snat.Config) { c.Instances[0].Policy = &snat.Policy{IdleTimeout: 5 * time.Minute} }) // another shard
	opens(3, 60)
	reconfigure(func(c *snat.Config) { c.Routes = nil })
	opens(4, 60)
	reconfigure(func(c *snat.Config) { c.Instances[0].Inside = nil })
	assert.Zero(t, b.Census().NodeRecords)
	b.at(time.Hour)
	assert.Zero(t, b.Stats().SessionsActive)
}
