// New sessions: which endpoints a packet may go to, which one it goes to, and what that
// sees of the client. Read "Source IP for Services" of Kubernetes first; the rules are
// those of the chains KUBE-SERVICES, KUBE-NODEPORTS, KUBE-EXT, KUBE-FW, KUBE-SVC and KUBE-SVL.

package kubeproxy

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// find returns the frontend that a node, which is among those of t, has at a socket. The
// lock of a shard must be held.
func (p *Proxy) find(t *tables, s socket, node int) (frontend, bool) {
	if fe, ok := p.bySocket[s]; ok {
		return fe, true
	}
	if t.nodes[node][family(s.is6)] != s.addr {
		return frontend{}, false
	}
	s.addr = address{}
	fe, ok := p.byNodePort[s]
	return fe, ok
}

// begin lets a packet to a frontend begin a session.
func (sh *shard) begin(node int, from Origin, pkt *wire.Packet, k *tuple) Result {
	t := sh.proxy.tables.Load()
	fe, ok := sh.proxy.find(t, k.destination(), node)
	if !ok || t.closed[node] {
		return passed
	}
	var seg flow.Segment
	if k.proto == TCP {
		if segment(pkt, &seg); seg.Flags&flow.RST != 0 {
			return sh.drop(flow.ReasonNoFlow)
		}
	}
	if pkt.Flags&wire.Fragmented == 0 && !wire.VerifyL4(pkt) {
		return sh.drop(flow.ReasonL4Checksum)
	}
	candidates, masquerade, reason := fe.candidates(node, from, k)
	if reason != flow.ReasonNone {
		return sh.drop(reason)
	}
	slot := sh.choose(node, fe.port, k, candidates)
	e := sh.proxy.slots.at(slot)
	seen, reason := sh.seen(node, t, k, e, masquerade || e.masked(from, node, k))
	if reason != flow.ReasonNone {
		return sh.drop(reason)
	}
	if ask := sh.proxy.admit.Load(); ask != nil {
		if reason := (*ask)(legOf(node, from, k, seen, e)); reason != flow.ReasonNone {
			return sh.drop(reason)
		}
	}
	if from == FromWire && seen.addr == k.src {
		sh.proxy.noteDirect(k.src)
	}
	id := sh.create(node, k, slot, e, seen, &seg)
	if id == 0 {
		return sh.drop(flow.ReasonMemory)
	}
	sh.counts.Sessions++
	d := sh.proxy.delivered(id, sh.sessions.At(id))
	return sh.apply(node, pkt, k, &d, Result{Action: Forward, New: true, Node: e.node})
}

// masked reports whether an endpoint sees the node in the client's place whatever the frontend: it is
// the client itself, or a process of another node, to which pods go by masquerade.
func (e *endpoint) masked(from Origin, node int, k *tuple) bool {
	return e.socket.addr == k.src || from == FromPod && e.host && int(e.node) != node
}

// candidates returns the endpoints that a packet may go to, and whether they see the node in
// the client's place, or why there are none.
func (fe *frontend) candidates(node int, from Origin, k *tuple) (slots []uint32, masquerade bool, reason flow.Reason) {
	local, masquerade, reason := fe.rules(from, k)
	if reason != flow.ReasonNone {
		return nil, false, reason
	}
	set := fe.port.sets[family(k.is6)].Load()
	slots = set.slots
	if local {
		slots = set.local(node)
	}
	switch {
	case len(set.slots) == 0:
		reason = flow.ReasonNoTarget
	case len(slots) == 0:
		reason = flow.ReasonNoLocalTarget
	}
	return slots, masquerade, reason
}

// rules says by whose endpoints and with whose source a packet goes on.
func (fe *frontend) rules(from Origin, k *tuple) (local, masquerade bool, reason flow.Reason) {
	s := fe.port.service.Load()
	if fe.kind == clusterIP {
		return s.InternalLocal, from != FromPod, flow.ReasonNone
	}
	if fe.kind == loadBalancerIP && !s.admits(k) {
		return false, false, flow.ReasonSourceRange
	}
	switch from {
	case FromWire:
		return s.ExternalLocal, !s.ExternalLocal, flow.ReasonNone
	case FromPod: // short circuit: policy Local is treated as Cluster, but keeps the source
		return false, !s.ExternalLocal, flow.ReasonNone
	}
	return false, true, flow.ReasonNone
}

// admits reports whether a packet's source is in SourceRanges.
func (s *Service) admits(k *tuple) bool {
	if len(s.SourceRanges) == 0 {
		return true
	}
	src, any := netAddr(k.src, k.is6), false
	for _, p := range s.SourceRanges {
		if p.Addr().Is6() != k.is6 {
			continue
		}
		if any = true; p.Contains(src) {
			return true
		}
	}
	return !any
}

// choose returns one of the candidates: the client's own, if it has one, else any.
func (sh *shard) choose(node int, p *port, k *tuple, candidates []uint32) uint32 {
	slot, own := sh.sticks(sh.now, node, p, k, candidates)
	if !own {
		slot = candidates[sh.random(node).Below(len(candidates))]
	}
	if keep := p.service.Load().Affinity; keep > 0 {
		client := affinityKey{k.src, p.serial, int32(node)}
		sh.affinity.put(sh.now, client, stuck{slot, sh.proxy.slots.at(slot).serial}, sh.now+flow.Time(keep))
	}
	return slot
}

// sticks returns the client's own one of the candidates, if it has one.
func (sh *shard) sticks(now flow.Time, node int, p *port, k *tuple, candidates []uint32) (slot uint32, ok bool) {
	if p.service.Load().Affinity <= 0 {
		return 0, false
	}
	a, ok := sh.affinity.get(now, affinityKey{k.src, p.serial, int32(node)})
	return a.slot, ok && slices.Contains(candidates, a.slot) && sh.proxy.slots.at(a.slot).serial == a.serial
}

// portRanges are the ports that Linux gives in the place of one of their class (nf_nat:
// nf_nat_l4proto_unique_tuple).
var portRanges = [...]struct{ below, first, last uint16 }{{512, 1, 511}, {1024, 600, 1023}, {0, 1024, 65535}}

// seen returns the socket that the endpoint sees as the client: the client's own, unless
// an answer to that would not be told from one to another session, or one of the node.
func (sh *shard) seen(node int, t *tables, k *tuple, e *endpoint, masquerade bool) (socket, flow.Reason) {
	d := tuple{k.src, e.socket.addr, k.sport, e.socket.port, k.proto, k.is6}
	if masquerade {
		if d.src = t.nodes[node][family(k.is6)]; d.src == (address{}) {
			return socket{}, flow.ReasonNoOutbound
		}
	} else if !sh.taken(&d, node) {
		return d.source(), flow.ReasonNone
	}
	class := portRanges[2]
	for _, r := range portRanges[:2] {
		if k.sport < r.below {
			class = r
			break
		}
	}
	n := int(class.last-class.first) + 1
	for tries := 128; tries >= 8; tries /= 2 { // those of nf_nat
		for i, start := 0, sh.random(node).Below(n); i < min(tries, n); i++ {
			d.sport = class.first + uint16((start+i)%n)
			if !sh.taken(&d, node) {
				return d.source(), flow.ReasonNone
			}
		}
	}
	return socket{}, flow.ReasonPorts
}
