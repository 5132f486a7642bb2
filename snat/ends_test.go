package snat_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/preset"
)

// Ends that meet the packet at hand: whatever ends while a packet is on its way, and
// in whatever order that is noticed, the packet is judged as if all had ended before.

const days = 24 * time.Hour

// A connection that is refused ends with the packet that refuses it, and a repeated
// SYN within the same millisecond begins another.
func TestRefusedAndRepeatedWithinATick(t *testing.T) {
	for _, at := range []time.Duration{0, time.Millisecond, time.Hour, 50 * days} {
		t.Run(fmt.Sprint("from outside at ", at), func(t *testing.T) {
			for _, name := range []string{"rfc", "cgn"} {
				p, ok := preset.ByName(name)
				require.True(t, ok)
				c, err := p.Configure(preset.Site{
					Instances: []snat.Instance{{Name: "host", Addrs: []netip.Addr{addr(vmA)}}}, Frontends: []netip.Addr{addr(frontend)},
				})
				require.NoError(t, err)
				b := newBed(t, c)
				b.lazily(at)
				outside := b.opens("tcp", socket(vmA, 5000), socket(serverA, 443))
				remote := socket("198.51.100.9", 9000)
				for range 3 {
					require.Equal(t, socket(vmA, 5000), destination(b.remotely(remote, outside, "S", 7, 0)), name)
					require.Equal(t, outside, source(b.locally(socket(vmA, 5000), remote, "RA", 0, 8)), name)
				}
			}
		})
		t.Run(fmt.Sprint("from inside at ", at), func(t *testing.T) {
			c := oneVM(8)
			c.EndRefused = true
			ownedPorts(&c).Allocation.Quarantine.Hold = 2 * time.Minute
			b := newBed(t, c)
			b.lazily(at)
			for i := range 3 { // each on a port of its own, because the one before rests
				outside := socket(frontend, firstPort+i)
				require.Equal(t, outside, b.opens("tcp", socket(vmA, 5000), socket(serverA, 443)))
				require.Equal(t, socket(vmA, 5000), destination(b.remotely(socket(serverA, 443), outside, "RA", 0, 1001)))
			}
		})
	}
}

// Many sessions end in the same tick, Advance has done some of them, and packets come
// for the others, in whatever order.
func TestPacketsBetweenSteps(t *testing.T) {
	const n = 300
	for _, reset := range []bool{false, true} {
		for _, quarantine := range []time.Duration{0, 2 * time.Minute} {
			for _, proto := range []string{"udp", "tcp"} {
				t.Run(fmt.Sprintf("%s, reset %v, quarantine %v", proto, reset, quarantine), func(t *testing.T) {
					c := oneVM(2 * n)
					c.Instances[0].Ports = c.Instances[0].Ports[:1]
					c.Instances[0].Ports[0].Count = 1024
					ownedPorts(&c).TCP.Share = snat.ShareNever
					c.EnableTCPReset = reset
					ownedPorts(&c).Allocation.Quarantine.Hold = quarantine
					const idle = 4 * time.Minute
					answers := map[string]string{}
					for _, steps := range []int{0, 1, 2, 100} {
						b := newBed(t, c)
						b.seldom = true
						for i := range n {
							if proto == "tcp" {
								b.dials(socket(vmA, 5000+i), socket(serverA, 443))
							} else {
								b.opens("udp", socket(vmA, 5000+i), socket(serverA, 443))
							}
						}
						b.lazily(idle)
						for range steps {
							b.AdvanceStep(b.now, nil)
						}
						for i := n - 1; i >= 0; i-- {
							in, out := socket(vmA, 5000+i), socket(frontend, firstPort+i)
							var got string
							switch {
							case proto == "udp" && i%2 == 0:
								got = b.in(pkttest.UDP(socket(serverA, 443), out, "late"))
							case proto == "udp":
								got = b.out(pkttest.UDP(in, socket(serverA, 443), "late"))
							case i%2 == 0:
								got = b.remotely(socket(serverA, 443), out, "A", 5001, 1001)
							default:
								got = b.locally(in, socket(serverA, 443), "A", 1001, 5001)
							}
							if want, ok := answers[in]; ok {
								require.Equal(t, want, got, "%s after %d steps", in, steps)
							}
							answers[in] = got
							if reset && proto == "tcp" {
								require.Equal(t, "drop flow_reset", got)
							}
						}
						b.Check()
						b.at(idle + 5*time.Minute)
					}
				})
			}
		}
	}
}

