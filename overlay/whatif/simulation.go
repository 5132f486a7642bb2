// The simulation: what there is, and its walk through time.

package whatif

import (
	"iter"
	"math"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/heap"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/internal/agenda"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/forecast"
)

// World is what carries the packets and says how full it is: an [overlay.Cluster], a [snat.NAT],
// or a LoadBalancer, Gateway or Egress of package lb. Their Sessions and Stranded, which another
// World need not have, tell who holds ports and whose are stranded.
type World interface {
	flow.Translator
	Frontends() []snat.FrontendStats
	Instances() iter.Seq2[int, snat.InstanceStats]
}

// Defaults of a Config; our choice.
const (
	DefaultStep           = 10 * time.Millisecond
	DefaultSampleInterval = 10 * time.Second
)

// Config is what a simulation needs. World, Hosts and Workload must be given; the zero value of all
// else is a documented default.
type Config struct {
	World    World    // nobody else sends through it, or results are of both
	Hosts    []Host   // all who may send
	Workload Workload // what they send

	// Begin is the world's time at which the simulation begins; not negative.
	Begin flow.Time

	// Step is the unit of time, a whole number of milliseconds up to 1 s; 0 means DefaultStep. A
	// smaller one is more exact and slower, for batches are smaller. What takes less takes one
	// step.
	Step time.Duration

	// SampleInterval is the time between two looks at how full the world is, 100 ms to 24 h; 0 means
	// DefaultSampleInterval.
	SampleInterval time.Duration

	// Forecast says how Result.Outlooks and Foretold are made, if the world counts who holds ports
	// ([snat.Dataplane].CountHolders). Without its Lifetimes nothing is foretold to level off.
	Forecast forecast.Config

	// Packets, if not nil, is called with each packet as a side sees it: one of a host as it
	// leaves the host (flow.Inside) and then, if it is forwarded, the world (flow.Outside), and
	// the other way round. It is valid only until the call returns.
	Packets func(at flow.Time, seen flow.Side, pkt []byte)
}

// Simulation is a workload on its way through a world. Create one with New. It is for one
// goroutine at a time.
type Simulation struct {
	world   World
	packets func(flow.Time, flow.Side, []byte)
	begin   flow.Time
	unit    time.Duration // a step
	step    int64         // under way
	now     flow.Time     // of it

	hosts    []host
	byAddr   map[addr]uint32 // hosts
	streams  []stream
	arrivals heap.Heap[arrival]

	conversations []conversation
	unused        uint32  // the first of those that are none now, or none
	byPort        sockets // conversations that are open, by what answers come to
	agenda        *agenda.Agenda
	out, in       batch

	sink     flow.Sink // s.emitted
	deadline flow.Time // of the world; math.MaxInt64 if there is none
	sample   flow.Time // when the next one is due
	every    time.Duration
	plain    bool // nobody will ask who held the ports
	seen     observation
	refusals refusals
	resets   uint64
	carried  [flow.NumFamilies][2]uint64 // packets by side that sends: all, and those dropped
}

// addr is an address as a key.
type addr struct {
	words [2]uint64
	v6    bool
}

func addrOf(a netip.Addr) addr {
	if a = a.Unmap(); a.Is4() {
		return addr{words: [2]uint64{uint64(flow.Addr4(a))}}
	}
	return addr{flow.Addr6(a), true}
}

// host is a Host with the ports that it has given.
type host struct {
	name, group string

	addrs [flow.NumFamilies]addr
	has   [flow.NumFamilies]bool
	next  [2]uint16 // ephemeral ports given so far, of TCP and UDP
	open  [2]uint16 // of them, those of open conversations
}

const none = ^uint32(0)

