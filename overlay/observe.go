// Observation: what the cluster has done, and for whom.

package overlay

import (
	"cmp"
	"iter"
	"math"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/overlay/internal/sums"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Session is a flow and whom it belongs to. Info.Data[0] is the port at the node address.
// Its Info.VNI is a Node.Index, but for flows of a NAT gateway that came after nodes had
// been removed: it numbers those that it finds anew.
type Session struct {
	flow.Info
	Node string // name of the node whose flow it is
	Pod  string // the pod that has the inside address now; "" if none has, as for the node itself
}

// Stats returns the counters of all traffic, packets that StrictPodAddresses
// refused and those that did not leave their node included. See [snat.NAT.Stats].
// ConnectionsSuccessful and ConnectionsFailed count flows that needed an outbound port, those of
// static gateways included. What nodes of static gateways have counted goes with them.
func (c *Cluster) Stats() snat.Stats {
	s := c.egress.Stats()
	if g := c.egress.Gateway(); g != nil {
		of := g.Stats()
		// What was passed on to the gateway has been counted as bypassed before.
		s.Outbound.Bypassed -= min(s.Outbound.Bypassed, of.Outbound.Packets())
		s = sums.Of(s, of)
	}
	s = sums.Of(s, c.nodes.Stats())
	s.Outbound.Bypassed += c.stayed[flow.Inside].Load()
	s.Inbound.Bypassed += c.stayed[flow.Outside].Load()
	s = c.gateways.AddTo(s)
	c.serviced.AddTo(&s)
	made, suppressed := c.rejects.Counts()
	s.ICMPErrors += made
	s.ICMPErrorsSuppressed += suppressed
	s.Bytes += c.proxy.Bytes()
	spoofed := c.spoofed.Load()
	s.Outbound.Dropped += spoofed
	s.Outbound.Drops[flow.ReasonSpoof] += spoofed
	return s
}

// Allocations returns which ports each node has, ordered by pool as in Config. Ports of a
// NAT gateway are no node's own.
func (c *Cluster) Allocations() []lb.Allocation { return c.egress.Allocations() }

// Connections returns what became of new flows that needed an outbound port, by protocol:
// those of the load balancer, or of the NAT gateway if there is one. See
// [snat.NAT.Connections].
func (c *Cluster) Connections() []snat.ConnectionStats {
	if g := c.egress.Gateway(); g != nil {
		return g.Connections()
	}
	return c.egress.Connections()
}

// Metrics returns a sample of every series of the cluster's load balancer, whose backends
// are the nodes, of the internal one that Services may have, and of its NAT gateway; see
// [lb.LoadBalancer.Metrics].
func (c *Cluster) Metrics() []monitor.Sample {
	inner, _ := c.egress.InternalMetrics(InternalLoadBalancerName)
	all := append(c.egress.Metrics(), inner...)
	if g := c.egress.Gateway(); g != nil {
		all = append(all, g.Metrics()...)
	}
	return all
}

// Stranded returns the nodes that have refused flows while others have free ports. See
// [snat.NAT.Stranded].
func (c *Cluster) Stranded() []snat.StrandedPorts { return c.egress.Stranded() }

// Traffic returns what has been translated to and from each outbound IP, if
// CountTraffic is set. See [snat.NAT.Traffic].
func (c *Cluster) Traffic() []snat.FrontendTraffic {
	all := c.egress.Traffic()
	if g := c.egress.Gateway(); g != nil {
		all = append(all, g.Traffic()...)
	}
	return all
}

// Frontends returns the use of all outbound IPs' ports, those of a NAT gateway last. See
// [snat.NAT.Frontends].
func (c *Cluster) Frontends() []snat.FrontendStats {
	all := c.egress.Frontends()
	if g := c.egress.Gateway(); g != nil {
		all = append(all, g.Frontends()...)
	}
	return all
}

// Instances iterates over the use of all nodes' outbound ports by Node.Index. See
// [snat.NAT.Instances].
func (c *Cluster) Instances() iter.Seq2[int, snat.InstanceStats] { return c.egress.Instances() }

// Sessions iterates over copies of all sessions: those to the Internet, static gateways' last, and then those
// that the nodes remember inside the network. See [snat.NAT.Sessions].
func (c *Cluster) Sessions() iter.Seq[Session] {
	return func(yield func(Session) bool) {
		for _, sessions := range []iter.Seq[flow.Info]{c.egress.Sessions(), c.gateways.Sessions(), c.nodes.Sessions()} {
			for info := range sessions {
				if !yield(c.session(info)) {
					return
				}
			}
		}
	}
}

// session says whose a flow is.
func (c *Cluster) session(info flow.Info) Session {
	s, inside := c.state.Load(), info.Inside.Addr()
	out := Session{Info: info, Pod: c.podAt(inside)}
	if i, ok := s.nodeOf(inside); ok {
		out.Node = s.byIndex[i].Name
	} else if n := s.node(int(info.VNI)); n != nil {
		out.Node = n.Name
	}
	return out
}

// TopServices returns the k Services whose endpoints use the most outbound ports, biggest first,
// ties by name: a pod's ports count for each Service that it serves, those of pods that serve none and of nodes for
// none. Cost: that of TopPorts by pod, and O(endpoints).
func (c *Cluster) TopServices(k int) []snat.PortUser {
	ports := make(map[string]int)
	for _, u := range c.TopPorts(math.MaxInt, snat.ByInside) {
		ports[u.Name] = u.Ports
	}
	of := make(map[string]int)
	for _, s := range c.Services() {
		for _, ep := range s.Endpoints {
			if n := ports[ep.Pod]; n > 0 {
				of[s.Name] += n
			}
		}
	}
	return sums.Biggest(of, k)
}

// Holders returns who holds outbound ports; of a NAT gateway, if there is one. See [snat.NAT.Holders].
func (c *Cluster) Holders(now flow.Time, by snat.HoldersBy) snat.Holders {
	if g := c.egress.Gateway(); g != nil {
		return g.Holders(now, by)
	}
	return c.egress.Holders(now, by)
}

// TopPorts returns the k biggest users of outbound ports, biggest first, ties by
// name; where there is a NAT gateway, of its ports. With [snat.ByInside] the names are those
// of pods, both families of a pod
// together, and addresses where no pod has the address now. Otherwise, and for
// its cost, see [snat.NAT.TopPorts].
func (c *Cluster) TopPorts(k int, by snat.By) []snat.PortUser {
	top := c.egress.TopPorts
	if g := c.egress.Gateway(); g != nil {
		top = g.TopPorts
	}
	if by != snat.ByInside || k <= 0 {
		return top(k, by)
	}
	ports := make(map[string]int)
	for _, u := range top(math.MaxInt, by) {
		ports[cmp.Or(c.podAt(netip.MustParseAddr(u.Name)), u.Name)] += u.Ports
	}
	return sums.Biggest(ports, k)
}
