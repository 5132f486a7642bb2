package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/digest"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What a copy shares with its original besides what that of a translator does, which package
// snat has a test of.
var forkShares = map[string]string{
	"observation.nat":      "a copy, see snat",
	"attached.next":        "of a change that is under way",
	"attached.admit":       "what is asked",
	"attached.sides":       "immutable",
	"attached.config":      "the configuration",
	"Gateway.security":     "immutable",
	"LoadBalancer.inForce": "what a change finds of the configuration: immutable",
	"egressState.inForce":  "likewise",
	"egressState.config":   "likewise",
	"egressState.given":    "likewise",
	"LoadBalancer.config":  "the configuration",
	"Gateway.config":       "likewise",
	"egressState.resolved": "likewise",
	"egressState.admit":    "what is asked",
	"LoadBalancer.own":     "likewise",
	"Keeper.prober":        "whoever answers",
	"Keeper.order":         "made anew with each configuration, and not changed",
	"Keeper.members":       "likewise",
	"Rule.Probe":           "a copy of the configuration",
	"Rule.Backends":        "made anew with each configuration, and not changed",
	"Monitor.prober":       "asks the owner's",
	"Monitor.config":       "the configuration",
	"Egress.retired":       "of the original alone",
}

// what returns all that can be seen of a translator of this package.
func what(o *observation, more ...any) (lines []string) {
	say := func(x any) { lines = append(lines, fmt.Sprintf("%+v", x)) }
	say(o.Frontends()) // ends what is over first
	stats := o.Stats()
	stats.Bytes = 0 // one that is restored takes as much memory as it needs
	say(stats)
	for s := range o.Sessions() {
		say(s)
	}
	for _, inst := range o.Instances() {
		say(inst)
	}
	say(o.Traffic())
	for _, x := range more {
		say(x)
	}
	return lines
}

// fork lets a copy go on in the place of the load balancer, which ends.
func (m *inboundModel) fork() {
	m.t.Helper()
	copied, err := m.l.Fork(Ties{})
	require.NoError(m.t, err)
	m.t.Cleanup(copied.Close)
	require.Empty(m.t, likeness.Compare(m.l, copied, forkShares))
	seen := func(l *LoadBalancer) []string {
		at, ok := l.NextDeadline()
		return what(&l.observation, l.Metrics(), l.Allocations(), l.PortMappings(), at, ok)
	}
	before := seen(m.l)
	require.Equal(m.t, before, seen(copied))
	m.l.Close()
	require.Equal(m.t, before, seen(copied))
	m.l = copied
}

// egressPlay is random traffic through an egress that changes.
type egressPlay struct {
	*rand.Rand
	*digest.Digest
	t       *testing.T
	e       *Egress
	now     time.Duration
	left    [][]byte // packets outside
	configs []EgressConfig
}

func newEgressPlay(t *testing.T, seed uint64) *egressPlay {
	few, many := basicCluster(2, "A"), basicCluster(4, "A", "B")
	standard := EgressConfig{LoadBalancer: publicPool(4, 1, 0)}
	all := []EgressConfig{few, many, basicCluster(3), basicCluster(4, "B", "C")}
	if seed%2 == 1 {
		fewer := EgressConfig{LoadBalancer: publicPool(2, 1, 0)}
		all = []EgressConfig{standard, withGateway(standard), withGateway(fewer), fewer}
	}
	for i := range all {
		all[i].LoadBalancer.Seed = 7
		all[i].LoadBalancer.BasicFrontend = SeededRule
		all[i].LoadBalancer.CountTraffic = true
	}
	return &egressPlay{Rand: rand.New(rand.NewPCG(seed, 5)), Digest: digest.New(), t: t, e: newEgress(t, all[0]), configs: all}
}

// on returns a play that goes on with another egress and by other chances.
func (p *egressPlay) on(e *Egress, seed uint64) *egressPlay {
	q := *p
	q.e, q.Rand, q.Digest, q.left = e, rand.New(rand.NewPCG(seed, 6)), digest.New(), slices.Clone(p.left)
	for i := range q.left {
		q.left[i] = slices.Clone(q.left[i])
	}
	return &q
}

