// Configuration: nodes, Services and endpoints, and how they get into the tables.

package kubeproxy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
)

// registry is what is configured. It is guarded by Proxy.config.
type registry struct {
	nodes   []nodeAddrs
	nodes4  []uint32          // their addresses of IPv4
	closed  map[int]bool      // nodes whose addresses change; nil if none
	entries map[string]*entry // Services by name
	serial  uint32
	free    []uint32 // slots
	retired []uint32 // slots that sessions may still have
	used    int      // slots that are neither

	filterRoom int // endpoints that the filters are made for
	addrsRoom  int // addresses of frontends and nodes, likewise
	recycleAt  int // retired slots that are looked through

	filteredAddrs int             // addresses that the filter has got
	filteredNodes int             // nodes whose addresses it has
	lingering     map[socket]bool // frontends that are gone but may have sessions
}

// entry is a Service with its ports.
type entry struct {
	service   *Service
	ports     []*port
	endpoints []Endpoint
	local     map[int]int // how many endpoints nodes have that serve any port and do not terminate
}

func (r *registry) init() {
	r.entries, r.lingering = make(map[string]*entry), make(map[socket]bool)
}

func (r *registry) next() uint32 { r.serial++; return r.serial }

// SetNodes says which nodes there are, by their addresses, at most one per family. The
// sessions of a node whose addresses change, and of one that is no longer there, end.
func (p *Proxy) SetNodes(nodes [][]netip.Addr) {
	p.config.Lock()
	defer p.config.Unlock()
	next := make([]nodeAddrs, max(len(nodes), len(p.nodes))) // records of sessions have places in it
	for i, addrs := range nodes {
		for _, a := range addrs {
			next[i][flow.Family(a)] = addressOf(a)
		}
	}
	var changed []int
	p.closed = make(map[int]bool)
	for i := range next {
		if i >= len(p.nodes) {
			changed = append(changed, i)
		} else if next[i] != p.nodes[i] {
			changed = append(changed, i)
			if p.nodes[i] != (nodeAddrs{}) {
				p.closed[i] = true
			}
		}
	}
	for i := range p.shards {
		sh := &p.shards[i]
		sh.sessions.Lock()
		for len(sh.nodes)*len(p.shards)+i < len(next) {
			node := len(sh.nodes)*len(p.shards) + i
			src := splitmix.Source(p.seed ^ uint64(node)*0x9e3779b97f4a7c15)
			sh.nodes = append(sh.nodes, splitmix.Source(src.Uint64()))
		}
		sh.sessions.Unlock()
	}
	if len(p.closed) > 0 { // no session may begin there while they end, for they are found by the old addresses
		p.publishNodes(nil)
		p.endNodes()
		p.closed = nil
	}
	p.nodes, p.nodes4 = next, make([]uint32, len(next))
	for i := range next {
		p.nodes4[i] = uint32(next[i][0][0])
	}
	p.publishNodes(changed)
}

// random returns the sequence of random numbers of a node.
func (sh *shard) random(node int) *splitmix.Source { return &sh.nodes[node/len(sh.proxy.shards)] }

// SetService adds a Service, or changes the one of that name. Ports that keep name and
// protocol keep their endpoints. Addresses and ports must not be another Service's. The
// error joins every problem; then nothing has changed.
func (p *Proxy) SetService(s Service) error {
	s.ClusterIPs, s.LoadBalancerIPs = slices.Clone(s.ClusterIPs), slices.Clone(s.LoadBalancerIPs)
	s.Ports, s.SourceRanges = slices.Clone(s.Ports), slices.Clone(s.SourceRanges)
	p.config.Lock()
	defer p.config.Unlock()
	var l problems.List
	s.validate(&l)
	p.validateFrontends(&l, &s)
	if err := l.Err(); err != nil {
		return fmt.Errorf("Service %q: %w", s.Name, err)
	}
	was := p.entries[s.Name]
	e := &entry{service: &s}
	for _, sp := range s.Ports {
		e.ports = append(e.ports, p.portOf(was, sp))
	}
	if was != nil {
		p.retireDropped(was, e)
		e.setEndpoints(remapPorts(was, e))
	}
	for _, pt := range e.ports {
		pt.service.Store(&s)
	}
	p.entries[s.Name] = e
	p.replaceFrontends(was, e)
	return nil
}

// portOf returns the port of an earlier state of the Service, or a new one.
func (p *Proxy) portOf(was *entry, sp Port) *port {
	if was != nil {
		for i, old := range was.service.Ports {
			if old.Name == sp.Name && old.Protocol == sp.Protocol {
				return was.ports[i]
			}
		}
	}
	pt := &port{name: sp.Name, serial: p.next()}
	for f := range pt.sets {
		pt.sets[f].Store(newSet(nil, nil, p.slots.at))
	}
	return pt
}

// remapPorts returns the endpoints of was with the ports in the order of e.
func remapPorts(was, e *entry) (all []Endpoint) {
	for _, ep := range was.endpoints {
		ports := make([]uint16, len(e.ports))
		for i, pt := range e.ports {
			if j := slices.Index(was.ports, pt); j >= 0 {
				ports[i] = ep.Ports[j]
			}
		}
		ep.Ports = ports
		all = append(all, ep)
	}
	return all
}

