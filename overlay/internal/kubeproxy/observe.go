// Expiry, and what can be seen of a Proxy.

package kubeproxy

import (
	"iter"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Counts are what has happened so far.
type Counts struct {
	Sessions uint64 // begun
	Packets  uint64 // rewritten
	Drops    [flow.NumReasons]uint64
}

// Counts returns the sum over all nodes.
func (p *Proxy) Counts() (sum Counts) {
	for i := range p.shards {
		sh := &p.shards[i]
		sh.sessions.Lock()
		sum.Sessions += sh.counts.Sessions
		sum.Packets += sh.counts.Packets
		for r, n := range sh.counts.Drops {
			sum.Drops[r] += n
		}
		sh.sessions.Unlock()
	}
	return sum
}

// Session is one connection through a Service: four sockets on one node.
type Session struct {
	Proto        uint8
	Node         int            // that translates
	Service      string         // name
	Port         string         // name of the port
	Client       netip.AddrPort // who has begun it
	Frontend     netip.AddrPort // what the client addresses
	Seen         netip.AddrPort // what the endpoint sees in the client's place
	Endpoint     netip.AddrPort
	EndpointNode int    // -1 is none of the cluster's
	State        string // of TCP
	Class        flow.Class
	Idle         time.Duration
	Due          flow.Time // as in flow.Info
}

// Sessions iterates over copies of all sessions. No lock is held while the loop body
// runs.
func (p *Proxy) Sessions() iter.Seq[Session] {
	return func(yield func(Session) bool) {
		ids := make([]flow.ID, 0, 256)
		for i := range p.shards {
			sh := &p.shards[i]
			for after := flow.ID(0); ; after = ids[len(ids)-1] {
				var all []Session
				sh.sessions.Lock()
				ids = sh.sessions.IDs(ids[:0], after)
				for _, id := range ids {
					if s := sh.sessions.At(id); s.Proto() != UDP || p.slots.at(slotOf(s)).live.Load() {
						all = append(all, sh.describe(id, s))
					}
				}
				sh.sessions.Unlock()
				for _, s := range all {
					if !yield(s) {
						return
					}
				}
				if len(ids) == 0 {
					break
				}
			}
		}
	}
}

// describe returns a copy of a session.
func (sh *shard) describe(id flow.ID, s *flow.Session) Session {
	in := sh.sessions.Info(id)
	e := sh.proxy.slots.at(slotOf(s))
	return Session{
		Proto: in.Proto, Node: int(s.Key.VNI()), Service: e.port.service.Load().Name, Port: e.port.name,
		Client: in.Remote, Frontend: in.Outside, Endpoint: in.Inside, EndpointNode: int(e.node),
		Seen:  netip.AddrPortFrom(netAddr(sh.proxy.seenAddr(id, s), id.Is6()), s.Data[dataSeenPort]),
		State: in.State, Class: in.Class, Idle: in.Idle, Due: in.Due,
	}
}

// LocalEndpoints returns how many endpoints a node has that serve any port of a Service and
// do not terminate: what its health check node port tells (none: 503, else 200). ok is false if there is no
// such Service, or no node.
func (p *Proxy) LocalEndpoints(service string, node int) (n int, ok bool) {
	p.config.Lock()
	defer p.config.Unlock()
	e, ok := p.entries[service]
	if !ok || node < 0 || node >= len(p.nodes) {
		return 0, false
	}
	return e.local[node], true
}

// Endpoints returns how many endpoints serve a port of a Service, in either family.
func (p *Proxy) Endpoints(service, port string) (n int) {
	p.config.Lock()
	defer p.config.Unlock()
	if e := p.entries[service]; e != nil {
		for _, pt := range e.ports {
			if pt.name == port {
				n += len(pt.sets[0].Load().slots) + len(pt.sets[1].Load().slots)
			}
		}
	}
	return n
}

// ServiceAt returns the name of a Service with a frontend at an address, or "". Cost: O(frontends).
func (p *Proxy) ServiceAt(a netip.Addr) string {
	p.config.Lock()
	defer p.config.Unlock()
	for s, fe := range p.bySocket {
		if s.addr == addressOf(a) && s.is6 == a.Is6() {
			return fe.port.service.Load().Name
		}
	}
	return ""
}

// Choice is what a node would choose from for the first packet of a connection.
type Choice struct {
	Service, Port string      // names
	Legs          []Leg       // one for each endpoint of which one would get the packet; a port that the node chooses is the client's here
	Reason        flow.Reason // why none would; else ReasonNone
}

// Choice tells what Translate would let a packet of TCP or UDP begin on a node at now, and changes
// nothing. ok is false if dst is no frontend of the node. Who is asked about legs ([Proxy.SetAdmit]) is not
// asked here. Cost: O(endpoints).
func (p *Proxy) Choice(now flow.Time, node int, from Origin, proto uint8, src, dst netip.AddrPort) (c Choice, ok bool) {
	t := p.tables.Load()
	if node < 0 || node >= len(t.nodes) {
		return c, false
	}
	k := tuple{addressOf(src.Addr()), addressOf(dst.Addr()), src.Port(), dst.Port(), proto, dst.Addr().Is6()}
	sh := p.shardOf(node)
	sh.sessions.Lock()
	defer sh.sessions.Unlock()
	fe, ok := p.find(t, k.destination(), node)
	if !ok {
		return c, false
	}
	slots, masquerade, reason := fe.candidates(node, from, &k)
	c = Choice{Service: fe.port.service.Load().Name, Port: fe.port.name, Reason: reason}
	if own, ok := sh.sticks(max(now, sh.now), node, fe.port, &k, slots); ok {
		slots = []uint32{own}
	}
	for _, slot := range slots {
		e, seen := p.slots.at(slot), k.source()
		if masquerade || e.masked(from, node, &k) {
			seen.addr = t.nodes[node][family(k.is6)]
		}
		c.Legs = append(c.Legs, legOf(node, from, &k, seen, e))
	}
	return c, true
}

// Follows tells what Translate would do at now with a fragment with an offset of what a node or its pods
// send, and changes nothing: it goes where the first one of its datagram has gone, or misses that, so that
// it is dropped, because it is for a Service. Else it passes.
func (p *Proxy) Follows(now flow.Time, node int, pkt *wire.Packet) (goes, misses bool) {
	k := fragmentKey(pkt, node)
	sh := p.shardOf(node)
	sh.sessions.Lock()
	defer sh.sessions.Unlock()
	_, goes = sh.pieces.get(max(now, sh.now), k)
	return goes, !goes && p.services[k.dst] > 0
}

// Bytes returns the memory of the sessions and of what finds them.
func (p *Proxy) Bytes() int { return p.table.Bytes() }

// Advance ends the sessions that are due at now.
func (p *Proxy) Advance(now flow.Time) {
	for i := range p.shards {
		for p.advanceShard(now, i) {
		}
	}
}

// AdvanceStep does a bounded piece of Advance, and reports whether all is done.
func (p *Proxy) AdvanceStep(now flow.Time) (done bool) {
	for i := range p.shards {
		if p.shards[i].sessions.Due(now) && p.advanceShard(now, i) {
			return false
		}
	}
	return true
}

func (p *Proxy) advanceShard(now flow.Time, i int) (more bool) {
	sh := &p.shards[i]
	sh.sessions.Lock()
	defer sh.sessions.Unlock()
	if more = sh.expireSome(now); !more {
		sh.sessions.Tidy(now)
	}
	return more
}

// expireSome ends sessions that are due, and reports whether there are more.
func (sh *shard) expireSome(now flow.Time) (more bool) {
	ids, _, more := sh.sessions.Expire(now)
	for _, id := range ids {
		sh.remove(id, sh.sessions.At(id))
	}
	return more
}

// NextDeadline returns when Advance has something to do next.
func (p *Proxy) NextDeadline() (flow.Time, bool) { return p.table.NextDeadline() }

// endNodes ends all sessions of the nodes that are closed.
func (p *Proxy) endNodes() {
	ids := make([]flow.ID, 0, 256)
	for i := range p.shards {
		sh := &p.shards[i]
		for after := flow.ID(0); ; {
			sh.sessions.Lock()
			ids = sh.sessions.IDs(ids[:0], after)
			for _, id := range ids {
				after = id
				if s := sh.sessions.At(id); p.closed[int(s.Key.VNI())] {
					sh.remove(id, s)
				}
			}
			sh.sessions.Unlock()
			if len(ids) == 0 {
				break
			}
		}
	}
}
