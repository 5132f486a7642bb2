// Cluster: the cluster itself, its time, and its nodes.

package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/podtable"
	"github.com/seed-a61be3fe/natplane/overlay/internal/rejects"
	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
	"github.com/seed-a61be3fe/natplane/overlay/internal/tallies"
	"github.com/seed-a61be3fe/natplane/snat"
)

var _ flow.Translator = (*Cluster)(nil)

// Cluster is a running cluster: its nodes, its pods, and what all traffic to the Internet
// leaves through. Create one with [New]; [Cluster.Reconfigure] changes it while traffic
// flows. Every method may be called by many goroutines at once; see package flow for what
// keeps results independent of their timing.
type Cluster struct {
	egress *lb.Egress
	nodes  *snat.NAT // what nodes do themselves: instance i is that of the egress, too
	state  atomic.Pointer[state]
	pods   pods
	proxy  *kubeproxy.Proxy // on all nodes, by Node.Index

	gateways staticgateway.Set

	services services

	mu     sync.Mutex // held while the configuration changes; taken before all other locks
	closed atomic.Bool

	proxyNotice flow.Notice // of a deadline of proxy or rejects
	rejects     rejects.Outbox

	spoofed  atomic.Uint64 // packets dropped by the strict check
	serviced tallies.Counts
	stayed   [2]atomic.Uint64 // packets that went onNode, by the side they came from
}

// New creates a cluster with all its nodes and without pods. The error is that
// of [ClusterConfig.Validate]. No goroutine stays; Close returns the memory.
func New(cfg ClusterConfig) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	given := cfg.clone()
	cfg = cfg.withDefaults()
	c := new(Cluster)
	c.watch(&cfg)
	f := cfg.planned(nil).Plan(new(fleet.Fleet))
	admitted, err := newAdmission(&cfg, f.Nodes, nil)
	if err != nil {
		panic(fmt.Sprintf("overlay: security groups passed validation: %v", err))
	}
	egressConfig := cfg.compile(f.Nodes, admitted)
	egress, err := lb.NewEgress(egressConfig)
	if err != nil {
		return nil, err
	}
	nodes, err := snat.New(cfg.compileNodes(f.Nodes, c.admit))
	if err != nil {
		egress.Close()
		return nil, fmt.Errorf("nodes: %w", err)
	}
	c.egress, c.nodes, c.pods.table = egress, nodes, podtable.New(len(f.Nodes))
	s := newState(cfg, egressConfig, admitted, f, nil, c.indexes(), func(string) *podtable.Bits { return new(podtable.Bits) })
	s.given = given
	s.setMachines(nil)
	c.state.Store(s)
	c.services.init()
	if c.proxy, err = kubeproxy.New(kubeproxy.Config{Shards: cfg.Shards, Seed: cfg.Seed, HashKey: cfg.HashKey, Notice: &c.proxyNotice}); err != nil {
		egress.Close()
		nodes.Close()
		return nil, err
	}
	plan, err := c.gateways.Plan(cfg.gateways(f, c.admitGateway, c.countExit))
	if err != nil {
		c.Close()
		return nil, err
	}
	c.applyGateways(s, plan)
	c.pods.hostPorts.Proxy, c.rejects.Notice = c.proxy, &c.proxyNotice
	c.proxy.SetNodes(s.proxiedNodes(nil))
	c.setState(s) // once more, for proxies
	return c, nil
}

// applyGateways puts static gateways into force, with the state that they belong to.
func (c *Cluster) applyGateways(s *state, p *staticgateway.Plan) {
	c.gateways.Apply(p)
	if was := c.state.Load(); len(s.config.StaticGatewayConfigurations) > 0 || was != nil && was.gateways != nil {
		s.gateways = &c.gateways
	}
}

// indexes returns the index of each node by name.
func (c *Cluster) indexes() map[string]int {
	all := make(map[string]int)
	for i, inst := range c.nodes.Instances() {
		all[inst.Name] = i
	}
	return all
}

