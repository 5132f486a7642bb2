package snat_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Three translators get the same packets: one is advanced at every step of time, one
// step by step and never to the end, one not at all. What packets become must be the
// same, whatever ends together, after gaps of weeks, and with other timeouts and
// ports from a reconfiguration on. Of datagrams a dull twin knows besides who lives.

// endsPlay is one run.
type endsPlay struct {
	*script
	t      *testing.T
	config snat.Config
	beds   [3]*bed // by diligence; rarely is step by step
	now    time.Duration
	flows  []*endsFlow
	next   int // inside port
	seen   map[string]int
}

// endsFlow is a session begun inside.
type endsFlow struct {
	proto, inside, remote, outside string
	last                           time.Duration
}

// open admits that strangers may send to a mapping.
func (p *endsPlay) open() bool {
	return ownedOf(p.config).UDP.Filtering == snat.EndpointIndependentFiltering
}

func (p *endsPlay) both(what string, send func(b *bed) string) string {
	p.t.Helper()
	var got [3]string
	for i, b := range p.beds {
		got[i] = send(b)
	}
	require.Equal(p.t, got[always], got[rarely], "%s at %v: advanced in steps, of %+v", what, p.now, p.config)
	require.Equal(p.t, got[always], got[never], "%s at %v: not advanced, of %+v", what, p.now, p.config)
	p.seen[what]++
	return got[always]
}

// pass lets time pass.
func (p *endsPlay) pass(d time.Duration) {
	p.now += d
	for _, b := range p.beds {
		b.lazily(p.now)
	}
	p.beds[always].at(p.now)
	p.beds[always].emitted = nil
	for range p.script.next(4) {
		p.beds[rarely].AdvanceStep(p.beds[rarely].now, nil)
	}
}

// begin opens flows that end together.
func (p *endsPlay) begin(proto string, n int) {
	for range n {
		p.next++
		f := &endsFlow{proto: proto, inside: socket(vmA, 1024+p.next%60000), remote: socket(serverA, 53+p.script.next(3)), last: p.now}
		f.outside = p.both("begins "+proto, func(b *bed) string {
			if proto == "udp" {
				return b.opens("udp", f.inside, f.remote)
			}
			outside := b.opens("tcp", f.inside, f.remote)
			if outside[0] == 'd' {
				return outside
			}
			b.remotely(f.remote, outside, "SA", 5000, 1001)
			b.locally(f.inside, f.remote, "A", 1001, 5001)
			return outside
		})
		if f.outside[0] != 'd' {
			p.flows = append(p.flows, f)
		}
	}
}

// packet sends one of a flow, which may be over.
func (p *endsPlay) packet(f *endsFlow, inbound bool) {
	got := p.both("packet", func(b *bed) string {
		switch {
		case f.proto == "udp" && inbound:
			return b.in(pkttest.UDP(f.remote, f.outside, "more"))
		case f.proto == "udp":
			return b.out(pkttest.UDP(f.inside, f.remote, "more"))
		case inbound:
			return b.remotely(f.remote, f.outside, "A", 5001, 1001)
		}
		return b.locally(f.inside, f.remote, "A", 1001, 5001)
	})
	if f.proto == "tcp" {
		return
	}
	over := p.over(f)
	if inbound && !p.open() {
		require.Equal(p.t, over, destination(got) != f.inside, "datagram of %+v at %v: %s", *f, p.now, got)
	}
	switch {
	case !inbound && over && got[:4] != "drop":
		f.outside = source(got)
	case !inbound && over:
		return
	case inbound && over:
		return // a new session, if any
	}
	f.last = p.now
}

// over reports whether a flow of datagrams has ended.
func (p *endsPlay) over(f *endsFlow) bool { return f.last < 0 || p.now-f.last >= p.config.IdleTimeout }

// refuse begins a connection that is refused, and again at once.
func (p *endsPlay) refuse() {
	p.next++
	inside, remote := socket(vmA, 1024+p.next%60000), socket(serverA, 443)
	if p.open() && len(p.flows) > 0 && p.script.next(2) > 0 {
		f := pick(p.script, p.flows...)
		remote, inside = socket("198.51.100.99", 1024+p.next%60000), f.inside
		for range 2 {
			p.both("refused from outside", func(b *bed) string {
				return b.remotely(remote, f.outside, "S", 7, 0) + b.locally(inside, remote, "RA", 0, 8)
			})
		}
		return
	}
	for range 2 {
		p.both("refused", func(b *bed) string {
			outside := b.opens("tcp", inside, remote)
			if outside[0] == 'd' {
				return outside
			}
			return outside + b.remotely(remote, outside, "RA", 0, 1001)
		})
	}
}

