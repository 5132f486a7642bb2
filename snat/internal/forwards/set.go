package forwards

import (
	"cmp"
	"math/bits"
	"net/netip"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// State is what a target gets.
type State uint8

// The states, in the order of the public ones.
const (
	Up   State = iota // new flows
	Down              // none
	Gone              // none, and those it has end
)

// Target is one of those that a forward sends flows to.
type Target struct {
	Instance uint32    // index
	Addr     [2]uint64 // inside
	Port     uint16    // 0 is that of the frontend
	Name     uint64    // what the distribution knows it by
	State    State     // at first; see Forward.State
}

// Spec is what is known of a forward, which has been checked.
type Spec struct {
	Addr        netip.Addr        // of the frontend
	Frontend    uint32            // its index
	TCP, UDP    bool              // of which protocol the ports are
	First, Last uint16            // the ports
	Fields      rendezvous.Fields // that decide on the target
	Floating    bool              // targets own the frontend's address
	FromInside  bool              // packets of the inside come in by it
	Shards      []uint8           // those with its policy, at least one
	Targets     []Target
}

// Forward is a forward in force.
type Forward struct {
	Spec
	choice   atomic.Pointer[choice]
	byTarget map[targetKey]int32 // of targets
	shares   bool                // sockets of its targets answer for other forwards, too
}

// choice is which targets take new flows. It is immutable.
type choice struct {
	table  *rendezvous.Table
	states []State // by target
	steady bool    // all are up
}

// targetKey is what a session knows of its target.
type targetKey struct {
	instance uint32
	addr     [2]uint64 // 0 if floating
}

// AllPorts reports whether f has all ports of its frontend.
func (f *Forward) AllPorts() bool { return f.First == 1 && f.Last == 65535 }

// Shares reports whether sockets of f's targets answer for other forwards, too: then one
// remote's flows by both would be answered alike.
func (f *Forward) Shares() bool { return f.shares }

// Set is the forwards of a configuration. The zero Set, and nil, have none.
type Set struct {
	all        []Forward
	tables     []*portTable // two for each frontend, by index: see protocol
	floating   []bool       // by index of the frontend: it has a floating forward
	allPorts   []bool       // likewise: it has a forward of all ports
	everywhere uint64       // how many shards there are, if each forward has all; else 0
	sockets    sockets
	departs    bool      // some of them are departed
	counts     [][]Count // by shard and forward
	key        uint64    // of the shards, odd
	spread     uint64    // the key of the distribution
}

// portTable has the number of the forward of each port, plus one, in pages of 256.
type portTable [256]*portPage

type portPage [256]uint32

// noPage and noPorts are shared by all that have no forward there. Nobody writes to them.
var (
	noPage  portPage
	noPorts = func() (t portTable) {
		for i := range t {
			t[i] = &noPage
		}
		return t
	}()
)

// Count is what became of new flows of a forward in a shard, and its traffic there, if
// traffic is counted.
type Count struct {
	Created uint64           // sessions
	Refused uint64           // packets without a target
	Loops   uint64           // packets whose target was their sender
	Traffic [2]traffic.Count // by the side that packets came from
}

// Add adds the counts of another shard.
func (c *Count) Add(d *Count) {
	c.Created += d.Created
	c.Refused += d.Refused
	c.Loops += d.Loops
	for side := range d.Traffic {
		c.Traffic[side].Add(&d.Traffic[side])
	}
}

// protocol returns the position of an IP protocol, TCP or UDP.
func protocol(proto uint8) int {
	if proto == wire.ProtoUDP {
		return 1
	}
	return 0
}

// Config is what a Set is made of besides its forwards.
type Config struct {
	Key    uint64            // of the choice of shards
	Spread uint64            // of the distribution
	Shards int               // how many there are
	Tables *rendezvous.Cache // where tables are made
}

// New returns the set of some forwards, without counts. former are sockets of was whose flows go
// on: each is that of the forward which has the frontend's port now, unless another forward of the
// frontend leads to it, or one of other shards. was may be nil, and is only read.
func New(c Config, specs []Spec, was *Set, former []Socket) *Set {
	s := &Set{all: make([]Forward, len(specs)), key: c.Key | 1, spread: c.Spread, counts: make([][]Count, c.Shards)}
	for i := range s.counts {
		s.counts[i] = make([]Count, len(specs))
	}
	whole := true
	for i := range specs {
		s.all[i].Spec = specs[i]
		whole = whole && len(specs[i].Shards) == c.Shards
	}
	for _, allPorts := range []bool{true, false} { // what has some ports precedes what has all
		for i := range s.all {
			if s.all[i].AllPorts() == allPorts {
				s.enter(i)
			}
		}
	}
	for i := range s.all {
		f := &s.all[i]
		f.byTarget = make(map[targetKey]int32, len(f.Targets))
		states := make([]State, len(f.Targets))
		for j := range f.Targets {
			t := &f.Targets[j]
			f.byTarget[f.keyOf(t.Instance, t.Addr)], states[j] = int32(j), t.State
		}
		f.Choose(states, c.Tables)
	}
	if whole {
		s.everywhere = uint64(c.Shards)
	}
	s.answers(was, former)
	s.share()
	return s
}

// enter enters the ports of a forward.
func (s *Set) enter(i int) {
	f := &s.all[i]
	for int(f.Frontend) >= len(s.floating) {
		s.tables = append(s.tables, &noPorts, &noPorts)
		s.floating, s.allPorts = append(s.floating, false), append(s.allPorts, false)
	}
	s.floating[f.Frontend] = s.floating[f.Frontend] || f.Floating
	s.allPorts[f.Frontend] = s.allPorts[f.Frontend] || f.AllPorts()
	for p, has := range [2]bool{f.TCP, f.UDP} {
		if !has {
			continue
		}
		at := &s.tables[2*int(f.Frontend)+p]
		if *at == &noPorts {
			own := noPorts
			*at = &own
		}
		var whole *portPage // a page that has no other forward
		for port := int(f.First); port <= int(f.Last); {
			page := &(*at)[port/256]
			if port%256 == 0 && port+255 <= int(f.Last) {
				if whole == nil {
					whole = new(portPage)
					for k := range whole {
						whole[k] = uint32(i + 1)
					}
				}
				*page = whole
				port += 256
				continue
			}
			switch {
			case *page == &noPage:
				*page = new(portPage)
			case (*page)[port%256] != 0: // of a forward with all ports, which has the page in many places
				own := **page
				*page = &own
			}
			(*page)[port%256] = uint32(i + 1)
			port++
		}
	}
}

// keyOf returns what a session of f knows of a target.
func (f *Forward) keyOf(instance uint32, addr [2]uint64) targetKey {
	if f.Floating {
		return targetKey{instance: instance}
	}
	return targetKey{instance, addr}
}

// Choose makes the targets of f have states, by target, from now on. The slice belongs to
// f then. The caller must be the only one who does so. Cost: O(targets), and a table.
func (f *Forward) Choose(states []State, tables *rendezvous.Cache) {
	names, eligible, steady := make([]uint64, len(states)), make([]bool, len(states)), true
	for i, state := range states {
		names[i], eligible[i] = f.Targets[i].Name, state == Up
		steady = steady && state == Up
	}
	f.choice.Store(&choice{table: tables.New(names, eligible), states: states, steady: steady})
}

// States returns a copy of the states of f's targets.
func (f *Forward) States() []State { return append([]State(nil), f.choice.Load().states...) }

// State returns the state of the target that a session of f has: its instance and its
// inside address. One that is no target any more counts as up: its sessions go on.
func (f *Forward) State(instance uint32, addr [2]uint64) State {
	c := f.choice.Load()
	if c.steady {
		return Up
	}
	i, ok := f.byTarget[f.keyOf(instance, addr)]
	if !ok {
		return Up
	}
	return c.states[i]
}

// Takes reports whether f sends new flows to the inside socket that a session from a port of the
// frontend has: of a target that is up.
func (f *Forward) Takes(instance uint32, addr [2]uint64, inside, outside uint16) bool {
	i, ok := f.TargetOf(instance, addr)
	return ok && f.choice.Load().states[i] == Up && inside == cmp.Or(f.Targets[i].Port, outside)
}

// TargetOf returns the position of the target that a session of f has, and whether it is
// one still.
func (f *Forward) TargetOf(instance uint32, addr [2]uint64) (int, bool) {
	i, ok := f.byTarget[f.keyOf(instance, addr)]
	return int(i), ok
}

// Elsewhere reports whether f, which has several ports, sends what comes for another of
// them to a socket, which a session of the given port has. Both would be answered alike.
func (f *Forward) Elsewhere(instance uint32, addr [2]uint64, inside, outside uint16) bool {
	_, ok := f.TargetOf(instance, addr)
	return ok && f.First < f.Last && inside != outside && inside >= f.First && inside <= f.Last
}

// Pick returns the target of a new flow by its hash, or nil if none takes any.
func (f *Forward) Pick(hash uint64) *Target {
	i := f.choice.Load().table.At(hash)
	if i < 0 {
		return nil
	}
	return &f.Targets[i]
}

// Spread returns the key of the distribution, for the hashes of package rendezvous.
func (s *Set) Spread() uint64 { return s.spread }

// Len returns the number of forwards.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.all)
}

