package snat_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/digest"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// all returns everything that can be seen of a NAT without changing it.
func all(n *snat.NAT) (lines []string) {
	say := func(what any) { lines = append(lines, fmt.Sprintf("%+v", what)) }
	say(n.Frontends()) // ends what is over first
	say(n.Stats())
	for s := range n.Sessions() {
		say(s)
	}
	for _, inst := range n.Instances() {
		say(inst)
	}
	for s := range n.Shares() {
		say(s)
	}
	say(n.Subscribers())
	say(n.Traffic())
	say(n.Stranded())
	say(n.SharedPorts())
	say(n.Forwards())
	say(n.ForwardTraffic())
	say(n.Connections())
	say(n.Blocks())
	at, what := n.FirstDue()
	say(fmt.Sprint(at, what))
	return lines
}

// goesOnForked returns a copy of a NAT, which has to be what that is, and ends the original,
// which has to be all the same to the copy.
func goesOnForked(t testing.TB, n *snat.NAT, hooks snat.Hooks) *snat.NAT {
	t.Helper()
	copied, err := n.Fork(snat.Ties{Hooks: hooks})
	require.NoError(t, err)
	t.Cleanup(copied.Close)
	before := all(n)
	require.Equal(t, before, all(copied))
	copied.Check()
	n.Close()
	require.Equal(t, before, all(copied))
	return copied
}

// Traffic of all kinds comes out the same, byte for byte and event by event, however often a
// copy goes on in the place of the original, under every preset.
func TestForkedDigests(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			got, _ := mixedBy(t, p, 1, func(step int, _ *mixer, n *snat.NAT, c snat.Config) *snat.NAT {
				if step%251 != 250 {
					return n
				}
				return goesOnForked(t, n, c.Hooks)
			})
			assert.Equal(t, digests[p.Name], got)
		})
	}
}

// Whatever a copy does, the original goes on as another copy does that is driven like it.
func TestForkIsIndependent(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			forks := 0
			_, _ = mixedBy(t, p, 1, func(step int, m *mixer, n *snat.NAT, _ snat.Config) *snat.NAT {
				if step%1000 != 999 {
					return n
				}
				forks++
				drive := func(n *snat.NAT, seed uint64) string {
					d := digest.New()
					of := mixer{Rand: rand.New(rand.NewPCG(seed, 9)), nat: &digest.Recorder{Translator: n, Digest: d}, now: m.now}
					for _, c := range m.calls {
						call := *c
						call.left = slices.Clone(c.left)
						of.calls = append(of.calls, &call)
					}
					for range 300 {
						of.step()
					}
					n.Check()
					return d.String()
				}
				same, other := forked(t, n), forked(t, n)
				want := all(n)
				strange := drive(other, 2)
				require.Equal(t, want, all(n), "the original has noticed what its copy does")
				require.Equal(t, want, all(same))
				alike := drive(same, 3)
				require.Equal(t, want, all(n), "the original has noticed what its copy does")
				left := all(other)
				require.Equal(t, alike, drive(n, 3), "the original and a copy differ")
				require.Equal(t, all(n), all(same))
				require.Equal(t, left, all(other), "a copy has noticed what the original does")
				require.NotEqual(t, alike, strange, "the traffic is no test")
				m.now = m.now.Add(24 * 24 * time.Hour) // for it has been elsewhere
				n.Advance(m.now, nil)
				m.calls = nil
				return n
			})
			require.Equal(t, 4, forks)
		})
	}
}

func forked(t testing.TB, n *snat.NAT) *snat.NAT {
	t.Helper()
	copied, err := n.Fork(snat.Ties{})
	require.NoError(t, err)
	t.Cleanup(copied.Close)
	return copied
}

// What ties a copy to its surroundings, and what never changes, so that both may share it.
var forkShares = map[string]string{
	"Space.tell":             "a hook",
	"Config.Hooks":           "hooks",
	"Table.dropped":          "a hook of fragments",
	"Table.carried":          "likewise",
	"Config.Admit":           "answers by its argument alone",
	"Routes.Admit":           "likewise",
	"Dataplane.Admit":        "answers by its argument alone",
	"Dataplane.Hooks":        "hooks",
	"settings.shared":        "the configuration",
	"NAT.grants":             "follows from the configuration",
	"Config.Policies":        "the configuration",
	"Config.Instances":       "the configuration",
	"Config.Routes":          "the configuration",
	"Config.Exclusions":      "the configuration",
	"Config.Refusal":         "a constant",
	"Forward.Instances":      "the configuration",
	"Instance.Deterministic": "the configuration",
	"Instance.mapping":       "follows from the configuration",
	"Shared.Frontends":       "the configuration",
	"Routes.Plan":            "is made with the configuration, and then immutable",
	"Routes.targeted":        "likewise",
	"Frontend.Owner":         "likewise",
	"Set.tables":             "likewise",
	"Set.floating":           "likewise",
	"Set.allPorts":           "likewise",
	"Set.sockets":            "likewise",
	"Forward.Spec":           "likewise",
	"Forward.byTarget":       "likewise",
	"Forward.choice":         "what it points to is immutable",
	"NAT.tables":             "saves work only",
	"State.runs":             "scratch",
	"State.parts":            "scratch",
	"State.ends":             "scratch",
	"Shard.mem":              "where a copy's memory comes from; what is in it is compared",
	"shard.mem":              "likewise",
	"Table.mem":              "likewise",
	"Index.mem":              "likewise",
	"directory.m":            "likewise",
}

