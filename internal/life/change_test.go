package life

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/upgrade"
	"github.com/seed-a61be3fe/natplane/snat"
)

// pass lets time go by, and the upgrade that goes on with it.
func (w *world) pass(d time.Duration) {
	to := w.now + flow.At(d)
	for w.upgrade != nil {
		at, more := w.upgrade.NextDeadline()
		if !more {
			w.upgrade = nil
			w.counts["upgrades"]++
			break
		}
		if at > to {
			break
		}
		w.advance(max(at, w.now))
		w.stepUpgrade()
	}
	w.advance(to)
}

// rejected returns what an ICMP error quotes that says that a port is unreachable.
func rejected(pkt []byte) (quoted string, ok bool) {
	switch {
	case pkt[0]>>4 == 4 && pkt[9] == 1 && pkt[20] == 3 && pkt[21] == 3:
		return string(pkt[28:]), true
	case pkt[0]>>4 == 6 && pkt[6] == 58 && pkt[40] == 1 && pkt[41] == 4:
		return string(pkt[48:]), true
	}
	return "", false
}

// advance lets time go by and ends what is due.
func (w *world) advance(to flow.Time) {
	w.now = to
	w.resets, w.m.resets = nil, nil
	suppressed := w.c.Stats().ICMPErrorsSuppressed
	w.c.Advance(w.now, func(e flow.Emission) {
		if quoted, ok := rejected(e.Packet); !ok {
			w.resets = append(w.resets, string(e.Packet))
		} else if e.To == flow.Inside {
			require.Positive(w.t, w.told[quoted], "a node rejects what it has dropped: %x", quoted)
			if w.told[quoted]--; w.told[quoted] == 0 {
				delete(w.told, quoted)
			}
			w.counts["rejects"]++
		}
	})
	if suppressed == 0 {
		require.Empty(w.t, w.told, "not rejected at %v", w.now)
	}
	clear(w.told)
	w.m.expire(w.now)
	slices.Sort(w.resets)
	slices.Sort(w.m.resets)
	require.Equal(w.t, w.m.resets, w.resets, "resets at %v", w.now)
	w.counts["resets"] += len(w.resets)
}

// readNodes takes over which nodes there are: as many of each pool as it should have, those
// that stay as they were, the ones with the highest numbers gone first, and new ones with the
// lowest free addresses.
func (w *world) readNodes(gone ...string) {
	next := map[string]overlay.Node{}
	var came []overlay.Node
	for _, n := range w.c.Nodes() {
		next[n.Name] = n
		if was, ok := w.m.nodes[n.Name]; ok {
			require.Equal(w.t, was, n)
		} else {
			came = append(came, n)
		}
	}
	for _, pool := range names(w.want) {
		require.Len(w.t, of(next, pool), w.want[pool], "pool %s", pool)
		if left := of(next, pool); len(gone) == 0 && len(left) > 0 {
			for _, name := range of(w.m.nodes, pool) {
				if _, stays := next[name]; !stays {
					last := slices.DeleteFunc(slices.Clone(left), func(n string) bool { _, old := w.m.nodes[n]; return !old })
					require.True(w.t, len(last) == 0 || name > last[len(last)-1], "%s went before %v", name, last)
				}
			}
		}
	}
	for _, name := range gone {
		require.NotContains(w.t, next, name)
	}
	w.checkAddresses(next, came)
	w.lose(next)
	w.m.nodes = next
	w.readPorts()
	w.m.changed = w.now
	w.unsettle()
	w.advance(w.now)
}

// of returns the nodes of a pool by name.
func of(nodes map[string]overlay.Node, pool string) (all []string) {
	for _, name := range names(nodes) {
		if nodes[name].Pool == pool {
			all = append(all, name)
		}
	}
	return all
}