// What is asked of the rate of resets is asked in the order of time, however seldom
// somebody advances: the ends of connections, and answers to their stragglers.
func TestRateOfResetsInOrder(t *testing.T) {
	c := oneVM(8)
	c.EnableTCPReset, c.ResetRate, c.ResetBurst = true, 1, 8
	verdicts := map[bool][]string{}
	for _, often := range []bool{false, true} {
		b := newBed(t, c)
		for i := range 8 {
			b.now = flow.At(time.Duration(i) * time.Second)
			b.dials(socket(vmA, 5000+i), socket(serverA, 443+i))
		}
		for i := range 12 {
			now := 4*time.Minute + time.Duration(i)*time.Second
			if b.lazily(now); often {
				b.at(now)
			}
			got := b.locally(socket(vmA, 5000), socket(serverA, 443), "A", 1001, 5001)
			verdicts[often] = append(verdicts[often], got)
		}
		b.at(5 * time.Minute)
		s := b.Stats()
		verdicts[often] = append(verdicts[often], fmt.Sprint(s.Resets, s.ResetsSuppressed))
	}
	assert.Equal(t, verdicts[true], verdicts[false])
}

// The inside has lost all ports of a protocol, or other ones, while a mapping lives
// that others may send to: it takes further sessions, its subscriber just has no home.
func TestInboundToAwaitingPort(t *testing.T) {
	other := addr("203.0.113.11")
	for _, pooling := range []snat.Pooling{snat.Paired, snat.PairedSoft} {
		for _, blocks := range []int{0, 8} {
			for name, ports := range map[string][]snat.PortRange{
				"no ports":            nil,
				"TCP ports only":      {{Frontend: addr(frontend), Protocol: snat.TCP, First: firstPort, Count: 8}},
				"another's ports":     {{Frontend: other, First: firstPort, Count: 8}},
				"another's TCP ports": {{Frontend: other, Protocol: snat.TCP, First: firstPort, Count: 8}},
				"other ports":         {{Frontend: addr(frontend), First: firstPort + 8, Count: 8}},
			} {
				if blocks > 0 && len(ports) > 0 && ports[0].Protocol == snat.TCP {
					continue // blocks are of all protocols
				}
				t.Run(fmt.Sprintf("%v, blocks of %d, %s", pooling, blocks, name), func(t *testing.T) {
					c := oneVM(8)
					c.Instances[0].Addrs, c.Instances[0].Ports = c.Instances[0].Addrs[:1], c.Instances[0].Ports[:1]
					ownedPorts(&c).UDP = snat.Behavior{Mapping: snat.EndpointIndependent, Filtering: snat.EndpointIndependentFiltering, Share: snat.ShareNever}
					ownedPorts(&c).TCP = snat.Behavior{Share: snat.ShareNever}
					ownedPorts(&c).Allocation.Pooling = pooling
					ownedPorts(&c).Blocks.Size = blocks
					b := newBed(t, c)
					b.opens("udp", socket(vmA, 5000), socket(serverA, 53))
					c.Instances = append([]snat.Instance(nil), c.Instances...)
					c.Instances[0].Ports, c.ReclaimGrace = ports, time.Minute
					_, err := b.Reconfigure(b.now, c)
					require.NoError(t, err)
					for i := range 3 {
						in := b.in(pkttest.UDP(socket("198.51.100.9", 9000+i), socket(frontend, firstPort), "hello"))
						require.Equal(t, socket(vmA, 5000), destination(in))
					}
					require.Equal(t, 4, b.Stats().SessionsActive)
					b.at(time.Minute)
					require.Zero(t, b.Stats().SessionsActive)
				})
			}
		}
	}
}

