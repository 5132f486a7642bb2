package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// counted is a kind of work whose instructions are counted: prepare makes what it needs,
// and the function that it returns does one round of `units` packets or flows. Instead of
// prepare there may be prepareBoth, for what needs something uncounted before each round.
type counted struct {
	name        string
	units       int
	prepare     func(tb testing.TB) (round func())
	prepareBoth func(tb testing.TB) (before, round func())
}

// ready prepares the work.
func (c *counted) ready(tb testing.TB) (before, round func()) {
	if c.prepareBoth != nil {
		return c.prepareBoth(tb)
	}
	return func() {}, c.prepare(tb)
}

// countedFlows is the size of the tables: eight instances, so that all shards of a NAT
// have one, and still quick to set up on an emulated processor.
const countedFlows = 8 * portsPerInstance

// countedWork lists all kinds. Names and units stand in the baseline.
func countedWork() []counted {
	var all []counted
	for _, ip := range []int{4, 6} {
		for _, from := range []flow.Side{flow.Inside, flow.Outside} {
			for _, size := range []int{1, batch} {
				all = append(all, counted{
					name:  fmt.Sprintf("established/ip=%d/from=%v/batch=%d", ip, from, size),
					units: countedFlows,
					prepare: func(tb testing.TB) func() {
						w := newWorld(tb, countedFlows, ip == 6)
						return countEstablished(w, w.traffic(from), from, size)
					},
				})
			}
			for _, entries := range []bool{false, true} {
				all = append(all, counted{
					name:  fmt.Sprintf("public/ip=%d/from=%v/remembered=%v", ip, from, entries),
					units: countedFlows,
					prepare: func(tb testing.TB) func() {
						w := publicWorld(tb, countedFlows, ip == 6, entries)
						t, pkts, verdicts := w.traffic(from), buffers(batch), make([]flow.Verdict, batch)
						return func() {
							for range countedFlows / batch {
								t.copyIn(pkts)
								w.sendPublic(from, pkts, verdicts)
								mustForward(verdicts)
							}
						}
					},
				})
			}
			all = append(all, counted{
				name:  fmt.Sprintf("forwarded/ip=%d/from=%v/batch=%d", ip, from, batch),
				units: countedFlows,
				prepare: func(tb testing.TB) func() {
					w := newForwardWorld(tb, countedFlows, ip == 6, false)
					return countEstablished(&w.world, w.traffic(from), from, batch)
				},
			})
		}
		for _, mode := range []struct {
			name string
			make func(tb testing.TB, flows int, is6 bool, base int) *opening
		}{{"blocks", openBlocks}, {"shared", openShared}} {
			for _, fill := range []struct{ base, open int }{{0, 512}, {1014, openedPorts}} {
				n := countedFlows / portsPerInstance * fill.open
				all = append(all, counted{
					name:  fmt.Sprintf("new/ip=%d/fill=%d/mode=%s", ip, (fill.base+fill.open)*100/portsPerInstance, mode.name),
					units: n,
					prepareBoth: func(tb testing.TB) (before, round func()) {
						o := mode.make(tb, countedFlows, ip == 6, fill.base)
						o.n = n
						pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
						return o.end, func() { o.open(tb, pkts, verdicts) }
					},
				})
			}
			all = append(all, counted{
				name:  fmt.Sprintf("expiry/ip=%d/mode=%s", ip, mode.name),
				units: countedFlows / 2,
				prepareBoth: func(tb testing.TB) (before, round func()) {
					o := mode.make(tb, countedFlows, ip == 6, 0)
					o.n = countedFlows / 2
					pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
					return func() { o.open(tb, pkts, verdicts) }, o.end
				},
			})
		}
		all = append(all,
			counted{
				name:    fmt.Sprintf("life/ip=%d", ip),
				units:   countedFlows,
				prepare: func(tb testing.TB) func() { return countLife(tb, ip == 6) },
			})
	}
	all = append(all, countedCluster()...)
	return append(all, counted{
		name:    "scan/ip=4",
		units:   countedFlows,
		prepare: func(tb testing.TB) func() { return countScan(newWorld(tb, countedFlows, false)) },
	})
}