// checkAddresses wants new nodes to have the lowest addresses and blocks that were free.
func (w *world) checkAddresses(next map[string]overlay.Node, came []overlay.Node) {
	if w.m.inSubnet {
		w.checkSubnet(next, came)
		return
	}
	taken := map[string]bool{}
	for name, n := range next {
		if _, stays := w.m.nodes[name]; stays {
			taken[n.Addrs[0].String()], taken[n.PodBlocks[0].String()] = true, true
		}
	}
	var want, got []string
	for i, block := 4, 0; len(want) < 2*len(came); {
		addr, pods := fmt.Sprintf("10.1.0.%d", i), fmt.Sprintf("10.244.%d.0/24", block)
		if i++; !taken[addr] && len(want) < len(came) {
			want = append(want, addr)
		}
		if len(want) < len(came) {
			continue
		}
		if block++; !taken[pods] {
			want = append(want, pods)
		}
	}
	for _, n := range came {
		got = append(got, n.Addrs[0].String(), n.PodBlocks[0].String())
		require.Equal(w.t, n.Addrs[0].As4()[3], n.Addrs[1].As16()[15], "the same place in both families")
	}
	require.ElementsMatch(w.t, want, got)
}

// checkSubnet wants new nodes to have the lowest addresses that were free, for themselves and
// then for their pods, one after the other.
func (w *world) checkSubnet(next map[string]overlay.Node, came []overlay.Node) {
	all := func(n overlay.Node) (of []netip.Addr) {
		of = append(of, n.Addrs...)
		for _, r := range n.PodBlocks {
			for a := r.Addr(); r.Contains(a); a = a.Next() {
				of = append(of, a)
			}
		}
		return of
	}
	taken := map[netip.Addr]bool{}
	for name, n := range next {
		for _, a := range all(n) {
			taken[a] = taken[a] || w.m.nodes[name].Name != ""
		}
	}
	var want, got []netip.Addr
	for a := netip.MustParseAddr("10.1.0.4"); len(want) < 11*len(came); a = a.Next() {
		if !taken[a] {
			want = append(want, a)
		}
	}
	for _, n := range came {
		require.Len(w.t, all(n), 11)
		require.True(w.t, slices.IsSortedFunc(all(n), netip.Addr.Compare))
		got = append(got, all(n)...)
	}
	require.ElementsMatch(w.t, want, got)
}

// lose forgets nodes that are not among the next ones, and what was there.
func (w *world) lose(next map[string]overlay.Node) {
	lost := map[string]bool{}
	for _, name := range names(w.m.nodes) {
		if _, stays := next[name]; !stays {
			lost[name] = true
		}
	}
	if len(lost) == 0 {
		return
	}
	for name, p := range w.m.pods {
		if lost[p.Node] {
			delete(w.m.pods, name)
			w.closeHostPorts(name)
		}
	}
	w.withdraw(func(e overlay.Endpoint) bool { _, ok := w.m.pods[e.Pod]; return e.Pod != "" && !ok || lost[e.Node] })
	maps.DeleteFunc(w.m.sticky, func(c client, _ stuck) bool { return lost[c.node] })
	w.m.end(func(s *stage) bool { return lost[s.node] })
	w.m.hangUp(func(t *talk) bool { // somebody is not there any more
		return slices.ContainsFunc([]netip.AddrPort{t.client, t.target, t.seen, t.server}, func(a netip.AddrPort) bool {
			name, _, ok := w.m.nodeOf(a.Addr())
			return ok && lost[name]
		})
	})
}

// withdraw takes endpoints out of all Services.
func (w *world) withdraw(gone func(overlay.Endpoint) bool) {
	for _, name := range names(w.m.services) {
		s := w.m.services[name]
		was := len(s.endpoints)
		s.endpoints = slices.DeleteFunc(slices.Clone(s.endpoints), gone)
		if len(s.endpoints) != was {
			w.forgetUDP(name)
			w.m.unstick(name)
			w.unsettle()
		}
	}
}

// forgetUDP ends what nodes remember of UDP to endpoints that a Service has no more.
func (w *world) forgetUDP(name string) {
	w.m.end(func(s *stage) bool {
		if s.kind != byProxy || s.proto != protoUDP || s.service != name {
			return false
		}
		svc := w.m.services[name]
		return svc == nil || !slices.ContainsFunc(svc.endpoints, func(e overlay.Endpoint) bool {
			if e.Pod != "" {
				return s.pod == e.Pod
			}
			return s.pod == "" && slices.Contains(w.m.nodes[e.Node].Addrs, s.asDst.Addr())
		})
	})
}

