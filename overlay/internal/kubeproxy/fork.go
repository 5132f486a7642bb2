// Forking: an independent copy of a proxy, with its Services, endpoints and sessions.

package kubeproxy

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Fork returns an independent copy of p that goes on as p would, with a notice of its own and
// nobody to ask; see SetAdmit. It is of one moment: others wait meanwhile. What never changes is
// shared: Services, sets of endpoints, addresses of nodes. The errors are those of
// [flow.Table.Fork]. Cost: that of copying the memory, and O(endpoints + frontends).
func (p *Proxy) Fork(notice *flow.Notice) (*Proxy, error) {
	room := p.table.Room()
	p.config.Lock()
	defer p.config.Unlock()
	for i := range p.shards {
		p.shards[i].sessions.Lock()
		defer p.shards[i].sessions.Unlock()
	}
	to := &Proxy{seed: p.seed, magic: p.magic, shards: make([]shard, len(p.shards))}
	table, err := p.table.ForkIn(room, to.keys, notice)
	if err != nil {
		return nil, err
	}
	to.table, to.hasher = table, table.Hasher()
	ports := copied{}
	to.slots.chunks.Store(p.slots.fork(ports))
	to.registry = p.registry.fork(ports)
	to.frontends = frontends{ports.frontends(p.bySocket), ports.frontends(p.byNodePort), maps.Clone(p.services)}
	to.tables.Store(p.tables.Load().fork())
	if f := p.direct.Load(); f != nil {
		direct := f.fork()
		to.direct.Store(&direct)
	}
	for i := range p.shards {
		sh, is := &to.shards[i], &p.shards[i]
		sh.proxy, sh.sessions, sh.now, sh.tick, sh.counts = to, table.Shard(i), is.now, is.tick, is.counts
		sh.nodes, sh.affinity, sh.pieces = slices.Clone(is.nodes), is.affinity.fork(), is.pieces.fork()
	}
	return to, nil
}

// copied are the copies of ports, by the originals.
type copied map[*port]*port

// port returns the copy of a port.
func (c copied) port(p *port) *port {
	if p == nil {
		return nil
	}
	to := c[p]
	if to == nil {
		to = &port{name: p.name, serial: p.serial}
		to.service.Store(p.service.Load())
		for f := range p.sets {
			to.sets[f].Store(p.sets[f].Load())
		}
		c[p] = to
	}
	return to
}

func (c copied) frontends(all map[socket]frontend) map[socket]frontend {
	to := make(map[socket]frontend, len(all))
	for s, f := range all {
		to[s] = frontend{c.port(f.port), f.kind}
	}
	return to
}

// fork returns a copy of what is configured.
func (r *registry) fork(ports copied) registry {
	to := *r
	to.free, to.retired, to.lingering = slices.Clone(r.free), slices.Clone(r.retired), maps.Clone(r.lingering)
	to.entries = make(map[string]*entry, len(r.entries))
	for name, e := range r.entries {
		is := *e
		is.ports = make([]*port, len(e.ports))
		for i, p := range e.ports {
			is.ports[i] = ports.port(p)
		}
		to.entries[name] = &is
	}
	return to
}

// fork returns copies of all endpoints.
func (e *endpoints) fork(ports copied) *[]*chunk {
	to := make([]*chunk, len(*e.chunks.Load()))
	for i, was := range *e.chunks.Load() {
		is := &chunk{nodes: was.nodes}
		for j := range was.records {
			r, s := &was.records[j], &is.records[j]
			s.socket, s.port, s.node, s.host, s.taken, s.serial = r.socket, ports.port(r.port), r.node, r.host, r.taken, r.serial
			s.live.Store(r.live.Load())
			s.refs.Store(r.refs.Load())
		}
		to[i] = is
	}
	return &to
}

// fork returns a copy, whose filters gain bits of their own.
func (t *tables) fork() *tables {
	to := *t
	to.addrs, to.sockets, to.hosts, to.ports = t.addrs.fork(), t.sockets.fork(), t.hosts.fork(), new(portSet)
	for i := range t.ports {
		to.ports[i].Store(t.ports[i].Load())
	}
	return &to
}

func (f *filter) fork() filter {
	to := filter{make([]atomic.Uint64, len(f.words)), f.shift}
	for i := range f.words {
		to.words[i].Store(f.words[i].Load())
	}
	return to
}

func (t *timed[K, V]) fork() timed[K, V] {
	return timed[K, V]{maps.Clone(t.of), slices.Clone(t.keys), t.next}
}
