// Making the table of frontends, and what two Services may not both have.

package kubeproxy

import (
	"fmt"
	"maps"
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
	t := p.tables.Load()
	seen := map[socket]bool{}
	for _, o := range s.opens() {
		of := t.frontends
		if o.kind == nodePort {
			of = t.nodePorts
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

// linger keeps the frontends of a Service that ends or changes in the filter.
func (p *Proxy) linger(s *Service) {
	for _, o := range s.opens() {
		p.lingeringPorts.add(o.s.port)
		if o.kind != nodePort {
			p.lingering[o.s.addr] = true
		}
	}
	p.drains.Store(true)
}

// publish makes the tables anew and lets packets use them.
func (p *Proxy) publish() {
	if p.drains.Load() && p.table.Len() == 0 {
		clear(p.lingering)
		clear(p.lingeringPorts[:])
		p.drains.Store(false)
	}
	t := &tables{
		ports:     p.lingeringPorts,
		frontends: map[socket]frontend{}, nodePorts: map[socket]frontend{}, services: map[address]bool{},
		nodes: p.nodes, nodes4: p.nodes4, closed: p.closed,
	}
	for _, name := range slices.Sorted(maps.Keys(p.services)) {
		e := p.services[name]
		for _, o := range e.service.opens() {
			t.ports.add(o.s.port)
			if o.kind == nodePort {
				t.nodePorts[o.s] = frontend{e.ports[o.i], nodePort}
				continue
			}
			t.frontends[o.s] = frontend{e.ports[o.i], o.kind}
			t.services[o.s.addr] = true
		}
	}
	t.addrs = newFilter(len(t.services) + len(p.lingering) + 2*len(p.nodes))
	for a := range t.services {
		t.addrs.add(mix(a, 0))
	}
	for _, n := range p.nodes { // whose other ports are their own
		delete(t.services, n[0])
		delete(t.services, n[1])
	}
	for a := range p.lingering {
		t.addrs.add(mix(a, 0))
	}
	if len(t.nodePorts) > 0 || p.drains.Load() {
		for _, n := range p.nodes {
			t.addrs.add(mix(n[0], 0))
			t.addrs.add(mix(n[1], 0))
		}
	}
	t.idle = len(t.frontends)+len(t.nodePorts) == 0 && !p.drains.Load()
	p.filterEndpoints(t)
	p.tables.Store(t)
}

// filterEndpoints fills the filters over endpoints: those of all sets, and those that
// sessions may have.
func (p *Proxy) filterEndpoints(t *tables) {
	p.filterRoom = max(64, 2*(p.used+len(p.retired)))
	t.sockets, t.hosts = newFilter(p.filterRoom), newFilter(p.filterRoom)
	for i, chunk := range *p.slots.chunks.Load() {
		for j := range chunk.records {
			if e := &chunk.records[j]; e.live.Load() || e.refs.Load() > 0 || slices.Contains(p.retired, uint32(i*chunkLen+j)) {
				t.sockets.add(mix(e.socket.addr, e.socket.port))
				t.hosts.add(mix(e.socket.addr, 0))
			}
		}
	}
}