// Get returns a forward by its number plus one, which is not 0.
func (s *Set) Get(number uint32) *Forward { return &s.all[number-1] }

// At returns the number, plus one, of the forward that a port of a frontend has, or 0.
func (s *Set) At(frontend uint32, proto uint8, port uint16) uint32 {
	return s.AtIndex(frontend, protocol(proto), port)
}

// AtIndex is At for a protocol as an index: 0 is TCP, 1 UDP.
func (s *Set) AtIndex(frontend uint32, protocol int, port uint16) uint32 {
	if s == nil {
		return 0
	}
	at := 2*uint64(frontend) + uint64(protocol) // an int may be too small for what is no frontend's
	if at >= uint64(len(s.tables)) {
		return 0
	}
	return s.tables[at][port>>8][uint8(port)]
}

// Floats reports whether a frontend has a floating forward.
func (s *Set) Floats(frontend uint32) bool {
	return s != nil && uint64(frontend) < uint64(len(s.floating)) && s.floating[frontend]
}

// Opens reports whether a frontend has a forward of all ports.
func (s *Set) Opens(frontend uint32) bool {
	return s != nil && uint64(frontend) < uint64(len(s.allPorts)) && s.allPorts[frontend]
}

// IsOfAllPorts reports whether there is a forward with a number, less one, and it has all ports.
func (s *Set) IsOfAllPorts(number uint32) bool { return number != 0 && s.Get(number).AllPorts() }

