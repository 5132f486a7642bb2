// Snapshots: a proxy on its way to a stream, and back.

package kubeproxy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
)

// Bounds of what a snapshot has.
const (
	maxNodes   = 1 << 20
	maxSlots   = 1 << 26
	maxText    = 1 << 12
	maxEntries = 1 << 24
)

// Write writes p as it is at one moment, for which others wait. [Proxy.Read] has the other direction.
func (p *Proxy) Write(a *snapshot.Archive) {
	p.config.Lock()
	defer p.config.Unlock()
	for i := range p.shards {
		p.shards[i].sessions.Lock()
		defer p.shards[i].sessions.Unlock()
	}
	p.archive(a)
}

// Read makes p, which is new and which nobody else has, go on as the one did that was written. The number of
// shards may be another. After an error p is of no use but to be closed.
func (p *Proxy) Read(a *snapshot.Archive) {
	p.archive(a)
}

// Ports returns how many ports a Service has, 0 if there is none of the name.
func (p *Proxy) Ports(service string) int {
	p.config.Lock()
	defer p.config.Unlock()
	if e, ok := p.entries[service]; ok {
		return len(e.ports)
	}
	return 0
}

func (p *Proxy) archive(a *snapshot.Archive) {
	a.Section("nodes of proxies")
	p.archiveNodes(a)
	a.Section("Services of proxies")
	ports := p.archivePorts(a)
	p.archiveSlots(a, ports)
	p.archiveSets(a, ports)
	p.archiveEntries(a, ports)
	p.archiveFilters(a)
	if !a.OK() {
		return
	}
	sessions := p.table.Archive(a)
	for i := range sessions.Shards {
		if !a.OK() {
			return
		}
		sessions.Sessions(i, p.placeOf(a), func(_ flow.Place, s *flow.Session) { p.slots.at(slotOf(s)).refs.Add(1) })
		sessions.Timers()
		p.archiveShard(a, i, sessions.Apart())
	}
	sessions.Whole()
	if !sessions.Memory() {
		a.Fail(flow.ErrMemory)
	}
}

// archiveNodes writes or reads nodes, with their random numbers.
func (p *Proxy) archiveNodes(a *snapshot.Archive) {
	n := a.Len(len(p.nodes), maxNodes)
	for i := range n {
		var addrs nodeAddrs
		var random splitmix.Source
		sh := p.shardOf(i)
		if a.Writing() {
			addrs, random = p.nodes[i], *sh.random(i)
		}
		snapshot.Nums(a, &addrs[0][0], &addrs[0][1], &addrs[1][0], &addrs[1][1])
		snapshot.Num(a, &random)
		if a.Writing() {
			continue
		}
		if !a.Check(addrs[0][0] <= 1<<32-1 && addrs[0][1] == 0, "the IPv4 address %x of a node", addrs[0]) {
			return
		}
		p.nodes, p.nodes4, sh.nodes = append(p.nodes, addrs), append(p.nodes4, uint32(addrs[0][0])), append(sh.nodes, random)
	}
}