// reconfigure changes the idle timeout, or which ports there are.
func (p *endsPlay) reconfigure() {
	c := p.config
	c.Instances = slices.Clone(c.Instances)
	if p.script.next(2) > 0 {
		c.IdleTimeout = endsIdle(p.script)
	} else {
		ports := oneVM(512).Instances[0].Ports[:1]
		c.Instances[0].Ports = pick(p.script, ports, ports, ports, nil,
			[]snat.PortRange{{Frontend: addr(frontend), Protocol: snat.TCP, First: firstPort, Count: 512}},
			[]snat.PortRange{{Frontend: addr("203.0.113.11"), First: firstPort, Count: 512}})
	}
	p.both("reconfigured", func(b *bed) string {
		change, err := b.Reconfigure(b.now, c)
		require.NoError(p.t, err)
		return fmt.Sprintf("%+v", change)
	})
	moved := !slices.Equal(c.Instances[0].Ports, p.config.Instances[0].Ports)
	for _, f := range p.flows {
		if p.over(f) {
			f.last = -1
		}
	}
	p.config = c
	for _, f := range p.flows {
		if p.over(f) {
			f.last = -1
		}
	}
	if moved { // who lives on, and for how long, is not known here
		p.flows = nil
	}
}

func endsIdle(s *script) time.Duration {
	return pick(s, 4*time.Minute, 4*time.Minute, 4*time.Minute, 2*time.Hour, 5*days, 24*days)
}

// newEndsPlay sets three beds up.
func newEndsPlay(t *testing.T, s *script) *endsPlay {
	c := oneVM(512)
	c.Instances[0].Addrs, c.Instances[0].Ports = c.Instances[0].Addrs[:1], c.Instances[0].Ports[:1]
	c.IdleTimeout = endsIdle(s)
	c.EnableTCPReset = s.next(2) > 0
	c.EndRefused = s.next(2) > 0
	c.ReclaimGrace = time.Minute
	c.CountHolders.On = true
	if s.next(3) > 0 {
		ownedPorts(&c).UDP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
		ownedPorts(&c).TCP = ownedOf(c).UDP
		ownedPorts(&c).Allocation.Pooling = pick(s, snat.InOrder, snat.Paired, snat.PairedSoft)
	}
	if s.next(3) > 0 {
		ownedPorts(&c).Allocation.Quarantine = snat.Quarantine{Hold: 2 * time.Minute, MaxPorts: s.next(3) * 50}
	}
	p := &endsPlay{script: s, t: t, config: c, seen: map[string]int{}}
	for i := range p.beds {
		p.beds[i] = newBed(t, c)
		p.beds[i].seldom = true
	}
	return p
}

// run plays a script to its end.
func (p *endsPlay) run() {
	for !p.done() {
		switch op := p.script.next(20); op {
		case 0, 1, 2:
			p.begin(pick(p.script, "udp", "udp", "tcp"), pick(p.script, 1, 10, 70, 150))
		case 3, 4, 5, 6, 7:
			for range 1 + p.script.next(5) {
				if len(p.flows) > 0 {
					p.packet(pick(p.script, p.flows[:min(len(p.flows), 200)]...), p.script.next(2) > 0)
				}
			}
		case 8, 9:
			p.refuse()
		case 10:
			if len(p.flows) > 0 {
				f := pick(p.script, p.flows[:min(len(p.flows), 200)]...)
				p.next++
				p.both("stranger", func(b *bed) string {
					return b.in(pkttest.UDP(socket("198.51.100.77", 1024+p.next%60000), f.outside, "hello"))
				})
			}
		case 11:
			p.reconfigure()
		case 12: // to where those of the same tick end
			p.pass(p.config.IdleTimeout - min(p.config.IdleTimeout, time.Duration(p.script.next(2))*time.Millisecond))
		case 13:
			p.pass(time.Duration(p.script.next(3)) * time.Millisecond)
		case 14:
			p.pass(time.Duration(p.script.next(250)) * time.Second)
		case 15:
			p.pass(time.Duration(p.script.next(60)) * days)
		case 16:
			if len(p.flows) > 0 && p.script.next(4) == 0 && p.config.IdleTimeout >= 2*time.Hour {
				f, inbound := pick(p.script, p.flows[:min(len(p.flows), 200)]...), p.script.next(2) > 0
				for range p.script.next(60) * 24 {
					p.pass(time.Hour)
					p.packet(f, inbound)
				}
			}
		default:
			p.beds[rarely].AdvanceStep(p.beds[rarely].now, nil)
		}
		for _, b := range p.beds {
			b.Check()
		}
	}
	p.pass(60 * days)
	var states [3]string
	for i, b := range p.beds {
		b.at(p.now)
		requireHolders(p.t, b.NAT, b.now, false)
		s := b.Stats()
		states[i] = fmt.Sprint(s.SessionsCreated, s.SessionsActive, s.SessionsEnded, s.Expired, s.Cut, s.Resets, s.ResetsSuppressed, s.Outbound, s.Inbound, s.Faults)
	}
	require.Equal(p.t, states[always], states[rarely])
	require.Equal(p.t, states[always], states[never])
}

// What packets become does not depend on how often time is advanced.
func TestEndsAgainstModel(t *testing.T) {
	pkttest.OneGoroutine(t)
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(pkttest.Operations(12, 60, 600)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			p := newEndsPlay(t, &script{randomScript(3000+seed, 600+int(rand.New(rand.NewPCG(seed, 0)).Uint32N(400)))})
			p.run()
			for what, n := range p.seen {
				seen[what] += n
			}
		})
	}
	t.Log(seen)
}

// FuzzEnds looks for a script on which it does.
func FuzzEnds(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(randomScript(3100+seed, 60))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 80 {
			b = b[:80]
		}
		newEndsPlay(t, &script{b}).run()
	})
}