// Takes reports whether a port of the block of eight that a port lies in is forwarded.
func (s *Set) Takes(frontend uint32, proto uint8, port uint16) bool {
	for p := range uint16(8) {
		if s.At(frontend, proto, port&^7+p) != 0 {
			return true
		}
	}
	return false
}

// Shard returns the shard of the flows between a forward, by its number plus one, and a
// remote: of IPv6, addr is a hash of its address.
func (s *Set) Shard(number uint32, addr uint64, port uint16, proto uint8) uint8 {
	hi, lo := bits.Mul64(addr^uint64(port)<<32^uint64(proto)<<48, s.key)
	hash := (hi ^ lo) >> 32
	if s.everywhere == 0 {
		return s.among(number, hash)
	}
	return uint8(hash * s.everywhere >> 32)
}

// among returns the shard of a hash of 32 bits among those of a forward.
func (s *Set) among(number uint32, hash uint64) uint8 {
	shards := s.Get(number).Shards
	return shards[hash*uint64(len(shards))>>32]
}

// CountAt returns the counts of a forward, by its number plus one, in a shard, whose lock
// must be held.
func (s *Set) CountAt(shard int, number uint32) *Count { return &s.counts[shard][number-1] }

// identity is what makes a forward the same one in two sets.
type identity struct {
	addr        netip.Addr
	tcp, udp    bool
	first, last uint16
}

func (f *Forward) identity() identity { return identity{f.Addr, f.TCP, f.UDP, f.First, f.Last} }

// Inherit takes over the counts of forwards that have the same ports. The locks of all
// shards must be held.
func (s *Set) Inherit(was *Set) {
	if s == nil || was == nil {
		return
	}
	before := map[identity]int{}
	for i := range was.all {
		before[was.all[i].identity()] = i
	}
	for i := range s.all {
		if k, ok := before[s.all[i].identity()]; ok {
			for shard := range s.counts {
				s.counts[shard][i] = was.counts[shard][k]
			}
		}
	}
}