// archivePorts writes or reads the ports of Services, those included that only sessions have still, and what
// they are of. The endpoints come later.
func (p *Proxy) archivePorts(a *snapshot.Archive) (ports []*port) {
	var services []*Service
	numbered := map[*Service]int{}
	if a.Writing() {
		known := map[*port]bool{}
		add := func(pt *port) {
			if pt != nil && !known[pt] {
				known[pt], ports = true, append(ports, pt)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(p.entries)) {
			for _, pt := range p.entries[name].ports {
				add(pt)
			}
		}
		for _, chunk := range *p.slots.chunks.Load() {
			for j := range chunk.records {
				if e := &chunk.records[j]; e.taken {
					add(e.port)
				}
			}
		}
		slices.SortFunc(ports, func(a, b *port) int { return cmp.Compare(a.serial, b.serial) })
		for _, pt := range ports {
			s := pt.service.Load()
			if _, ok := numbered[s]; !ok {
				numbered[s], services = len(services), append(services, s)
			}
		}
	}
	n := a.Len(len(services), maxEntries)
	for i := range n {
		if !a.Writing() {
			services = append(services, new(Service))
		}
		if services[i].archive(a); !a.OK() {
			return nil
		}
	}
	n = a.Len(len(ports), maxEntries)
	last := uint32(0)
	for i := range n {
		of := 0
		if !a.Writing() {
			ports = append(ports, new(port))
		} else {
			of = numbered[ports[i].service.Load()]
		}
		pt := ports[i]
		a.Text(&pt.name, maxText)
		snapshot.Num(a, &pt.serial)
		if snapshot.Num(a, &of); !a.Check(of >= 0 && of < len(services) && pt.serial > last, "port %d of Service %d, after port %d", pt.serial, of, last) {
			return nil
		}
		last = pt.serial
		pt.service.Store(services[of])
	}
	return ports
}

// archive writes or reads what is configured of a Service.
func (s *Service) archive(a *snapshot.Archive) {
	a.Text(&s.Name, maxText)
	snapshot.Slice(a, &s.ClusterIPs, flow.NumFamilies, a.Addr)
	snapshot.Slice(a, &s.LoadBalancerIPs, maxEntries, a.Addr)
	a.Bool(&s.OfNode)
	snapshot.Slice(a, &s.Ports, 1<<16, func(p *Port) {
		a.Text(&p.Name, maxText)
		snapshot.Num(a, &p.Protocol)
		snapshot.Nums(a, &p.Port, &p.NodePort)
	})
	a.Bool(&s.ExternalLocal)
	a.Bool(&s.InternalLocal)
	snapshot.Num(a, &s.Affinity)
	snapshot.Slice(a, &s.SourceRanges, maxEntries, func(p *netip.Prefix) { archivePrefix(a, p) })
	snapshot.Num(a, &s.HealthCheckNodePort)
	if !a.Writing() && a.OK() {
		var l problems.List
		s.validate(&l)
		refuse(a, &l)
	}
}

func archivePrefix(a *snapshot.Archive, p *netip.Prefix) {
	addr, bits := p.Addr(), p.Bits()
	a.Addr(&addr)
	if snapshot.Num(a, &bits); !a.Writing() {
		*p = netip.PrefixFrom(addr, bits)
	}
}

// refuse refuses what has problems, and reports whether there are none.
func refuse(a *snapshot.Archive, l *problems.List) bool {
	if err := l.Err(); err != nil {
		a.Refuse("%v", err)
	}
	return a.OK()
}

// archiveSlots writes or reads endpoints. Those that nothing has may be had again in the order of free.
func (p *Proxy) archiveSlots(a *snapshot.Archive, ports []*port) {
	index := make(map[*port]int, len(ports))
	for i, pt := range ports {
		index[pt] = i
	}
	chunks := a.Len(len(*p.slots.chunks.Load()), maxSlots/chunkLen)
	snapshot.Num(a, &p.serial)
	for i := range uint32(chunks * chunkLen) {
		if !a.Writing() && i%chunkLen == 0 {
			p.slots.grow()
		}
		if !a.OK() {
			return
		}
		e := p.slots.at(i)
		if a.Bool(&e.taken); !e.taken {
			continue
		}
		at, live := index[e.port], e.live.Load()
		e.socket.archive(a)
		snapshot.Num(a, &at)
		snapshot.Nums(a, &e.node)
		a.Bool(&e.host)
		snapshot.Num(a, &e.serial)
		a.Bool(&live)
		if a.Writing() {
			continue
		}
		if !a.Check(at >= 0 && at < len(ports) && e.node >= -1 && int(e.node) < len(p.nodes) && e.serial <= p.serial, "endpoint %d has what there is not", i) {
			return
		}
		e.port = ports[at]
		e.live.Store(live)
		p.slots.setNode(i, e.node)
	}
	taken, seen := 0, make(map[uint32]bool)
	for _, list := range []*[]uint32{&p.free, &p.retired} {
		snapshot.Slice(a, list, maxSlots, func(slot *uint32) {
			if snapshot.Num(a, slot); a.Check(int(*slot) < chunks*chunkLen, "slot %d of %d", *slot, chunks*chunkLen) {
				e := p.slots.at(*slot)
				a.Check(!seen[*slot] && e.taken == (list == &p.retired) && !(e.taken && e.live.Load()), "slot %d is where it cannot be", *slot)
				seen[*slot] = true
			}
		})
		taken += len(*list)
	}
	snapshot.Nums(a, &p.used, &p.recycleAt)
	a.Check(p.used >= 0 && p.used+taken == chunks*chunkLen && p.recycleAt >= 0, "%d slots are used, and %d are not, of %d", p.used, taken, chunks*chunkLen)
}

func (s *socket) archive(a *snapshot.Archive) {
	snapshot.Nums(a, &s.addr[0], &s.addr[1])
	snapshot.Num(a, &s.port)
	snapshot.Num(a, &s.proto)
	a.Bool(&s.is6)
	a.Check(s.is6 || s.addr[0] <= 1<<32-1 && s.addr[1] == 0, "the IPv4 address %x", s.addr)
}

// archiveSets writes or reads which endpoints serve which port.
func (p *Proxy) archiveSets(a *snapshot.Archive, ports []*port) {
	for _, pt := range ports {
		for f := range pt.sets {
			var ready, terminating []uint32
			if was := pt.sets[f].Load(); was != nil {
				ready, terminating = was.all[:was.ready:was.ready], was.all[was.ready:]
			}
			for _, list := range []*[]uint32{&ready, &terminating} {
				snapshot.Slice(a, list, maxSlots, func(slot *uint32) {
					if snapshot.Num(a, slot); !a.Check(int(*slot) < len(*p.slots.chunks.Load())*chunkLen, "slot %d", *slot) {
						return
					}
					e := p.slots.at(*slot)
					a.Check(e.taken && e.port == pt && e.live.Load() && e.socket.is6 == (f == 1), "slot %d serves port %d, and does not", *slot, pt.serial)
				})
			}
			if !a.OK() {
				return
			}
			if !a.Writing() {
				pt.sets[f].Store(newSet(ready, terminating, p.slots.at))
			}
		}
	}
}

// archiveEntries writes or reads the Services that there are, and the frontends that linger.
func (p *Proxy) archiveEntries(a *snapshot.Archive, ports []*port) {
	names := slices.Sorted(maps.Keys(p.entries))
	index := make(map[*port]int, len(ports))
	for i, pt := range ports {
		index[pt] = i
	}
	for i := range a.Len(len(names), maxEntries) {
		e := &entry{}
		if a.Writing() {
			e = p.entries[names[i]]
		}
		snapshot.Slice(a, &e.ports, 1<<16, func(pt **port) {
			at := index[*pt]
			if snapshot.Num(a, &at); !a.Writing() && a.Check(at >= 0 && at < len(ports), "port %d of %d", at, len(ports)) {
				*pt = ports[at]
			}
		})
		all := e.endpoints
		snapshot.Slice(a, &all, maxEntries, func(ep *Endpoint) {
			a.Addr(&ep.Addr)
			snapshot.Num(a, &ep.Node)
			snapshot.Slice(a, &ep.Ports, 1<<16, func(n *uint16) { snapshot.Num(a, n) })
			a.Bool(&ep.HostNetwork)
			a.Bool(&ep.Terminating)
		})
		if a.Writing() {
			continue
		}
		if !a.Check(len(e.ports) > 0, "a Service without ports") {
			return
		}
		e.service = e.ports[0].service.Load()
		var l problems.List
		if e.service.validateEndpoints(&l, all, len(p.nodes)); !refuse(a, &l) {
			return
		}
		e.setEndpoints(all)
		if !a.Check(len(e.ports) == len(e.service.Ports) && p.entries[e.service.Name] == nil, "Service %q has other ports, or is there twice", e.service.Name) {
			return
		}
		for _, pt := range e.ports {
			a.Check(pt.service.Load() == e.service, "a port of Service %q is another's", e.service.Name)
		}
		if p.validateFrontends(&l, e.service); !refuse(a, &l) {
			return
		}
		p.entries[e.service.Name] = e
		for _, o := range e.service.opens() {
			p.frontends.add(o, e)
		}
	}
	lingering := slices.SortedFunc(maps.Keys(p.lingering), socket.compare)
	snapshot.Slice(a, &lingering, maxEntries, func(s *socket) { s.archive(a) })
	if !a.Writing() {
		for _, s := range lingering {
			p.lingering[s] = true
		}
	}
}

// compare orders sockets.
func (s socket) compare(o socket) int {
	family := 0
	if s.is6 != o.is6 {
		if family = -1; s.is6 {
			family = 1
		}
	}
	return cmp.Or(family, slices.Compare(s.addr[:], o.addr[:]), cmp.Compare(s.port, o.port), cmp.Compare(s.proto, o.proto))
}

// archiveFilters writes or reads filters, which have bits of what is gone, and so do not follow from
// what there is.
func (p *Proxy) archiveFilters(a *snapshot.Archive) {
	snapshot.Nums(a, &p.filterRoom, &p.addrsRoom, &p.filteredAddrs, &p.filteredNodes)
	if !a.Check(min(p.filterRoom, p.addrsRoom, p.filteredAddrs, p.filteredNodes) >= 0 && max(p.filterRoom, p.addrsRoom) <= maxSlots && p.filteredNodes <= len(p.nodes), "filters for what there is not") {
		return
	}
	t := p.tables.Load()
	if !a.Writing() {
		t = &tables{nodes: p.nodes, nodes4: p.nodes4, ports: new(portSet)}
	}
	a.Bool(&t.idle)
	t.addrs.archive(a, p.addrsRoom)
	t.sockets.archive(a, p.filterRoom)
	t.hosts.archive(a, p.filterRoom)
	for i := range t.ports {
		n := t.ports[i].Load()
		if snapshot.Num(a, &n); !a.Writing() {
			t.ports[i].Store(n)
		}
	}
	direct := p.direct.Load()
	known := direct != nil
	if a.Bool(&known); known {
		if !a.Writing() {
			direct = new(filter)
			p.direct.Store(direct)
		}
		direct.archive(a, directRoom)
	}
	if !a.Writing() {
		p.tables.Store(t)
	}
}

// archive writes f, to which others may add meanwhile, or reads one with room for n numbers. Memory is taken as its
// words come.
func (f *filter) archive(a *snapshot.Archive, n int) {
	if a.Writing() {
		for i := range f.words {
			word := f.words[i].Load()
			snapshot.Num(a, &word)
		}
		return
	}
	var words []uint64
	for range filterWords(n) {
		word := uint64(0)
		if snapshot.Num(a, &word); !a.OK() {
			return
		}
		words = append(words, word)
	}
	*f = newFilter(n)
	for i, word := range words {
		f.words[i].Store(word)
	}
}

// placeOf returns what says to which shard a session belongs that is read.
func (p *Proxy) placeOf(a *snapshot.Archive) func(flow.ID, *flow.Session) int {
	if a.Writing() {
		return nil
	}
	slots := uint32(len(*p.slots.chunks.Load()) * chunkLen)
	return func(id flow.ID, s *flow.Session) int {
		node, slot := s.Key.VNI(), slotOf(s)
		if !a.Check(int(node) < len(p.nodes), "a session of node %d", node) || !a.Check(slot < slots && p.slots.at(slot).taken, "a session with endpoint %d, which is none", slot) {
			return 0
		}
		e := p.slots.at(slot)
		a.Check((s.Proto() == TCP || s.Proto() == UDP) && (s.Kind() == flow.KindForwarded || s.Kind() == flow.KindNode) && e.socket.is6 == id.Is6() &&
			e.socket.proto == s.Proto() && e.socket.port == s.Key.SrcPort && e.socket.addr == endpointAddr(id, s), "a session that is none of a Service")
		return int(p.shardIndex(node))
	}
}
