// Package stories is the advice that operators of AKS clusters are given about SNAT ports, each as a
// small workload and the settings before and after it is followed:
//
//	go run ./examples/capacity -story list
//	go run ./examples/capacity -story connection-reuse
//
// What each comes to is in NAME.txt beside this file. The clusters are that of the command without
// flags, three nodes and 45 pods, or more nodes where a story is about them. This package only says
// what is simulated; the command simulates it.
package stories

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// Story is an advice, and what shows it.
type Story struct {
	answer.Story
	Workload whatif.Workload
	Sweep    string        // the settings, the last one where the advice is followed
	Until    time.Duration // how long it takes

	nodes int                                // of the cluster; 0 is as it is
	set   func(*overlay.LoadBalancerProfile) // what else there is before; may be nil
}

// Site changes the configuration of the cluster to that of the story.
func (s *Story) Site(c *overlay.ClusterConfig) {
	if s.nodes > 0 {
		c.NodePools = slices.Clone(c.NodePools)
		c.NodePools[0].Count = s.nodes
	}
	if s.set != nil {
		s.set(&c.LoadBalancerProfile)
	}
}

// All returns the stories in the order in which they are best read.
func All() []*Story { return all }

// Named returns the story of a name, nil if there is none.
func Named(name string) *Story {
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Names returns the names of all stories.
func Names() (names []string) {
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// Destinations that stories talk to.
var (
	database = to("203.0.113.9:443")
	resolver = to("198.51.100.53:53")
	broker   = to("198.51.100.40:5671")
	game     = to("198.51.100.77:3478")
)

func to(addr string) []whatif.Destination {
	return []whatif.Destination{{Addr: netip.MustParseAddrPort(addr)}}
}

// pods are all of a Deployment of the cluster.
func pods(name string) whatif.Selector { return whatif.Selector{Pods: name} }

// hold returns how long a port of a closed connection rests.
func hold(t overlay.OutboundType) string {
	return page.Short(answer.HoldAfterFIN(&overlay.ClusterConfig{OutboundType: t}))
}

var all = []*Story{
	{
		Story: answer.Story{
			Name: "connection-reuse", Title: "Keep connections open and use them again",
			Why:    "A connection for each request leaves a port behind that serves the same destination again only " + hold(overlay.OutboundLoadBalancer) + " after the FIN, so a node's ports last for a few new connections a second.",
			Advice: "Use connection pools and HTTP keep-alive in the pods, so that a request takes no new SNAT port. That needs no change in Azure and costs nothing; more ports only put the end off.",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "orders", From: pods("orders"), To: database, Rate: whatif.Rate{PerHost: 1.2}}}},
		Sweep:    "reuse=off,on", Until: 20 * time.Minute,
	},
	{
		Story: answer.Story{
			Name: "dns-cache", Title: "Remember the answers of name servers",
			Why:    "Each lookup takes a UDP port to the same name server, and nobody can see that it is over: the port is in use until the idle timeout.",
			Advice: "Let pods ask a cache in the cluster (CoreDNS with its cache plugin, or LocalDNS on the nodes), or take the name server of Azure, 168.63.129.16, which needs no SNAT port.",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "names", From: pods("orders"), To: resolver, Rate: whatif.Rate{PerHost: 0.2}, Class: whatif.Class{Kind: whatif.Lookup}}}},
		Sweep:    "dns-cache=0s,5m", Until: 40 * time.Minute,
	},
	{
		Story: answer.Story{
			Name: "udp-idle-timeout", Title: "A short idle timeout for UDP",
			Why:    "UDP has no FIN: a port that was used for a moment stays with its flow for the whole idle timeout of the outbound rule, 30 minutes in AKS unless it is set.",
			Advice: "Set the idle timeout of the outbound rule to 4 minutes (az aks update --load-balancer-idle-timeout 4). It is the same for TCP: connections that rest for longer need a keepalive then.",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "calls", From: pods("web"), To: game, Rate: whatif.Rate{PerHost: 0.15}, Class: whatif.Class{Kind: whatif.Media, Duration: 10 * time.Second, Interval: 500 * time.Millisecond}}}},
		Sweep:    "idle=30m,4m", Until: 40 * time.Minute,
	},
	{
		Story: answer.Story{
			Name: "abandoned-connections", Title: "Close what is not needed any more",
			Why:    "A connection that a pod leaves without FIN or RST, as after a crash or in a client that forgets it, keeps its port until the idle timeout, long after anybody knew of it.",
			Advice: "Close connections in the pods, also after errors. Where the client cannot be changed, a shorter idle timeout of the outbound rule gives the ports back earlier (--load-balancer-idle-timeout).",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "telemetry", From: pods("worker"), To: database, Rate: whatif.Rate{PerHost: 0.4}, Class: whatif.Class{End: whatif.Abandoned}}}},
		Sweep:    "close=off,on", Until: 40 * time.Minute,
	},
	{
		Story: answer.Story{
			Name: "keepalive", Title: "Keepalives for connections that rest",
			Why:    "The load balancer forgets a connection that says nothing for its idle timeout: it resets both ends, and whoever wanted to go on has to begin anew.",
			Advice: "Send TCP keepalives below the idle timeout from one of the ends, or set a longer timeout; it may be 4 to 120 minutes. TCP reset is on in AKS, so that both ends learn at once that the connection is gone.",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "events", From: pods("web"), To: broker, Rate: whatif.Rate{PerHost: 0.01}, Class: whatif.Class{Requests: 4, Pause: 6 * time.Minute}}}},
		set:      func(p *overlay.LoadBalancerProfile) { p.IdleTimeout = 4 * time.Minute },
		Sweep:    "keepalive=0s,1m", Until: 40 * time.Minute,
	},
	{
		Story: answer.Story{
			Name: "more-ports", Title: "More SNAT ports for each node",
			Why:    "With automatic allocation a node of a small pool has 1,024 ports of the 64,000 of an outbound IP, and those of other nodes do not help it.",
			Advice: "Set the ports of each node (az aks update --load-balancer-outbound-ports, a multiple of 8). All nodes together, those of a surge and the maximum of the autoscaler too, must fit into the 64,000 ports of each outbound IP.",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "orders", From: pods("orders"), To: database, Rate: whatif.Rate{PerHost: 1.2}}}},
		Sweep:    "ports=auto,1536,2048", Until: 20 * time.Minute,
	},
	{
		Story: answer.Story{
			Name: "more-ips", Title: "More outbound IPs",
			Why:    "In a pool of more than 50 nodes the tiers of automatic allocation give each node fewer ports, and more than an outbound IP has cannot be given at all: 64,000 ports for all nodes.",
			Advice: "Add managed outbound IPs (az aks update --load-balancer-managed-outbound-ip-count) together with ports for each node. An IP alone helps only where the ports of a node were few for want of room; others see packets from one more address.",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "orders", From: pods("orders"), To: database, Rate: whatif.Rate{PerHost: 0.5}}}},
		nodes:    60, Sweep: "ips=1,2 ports=auto,1536", Until: 10 * time.Minute,
	},
	{
		Story: answer.Story{
			Name: "nat-gateway", Title: "A NAT gateway instead of the load balancer",
			Why:    "A NAT gateway gives 64,512 ports of each of its IPs to whichever node needs them, and a port of a closed connection serves its destination again after " + hold(overlay.OutboundManagedNATGateway) + " instead of " + hold(overlay.OutboundLoadBalancer) + ".",
			Advice: "Change the outbound type (az aks update --outbound-type managedNATGateway). It ends open connections and changes the address that others see, so it wants a quiet hour and the lists of those allowed.",
		},
		Workload: whatif.Workload{Traffic: []whatif.Traffic{{Name: "orders", From: whatif.Selector{Pods: "orders", Count: 6}, To: database, Rate: whatif.Rate{PerHost: 2}}}},
		Sweep:    "outbound=loadBalancer,managedNATGateway", Until: 20 * time.Minute,
	},
}