// closeHostPorts forgets the host ports of a pod that is gone.
func (w *world) closeHostPorts(pod string) {
	delete(w.m.hostPorts, pod)
	w.forgetUDP("hostPort:" + pod)
}

// unsettle says that probes will find something else: UDP may move to other nodes.
func (w *world) unsettle() {
	w.m.settled = w.now + flow.At(30*time.Second)
	w.m.hangUp(func(t *talk) bool {
		return t.proto == protoUDP && len(t.stages) > 0 && t.stages[0].kind == byInbound
	})
}

// readPorts takes over who has which outbound ports, which have to add up, and ends flows whose
// ports are no longer their node's.
func (w *world) readPorts() {
	granted := map[string][]snat.PortRange{}
	blocks := map[string]string{}
	for _, a := range w.c.Allocations() {
		granted[a.Instance] = a.Ports
		for _, r := range a.Ports {
			for at := int(r.First); at < int(r.First)+r.Count; at += snat.BlockSize {
				for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
					if r.Protocol == snat.All || r.Protocol == p {
						k := fmt.Sprint(r.Frontend, p, at/snat.BlockSize)
						require.Empty(w.t, blocks[k], "%v also of %v", k, a.Instance)
						blocks[k] = a.Instance
					}
				}
			}
		}
	}
	want := 0
	if w.m.outbound == overlay.OutboundLoadBalancer {
		for _, n := range w.m.nodes {
			if len(n.PublicAddrs) == 0 { // which need none
				want += w.ports() * 2 * w.families
			}
		}
	}
	require.Equal(w.t, want, len(blocks)*snat.BlockSize, "ports of all nodes, families and protocols")
	w.m.granted = granted
	w.m.end(func(s *stage) bool {
		return s.kind == byOutbound && !owns(granted[s.node], s.proto, s.asSrc) || s.kind == byGateway && !w.hasGateway()
	})
}

// ports returns how many outbound ports each node has.
func (w *world) ports() int {
	if n := w.c.Config().LoadBalancerProfile.AllocatedOutboundPorts; n != 0 {
		return n
	}
	return 1024 // fewer than 50 nodes
}

func (w *world) hasGateway() bool { return w.m.outbound == overlay.OutboundManagedNATGatewayV2 }

// reconfigure changes the configuration.
func (w *world) reconfigure(edit func(*overlay.ClusterConfig)) {
	cfg := w.c.Config()
	edit(&cfg)
	_, err := w.c.Reconfigure(w.now, cfg)
	require.NoError(w.t, err)
	w.want = map[string]int{}
	for _, p := range cfg.NodePools {
		w.want[p.Name] = p.Count
	}
	was := w.m.outbound
	w.m.outbound = cfg.OutboundType
	if w.m.idle = cfg.LoadBalancerProfile.IdleTimeout; w.m.idle == 0 {
		w.m.idle = 30 * time.Minute
	}
	if was != w.m.outbound { // the Internet sees another address, or none
		out := func(s *stage) bool {
			return s.clientIsInside && !isLocal(s.dst.Addr()) && !within(s.dst.Addr(), podCIDRs) && s.kind != byProxy
		}
		w.m.hangUp(func(t *talk) bool { return len(t.stages) > 0 && out(t.stages[0]) })
		// What is remembered at the public address of a node is not concerned, and idles out.
		w.m.end(func(s *stage) bool { return out(s) && s.kind != byNode && s.kind != byPublic })
		w.m.hangUp(func(t *talk) bool { return w.isInternet(t.client) || w.isInternet(t.server) }) // by the user's route
	}
	w.readNodes()
}

func (w *world) isInternet(a netip.AddrPort) bool {
	return slices.ContainsFunc(internet[:], func(all []netip.Addr) bool { return slices.Contains(all, a.Addr()) })
}

