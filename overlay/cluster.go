// Cluster: the cluster itself, its doors and what can be seen of it.

package overlay

import (
	"net/netip"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
)

var _ flow.Translator = (*Cluster)(nil)

// Cluster is a running cluster: its nodes, its pods and the load balancer that
// all traffic to the Internet leaves through. Create one with [New]. Every
// method may be called by many goroutines at once; see package flow for what
// keeps results independent of their timing.
type Cluster struct {
	lb       *lb.LoadBalancer
	nodes    []Node // immutable after New
	byName   map[string]int
	byAddr   map[netip.Addr]int // node addresses
	podCIDRs []netip.Prefix
	strict   bool
	pods     pods
	spoofed  atomic.Uint64 // packets dropped by the strict check
}

// New creates a cluster with all its nodes and without pods. The error is that
// of [ClusterConfig.Validate]. New starts no goroutine; Close returns the memory.
func New(cfg ClusterConfig) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	nodes := cfg.planNodes()
	balancer, err := lb.New(cfg.compile(nodes))
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		lb:       balancer,
		nodes:    nodes,
		byName:   make(map[string]int, len(nodes)),
		byAddr:   make(map[netip.Addr]int, len(nodes)*int(numFamilies)),
		podCIDRs: cfg.PodCIDRs,
		strict:   cfg.StrictPodAddresses,
		pods: pods{
			byName: make(map[string]podPlace),
			blocks: make([]podNames, len(nodes)),
		},
	}
	for i, n := range nodes {
		c.byName[n.Name] = i
		for _, a := range n.Addrs {
			c.byAddr[a] = i
		}
	}
	if c.strict {
		c.pods.live = make([][podOffsetWords]atomic.Uint64, len(nodes))
	}
	return c, nil
}

// Outbound takes a packet that a pod or node of the cluster sends. pkt starts at
// the IP header and is rewritten in place. A verdict of Bypass means pod to pod
// traffic, which is not translated; deliver the packet as it is.
func (c *Cluster) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	if c.strict && c.spoofs(pkt) {
		return c.dropSpoof()
	}
	return c.lb.Outbound(now, pkt)
}

// Inbound takes a packet that arrives for an outbound IP or a node address.
// pkt starts at the IP header and is rewritten in place.
func (c *Cluster) Inbound(now flow.Time, pkt []byte) flow.Verdict { return c.lb.Inbound(now, pkt) }

// OutboundBatch does what Outbound does to each packet, in order and faster.
// verdicts must be at least as long as pkts.
func (c *Cluster) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	verdicts = verdicts[:len(pkts)]
	start := 0 // of the run of packets not yet handed on
	if c.strict {
		for i, pkt := range pkts {
			if c.spoofs(pkt) {
				c.lb.OutboundBatch(now, pkts[start:i], verdicts[start:i])
				verdicts[i] = c.dropSpoof()
				start = i + 1
			}
		}
	}
	c.lb.OutboundBatch(now, pkts[start:], verdicts[start:])
}

// InboundBatch does what Inbound does to each packet, in order and faster.
// verdicts must be at least as long as pkts.
func (c *Cluster) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	c.lb.InboundBatch(now, pkts, verdicts)
}

// Advance expires what is due at now. Resets of idle TCP flows go to emit, one
// to the pod or node and one to the remote; their Instance is a Node.Index.
func (c *Cluster) Advance(now flow.Time, emit flow.Sink) { c.lb.Advance(now, emit) }

// AdvanceStep does a bounded piece of what Advance does, and reports whether all
// is done.
func (c *Cluster) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	return c.lb.AdvanceStep(now, emit)
}

// NextDeadline returns when Advance has something to do next, and false if
// nothing is pending.
func (c *Cluster) NextDeadline() (flow.Time, bool) { return c.lb.NextDeadline() }

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. See [snat.NAT.DeadlineMoved].
func (c *Cluster) DeadlineMoved() bool { return c.lb.DeadlineMoved() }

// Close returns the memory of the cluster. It may be called at any time, and twice;
// afterwards all packets are dropped. See [snat.NAT.Close].
func (c *Cluster) Close() { c.lb.Close() }

// Nodes returns all nodes, ordered by Index.
func (c *Cluster) Nodes() []Node {
	nodes := make([]Node, len(c.nodes))
	for i, n := range c.nodes {
		nodes[i] = n.clone()
	}
	return nodes
}

// Node returns the node of that name.
func (c *Cluster) Node(name string) (Node, bool) {
	i, ok := c.byName[name]
	if !ok {
		return Node{}, false
	}
	return c.nodes[i].clone(), true
}

// NodeByAddr returns the node that packets from a belong to: its own address, or
// any address of its pod block, whether or not a pod has it.
func (c *Cluster) NodeByAddr(a netip.Addr) (Node, bool) {
	i, ok := c.byAddr[a]
	if !ok {
		i, _, ok = c.locate(a)
	}
	if !ok {
		return Node{}, false
	}
	return c.nodes[i].clone(), true
}

// spoofs reports whether the strict check refuses a packet: its source is in a
// node's pod block, and no pod has it. Packets too short to tell are left to the
// parser.
func (c *Cluster) spoofs(pkt []byte) bool {
	var src netip.Addr
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		src = netip.AddrFrom4([4]byte(pkt[12:16]))
	case len(pkt) >= 40 && pkt[0]>>4 == 6:
		src = netip.AddrFrom16([16]byte(pkt[8:24]))
	}
	node, offset, ok := c.locate(src)
	if !ok {
		return false
	}
	return offset >= 64*podOffsetWords || c.pods.live[node][offset/64].Load()>>(offset%64)&1 == 0
}

// dropSpoof counts a packet refused by the strict check.
func (c *Cluster) dropSpoof() flow.Verdict {
	c.spoofed.Add(1)
	return flow.Verdict{Action: flow.Drop, Reason: flow.ReasonSpoof}
}