// Advance makes the probes of load balancers that are due by now, and expires what is due.
// Resets of idle TCP flows go to emit, one to the pod or node and one to the remote; their Instance is
// a Node.Index. So do the ICMP errors by which nodes reject what is for a Service without endpoints.
func (c *Cluster) Advance(now flow.Time, emit flow.Sink) {
	c.rejects.Advance(emit)
	c.proxy.Advance(now)
	c.nodes.Advance(now, emit)
	c.gateways.Advance(now, emit)
	c.egress.Advance(now, emit)
}

// AdvanceStep does a bounded piece of what Advance does, and reports whether all
// is done.
func (c *Cluster) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	c.rejects.Advance(emit)
	return c.proxy.AdvanceStep(now) && c.nodes.AdvanceStep(now, emit) && c.gateways.AdvanceStep(now, emit) && c.egress.AdvanceStep(now, emit)
}

// NextDeadline returns when Advance has something to do next, and false if
// nothing is pending.
func (c *Cluster) NextDeadline() (flow.Time, bool) {
	at, ok := c.egress.NextDeadline()
	if d, waiting := c.nodes.NextDeadline(); waiting && (!ok || d < at) {
		at, ok = d, true
	}
	if d, waiting := c.gateways.NextDeadline(); waiting && (!ok || d < at) {
		at, ok = d, true
	}
	c.proxyNotice.Clear()
	if d, waiting := c.proxy.NextDeadline(); waiting && (!ok || d < at) {
		at, ok = d, true
	}
	if d, waiting := c.rejects.NextDeadline(); waiting && (!ok || d < at) {
		at, ok = d, true
	}
	return at, ok
}

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. See [snat.NAT.DeadlineMoved].
func (c *Cluster) DeadlineMoved() bool {
	nodes, gateways := c.nodes.DeadlineMoved(), c.gateways.DeadlineMoved()
	return c.egress.DeadlineMoved() || nodes || gateways || c.proxyNotice.Raised()
}

// Close returns the memory of the cluster. It may be called at any time, and twice;
// afterwards all packets are dropped, and Reconfigure fails ([flow.ErrClosed]). See
// [snat.NAT.Close].
func (c *Cluster) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed.Store(true)
	c.egress.Close()
	c.nodes.Close()
	c.gateways.Close()
	c.proxy.Close()
}

// Config returns the configuration in force, as New or Reconfigure got it and RemoveNodes
// has changed it. The caller may keep it and change it for Reconfigure.
func (c *Cluster) Config() ClusterConfig { return c.state.Load().given.clone() }

// EgressConfig returns the load balancer and the gateway that the configuration in force
// has been compiled to, with the nodes as backends. It is for reading.
func (c *Cluster) EgressConfig() lb.EgressConfig { return c.state.Load().egress }

// Nodes returns all nodes, ordered by Index.
func (c *Cluster) Nodes() []Node {
	s := c.state.Load()
	nodes := make([]Node, len(s.Nodes))
	for i, n := range s.Nodes {
		nodes[i] = Node(n).clone()
	}
	slices.SortFunc(nodes, byIndex)
	return nodes
}

// Node returns the node of that name.
func (c *Cluster) Node(name string) (Node, bool) {
	s := c.state.Load()
	i, ok := s.byName[name]
	if !ok {
		return Node{}, false
	}
	return Node(*s.byIndex[i]).clone(), true
}

// NodePool returns the node pool of that name as it is in force, with its defaults; nodes that AddNodes has
// added do not count.
func (c *Cluster) NodePool(name string) (NodePool, bool) {
	for _, p := range c.state.Load().config.NodePools {
		if p.Name == name {
			p.NodePublicIP = p.NodePublicIP.clone()
			return p, true
		}
	}
	return NodePool{}, false
}

// NodeByAddr returns the node that packets from a belong to: its own address, or
// any address of its pod block, whether or not a pod has it.
func (c *Cluster) NodeByAddr(a netip.Addr) (Node, bool) {
	s := c.state.Load()
	i, ok := s.nodeOf(a)
	if !ok || s.node(i) == nil {
		return Node{}, false
	}
	return Node(*s.byIndex[i]).clone(), true
}