// Sessions end on time whatever gap is left between packets and calls, also where 31
// and 32 bits of milliseconds are spent.
func TestGapsOfDays(t *testing.T) {
	gaps := []time.Duration{
		time.Hour, 12 * days, flow.MaxLag - flow.Tick, flow.MaxLag, flow.MaxLag + flow.Tick,
		24 * days, 24*days + flow.Tick, 1<<31*flow.Tick - flow.Tick, 1 << 31 * flow.Tick, 1<<31*flow.Tick + flow.Tick,
		40 * days, 1<<32*flow.Tick - flow.Tick, 1 << 32 * flow.Tick, 1<<32*flow.Tick + 3*time.Minute, 75 * days, 400 * days,
	}
	for _, idle := range []time.Duration{4 * time.Minute, 5 * days, 24 * days} {
		for _, reached := range []time.Duration{0, 3 * time.Minute, 4 * days, 10 * days} {
			for _, batch := range []bool{false, true} {
				for _, gap := range gaps {
					if gap < reached {
						continue
					}
					c := oneVM(8)
					c.IdleTimeout = idle
					b := newBed(t, c)
					outside := b.opens("udp", socket(vmA, 5000), socket(serverA, 53))
					b.at(reached)
					pkt := pkttest.UDP(socket(serverA, 53), outside, "late")
					var v [1]flow.Verdict
					if batch {
						b.InboundBatch(flow.At(gap), [][]byte{pkt}, v[:])
					} else {
						v[0] = b.Inbound(flow.At(gap), pkt)
					}
					want := flow.Drop
					if gap < idle {
						want = flow.Forward
					}
					require.Equal(t, want, v[0].Action, "idle %v, advanced to %v, packet at %v", idle, reached, gap)
				}
			}
		}
	}
}

// A stream in one direction for weeks, whatever packets refresh it, and then a shorter
// timeout: the session ends that long after its last packet.
func TestShorterTimeoutAfterWeeks(t *testing.T) {
	for _, weeks := range []time.Duration{2, 3, 4, 6, 8, 20} {
		for _, from := range []flow.Side{flow.Inside, flow.Outside} {
			for _, often := range []bool{false, true} {
				c := oneVM(8)
				c.IdleTimeout = 120 * time.Minute
				b := newBed(t, c)
				outside := b.opens("udp", socket(vmA, 5000), socket(serverA, 53))
				b.in(pkttest.UDP(socket(serverA, 53), outside, "once"))
				last := weeks * 7 * days
				for now := time.Duration(0); now <= last; now += time.Hour {
					if b.lazily(now); often {
						b.at(now)
					}
					if from == flow.Inside {
						require.NotContains(t, b.out(pkttest.UDP(socket(vmA, 5000), socket(serverA, 53), "more")), "drop")
					} else {
						require.NotContains(t, b.in(pkttest.UDP(socket(serverA, 53), outside, "more")), "drop")
					}
				}
				c.IdleTimeout = 4 * time.Minute
				_, err := b.Reconfigure(b.now, c)
				require.NoError(t, err)
				b.at(last + 4*time.Minute - flow.Tick)
				require.Equal(t, 1, b.Stats().SessionsActive, "%d weeks from the %v", weeks, from)
				b.at(last + 4*time.Minute)
				require.Zero(t, b.Stats().SessionsActive, "%d weeks from the %v", weeks, from)
			}
		}
	}
}

// Time that goes back is no idleness. A time that lies too far back counts as the
// earliest that is known, and the session lives its timeout from then.
func TestTimeGoesBack(t *testing.T) {
	for _, back := range []time.Duration{flow.Tick, time.Hour, 12 * days, flow.MaxLag, flow.MaxLag + flow.Tick, 30 * days, 60 * days} {
		c := oneVM(8)
		b := newBed(t, c)
		const base = 100 * days
		b.at(base)
		outside := b.opens("udp", socket(vmA, 5000), socket(serverA, 53))
		b.lazily(base - back)
		require.NotContains(t, b.in(pkttest.UDP(socket(serverA, 53), outside, "early")), "drop", back)
		require.NotContains(t, b.opens("udp", socket(vmA, 6000), socket(serverA, 54)), "drop", back)
		b.lazily(base - back + 3*time.Minute)
		require.NotContains(t, b.out(pkttest.UDP(socket(vmA, 6000), socket(serverA, 54), "again")), "drop", back)
		b.at(base + 8*time.Minute)
		require.Zero(t, b.Stats().SessionsActive, back)
	}
}