// setOutbound changes what traffic to the Internet leaves through.
func (w *world) setOutbound() {
	w.reconfigure(func(c *overlay.ClusterConfig) {
		p := overlay.LoadBalancerProfile{}
		c.OutboundType = []overlay.OutboundType{
			overlay.OutboundLoadBalancer, overlay.OutboundLoadBalancer, overlay.OutboundManagedNATGatewayV2,
			overlay.OutboundUserDefinedRouting, overlay.OutboundNone,
		}[w.next(5)]
		if c.OutboundType == overlay.OutboundLoadBalancer {
			p = overlay.LoadBalancerProfile{
				ManagedOutboundIPCount: 1 + w.next(3), ManagedOutboundIPCountIPv6: (1 + w.next(3)) * (w.families - 1),
				AllocatedOutboundPorts: []int{8, 16, 24, 0}[w.next(4)], IdleTimeout: time.Duration(4+w.next(5)) * time.Minute,
			}
		}
		c.LoadBalancerProfile = p
	})
}

// leastNodes are always there: where the only one is not healthy, a load balancer ends even
// established connections.
const leastNodes = 2

// scale changes how many nodes the pools have.
func (w *world) scale() {
	switch w.next(3) {
	case 0:
		w.reconfigure(func(c *overlay.ClusterConfig) {
			system, user := c.NodePools[0], c.NodePools[1]
			system.Count, user.Count = leastNodes+w.next(2), w.next(4)
			c.NodePools = []overlay.NodePool{system, user}
			if w.next(2) == 0 {
				c.NodePools = append(c.NodePools, overlay.NodePool{Name: "other", Count: w.next(3), MaxPods: 10})
			}
		})
	case 1:
		if len(w.m.nodes) > 9 {
			return
		}
		pool, n := one(w, names(w.want)), 1+w.next(2)
		added, _, err := w.c.AddNodes(w.now, pool, n)
		require.NoError(w.t, err)
		require.Len(w.t, added, n)
		w.want[pool] += n
		w.readNodes()
	case 2:
		name := one(w, names(w.m.nodes))
		if w.m.nodes[name].Pool == "system" && (w.want["system"] <= leastNodes || w.upgrade != nil) {
			return
		}
		_, err := w.c.RemoveNodes(w.now, name)
		require.NoError(w.t, err)
		w.want[w.m.nodes[name].Pool]--
		w.readNodes(name)
	}
}

// startUpgrade begins the upgrade of a pool, unless one goes on.
func (w *world) startUpgrade() {
	if w.upgrade != nil {
		return
	}
	u, err := upgrade.Start(w.c, w.now, one(w, names(w.want)), upgrade.Settings{SoakTime: time.Duration(w.next(3)) * time.Minute})
	require.NoError(w.t, err)
	w.upgrade = u
}

// stepUpgrade does what is due of the upgrade.
func (w *world) stepUpgrade() {
	left := map[string]overlay.Node{}
	waited := w.upgrade.Waiting()
	steps, err := w.upgrade.Advance(w.now)
	if errors.Is(err, flow.ErrUnknownName) { // the pool has been deleted
		defer func() { w.upgrade = nil }()
	} else {
		require.NoError(w.t, err)
	}
	drained := map[string]bool{}
	for _, s := range steps {
		for _, name := range s.Nodes {
			n, exists := w.m.nodes[name]
			switch {
			case s.Action == upgrade.Surge:
				w.want[strings.Split(name, "-")[1]]++
			case !exists:
			case s.Action == upgrade.Drain:
				drained[name] = true
			case s.Action == upgrade.Remove:
				left[name] = n
				w.want[n.Pool]--
			}
		}
	}
	w.movePods(drained, waited)
	w.readNodes(names(left)...)
}

// movePods takes over where pods of drained nodes and those that waited are now.
func (w *world) movePods(drained map[string]bool, waited []overlay.Pod) {
	may := map[string]bool{}
	for _, p := range waited {
		may[p.Name] = true
	}
	var gone []string
	for _, name := range names(w.m.pods) {
		if drained[w.m.pods[name].Node] {
			may[name] = true
			gone = append(gone, name)
		}
	}
	for _, name := range gone {
		w.removedPod(name)
	}
	for p := range w.c.Pods() {
		if was, stays := w.m.pods[p.Name]; stays {
			require.Equal(w.t, was, p, "no step is about its node")
			continue
		}
		require.True(w.t, may[p.Name], "%v was nowhere", p)
		require.False(w.t, drained[p.Node] && w.c.Cordoned(p.Node), "%v is on a drained node", p)
		delete(may, p.Name)
		w.m.pods[p.Name] = p
	}
	for _, p := range w.upgrade.Waiting() {
		require.True(w.t, may[p.Name])
		delete(may, p.Name)
	}
	for name := range may { // its name has been taken meanwhile, and it is given up
		require.Contains(w.t, w.m.pods, name)
	}
}