// All that a NAT has is in its copy, which shares nothing with it that changes.
func TestForkLikeness(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, p := range presets() {
		t.Run(p.Name, func(t *testing.T) {
			_, _ = mixedBy(t, p, 1, func(step int, _ *mixer, n *snat.NAT, _ snat.Config) *snat.NAT {
				if step < 3000 {
					return n
				}
				require.Empty(t, likeness.Compare(n, forked(t, n), forkShares))
				return nil
			})
		})
	}
}

// Copies that are made while others use the original are of one moment each: what they count
// is what they have.
func TestForkWhileOthersSend(t *testing.T) {
	c := sharedFrontends(4)
	for i := range c.Instances {
		c.Instances[i].Ports = []snat.PortRange{{Frontend: frontendA, First: uint16(1024 + 256*i), Count: 256}}
	}
	n, err := snat.New(c)
	require.NoError(t, err)
	defer n.Close()
	var stop atomic.Bool
	var senders, begun sync.WaitGroup
	begun.Add(4)
	for g := range 4 {
		senders.Go(func() {
			for i := 0; !stop.Load(); i++ {
				src := fmt.Sprintf("10.0.0.%d:%d", 4+g, 1024+i%300)
				n.Outbound(flow.At(time.Duration(i)*time.Millisecond), pkttest.UDP(src, "198.51.100.7:53", "query"))
				if i == 0 {
					begun.Done()
				}
				if g == 0 && i%64 == 0 {
					n.Advance(flow.At(time.Duration(i)*time.Millisecond), nil)
				}
			}
		})
	}
	begun.Wait()
	for range 20 {
		copied, err := n.Fork(snat.Ties{})
		require.NoError(t, err)
		copied.Check()
		s := copied.Stats()
		require.Equal(t, s.SessionsCreated-s.SessionsEnded, uint64(s.SessionsActive))
		require.Equal(t, s.SessionsActive, sessionsOf(copied))
		require.Equal(t, s.Outbound.Forwarded, trafficOf(copied), "traffic is counted with the packets")
		used := 0
		for _, f := range copied.Frontends() {
			used += f.Used
		}
		require.Equal(t, s.Ports.Active, used)
		copied.Advance(flow.At(20*24*time.Hour), nil)
		require.Zero(t, copied.Stats().SessionsActive)
		copied.Close()
	}
	stop.Store(true)
	senders.Wait()
	require.NotZero(t, n.Stats().SessionsActive)
}

func sessionsOf(n *snat.NAT) (k int) {
	for range n.Sessions() {
		k++
	}
	return k
}

func trafficOf(n *snat.NAT) (packets uint64) {
	for _, row := range n.Traffic() {
		packets += row.Outbound.Packets
	}
	return packets
}

// A copy has hooks of its own, and Admit of the original unless it is given one.
func TestForkTies(t *testing.T) {
	told := map[string]int{}
	hooks := func(of string) snat.Hooks {
		return snat.Hooks{SessionCreated: func(flow.Time, uint32, flow.Info) { told[of]++ }}
	}
	admit := func(of string, r flow.Reason) func(snat.NewFlow) flow.Reason {
		return func(snat.NewFlow) flow.Reason { told["asked "+of]++; return r }
	}
	c := oneVM(16)
	c.Hooks, c.Admit = hooks("original"), admit("original", flow.ReasonNone)
	n := newBed(t, c)
	opens := func(n *snat.NAT, port int) flow.Verdict {
		return n.Outbound(0, pkttest.UDP(socket(vmA, port), "198.51.100.7:53", "query"))
	}
	opens(n.NAT, 1)
	silent, err := n.Fork(snat.Ties{})
	require.NoError(t, err)
	defer silent.Close()
	own, err := n.Fork(snat.Ties{Hooks: hooks("own"), Admit: admit("own", flow.ReasonNSGOutbound)})
	require.NoError(t, err)
	defer own.Close()
	require.Equal(t, map[string]int{"original": 1, "asked original": 1}, told)
	require.True(t, opens(silent, 2).New)
	require.Equal(t, map[string]int{"original": 1, "asked original": 2}, told)
	require.Equal(t, flow.ReasonNSGOutbound, opens(own, 2).Reason)
	require.Equal(t, map[string]int{"original": 1, "asked original": 2, "asked own": 1}, told)
	again, err := own.Fork(snat.Ties{Hooks: hooks("again")})
	require.NoError(t, err)
	defer again.Close()
	require.Equal(t, flow.ReasonNSGOutbound, opens(again, 3).Reason, "the copy of a copy")
	again.Advance(flow.At(time.Hour), nil)
	require.Zero(t, told["again"])

	without := newBed(t, oneVM(16))
	copied, err := without.Fork(snat.Ties{Admit: admit("nobody", flow.ReasonNSGOutbound)})
	require.NoError(t, err)
	defer copied.Close()
	require.True(t, opens(copied, 1).New, "the original asks nobody")
}

