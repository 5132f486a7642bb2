// Explanations: what the cluster would do with a packet, in words and without doing it.

package overlay

import (
	"fmt"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/internal/explain"
	"github.com/seed-a61be3fe/natplane/overlay/internal/portmap"
)

// Explanation says what becomes of a packet, hop by hop.
type Explanation struct {
	Steps  []Step      // in the order in which the packet meets them
	Action flow.Action // what becomes of it
	Reason flow.Reason // why, if Action is Drop
}

// Step is the decision at one hop.
type Step struct {
	At       string // who decides, such as "node aks-nodepool1-vmss000000"
	Decision string // a sentence
}

// String returns one line for each step, and one for the outcome.
func (e Explanation) String() string {
	var b strings.Builder
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "%s: %s\n", s.At, s.Decision)
	}
	fmt.Fprint(&b, e.Action)
	if e.Action == flow.Drop {
		fmt.Fprintf(&b, ": %s", e.Reason.Sentence())
	}
	return b.String()
}

// Explain says what would become of a packet that comes at now, and changes nothing. A
// packet whose source is a node or pod is explained as Outbound would take it, any other as
// Inbound. Flows that end by idling until now are over; what probes have found is what they
// had found when Advance was last called. It does not say which port a new flow gets, nor whether
// one is free; of TCP it looks at addresses, ports and flags only, not at the state of
// the connection. A fragment after the first is explained at load balancers as if the first had come and
// gone, and elsewhere, where no proxy knows its datagram, by its addresses. Cost: it goes through all sessions.
func (c *Cluster) Explain(now flow.Time, pkt []byte) Explanation {
	is := explain.Of(c.world(), now, pkt)
	e := Explanation{Action: is.Action, Reason: is.Reason}
	for _, s := range is.Steps {
		e.Steps = append(e.Steps, Step(s))
	}
	return e
}

// world returns the cluster as explanations see it.
func (c *Cluster) world() *explain.World {
	s := c.state.Load()
	w := &explain.World{
		LoadBalancer: LoadBalancerName, OutboundType: s.config.OutboundType.String(), HostPort: portmap.Prefix, DNS: s.config.DNSServiceIP, Routed: s.routed,
		PodRoutes: s.config.NetworkPlugin == cni.Kubenet,
		Egress:    c.egress, Translator: c.nodes, Proxy: c.proxy, Gateways: &c.gateways, Config: &s.egress, Internal: s.internal, Routes: s.config.localRoutes(),
		Dataplane: &s.config.Dataplane, Admitted: s.admitted, Nodes: make([]*explain.Node, len(s.byIndex)), NodeOf: s.nodeOf, PodAt: c.podAt,
		Outbound: func(pkt []byte) explain.Way { return explainedWays[s.outboundWay(pkt)] },
		Inbound:  func(pkt []byte) explain.Way { return explainedWays[s.inboundWay(pkt)] },
	}
	for i, n := range s.byIndex {
		if n != nil {
			w.Nodes[i] = &explain.Node{Index: i, Name: n.Name, Addrs: n.Addrs, PublicAddrs: n.PublicAddrs}
		}
	}
	return w
}

// explainedWays are the ways that explanations tell apart.
var explainedWays = [...]explain.Way{
	byEgress: explain.ByEgress, byNodes: explain.ByNodes, toNextHop: explain.ToNextHop, onNode: explain.OnNode,
	byService: explain.ByNodes, byBalancer: explain.ByBalancer, byGateway: explain.ByGateway, spoofed: explain.Spoofed,
}
