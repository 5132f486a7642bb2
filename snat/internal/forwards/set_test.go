package forwards

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// random makes forwards that share no port, unless one has all ports and both float, and no
// socket, unless they have the same shards.
func random(r *rand.Rand) (specs []Spec) {
	for range r.IntN(8) {
		at := uint32(r.IntN(3))
		s := Spec{
			Frontend: at, Addr: netip.AddrFrom4([4]byte{20, 0, 0, byte(at)}), TCP: r.IntN(4) > 0, Floating: r.IntN(4) == 0,
			First: uint16(1 + r.IntN(2000)), Shards: []uint8{1, 4, 5}[:1+r.IntN(3)],
		}
		s.UDP = !s.TCP || r.IntN(2) == 0
		if s.Last = s.First + uint16(r.IntN(3)*r.IntN(700)); r.IntN(6) == 0 {
			s.First, s.Last = 1, 65535
		}
		for i := range r.IntN(5) {
			t := Target{Instance: uint32(i), Addr: [2]uint64{uint64(r.IntN(4))}, Name: uint64(100*len(specs) + i), State: State(r.IntN(3))}
			if s.First == s.Last && r.IntN(2) == 0 {
				t.Port = uint16(1 + r.IntN(2000))
			}
			s.Targets = append(s.Targets, t)
		}
		if free(specs, &s) {
			specs = append(specs, s)
		}
	}
	return specs
}

// free reports whether a forward shares nothing with others.
func free(all []Spec, s *Spec) bool {
	for i := range all {
		o := &all[i]
		beside := o.Floating && s.Floating && (o.Last-o.First == 65534) != (s.Last-s.First == 65534)
		if (o.TCP && s.TCP || o.UDP && s.UDP) && o.Frontend == s.Frontend && o.First <= s.Last && s.First <= o.Last && !beside {
			return false
		}
		for _, a := range o.Targets {
			for _, b := range s.Targets {
				if !o.Floating && !s.Floating && a.Instance == b.Instance && a.Addr == b.Addr && len(o.Shards) != len(s.Shards) {
					return false
				}
			}
		}
	}
	return true
}

// twinAt is At by looking at every forward.
func twinAt(specs []Spec, frontend uint32, proto uint8, port uint16) (found uint32) {
	for i, s := range specs {
		if s.Frontend == frontend && (proto == wire.ProtoTCP && s.TCP || proto == wire.ProtoUDP && s.UDP) && port >= s.First && port <= s.Last {
			if found = uint32(i + 1); s.Last-s.First < 65534 {
				return found
			}
		}
	}
	return found
}

// twinAnswers is Answers by looking at every target.
func twinAnswers(s *Spec, instance uint32, addr [2]uint64, port uint16, proto uint8) bool {
	for _, t := range s.Targets {
		first, last := s.First, s.Last
		if t.Port != 0 {
			first, last = t.Port, t.Port
		}
		if !s.Floating && t.Instance == instance && t.Addr == addr && port >= first && port <= last &&
			(proto == wire.ProtoTCP && s.TCP || proto == wire.ProtoUDP && s.UDP) {
			return true
		}
	}
	return false
}

// outsideOf returns the frontend's port by which flows come to a port of a target.
func outsideOf(s *Spec, port uint16) uint16 {
	if s.First == s.Last {
		return s.First
	}
	return port
}

