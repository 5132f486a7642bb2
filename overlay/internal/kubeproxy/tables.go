// The tables that packets are looked up in: frontends, endpoints, and the filters before
// them. All are read without a lock.

package kubeproxy

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
)

// address is an IP address as [wire.Packet.Addrs] has it: of IPv4 the first word and 0.
type address [2]uint64

// socket is where packets of a protocol come from or go to.
type socket struct {
	addr  address
	port  uint16
	proto uint8
	is6   bool
}

// frontendKind says which rules a frontend has.
type frontendKind uint8

const (
	clusterIP frontendKind = iota
	loadBalancerIP
	nodePort
)

// frontend is what a socket leads to.
type frontend struct {
	port *port
	kind frontendKind
}

// port is a port of a Service, with the endpoints that serve it now.
type port struct {
	name    string // of the port; immutable
	serial  uint32 // unique; immutable
	service atomic.Pointer[Service]
	sets    [2]atomic.Pointer[set]
}

// set are the endpoints of one family that serve a port, by node and then by address. Those
// that terminate are chosen from where no others are, over all nodes or on one.
type set struct {
	all    []uint32
	ready  int      // those of all that do not terminate, which are the first
	slots  []uint32 // to choose from over all nodes
	locals []uint32 // to choose from on a node
	byNode []int32  // distinct nodes, ascending
	first  []int32  // by place in byNode, where its locals begin; one more at the end
}

// local returns the endpoints of a node.
func (s *set) local(node int) []uint32 {
	i, ok := slices.BinarySearch(s.byNode, int32(node))
	if !ok {
		return nil
	}
	return s.locals[s.first[i]:s.first[i+1]]
}

// newSet sorts endpoints into a set: those that are ready, and those that terminate.
func newSet(ready, terminating []uint32, at func(uint32) *endpoint) *set {
	s := &set{all: slices.Concat(ready, terminating), ready: len(ready)}
	order := func(a, b uint32) int {
		x, y := at(a), at(b)
		return cmp.Or(cmp.Compare(x.node, y.node), slices.Compare(x.socket.addr[:], y.socket.addr[:]), cmp.Compare(x.socket.port, y.socket.port))
	}
	slices.SortFunc(ready, order)
	slices.SortFunc(terminating, order)
	s.slots, s.locals = ready, ready
	if len(terminating) > 0 {
		serves := make(map[int32]bool)
		for _, slot := range ready {
			serves[at(slot).node] = true
		}
		s.locals = slices.Clone(ready)
		for _, slot := range terminating {
			if !serves[at(slot).node] {
				s.locals = append(s.locals, slot)
			}
		}
		slices.SortFunc(s.locals, order)
		if len(ready) == 0 {
			s.slots = terminating
		}
	}
	for i, slot := range s.locals {
		if node := at(slot).node; i == 0 || node != s.byNode[len(s.byNode)-1] {
			s.byNode, s.first = append(s.byNode, node), append(s.first, int32(i))
		}
	}
	s.first = append(s.first, int32(len(s.locals)))
	return s
}

// endpoint is one that serves one port, or has. Its fields do not change while a set or a
// session has it, but for the atomic ones.
type endpoint struct {
	socket socket
	port   *port
	node   int32 // -1 is none
	host   bool
	taken  bool         // a set or a session may have it; guarded by Proxy.config
	serial uint32       // unique
	live   atomic.Bool  // it is in the port's set
	refs   atomic.Int32 // sessions
}

// chunkLen is the number of endpoints that are allocated together.
const chunkLen = 256

// chunk is endpoints that are allocated together.
type chunk struct {
	nodes   [chunkLen]int32 // those of all: what every packet needs to know lies close together
	records [chunkLen]endpoint
}

// endpoints are the records of endpoints, by slot. They do not move.
type endpoints struct {
	chunks atomic.Pointer[[]*chunk]
}

// at returns the endpoint in a slot.
func (e *endpoints) at(slot uint32) *endpoint {
	return &(*e.chunks.Load())[slot/chunkLen].records[slot%chunkLen]
}

// nodeOf returns the node of the endpoint in a slot.
func (e *endpoints) nodeOf(slot uint32) int32 {
	return (*e.chunks.Load())[slot/chunkLen].nodes[slot%chunkLen]
}

// setNode notes the node of the endpoint in a slot that nothing has.
func (e *endpoints) setNode(slot uint32, node int32) {
	(*e.chunks.Load())[slot/chunkLen].nodes[slot%chunkLen] = node
	e.at(slot).node = node
}

// grow adds a chunk and returns its slots.
func (e *endpoints) grow() (slots []uint32) {
	chunks := slices.Clone(*e.chunks.Load())
	for i := range uint32(chunkLen) {
		slots = append(slots, uint32(len(chunks))*chunkLen+i)
	}
	chunks = append(chunks, new(chunk))
	e.chunks.Store(&chunks)
	return slots
}

// tables are what packets ask before they take a lock. They are immutable but for the
// filters, which only gain bits.
type tables struct {
	addrs   filter   // of frontends
	ports   *portSet // of frontends
	sockets filter   // of endpoints, gone ones included as long as they have sessions
	hosts   filter   // addresses of endpoints
	nodes   []nodeAddrs
	nodes4  []uint32     // their addresses of IPv4; 0 is none
	idle    bool         // there is no frontend, and no session of one that has been
	closed  map[int]bool // nodes where no session may begin
}

// nodeAddrs are the addresses of a node, by family; the zero address is none.
type nodeAddrs [2]address

// portSet is a set of ports.
type portSet [1 << 16 / 64]atomic.Uint64

func (s *portSet) add(port uint16)      { s[port/64].Or(1 << (port % 64)) }
func (s *portSet) has(port uint16) bool { return s[port/64].Load()>>(port%64)&1 != 0 }

// filter says of nearly all numbers that are not in a set that they are not.
type filter struct {
	words []atomic.Uint64
	shift uint8
}

// newFilter returns a filter with room for n numbers, where one of sixteen others or less passes.
func newFilter(n int) filter {
	words := filterWords(n)
	return filter{make([]atomic.Uint64, words), uint8(64 - 6 - bits.TrailingZeros(uint(words)))}
}

// filterWords returns how many words such a filter has, a power of two.
func filterWords(n int) int { return 1 << max(4, bits.Len(uint(n))-2) }

func (f *filter) add(n uint64) {
	n >>= f.shift
	f.words[n/64].Or(1 << (n % 64))
}

func (f *filter) has(n uint64) bool {
	n >>= f.shift & 63
	return f.words[n/64].Load()>>(n%64)&1 != 0
}

// mix spreads the bits of an address, and of a port, so that the high ones are good.
func mix(a address, port uint16) uint64 { return mixWords(a[0], a[1], port) }

// mixWords is mix for the words of an address, which then need no memory.
func mixWords(high, low uint64, port uint16) uint64 {
	return (bits.RotateLeft64(high, 16) ^ low*0xd6e8feb86659fd93 ^ uint64(port)) * 0x9e3779b97f4a7c15
}

// addressOf packs an address.
func addressOf(a netip.Addr) address {
	if a.Is4() {
		b := a.As4()
		return address{uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])}
	}
	b := a.As16()
	var w address
	for i := range b {
		w[i/8] = w[i/8]<<8 | uint64(b[i])
	}
	return w
}