// countedCluster is the work of clusters: what pods send to the Internet, and both senses
// of connections through Services.
func countedCluster() (all []counted) {
	all = append(all, counted{name: "cluster/ip=4", units: countedFlows, prepare: func(tb testing.TB) func() {
		c, pods := newCluster(tb, countedFlows, false)
		t, pkts, verdicts := podTraffic(tb, c, pods, countedFlows), buffers(batch), make([]flow.Verdict, batch)
		return func() {
			for range countedFlows / batch {
				t.copyIn(pkts)
				c.OutboundBatch(0, pkts, verdicts)
				mustForward(verdicts)
			}
		}
	}})
	for _, ip := range []int{4, 6} {
		for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
			all = append(all, counted{
				name:  fmt.Sprintf("service/ip=%d/policy=%v/new", ip, policy),
				units: countedFlows,
				prepare: func(tb testing.TB) func() {
					return countServiceNew(tb, newServiceWorld(tb, countedFlows, ip == 6, policy))
				},
			})
			for _, from := range []flow.Side{flow.Outside, flow.Inside} {
				all = append(all, counted{
					name:  fmt.Sprintf("service/ip=%d/policy=%v/from=%v", ip, policy, from),
					units: countedFlows,
					prepare: func(tb testing.TB) func() {
						w := newServiceWorld(tb, countedFlows, ip == 6, policy)
						w.establish(tb, countedFlows)
						t, pkts, verdicts := w.traffic(from), buffers(batch), make([]flow.Verdict, batch)
						return func() {
							for range countedFlows / batch {
								t.copyIn(pkts)
								w.send(from, pkts, verdicts)
								mustForward(verdicts)
							}
						}
					},
				})
			}
		}
	}
	return all
}

// countServiceNew opens connections through a Service, and lets them expire.
func countServiceNew(tb testing.TB, w *serviceWorld) func() {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	return func() {
		for first := 0; first < countedFlows; first += batch {
			w.open(tb, pkts, verdicts, first)
		}
		w.now = w.now.Add(121 * time.Second) // half-open connections expire
		w.c.Advance(w.now, nil)
	}
}

// openedPorts is how many new flows an instance opens in a round: 1 % of its ports.
const openedPorts = portsPerInstance / 100

// countEstablished sends as many packets of random established flows as there are flows.
func countEstablished(w *world, t *traffic, from flow.Side, size int) func() {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	return func() {
		for range countedFlows / batch {
			t.copyIn(pkts)
			w.send(from, size, pkts, verdicts)
			mustForward(verdicts)
		}
	}
}

// countLife takes all flows through a handshake and lets all expire.
func countLife(tb testing.TB, is6 bool) func() {
	c, hosts := config(countedFlows, is6)
	w := build(tb, c, hosts, countedFlows, is6)
	return func() {
		w.establish(tb)
		w.now = w.now.Add(c.IdleTimeout)
		w.nat.Advance(w.now, nil)
	}
}

// countScan sends packets of strangers to the frontends' used ports.
func countScan(w *world) func() {
	t := w.scan(countedFlows)
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	return func() {
		for range countedFlows / batch {
			t.copyIn(pkts)
			w.nat.InboundBatch(w.now, pkts, verdicts)
		}
	}
}

func mustForward(verdicts []flow.Verdict) {
	for i, v := range verdicts {
		if v.Action != flow.Forward {
			panic(fmt.Sprintf("packet %d: %v %v", i, v.Action, v.Reason))
		}
	}
}

// countedTB fails by panicking: nothing catches it outside of a test.
type countedTB struct{ testing.TB }

func (countedTB) Cleanup(func())            {}
func (countedTB) Helper()                   {}
func (countedTB) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (countedTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// The environment variables by which the program that is counted learns its work.
const (
	countedName   = "NATPLANE_COUNTED"
	countedRounds = "NATPLANE_COUNTED_ROUNDS"
)

// The work that is counted stays on the first thread, so that what the runtime does on
// others, which depends on the clock, is not counted with it.
func init() {
	if os.Getenv(countedName) != "" {
		runtime.LockOSThread()
	}
}

// countedPart is what is counted: callgrind looks only while it runs.
//
//go:noinline
func countedPart(round func()) { round() }

// TestMain does the work that the environment names, and otherwise runs the tests.
func TestMain(m *testing.M) {
	name := os.Getenv(countedName)
	if name == "" {
		os.Exit(m.Run())
	}
	rounds, err := strconv.Atoi(os.Getenv(countedRounds))
	if err != nil {
		panic(err)
	}
	for _, c := range countedWork() {
		if c.name != name {
			continue
		}
		before, round := c.ready(countedTB{})
		before()
		round() // grows what it needs
		for range rounds {
			before()
			countedPart(round)
		}
		return
	}
	panic("no work has the name " + name)
}
