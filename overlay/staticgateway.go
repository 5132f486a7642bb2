// Static egress gateways: pods that leave for the Internet by nodes of a pool of their own, with
// addresses that stay. Read "Configure static egress gateway in AKS" first.

package overlay

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/conntrack"
	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
	"github.com/seed-a61be3fe/natplane/snat"
)

// StaticGatewayAnnotation is the annotation of a pod whose value names its static gateway; see
// [Cluster.UseStaticGateway].
const StaticGatewayAnnotation = staticgateway.Annotation

// PoolMode says what the nodes of a pool are for.
type PoolMode uint8

// The modes.
const (
	ModeUser    PoolMode = iota // pods; those of AKS's mode System, too
	ModeGateway                 // the traffic of static egress gateways, and no pods
	numPoolModes
)

var poolModeNames = [...]string{"User", "Gateway"}

var _ = [1]struct{}{}[len(poolModeNames)-int(numPoolModes)] // one name per mode

// String returns the name of the mode in AKS.
func (m PoolMode) String() string { return enum.Name(m, poolModeNames[:]) }

// StaticGatewayConfiguration is the custom resource of the name: pods that use it leave for the Internet
// by the nodes of a gateway pool, each of which has an address of its prefix. A pod's packets all take
// one node, which masquerades them: a flow keeps its port if that is free, and no port of the load
// balancer is used. What is local they reach as other pods do, which is our choice.
type StaticGatewayConfiguration struct {
	Name string // unique, as "namespace/name" if there are namespaces

	// GatewayNodepoolName names a pool of ModeGateway, which several may share.
	GatewayNodepoolName string

	// PublicIPPrefix is the user's own, IPv4 and of the pool's GatewayPublicIPPrefixSize. The
	// zero Prefix is one that AKS makes: here the next free one of 20.61.0.0/16, which is our choice.
	PublicIPPrefix netip.Prefix

	// ExcludeCIDRs are destinations that the pods reach as if they used no gateway, at most 64 (our bound).
	ExcludeCIDRs []netip.Prefix
}

// staticGateways returns the configurations and the gateway pools as their room has them. extra are
// nodes that a pool has besides its Count.
func (c *ClusterConfig) staticGateways(extra map[string]int) (all []staticgateway.Configuration, pools []staticgateway.Pool) {
	for _, g := range c.StaticGatewayConfigurations {
		all = append(all, staticgateway.Configuration(g))
	}
	for i := range c.NodePools {
		p := &c.NodePools[i]
		pools = append(pools, staticgateway.Pool{
			Name: p.Name, Gateway: p.Mode == ModeGateway, PrefixSize: p.GatewayPublicIPPrefixSize,
			Nodes: p.Count + extra[p.Name], Autoscaled: p.MinCount != 0 || p.MaxCount != 0,
		})
	}
	return all, pools
}

// gateways describes the static gateways of a valid configuration, whose nodes are given, and who is
// asked about what pods begin there, and told of what there is.
func (c *ClusterConfig) gateways(f *fleet.Fleet, admit func(snat.NewFlow) flow.Reason, count func(string, int)) staticgateway.Config {
	all := staticgateway.Config{Seed: c.Seed, Policy: conntrack.Policy(), Admit: admit, Count: count}
	if len(c.StaticGatewayConfigurations) == 0 {
		return all // which two families have none of
	}
	if all.Pods = c.PodCIDRs; !c.NetworkPlugin.HasPodCIDRs() {
		for i := range c.VNet.Subnets {
			p, _ := c.VNet.Subnets[i].prefix(ipv4)
			all.Pods = append(all.Pods, p)
		}
	}
	for _, g := range c.StaticGatewayConfigurations {
		is := staticgateway.Gateway{Name: g.Name, Prefix: f.Prefixes[g.Name], Exclude: g.ExcludeCIDRs}
		for i := range f.Nodes {
			if f.Nodes[i].Pool == g.GatewayNodepoolName {
				is.Nodes = append(is.Nodes, f.Nodes[i].Name)
			}
		}
		all.Gateways = append(all.Gateways, is)
	}
	return all
}

// checkStaticGateways checks gateway pools, and what is to leave by them.
func (v *validation) checkStaticGateways() {
	cut(v, "StaticGatewayConfigurations", &v.StaticGatewayConfigurations, staticgateway.MaxGateways)
	all, pools := v.staticGateways(v.extra)
	for i, p := range v.NodePools {
		at := problems.Index("NodePools", i) + ".Mode"
		if problems.Constant(&v.List, at, p.Mode, numPoolModes); p.Mode == ModeGateway && len(v.families()) > 1 {
			v.Add(at, p.Mode, flow.ErrConflict, "static egress gateways are for IPv4 clusters, IPFamilies is %q", v.IPFamilies)
		} else if p.Mode == ModeGateway && p.OSType == Windows {
			v.Add(at, p.Mode, flow.ErrConflict, "is for Linux nodes only, OSType is %v", p.OSType)
		}
	}
	staticgateway.Check(&v.List, all, pools, ErrReserved, ErrTooManyNodes)
}