// removedPod forgets a pod.
func (w *world) removedPod(name string) {
	p := w.m.pods[name]
	delete(w.m.pods, name)
	w.closeHostPorts(name)
	w.withdraw(func(e overlay.Endpoint) bool { return e.Pod == name })
	w.m.hangUp(func(t *talk) bool {
		return slices.ContainsFunc(p.Addrs, func(a netip.Addr) bool { return a == t.client.Addr() || a == t.server.Addr() })
	})
}

// changePods starts or ends a pod.
func (w *world) changePods() {
	if all := names(w.m.pods); len(all) > 0 && w.next(5) < 2 {
		name := one(w, all)
		require.NoError(w.t, w.c.RemovePod(name))
		require.ErrorIs(w.t, w.c.RemovePod(name), flow.ErrUnknownName)
		w.removedPod(name)
		return
	}
	w.serial++
	node, name := one(w, names(w.m.nodes)), fmt.Sprint("pod", w.serial)
	p, err := w.c.AddPod(node, name)
	n := 0
	for _, o := range w.m.pods {
		if o.Node == node {
			n++
		}
	}
	switch {
	case w.c.Cordoned(node):
		require.ErrorIs(w.t, err, overlay.ErrCordoned)
		return
	case n == 10:
		require.ErrorIs(w.t, err, overlay.ErrTooManyPods)
		return
	}
	require.NoError(w.t, err)
	require.Len(w.t, p.Addrs, w.families)
	for _, a := range p.Addrs {
		require.True(w.t, within(a, w.m.nodes[node].PodBlocks))
		require.Empty(w.t, w.m.podAt(a))
	}
	w.m.pods[name] = p
	if w.next(3) == 0 {
		w.openHostPorts(p)
	}
}

// openHostPorts gives a pod host ports.
func (w *world) openHostPorts(p overlay.Pod) {
	spec := []overlay.ContainerPort{{Port: 7000}, {Protocol: snat.UDP, Port: 7001}}
	spec[0].Protocol = snat.TCP
	ports, err := w.c.OpenHostPorts(p.Name, "d", spec, "7000/tcp,7001/udp")
	require.NoError(w.t, err)
	require.Len(w.t, ports, 2)
	for _, hp := range ports {
		require.True(w.t, hp.Automatic && hp.HostPort >= 40000 && hp.HostPort <= 59999)
		for _, all := range w.m.hostPorts {
			for _, o := range all {
				require.NotEqual(w.t, o.HostPort, hp.HostPort)
			}
		}
	}
	for _, hp := range ports {
		w.takePort(hp.HostPort)
	}
	w.m.hostPorts[p.Name] = ports
}

// takePort ends the talks with a port of nodes that is somebody else's from now on.
func (w *world) takePort(port uint16) {
	w.m.hangUp(func(t *talk) bool { return t.target.Port() == port })
}

// changeServices creates, deletes or changes a Service.
func (w *world) changeServices() {
	all := names(w.m.services)
	switch n := w.next(6); {
	case n == 0 && len(all) > 0:
		name := one(w, all)
		require.NoError(w.t, w.c.RemoveService(w.now, name))
		require.ErrorIs(w.t, w.c.RemoveService(w.now, name), flow.ErrUnknownName)
		of := w.m.services[name]
		delete(w.m.services, name)
		w.forgetUDP(name)
		w.m.unstick(name)
		w.m.end(func(s *stage) bool { return s.kind == byInbound && slices.Contains(of.LoadBalancerIPs, s.dst.Addr()) })
		if of.Type == overlay.LoadBalancer {
			w.unsettle()
			w.advance(w.now)
		}
	case n < 3 && len(all) < 5:
		w.addService()
	case len(all) > 0:
		w.setEndpoints(w.m.services[one(w, all)])
	}
}

