// Frontends: how they get into their maps and the filters, and what two Services may not
// both have.
//
// A change costs what it changes: the maps are changed under the locks of all shards, and the
// filters gain bits. What is gone leaves its bits behind, and what comes may exceed what
// a filter is made for; then all filters are made anew, at once for everybody, and with
// room for as much again.

package kubeproxy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// opened is a frontend of a Service with its place in the configuration.
type opened struct {
	at   string
	s    socket // without address: a node port
	i    int    // in Service.Ports
	kind frontendKind
}

// opens returns all frontends of a Service.
func (s *Service) opens() (all []opened) {
	for i, sp := range s.Ports {
		for j, a := range s.ClusterIPs {
			all = append(all, opened{problems.Index("ClusterIPs", j), socket{addressOf(a), sp.Port, sp.Protocol, a.Is6()}, i, clusterIP})
		}
		for j, a := range s.LoadBalancerIPs {
			all = append(all, opened{problems.Index("LoadBalancerIPs", j), socket{addressOf(a), sp.Port, sp.Protocol, a.Is6()}, i, loadBalancerIP})
		}
		for f := 0; f < flow.NumFamilies && sp.NodePort != 0; f++ {
			if !s.has(f == 1) {
				continue
			}
			all = append(all, opened{problems.Index("Ports", i) + ".NodePort", socket{address{}, sp.NodePort, sp.Protocol, f == 1}, i, nodePort})
		}
	}
	return all
}

// has reports whether a Service has a family: one of its cluster IPs, or any without those.
func (s *Service) has(is6 bool) bool {
	return len(s.ClusterIPs) == 0 || slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return a.Is6() == is6 })
}

// validateFrontends finds what another Service has.
func (p *Proxy) validateFrontends(l *problems.List, s *Service) {
	if l.Len() > 0 {
		return
	}
	seen := map[socket]bool{}
	for _, o := range s.opens() {
		of := p.bySocket
		if o.kind == nodePort {
			of = p.byNodePort
		} else if seen[o.s] {
			l.Add(o.at, netAddr(o.s.addr, o.s.is6), flow.ErrOverlap, "is in the Service twice")
		}
		seen[o.s] = true
		if fe, ok := of[o.s]; ok && fe.port.service.Load().Name != s.Name {
			value := fmt.Sprint(o.s.port)
			if o.kind != nodePort {
				value = fmt.Sprintf("%v port %d", netAddr(o.s.addr, o.s.is6), o.s.port)
			}
			l.Add(o.at, problems.Raw(value), flow.ErrOverlap, "Service %q has it", fe.port.service.Load().Name)
		}
	}
}

// frontends are the frontends of all Services. They are changed under the configuration's
// lock and those of all shards, so whoever has one of these may read.
type frontends struct {
	bySocket   map[socket]frontend
	byNodePort map[socket]frontend // by socket without address
	services   map[address]int     // how many frontends an address has that is no node's
}

func (f *frontends) init() {
	f.bySocket, f.byNodePort, f.services = make(map[socket]frontend), make(map[socket]frontend), make(map[address]int)
}

// count returns the number of frontends.
func (f *frontends) count() int { return len(f.bySocket) + len(f.byNodePort) }

// remove removes a frontend of a Service.
func (f *frontends) remove(o opened, s *Service) {
	if o.kind == nodePort {
		delete(f.byNodePort, o.s)
		return
	}
	delete(f.bySocket, o.s)
	if s.OfNode {
		return
	}
	if f.services[o.s.addr]--; f.services[o.s.addr] == 0 {
		delete(f.services, o.s.addr)
	}
}

// add adds a frontend of a Service.
func (f *frontends) add(o opened, e *entry) {
	if o.kind == nodePort {
		f.byNodePort[o.s] = frontend{e.ports[o.i], nodePort}
		return
	}
	f.bySocket[o.s] = frontend{e.ports[o.i], o.kind}
	if !e.service.OfNode {
		f.services[o.s.addr]++
	}
}

