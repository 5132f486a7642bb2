package ports

import (
	"math"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Blocks of ports that subscribers are granted as they need them, so that one log
// record tells of many sessions (RFC 6888 REQ-14, RFC 7422). Not to be
// confused with the port blocks of eight, in which instances get theirs.
//
// The ports of an instance, in the order of its ordinals, are divided into blocks
// of one size; those of all protocols are granted together. A block is free, or a
// subscriber's, or it waits: nobody's, but with ports in quarantine. It is given
// back when none of its ports is in use, held or in quarantine any more.
//
// Where the instance has a deterministic mapping, a subscriber begins with its
// fixed ports, and only blocks of the dynamic range can be granted.

// need returns the bit of a protocol and of a source port's class.
func need(protocol int, system bool) needs {
	bit := needs(1) << (2 * protocol)
	if system {
		bit <<= 1
	}
	return bit
}

// divide makes the blocks of an instance whose ports have been laid out anew.
func (inst *Instance) divide(size int, class Class) {
	for f := range inst.pools {
		p, b := &inst.pools[f][TCPIndex], &inst.blocks[f]
		if size == 0 || p.granted == 0 {
			continue
		}
		*b = blocks{size: size, all: make([]portBlock, p.granted/size)}
		for k := range b.all {
			at, port := p.port(k * size)
			if !inst.dynamic(netAddr(f, at), int(port), size) {
				continue
			}
			addr := slices.IndexFunc(inst.addrs[f], func(h outsideAddr) bool { return h.addr == at })
			b.all[k].shelf = b.shelf(addr, inst.serves(f, b.run(k), class)) + 1
		}
		b.stock()
	}
}

// serves returns what a block has a port for, as far as that never changes.
func (inst *Instance) serves(family int, r run, class Class) (all needs) {
	for protocol := range inst.pools[family] {
		p := &inst.pools[family][protocol]
		for o := r.first; o < r.end && o < p.granted; o++ {
			if p.excluded != nil && testBit(p.excluded, o) {
				continue
			}
			system := p.portAt(o) < flow.SystemPorts
			all |= need(protocol, system)
			if class != RequireClass || protocol == QueryIndex {
				all |= need(protocol, !system)
				break
			}
		}
	}
	return all
}

// bytes returns the memory that b holds.
func (b *blocks) bytes() int {
	return len(b.all) * (int(unsafe.Sizeof(portBlock{})) + 4)
}

// dynamic reports whether size ports of a frontend are nobody's for good.
func (inst *Instance) dynamic(a netip.Addr, port, size int) bool {
	m := inst.fixed(flow.Family(a))
	if m == nil {
		return true
	}
	for s := range m.Dynamic(a) {
		if int(s.First) <= port && port+size-1 <= int(s.Last) {
			return true
		}
	}
	return false
}

// shelf returns the index of the shelf for blocks at an address that serve the same, which it
// makes if there is none.
func (b *blocks) shelf(addr int, serves needs) uint32 {
	i := slices.IndexFunc(b.shelves, func(s blockShelf) bool { return s.addr == addr && s.serves == serves })
	if i < 0 {
		i = len(b.shelves)
		b.shelves = append(b.shelves, blockShelf{addr: addr, serves: serves})
	}
	return uint32(i)
}

// stock puts all blocks that can be granted among the free ones, each shelf with room
// for all that belong there.
func (b *blocks) stock() {
	room := make([]uint32, len(b.shelves))
	for k := range b.all {
		if s := b.all[k].shelf; s != 0 {
			room[s-1]++
		}
	}
	total := uint32(0)
	for s, n := range room {
		b.shelves[s].first = total
		total += n
	}
	b.free = make([]uint32, total)
	for k := range b.all {
		if b.all[k].shelf != 0 {
			b.shelve(k)
		}
	}
}

// shelve puts a block among the free ones.
func (b *blocks) shelve(k int) {
	s := &b.shelves[b.all[k].shelf-1]
	b.free[s.first+s.count] = uint32(k)
	s.count++
	b.all[k].place = s.count
}

// unshelve takes a block from among the free ones.
func (b *blocks) unshelve(k int) {
	s, at := &b.shelves[b.all[k].shelf-1], b.all[k].place
	s.count--
	last := b.free[s.first+s.count]
	b.free[s.first+at-1] = last
	b.all[last].place = at
	b.all[k].place = 0
}

// anyFree returns a random free block at an address that serves a need, and whether
// there is one. Cost: O(kinds of blocks, addresses), however many are free.
func (b *blocks) anyFree(addr int, want needs, d *splitmix.Source) (int, bool) {
	total := 0
	for i := range b.shelves {
		if s := &b.shelves[i]; s.addr == addr && s.serves&want != 0 {
			total += int(s.count)
		}
	}
	if total == 0 {
		return 0, false
	}
	k := d.Below(total)
	for i := range b.shelves {
		s := &b.shelves[i]
		if s.addr != addr || s.serves&want == 0 {
			continue
		}
		if k < int(s.count) {
			return int(b.free[int(s.first)+k]), true
		}
		k -= int(s.count)
	}
	panic("ports: fewer free blocks than counted")
}

// addrOf returns the index of the address of a block that can be granted.
func (b *blocks) addrOf(k uint32) int { return b.shelves[b.all[k].shelf-1].addr }

// run returns the ordinals of a block.
func (b *blocks) run(k int) run { return run{k * b.size, (k + 1) * b.size} }

// blockLimit returns how many blocks a subscriber may have.
func (sh *State) blockLimit(inst *Instance, family uint8) int {
	r, limit := &sh.space.rules, math.MaxInt
	if r.BlocksPerSubscriber > 0 {
		limit = r.BlocksPerSubscriber
	}
	if m := inst.fixed(int(family)); m != nil && inst.Deterministic.MaxPorts > 0 && r.SubscriberBlockSize > 0 {
		limit = min(limit, (inst.Deterministic.MaxPorts-m.Share())/r.SubscriberBlockSize)
	}
	return limit
}

// grantBlock makes a free block that of a subscriber, its last one.
func (sh *State) grantBlock(b *blocks, k int, subscriber uint32) {
	if b.all[k].place != 0 {
		b.unshelve(k)
	}
	b.all[k].owner = subscriber
	who := sh.subscribers.At(subscriber)
	who.NumBlocks++
	at := &who.Blocks
	for *at != 0 {
		at = &b.all[*at-1].next
	}
	*at = uint32(k + 1)
}

// disown takes a block from its owner and puts it among the free ones if its ports
// are all idle.
func (sh *State) disown(b *blocks, k int) {
	who := sh.subscribers.At(b.all[k].owner)
	at := &who.Blocks
	for *at != uint32(k+1) {
		at = &b.all[*at-1].next
	}
	*at = b.all[k].next
	b.all[k].next, b.all[k].owner = 0, 0
	who.NumBlocks--
	if b.all[k].busy == 0 {
		b.shelve(k)
	}
}

// occupied counts a port that has been idle until now.
func (sh *State) occupied(p *pool, ordinal int) {
	b, k := sh.blockOf(p, ordinal)
	if b == nil {
		return
	}
	if b.all[k].busy++; b.all[k].place != 0 {
		b.unshelve(k)
	}
}

// vacant counts a port that is idle from at on. With the last one its block is
// given back.
func (sh *State) vacant(p *pool, ordinal int, at flow.Time) {
	b, k := sh.blockOf(p, ordinal)
	if b == nil {
		return
	}
	if b.all[k].busy--; b.all[k].busy > 0 || b.all[k].shelf == 0 {
		return
	}
	id := b.all[k].owner
	if id == 0 {
		b.shelve(k)
		return
	}
	inst, who := sh.space.instances[p.instance], sh.subscribers.At(id)
	sh.tellBlock(at, BlockReturned, inst, k, who)
	sh.disown(b, k)
	if sh.EndedAt = at; who.Sessions == 0 {
		sh.unpair(inst, who)
		sh.subscribers.Drop(id)
	}
}

// blockOf returns the blocks of a pool and the one that an ordinal belongs to; nil if it
// belongs to none.
func (sh *State) blockOf(p *pool, ordinal int) (*blocks, int) {
	if sh.space.rules.SubscriberBlockSize == 0 || ordinal >= p.granted {
		return nil, 0
	}
	b := &sh.space.instances[p.instance].blocks[p.family]
	if b.size == 0 {
		return nil, 0
	}
	return b, ordinal / b.size
}

// dispossess takes all blocks from the subscribers of the instances for which here
// holds, and remembers what they had.
func (sh *State) dispossess(now flow.Time, l *Layout, here func(index uint32) bool) {
	for _, inst := range l.affected {
		if !here(inst.Index) {
			continue
		}
		for f := range inst.blocks {
			b := &inst.blocks[f]
			for k := range b.all {
				if id := b.all[k].owner; id != 0 {
					who := sh.subscribers.At(id)
					l.lost = append(l.lost, inst.blockEvent(now, BlockReturned, k, who))
					sh.disown(b, k)
					if who.Sessions == 0 {
						sh.unpair(inst, who)
						sh.subscribers.Drop(id)
					}
				}
			}
		}
	}
}

// ownBlock makes the block of a port that of a subscriber that now uses the port, if
// it is nobody's, and reports whether it was.
func (sh *State) ownBlock(p *pool, subscriber uint32, ordinal int) (k int, granted bool) {
	b, k := sh.blockOf(p, ordinal)
	if b == nil || b.all[k].shelf == 0 || b.all[k].owner != 0 {
		return k, false
	}
	sh.grantBlock(b, k, subscriber)
	return k, true
}

// blockEvent returns an event about a subscriber's block.
func (inst *Instance) blockEvent(at flow.Time, kind EventKind, k int, who *subscribers.Record) Event {
	name := who.Name()
	size := inst.blocks[name.Family].size
	outside, port := inst.pools[name.Family][TCPIndex].port(k * size)
	return Event{
		At: at, Kind: kind, Instance: inst, Inside: netAddr(int(name.Family), name.Addr), Frontend: netAddr(int(name.Family), outside),
		Ports: flow.PortSpan{First: port, Last: port + uint16(size-1)},
	}
}

// tellBlock tells that a subscriber was granted a block, or that it has given it back.
func (sh *State) tellBlock(at flow.Time, kind EventKind, inst *Instance, k int, who *subscribers.Record) {
	if tell := sh.space.tell; tell != nil {
		tell(inst.blockEvent(at, kind, k, who))
	}
}

// Block is a block of ports that a subscriber has.
type Block struct {
	Inside, Frontend netip.Addr
	Ports            flow.PortSpan
	Busy             int // ports of all protocols in use, held or in quarantine
}

// Blocks appends the blocks that the subscribers of an instance have, in the order of
// its ports, IPv4 first. Cost: O(ports / size).
func (sh *State) Blocks(all []Block, inst *Instance) []Block {
	for f := range inst.blocks {
		for k, b := range inst.blocks[f].all {
			if b.owner != 0 {
				e := inst.blockEvent(0, BlockGranted, k, sh.subscribers.At(b.owner))
				all = append(all, Block{e.Inside, e.Frontend, e.Ports, int(b.busy)})
			}
		}
	}
	return all
}

// TellMoved tells of the blocks that subscribers have lost in a reconfiguration, and
// then of those they have got: where their sessions went on while the ports awaited
// removal, and now are granted again.
func (sp *Space) TellMoved(now flow.Time, l *Layout) {
	if sp.tell == nil || sp.rules.SubscriberBlockSize == 0 {
		return
	}
	type place struct {
		frontend netip.Addr
		ports    flow.PortSpan
	}
	has := map[place]netip.Addr{}
	var got []Event
	for _, inst := range l.fresh {
		sh := sp.states[inst.Shard]
		for f := range inst.blocks {
			for k, b := range inst.blocks[f].all {
				if b.owner != 0 {
					e := inst.blockEvent(now, BlockGranted, k, sh.subscribers.At(b.owner))
					has[place{e.Frontend, e.Ports}] = e.Inside
					got = append(got, e)
				}
			}
		}
	}
	for _, e := range l.lost {
		if at := (place{e.Frontend, e.Ports}); has[at] == e.Inside {
			delete(has, at)
		} else {
			sp.tell(e)
		}
	}
	for _, e := range got {
		if _, is := has[place{e.Frontend, e.Ports}]; is {
			sp.tell(e)
		}
	}
}