// New returns a simulation that begins with the first Advance. The error has all problems of the
// configuration, and wraps sentinels of package flow.
func New(c Config) (*Simulation, error) {
	var l problems.List
	if c.World == nil {
		l.Add("World", problems.None, flow.ErrMissing, "")
	}
	def(&c.Step, DefaultStep)
	def(&c.SampleInterval, DefaultSampleInterval)
	if c.Step < time.Millisecond || c.Step > time.Second || c.Step%time.Millisecond != 0 {
		l.Add("Step", c.Step, flow.ErrOutOfRange, "1ms..1s in whole milliseconds")
	}
	if c.SampleInterval < 100*time.Millisecond || c.SampleInterval > 24*time.Hour {
		l.Add("SampleInterval", c.SampleInterval, flow.ErrOutOfRange, "100ms..24h")
	}
	if c.Begin < 0 {
		l.Add("Begin", c.Begin, flow.ErrOutOfRange, "not negative")
	}
	s := &Simulation{
		world: c.World, packets: c.Packets, begin: c.Begin, unit: c.Step, now: c.Begin, step: -1,
		byAddr: make(map[addr]uint32), unused: none,
		agenda: agenda.New(), out: newBatch(), in: newBatch(),
		sample: c.Begin, every: c.SampleInterval,
	}
	s.sink = s.emitted
	s.addHosts(&l, c.Hosts)
	l.Include("Workload", c.Workload.Validate())
	l.Include("Forecast", s.countHolders(c.Forecast))
	if l.Len() == 0 {
		for i := range c.Workload.Traffic {
			s.addStream(&l, c, i)
		}
		s.addTrace(&l, c)
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	s.consult()
	return s, nil
}

func (s *Simulation) addHosts(l *problems.List, hosts []Host) {
	if len(hosts) == 0 {
		l.Add("Hosts", problems.None, flow.ErrMissing, "nobody sends")
	}
	names := make(map[string]int)
	for i, h := range hosts {
		at := problems.Index("Hosts", i)
		if j, twice := names[h.Name]; h.Name == "" {
			l.Add(at+".Name", problems.None, flow.ErrMissing, "")
		} else if twice {
			l.Add(at+".Name", h.Name, flow.ErrDuplicateName, "as Hosts[%d]", j)
		}
		names[h.Name] = i
		if len(h.Addrs) == 0 {
			l.Add(at+".Addrs", problems.None, flow.ErrMissing, "")
		}
		begin := uint16(uint64(i) * spread % ephemerals)
		made := host{name: h.Name, group: h.Group, next: [2]uint16{begin, begin}}
		for j, a := range h.Addrs {
			at := problems.Index(at+".Addrs", j)
			if !flow.IsHost(a) {
				l.Add(at, a, flow.ErrAddress, "")
				continue
			}
			key, family := addrOf(a), flow.Family(a)
			if _, taken := s.byAddr[key]; taken || made.has[family] {
				l.Add(at, a, flow.ErrConflict, "another address of the family, or another host's")
			}
			made.addrs[family], made.has[family] = key, true
			s.byAddr[key] = uint32(i)
		}
		s.hosts = append(s.hosts, made)
	}
}

// steps returns a duration in whole steps, at least one.
func (s *Simulation) steps(d time.Duration) int64 {
	return max(1, int64((d+s.unit-1)/s.unit))
}

// consult learns when the world has something to do.
func (s *Simulation) consult() {
	s.deadline = math.MaxInt64
	if at, ok := s.world.NextDeadline(); ok {
		s.deadline = at
	}
}

// Advance carries the simulation to a time since its beginning: all steps that begin before it.
// What it has come to already it leaves alone. Cost: see BenchmarkWorkload in bench.
func (s *Simulation) Advance(until time.Duration) {
	end := s.begin.Add(until)
	for {
		step := s.nextStep()
		at := s.begin.Add(time.Duration(step) * s.unit)
		if step == math.MaxInt64 || at >= end {
			break
		}
		s.step, s.now = step, at
		s.carry()
	}
}

// nextStep returns the first step after this one in which something is due.
func (s *Simulation) nextStep() int64 {
	step := int64(math.MaxInt64)
	if next, ok := s.agenda.Next(); ok {
		step = next
	}
	due := s.sample
	if len(s.arrivals) > 0 {
		step = min(step, int64(s.arrivals[0].at.Sub(s.begin)/s.unit))
	}
	due = min(due, s.deadline)
	step = min(step, int64((due.Sub(s.begin)+s.unit-1)/s.unit))
	return max(step, s.step+1)
}

// carry does what is due in this step.
func (s *Simulation) carry() {
	if s.deadline <= s.now {
		s.world.Advance(s.now, s.sink)
		s.consult()
	}
	if s.sample <= s.now {
		s.observe(&s.seen, true)
		s.sample = s.now.Add(s.every)
	}
	for {
		e, ok := s.agenda.Take(s.step)
		if !ok {
			break
		}
		if c := &s.conversations[e.Owner]; c.ticket == e.Ticket {
			s.due(e.Owner)
			if s.in.full() {
				s.receive()
			}
			if s.out.full() {
				s.send()
			}
		}
	}
	s.receive()
	end := s.now.Add(s.unit)
	for len(s.arrivals) > 0 && s.arrivals[0].at < end {
		a := &s.arrivals[0]
		st := &s.streams[a.stream]
		s.arrive(st)
		if s.out.full() {
			s.send()
		}
		if a.at = s.following(st, a.at); a.at == never {
			s.arrivals.Pop()
		} else {
			s.arrivals.Down()
		}
	}
	s.send()
	if s.world.DeadlineMoved() {
		s.consult()
	}
}