// Whoever wants to see everything end goes to the end of time.
func TestEndOfTime(t *testing.T) {
	for name, change := range map[string]func(*snat.Config){
		"plain":      func(*snat.Config) {},
		"reset":      func(c *snat.Config) { c.EnableTCPReset = true },
		"quarantine": func(c *snat.Config) { ownedPorts(c).Allocation.Quarantine.Hold = time.Minute },
		"fragments":  func(c *snat.Config) { c.Fragments.Mode = snat.FragmentsVirtual },
		"held SYNs":  func(c *snat.Config) { c.HoldSYN.Max = 10 },
		"rates":      func(c *snat.Config) { c.ICMP.Errors, c.ResetRate = true, 10 },
	} {
		for _, at := range []flow.Time{math.MaxInt64 - 1, math.MaxInt64} {
			t.Run(fmt.Sprint(name, " at ", int64(at)), func(t *testing.T) {
				c := oneVM(8)
				change(&c)
				c.ReclaimGrace = time.Minute
				b := newBed(t, c)
				open := func() {
					b.opens("udp", socket(vmA, 5000), socket(serverA, 53))
					b.dials(socket(vmA, 5000), socket(serverA, 443))
					b.remotely(socket("198.51.100.9", 9000), socket(frontend, firstPort), "S", 7, 0)
				}
				open()
				b.Advance(at, nil)
				require.Zero(t, b.Stats().SessionsActive)
				b.now = at
				open()
				for range 3 {
					b.AdvanceStep(at, nil)
					b.HoldFree(at)
					_, err := b.Reconfigure(at, c)
					require.NoError(t, err)
					b.NextDeadline()
				}
				b.Check()
			})
		}
	}
}

// calculated is a configuration with a deterministic mapping.
func calculated() snat.Config {
	return snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Inside: prefixes("10.0.0.0/28"), Ports: []snat.PortRange{{Frontend: addr("192.0.2.1"), First: 1024, Count: 64512}},
			Deterministic: &deterministic.Parameters{Inside: prefixes("10.0.0.0/28"), Outside: prefixes("192.0.2.1/32")},
		}},
		Ports: &snat.Owned{
			TCP:        snat.Behavior{Share: snat.ShareNever},
			UDP:        snat.Behavior{Share: snat.ShareNever},
			Allocation: snat.Allocation{Pooling: snat.Paired},
		},
	}
}

// All days that have passed are told of, one in a step, and also at the end of time.
func TestParametersOfManyDays(t *testing.T) {
	c := calculated()
	told := 0
	c.Hooks.Event = func(e snat.Event) {
		if e.Kind == snat.EventParameters {
			told++
		}
	}
	b := newBed(t, c)
	b.AdvanceStep(0, nil)
	require.Equal(t, 1, told)
	for i := range 40 {
		require.False(t, b.AdvanceStep(flow.At(40*days), nil), i)
		require.Equal(t, 2+i, told)
	}
	require.True(t, b.AdvanceStep(flow.At(40*days), nil))
	b.Advance(math.MaxInt64, nil)
	require.Equal(t, 1+int(math.MaxInt64/int64(days)), told)
}

// Whoever listens from a reconfiguration or a copy on is told the parameters that are in force,
// and then daily.
func TestParametersForWhoComesLate(t *testing.T) {
	c := calculated()
	var told []flow.Time
	hooks := snat.Hooks{Event: func(e snat.Event) {
		if e.Kind == snat.EventParameters {
			told = append(told, e.At)
		}
	}}
	b := newBed(t, c)
	b.at(days)
	copied, err := b.Fork(snat.Ties{Hooks: hooks})
	require.NoError(t, err)
	defer copied.Close()
	for day := range 3 {
		copied.Advance(flow.At(time.Duration(1+day)*days), nil)
	}
	require.Equal(t, []flow.Time{flow.At(days), flow.At(2 * days), flow.At(3 * days)}, told)
	told, c.Hooks = nil, hooks
	_, err = b.Reconfigure(b.now, c)
	require.NoError(t, err)
	b.at(2 * days)
	require.Equal(t, []flow.Time{flow.At(days), flow.At(2 * days)}, told)
}

// AdvanceStep is exact a little ahead, also where packets have put an end off and
// where the end lies beyond a slot of the timers.
func TestNextDeadlineIsExact(t *testing.T) {
	for _, start := range []time.Duration{0, 100 * time.Millisecond, 255 * time.Millisecond, 65500 * time.Millisecond} {
		for _, left := range []time.Duration{1, 99, 200, 255} {
			c := oneVM(8)
			c.IdleTimeout = 300 * time.Millisecond
			b := newBed(t, c)
			b.at(start)
			b.opens("udp", socket(vmA, 5000), socket(serverA, 53))
			b.lazily(start + 200*time.Millisecond)
			b.opens("udp", socket(vmA, 5000), socket(serverA, 53)) // put off
			end := start + 500*time.Millisecond
			b.at(end - left*time.Millisecond)
			at, ok := b.NextDeadline()
			require.True(t, ok)
			require.Equal(t, flow.At(end), at, "%v, %d ms ahead", start, left)
		}
	}
}