// There is no copy of a NAT that is closed, and Close of a copy leaves the original whole.
func TestForkAndClose(t *testing.T) {
	n := newBed(t, oneVM(16))
	n.opens("udp", socket(vmA, 5000), "198.51.100.7:53")
	want := all(n.NAT)
	copied := forked(t, n.NAT)
	copied.Close()
	require.Equal(t, want, all(n.NAT))
	_, err := copied.Fork(snat.Ties{})
	require.ErrorIs(t, err, flow.ErrClosed)
}

// Copies of many flows take memory that earlier copies have used, and are as the original all the same,
// also when they grow.
func TestForksUseMemoryAgain(t *testing.T) {
	pkttest.OneGoroutine(t)
	c, err := preset.AzureLB(site(2, 1))
	require.NoError(t, err)
	n := newBed(t, c)
	pkt := pkttest.TCP("10.0.0.1:1", "198.51.100.1:443", pkttest.TCPFlags("S"))
	buf := make([]byte, len(pkt))
	floods := func(n *snat.NAT, net byte) {
		for i := range 40_000 {
			copy(buf, pkt)
			copy(buf[16:20], []byte{net, byte(i >> 16), byte(i >> 8), byte(i)})
			pkttest.FixChecksums(buf)
			require.Equal(t, flow.Forward, n.Outbound(0, buf).Action)
		}
	}
	floods(n.NAT, 9)
	want := all(n.NAT)
	var grown []string
	for round := range 3 {
		copied, err := n.Fork(snat.Ties{})
		require.NoError(t, err)
		require.Equal(t, want, all(copied))
		floods(copied, 11)
		copied.Check()
		if round == 0 {
			grown = all(copied)
		}
		require.Equal(t, grown, all(copied))
		copied.Advance(flow.Time(time.Hour), func(flow.Emission) {})
		floods(copied, byte(12+round))
		copied.Close()
	}
	require.Equal(t, want, all(n.NAT))
}

// A copy is reconfigured, and its targets change their states, for itself.
func TestForkedConfiguration(t *testing.T) {
	c := oneVM(16)
	c.Instances[0].Inside = prefixes("10.244.0.0/24")
	c.Forwards = []snat.Forward{{Frontend: addr("203.0.113.99"), Protocol: snat.TCP, FirstPort: 80, Targets: []snat.Target{{Instance: "vm-a", Addr: addr("10.244.0.7"), Port: 8080}}}}
	n := newBed(t, c)
	copied := &bed{NAT: forked(t, n.NAT), t: t}
	require.NoError(t, copied.SetTargets(0, snat.TargetChange{State: snat.TargetDown}))
	syn := func(b *bed, port int) string {
		return b.in(pkttest.TCP(socket("198.51.100.7", port), "203.0.113.99:80", pkttest.SYN))
	}
	require.Equal(t, "drop "+flow.ReasonNoTarget.String(), syn(copied, 1000))
	require.NotContains(t, syn(n, 1000), "drop")
	next := c
	next.Forwards, next.Instances = nil, slices.Clone(c.Instances)
	next.Instances[0].Ports = []snat.PortRange{{Frontend: addr(frontend), First: firstPort, Count: 64}}
	_, err := n.Reconfigure(0, next)
	require.NoError(t, err)
	require.Len(t, copied.Forwards(), 1)
	for _, inst := range copied.Instances() {
		require.Equal(t, 16, inst.Pools[0].Allocated)
	}
	_, err = copied.Reconfigure(0, c)
	require.NoError(t, err)
	require.NotContains(t, syn(copied, 1001), "drop", "the configuration says up")
}