// compare compares a set with what its specifications say.
func compare(t *testing.T, r *rand.Rand, s *Set, specs []Spec) {
	for range 300 {
		proto, port := []uint8{wire.ProtoTCP, wire.ProtoUDP}[r.IntN(2)], uint16(1+r.IntN(4000))
		frontend := uint32(r.IntN(5))
		require.Equal(t, twinAt(specs, frontend, proto, port), s.At(frontend, proto, port))
		instance, addr := uint32(r.IntN(5)), [2]uint64{uint64(r.IntN(4))}
		found, n := s.Answering(instance, false, &addr, port, proto), 0
		for i := range specs {
			number, answers := uint32(i+1), twinAnswers(&specs[i], instance, addr, port, proto)
			require.Equal(t, answers, s.Answers(Socket{Forward: number, Instance: instance, Addr: addr, Port: port, Proto: proto, Outside: outsideOf(&specs[i], port)}))
			if answers {
				n++
			}
			require.True(t, answers || found != number)
		}
		require.Equal(t, n == 0, found == 0)
		sought := s.Seeks(instance, false, addr[0], addr[1], port, proto)
		if found != 0 {
			require.NotZero(t, sought)
			require.Equal(t, s.Get(found).Shards, s.Get(sought).Shards)
		} else if sought != 0 { // a port that a target answers from
			require.True(t, slices.ContainsFunc(specs, func(o Spec) bool {
				return len(o.Shards) == 6 && slices.ContainsFunc(o.Targets, func(target Target) bool {
					return twinAnswers(&o, target.Instance, target.Addr, port, proto)
				})
			}))
		}
		for i := range specs {
			number := uint32(i + 1)
			if n > 1 && twinAnswers(&specs[i], instance, addr, port, proto) {
				require.True(t, s.Get(number).Shares())
			}
		}
		taken := false
		for p := range uint16(8) {
			taken = taken || twinAt(specs, frontend, proto, port&^7+p) != 0
		}
		require.Equal(t, taken, s.Takes(frontend, proto, port))
	}
	for i := range specs {
		f, up := s.Get(uint32(i+1)), 0
		for _, target := range specs[i].Targets {
			if target.State == Up {
				up++
			}
		}
		for range 20 {
			target := f.Pick(r.Uint64())
			require.Equal(t, up == 0, target == nil)
			if target != nil {
				require.Equal(t, Up, target.State)
			}
			require.Contains(t, specs[i].Shards, s.Shard(uint32(i+1), r.Uint64(), uint16(r.IntN(65536)), wire.ProtoTCP))
		}
	}
}