func (p *egressPlay) step() {
	switch n := p.IntN(100); {
	case n < 60:
		src, dst := fmt.Sprintf("10.224.0.%d:%d", 4+p.IntN(4), 5000+p.IntN(40)), fmt.Sprintf("203.0.113.%d:53", p.IntN(3))
		pkt := pkttest.UDP(src, dst, "query")
		if p.IntN(2) == 0 {
			pkt = pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1000))
		}
		v := p.e.Outbound(flow.At(p.now), pkt)
		p.Note("out %v %x", v, pkt)
		if v.Action == flow.Forward {
			p.left = append(p.left, pkt)
		}
	case n < 80 && len(p.left) > 0:
		q := p.left[p.IntN(len(p.left))]
		src, dst := netip.AddrFrom4([4]byte(q[12:16])), netip.AddrFrom4([4]byte(q[16:20]))
		pkt := pkttest.UDP(netip.AddrPortFrom(dst, 53).String(), netip.AddrPortFrom(src, uint16(q[20])<<8|uint16(q[21])).String(), "answer")
		p.Note("in %v %x", p.e.Inbound(flow.At(p.now), pkt), pkt)
	case n < 84:
		pkt := pkttest.TCP(fmt.Sprintf("203.0.113.9:%d", 1000+p.IntN(20)), "20.50.1.65:80", pkttest.SYN, pkttest.Seq(1))
		p.Note("in %v %x", p.e.Inbound(flow.At(p.now), pkt), pkt)
	case n < 96:
		p.now += time.Duration(p.IntN(40_000)) * time.Millisecond
		p.e.Advance(flow.At(p.now), func(m flow.Emission) { p.Note("sent %v %v %d %x", m.At, m.To, m.Instance, m.Packet) })
	case n < 98:
		change, err := p.e.Redeploy(flow.At(p.now))
		p.Note("redeployed %+v %v", change, err)
	default:
		change, err := p.e.Reconfigure(flow.At(p.now), p.configs[p.IntN(len(p.configs))])
		require.NoError(p.t, err)
		p.Note("changed %+v", change)
	}
}

func (p *egressPlay) seen(e *Egress) []string {
	at, ok := e.NextDeadline()
	more := []any{e.Metrics(), e.PortMappings(), at, ok}
	if g := e.Gateway(); g != nil {
		more = append(more, what(&g.observation, g.Metrics()))
	}
	return what(&e.observation, more...)
}

func (p *egressPlay) forked(e *Egress) *Egress {
	copied, err := e.Fork(Ties{})
	require.NoError(p.t, err)
	p.t.Cleanup(copied.Close)
	require.Empty(p.t, likeness.Compare(e, copied, forkShares))
	return copied
}

// An egress whose copy, or what is restored of it, goes on in its place, again and again, does what one does that
// goes on itself, with a NAT gateway or without.
func TestCopiedEgressGoesOn(t *testing.T) {
	pkttest.OneGoroutine(t)
	for seed := range uint64(4) {
		for name, again := range map[string]func(*egressPlay, *Egress) *Egress{"forked": (*egressPlay).forked, "restored": (*egressPlay).restored} {
			whole, copies := newEgressPlay(t, seed), newEgressPlay(t, seed)
			for i := range 1500 {
				whole.step()
				copies.step()
				if i%150 == 149 {
					copied := again(copies, copies.e)
					before := copies.seen(copies.e)
					require.Equal(t, before, copies.seen(copied), "%s, seed %d", name, seed)
					copies.e.Close()
					require.Equal(t, before, copies.seen(copied), "%s, seed %d", name, seed)
					copies.e = copied
				}
			}
			require.Equal(t, whole.String(), copies.String(), "%s, seed %d", name, seed)
		}
	}
}

// Whatever a copy does, the original goes on as another copy that is driven like it.
func TestForkedEgressIsIndependent(t *testing.T) {
	for seed := range uint64(4) {
		p := newEgressPlay(t, seed)
		for range 400 {
			p.step()
		}
		drive := func(e *Egress, by uint64) string {
			q := p.on(e, by)
			for range 400 {
				q.step()
			}
			return q.String()
		}
		same, other := p.forked(p.e), p.forked(p.e)
		before := p.seen(p.e)
		strange := drive(other, 1)
		require.Equal(t, before, p.seen(p.e), "seed %d", seed)
		alike := drive(same, 2)
		require.Equal(t, before, p.seen(p.e), "seed %d", seed)
		left := p.seen(other)
		require.Equal(t, alike, drive(p.e, 2), "seed %d", seed)
		require.Equal(t, p.seen(p.e), p.seen(same), "seed %d", seed)
		require.Equal(t, left, p.seen(other), "seed %d", seed)
		require.NotEqual(t, alike, strange, "seed %d", seed)
	}
}