// internalAnnotation makes the load balancer of a Service an internal one.
const internalAnnotation = "service.beta.kubernetes.io/azure-load-balancer-internal"

// isInternal reports whether the addresses of a Service's load balancer are private.
func (s *service) isInternal() bool { return s.Annotations[internalAnnotation] != "" }

func (w *world) addService() {
	w.serial++
	svc := overlay.Service{
		Name: fmt.Sprint("service", w.serial), Type: overlay.ServiceType(w.next(3)), IPFamilies: []string{"ipv4", "ipv4,ipv6"}[w.next(w.families)],
		Ports: []overlay.ServicePort{{Name: "http", Protocol: snat.TCP, Port: 80, TargetPort: 8080}, {Name: "dns", Protocol: snat.UDP, Port: 53, TargetPort: 5353}},
	}
	svc.InternalTrafficPolicy = overlay.TrafficPolicy(w.next(4) / 3)
	if svc.SessionAffinity = w.next(2) == 0; svc.SessionAffinity {
		svc.AffinityTimeout = time.Duration(1+w.next(3600)) * time.Second
	}
	if svc.Type != overlay.ClusterIP {
		svc.ExternalTrafficPolicy = overlay.TrafficPolicy(w.next(2))
	}
	if svc.Type == overlay.LoadBalancer && w.next(3) == 0 {
		svc.LoadBalancerSourceRanges = prefixes("198.51.100.9/32", "10.244.0.0/16", "2001:db8:ffff::/112")
	}
	if svc.Type == overlay.LoadBalancer && w.next(4) == 0 {
		svc.Annotations = map[string]string{internalAnnotation: "true"}
		w.counts[fmt.Sprint("internal Services of ", svc.IPFamilies)]++
	}
	status, err := w.c.AddService(w.now, svc)
	require.NoError(w.t, err)
	_, err = w.c.AddService(w.now, svc)
	require.ErrorIs(w.t, err, flow.ErrDuplicateName)
	taken := map[string]string{}
	for _, o := range w.m.services {
		for _, a := range slices.Concat(o.ClusterIPs, o.LoadBalancerIPs) {
			taken[a.String()] = o.Name
		}
		for _, p := range o.Ports {
			taken[fmt.Sprint(p.Protocol, p.NodePort)] = o.Name
		}
		taken[fmt.Sprint(snat.TCP, o.HealthCheckNodePort)] = o.Name
	}
	for _, a := range slices.Concat(status.ClusterIPs, status.LoadBalancerIPs) {
		require.Empty(w.t, taken[a.String()], a)
		_, _, ofNode := w.m.nodeOf(a)
		require.False(w.t, ofNode, a)
	}
	for _, p := range status.Ports {
		require.True(w.t, p.NodePort == 0 || taken[fmt.Sprint(p.Protocol, p.NodePort)] == "", p.NodePort)
	}
	for _, p := range status.Ports {
		w.takePort(p.NodePort)
	}
	w.m.hangUp(func(t *talk) bool { // with who had the address on the Internet
		byService := slices.ContainsFunc(t.stages, func(s *stage) bool { return s.kind == byProxy })
		return !byService && slices.Contains(status.LoadBalancerIPs, t.target.Addr())
	})
	s := &service{ServiceStatus: status}
	w.m.services[svc.Name] = s
	w.setEndpoints(s)
	w.unsettle()
	w.advance(w.now)
}

// setEndpoints says who serves a Service.
func (w *world) setEndpoints(s *service) {
	var next []overlay.Endpoint
	for _, pod := range names(w.m.pods) {
		if w.next(3) == 0 {
			next = append(next, overlay.Endpoint{Pod: pod})
		}
	}
	if w.next(4) == 0 {
		next = append(next, overlay.Endpoint{Node: one(w, names(w.m.nodes))})
	}
	require.NoError(w.t, w.c.SetEndpoints(s.Name, next...))
	require.ErrorIs(w.t, w.c.SetEndpoints(s.Name, overlay.Endpoint{Pod: "nobody"}), flow.ErrUnknownName)
	s.endpoints = next
	w.forgetUDP(s.Name)
	w.m.unstick(s.Name)
	w.unsettle()
}