// UseStaticGateway lets a running pod leave for the Internet by a static gateway of its namespace, as the
// annotation [StaticGatewayAnnotation] with that name does when a pod is made. It does so until it goes; while
// there is no such configuration, or its pool has no node, it has no way to the Internet
// ([flow.ReasonNoOutbound]). NetworkPolicy and Admit are asked about this traffic as about other flows
// of the pod, security groups about what the gateway's node sends with its own address, which is our
// choice; Ceilings count it at that node.
//
// Errors wrap [flow.ErrUnknownName] (no such pod or configuration), [flow.ErrConflict] (another
// namespace), [flow.ErrDuplicateName] (it uses one) or [flow.ErrClosed].
func (c *Cluster) UseStaticGateway(pod, configuration string) error {
	p := &c.pods
	p.mu.Lock()
	defer p.mu.Unlock()
	place, ok := p.table.Of(pod)
	if c.closed.Load() || !ok {
		err := flow.ErrUnknownName
		if ok {
			err = flow.ErrClosed
		}
		return fmt.Errorf("pod %q: %w", pod, err)
	}
	if is, want := staticgateway.Namespace(pod), staticgateway.Namespace(configuration); is != want {
		return fmt.Errorf("pod %q: static gateway %q: %w: it is in namespace %q, the pod in %q", pod, configuration, flow.ErrConflict, want, is)
	}
	a := c.state.Load().pod(pod, place).Addrs[ipv4]
	if used, _, _ := c.gateways.Of(a); used != "" {
		return fmt.Errorf("pod %q: it uses static gateway %q: %w", pod, used, flow.ErrDuplicateName)
	}
	if !c.gateways.Use(a, configuration) {
		return fmt.Errorf("pod %q: static gateway %q: %w", pod, configuration, flow.ErrUnknownName)
	}
	return nil
}

// StaticGatewayStatus is a static gateway in force, a snapshot that the caller may keep and change.
type StaticGatewayStatus struct {
	StaticGatewayConfiguration               // with the PublicIPPrefix that it has
	Nodes                      []GatewayNode // of its pool
}

// GatewayNode is a node of a static gateway.
type GatewayNode struct {
	Node     string     // its name
	Addr     netip.Addr // with which packets leave
	Pods     int        // that leave there
	Sessions int        // that have a port of Addr
}

// StaticGateways returns the static gateways in force, in the order of their configuration. Cost: O(pods
// that use them × nodes).
func (c *Cluster) StaticGateways() (all []StaticGatewayStatus) {
	s := c.state.Load()
	for _, g := range s.config.StaticGatewayConfigurations {
		g.ExcludeCIDRs, g.PublicIPPrefix = slices.Clone(g.ExcludeCIDRs), s.Prefixes[g.Name]
		is := StaticGatewayStatus{StaticGatewayConfiguration: g}
		for _, e := range c.gateways.Exits(g.Name) {
			is.Nodes = append(is.Nodes, GatewayNode{e.Node, e.Addr, e.Users, e.Sessions})
		}
		all = append(all, is)
	}
	return all
}

// admitGateway decides about what a pod begins by a static gateway. f names the node that it leaves by.
func (c *Cluster) admitGateway(f snat.NewFlow) flow.Reason {
	s, exit := c.state.Load(), f.Name
	node, ok := s.nodeOf(f.Inside.Addr())
	if !ok {
		return flow.ReasonSpoof
	}
	f.Instance, f.Name = uint32(node), s.byIndex[node].Name
	reason, _ := s.admitted.DecideTunnel(f, exit)
	return reason
}

// toGateway carries a packet that a pod sends by a static gateway.
func (c *Cluster) toGateway(now flow.Time, s *state, pkt []byte) flow.Verdict {
	node, _ := s.places.Of(pkt, src4, src6)
	v := c.gateways.Outbound(now, pkt)
	v.Instance = uint32(node)
	return v
}

// fromGateway carries a packet that arrives for the address of a static gateway.
func (c *Cluster) fromGateway(now flow.Time, s *state, pkt []byte) flow.Verdict {
	v := c.gateways.Inbound(now, pkt)
	if node, _ := s.places.Of(pkt, dst4, dst6); node >= 0 {
		v.Instance = uint32(node)
	}
	return v
}