// A copy that is made while others send is of one moment: what the gateway has it has been given.
func TestForkedEgressWhileOthersSend(t *testing.T) {
	e := newEgress(t, withGateway(EgressConfig{LoadBalancer: publicPool(4, 1, 0)}))
	var stop atomic.Bool
	var senders, begun sync.WaitGroup
	begun.Add(2)
	for g := range 2 {
		senders.Go(func() {
			for i := 0; !stop.Load(); i++ {
				e.Outbound(flow.At(time.Minute), pkttest.UDP(fmt.Sprintf("10.224.0.%d:%d", 4+g, 5000+i%200), "203.0.113.53:53", "query"))
				if i == 0 {
					begun.Done()
				}
			}
		})
	}
	begun.Wait()
	for range 30 {
		copied, err := e.Fork(Ties{})
		require.NoError(t, err)
		given, got := copied.Stats().Outbound.Bypassed, copied.Gateway().Stats().Outbound.Forwarded
		require.LessOrEqual(t, got, given)
		require.LessOrEqual(t, given-got, uint64(2), "those on their way")
		copied.Close()
	}
	stop.Store(true)
	senders.Wait()
}

// A copy is tied to what it is given: hooks, who is asked, and who answers probes.
func TestForkedTies(t *testing.T) {
	asked := map[string]int{}
	admit := func(of string) func(snat.NewFlow) flow.Reason {
		return func(snat.NewFlow) flow.Reason { asked[of]++; return flow.ReasonNone }
	}
	hooks := func(of string) snat.Hooks {
		return snat.Hooks{SessionCreated: func(flow.Time, uint32, flow.Info) { asked["told "+of]++ }}
	}
	c := withGateway(EgressConfig{LoadBalancer: publicPool(2, 1, 0)})
	c.LoadBalancer.Admit, c.LoadBalancer.Hooks = admit("original"), hooks("original")
	e := newEgress(t, c)
	copied, err := e.Fork(Ties{Ties: snat.Ties{Admit: admit("copy"), Hooks: hooks("copy")}})
	require.NoError(t, err)
	defer copied.Close()
	require.Equal(t, gatewayIP, leaves(t, copied, 0, "10.224.0.4:5000"))
	require.NotZero(t, asked["copy"])
	require.Zero(t, asked["original"])
	require.Equal(t, 1, asked["told copy"])
	require.Zero(t, asked["told original"])
	copied.Close()
	require.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.4:5000"), "Close of a copy leaves the original whole")
	_, err = copied.Fork(Ties{})
	require.ErrorIs(t, err, flow.ErrClosed)

	answers := map[string]int{}
	prober := func(of string) probe.Prober {
		return probe.ProberFunc(func(flow.Time, probe.Backend, *probe.Probe) probe.Result { answers[of]++; return probe.Success })
	}
	m := newInboundModel(t, rand.New(rand.NewPCG(1, 1)))
	m.l.Advance(flow.At(m.now), nil)
	balancer, err := m.l.Fork(Ties{Prober: prober("copy")})
	require.NoError(t, err)
	defer balancer.Close()
	balancer.Advance(flow.At(m.now+time.Minute), nil)
	require.NotZero(t, answers["copy"])

	g := newGateway(t, GatewayConfig{NATGateway: sixteenIPs(), Backends: publicPool(2, 0, 0).Backends})
	alone, err := g.Fork(snat.Ties{})
	require.NoError(t, err)
	require.Equal(t, what(&g.observation, g.Metrics()), what(&alone.observation, alone.Metrics()))
	alone.Close()
	require.Equal(t, flow.Forward, g.Outbound(0, pkttest.UDP("10.224.0.4:5000", "203.0.113.53:53", "query")).Action)
}
