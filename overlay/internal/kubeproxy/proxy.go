// Proxy: its state, its doors and the lock protocol.

package kubeproxy

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Config describes a Proxy.
type Config struct {
	Shards   int           // 1..64; 0 means flow.DefaultShards
	Seed     uint64        // decides which endpoints and ports are chosen
	HashKey  uint64        // see flow.Config
	Timeouts flow.Timeouts // what is not set is that of Linux
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
	tables atomic.Pointer[tables]
	slots  endpoints

	config sync.Mutex // taken before a shard's lock
	registry
}

// shard is the part of a Proxy that has some of the nodes. All is guarded by the
// lock of sessions.
type shard struct {
	proxy    *Proxy
	sessions *flow.Shard
	nodes    []splitmix.Source // random numbers, by node over the number of shards
	affinity affinities
	pieces   pieces
	counts   Counts

	_ [64]byte
}

// linuxTimeouts are those of nf_conntrack (nf_conntrack-sysctl.rst).
var linuxTimeouts = flow.Timeouts{
	TCPOpening: 120 * time.Second, TCPSynReceived: 60 * time.Second, TCPEstablished: 432_000 * time.Second,
	TCPHalfClosed: 120 * time.Second, TCPCloseWait: 60 * time.Second, TCPClosing: 30 * time.Second,
	TCPTimeWait: 120 * time.Second, TCPReset: 10 * time.Second, TCPUnacknowledged: 300 * time.Second,
	UDP: 30 * time.Second, UDPReplied: 120 * time.Second,
}

// New returns a proxy without nodes and Services. The errors are those of
// [flow.NewTable].
func New(c Config) (*Proxy, error) {
	table, err := flow.NewTable(flow.Config{
		Shards: c.Shards, Timeouts: c.Timeouts.Or(linuxTimeouts), Seed: c.Seed, HashKey: c.HashKey, Notice: c.Notice,
	})
	if err != nil {
		return nil, err
	}
	p := &Proxy{table: table, hasher: table.Hasher(), seed: c.Seed, shards: make([]shard, cmp.Or(c.Shards, flow.DefaultShards))}
	p.registry.init()
	p.slots.chunks.Store(new([]*[chunkLen]endpoint))
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
	clear(p.services)
	p.table.Close()
	p.publish()
}

// shardOf returns the shard of a node.
func (p *Proxy) shardOf(node int) *shard { return &p.shards[node%len(p.shards)] }

// tuple is a packet's.
type tuple struct {
	src, dst     address
	sport, dport uint16
	proto        uint8
	is6          bool
}

func (t *tuple) source() socket      { return socket{t.src, t.sport, t.proto, t.is6} }
func (t *tuple) destination() socket { return socket{t.dst, t.dport, t.proto, t.is6} }
func (t *tuple) reverse() tuple {
	return tuple{t.dst, t.src, t.dport, t.sport, t.proto, t.is6}
}

// tupleOf reads the tuple of TCP and UDP packets with a transport header.
func tupleOf(p *wire.Packet) tuple {
	t := tuple{proto: p.Proto, is6: p.Flags&wire.V6 != 0}
	src, dst := p.Addrs()
	ports := p.Ports()
	t.src, t.dst, t.sport, t.dport = src, dst, uint16(ports>>16), uint16(ports)
	return t
}

// Translate takes a packet that a node sees: what its pods and processes send, and what
// arrives for it or them. The packet must come from wire.Parse and is rewritten in place,
// unless the action is Pass or Drop. Node must be below the number of nodes. No
// allocation.
func (p *Proxy) Translate(now flow.Time, node int, from Origin, pkt *wire.Packet) Result {
	t := p.tables.Load()
	pass := Result{Action: Pass, Node: -1}
	if len(t.frontends)+len(t.nodePorts) == 0 && !p.drains.Load() || node >= len(t.nodes) {
		return pass
	}
	if pkt.Flags&wire.NonFirst != 0 {
		return p.laterPiece(now, node, t, pkt)
	}
	switch pkt.Proto {
	case wire.ProtoTCP, wire.ProtoUDP:
	case wire.ProtoICMP, wire.ProtoICMPv6:
		return p.icmpError(now, node, pkt)
	default:
		return pass
	}
	k := tupleOf(pkt)
	toFrontend, fromEndpoint := t.addrs.has(mix(k.dst, 0)), t.sockets.has(mix(k.src, k.sport))
	if !toFrontend && !fromEndpoint {
		return pass
	}
	sh := p.shardOf(node)
	now = sh.lock(now)
	defer sh.sessions.Unlock()
	if toFrontend {
		if id, s := sh.original(now, &k, node); id != 0 {
			if r, again := sh.forward(now, node, pkt, &k, id, s); !again {
				return r
			}
		}
	}
	if fromEndpoint {
		if id, s := sh.answered(now, &k, node); id != 0 {
			return sh.reply(now, node, pkt, &k, id, s)
		}
	}
	if toFrontend {
		return sh.begin(now, node, from, pkt, &k)
	}
	return pass
}

// lock locks the shard and returns the time that its methods may be given.
func (sh *shard) lock(now flow.Time) flow.Time {
	s := sh.sessions
	s.Lock()
	if s.Near(now) {
		return now
	}
	if now < s.Reached() {
		return s.Reached() - flow.Time(flow.MaxLag)
	}
	for sh.expireSome(now) {
	}
	return now
}

// Concerns reports whether a packet may be one that Translate does something with. It
// is for a caller that would else parse all packets, and says yes of whatever is not
// plain. Cost: two cache lines.
func (p *Proxy) Concerns(pkt []byte) bool {
	t := p.tables.Load()
	if len(t.frontends)+len(t.nodePorts) == 0 && !p.drains.Load() {
		return false
	}
	if len(pkt) < 28 || pkt[0] != 0x45 || pkt[6]&0x3f|pkt[7] != 0 {
		return true
	}
	if proto := pkt[9]; proto != wire.ProtoTCP && proto != wire.ProtoUDP {
		return proto == wire.ProtoICMP
	}
	src := uint64(pkt[12])<<24 | uint64(pkt[13])<<16 | uint64(pkt[14])<<8 | uint64(pkt[15])
	dst := uint64(pkt[16])<<24 | uint64(pkt[17])<<16 | uint64(pkt[18])<<8 | uint64(pkt[19])
	return t.addrs.has(mix(address{dst}, 0)) || t.sockets.has(mix(address{src}, uint16(pkt[20])<<8|uint16(pkt[21])))
}

// Answer is Translate for a node that a packet only passes on its way back: it takes
// answers of endpoints, and errors, but begins nothing.
func (p *Proxy) Answer(now flow.Time, node int, pkt *wire.Packet) Result {
	t := p.tables.Load()
	pass := Result{Action: Pass, Node: -1}
	switch {
	case node >= len(t.nodes):
		return pass
	case pkt.Flags&wire.NonFirst != 0:
		return p.laterPiece(now, node, t, pkt)
	case wire.IsICMP(pkt.Proto):
		return p.icmpError(now, node, pkt)
	case pkt.Proto != wire.ProtoTCP && pkt.Proto != wire.ProtoUDP:
		return pass
	}
	k := tupleOf(pkt)
	if !t.sockets.has(mix(k.src, k.sport)) {
		return pass
	}
	sh := p.shardOf(node)
	now = sh.lock(now)
	defer sh.sessions.Unlock()
	if id, s := sh.answered(now, &k, node); id != 0 {
		return sh.reply(now, node, pkt, &k, id, s)
	}
	return pass
}