// RemoveService removes a Service. Its TCP sessions go on, as in Linux. It reports
// whether there was one of the name.
func (p *Proxy) RemoveService(name string) bool {
	p.config.Lock()
	defer p.config.Unlock()
	e, ok := p.entries[name]
	if !ok {
		return false
	}
	delete(p.entries, name)
	p.retireDropped(e, &entry{})
	p.replaceFrontends(e, nil)
	return true
}

// SetEndpoints says which endpoints a Service has now. Those that stay keep their
// sessions. The error joins every problem; then nothing has changed.
func (p *Proxy) SetEndpoints(service string, endpoints []Endpoint) error {
	p.config.Lock()
	defer p.config.Unlock()
	e, ok := p.entries[service]
	if !ok {
		return fmt.Errorf("Service %q: %w", service, flow.ErrUnknownName)
	}
	var l problems.List
	e.service.validateEndpoints(&l, endpoints, len(p.nodes))
	if err := l.Err(); err != nil {
		return fmt.Errorf("Service %q: %w", service, err)
	}
	e.setEndpoints(slices.Clone(endpoints))
	for i, pt := range e.ports {
		p.setPort(pt, e.service.Ports[i].Protocol, i, endpoints)
	}
	p.recycle()
	return nil
}

// setEndpoints notes the endpoints of a Service.
func (e *entry) setEndpoints(all []Endpoint) {
	e.endpoints, e.local = all, make(map[int]int)
	for _, ep := range all {
		if !ep.Terminating && slices.ContainsFunc(ep.Ports, func(port uint16) bool { return port != 0 }) {
			e.local[ep.Node]++
		}
	}
}

// setPort gives a port its endpoints.
func (p *Proxy) setPort(pt *port, protocol uint8, index int, endpoints []Endpoint) {
	type identity struct {
		s    socket
		node int32
		host bool
	}
	old := map[identity]uint32{}
	for f := range pt.sets {
		for _, slot := range pt.sets[f].Load().all {
			e := p.slots.at(slot)
			old[identity{e.socket, e.node, e.host}] = slot
		}
	}
	var next, terminating [2][]uint32
	for _, ep := range endpoints {
		if ep.Ports[index] == 0 {
			continue
		}
		f := flow.Family(ep.Addr)
		who := identity{socket{addressOf(ep.Addr), ep.Ports[index], protocol, f == 1}, int32(ep.Node), ep.HostNetwork}
		slot, ok := old[who]
		if delete(old, who); !ok {
			slot = p.take(endpointOf{who.s, pt, who.node, who.host})
		}
		if ep.Terminating {
			terminating[f] = append(terminating[f], slot)
		} else {
			next[f] = append(next[f], slot)
		}
	}
	for f := range pt.sets {
		pt.sets[f].Store(newSet(next[f], terminating[f], p.slots.at))
	}
	for _, slot := range old {
		p.retire(slot)
	}
}

// endpointOf is what an endpoint is made of.
type endpointOf struct {
	s    socket
	port *port
	node int32
	host bool
}

// take fills a free slot.
func (p *Proxy) take(of endpointOf) uint32 {
	if len(p.free) == 0 {
		p.free = append(p.free, p.slots.grow()...)
		slices.Reverse(p.free)
	}
	slot := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.used++
	e := p.slots.at(slot)
	e.socket, e.port, e.host, e.serial = of.s, of.port, of.host, p.next()
	p.slots.setNode(slot, of.node)
	e.taken = true
	e.live.Store(true)
	if p.used+len(p.retired) > p.filterRoom {
		p.publish() // with larger filters
	} else {
		t := p.tables.Load()
		t.sockets.add(mix(e.socket.addr, e.socket.port))
		t.hosts.add(mix(e.socket.addr, 0))
	}
	return slot
}

// retire takes a slot out of use.
func (p *Proxy) retire(slot uint32) {
	p.slots.at(slot).live.Store(false)
	p.retired = append(p.retired, slot)
	p.used--
}

// retireDropped retires the endpoints of the ports of was that e does not have.
func (p *Proxy) retireDropped(was, e *entry) {
	for _, pt := range was.ports {
		if slices.Contains(e.ports, pt) {
			continue
		}
		for f := range pt.sets {
			slots := pt.sets[f].Load().all
			pt.sets[f].Store(newSet(nil, nil, p.slots.at))
			for _, slot := range slots {
				p.retire(slot)
			}
		}
	}
	p.recycle()
}

// recycle frees the retired slots that no session has. A packet that has read a set does
// so under the lock of its shard, so once each has been taken nobody has an old set.
func (p *Proxy) recycle() {
	if len(p.retired) == 0 || len(p.retired) < p.recycleAt {
		return
	}
	for i := range p.shards {
		p.shards[i].sessions.Lock()
		_ = p.shards[i].sessions.Len() // nothing but to wait for who has the lock
		p.shards[i].sessions.Unlock()
	}
	p.retired = slices.DeleteFunc(p.retired, func(slot uint32) bool {
		if p.slots.at(slot).refs.Load() > 0 {
			return false
		}
		p.slots.at(slot).taken = false
		p.free = append(p.free, slot)
		return true
	})
	p.recycleAt = 2 * len(p.retired) // so that what stays costs no more than what goes
}
