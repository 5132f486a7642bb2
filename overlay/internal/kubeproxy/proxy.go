// Proxy: its state, its doors and the lock protocol.

package kubeproxy

import (
	"cmp"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Config describes a Proxy.
type Config struct {
	Shards   int           // 1..64; 0 means flow.DefaultShards
	Seed     uint64        // decides which endpoints and ports are chosen
	HashKey  uint64        // see flow.Config
	Timeouts flow.Timeouts // what is not set is that of flow.ConntrackTimeouts
	Notice   *flow.Notice  // may be nil; see flow.Config
}

// Origin is where a packet comes from, as a node sees it.
type Origin uint8

// The origins.
const (
	FromPod  Origin = iota // of the node
	FromHost               // the node itself and its hostNetwork pods
	FromWire               // another machine
)

// Action is what has become of a packet.
type Action uint8

// The actions.
const (
	Drop    Action = iota // see Result.Reason
	Pass                  // no concern of a Service; untouched
	Forward               // to the endpoint that Result.Node has
	Reply                 // an answer; it looks like one of the frontend
)

// Result is what has become of a packet, and of what session.
type Result struct {
	Action Action
	Reason flow.Reason // why, with Drop
	New    bool        // the packet has begun a session
	Node   int32       // the endpoint's node, with Forward and Reply; -1 is none of the cluster's
}

// Proxy is kube-proxy on all nodes of a cluster. It is safe for concurrent use.
type Proxy struct {
	table  *flow.Table
	hasher *flow.Hasher
	seed   uint64
	shards []shard
	magic  uint64 // of the number of shards; see shardIndex
	tables atomic.Pointer[tables]
	slots  endpoints
	admit  atomic.Pointer[func(Leg) flow.Reason] // nil admits all
	direct atomic.Pointer[filter]                // clients on other machines whom endpoints have seen as they are; nil is none

	config sync.Mutex // taken before a shard's lock
	registry
	frontends
}

// shard is the part of a Proxy that has some of the nodes. All is guarded by the
// lock of sessions.
type shard struct {
	proxy    *Proxy
	sessions *flow.Shard
	now      flow.Time         // of the packets under way, as the sessions may be given it
	tick     uint32            // that of now
	nodes    []splitmix.Source // random numbers, by node over the number of shards
	affinity affinities
	pieces   pieces
	counts   Counts

	_ [64]byte
}

// New returns a proxy without nodes and Services. The errors are those of
// [flow.NewTable].
func New(c Config) (*Proxy, error) {
	p := &Proxy{seed: c.Seed, shards: make([]shard, cmp.Or(c.Shards, flow.DefaultShards))}
	table, err := flow.NewTable(flow.Config{
		Shards: c.Shards, Timeouts: c.Timeouts.Or(flow.ConntrackTimeouts()), Seed: c.Seed, HashKey: c.HashKey, Notice: c.Notice, Keys: p.keys,
	})
	if err != nil {
		return nil, err
	}
	p.table, p.hasher, p.magic = table, table.Hasher(), ^uint64(0)/uint64(len(p.shards))+1
	p.registry.init()
	p.frontends.init()
	p.slots.chunks.Store(new([]*chunk))
	for i := range p.shards {
		p.shards[i].init(p, table.Shard(i))
	}
	p.publish()
	return p, nil
}

func (sh *shard) init(p *Proxy, sessions *flow.Shard) {
	sh.proxy, sh.sessions = p, sessions
	sh.affinity.init()
	sh.pieces.init()
}

// Close returns the memory of the sessions. All packets pass afterwards.
func (p *Proxy) Close() {
	p.config.Lock()
	defer p.config.Unlock()
	for name, e := range p.entries {
		delete(p.entries, name)
		p.replaceFrontends(e, nil)
	}
	p.table.Close()
	clear(p.lingering)
	p.publish()
}

// shardOf returns the shard of a node.
func (p *Proxy) shardOf(node int) *shard { return &p.shards[p.shardIndex(uint32(node))] }

// shardIndex returns a node modulo the number of shards, by two products (Lemire, Kaser,
// Kurz, "Faster remainder by direct computation").
func (p *Proxy) shardIndex(node uint32) uint32 {
	k, _ := bits.Mul64(p.magic*uint64(node), uint64(len(p.shards)))
	return uint32(k)
}

// Translate takes a packet that a node sees: what its pods and processes send, and what
// arrives for it or them. The packet must come from wire.Parse and is rewritten in place,
// unless the action is Pass or Drop. Node must be below the number of nodes. No
// allocation.
func (p *Proxy) Translate(now flow.Time, node int, from Origin, pkt *wire.Packet) Result {
	t := p.tables.Load()
	if t.idle || node >= len(t.nodes) {
		return passed
	}
	if aside(pkt) {
		return p.takeAside(now, node, t, pkt)
	}
	k := tupleOf(pkt)
	c := t.concerns(&k)
	if c == 0 {
		return passed
	}
	sh := p.shardOf(node)
	sh.lock(now)
	defer sh.sessions.Unlock()
	return sh.translate(node, from, pkt, &k, c, guess{})
}

// Answer is Translate for a node that a packet only passes on its way back: it takes
// answers of endpoints, and errors, but begins nothing.
func (p *Proxy) Answer(now flow.Time, node int, pkt *wire.Packet) Result {
	t := p.tables.Load()
	if node >= len(t.nodes) {
		return passed
	}
	if aside(pkt) {
		return p.takeAside(now, node, t, pkt)
	}
	k := tupleOf(pkt)
	if t.concerns(&k)&OfEndpoint == 0 {
		return passed
	}
	sh := p.shardOf(node)
	sh.lock(now)
	defer sh.sessions.Unlock()
	return sh.answer(node, pkt, &k, guess{})
}

// passed is the result of a packet that is no concern of a Service.
var passed = Result{Action: Pass, Node: -1}

// aside reports whether a packet is none of TCP or UDP with its ports.
func aside(pkt *wire.Packet) bool {
	return pkt.Flags&wire.NonFirst != 0 || pkt.Proto != wire.ProtoTCP && pkt.Proto != wire.ProtoUDP
}

// takeAside is Translate and Answer for those.
func (p *Proxy) takeAside(now flow.Time, node int, t *tables, pkt *wire.Packet) Result {
	switch {
	case pkt.Flags&wire.NonFirst != 0:
		return p.laterPiece(now, node, t, pkt)
	case wire.IsICMP(pkt.Proto):
		return p.icmpError(now, node, pkt)
	}
	return passed
}

// translate is the part of Translate under the lock.
func (sh *shard) translate(node int, from Origin, pkt *wire.Packet, k *tuple, c Concern, g guess) Result {
	if c&ToFrontend != 0 {
		if id, s := sh.original(k, node, g); id != 0 {
			if r, again := sh.forward(node, pkt, id, s); !again {
				return r
			}
		}
		g = guess{}
	}
	if c&OfEndpoint != 0 {
		if id, s := sh.answered(k, node, g); id != 0 {
			return sh.reply(node, pkt, id, s)
		}
	}
	if c&ToFrontend != 0 {
		return sh.begin(node, from, pkt, k)
	}
	return passed
}

// answer is the part of Answer under the lock.
func (sh *shard) answer(node int, pkt *wire.Packet, k *tuple, g guess) Result {
	if id, s := sh.answered(k, node, g); id != 0 {
		return sh.reply(node, pkt, id, s)
	}
	return passed
}

// lock locks the shard for packets of a time, and keeps that as the sessions may be given
// it.
func (sh *shard) lock(now flow.Time) {
	s := sh.sessions
	s.Lock()
	if !s.Near(now) {
		if now < s.Reached() {
			now = s.Reached() - flow.Time(flow.MaxLag)
		} else {
			for sh.expireSome(now) {
			}
		}
	}
	sh.now, sh.tick = now, flow.TickOf(now)
}