// Ports that are freed in the same tick rest, and wake, in the order of their
// ordinals, at a cost that is about linear.
func TestManyPortsRestAtOnce(t *testing.T) {
	const n = 4096
	c := oneVM(8)
	c.Instances[0].Ports = []snat.PortRange{{Frontend: addr(frontend), First: firstPort, Count: n}}
	ownedPorts(&c).Allocation.Quarantine = snat.Quarantine{Hold: time.Minute, MaxPorts: n / 2}
	ownedPorts(&c).UDP.Share = snat.ShareNever
	b := newBed(t, c)
	b.seldom = true
	for i := range n {
		require.NotContains(t, b.opens("udp", socket(vmA, 10000+i), socket(serverA, 53)), "drop")
	}
	b.lazily(4 * time.Minute)
	// The lower half is free, the upper one rests.
	for i := range n / 2 {
		require.Equal(t, socket(frontend, firstPort+i), b.opens("udp", socket(vmA, 20000+i), socket(serverA, 53)))
	}
	require.Equal(t, "drop ports", b.opens("udp", socket(vmA, 30000), socket(serverA, 53)))
	b.lazily(5*time.Minute - flow.Tick)
	require.Equal(t, "drop ports", b.opens("udp", socket(vmA, 30000), socket(serverA, 53)))
	b.lazily(5 * time.Minute)
	require.Equal(t, socket(frontend, firstPort+n/2), b.opens("udp", socket(vmA, 30000), socket(serverA, 53)))
	b.Check()
}

// One step wakes so many ports, and a new flow gets one that has rested whether or
// not it has been woken.
func TestWakingIsBounded(t *testing.T) {
	pkttest.OneGoroutine(t)
	c := oneVM(8)
	c.Instances[0].Ports = []snat.PortRange{{Frontend: addr(frontend), First: firstPort, Count: 64512}}
	ownedPorts(&c).Allocation.Quarantine = snat.Quarantine{Hold: time.Minute}
	b := newBed(t, c)
	b.HoldFree(0)
	const all = 2 * 64512
	held := func() (n int) {
		for _, inst := range b.Instances() {
			for _, p := range inst.Pools {
				n += p.Held()
			}
		}
		return n
	}
	require.Equal(t, all, held())
	b.lazily(time.Minute)
	steps := 0
	for was := all; !b.AdvanceStep(b.now, nil); steps++ {
		now := held()
		require.LessOrEqual(t, was-now, 4096)
		was = now
	}
	require.Zero(t, held())
	require.GreaterOrEqual(t, steps, all/4096)
	require.LessOrEqual(t, steps, all/4096+3)

	b.HoldFree(b.now)
	b.lazily(2 * time.Minute)
	b.AdvanceStep(b.now, nil)
	require.Equal(t, socket(frontend, 65535-1), func() string {
		for i := range 64510 {
			b.seldom = true
			require.Equal(t, socket(frontend, firstPort+i), b.opens("tcp", socket(vmA, 1024+i), socket(serverA, 443)))
		}
		return b.opens("tcp", socket(vmA, 1000), socket(serverA, 443))
	}())
}

// One step emits so many resets, in their order, however many wait.
func TestResetsInSteps(t *testing.T) {
	const n = 600
	c := oneVM(8)
	c.Instances[0].Ports = []snat.PortRange{{Frontend: addr(frontend), First: firstPort, Count: 1024}}
	c.EnableTCPReset = true
	b := newBed(t, c)
	b.seldom = true
	for i := range n {
		b.dials(socket(vmA, 5000+i), socket(serverA, 443))
	}
	b.lazily(4 * time.Minute)
	b.opens("udp", socket(vmA, 5000), socket(serverA, 53)) // ends all
	var got []string
	for done := false; !done; {
		k := len(got)
		done = b.AdvanceStep(b.now, func(e flow.Emission) { got = append(got, pkttest.String(append([]byte(nil), e.Packet...))) })
		require.LessOrEqual(t, len(got)-k, 256)
	}
	require.Len(t, got, 2*n)
	other := newBed(t, c)
	other.seldom = true
	for i := range n {
		other.dials(socket(vmA, 5000+i), socket(serverA, 443))
	}
	other.at(4 * time.Minute)
	for i, e := range other.emitted {
		require.Equal(t, got[i], pkttest.String(e.Packet))
	}
}
