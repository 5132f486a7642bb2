// The way of many packets to and from Services at once: all of them go through the proxies
// of nodes together, and after or before that through the rest of the way together.

package overlay

import (
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/tallies"
)

// stage is the scratch memory of up to stageSize packets at the proxies.
type stage struct {
	batch kubeproxy.Batch
	ways  [stageSize]way // of outbound packets
	tally [2]tallies.Tally
}

// stageSize is the number of packets that go through the proxies together.
const stageSize = kubeproxy.BatchSize

var stages = sync.Pool{New: func() any { return new(stage) }}

// done is the way of a packet that has its verdict.
const done way = 0xff

// arrive hands packets, whose way so far has ended as verdicts say, to the proxies of nodes.
func (c *Cluster) arrive(now flow.Time, s *state, pkts [][]byte, verdicts []flow.Verdict) {
	if c.proxy.Idle() {
		return
	}
	st := stages.Get().(*stage)
	for len(pkts) > 0 {
		k := min(len(pkts), stageSize)
		st.arrive(c, now, s, pkts[:k], verdicts[:k])
		pkts, verdicts = pkts[k:], verdicts[k:]
	}
	st.settle(c)
	stages.Put(st)
}

// arrive is Cluster.arrive for one stage.
func (st *stage) arrive(c *Cluster, now flow.Time, s *state, pkts [][]byte, verdicts []flow.Verdict) {
	b := &st.batch
	b.Begin(c.proxy)
	for i := b.Arrive(0, pkts, verdicts); i < len(pkts); i = b.Arrive(i+1, pkts, verdicts) {
		concern := c.proxy.Concerns(pkts[i])
		if concern == 0 {
			continue
		}
		it := b.Next()
		if node, ok := s.arrivesAt(pkts[i], &verdicts[i], &it.Packet); ok {
			it.Node, it.Then, it.From, it.Concern, it.At = int32(node), -1, kubeproxy.FromWire, concern, uint8(i)
			b.Add()
		}
	}
	b.Run(now)
	items, straight := b.Items(), uint64(0)
	for i := range items {
		it := &items[i]
		v := &verdicts[it.At]
		switch {
		case it.Action == kubeproxy.Forward && v.Action == flow.Forward && it.Result.Node >= 0:
			straight++
			v.To, v.New, v.Instance = flow.Inside, it.New, uint32(it.Result.Node)
		case it.Action != kubeproxy.Pass:
			*v = c.arrived(now, s, pkts[it.At], v.Action, it.By, it.Result, &st.tally)
		}
	}
	st.tally[flow.Outside].WasForwarded += straight
	st.tally[flow.Outside].Forwarded += straight
}

// settle adds what the stage has tallied to the counts.
func (st *stage) settle(c *Cluster) {
	for side := range st.tally {
		c.serviced[side].Add(&st.tally[side])
		st.tally[side] = tallies.Tally{}
	}
}

// outbound is OutboundBatch for up to stageSize packets, of which some may be to or
// from Services.
func (st *stage) outbound(c *Cluster, now flow.Time, s *state, pkts [][]byte, verdicts []flow.Verdict) {
	b := &st.batch
	b.Begin(c.proxy)
	for i := 0; i < len(pkts); i++ {
		var concern kubeproxy.Concern
		if s.strict {
			concern = c.proxy.Concerns(pkts[i])
		} else if i, concern = b.Leave(i, pkts, &s.places); i == len(pkts) {
			break
		}
		if concern != 0 && !(s.strict && s.spoofs(pkts[i])) {
			if it := b.Next(); s.leavesFrom(pkts[i], it) {
				it.Concern, it.At = concern, uint8(i)
				b.Add()
				continue
			}
		}
		st.ways[i] = s.outboundWay(pkts[i])
	}
	b.Run(now)
	items, straight := b.Items(), !s.strict && !s.routed
	for i := range items {
		it := &items[i]
		pkt, w := pkts[it.At], &st.ways[it.At]
		switch {
		case straight && it.Action == kubeproxy.Reply && (s.local.Misses(pkt, dst4) || s.local.Misses6(pkt, dst6)):
			*w = byEgress
		case it.Action == kubeproxy.Pass:
			*w = s.outboundWay(pkt)
		default:
			*w = c.serviceWay(now, s, pkt, it.By, it.Result, &st.tally, &verdicts[it.At])
		}
	}
	for start := 0; start < len(pkts); {
		w, end := st.ways[start], start+1
		for end < len(pkts) && st.ways[end] == w {
			end++
		}
		c.outboundRun(now, s, w, pkts[start:end], verdicts[start:end])
		start = end
	}
}

// outboundRun carries packets that go the same way.
func (c *Cluster) outboundRun(now flow.Time, s *state, w way, pkts [][]byte, verdicts []flow.Verdict) {
	switch w {
	case done:
	case byEgress:
		c.egress.OutboundBatch(now, pkts, verdicts)
	case byNodes:
		c.nodes.OutboundBatch(now, pkts, verdicts)
	default:
		for i, pkt := range pkts {
			verdicts[i] = c.outboundRest(now, s, w, pkt, verdicts[i].Instance)
		}
	}
}

// leavesFrom fills in where a packet that a pod or node sends is translated: at the
// sender's node, where it may begin a session, and if that passes it at the receiver's, if
// it is of the cluster, where it may be an answer. It reports false for what no node does.
func (s *state) leavesFrom(pkt []byte, it *kubeproxy.Item) bool {
	if wire.Parse(pkt, &it.Packet) != wire.OK {
		return false
	}
	from, host := s.places.Of(pkt, src4, src6)
	to, _ := s.places.Of(pkt, dst4, dst6)
	it.Node, it.Then, it.From = int32(from), -1, kubeproxy.FromPod
	if host {
		it.From = kubeproxy.FromHost
	}
	if to != from {
		it.Then = int32(to)
	}
	return true
}

// arrivesAt returns the node at which a packet has arrived, where v is what the rest of its
// way says, and parses it; ok is false if it is at none.
func (s *state) arrivesAt(pkt []byte, v *flow.Verdict, p *wire.Packet) (node int, ok bool) {
	if v.Action == flow.Drop || v.Action == flow.Queued || v.Action == flow.Forward && v.To != flow.Inside {
		return 0, false
	}
	if wire.Parse(pkt, p) != wire.OK {
		return 0, false
	}
	if v.Action != flow.Bypass {
		return int(v.Instance), true
	}
	node, _ = s.places.Of(pkt, dst4, dst6)
	return node, node >= 0
}
