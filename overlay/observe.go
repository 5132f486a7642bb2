// Observation: what the cluster has done, and for whom.

package overlay

import (
	"cmp"
	"iter"
	"math"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Session is a flow and whom it belongs to. Its Info.VNI is a Node.Index, and
// Info.Data[0] the port at the node address.
type Session struct {
	flow.Info
	Node string // name of the node whose flow it is
	Pod  string // the pod that has the inside address now; "" if none has, as for the node itself
}

// Stats returns the counters of all traffic, packets that StrictPodAddresses
// refused included. See [snat.NAT.Stats].
func (c *Cluster) Stats() snat.Stats {
	s := c.lb.Stats()
	spoofed := c.spoofed.Load()
	s.Outbound.Dropped += spoofed
	s.Outbound.Drops[flow.ReasonSpoof] += spoofed
	return s
}

// Allocations returns which ports each node has, ordered by Node.Index.
func (c *Cluster) Allocations() []lb.Allocation { return c.lb.Allocations() }

// Connections returns what became of new flows, by protocol; what StrictPodAddresses
// refused is not among them. See [snat.NAT.Connections].
func (c *Cluster) Connections() []snat.ConnectionStats { return c.lb.Connections() }

// Metrics returns a sample of every series of the cluster's load balancer, whose backends
// are the nodes; see [lb.LoadBalancer.Metrics].
func (c *Cluster) Metrics() []monitor.Sample { return c.lb.Metrics() }

// Stranded returns the nodes that have refused flows while others have free ports. See
// [snat.NAT.Stranded].
func (c *Cluster) Stranded() []snat.StrandedPorts { return c.lb.Stranded() }

// Traffic returns what has been translated to and from each outbound IP, if
// CountTraffic is set. See [snat.NAT.Traffic].
func (c *Cluster) Traffic() []snat.FrontendTraffic { return c.lb.Traffic() }

// Frontends returns the use of all outbound IPs' ports. See [snat.NAT.Frontends].
func (c *Cluster) Frontends() []snat.FrontendStats { return c.lb.Frontends() }

// Instances iterates over the use of all nodes' ports by Node.Index. See
// [snat.NAT.Instances].
func (c *Cluster) Instances() iter.Seq2[int, snat.InstanceStats] { return c.lb.Instances() }

// Sessions iterates over copies of all sessions. See [snat.NAT.Sessions].
func (c *Cluster) Sessions() iter.Seq[Session] {
	return func(yield func(Session) bool) {
		for info := range c.lb.Sessions() {
			pod, _ := c.podAt(info.Inside.Addr())
			if !yield(Session{info, c.nodes[info.VNI].Name, pod}) {
				return
			}
		}
	}
}

// TopPorts returns the k biggest users of outside ports, biggest first, ties by
// name. With [snat.ByInside] the names are those of pods, both families of a pod
// together, and addresses where no pod has the address now. Otherwise, and for
// its cost, see [snat.NAT.TopPorts].
func (c *Cluster) TopPorts(k int, by snat.By) []snat.PortUser {
	if by != snat.ByInside || k <= 0 {
		return c.lb.TopPorts(k, by)
	}
	ports := make(map[string]int)
	for _, u := range c.lb.TopPorts(math.MaxInt, by) {
		pod, _ := c.podAt(netip.MustParseAddr(u.Name))
		ports[cmp.Or(pod, u.Name)] += u.Ports
	}
	users := make([]snat.PortUser, 0, len(ports))
	for name, n := range ports {
		users = append(users, snat.PortUser{Name: name, Ports: n})
	}
	slices.SortFunc(users, func(a, b snat.PortUser) int {
		return cmp.Or(cmp.Compare(b.Ports, a.Ports), cmp.Compare(a.Name, b.Name))
	})
	return users[:min(k, len(users))]
}