func TestAgainstTwin(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { against(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func FuzzAgainstTwin(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { against(t, rand.New(rand.NewPCG(seed, 2))) })
}

func against(t *testing.T, r *rand.Rand) {
	specs := random(r)
	if r.IntN(2) == 0 {
		for i := range specs {
			specs[i].Shards = []uint8{0, 1, 2, 3, 4, 5}
		}
	}
	s := New(Config{Key: r.Uint64(), Shards: 6, Tables: new(rendezvous.Cache)}, specs, nil, nil)
	compare(t, r, s, specs)
}

// Sockets that have lost their target are known as long as their frontend's port is forwarded and
// they are said to be in use.
func TestDeparted(t *testing.T) {
	tables := new(rendezvous.Cache)
	target := func(instance uint32) Target { return Target{Instance: instance, Port: 8080, Name: uint64(instance)} }
	spec := func(targets ...Target) Spec {
		return Spec{Addr: netip.MustParseAddr("20.0.0.1"), TCP: true, First: 80, Last: 80, Shards: []uint8{0}, Targets: targets}
	}
	config := Config{Shards: 1, Tables: tables}
	first := New(config, []Spec{spec(target(1), target(2))}, nil, nil)
	first.CountAt(0, 1).Created = 7
	addr, all := [2]uint64{}, slices.Collect(first.Sockets())
	was := Socket{Forward: 1, Instance: 1, Port: 8080, Proto: wire.ProtoTCP, Outside: 80}
	second := New(config, []Spec{spec(target(2))}, first, all)
	second.Inherit(first)
	assert.Equal(t, uint64(7), second.CountAt(0, 1).Created)
	assert.Equal(t, uint32(1), second.Answering(1, false, &addr, 8080, wire.ProtoTCP))
	assert.True(t, second.Departs() && second.Departed(was))
	for at := range second.Sockets() {
		assert.Equal(t, uint32(2), at.Instance)
		assert.False(t, second.Departed(at))
	}
	third := New(config, []Spec{spec(target(2))}, second, slices.Collect(second.Sockets()))
	assert.Zero(t, third.Answering(1, false, &addr, 8080, wire.ProtoTCP))
	assert.False(t, third.Departs())
	moved := spec(target(1))
	moved.First, moved.Last = 443, 443
	both := New(config, []Spec{spec(target(2)), moved}, second, []Socket{was})
	assert.False(t, both.Answers(was), "another port of the frontend has it")
	moved.Addr, moved.Frontend = netip.MustParseAddr("20.0.0.2"), 1
	both = New(config, []Spec{spec(target(2)), moved}, second, []Socket{was})
	assert.True(t, both.Answers(was), "one that was, beside a target in the same shards")
	assert.True(t, both.Answers(Socket{Forward: 2, Instance: 1, Port: 8080, Proto: wire.ProtoTCP, Outside: 443}))
	assert.True(t, both.Get(1).Shares() && both.Get(2).Shares())
	moved.Shards = []uint8{0, 1}
	assert.Equal(t, uint32(2), New(config, []Spec{spec(target(2)), moved}, second, []Socket{was}).Answering(1, false, &addr, 8080, wire.ProtoTCP), "a target goes before one that was")
	assert.Zero(t, New(config, []Spec{moved}, first, all).Answering(2, false, &addr, 8080, wire.ProtoTCP), "the forward has another port")
}

// A socket without target is its frontend port's, whichever forward has that, and of all that a
// frontend has, each of the ports that are forwarded still.
func TestDepartedByPort(t *testing.T) {
	config := Config{Shards: 2, Tables: new(rendezvous.Cache)}
	spec := func(first, last uint16, shard uint8, targets ...Target) Spec {
		return Spec{Addr: netip.MustParseAddr("20.0.0.1"), TCP: true, First: first, Last: last, Shards: []uint8{shard}, Targets: targets}
	}
	number := func(s *Set, port uint16) uint32 { return s.Answering(1, false, new([2]uint64), port, wire.ProtoTCP) }
	for name, was := range map[string]Spec{"all ports": spec(1, 65535, 0, Target{Instance: 1}), "some": spec(1, 100, 0, Target{Instance: 1})} {
		t.Run(name, func(t *testing.T) {
			first := New(config, []Spec{was}, nil, nil)
			split := New(config, []Spec{spec(1, 1, 1), spec(70, 79, 0), spec(80, 90, 0)}, first, slices.Collect(first.Sockets()))
			for port, want := range map[uint16]uint32{1: 1, 2: 0, 70: 2, 79: 2, 80: 3, 90: 3, 91: 0} {
				assert.Equal(t, want, number(split, port), "port %d", port)
			}
			at := Socket{Forward: 3, Instance: 1, Port: 85, Proto: wire.ProtoTCP, Outside: 85}
			whole := New(config, []Spec{spec(1, 65535, 1)}, split, []Socket{at})
			assert.Equal(t, uint32(1), number(whole, 85))
			assert.Zero(t, number(whole, 86))
			again := New(config, []Spec{spec(1, 65535, 1)}, first, slices.Collect(first.Sockets()))
			assert.Equal(t, uint32(1), number(again, 85))
			assert.Equal(t, name == "all ports", number(again, 101) == 1)
		})
	}
	t.Run("two of one socket", func(t *testing.T) {
		target := Target{Instance: 1, Port: 8080}
		first := New(config, []Spec{spec(80, 80, 0, target), spec(81, 81, 0, target)}, nil, nil)
		for _, specs := range [][]Spec{{spec(80, 80, 0), spec(81, 81, 0)}, {spec(80, 81, 0)}} {
			second := New(config, specs, first, slices.Collect(first.Sockets()))
			for outside := uint16(80); outside <= 81; outside++ {
				at := Socket{Forward: second.At(0, wire.ProtoTCP, outside), Instance: 1, Port: 8080, Proto: wire.ProtoTCP, Outside: outside}
				assert.True(t, second.Answers(at) && second.Departed(at), "%d of %d", outside, len(specs))
			}
		}
	})
}