// replaceFrontends lets the frontends of a Service end, and those of another state of it,
// or of another one, begin, at once for all packets. Either may be nil. Cost: O(frontends
// of both), but now and then O(everything).
func (p *Proxy) replaceFrontends(was, is *entry) {
	var old, next []opened
	if was != nil {
		old = was.service.opens()
	}
	if is != nil {
		next = is.service.opens()
	}
	t := p.tables.Load()
	for _, o := range next {
		p.filterFrontend(t, o)
	}
	for i := range p.shards {
		p.shards[i].sessions.Lock()
	}
	for _, o := range old {
		p.frontends.remove(o, was.service)
	}
	for _, o := range next {
		p.frontends.add(o, is)
	}
	for i := range p.shards {
		p.shards[i].sessions.Unlock()
	}
	for _, o := range old { // they may have sessions, so their bits stay
		p.lingering[o.s] = true
	}
	for _, o := range next {
		delete(p.lingering, o.s)
	}
	p.tend()
}

// filterFrontend lets the filters know a frontend.
func (p *Proxy) filterFrontend(t *tables, o opened) {
	t.ports.add(o.s.port)
	if o.kind != nodePort {
		t.addrs.add(mix(o.s.addr, 0))
		p.filteredAddrs++
		return
	}
	p.filterNodes(t)
}

// publishNodes lets packets use other nodes, of which those at changed are not what they
// were, with the same filters.
func (p *Proxy) publishNodes(changed []int) {
	t := *p.tables.Load()
	t.nodes, t.nodes4, t.closed = p.nodes, p.nodes4, p.closed
	if p.filteredNodes > 0 {
		for _, i := range changed {
			t.addrs.add(mix(p.nodes[i][0], 0))
			t.addrs.add(mix(p.nodes[i][1], 0))
			p.filteredAddrs += 2
		}
		p.filteredNodes = len(p.nodes)
	}
	p.tables.Store(&t)
	p.tend()
}

// filterNodes lets the filters know the addresses of the nodes, if they do not.
func (p *Proxy) filterNodes(t *tables) {
	for ; p.filteredNodes < len(p.nodes); p.filteredNodes++ {
		n := p.nodes[p.filteredNodes]
		t.addrs.add(mix(n[0], 0))
		t.addrs.add(mix(n[1], 0))
		p.filteredAddrs += 2
	}
}

// tend makes the filters anew if too much has come or gone, and notes whether there is
// anything that a packet could be to or from.
func (p *Proxy) tend() {
	t := p.tables.Load()
	switch {
	case len(p.lingering) > 0 && len(p.lingering) >= p.frontends.count() && p.table.Len() == 0:
		clear(p.lingering)
	case p.filteredAddrs > p.addrsRoom || p.used+len(p.retired) > p.filterRoom:
	case t.idle == (p.frontends.count()+len(p.lingering) == 0):
		return
	}
	p.publish()
}

// publish makes the tables anew and lets packets use them.
func (p *Proxy) publish() {
	t := &tables{nodes: p.nodes, nodes4: p.nodes4, closed: p.closed, ports: new(portSet)}
	t.idle = p.frontends.count()+len(p.lingering) == 0
	p.filteredAddrs, p.filteredNodes = 0, 0
	p.addrsRoom = max(64, 2*(len(p.bySocket)+len(p.lingering)+2*len(p.nodes)))
	t.addrs = newFilter(p.addrsRoom)
	for s := range p.bySocket {
		t.ports.add(s.port)
		t.addrs.add(mix(s.addr, 0))
		p.filteredAddrs++
	}
	for s := range p.byNodePort {
		t.ports.add(s.port)
	}
	for s := range p.lingering {
		t.ports.add(s.port)
		if s.addr != (address{}) {
			t.addrs.add(mix(s.addr, 0))
			p.filteredAddrs++
		}
	}
	if len(p.byNodePort)+len(p.lingering) > 0 {
		p.filterNodes(t)
	}
	p.filterEndpoints(t)
	p.tables.Store(t)
}

// filterEndpoints fills the filters over endpoints: those of all sets, and those that
// sessions may have.
func (p *Proxy) filterEndpoints(t *tables) {
	p.filterRoom = max(64, 2*(p.used+len(p.retired)))
	t.sockets, t.hosts = newFilter(p.filterRoom), newFilter(p.filterRoom)
	for _, chunk := range *p.slots.chunks.Load() {
		for j := range chunk.records {
			if e := &chunk.records[j]; e.taken {
				t.sockets.add(mix(e.socket.addr, e.socket.port))
				t.hosts.add(mix(e.socket.addr, 0))
			}
		}
	}
}
